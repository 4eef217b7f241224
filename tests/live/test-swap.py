#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""A server with all its memory locked, "nbdkit --swap": the system populates
what is mapped at once, so nothing is mapped in reserve (law 15)."""

import ctypes
import os
import sys

sys.dont_write_bytecode = True

from control import TOOL, run  # noqa: E402
from live import M, expect, put, wt  # noqa: E402

MCL_CURRENT, MCL_FUTURE = 1, 2
SIZE = 128
DISK = 256
ALLOWED = 32        # above the budget


def require_locking():
    """Skips where a process may not lock so much."""
    pid = os.fork()
    if pid == 0:
        libc = ctypes.CDLL(None)
        libc.mmap.restype = ctypes.c_void_p
        os._exit(libc.mlockall(MCL_CURRENT | MCL_FUTURE) != 0
                 or libc.mmap(None, ctypes.c_size_t(1 << 30), 3, 0x22, -1,
                              ctypes.c_long(0)) == ctypes.c_void_p(-1).value)
    wt.require(os.waitpid(pid, 0)[1] == 0,
               "this process may not lock its memory")


def locked(filtered):
    """A server with all its memory locked, over a disk in memory."""
    options = {"wtcache-size": "%dM" % SIZE} if filtered else None
    server = wt.Server(options, plugin=["memory", "%dM" % DISK],
                       args=["--swap"], start=False)
    if filtered:
        options["wtcache-control"] = server.path("ctl")
    server.start()
    return server


def resident(server):
    """The memory of the server, in bytes."""
    with open("/proc/%d/status" % server.process.pid, encoding="ascii") as f:
        for line in f:
            if line.startswith("VmRSS:"):
                return int(line.split()[1]) << 10
    raise AssertionError("no VmRSS")


def use(server):
    """A client that writes more than the cache holds."""
    h = server.connect()
    for at in range(0, SIZE * 3 // 2 * M, M):
        put(h, at, M, 1, wt.FUA if at % (8 * M) == 0 else 0)
    h.flush()
    return h


def set_size(server, size):
    process = run(server, "set", "size", "%dM" % size)
    process.communicate()
    return process.returncode


def test_resident_size():
    """Law 15: within the budget and 32 MiB above the same server without the
    filter; what is released goes back to the system."""
    require_locking()
    with locked(False) as server:
        use(server)
        bare = resident(server)
    with locked(True) as server:
        h = use(server)
        full = resident(server)
        assert full - bare <= (SIZE + ALLOWED) * M, (full - bare) / M
        expect(wt.versions(h.pread(M, 8 * M), 8 * M), [1] * 2048)
        if os.path.exists(TOOL):
            # It cannot grow: that would be mapped now.
            assert set_size(server, 2 * SIZE) != 0
            expect(set_size(server, SIZE // 2), 0)
            less = resident(server)
            assert full - less >= SIZE // 2 * M * 7 // 8, (full - less) / M
            for at in range(0, SIZE * M, M):
                h.pread(M, at)
            assert resident(server) <= less + 4 * M


wt.main()
