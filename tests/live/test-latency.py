#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""The histograms of how long clients' requests took: each request is counted
where it belongs, and what the disk takes is in it."""

import os
import re
import sys

sys.dont_write_bytecode = True

from live import K, M, expect, put, with_dashes, wt  # noqa: E402

SAMPLE = 1024
WAIT = 0.02  # the disk's, s


def served(disk=None, **options):
    server = wt.Server({}, with_dashes(disk or {}), start=False)
    server.filter_options = {"wtcache-stats": server.path("stats"),
                             "wtcache-readahead": "off",
                             **{"wtcache-" + name.replace("_", "-"): value
                                for name, value in options.items()}}
    server.start()
    return server


def latencies(server):
    """{operation: (how many, their sum)} of the last file."""
    with open(server.path("stats"), encoding="utf-8") as f:
        text = f.read()
    found = {}
    for suffix in "count", "sum":
        for operation, value in re.findall(
                r'wtcache_request_seconds_%s\{.*operation="(\w+)"\} (\S+)'
                % suffix, text):
            found.setdefault(operation, []).append(float(value))
    return {name: tuple(values) for name, values in found.items()}


def wait_for(server, operation, count):
    """Until it was counted so often, and its sum."""
    def found():
        return latencies(server).get(operation, (0, 0))[0] >= count
    wt.wait_until(found, "%s is counted %d times" % (operation, count))
    number, total = latencies(server)[operation]
    expect(number, count)
    return total


def test_each_miss_fua_write_and_flush():
    with served({"read_latency": "20ms", "write_latency": "20ms",
                 "flush_latency": "20ms", "fua": "native"}) as server:
        h = server.connect()
        for i in range(3):
            h.pread(4 * K, i * M)
        for i in range(4):
            put(h, i * M, 4 * K, 1, wt.FUA)
        put(h, 8 * M, 4 * K, 1)
        h.flush()
        assert wait_for(server, "read_miss", 3) >= 3 * WAIT
        assert wait_for(server, "fua_write", 4) >= 4 * WAIT
        assert wait_for(server, "flush", 1) >= WAIT
        found = latencies(server)
        expect((found["read_hit"], found["write"]), ((0, 0), (0, 0)))


def until_timed(server, operation, request):
    """Repeats a request until one is in the file; how many there were."""
    requests = 0
    while latencies(server).get(operation, (0, 0))[0] == 0:
        for _ in range(SAMPLE):
            request()
        requests += SAMPLE
        # Each thread of the connection has counted enough long before.
        assert requests < 64 * SAMPLE, operation
    return requests


def check_sample(operation, request):
    with served() as server:
        h = server.connect()
        put(h, 0, 4 * K, 1)
        requests = until_timed(server, operation, lambda: request(h))
        h.flush()
        wait_for(server, "flush", 1)
        count, total = latencies(server)[operation]
        # A thread that has counted the sample in full has timed one.
        expect(count % SAMPLE, 0)
        assert SAMPLE <= count <= requests + 16 * SAMPLE, (count, requests)
        assert total > 0


def test_hits_are_sampled():
    check_sample("read_hit", lambda h: h.pread(4 * K, 0))


def test_ordinary_writes_are_sampled():
    check_sample("write", lambda h: put(h, 0, 4 * K, 1))


def test_misses_do_not_use_up_the_sample():
    """A miss that comes when a hit is to be timed leaves that to the next: each
    hit is followed by a miss, as the cache is smaller than what is read."""
    with served(size="1M") as server:
        h = server.connect()
        put(h, 0, 4 * K, 1)
        at = [M]

        def request():
            h.pread(4 * K, 0)
            at[0] = M + (at[0] + 4 * K) % (32 * M)
            h.pread(4 * K, at[0])

        until_timed(server, "read_hit", request)


wt.main()
