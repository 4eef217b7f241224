#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""The filter over Ceph RBD: by nbdkit's nbd plugin from qemu-nbd, and by the
plugin of packaging/ceph. Another client, without a cache, reads the image from
the OSD for comparison. Start it by tests/cluster/run.
"""

import errno
import os
import random
import subprocess
import sys
import threading
import time

import rbd

sys.dont_write_bytecode = True
HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [os.path.join(HERE, "..", "lib"),
                os.path.join(HERE, "..", "recipes"), HERE]

import printed  # noqa: E402
import tap  # noqa: E402
import wt  # noqa: E402
import ceph  # noqa: E402

TOP = os.path.join(HERE, "..", "..")
BUILT = os.environ.get("top_builddir", TOP)
CTL = os.path.join(BUILT, "tools", "wtcachectl")
K, M = 1 << 10, 1 << 20
BLOCK = 4 * K

cluster = ceph.Cluster()
numbers = iter(range(1000))


def create(size):
    return cluster.create("image%d" % next(numbers), size)


def held_back(**more):
    """Options with which ordinary writes stay in memory until a flush."""
    return {"wtcache-size": "16M", "wtcache-dirty-age": "3600",
            "wtcache-dirty-max": "8M", **more}


def over_each(function):
    """A test over both kinds of server, one after the other."""
    def over(kind):
        def test():
            if kind == "plugin":
                found = subprocess.run(["nbdkit", "python", "--version"],
                                       capture_output=True, check=False)
                tap.require(found.returncode == 0, "no python plugin")
            function(kind)
        test.timeout = 240
        return test
    for kind in "qemu-nbd", "plugin":
        name = "test_%s_over_%s" % (function.__name__, kind.replace("-", "_"))
        globals()[name] = over(kind)


# Equal bytes.

def change(h, shadow, generator):
    """A random request, with what it does to the shadow."""
    size = len(shadow)
    length = generator.choice((1, 511, 512, BLOCK, 10000, 64 * K, 300 * K))
    offset = generator.randrange(size - length)
    if generator.random() < 0.5:
        offset = offset // BLOCK * BLOCK
    op = generator.randrange(10)
    if op < 4:
        assert h.pread(length, offset) == shadow[offset:offset + length]
    elif op < 9:
        data = generator.randbytes(length)
        h.pwrite(data, offset, wt.FUA if op == 8 else 0)
        shadow[offset:offset + length] = data
    else:
        h.zero(length, offset)
        shadow[offset:offset + length] = bytes(length)


@over_each
def equal_bytes(kind):
    """Random requests, in each mode, with a cache smaller than the image:
    what is read is what was written, and after a flush the image is, too."""
    generator = random.Random(kind)
    for mode in "writeback", "writethrough", "writearound":
        image = create(24 * M)
        shadow = bytearray(24 * M)
        with image.serve(kind, {"wtcache-size": "8M",
                                "wtcache-mode": mode}) as server:
            handles = [server.connect() for _ in range(3)]
            for _ in range(400):
                change(generator.choice(handles), shadow, generator)
            handles[0].flush()
            assert image.read(0, len(shadow)) == shadow, mode
            server.stop()
        assert image.read(0, len(shadow)) == shadow, mode


# Durability.

@over_each
def fua(kind):
    """FUA data are in the image when they are answered, and nothing else is
    forced out for them."""
    image = create(16 * M)
    with image.serve(kind, held_back()) as server:
        h = server.connect()
        for number in range(50):
            offset = number * 64 * K
            h.pwrite(wt.pattern(offset, BLOCK, 1), offset)
            there = offset + 32 * K
            h.pwrite(wt.pattern(there, BLOCK, 2), there, wt.FUA)
            assert image.read(there, BLOCK) == wt.pattern(there, BLOCK, 2)
            assert image.read(offset, BLOCK) == bytes(BLOCK)


@over_each
def flush(kind):
    """A flush puts into the image what was answered before it, on whichever
    connection."""
    image = create(16 * M)
    with image.serve(kind, held_back()) as server:
        a, b = server.connect(), server.connect()
        for version in range(1, 6):
            for offset in range(0, 4 * M, 256 * K):
                a.pwrite(wt.pattern(offset, BLOCK, version), offset)
            assert image.read(0, BLOCK) == wt.pattern(0, BLOCK, version - 1)
            b.flush()
            for offset in range(0, 4 * M, 256 * K):
                assert image.read(offset, BLOCK) == wt.pattern(
                    offset, BLOCK, version)


@over_each
def end(kind):
    """A server that is told to stop puts all that was answered into the
    image, while its client is still there."""
    image = create(16 * M)
    with image.serve(kind, held_back()) as server:
        h = server.connect()
        for offset in range(0, 4 * M, 64 * K):
            h.pwrite(wt.pattern(offset, BLOCK, 1), offset)
        assert image.read(0, BLOCK) == bytes(BLOCK)
        server.terminate()
        for offset in range(0, 4 * M, 64 * K):
            wt.wait_until(lambda: image.read(offset, BLOCK) == wt.pattern(
                offset, BLOCK, 1), "all is in the image")
        server.disconnect()
        assert server.wait() == 0


# The OSD stands still.

@over_each
def stopped(kind):
    """While the OSD stands still hits are served, and ordinary writes within
    the bound; FUA and flush wait, and are true when they are answered."""
    image = create(16 * M)
    image.fill()
    with image.serve(kind, held_back()) as server:
        h, durable, flushed = [server.connect() for _ in range(3)]
        known = h.pread(4 * M, 0)
        cluster.stop_osd()
        try:
            for number in range(2000):
                offset = number * 17 * BLOCK % (4 * M)
                assert h.pread(BLOCK, offset) == known[offset:offset + BLOCK]
            for offset in range(8 * M, 9 * M, BLOCK):
                h.pwrite(wt.pattern(offset, BLOCK, 1), offset)
            write = wt.start(durable, "pwrite",
                             wt.pattern(12 * M, BLOCK, 2), 12 * M, wt.FUA)
            flush_ = wt.start(flushed, "flush")
            miss = wt.start(h, "pread", BLOCK, 15 * M)
            for offset in range(0, 4 * M, BLOCK):
                assert h.pread(BLOCK, offset) == known[offset:offset + BLOCK]
            assert not write.done()
            assert not flush_.done()
            assert not miss.done()
        finally:
            cluster.continue_osd()
        assert write.wait() == 0
        assert image.read(12 * M, BLOCK) == wt.pattern(12 * M, BLOCK, 2)
        assert flush_.wait() == 0
        assert image.read(8 * M, M) == wt.pattern(8 * M, M, 1)
        assert miss.data() == image.read(15 * M, BLOCK)


# The OSD dies, and servers.

# Less than the load writes, so that pages leave and the bound is met.
LOADED = held_back(**{"wtcache-size": "2M", "wtcache-dirty-max": "512K"})


class Load:
    """Clients that write until they are told to end, or until the server has
    gone: half of them with FUA, half with flushes now and then. Each has
    blocks of its own, and writes only versions that grow."""

    BLOCKS = 100

    def __init__(self, server, clients=6):
        self.ending = threading.Event()
        self.answered = 0
        count = clients * self.BLOCKS
        self.sent = [0] * count         # the last version that was sent
        self.promised = [0] * count     # the last that must be durable
        self.threads = [
            wt.background(self.write, server.connect(), client)
            for client in range(clients)]

    def write(self, h, client):
        generator = random.Random(client)
        first = client * self.BLOCKS
        version = 0
        while not self.ending.is_set():
            version += 1
            block = first + generator.randrange(self.BLOCKS)
            offset = block * BLOCK
            data = wt.pattern(offset, BLOCK, version)
            self.sent[block] = version
            if client % 2:
                h.pwrite(data, offset, wt.FUA)
                self.promised[block] = version
            else:
                h.pwrite(data, offset)
                if version % 20 == 0:
                    h.flush()
                    last = first + self.BLOCKS
                    self.promised[first:last] = self.sent[first:last]
            block = first + generator.randrange(self.BLOCKS)
            offset = block * BLOCK
            assert h.pread(BLOCK, offset) == wt.pattern(
                offset, BLOCK, self.sent[block])
            self.answered += 1

    def go_on(self, count):
        """Waits until so many more rounds have ended."""
        end = self.answered + count
        wt.wait_until(lambda: self.answered >= end or any(
            thread.error for thread in self.threads), "the load goes on", 90)
        for thread in self.threads:
            if thread.error:
                raise thread.error

    def end(self, failing=False):
        self.ending.set()
        for thread in self.threads:
            try:
                thread.result(120)
            except wt.nbd.Error:
                if not failing:
                    raise

    def check(self, image, exact):
        """No promise is broken by what the image has: not older than what
        was promised, not torn, and if exact the last that was sent."""
        size = len(self.sent) * BLOCK
        found = wt.versions(image.read(0, size), 0)
        each = BLOCK // wt.BLOCK
        for block, (promised, sent) in enumerate(
                zip(self.promised, self.sent)):
            for version in found[block * each:(block + 1) * each]:
                assert version is not None, "block %d is torn" % block
                least = sent if exact else promised
                assert least <= version <= sent, (
                    block, least, version, sent)
        kept = sum(promised > 0 for promised in self.promised)
        assert kept > self.BLOCKS // 4, "hardly anything was promised"


def outages_under_load(kind, rounds, outage):
    """In the middle of a load there is an outage, so many times: no request
    fails, nothing is lost."""
    image = create(4 * M)
    with image.serve(kind, LOADED) as server:
        load = Load(server)
        for _ in range(rounds):
            load.go_on(200)
            outage()
            load.go_on(200)
        load.end()
        server.connect().flush()
        load.check(image, exact=True)


@over_each
def osd_stopped_under_load(kind):
    """The OSD stands still again and again, in the middle of a load: no
    request fails, nothing is lost."""
    def stand_still():
        cluster.stop_osd()
        # How long it stands still, not a time to wait for something.
        time.sleep(2)
        cluster.continue_osd()
    outages_under_load(kind, 3, stand_still)


@over_each
def osd_killed_under_load(kind):
    """The OSD is killed in the middle of a load and started again: no request
    fails, nothing is lost."""
    def start_again():
        cluster.kill_osd()
        cluster.start_osd()
    outages_under_load(kind, 2, start_again)


@over_each
def all_killed_under_load(kind):
    """The OSD and the server are killed at one moment: what was answered with
    FUA, or before a flush, is in the image."""
    for _ in range(2):
        image = create(4 * M)
        with image.serve(kind, LOADED) as server:
            load = Load(server)
            load.go_on(400)
            cluster.kill_osd()
            server.kill()
            cluster.forget_helpers()
            load.end(failing=True)
        cluster.start_osd()
        load.check(image, exact=False)


# Many hosts.

@tap.timeout(240)
def test_many_hosts():
    """Eight hosts, each with an image and a cache of its own; the OSD is
    killed, and each goes on."""
    images = [create(4 * M) for _ in range(8)]
    hosts = [image.serve("plugin", LOADED) for image in images]
    loads = [Load(server, 2) for server in hosts]
    for load in loads:
        load.go_on(40)
    cluster.kill_osd()
    cluster.start_osd()
    for load in loads:
        load.go_on(40)
    for image, server, load in zip(images, hosts, loads):
        load.end()
        server.connect().flush()
        load.check(image, exact=True)
        with server:
            server.stop()


@tap.timeout(240)
def test_clones():
    """Clones of a snapshot are written apart from each other and from it."""
    image = create(4 * M)
    image.fill()
    before = image.read(0, 4 * M)
    snapshot = image.full_name + "@golden"
    cluster.run("rbd", "snap", "create", snapshot)
    cluster.run("rbd", "snap", "protect", snapshot)
    clones = [ceph.Image(cluster, "clone%d" % n) for n in (1, 2)]
    for version, clone in enumerate(clones, 1):
        cluster.run("rbd", "clone", "--image-feature",
                    "layering,exclusive-lock", snapshot, clone.full_name)
        with clone.serve("plugin", {"wtcache-size": "8M"}) as server:
            h = server.connect()
            h.pwrite(wt.pattern(M, 64 * K, version), M)
            h.flush()
            assert h.pread(M, 0) == before[:M]
    for version, clone in enumerate(clones, 1):
        assert clone.read(M, 64 * K) == wt.pattern(M, 64 * K, version)
        assert clone.read(2 * M, 2 * M) == before[2 * M:]
    assert image.read(0, 4 * M) == before


@over_each
def read_by_many(kind):
    """One image behind the caches of several hosts that only read. They see
    the changes of a writer elsewhere once they drop their caches; a snapshot
    does not change."""
    image = create(8 * M)
    image.fill()
    before = image.read(0, 8 * M)
    cluster.run("rbd", "snap", "create", image.full_name + "@golden")
    snapshot = ceph.Image(cluster, image.name + "@golden")
    control = os.path.join(cluster.folder, "control")
    options = {"wtcache-size": "16M"}
    with image.serve(kind, {**options, "wtcache-control": control},
                     readonly=True) as one, \
            image.serve(kind, options, readonly=True) as two, \
            snapshot.serve(kind, options, readonly=True) as three:
        handles = [server.connect() for server in (one, two, three)]
        for h in handles:
            assert h.is_read_only()
            assert h.pread(8 * M, 0) == before
        with image.open(read_only=False) as writer:
            writer.write(bytes(M), 0)
        for h in handles:
            assert h.pread(M, 0) == before[:M]
        tap.require(os.path.exists(CTL), "wtcachectl is not built")
        subprocess.run([CTL, control, "drop"], check=True,
                       stdout=subprocess.DEVNULL)
        assert handles[0].pread(M, 0) == bytes(M)
        assert handles[1].pread(M, 0) == before[:M]


def refusal(call, *arguments):
    """The errno of a libnbd call that has to fail."""
    found = wt.errno_of(call, *arguments)
    assert found, "it was not refused"
    return found


@tap.timeout(240)
def test_second_writer_is_refused():
    """While a server of the plugin has clients, or has had, no other host can
    write, by whichever server; it may read."""
    image = create(8 * M)
    first = image.serve("plugin", held_back())
    second = image.serve("plugin", held_back())
    other = image.serve("qemu-nbd", {"wtcache-size": "8M"})
    reader = image.serve("plugin", {"wtcache-size": "8M"}, readonly=True)
    with first, second, other, reader:
        h = first.connect()
        h.pwrite(wt.pattern(0, BLOCK, 1), 0, wt.FUA)
        for _ in range(2):
            refusal(second.connect)
            assert "cannot get the exclusive lock" in second.stderr()
            refusal(other.connect().pwrite, bytes(BLOCK), 0, wt.FUA)
            assert reader.connect().pread(BLOCK, 0) == wt.pattern(
                0, BLOCK, 1)
            # Once more, when its client has left.
            first.disconnect()
        first.stop()
        h = second.connect()
        h.pwrite(wt.pattern(0, BLOCK, 2), 0, wt.FUA)
        assert image.read(0, BLOCK) == wt.pattern(0, BLOCK, 2)


@tap.timeout(240)
def test_writer_after_a_killed_one():
    """The lock of a server that was killed passes to the next one by itself,
    when the cluster has noticed (in half a minute)."""
    image = create(8 * M)
    with image.serve("plugin", held_back()) as first, \
            image.serve("plugin", held_back()) as second:
        first.connect().pwrite(wt.pattern(0, BLOCK, 1), 0, wt.FUA)
        first.kill()

        def connected():
            try:
                return second.connect()
            except wt.nbd.Error:
                return None
        h = wt.wait_until(connected, "the next server has the lock", 120)
        assert h.pread(BLOCK, 0) == wt.pattern(0, BLOCK, 1)
        h.pwrite(wt.pattern(0, BLOCK, 2), 0, wt.FUA)
        assert image.read(0, BLOCK) == wt.pattern(0, BLOCK, 2)


def test_qemu_nbd_hands_the_lock_over():
    """The exclusive lock alone refuses no client: librbd gives it to the next
    writer. So each cache has stale pages of the other's."""
    image = create(8 * M)
    options = {"wtcache-size": "8M"}
    with image.serve("qemu-nbd", options) as one, \
            image.serve("qemu-nbd", options) as two:
        a, b = one.connect(), two.connect()
        a.pwrite(wt.pattern(0, BLOCK, 1), 0, wt.FUA)
        assert b.pread(BLOCK, 0) == wt.pattern(0, BLOCK, 1)
        a.pwrite(wt.pattern(0, BLOCK, 2), 0, wt.FUA)
        b.pwrite(wt.pattern(BLOCK, BLOCK, 1), BLOCK, wt.FUA)
        assert b.pread(BLOCK, 0) == wt.pattern(0, BLOCK, 1)
        assert image.read(0, BLOCK) == wt.pattern(0, BLOCK, 2)


@over_each
def fenced_host(kind):
    """A host that the cluster keeps out is told so: its FUA write and its
    flush fail, and nothing of it arrives later."""
    image = create(8 * M)
    with image.serve(kind, held_back(**{"wtcache-drain": "1"})) as server:
        h = server.connect()
        h.pwrite(wt.pattern(0, BLOCK, 1), 0, wt.FUA)
        h.pwrite(wt.pattern(M, BLOCK, 1), M)
        addresses = image.watchers()
        assert len(addresses) == 1, addresses
        cluster.run("ceph", "osd", "blocklist", "add", addresses[0])
        refusal(h.pwrite, wt.pattern(0, BLOCK, 2), 0, wt.FUA)
        refusal(h.flush)
        # Bytes acknowledged and not flushed are in memory still.
        assert h.pread(BLOCK, M) == wt.pattern(M, BLOCK, 1)
        server.stop()
        assert "LOST" in server.stderr()
        assert image.read(0, BLOCK) == wt.pattern(0, BLOCK, 1)
        assert image.read(M, BLOCK) == bytes(BLOCK)


# The documentation.

@tap.timeout(240)
def test_printed():
    """The commands of docs/operations.md, as they are printed there."""
    folder = os.path.join(cluster.folder, "printed")
    os.mkdir(folder)
    with open(os.path.join(folder, "rbd-plugin.py"), "wb") as f, \
            open(ceph.PLUGIN, "rb") as plugin:
        f.write(plugin.read())
    with open(os.path.join(folder, "disk.img"), "wb") as f:
        f.write(os.urandom(32 * M))
    script = "set -eux\nset -o pipefail\n"
    found = [section for section in printed.sections(TOP, "docs/operations.md")
             if section.title == "Over a cluster"]
    assert len(found) == 1
    blocks = [block for block in found[0].blocks if block.language == "sh"]
    assert len(blocks) > 2
    script += "".join(block.script() for block in blocks)
    done = subprocess.run(["bash", "-c", script], cwd=folder,
                          stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, text=True, timeout=200,
                          check=False)
    assert done.returncode == 0, done.stdout


def clean_up(_failed):
    """After each test: the OSD runs, and no client uses it."""
    cluster.recover()
    cluster.forget_helpers()
    wt.wait_until(cluster.osd_is_up, "the OSD is up", 60)
    return []


with cluster:
    tap.on_end.append(clean_up)
    wt.main()
