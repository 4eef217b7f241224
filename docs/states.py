#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""Draws the states of a block from the table in the filter's sources.

    docs/states.py            writes the drawing into docs/design.md
    docs/states.py --check    exit status 1 if the drawing there is stale

Each state that a block can reach from nothing is a line: its marks, and what
each event makes of it.
"""

import os
import re
import sys

TOP = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
TABLE = os.path.join(TOP, "plugins", "wtcache", "pagecache", "states.h")
DESIGN = os.path.join(TOP, "docs", "design.md")
BEGIN, END = "<!-- states: docs/states.py -->\n", "<!-- end of states -->\n"

LETTERS = "UDWSPF"
NAMES = dict(zip(LETTERS, ("uptodate", "dirty", "writeback", "unstable",
                           "pending", "filling")))


def read_table():
    """Each event's name and its sets of letters: needs, forbids, sets,
    clears."""
    with open(TABLE, encoding="utf-8") as f:
        rows = re.findall(r"^  \[EVENT_(\w+)\]\s*= \{ (.*) \},$", f.read(), re.M)
    return [(name.lower().replace("_", " "),
             [frozenset(re.findall("[A-Z]", cell)) for cell in cells.split(",")])
            for name, cells in rows]


def successors(state, rows):
    """The state that each event allowed here leads to."""
    for name, (needs, forbids, sets, clears) in rows:
        if needs <= state and not forbids & state:
            yield name, (state | sets) - clears


def reachable(rows):
    found = [frozenset()]
    for state in found:
        for _, after in successors(state, rows):
            if after not in found:
                found.append(after)
    return sorted(found, key=lambda s: (len(s), [LETTERS.index(x) for x in
                                                 sorted(s, key=LETTERS.index)]))


def text(state):
    return " ".join(NAMES[x] for x in LETTERS if x in state) or "nothing"


def draw():
    rows = read_table()
    states = reachable(rows)
    lines = ["| marks of a block | what events make of it |", "|---|---|"]
    for state in states:
        events = {}
        for name, after in successors(state, rows):
            if after != state:
                events.setdefault(after, []).append(name)
        lines.append("| %s | %s |" % (text(state), "; ".join(
            "%s → **%s**" % (", ".join(names), text(after))
            for after, names in events.items())))
    return "%s%d states can be reached, by %d events.\n\n%s\n%s" % (
        BEGIN, len(states), len(rows), "\n".join(lines), END)


def main():
    with open(DESIGN, encoding="utf-8") as f:
        design = f.read()
    begin, end = design.index(BEGIN), design.index(END) + len(END)
    drawn = design[:begin] + draw() + design[end:]
    if sys.argv[1:] == ["--check"]:
        if drawn != design:
            print("docs/design.md: the states are stale: run docs/states.py")
            return 1
        return 0
    with open(DESIGN, "w", encoding="utf-8") as f:
        f.write(drawn)
    return 0


if __name__ == "__main__":
    sys.exit(main())
