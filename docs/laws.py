#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""Checks that what docs/laws.md cites exists: each file, each function in the
file that it is said to be in, each test.  Every law says what keeps it, what
proves it, and which command runs one of those tests.

    docs/laws.py [FILE]     exit status 1, and a line each, if something is not
"""

import os
import re
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
TOP = os.path.dirname(HERE)
LAWS = range(1, 25)

NAME = re.compile(r"`(\w+)`")
KEPT = re.compile(r"((?:`\w+`[,\s]+(?:and\s+)?)*`\w+`)\s+in\s+`([^`]+)`")
PROVED = re.compile(r"`([^`]+)`\s+\(([^)]*)\)")
RUN = re.compile(r"`make check-one TEST='(\S+) (\w+)'`")

complaints = []


def complain(law, text):
    complaints.append("law %d: %s" % (law, text))


def read(law, path):
    """The text of a file that a law names; "" if there is none."""
    try:
        with open(os.path.join(TOP, path), encoding="utf-8") as f:
            return f.read()
    except OSError:
        complain(law, "there is no " + path)
        return ""


def check_kept(law, text):
    found = KEPT.findall(text)
    if not found:
        complain(law, "names no function that keeps it")
    for names, path in found:
        source = read(law, path)
        for name in NAME.findall(names):
            if source and not re.search(r"(?m)^%s \(" % name, source):
                complain(law, "there is no %s in %s" % (name, path))


def check_tests(law, text):
    found = PROVED.findall(text)
    if not found:
        complain(law, "names no test that proves it")
    proofs = set()
    for path, names in found:
        source = read(law, path)
        for name in re.findall(r"`(test_\w+)`", names):
            proofs.add((re.sub(r"\.c$", "", path), name))
            if source and not re.search(r"(?m)^(def )?%s ?\(" % name, source):
                complain(law, "there is no %s in %s" % (name, path))
    return proofs


def check(law, section):
    kept, _, rest = section.partition("- Proved by")
    proved, _, run = rest.partition("- Run ")
    check_kept(law, kept.partition("- Kept by")[2])
    proofs = check_tests(law, proved)
    command = RUN.match(run)
    if not command:
        complain(law, "names no command that runs a test of it")
    elif command.groups() not in proofs:
        complain(law, "its command runs a test that it does not name")


def main():
    path = sys.argv[1] if len(sys.argv) > 1 else "docs/laws.md"
    with open(os.path.join(TOP, path), encoding="utf-8") as f:
        parts = re.split(r"(?m)^### Law (\d+)$", f.read())
    sections = dict(zip(map(int, parts[1::2]), parts[2::2]))
    for law in LAWS:
        if law in sections:
            check(law, sections.pop(law))
        else:
            complain(law, "is not there")
    for law in sections:
        complain(law, "is one too many")
    for line in complaints:
        print(line)
    return 1 if complaints else 0


if __name__ == "__main__":
    sys.exit(main())
