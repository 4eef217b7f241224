#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""The gain of the cache over the bare RBD, which is qemu-nbd asked without
anything between, or the plugin of packaging/ceph without the filter; and how
these two compare: requests of 4 KiB a second, of bench/load. Two are measured
in turn, which of them first by turns, and what is told of the ratio is its
median and range.
Start it by tests/cluster/run.

The OSD has the data in its memory, on the same machine. A network and a disk
between would make the bare RBD slower, but not hits.
"""

import os
import statistics
import subprocess
import sys

sys.dont_write_bytecode = True
HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [os.path.join(HERE, "..", "lib"), HERE]

import wt  # noqa: E402
import ceph  # noqa: E402

BUILT = os.environ.get("top_builddir", os.path.join(HERE, "..", ".."))
LOAD = os.path.join(BUILT, "bench", "load")
CTL = os.path.join(BUILT, "tools", "wtcachectl")
M = 1 << 20
SIZE = 192 * M
ROUNDS = int(os.environ.get("WT_ROUNDS", "5"))
SECONDS = os.environ.get("WT_SECONDS", "1")
PART = SIZE // 8 // M * M

# The loads. Before each measurement of a row that is cold the cache drops what
# it has.
ROWS = [
    ("random reads of what was read, depth 1", "read random", 1,
     False),
    ("random reads of what was read, depth 16", "read random", 16,
     False),
    ("FUA writes, depth 1", "write random fua", 1, False),
    ("FUA writes, depth 16", "write random fua", 16, False),
    ("sequential reads for the first time, depth 1", "read sequential", 1,
     True),
    ("sequential reads for the first time, depth 16", "read sequential", 16,
     True),
    ("sequential writes, a flush each 256, depth 16",
     "write sequential flush", 16, True),
]


def measure(socket, what, depth, offset):
    """Requests a second."""
    op, pattern, *more = what.split()
    command = [LOAD, "--op", op, "--pattern", pattern, "--depth", str(depth),
               "--range", "%d:%d" % (offset, PART), "--seconds", SECONDS]
    if pattern == "sequential":
        command += ["--count", str(PART // 4096)]
    if "fua" in more:
        command.append("--fua")
    if "flush" in more:
        command += ["--flush-every", "256"]
    found = subprocess.run(
        command + ["nbd+unix:///?socket=" + socket], check=True,
        stdout=subprocess.PIPE, text=True, timeout=120).stdout
    values = dict(word.split("=") for word in found.split())
    assert values["errors"] == "0", found
    # A load that came to its count has ended before its time.
    return int(values["requests"]) / float(values["seconds"])


def row(name, what, depth, cold, one, two, drop):
    """A line of the table; one and two are sockets."""
    found = {one: [], two: []}
    if not cold and what.startswith("read"):
        # So that what is read is there.
        measure(two, "read sequential", 16, 0)
    for number in range(ROUNDS):
        offset = number % 8 * PART if cold else 0
        for socket in (one, two) if number % 2 else (two, one):
            if cold:
                drop()
            found[socket].append(measure(socket, what, depth, offset))
    ratios = [b / a for a, b in zip(found[one], found[two])]
    return "| %s | %.0f | %.0f | %.2f (%.2f to %.2f) |" % (
        name, statistics.median(found[one]), statistics.median(found[two]),
        statistics.median(ratios), min(ratios), max(ratios))


def table(rows, names, one, two, drop=lambda: None):
    print("\n| | %s | %s | ratio |\n|---|---|---|---|" % names, flush=True)
    for line in rows:
        print(row(*line, one, two, drop), flush=True)


def load_average():
    print("# load average: %.1f %.1f %.1f" % os.getloadavg())


def new_image(cluster, name):
    image = cluster.create(name, SIZE)
    image.fill()
    image.read(0, SIZE)
    return image


def main():
    with ceph.Cluster() as cluster:
        images = [new_image(cluster, "gain%d" % n) for n in range(3)]
        control = cluster.path("control")
        options = {"wtcache-size": "64M", "wtcache-control": control}

        def drop():
            subprocess.run([CTL, control, "drop"], check=True,
                           stdout=subprocess.DEVNULL)

        load_average()
        _, bare = images[0].start_qemu_nbd()
        with wt.Server(options, plugin=["nbd", "socket=" + bare]) as cached:
            table(ROWS, ("qemu-nbd", "with the cache in front"), bare,
                  cached.socket, drop)
        with images[1].serve("plugin", None) as plugin:
            with images[2].serve("plugin", options) as cached:
                table(ROWS, ("the plugin", "with the cache"), plugin.socket,
                      cached.socket, drop)
            table(ROWS[1:4], ("qemu-nbd", "the plugin"), bare, plugin.socket)
        load_average()


if __name__ == "__main__":
    main()
