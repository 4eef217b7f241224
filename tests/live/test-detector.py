#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""The detector of requests that hang, which watches all live tests: it finds
those that nothing excuses, and no others."""

import contextlib
import sys
import time

sys.dont_write_bytecode = True

from live import (  # noqa: E402
    M, begin_put, cached, gate, gated, open_gate, over, seen, wt)
import hangs  # noqa: E402

SLEEPS = ["eval", "get_size=echo 64K", "pread=exec sleep 1000"]


@contextlib.contextmanager
def limit(seconds):
    before, hangs.LIMIT = hangs.LIMIT, seconds / wt.tap.SCALE
    try:
        yield
    finally:
        hangs.LIMIT = before


def found(server):
    text = wt.wait_until(hangs.watch.take_found, "a hang is found")
    wt.wait_until(lambda: not server.running(), "its server is killed")
    return text


def test_request_that_hangs():
    """Its server is killed, so it ends."""
    with limit(1), over(SLEEPS) as server:
        h = server.connect()
        assert wt.errno_of(h.pread, 512, 0) != 0
        assert "pread [512, 0]" in found(server)[0]


def test_asynchronous_request_that_hangs():
    with limit(1), over(SLEEPS) as server:
        command = wt.start(server.connect(), "pread", 512, 512)
        assert command.wait() != 0
        assert "pread [512, 512]" in found(server)[0]


def test_requests_that_are_excused():
    """The disk has one at a gate, and another has its answer, which the client
    does not read."""
    with limit(2), cached() as server:
        h, other = server.connect(), server.connect()
        gate(server, "write")
        write = begin_put(h, 0, 4096, 1, wt.FUA)
        gated(server)
        read = wt.start(other, "pread", 512, M)
        time.sleep(4)   # twice the limit: too short a time hides a fault only
        open_gate(server)
        assert write.wait() == 0 and read.wait() == 0
        assert seen(h, 0, 512) == [1]
        assert hangs.watch.take_found() == []


wt.main()
