#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""Options that change while the server runs: set and get."""

import json
import os
import re
import sys

sys.dont_write_bytecode = True

from control import controlled, ctl, report  # noqa: E402
from live import (  # noqa: E402
    K, M, count, durable, ended, expect, fault, most_in_flight, put,
    ranges, seen, wt)

# Under a sanitizer /proc counts more than the process's own memory.
SANITIZED = os.environ.get("WT_LD_PRELOAD") or os.environ.get(
    "WT_NBDKIT_WRAPPER")


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
            "stats": ("", "default"), "warm": ("", "default"),
            "control": (server.path("ctl"), "start"),
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
        table = ctl(server, "get").splitlines()
        expect(len(table), 16)
        expect(len({re.search("  (the default|given|changed)", row).start()
                    for row in table}), 1)
        err = ctl(server, "get", "dirty-mx", status=2)
        assert "is dirty-max meant?" in err, err


def test_get_of_a_thread_model_that_is_not_parallel():
    with controlled({"thread_model": "serialize-requests"}) as server:
        expect(options_of(server)["mode"], ("through", "default"))


wt.main()
