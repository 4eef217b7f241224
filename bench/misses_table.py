#!/usr/bin/python3
# SPDX-License-Identifier: BSD-3-Clause
"""Miss ratios of the eviction policy on a folder of traces, next to LRU.

usage: misses_table.py [--misses PROGRAM] [FOLDER]

Each trace (*.pages.gz, *.req.csv.gz, see misses.c) is replayed through the
filter's own policy and through LRU, with room for 0.3 to 60 % of the pages
that it touches.  Where a trace is there in both forms, its requests are shown
for their read misses, but count only once in the mean.

The goals are of the mean change against LRU at 1, 3, 10 and 30 %, and of the
worst change anywhere.

Then, and without a folder alone, come made loads (synthetic.c) that mislead
policies, with room for 1.5 and 4.5 %.  There the goal is of the worst change,
after one capacity of misses was taken off for each change of the load.
"""

import argparse
import concurrent.futures
import os
import pathlib
import subprocess
import sys

SIZES = ["1%", "3%", "10%", "30%"]
GOALS = [-5.5, -8.5, -15.5, -4.0]
MORE_SIZES = ["0.3%", "60%"]
WORST = 3.0
MADE = ["again", "again-twice", "again-hot", "left", "bursts", "phases"]
MADE_SIZES = ["1.5%", "4.5%"]
MADE_WORST = 5.0
PAGES = ".pages.gz"
REQUESTS = ".req.csv.gz"


def find_traces(folder):
    """The traces as (path, name, whether it counts in the mean)."""
    pages = sorted(folder.glob("*" + PAGES))
    names = {p.name[:-len(PAGES)] for p in pages}
    traces = [(p, p.name[:-len(PAGES)], True) for p in pages]
    for p in sorted(folder.glob("*" + REQUESTS)):
        name = p.name[:-len(REQUESTS)]
        again = name in names
        traces.append((p, name + (" (R/W)" if again else ""), not again))
    return traces


def run_misses(program, *args):
    """The output of misses, as a dictionary of numbers."""
    out = subprocess.run([program, *map(str, args)], check=True,
                         stdout=subprocess.PIPE, text=True).stdout
    return {k: float(v) for k, v in (w.split("=") for w in out.split())}


def change(ours, lru):
    return 100 * (ours / lru - 1) if lru > 0 else 0.0


def read_ratio(result):
    return 100 * result["read_misses"] / max(result["reads"], 1)


def print_row(name, cells):
    print(f"{name:<30}" + "".join(f"{c:>23}" for c in cells), flush=True)


def measure_each(program, paths, sizes):
    """[(policy, LRU) at each size] of each trace, on all cores."""
    def one(path, size):
        return (run_misses(program, path, size),
                run_misses(program, "--lru", path, size))

    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        waiting = [[pool.submit(one, path, size) for size in sizes]
                   for path in paths]
        return [[cell.result() for cell in row] for row in waiting]


def measure_all(program, traces):
    return measure_each(program, [path for path, _, _ in traces],
                        SIZES + MORE_SIZES)


def measure_made(program):
    return measure_each(program, ["@" + name for name in MADE], MADE_SIZES)


def made_change(ours, lru):
    """The change against LRU but for a capacity each change of load."""
    return change(ours["misses"] - ours["changes"] * ours["pages"],
                  lru["misses"])


def worst_of_made(measured):
    return max(made_change(*cell) for results in measured for cell in results)


def changes_of(traces, measured):
    """The mean change against LRU at each size, and the worst anywhere."""
    changes = [[] for _ in SIZES]
    worst = []
    for (_, _, counts), results in zip(traces, measured):
        for i, (ours, lru) in enumerate(results):
            by = change(ours["miss_ratio"], lru["miss_ratio"])
            worst.append(by)
            if counts and i < len(SIZES):
                changes[i].append(by)
    return [sum(values) / len(values) for values in changes], max(worst)


def print_goal(what, goal, measured):
    verdict = "met" if round(measured, 1) <= goal else "NOT met"
    print(f"{what:<34} goal {goal:+6.1f} %  measured {measured:+7.2f} %"
          f"  {verdict}")


def ratios_of(results):
    """A cell for each size."""
    ratios = [(100 * a["miss_ratio"], 100 * b["miss_ratio"])
              for a, b in results]
    return [f"{a:.2f} {b:.2f} ({change(a, b):+.1f})" for a, b in ratios]


def print_traces(program, folder):
    traces = find_traces(folder)
    if not traces:
        sys.exit(f"misses_table: {folder}: no traces there")

    measured = measure_all(program, traces)
    print_row("trace, room for", SIZES + MORE_SIZES)
    for (path, name, _), results in zip(traces, measured):
        print_row(name, ratios_of(results))
        if path.name.endswith(REQUESTS):
            reads = [(read_ratio(a), read_ratio(b)) for a, b in results]
            print_row("  its reads alone",
                      [f"{a:.2f} {b:.2f} ({change(a, b):+.1f})"
                       for a, b in reads])
    print()
    means, worst = changes_of(traces, measured)
    for size, goal, mean in zip(SIZES, GOALS, means):
        print_goal(f"mean change against LRU at {size}", goal, mean)
    print_goal("worst change of all", WORST, worst)
    print()


def main():
    here = pathlib.Path(__file__).resolve().parent
    parser = argparse.ArgumentParser(description="miss ratios next to LRU")
    parser.add_argument("--misses", default=str(here / "misses"),
                        help="the program (default: beside this one)")
    parser.add_argument("folder", type=pathlib.Path, nargs="?")
    args = parser.parse_args()

    print("miss ratio in %: policy, LRU (change against LRU in %)")
    if args.folder:
        print_traces(args.misses, args.folder)
    measured = measure_made(args.misses)
    print_row("made load, room for", MADE_SIZES)
    for name, results in zip(MADE, measured):
        print_row(name, ratios_of(results))
    print()
    print_goal("worst change of made loads", MADE_WORST,
               worst_of_made(measured))


if __name__ == "__main__":
    main()
