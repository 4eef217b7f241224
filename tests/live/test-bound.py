#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""The bound on what is not durable (law 6)."""

import errno
import sys

sys.dont_write_bytecode = True

from live import (  # noqa: E402
    K, M, begin_put, cached, count, durable, ended, expect, fault, gate,
    gated, open_gate, ping, put, put_error, ranges, seen, wt)


def test_no_more_is_dirty_than_the_bound():
    """Law 6: ordinary writes are answered at once up to the bound; more wait
    for their own blocks."""
    with cached(dirty_max="256K") as server:
        h = server.connect()
        gate(server, "write")
        writes = [begin_put(h, i * 8192, 4096, 1) for i in range(56)]
        wt.wait_all(writes)
        # Of those that come at once one may be refused the last of the room.
        for i in range(56, 64):
            put(h, i * 8192, 4096, 1)
        writes = [begin_put(h, i * 8192, 4096, 1) for i in range(64, 72)]
        ping(h, 0)
        assert not any(w.done() for w in writes)
        open_gate(server)
        wt.wait_all(writes)
        expect([w.errno for w in writes], [0] * 8)


def test_at_the_bound_a_write_is_durable():
    """Law 6: it waits for its own blocks only, and is durable when it is
    answered; nothing else is held up."""
    with cached(dirty_max="256K") as server:
        a, b = server.connect(), server.connect()
        gate(server, "write", first=0, last=M - 1)
        for i in range(64):
            put(a, i * 8192, 4096, 1)
        gated(server)
        put(b, 2 * M, 4096, 2)
        expect(durable(server, 2 * M, 4096), [2] * 8)
        put(b, 3 * M, 4096, 2, wt.FUA)
        expect(seen(b, 0, 4096), [1] * 8)
        expect(seen(b, 4 * M, 4096), [0] * 8)
        open_gate(server)
        a.flush()


def test_refusing_backend_degrades():
    """Law 6: while the backend refuses, each ordinary write is durable or
    gets its own error; no other request gets that."""
    with cached() as server:
        h = server.connect()
        put(h, 0, 4096, 1)
        fault(server, "write", "ENOSPC", first=0, last=8191)
        expect(wt.errno_of(h.flush), errno.ENOSPC)
        put(h, M, 4096, 2)
        expect(durable(server, M, 4096), [2] * 8)
        expect(put_error(h, 4096, 4096, 2), errno.ENOSPC)
        expect(seen(h, 4096, 4096), [0] * 8)
        expect(seen(h, 0, 4096), [1] * 8)
        server.control("unfault all")
        h.flush()
        expect(durable(server, 0, 8192), [1] * 8 + [0] * 8)
        # It is held back again once the backend takes it.
        writes = count(server, "write")
        put(h, 2 * M, 4096, 3)
        expect(count(server, "write"), writes)


def test_refusing_export_beside_a_healthy_one():
    """Law 6: the bound is divided, so one that refuses hurts no other."""
    with cached({"exports": "a,b"}, dirty_max="512K", size="4M",
                drain="200ms") as server:
        a, b = server.connect("a"), server.connect("b")
        fault(server, "write", export="a")
        refused = [put_error(a, i * 4096, 4096, 1) for i in range(200)]
        assert errno.EIO in refused
        assert refused[0] == 0
        assert refused.count(0) * 4096 <= 512 * K
        for i in range(16):
            put(b, i * 4096, 4096, 1)
        expect([r for r in server.log().of("write") if r.export == "b"], [])
        b.flush()
        expect(durable(server, 0, 64 * K, "b"), [1] * 128)
        expect(seen(a, 0, 4096), [1] * 8)
        server.control("unfault all")
        a.flush()
        kept = [i for i, error in enumerate(refused) if error == 0]
        for i in kept:
            expect(durable(server, i * 4096, 4096, "a"), [1] * 8)


def test_bound_is_divided():
    """Law 6: two exports that hold data have half of the bound each."""
    with cached({"exports": "a,b"}, dirty_max="512K") as server:
        a, b = server.connect("a"), server.connect("b")
        gate(server, "write")
        for h in a, b:
            for i in range(64):
                put(h, i * 8192, 4096, 1)
            more = [begin_put(h, (64 + i) * 8192, 4096, 1) for i in range(4)]
            ping(h, 0)
            assert not any(w.done() for w in more)
        open_gate(server)


def test_background_work_begins_before_the_bound():
    """Law 6: no request asks for it, and none waits for it."""
    with cached(dirty_max="1M") as server:
        h = server.connect()
        for i in range(48):
            put(h, i * 16 * K, 16 * K, 1)
        wt.wait_until(
            lambda: sum(r.length for r in ended(server, "write")) >= 256 * K,
            "as much is written back as it takes")
        expect([r for r in server.log().of("write") if r.fua], [])


def test_writes_beyond_the_bound_are_written_back():
    """Law 6: the backend gets dirty data long before a flush."""
    with cached(dirty_max="1M") as server:
        h = server.connect()
        for i in range(256):
            put(h, i * 16 * K, 16 * K, 1)
        assert sum(r.length for r in server.log().of("write")) >= 3 * M
        expect(seen(h, 0, 4 * M), [1] * 8192)
        h.flush()
        expect(durable(server, 0, 4 * M), [1] * 8192)
        assert ("write", 0, 0) not in ranges(server, "write")


wt.main()
