#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""Files that hang: the statistics and the file of lost data lie on a file server
that does not answer.  Age, drain and the end of the server go on without them,
and so they do without a trace.
"""

import os
import socket
import sys

sys.dont_write_bytecode = True

import preload  # noqa: E402
from seeds import wt  # noqa: E402

K = 1024
CALLS = {"write": 1, "rename": 2, "fsync": 4, "unlink": 8}


class StuckServer(wt.Server):
    """Statistics and control socket lie in a folder that can hang."""

    def __init__(self, prefix="far/", **options):
        given = {"wtcache-size": "4M"}
        given.update({"wtcache-" + key.replace("_", "-"): value
                      for key, value in options.items()})
        super().__init__(given, start=False)
        os.mkdir(self.path("far"))
        self.page = preload.Page(self.path("page"), ("stuck", "waiting"))
        self.filter_options["wtcache-stats"] = self.path("far/stats.prom")
        self.filter_options["wtcache-control"] = self.path("far/control")
        self.env = {"LD_PRELOAD": preload.with_others("stuck"),
                    "WT_PREFIX": self.path(prefix), "WT_PAGE": self.page.path}
        self.start()

    def hang(self, *names):
        """These calls hang from now on; without any, all that hung return."""
        self.page["stuck"] = sum(CALLS[name] for name in names)

    def wait_hung(self):
        wt.wait_until(lambda: self.page["waiting"] > 0, "a call hangs")

    def statistics(self):
        with open(self.path("far/stats.prom"), encoding="utf-8") as f:
            return f.read()


def put(h, offset, length, version, flags=0):
    h.pwrite(wt.pattern(offset, length, version), offset, flags)


def durable(server, offset, length):
    return wt.versions(server.durable(offset, length), offset)


def wait_durable(server, offset, version):
    wt.wait_until(lambda: durable(server, offset, 4 * K) == [version] * 8,
                  "what was written is durable")


def wait_written_back(server, offset):
    wt.wait_until(
        lambda: any(r.errno == 0 and r.overlaps(offset, 4 * K)
                    for r in server.log().of("write")),
        "what was written is at the disk")


def test_age_and_drain():
    """Laws 3 and 24: dirty data is written at its age and at the stop, and the
    server ends, in whichever call a file hangs."""
    for name in CALLS:
        with StuckServer(dirty_age="10ms") as server:
            h = server.connect()
            server.hang(name)
            if name in ("write", "rename"):     # others come at the end
                server.wait_hung()
            put(h, 0, 4 * K, 1)
            wait_written_back(server, 0)
            server.terminate()
            wait_durable(server, 0, 1)
            server.disconnect(h)
            assert server.wait() == 0, name
            assert "LOST" not in server.stderr(), name


def test_goes_on_afterwards():
    """Statistics are written again once the call returns, by the same server,
    and its last file is its last."""
    with StuckServer() as server:
        server.hang("rename")
        server.wait_hung()
        server.hang()
        first = server.statistics()
        wt.wait_until(lambda: server.statistics() != first, "it is written again")
        server.stop()
        assert "\nwtcache_ended{" in server.statistics()
        assert " hangs" not in server.stderr()


def test_hang_is_logged_once():
    """One line when a file has hung for long, and one when it goes on."""
    with StuckServer() as server:
        server.hang("rename")
        wt.wait_until(lambda: "has hung for" in server.stderr(),
                      "it is logged")
        server.hang()
        wt.wait_until(lambda: "written again, after" in server.stderr(),
                      "its end is logged")
        lines = [line for line in server.stderr().splitlines()
                 if "wtcache-stats=" in line]
        assert len(lines) == 2, lines


def test_file_of_lost_data():
    """The log has what was lost, although the file that says so hangs."""
    for name in "write", "fsync":
        with StuckServer(drain="100ms") as server:
            put(server.connect(), 0, 4 * K, 1)
            server.control("fault f op=write errno=EIO")
            server.hang(name)
            server.stop()
            assert "LOST: 4096 bytes" in server.stderr(), name


def test_earlier_file_of_lost_data():
    """A server starts and serves while what an earlier one has left hangs."""
    with StuckServer(prefix="far/stats.lost", drain="100ms") as server:
        put(server.connect(), 0, 4 * K, 1)
        server.control("fault f op=write errno=EIO")
        server.stop()
        lost = server.path("far/stats.lost")
        assert os.path.exists(lost)
        server.hang("rename")
        server.start()
        server.wait_hung()
        h = server.connect()
        put(h, 0, 4 * K, 2)
        h.flush()
        server.stop()
        assert os.path.exists(lost)
        server.hang()
        server.start()
        wt.wait_until(lambda: os.path.exists(lost + ".old"),
                      "the next server has put it out of the way")
        assert not os.path.exists(lost)


def begin_trace(server, name):
    """Asks for a trace; the conversation and what is said first."""
    s = socket.socket(socket.AF_UNIX)
    s.settimeout(60 * wt.tap.SCALE)
    s.connect(server.path("far/control"))
    talk = s.makefile("rw")
    talk.write("trace file=%s seconds=3600\n" % server.path("far/" + name))
    talk.flush()
    line = talk.readline()
    while line.startswith("greeting") or line.startswith("wtcache"):
        line = talk.readline()
    return s, talk, line


def test_trace():
    """A trace whose file hangs holds up no request, no other file, and not the
    end of the server."""
    with StuckServer(prefix="far/trace") as server:
        h = server.connect()
        h.pread(512, 0)
        _s, _talk, said = begin_trace(server, "trace.1")
        assert said == "begun\n", said
        server.hang("write")
        h.pread(512, 0)
        server.wait_hung()
        first = server.statistics()
        wt.wait_until(lambda: server.statistics() != first,
                      "the statistics are written")
        for i in range(1000):
            h.pread(512, 512 * i)
        server.stop()


def test_trace_after_one_that_hung():
    """There is no other until the file goes on."""
    with StuckServer(prefix="far/trace") as server:
        h = server.connect()
        h.pread(512, 0)
        s, talk, said = begin_trace(server, "trace.1")
        assert said == "begun\n", said
        server.hang("write")
        h.pread(512, 0)
        server.wait_hung()
        talk.close()
        s.close()
        _s, _talk, said = begin_trace(server, "trace.2")
        assert "is being recorded" in said, said
        server.hang()

        def again():
            return begin_trace(server, "trace.3")[2] == "begun\n"
        wt.wait_until(again, "another trace is recorded")
        server.stop()


wt.main()
