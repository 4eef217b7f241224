#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""nbdkit in the background, as it is by default: what serves then is a child
of what was started, and has all of the memory that was set aside."""

import os
import signal
import subprocess
import sys
import tempfile

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)),
                                "..", "lib"))

import nbd  # noqa: E402
import wt  # noqa: E402

M = 1 << 20


class Background:
    """nbdkit with the filter over a disk in memory; no test's parent."""

    def __init__(self, folder):
        self.socket = os.path.join(folder, "socket")
        pid_file = os.path.join(folder, "pid")
        subprocess.run(
            ["nbdkit", "-U", self.socket, "-P", pid_file,
             "--filter=" + wt.filter_path(), "memory", "64M",
             "wtcache-size=64M"],
            check=True, stdin=subprocess.DEVNULL, timeout=60 * wt.tap.SCALE)
        # It is written by the child, once that serves.
        self.pid = int(wt.wait_until(lambda: contents(pid_file),
                                     "the server runs"))

    def __enter__(self):
        return self

    def __exit__(self, *_exc):
        os.kill(self.pid, signal.SIGTERM)
        wt.wait_until(lambda: not os.path.exists("/proc/%d" % self.pid),
                      "the server ends")

    def kept_from_children(self):
        """Bytes that are mapped and that no child would have."""
        size = total = 0
        with open("/proc/%d/smaps" % self.pid) as smaps:
            text = smaps.read()
        wt.require("VmFlags:" in text, "the kernel tells no flags of memory")
        for line in text.splitlines():
            if line.startswith("Size:"):
                size = int(line.split()[1]) << 10
            elif line.startswith("VmFlags:") and "dc" in line.split():
                total += size
        return total


def contents(path):
    if not os.path.exists(path):
        return ""
    with open(path) as f:
        return f.read().strip()


def test_buffers_are_there():
    """Those for write-back and scratch, 2 MiB each, before any client."""
    with tempfile.TemporaryDirectory(prefix="wt-") as folder:
        with Background(folder) as server:
            found = server.kept_from_children()
            assert found >= 4 * M, found


def test_data_is_right():
    """Through all buffers at once, and more than the cache holds."""
    with tempfile.TemporaryDirectory(prefix="wt-") as folder:
        with Background(folder) as server:
            h = nbd.NBD()
            h.connect_unix(server.socket)
            data = wt.pattern(0, 64 * M, 1)
            for offset in range(0, 64 * M, M):
                h.pwrite(data[offset:offset + M], offset)
                # Parts of blocks are read before they are written.
                h.pwrite(data[offset + 1:offset + 300], offset + 1)
            h.flush()
            for offset in range(0, 64 * M, M):
                assert h.pread(M, offset) == data[offset:offset + M], offset
            h.shutdown()


if __name__ == "__main__":
    wt.main()
