#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""nbdkit's other filters, above and below wtcache.

Each row of the table is a filter with its parameters, and becomes one test a
position.  A client does the same requests of all kinds over each: what it
reads is compared with a shadow as it goes, what is on the disk's durable
image after FUA writes, after a flush and after the end.  Where the purpose of
a filter shows only at a server, it is tested too: errors that go away, pauses.
"""

import errno
import os
import shutil
import socket
import struct
import subprocess
import sys

sys.dont_write_bytecode = True

from live import K, M, expect, fault, wt  # noqa: E402

SIZE = 8 * M
PARTITION = 2048 * 512, 9000 * 512

ZERO = 2


def first_image():
    """The disk of each test: an MBR with one partition, data, a hole."""
    data = bytearray(wt.pattern(0, 5 * M, 1)) + bytearray(SIZE - 5 * M)
    entry = struct.pack("<B3sB3sII", 0, b"\0\2\0", 0x83, b"\0\2\0",
                        PARTITION[0] // 512, PARTITION[1] // 512)
    data[446:512] = entry + bytes(48) + b"\x55\xaa"
    return bytes(data)


IMAGE = first_image()


# Tests of one filter alone; called with the test and its client.

def while_paused(test, h):
    """A request that comes in a pause is answered after it."""
    with socket.socket(socket.AF_UNIX) as s:
        s.connect(test.server.path("pause"))
        s.sendall(b"p")
        expect(s.recv(1), b"P")
        command = wt.start(h, "pwrite", b"x" * 5000, M + 100, wt.FUA)
        s.sendall(b"r")
        expect(s.recv(1), b"R")
    expect(command.wait(), 0)
    test.shadow[M + 100:M + 5100] = b"x" * 5000


def while_failing(test, h):
    """The filter's errors reach the client of a FUA write, and go away."""
    with open(test.server.path("inject"), "w"):
        pass
    found = wt.errno_of(h.pwrite, b"y" * 4096, M, wt.FUA)
    expect(found, errno.ENOSPC)
    os.unlink(test.server.path("inject"))
    test.write(h, M, b"z" * 4096, wt.FUA)


def read_with_one_error(test, h):
    """An error of the disk that does not come again is not seen."""
    fault(test.server, "read", count=1)
    test.read_all(h)    # more than the cache holds
    assert any(r.errno for r in test.server.log().of("read"))


def one_client_more(test, _h):
    """A client above the limit is refused."""
    try:
        test.connect()
    except wt.nbd.Error:
        return
    raise AssertionError("a client more than the limit is served")


def plain_client(test, _h):
    """A client without TLS reads a text and nothing of the disk."""
    h = test.server.connect()
    text = h.pread(512, 0)
    assert b"TLS" in text and text not in IMAGE, text
    test.server.disconnect(h)
    test.read(_h, 0, 512)


def logged(test, _h):
    assert os.path.getsize(test.server.path("text")) > 0


class Row:
    """A filter, and in what a disk differs that has it.

    area          the part of the disk that the client sees
    durable       when writes are on the disk: with "fua" or a "flush" once
                  that is answered, and at the "end"; none of these: never
    truthful      block status is not wrong by the filter's own doing
    """

    def __init__(self, name, *parameters, called=None, area=(0, SIZE),
                 durable="fua flush end", truthful=True, ask=None,
                 positions=("above", "below"), disk=None, export=None,
                 tls=False):
        self.name = name
        self.parameters = parameters
        words = [word.split("=")[-1] for word in parameters]
        self.called = called or "_".join([name] + words)
        self.area = area
        self.durable = durable.split()
        self.truthful = truthful
        self.ask = ask
        self.positions = positions
        self.disk = disk or {}
        self.export = export
        self.tls = tls


ROWS = [
    Row("blocksize", "minblock=4K", "maxdata=64K", "maxlen=1M"),
    Row("blocksize-policy", "blocksize-minimum=4K", "blocksize-maximum=64K",
        "blocksize-error-policy=error", positions=["below"]),
    Row("cache", truthful=False, positions=["below"]),
    # Above, it is it that does not write at the end what it holds back.
    Row("cache", truthful=False, durable="fua flush", positions=["above"]),
    Row("cache", "cache=writethrough", truthful=False),
    Row("cow", durable=""),
    Row("cow", "cow-on-cache=true", called="cow_on_cache", durable=""),
    # Below, a read that is overtaken by a write saves over it what it read.
    Row("cow", "cow-on-read=true", called="cow_on_read", durable="",
        positions=["above"]),
    Row("delay", "rdelay=2ms", "wdelay=3ms"),
    Row("error", "error=ENOSPC", "error-rate=100%", "error-file={inject}",
        called="error", ask=while_failing),
    Row("exportname", "default-export=main", disk={"exports": "main"},
        export="main"),
    # It discards flushes too: above, the last drain makes all durable.
    Row("fua", "fuamode=discard", durable="end", positions=["above"]),
    Row("fua", "fuamode=discard", durable="", positions=["below"]),
    Row("fua", "fuamode=emulate"),
    Row("fua", "fuamode=force"),
    Row("fua", "fuamode=native"),
    # Its default; some versions do not take the word.
    Row("fua", called="fua_none"),
    Row("fua", "fuamode=pass"),
    Row("limit", "limit=1", ask=one_client_more),
    Row("log", "logfile={text}", called="log", ask=logged),
    # As it comes, it forgets the write that a flush is overtaken by, and skips
    # the next flush: only for a client that waits for each.
    Row("multi-conn", "multi-conn-mode=auto", positions=["above"]),
    Row("multi-conn", "multi-conn-mode=disable", positions=["above"]),
    Row("multi-conn", "multi-conn-mode=emulate", positions=["above"]),
    Row("multi-conn", "multi-conn-mode=plugin", positions=["above"]),
    Row("multi-conn", "multi-conn-track-dirty=off", "multi-conn-mode=auto"),
    Row("multi-conn", "multi-conn-track-dirty=off", "multi-conn-mode=disable"),
    Row("multi-conn", "multi-conn-track-dirty=off", "multi-conn-mode=emulate"),
    Row("multi-conn", "multi-conn-track-dirty=off", "multi-conn-mode=plugin"),
    Row("multi-conn", "multi-conn-track-dirty=off", "multi-conn-mode=unsafe",
        positions=["below"], disk={"multi-conn": "no"}),
    Row("nocache", "cachemode=none"),
    Row("nocache", "cachemode=emulate"),
    Row("nocache", "cachemode=nop"),
    Row("noextents"),
    Row("noparallel", "serialize=requests"),
    Row("noparallel", "serialize=all-requests"),
    Row("noparallel", "serialize=connections"),
    Row("nozero", "zeromode=none"),
    Row("nozero", "zeromode=emulate"),
    Row("nozero", "zeromode=notrim"),
    Row("nozero", "zeromode=plugin", "fastzeromode=slow"),
    Row("nozero", "zeromode=plugin", "fastzeromode=ignore"),
    Row("offset", "offset=%d" % (M + 512), "range=%d" % (5 * M - 1234),
        called="offset", area=(M + 512, 5 * M - 1234)),
    Row("partition", "partition=1", area=PARTITION),
    Row("pause", "pause-control={pause}", called="pause", ask=while_paused),
    Row("rate", "rate=1G"),
    Row("readahead"),
    Row("retry", "retries=3", "retry-delay=1", called="retry",
        ask=read_with_one_error),
    Row("retry-request", "retry-request-retries=3", "retry-request-delay=1",
        called="retry_request", ask=read_with_one_error),
    Row("scan", "scan-size=64K"),
    Row("stats", "statsfile={text}", called="stats"),
    Row("tls-fallback", ask=plain_client, tls=True),
    Row("truncate", "truncate=%d" % (5 * M + 100), called="truncate",
        area=(0, 5 * M + 100)),
]


class Test:
    """One row in one position: the server, and the shadow of its disk."""

    def __init__(self, row, position):
        self.row = row
        self.start, self.size = row.area
        self.shadow = bytearray(IMAGE[self.start:self.start + self.size])
        self.tls = None
        disk = {"size": SIZE}
        disk.update(row.disk)
        others = {"filters_" + position: [row.name]}
        self.server = wt.Server({"wtcache-size": "2M"}, disk, start=False,
                                **others)
        self.server.parameters = [
            word.format(inject=self.server.path("inject"),
                        text=self.server.path("text"),
                        pause=self.server.path("pause"))
            for word in row.parameters]
        end = "." + row.export if row.export else ""
        with open(self.server.durable_file + end, "wb") as f:
            f.write(IMAGE)
        if row.tls:
            self.use_tls()

    def use_tls(self):
        wt.require(shutil.which("psktool"), "psktool is not there")
        keys = self.server.path("keys.psk")
        subprocess.run(["psktool", "-u", "alice", "-p", keys], check=True,
                       stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        self.server.args = ["--tls=on", "--tls-psk=" + keys]
        self.tls = {"psk": keys, "username": "alice"}

    def connect(self):
        return self.server.connect(tls=self.tls)

    # Requests, and what they must show.

    def durable(self, offset, length):
        return self.server.durable(self.start + offset, length,
                                   self.row.export)

    def check_durable(self, offset, length, what):
        same(self.durable(offset, length),
             self.shadow[offset:offset + length], offset, what)

    def wrote(self, h, offset, data, flags, what):
        self.shadow[offset:offset + len(data)] = data
        if flags & wt.FUA and "fua" in self.row.durable:
            self.check_durable(offset, len(data), "durable after " + what)

    def flags(self, h, flags):
        return flags if h.can_fua() else flags & ~wt.FUA

    def write(self, h, offset, data, flags=0):
        flags = self.flags(h, flags)
        h.pwrite(data, offset, flags)
        self.wrote(h, offset, data, flags, "a write")

    def zero(self, h, offset, length, flags=0):
        if not h.can_zero():
            return
        flags = self.flags(h, flags)
        if flags & wt.FAST_ZERO:
            if not h.can_fast_zero():
                return
            found = wt.errno_of(h.zero, length, offset, flags)
            if found:
                expect(found, errno.EOPNOTSUPP)
                return
        else:
            h.zero(length, offset, flags)
        self.wrote(h, offset, bytes(length), flags, "a zero")

    def trim(self, h, offset, length, flags=0):
        """The bytes afterwards are arbitrary, but do not change."""
        if h.can_trim():
            h.trim(length, offset, self.flags(h, flags))
            self.shadow[offset:offset + length] = h.pread(length, offset)

    def read(self, h, offset, length):
        same(h.pread(length, offset), self.shadow[offset:offset + length],
             offset, "read")

    def read_all(self, h):
        for offset in range(0, self.size, M):
            self.read(h, offset, min(M, self.size - offset))

    def status(self, h):
        """Nothing but zeroes is told to be zeroes."""
        if not h.can_meta_context(wt.nbd.CONTEXT_BASE_ALLOCATION):
            return
        at = 0
        while at < self.size:
            extents = wt.block_status(h, self.size - at, at)
            assert extents
            for length, flags in extents:
                if flags & ZERO and self.row.truthful:
                    found = self.shadow[at:at + length]
                    same(found, bytes(len(found)), at, "told to be zero")
                at += length

    def flush(self, h):
        h.flush()
        if "flush" in self.row.durable:
            self.check_durable(0, self.size, "durable after a flush")

    # The whole.

    def change(self, h, version):
        """Requests of all kinds, aligned and not."""
        self.write(h, 0, wt.pattern(0, 64 * K, version))
        self.write(h, 5000, b"%d" % version * 100)
        self.write(h, M - 3, wt.pattern(0, 70 * K, version))
        self.write(h, 2 * M, wt.pattern(0, M + 512, version))
        self.write(h, 8192, wt.pattern(8192, 4096, version), wt.FUA)
        self.write(h, 300001, b"f" * 701, wt.FUA)
        self.write(h, 2 * M + 4096, wt.pattern(0, 128 * K, version), wt.FUA)
        self.zero(h, 64 * K, 64 * K)
        self.zero(h, 2 * M + 100, 200 * K + 1, wt.NO_HOLE)
        self.zero(h, 3 * M + 511, 2, wt.FUA)
        self.zero(h, 3 * M + 64 * K, 64 * K, wt.FAST_ZERO)
        self.trim(h, M + 128 * K, 128 * K)
        self.trim(h, 3 * M + 256 * K - 7, 64 * K + 9, wt.FUA)
        self.write(h, self.size - 777, b"e" * 777)

    def look(self, h):
        self.status(h)
        if h.can_cache():
            h.cache(256 * K, 4 * M - 128 * K)
        self.read(h, 4999, 1234)
        self.read_all(h)

    def clients(self):
        """Two, where that is allowed, or twice the same."""
        first = self.connect()
        expect(first.get_size(), self.size)
        return first, self.connect() if first.can_multi_conn() and (
            self.row.name != "limit") else first

    def run(self):
        with self.server:
            self.server.start()
            a, b = self.clients()
            self.look(a)
            self.change(a, 2)
            self.look(b)
            self.flush(b)
            self.change(b, 3)
            if self.row.ask:
                self.row.ask(self, a)
            self.look(a)
            self.flush(a)
            self.write(a, 77777, b"last" * 1000)
            self.server.stop()
            if "end" in self.row.durable:
                self.check_durable(0, self.size, "durable after the end")
            elif not self.row.durable:
                same(self.durable(0, self.size), IMAGE, 0, "left alone")


def same(found, wanted, offset, what):
    """Compares bytes, and names the first that differs."""
    if bytes(found) == bytes(wanted):
        return
    expect(len(found), len(wanted), what)
    first = next(i for i in range(len(found)) if found[i] != wanted[i])
    raise AssertionError("%s: byte %d of the disk is %r.. instead of %r.." % (
        what, offset + first, bytes(found[first:first + 16]),
        bytes(wanted[first:first + 16])))


def run_row(row, position):
    def test():
        Test(row, position).run()
    return test


for each in ROWS:
    for place in each.positions:
        globals()["test_%s_%s" % (each.called.replace("-", "_"), place)] = (
            run_row(each, place))


wt.main()
