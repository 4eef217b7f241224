#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""Durability: what a reply to FUA and flush promises, and what is kept when the
backend fails (laws 1, 2, 4 and 5)."""

import errno
import sys

sys.dont_write_bytecode = True

from live import (  # noqa: E402
    K, M, begin_put, cached, count, durable, ended, expect, fault, gate,
    gated, open_gate, overlapping_in_time, ping, put, put_error, seen,
    wait_ended, wt)


# Law 1.

def fua_write(server):
    """A FUA write between dirty blocks; what reached the disk for it."""
    h = server.connect()
    put(h, 0, 4096, 1)
    put(h, 8192, 4096, 1)
    put(h, 4096, 4096, 2, wt.FUA)
    expect(durable(server, 4096, 4096), [2] * 8)
    expect(seen(h, 0, 12 * K), [1] * 8 + [2] * 8 + [1] * 8)
    return server.log()


def test_fua_native():
    """Law 1: the flag on the write, and nothing else is forced out."""
    with cached() as server:
        log = fua_write(server)
        expect([(r.offset, r.length, r.fua) for r in log.of("write")],
               [(4096, 4096, True)])
        expect(log.of("flush"), [])
        expect(durable(server, 0, 4096), [0] * 8)


def test_fua_emulated_with_flush():
    """Law 1: a plain write, then a flush that began after its end."""
    with cached({"fua": "emulate"}) as server:
        log = fua_write(server)
        write, = log.of("write")
        flush, = log.of("flush")
        expect((write.offset, write.length, write.fua), (4096, 4096, False))
        assert flush.start > write.end


def test_fua_emulated_without_flush():
    """Law 1: the flag is passed, and nbdkit emulates."""
    with cached({"fua": "emulate", "flush": "no"}) as server:
        log = fua_write(server)
        expect([(r.offset, r.length) for r in log.of("write")],
               [(4096, 4096)])


def test_fua_native_without_flush():
    """Law 1: every write carries FUA, those of write-back too."""
    with cached({"flush": "no"}) as server:
        fua_write(server)
        h = server.connect()
        h.flush()
        expect(durable(server, 0, 12 * K), [1] * 8 + [2] * 8 + [1] * 8)
        log = server.log()
        assert log.of("write") and all(r.fua for r in log.of("write"))
        expect(log.of("flush"), [])


def test_no_fua_and_flush():
    """Law 1: with a flush only, a plain write and a flush after it."""
    with cached({"fua": "none"}) as server:
        log = fua_write(server)
        write, = log.of("write")
        assert log.of("flush")[-1].start > write.end
        assert not write.fua


def test_neither_fua_nor_flush():
    """Law 1: a write is stable when it ends."""
    with cached({"fua": "none", "flush": "no"}) as server:
        h = server.connect()
        assert h.can_fua() and h.can_flush()
        log = fua_write(server)
        expect([(r.offset, r.length, r.fua) for r in log.of("write")],
               [(4096, 4096, False)])
        h.flush()
        expect(durable(server, 0, 12 * K), [1] * 8 + [2] * 8 + [1] * 8)


def test_fua_zero_and_trim():
    """Law 1: FUA of zero and trim, for each kind of backend."""
    for fua in "native", "emulate", "none":
        with cached({"fua": fua}) as server:
            h = server.connect()
            put(h, 0, 16 * K, 1)
            h.flush()
            h.zero(4096, 0, wt.FUA)
            expect(durable(server, 0, 8192), [0] * 8 + [1] * 8, fua)
            h.trim(4096, 8192, wt.FUA)
            expect(durable(server, 8192, 8192), [0] * 8 + [1] * 8, fua)
            h.zero(1000, 12 * K + 100, wt.FUA)
            data = bytearray(wt.pattern(12 * K, 4096, 1))
            data[100:1100] = bytes(1000)
            expect(server.durable(12 * K, 4096), data, fua)


def test_flush_after_the_last_write_is_shared():
    """Law 1: writes that wait for a flush share the next one, which begins
    after the last of them has ended."""
    with cached({"fua": "emulate"}) as server:
        h = server.connect()
        gate(server, "flush")
        first = begin_put(h, 0, 4096, 1, wt.FUA)
        gated(server)
        others = [begin_put(h, i * 64 * K, 4096, 1, wt.FUA)
                  for i in range(1, 9)]
        for i in range(1, 9):
            wait_ended(server, "write", i * 64 * K, 4096)
        # They are told now or after one flush more, but for those that had
        # not yet asked for it when the gate was opened.
        open_gate(server)
        wt.wait_all([first] + others)
        log = server.log()
        for i in range(9):
            expect(durable(server, i * 64 * K, 4096), [1] * 8)
            write, = [r for r in log.of("write") if r.offset == i * 64 * K]
            assert any(f.start > write.end for f in log.of("flush"))
        assert len(log.of("flush")) < 9, log.of("flush")
        expect(overlapping_in_time(log.of("flush")), [])


# Law 2.

def test_flush_covers_other_connections():
    """Law 2: what any connection wrote, zeroed and trimmed."""
    with cached() as server:
        a, b, c = (server.connect() for _ in range(3))
        put(a, 0, 64 * K, 1, wt.FUA)
        put(a, 0, 4096, 2)
        put(b, 1 * M + 100, 5000, 2)
        b.zero(4096, 8192)
        a.trim(4096, 16 * K)
        c.flush()
        expect(durable(server, 0, 4096), [2] * 8)
        expect(server.durable(M + 100, 5000), wt.pattern(M + 100, 5000, 2))
        expect(durable(server, 8192, 4096), [0] * 8)
        expect(durable(server, 16 * K, 4096), [0] * 8)


def test_flush_covers_writes_in_flight():
    """Law 2: blocks in writeback when the flush comes are waited for."""
    with cached(dirty_age="10ms") as server:
        a, b = server.connect(), server.connect()
        gate(server, "write")
        put(a, 0, 4096, 1)
        gated(server)
        flush = wt.start(b, "flush")
        # The flush has been taken up before the answer to what follows it.
        put(b, 1 * M, 512, 1)
        assert not flush.done()
        open_gate(server)
        expect(flush.wait(), 0)
        expect(durable(server, 0, 4096), [1] * 8)
        log = server.log()
        write = [r for r in log.of("write") if r.offset == 0][0]
        assert any(f.start > write.end for f in log.of("flush"))


def test_flush_covers_a_fua_write_of_others_in_flight():
    """Law 2: acknowledged bytes that a writethrough carries along."""
    with cached() as server:
        a, b = server.connect(), server.connect()
        put(a, 0, 4096, 1)
        gate(server, "write", fua=1)
        write = begin_put(b, 0, 512, 2, wt.FUA)
        gated(server)
        flush = wt.start(a, "flush")
        ping(b)
        assert not flush.done()
        open_gate(server)
        expect((flush.wait(), write.wait()), (0, 0))
        expect(durable(server, 512, 3584), [1] * 7)
        assert durable(server, 0, 512)[0] in (1, 2)


def test_flush_tries_every_block():
    """Law 2: it goes on after an error, reports it, and fails no more when
    all is durable."""
    with cached(page_size="4K") as server:
        h = server.connect()
        for i in range(8):
            put(h, i * 100 * K, 4096, 1)
        fault(server, "write", "ENOSPC", first=300 * K, last=300 * K + 511)
        expect(wt.errno_of(h.flush), errno.ENOSPC)
        for i in range(8):
            expect(durable(server, i * 100 * K, 4096),
                   [0 if i == 3 else 1] * 8, i)
        expect(wt.errno_of(h.flush), errno.ENOSPC)
        server.control("unfault all")
        expect(wt.errno_of(h.flush), 0)
        expect(durable(server, 300 * K, 4096), [1] * 8)


def test_flush_succeeds_when_the_rest_became_durable():
    """Law 2: it fails only if something is not durable now."""
    with cached() as server:
        h = server.connect()
        put(h, 0, 4096, 1)
        fault(server, "write", fua=0)
        expect(wt.errno_of(h.flush), errno.EIO)
        put(h, 0, 4096, 2, wt.FUA)
        expect(wt.errno_of(h.flush), 0)
        expect(durable(server, 0, 4096), [2] * 8)


def test_flush_does_not_wait_for_later_writes():
    """Law 2: a write that comes after the flush is not waited for."""
    with cached() as server:
        a, b = server.connect(), server.connect()
        put(a, 0, 4096, 1)
        gate(server, "flush", "f")
        flush = wt.start(a, "flush")
        gated(server, name="f")
        gate(server, "write", "w", first=M, last=2 * M)
        later = begin_put(b, M, 4096, 1, wt.FUA)
        gated(server, name="w")
        open_gate(server, "f")
        # The backend's flush was overlapped by that FUA write, and must not
        # count before it has ended; no other write may hold it up.
        open_gate(server, "w")
        expect((flush.wait(), later.wait()), (0, 0))
        gate(server, "flush", "f")
        gate(server, "write", "w", first=M, last=2 * M)
        put(a, 0, 4096, 2)
        flush = wt.start(a, "flush")
        gated(server, name="f")
        put(b, M, 4096, 2)
        open_gate(server, "f")
        expect(flush.wait(), 0)
        expect(durable(server, 0, 4096), [2] * 8)
        expect(durable(server, M, 4096), [1] * 8)
        open_gate(server, "w")


# Law 4.

def forgetful(**options):
    disk = {"forget": "yes"}
    disk.update(options.pop("disk", {}))
    return cached(disk, **options)


def test_failed_flush_is_written_again():
    """Law 4: what the backend forgot with a failed flush is written again."""
    for fua in "native", "emulate":
        with forgetful(disk={"fua": fua}) as server:
            h = server.connect()
            put(h, 0, 8192, 1)
            h.flush()
            put(h, 4096, 8192, 2)
            fault(server, "flush", count=1)
            expect(wt.errno_of(h.flush), errno.EIO)
            expect(durable(server, 0, 12 * K), [1] * 16 + [0] * 8)
            expect(seen(h, 0, 12 * K), [1] * 8 + [2] * 16)
            h.flush()
            expect(durable(server, 0, 12 * K), [1] * 8 + [2] * 16, fua)
            expect(server.control("hits f"), "1")


def test_failed_flush_zeroed_ranges():
    """Law 4: zeroed ranges are zeroed again, in order with writes."""
    with forgetful() as server:
        h = server.connect()
        put(h, 0, 64 * K, 1)
        h.flush()
        h.zero(32 * K, 0)
        put(h, 8 * K, 4096, 3)
        h.zero(4096, 40 * K, wt.NO_HOLE)
        wanted = [0] * 16 + [3] * 8 + [0] * 40 + [1] * 16 + [0] * 8 + [1] * 40
        fault(server, "flush", count=1)
        expect(wt.errno_of(h.flush), errno.EIO)
        expect(durable(server, 0, 64 * K), [1] * 128)
        expect(seen(h, 0, 64 * K), wanted)
        h.flush()
        expect(durable(server, 0, 64 * K), wanted)
        expect(seen(h, 0, 64 * K), wanted)


def test_many_zeroed_ranges():
    """Law 4: more zeroed ranges than are remembered are durable at once."""
    with forgetful(size="16M") as server:
        h = server.connect()
        put(h, 0, 4 * M, 1, wt.FUA)
        offsets = range(0, 4 * M, 8192)
        for offset in offsets:
            h.zero(4096, offset)
        fault(server, "flush", count=1)
        wt.errno_of(h.flush)
        for offset in offsets:
            expect(seen(h, offset, 8192), [0] * 8 + [1] * 8)
        h.flush()
        data = server.durable(0, 4 * M)
        for offset in offsets:
            expect(wt.versions(data[offset:offset + 8192], offset),
                   [0] * 8 + [1] * 8)


def test_failed_fua_makes_unstable_dirty():
    """Law 4: the error of a FUA write may have cost what was unstable."""
    with forgetful(dirty_age="10ms") as server:
        h = server.connect()
        put(h, 0, 4096, 1)
        wait_ended(server, "write", 0, 4096)
        fault(server, "write", fua=1, count=1)
        expect(put_error(h, M, 4096, 1, wt.FUA), errno.EIO)
        h.flush()
        expect(durable(server, 0, 4096), [1] * 8)
        expect(seen(h, 0, 4096), [1] * 8)


def test_write_that_overlaps_a_failure_ends_dirty():
    """Law 4: a write in flight when a FUA operation failed."""
    with forgetful(dirty_age="10ms") as server:
        a, b = server.connect(), server.connect()
        gate(server, "write", when="after", first=0, last=4095)
        put(a, 0, 4096, 1)
        gated(server)
        fault(server, "write", fua=1, count=1)
        expect(put_error(b, M, 4096, 1, wt.FUA), errno.EIO)
        open_gate(server)
        a.flush()
        expect(durable(server, 0, 4096), [1] * 8)


def test_flush_overlapped_by_a_failed_fua():
    """Law 4: a backend flush counts only if every FUA operation that it
    overlapped ended well."""
    with forgetful() as server:
        a, b = server.connect(), server.connect()
        put(a, 0, 4096, 1)
        gate(server, "flush", "f")
        flush = wt.start(a, "flush")
        gated(server, name="f")
        fault(server, "write", fua=1, count=1)
        expect(put_error(b, M, 4096, 1, wt.FUA), errno.EIO)
        open_gate(server, "f")
        if flush.wait() == 0:
            expect(durable(server, 0, 4096), [1] * 8)
        a.flush()
        expect(durable(server, 0, 4096), [1] * 8)


def test_fua_overlapped_by_a_failed_flush():
    """Law 4 and 1: a FUA write that was told as durable is.

    The flush that fails by one connection is repeated by the other.
    """
    for fua in "native", "emulate":
        with forgetful(disk={"fua": fua}) as server:
            a, b = server.connect(), server.connect()
            put(a, 0, 4096, 1)
            gate(server, "flush", "f")
            flush = wt.start(a, "flush")
            gated(server, name="f")
            fault(server, "flush", count=1)
            gate(server, "write", "w", when="after", first=M, last=M + 4095)
            write = begin_put(b, M, 4096, 1, wt.FUA)
            gated(server, name="w")
            open_gate(server, "f")
            expect(flush.wait(), 0)
            expect(durable(server, 0, 4096), [1] * 8, fua)
            open_gate(server, "w")
            expect(write.wait(), 0)
            expect(durable(server, M, 4096), [1] * 8, fua)
            a.flush()
            expect(durable(server, 0, 4096), [1] * 8, fua)


def test_flushes_do_not_overlap():
    """Law 4: one flush of an export at a time."""
    with cached({"flush_latency": "5ms"}) as server:
        clients = [server.connect() for _ in range(4)]
        for i in range(8):
            for n, h in enumerate(clients):
                put(h, (i * 4 + n) * 4096, 4096, 1)
            wt.wait_all([wt.start(h, "flush") for h in clients])
        log = server.log()
        assert log.of("flush")
        expect(overlapping_in_time(log.of("flush")), [])
        expect(durable(server, 0, 32 * 4096), [1] * 256)


def test_unstable_pages_are_kept():
    """Law 4: reads do not push out what no flush has covered."""
    with forgetful(size="1M", dirty_age="10ms") as server:
        h = server.connect()
        put(h, 0, 64 * K, 1)
        wait_ended(server, "write", 60 * K, 4096)
        h.pread(16 * M, M)
        fault(server, "flush", count=1)
        wt.errno_of(h.flush)
        h.flush()
        expect(durable(server, 0, 64 * K), [1] * 128)


def test_unstable_data_is_bounded():
    """Law 4: a flush is begun when the bound is near, long before it."""
    with cached(dirty_max="1M", dirty_age="10ms") as server:
        h = server.connect()
        for i in range(8):
            put(h, i * 64 * K, 64 * K, 1)
            wt.wait_until(lambda: ended(server, "write", i * 64 * K, 64 * K),
                          "it is written back")
        wt.wait_until(lambda: ended(server, "flush"), "a flush has ended")
        expect([r for r in server.log().of("write") if r.fua], [])


# Law 5.

def test_failed_fua_over_a_clean_block():
    """Law 5: the refused bytes are gone; the next read asks the backend."""
    with cached() as server:
        h = server.connect()
        put(h, 0, 4096, 1, wt.FUA)
        expect(seen(h, 0, 4096), [1] * 8)
        expect(count(server, "read"), 0)
        fault(server, "write", count=1)
        expect(put_error(h, 0, 4096, 2, wt.FUA), errno.EIO)
        expect(seen(h, 0, 4096), [1] * 8)
        assert count(server, "read") > 0
        h.flush()
        expect(durable(server, 0, 4096), [1] * 8)


def test_failed_fua_that_wrote_a_part():
    """Law 5: what is seen is what the backend has."""
    with cached() as server:
        h = server.connect()
        put(h, 0, 4096, 1, wt.FUA)
        fault(server, "write", count=1, partial=1024)
        expect(put_error(h, 0, 4096, 2, wt.FUA), errno.EIO)
        expect(seen(h, 0, 4096), [2, 2] + [1] * 6)
        h.flush()
        expect(durable(server, 0, 4096), [2, 2] + [1] * 6)


def test_failed_fua_over_a_dirty_block():
    """Law 5: acknowledged bytes are not lost with the refused ones."""
    with cached() as server:
        h = server.connect()
        put(h, 0, 8192, 1)
        fault(server, "write", count=1)
        expect(put_error(h, 2048, 4096, 2, wt.FUA), errno.EIO)
        found = seen(h, 0, 8192)
        expect(found[:4] + found[12:], [1] * 8)
        assert set(found) <= {1, 2}, found
        h.flush()
        expect(durable(server, 0, 8192), found)


def test_failed_fua_of_a_part_of_a_dirty_block():
    """Law 5: the bytes round those that were refused are not lost."""
    with cached() as server:
        h = server.connect()
        put(h, 0, 512, 1)
        fault(server, "write", count=1)
        expect(wt.errno_of(h.pwrite, b"x" * 100, 200, wt.FUA), errno.EIO)
        found = h.pread(512, 0)
        wanted = wt.pattern(0, 512, 1)
        expect(found[:200] + found[300:], wanted[:200] + wanted[300:])
        h.flush()
        expect(server.durable(0, 512), found)


def test_failed_fua_over_an_unstable_block():
    """Law 5: the same where the backend has it but no flush has covered."""
    with forgetful(dirty_age="10ms") as server:
        h = server.connect()
        put(h, 0, 4096, 1)
        wait_ended(server, "write", 0, 4096)
        fault(server, "write", fua=1, count=1)
        expect(put_error(h, 0, 4096, 2, wt.FUA), errno.EIO)
        found = seen(h, 0, 4096)
        assert set(found) <= {1, 2}, found
        h.flush()
        expect(durable(server, 0, 4096), found)
        expect(seen(h, 0, 4096), found)


def test_write_during_a_fua_write_that_fails():
    """Law 5: bytes acknowledged since are kept."""
    with cached() as server:
        a, b = server.connect(), server.connect()
        put(a, 0, 4096, 1, wt.FUA)
        gate(server, "write", fua=1)
        refused = begin_put(a, 0, 4096, 2, wt.FUA)
        gated(server)
        fault(server, "write", fua=1, count=1)
        later = begin_put(b, 512, 1024, 3)
        open_gate(server)
        expect((refused.wait(), later.wait()), (errno.EIO, 0))
        found = seen(a, 0, 4096)
        expect(found[1:3], [3, 3])
        server.control("unfault all")
        a.flush()
        expect(durable(server, 0, 4096), found)


def test_failed_writeback_marks_stay():
    """Law 5: a dirty mark goes away by a successful write only."""
    with cached() as server:
        h = server.connect()
        put(h, 0, 4096, 1)
        # Write-back tries it too, after a while.
        fault(server, "write", partial=512)
        for _ in range(3):
            expect(wt.errno_of(h.flush), errno.EIO)
        server.control("unfault all")
        h.flush()
        expect(durable(server, 0, 4096), [1] * 8)


wt.main()
