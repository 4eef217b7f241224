#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""Control without a restart: wtcachectl and the control socket, each command
with its effect at the disk."""

import fcntl
import json
import os
import re
import signal
import socket
import stat
import subprocess
import sys

sys.dont_write_bytecode = True

from live import (  # noqa: E402
    K, M, begin_put, count, durable, ended, expect, fault, gate, gated,
    most_in_flight, open_gate, put, ranges, seen, wait_closed, with_dashes, wt)

TOP = os.environ.get("top_builddir", os.path.join(
    os.path.dirname(os.path.abspath(__file__)), "..", ".."))
TOOL = os.path.join(TOP, "tools", "wtcachectl")
LOAD = os.path.join(TOP, "bench", "load")
MISSES = os.path.join(TOP, "bench", "misses")

# Under a sanitizer /proc counts more than the process's own memory.
SANITIZED = os.environ.get("WT_LD_PRELOAD") or os.environ.get(
    "WT_NBDKIT_WRAPPER")


def controlled(disk=None, args=(), **options):
    """A server with a control socket; else as cached() has it."""
    given = {"size": "8M", "readahead": "off", "fill": 512}
    given.update(options)
    given = {"wtcache-" + key: value
             for key, value in with_dashes(given).items()}
    server = wt.Server(given, with_dashes(disk or {}), args=args, start=False)
    given.setdefault("wtcache-control", server.path("ctl"))
    server.start()
    return server


def run(server, *words, **more):
    wt.require(os.path.exists(TOOL), "wtcachectl is not built: no jansson")
    return subprocess.Popen(
        [TOOL, server.path("ctl"), *[str(word) for word in words]],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **more)


def ctl(server, *words, status=0, **more):
    """What a command prints; it ends with this status, and what it has to
    complain of is one line."""
    process = run(server, *words, **more)
    out, err = process.communicate(timeout=120)
    assert process.returncode == status, (words, process.returncode, out, err)
    if status in (1, 2):
        assert out == "" and err.startswith("wtcachectl: "), (out, err)
        expect(err.count("\n"), 1, err)
        return err
    expect(err, "")
    return out


def report(server, status=0):
    """The answer to status, as JSON."""
    return json.loads(ctl(server, "status", "--json", status=status))


def dial(server):
    s = socket.socket(socket.AF_UNIX)
    s.connect(server.path("ctl"))
    return s


def log_of(server):
    with open(server.path("stderr"), errors="replace") as f:
        return f.read()


# The status.

def test_status():
    """Is everything on the backend?  It has one answer and an exit status."""
    with controlled({"exports": "a,b"}) as server:
        out = ctl(server, "status")
        assert out.startswith("Everything is on the backend.\n"), out
        a, b = server.connect("a"), server.connect("b")
        put(a, 0, 8 * K, 1)
        put(a, 64 * K, 4 * K, 1)
        seen(b, 0, 4 * K)
        out = ctl(server, "status", status=3)
        assert out.startswith("Not everything is on the backend.\n"), out
        assert 'export "a": 12 KiB dirty' in out, out
        assert 'export "b": all on the backend' in out, out
        assert "at offset" not in out, out
        found = report(server, 3)
        expect(found["all_on_backend"], False)
        expect(found["server"]["size"], 8 * M)
        expect(found["server"]["pid"], server.process.pid)
        one, other = sorted(found["exports"], key=lambda e: e["name"])
        expect([one[key] for key in ("name", "dirty", "held", "connections",
                                     "all_on_backend", "ranges")],
               ["a", 12 * K, 12 * K, 1, False,
                [{"offset": 0, "length": 8 * K},
                 {"offset": 64 * K, "length": 4 * K}]])
        expect([other["name"], other["all_on_backend"]], ["b", True])
        a.flush()
        expect(report(server)["all_on_backend"], True)


def test_status_tells_what_no_flush_has_covered():
    """Bytes that the backend took may be lost until a flush."""
    with controlled(dirty_age="1ms") as server:
        h = server.connect()
        put(h, 0, 4 * K, 1)
        wt.wait_until(lambda: report(server, 3)["exports"][0]["unstable"]
                      == 4 * K, "the backend has taken it")
        expect(durable(server, 0, 4 * K), [0] * 8)
        assert "4.0 KiB written, not yet flushed\n" in ctl(
            server, "status", status=3)
        h.zero(64 * K, M)
        expect(report(server, 3)["exports"][0]["zeroed"], 64 * K)
        h.flush()
        expect(report(server)["exports"][0]["held"], 0)


def test_status_of_any_name():
    """Names with spaces, newlines, percent signs and quotes."""
    names = ["", "a b", "50%=\"x\"", "l\ni\tne", "ä"]
    server = wt.Server({"wtcache-size": "8M"}, plugin=["null", "64M"],
                       start=False)
    with server:
        server.filter_options["wtcache-control"] = server.path("ctl")
        server.start()
        clients = [server.connect(name) for name in names]
        found = report(server)
        expect(sorted(e["name"] for e in found["exports"]), sorted(names))
        for name, h in zip(names, clients):
            put(h, 0, 4 * K, 1)
            ctl(server, "flush", name)
        expect(report(server)["all_on_backend"], True)


# Flush.

def test_flush():
    """flush makes durable what is dirty, of one export or of all."""
    with controlled({"exports": "a,b,c"}) as server:
        clients = [server.connect(name) for name in "abc"]
        for h in clients:
            put(h, 0, 64 * K, 1)
        expect(ctl(server, "flush", "b"), "")
        expect([durable(server, 0, 512, name)[0] for name in "abc"],
               [0, 1, 0])
        expect(ctl(server, "flush"), "")
        expect([durable(server, 0, 512, name)[0] for name in "abc"],
               [1, 1, 1])
        ctl(server, "status")


def test_flush_that_is_refused():
    """The error says how much and why; nothing is given up."""
    with controlled() as server:
        h = server.connect()
        put(h, 0, 64 * K, 1)
        fault(server, "write", "ENOSPC")
        err = ctl(server, "flush", status=1)
        assert "65536 bytes are not on the backend: No space left" in err, err
        out = ctl(server, "status", status=3)
        assert "the backend refuses writes: No space left on device" in out
        assert "at offset+length: 0+65536\n" in out, out
        server.control("unfault all")
        ctl(server, "flush")
        expect(durable(server, 0, 64 * K), [1] * 128)


def test_flush_without_a_connection():
    """Held bytes are in status, and are written once a client connects."""
    with controlled(drain="100ms") as server:
        h = server.connect()
        put(h, 0, 4 * K, 1)
        fault(server, "write", "EIO")
        server.disconnect(h)
        wait_closed(server)
        server.control("unfault all")
        err = ctl(server, "flush", status=1)
        assert "no connection that can be used" in err, err
        out = ctl(server, "status", status=3)
        assert "it waits for a client that may write" in out, out
        h = server.connect()
        expect(seen(h, 0, 512), [1])
        ctl(server, "flush")
        expect(durable(server, 0, 4 * K), [1] * 8)


def test_mode_of_a_thread_model_that_is_not_parallel():
    """Status names the mode that is in use where none was given."""
    with controlled({"thread_model": "serialize-requests"}) as server:
        expect(report(server)["server"]["mode"], "through")


def test_thread_model_that_is_not_parallel():
    """No thread of ours calls the backend there: what cannot be done is
    refused with what to do instead, all else works."""
    with controlled({"thread_model": "serialize-requests"},
                    mode="writeback") as server:
        h = server.connect()
        put(h, 0, 4 * K, 1)
        before = server.log().requests
        for words in ("flush",), ("prefetch", "", 0, "1M"):
            err = ctl(server, *words, status=1)
            assert "not parallel" in err and "let a client" in err, err
        for name in "depth", "readahead":
            err = ctl(server, "set", name, "4096"[:1 + 3 * (name[0] == "r")],
                      status=1)
            assert "not parallel" in err, err
        expect(len(server.log().requests), len(before))
        ctl(server, "set", "mode", "writethrough")
        expect(count(server, "write"), 0)
        seen(h, M, 512)
        put(h, M, 4 * K, 1)
        wt.wait_until(lambda: ended(server, "write", 0, 4 * K),
                      "the next request writes what was dirty")
        h.flush()
        ctl(server, "status")
        fault(server, "write", "EIO")
        ctl(server, "set", "mode", "writeback")
        put(h, 0, 4 * K, 2)
        expect(ctl(server, "discard", "", 0, "4K", "--yes"),
               "4096 bytes given up\n")
        server.control("unfault all")
        expect(seen(h, 0, 4 * K), [1] * 8)


# Drop.

def test_drop():
    """Clean bytes are read again, dirty ones stay."""
    with controlled({"exports": "a,b"}) as server:
        a, b = server.connect("a"), server.connect("b")
        for h in a, b:
            put(h, 0, 64 * K, 1, wt.FUA)
        put(a, 0, 4 * K, 2)
        expect(ctl(server, "drop", "a"), "61440 bytes dropped\n")
        for h in a, b:
            seen(h, 0, 64 * K)
        expect([r[1:] for r in ranges(server, "read")], [(4 * K, 60 * K)])
        expect(seen(a, 0, 8 * K), [2] * 8 + [1] * 8)
        expect(ctl(server, "drop"), "126976 bytes dropped\n")
        seen(b, 0, 4 * K)
        expect(count(server, "read"), 2)


def test_drop_while_it_is_read_and_written():
    """No request sees anything but what was written."""
    with controlled(size="2M") as server:
        h = server.connect()
        drops = wt.background(
            lambda: [ctl(server, "drop") for _ in range(20)])
        version = 0
        while not drops.done():
            version += 1
            put(h, version % 7 * 1000, 20000, version,
                wt.FUA if version % 3 == 0 else 0)
            at = version % 7 * 1000
            expect(h.pread(20000, at), wt.pattern(at, 20000, version))
        drops.result()


# Discard.

def test_discard():
    """Refused dirty data is given up by its range alone; then reads see the
    backend's bytes, and the server ends without a loss to tell of."""
    with controlled(drain="100ms") as server:
        h = server.connect()
        put(h, 0, M, 1, wt.FUA)
        fault(server, "write", "EIO", first=64 * K, last=128 * K - 1)
        put(h, 16 * K, 16 * K, 2)
        put(h, 64 * K, 64 * K, 2)
        ctl(server, "flush", status=1)
        expect([(r["offset"], r["length"]) for e in report(server, 3)[
            "exports"] for r in e["ranges"]], [(64 * K, 64 * K)])
        assert "  at offset+length: 65536+65536\n" in ctl(
            server, "status", status=3)
        err = ctl(server, "discard", "", "64K", "64K", status=2)
        assert "loses data for good" in err and "--yes" in err, err
        expect(seen(h, 64 * K, 512), [2])
        expect(ctl(server, "discard", "", "64K", "32K", "--yes"),
               "32768 bytes given up\n")
        expect(set(seen(h, 64 * K, 32 * K)), {1})
        expect(set(seen(h, 96 * K, 32 * K)), {2})
        expect(ctl(server, "discard", "", "0", "1M", "--yes"),
               "32768 bytes given up\n")
        ctl(server, "status")
        server.stop()
        text = log_of(server)
        expect(text.count("are given up by a discard command"), 2)
        assert "LOST" not in text, text
        expect(durable(server, 0, 256 * K), [1] * 32 + [2] * 32 + [1] * 448)


def test_discard_without_a_connection():
    """Bytes that wait for a connection of an export can be discarded."""
    with controlled(drain="100ms") as server:
        h = server.connect()
        put(h, 0, 4 * K, 1)
        fault(server, "write", "EIO")
        server.disconnect(h)
        wait_closed(server)
        expect(ctl(server, "discard", "", 0, "64M", "--yes"),
               "4096 bytes given up\n")
        ctl(server, "status")
        server.terminate()
        expect(server.wait(), 0)
        assert "LOST" not in log_of(server)


def test_discard_waits_for_what_is_on_its_way():
    """A block in flight is given up once that write has ended; a write
    there meanwhile waits, a read does not."""
    with controlled() as server:
        h = server.connect()
        gate(server, "write")
        put(h, 0, 4 * K, 1)
        flush = wt.background(ctl, server, "flush")
        gated(server)
        put(h, 0, 4 * K, 2)
        discard = wt.background(ctl, server, "discard", "", 0, "4K", "--yes")
        version = 2
        while True:  # a write before the discard begins is given up with it
            version += 1
            write = begin_put(h, 0, 4 * K, version)
            expect(len(seen(h, 0, 512)), 1)
            if not write.done():
                break
            expect(write.wait(), 0)
        assert not discard.done()
        open_gate(server)
        expect(discard.result(), "4096 bytes given up\n")
        expect(write.wait(), 0)
        flush.result()
        found = seen(h, 0, 4 * K)
        assert found in ([version] * 8, [1] * 8), found
        h.flush()
        expect(durable(server, 0, 4 * K), found)


def test_discard_of_zeroes():
    """Zeroes that no flush has covered are given up too: they are not done
    again after a failed flush, and the block reads as the backend has it."""
    with controlled() as server:
        h = server.connect()
        put(h, 0, 64 * K, 1, wt.FUA)
        h.zero(64 * K, 0)
        expect(report(server, 3)["exports"][0]["zeroed"], 64 * K)
        expect(ctl(server, "discard", "", 0, "32K", "--yes"),
               "32768 bytes given up\n")
        fault(server, "flush", "EIO", count=1)
        ctl(server, "flush", status=1)
        before = count(server, "zero", 0, 32 * K)
        ctl(server, "flush")
        expect(count(server, "zero", 0, 32 * K), before)
        expect(durable(server, 32 * K, 32 * K), [0] * 64)


def test_discard_of_a_bad_range():
    with controlled({"size": "1M"}) as server:
        h = server.connect()
        put(h, 0, 4 * K, 1)
        for offset, length in (1, 512), (0, 1000):
            err = ctl(server, "discard", "", offset, length, "--yes",
                      status=1)
            assert "multiples of 512" in err, err
        ctl(server, "discard", "", 0, 0, "--yes", status=2)
        ctl(server, "discard", "", "8E", 512, "--yes", status=2)
        ctl(server, "discard", "", 512, (1 << 63) - 512, "--yes", status=2)
        expect(ctl(server, "discard", "", 4 * K, (1 << 62), "--yes"),
               "0 bytes given up\n")
        expect(seen(h, 0, 4 * K), [1] * 8)


# Prefetch.

def test_prefetch():
    """Prefetched bytes are read without the backend."""
    with controlled() as server:
        h = server.connect()
        put(h, 0, 4 * M, 1, wt.FUA)
        ctl(server, "drop")
        ctl(server, "prefetch", "", 100, "2M")
        before = len(ranges(server, "read"))
        assert before > 0
        expect(set(seen(h, 0, 2 * M)), {1})
        expect(len(ranges(server, "read")), before)
        expect(set(seen(h, 3 * M, 512)), {1})
        expect(len(ranges(server, "read")), before + 1)


def test_prefetch_that_fails():
    with controlled({"exports": "a,b"}) as server:
        err = ctl(server, "prefetch", "a", 0, "1M", status=1)
        assert 'no client has opened an export "a" yet' in err, err
        h = server.connect("a")
        err = ctl(server, "prefetch", "a", 0, "1M", status=1)
        assert "no connection that can be used" in err, err
        seen(h, 0, 512)
        err = ctl(server, "prefetch", "a", "63M", "2M", status=1)
        assert "ends after the export, at 64M" in err, err
        err = ctl(server, "prefetch", "a", 0, "5M", status=1)
        assert "more than half of the cache, 4M," in err, err
        fault(server, "read", "EIO", first=M, last=M)
        err = ctl(server, "prefetch", "a", 0, "2M", status=1)
        assert "reading at 1M failed: Input/output error" in err, err
        expect(count(server, "read", 0, 1), 1)


# Set.

def resident(server):
    """The resident memory of the server's process, bytes."""
    with open("/proc/%d/status" % server.process.pid, encoding="ascii") as f:
        line = [line for line in f if line.startswith("VmRSS")]
    return int(line[0].split()[1]) * K


def test_set_size():
    """A smaller cache gives memory back to the system, a larger one takes
    more; what is cached stays right."""
    with controlled(size="64M") as server:
        h = server.connect()
        for at in range(0, 48 * M, 8 * M):
            put(h, at, 8 * M, 1, wt.FUA)
        before = resident(server)
        expect(ctl(server, "set", "size", "16M"), "")
        found = report(server)["server"]
        expect(found["size"], 16 * M)
        assert found["used"] <= 16 * M, found
        if not SANITIZED:
            after = resident(server)
            assert before - after >= 28 * M, (before, after)
        reads = len(ranges(server, "read"))
        for at in range(0, 48 * M, 8 * M):
            expect(set(seen(h, at, 8 * M)), {1})
        assert len(ranges(server, "read")) > reads
        assert report(server)["server"]["used"] <= 16 * M

        ctl(server, "set", "size", "128M")
        for at in range(0, 48 * M, 8 * M):
            seen(h, at, 8 * M)
        reads = len(ranges(server, "read"))
        for at in range(0, 48 * M, 8 * M):
            expect(set(seen(h, at, 8 * M)), {1})
        expect(len(ranges(server, "read")), reads)


def test_set_size_that_does_not_fit():
    """Refused with the reason, and nothing has changed."""
    with controlled(size="16M", dirty_max="8M") as server:
        h = server.connect()
        fault(server, "write", "EIO")
        # From half of the bound on write-back tries, and then this would fail.
        put(h, 0, 4 * M, 1)
        err = ctl(server, "set", "size", "1G", status=1)
        assert "must be at most 64M while the server runs" in err, err
        err = ctl(server, "set", "size", "1M", status=2)
        assert ("wtcache-dirty-max=8M: must be at most half of wtcache-size, "
                "that is 512K" in err), err
        ctl(server, "set", "dirty-max", "20%")
        err = ctl(server, "set", "size", "1M", status=1)
        assert "buffers and tables" in err, err
        err = ctl(server, "set", "size", "4M", status=1)
        assert "does not fit" in err and "flush first" in err, err
        expect(report(server, 3)["server"]["size"], 16 * M)
        expect(set(seen(h, 0, 4 * M)), {1})
        server.control("unfault all")
        ctl(server, "flush")
        ctl(server, "set", "size", "4M")
        expect(set(seen(h, 0, 4 * M)), {1})
        expect(report(server)["server"]["dirty_max"], 4 * M // 100 * 20)
        expect(durable(server, 0, 512), [1])


def test_set_size_under_load():
    """While clients read and write, to and fro."""
    with controlled(size="16M") as server:
        h = server.connect()
        sizes = wt.background(lambda: [
            ctl(server, "set", "size", size)
            for _ in range(5) for size in ("24M", "12M", "48M")])
        version = 0
        while not sizes.done():
            version += 1
            at = version * 997 * K % (48 * M)
            put(h, at, 256 * K, version)
            expect(h.pread(256 * K, at), wt.pattern(at, 256 * K, version))
            if version % 5 == 0:
                h.flush()
        sizes.result()


def test_set_dirty_max():
    """Bytes beyond the new bound are written at once."""
    with controlled() as server:
        h = server.connect()
        put(h, 0, 512 * K, 1)
        expect(count(server, "write"), 0)
        ctl(server, "set", "dirty-max", "64K")
        put(h, M, 256 * K, 1)
        expect(durable(server, M, 256 * K), [1] * 512)


def test_set_dirty_age():
    """Bytes older than the new age are written back now."""
    with controlled(dirty_age="1h") as server:
        h = server.connect()
        put(h, 0, 64 * K, 1)
        ctl(server, "set", "dirty-age", "1ms")
        wt.wait_until(lambda: sum(r.length for r in ended(server, "write"))
                      == 64 * K, "dirty data is written back")


def test_set_depth():
    """The limit of each export there is, and of those to come."""
    with controlled({"exports": "a,b"}, depth=2) as server:
        server.connect("a")
        expect([e["depth"] for e in report(server)["exports"]], [2])
        ctl(server, "set", "depth", 7)
        server.connect("b")
        expect([e["depth"] for e in report(server)["exports"]], [7, 7])
        ctl(server, "set", "depth", "auto")
        expect(report(server)["server"]["depth"], 0)


def test_set_depth_at_the_backend():
    """No more batches than the new depth are in flight, or more."""
    # So long that a busy machine does not make a batch seem to hang.
    with controlled({"write_latency": "100ms"}, depth=8) as server:
        clients = [server.connect() for _ in range(2)]
        put(clients[0], 0, 4096, 1, wt.FUA)  # tells how long one takes
        ctl(server, "set", "depth", 2)
        assert most_in_flight(server, clients) <= 2
        ctl(server, "set", "depth", 16)
        assert most_in_flight(server, clients) > 2


def test_set_readahead():
    """A connection that is there begins to read ahead, and ceases to."""
    with controlled() as server:
        h = server.connect()

        def walk(start):
            for i in range(16):
                seen(h, start + i * 4 * K, 4 * K)
            return max(r.offset + r.length for r in server.log().of("read"))

        expect(walk(0), 64 * K)
        ctl(server, "set", "readahead", "512K")
        walk(8 * M)
        wt.wait_until(lambda: count(server, "read", 8 * M + 96 * K, M),
                      "it reads ahead")
        ctl(server, "set", "readahead", "off")
        expect(walk(32 * M), 32 * M + 64 * K)


def test_set_mode():
    """From writeback to writethrough: what is dirty is durable when the
    command ends, and writes go through from then on."""
    with controlled() as server:
        h = server.connect()
        put(h, 0, 64 * K, 1)
        expect(count(server, "write"), 0)
        ctl(server, "set", "mode", "writethrough")
        expect(durable(server, 0, 64 * K), [1] * 128)
        put(h, M, 4 * K, 1)
        expect(len(ended(server, "write", M, 4 * K)), 1)
        seen(h, M, 4 * K)
        expect(count(server, "read"), 0)
        ctl(server, "set", "mode", "writearound")
        put(h, 2 * M, 4 * K, 1)
        h.flush()
        expect(seen(h, 2 * M, 4 * K), [1] * 8)
        expect(count(server, "read"), 1)
        ctl(server, "set", "mode", "writeback")
        writes = count(server, "write")
        put(h, 3 * M, 4 * K, 1)
        expect(count(server, "write"), writes)
        ctl(server, "status", status=3)


def test_set_mode_while_the_backend_refuses():
    """The mode has changed, the error tells what is left."""
    with controlled() as server:
        h = server.connect()
        put(h, 0, 4 * K, 1)
        fault(server, "write", "EIO")
        err = ctl(server, "set", "mode", "writethrough", status=1)
        assert "4096 bytes are not on the backend" in err, err
        expect(report(server, 3)["server"]["mode"], "writethrough")
        server.control("unfault all")
        wt.wait_until(lambda: ended(server, "write", 0, 4 * K),
                      "what was refused is tried again")


def test_set_refuses():
    """Invalid values, and options that cannot change at run time."""
    with controlled() as server:
        for name, value in (
                ("size", "x"), ("size", "100K"), ("dirty-max", "7M"),
                ("dirty-max", "51%"), ("dirty-age", "0"), ("depth", "65"),
                ("readahead", "1"), ("mode", "back"), ("mode", "")):
            err = ctl(server, "set", name, value, status=2)
            assert "must be" in err, err
        for name in "page-size", "share", "drain", "", "size=1M size":
            err = ctl(server, "set", name, "1M", status=2)
            assert "can be changed" in err, err


def test_set_by_the_full_name():
    """As it stands on nbdkit's command line."""
    with controlled() as server:
        ctl(server, "set", "wtcache-size", "4M")
        ctl(server, "set", "wtcache-mode", "writethrough")
        found = report(server)["server"]
        expect((found["size"], found["mode"]), (4 * M, "writethrough"))
        err = ctl(server, "set", "wtcache-page-size", "4K", status=2)
        assert "only size, " in err, err


def test_set_tells_what_is_meant():
    with controlled() as server:
        for name, meant in (("dirty-mx", "dirty-max"), ("sizs", "size"),
                            ("wtcache-deptj", "depth"), ("rdeadahead",
                                                         "readahead")):
            err = ctl(server, "set", name, "1M", status=2)
            assert err.endswith("; is %s meant?\n" % meant), err
        err = ctl(server, "set", "size", "8MiB", status=2)
        assert err.endswith(": write 8M\n"), err
        err = ctl(server, "set", "dirty-age", "5d", status=2)
        for word in "above 0", "100 years", "us, ms, s, m or h":
            assert word in err, err


# Get.

def options_of(server):
    found = json.loads(ctl(server, "get", "--json"))["options"]
    return {o["name"]: (o["value"], o["from"]) for o in found}


def test_get():
    """Each option as it is now, and where that came from."""
    with controlled(size="16M", dirty_max="20%", drain="90s") as server:
        expect(options_of(server), {
            "size": ("16M", "start"), "page-size": ("4K", "default"),
            "mode": ("writeback", "default"), "dirty-max": ("20%", "start"),
            "dirty-age": ("30s", "default"), "drain": ("90s", "start"),
            "depth": ("auto", "default"), "fill": ("512", "start"),
            "readahead": ("off", "start"), "share": ("auto", "default"),
            "key": ("name", "default"), "keep": ("yes", "default"),
            "stats": ("", "default"), "control": (server.path("ctl"),
                                                  "start"),
            "name": ("ctl", "default")})
        ctl(server, "set", "size", "8388608")
        ctl(server, "set", "depth", "3")
        ctl(server, "set", "dirty-age", "1500ms")
        ctl(server, "set", "mode", "writearound")
        ctl(server, "set", "depth", "99", status=2)
        found = options_of(server)
        expect([found[name] for name in ("size", "depth", "dirty-age", "mode")],
               [("8M", "set"), ("3", "set"), ("1500ms", "set"),
                ("writearound", "set")])
        expect(ctl(server, "get", "wtcache-size").split(),
               ["size", "8M", "changed", "by", "wtcachectl"])
        expect(ctl(server, "get").count("\n"), 15)
        err = ctl(server, "get", "dirty-mx", status=2)
        assert "is dirty-max meant?" in err, err


def test_get_of_a_thread_model_that_is_not_parallel():
    with controlled({"thread_model": "serialize-requests"}) as server:
        expect(options_of(server)["mode"], ("through", "default"))


# JSON.

def test_json_of_every_command():
    """The output of a command is one object, also where it fails."""
    with controlled() as server:
        h = server.connect()
        put(h, 0, 64 * K, 1)
        seen(h, M, 4 * K)
        path = server.path("t")
        for words, wanted in (
                (["flush"], {}),
                (["drop"], {"bytes": 68 * K}),
                (["prefetch", "", 0, "4K"], {}),
                (["set", "depth", 3], {}),
                (["discard", "", 0, "4K", "--yes"], {"bytes": 0}),
                (["trace", path, 1], {"requests": 0})):
            process = run(server, "--json", *words)
            out, _ = process.communicate()
            expect((process.returncode, json.loads(out)),
                   (0, dict(wanted, command=words[0], ok=True, notes=[])))
        for words, status in ((["flush", "nosuch"], 1),
                              (["set", "depth", 99], 2)):
            process = run(server, "--json", *words)
            out, err = process.communicate()
            expect(process.returncode, status)
            found = json.loads(out)
            expect((found["command"], found["ok"]), (words[0], False))
            assert found["error"] in err, (found, err)


# Trace.

def begin_trace(server, *words, **more):
    process = run(server, "trace", *words, **more)
    expect(process.stderr.readline(), "wtcachectl: recording\n")
    return process


def text_of(path):
    """Its bytes now, each time it is called."""
    def text():
        with open(path, encoding="ascii") as f:
            return f.read()
    return text


def end_trace(process, path):
    """Ends it as a user at a terminal does; the lines of its file."""
    process.send_signal(signal.SIGINT)
    process.communicate()
    return text_of(path)


def test_trace():
    """Reads and writes in the order of their arrival, in pages of 4 KiB."""
    with controlled({"exports": "a,b"}) as server:
        a, b = server.connect("a"), server.connect("b")
        path = server.path("t.req.csv")
        process = begin_trace(server, "t.req.csv", 3600, "a",
                              cwd=server.folder)
        seen(a, 0, 4 * K)
        put(a, 8 * K, 512, 1)
        put(b, 0, 4 * K, 1)
        a.zero(4 * K, M)
        seen(a, 3 * M + 4 * K - 512, K)
        put(a, 0, 64 * K, 1, wt.FUA)
        text = end_trace(process, path)
        wanted = ["R,0,1", "W,2,1", "R,769,2", "W,0,16"]
        wanted[2] = "R,%d,2" % (3 * M // (4 * K))
        wt.wait_until(lambda: [line.partition(",")[2]
                               for line in text().split("\n")[:-1]] == wanted,
                      "the trace is written")
        times = [int(line.split(",")[0]) for line in text().splitlines()]
        expect(times, sorted(times))
        expect(stat.S_IMODE(os.stat(path).st_mode), 0o600)
        if os.path.exists(MISSES):
            out = subprocess.run([MISSES, path, "100"], check=True,
                                 stdout=subprocess.PIPE, text=True).stdout
            assert "accesses=20" in out and "reads=3 " in out, out
        if os.path.exists(LOAD):
            before = len(server.log().requests)
            subprocess.run([LOAD, "--replay", path, server.uri.replace(
                "///", "///b")], check=True, stdout=subprocess.DEVNULL)
            assert len(server.log().requests) > before


def test_trace_for_a_time():
    """It ends by itself and tells how much it recorded; then another can
    begin."""
    with controlled() as server:
        h = server.connect()
        paths = [server.path("t%d" % i) for i in range(30)]

        def recorded():
            """How many; none if it was over before the request came."""
            path = paths.pop()
            process = begin_trace(server, path, 1)
            seen(h, 0, 512)
            out, err = process.communicate()
            lines = text_of(path)().count("\n")
            expect((process.returncode, out, err),
                   (0, "%d requests recorded\n" % lines, ""))
            return lines
        for _ in range(2):
            expect(wt.wait_until(recorded, "a request comes in time"), 1)


def test_trace_of_many_requests():
    """None is missing, however many times the buffer is filled."""
    with controlled(size="1M") as server:
        h = server.connect()
        path = server.path("t")
        process = begin_trace(server, path, 3600)
        text = text_of(path)
        for i in range(3000):
            h.pread(512, i * 512)
            # The buffer of so small a cache has room for 256: no more before
            # they are written.
            if i % 250 == 249:
                wt.wait_until(lambda: text().count("\n") == i + 1,
                              "all is written")
        end_trace(process, path)
        expect([int(line.split(",")[2]) for line in text().splitlines()],
               [i // 8 for i in range(3000)])


def test_trace_that_is_refused():
    with controlled({"exports": "a,b"}) as server:
        path = server.path("t")
        err = ctl(server, "trace", path, 1, status=1)
        assert "no client has opened an export yet" in err, err
        a, b = server.connect("a"), server.connect("b")
        err = ctl(server, "trace", path, 1, status=2)
        assert "several exports" in err, err
        for seconds in "0", "100000", "x", "-1", "":
            ctl(server, "trace", path, seconds, "a", status=2)
        with open(path, "w", encoding="ascii") as f:
            f.write("mine")
        err = ctl(server, "trace", path, 1, "a", status=1)
        assert "File exists" in err, err
        with open(path, encoding="ascii") as f:
            expect(f.read(), "mine")
        os.symlink(path + ".else", path + ".link")
        ctl(server, "trace", path + ".link", 1, "a", status=1)
        ctl(server, "trace", server.path("no/t"), 1, "a", status=1)
        err = ctl(server, "trace", path + "5", 1, "nosuch", status=1)
        assert 'no client has opened an export "nosuch" yet' in err, err
        assert not os.path.exists(path + "5")
        process = begin_trace(server, path + "2", 3600, "a")
        err = ctl(server, "trace", path + "3", 1, "b", status=1)
        assert "being recorded already" in err, err
        end_trace(process, path + "2")
        wt.wait_until(lambda: run(server, "trace", path + "4", 1, "b").wait()
                      == 0, "another trace can begin")
        del a, b


def test_trace_on_a_full_disk():
    """It ends with the error; what is there is whole lines."""
    with controlled() as server:
        small = server.path("small")
        os.mkdir(small)
        wt.require(os.geteuid() == 0 and subprocess.run(
            ["mount", "-t", "tmpfs", "-o", "size=64k", "none", small],
            stderr=subprocess.DEVNULL).returncode == 0,
            "cannot mount a small disk")
        try:
            h = server.connect()
            process = begin_trace(server, small + "/t", 3600)
            while process.poll() is None:
                h.pread(512, 0)
            out, err = process.communicate()
            expect((process.returncode, out), (1, ""))
            assert "No space left on device" in err, err
            with open(small + "/t", encoding="ascii") as f:
                text = f.read()
            assert len(text) > 32 * K and text.endswith(",R,0,1\n")
        finally:
            subprocess.run(["umount", "-l", small], check=True)


# The socket, and its clients.

def test_socket_is_for_its_owner():
    """Mode 0600, whatever the umask, and gone at the end."""
    old = os.umask(0)
    try:
        server = controlled()
    finally:
        os.umask(old)
    with server:
        path = server.path("ctl")
        found = os.stat(path)
        assert stat.S_ISSOCK(found.st_mode)
        expect(stat.S_IMODE(found.st_mode), 0o600)
        server.stop()
        assert not os.path.exists(path)


def test_socket_of_a_dead_server():
    """It is replaced, one of a server that lives is not."""
    with controlled() as server:
        path = server.path("ctl")
        server.kill()
        assert os.path.exists(path)
        server.start()
        ctl(server, "status")
        found = refused_start(path)
        assert "another server listens there" in found, found
        ctl(server, "status")


def refused_start(path):
    """The log of a server that does not start with this path."""
    with wt.Server({"wtcache-control": path}, plugin=["null"],
                   start=False) as other:
        found = subprocess.run(other.command(), env=other.environment(),
                               stderr=subprocess.PIPE, text=True, timeout=60)
    assert found.returncode != 0, path
    return found.stderr


def test_socket_that_cannot_be():
    """A file that is something else stays, and the reason is told."""
    with controlled() as server:
        path = server.path("file")
        with open(path, "w", encoding="ascii") as f:
            f.write("mine")
        assert "exists and is no socket" in refused_start(path)
        with open(path, encoding="ascii") as f:
            expect(f.read(), "mine")
        assert "cannot be opened: No such file" in refused_start(server.path("no/x"))
        assert "longer than" in refused_start(server.path("x" * 200))
        assert "must be the path" in refused_start("")


def test_folder_that_another_has_locked():
    """Any user may open the folder, and hold a lock on it."""
    with controlled() as server:
        server.stop()
        fd = os.open(server.folder, os.O_RDONLY)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX)
            server.start()
            ctl(server, "status")
            assert not os.path.exists(server.path("ctl.lock"))
        finally:
            os.close(fd)


def test_lock_that_another_has():
    """Of two servers that start with one socket one waits; a file that lies
    in the lock's place is no lock."""
    with controlled() as server:
        server.stop()
        lock = server.path("ctl.lock")
        with open(lock, "w", encoding="ascii") as f:
            fcntl.flock(f, fcntl.LOCK_EX)
            server.spawn()
            wt.wait_until(lambda: os.path.exists(
                "/proc/%d/fd" % server.process.pid), "it has begun")
            assert not os.path.exists(server.path("ctl"))
            fcntl.flock(f, fcntl.LOCK_UN)
            wt.wait_until(server.serves, "it serves")
        server.stop()
        with open(lock, "w", encoding="ascii") as f:
            f.write("mine")
        assert "in the way" in refused_start(server.path("ctl"))


def test_socket_that_another_has_replaced():
    """At its end a server removes its own only."""
    with controlled() as server:
        path = server.path("ctl")
        os.unlink(path)
        with socket.socket(socket.AF_UNIX) as s:
            s.bind(path)
            server.stop()
            assert os.path.exists(path)


def test_many_clients():
    """Some at once are served, one more is refused, until one leaves."""
    with controlled() as server:
        put(server.connect(), 0, 4 * K, 1)
        clients = [dial(server) for _ in range(8)]
        # A place is kept for a client that asks why.
        ctl(server, "status", status=3)
        err = ctl(server, "drop", status=1)
        assert "too many clients" in err, err
        kept = [dial(server) for _ in range(2)]
        err = ctl(server, "status", status=1)
        assert "too many clients" in err, err
        for s in kept + [clients.pop()]:
            s.close()
        wt.wait_until(lambda: run(server, "drop").wait() == 0,
                      "there is room again")
        for s in clients:
            s.sendall(b"flush\n")
        for s in clients:
            expect(s.makefile().read(), "ok\n")
            s.close()
        ctl(server, "status")


def test_client_that_dies():
    """Its command goes on to its end, and no other client is delayed."""
    with controlled() as server:
        h = server.connect()
        put(h, 0, 4 * K, 1)
        gate(server, "write")
        process = run(server, "flush")
        gated(server)
        process.kill()
        process.communicate()
        put(h, M, 4 * K, 1)
        expect(seen(h, 0, 512), [1])
        ctl(server, "status", status=3)
        open_gate(server)
        wt.wait_until(lambda: ended(server, "flush"), "the flush goes on")
        for text in b"", b"flu", b"status":
            with dial(server) as s:
                s.sendall(text)
        ctl(server, "flush")


def test_client_that_hangs():
    """It does not keep the server from its end."""
    with controlled() as server:
        put(server.connect(), 0, 4 * K, 1)
        clients = [dial(server) for _ in range(3)]
        clients[0].sendall(b"stat")
        clients[1].sendall(b"trace file=%s seconds=3600\n"
                           % server.path("t").encode())
        expect(clients[1].recv(100), b"begun\n")
        server.stop()
        expect(durable(server, 0, 512), [1])
        for s in clients:
            s.close()


def test_stop_during_a_command():
    """SIGTERM while a flush stands at the backend: it ends, then the
    server, and nothing is lost."""
    with controlled() as server:
        h = server.connect()
        put(h, 0, 64 * K, 1)
        gate(server, "write")
        process = run(server, "flush")
        gated(server)
        server.terminate()
        wt.wait_until(lambda: "shut down" in log_of(server),
                      "the filter knows that it is to stop")
        open_gate(server, ends=True)
        process.communicate(timeout=60)
        server.disconnect()
        expect(server.wait(), 0)
        expect(durable(server, 0, 64 * K), [1] * 128)


def test_commands_that_make_no_sense():
    """Over the socket, whatever may come."""
    with controlled() as server:
        put(server.connect(), 0, 4 * K, 1)
        for text in ("", "x", "status x", "status a=b", "flush export",
                     "flush export=a export=b", "flush =a", "flush xport=a",
                     "discard", "discard export=", "discard export=%",
                     "discard export= offset=0 length=-1",
                     "discard export= offset=0x0 length=512",
                     "discard export= offset=18446744073709551616 length=1",
                     "flush export=%00", "flush export=%g0", "set", "set a",
                     "set size=8M depth=1", "trace file=x seconds=1",
                     "trace seconds=1", "status\0x y", "s" * 20000):
            with dial(server) as s:
                try:
                    s.sendall(text.encode() + b"\n")
                    answer = s.makefile(errors="replace").read()
                except OSError:
                    answer = "usage"  # it has read enough
                if not text.startswith("status\0"):
                    assert answer.startswith("usage"), (text[:50], answer)
        ctl(server, "status", status=3)


def test_usage():
    """Bad input to the tool: one line, and exit 2."""
    with controlled() as server:
        path = server.path("ctl")
        for words in ([], [path], [path, "x"], [path, "flush", "a", "b"],
                      [path, "status", "x"], ["--bad", path, "status"],
                      [path, "drop", "--yes"], [path, "--timeout=x", "flush"],
                      [path, "--timeout=0", "flush"], ["--timeout"], ["x"],
                      [path, "prefetch", "", "0"],
                      [path, "prefetch", "", "x", "1"],
                      [path, "prefetch", "", "0", "1X"],
                      [path, "prefetch", "", "0", "-1"],
                      [path, "prefetch", "", "0", ""],
                      [path, "set", "size"], [path, "trace", "x"],
                      ["x" * 200, "status"]):
            wt.require(os.path.exists(TOOL), "wtcachectl is not built")
            found = subprocess.run([TOOL, *words], capture_output=True,
                                   text=True)
            expect((found.returncode, found.stdout), (2, ""), str(words))
            expect(found.stderr.count("\n"), 1, found.stderr)
        found = subprocess.run([TOOL, server.path("none"), "status"],
                               capture_output=True, text=True)
        expect(found.returncode, 1)
        assert "cannot connect: No such file" in found.stderr, found.stderr
        for words in (["--help"], ["-h"], ["--version"], ["help"],
                      [path, "help"], [path, "flush", "-h"]):
            found = subprocess.run([TOOL, *words], capture_output=True,
                                   text=True, check=True)
            assert "wtcachectl" in found.stdout and found.stderr == ""


def test_misspelt():
    """The one line says which word is meant."""
    for words, meant in ((["x/y", "stauts"], "status"), (["flsuh"], "flush"),
                         (["x/y", "status", "--jsn"], "--json"),
                         (["--timeuot=3", "status"], "--timeout"),
                         (["x/y", "prefetch", "", "0", "1GiB"], "1G"),
                         (["x/y", "prefetch", "", "16kb", "1"], "16K")):
        found = subprocess.run([TOOL, *words], capture_output=True, text=True)
        expect((found.returncode, found.stdout), (2, ""), str(words))
        assert (found.stderr.endswith("is %s meant?\n" % meant)
                or found.stderr.endswith("write %s\n" % meant)), found.stderr


def test_server_that_is_stopped():
    """It answers nothing: status ends by itself, others when they are told
    to."""
    with controlled() as server:
        server.process.send_signal(signal.SIGSTOP)
        try:
            err = ctl(server, "status", status=1)
            assert "no answer in 5 s: the server is stopped" in err, err
            err = ctl(server, "flush", "--timeout=1", status=1)
            assert "no answer in 1 s" in err, err
        finally:
            server.process.send_signal(signal.SIGCONT)
        ctl(server, "status")


# The usual folder.

class Usual:
    """Servers with their sockets in a folder that takes the place of
    /run/wtcache."""

    def __init__(self, *names):
        self.servers = {}
        for name in names:
            server = wt.Server({"wtcache-size": "8M"}, start=False)
            if not self.servers:
                self.folder = server.path("run")
                os.mkdir(self.folder)
            server.filter_options["wtcache-control"] = os.path.join(
                self.folder, name + ".ctl")
            server.start()
            self.servers[name] = server

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        for server in reversed(list(self.servers.values())):
            server.close()

    def run(self, *words, folder=None):
        return subprocess.run(
            [TOOL, *words], capture_output=True, text=True, timeout=100,
            cwd="/", env=dict(os.environ, WTCACHE_RUN=folder or self.folder))


def test_the_only_server():
    """With one server in the usual folder none has to be named."""
    with Usual("disk") as usual:
        put(usual.servers["disk"].connect(), 0, 4 * K, 1)
        for words in ["status"], ["disk", "status"]:
            found = usual.run(*words)
            expect((found.returncode, found.stderr), (3, ""))
        expect(usual.run("flush").returncode, 0)
        expect(usual.run("flush", "").returncode, 0)
        # A socket that a dead server has left is none.
        with socket.socket(socket.AF_UNIX) as s:
            s.bind(os.path.join(usual.folder, "dead.ctl"))
        expect(usual.run("status").returncode, 0)
        found = usual.run("status", folder="/nowhere")
        expect((found.returncode, found.stdout), (2, ""))
        assert "there is no server in /nowhere" in found.stderr, found.stderr
        found = usual.run("disc", "status")
        assert "/disc.ctl: cannot connect: No such file" in found.stderr, found


def test_several_servers():
    """list shows them; another command wants a name."""
    with Usual("a", "b") as usual:
        put(usual.servers["b"].connect(), 0, 4 * K, 1)
        found = usual.run("status")
        expect((found.returncode, found.stdout), (2, ""))
        assert found.stderr.endswith("name one of a, b\n"), found.stderr
        expect(usual.run("a", "status").returncode, 0)
        expect(usual.run("b", "status").returncode, 3)
        lines = usual.run("list").stdout.splitlines()
        expect(len(lines), 2, lines)
        assert re.match("a +all on the backend, 0 exports, .* of 8.0 MiB in use,"
                        " process %d$" % usual.servers["a"].process.pid,
                        lines[0]), lines
        assert re.match("b +not all on the backend, 1 export,", lines[1]), lines
        usual.servers["a"].process.send_signal(signal.SIGSTOP)
        try:
            found = usual.run("list", "--json", "--timeout=1")
        finally:
            usual.servers["a"].process.send_signal(signal.SIGCONT)
        a, b = json.loads(found.stdout)["servers"]
        expect((a["name"], a["answers"]), ("a", False))
        assert "no answer in 1 s" in a["error"], a
        expect((b["name"], b["answers"], b["all_on_backend"],
                b["server"]["pid"]),
               ("b", True, False, usual.servers["b"].process.pid))
        found = usual.run("list", folder="/nowhere")
        expect((found.returncode, found.stdout),
               (0, "There is no server in /nowhere.\n"))


wt.main()
