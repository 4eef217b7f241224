# SPDX-License-Identifier: BSD-3-Clause
"""Files as wtcache-stats writes them, in any state that a test wants.  The
names are those of the manual page; an export starts as one that did nothing.
"""

import os

BOUNDS = [0.0001, 0.001, 0.01, 0.1, 1, 60]
RATIOS = [0.25, 0.5, 1, 2, 4, 8]

# Metrics of an export without further labels, by their type.
COUNTERS = """read_requests read_bytes read_hit_requests read_hit_bytes
    read_missed_requests read_missed_bytes write_requests write_bytes
    zero_requests zero_bytes trim_requests trim_bytes flush_requests
    fua_requests fua_bytes failed_requests written_through throttled_writes
    throttled_seconds evicted_pages readahead_pages readahead_used_pages
    readahead_wasted_pages backend_reads backend_read_bytes backend_writes
    backend_written_bytes backend_zeroes backend_zeroed_bytes backend_trims
    backend_trimmed_bytes backend_flushes flushes_wanted merged_writes
    writeback_refused dirty_again""".split()
GAUGES = """connections cached_pages page_size_bytes dirty_bytes
    writeback_bytes unstable_bytes dirty_bound_bytes oldest_dirty_seconds
    depth in_flight_batches refusing
    refusing_since_timestamp_seconds""".split()
OPERATIONS = ["read", "write", "zero", "trim", "flush"]
REQUESTS = ["read_hit", "read_miss", "write", "fua_write", "flush"]


def escaped(value):
    return (value.replace("\\", "\\\\").replace('"', '\\"')
            .replace("\n", "\\n"))


class Export:
    """An export; its metrics are set by name, with or without _total.

    seconds    durations of calls by operation, one number each
    waits      the same of clients' requests
    batches    how many requests each batch carried
    error      with which the backend refuses
    """

    def __init__(self, name="", tls="no", number=0, **values):
        self.labels = {"export": name, "tls": tls, "number": str(number)}
        self.seconds = {operation: [] for operation in OPERATIONS}
        self.waits = {operation: [] for operation in REQUESTS}
        self.errors = {operation: 0 for operation in OPERATIONS}
        self.batches = []
        self.error = None
        self.values = {name: 0 for name in COUNTERS + GAUGES}
        self.values.update({"page_size_bytes": 4096, "depth": 4,
                            "dirty_bound_bytes": 64 << 20})
        self.set(**values)

    def set(self, **values):
        for name, value in values.items():
            if name in ("seconds", "errors", "waits"):
                getattr(self, name).update(value)
            elif name in ("batches", "error"):
                setattr(self, name, value)
            else:
                assert name in self.values, name
                self.values[name] = value

    def line(self, name, value, **labels):
        text = ",".join('%s="%s"' % (key, escaped(v))
                        for key, v in {**self.labels, **labels}.items())
        return "wtcache_%s{%s} %s\n" % (name, text, value)

    def histogram(self, name, values, bounds, **labels):
        text = ""
        for bound in bounds:
            text += self.line(name + "_bucket",
                              sum(v <= bound for v in values),
                              le="%g" % bound, **labels)
        text += self.line(name + "_bucket", len(values), le="+Inf", **labels)
        text += self.line(name + "_sum", repr(float(sum(values))), **labels)
        return text + self.line(name + "_count", len(values), **labels)

    def text(self):
        lines = "".join(
            self.line(name + ("_total" if name in COUNTERS else ""), value)
            for name, value in self.values.items())
        for operation in OPERATIONS:
            lines += self.line("backend_errors_total", self.errors[operation],
                               operation=operation)
            lines += self.histogram("backend_seconds", self.seconds[operation],
                                    BOUNDS, operation=operation)
        for operation in REQUESTS:
            lines += self.histogram("request_seconds", self.waits[operation],
                                    BOUNDS, operation=operation)
        lines += self.histogram("batch_requests", self.batches,
                                [1, 2, 4, 8, 16])
        if self.error:
            lines += self.line("refusing_info", 1, error=self.error)
        return lines


def process(size=256 << 20, mode="writeback", frames=100 << 20, curve=None,
            sampled=1000, ended=0, lost=0):
    """The metrics of no export; curve has miss ratios by size ratio."""
    text = "# HELP wtcache_size_bytes The value of wtcache-size.\n"
    text += "# TYPE wtcache_size_bytes gauge\n"
    text += "wtcache_size_bytes %d\n" % size
    for kind, value in (("frames", frames), ("descriptors", 1 << 20),
                        ("tables", 2 << 20), ("buffers", 16 << 20),
                        ("other", 4096)):
        text += 'wtcache_memory_bytes{kind="%s"} %d\n' % (kind, value)
    text += "wtcache_dirty_max_bytes 0\n"
    for name in ("writeback", "writethrough", "writearound"):
        text += 'wtcache_mode{mode="%s"} %d\n' % (name, name == mode)
    for ratio, misses in (curve or {}).items():
        text += 'wtcache_curve_miss_ratio{size_ratio="%g"} %s\n' % (
            ratio, misses)
    text += "wtcache_curve_sampled_reads_total %d\n" % sampled
    text += "wtcache_ended %d\nwtcache_lost_bytes %d\n" % (ended, lost)
    return text + ('wtcache_build_info{version="0.1.0",nbdkit="1.32.5"} 1\n')


def write(path, *exports, written=None, **of_process):
    """Replaces the file as a server does; written is its time."""
    with open(path + ".next", "w", encoding="utf-8") as f:
        f.write(process(**of_process))
        f.write("".join(export.text() for export in exports))
    if written is not None:
        os.utime(path + ".next", (written, written))
    os.rename(path + ".next", path)
