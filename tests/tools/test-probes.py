#!/usr/bin/python3
# SPDX-License-Identifier: BSD-3-Clause
"""Tests of the static probes: the filter has those that the manual page says,
with as many arguments, and the scripts for bpftrace use no others."""

import os
import re
import shutil
import subprocess
import sys

sys.dont_write_bytecode = True
HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [os.path.join(HERE, "..", "lib")]

import tap  # noqa: E402

TOP = os.path.join(HERE, "..", "..")
FILTER = os.path.abspath("plugins/wtcache/.libs/nbdkit-wtcache-filter.so")
SCRIPTS = "wtcache-flushes.btin", "wtcache-latency.btin"


def documented():
    """{probe: its arguments' names} of the manual page."""
    path = os.path.join(TOP, "docs", "wtcache-probes.pod")
    with open(path, encoding="utf-8") as f:
        part = f.read().split("=head1 PROBES")[1].split("=head1")[0]
    found = re.findall(r"^=item B<([a-z_]+)> \(([a-z, ]+)\)$", part,
                       re.MULTILINE)
    assert found
    return {name: arguments.split(", ") for name, arguments in found}


def notes():
    """[(probe, how many arguments)] of the filter, one for each place."""
    if not shutil.which("readelf"):
        raise tap.Skip("readelf (binutils) is missing")
    out = subprocess.run(["readelf", "-nW", FILTER], check=True,
                         stdout=subprocess.PIPE, text=True).stdout
    found = re.findall(r"Provider: wtcache\s+Name: (\S+)\s+Location: .*\s+"
                       r"Arguments: (.*)", out)
    with open("config.h", encoding="utf-8") as f:
        if "#define ENABLE_PROBES 1" not in f.read():
            assert not found, found
            raise tap.Skip("built without probes")
    return [(name, len(arguments.split())) for name, arguments in found]


def script(name):
    with open(os.path.join(TOP, "packaging", "scripts", name),
              encoding="utf-8") as f:
        return f.read()


def test_documented():
    wanted = {name: len(args) for name, args in documented().items()}
    found = notes()
    assert set(wanted) == {name for name, _ in found}, (wanted, found)
    for name, count in found:
        assert count == wanted[name], (name, count)


def test_scripts_use_what_there_is():
    """Each probe of a script, and the arguments that it looks at."""
    wanted = documented()
    for name in SCRIPTS:
        text = re.sub(r"//.*", "", script(name))
        blocks = re.split(r"^usdt:@filter@:wtcache:", text,
                          flags=re.MULTILINE)[1:]
        assert len(blocks) >= 4, name
        for block in blocks:
            probe = re.match(r"\w+", block).group()
            assert probe in wanted, (name, probe)
            body = block[:block.index("\n}\n")]
            for number in re.findall(r"\barg(\d)", body):
                assert int(number) < len(wanted[probe]), (name, probe, number)


def test_bpftrace_reads_them():
    """bpftrace understands the scripts, and finds the probes in the filter."""
    if not shutil.which("bpftrace") or os.geteuid() != 0:
        raise tap.Skip("bpftrace, or root, is missing")
    notes()
    for name in SCRIPTS:
        done = subprocess.run(
            ["bpftrace", "-d", "-e", script(name).replace("@filter@", FILTER)],
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
            timeout=300, check=False)
        assert done.returncode == 0, done.stdout[-2000:]


tap.main()
