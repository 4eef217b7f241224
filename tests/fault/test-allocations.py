#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""The Nth allocation of the filter fails in the server: for each N, the
scenario of test-nth.py.

The server may say that it cannot start, and a client may be sent away and
comes again: no request fails for it, and nothing else is lost.  At the end all
that the filter took is given back.
"""

import os
import socket
import sys

sys.dont_write_bytecode = True

import preload  # noqa: E402
from scenario import AREA, K, MOST, OPTIONS, Scenario  # noqa: E402
from seeds import wt  # noqa: E402

DISK = {"size": AREA, "block-min": 4096, "fua": "native"}


class Server(wt.Server):
    """A server whose allocations from a number on fail, so many of them."""

    def __init__(self, first, count):
        self.turned_away = 0
        options = dict(OPTIONS)
        options["wtcache-readahead"] = "64K"
        super().__init__(options, DISK, start=False)
        options["wtcache-stats"] = self.path("statistics")
        options["wtcache-control"] = self.path("ctl")
        self.page = preload.Page(self.path("page"), (
            "first", "count", "calls", "refused", "live"))
        self.page["first"] = first
        self.page["count"] = count
        self.env = {"LD_PRELOAD": preload.module("allocations"),
                    "WT_ALLOCATIONS": self.page.path}

    def greets(self):
        """Whether it takes clients: its socket is there before it knows
        whether it can."""
        with socket.socket(socket.AF_UNIX) as s:
            try:
                s.connect(self.socket)
                return bool(s.recv(1))
            except OSError:
                return False

    def begin(self):
        """Whether it has started; if not it has to say why."""
        self.spawn()
        wt.wait_until(
            lambda: self.process.poll() is not None or self.greets(),
            "the server serves or ends", 60)
        if self.running():
            return True
        assert self.process.returncode == 1, self.process.returncode
        assert "wtcache" in self.stderr(), "it does not say why it ends"
        return False

    def connect(self, *args, **kwargs):
        for _ in range(20):
            try:
                return super().connect(*args, **kwargs)
            except wt.nbd.Error:
                assert self.running(), "a client has ended the server"
                self.turned_away += 1
        self.heal()
        return super().connect(*args, **kwargs)

    def ask(self, command):
        """The answer of the control socket; nothing, if it hangs up."""
        with socket.socket(socket.AF_UNIX) as s:
            s.settimeout(60 * wt.tap.SCALE)
            s.connect(self.path("ctl"))
            try:
                s.sendall(command.encode() + b"\n")
                with s.makefile() as answer:
                    return answer.read()
            except (BrokenPipeError, ConnectionResetError):
                return ""

    def ask_all(self):
        """A client gets ENOMEM, or its connection ends."""
        for command in ("status", "flush", "drop", "set size=1536K",
                        "prefetch export= offset=0 length=65536"):
            answer = self.ask(command)
            if self.page["count"] == 0:
                assert answer and answer.split()[0] in ("ok", "server"), (
                    command, answer)

    def heal(self):
        self.page["count"] = 0


def run_one(first, count):
    """Whether it started, how many clients it sent away, how many
    allocations have failed."""
    with Server(first, count) as server:
        began = server.begin()
        if began:
            scenario = Scenario(server)
            scenario.write(224 * K, 16 * K, wt.FUA)
            scenario.run()
            server.ask_all()
            server.heal()
            server.ask_all()
            assert scenario.failures == [], scenario.failures
            scenario.finish()
            server.stop()
            assert "LOST" not in server.stderr()
            assert not os.path.exists(server.path("ctl"))
            assert server.page["live"] == 0, (
                "%d allocations are not given back" % server.page["live"])
        refused = server.page["refused"]
        if refused == 0:
            assert began and server.turned_away == 0
        return began, server.turned_away, refused


def run_all(count):
    """For each N until the scenario has fewer allocations than that."""
    preload.require_bare()
    began = turned_away = first = 0
    refused = 1
    while refused > 0:
        try:
            served, away, refused = run_one(first, count)
        except BaseException:
            wt.comment("the %d allocations after the first %d" % (
                count, first))
            raise
        began += served
        turned_away += away > 0
        first += 1
    wt.comment("%d runs, %d of them without a server, %d turned a client away"
               % (first, first - began, turned_away))
    assert first > 12 and first > began > 6 and turned_away > 3


@wt.timeout(240)
def test_one():
    """Each single allocation."""
    run_all(1)


@wt.timeout(240)
def test_two():
    """Two in a row."""
    run_all(2)


@wt.timeout(240)
def test_all_from_there():
    """All allocations from the Nth to the end of the scenario."""
    run_all(MOST)


wt.main()
