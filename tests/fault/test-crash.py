#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""The server is killed, or might be at any moment: what is durable then.

Several clients write over the same blocks, some with FUA, and flush now and
then.  Each write has a version of its own.  A write is durable from the moment
its reply came, with FUA, or that of a flush that began after it.  A block may
then have its version, or that of a write that did not end before it began.
"""

import itertools
import random
import sys
import threading
import time

sys.dont_write_bytecode = True

import seeds  # noqa: E402
from seeds import wt  # noqa: E402

import nbd  # noqa: E402

BLOCK = wt.BLOCK
AREA = 192 * 1024
NEVER = float("inf")


class Write:
    def __init__(self, run, offset, length, version, fua):
        self.run = run      # of the server
        self.offset = offset
        self.length = length
        self.version = version
        self.fua = fua
        self.start = time.monotonic_ns()
        self.end = NEVER

    def __repr__(self):
        return "version %d: %d+%d %s[%s..%s]" % (
            self.version, self.offset, self.length,
            "fua " if self.fua else "", self.start, self.end)


class Flush:
    def __init__(self, run):
        self.run = run
        self.start = time.monotonic_ns()
        self.end = NEVER


class History:
    """The requests of all clients; lists are appended to by their threads."""

    def __init__(self):
        self.next_version = itertools.count(1)
        self.writes = {}
        self.flushes = []

    def durable_writes(self):
        """(time from which it is durable, write), in the order of time."""
        flushes = sorted((f for f in self.flushes if f.end != NEVER),
                         key=lambda f: f.end)
        found = []
        for write in self.writes.values():
            if write.end == NEVER:
                continue
            times = [f.end for f in flushes
                     if f.run == write.run and f.start > write.end][:1]
            if write.fua:
                times.append(write.end)
            if times:
                found.append((min(times), write))
        return sorted(found, key=lambda pair: pair[0])

    def is_older(self, version, write):
        """Whether that version was replaced before the write began."""
        if version == 0:
            return True
        return self.writes[version].end < write.start


def blocks_of(offset, length):
    return range(offset // BLOCK, (offset + length) // BLOCK)


class Client(threading.Thread):
    """Writes until it is told to stop or its server dies."""

    def __init__(self, server, history, seed):
        super().__init__(daemon=True)
        self.h = server.connect()
        self.server_run = server.run
        self.history = history
        self.random = random.Random(seed)
        self.over = threading.Event()
        self.failed = None
        self.start()

    def run(self):
        try:
            while not self.over.is_set():
                self.act()
        except nbd.Error as error:
            self.failed = error

    def act(self):
        rng = self.random
        if rng.random() < 0.15:
            flush = Flush(self.server_run)
            self.h.flush()
            flush.end = time.monotonic_ns()
            self.history.flushes.append(flush)
            return
        first = rng.randrange(AREA // BLOCK)
        count = min(rng.choice((1, 3, 8, 8, 16, 40)), AREA // BLOCK - first)
        write = Write(self.server_run, first * BLOCK, count * BLOCK,
                      next(self.history.next_version), rng.random() < 0.4)
        self.history.writes[write.version] = write
        self.h.pwrite(wt.pattern(write.offset, write.length, write.version),
                      write.offset, wt.FUA if write.fua else 0)
        write.end = time.monotonic_ns()


def random_server(rng, **disk):
    disk.update({
        "size": AREA,
        "fua": rng.choice(("native", "native", "emulate", "none")),
        "flush": rng.choice(("yes", "yes", "yes", "no")),
        "block-min": rng.choice((512, 512, 4096)),
        "write-latency": "%dus" % rng.randrange(1500),
        "flush-latency": "%dus" % rng.randrange(3000),
    })
    options = {
        "wtcache-size": "1M",
        "wtcache-page-size": rng.choice(("4K", "4K", "16K", "64K")),
        "wtcache-mode": rng.choice(("writeback", "writeback", "writethrough",
                                    "writearound")),
        "wtcache-dirty-max": rng.choice(("64K", "128K", "auto")),
        "wtcache-dirty-age": rng.choice(("2ms", "50ms", "30")),
    }
    return wt.Server(options, disk)


def run_clients(server, history, rng, writes):
    """Lets clients write until so many more writes have begun."""
    clients = [Client(server, history, rng.random())
               for _ in range(rng.randrange(1, 5))]
    goal = len(history.writes) + writes
    wt.wait_until(lambda: len(history.writes) >= goal
                  or any(not c.is_alive() for c in clients),
                  "the clients have written")
    return clients


def join(clients):
    for client in clients:
        client.over.set()
    for client in clients:
        client.join(60)
        assert not client.is_alive(), "a client hangs"


def check_image(server, history):
    versions = wt.versions(server.durable(0, AREA), 0)
    assert None not in versions, (
        "block %d is torn or another's" % versions.index(None))
    for _, write in history.durable_writes():
        for block in blocks_of(write.offset, write.length):
            assert not history.is_older(versions[block], write), (
                "block %d has %s, though %s is durable" % (
                    block, history.writes.get(versions[block], "nothing"),
                    write))


def kill_again_and_again(rng):
    history = History()
    with random_server(rng) as server:
        for _ in range(3):
            clients = run_clients(server, history, rng,
                                  rng.randrange(10, 250))
            server.kill()
            join(clients)
            check_image(server, history)
            server.start()
        # The next server gives its clients that image.
        h = server.connect()
        assert h.pread(AREA, 0) == server.durable(0, AREA)


@wt.timeout(seeds.limit(180))
def test_kill():
    """Laws 1 and 2: every durable version or a newer one, none torn."""
    seeds.each(kill_again_and_again, 5)


# The log: each of its prefixes is a moment at which the server might die.

class Disk:
    """The bytes that must be durable, by the disk's log alone: a
    flush covers the writes that ended before it began."""

    def __init__(self, server):
        self.log = server.log()
        # By block: the number of the write's end, and its version.
        self.volatile = {}
        self.durable = {}
        self.snapshots = {}
        with open(server.log_file() + ".data", "rb") as f:
            self.data = f.read()
        self.always = server.disk_options["flush"] == "no" and (
            server.disk_options["fua"] == "none")

    def versions(self, request):
        data = self.data[request.data_offset:][:request.length]
        first = request.offset // BLOCK
        for i, version in enumerate(wt.versions(data, request.offset)):
            assert version is not None, "torn in %r" % request
            yield first + i, version

    def step(self, event):
        """Changes with one event; the blocks whose durable version may have
        changed."""
        request = event.request
        if event.kind == "start" and request.op == "flush":
            self.snapshots[request.id] = dict(self.volatile)
        if event.kind != "end" or request.errno != 0:
            return []
        if request.op == "flush":
            # A FUA write that ended since the flush began is newer.
            new = {block: pair
                   for block, pair in self.snapshots.pop(request.id).items()
                   if pair > self.durable.get(block, (0, 0))}
        elif request.op == "write":
            new = {block: (event.number, version)
                   for block, version in self.versions(request)}
            self.volatile.update(new)
            if not request.fua and not self.always:
                return []
        else:
            return []
        self.durable.update(new)
        return list(new)


def check_overlaps(log):
    """Law 7."""
    open_writes = {}
    for event in log.events:
        request = event.request
        if request is None or request.op not in ("write", "zero", "trim"):
            continue
        if event.kind == "end":
            open_writes.pop(request.id, None)
        elif event.kind == "start":
            for other in open_writes.values():
                assert not request.overlaps(other.offset, other.length), (
                    "two at once: %r and %r" % (other, request))
            open_writes[request.id] = request


def check_prefixes(server, history):
    disk = Disk(server)
    acknowledged = {}      # block: the durable writes over it
    waiting = history.durable_writes()[::-1]

    def check(block, event):
        version = disk.durable.get(block, (0, 0))[1]
        for write in acknowledged.get(block, ()):
            assert not history.is_older(version, write), (
                "before event %d block %d has %s, though %s is durable" % (
                    event.number, block,
                    history.writes.get(version, "nothing"), write))

    def acknowledge(before, event):
        while waiting and waiting[-1][0] < before:
            write = waiting.pop()[1]
            for block in blocks_of(write.offset, write.length):
                # Those that are surely older say nothing more.
                rest = [w for w in acknowledged.get(block, ())
                        if w.end >= write.start]
                acknowledged[block] = rest + [write]
                check(block, event)

    for event in disk.log.events:
        if event.request is not None:
            ns = (event.request.start_ns if event.kind == "start"
                  else event.request.end_ns)
            acknowledge(ns, event)
        for block in disk.step(event):
            check(block, event)
    acknowledge(NEVER, disk.log.events[-1])


def look_at_prefixes(rng):
    history = History()
    with random_server(rng, **{"log-data": "yes"}) as server:
        clients = run_clients(server, history, rng, rng.randrange(50, 400))
        join(clients)
        for client in clients:
            assert client.failed is None, client.failed
        assert history.durable_writes(), "nothing was acknowledged"
        server.stop()
        check_overlaps(server.log())
        check_prefixes(server, history)
        versions = wt.versions(server.durable(0, AREA), 0)
        assert None not in versions


@wt.timeout(seeds.limit(180))
def test_prefixes():
    """Laws 1, 2 and 7, at every prefix of the disk's log."""
    seeds.each(look_at_prefixes, 5)


wt.main()
