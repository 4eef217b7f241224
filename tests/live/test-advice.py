#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""Warnings at the start about the server that the filter runs in: a version of
nbdkit that aborts, and a filter that makes the whole stack serial (law 20)."""

import re
import signal
import subprocess
import sys

sys.dont_write_bytecode = True

from live import (  # noqa: E402
    M, cached, expect, put, seen, wt)


def lines(server, word):
    return [line for line in server.stderr().splitlines() if word in line]


def version():
    """nbdkit's version as numbers."""
    text = subprocess.run(["nbdkit", "--version"], capture_output=True,
                          text=True, check=True).stdout
    return tuple(int(n) for n in re.search(r"([\d.]+)", text)[1].split("."))


def is_affected():
    return ((1, 32, 4) <= version() <= (1, 32, 6)
            or (1, 33, 3) <= version() <= (1, 33, 9))


def aborts(server, nr=16):
    """A client goes while so many replies wait for it to read them, more than
    its socket holds; whether the server ends by that."""
    stay = server.connect()
    others = server.stats()["connected"]
    h = server.connect()
    for i in range(nr):
        wt.start(h, "pread", M, i * M)
    wt.wait_until(lambda: sum(r.end is not None and r.length > 512
                              for r in server.log().of("read")) >= nr,
                  "the disk has answered all")
    server.drop(h)
    try:
        wt.wait_until(lambda: not server.running()
                      or server.stats()["connected"] == others,
                      "the connection is closed, or the server is gone")
        seen(stay, 0, 512)
    except (OSError, AssertionError, wt.nbd.Error):
        expect(server.wait(), -signal.SIGABRT)
        return True
    return False


def test_client_that_goes():
    """nbdkit itself aborts, with the filter and without, in some versions."""
    wt.require(is_affected(), "this version of nbdkit does not abort")
    for make in (lambda: wt.Server(None), cached):
        for _ in range(10):
            with make() as server:
                if aborts(server):
                    break
        else:
            raise AssertionError("it never aborts: is it mended?")


def test_client_that_goes_without_harm():
    """With -t 1 no version does, nor does one that is mended."""
    args = ["-t", "1"] if is_affected() else []
    for _ in range(5):
        with cached(args=args) as server:
            put(server.connect(), 0, 4096, 1)
            assert not aborts(server, 1 if args else 16)


def test_line_of_a_version_that_aborts():
    """One line, where acknowledged data could be lost by it."""
    for options, wanted in (({}, is_affected()),
                            ({"mode": "writethrough"}, False)):
        with cached(**options) as server:
            server.stop()
            expect(len(lines(server, "aborts when a client")), int(wanted))


def test_line_of_a_serial_filter():
    """Law 20: retry makes the stack serial over a parallel plugin, on either
    side; retry-request does not."""
    for above, below, wanted in (((), ("retry",), 1), (("retry",), (), 1),
                                 ((), ("retry-request",), 0), ((), (), 0)):
        with wt.Server({"wtcache-size": "8M"}, filters_above=above,
                       filters_below=below) as server:
            found = lines(server, "makes the whole stack serial")
            expect(len(found), wanted, (above, below))
            assert not found or "filter retry " in found[0], found
    with wt.Server({"wtcache-size": "8M"}, {"thread-model": "serialize-requests"}) as s:
        expect(lines(s, "makes the whole stack serial"), [])


wt.main()
