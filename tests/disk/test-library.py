# SPDX-License-Identifier: BSD-3-Clause
"""Tests of the library of the live tests."""

import errno
import os
import sys

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)),
                                "..", "lib"))

import wt  # noqa: E402
from words import disk, expect, seen  # noqa: E402


def test_pattern():
    whole = wt.pattern(0, 4096, 5)
    expect(wt.pattern(700, 1000, 5), whole[700:1700])
    expect(wt.versions(whole, 0), [5] * 8)
    expect(wt.versions(whole[512:], 0), [None] * 7)
    torn = bytearray(whole)
    torn[256:512] = wt.pattern(256, 256, 6)
    expect(wt.versions(torn, 0), [None] + [5] * 7)
    expect(wt.version_of(wt.pattern(1024, 100, 3), 1024), 3)


def test_client_cut_off():
    with disk() as server:
        h = server.connect()
        server.control("gate g op=write")
        write = wt.start(h, "pwrite", wt.pattern(0, 512, 1), 0)
        server.control("gated g")
        server.drop(h)
        assert write.wait() != 0
        server.control("open g")
        h = server.connect()
        wt.wait_until(lambda: seen(h, 0, 512) == [1], "it is written")


def test_server_killed():
    with disk() as server:
        h = server.connect()
        server.control("gate g op=write")
        write = wt.start(h, "pwrite", bytes(512), 0)
        server.control("gated g")
        server.control("sync")
        server.kill()
        assert write.wait() != 0
        expect([r.end for r in server.log()], [None])
        server.start()
        expect(len(server.log()), 0)
        expect(len(server.log(run=1)), 1)


def test_background():
    with disk() as server:
        a, b = server.connect(), server.connect()
        server.control("gate g op=read")
        call = wt.background(a.pread, 512, 0)
        server.control("gated g")
        assert not call.done()
        server.control("open g")
        expect(call.result(), bytes(512))
        server.control("fault f op=read errno=EIO")
        call = wt.background(b.pread, 512, 0)
        expect(wt.errno_of(call.result), errno.EIO)


def test_nothing_is_left():
    server = disk()
    folder, pid = server.folder, server.process.pid
    with server:
        server.connect()
    assert not os.path.exists(folder)
    assert not os.path.exists("/proc/%d" % pid)
    expect(wt.servers, [])


wt.main()
