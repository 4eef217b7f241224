#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""Regressions that other caches have shown: what each of these tests does
was seen to fail with a cache that a user would otherwise pick."""

import errno
import os
import sys

sys.dont_write_bytecode = True

from live import (  # noqa: E402
    K, M, cached, durable, expect, fault, gate, gated, open_gate,
    put, put_error, seen, wait_closed, wt)


def test_small_cache_keeps_flushed_data():
    """16 MiB written through a cache of 1 MiB and flushed are all there."""
    with cached(size="1M", fill="auto") as server:
        h = server.connect()
        for i in range(256):
            put(h, i * 64 * K, 64 * K, 1)
        h.flush()
        assert server.durable(0, 16 * M) == wt.pattern(0, 16 * M, 1)
        for i in range(256):
            assert seen(h, i * 64 * K, 64 * K) == [1] * 128


def test_block_status_of_a_dirty_block_over_a_hole():
    """A dirty block is data: a sparse-aware copy must not skip it."""
    with cached() as server:
        h = server.connect()
        expect(wt.block_status(h, M, 0)[0][1], 3)
        put(h, 128 * K, 64 * K, 1)
        at = 0
        for length, flags in wt.block_status(h, M, 0):
            for offset in range(at, at + length, 4096):
                if 128 * K <= offset < 192 * K:
                    expect(flags, 0, offset)
            at += length
        expect(server.log().of("write"), [])


def test_failed_writethrough_is_not_visible():
    """After EIO no client reads the refused bytes, and the backend agrees."""
    with cached(mode="writethrough") as server:
        a, b = server.connect(), server.connect()
        for flags in 0, wt.FUA:
            put(a, 0, 64 * K, 1)
            a.flush()
            fault(server, "write", count=1)
            expect(put_error(a, 4096, 4096, 2, flags), errno.EIO)
            for h in a, b:
                expect(seen(h, 0, 64 * K), [1] * 128)
            a.flush()
            expect(durable(server, 0, 64 * K), [1] * 128)
            expect(seen(b, 0, 64 * K), [1] * 128)
        # Over what no flush has covered yet, acknowledged bytes are gone:
        # whatever is seen then is what the next flush makes durable.
        put(a, 4096, 4096, 3)
        fault(server, "write", count=1)
        expect(put_error(a, 4096, 4096, 4), errno.EIO)
        found = seen(b, 0, 64 * K)
        assert set(found[8:16]) <= {3, 4}
        a.flush()
        expect(durable(server, 0, 64 * K), found)
        expect(seen(a, 0, 64 * K), found)


def test_exports_have_caches_of_their_own():
    """Reading one file of a folder does not return the bytes of another."""
    with wt.Server({"wtcache-size": "8M"}, plugin=["file"],
                   start=False) as server:
        folder = server.path("disks")
        os.mkdir(folder)
        for version in 1, 2:
            path = os.path.join(folder, "f%d" % version)
            with open(path, "wb") as f:
                f.write(wt.pattern(0, M, version))
        server.plugin.append("dir=" + folder)
        server.start()
        for version in 1, 2, 1, 2:
            h = server.connect("f%d" % version)
            assert seen(h, 0, M) == [version] * 2048


def test_misses_do_not_wait_for_each_other():
    """Sixteen misses of one connection are at the backend together."""
    with cached() as server:
        h = server.connect()
        gate(server, "read")
        reads = [wt.start(h, "pread", 4096, i * 64 * K) for i in range(16)]
        gated(server, 16)
        open_gate(server)
        wt.wait_all(reads)
        expect({r.errno for r in reads}, {0})


def test_small_fua_write_stays_small():
    """4 KiB with FUA are 4 KiB at the backend, without a read; and 1 MiB is
    not sixteen writes one after another."""
    with cached(fill="auto") as server:
        h = server.connect()
        for offset in 0, 68 * K, 5 * M + 12 * K:
            put(h, offset, 4096, 1, wt.FUA)
        log = server.log()
        expect([(r.offset, r.length) for r in log.of("write")],
               [(0, 4096), (68 * K, 4096), (5 * M + 12 * K, 4096)])
        expect(log.of("read"), [])
        put(h, 8 * M, M, 1, wt.FUA)
        writes = [r for r in server.log().of("write") if r.offset >= 8 * M]
        expect(sum(r.length for r in writes), M)
        # A smaller cache may take a request in pieces of its own size.
        assert len(writes) <= 4, writes


def test_readahead_above_whose_prefetch_fails():
    """The readahead filter prefetches with nowhere to put an error."""
    for above in ["readahead"], []:
        with wt.Server({"wtcache-size": "8M"}, {},
                       filters_above=above) as server:
            put(server.connect(), 0, 8 * M, 1, wt.FUA)
            server.restart()
            h = server.connect()
            fault(server, "read", first=M, last=2 * M)
            for i in range(32):
                expect(seen(h, i * 32 * K, 32 * K), [1] * 64)
            server.control("hits f 1")
            expect(wt.errno_of(h.pread, 64 * K, M), errno.EIO)
            server.control("unfault all")
            assert seen(h, 0, 8 * M) == [1] * 16384, above


def test_dirty_data_is_not_lost_at_the_last_close():
    """Data written without a flush is there after the last client has left and
    the server has ended."""
    with cached() as server:
        h = server.connect()
        put(h, 0, 64 * K, 1)
        put(h, M + 100, 1000, 2)
        server.disconnect(h)
        wait_closed(server)
        expect(durable(server, 0, 64 * K), [1] * 128)
        server.stop()
        expect(server.durable(M + 100, 1000), wt.pattern(M + 100, 1000, 2))


def test_dirty_data_reaches_a_file():
    """The same over a plain file, of which nothing is known but its bytes."""
    with wt.Server({"wtcache-size": "8M"}, plugin=["file"],
                   start=False) as server:
        path = server.path("image")
        with open(path, "wb") as f:
            f.truncate(M)
        server.plugin.append(path)
        server.start()
        put(server.connect(), 0, 64 * K, 1)
        server.stop()
        with open(path, "rb") as f:
            expect(wt.versions(f.read(128 * K), 0), [1] * 128 + [0] * 128)


wt.main()
