#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""Acknowledged data is kept until the backend has it: through eviction,
refusals, the last close and the end of the server (law 3)."""

import errno
import sys

sys.dont_write_bytecode = True

from live import (  # noqa: E402
    K, M, cached, count, durable, expect, fault, gate, gated, open_gate,
    put, put_error, seen, wait_closed, wt)


def test_eviction_drops_nothing_dirty():
    """Law 3: far more is written than the cache holds."""
    with cached(size="1M", fill="auto", dirty_max="512K") as server:
        h = server.connect()
        for i in range(64):
            put(h, i * 300 * K % (16 * M), 128 * K, i + 1)
        h.flush()
        shadow = bytearray(17 * M)
        for i in range(64):
            at = i * 300 * K % (16 * M)
            shadow[at:at + 128 * K] = wt.pattern(at, 128 * K, i + 1)
        assert server.durable(0, 17 * M) == shadow
        assert h.pread(17 * M, 0) == shadow


def test_refused_blocks_stay():
    """Law 3: a failed write-back and the pressure of reads drop nothing."""
    with cached(size="1M") as server:
        h = server.connect()
        put(h, 0, 64 * K, 1)
        fault(server, "write")
        expect(wt.errno_of(h.flush), errno.EIO)
        h.pread(16 * M, M)
        reads = count(server, "read", 0, 64 * K)
        expect(seen(h, 0, 64 * K), [1] * 128)
        expect(count(server, "read", 0, 64 * K), reads)
        server.control("unfault all")
        h.flush()
        expect(durable(server, 0, 64 * K), [1] * 128)


def test_drain_at_the_last_close():
    """Law 3: what is dirty is written and flushed when the last one goes."""
    for leave in "disconnect", "drop":
        with cached() as server:
            a, b = server.connect(), server.connect()
            put(a, 0, 4096, 1)
            put(a, 1 * M, 4096, 1)
            server.disconnect(b)
            getattr(server, leave)(a)
            wait_closed(server)
            expect(durable(server, 0, 4096), [1] * 8, leave)
            expect(durable(server, M, 4096), [1] * 8, leave)


def test_sigterm_with_a_client():
    """Law 3: all is written from the moment the server is told to stop,
    without waiting for clients."""
    with cached() as server:
        h = server.connect()
        put(h, 0, 4096, 1)
        put(h, M, 4096, 1)
        server.terminate()
        wt.wait_until(lambda: durable(server, 0, 4096) == [1] * 8
                      and durable(server, M, 4096) == [1] * 8,
                      "the server has drained")
        # nbdkit itself refuses requests from now on.
        assert put_error(h, 0, 4096, 2) != 0
        server.disconnect(h)
        expect(server.wait(), 0)
        expect(durable(server, 0, 4096), [1] * 8)


def test_drain_waits_for_a_slow_backend():
    """Law 3: at the end of the server a write under way is not given up."""
    with cached() as server:
        h = server.connect()
        put(h, 0, 4096, 1)
        gate(server, "write")
        server.drop(h)
        gated(server)
        server.terminate()
        open_gate(server, ends=True)
        expect(server.wait(), 0)
        expect(durable(server, 0, 4096), [1] * 8)
        assert "LOST" not in server.stderr()


def test_what_remains_waits_for_the_next_connection():
    """Law 3: refused at the last close, still there for the next client."""
    with cached(drain="200ms") as server:
        h = server.connect()
        put(h, 4096, 4096, 1)
        fault(server, "write")
        server.disconnect(h)
        wait_closed(server)
        server.control("unfault all")
        h = server.connect()
        expect(seen(h, 4096, 4096), [1] * 8)
        h.flush()
        expect(durable(server, 4096, 4096), [1] * 8)
        server.stop()
        assert "LOST" not in server.stderr()


def test_what_remains_at_the_end_is_logged():
    """Law 3: the ranges that could not be saved are told as LOST."""
    with cached(drain="200ms") as server:
        h = server.connect()
        put(h, 4096, 4096, 1)
        put(h, M, 512, 1)
        fault(server, "write", "ENOSPC")
        server.stop()
        lost = [line for line in server.stderr().splitlines()
                if "LOST" in line]
        expect(len(lost), 1, server.stderr())
        assert " 4096+4096" in lost[0] and " %d+512" % M in lost[0], lost


def test_unflushed_at_the_end_is_logged():
    """Law 3: so is what the backend took but could not flush."""
    with cached(drain="200ms") as server:
        put(server.connect(), 8192, 4096, 1)
        fault(server, "flush")
        server.stop()
        assert " 8192+4096" in server.stderr().split("LOST")[1]


def test_unflushed_zeroes_at_the_end_are_logged():
    """Law 3: so is what was zeroed."""
    with cached(drain="200ms") as server:
        h = server.connect()
        h.zero(64 * K, 16 * K)
        h.zero(4 * K, M)
        fault(server, "flush")
        server.stop()
        lost = server.stderr().split("LOST")[1]
        assert "%d zeroed bytes" % (68 * K) in lost, lost
        assert " 16384+65536 %d+4096" % M in lost, lost


wt.main()
