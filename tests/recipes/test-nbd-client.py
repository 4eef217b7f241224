#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""The kernel's client as docs/operations.md has it: what is printed there
for the server is run here, what is printed for the client in a guest."""

import os
import shlex
import subprocess
import sys

sys.dont_write_bytecode = True
HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [os.path.join(HERE, "..", "lib"), HERE,
                os.path.join(HERE, "..", "vm")]

import guest  # noqa: E402
import tap  # noqa: E402
import wt  # noqa: E402
import printed  # noqa: E402
import world  # noqa: E402

TOP = os.path.join(HERE, "..", "..")
PROGRAMS = ["nbd-client", "mkfs.ext4", "e2fsck"]


def section():
    found, = [each for each in printed.sections(TOP, "docs/operations.md")
              if each.in_guest()]
    return found


class Machine(guest.Guest):
    """A guest that finds this machine as nbd.example.com."""

    def __init__(self):
        super().__init__(PROGRAMS, ["nbd"])
        self.put("/etc/hosts", "10.0.2.2 nbd.example.com\n")

    def put(self, path, text):
        self.run("printf %%s %s | tr '|' '\\n' >%s" % (
            shlex.quote(text.replace("\n", "|")), path))

    def run_block(self, block):
        if block.language == "sh":
            for command in block.commands():
                self.run(command, timeout=300)
        else:
            self.put(block.language, block.text)


# Commands that run in a world where the port that is printed is free.

PORT = 10809


def connections():
    """How many connections the server has."""
    count = 0
    for name in "tcp", "tcp6":
        with open("/proc/net/" + name, encoding="ascii") as f:
            for line in f.readlines()[1:]:
                words = line.split()
                count += (words[1].endswith(":%04X" % PORT)
                          and words[3] == "01")
    return count


def follow(machine):
    """The whole section."""
    for block in section().blocks:
        if block.in_guest:
            machine.run_block(block)
        elif block.runs:
            subprocess.run(["bash", "-euxc", block.text], check=True,
                           stdin=subprocess.DEVNULL)
    machine.run("while [ -e /sys/block/nbd0/pid ]; do sleep 0.1; done")
    machine.run("nbd-client nbd0")
    assert machine.run("cat /sys/block/nbd0/queue/logical_block_size"
                       ) == "4096"
    wt.wait_until(lambda: connections() == 4, "there are 4 connections")
    machine.run("e2fsck -fn /dev/nbd0")
    machine.run("mount /dev/nbd0 /mnt && cmp /bin/nbd-client "
                "/mnt/nbd-client && umount /mnt")
    machine.run("nbd-client -d /dev/nbd0")


def test_as_printed():
    """An ext4 on a device of nbdtab with several connections."""
    guest.kernel()      # fetched where there is a network
    world.run([sys.executable, os.path.abspath(__file__), "--follow"])


test_as_printed.timeout = 550

if sys.argv[1:] == ["--follow"]:
    try:
        with Machine() as it:
            try:
                follow(it)
            except AssertionError:
                print("\n".join(it.report()))
                raise
    except tap.Skip as reason:
        print(reason)
        sys.exit(77)
else:
    wt.main()
