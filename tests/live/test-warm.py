#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""The warm list: pages that a server had cached are fetched again by the next
one, and a file that is no good list does no harm."""

import fcntl
import os
import stat
import sys

sys.dont_write_bytecode = True

from live import K, M, cached, expect, fault, ranges, wt  # noqa: E402

MARK = b"# Warm list of nbdkit-wtcache-filter"
PAGE = 4 * K


def new_server(disk=None, **options):
    """Not started, with a list in a folder of its own."""
    server = cached(disk, start=False, fill=PAGE, **options)
    os.mkdir(server.path("w"))
    server.filter_options["wtcache-warm"] = server.path("w/warm")
    return server


def warm_path(server):
    return server.filter_options["wtcache-warm"]


def read(path):
    with open(path, "rb") as f:
        return f.read()


def write(path, content):
    with open(path, "wb") as f:
        f.write(content)


def lines_of(server):
    return [line for line in server.stderr().splitlines()
            if "wtcache-warm=" in line]


def read_pages(server, pages):
    h = server.connect()
    for page in pages:
        h.pread(PAGE, page * PAGE)
    server.disconnect(h)


def backend_reads(server):
    return sum(length for _, _, length in ranges(server, "read"))


def wait_fetched(server, pages):
    """Waits until the disk has read so much."""
    wt.wait_until(lambda: backend_reads(server) >= pages * PAGE,
                  "the list is fetched")


PAGES = [3 * n for n in range(100)]


def make_list(server):
    server.start()
    read_pages(server, PAGES)
    server.stop()
    assert read(warm_path(server)).startswith(MARK)


def test_restart():
    """Pages that were cached are cached again, once a client has come."""
    with new_server() as server:
        make_list(server)
        server.start()
        expect(backend_reads(server), 0)
        h = server.connect()
        h.pread(PAGE, 4 * M)
        wait_fetched(server, len(PAGES) + 1)
        for page in PAGES:
            expect(h.pread(PAGE, page * PAGE),
                   wt.pattern(page * PAGE, PAGE, 0))
        expect(backend_reads(server), (len(PAGES) + 1) * PAGE)


def test_changed_image():
    """A list cannot be stale: pages are read as they are now."""
    with new_server() as server:
        make_list(server)
        warm = server.filter_options.pop("wtcache-warm")
        server.start()
        h = server.connect()
        new = wt.pattern(0, 64 * K, 7)
        h.pwrite(new, 0)
        h.flush()
        server.disconnect(h)
        server.stop()
        server.filter_options["wtcache-warm"] = warm
        server.start()
        h = server.connect()
        h.pread(PAGE, 4 * M)
        wait_fetched(server, len(PAGES) + 1)
        expect(h.pread(64 * K, 0), new)


def test_read_only():
    with new_server({"readonly": 1}) as server:
        make_list(server)
        server.start()
        h = server.connect()
        h.pread(PAGE, 4 * M)
        wait_fetched(server, len(PAGES) + 1)


def test_killed():
    """The list of a server that was killed is the last one it wrote; the one
    of a server that no client asked is the one before."""
    with new_server() as server:
        make_list(server)
        first = read(warm_path(server))
        server.start()
        server.stop()
        expect(read(warm_path(server)), first)
        server.start()
        server.kill()
        expect(read(warm_path(server)), first)
        server.start()
        read_pages(server, [1000])


def check_started_without(server, *words):
    """It serves, with one line that has these words."""
    before = len(lines_of(server))
    server.start()
    read_pages(server, [5])
    lines = lines_of(server)[before:]
    expect(len(lines), 1, server.stderr())
    for word in words:
        assert word in lines[0], lines[0]
    server.stop()


def test_damaged():
    """One line, and the server starts; it writes a good list at its end."""
    with new_server() as server:
        make_list(server)
        path = warm_path(server)
        good = read(path)
        for content, word in (
                (good[:-1], "damaged"),
                (good[:len(good) // 2], "damaged"),
                (good.replace(b"4096", b"8192", 1), "checksum"),
                (good.replace(b"version 1", b"version 2"), "version 2")):
            write(path, content)
            check_started_without(server, "not used", word)
            assert read(path) != content
            make_list(server)


def test_too_large():
    with new_server(size="1M") as server:
        write(server.path("w/warm"),
              MARK + b", which replaces this file\n" + bytes(M))
        check_started_without(server, "not used", "there is room for")


def test_other_file():
    """A file that is no list is neither read nor replaced."""
    with new_server() as server:
        path = warm_path(server)
        for content in (wt.pattern(0, 64 * K, 1), b"\n", b"a text\n",
                        MARK[:20]):
            write(path, content)
            check_started_without(server, "not written by wtcache",
                                  "without a warm list")
            expect(read(path), content)
        os.unlink(path)
        os.symlink(server.path("victim"), path)
        check_started_without(server, "symbolic link")
        assert not os.path.exists(server.path("victim"))


def check_refused(server, *words):
    server.spawn()
    assert server.wait() not in (0, -6)
    for word in words:
        assert word in lines_of(server)[-1], server.stderr()


def test_refused():
    """A list that another server writes; a folder that is not there."""
    with new_server() as server, open(
            server.path("w/warm.lock"), "wb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        check_refused(server, "another server uses this file")
        server.filter_options["wtcache-warm"] = server.path("nowhere/warm")
        check_refused(server, "folder")


def test_mode_is_kept():
    with new_server() as server:
        make_list(server)
        os.chmod(warm_path(server), 0o640)
        make_list(server)
        expect(stat.S_IMODE(os.stat(warm_path(server)).st_mode), 0o640)
        expect(sorted(os.listdir(server.path("w"))), ["warm"])


def test_failing_backend():
    """It is left alone, and a client gets its own bytes once it is back."""
    with new_server() as server:
        make_list(server)
        server.start()
        fault(server, "read", first=0, last=3 * M - 1)
        h = server.connect()
        h.pread(PAGE, 4 * M)
        wt.wait_until(
            lambda: len([r for r in server.log().of("read")
                         if r.errno != 0]) >= 16, "the reads have failed")
        server.control("unfault f")
        expect(h.pread(PAGE, 0), wt.pattern(0, PAGE, 0))


def test_options():
    """A stack that is serial fetches nothing, and says so."""
    with new_server({"thread_model": "serialize-requests"}) as server:
        server.start()
        read_pages(server, [0])
        assert "without effect: wtcache-warm" in server.stderr()
        server.stop()
        assert not os.path.exists(warm_path(server))


wt.main()
