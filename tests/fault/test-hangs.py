#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""A backend that hangs: nothing that the cache can answer waits for it, memory
stays bounded, writes beyond the bound wait for their own blocks, and the
server ends in order when the backend is back.

The disk's gates hold the requests for as long as the test needs, so that
nothing here depends on how long that takes.
"""

import errno
import os
import random
import sys

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)),
                                "..", "live"))

from live import (  # noqa: E402
    K, M, begin_put, cached, durable, expect, fault, gate, gated, open_gate,
    put, seen, wt)

BOUND = 256 * K
HOT = 512 * K               # is cached
CLIENTS = 8


def resident(server):
    """The memory of the server, in bytes."""
    with open("/proc/%d/status" % server.process.pid, encoding="ascii") as f:
        for line in f:
            if line.startswith("VmRSS:"):
                return int(line.split()[1]) * K
    raise AssertionError("no VmRSS")


def memory_is_ours():
    """Whether no tool takes memory of its own."""
    return not any(os.environ.get(name) for name in (
        "WT_LD_PRELOAD", "WT_NBDKIT_WRAPPER", "WT_NBDKIT"))


class Hang:
    """A server with a hot range in its cache, whose disk hangs from now on."""

    def __init__(self, server, op="any"):
        self.server = server
        self.near = server.connect()    # asks for what is cached
        put(self.near, 0, HOT, 1, wt.FUA)
        expect(seen(self.near, 0, HOT), [1] * (HOT // wt.BLOCK))
        self.far = [server.connect() for _ in range(CLIENTS)]
        self.before = resident(server)
        gate(server, op)

    def look(self, first):
        """Cached bytes are read, the beginning in this version."""
        for at in range(0, HOT, 16 * K):
            wanted = [1] * 32 if at else [first] * 32
            expect(seen(self.near, at, 16 * K), wanted)


def misses(hang, rng, each):
    """Requests of every kind that cannot be answered, in flight at once."""
    commands = []
    for n, h in enumerate(hang.far):
        base = M + n * 2 * M
        for i in range(each):
            at = base + i * 64 * K
            commands.append(rng.choice((
                lambda: wt.start(h, "pread", 64 * K, at),
                lambda: begin_put(h, at, 64 * K, 2, wt.FUA),
                lambda: wt.start(h, "zero", 64 * K, at),
                lambda: wt.start(h, "trim", 64 * K, at),
                lambda: wt.start(h, "flush"),
                lambda: begin_put(h, at + 700, 3000, 2),
            ))())
    return commands


def test_hits_go_on():
    """Law 14: whatever hangs, and however much waits for it."""
    rng = random.Random(11)
    for op in "any", "read", "write", "flush":
        with cached(size="4M", dirty_max=BOUND, readahead="256K",
                    dirty_age="10ms") as server:
            hang = Hang(server, op)
            put(hang.near, 0, 16 * K, 2)
            commands = misses(hang, rng, 12)
            for _ in range(20):
                hang.look(2)
            assert not all(c.done() for c in commands)
            open_gate(server)
            wt.wait_all(commands)
            expect({c.errno for c in commands}, {0}, op)
            hang.near.flush()
            expect(durable(server, 0, 16 * K), [2] * 32)
            data = hang.near.pread(18 * M, 0)
            assert data == server.durable(0, 18 * M), op


def test_writes_beyond_the_bound_wait():
    """Law 6: ordinary writes are answered up to the bound and no further,
    also over many clients; memory stays what it was."""
    with cached(size="4M", dirty_max=BOUND, dirty_age="10ms") as server:
        hang = Hang(server, "any")
        places = [(h, M + (n * 64 + i) * 16 * K)
                  for i in range(14) for n, h in enumerate(hang.far)]
        # One by one all are taken that fit.  Of those that come at once some
        # may be refused the last of the room, as it was promised to another.
        alone = BOUND * 3 // 4 // (16 * K)
        for h, at in places[:alone]:
            put(h, at, 16 * K, 2)
        writes = [begin_put(h, at, 16 * K, 2) for h, at in places[alone:]]
        for _ in range(20):
            hang.near.pread(HOT, 0)
        answered = alone + sum(w.done() for w in writes)
        assert answered * 16 * K <= BOUND, answered
        if memory_is_ours():
            taken = resident(server) - hang.before
            # Bytes in flight are in nbdkit's own memory, too.
            assert taken <= 4 * M + 32 * M, taken
        open_gate(server)
        wt.wait_all(writes)
        expect({w.errno for w in writes}, {0})
        hang.near.flush()
        for n in range(CLIENTS):
            at = M + n * M
            expect(durable(server, at, 14 * 16 * K), [2] * (14 * 32))


def test_hang_that_ends_in_errors():
    """Laws 3 and 11: each that hung is told, and what was acknowledged
    before is kept."""
    with cached(size="4M", dirty_max=BOUND, dirty_age="10ms") as server:
        hang = Hang(server, "write")
        put(hang.near, 0, 64 * K, 2)
        gated(server)       # write-back hangs as well
        writes = [begin_put(h, M + n * M, 64 * K, 2, wt.FUA)
                  for n, h in enumerate(hang.far)]
        flush = wt.start(hang.near, "flush")
        gated(server, 1 + CLIENTS)
        fault(server, "write", "EIO")
        open_gate(server)
        wt.wait_all(writes + [flush])
        expect({c.errno for c in writes + [flush]}, {errno.EIO})
        expect(seen(hang.near, 0, 64 * K), [2] * 128)
        server.control("unfault all")
        hang.near.flush()
        expect(durable(server, 0, 64 * K), [2] * 128)
        for n, h in enumerate(hang.far):
            expect(seen(h, M + n * M, 64 * K),
                   durable(server, M + n * M, 64 * K))


def stop_while(op, ask):
    """SIGTERM while a request of a client hangs; dirty data is there, too.
    The server waits for the backend, then ends as it should."""
    with cached(size="4M", dirty_max=BOUND) as server:
        hang = Hang(server, op)
        put(hang.near, 0, 32 * K, 2)
        command = ask(hang.far[0])
        gated(server)
        server.terminate()
        wt.wait_until(lambda: "shut down" in server.stderr(),
                      "the server knows that it has to stop")
        assert server.running()
        open_gate(server, ends=True)
        expect(command.wait(), 0, op)
        server.disconnect()
        expect(server.wait(), 0, op)
        expect(durable(server, 0, 32 * K), [2] * 64, op)
        assert "LOST" not in server.stderr()


def test_sigterm():
    """Law 3: in a read, a FUA write, a zero, a flush."""
    stop_while("read", lambda h: wt.start(h, "pread", 4 * K, 2 * M))
    stop_while("write", lambda h: begin_put(h, 2 * M, 4 * K, 3, wt.FUA))
    stop_while("zero", lambda h: wt.start(h, "zero", 64 * K, 2 * M))
    stop_while("flush", lambda h: wt.start(h, "flush"))


def test_sigterm_while_everything_hangs():
    """No deadlock: every client waits, at the bound, and the drain does."""
    rng = random.Random(12)
    with cached(size="4M", dirty_max=BOUND, dirty_age="10ms") as server:
        hang = Hang(server, "any")
        put(hang.near, 0, 64 * K, 2)
        commands = misses(hang, rng, 14)
        gated(server, 1)
        server.terminate()
        wt.wait_until(lambda: "shut down" in server.stderr(),
                      "the server knows that it has to stop")
        open_gate(server, ends=True)
        wt.wait_all(commands)
        server.disconnect()
        expect(server.wait(), 0)
        expect(durable(server, 0, 64 * K), [2] * 128)
        assert "LOST" not in server.stderr()


def test_one_fua_write_hangs():
    """Laws 4 and 6: a flush and FUA writes of other blocks go on beside it.  If
    it fails, the backend may have dropped what they wrote: it is written
    again."""
    with cached(disk={"forget": "yes"}, size="4M",
                dirty_age="1000") as server:
        a, b, c = (server.connect() for _ in range(3))
        gate(server, "write", first=2 * M, last=2 * M + 4 * K - 1)
        hung = begin_put(c, 2 * M, 4 * K, 3, wt.FUA)
        gated(server)
        put(a, 0, 64 * K, 1)
        a.flush()
        expect(durable(server, 0, 64 * K), [1] * 128)
        for n in range(100):
            wt.wait_all([begin_put(h, M + i * 8 * K, 4 * K, n + 1, wt.FUA)
                         for i, h in enumerate((a, b, a, b))])
        for i in range(4):
            expect(durable(server, M + i * 8 * K, 4 * K), [100] * 8)
        assert not hung.done()
        fault(server, "write", "EIO", first=2 * M, last=2 * M + 4 * K - 1)
        open_gate(server)
        expect(hung.wait(), errno.EIO)
        a.flush()
        expect(durable(server, 0, 64 * K), [1] * 128)
        for i in range(4):
            expect(durable(server, M + i * 8 * K, 4 * K), [100] * 8)


def test_client_leaves_while_it_hangs():
    """The last writer goes, its requests hang: the next client sees all that
    was acknowledged, and the server ends in order."""
    with cached(size="4M", dirty_max=BOUND) as server:
        hang = Hang(server, "write")
        put(hang.near, 0, 32 * K, 2)
        begin_put(hang.far[0], 2 * M, 4 * K, 3, wt.FUA)
        gated(server)
        for h in hang.far + [hang.near]:
            server.drop(h)
        h = server.connect()
        expect(seen(h, 0, 32 * K), [2] * 64)
        put(h, 32 * K, 4 * K, 2)
        open_gate(server)
        h.flush()
        expect(durable(server, 0, 36 * K), [2] * 72)
        server.stop()


wt.main()
