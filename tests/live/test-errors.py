#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""Errors: whose they are, which one is told, and that every request ends
(laws 11 to 13)."""

import errno
import random
import sys

sys.dont_write_bytecode = True

from live import (  # noqa: E402
    K, M, begin_put, cached, count, durable, expect, fault, gate, gated,
    open_gate, put, put_error, seen, wt)


# Law 11.

def test_after_an_error_nothing_more_is_begun():
    """Law 11: pieces not begun are undone, those before it are durable."""
    with cached({"thread_model": "serialize-requests"},
                mode="writeback") as server:
        h = server.connect()
        put(h, 0, 8 * M, 1, wt.FUA)
        before = len(server.log().of("write"))
        fault(server, "write", "ENOSPC", first=2 * M, last=2 * M + 511)
        expect(put_error(h, 0, 8 * M, 2, wt.FUA), errno.ENOSPC)
        later = server.log().of("write")[before:]
        assert max(r.offset for r in later) <= 2 * M, later
        found = seen(h, 0, 8 * M)
        expect(found[:2 * M // 512], [2] * (2 * M // 512))
        expect(set(found[3 * M // 512:]), {1})
        server.control("unfault all")
        h.flush()
        assert durable(server, 0, 8 * M) == found


def test_pieces_beside_one_that_fails():
    """Law 11: none begins after the error, and each has one value after it."""
    with cached() as server:
        h = server.connect()
        put(h, 0, 48 * M, 1, wt.FUA)
        before = len(server.log().of("write"))
        fault(server, "write", "ENOSPC", first=2 * M, last=2 * M + 511)
        expect(put_error(h, 0, 48 * M, 2, wt.FUA), errno.ENOSPC)
        later = server.log().of("write")[before:]
        failed, = (r for r in later if r.errno)
        assert all(r.end is not None for r in later), later
        begun = [r for r in later if r.start > failed.end]
        assert sum(r.length for r in begun) <= 46 * M - 31 * M, begun
        found = seen(h, 0, 48 * M)
        server.control("unfault all")
        h.flush()
        assert durable(server, 0, 48 * M) == found


def test_first_error_wins():
    """Law 11: of several batches that fail, the first one's error is told."""
    with cached({"block_max": "64K"}) as server:
        h = server.connect()
        fault(server, "write", "ENOSPC", "a", first=128 * K, last=128 * K)
        fault(server, "write", "EPERM", "b", first=256 * K, last=256 * K)
        expect(put_error(h, 0, M, 1, wt.FUA), errno.ENOSPC)
        expect(put_error(h, 256 * K, 4096, 1, wt.FUA), errno.EPERM)


def test_errors_of_reads_and_writes_as_nbd_has_them():
    """Law 11: the errno fits what the backend said."""
    wanted = {
        "EPERM": errno.EPERM, "EIO": errno.EIO, "ENOMEM": errno.ENOMEM,
        "EINVAL": errno.EINVAL, "ENOSPC": errno.ENOSPC,
        "ESHUTDOWN": errno.ESHUTDOWN, "EROFS": errno.EPERM,
        "EDQUOT": errno.ENOSPC, "EFBIG": errno.ENOSPC,
        "ETIMEDOUT": errno.EIO, "ECONNRESET": errno.EIO,
        "EAGAIN": errno.EIO, "EBUSY": errno.EIO,
    }
    with cached() as server:
        h = server.connect()
        for i, (name, number) in enumerate(wanted.items(), 1):
            at = i * M
            fault(server, "any", name)
            calls = [(h.pread, 512, at), (h.zero, 4096, at),
                     (h.trim, 4096, at), (h.zero, 4096, at, wt.FUA),
                     (put, h, at, 4096, 1, wt.FUA), (put, h, at + 1, 5, 1)]
            for call, *args in calls:
                expect(wt.errno_of(call, *args), number, name)
            server.control("unfault all")
            expect(seen(h, at, 4096), [0] * 8)


def test_error_of_a_flush():
    """Law 11: that of the backend's flush, and that of write-back."""
    for op in "flush", "write":
        with cached() as server:
            h = server.connect()
            put(h, 0, 4096, 1)
            fault(server, op, "ENOSPC", count=1)
            expect(wt.errno_of(h.flush), errno.ENOSPC, op)
            expect(wt.errno_of(h.flush), 0)
            expect(durable(server, 0, 4096), [1] * 8)


def test_names_in_the_log():
    """A name forges no line and no escape sequence."""
    with cached() as server:
        h = server.connect("a\nnbdkit: forged\x1b[2J")
        fault(server, "read")
        expect(wt.errno_of(h.pread, 512, 0), errno.EIO)
        text = server.stderr()
        assert "\x1b" not in text
        assert not [line for line in text.splitlines()
                    if line.startswith("nbdkit: forged")]
        assert 'export "a#' in text


def test_errors_reach_their_client_only():
    """Law 11: others that are under way at the same time succeed."""
    with cached() as server:
        clients = [server.connect() for _ in range(4)]
        gate(server, "write")
        writes = [begin_put(h, i * M, 4096, 1, wt.FUA)
                  for i, h in enumerate(clients)]
        gated(server)
        fault(server, "write", "ENOSPC", first=2 * M, last=2 * M + 4095)
        open_gate(server)
        wt.wait_all(writes)
        expect([w.errno for w in writes], [0, 0, errno.ENOSPC, 0])
        expect([durable(server, i * M, 512)[0] for i in range(4)],
               [1, 1, 0, 1])
        for h in clients:
            expect([seen(h, i * M, 512)[0] for i in range(4)], [1, 1, 0, 1])


def test_failed_read_leaves_nothing():
    """Law 11: a read of many pages that fails in the middle can be done
    again, and what it had read is right."""
    with cached(size="4M", fill="64K") as server:
        put(server.connect(), 0, 4 * M, 1, wt.FUA)
        server.restart()
        h = server.connect()
        fault(server, "read", "EIO", first=M, last=M, count=1)
        expect(wt.errno_of(h.pread, 4 * M, 0), errno.EIO)
        assert seen(h, 0, 4 * M) == [1] * 8192


def test_bad_requests_change_nothing():
    """Requests outside the export and malformed ones are refused."""
    with cached({"size": "1M"}) as server:
        h = server.connect()
        put(h, M - 4096, 4096, 1)
        calls = [(h.pread, 4096, M - 2048), (h.pread, 1, M),
                 (h.zero, 4096, M - 2048), (h.trim, 4096, M - 2048),
                 (h.cache, 4096, M - 2048),
                 (h.pwrite, bytes(4096), M - 2048), (h.pwrite, b"x", M),
                 (h.pread, 512, 1 << 62)]
        for call, *args in calls:
            found = wt.errno_of(call, *args)
            assert found in (errno.EINVAL, errno.ENOSPC), (call, found)
        expect(seen(h, M - 4096, 4096), [1] * 8)
        h.flush()
        expect(durable(server, M - 4096, 4096), [1] * 8)


# Law 12.

def batch_of_two(server, a, b):
    """Two adjacent FUA writes of two clients behind one that stands at a
    gate; (the two commands, what reached the disk of them)."""
    before = len(server.log())
    gate(server, "write", first=0, last=511)
    first = begin_put(a, 0, 512, 1, wt.FUA)
    gated(server)
    writes = [begin_put(a, M, 4096, 2, wt.FUA),
              begin_put(b, M + 4096, 4096, 2, wt.FUA)]
    for h in a, b:
        seen(h, 2 * M, 512)
    open_gate(server)
    expect(first.wait(), 0)
    wt.wait_all(writes)
    return writes, [r for r in server.log().requests[before:]
                    if r.op == "write" and r.offset >= M]


def fail_second_of_two(server, a, b):
    """Merges two writes, of which the place of the second fails; their errors,
    and what is at both places then."""
    seen(a, 2 * M, 512)
    # Whether they meet in one batch depends on when they come.
    for _ in range(50):
        put(a, M, 8192, 1, wt.FUA)
        fault(server, "write", "ENOSPC", first=M + 4096, last=M + 8191)
        writes, batches = batch_of_two(server, a, b)
        server.control("unfault all")
        found = seen(b, M, 8192)
        a.flush()
        expect(durable(server, M, 8192), found)
        if [r for r in batches if r.length == 8192]:
            return [w.errno for w in writes], found
    raise AssertionError("adjacent writes were never merged")


def test_error_of_a_shared_batch():
    """Law 12: it goes to each request of which the batch carries blocks."""
    with cached(depth=1) as server:
        h = server.connect()
        errors, found = fail_second_of_two(server, h, h)
        expect(errors, [errno.ENOSPC, errno.ENOSPC])
        expect(found, [1] * 16)


def test_error_of_a_batch_of_two_connections():
    """Law 22: if the requests are of several connections, each of them is
    done again alone before it is told an error."""
    with cached(depth=1) as server:
        errors, found = fail_second_of_two(server, server.connect(),
                                           server.connect())
        expect(errors, [0, errno.ENOSPC])
        expect(found, [2] * 8 + [1] * 8)


def test_error_of_a_shared_flush():
    """Law 12: each FUA write that a failed flush was to cover is either
    told of it, or durable."""
    with cached({"fua": "emulate", "forget": "yes"}) as server:
        clients = [server.connect() for _ in range(4)]
        gate(server, "flush")
        writes = [begin_put(h, i * M, 4096, 1, wt.FUA)
                  for i, h in enumerate(clients)]
        gated(server)
        fault(server, "flush", count=1)
        open_gate(server)
        wt.wait_all(writes)
        for i, write in enumerate(writes):
            found = seen(clients[0], i * M, 4096)
            if write.errno == 0:
                expect(durable(server, i * M, 4096), [1] * 8)
                expect(found, [1] * 8)
        clients[1].flush()
        for i in range(4):
            expect(durable(server, i * M, 4096), seen(clients[2], i * M, 4096))


# Law 13.

def send_random(rng, clients, version):
    h = rng.choice(clients)
    offset = rng.randrange(4 * M // 512) * 512
    length = rng.randrange(1, 64) * 512
    flags = rng.choice((0, 0, wt.FUA))
    kind = rng.choice(("pread", "pwrite", "pwrite", "zero", "trim", "flush"))
    if kind == "pread":
        return wt.start(h, kind, length, offset)
    if kind == "pwrite":
        return begin_put(h, offset, length, version, flags)
    if kind == "flush":
        return wt.start(h, kind)
    return wt.start(h, kind, length, offset, flags)


def test_every_request_ends_once():
    """Law 13: under faults of all kinds each request of a client and each of
    the backend ends, and after that cache and backend agree."""
    for fua in "native", "emulate":
        rng = random.Random(fua)
        with cached({"fua": fua, "forget": "yes"}, size="2M",
                    dirty_age="10ms") as server:
            clients = [server.connect() for _ in range(3)]
            commands = []
            for version in range(1, 400):
                if version % 20 == 0:
                    op = rng.choice(("read", "write", "zero", "trim",
                                     "flush", "any"))
                    error = rng.choice(("EIO", "ENOSPC"))
                    fault(server, op, error, count=rng.randrange(1, 4),
                          skip=rng.randrange(4))
                commands.append(send_random(rng, clients, version))
                if len(commands) % 40 == 0:
                    wt.wait_all(commands)
            wt.wait_all(commands)
            assert {c.errno for c in commands} <= {0, errno.EIO,
                                                   errno.ENOSPC}
            server.control("unfault all")
            clients[0].flush()
            data = clients[1].pread(5 * M, 0)
            assert None not in wt.versions(data, 0)
            assert data == server.durable(0, 5 * M)
            # A flush for the amount may have begun behind that of the client.
            server.stop()
            log = server.log()
            assert all(r.end is not None for r in log)
            expect([r for r in log if r.violation], [])


def test_connections_cut_off_in_the_middle():
    """Law 13: what is in flight of a client that is gone ends too."""
    with cached() as server:
        stay = server.connect()
        # One request each: nbdkit itself does not stand two that find the
        # same connection gone.
        leaving = [server.connect() for _ in range(3)]
        gate(server, "any")
        begin_put(leaving[0], 0, 4096, 1, wt.FUA)
        wt.start(leaving[1], "pread", 4096, M)
        wt.start(leaving[2], "zero", 4096, 2 * M)
        gated(server, 3)
        for h in leaving:
            server.drop(h)
        open_gate(server)
        wt.wait_until(lambda: server.stats()["connected"] == 1,
                      "the connections are closed")
        expect(seen(stay, M, 4096), [0] * 8)
        stay.flush()
        for at in 0, 2 * M:
            expect(seen(stay, at, 4096), durable(server, at, 4096))


wt.main()
