#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""Many exports of which all but one hang: the last one goes on in all that it
does (laws 14 and 21)."""

import sys

sys.dont_write_bytecode = True

from live import (  # noqa: E402
    K, M, begin_put, cached, durable, expect, gate, gated, put, seen, wt)

REQUESTS = 12       # of each hung export
KINDS = "read", "write", "flush"


def ill_and_well(number, size):
    """A server with so many exports, and their names; the last is well."""
    names = ["disk%d" % i for i in range(number)]
    server = cached({"exports": ",".join(names), "size": "4M"}, size=size,
                    dirty_age="100ms", dirty_max="50%", fill=4096,
                    readahead="1M")
    return server, names[:-1], names[-1]


def come(server, name):
    """A client of an export, which is in use from now on."""
    h = server.connect(name)
    # Every second page is there, so that a read is many calls.
    for at in range(0, 256 * K, 8 * K):
        h.pread(512, at)
    return h


def make_hang(server, h, name, kind):
    """Requests of one export that hang in reads, writes or flushes, each in
    as many calls as it may."""
    put(h, 3 * M, 512, 1, wt.FUA)
    gate(server, kind, name="g" + name, export=name)
    commands = []
    for i in range(REQUESTS):
        at = i * 64 * K
        if kind == "read":
            commands.append(wt.start(h, "pread", 64 * K, at))
        elif i % 4 == 3:
            commands.append(wt.start(h, "flush"))
        else:
            commands.append(begin_put(h, at + 100, 60 * K, 2,
                                      wt.FUA if i % 2 else 0))
    gated(server, name="g" + name)
    return commands


def works(server, h, name):
    """All requests of one export go on, and what its age calls for."""
    expect(seen(h, 2 * M, 64 * K), [0] * 128)
    put(h, 0, 64 * K, 3)
    put(h, 2 * M + 100, 20 * K, 3, wt.FUA)
    expect(durable(server, 2 * M + 512, 16 * K, name), [3] * 32)
    expect(seen(h, 0, 64 * K), [3] * 128)
    h.flush()
    expect(durable(server, 0, 64 * K, name), [3] * 128)
    put(h, M, 64 * K, 4)
    wt.wait_until(lambda: written(server, name, M, 64 * K),
                  "old data is written back")


def written(server, name, offset, length):
    """Whether the disk was written all over a range."""
    done = set()
    for r in server.log().of("write"):
        if r.export == name and r.errno == 0:
            done.update(range(r.offset, r.offset + r.length, wt.BLOCK))
    return done >= set(range(offset, offset + length, wt.BLOCK))


def wait_durable(server, name, version, why):
    wt.wait_until(
        lambda: durable(server, M + 128 * K, 64 * K, name) == [version] * 128,
        why)


def one_goes_on(number, size, told_to_stop):
    server, ill, well = ill_and_well(number, size)
    with server:
        clients = [come(server, name) for name in ill]
        h = come(server, well)
        commands = []
        for i, (name, client) in enumerate(zip(ill, clients)):
            commands += make_hang(server, client, name, KINDS[i % len(KINDS)])
        works(server, h, well)
        put(h, M + 128 * K, 64 * K, 5)
        if told_to_stop:
            server.terminate()
        else:
            server.disconnect(h)
        wait_durable(server, well, 5, "the drain has saved it")
        assert not all(c.done() for c in commands)
        server.control("open all", told_to_stop)
        wt.wait_all(commands)
        server.disconnect()
        if told_to_stop:
            expect(server.wait(), 0)


@wt.timeout(180)
def test_one_of_forty_goes_on():
    """Laws 14 and 21: the others hang with whatever they can have."""
    one_goes_on(40, "256M", False)


@wt.timeout(180)
def test_one_of_forty_is_drained_at_the_stop():
    """Laws 3 and 21: while the others still hang."""
    one_goes_on(40, "256M", True)


def test_one_of_three_goes_on():
    """Laws 14 and 21: in the smallest cache."""
    one_goes_on(3, "1M", False)


def test_one_of_three_is_drained_at_the_stop():
    """Laws 3 and 21: in the smallest cache."""
    one_goes_on(3, "1M", True)


wt.main()
