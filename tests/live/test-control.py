#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""The commands of wtcachectl that look, write, drop and read: each with its
effect at the disk."""

import json
import sys

sys.dont_write_bytecode = True

from control import controlled, ctl, log_of, report, run  # noqa: E402
from live import (  # noqa: E402
    K, M, begin_put, count, durable, ended, expect, fault, gate, gated,
    open_gate, put, ranges, seen, wait_closed, wt)


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


wt.main()
