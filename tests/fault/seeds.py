# SPDX-License-Identifier: BSD-3-Clause
"""Which seeds a test runs with: some fixed ones and a fresh one; with
WT_SEED=N that one alone; with WT_SECONDS=S fresh ones for so long."""

import os
import random
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)),
                                "..", "lib"))

import wt  # noqa: E402


def numbers(fixed):
    seconds = float(os.environ.get("WT_SECONDS", "0"))
    if os.environ.get("WT_SEED"):
        yield int(os.environ["WT_SEED"])
        return
    if not seconds:
        yield from range(1, fixed + 1)
        yield random.getrandbits(32)
        return
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        yield random.getrandbits(32)


def each(run, fixed):
    """Calls run with a generator of random numbers for each seed; says which
    one failed."""
    for seed in numbers(fixed):
        try:
            run(random.Random(seed))
        except BaseException:
            wt.comment("WT_SEED=%d repeats this" % seed)
            raise


def limit(seconds):
    """How long a test may take that goes on for WT_SECONDS."""
    return seconds + 2 * float(os.environ.get("WT_SECONDS", "0"))
