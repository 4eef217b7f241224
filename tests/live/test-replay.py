#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""The filter misses as often as bench/misses says: a trace of reads of one
page each, replayed through the server, against the policy by itself with as
many pages as the filter has frames.

Traces are made here, by seeds.  WTCACHE_TRACES names a folder of real ones
(*.pages.gz), which are then replayed too.
"""

import glob
import gzip
import itertools
import os
import random
import re
import subprocess
import sys

sys.dont_write_bytecode = True

from live import M, wt  # noqa: E402

PAGE = 4096

# How far the two may be apart, of the misses.
APART = 0.01


def program(name):
    here = os.path.dirname(os.path.abspath(__file__))
    top = os.environ.get("top_builddir", os.path.join(here, "..", ".."))
    path = os.path.join(top, "bench", name)
    wt.require(os.path.exists(path), "bench/%s is not built" % name)
    return path


def fields(text):
    return dict(word.split("=") for word in text.split() if "=" in word)


def frames(server):
    """How many pages the filter has memory for, as it tells at its end."""
    with open(server.path("metrics"), encoding="ascii") as f:
        match = re.search(r'^wtcache_memory_bytes{.*kind="frames"} (\d+)',
                          f.read(), re.MULTILINE)
    return int(match.group(1)) // PAGE


def replay(pages, size):
    """How often the filter misses, and how many frames it has."""
    with wt.Server({"wtcache-size": size, "wtcache-readahead": "off",
                    "wtcache-fill": PAGE},
                   {"size": (max(pages) + 1) * PAGE, "log": None},
                   args=["-t", "1"], start=False) as server:
        server.filter_options["wtcache-stats"] = server.path("metrics")
        server.start()
        subprocess.run(
            [program("load"), "--replay", "-", "--block", str(PAGE),
             "--depth", "1", "nbd+unix:///?socket=" + server.socket],
            check=True, text=True, stdout=subprocess.DEVNULL,
            input="".join("%d\n" % page for page in pages))
        stats = fields(server.control("stats"))
        server.stop()
        return int(stats["read"]), frames(server)


def said_by_bench(pages, count, trace):
    """The misses that bench/misses counts with so many pages."""
    text = subprocess.run(
        [program("misses"), trace or "/dev/stdin", str(count)], check=True,
        input="".join("%d\n" % page for page in pages), text=True,
        stdout=subprocess.PIPE).stdout
    return int(fields(text)["misses"])


def compare(pages, size, trace=None):
    """Both counts; the trace is a file of the same pages, if there is one.

    The policy learns from a sample of the pages, and which these are depends
    on the size.  So some sizes close by say how much that matters.
    """
    misses, count = replay(pages, size)
    wanted = [said_by_bench(pages, count * percent // 100, trace)
              for percent in (98, 99, 100, 101, 102)]
    wt.comment("%d reads, %d frames: %d misses, %s by bench/misses"
               % (len(pages), count, misses, wanted))
    assert ((1 - APART) * min(wanted) <= misses
            <= (1 + APART) * max(wanted)), (misses, wanted)


def skewed(rng, pages, count):
    """Few pages are read most of the time."""
    weights = list(itertools.accumulate(1 / (i + 1) for i in range(pages)))
    places = rng.sample(range(pages), pages)
    return [places[i] for i in rng.choices(range(pages), cum_weights=weights,
                                           k=count)]


def test_skewed_reads():
    """Pages of different popularity."""
    compare(skewed(random.Random(1), 8000, 40000), 4 * M)


def test_scans():
    """Scans come in between, which use nothing twice."""
    rng = random.Random(2)
    pages = []
    for i in range(8):
        pages += skewed(rng, 3000, 3000)
        pages += range(10000 + i * 2000, 10000 + (i + 1) * 2000)
    compare(pages, 4 * M)


def test_loops():
    """A loop over a little more than there is room for, then another."""
    compare(list(range(1200)) * 10 + list(range(5000, 6500)) * 10, 4 * M)


def test_changing_popularity():
    """The popular pages change a few times."""
    rng = random.Random(3)
    pages = []
    for i in range(6):
        pages += [page + i * 1500 for page in skewed(rng, 6000, 8000)]
    compare(pages, 8 * M)


if os.environ.get("WTCACHE_TRACES"):
    @wt.timeout(7200)
    def test_real_traces():
        """Real traces, with room for about a tenth of what they touch."""
        traces = sorted(glob.glob(os.path.join(os.environ["WTCACHE_TRACES"],
                                               "*.pages.gz")))
        assert traces, "no traces in " + os.environ["WTCACHE_TRACES"]
        for trace in traces:
            with gzip.open(trace, "rt") as f:
                pages = [int(line) for line in f]
            wt.comment(os.path.basename(trace))
            compare(pages, len(set(pages)) // 10 * PAGE * 10 // 9, trace)


wt.main()
