#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""The log: what fails again and again takes few lines, however often clients
try (laws 3 and 23)."""

import errno
import sys

sys.dont_write_bytecode = True

from live import (  # noqa: E402
    M, cached, expect, fault, put, put_error, seen, wt)


def lines(server, *words):
    """The lines of the filter that have all these words."""
    return [line for line in server.stderr().splitlines()
            if "wtcache: " in line and all(word in line for word in words)]


def wait_line(server, *words):
    return wt.wait_until(lambda: lines(server, *words),
                         "the log has a line with %s" % (words,))[0]


def test_dead_backend_takes_few_lines():
    """Law 23: 5,000 reads that fail are one line, and one with their number
    when the server ends; other kinds of requests have their own."""
    with cached() as server:
        h = server.connect()
        fault(server, "any")
        for i in range(5000):
            expect(wt.errno_of(h.pread, 512, i * 512), errno.EIO)
        for i in range(10):
            expect(put_error(h, i * 4096, 4096, 1, wt.FUA), errno.EIO)
        expect(len(lines(server, "read of 512 bytes at 0 failed: ")), 1)
        expect(len(lines(server, " failed: ")), 2)
        server.control("unfault all")
        expect(seen(h, M, 512), [0])
        server.stop()
        expect(len(lines(server, "4999 more reads failed")), 1)
        expect(len(lines(server, "9 more FUA writes failed")), 1)
        expect(len(lines(server, " failed")), 4)


def test_one_failure_takes_one_line():
    with cached() as server:
        h = server.connect()
        fault(server, "read", count=1)
        expect(wt.errno_of(h.pread, 512, M), errno.EIO)
        server.stop()
        expect(len(lines(server, "failed")), 1)


def test_refused_write_back_is_told():
    """Law 3: a line when it begins, with the errno and how much waits, and one
    when it ends, though it is tried again all the time."""
    with cached(dirty_age="10ms") as server:
        h = server.connect()
        fault(server, "write", "ENOSPC")
        put(h, 0, 65536, 1)
        line = wait_line(server, "refuses write-back since 20")
        assert 'export ""' in line and "No space left on device" in line, line
        assert "; 65536 bytes wait" in line, line
        for _ in range(10):
            expect(wt.errno_of(h.flush), errno.ENOSPC)
        server.control("unfault all")
        h.flush()
        line = wait_line(server, "takes write-back again")
        assert "; 0 bytes are still dirty" in line, line
        expect(len(lines(server, "write-back")), 2)


wt.main()
