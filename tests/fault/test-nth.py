#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""The Nth request to the backend fails: for each N, a fixed scenario."""

import sys

sys.dont_write_bytecode = True

import seeds  # noqa: E402
from scenario import AREA, K, MOST, OPTIONS, Scenario  # noqa: E402
from seeds import wt  # noqa: E402


def run_one(disk, skip, count):
    """The scenario with a fault; how many requests it hit."""
    with wt.Server(OPTIONS, disk) as server:
        scenario = Scenario(server)
        # Cached, and clean: the second client can always have it.
        scenario.write(224 * K, 16 * K, wt.FUA)
        server.control("fault f op=any errno=EIO skip=%d count=%d" % (
            skip, count))
        scenario.run()
        hits = int(server.control("hits f 0"))
        server.control("unfault all")
        failed = [(call.op, call.offset, call.length)
                  for call in server.log() if call.errno]
        # A call that fails is tried once by the other client's connection: one
        # that fails by both is the backend's error.
        assert scenario.failures or len(set(failed)) == len(failed), (
            "calls have failed without an error: %s" % failed)
        scenario.finish()
    return hits


def run_all(disk, count):
    """For each N until the scenario has fewer requests than that."""
    given = {"size": AREA, "block-min": 4096}
    given.update(disk)
    hits = skip = 0
    while skip == 0 or hits > 0:
        try:
            hits = run_one(given, skip, count)
        except BaseException:
            wt.comment("%s, the %d requests after the first %d" % (
                given, count, skip))
            raise
        skip += 1
    assert skip > 12, "the scenario has %d requests only" % (skip - 1)


NATIVE = {"fua": "native"}
EMULATED = {"fua": "emulate"}
FORGETS = {"forget": "yes"}


@wt.timeout(240)
def test_one():
    """Each single request: FUA native."""
    run_all(NATIVE, 1)


@wt.timeout(240)
def test_one_forgets():
    """The same with a disk that forgets what is not durable."""
    run_all(dict(NATIVE, **FORGETS), 1)


@wt.timeout(240)
def test_one_emulated_forgets():
    """Each single request: FUA by a flush, and it forgets."""
    run_all(dict(EMULATED, **FORGETS), 1)


@wt.timeout(240)
def test_two():
    """Two in a row."""
    run_all(dict(EMULATED, **FORGETS), 2)


@wt.timeout(240)
def test_all_from_there():
    """All requests from the Nth to the end of the scenario."""
    run_all(dict(NATIVE, **FORGETS), MOST)


@wt.timeout(240)
def test_all_from_there_emulated():
    """The same with FUA by a flush."""
    run_all(dict(EMULATED, **FORGETS), MOST)


@wt.timeout(240)
def test_without_flush():
    """A disk that cannot flush: every write carries FUA."""
    run_all(dict(NATIVE, flush="no", **FORGETS), 1)


@wt.timeout(240)
def test_without_zero():
    """A disk that cannot zero: nbdkit writes zeroes."""
    run_all(dict(NATIVE, zero="no", **FORGETS), 2)


def run_random(rng):
    """Steps and faults as they come, several times over what was left."""
    disk = {"size": AREA, "block-min": rng.choice((512, 4096)),
            "fua": rng.choice(("native", "emulate", "none")),
            "flush": rng.choice(("yes", "yes", "no")),
            "zero": rng.choice(("yes", "yes", "no")),
            "forget": rng.choice(("yes", "no"))}
    options = dict(OPTIONS)
    options["wtcache-mode"] = rng.choice(("writeback", "writethrough",
                                          "writearound"))
    options["wtcache-page-size"] = rng.choice(("4K", "16K", "64K"))
    with wt.Server(options, disk) as server:
        scenario = Scenario(server)
        scenario.look = lambda: None    # the mode may keep nothing there
        for _ in range(4):
            server.control("fault f op=%s errno=EIO skip=%d count=%d" % (
                rng.choice(("any", "any", "write", "flush", "zero")),
                rng.randrange(12), rng.choice((1, 1, 2, 5, MOST))))
            for _ in range(rng.randrange(5, 40)):
                scenario.act(rng)
            server.control("unfault all")
            scenario.finish()


@wt.timeout(seeds.limit(120))
def test_random():
    """Other scenarios, other disks, other modes."""
    seeds.each(run_random, 20)


wt.main()
