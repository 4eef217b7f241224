#!/usr/bin/python3
# SPDX-License-Identifier: BSD-3-Clause
"""How well the filter estimates the miss ratio that other sizes would have.

usage: curve-table.py [--misses PROGRAM] FOLDER

Each trace (*.pages.gz, *.req.csv.gz, see misses.c) is replayed through the
filter's estimator, as of a cache with room for 1, 3, 10 and 30 % of the pages
that the trace touches, and through caches of 1/4 to 8 times that size.  It
prints estimate minus simulation, in points of the miss ratio of reads, and the
mean of the absolute values; the goal is 2 points.
"""

import argparse
import pathlib
import subprocess
import sys

SIZES = ["1%", "3%", "10%", "30%"]
GOAL = 2.0


def measure(program, path, size):
    """Points of error at each of the estimated sizes."""
    out = subprocess.run([program, "--curve", str(path), size], check=True,
                         stdout=subprocess.PIPE, text=True).stdout
    lines = [dict(word.split("=") for word in line.split())
             for line in out.splitlines()]
    ratios = [float(line["size_ratio"]) for line in lines[:-1]]
    errors = [100 * (float(line["estimated"]) - float(line["simulated"]))
              for line in lines[:-1]]
    return ratios, errors


def mean_of(errors):
    return sum(map(abs, errors)) / len(errors)


def main():
    here = pathlib.Path(__file__).resolve().parent
    parser = argparse.ArgumentParser(description="errors of the estimates")
    parser.add_argument("--misses", default=str(here / "misses"),
                        help="the program (default: beside this one)")
    parser.add_argument("folder", type=pathlib.Path)
    args = parser.parse_args()

    traces = sorted([*args.folder.glob("*.pages.gz"),
                     *args.folder.glob("*.req.csv.gz")])
    if not traces:
        sys.exit(f"curve-table: {args.folder}: no traces there")

    means = {size: [] for size in SIZES}
    for path in traces:
        name = path.name[:-3]
        for size in SIZES:
            ratios, errors = measure(args.misses, path, size)
            if path == traces[0] and size == SIZES[0]:
                print(f"{'trace':<32}{'room':>5}" +
                      "".join(f"{r:>8g}" for r in ratios) + "    mean")
            means[size].append(mean_of(errors))
            print(f"{name:<32}{size:>5}" +
                  "".join(f"{e:>+8.2f}" for e in errors) +
                  f"{means[size][-1]:>8.2f}", flush=True)
    print()
    for size in SIZES:
        print(f"room for {size}: mean {mean_of(means[size]):.2f}, "
              f"worst {max(means[size]):.2f}")
    total = mean_of([m for size in SIZES for m in means[size]])
    print(f"mean absolute error {total:.2f}, goal {GOAL:g}: "
          f"{'met' if total <= GOAL else 'NOT met'}")


if __name__ == "__main__":
    main()
