#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""Which files wtcache-stats replaces, and what is logged if it cannot."""

import fcntl
import os
import pwd
import shutil
import signal
import stat
import subprocess
import sys

sys.dont_write_bytecode = True

from live import K, M, cached, expect, wt  # noqa: E402


def new_server(path=None):
    """Not started, with statistics in a folder of their own."""
    server = cached()
    server.stop()
    os.mkdir(server.path("s"))
    server.filter_options["wtcache-stats"] = (
        path or server.path("s/stats.prom"))
    return server


def stats_path(server):
    return server.filter_options["wtcache-stats"]


def read(path):
    with open(path, "rb") as f:
        return f.read()


def is_statistics(path):
    return read(path).startswith(b"# Statistics of nbdkit-wtcache-filter")


def wait_replaced(path):
    """Waits until the file is another one."""
    first = os.stat(path).st_ino, os.stat(path).st_mtime_ns
    wt.wait_until(
        lambda: (os.stat(path).st_ino, os.stat(path).st_mtime_ns) != first,
        "the statistics are replaced")


def lines_of(server):
    """The log lines about the statistics."""
    return [line for line in server.stderr().splitlines()
            if "wtcache-stats=" in line]


def check_refused(server, *words):
    """The server ends at start, with one line."""
    before = len(lines_of(server))
    server.spawn()
    status = server.wait()
    assert status not in (0, -signal.SIGABRT), status
    lines = lines_of(server)[before:]
    expect(len(lines), 1, server.stderr())
    for word in words:
        assert word in lines[0], lines[0]


def test_only_its_own_file():
    """Other files stay as they are: an image, a text, other metrics."""
    with new_server() as server:
        path = stats_path(server)
        for content in (wt.pattern(0, 64 * K, 1), b"\n", b"a text\n", bytes(M),
                        b"# HELP node_load1 1m load average.\n"):
            with open(path, "wb") as f:
                f.write(content)
            check_refused(server, "not written by wtcache")
            expect(read(path), content)
            expect(os.listdir(server.path("s")), ["stats.prom"])
        os.unlink(path)
        server.start()
        assert is_statistics(path)
        server.restart()
        wait_replaced(path)


def test_served_disk():
    """The disk that is served is not taken for the statistics."""
    with new_server() as server:
        image = server.path("image")
        with open(image, "wb") as f:
            f.write(wt.pattern(0, 64 * K, 1))
        server.plugin = ["file", image]
        server.filter_options["wtcache-stats"] = image
        check_refused(server, "not written by wtcache")
        expect(read(image), wt.pattern(0, 64 * K, 1))


def test_empty_file():
    """Nothing is lost with it; a power cut may leave one."""
    with new_server() as server:
        path = stats_path(server)
        with open(path, "wb"):
            pass
        server.start()
        assert is_statistics(path)


def test_no_regular_file():
    """Links, FIFOs, sockets, devices and folders are refused."""
    with new_server() as server:
        path = stats_path(server)
        victim = server.path("victim")
        with open(victim, "wb") as f:
            f.write(b"victim")
        os.symlink(victim, path)
        check_refused(server, "symbolic link")
        os.unlink(path)
        os.symlink(server.path("nowhere"), path)
        check_refused(server, "symbolic link")
        os.unlink(path)
        os.mkfifo(path)
        check_refused(server, "not a regular file")
        assert stat.S_ISFIFO(os.lstat(path).st_mode)
        os.unlink(path)
        os.mkdir(path)
        check_refused(server, "not a regular file")
        for other in "/dev/stdout", "/dev/null":
            server.filter_options["wtcache-stats"] = other
            check_refused(server, other)
        expect(read(victim), b"victim")
        assert not os.path.exists(server.path("nowhere"))


def test_what_lies_beside():
    """The file that is written first does not take another's place."""
    for make_it in os.symlink, os.link:
        with new_server() as server:
            victim = server.path("victim")
            with open(victim, "wb") as f:
                f.write(b"victim")
            for suffix in ".new", ".lock":
                beside = stats_path(server) + suffix
                make_it(victim, beside)
                check_refused(server, beside)
                expect(read(victim), b"victim")
                assert os.path.lexists(beside)
                os.unlink(beside)


def test_left_by_a_dead_server():
    """The files of a killed server keep no other from starting."""
    with new_server() as server:
        path = stats_path(server)
        server.start()
        server.kill()
        shutil.copy(path, path + ".new")
        assert os.path.exists(path + ".lock")
        server.start()
        wait_replaced(path)
        server.stop()
        expect(os.listdir(server.path("s")), ["stats.prom"])


def test_becomes_another_file():
    """Another file that replaces it while the server runs is kept."""
    with new_server() as server:
        path = stats_path(server)
        server.start()
        with open(server.path("text"), "wb") as f:
            f.write(b"a text\n")
        os.rename(server.path("text"), path)
        wt.wait_until(lambda: lines_of(server), "it is logged")
        expect(read(path), b"a text\n")
        os.unlink(path)
        wt.wait_until(lambda: len(lines_of(server)) == 2, "it is well again")
        assert is_statistics(path)
        assert "written again" in lines_of(server)[1]


def test_mode_is_kept():
    """The mode stays as the administrator set it, and the group."""
    with new_server() as server:
        path = stats_path(server)
        server.start()
        os.chmod(path, 0o640)
        if os.geteuid() == 0:
            os.chown(path, -1, 12)
        wait_replaced(path)
        server.restart()
        wait_replaced(path)
        expect(stat.S_IMODE(os.stat(path).st_mode), 0o640)
        if os.geteuid() == 0:
            expect(os.stat(path).st_gid, 12)


def test_two_servers():
    """A file that another running server writes is refused."""
    with new_server() as first:
        first.start()
        path = stats_path(first)
        with new_server(path) as second:
            check_refused(second, "another server uses")
            wait_replaced(path)
            # A reader's lock keeps no server from its file.
            first.stop()
            with open(path, "rb") as f:
                fcntl.flock(f, fcntl.LOCK_EX)
                second.start()
                wait_replaced(path)
            expect(stat.S_IMODE(os.stat(path + ".lock").st_mode), 0o600)


def test_user_that_cannot_write():
    """With -u, the new user tries before the server serves."""
    wt.require(os.geteuid() == 0, "needs to be root")
    with new_server() as server:
        server.args = ["-u", "nobody"]
        os.chmod(server.folder, 0o777)
        os.chmod(server.path("s"), 0o755)
        server.disk_options.update(durable=None, log=None, control=None)
        check_refused(server, "Permission denied")
        os.chown(server.path("s"), pwd.getpwnam("nobody").pw_uid, -1)
        server.start()
        path = stats_path(server)
        expect(os.stat(path).st_uid, pwd.getpwnam("nobody").pw_uid)
        wait_replaced(path)
        expect(lines_of(server)[1:], [])


def test_full_disk():
    """It is told as what it is, once, and so is its end."""
    wt.require(os.geteuid() == 0, "needs to be root")
    with new_server() as server:
        folder = server.path("s")
        wt.require(subprocess.run(
            ["mount", "-t", "tmpfs", "-o", "size=64k", "none", folder],
            capture_output=True, check=False).returncode == 0,
            "cannot mount a small file system")
        try:
            server.start()
            filler = os.path.join(folder, "filler")
            with open(filler, "wb", buffering=0) as f:
                try:
                    while f.write(bytes(4096)):
                        pass
                except OSError:
                    pass
            wt.wait_until(lambda: lines_of(server), "it is logged")
            assert "No space left on device" in lines_of(server)[0]
            assert is_statistics(stats_path(server))
            os.unlink(filler)
            wt.wait_until(lambda: "written again" in lines_of(server)[-1],
                          "it is well again")
            expect(len(lines_of(server)), 2)
            server.stop()
        finally:
            subprocess.run(["umount", "-l", folder], check=True)


wt.main()
