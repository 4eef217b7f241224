#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""Races, each forced: a gate in the disk holds one side until the other has
happened."""

import errno
import os
import socket
import sys

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)),
                                "..", "live"))

from live import (  # noqa: E402
    K, begin_put, cached, durable, ended, expect, fault, gate, gated,
    open_gate, overlapping_in_time, ping, put, put_error, seen, wait_ended, wt)


# The errors of libnbd on a connection that the server has closed.
HUNG_UP = errno.ENOTCONN, errno.ECONNRESET, errno.EPIPE


def settle(server, h, offset, length):
    """After a flush: the one version that clients and the durable image have,
    by block."""
    h.flush()
    versions = seen(h, offset, length)
    expect(durable(server, offset, length), versions)
    return versions


# A fill that something overtakes.

def overtaken_fill(overtake, allowed, disk=None, **options):
    """A fill has read version 1 from the disk and is held there.  Then comes
    what overtakes it; from its reply on reads see that and no older one."""
    with cached(disk, **options) as server:
        h, other = server.connect(), server.connect()
        put(h, 0, 4 * K, 1, wt.FUA)
        server.disconnect(h)
        server.disconnect(other)
        server.restart()        # with nothing cached
        h, other = server.connect(), server.connect()
        gate(server, "read", when="after")
        fill = wt.start(h, "pread", 4 * K, 0)
        gated(server)
        overtake(server, other)
        late = wt.start(other, "pread", 4 * K, 0)
        open_gate(server)
        for version in wt.versions(fill.data(), 0):
            assert version in allowed | {1}, version
        found = set(wt.versions(late.data(), 0))
        assert found <= allowed, "read %s after %s" % (found, allowed)
        again = set(seen(h, 0, 4 * K)) | set(seen(other, 0, 4 * K))
        expect(again, found)
        expect(set(settle(server, other, 0, 4 * K)), found)


def test_fill_overtaken_by_a_write():
    """Law 8."""
    overtaken_fill(lambda server, h: put(h, 0, 4 * K, 2), {2})


def test_fill_overtaken_by_a_fua_write():
    """Law 8."""
    overtaken_fill(lambda server, h: put(h, 0, 4 * K, 2, wt.FUA), {2})


def test_fill_overtaken_by_a_writearound():
    """Law 8: the block has left the cache again when the fill ends."""
    overtaken_fill(lambda server, h: put(h, 0, 4 * K, 2), {2},
                   mode="writearound")


def test_fill_overtaken_by_a_zero():
    """Law 8."""
    overtaken_fill(lambda server, h: h.zero(4 * K, 0), {0})


def test_fill_overtaken_by_a_trim():
    """Law 8."""
    overtaken_fill(lambda server, h: h.trim(4 * K, 0), {0})


def test_fill_overtaken_by_a_drop():
    """Law 8: a FUA write that has happened at the disk, and fails, drops the
    block."""
    def overtake(server, h):
        fault(server, "write", partial=4 * K)
        expect(put_error(h, 0, 4 * K, 2, wt.FUA), errno.EIO)
        server.control("unfault all")
    overtaken_fill(overtake, {2})


# Writes and zeroes.

def test_zero_overtaken_by_a_write():
    """Law 9: before the disk has zeroed, and after."""
    for when in ("before", "after"):
        with cached() as server:
            h, other = server.connect(), server.connect()
            put(h, 0, 16 * K, 1)
            gate(server, "zero", when=when)
            zero = wt.start(h, "zero", 16 * K, 0)
            gated(server)
            write = begin_put(other, 4 * K, 4 * K, 2)
            fua = begin_put(other, 8 * K, 4 * K, 3, wt.FUA)
            ping(other)
            early = write.done(), fua.done()
            open_gate(server)
            wt.wait_all([zero, write, fua])
            expect((zero.errno, write.errno, fua.errno), (0, 0, 0))
            versions = seen(h, 0, 16 * K)
            # A write that was answered during the zero may be zeroed; one that
            # waited came after it.
            for i, version in enumerate((2, 3)):
                found = set(versions[8 + 8 * i:16 + 8 * i])
                assert found == {version} or early[i] and found == {0}, found
            expect(versions[:8] + versions[24:], [0] * 16)
            expect(settle(server, h, 0, 16 * K), versions)


def test_failed_fua_write_over_a_dirty_block():
    """Laws 3 and 5: what was acknowledged before, or the failed bytes, but
    nothing older."""
    for partial in (0, 4 * K):
        with cached() as server:
            h = server.connect()
            put(h, 0, 8 * K, 1)
            fault(server, "write", fua=1, partial=partial)
            expect(put_error(h, 0, 4 * K, 2, wt.FUA), errno.EIO)
            versions = seen(h, 0, 8 * K)
            assert set(versions[:8]) in ({1}, {2}), versions
            expect(versions[8:], [1] * 8)
            server.control("unfault all")
            expect(settle(server, h, 0, 8 * K), versions)


def test_two_fua_writes_over_one_block():
    """Law 7."""
    with cached() as server:
        h, other = server.connect(), server.connect()
        gate(server, "write", when="after")
        commands = [begin_put(h, 0, 4 * K, 1, wt.FUA)]
        gated(server)
        commands.append(begin_put(other, 2 * K, 4 * K, 2, wt.FUA))
        ping(other)
        expect(len(server.log().of("write")), 1, "writes at the disk")
        open_gate(server)
        wt.wait_all(commands)
        expect([c.errno for c in commands], [0, 0])
        expect(overlapping_in_time(server.log().of("write")), [])
        expect(seen(h, 0, 6 * K), [1] * 4 + [2] * 8)
        expect(durable(server, 0, 6 * K), [1] * 4 + [2] * 8)


# Flushes.

def test_flush_began_before_a_write_ended():
    """Law 2: the flush covers what was acknowledged before it, though a later
    write over it is under way; and that one by itself."""
    with cached() as server:
        h, other = server.connect(), server.connect()
        put(h, 0, 4 * K, 1)
        gate(server, "write", when="before")
        flush = wt.start(h, "flush")
        gated(server)
        put(other, 0, 4 * K, 2)         # dirty again, in writeback too
        open_gate(server)
        expect(flush.wait(), 0)
        assert set(durable(server, 0, 4 * K)) in ({1}, {2})
        expect(seen(h, 0, 4 * K), [2] * 8)
        expect(settle(server, other, 0, 4 * K), [2] * 8)


def test_flush_while_a_fua_write_took_the_mark():
    """Law 2: a flush waits for a FUA write that is over acknowledged bytes
    and now the only one to bring them, or others, to the disk."""
    for fua in ("native", "emulate", "none"):
        with cached({"fua": fua}) as server:
            h, other = server.connect(), server.connect()
            put(h, 0, 4 * K, 1)
            gate(server, "write", when="before")
            write = begin_put(h, 0, 4 * K, 2, wt.FUA)
            gated(server)
            flush = wt.start(other, "flush")
            ping(h)
            assert not flush.done(), fua + ": it says that nothing is dirty"
            open_gate(server)
            expect((write.wait(), flush.wait()), (0, 0))
            expect(durable(server, 0, 4 * K), [2] * 8)


def test_flush_while_a_zero_overtakes_dirty_data():
    """Law 2: a zero that is not answered stands before dirty blocks: the
    flush has to bring those, or the zero, to the disk."""
    for when in ("before", "after"):
        with cached() as server:
            h, other = server.connect(), server.connect()
            put(h, 0, 16 * K, 1, wt.FUA)
            put(h, 0, 16 * K, 2)
            gate(server, "zero", when=when)
            zero = wt.start(other, "zero", 8 * K, 4 * K)
            gated(server)
            flush = wt.start(h, "flush")
            ping(other)
            if flush.done():
                assert set(durable(server, 4 * K, 8 * K)) in ({0}, {2})
            open_gate(server)
            expect((zero.wait(), flush.wait()), (0, 0))
            expect(durable(server, 0, 16 * K), [2] * 8 + [0] * 16 + [2] * 8)


def test_flush_while_a_zero_fails_over_dirty_data():
    """Laws 2 and 9: the same, and the zero fails: the dirty blocks are."""
    with cached() as server:
        h, other = server.connect(), server.connect()
        put(h, 0, 16 * K, 1, wt.FUA)
        put(h, 0, 16 * K, 2)
        gate(server, "zero", when="before")
        fault(server, "zero", count=1)
        zero = wt.start(other, "zero", 8 * K, 4 * K)
        gated(server)
        flush = wt.start(h, "flush")
        ping(other)
        open_gate(server)
        expect(zero.wait(), errno.EIO)
        if flush.wait() == 0:
            expect(durable(server, 0, 16 * K), [2] * 32)
        expect(settle(server, h, 0, 16 * K), [2] * 32)


def test_flush_while_a_fua_write_fails():
    """Laws 2 and 5: the same, and it fails: the flush has to bring what was
    acknowledged, or to fail too."""
    with cached() as server:
        h, other = server.connect(), server.connect()
        put(h, 0, 4 * K, 1)
        gate(server, "write", fua=1, when="before")
        fault(server, "write", fua=1, count=1)
        write = begin_put(h, 0, 4 * K, 2, wt.FUA)
        gated(server)
        flush = wt.start(other, "flush")
        ping(other)
        open_gate(server)
        expect(write.wait(), errno.EIO)
        if flush.wait() == 0:
            assert set(durable(server, 0, 4 * K)) in ({1}, {2})
        assert set(settle(server, other, 0, 4 * K)) in ({1}, {2})


def test_write_ends_during_a_failing_flush():
    """Law 4: the flush fails and the disk forgets that write too.

    The other connection then writes all of it again and flushes.
    """
    with cached({"fua": "emulate", "forget": "yes"}) as server:
        h, other = server.connect(), server.connect()
        put(h, 0, 4 * K, 1)
        gate(server, "flush", when="before")
        fault(server, "flush", count=1)
        flush = wt.start(h, "flush")
        gated(server)
        write = begin_put(other, 64 * K, 4 * K, 2, wt.FUA)
        wait_ended(server, "write", 64 * K, 4 * K)
        zero = wt.start(other, "zero", 4 * K, 128 * K)
        expect(zero.wait(), 0)
        open_gate(server)
        expect(flush.wait(), 0)
        expect(durable(server, 0, 4 * K), [1] * 8)
        if write.wait() == 0:
            expect(durable(server, 64 * K, 4 * K), [2] * 8)
        expect(settle(server, h, 0, 4 * K), [1] * 8)
        if write.errno == 0:
            expect(settle(server, h, 64 * K, 4 * K), [2] * 8)
        expect(settle(server, h, 128 * K, 4 * K), [0] * 8)


# Connections.

def test_last_close_and_new_open_at_once():
    """Law 3: neither the data nor the cache is lost between them."""
    with cached() as server:
        h = server.connect()
        for version in range(1, 21):
            put(h, 0, 16 * K, version)
            leave = wt.background(server.disconnect, h)
            h = server.connect()
            expect(seen(h, 0, 16 * K), [version] * 32)
            leave.result()
        server.disconnect()
        wt.wait_until(lambda: durable(server, 0, 16 * K) == [20] * 32,
                      "the last drain has ended")


def test_last_close_during_its_drain():
    """Law 3: the drain is held at the disk when the new client comes, which
    reads and overwrites what is on its way."""
    with cached() as server:
        h = server.connect()
        put(h, 0, 4 * K, 1)
        gate(server, "write", when="before")
        leave = wt.background(server.disconnect, h)
        gated(server)
        h = server.connect()
        expect(seen(h, 0, 4 * K), [1] * 8)
        put(h, 0, 4 * K, 2)
        open_gate(server)
        leave.result()
        expect(settle(server, h, 0, 4 * K), [2] * 8)


def half_negotiation(server, words):
    """A client that goes away in the middle of its negotiation."""
    with socket.socket(socket.AF_UNIX) as s:
        s.connect(server.socket)
        assert s.recv(18, socket.MSG_WAITALL)[:8] == b"NBDMAGIC"
        if words:
            s.sendall(words)


def test_negotiation_that_fails():
    """Others are served before, beside and after."""
    option = b"\0\0\0\1IHAVEOPT\0\0\0"
    with cached() as server:
        h = server.connect()
        put(h, 0, 4 * K, 1)
        for words in (b"", b"\0\0\0\1", option + b"\7\0\0\0\6\0\0\0\0\0\0",
                      option + b"\6\0\0\0\6\0\0\0\0\0\0", b"\xff" * 64):
            half_negotiation(server, words)
            put(h, 4 * K, 4 * K, 2)
        # One that comes as far as the filter's own part, and is refused.
        server.control("size 16M")
        try:
            server.connect()
        except wt.nbd.Error:
            pass
        else:
            raise AssertionError("another size while in use")
        server.control("size 64M")
        expect(settle(server, h, 0, 8 * K), [1] * 8 + [2] * 8)
        server.connect()


def test_borrowed_connection_ends():
    """Law 20: write-back stands at the disk by a connection whose client
    leaves; it ends after that, and the others are served meanwhile."""
    with cached(dirty_age="1ms") as server:
        handles = [server.connect() for _ in range(3)]
        for i, h in enumerate(handles):
            h.pread(512, 1024 * K + i * 512)
        gate(server, "write", when="before")
        put(handles[0], 0, 4 * K, 1)
        gated(server)
        number = server.log().of("write")[0].connection
        # The disk counts connections from 1 in the order of their opening.
        leaves = handles.pop(number - 1)
        leave = wt.background(server.disconnect, leaves)
        for h in handles:
            ping(h)
            expect(seen(h, 0, 4 * K), [1] * 8)
            put(h, 64 * K, 4 * K, 2)
        open_gate(server)
        leave.result()
        expect(settle(server, handles[0], 0, 4 * K), [1] * 8)
        expect(settle(server, handles[1], 64 * K, 4 * K), [2] * 8)


def test_sigterm_with_clients_and_dirty_data():
    """Law 3: the drain does not wait until they leave."""
    with cached() as server:
        h = server.connect()
        put(h, 0, 64 * K, 1)
        server.terminate()
        wt.wait_until(lambda: durable(server, 0, 64 * K) == [1] * 128,
                      "all is durable though a client is there")
        # nbdkit itself refuses what comes after that, or hangs up: before,
        # or after the write was done.
        late = put_error(h, 0, 4 * K, 2)
        assert late in (0, errno.ESHUTDOWN) + HUNG_UP, late
        found = durable(server, 0, 4 * K)
        assert found == [2] * 8 or late and found == [1] * 8, found
        server.disconnect()
        expect(server.wait(), 0)
        assert ended(server, "flush")


def test_sigterm_while_the_backend_refuses():
    """Law 3: it is tried again until the backend takes it."""
    with cached() as server:
        h = server.connect()
        put(h, 0, 64 * K, 1)
        fault(server, "write", count=3)
        server.terminate()
        wt.wait_until(lambda: durable(server, 0, 64 * K) == [1] * 128,
                      "all is durable")
        server.disconnect()
        expect(server.wait(), 0)


def test_refusing_export_beside_a_healthy_one():
    """Law 6: the healthy one goes on, and the refusing one keeps its data."""
    with cached({"exports": "good,bad"}, dirty_max="256K") as server:
        good = server.connect("good")
        bad = server.connect("bad")
        put(bad, 0, 64 * K, 1)
        fault(server, "write", export="bad")
        fault(server, "flush", name="g", export="bad")
        expect(wt.errno_of(bad.flush), errno.EIO)
        for version in range(1, 40):
            put(good, version * 32 * K, 32 * K, version)
        good.flush()
        expect(durable(server, 32 * K, 32 * K, "good"), [1] * 64)
        expect(seen(bad, 0, 64 * K), [1] * 128)
        server.control("unfault all")
        bad.flush()
        expect(durable(server, 0, 64 * K, "bad"), [1] * 128)


wt.main()
