# SPDX-License-Identifier: BSD-3-Clause
"""Shared by the live tests: servers with the filter, and questions to the
disk's log."""

import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)),
                                "..", "lib"))

import wt  # noqa: E402
from words import (  # noqa: E402, F401 (for the tests)
    G, K, M, begin_put, durable, expect, put, put_error, seen, with_dashes)


def cached(disk=None, args=(), start=True, **options):
    """A server with the filter over the disk; neither reads more than it is
    asked for unless the options say so.

    The options are the filter's, without "wtcache-" and with underscores;
    disk has the disk's, as a dict with underscores.
    """
    given = {"size": "8M", "readahead": "off", "fill": 512}
    given.update(options)
    given = {"wtcache-" + key: value
             for key, value in with_dashes(given).items()}
    return wt.Server(given, with_dashes(disk or {}), args=args, start=start)


def over(plugin, args=(), parameters=(), **options):
    """A server with the filter over another plugin: [name, words...]."""
    options.setdefault("size", "8M")
    given = {"wtcache-" + key: value
             for key, value in with_dashes(options).items()}
    return wt.Server(given, plugin=plugin, args=args, parameters=parameters)


def ranges(server, *ops):
    """(operation, offset, length) of the requests of some kinds."""
    return [(r.op, r.offset, r.length) for r in server.log().of(*ops)]


def fault(server, op, error="EIO", name="f", **more):
    words = ["%s=%s" % item for item in more.items()]
    server.control(" ".join(["fault", name, "op=" + op, "errno=" + error]
                            + words))


def gate(server, op, name="g", **more):
    words = ["%s=%s" % item for item in more.items()]
    server.control(" ".join(["gate", name, "op=" + op] + words))


def gated(server, count=1, name="g"):
    """Waits until so many requests stand at a gate."""
    return wt.background(server.control,
                         "gated %s %d" % (name, count)).result()


def open_gate(server, name="g", ends=False):
    """ENDS: the server was told to stop, and waits for this alone."""
    server.control("open " + name, ends)


def ended(server, op, offset=0, length=1 << 62):
    """Requests of a kind that touch a range and have ended well."""
    return [r for r in server.log().of(op)
            if r.errno == 0 and (op == "flush" or r.overlaps(offset, length))]


def wait_ended(server, op, offset=0, length=1 << 62, more_than=0):
    """Waits until such a request has ended well."""
    return wt.wait_until(
        lambda: len(ended(server, op, offset, length)) > more_than,
        "a %s has ended at the disk" % op)


def ping(h, offset=M):
    """Some requests one after another: what could go on, has."""
    for _ in range(200):
        h.pread(512, offset)


def count(server, op, offset=0, length=1 << 62):
    """How many requests of a kind touch a range."""
    return len([r for r in server.log().of(op)
                if op == "flush" or r.overlaps(offset, length)])


def stood_still(writes):
    """Whether none of so many writes of one latency ended for much longer."""
    times = sorted([r.end_ns for r in writes] + [writes[0].start_ns])
    return (max(b - a for a, b in zip(times, times[1:]))
            > 2 * min(r.end_ns - r.start_ns for r in writes))


def most_in_flight(server, clients):
    """How many writes the disk had at once, at most, for 16 of theirs.

    While all of them seem to hang the filter lets more go than the depth.  So
    what was seen where the machine stood still says nothing: they are done
    again.
    """
    def look():
        before = len(server.log().of("write"))
        wt.wait_all([wt.start(h, "pwrite", wt.pattern(i * 64 * K, 4096, 1),
                              i * 64 * K, wt.FUA)
                     for i, h in enumerate(clients * (16 // len(clients)))])
        writes = server.log().of("write")[before:]
        if stood_still(writes):
            return None
        # Flushes beside them are no batches.
        return max(sum(w.start <= r.start < w.end for w in writes)
                   for r in writes)
    return wt.wait_until(look, "the machine goes on for some writes", 60)


def overlapping_in_time(requests):
    """Pairs of requests of which one began before the other had ended."""
    order = sorted(requests, key=lambda r: r.start)
    return [(a, b) for i, a in enumerate(order) for b in order[i + 1:]
            if a.end is None or b.start < a.end]


def wait_closed(server):
    """Waits until the disk has no connection left."""
    wt.wait_until(lambda: server.stats()["connected"] == 0,
                  "all connections are closed")


def is_multi(server, h):
    return bool(h.can_multi_conn())
