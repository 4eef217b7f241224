# SPDX-License-Identifier: BSD-3-Clause
#
# Shows on one page what the cache does, over a backend that is 2 ms away:
# nbdkit's delay filter above a file. The disk is an ext4 file system; what
# is written goes to blocks of one of its files, so that afterwards the file
# system must be whole and each block is known.
#
# The figures are for looking at; bench/run makes those that are compared.

import os
import random
import shutil
import subprocess
import sys
import tempfile
import time

import nbd

BLOCK = 4096
DEPTH = 16
LATENCY_MS = 2
READS = 2000
HITS = 10000
WRITES = 1000


class Server:
    """nbdkit over a disk, with one client that is connected to it."""

    def __init__(self, folder, name, disk, filters):
        socket = os.path.join(folder, name + ".sock")
        pid_file = os.path.join(folder, name + ".pid")
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

    def run(self, requests):
        """Keeps DEPTH requests going; returns how many a second."""
        errors = []

        def ended(error):
            if error.value:
                errors.append(os.strerror(error.value))
            return 1

        began = time.monotonic()
        for request in requests:
            while self.client.aio_in_flight() >= DEPTH:
                self.client.poll(-1)
            request(self.client, ended)
        while self.client.aio_in_flight() > 0:
            self.client.poll(-1)
        if errors:
            self.fail("a request ended with: " + errors[0])
        return len(requests) / (time.monotonic() - began)

    def stop(self):
        self.client.shutdown()
        self.process.terminate()
        if self.process.wait() != 0:
            self.fail("nbdkit did not end well")


def reads(offsets):
    buffer = nbd.Buffer(BLOCK)
    return [lambda client, ended, offset=offset:
            client.aio_pread(buffer, offset, completion=ended)
            for offset in offsets]


def writes(new, flags=0):
    return [lambda client, ended, offset=offset, data=data:
            client.aio_pwrite(data, offset, completion=ended, flags=flags)
            for offset, data in new.items()]


def make_disk(folder):
    """An ext4 image with files; returns it, and where the big file lies."""
    disk = os.path.join(folder, "disk.img")
    files = os.path.join(folder, "files")
    for name in ("filters", "docs"):
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


def load(server, offsets):
    """All that is measured, in turn; returns the rates and the bytes that
    the disk must hold then."""
    chosen = random.Random(2).sample(offsets, READS + 2 * WRITES)
    read, write, fua = (chosen[:READS], chosen[READS:READS + WRITES],
                        chosen[READS + WRITES:])
    fill = random.Random(3)
    ordinary, durable = (
        {offset: nbd.Buffer.from_bytearray(bytearray(fill.randbytes(BLOCK)))
         for offset in part} for part in (write, fua))
    rates = {
        "cold reads": server.run(reads(read)),
        "warm reads": server.run(reads(read * (HITS // READS))),
        "FUA writes": server.run(writes(durable, nbd.CMD_FLAG_FUA)),
        "ordinary writes": server.run(writes(ordinary)),
    }
    return rates, ordinary, durable


def differing(disk, expected):
    """How many of the blocks the backend does not hold (yet)."""
    with open(disk, "rb") as backend:
        count = 0
        for offset, data in expected.items():
            backend.seek(offset)
            count += backend.read(BLOCK) != bytes(data.to_bytearray())
    return count


def main():
    wtcache, work = sys.argv[1:]
    folder = tempfile.mkdtemp(prefix="quickstart-", dir=work)
    try:
        show(wtcache, folder)
    finally:
        shutil.rmtree(folder)


def show(wtcache, folder):
    print("Make a 128 MiB ext4 disk, and serve it %d ms away"
          % LATENCY_MS, flush=True)
    disk, offsets = make_disk(folder)
    plain_disk = os.path.join(folder, "plain.img")
    shutil.copyfile(disk, plain_disk)

    plain = Server(folder, "plain", plain_disk, ["delay"])
    without, _, _ = load(plain, offsets)
    plain.client.flush()
    plain.stop()

    cached = Server(folder, "cached", disk, [wtcache, "delay"])
    with_cache, ordinary, durable = load(cached, offsets)

    print("\n%-38s %12s %12s %8s" % (
        "4 KiB requests, %d at once" % DEPTH,
        "no cache", "wtcache", "ratio"))
    for name, rate in without.items():
        print("%-38s %10.0f/s %10.0f/s %8.1f" % (
            name, rate, with_cache[name], with_cache[name] / rate))

    if differing(disk, durable):
        sys.exit("FAILED: FUA writes are not at the backend")
    print("\nAll %d FUA writes were at the backend when they were answered"
          % len(durable))
    print("Of %d ordinary writes, %d are in memory only; flush"
          % (len(ordinary), differing(disk, ordinary)), end="", flush=True)
    began = time.monotonic()
    cached.client.flush()
    print(" (%.2f s)" % (time.monotonic() - began))
    if differing(disk, ordinary) or differing(disk, durable):
        sys.exit("FAILED: the backend lacks bytes after the flush")
    if subprocess.run(["cmp", disk, plain_disk]).returncode:
        sys.exit("FAILED: the two disks differ")
    print("After the flush the backend holds the very bytes"
          " (cmp: both disks are equal)")
    cached.stop()
    if subprocess.run(["e2fsck", "-fn", disk], stdout=subprocess.PIPE,
                      stderr=subprocess.STDOUT).returncode:
        sys.exit("FAILED: e2fsck finds faults in the file system")
    print("e2fsck finds the file system whole")


main()
