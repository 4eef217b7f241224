#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""Locks and memory: which requests wait for which, and how much memory is
used (laws 14 and 15)."""

import os
import signal
import sys

sys.dont_write_bytecode = True

from live import (  # noqa: E402
    K, M, begin_put, cached, count, durable, expect, gate, gated, open_gate,
    put, seen, wt)


# Law 14.

def test_hits_do_not_wait_for_misses():
    """Law 14: while all of a connection's misses stand at the backend, hits
    are answered: those of the same connection too."""
    with cached() as server:
        a, b = server.connect(), server.connect()
        put(a, 0, 64 * K, 1)
        gate(server, "read")
        misses = [wt.start(a, "pread", 4096, M + i * 64 * K)
                  for i in range(12)]
        gated(server, 12)
        expect(seen(a, 0, 64 * K), [1] * 128)
        expect(seen(b, 0, 64 * K), [1] * 128)
        put(b, 4096, 4096, 2)
        put(a, 8192, 4096, 2, wt.FUA)
        expect(seen(a, 0, 12 * K), [1] * 8 + [2] * 16)
        assert not any(m.done() for m in misses)
        open_gate(server)
        wt.wait_all(misses)


def test_hits_do_not_wait_for_other_requests():
    """Law 14: nor for a flush, a zero, a trim or block status."""
    for op, args in (("flush", ()), ("zero", (4096, M)), ("trim", (4096, M)),
                     ("block_status", (4096, M))):
        with cached() as server:
            a, b = server.connect(), server.connect()
            put(a, 0, 8192, 1)
            gate(server, "extents" if op == "block_status" else op)
            command = wt.start(a, op, *args)
            gated(server)
            expect(seen(a, 0, 8192), [1] * 16)
            expect(seen(b, 0, 8192), [1] * 16)
            put(b, 4096, 4096, 2)
            expect(seen(b, 2 * M, 4096), [0] * 8)
            assert not command.done()
            open_gate(server)
            expect(command.wait(), 0)


def test_reads_in_one_page_that_is_filled():
    """Law 14: blocks of a page that are there are read while others of the
    same page are being filled."""
    with cached(page_size="64K") as server:
        a, b = server.connect(), server.connect()
        put(a, 0, 4096, 1)
        gate(server, "read")
        miss = wt.start(a, "pread", 4096, 8192)
        gated(server)
        expect(seen(b, 0, 4096), [1] * 8)
        put(b, 16 * K, 512, 2)
        expect(seen(b, 16 * K, 512), [2])
        open_gate(server)
        expect(miss.wait(), 0)


def test_single_flight():
    """Law 14: readers of one missing page cause one backend read."""
    for page in "4K", "64K":
        with cached(page_size=page, fill=page) as server:
            put(server.connect(), 0, 64 * K, 1, wt.FUA)
            server.restart()
            clients = [server.connect() for _ in range(4)]
            gate(server, "read")
            reads = [wt.start(h, "pread", 4096, 8192)
                     for h in clients for _ in range(2)]
            gated(server)
            reads += [wt.start(h, "pread", 512, 8192 + 512)
                      for h in clients]
            open_gate(server)
            for read in reads[:8]:
                expect(wt.versions(read.data(), 8192), [1] * 8)
            wt.wait_all(reads)
            expect(count(server, "read"), 1, page)


def test_no_deadlock_without_memory():
    """Law 14: many large requests of all kinds at once, in the smallest
    cache; each waits for memory with nothing pinned."""
    with cached({"write_latency": "100us"}, size="1M", fill="64K",
                dirty_age="10ms") as server:
        clients = [server.connect() for _ in range(8)]
        commands = []
        for i, h in enumerate(clients):
            at = i * 4 * M
            commands.append(begin_put(h, at, 2 * M, 1))
            commands.append(begin_put(h, at + 2 * M + 100, M, 1, wt.FUA))
            commands.append(wt.start(h, "pread", 4 * M, 32 * M))
            commands.append(wt.start(h, "zero", M - 512, at + 3 * M + 512))
            commands.append(wt.start(h, "flush"))
        wt.wait_all(commands)
        expect({c.errno for c in commands}, {0})
        clients[0].flush()
        for i in range(8):
            assert seen(clients[i], i * 4 * M, 2 * M) == [1] * 4096
            assert durable(server, i * 4 * M, 2 * M) == [1] * 4096


def test_write_back_has_memory_reserved():
    """Law 14: dirty data leaves although reads hold all other memory."""
    with cached(size="1M", dirty_max="256K", fill="64K") as server:
        clients = [server.connect() for _ in range(4)]
        for i in range(56):
            put(clients[0], i * 4096, 4096, 1)
        gate(server, "read")
        reads = [wt.start(h, "pread", M, (8 + i * 8) * M)
                 for i, h in enumerate(clients)]
        # Those have buffers of their own, these do not.
        reads += [wt.start(h, "pread", 512, (9 + i * 8) * M + 512)
                  for i, h in enumerate(clients)]
        gated(server, 8)
        clients[1].flush()
        expect(durable(server, 0, 224 * K), [1] * 448)
        put(clients[2], 4 * M, 4096, 2, wt.FUA)
        expect(durable(server, 4 * M, 4096), [2] * 8)
        open_gate(server)
        wt.wait_all(reads)


# Law 15.

def require_bare():
    """Skips a test where a tool takes memory of its own."""
    for name in "WT_LD_PRELOAD", "WT_NBDKIT_WRAPPER":
        wt.require(not os.environ.get(name), name + " takes memory too")


def highest_resident(server):
    """The most memory that the server ever had, in bytes."""
    with open("/proc/%d/status" % server.process.pid,
              encoding="ascii") as f:
        for line in f:
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * K
    raise AssertionError("no VmHWM")


def large_load(server):
    """Sixteen connections with a large request in flight each, two of them
    with the largest that there are; how much memory that took."""
    clients = [server.connect() for _ in range(16)]
    lengths = [64 * M if i < 2 else 4 * M for i in range(16)]
    for kind in "pread", "pwrite", "pread", "pwrite":
        commands = []
        for i, (h, length) in enumerate(zip(clients, lengths)):
            at = 0 if length == 64 * M else i * 4 * M
            # FUA, so that the disk's own memory is the same in both.
            args = ((bytes(length), at, wt.FUA) if kind == "pwrite"
                    else (length, at))
            commands.append(wt.start(h, kind, *args))
        wt.wait_all(commands)
        expect({c.errno for c in commands}, {0}, kind)
    return highest_resident(server)


def test_resident_size():
    """Law 15: within wtcache-size + 32 MiB above the same nbdkit without the
    filter, with the smallest cache and the largest requests."""
    require_bare()
    disk = {"size": "64M"}
    # One thread for each connection: each keeps the buffer of its largest
    # request, and which thread gets which request is chance.
    with wt.Server(None, disk, args=["-t", "1"]) as server:
        without = large_load(server)
    with cached(disk, args=["-t", "1"], size="1M", fill="auto",
                readahead="2M") as server:
        taken = large_load(server)
    wt.comment("resident: %d KiB without, %d KiB with the filter"
               % (without // K, taken // K))
    assert taken <= without + M + 32 * M, (without, taken)


def test_resident_size_of_a_full_cache():
    """Law 15: the same when everything was read and written many times."""
    def load(server):
        clients = [server.connect() for _ in range(4)]
        for i in range(4):
            for at in range(0, 64 * M, M):
                clients[i].pread(M, at)
                clients[i].pwrite(bytes(4096), at + i * 8192)
        clients[0].flush()
        return highest_resident(server)

    require_bare()
    with wt.Server(None, {}, args=["-t", "2"]) as server:
        without = load(server)
    with cached(args=["-t", "2"], size="16M", readahead="2M",
                fill="auto") as server:
        taken = load(server)
    wt.comment("resident: %d KiB without, %d KiB with the filter"
               % (without // K, taken // K))
    assert taken <= without + 16 * M + 32 * M, (without, taken)


def test_request_larger_than_the_cache():
    """Law 15: it works, read and written, FUA and not, at any offset."""
    with cached(size="1M", page_size="64K", fill="auto") as server:
        h = server.connect()
        for flags, offset in (wt.FUA, 0), (0, 4096), (wt.FUA, 512):
            version = 1 + offset // 512
            put(h, offset, 20 * M, version, flags)
            assert seen(h, offset, 20 * M) == [version] * (20 * M // 512)
        h.flush()
        assert server.durable(512, 20 * M) == wt.pattern(512, 20 * M, 2)
        data = h.pread(20 * M, 5)
        assert data[:20 * M - 600] == server.durable(5, 20 * M - 600)


# Children.

def kept_from_children(pid):
    """The bytes that a process has mapped and that its children have not."""
    total = size = 0
    with open("/proc/%d/smaps" % pid, encoding="ascii") as f:
        for line in f:
            words = line.split()
            if words[0] == "Size:":
                size = int(words[1]) * K
            elif words[0] == "VmFlags:" and "dc" in words:
                total += size
    return total


class Background(wt.Server):
    """A server that goes into the background when it serves."""

    def command(self):
        return [word for word in super().command()
                if word not in ("-f", "--exit-with-parent")]

    def start(self):
        self.spawn()
        expect(self.process.wait(60), 0)
        # The child writes it, maybe after its parent has ended.
        self.pid = int(wt.wait_until(self.read_pid, "its number is written"))

    def read_pid(self):
        try:
            with open(self.path("pid"), encoding="ascii") as f:
                return f.read()
        except FileNotFoundError:
            return None

    def end(self):
        """Asks it to stop, and waits until its disk is let go."""
        os.kill(self.pid, signal.SIGTERM)
        wt.wait_until(lambda: not os.path.exists("/proc/%d" % self.pid),
                      "the server ends")


def test_in_the_background():
    """Memory that is mapped before nbdkit forks is there after it, and kept
    from the children that come later."""
    require_bare()
    # A server that takes a connection has done all that follows the fork.
    with cached() as server:
        server.connect()
        foreground = kept_from_children(server.process.pid)
    with Background({"wtcache-size": "8M"}, {}) as server:
        try:
            h = server.connect()
            expect(kept_from_children(server.pid), foreground)
            assert foreground > 0
            put(h, 0, 4 * M, 1)
            h.pwrite(b"x" * 5000, 1001, wt.FUA)
            expect(server.durable(1001, 5000), b"x" * 5000)
            server.disconnect(h)
        finally:
            server.end()
        expect(durable(server, 8 * K, M), [1] * 2048)


wt.main()
