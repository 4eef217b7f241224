# SPDX-License-Identifier: BSD-3-Clause
"""The rows of reading ahead that replay made traces: short runs at random
places, and many interleaved streams of one connection."""

import random

from row import Row, Server, Side, least, most
from side import Disk, load

BLOCK = 4096
SIZE = 16 << 30
BLOCKS = SIZE // BLOCK


def replay(server, blocks):
    path = server.path("trace")
    with open(path, "w") as trace:
        trace.writelines(f"{block}\n" for block in blocks)
    return load(server, "--replay", path, "--depth", "1")


def disk():
    return Disk(size=str(SIZE), **{"read-latency": "2ms",
                                   "block-preferred": str(BLOCK)})


def short_runs(draw):
    """400 runs of 3 to 6 blocks."""
    for _ in range(400):
        first = draw.randrange(BLOCKS - 6)
        yield from range(first, first + draw.randint(3, 6))


def short_runs_row():
    def measure(server, run):
        blocks = list(short_runs(random.Random(run.round)))
        server.control("stats-reset")
        replay(server, blocks)
        return {"read": server.disk_stats()["read_bytes"] /
                (BLOCK * len(blocks))}

    return Row("short-runs", "goal", "bytes read for 400 runs of 3 to 6 reads "
               "of 4K at random places, backend that prefers 4K",
               {"wtcache": Server("wtcache", disk(), ["wtcache-size=256M"])},
               [Side("wtcache", "wtcache", measure)],
               [most("bytes read, of bytes asked for", "read", 3)])


def interleaved(count, draw, each=256):
    """That many reads of each of COUNT streams, in turn, at places drawn."""
    firsts = [draw.randrange(BLOCKS - each) for _ in range(count)]
    return [first + i for i in range(each) for first in firsts]


def streams_row(count):
    def streams(number):
        def measure(server, run):
            seed = 1000 * number + run.round
            return replay(server, interleaved(number, random.Random(seed)))
        return measure

    return Row(f"streams-{count}", "goal", f"{count} interleaved cold streams "
               "of 4K of one connection, depth 1, backend 2 ms that prefers "
               "4K",
               {"wtcache": Server("wtcache", disk(), ["wtcache-size=256M"])},
               [Side(f"{count} streams", "wtcache", streams(count)),
                Side("6 streams", "wtcache", streams(6))],
               [least("rate, of 6 streams", "iops", 0.9, "6 streams")])


ROWS = [short_runs_row(), streams_row(12), streams_row(32)]
