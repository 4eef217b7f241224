#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""Visibility between connections: sizes, sharing, exports, block status, thread
models, and exports that are read-only (laws 16 to 20)."""

import errno
import os
import random
import sys

sys.dont_write_bytecode = True

from live import (  # noqa: E402
    K, M, begin_put, cached, count, durable, ended, expect, fault, gate,
    gated, open_gate, overlapping_in_time, put, put_error, ranges, seen,
    wait_closed, wait_ended, wt)

DATA = 0
HOLE = 3        # a hole that reads as zeroes


# Law 16.

def check_size(size):
    with cached({"size": size}) as server:
        h = server.connect()
        expect(h.get_size(), size)
        first = max(0, size - 9000)
        length = size - first
        shadow = bytearray(length)
        expect(h.pread(length, first) if length else b"", shadow)

        def write(offset, count_, flags):
            data = wt.pattern(offset, count_, 1 + flags)
            h.pwrite(data, offset, flags)
            shadow[offset - first:offset - first + count_] = data

        for flags in 0, wt.FUA:
            if length:
                write(size - 1, 1, flags)
                write(first, (length + 1) // 2, flags)
                write(size - (length + 2) // 3, (length + 2) // 3, flags)
                expect(h.pread(length, first), shadow, str(size))
                wt.block_status(h, length, first)
                h.cache(length, first)
        expect(wt.errno_of(h.pwrite, b"x", size) in
               (errno.ENOSPC, errno.EINVAL), True)
        expect(wt.errno_of(h.pread, 1, size), errno.EINVAL)
        if length > 700:
            h.zero(600, size - 600)
            h.trim(300, size - 300)
            shadow[-600:] = bytes(600)
        h.flush()
        assert all(r.offset + r.length <= size for r in server.log())
        if length:
            expect(h.pread(length, first), shadow, str(size))
            expect(server.durable(first, length), shadow, str(size))
        else:
            expect(server.log().of("read", "write", "zero"), [])


def test_sizes():
    """Law 16: exports of any size; nothing past the end is written or read,
    and a short last block is legal."""
    for size in 0, 1, 511, 513, 4095, 4097, M + 7:
        check_size(size)


def test_size_that_is_no_multiple_of_a_strict_block():
    """Law 16: what could never be written is refused when it is opened, with
    a line that says why."""
    with cached({"size": M + 512, "block_min": 4096}) as server:
        assert wt.errno_of(server.connect)
        assert "no multiple of its minimum block size, 4096" in server.stderr()
        expect(server.log().of("write"), [])
    with cached({"size": M + 512, "block_min": 512}) as server:
        server.connect().pread(512, M)


def test_largest_size():
    """Law 16: 2^63 - 1 bytes."""
    check_size((1 << 63) - 1)


def test_sizes_with_large_pages():
    """Law 16: the last page of a larger size, and of larger blocks."""
    for disk, page in ({"size": M + 7}, "64K"), ({"size": 70 * K}, "1M"), (
            {"size": M + 8192, "block_min": "8K"}, "64K"):
        with cached(disk, page_size=page, size="16M") as server:
            h = server.connect()
            size = h.get_size()
            put(h, size - 1000, 1000, 1)
            put(h, size - 3000, 1000, 2, wt.FUA)
            h.flush()
            assert h.pread(1000, size - 1000) == server.durable(
                size - 1000, 1000) == wt.pattern(size - 1000, 1000, 1)
            log = server.log()
            assert all(r.offset + r.length <= size for r in log)
            expect([r for r in log if r.violation], [])


def test_another_size_while_in_use():
    """Law 16: an open that finds another size is refused while others use
    the export, and they go on."""
    with cached({"size": "1M"}) as server:
        a = server.connect()
        put(a, M - 512, 512, 1)
        server.control("size 2M")
        assert wt.errno_of(server.connect) != 0
        expect(seen(a, M - 512, 512), [1])
        a.flush()
        expect(durable(server, M - 512, 512), [1])
        server.disconnect(a)
        wait_closed(server)
        b = server.connect()
        expect(b.get_size(), 2 * M)
        expect(seen(b, M - 512, 1024), [1, 0])


def test_growing_and_shrinking_between_opens():
    """Law 16: pages past the end are dropped, the old last page is read
    again."""
    with cached({"size": M + 700}) as server:
        h = server.connect()
        put(h, M - 512, 1212, 1)
        expect(h.pread(1212, M - 512), wt.pattern(M - 512, 1212, 1))
        for size in M + 5000, M + 100, M - 300, 2 * M:
            server.disconnect(h)
            wait_closed(server)
            server.control("size %d" % size)
            h = server.connect()
            expect(h.get_size(), size)
            # The disk drops what it cuts off, and grows by zeroes.
            length = min(size, M + 5000) - (M - 512)
            expect(h.pread(length, M - 512),
                   server.durable(M - 512, length), size)
            if size == M + 5000:
                expect(h.pread(5000 - 700, M + 700), bytes(4300))
        expect(h.pread(5000, M - 300), bytes(5000))


def test_dirty_data_past_a_new_end():
    """Law 16: it is told as unsavable with how much; the rest is kept."""
    with cached({"size": "1M"}, drain="200ms") as server:
        h = server.connect()
        put(h, 0, 4096, 1)
        put(h, 512 * K, 4096, 1)
        fault(server, "write")
        server.disconnect(h)
        wait_closed(server)
        server.control("size 256K")
        h = server.connect()
        expect(h.get_size(), 256 * K)
        expect(seen(h, 0, 4096), [1] * 8)
        server.control("unfault all")
        h.flush()
        expect(durable(server, 0, 4096), [1] * 8)
        assert "cannot be saved" in server.stderr(), server.stderr()


def test_zeroes_past_a_new_end():
    """Law 16: what was zeroed there and not flushed fails no later flush."""
    with cached({"size": "1M"}, drain="200ms") as server:
        h = server.connect()
        put(h, 0, M, 1)
        h.flush()
        h.zero(512 * K, 128 * K)
        fault(server, "flush")
        server.disconnect(h)
        wait_closed(server)
        server.control("size 256K")
        server.control("unfault all")
        h = server.connect()
        put(h, 0, 4096, 2)
        h.flush()
        expect(durable(server, 0, 4096), [2] * 8)
        expect(durable(server, 128 * K, 128 * K), [0] * 256)
        expect(count(server, "zero", 256 * K, M), 1)


def test_unsavable_ranges_are_logged():
    """Law 16: the ranges themselves are in the log."""
    with cached({"size": "1M"}, drain="200ms") as server:
        h = server.connect()
        put(h, 512 * K, 4096, 1)
        fault(server, "write")
        server.disconnect(h)
        wait_closed(server)
        server.control("size 256K")
        server.connect()
        server.control("unfault all")
        assert "%d+4096" % (512 * K) in server.stderr(), server.stderr()


# Law 17.

def test_multi_conn_is_shared():
    """Law 17: one cache for all connections if the backend says so."""
    with cached() as server:
        a, b = server.connect(), server.connect()
        assert a.can_multi_conn() and b.can_multi_conn()
        put(a, 0, 4096, 1)
        expect(seen(b, 0, 4096), [1] * 8)
        seen(a, M, 4096)
        seen(b, M, 4096)
        expect(count(server, "read", M, 4096), 1)
        expect(server.log().of("write"), [])


def not_shared(server):
    a, b = server.connect(), server.connect()
    assert not a.can_multi_conn()
    put(a, 0, 4096, 1)
    expect(ended(server, "write", 0, 4096)[0].length, 4096)
    expect(seen(a, 0, 4096), [1] * 8)
    # Nothing was cached for b yet: it sees what the disk has.
    expect(seen(b, 0, 4096), [1] * 8)
    put(b, 4096, 4096, 2)
    b.zero(4096, 8192)
    a.flush()
    b.flush()
    expect(durable(server, 0, 12 * K), [1] * 8 + [2] * 8 + [0] * 8)


def test_connections_that_do_not_share():
    """Law 17: nothing is held back, multi-conn is not advertised."""
    with cached({"multi_conn": "no"}) as server:
        not_shared(server)
    with cached(share="never") as server:
        not_shared(server)


def test_not_sharing_is_logged():
    """Law 17: one line in the log says that nothing is held back."""
    with cached({"multi_conn": "no"}) as server:
        for _ in range(3):
            server.connect()
        lines = [line for line in server.stderr().splitlines()
                 if "go through at once" in line]
        expect(len(lines), 1, server.stderr())


def test_share_always():
    """Law 17: one cache; a flush covers every connection that wrote."""
    with cached({"multi_conn": "no"}, share="always") as server:
        clients = [server.connect() for _ in range(3)]
        assert all(h.can_multi_conn() for h in clients)
        for i, h in enumerate(clients):
            put(h, i * M, 4096, 1)
            h.pread(512, 4 * M + i * M)
        expect(seen(clients[0], 2 * M, 4096), [1] * 8)
        clients[0].flush()
        log = server.log()
        wrote = {r.connection for r in log.of("write")}
        flushed = {r.connection for r in log.of("flush")}
        assert wrote <= flushed, (wrote, flushed)
        for i in range(3):
            expect(durable(server, i * M, 4096), [1] * 8)


def test_share_always_writethrough():
    """Law 17: the same where each connection has written for itself."""
    with cached({"multi_conn": "no"}, share="always",
                mode="writethrough") as server:
        clients = [server.connect() for _ in range(3)]
        for i, h in enumerate(clients):
            put(h, i * M, 4096, 1)
        wrote = {r.connection for r in server.log().of("write")}
        expect(len(wrote), 3)
        clients[0].flush()
        expect({r.connection for r in server.log().of("flush")}, wrote)
        for i in range(3):
            expect(durable(server, i * M, 4096), [1] * 8)


def test_keys():
    """Law 17: names tell caches apart unless the user says otherwise."""
    for key, reads in ("name", 2), ("all", 1):
        with cached(key=key) as server:
            put(server.connect("x"), M, 4096, 1, wt.FUA)
            server.restart()
            for name in "x", "y":
                expect(seen(server.connect(name), 0, 4096), [0] * 8)
            expect(count(server, "read", 0, 4096), reads, key)
            if key == "all":
                put(server.connect("x"), 0, 4096, 2)
                expect(seen(server.connect("z"), 0, 4096), [2] * 8)


def test_keep():
    """Clean pages outlive the last connection, or do not."""
    for keep, reads in ("yes", 1), ("no", 2):
        with cached(keep=keep) as server:
            for _ in range(2):
                h = server.connect()
                expect(seen(h, 0, 4096), [0] * 8)
                server.disconnect(h)
                wait_closed(server)
            expect(count(server, "read", 0, 4096), reads, keep)


# Law 18.

def test_many_exports():
    """Law 18: no byte of one export is ever seen in another, with frames
    that go from one to the other all the time."""
    names = ["n%d" % i for i in range(8)]
    with wt.Server({"wtcache-size": "1M", "wtcache-readahead": "256K"},
                   plugin=["file"], start=False) as server:
        folder = server.path("disks")
        os.mkdir(folder)
        for i, name in enumerate(names):
            with open(os.path.join(folder, name), "wb") as f:
                f.write(wt.pattern(0, 1 * M + i * 512, i + 1))
        server.plugin = ["file", "dir=" + folder]
        server.start()
        clients = [server.connect(name) for name in names]
        rng = random.Random(18)
        for _ in range(600):
            i = rng.randrange(8)
            offset = rng.randrange(0, M, 512)
            length = min(rng.randrange(512, 65 * K, 512), M - offset)
            data = clients[i].pread(length, offset)
            assert data == wt.pattern(offset, length, i + 1), (i, offset)
            if rng.randrange(8) == 0:
                put(clients[i], offset, 512, i + 1, rng.choice((0, wt.FUA)))
        for i, h in enumerate(clients):
            h.flush()
            with open(os.path.join(folder, names[i]), "rb") as f:
                assert f.read() == wt.pattern(0, 1 * M + i * 512, i + 1)


def test_former_life_of_a_frame():
    """Law 18: what is not written of a page is not what the frame held."""
    with cached({"exports": "a,b"}, size="1M", page_size="64K",
                fill="auto") as server:
        a, b = server.connect("a"), server.connect("b")
        for i in range(64):
            put(a, i * 64 * K, 64 * K, 1)
        a.flush()
        for i in range(64):
            put(b, i * 64 * K + 8192, 512, 2)
            b.pwrite(b"x", i * 64 * K + 30000)
        b.flush()
        wanted = bytearray(64 * K)
        for i in range(64):
            at = i * 64 * K
            wanted[8192:8704] = wt.pattern(at + 8192, 512, 2)
            wanted[30000:30001] = b"x"
            expect(b.pread(64 * K, at), wanted)
            expect(server.durable(at, 64 * K, "b"), wanted)
        assert seen(a, 0, 4 * M) == [1] * 8192


# Law 19.

def status(h, length, offset):
    """The extents as (length, flags), with equal neighbours as one."""
    found = []
    while length > 0:
        for part, flags in wt.block_status(h, length, offset):
            part = min(part, length)
            if found and found[-1][1] == flags:
                found[-1] = (found[-1][0] + part, flags)
            else:
                found.append((part, flags))
            offset += part
            length -= part
            if length == 0:
                break
    return found


def test_block_status_of_dirty_blocks():
    """Law 19: dirty blocks over a hole are data, at once and to all."""
    with cached() as server:
        a, b = server.connect(), server.connect()
        expect(status(a, M, 0), [(M, HOLE)])
        put(a, 64 * K, 4096, 1)
        put(a, 128 * K, 512, 1)
        wanted = [(64 * K, HOLE), (4096, DATA), (60 * K, HOLE), (512, DATA),
                  (M - 128 * K - 512, HOLE)]
        expect(status(a, M, 0), wanted)
        expect(status(b, M, 0), wanted)
        b.flush()
        # The disk's own unit is a page.
        wanted[3:] = [(4096, DATA), (M - 132 * K, HOLE)]
        expect(status(b, M, 0), wanted)
        # From the middle of a block, and ending in one.
        expect(status(b, 1000, 64 * K - 500), [(500, HOLE), (500, DATA)])


def test_block_status_of_blocks_in_flight():
    """Law 19: in writeback, pending and unstable blocks are data."""
    with cached(dirty_age="10ms") as server:
        h = server.connect()
        gate(server, "write")
        put(h, 0, 4096, 1)
        gated(server)
        expect(status(h, 8192, 0), [(4096, DATA), (4096, HOLE)])
        write = begin_put(h, 64 * K, 4096, 1, wt.FUA)
        gated(server, 2)
        expect(status(h, 8192, 64 * K), [(4096, DATA), (4096, HOLE)])
        open_gate(server)
        expect(write.wait(), 0)
        wait_ended(server, "write", 0, 4096)
        expect(status(h, 8192, 0), [(4096, DATA), (4096, HOLE)])


def test_block_status_while_it_changes():
    """Law 19: marks are read before the backend is asked."""
    with cached() as server:
        a, b = server.connect(), server.connect()
        put(a, 0, 4096, 1)
        gate(server, "extents", when="after")
        command = wt.start(b, "block_status", 8192, 0)
        gated(server)
        a.flush()
        open_gate(server)
        expect(command.wait(), 0)
        expect(command.extents[0], (4096, DATA))


def test_block_status_of_what_the_disk_forgets():
    """Law 19: an unstable block is data even if a flush that fails meanwhile
    makes the disk answer with a hole."""
    with cached({"forget": "yes"}, dirty_age="10ms") as server:
        a, b = server.connect(), server.connect()
        put(a, 0, 4096, 1)
        wait_ended(server, "write", 0, 4096)
        gate(server, "extents")
        command = wt.start(b, "block_status", 8192, 0)
        gated(server)
        fault(server, "write")
        fault(server, "flush", name="g", count=1)
        expect(wt.errno_of(a.flush), errno.EIO)
        open_gate(server)
        expect(command.wait(), 0)
        expect(command.extents[0], (4096, DATA))
        expect(seen(b, 0, 4096), [1] * 8)
        server.control("unfault all")


def test_block_status_during_a_zero_and_a_trim():
    """Law 19: the disk has a hole already, while reads see what is cached."""
    for op in "zero", "trim":
        with cached() as server:
            a, b = server.connect(), server.connect()
            put(a, 0, 8192, 1, wt.FUA)
            gate(server, op, when="after")
            clear = wt.start(a, op, 4096, 0)
            gated(server)
            expect(seen(b, 0, 8192), [1] * 16)
            expect(status(b, 8192, 0), [(8192, DATA)])
            open_gate(server)
            expect(clear.wait(), 0)
            expect(status(b, 8192, 0), [(4096, HOLE), (4096, DATA)])


def test_block_status_after_zero_and_trim():
    """Law 19: what was zeroed or trimmed is told as the backend has it."""
    with cached() as server:
        h = server.connect()
        put(h, 0, M, 1, wt.FUA)
        expect(status(h, M, 0), [(M, DATA)])
        put(h, 0, 64 * K, 2)
        h.trim(128 * K, 0)
        h.zero(64 * K, 512 * K)
        expect(status(h, M, 0)[0], (128 * K, HOLE))
        for length, flags in status(h, M, 0):
            assert flags in (DATA, HOLE)
        put(h, 4096, 4096, 3)
        expect(status(h, 12 * K, 0),
               [(4096, HOLE), (4096, DATA), (4096, HOLE)])
        fault(server, "extents", "EIO")
        expect(wt.errno_of(status, h, M, 0), errno.EIO)
        server.control("unfault all")


def test_block_status_never_hides_data():
    """Law 19: random writes and zeroes; whatever is told as zero reads as
    zeroes, for requests of any alignment."""
    for disk in {}, {"block_min": "4K"}, {"extents": "no"}:
        with cached(disk, size="2M", dirty_age="20ms") as server:
            h = server.connect()
            rng = random.Random(19)
            for version in range(1, 200):
                at = rng.randrange(2 * M)
                length = rng.randrange(1, 30000)
                if rng.randrange(3):
                    put(h, at, length, version,
                        rng.choice((0, 0, wt.FUA)))
                else:
                    rng.choice((h.zero, h.trim))(length, at)
                at = rng.randrange(2 * M)
                for length, flags in status(h, 100000, at):
                    if flags:
                        expect(h.pread(length, at), bytes(length))
                    at += length


# Law 20.

MODELS = ("serialize-connections", "serialize-all-requests",
          "serialize-requests")


def test_serial_thread_models():
    """Law 20: work is done in the request's own thread, by its own
    connection; ordinary writes go through by default."""
    for model in MODELS:
        with cached({"thread_model": model}, depth=8,
                    readahead="2M") as server:
            h = server.connect()
            put(h, 0, 64 * K, 1)
            expect(server.log().of("write")[0].offset, 0)
            put(h, 4096, 4096, 2, wt.FUA)
            expect(durable(server, 4096, 4096), [2] * 8)
            h.pwrite(b"x" * 700, 100)
            h.zero(10000, 20000)
            h.trim(8192, 40 * K)
            h.flush()
            wanted = bytearray(wt.pattern(0, 64 * K, 1))
            wanted[4096:8192] = wt.pattern(4096, 4096, 2)
            wanted[100:800] = b"x" * 700
            wanted[20000:30000] = bytes(10000)
            wanted[40 * K:48 * K] = bytes(8192)
            expect(h.pread(64 * K, 0), wanted, model)
            expect(server.durable(0, 64 * K), wanted, model)
            for i in range(32):
                h.pread(64 * K, M + i * 64 * K)
            expect(overlapping_in_time(server.log().requests), [], model)
            line = [line for line in server.stderr().splitlines()
                    if "without effect" in line]
            expect(len(line), 1, server.stderr())
            assert "wtcache-depth" in line[0]
            assert "wtcache-readahead" in line[0]


def test_serial_requests_of_many_connections():
    """Law 20: each request calls the backend by its own connection only."""
    for model in MODELS[1:]:
        with cached({"thread_model": model}, mode="writeback",
                    dirty_max="256K") as server:
            clients = [server.connect() for _ in range(4)]
            for version in range(1, 20):
                commands = [begin_put(h, (i + version % 3) * 64 * K, 32 * K,
                                      version, wt.FUA * (version % 2))
                            for i, h in enumerate(clients)]
                wt.wait_all(commands)
                expect({c.errno for c in commands}, {0})
            clients[0].flush()
            data = clients[1].pread(512 * K, 0)
            assert data == server.durable(0, 512 * K)
            log = server.log()
            if model == "serialize-all-requests":
                expect(overlapping_in_time(log.requests), [])
            for connection in {r.connection for r in log}:
                mine = [r for r in log if r.connection == connection]
                expect(overlapping_in_time(mine), [])


def test_serial_writeback():
    """Law 20: with the mode given ordinary writes are held back, age acts
    at the next request, and the last close drains."""
    with cached({"thread_model": "serialize-all-requests"},
                mode="writeback", dirty_age="50ms") as server:
        h = server.connect()
        put(h, 0, 4096, 1)
        assert not server.log().of("write")

        def aged():
            put(h, M, 512, 2)
            return ended(server, "write", 0, 4096)
        wt.wait_until(aged, "a request finds dirty data that is old")
        put(h, 2 * M, 4096, 1)
        server.disconnect(h)
        wait_closed(server)
        expect(durable(server, 0, 4096), [1] * 8)
        expect(durable(server, 2 * M, 4096), [1] * 8)


def test_helpers_borrow_live_connections():
    """Law 20: with a parallel model every backend request is made by a
    connection that is open then, also when connections come and go."""
    with cached(dirty_age="10ms", readahead="1M", dirty_max="512K") as server:
        stay = server.connect()
        for i in range(20):
            h = server.connect()
            put(h, i * 64 * K, 64 * K, 1)
            h.pread(256 * K, 8 * M + i * 256 * K)
            if i % 2:
                server.disconnect(h)
            else:
                server.drop(h)
        stay.flush()
        assert durable(server, 0, 20 * 64 * K) == [1] * (20 * 128)


def test_no_helper_writes_by_a_connection_that_never_asked():
    """Law 20: a connection is lent from its first data request on."""
    with cached(dirty_age="10ms") as server:
        first = server.connect()
        h = server.connect()
        h.pread(512, M)
        silent = server.connect()
        put(h, 0, 4096, 1)
        wait_ended(server, "write", 0, 4096)
        log = server.log()
        expect(len({r.connection for r in log}), 1)
        for each in first, silent:
            expect(seen(each, 0, 4096), [1] * 8)


# Read-only.

def check_read_only(server):
    a, b = server.connect(), server.connect()
    assert a.is_read_only()
    expect(seen(a, 0, 8192), [1] * 8 + [0] * 8)
    expect(seen(b, 0, 8192), [1] * 8 + [0] * 8)
    expect(count(server, "read"), 1)
    expect(put_error(a, 0, 512, 2), errno.EPERM)
    status(a, M, 0)
    a.cache(4096, M)
    seen(b, M, 4096)
    expect(count(server, "read"), 2)
    expect(server.log().of("write", "flush", "zero", "trim"), [])


def test_read_only():
    """A read-only server or backend gives a read-only export with a read
    cache."""
    with cached(fill="8K") as server:
        put(server.connect(), 0, 4096, 1, wt.FUA)
        server.stop()
        server.args = ["-r"]
        server.start()
        check_read_only(server)
        server.stop()
        server.args = []
        server.disk_options["readonly"] = "yes"
        server.start()
        check_read_only(server)


def test_what_is_advertised():
    """Partial blocks are our work; FUA and flush always."""
    for disk in {}, {"fua": "none", "flush": "no", "block_min": "1K",
                     "block_preferred": "64K", "zero": "no", "trim": "no",
                     "fast_zero": "no"}:
        with cached(disk) as server:
            h = server.connect()
            assert h.can_fua() and h.can_flush() and h.can_cache()
            expect(bool(h.can_trim()), not disk)
            expect(bool(h.can_fast_zero()), not disk)
            expect(h.get_block_size(0), 1)
            expect(h.get_block_size(1), 64 * K if disk else 4096)
            assert h.get_block_size(2) >= 32 * M


def test_cache_command():
    """CACHE reads ahead; an error of it fails no request."""
    with cached() as server:
        put(server.connect(), 0, 4096, 1, wt.FUA)
        server.restart()
        h = server.connect()
        h.cache(1 * M, 0)
        reads = len(ranges(server, "read"))
        assert reads > 0
        expect(seen(h, 0, 4096), [1] * 8)
        seen(h, 512 * K, 4096)
        expect(len(ranges(server, "read")), reads)
        fault(server, "read")
        expect(wt.errno_of(h.cache, M, 4 * M), 0)
        server.control("unfault all")
        expect(seen(h, 4 * M, 4096), [0] * 8)


wt.main()
