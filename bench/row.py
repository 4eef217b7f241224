# SPDX-License-Identifier: BSD-3-Clause
"""The type of a row of the benchmark, and the loads that many rows share.

A row has sides.  Each side names one of the row's servers and a function that
puts the load of one round on it and returns what it measured, by name.  The
first side is the one that is judged; a check compares one measure of it with
the same of another side, or with a bound.  A check without a goal is there to
be known.
"""

import collections
import shutil

from side import load

MI = 1 << 20
GI = 1 << 30

# stack: of side.STACKS; parameters: of wtcache; warm: done once, after start;
# transport: unix, tcp or tls, both on loopback.
Server = collections.namedtuple(
    "Server", "stack backend parameters warm transport",
    defaults=[(), None, "unix"])
Side = collections.namedtuple("Side", "label server measure")
# better: "more" or "less"; against: a side, or None for a bound;
# by: "ratio" or "difference" of the two.
Check = collections.namedtuple(
    "Check", "what key better goal against by unit",
    defaults=[None, "ratio", ""])
Row = collections.namedtuple(
    "Row", "name group title servers sides checks seconds memory rounds",
    defaults=[1.0, 0, None])


def least(what, key, goal, against=None, **more):
    return Check(what, key, "more", goal, against, **more)


def most(what, key, goal, against=None, **more):
    return Check(what, key, "less", goal, against, **more)


def peers(backend, parameters, measure, *stacks, warm=None):
    """Servers and sides: wtcache first, then each stack, same load on all."""
    servers = {"wtcache": Server("wtcache", backend, parameters, warm)}
    sides = [Side("wtcache", "wtcache", measure)]
    for stack in stacks:
        servers[stack] = Server(stack, backend, (), warm)
        sides.append(Side(stack, stack, measure))
    return servers, sides


# It may be missing; it serves files, so only their rows have it.
QEMU = ["qemu-nbd"] if shutil.which("qemu-nbd") else []


def known(key, stacks):
    return [least(f"rate, of {stack}", key, None, stack) for stack in stacks]


def span(offset, length):
    return ["--range", f"{offset}:{length}"]


def timed(run):
    return ["--seconds", f"{run.seconds:g}"]


def read_once(length):
    """Warm a cache: read the first bytes of the export, in order."""
    def warm(server):
        load(server, "--block", "64K", "--depth", "8", "--pattern",
             "sequential", "--count", str(length >> 16), *span(0, length))
    return warm


def plain(*arguments):
    """The load as it stands, with a seed of the round's own."""
    def measure(server, run):
        return load(server, *arguments, "--seed", str(run.round + 1),
                    *timed(run))
    return measure


def to_disk(*arguments):
    """The same, and what of it came to the backend, after a flush."""
    def measure(server, run):
        server.settle()
        server.control("stats-reset")
        result = plain(*arguments)(server, run)
        server.settle()
        stats = server.disk_stats()
        result["mean_write"] = (stats["write_bytes"] / 1024 /
                                max(stats["write"], 1))
        result["written"] = (stats["write_bytes"] /
                             max(result["requests"] * 4096, 1))
        return result
    return measure
