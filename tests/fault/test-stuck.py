#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""Files that hang: the statistics and the file of lost data lie on a file server
that does not answer.  Age, drain and the end of the server go on without them.
"""

import os
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


wt.main()
