#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""Connections of one disk that can do different things (laws 17 and 22)."""

import sys

sys.dont_write_bytecode = True

from live import (  # noqa: E402
    K, expect, over, put, seen, wt)

# A disk whose export names tell what its connections can do.
DISK = {
    "thread_model": "echo parallel",
    "get_ready": "truncate -s 1M $tmpdir/disk",
    "open": "echo $3",
    "get_size": "echo 1M",
    "can_write": "case $2 in reads) exit 3;; esac",
    "can_flush": "case $2 in less|reads) exit 3;; esac",
    "can_fua": "case $2 in less|reads) echo none;; *) echo native;; esac",
    "can_zero": "case $2 in less) exit 3;; esac",
    "can_trim": "case $2 in less) exit 3;; esac",
    "can_multi_conn": "case $2 in single) exit 3;; esac",
    "pread": "dd if=$tmpdir/disk skip=$4 count=$3 "
             "iflag=count_bytes,skip_bytes,fullblock status=none",
    "pwrite": "dd of=$tmpdir/disk seek=$4 conv=notrunc oflag=seek_bytes "
              "status=none",
    "zero": "fallocate -z -o $4 -l $3 $tmpdir/disk",
    "trim": ":",
    "flush": ":",
}


def differing(**options):
    """A server whose clients choose by the name."""
    return over(["eval"] + ["%s=%s" % item for item in DISK.items()],
                key="all", readahead="off", **options)


def test_connections_that_can_do_less():
    """Law 22: nothing is asked of a connection that it cannot do."""
    for first, second in ("full", "less"), ("less", "full"), (
            "reads", "full"), ("full", "reads"):
        with differing() as server:
            a, b = server.connect(first), server.connect(second)
            writers = [h for h in (a, b) if not h.is_read_only()]
            for i, h in enumerate(writers):
                put(h, i * 64 * K, 4 * K, 1, wt.FUA)
                put(h, i * 64 * K + 8 * K, 4 * K, 2)
            for h in writers:
                h.flush()
            for i in range(len(writers)):
                expect(seen(a, i * 64 * K, 4 * K), [1] * 8)
                expect(seen(b, i * 64 * K + 8 * K, 4 * K), [2] * 8)
            for h in writers:
                if h.can_zero():
                    h.zero(4 * K, 0, wt.FUA)
                if h.can_trim():
                    h.trim(4 * K, 32 * K, wt.FUA)


def test_multi_conn_changes():
    """Law 17: a later connection that is not multi-conn has no cache of its
    own, which would not see what the other holds back."""
    with differing() as server:
        a = server.connect("full")
        put(a, 0, 4 * K, 1)
        b = server.connect("single")
        expect(seen(b, 0, 4 * K), [1] * 8)
        put(b, 0, 4 * K, 2, wt.FUA)
        a.flush()
        expect(seen(a, 0, 4 * K), [2] * 8)
        server.disconnect(a)
        server.disconnect(b)
        expect(seen(server.connect("single"), 0, 4 * K), [2] * 8)


wt.main()
