#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""Requests that are recorded while they come, to be replayed."""

import os
import signal
import stat
import subprocess
import sys

sys.dont_write_bytecode = True

from control import TOP, controlled, ctl, run  # noqa: E402
from live import K, M, expect, put, seen, wt  # noqa: E402

LOAD = os.path.join(TOP, "bench", "load")
MISSES = os.path.join(TOP, "bench", "misses")


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


wt.main()
