# SPDX-License-Identifier: BSD-3-Clause
"""The rows of the benchmark: what is served, what is asked, what is good."""

import os
import pathlib
import re
import shutil
import time

import instructions
import misses_table
import parallel
import side
import streams
from row import (GI, MI, QEMU, Row, Server, Side, known, least, most, peers,
                 plain, read_once, span, timed, to_disk)
from side import (Disk, Failed, File, Missing, fio, load, load_beside,
                  load_begun, loads_together)


# ---------------------------------------------------------------- hits

def hits_row(name, group, connections, floor, cpu, cache):
    length = 128 * MI
    servers, sides = peers(
        File(length), ["wtcache-size=256M"],
        plain("--depth", "32", "--connections", str(connections)),
        "no filter", "cache", *(["cow", *QEMU] if cpu else []),
        warm=read_once(length))
    checks = [least("rate, of no filter", "iops", floor, "no filter"),
              least("rate, of cache", "iops", cache, "cache")]
    if cpu:
        checks += known("iops", ["cow", *QEMU])
        checks.insert(1, most("server CPU a request, of no filter", "cpu",
                              cpu, "no filter", unit="us"))
    return Row(name, group, f"4K random read hits, depth 32, file on tmpfs, "
               f"{connections} connection(s)", servers, sides, checks)


def big_hits_row(depth):
    length = 256 * MI
    servers, sides = peers(
        File(length), ["wtcache-size=512M"],
        plain("--block", "1M", "--depth", str(depth), "--pattern",
              "sequential"),
        "no filter", "cache", *QEMU, warm=read_once(length))
    return Row(f"sequential-hits-{depth}", "goal", "1M sequential read hits, "
               f"depth {depth}, file on tmpfs", servers, sides,
               [least("rate, of no filter", "iops", 1.1, "no filter"),
                least("rate, of cache", "iops", 1.0, "cache"),
                *known("iops", QEMU)])


def hits_beside_misses_row(name, group, floor):
    hot = 32 * MI
    size = 16 * GI
    hits = ["--depth", "16", *span(0, hot)]

    def alone(server, run):
        return load(server, *hits, *timed(run))

    def beside(server, run):
        # Each round misses in a part of its own, never read before.
        part = (size - GI) // 64
        begin = GI + part * (run.round % 64)
        result, other = load_beside(
            server, ["--depth", "16", "--seed", str(run.round),
                     *span(begin, part)], *hits, *timed(run))
        result["misses"] = other["iops"]
        return result

    return Row(
        name, group, "4K read hits, depth 16, while another connection "
        "misses at 20 ms, depth 16",
        {"wtcache": Server("wtcache", Disk(size=str(size),
                                           **{"read-latency": "20ms"}),
                           ["wtcache-size=256M"], read_once(hot))},
        [Side("beside misses", "wtcache", beside),
         Side("alone", "wtcache", alone)],
        [least("rate kept", "iops", floor, "alone"),
         most("median latency", "p50", None, "alone", unit="us")])


def hits_beside_flush_row():
    hot = 32 * MI
    hits = ["--depth", "16", *span(0, hot)]

    def alone(server, run):
        server.settle()
        return load(server, *hits, *timed(run))

    def beside(server, run):
        # 64 MiB written at once, then flushed to a disk that takes some
        # seconds for it, over and over.
        result, other = load_beside(
            server, ["--op", "write", "--pattern", "sequential", "--block",
                     "1M", "--depth", "1", "--flush-every", "64", "--drain",
                     *span(GI, 64 * MI)], *hits, *timed(run))
        if other["flushes"] == 0:
            result["flush"] = 0.0
        else:
            result["flush"] = other["flush_p50"] / 1000
        return result

    return Row(
        "hits-beside-flush", "goal", "4K read hits, depth 16, while a flush "
        "of 64 MiB runs",
        {"wtcache": Server(
            "wtcache", Disk(size="4G", serve="4",
                            **{"write-latency": "120ms",
                               "flush-latency": "120ms"}),
            ["wtcache-size=1G", "wtcache-dirty-max=512M"], read_once(hot))},
        [Side("beside flush", "wtcache", beside),
         Side("alone", "wtcache", alone)],
        [least("rate kept", "iops", 0.9, "alone")], seconds=2.0)


def huge_cache_row():
    big = 3584 * MI
    small = 48 * MI

    def hits(length):
        return plain("--depth", "32", *span(0, length))

    return Row(
        "hits-4G", "goal", "4K random read hits at a cache of 4 GiB, of those "
        "at 64 MiB",
        {"4G": Server("wtcache", File(big, filled=False),
                      ["wtcache-size=4G"], read_once(big)),
         "64M": Server("wtcache", File(small), ["wtcache-size=64M"],
                       read_once(small))},
        [Side("4G", "4G", hits(big)), Side("64M", "64M", hits(small))],
        [least("rate", "iops", 0.85, "64M")], memory=6 * GI)


# ---------------------------------------------------------------- reads

def cold_row(name, group, floor, cache):
    # So large that next to nothing is read twice.
    others = ["cow", "readahead+cache"] if group == "goal" else []
    servers, sides = peers(
        Disk(size="64G", **{"read-latency": "2ms"}),
        ["wtcache-size=64M"], plain("--depth", "16"), "no filter", "cache",
        *others)
    return Row(name, group, "4K random cold reads, depth 16, backend 2 ms",
               servers, sides,
               [least("rate, of no filter", "iops", floor, "no filter"),
                least("rate, of cache", "iops", cache, "cache"),
                *known("iops", others)])


def stream(pattern, connections, offset, length):
    return ["--pattern", pattern, "--depth", "1", "--block", "4K",
            "--connections", str(connections), *span(offset, length)]


# No round's part is read before.
PART = GI
STREAM_DISK = Disk(size=str(64 * PART), **{"read-latency": "2ms"})
STREAM_CACHE = ["wtcache-size=1G"]


def part_of(run):
    return PART * (run.round % 64)


def remember(run, key, result):
    """How far each of the streams came, for the warm round after it."""
    run.notes[key] = max(int(result["requests"]), 64)


def warm_stream(server, run, pattern, connections, offset, length, key):
    """Read again what the cold round read, over and over, for the time."""
    each = run.notes[key] // connections * 4096
    lists = []
    for i in range(connections):
        begin = offset + length // connections * i
        if pattern == "backward":
            begin += length // connections - each
        lists.append([*stream(pattern, 1, begin, each), *timed(run)])
    return lists


def one_stream_row():
    def cold(server, run):
        result = load(server, *stream("sequential", 1, part_of(run), PART),
                      *timed(run))
        remember(run, "one", result)
        return result

    def warm(server, run):
        return load(server, *warm_stream(server, run, "sequential", 1,
                                         part_of(run), PART, "one")[0])

    def peer(server, run):
        return load(server, *stream("sequential", 1, part_of(run), PART),
                    *timed(run))

    servers = {stack: Server(stack, STREAM_DISK, STREAM_CACHE)
               for stack in ("wtcache", "no filter", "readahead+cache")}
    return Row(
        "stream", "goal", "4K sequential cold reads, depth 1, backend 2 ms",
        servers,
        [Side("cold", "wtcache", cold), Side("warm", "wtcache", warm),
         Side("no filter", "no filter", peer),
         Side("readahead+cache", "readahead+cache", peer)],
        [least("rate, of the same stream warm", "iops", 0.85, "warm"),
         least("rate, of no filter", "iops", None, "no filter"),
         least("rate, of readahead+cache", "iops", None, "readahead+cache")])


def four_streams_row():
    half = PART // 2

    def total(results):
        return {"iops": sum(result["iops"] for result in results)}

    def cold(server, run):
        begin = part_of(run)
        results = loads_together(
            server,
            [*stream("sequential", 2, begin, half), *timed(run)],
            [*stream("backward", 2, begin + half, half), *timed(run)])
        remember(run, "forward", results[0])
        remember(run, "backward", results[1])
        return total(results)

    def warm(server, run):
        begin = part_of(run)
        return total(loads_together(
            server,
            *warm_stream(server, run, "sequential", 2, begin, half,
                         "forward"),
            *warm_stream(server, run, "backward", 2, begin + half, half,
                         "backward")))

    return Row(
        "streams-4", "goal", "four cold streams of 4K at once, two forwards "
        "and two backwards, depth 1, backend 2 ms",
        {"wtcache": Server("wtcache", STREAM_DISK, STREAM_CACHE)},
        [Side("cold", "wtcache", cold), Side("warm", "wtcache", warm)],
        [least("rate, of the same streams warm", "iops", 0.7, "warm")])


def stream_beside_random_row():
    """The random reads are judged, then the stream: two rows' worth."""
    size = 64 * PART
    random = ["--depth", "8", *span(size // 2, size // 2)]

    def alone(server, run):
        result = load(server, *random, "--seed", str(2 * run.round + 1),
                      *timed(run))
        return {"random": result["iops"]}

    def beside(server, run):
        result, other = load_beside(
            server, stream("sequential", 1, PART * (run.round % 32), PART),
            *random, "--seed", str(2 * run.round + 2), *timed(run))
        remember(run, "beside", other)
        return {"random": result["iops"], "stream": other["iops"]}

    def warm(server, run):
        begin = PART * (run.round % 32)
        each = min(run.notes["beside"] * 4096, 256 * MI)
        result = load(server, *stream("sequential", 1, begin, each),
                      *timed(run))
        return {"stream": result["iops"]}

    return Row(
        "stream-beside-random", "goal", "one cold stream of 4K, depth 1, "
        "beside random cold reads, depth 8, backend 2 ms",
        {"wtcache": Server("wtcache", STREAM_DISK, STREAM_CACHE)},
        [Side("both", "wtcache", beside), Side("warm", "wtcache", warm),
         Side("random alone", "wtcache", alone)],
        [least("stream, of the same stream warm", "stream", 0.7, "warm"),
         least("random reads kept", "random", 0.9, "random alone")])


# ---------------------------------------------------------------- FUA

def fua_row(name, group, title, pattern, disk, goals, parameters=(),
            written=None):
    servers, sides = peers(
        Disk(**{"size": "1G", "write-latency": "200us",
                "flush-latency": "2ms", **disk}),
        ["wtcache-size=64M", *parameters],
        to_disk("--op", "write", "--fua", "--depth", "16", "--pattern",
                pattern), *goals)
    checks = [least(f"rate, of {stack}", "iops", goal, stack)
              for stack, goal in goals.items()]
    if written:
        checks.append(most("bytes at the backend for each of the client",
                           "written", written))
    return Row(name, group, title, servers, sides, checks)


ONE_AT_A_TIME = "a backend that admits one request at a time"


# ---------------------------------------------------------------- writes

def flushed_writes_row(name, group, floor, mean, unflushed):
    load_all = ["--op", "write", "--pattern", "sequential", "--depth", "32"]
    flushed = to_disk(*load_all, "--flush-every", "256")
    servers, sides = peers(
        Disk(size="1G", **{"write-latency": "200us",
                           "flush-latency": "2ms"}),
        ["wtcache-size=256M"], flushed, "no filter", "cache")
    checks = [least("rate, of no filter", "iops", floor, "no filter"),
              least("rate, of cache", "iops", None, "cache"),
              least("mean backend write, KiB", "mean_write", mean)]
    if unflushed:
        sides.append(Side("without flushes", "wtcache", to_disk(*load_all)))
        checks.insert(0, least("rate, of the same without flushes", "iops",
                               unflushed, "without flushes"))
    return Row(name, group, "4K sequential writes, depth 32, a flush every "
               "256, backend 0.2 ms, flush 2 ms", servers, sides, checks)


def random_writes_row():
    length = 128 * MI
    servers, sides = peers(
        File(length), ["wtcache-size=512M", "wtcache-dirty-max=256M"],
        plain("--op", "write", "--depth", "32"), "no filter", "cache", "cow",
        *QEMU, warm=read_once(length))
    return Row("random-writes", "goal", "4K random writes, no flush, depth "
               "32, file on tmpfs", servers, sides,
               [least("rate, of no filter", "iops", 1.0, "no filter"),
                least("rate, of cache", "iops", 3.0, "cache"),
                *known("iops", ["cow", *QEMU])])


def bounded_latency_row():
    servers, sides = peers(
        Disk(size="1G", serve="4", **{"write-latency": "2ms",
                                      "flush-latency": "2ms"}),
        ["wtcache-size=64M", "wtcache-dirty-max=4M"],
        plain("--op", "write", "--depth", "8"), "no filter")
    return Row("writes-at-the-bound", "goal", "4K random writes, depth 8, "
               "dirty data at its bound, backend 2 ms, 4 at a time",
               servers, sides,
               [most("latency p99, of no filter", "p99", 3.0, "no filter",
                     unit="us"),
                most("longest latency, of no filter", "max", 3.0,
                     "no filter", unit="us"),
                least("rate, of no filter", "iops", None, "no filter")],
               seconds=2.0)


def small_flush_row():
    def measure(server, run):
        return load(server, "--op", "write", "--pattern", "random",
                    "--depth", "1", "--flush-every", "1", "--seed",
                    str(run.round + 1), *span(0, 32 * MI), *timed(run))

    def server(size, length):
        return Server("wtcache", File(length, filled=False),
                      [f"wtcache-size={size}"], read_once(length))

    return Row(
        "small-flush", "goal", "a flush with one dirty block in a full cache "
        "of 4 GiB, of that at 64 MiB",
        {"4G": server("4G", 4 * GI), "64M": server("64M", 64 * MI)},
        [Side("4G", "4G", measure), Side("64M", "64M", measure)],
        [most("median of the flush", "flush_p50", 1.5, "64M", unit="us")],
        memory=6 * GI)


# ---------------------------------------------------------------- memory

def memory_row(text, size):
    """More than the cache holds is read and written from two connections,
    then the small and random load comes from 64.  Large requests stay off
    those: nbdkit keeps a buffer of the largest for each of its threads, and
    which of 1024 threads ever see one differs from side to side.
    """
    length = max(size * 5 // 4, 128 * MI)

    def fill_cache(server):
        load(server, "--op", "mixed", "--block", "64K", "--pattern",
             "sequential", "--connections", "2", "--count",
             str(length >> 16), *span(0, length))

    def measure(server, run):
        load(server, "--op", "mixed", "--connections", "64", "--depth", "16",
             "--flush-every", "64", "--seed", str(run.round + 1), *timed(run))
        return {"resident": server.highest_resident() / MI}

    servers, sides = peers(File(length, filled=False),
                           [f"wtcache-size={text}"], measure, "no filter",
                           warm=fill_cache)
    return Row(f"memory-{text}", "floor", f"highest resident size of the "
               f"server, wtcache-size={text}, 64 connections", servers, sides,
               [most("above no filter", "resident", size // MI + 32,
                     "no filter", by="difference", unit="MiB")],
               memory=2 * size + GI)


def metadata_row():
    """The share of wtcache-size that a full cache uses beside the bytes of
    pages; buffers for requests under way are a measure of their own.
    """
    length = 512 * MI

    def measure(server, run):
        def taken(kind):
            return server.metric("wtcache_memory_bytes", kind=kind)

        frames = taken("frames")
        about = taken("descriptors") + taken("tables") + taken("other")
        return {"metadata": 100 * about / frames,
                "buffers": 100 * taken("buffers") / frames}

    return Row("metadata", "goal", "memory beside the cached bytes, pages of "
               "4K, cache of 256 MiB, full",
               {"wtcache": Server(
                   "wtcache", File(length, filled=False),
                   ["wtcache-size=256M", "wtcache-stats={folder}/stats"],
                   read_once(length))},
               [Side("wtcache", "wtcache", measure)],
               [most("metadata, % of cached bytes", "metadata", 2),
                most("buffers, % of cached bytes", "buffers", None)],
               rounds=1)


# ----------------------------------------------------------- miss ratio

def misses_row():
    """The traces are not ours to give: WTCACHE_TRACES names a folder."""
    def measure(_server, _run):
        folder = os.environ.get("WTCACHE_TRACES")
        if not folder:
            raise Missing("no folder of traces in WTCACHE_TRACES")
        traces = misses_table.find_traces(pathlib.Path(folder))
        if not traces:
            raise Missing(f"no traces in {folder}")
        measured = misses_table.measure_all(
            side.find("WTCACHE_MISSES", "bench/misses"), traces)
        means, worst = misses_table.changes_of(traces, measured)
        result = dict(zip(misses_table.SIZES, means))
        result["worst"] = worst
        return {key: round(value, 1) for key, value in result.items()}

    checks = [most(f"mean change against LRU at {size}", size, goal,
                   unit="%")
              for size, goal in zip(misses_table.SIZES, misses_table.GOALS)]
    checks.append(most("worst change against LRU", "worst",
                       misses_table.WORST, unit="%"))
    return Row("miss-ratio", "goal", "miss ratio of the policy on the traces "
               "of a folder", {}, [Side("wtcache", None, measure)], checks,
               rounds=1)


def made_misses_row():
    """Loads that mislead policies.  A change of the load may cost a capacity of
    misses, which is taken off.
    """
    def key(name, size):
        return f"{name} at {size}"

    def measure(_server, _run):
        measured = misses_table.measure_made(
            side.find("WTCACHE_MISSES", "bench/misses"))
        return {key(name, size): round(misses_table.made_change(*cell), 1)
                for name, results in zip(misses_table.MADE, measured)
                for size, cell in zip(misses_table.MADE_SIZES, results)}

    return Row("made-miss-ratio", "goal", "misses of the policy on made loads "
               "that mislead policies, but for a capacity each change, against "
               "LRU", {}, [Side("wtcache", None, measure)],
               [most(f"{name}, room for {size}", key(name, size),
                     misses_table.MADE_WORST, unit="%")
                for name in misses_table.MADE
                for size in misses_table.MADE_SIZES], rounds=1)


# ------------------------------------------------------------- settling

ADMITTED = [1, 4, 32]
SETTLED = 2.0  # seconds after a change


def after_changes(arguments, measure):
    """Change what the disk admits while it runs; measure 2 s later, for each
    number in turn.
    """
    def all_numbers(server, run):
        result = {}
        # Each change among them comes up in some round.
        shift = run.round % len(ADMITTED)
        for admitted in ADMITTED[shift:] + ADMITTED[:shift]:
            with load_begun(server, *arguments):
                time.sleep(0.2)
                server.control("serve", str(admitted))
                time.sleep(SETTLED)
                part = measure(server, run, admitted)
            result.update({f"{key} at {admitted}": value
                           for key, value in part.items()})
        return result
    return all_numbers


def settling_depth_row():
    def depth(server, run, admitted):
        """How many writes are at the disk at once, but for short peaks."""
        server.disk_log_begin()
        time.sleep(run.seconds / 2)
        at_once = set()
        seen = []
        for words in server.disk_log():
            if words[1] == "start" and words[5] == "write":
                at_once.add(words[2])
                seen.append(len(at_once))
            elif words[1] == "end":
                at_once.discard(words[2])
        if not seen:
            raise Failed("no writes came to the disk")
        seen.sort()
        return {"depth": seen[len(seen) * 95 // 100] / admitted}

    checks = []
    for admitted in ADMITTED:
        key = f"depth at {admitted}"
        checks += [least(f"depth, of {admitted} admitted", key, 0.5),
                   most(f"depth, of {admitted} admitted", key, 2)]
    return Row(
        "settling-depth", "goal", "writes at the backend at once, 2 s after "
        "what it admits has changed, 64 FUA writes of 4K, 2 ms",
        {"wtcache": Server(
            "wtcache", Disk(log=True, size="1G", serve="4", fua="emulate",
                            **{"write-latency": "2ms",
                               "flush-latency": "2ms"}),
            ["wtcache-size=64M"])},
        [Side("wtcache", "wtcache", after_changes(
            ["--op", "write", "--fua", "--connections", "4", "--depth",
             "16"], depth))], checks)


def settling_choice_row():
    """The goals are what only the better way can reach: at 1 and 4 at once
    that is shared flushes, at 32 the flag.
    """
    writes = ["--op", "write", "--fua", "--depth", "16"]

    def rate(server, run, _admitted=None):
        before = server.disk_stats()
        time.sleep(run.seconds / 2)
        after = server.disk_stats()
        return {"rate": (after["write"] - before["write"]) /
                (run.seconds / 2)}

    goals = {1: 2.5, 4: 1.6, 32: 0.9}
    disk = Disk(size="1G", serve="4", fua="native",
                **{"write-latency": "200us", "flush-latency": "2ms"})
    return Row(
        "settling-choice", "goal", "4K random FUA writes, native, depth 16, "
        "2 s after what the backend admits has changed",
        {"wtcache": Server("wtcache", disk, ["wtcache-size=64M"]),
         "no filter": Server("no filter", disk)},
        [Side("wtcache", "wtcache", after_changes(writes, rate)),
         Side("no filter", "no filter", after_changes(writes, rate))],
        [least(f"rate at {admitted} admitted, of no filter",
               f"rate at {admitted}", goal, "no filter")
         for admitted, goal in goals.items()])


# ------------------------------------------------------------------ fio

def fio_row(name, title, backend, parameters, arguments, own, goal,
            warm=None):
    """The same load by fio, and by ours on the same server."""
    def by_fio(server, run):
        return fio(server, "--bs=4k", f"--runtime={1000 * run.seconds:.0f}ms",
                   "--randrepeat=0", *arguments)

    servers = {stack: Server(stack, backend,
                             parameters if stack == "wtcache" else (), warm)
               for stack in ("wtcache", "no filter")}
    return Row(name, "goal", title, servers,
               [Side("wtcache", "wtcache", by_fio),
                Side("no filter", "no filter", by_fio),
                Side("load", "wtcache", plain(*own))],
               [least("rate by fio, of no filter", "iops", goal,
                      "no filter"),
                least("rate by fio, of bench/load", "iops", None, "load")])


def fio_hits_row():
    length = 128 * MI
    return fio_row("fio-hits", "4K random read hits, depth 32, file on "
                   "tmpfs, by fio", File(length), ["wtcache-size=256M"],
                   ["--rw=randread", "--iodepth=32", f"--size={length}"],
                   ["--depth", "32"], 1.0, read_once(length))


def fio_cold_row():
    return fio_row("fio-cold-reads", "4K random cold reads, depth 16, "
                   "backend 2 ms, by fio",
                   Disk(size="64G", **{"read-latency": "2ms"}),
                   ["wtcache-size=64M"],
                   ["--rw=randread", "--iodepth=16", "--size=64G",
                    "--norandommap"], ["--depth", "16"], 0.98)


def available_memory():
    with open("/proc/meminfo") as info:
        for line in info:
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) << 10
    return 0


def need(row):
    """Raise Missing where the row cannot run."""
    for pattern, programs in ((".*-instructions", ["valgrind"]),
                              ("shared-lines", ["valgrind", "nm"]),
                              ("fio-.*", ["fio"])):
        for program in programs:
            if re.fullmatch(pattern, row.name) and not shutil.which(program):
                raise Missing(f"{program} is not installed")
    if row.memory > available_memory():
        raise Missing(f"needs {row.memory // MI} MiB of memory")


ROWS = [
    cold_row("cold-reads", "floor", 0.95, None),
    fua_row("fua-writes", "floor", "4K random FUA writes, native, depth 16, "
            "write 0.2 ms + flush 2 ms", "random", {"fua": "native"},
            {"no filter": 0.95, "cache": None}, written=1.0),
    hits_row("hits", "floor", 1, 0.95, None, 2.0),
    flushed_writes_row("flushed-writes", "floor", 2.0, 256, None),
    hits_beside_misses_row("hits-beside-misses", "floor", 0.85),
    memory_row("1M", MI),
    memory_row("32M", 32 * MI),
    memory_row("1G", GI),

    hits_row("hits-1", "goal", 1, 1.0, 0.95, 2.2),
    hits_row("hits-4", "goal", 4, 1.0, 0.95, 2.2),
    *instructions.ROWS,
    big_hits_row(2),
    big_hits_row(16),
    random_writes_row(),
    cold_row("cold-reads-goal", "goal", 0.98, 14),
    fua_row("fua-parallel", "goal", "4K random FUA writes, native, depth 16, "
            "2.2 ms, backend parallel", "random", {"fua": "native"},
            {"no filter": 0.98, "cache": 15}),
    fua_row("fua-emulated", "goal", "4K random FUA writes, emulated, depth "
            "16, " + ONE_AT_A_TIME, "random",
            {"fua": "emulate", "serve": "1"}, {"no filter": 5.7}),
    fua_row("fua-native-one", "goal", "4K random FUA writes, native, depth "
            "16, " + ONE_AT_A_TIME, "random",
            {"fua": "native", "serve": "1"}, {"no filter": 5.0}),
    fua_row("fua-sequential-one", "goal", "4K sequential FUA writes, native, "
            "depth 16, " + ONE_AT_A_TIME, "sequential",
            {"fua": "native", "serve": "1"}, {"no filter": 12.0}),
    fua_row("fua-sequential", "goal", "4K sequential FUA writes, native, "
            "depth 16, backend parallel", "sequential", {"fua": "native"},
            {"no filter": 0.97}),
    flushed_writes_row("flushed-writes-goal", "goal", 3.5, 512, 0.8),
    one_stream_row(),
    four_streams_row(),
    stream_beside_random_row(),
    hits_beside_misses_row("hits-beside-misses-goal", "goal", 0.9),
    hits_beside_flush_row(),
    bounded_latency_row(),
    small_flush_row(),
    huge_cache_row(),
    metadata_row(),
    misses_row(),
    made_misses_row(),
    *parallel.ROWS,
    *streams.ROWS,
    settling_depth_row(),
    settling_choice_row(),
    fio_hits_row(),
    fio_cold_row(),
]
