# SPDX-License-Identifier: BSD-3-Clause
#
# Shows on one page what the cache does, over a backend that is 2 ms away:
# nbdkit's delay filter above a file. The disk is an ext4 file system; what
# is written goes to blocks of one of its files, so that afterwards the file
# system must be whole and each block is known.
#
# bench/load, a client in C, sends the requests: one in Python would take more
# time for each than the cache does.
#
# The figures are for looking at; bench/run makes those that are compared.

import os
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import time

import nbd

BLOCK = 4096
LATENCY_MS = 2

# A row of the table: its name, what bench/load is asked for, how many blocks
# of the file it uses, how often it goes over them, and the figure that is
# shown. A row that reads what another has read has that one's name.
ROWS = (
    ("cold read", "cold", ["--depth", "16"], 2000, 1, "iops"),
    ("warm read", "cold", ["--depth", "16"], 2000, 15, "iops"),
    ("FUA write", "fua 16", ["--depth", "16"], 1000, 1, "iops"),
    ("ordinary write", "write 16", ["--depth", "16"], 1000, 1, "iops"),
    ("cold read", "cold 1", ["--depth", "1"], 250, 1, "p50"),
    ("warm read", "cold 1", ["--depth", "1"], 250, 10, "p50"),
    ("FUA write", "fua 1", ["--depth", "1"], 250, 1, "p50"),
    ("ordinary write", "write 1", ["--depth", "1"], 250, 1, "p50"),
)
ROUNDS = 4                  # of each row; the servers take turns
SEQUENTIAL = 64 << 20       # bytes, read in order from the end of the disk
SEQUENTIAL_BLOCK = 64 << 10


class Server:
    """nbdkit over a disk, with one client that stays connected to it."""

    def __init__(self, folder, name, disk, filters, load):
        self.folder, self.load = folder, load
        self.disk = disk
        socket = os.path.join(folder, name + ".sock")
        pid_file = os.path.join(folder, name + ".pid")
        self.uri = "nbd+unix:///?socket=" + socket
        command = ["nbdkit", "--exit-with-parent", "-f",
                   "-U", socket, "-P", pid_file]
        command += ["--filter=" + f for f in filters]
        command += ["file", disk]
        command += ["rdelay=%dms" % LATENCY_MS, "wdelay=%dms" % LATENCY_MS]
        # Shown where it fails: at a stop nbdkit also tells of threads that
        # it wakes, which is no error here.
        self.log = os.path.join(folder, name + ".log")
        with open(self.log, "wb") as log:
            self.process = subprocess.Popen(command, stderr=log)
        # nbdkit writes the file once it takes connections.
        while not os.path.exists(pid_file):
            if self.process.poll() is not None:
                self.fail("nbdkit did not start")
            time.sleep(0.01)
        self.client = nbd.NBD()
        self.client.connect_unix(socket)

    def fail(self, message):
        with open(self.log, "r", errors="replace") as log:
            sys.stderr.write(log.read())
        sys.exit("FAILED: " + message)

    def run(self, *options):
        """The results of bench/load, as a dict of numbers."""
        result = subprocess.run([self.load, *options, self.uri],
                                stdout=subprocess.PIPE, text=True)
        if result.returncode != 0:
            self.fail("bench/load: " + result.stdout)
        return {key: float(value) for key, value in
                (word.split("=") for word in result.stdout.split())}

    def go_over(self, offsets, letter, options):
        """One request for each offset, R or W."""
        trace = os.path.join(self.folder, "trace")
        with open(trace, "w", encoding="ascii") as f:
            f.writelines("0,%s,%d,1\n" % (letter, offset // BLOCK)
                         for offset in offsets)
        return self.run("--replay", trace, "--seconds", "60", *options)

    def stop(self):
        self.client.shutdown()
        self.process.terminate()
        if self.process.wait() != 0:
            self.fail("nbdkit did not end well")


def make_disk(folder):
    """An ext4 image with files; returns it, and where the big file lies."""
    disk = os.path.join(folder, "disk.img")
    files = os.path.join(folder, "files")
    for name in ("plugins", "docs"):
        shutil.copytree(name, os.path.join(files, name))
    with open(os.path.join(files, "big"), "wb") as big:
        big.write(random.Random(1).randbytes(48 << 20))
    subprocess.run(["mke2fs", "-q", "-t", "ext4", "-b", str(BLOCK),
                    "-d", files, disk, "128M"],
                   check=True, stdout=subprocess.DEVNULL)
    blocks = subprocess.run(["debugfs", "-R", "blocks /big", disk],
                            check=True, stdout=subprocess.PIPE,
                            stderr=subprocess.DEVNULL).stdout
    return disk, [int(block) * BLOCK for block in blocks.split()]


def parts_of(offsets):
    """The blocks of each group of rows; no two have one in common."""
    sizes = {group: count for _, group, _, count, _, _ in ROWS}
    chosen = random.Random(2).sample(offsets, sum(sizes.values()))
    parts = {}
    for group, count in sizes.items():
        parts[group], chosen = chosen[:count], chosen[count:]
    return parts


def in_turn(servers, ask):
    """The results of ask (server, round), a list for each server.  The servers
    take turns, so that other work of the machine slows all alike."""
    found = {server: [] for server in servers}
    for i in range(ROUNDS):
        for server in servers if i % 2 == 0 else reversed(servers):
            found[server].append(ask(server, i))
    return [found[server] for server in servers]


def measure_row(servers, row, offsets):
    """The figure of a row, of each server."""
    name, _, options, _, times, figure = row
    letter = "W" if "write" in name else "R"
    if letter == "W":
        # Bytes that depend on the place, so that the disks can be compared.
        options = options + ["--op", "write", "--verify"]
    if "FUA" in name:
        options = options + ["--fua"]
    mean = statistics.harmonic_mean if figure == "iops" else statistics.median
    return [mean(figures) for figures in in_turn(
        servers, lambda server, i: server.go_over(
            offsets[i::ROUNDS] * times, letter, options)[figure])]


def measure_sequential(servers):
    """MiB a second, of each server."""
    size = os.path.getsize(servers[0].disk)
    length = SEQUENTIAL // ROUNDS
    return [statistics.harmonic_mean(rates) / (1 << 20) for rates in in_turn(
        servers, lambda server, i: server.run(
            "--pattern", "sequential", "--depth", "1",
            "--block", str(SEQUENTIAL_BLOCK),
            "--count", str(length // SEQUENTIAL_BLOCK), "--seconds", "60",
            "--range", "%d:%d" % (size - SEQUENTIAL + i * length, length)
        )["bytes/s"])]


def measure(servers, parts):
    """The figure of each row, and at last of the sequential read, of each
    server."""
    rows = [measure_row(servers, row, parts[row[1]]) for row in ROWS]
    return zip(*rows, measure_sequential(servers))


def print_rows(without, with_cache):
    form = "%-38s %12s %12s %8s"
    heads = {"iops": "4 KiB requests, 16 at once",
             "p50": "4 KiB requests, one at a time, median"}
    units = {"iops": "%.0f/s", "p50": "%.0f us"}
    shown = None
    for row, plain, cached in zip(ROWS, without, with_cache):
        name, _, _, _, _, figure = row
        if figure != shown:
            print("\n" + form % (heads[figure], "no cache", "wtcache",
                                 "faster"))
            shown = figure
        ratio = cached / plain if figure == "iops" else plain / cached
        print(form % ("  " + name, units[figure] % plain,
                      units[figure] % cached, "%.1f x" % ratio))
    print("\n" + form % ("64 KiB requests in order, one at a time", "no cache",
                         "wtcache", "faster"))
    print(form % ("  cold read", "%.0f MiB/s" % without[-1],
                  "%.0f MiB/s" % with_cache[-1],
                  "%.1f x" % (with_cache[-1] / without[-1])))
    print("\nCold random reads and FUA writes wait for the backend, with a cache"
          " as without:\nthey can be no faster than it is.")


def blocks(disk, offsets):
    found = []
    with open(disk, "rb") as f:
        for offset in offsets:
            f.seek(offset)
            found.append(f.read(BLOCK))
    return found


def differing(disk, other, offsets):
    """How many of the blocks differ on the two disks."""
    return sum(a != b for a, b in zip(blocks(disk, offsets),
                                      blocks(other, offsets)))


def main():
    wtcache, work = sys.argv[1:]
    folder = tempfile.mkdtemp(prefix="quickstart-", dir=work)
    try:
        show(wtcache, folder, os.path.join(work, "bench", "load"))
    finally:
        shutil.rmtree(folder)
    print("""
Next: ./quickstart DISK serves a disk of yours, an image or a block device,
and prints how to attach to it; docs/operations.md has each recipe.""")


def show(wtcache, folder, load):
    print("Make a 128 MiB ext4 disk, and serve it %d ms away"
          % LATENCY_MS, flush=True)
    disk, offsets = make_disk(folder)
    old_disk = os.path.join(folder, "old.img")
    plain_disk = os.path.join(folder, "plain.img")
    for copy in old_disk, plain_disk:
        shutil.copyfile(disk, copy)
    parts = parts_of(offsets)
    durable = parts["fua 1"] + parts["fua 16"]
    ordinary = parts["write 1"] + parts["write 16"]

    plain = Server(folder, "plain", plain_disk, ["delay"], load)
    cached = Server(folder, "cached", disk, [wtcache, "delay"], load)
    print_rows(*measure((plain, cached), parts))
    plain.client.flush()
    plain.stop()

    if differing(disk, plain_disk, durable):
        sys.exit("FAILED: FUA writes are not at the backend")
    if differing(disk, old_disk, durable) != len(durable):
        sys.exit("FAILED: the FUA writes have changed nothing")
    print("\nAll %d FUA writes were at the backend when they were answered."
          % len(durable))
    print("Of %d ordinary writes, %d are in memory only; flush"
          % (len(ordinary), differing(disk, plain_disk, ordinary)), end="",
          flush=True)
    began = time.monotonic()
    cached.client.flush()
    print(" (%.2f s)." % (time.monotonic() - began))
    if subprocess.run(["cmp", disk, plain_disk]).returncode:
        sys.exit("FAILED: the two disks differ after the flush")
    print("After the flush the backend holds the very bytes"
          " (cmp: both disks are equal).")
    cached.stop()
    if subprocess.run(["e2fsck", "-fn", disk], stdout=subprocess.PIPE,
                      stderr=subprocess.STDOUT).returncode:
        sys.exit("FAILED: e2fsck finds faults in the file system")
    print("e2fsck finds the file system whole.")


main()
