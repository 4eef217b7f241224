# SPDX-License-Identifier: BSD-3-Clause
"""Clients of a server: commands of libnbd that are under way, bytes that tell
where they belong, and waiting."""

import errno
import hashlib
import os
import socket
import struct
import threading
import time

import nbd

import hangs
import tap

FUA = nbd.CMD_FLAG_FUA
NO_HOLE = nbd.CMD_FLAG_NO_HOLE
FAST_ZERO = nbd.CMD_FLAG_FAST_ZERO
REQ_ONE = nbd.CMD_FLAG_REQ_ONE

BLOCK = 512


# Waiting.

def wait_until(predicate, what, timeout=30):
    """Waits until the predicate is true and returns what it returned."""
    end = time.monotonic() + timeout * tap.SCALE
    while True:
        result = predicate()
        if result:
            return result
        if time.monotonic() > end:
            raise AssertionError("waited in vain until " + what)
        time.sleep(0.005)


def listens(path):
    """Whether a process listens on a socket, which exists before that."""
    with socket.socket(socket.AF_UNIX) as s:
        return s.connect_ex(path) == 0


class Background:
    """A function that runs in a thread of its own."""

    def __init__(self, function, *args, **kwargs):
        self.value = self.error = None
        self.thread = threading.Thread(
            target=self.run, args=(function, args, kwargs), daemon=True)
        self.thread.start()

    def run(self, function, args, kwargs):
        try:
            self.value = function(*args, **kwargs)
        except BaseException as error:
            self.error = error

    def done(self):
        return not self.thread.is_alive()

    def result(self, timeout=60):
        """Its result; raises its exception."""
        self.thread.join(timeout * tap.SCALE)
        if self.thread.is_alive():
            raise AssertionError("a background call does not end")
        if self.error is not None:
            raise self.error
        return self.value


def background(function, *args, **kwargs):
    return Background(function, *args, **kwargs)


# Bytes.

def pattern_block(number, version):
    head = struct.pack("<QQ", number, version)
    return head + hashlib.shake_128(head).digest(BLOCK - len(head))


def pattern(offset, length, version):
    """Bytes that tell where they belong and in which version.

    Version 0 is zeroes, as on a new disk.  A part of a pattern equals the
    pattern of that part.
    """
    if version == 0 or length == 0:
        return bytes(length)
    first = offset // BLOCK
    last = (offset + length - 1) // BLOCK
    data = b"".join(pattern_block(n, version) for n in range(first, last + 1))
    start = offset - first * BLOCK
    return data[start:start + length]


def version_of(block, offset):
    """The version of one whole block of a pattern; None: torn or another."""
    number, version = struct.unpack_from("<QQ", block)
    if block == bytes(len(block)):
        return 0
    if block != pattern_block(number, version)[:len(block)]:
        return None
    return version if number == offset // BLOCK else None


def versions(data, offset):
    """The version of each block of data, which begins at a block."""
    return [version_of(bytes(data[i:i + BLOCK]), offset + i)
            for i in range(0, len(data), BLOCK)]


# Clients.

def errno_of(call, *args, **kwargs):
    """The errno with which a libnbd call fails; 0 if it succeeds."""
    try:
        call(*args, **kwargs)
    except nbd.Error as error:
        return error.errnum
    return 0


class Handle(nbd.NBD):
    """A client of a wt.Server; its requests are watched (hangs.py)."""

    server = None
    fd = None       # libnbd does not tell it while a request goes on

    def watched(self, name, args, kwargs):
        request = hangs.watch.begin(self, name, args)
        try:
            return getattr(nbd.NBD, name)(self, *args, **kwargs)
        finally:
            hangs.watch.end(request)

    def pread(self, *args, **kwargs):
        return self.watched("pread", args, kwargs)

    def pwrite(self, *args, **kwargs):
        return self.watched("pwrite", args, kwargs)

    def flush(self, *args, **kwargs):
        return self.watched("flush", args, kwargs)

    def zero(self, *args, **kwargs):
        return self.watched("zero", args, kwargs)

    def trim(self, *args, **kwargs):
        return self.watched("trim", args, kwargs)

    def cache(self, *args, **kwargs):
        return self.watched("cache", args, kwargs)

    def block_status(self, *args, **kwargs):
        return self.watched("block_status", args, kwargs)


class Command:
    """An asynchronous command, on its way from start() to wait()."""

    def __init__(self, h, name, *args):
        self.h = h
        self.watched = hangs.watch.begin(h, name, args)
        self.errno = None
        self.buffer = None
        self.extents = []
        issue = getattr(h, "aio_" + name)
        if name == "pread":
            length, args = args[0], args[1:]
            self.buffer = nbd.Buffer(length)
            args = (self.buffer,) + args
        elif name == "pwrite":
            self.buffer = nbd.Buffer.from_bytearray(bytearray(args[0]))
            args = (self.buffer,) + args[1:]
        if name == "flush":
            issue(self.complete, *args)
        elif name == "block_status":
            issue(args[0], args[1], self.extent, self.complete, *args[2:])
        else:
            issue(*args[:2], self.complete, *args[2:])

    def complete(self, error):
        self.errno = error.value if hasattr(error, "value") else error
        hangs.watch.end(self.watched)
        return 1

    def extent(self, context, _offset, entries, _error):
        if context == nbd.CONTEXT_BASE_ALLOCATION:
            self.extents += list(zip(entries[::2], entries[1::2]))

    def poll(self, milliseconds):
        """Lets its connection go on; whether anything happened there."""
        try:
            return self.h.poll(milliseconds) > 0
        except nbd.Error:
            # The connection is dead, and a command that was in flight there
            # has ended by now if it ever will.
            if self.errno is None:
                self.errno = errno.ENOTCONN
            hangs.watch.end(self.watched)
            return False

    def done(self):
        """Whether it has ended; looks at what has arrived."""
        while self.errno is None and self.poll(0):
            pass
        return self.errno is not None

    def wait(self, timeout=60):
        """Waits for its end and returns its errno."""
        wait_all([self], timeout)
        return self.errno

    def data(self):
        """The bytes of a pread, once it has ended well."""
        assert self.wait() == 0, errno.errorcode.get(self.errno, self.errno)
        return bytes(self.buffer.to_bytearray())


def start(h, name, *args, timeout=30):
    """Sends an asynchronous command and returns it once all of it is sent.

    The arguments are those of the libnbd call of that name without aio_:
    start(h, "pread", length, offset), start(h, "pwrite", bytes, offset,
    flags), start(h, "zero", length, offset, flags), start(h, "flush").
    """
    command = Command(h, name, *args)
    end = time.monotonic() + timeout * tap.SCALE
    while h.aio_get_direction() & nbd.AIO_DIRECTION_WRITE:
        command.poll(100)
        assert time.monotonic() < end, "the server does not read"
    return command


def wait_all(commands, timeout=60):
    """Waits until all of them have ended, on whichever connections."""
    end = time.monotonic() + timeout * tap.SCALE
    for command in commands:
        while command.errno is None:
            command.poll(1000)
            if command.errno is None and time.monotonic() > end:
                raise AssertionError("a command does not end")


def cut_off(h):
    """Ends a connection without a word; what is in flight fails."""
    with socket.socket(fileno=os.dup(h.aio_get_fd())) as s:
        s.shutdown(socket.SHUT_RDWR)


def block_status(h, length, offset, flags=0):
    """The extents of a range as (length, flags of base:allocation)."""
    extents = []

    def extent(context, _offset, entries, _error):
        if context == nbd.CONTEXT_BASE_ALLOCATION:
            extents.extend(zip(entries[::2], entries[1::2]))
    h.block_status(length, offset, extent, flags)
    return extents
