#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""Order: which bytes reads see and in which order they reach the backend
(laws 7 to 10)."""

import errno
import random
import sys
import threading

sys.dont_write_bytecode = True

from live import (  # noqa: E402
    G, K, M, begin_put, cached, count, durable, expect, fault, gate, gated,
    open_gate, overlapping_in_time, put, put_error, ranges, seen, wait_ended,
    wt)


# Law 7.

def test_one_write_over_a_block_at_a_time():
    """Law 7: FUA writes and write-back of one block go one after another."""
    with cached(dirty_age="10ms") as server:
        clients = [server.connect() for _ in range(4)]
        gate(server, "write", first=0, last=4095)
        commands = [begin_put(clients[0], 0, 4096, 1, wt.FUA)]
        gated(server)
        for version, h in enumerate(clients, 2):
            commands.append(begin_put(h, 0, 4096, version, wt.FUA))
            commands.append(begin_put(h, 512, 1024, version + 10))
        # They are at work in the server when others' requests are answered.
        for h in clients:
            seen(h, M, 4096)
        # So has write-back been there.
        put(clients[0], 2 * M, 4096, 1)
        wait_ended(server, "write", 2 * M, 4096)
        expect(len([r for r in server.log().of("write")
                    if r.overlaps(0, 4096)]), 1)
        open_gate(server)
        wt.wait_all(commands)
        expect([c.errno for c in commands], [0] * 9)
        found = seen(clients[0], 0, 4096)
        clients[0].flush()
        expect(durable(server, 0, 4096), found)
        writes = [r for r in server.log().of("write") if r.overlaps(0, 4096)]
        expect([(a, b) for a, b in overlapping_in_time(writes)
                if a.overlaps(b.offset, b.length)], [])


def test_writeback_never_lands_after_a_newer_write():
    """Law 7: a FUA write over a block in writeback waits for that."""
    with cached(dirty_age="10ms") as server:
        a, b = server.connect(), server.connect()
        gate(server, "write", fua=0)
        put(a, 0, 4096, 1)
        gated(server)
        write = begin_put(b, 0, 4096, 2, wt.FUA)
        seen(b, M, 4096)
        expect(count(server, "write", 0, 4096), 1)
        open_gate(server)
        expect(write.wait(), 0)
        expect(durable(server, 0, 4096), [2] * 8)
        expect(seen(a, 0, 4096), [2] * 8)


def test_readers_do_not_wait_for_writeback():
    """Law 7: a block in writeback is read at once, on any connection."""
    with cached(dirty_age="10ms") as server:
        a, b = server.connect(), server.connect()
        gate(server, "write")
        put(a, 0, 4096, 1)
        gated(server)
        expect(seen(a, 0, 4096), [1] * 8)
        expect(seen(b, 0, 4096), [1] * 8)
        write = begin_put(a, M, 4096, 2, wt.FUA)
        gated(server, 2)
        assert set(seen(b, M, 4096)) <= {0, 2}
        open_gate(server)
        expect(write.wait(), 0)


def test_bytes_in_flight_are_stable():
    """Law 7: a write over blocks in flight does not change what lands."""
    with cached() as server:
        a, b = server.connect(), server.connect()
        gate(server, "write", fua=1)
        first = begin_put(a, 0, 4096, 1, wt.FUA)
        gated(server)
        second = begin_put(b, 0, 4096, 2)
        seen(b, M, 4096)
        open_gate(server)
        expect((first.wait(), second.wait()), (0, 0))
        # The second is held back: what is durable is the first's.
        expect(durable(server, 0, 4096), [1] * 8)
        expect(seen(a, 0, 4096), [2] * 8)
        # The same while a flush writes it, the newer bytes torn or not.
        gate(server, "write")
        flush = wt.start(a, "flush")
        gated(server)
        second = begin_put(b, 100, 3000, 3)
        seen(b, M, 4096)
        open_gate(server)
        expect((flush.wait(), second.wait()), (0, 0))
        newer = a.pread(4096, 0)
        expect(durable(server, 0, 4096), [2] * 8)
        expect(newer[100:3100], wt.pattern(100, 3000, 3))
        a.flush()
        expect(server.durable(0, 4096), newer)


# Law 8.

def test_sub_block_write_reads_only_partial_blocks():
    """Law 8: only blocks covered in part and not uptodate are read."""
    for flags in 0, wt.FUA:
        with cached() as server:
            h = server.connect()
            h.pwrite(b"x" * (3 * 512), 100, flags)
            reads = [(offset, length)
                     for _, offset, length in ranges(server, "read")]
            expect(sorted(reads), [(0, 512), (1536, 512)])
            h.pwrite(b"y" * 100, 1540, flags)
            h.pwrite(b"z" * 1024, 4096, flags)
            expect(len(server.log().of("read")), 2)
            h.pwrite(b"w" * 1000, 8192, flags)
            h.pwrite(b"v" * 1000, 12312, flags)
            expect(sorted(ranges(server, "read"))[2:],
                   [("read", 8704, 512), ("read", 12288, 512)])
            wanted = bytearray(5120)
            wanted[100:1636] = b"x" * 1536
            wanted[1540:1640] = b"y" * 100
            wanted[4096:5120] = b"z" * 1024
            h.flush()
            expect(server.durable(0, 5120), wanted)


def test_sub_block_write_with_larger_blocks():
    """Law 8: the same where the backend's blocks are of 8K: nothing smaller
    reaches it."""
    with cached({"block_min": "8K"}) as server:
        h = server.connect()
        h.pwrite(b"x" * 100, 8192 - 50, wt.FUA)
        expect(sorted(ranges(server, "read")),
               [("read", 0, 8192), ("read", 8192, 8192)])
        h.pwrite(b"y" * 8192, 32 * K)
        h.zero(20000, 64 * K + 5)
        h.trim(20000, 128 * K + 5)
        h.pread(1, 300 * K + 1)
        h.flush()
        log = server.log()
        expect([r for r in log if r.violation], [])
        assert all(r.offset % 8192 == 0 and r.length % 8192 == 0
                   for r in log if r.op != "flush")
        expect(server.durable(8142, 100), b"x" * 100)


def test_failed_read_of_a_partial_block_changes_nothing():
    """Law 8: everything that can fail comes before the first cached byte
    changes."""
    for flags in 0, wt.FUA:
        with cached() as server:
            h = server.connect()
            data = wt.pattern(0, 64 * K, 1)
            h.pwrite(data, 0, wt.FUA)
            h.pread(32 * K, 0)
            server.restart()
            h = server.connect()
            h.pread(4096, 0)
            fault(server, "read", "EIO", first=32 * K, last=32 * K + 511)
            writes = count(server, "write")
            expect(wt.errno_of(h.pwrite, b"x" * (32 * K), 100, flags),
                   errno.EIO)
            server.control("unfault all")
            expect(h.pread(64 * K, 0), data)
            h.flush()
            expect(count(server, "write"), writes)
            expect(server.durable(0, 64 * K), data)


def test_fill_does_not_overwrite():
    """Law 8: a fill leaves alone what was written or zeroed meanwhile."""
    for page in "4K", "64K":
        with cached(page_size=page, fill=page) as server:
            a, b = server.connect(), server.connect()
            put(a, 0, 64 * K, 1, wt.FUA)
            server.restart()
            a, b = server.connect(), server.connect()
            gate(server, "read", when="after")
            read = wt.start(a, "pread", 64 * K, 0)
            gated(server)
            put(b, 512, 1024, 2)
            put(b, 8192, 4096, 3, wt.FUA)
            b.zero(4096, 16 * K)
            open_gate(server)
            wanted = ([1, 2, 2] + [1] * 13 + [3] * 8 + [1] * 8 + [0] * 8
                      + [1] * 88)
            found = wt.versions(read.data(), 0)
            assert all(f in (1, w) for f, w in zip(found, wanted)), found
            expect(seen(a, 0, 64 * K), wanted, page)
            a.flush()
            expect(seen(b, 0, 64 * K), wanted, page)
            expect(durable(server, 0, 64 * K), wanted, page)


def test_fill_after_a_trim_or_a_failed_write():
    """Law 8: a fill does not bring back what was dropped since it began."""
    with cached(fill="64K") as server:
        put(server.connect(), 0, 64 * K, 1, wt.FUA)
        server.restart()
        a, b = server.connect(), server.connect()
        gate(server, "read", when="after")
        read = wt.start(a, "pread", 64 * K, 0)
        gated(server)
        b.trim(4096, 0)
        fault(server, "write", partial=4096, count=1)
        expect(put_error(b, 8192, 4096, 2, wt.FUA), errno.EIO)
        open_gate(server)
        expect(read.wait(), 0)
        expect(seen(a, 0, 64 * K),
               [0] * 8 + [1] * 8 + [2] * 8 + [1] * 104)


def test_reader_does_not_join_a_fill_that_was_overtaken():
    """Law 8: it reads for itself what is missing."""
    with cached(fill="4K") as server:
        put(server.connect(), 0, 4096, 1, wt.FUA)
        server.restart()
        a, b, c = (server.connect() for _ in range(3))
        gate(server, "read", when="after", first=0, last=4095)
        first = wt.start(a, "pread", 4096, 0)
        gated(server)
        put(b, 0, 1024, 2)
        b.trim(1024, 1024)
        expect(seen(b, 0, 1024), [2, 2])
        second = wt.start(c, "pread", 2048, 0)
        gated(server, 2)
        open_gate(server)
        expect(wt.versions(second.data(), 0), [2, 2, 0, 0])
        expect(first.wait(), 0)
        expect(seen(a, 0, 4096), [2, 2, 0, 0] + [1] * 4)


def test_joined_fill_that_fails():
    """Law 8: a read that joined it reads again itself."""
    with cached(fill="4K") as server:
        put(server.connect(), 0, 4096, 1, wt.FUA)
        server.restart()
        a, b = server.connect(), server.connect()
        gate(server, "read")
        first = wt.start(a, "pread", 4096, 0)
        gated(server)
        fault(server, "read", count=1)
        second = wt.start(b, "pread", 4096, 0)
        put(b, M, 4096, 1)
        open_gate(server)
        expect(first.wait(), errno.EIO)
        expect(wt.versions(second.data(), 0), [1] * 8)


# Law 9.

def test_zero_with_partial_blocks():
    """Law 9: exactly the range reads as zeroes, with any alignment."""
    with cached() as server:
        h = server.connect()
        shadow = bytearray(wt.pattern(0, 256 * K, 1))
        h.pwrite(shadow, 0, wt.FUA)
        cases = [(100, 5), (100, 2000), (4096 - 10, 20), (8192, 4096),
                 (12 * K + 1, 4095), (20 * K - 1, 70 * K), (255 * K, K)]
        for offset, length in cases:
            for flags in 0, wt.NO_HOLE, wt.FUA:
                h.zero(length, offset, flags)
                shadow[offset:offset + length] = bytes(length)
                assert h.pread(256 * K, 0) == shadow, (offset, length, flags)
        h.flush()
        assert server.durable(0, 256 * K) == shadow


def test_zero_without_help_of_the_backend():
    """Law 9: also where it cannot zero, over many pieces."""
    with cached({"zero": "no"}, size="1M") as server:
        h = server.connect()
        shadow = bytearray(wt.pattern(0, 3 * M, 1))
        h.pwrite(shadow, 0, wt.FUA)
        h.zero(2 * M, 1000)
        shadow[1000:2 * M + 1000] = bytes(2 * M)
        assert h.pread(3 * M, 0) == shadow
        h.flush()
        assert server.durable(0, 3 * M) == shadow


def test_largest_zero_and_trim():
    """Law 9: 4 GiB - 1 bytes, in parts of at most 64 MiB."""
    with cached({"size": "16G"}) as server:
        h = server.connect()
        length = 4 * G - 1
        for op in "zero", "trim":
            for offset in 0, 5 * G + 100:
                end = offset + length
                put(h, (end // 512 - 4) * 512, 4096, 1, wt.FUA)
                put(h, offset // 512 * 512, 4096, 1, wt.FUA)
                getattr(h, op)(length, offset)
                h.flush()
                if op == "zero":
                    expect(h.pread(4096, offset), bytes(4096))
                    expect(h.pread(1000, end - 1000), bytes(1000))
                assert h.pread(1000, end) == wt.pattern(end, 1000, 1)
                if offset:
                    start = offset // 512 * 512
                    expect(h.pread(offset - start, start),
                           wt.pattern(start, offset - start, 1))
        parts = server.log().of("zero", "trim")
        assert all(r.length <= 64 * M for r in parts)
        assert sum(r.length for r in parts) > 4 * (4 * G - 8192)


def test_failed_zero():
    """Law 9: clean blocks are not uptodate after it, unstable ones dirty."""
    with cached(dirty_age="10ms") as server:
        h = server.connect()
        put(h, 0, 8192, 1, wt.FUA)
        put(h, 8192, 4096, 2)
        wait_ended(server, "write", 8192, 4096)
        put(h, 12 * K, 4096, 1, wt.FUA)
        expect(seen(h, 0, 16 * K), [1] * 16 + [2] * 8 + [1] * 8)
        # It has zeroed what is unstable too.
        fault(server, "zero", "EIO", partial=12 * K, count=1)
        expect(wt.errno_of(h.zero, 16 * K, 0), errno.EIO)
        expect(seen(h, 0, 16 * K), [0] * 16 + [2] * 8 + [1] * 8)
        h.flush()
        expect(durable(server, 0, 16 * K), [0] * 16 + [2] * 8 + [1] * 8)


def test_failed_zero_over_dirty_blocks():
    """Law 9 and 5: acknowledged bytes stay, and reach the backend."""
    for op in "zero", "trim":
        with cached() as server:
            h = server.connect()
            put(h, 0, 8192, 1)
            fault(server, op, "EIO", partial=4096, count=1)
            expect(wt.errno_of(getattr(h, op), 8192, 0), errno.EIO)
            found = seen(h, 0, 8192)
            assert set(found) <= {0, 1}, found
            h.flush()
            expect(durable(server, 0, 8192), found, op)


def test_trim():
    """Law 9: a trim of whole blocks drops what is cached, dirty too; parts of
    blocks keep what they hold."""
    for keeps in "no", "yes":
        with cached({"trim_keeps": keeps}) as server:
            h = server.connect()
            put(h, 0, 16 * K, 1, wt.FUA)
            put(h, 4096, 4096, 2)
            h.trim(8000, 4000)
            found = h.pread(16 * K, 0)
            data = wt.pattern(0, 16 * K, 1)
            expect(found[:4000], data[:4000])
            expect(found[12000:], data[12000:])
            h.flush()
            expect(h.pread(16 * K, 0), found)
            expect(server.durable(0, 16 * K), found)
            if keeps == "no":
                expect(found[4096:11776], bytes(7680))


def test_fast_zero():
    """Law 9: where it is not fast, nothing has changed."""
    with cached() as server:
        h = server.connect()
        data = wt.pattern(0, 64 * K, 1)
        h.pwrite(data, 0, wt.FUA)
        put(h, 4096, 4096, 2)
        data = h.pread(64 * K, 0)
        fault(server, "zero", "ENOTSUP", fast=1)
        log = len(server.log().of("write"))
        for offset, length in (0, 4096), (100, 50 * K), (4096, 4096):
            for flags in 0, wt.FUA:
                expect(wt.errno_of(h.zero, length, offset,
                                   wt.FAST_ZERO | flags), errno.ENOTSUP)
                expect(h.pread(64 * K, 0), data)
        expect(len(server.log().of("write")), log)
        h.flush()
        expect(server.durable(0, 64 * K), data)
        # An ordinary one then works, and so does a fast one that is fast.
        h.zero(4096, 8192)
        server.control("unfault all")
        h.zero(10000, 20000, wt.FAST_ZERO)
        shadow = bytearray(data)
        shadow[8192:8192 + 4096] = bytes(4096)
        shadow[20000:30000] = bytes(10000)
        expect(h.pread(64 * K, 0), shadow)
        h.flush()
        expect(server.durable(0, 64 * K), shadow)


def test_write_during_a_zero():
    """Law 9: a zero takes away only marks older than its start, and what is
    read is what lands."""
    for op in "zero", "trim":
        for flags in 0, wt.FUA:
            with cached() as server:
                a, b = server.connect(), server.connect()
                put(a, 0, 64 * K, 1, wt.FUA)
                gate(server, op)
                clear = wt.start(a, op, 64 * K, 0)
                gated(server)
                write = begin_put(b, 4096, 4096, 2, flags)
                b.pread(512, M)
                early = write.done()
                open_gate(server)
                expect((clear.wait(), write.wait()), (0, 0))
                found = seen(a, 0, 64 * K)
                expect(found[:8] + found[16:], [0] * 120)
                # Whichever came last: but a write that had been answered
                # or was waiting is not half gone.
                assert found[8:16] in ([0] * 8, [2] * 8), (found, early)
                a.flush()
                expect(durable(server, 0, 64 * K), found)
                expect(seen(b, 0, 64 * K), found)


def test_zero_during_a_write():
    """Law 9: a zero over blocks in flight waits for them."""
    for flags in 0, wt.FUA:
        with cached() as server:
            a, b = server.connect(), server.connect()
            gate(server, "write")
            write = begin_put(a, 0, 8192, 1, wt.FUA)
            gated(server)
            zero = wt.start(b, "zero", 4096, 2048, flags)
            b.pread(512, M)
            expect(count(server, "zero"), 0)
            open_gate(server)
            expect((write.wait(), zero.wait()), (0, 0))
            wanted = [1] * 4 + [0] * 8 + [1] * 4
            expect(seen(a, 0, 8192), wanted)
            a.flush()
            expect(durable(server, 0, 8192), wanted)


def test_writes_after_an_unflushed_zero():
    """Law 9 and 4: the later write is what stays."""
    with cached({"forget": "yes"}) as server:
        h = server.connect()
        put(h, 0, 64 * K, 1, wt.FUA)
        h.zero(64 * K, 0)
        put(h, 4096, 4096, 2, wt.FUA)
        fault(server, "flush", count=1)
        wt.errno_of(h.flush)
        wanted = [0] * 8 + [2] * 8 + [0] * 112
        expect(seen(h, 0, 64 * K), wanted)
        h.flush()
        expect(durable(server, 0, 64 * K), wanted)
        expect(seen(h, 0, 64 * K), wanted)


# Law 10.

def test_failed_write_has_one_value_for_all():
    """Law 10: after the reply each block has one value."""
    with cached() as server:
        clients = [server.connect() for _ in range(4)]
        put(clients[0], 0, 4096, 1)
        put(clients[0], 4096, 4096, 1, wt.FUA)
        gate(server, "write", fua=1)
        write = begin_put(clients[1], 0, 8192, 2, wt.FUA)
        gated(server)
        for h in clients:
            assert set(seen(h, 0, 8192)) <= {1, 2}
        fault(server, "write", count=1)
        open_gate(server)
        expect(write.wait(), errno.EIO)
        found = [seen(h, 0, 8192) for h in clients]
        assert all(f == found[0] for f in found), found
        clients[2].flush()
        expect(durable(server, 0, 8192), found[0])
        expect(seen(clients[3], 0, 8192), found[0])


class History:
    """Versions of a few blocks, each with one writer: what a reader may see
    is between what was acknowledged before and what was sent by then."""

    def __init__(self, blocks):
        self.sent = [0] * blocks
        self.acknowledged = [0] * blocks
        self.error = None


def write_history(history, h, mine, stride, seed, rounds):
    rng = random.Random(seed)
    for version in range(1, rounds + 1):
        first = rng.randrange(len(mine))
        blocks = mine[first:first + rng.randrange(1, 4)]
        for block in blocks:
            history.sent[block] = version
        for block in blocks:
            kind = rng.randrange(8)
            put(h, block * stride, 512, version, wt.FUA if kind < 3 else 0)
            history.acknowledged[block] = version
        if kind == 7:
            h.flush()


def read_history(history, h, stride, seed, rounds):
    rng = random.Random(seed)
    blocks = len(history.sent)
    least = [0] * blocks
    for _ in range(rounds):
        first = rng.randrange(blocks)
        last = min(blocks, first + rng.randrange(1, 9))
        before = history.acknowledged[first:last]
        data = h.pread((last - first) * stride, first * stride)
        after = history.sent[first:last]
        for i in range(last - first):
            at = i * stride
            version = wt.version_of(data[at:at + 512],
                                    (first + i) * stride)
            assert version is not None, "torn"
            assert max(before[i], least[first + i]) <= version <= after[i], (
                first + i, before[i], version, after[i])
            least[first + i] = version


def check_history(stride, rounds, **options):
    with cached(**options) as server:
        blocks = 64
        history = History(blocks)
        threads = []

        def guarded(function, *args):
            try:
                function(*args)
            except Exception as error:
                history.error = history.error or error

        for i in range(4):
            mine = list(range(i * 16, i * 16 + 16))
            threads.append(threading.Thread(target=guarded, args=(
                write_history, history, server.connect(), mine, stride, i,
                rounds)))
            threads.append(threading.Thread(target=guarded, args=(
                read_history, history, server.connect(), stride, i,
                2 * rounds)))
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        if history.error:
            raise history.error
        h = server.connect()
        h.flush()
        for block in range(blocks):
            wanted = [history.acknowledged[block]]
            expect(seen(h, block * stride, 512), wanted)
            expect(durable(server, block * stride, 512), wanted)


def test_reads_see_some_order():
    """Law 10: readers never see anything torn, older than acknowledged, or
    older than they saw before: neighbours in one page, and with a cache too
    small for them."""
    check_history(512, 150, dirty_age="10ms")
    check_history(64 * K, 100, size="1M", dirty_age="10ms", fill="64K")


wt.main()
