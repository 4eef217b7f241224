#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""Law 24: the server is told to stop while calls hang at the disk, for ever or
for longer than the drain may take.  The log and the file that a service
manager looks for name the data that is not durable then, and later the data
that was saved after all.
"""

import os
import sys

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)),
                                "..", "live"))

from live import (  # noqa: E402
    K, M, begin_put, cached, durable, expect, fault, gate, gated, open_gate,
    put, wt)

DRAIN = "100ms"


def counting(drain=DRAIN, **disk):
    """A server with statistics, and so with a file for what is lost."""
    server = cached(disk, size="4M", drain=drain)
    server.stop()
    server.filter_options["wtcache-stats"] = server.path("stats.prom")
    server.start()
    return server


def lines_with(server, word):
    return [line for line in server.stderr().splitlines() if word in line]


def lost_lines(server):
    """The lines of the file; None: there is none."""
    try:
        with open(server.path("stats.lost"), encoding="utf-8") as f:
            return f.read().splitlines()[1:]
    except FileNotFoundError:
        return None


def stop_until_lost(server, bytes_lost, name=""):
    """SIGTERM, and what the log and the file say when the drain is over."""
    server.terminate()
    wt.wait_until(lambda: lines_with(server, "LOST"), "it is logged as LOST")
    line, = [line for line in lines_with(server, "LOST")
             if 'export "%s"' % name in line]
    assert "LOST: %d bytes" % bytes_lost in line, line
    wt.wait_until(lambda: lost_lines(server), "it is in the file")
    for found in lost_lines(server):
        assert found in server.stderr(), found
    return line


def test_hangs_for_ever():
    """In a write, in a flush; nothing ends the call, and the log has the
    ranges. A FUA write that was not answered is not among them."""
    for op in "write", "flush":
        with counting() as server:
            h, other = server.connect(), server.connect()
            put(h, 0, 32 * K, 1)
            put(h, M, 4 * K, 1)
            gate(server, op)
            if op == "write":
                begin_put(other, 2 * M, 4 * K, 1, wt.FUA)
                gated(server)
            line = stop_until_lost(server, 36 * K)
            assert line.endswith(": 0+32768 %d+4096" % M), line
            assert server.running()
            server.kill()


def test_saved_later():
    """The call returns after all: one more line, and the file goes."""
    for op in "write", "flush":
        with counting() as server:
            h = server.connect()
            put(h, 0, 32 * K, 1)
            gate(server, op)
            stop_until_lost(server, 32 * K)
            open_gate(server, ends=True)
            wt.wait_until(lambda: lines_with(server, "saved after all"),
                          "its rescue is logged")
            wt.wait_until(lambda: lost_lines(server) is None,
                          "the file is gone")
            server.disconnect(h)
            expect(server.wait(), 0)
            expect(durable(server, 0, 32 * K), [1] * 64)
            expect(len(lines_with(server, "saved after all")), 1)
            expect(len(lines_with(server, "LOST:")), 1)


def test_saved_in_part():
    """The file and the last lines name the data that was lost in the end."""
    with counting() as server:
        h = server.connect()
        put(h, 0, 32 * K, 1)
        put(h, M, 4 * K, 1)
        gate(server, "write")
        stop_until_lost(server, 36 * K)
        fault(server, "write", first=M, last=M + 4 * K - 1)
        open_gate(server, ends=True)
        server.disconnect(h)
        expect(server.wait(), 0)
        line, = lines_with(server, "saved after all")
        assert ": 32768 of" in line, line
        line = lines_with(server, "LOST:")[-1]
        assert "LOST: 4096 bytes" in line and line.endswith(": %d+4096" % M)
        found, = lost_lines(server)
        assert found in line, (found, line)


def test_zeroes():
    """Zeroes that no flush has covered have a line of their own."""
    with counting() as server:
        h = server.connect()
        h.zero(64 * K, M)
        gate(server, "flush")
        server.terminate()
        wt.wait_until(lambda: lines_with(server, "65536 zeroed bytes"),
                      "it is logged as LOST")
        open_gate(server, ends=True)
        wt.wait_until(lambda: lines_with(server, "saved after all"),
                      "its rescue is logged")
        server.disconnect(h)
        expect(server.wait(), 0)
        expect(lost_lines(server), None)


def test_one_of_two_exports():
    """One hangs; the other is drained, and is in no line."""
    with counting(exports="ill,well") as server:
        ill, well = server.connect("ill"), server.connect("well")
        put(ill, M, 4 * K, 1)
        put(well, 0, 4 * K, 2)
        gate(server, "write", first=M)
        stop_until_lost(server, 4 * K, "ill")
        expect(durable(server, 0, 4 * K, "well"), [2] * 8)
        expect(len(lines_with(server, "LOST:")), 1)
        open_gate(server, ends=True)
        wt.wait_until(lambda: lines_with(server, "saved after all"),
                      "its rescue is logged")
        for h in ill, well:
            server.disconnect(h)
        expect(server.wait(), 0)


def test_before_the_drain_is_over():
    """Nothing is lost yet, and statistics are still written."""
    with counting(drain=3600) as server:
        h = server.connect()
        put(h, 0, 4 * K, 1)
        gate(server, "write")
        server.terminate()
        wt.wait_until(lambda: lines_with(server, "is no error"),
                      "the stop is noticed")

        def identity():
            st = os.stat(server.path("stats.prom"))
            return st.st_ino, st.st_mtime_ns
        for _ in range(2):
            before = identity()
            wt.wait_until(lambda: identity() != before,
                          "the statistics are replaced")
        open_gate(server, ends=True)
        server.disconnect(h)
        expect(server.wait(), 0)
        expect(durable(server, 0, 4 * K), [1] * 8)
        expect(lines_with(server, "LOST"), [])
        expect(lost_lines(server), None)


def test_all_is_durable():
    """No line but the one that explains that of nbdkit."""
    with counting() as server:
        h = server.connect()
        put(h, 0, 4 * K, 1)
        h.flush()
        server.terminate()
        wt.wait_until(lambda: lines_with(server, "is no error"),
                      "the stop is noticed")
        server.disconnect(h)
        expect(server.wait(), 0)
        lines = lines_with(server, "error")
        assert "aborting sleep" in lines[-2] and "is no error" in lines[-1], (
            lines)
        expect(lost_lines(server), None)


wt.main()
