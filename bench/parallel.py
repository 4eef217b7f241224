# SPDX-License-Identifier: BSD-3-Clause
"""The rows of much at once: 4 connections with 16 requests each, requests of 16
MiB, zero and trim of 1 GiB; and the same loads by other transports."""

import re
import shutil
import subprocess
import time

import side
from row import (GI, MI, Row, Server, Side, least, most, peers, plain,
                 read_once, to_disk)
from side import Disk, Failed, File, Missing, load

FOUR_BY_16 = ["--connections", "4", "--depth", "16"]
FUA = ["--op", "write", "--fua"]


def fua_4x16_row(name, title, latencies, goal):
    servers, sides = peers(
        Disk(size="1G", fua="native", **latencies), ["wtcache-size=64M"],
        to_disk(*FUA, *FOUR_BY_16), "no filter")
    return Row(name, "goal", "4K random FUA writes, native, 4 connections "
               f"with depth 16, {title}", servers, sides,
               [least("rate, of no filter", "iops", goal, "no filter")])


def cold_4x16_row():
    servers, sides = peers(
        Disk(size="64G", **{"read-latency": "200us"}), ["wtcache-size=64M"],
        plain(*FOUR_BY_16), "no filter")
    return Row("cold-reads-4x16", "goal", "4K random cold reads, 4 "
               "connections with depth 16, backend 0.2 ms", servers, sides,
               [least("rate, of no filter", "iops", 0.90, "no filter")])


def futex_calls(server, *arguments):
    """The futex calls of a server like this one under a load, each request."""
    folder = server.path("traced")
    counts = folder + "/futexes"
    traced = side.Server(folder, server.stack, server.backend,
                         ["wtcache-size=64M"],
                         wrapper=["strace", "-f", "-c", "-e", "trace=futex",
                                  "-o", counts])
    try:
        done = load(traced, *arguments)
    finally:
        stop_traced(traced)
    with open(counts) as lines:
        for line in lines:
            match = re.match(r"\s*\S+\s+\S+\s+\S+\s+(\d+)\s+(\d+\s+)?futex",
                             line)
            if match:
                return int(match[1]) / done["requests"]
    raise Failed("strace saw no futex call")


def stop_traced(traced):
    """SIGTERM is for the server: strace writes its table when that ends."""
    children = subprocess.run(
        ["ps", "-o", "pid=", "--ppid", str(traced.process.pid)], text=True,
        capture_output=True).stdout.split()
    for child in children:
        subprocess.run(["kill", "-TERM", child])
    traced.stop()


def futexes_row():
    def measure(server, run):
        if not shutil.which("strace"):
            raise Missing("strace is not installed")
        shutil.rmtree(server.path("traced"), ignore_errors=True)
        return {"futexes": futex_calls(server, *FUA, *FOUR_BY_16,
                                       "--count", "4000")}

    servers, sides = peers(Disk(size="1G", fua="native"),
                           ["wtcache-size=64M"], measure, "no filter")
    return Row("futexes", "goal", "futex calls for a 4K FUA write, 4 "
               "connections with depth 16, backend at once (strace)", servers,
               sides, [most("more than no filter", "futexes", 0.5,
                            "no filter", by="difference")], rounds=1)


# ------------------------------------------------------- large requests

def large_row(name, title, disk, arguments):
    servers, sides = peers(
        Disk(size="64G", **{"read-latency": "30ms", "write-latency": "30ms",
                            "flush-latency": "30ms", **disk}),
        ["wtcache-size=256M"],
        plain("--block", "16M", "--depth", "1", *arguments), "no filter")
    return Row(name, "goal", f"{title} of 16 MiB, depth 1, backend 30 ms away",
               servers, sides,
               [least("rate, of no filter", "iops", 0.95, "no filter")],
               seconds=3.0)


def large_flushes_row():
    def measure(server, run):
        server.settle()
        server.control("stats-reset")
        load(server, *FUA, "--block", "24M", "--depth", "1", "--count", "1")
        return {"flushes": server.disk_stats()["flush"]}

    return Row("large-fua-emulated", "goal", "flushes of one FUA write of 24 "
               "MiB, emulated",
               {"wtcache": Server("wtcache", Disk(size="1G", fua="emulate"),
                                  ["wtcache-size=256M"])},
               [Side("wtcache", "wtcache", measure)],
               [most("flushes", "flushes", 1)], rounds=1)


def clear_row(name, call):
    def measure(server, run):
        offset = GI * (run.round % 16)
        began = time.monotonic()
        call(server.connection, offset)
        return {"iops": 1 / (time.monotonic() - began)}

    servers, sides = peers(
        Disk(size="16G", **{"zero-latency": "400ms", "trim-latency": "400ms"}),
        ["wtcache-size=64M"], measure, "no filter")
    return Row(name, "goal", f"a {name} of 1 GiB, 0.4 s a call", servers,
               sides, [least("rate, of no filter", "iops", 0.95,
                             "no filter")])


# ----------------------------------------------------------- transports

def transport_rows(transport):
    """Over TCP, and TLS: the figures of a hit, of a durable write and of
    large requests."""
    hits = 128 * MI
    loads = [
        ("hits", "4K random read hits, depth 32", File(hits),
         ["--depth", "32"], read_once(hits)),
        ("fua", "4K random FUA writes, native, depth 16, 0.2 ms",
         Disk(size="1G", fua="native", **{"write-latency": "200us"}),
         [*FUA, "--depth", "16"], None),
        ("sequential-hits", "1M sequential read hits, depth 4", File(hits),
         ["--block", "1M", "--depth", "4", "--pattern", "sequential"],
         read_once(hits)),
    ]
    for name, title, backend, arguments, warm in loads:
        servers, sides = peers(backend, ["wtcache-size=256M"],
                               plain(*arguments), "no filter", warm=warm)
        yield Row(f"{name}-{transport}", "goal",
                  f"{title}, over {transport.upper()} on loopback",
                  {stack: server._replace(transport=transport)
                   for stack, server in servers.items()}, sides,
                  [least("rate, of no filter", "iops", None, "no filter"),
                   most("server CPU a request, of no filter", "cpu", None,
                        "no filter", unit="us")])


ROWS = [
    fua_4x16_row("fua-4x16", "backend parallel, 0.2 ms",
                 {"write-latency": "200us", "flush-latency": "2ms"}, 0.90),
    fua_4x16_row("fua-4x16-at-once", "backend answers at once", {}, 0.85),
    cold_4x16_row(),
    futexes_row(),
    large_row("large-reads", "cold reads", {}, []),
    large_row("large-fua", "FUA writes, native,", {"fua": "native"}, FUA),
    large_flushes_row(),
    clear_row("zero", lambda handle, offset: handle.zero(GI, offset)),
    clear_row("trim", lambda handle, offset: handle.trim(GI, offset)),
    *transport_rows("tcp"),
    *transport_rows("tls"),
]
