#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""Tests of the words that people type before they have read a page: -h, help,
and the help of the options that wtcachectl changes.  No server is needed."""

import json
import os
import re
import subprocess
import sys

sys.dont_write_bytecode = True
HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [os.path.join(HERE, "..", "lib")]

import tap  # noqa: E402

TOP = os.path.join(HERE, "..", "..")
BUILT = os.environ.get("top_builddir", TOP)
CTL = os.path.join(BUILT, "tools", "wtcachectl")
FILTER = os.environ["WTCACHE_FILTER"]


def run(*words):
    return subprocess.run(words, stdin=subprocess.DEVNULL, text=True,
                          capture_output=True, timeout=100, check=False)


def ctl(*words):
    tap.require(os.path.exists(CTL), "wtcachectl is not built")
    found = run(CTL, *words)
    assert (found.returncode, found.stderr) == (0, ""), found
    return found.stdout


def test_h_everywhere():
    """-h and --help print the help and do nothing else."""
    programs = [os.path.join(TOP, name) for name in ("check", "quickstart")]
    programs += [path for path in (
        os.path.join(BUILT, "tools", name)
        for name in ("wtcachectl", "wtcache-replay", "wtcache-tier",
                     "wtcache-top"))
        if os.path.exists(path)]
    programs.append(os.path.join(TOP, "bench", "run"))
    for program in programs:
        texts = set()
        for word in "-h", "--help":
            found = run(program, word)
            assert (found.returncode, found.stderr) == (0, ""), found
            texts.add(found.stdout)
        assert len(texts) == 1 and texts.pop().count("\n") > 4, program


def test_check_of_something_else():
    """The wrong word stands first."""
    found = run(os.path.join(TOP, "check"), "foo")
    assert (found.returncode, found.stdout) == (2, ""), found
    assert found.stderr.startswith("check: foo: "), found


def test_help_of_commands():
    """Each that the help lists has one of its own."""
    names = re.findall(r"^  ([a-z]+)[^a-z]", ctl("help"), re.M)
    assert len(names) >= 10, names
    for name in names:
        first = ctl("help", name).split("\n")[0]
        assert first.startswith("Usage: wtcachectl [SERVER] " + name), first
        found = json.loads(ctl("help", name, "--json"))
        assert found["command"] == name, found
    found = json.loads(ctl("help", "--json"))["commands"]
    assert [c["command"] for c in found] == names, found
    found = run(CTL, "help", "stauts")
    assert found.returncode == 2, found
    assert found.stderr.endswith("is status meant?\n"), found


def options_of(text, prefix="  "):
    return dict(re.findall(r"^%s([-a-z]+)=(\S+)" % prefix, text, re.M))


def test_help_of_options():
    """The help of get has all of nbdkit --help, that of set those that say
    that they are changeable."""
    text = run("nbdkit", "--filter=" + FILTER, "null", "--help").stdout
    wanted = options_of(text, "wtcache-")
    assert len(wanted) >= 15, wanted
    assert options_of(ctl("help", "get")) == wanted
    words = re.split(r"(?m)^wtcache-", text)
    changeable = {word.split("=")[0] for word in words[1:]
                  if re.search(r"changeable\)", " ".join(word.split()))}
    assert {"size", "mode", "depth"} <= changeable < set(wanted), changeable
    assert set(options_of(ctl("help", "set"))) == changeable
    found = json.loads(ctl("help", "set", "--json"))["options"]
    assert {o["name"]: o["value"] for o in found} == {
        name: wanted[name] for name in changeable}, found


tap.main()
