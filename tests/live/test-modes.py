#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""Modes, ages and bounds of what is held back."""

import sys

sys.dont_write_bytecode = True

from live import (  # noqa: E402
    K, M, begin_put, cached, count, durable, ended, expect,
    fault, gate, gated, most_in_flight, open_gate, ping, put, seen,
    wait_ended, wt)


def test_writeback():
    """An ordinary write stays dirty until a flush."""
    with cached(mode="writeback") as server:
        h = server.connect()
        put(h, 0, 64 * K, 1)
        expect(seen(h, 0, 64 * K), [1] * 128)
        expect(list(server.log()), [])
        h.flush()
        expect(durable(server, 0, 64 * K), [1] * 128)


def test_adjacent_dirty_blocks_go_together():
    """Small sequential writes become large ones at the backend."""
    with cached(mode="writeback", size="64M") as server:
        h = server.connect()
        for i in range(512):
            put(h, i * 4096, 4096, 1)
        h.flush()
        writes = server.log().of("write")
        expect(sum(r.length for r in writes), 2 * M)
        assert len(writes) <= 8, len(writes)
        assert durable(server, 0, 2 * M) == [1] * 4096


def test_large_writes_of_a_small_cache():
    """Write-back sends a 256th of the cache at once; a write that goes through
    is sent whole."""
    with cached(mode="writeback", size="16M", dirty_age=1000) as server:
        h = server.connect()
        put(h, 0, 128 * K, 1)
        h.flush()
        expect(sorted((r.offset, r.length) for r in server.log().of("write")),
               [(0, 64 * K), (64 * K, 64 * K)])
        put(h, M, 128 * K, 2, wt.FUA)
        expect([(r.offset, r.length) for r in server.log().of("write")][2:],
               [(M, 128 * K)])


def test_writethrough():
    """An ordinary write is durable when it is answered, and stays cached."""
    with cached(mode="writethrough") as server:
        h = server.connect()
        put(h, 0, 64 * K, 1)
        expect(sum(r.length for r in server.log().of("write")), 64 * K)
        expect(durable(server, 0, 64 * K), [1] * 128)
        expect(seen(h, 0, 64 * K), [1] * 128)
        h.pwrite(b"x" * 100, 5000)
        h.zero(5000, 20000)
        reads = count(server, "read")
        expect(h.pread(100, 5000), b"x" * 100)
        expect(count(server, "read"), reads)
        expect(server.durable(5000, 100), b"x" * 100)
        expect(server.durable(20000, 5000), bytes(5000))


def test_writethrough_reaches_the_backend_before_the_reply():
    """The write is not answered before it has ended at the backend."""
    for mode in "writethrough", "writearound":
        with cached(mode=mode) as server:
            a, b = server.connect(), server.connect()
            gate(server, "write")
            write = wt.start(a, "pwrite", wt.pattern(0, 4096, 1), 0)
            gated(server)
            expect(seen(b, M, 4096), [0] * 8)
            assert not write.done()
            open_gate(server)
            expect(write.wait(), 0)
            expect(ended(server, "write", 0, 4096)[0].length, 4096)


def test_writearound():
    """It goes through, and leaves the cache once it is stable."""
    with cached(mode="writearound") as server:
        h = server.connect()
        put(h, 0, 64 * K, 1)
        put(h, 64 * K, 64 * K, 2, wt.FUA)
        expect(seen(h, 0, 128 * K), [1] * 128 + [2] * 128)
        h.flush()
        reads = count(server, "read", 0, 128 * K)
        expect(seen(h, 0, 128 * K), [1] * 128 + [2] * 128)
        assert count(server, "read", 0, 64 * K) > 0, reads
        expect(durable(server, 0, 128 * K), [1] * 128 + [2] * 128)


def test_writearound_survives_a_failed_flush():
    """Acknowledged bytes are durable, even if a flush fails."""
    with cached({"forget": "yes"}, mode="writearound") as server:
        h = server.connect()
        put(h, 0, 64 * K, 1)
        expect(durable(server, 0, 64 * K), [1] * 128)
        fault(server, "flush", count=1)
        assert wt.errno_of(h.flush) != 0
        expect(seen(h, 0, 64 * K), [1] * 128)
        h.flush()
        expect(durable(server, 0, 64 * K), [1] * 128)
        expect(seen(h, 0, 64 * K), [1] * 128)


def test_fua_in_every_mode():
    """FUA goes through in every mode."""
    for mode in "writeback", "writethrough", "writearound":
        with cached(mode=mode) as server:
            h = server.connect()
            put(h, 4096, 4096, 1, wt.FUA)
            expect(durable(server, 4096, 4096), [1] * 8, mode)
            h.pwrite(b"x" * 700, 100, wt.FUA)
            expect(server.durable(100, 700), b"x" * 700, mode)
            expect(h.pread(700, 100), b"x" * 700, mode)


def test_dirty_age():
    """Dirty blocks are written back at their age, without any request."""
    with cached(dirty_age="50ms") as server:
        h = server.connect()
        put(h, 0, 4096, 1)
        wait_ended(server, "write", 0, 4096)
        put(h, M, 4096, 2)
        wait_ended(server, "write", M, 4096)
        expect(server.log().of("write")[0].length, 4096)
        expect(seen(h, 0, 4096), [1] * 8)


def test_dirty_age_after_an_error():
    """Writes that the backend refused are retried."""
    with cached(dirty_age="20ms") as server:
        h = server.connect()
        fault(server, "write", count=2)
        put(h, 0, 4096, 1)
        server.control("hits f 2")
        wait_ended(server, "write", 0, 4096)
        h.flush()
        expect(durable(server, 0, 4096), [1] * 8)


def test_what_a_flush_left_is_tried_again():
    """A little that the backend refused does not wait for its age."""
    with cached(dirty_age="3600") as server:
        h = server.connect()
        fault(server, "write", count=2)
        put(h, 0, 4096, 1)
        assert wt.errno_of(h.flush) != 0
        server.control("hits f 2")
        wait_ended(server, "write", 0, 4096)
        h.flush()
        expect(durable(server, 0, 4096), [1] * 8)


def test_dirty_max():
    """The bound as a size and as a part of wtcache-size."""
    for bound in "512K", "25%":
        with cached(size="2M", dirty_max=bound) as server:
            h = server.connect()
            gate(server, "write")
            for i in range(128):
                put(h, i * 8192, 4096, 1)
            late = begin_put(h, 4 * M, 4096, 1)
            ping(h, 0)
            assert not late.done()
            open_gate(server)
            expect(late.wait(), 0)


def test_depth():
    """No more batches than wtcache-depth are in flight at the backend."""
    # So long that a busy machine does not make a batch seem to hang.
    with cached({"write_latency": "100ms"}, depth=2) as server:
        clients = [server.connect() for _ in range(2)]
        put(clients[0], 0, 4096, 1, wt.FUA)  # tells how long one takes
        assert most_in_flight(server, clients) <= 2


def test_fill():
    """The least that a miss asks of the backend."""
    for fill, length in ("512", 512), ("4K", 4096), ("64K", 64 * K), (
            "auto", 16 * K):
        with cached({"block_min": 512, "block_preferred": "16K"},
                    fill=fill) as server:
            server.connect().pread(512, M + 4096)
            read, = server.log().of("read")
            expect(read.length, length, fill)
            expect(read.offset % length, 0)


def test_readahead():
    """Sequential reads are read ahead, and not with off; never more is read
    than there is."""
    for readahead in "1M", "off":
        with cached({"size": "4M"}, readahead=readahead) as server:
            put(server.connect(), 0, 4 * M, 1, wt.FUA)
            server.restart()
            h = server.connect()
            for i in range(16):
                expect(seen(h, i * 16 * K, 16 * K), [1] * 32)
            if readahead == "off":
                assert all(r.offset < 256 * K for r in server.log())
            else:
                wt.wait_until(
                    lambda: any(r.offset >= 256 * K
                                for r in server.log().of("read")),
                    "something is read ahead")
            for i in range(16, 256):
                expect(seen(h, i * 16 * K, 16 * K), [1] * 32)
            expect(sum(r.length for r in server.log().of("read")), 4 * M)


wt.main()
