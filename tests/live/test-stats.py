#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""The file of statistics: what it says, and that it is whole."""

import errno
import os
import re
import sys
import time

sys.dont_write_bytecode = True

from live import (  # noqa: E402
    K, M, begin_put, cached, ended, expect, fault, gate, gated, open_gate,
    put, wt)
import promtool  # noqa: E402
import tap  # noqa: E402

OPERATIONS = "read", "write", "zero", "trim", "flush"

LABEL = r'([a-z_]+)="((?:[^"\\\n]|\\["\\n])*)"'
SAMPLE = re.compile(r'^([a-z_][a-z0-9_]*)(?:\{(%s(?:,%s)*)\})? (\S+)$'
                    % (LABEL, LABEL))


class Sample:
    """One line: its name, its labels, its value."""

    def __init__(self, line):
        match = SAMPLE.match(line)
        assert match, line
        self.name = match.group(1)
        self.labels = dict(re.findall(LABEL, match.group(2) or ""))
        self.value = float(match.groups()[-1])


class Stats:
    """A file of statistics; raises unless all of it is valid."""

    def __init__(self, text):
        self.types, self.samples = {}, []
        assert text.endswith("\n"), text[-100:]
        family = None
        seen = set()
        first, *lines = text.splitlines()
        assert first.startswith("# Statistics of nbdkit-wtcache"), first
        for line in lines:
            if line.startswith("# HELP "):
                family, told = line.split(" ", 3)[2:]
                assert family not in self.types and told, line
            elif line.startswith("# TYPE "):
                name, kind = line.split(" ")[2:]
                expect(name, family)
                assert kind in ("counter", "gauge", "histogram"), line
                self.types[name] = kind
            else:
                sample = Sample(line)
                expect(self.family(sample.name), family, line)
                key = sample.name, tuple(sorted(sample.labels.items()))
                assert key not in seen, line
                seen.add(key)
                self.samples.append(sample)
        self.check()

    def family(self, name):
        """The metric that a sample's name belongs to."""
        if name in self.types:
            return name
        name = re.sub("_(bucket|sum|count)$", "", name)
        expect(self.types.get(name), "histogram", name)
        return name

    def check(self):
        for name, kind in self.types.items():
            expect(name.endswith("_total"), kind == "counter", name)
        for name, kind in self.types.items():
            if kind == "histogram":
                self.check_histogram(name)

    def check_histogram(self, name):
        last = {}
        for s in self.samples:
            labels = {key: value for key, value in s.labels.items()
                      if key != "le"}
            key = tuple(sorted(labels.items()))
            if s.name == name + "_bucket":
                bound, n = last.get(key, (-1, 0))
                assert float(s.labels["le"]) > bound and s.value >= n
                last[key] = float(s.labels["le"]), s.value
            elif s.name == name + "_count":
                expect(last[key], (float("inf"), s.value))

    def values(self, name, **labels):
        return [s.value for s in self.samples
                if s.name == "wtcache_" + name
                and labels.items() <= s.labels.items()]

    def value(self, name, **labels):
        found = self.values(name, **labels)
        expect(len(found), 1, name)
        return found[0]

    def expect(self, **wanted):
        expect({name: self.value(name) for name in wanted}, wanted)


def counting(disk=None, **options):
    """As cached, with statistics; stats_of and wait_stats read them."""
    server = cached(disk, **options)
    server.stop()
    server.filter_options["wtcache-stats"] = server.path("stats.prom")
    server.start()
    return server


def stats_of(server):
    with open(server.path("stats.prom"), encoding="utf-8") as f:
        return Stats(f.read())


def wait_stats(server, predicate, what):
    """Waits until those of the one export are as wanted; returns them."""
    def look():
        stats = stats_of(server)
        there = stats.values("connections")
        return stats if there and predicate(stats) else None
    return wt.wait_until(look, what)


def at_end(server):
    """Those that it leaves."""
    server.stop()
    return stats_of(server)


# Requests of clients.

def test_requests():
    """Each is counted once, with its bytes, and FUA beside."""
    with counting() as server:
        h = server.connect()
        put(h, 0, 64 * K, 1)
        put(h, M, 4096, 1, wt.FUA)
        h.pwrite(b"x" * 100, 5000)
        h.zero(4096, 8192)
        h.zero(8192, 16 * K, wt.FUA)
        h.trim(4096, 32 * K)
        h.trim(4096, 36 * K, wt.FUA)
        h.flush()
        h.flush()
        fault(server, "read")
        expect(wt.errno_of(h.pread, 512, 8 * M), errno.EIO)
        server.control("unfault all")
        at_end(server).expect(
            write_requests_total=3, write_bytes_total=68 * K + 100,
            zero_requests_total=2, zero_bytes_total=12 * K,
            trim_requests_total=2, trim_bytes_total=8 * K,
            fua_requests_total=3, fua_bytes_total=16 * K,
            flush_requests_total=2, failed_requests_total=1,
            written_through_total=0, throttled_writes_total=0,
            throttled_seconds_total=0)


def test_hits_and_misses():
    """A read is one or the other, of any length."""
    with counting() as server:
        h = server.connect()
        h.pread(4096, 0)
        h.pread(4096, 0)
        h.pread(100, 50)
        h.pread(64 * K, 0)  # all but the first page is missing
        h.pread(64 * K, 0)
        put(h, M, 4096, 1)
        h.pread(512, M)
        at_end(server).expect(
            read_requests_total=6, read_bytes_total=136 * K + 612,
            read_hit_requests_total=4, read_hit_bytes_total=68 * K + 612,
            read_missed_requests_total=2, read_missed_bytes_total=68 * K)


# The backend.

def test_calls():
    """Number, bytes and errors are those of the backend's own log."""
    with counting() as server:
        h = server.connect()
        for i in range(4):
            put(h, i * M, 64 * K, 1)
            put(h, i * M + 512 * K, 4096, 1, wt.FUA)
        h.flush()
        h.zero(M, 8 * M)
        h.trim(M, 16 * M)
        h.pread(128 * K, 32 * M)
        for op in "read", "write", "flush", "zero", "trim":
            fault(server, op, count=1)
            put(h, 5 * M, 4096, 1)
            for call, *args in ((h.pread, 512, 40 * M), (h.zero, M, 24 * M),
                                (h.trim, M, 24 * M), (h.flush,)):
                wt.errno_of(call, *args)
        stats = at_end(server)
        log = server.log()
        for op, counted, amount in (
                ("read", "reads", "read"), ("write", "writes", "written"),
                ("zero", "zeroes", "zeroed"), ("trim", "trims", "trimmed")):
            calls = log.of(op)
            expect(stats.value("backend_%s_total" % counted), len(calls), op)
            expect(stats.value("backend_%s_bytes_total" % amount),
                   sum(r.length for r in calls if r.errno == 0), op)
        for op in OPERATIONS:
            calls = log.of(op)
            assert len(calls) > 1, op
            expect(stats.value("backend_errors_total", operation=op),
                   len([r for r in calls if r.errno != 0]), op)
            expect(stats.value("backend_seconds_count", operation=op),
                   len(calls), op)
        expect(stats.value("backend_flushes_total"), len(log.of("flush")))


def test_latency():
    """A call is in the buckets of its time, and none below."""
    with counting() as server:
        h = server.connect()
        h.pread(512, 0)
        server.control("latency op=read 400ms")
        h.pread(512, M)
        stats = at_end(server)
        for bound, most in ("0.0001", 1), ("0.01", 1), ("0.3", 1):
            assert stats.value("backend_seconds_bucket", operation="read",
                               le=bound) <= most
        expect(stats.value("backend_seconds_bucket", operation="read",
                           le="60"), 2)
        assert stats.value("backend_seconds_sum", operation="read") >= 0.4
        expect(stats.value("backend_seconds_count", operation="write"), 0)


def test_batches():
    """How many writes went along in each."""
    with counting(depth=1) as server:
        h = server.connect()
        gate(server, "write", first=0, last=511)
        writes = [begin_put(h, 0, 512, 1, wt.FUA)]
        gated(server)
        # They wait for the place of the first, or until it hung for long.
        writes += [begin_put(h, M + i * 4096, 4096, 1, wt.FUA)
                   for i in range(3)]
        open_gate(server)
        wt.wait_all(writes)
        stats = at_end(server)
        calls = len(server.log().of("write"))
        stats.expect(batch_requests_sum=4, batch_requests_count=calls,
                     merged_writes_total=4 - calls, backend_writes_total=calls)


def test_flushes_asked_and_done():
    """Each client's flush wants one; it may be shared."""
    with counting() as server:
        h = server.connect()
        for i in range(3):
            put(h, i * M, 4096, 1)
            h.flush()
        done = len(ended(server, "flush"))
        server.disconnect(h)
        server.wait_for_closes()
        stats = at_end(server)
        assert stats.value("backend_flushes_total") >= done == 3
        assert (stats.value("flushes_wanted_total")
                >= stats.value("backend_flushes_total"))


# Held bytes.

def test_dirty_writeback_and_unstable():
    """The amounts move from one state to the next, and are gone at last."""
    with counting(dirty_age="3600", depth=7) as server:
        h = server.connect()
        put(h, 0, 64 * K, 1)
        stats = wait_stats(server, lambda s: s.value("dirty_bytes") == 64 * K
                           and s.value("oldest_dirty_seconds") > 0, "dirty")
        stats.expect(writeback_bytes=0, unstable_bytes=0, depth=7,
                     in_flight_batches=0, connections=1,
                     dirty_bound_bytes=4 * M, dirty_max_bytes=0)
        first = stats.value("oldest_dirty_seconds")
        wait_stats(server, lambda s: s.value("oldest_dirty_seconds") > first,
                   "older")
        gate(server, "write")
        gate(server, "flush", "f")
        flush = wt.start(h, "flush")
        gated(server)
        wait_stats(server, lambda s: s.value("writeback_bytes") == 64 * K
                   and s.value("dirty_bytes") == 0
                   and s.value("in_flight_batches") == 1, "in writeback")
        open_gate(server)
        gated(server, name="f")
        wait_stats(server, lambda s: s.value("unstable_bytes") == 64 * K
                   and s.value("writeback_bytes") == 0, "unstable")
        open_gate(server, "f")
        expect(flush.wait(), 0)
        stats = wait_stats(server, lambda s: s.value("unstable_bytes") == 0,
                           "clean")
        stats.expect(dirty_bytes=0, oldest_dirty_seconds=0,
                     in_flight_batches=0)
        at_end(server).expect(backend_writes_total=1)


def test_backend_that_refuses():
    """Since when, with which error; and what writes wait for then."""
    with counting() as server:
        h = server.connect()
        fault(server, "write", "ENOSPC", first=0, last=4095)
        put(h, 0, 4096, 1)
        # The server's seconds may be a tick of the kernel behind.
        before = int(time.time() - 0.1)
        expect(wt.errno_of(h.flush), errno.ENOSPC)
        after = time.time()
        put(h, M, 4096, 1)
        stats = wait_stats(server, lambda s: s.value("refusing") == 1,
                           "it refuses")
        since = stats.value("refusing_since_timestamp_seconds")
        assert before <= since <= after, (before, since, after)
        expect(stats.values("refusing_info", error="ENOSPC"), [1.0])
        assert stats.value("writeback_refused_total") >= 1
        assert stats.value("dirty_again_total") >= 1
        server.control("unfault all")
        h.flush()
        # Each of them is looked at by itself, maybe during the flush.
        stats = wait_stats(server, lambda s: s.value("refusing") == 0
                           and s.value("dirty_bytes") == 0, "it takes all")
        stats.expect(refusing_since_timestamp_seconds=0)
        expect(stats.values("refusing_info"), [])
        stats = at_end(server)
        stats.expect(throttled_writes_total=1, written_through_total=1)
        assert stats.value("throttled_seconds_total") > 0


def test_throttled_at_the_bound():
    """A write that finds the bound is one, however many parts it has."""
    with counting(dirty_max="256K") as server:
        h = server.connect()
        put(h, 0, 4 * M, 1)
        stats = at_end(server)
        stats.expect(throttled_writes_total=1, dirty_max_bytes=256 * K)
        assert stats.value("written_through_total") > 1


# The cache.

def test_pages_and_evictions():
    """Pages that were cached are there, or were evicted."""
    with counting(size="4M") as server:
        h = server.connect()
        for offset in range(0, 16 * M, 64 * K):
            h.pread(64 * K, offset)
        stats = at_end(server)
        cached_pages = stats.value("cached_pages")
        expect(cached_pages + stats.value("evicted_pages_total"), 4096)
        assert 512 <= cached_pages < 1024, cached_pages
        stats.expect(page_size_bytes=4096, readahead_pages_total=0,
                     size_bytes=4 * M)


def test_memory_by_kind():
    """All of it is within the size, and the pages are among it."""
    with counting(size="16M") as server:
        h = server.connect()
        h.pread(4 * M, 0)
        stats = wait_stats(server, lambda s: s.value("cached_pages") == 1024,
                           "pages are there")
        kinds = {kind: stats.value("memory_bytes", kind=kind) for kind in (
            "frames", "descriptors", "tables", "buffers", "other")}
        expect(len(stats.values("memory_bytes")), len(kinds))
        expect(kinds["frames"], 4 * M)
        # A sixteenth that is shared, and the export's own two of 16 KiB.
        expect(kinds["buffers"], M + 32 * K)
        assert all(kinds.values()), kinds
        assert sum(kinds.values()) <= 16 * M, kinds


def test_readahead():
    """Bytes that were read ahead were used, or wasted."""
    for step in 64 * K, -64 * K:
        with counting(size="16M", readahead="512K") as server:
            h = server.connect()
            at = 32 * M
            for _ in range(32):
                h.pread(64 * K, at)
                at += step
            stats = at_end(server)
            asked = stats.value("readahead_pages_total")
            used = stats.value("readahead_used_pages_total")
            # The first two reads are no stream yet.
            expect(used, 30 * 16)
            assert used <= asked <= used + 128, (asked, used)
            stats.expect(readahead_wasted_pages_total=0)


def test_readahead_in_vain():
    """Pages that are evicted unused are counted."""
    with counting(size="4M", readahead="256K") as server:
        h = server.connect()
        for i in range(4):
            h.pread(64 * K, i * 64 * K)
        wait_stats(server, lambda s: s.value("cached_pages") * 4096
                   == sum(r.length for r in server.log().of("read")),
                   "it has come")
        stats = stats_of(server)
        asked = stats.value("readahead_pages_total")
        used = stats.value("readahead_used_pages_total")
        assert asked > used > 0, (asked, used)
        for i in range(0, 4096):  # no stream among them
            h.pread(512, 16 * M + (i * 2741 % 4096) * 4096)
        stats = at_end(server)
        stats.expect(readahead_wasted_pages_total=asked - used,
                     readahead_pages_total=asked,
                     readahead_used_pages_total=used)


# The process.

def test_mode_and_build():
    for mode in "writeback", "writethrough", "writearound":
        with counting(mode=mode) as server:
            stats = stats_of(server)
            expect({name: stats.value("mode", mode=name) for name in (
                "writeback", "writethrough", "writearound")},
                {name: float(name == mode) for name in (
                    "writeback", "writethrough", "writearound")})
            expect(stats.value("build_info"), 1)
            info = [s for s in stats.samples
                    if s.name == "wtcache_build_info"][0]
            assert all(re.match(r"[0-9]+\.[0-9]+", info.labels[key])
                       for key in ("version", "nbdkit")), info.labels


# The file.

def test_promtool():
    """Prometheus's own tool has nothing to say, whatever is in the file."""
    promtool.path()
    with counting() as server:
        h = server.connect("a")
        server.connect('b "\\\n')
        fault(server, "write", "ENOSPC")
        put(h, 0, 4096, 1)
        expect(wt.errno_of(h.flush), errno.ENOSPC)
        wait_stats(server, lambda s: sum(s.values("refusing")) == 1,
                   "it refuses")
        with open(server.path("stats.prom"), "rb") as f:
            texts = [f.read()]
        server.control("unfault all")
        h.flush()
        server.stop()
        with open(server.path("stats.prom"), "rb") as f:
            texts.append(f.read())
    for text in texts:
        promtool.metrics(text)


def test_names():
    """Names with quotes and backslashes do not break the text; what is no
    label or is long is cut, and is told apart by a hash."""
    with counting() as server:
        names = ["", "a b", 'q"uote', "back\\slash", "é"]
        cut = ["line\nend", "\x1b[2Jx", "l" * 65, "l" * 4096, "é" * 60]
        for name in names + cut:
            server.connect(name).pread(512, 0)
        stats = at_end(server)
        found = [s.labels["export"] for s in stats.samples
                 if s.name == "wtcache_read_requests_total"]
        expect(sorted(name for name in found if "#" not in name), sorted(
            name.replace("\\", "\\\\").replace('"', '\\"')
            for name in names))
        hashed = [name for name in found if "#" in name]
        expect(len(set(hashed)), len(cut))
        expect(sorted(name.split("#")[0] for name in hashed),
               sorted(["line", "", "l" * 47, "l" * 47, "é" * 23]))
        expect(stats.values("read_requests_total"),
               [1.0] * len(names + cut))


def test_two_servers():
    """In one folder of files for Prometheus, where each series may be once:
    the label server tells them apart."""
    series = []
    for name, options in (("one.prom", {}), ("two.prom", {}),
                          ("three.prom", {"wtcache-name": "other"})):
        server = cached()
        server.stop()
        server.filter_options["wtcache-stats"] = server.path(name)
        server.filter_options.update(options)
        server.start()
        with server:
            server.connect().pread(512, 0)
            server.stop()
            with open(server.path(name), encoding="utf-8") as f:
                stats = Stats(f.read())
            wanted = options.get("wtcache-name", name[:-5])
            expect({s.labels["server"] for s in stats.samples}, {wanted})
            series += [(s.name, tuple(sorted(s.labels.items())))
                       for s in stats.samples]
    expect(len(series), len(set(series)))


def test_time_and_end():
    """When it was written; the last file says that it is the last."""
    with counting() as server:
        def now():
            with open(server.path("stats.prom"), encoding="utf-8") as f:
                return Stats(f.read())
        before = time.time()
        wt.wait_until(lambda: now().value("written_timestamp_seconds")
                      >= int(before), "it is written")
        now().expect(ended=0, lost_bytes=0)
        at_end(server).expect(ended=1, lost_bytes=0)


def test_file_of_what_is_lost():
    """nbdkit ends with 0, so a service manager looks for this file; the next
    server tells of it, and begins."""
    with counting(drain="100ms") as server:
        path = server.path("stats.lost")
        put(server.connect(), 0, 4 * K, 1)
        fault(server, "write", "EIO")
        server.stop()
        with open(path, encoding="utf-8") as f:
            mark, line = f.read().splitlines()
        assert mark.startswith("# "), mark
        assert "LOST: 4096 bytes" in line and " 0+4096" in line, line
        assert line in server.stderr()
        expect(os.stat(path).st_mode & 0o007, 0)
        server.start()
        wt.wait_until(lambda: "an earlier server has left: " + line
                      in server.stderr(), "the next server tells of it")
        wt.wait_until(lambda: os.path.exists(path + ".old"),
                      "the file is out of the way")
        assert not os.path.exists(path)
        put(server.connect(), 0, 4 * K, 1)
        server.stop()
        assert not os.path.exists(path)


def test_file_of_what_is_lost_is_of_another():
    """A file of that name by chance keeps its bytes."""
    with counting(drain="100ms") as server:
        path = server.path("stats.lost")
        with open(path, "w", encoding="ascii") as f:
            f.write("mine\n")
        put(server.connect(), 0, 4 * K, 1)
        fault(server, "write", "EIO")
        server.stop()
        assert "the file that says so, cannot be written" in server.stderr()
        server.start()
        with open(path, encoding="ascii") as f:
            expect(f.read(), "mine\n")


def test_always_whole():
    """A reader finds all of one writing; nothing lies beside it."""
    with counting() as server:
        h = server.connect("a")
        h.pread(512, 0)
        path = server.path("stats.prom")
        seen = set()

        def look():
            with open(path, encoding="utf-8") as f:
                seen.add(os.fstat(f.fileno()).st_mtime_ns)
                stats = Stats(f.read())
            expect(stats.types["wtcache_build_info"], "gauge")
            return len(seen) >= 4
        wt.wait_until(look, "it was replaced some times")
        expect(sorted(name for name in os.listdir(server.folder)
                      if name.startswith("stats") and ".new" not in name),
               ["stats.prom", "stats.prom.lock"])
        at_end(server)
        expect([name for name in os.listdir(server.folder)
                if name.startswith("stats")], ["stats.prom"])


def test_many_names():
    """Law 23: the first 100 exports have labels; what the others count, and
    what those counted that were freed, is in metrics of other names."""
    with counting() as server:
        for i in range(105):
            h = server.connect("n%d" % i)
            put(h, 0, 512, 1)
            server.disconnect(h)
        wt.wait_until(lambda: stats_of(server).values("other_exports") == [5],
                      "they are counted")
        stats = at_end(server)
        expect(len(stats.values("write_requests_total")), 100)
        expect(sum(stats.values("write_requests_total")), 100)
        expect(stats.value("other_write_requests_total"), 5)
        expect(stats.value("other_write_bytes_total"), 5 * 512)
        expect(stats.value("other_backend_seconds_count", operation="write"),
               5)


def documented():
    """{metric: type} of the manual page."""
    path = os.path.join(os.environ["top_srcdir"], "docs",
                        "wtcache-statistics.pod")
    with open(path, encoding="utf-8") as f:
        return dict(re.findall(r"^=item B<(wtcache_[a-z_]+)> \(([a-z]+),",
                               f.read(), re.MULTILINE))


def test_manual():
    """The manual page has what the file has, and no more."""
    with counting() as server:
        server.connect().pread(512, 0)
        found, wanted = at_end(server).types, documented()
        expect(sorted(found.items() ^ wanted.items()), [])


def test_curve():
    """Pages read over and over: which sizes would hold them."""
    with counting(size="4M", fill="4K", readahead="off") as server:
        h = server.connect()
        # 1.5 times what there is room for, in no order that a stream has.
        pages = [(i * 257) % 1408 for i in range(1408)]
        for _ in range(12):
            for page in pages:
                h.pread(4096, page * 4096)
        stats = at_end(server)
        ratio = {size: stats.value("curve_miss_ratio", size_ratio=size)
                 for size in ("0.25", "0.5", "1", "2", "4", "8")}
        expect(len(stats.values("curve_miss_ratio")), len(ratio))
        assert ratio["0.25"] > 0.7, ratio
        assert ratio["0.25"] >= ratio["2"] > 0, ratio
        assert ratio["2"] < 0.3 and ratio["8"] < 0.3, ratio
        sampled = stats.value("curve_sampled_reads_total")
        assert 0 < sampled < 12 * 1408 / 4, sampled
        # Each page of the sample was read as often; a busy machine drops some.
        expect((sampled + stats.value("curve_dropped_total")) % 12, 0)
        sizes = sorted(ratio, key=float)
        assert all(ratio[a] >= ratio[b] for a, b in zip(sizes, sizes[1:])), ratio


wt.main()
