#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""Every command over a backend that gives each legal answer in its rarest form:
what it can and cannot do, block sizes and sizes at their limits, block status
that stops short, names and descriptions (laws 16, 19 and 22).

The server never aborts, all bytes are right, nothing is asked of the backend
that it has not offered (nbdkit would abort, and the disk marks what breaks its
block sizes), and after a flush the disk has what was written.
"""

import errno
import itertools
import os
import shutil
import subprocess
import sys

sys.dont_write_bytecode = True

from live import K, M, cached, expect, over, wt  # noqa: E402

ABILITIES = ("flush", "zero", "fast_zero", "trim", "multi_conn", "extents")


def run_tool(*command, status=0):
    wt.require(shutil.which(command[0]), command[0] + " is not there")
    result = subprocess.run(command, capture_output=True, text=True,
                            timeout=100 * wt.tap.SCALE, check=False)
    expect(result.returncode, status, (command, result.stderr))
    return result.stdout


class Client:
    """Sends each command, and knows what the disk has to have."""

    def __init__(self, server):
        self.server = server
        self.h = server.connect()
        self.size = self.h.get_size()
        self.bytes = bytearray(self.size)
        self.version = 0

    def cut(self, offset, length):
        offset = min(offset, self.size)
        return offset, min(length, self.size - offset)

    def write(self, offset, length, flags):
        self.version += 1
        data = wt.pattern(offset, length, self.version)
        self.h.pwrite(data, offset, flags)
        self.bytes[offset:offset + length] = data

    def zero(self, offset, length, flags):
        """A fast one may be refused, with nothing changed."""
        if not self.h.can_zero():
            return
        if flags & wt.FAST_ZERO and not self.h.can_fast_zero():
            return
        error = wt.errno_of(self.h.zero, length, offset, flags)
        if flags & wt.FAST_ZERO and error in (errno.ENOTSUP,
                                              errno.EOPNOTSUPP):
            return
        expect(error, 0)
        self.bytes[offset:offset + length] = bytes(length)

    def trim(self, offset, length, flags):
        """Leaves anything, but always the same."""
        if not self.h.can_trim():
            return
        self.h.trim(length, offset, flags)
        self.bytes[offset:offset + length] = self.h.pread(length, offset)

    def check(self, offset, length):
        assert self.h.pread(length, offset) == self.bytes[
            offset:offset + length], (offset, length)

    def check_status(self, offset, length, flags):
        """It covers a beginning of the range, and no data is called a zero."""
        if not self.h.can_meta_context(wt.nbd.CONTEXT_BASE_ALLOCATION):
            return
        at = offset
        extents = wt.block_status(self.h, length, offset, flags)
        assert extents
        if flags & wt.REQ_ONE:
            expect(len(extents), 1)
        for count, kind in extents:
            assert count > 0
            if kind & wt.nbd.STATE_ZERO:
                expect(any(self.bytes[at:min(at + count, self.size)]), False)
            at += count

    def do_all(self, offset, length):
        offset, length = self.cut(offset, length)
        if length == 0:
            return
        for flags in 0, wt.FUA:
            self.write(offset, length, flags)
            self.check_status(offset, length, 0)
            self.zero(offset, length, flags)
            self.check(offset, length)
            self.write(offset, length, flags)
            self.zero(offset, length, flags | wt.FAST_ZERO)
            self.check_status(offset, length, wt.REQ_ONE)
            self.write(offset, length, flags)
            self.trim(offset, length, flags)
            self.write(offset, (length + 1) // 2, flags)
        self.zero(offset, length, wt.NO_HOLE)
        self.write(offset + length // 2, length - length // 2, 0)
        if self.h.can_cache():
            self.h.cache(length, offset)
        self.check(offset, length)


def check(server, tools=True):
    """All commands over edges of blocks and pages, at both ends and the
    middle; then the commands that people use, and what the disk has."""
    client = Client(server)
    size = client.size
    places = {0, 1, 511, 4095, size // 2, max(size - 4097, 0),
              max(size - 512, 0), max(size - 1, 0)}
    for offset, length in itertools.product(sorted(places),
                                            (1, 4096, 70000)):
        client.do_all(offset, length)
    if size > 0:
        client.check(0, size)
    if client.h.can_flush():
        client.h.flush()
    if tools:
        run_tool("nbdinfo", server.uri)
        run_tool("nbdinfo", "--map", server.uri)
        copy = server.path("copy")
        run_tool("nbdcopy", server.uri, copy)
        with open(copy, "rb") as f:
            assert f.read() == client.bytes
    server.stop()
    assert server.durable(0, size) == client.bytes
    expect([r for r in server.log() if r.violation], [])


@wt.timeout(600)
def test_abilities():
    """Each pair of them in all four ways, with each kind of FUA."""
    # Rows 1 to 7 of a Hadamard matrix of order 8: each two columns have all
    # four pairs, and so have their opposites.
    for row in range(8):
        for flip in 0, 1:
            words = {name: "yes" if (bin(row & column).count("1") + flip) % 2
                     else "no"
                     for column, name in enumerate(ABILITIES, 1)}
            if words["zero"] == "no":
                words["fast_zero"] = "no"
            words["fua"] = ("native", "emulate", "none")[(row + flip) % 3]
            words["size"] = 160 * K
            wt.comment(str(words))
            with cached(words, size="1M") as server:
                check(server, tools=row % 4 == 0)


@wt.timeout(600)
def test_block_sizes():
    """At their limits, and a maximum that is no power of two."""
    for least, preferred, most in ((1, 512, 512), (1, 4096, 64 * K),
                                   (512, 32 * M, 32 * M),
                                   (4096, 4096, 3 * 4096),
                                   (64 * K, 64 * K, 64 * K),
                                   (512, 512, 0xffffffff),
                                   (2048, 2048, 5 * 2048)):
        wt.comment("%d %d %d" % (least, preferred, most))
        with cached({"block_min": least, "block_preferred": preferred,
                     "block_max": most, "size": 320 * K,
                     "extents_max": least if least > 1 else 700},
                    size="2M") as server:
            check(server, tools=least > 1)


@wt.timeout(600)
def test_sizes():
    """Nothing, one byte, and bytes beside a block and a page."""
    for size in 0, 1, 511, 513, 4095, 4097, 64 * K + 1:
        wt.comment(str(size))
        with cached({"size": size, "extents_max": 1}, size="1M") as server:
            check(server)


def test_largest_size():
    """The last bytes of a disk of 2^63 - 1."""
    with cached({"size": (1 << 63) - 1, "durable": None,
                 "extents_max": 512}) as server:
        h = server.connect()
        size = h.get_size()
        expect(size, (1 << 63) - 1)
        for offset, length in ((size - 1, 1), (size - 513, 513),
                               (size - 5000, 5000), (1 << 62, 4096)):
            data = wt.pattern(offset & ~511, 8192, 1)[:length]
            h.pwrite(data, offset, wt.FUA)
            expect(h.pread(length, offset), data)
            assert wt.block_status(h, length, offset)
            h.zero(length, offset)
            expect(h.pread(length, offset), bytes(length))
        h.flush()


def test_read_only():
    """A backend that can nothing but read."""
    with cached({"readonly": "yes", "size": 100001, "extents_max": 3,
                 "multi_conn": "no"}) as server:
        h = server.connect()
        assert h.is_read_only() and not h.can_flush()
        expect(h.pread(100001, 0), bytes(100001))
        assert wt.block_status(h, 100001, 0)
        run_tool("nbdinfo", "--map", server.uri)
        run_tool("nbdcopy", server.uri, "null:")


def test_words():
    """Names and descriptions: none, empty, and the longest."""
    longest = "n" * 4096
    for names, first, said in (("", "", ""), ("", longest, "d" * 4096),
                               ("x", "x", "\u00e4"),
                               (longest, longest, "")):
        script = [
            "eval", "get_size=echo 4096", "pread=head -c $3 /dev/zero",
            "list_exports=echo NAMES; echo '%s'" % names,
            "default_export=echo '%s'" % first,
            "export_description=printf %%s '%s'" % said]
        with over(script) as server:
            for name in "", "x", longest:
                h = server.connect(name)
                expect(h.pread(512, 512), bytes(512))
                server.disconnect(h)
            out = run_tool("nbdinfo", "--list", server.uri)
            assert "export=" in out


wt.main()
