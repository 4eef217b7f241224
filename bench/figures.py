#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""Puts seven rows of docs/bench/table.md into the README, so that figures
stand in one place.

    bench/figures.py            writes them between the two comments there
    bench/figures.py --check    exit status 1 if the README has others

A row shows the rate with no filter, with nbdkit's cache filter where the
table has it, and with wtcache; and the ratio of wtcache to no filter, which
was measured side by side.
"""

import os
import re
import sys

TOP = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..")
TABLE = os.path.join(TOP, "docs", "bench", "table.md")
README = os.path.join(TOP, "README.md")
ROWS = ["hits-1", "cold-reads-goal", "stream", "random-writes",
        "flushed-writes-goal", "fua-parallel", "fua-native-one"]
BEGIN = "<!-- figures: bench/figures.py writes them -->\n"
END = "<!-- end of the figures -->\n"
HEAD = ("| requests a second | no filter | cache filter | wtcache | "
        "of no filter | row |\n|---|---|---|---|---|---|\n")


class Stale(Exception):
    """The table or the README is not as this program expects it."""


def read(path):
    with open(path, encoding="utf-8") as f:
        return f.read()


def measured():
    """For each row its load and its rates: {other side: (ratio, wtcache,
    the other)}, as the table prints them."""
    rows, name = {}, None
    for line in read(TABLE).splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if len(cells) != 8:
            continue
        title = re.match(r"\*\*([\w-]+)\*\*: (.*)", cells[0])
        if title:
            name = title.group(1)
            rows[name] = (title.group(2), {})
        side = re.match(r"rate, of (.*)", cells[1])
        if name and side:
            rows[name][1][side.group(1)] = (cells[3], cells[6], cells[7])
    return rows


def figures():
    """The README's table, from the first line to the last."""
    rows, text = measured(), HEAD
    for name in ROWS:
        if name not in rows or "no filter" not in rows[name][1]:
            raise Stale("docs/bench/table.md has no row " + name)
        load, rates = rows[name]
        ratio, here, bare = rates["no filter"]
        cache = rates.get("cache", ("", "", ""))[2]
        text += "| %s | %s | %s | **%s** | %s | `%s` |\n" % (
            load, bare, cache, here, ratio, name)
    return text


def main():
    if sys.argv[1:] not in ([], ["--check"]):
        sys.exit(__doc__.strip())
    before = read(README)
    head, begin, rest = before.partition(BEGIN)
    _, end, tail = rest.partition(END)
    if not begin or not end:
        raise Stale("README.md lacks the comments round its figures")
    after = head + BEGIN + "\n" + figures() + "\n" + END + tail
    if after == before:
        return
    if sys.argv[1:]:
        raise Stale("README.md has not the figures of docs/bench/table.md: "
                    "run bench/figures.py")
    with open(README, "w", encoding="utf-8") as f:
        f.write(after)


if __name__ == "__main__":
    try:
        main()
    except Stale as error:
        sys.exit("bench/figures.py: %s" % error)
