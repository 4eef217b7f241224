#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""A real file below, by nbdkit's file plugin, that loses what was not synced
when a sync fails, and tells of it once ("fsyncgate"); and one on a file
system that is full for a while.

The content that a power cut would leave stands in a second file beside it
(syncs.c).
"""

import errno
import os
import random
import shutil
import subprocess
import sys

sys.dont_write_bytecode = True

import preload  # noqa: E402
import seeds  # noqa: E402
from scenario import AREA, K, MOST, Scenario, Shadow  # noqa: E402
from seeds import wt  # noqa: E402

M = K * K
BLOCK = wt.BLOCK
SIZE = 8 * M        # what lies behind AREA is only read, for the pressure

NATIVE = ()
EMULATED = ("fua",), ("fuamode=emulate",)


class FileServer(wt.Server):
    """The filter over a file whose syncs fail as the page says."""

    def __init__(self, below=NATIVE, **options):
        given = {"wtcache-size": "1M", "wtcache-dirty-age": "1000",
                 "wtcache-readahead": "off"}
        given.update({"wtcache-" + key.replace("_", "-"): value
                      for key, value in options.items()})
        filters, parameters = below or ((), ())
        super().__init__(given, plugin=["file"], filters_below=filters,
                         parameters=parameters, start=False)
        self.image = self.path("image")
        self.durable_file = self.image + ".durable"
        for path in self.image, self.durable_file:
            with open(path, "wb") as f:
                f.truncate(SIZE)
        self.page = preload.Page(self.path("page"), (
            "skip", "count", "error", "keep", "evict", "syncs", "failed",
            "lost", "partly", "latency"))
        self.page["error"] = errno.EIO
        self.env = {"LD_PRELOAD": preload.with_others("syncs"),
                    "WT_FILE": self.image, "WT_PAGE": self.page.path}
        self.plugin.append(self.image)
        self.start()

    def fail_syncs(self, skip=0, count=1):
        self.page["skip"] = skip
        self.page["count"] = count

    def heal(self):
        self.fail_syncs(0, 0)

    def in_file(self, offset, length):
        """The versions of the blocks in the file, as the kernel has it."""
        with open(self.image, "rb") as f:
            return wt.versions(os.pread(f.fileno(), length, offset), offset)

    def is_durable(self, offset, length):
        return wt.versions(self.durable(offset, length), offset)


def put(h, offset, length, version, flags=0):
    h.pwrite(wt.pattern(offset, length, version), offset, flags)


def expect(found, wanted, what=""):
    assert found == wanted, "%s %.1000r instead of %.1000r" % (
        what, found, wanted)


def seen(h, offset, length):
    return wt.versions(h.pread(length, offset), offset)


def press(h):
    """Reads so much that every page goes that may go."""
    for at in range(AREA, SIZE, M // 4):
        h.pread(M // 4, at)


def each_kind(test):
    """With the flag and with a flush; what is lost is gone at once, or when
    the kernel needs its pages, or is gone in part."""
    for below in NATIVE, EMULATED:
        for keep, partly in (0, 0), (1, 0), (0, 1):
            with FileServer(below) as server:
                server.page["keep"] = keep
                server.page["partly"] = partly
                test(server, server.connect(), server.connect())


def test_failed_flush():
    """Law 4: what the flush lost is written again, though the next sync by
    itself succeeds; reads never see it go, also under pressure."""
    def run(server, a, b):
        put(a, 0, 64 * K, 1)
        a.flush()
        put(a, 16 * K, 16 * K, 2)
        server.fail_syncs()
        expect(wt.errno_of(a.flush), errno.EIO)
        expect(server.page["failed"], 1)
        assert server.page["lost"] > 0
        server.page["evict"] = 1
        press(b)
        wanted = [1] * 32 + [2] * 32 + [1] * 64
        expect(seen(b, 0, 64 * K), wanted)
        b.flush()
        expect(server.is_durable(0, 64 * K), wanted, "durable")
        expect(server.in_file(0, 64 * K), wanted, "in the file")
    each_kind(run)


def test_failed_flush_of_zeroes():
    """Law 4: the same with ranges that were zeroed, in order with writes."""
    def run(server, a, b):
        put(a, 0, 64 * K, 1, wt.FUA)
        a.zero(32 * K, 16 * K)
        put(a, 24 * K, 4 * K, 2)
        a.zero(4 * K, 8 * K, wt.NO_HOLE)
        server.fail_syncs()
        expect(wt.errno_of(a.flush), errno.EIO)
        server.page["evict"] = 1
        press(b)
        wanted = ([1] * 16 + [0] * 8 + [1] * 8 + [0] * 16 + [2] * 8
                  + [0] * 40 + [1] * 32)
        expect(seen(b, 0, 64 * K), wanted)
        b.flush()
        expect(server.is_durable(0, 64 * K), wanted, "durable")
    each_kind(run)


def test_failed_fua():
    """Laws 4 and 5: a FUA write fails and takes with it what others wrote
    before; its client is told, and nothing of theirs is lost."""
    def run(server, a, b):
        put(a, 0, 64 * K, 1, wt.FUA)
        a.zero(8 * K, 0)
        a.zero(8 * K, 40 * K)     # is in the file, and not synced yet
        put(a, 16 * K, 8 * K, 2)
        server.fail_syncs(0, 2)   # if a flush follows, by each connection
        expect(wt.errno_of(put, b, 32 * K, 4 * K, 3, wt.FUA), errno.EIO)
        server.heal()
        server.page["evict"] = 1
        press(b)
        expect(seen(a, 0, 32 * K), [0] * 16 + [1] * 16 + [2] * 16 + [1] * 16)
        expect(seen(a, 36 * K, 28 * K), [1] * 8 + [0] * 16 + [1] * 32)
        there = set(seen(a, 32 * K, 4 * K))
        assert there <= {1, 3}, there
        put(b, 32 * K, 4 * K, 4, wt.FUA)
        expect(server.is_durable(32 * K, 4 * K), [4] * 8)
        a.flush()
        expect(server.is_durable(0, 64 * K), seen(a, 0, 64 * K), "durable")
        expect(server.is_durable(16 * K, 8 * K), [2] * 16)
    each_kind(run)


def test_failed_fua_zero():
    """The same with a zero that has to be durable."""
    def run(server, a, b):
        put(a, 0, 64 * K, 1, wt.FUA)
        a.zero(8 * K, 0)
        put(a, 32 * K, 8 * K, 2)
        server.fail_syncs(0, 2)
        expect(wt.errno_of(b.zero, 8 * K, 16 * K, wt.FUA), errno.EIO)
        server.heal()
        server.page["evict"] = 1
        press(b)
        expect(seen(a, 0, 16 * K), [0] * 16 + [1] * 16)
        expect(seen(a, 24 * K, 24 * K), [1] * 16 + [2] * 16 + [1] * 16)
        a.flush()
        data = seen(a, 0, 64 * K)
        assert set(data[32:48]) <= {0, 1}, data[32:48]
        expect(server.is_durable(0, 64 * K), data, "durable")
    each_kind(run)


class DurableScenario(Scenario):
    """Besides, what is acknowledged as durable is so at once.

    Where the kernel forgets only later what it could not sync, a block of
    which a write has failed may be read as written, and go back.
    """

    def __init__(self, server):
        super().__init__(server)
        self.shadow = Shadow(not server.page["keep"])

    def check_durable(self, offset=0, length=AREA):
        self.shadow.check(self.server.durable(offset, length), offset,
                          "durable")

    def write(self, offset, length, flags=0):
        before = len(self.failures)
        super().write(offset, length, flags)
        if flags & wt.FUA and len(self.failures) == before:
            self.check_durable(offset, length)

    def zero(self, offset, length, flags=0):
        before = len(self.failures)
        super().zero(offset, length, flags)
        if flags & wt.FUA and len(self.failures) == before:
            self.check_durable(offset, length)

    def flush(self):
        if not super().flush():
            self.check_durable()

    def finish(self):
        """No fault is left.  Trimmed bytes are undefined: they may have been
        read before the kernel forgot the trim."""
        self.look()
        assert wt.errno_of(self.second.flush) == 0, "the last flush fails"
        data = self.second.pread(AREA, 0)
        self.shadow.check(data, 0, "after the flush")
        assert self.first.pread(AREA, 0) == data, "the clients differ"
        self.check_durable()

    def act(self, rng):
        if rng.randrange(12) == 0:
            self.server.page["evict"] = 1
        if rng.randrange(12) == 0:
            press(self.second)
        super().act(rng)


def run_one(below, skip, count, keep):
    """The scenario with syncs that fail; how many did."""
    with FileServer(below) as server:
        server.page["keep"] = keep
        scenario = DurableScenario(server)
        scenario.write(224 * K, 16 * K, wt.FUA)
        server.fail_syncs(skip, count)
        scenario.run()
        server.heal()
        failed = server.page["failed"]
        server.page["evict"] = 1
        # Data that one connection cannot flush is written again and flushed by
        # the other.
        assert scenario.failures or failed <= 2
        scenario.finish()
    return failed


def run_all(below, count):
    """For each N until the scenario has fewer syncs than that."""
    for keep in 0, 1:
        failed, skip = 1, 0
        while failed > 0:
            try:
                failed = run_one(below, skip, count, keep)
            except BaseException:
                wt.comment("below %s, keep %d, the %d syncs after %d" % (
                    below, keep, count, skip))
                raise
            skip += 1
        assert skip > 4, skip


@wt.timeout(240)
def test_nth_sync():
    """Each single sync of the scenario of test-nth.py, and two of them."""
    run_all(NATIVE, 1)
    run_all(EMULATED, 1)
    run_all(EMULATED, 2)


@wt.timeout(240)
def test_all_syncs_from_there():
    """All syncs from the Nth on."""
    run_all(NATIVE, MOST)
    run_all(EMULATED, MOST)


def run_random(rng):
    """Steps as they come, under pressure, at a low bound and with write-back
    at work, several times over what was left."""
    below = rng.choice((NATIVE, EMULATED))
    with FileServer(
            below, page_size=rng.choice(("4K", "16K")),
            mode=rng.choice(("writeback",) * 3
                            + ("writethrough", "writearound")),
            dirty_max=rng.choice(("64K", "128K", "512K")),
            dirty_age=rng.choice(("1ms", "1000"))) as server:
        server.page["keep"] = rng.randrange(2)
        scenario = DurableScenario(server)
        scenario.look = lambda: None
        for _ in range(4):
            server.page["partly"] = rng.randrange(2)
            server.page["latency"] = rng.choice((0, 0, 500, 3000))
            server.fail_syncs(rng.randrange(6), rng.choice((1, 1, 2, 4,
                                                            MOST)))
            for _ in range(rng.randrange(5, 60)):
                scenario.act(rng)
            server.heal()
            server.page["evict"] = 1
            scenario.finish()


@wt.timeout(seeds.limit(120))
def test_random():
    """Other scenarios."""
    seeds.each(run_random, 12)


class Writers:
    """Clients at once, each with pages of its own, until the server dies."""

    def __init__(self, server, rng):
        self.told = {}          # by page: the version it has to have, or more
        self.answers = 0
        self.clients = [
            wt.background(self.run, n, server.connect(),
                          random.Random(rng.getrandbits(32)))
            for n in range(4)]

    def run(self, number, h, rng):
        written = {}
        version = error = 0
        while error in (0, errno.EIO):
            version += 1
            at = (rng.randrange(16) * 4 + number) * 4 * K
            flags = rng.choice((0, 0, wt.FUA))
            error = wt.errno_of(put, h, at, 4 * K, version, flags)
            if error == 0:
                written[at] = version
                if flags:
                    self.told[at] = version
            if rng.randrange(6) == 0:
                now = dict(written)
                error = wt.errno_of(h.flush)
                if error == 0:
                    self.told.update(now)
            self.answers += 1

    def end(self):
        """The server is dead."""
        for client in self.clients:
            client.result()


def run_clients(rng):
    """Some syncs fail; the server is killed in the middle."""
    with FileServer(rng.choice((NATIVE, EMULATED)),
                    dirty_max=rng.choice(("64K", "512K")),
                    dirty_age=rng.choice(("1ms", "1000"))) as server:
        server.page["latency"] = rng.choice((0, 1000, 4000))
        server.fail_syncs(rng.randrange(60), rng.choice((0, 1, 3)))
        writers = Writers(server, rng)
        enough = rng.randrange(50, 400)
        wt.wait_until(lambda: writers.answers > enough,
                      "the clients have written")
        server.kill()
        writers.end()
        for at, version in writers.told.items():
            found = server.is_durable(at, 4 * K)
            assert all(v is not None and v >= version for v in found), (
                at, version, found)


@wt.timeout(seeds.limit(120))
def test_kill():
    """Kill -9: each page is durable in the last version of which its client
    was told so, or in a later one."""
    seeds.each(run_clients, 4)


# A file system that is full.

class FullServer(wt.Server):
    """The filter over a file on a tmpfs of its own, that only the server's
    mount namespace has."""

    def __init__(self, room, **options):
        wt.require(not os.environ.get("WT_NBDKIT_WRAPPER"), "wrapped")
        self.unshare = ["unshare", "-m" if os.geteuid() == 0 else "-Urm"]
        wt.require(shutil.which("unshare") and subprocess.run(
            self.unshare + ["mount", "-t", "tmpfs", "none", "/mnt"],
            capture_output=True, check=False).returncode == 0,
            "no mount namespaces")
        given = {"wtcache-" + key.replace("_", "-"): value
                 for key, value in options.items()}
        super().__init__(given, plugin=["file"], start=False)
        self.mount = self.path("mount")
        os.mkdir(self.mount)
        self.script = (
            "mount -t tmpfs -o size=%d none '%s' && truncate -s %d '%s/image'"
            " && head -c %d /dev/zero >'%s/hog' && exec \"$@\"" % (
                room, self.mount, SIZE, self.mount, room // 2, self.mount))
        self.plugin.append(os.path.join(self.mount, "image"))
        self.start()

    def command(self):
        return self.unshare + ["sh", "-c", self.script, "sh"] \
            + super().command()

    def inside(self, name):
        """A file there, as the server's process sees it."""
        return "/proc/%d/root%s/%s" % (self.process.pid, self.mount, name)

    def make_room(self):
        os.unlink(self.inside("hog"))

    def in_file(self, offset, length):
        with open(self.inside("image"), "rb") as f:
            return wt.versions(os.pread(f.fileno(), length, offset), offset)


def test_no_space():
    """Law 3: dirty data that finds no room waits, and is written when there is
    some; laws 6 and 11: a write meanwhile gets its own error."""
    with FullServer(5 * M, size="16M", dirty_max="8M",
                    dirty_age="1000") as server:
        a, b = server.connect(), server.connect()
        put(a, 0, 4 * M, 1)
        expect(wt.errno_of(a.flush), errno.ENOSPC)
        # It refuses: an ordinary write goes through and is told.
        expect(wt.errno_of(put, b, 6 * M, M, 2), errno.ENOSPC)
        expect(wt.errno_of(put, b, 5 * M, M, 2, wt.FUA), errno.ENOSPC)
        # Blocks that have room there already are overwritten.
        there = [at for at in range(0, 4 * M, 64 * K)
                 if server.in_file(at, 64 * K) == [1] * 128]
        assert there
        put(b, there[0], 64 * K, 3, wt.FUA)
        expect(server.in_file(there[0], 64 * K), [3] * 128)
        expect(wt.errno_of(b.flush), errno.ENOSPC)
        # Nothing of it goes, however much is read.
        for at in range(0, SIZE, M):
            b.pread(M, at)
        wanted = [1] * (4 * M // BLOCK)
        first = there[0] // BLOCK
        wanted[first:first + 128] = [3] * 128
        expect(seen(b, 0, 4 * M), wanted)
        server.make_room()
        b.flush()
        expect(server.in_file(0, 4 * M), wanted, "in the file")
        put(b, 4 * M, 4 * K, 4)
        expect(seen(a, 4 * M, 4 * K), [4] * 8)


def test_no_space_in_a_small_cache():
    """The same while pages are needed: writes go through, reads go on, and
    what was acknowledged is there when there is room."""
    with FullServer(3 * M, size="1M", dirty_max="256K",
                    dirty_age="1ms") as server:
        h = server.connect()
        wanted = [0] * (SIZE // BLOCK)
        errors = set()
        for at in range(0, SIZE, 32 * K):
            error = wt.errno_of(put, h, at, 32 * K, 1)
            errors.add(error)
            first = at // BLOCK
            wanted[first:first + 64] = [None if error else 1] * 64
        expect(errors, {0, errno.ENOSPC})
        expect(wt.errno_of(h.zero, 64 * K, 0), 0)
        wanted[:128] = [0] * 128

        def check(found, what):
            for n, version in enumerate(found):
                assert version in ({0, 1} if wanted[n] is None
                                   else {wanted[n]}), (
                    "%s: block %d has version %s, not %s" % (
                        what, n, version, wanted[n]))
        for at in range(0, SIZE, M):
            check(seen(h, at, M) if at == 0 else [], "seen")
        whole = [v for at in range(0, SIZE, M) for v in seen(h, at, M)]
        check(whole, "seen")
        server.make_room()
        h.flush()
        expect(server.in_file(0, SIZE), whole, "in the file")


wt.main()
