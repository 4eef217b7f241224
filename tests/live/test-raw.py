#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""Raw bytes on the socket: what no well-behaved client sends.  The server
answers with an error or hangs up on that client, goes on serving others, and
nothing that is cached changes."""

import contextlib
import errno
import random
import socket
import struct
import sys

sys.dont_write_bytecode = True

from live import K, M, cached, count, expect, put, seen, wt  # noqa: E402

SIZE = 8 * M
CACHED = M              # so much is cached and dirty, from the beginning on
LIMIT = 64 * M          # the longest read or write that nbdkit takes

OPTION_MAGIC = 0x49484156454F5054
REPLY_MAGIC = 0x3E889045565A9
REQUEST = 0x25609513
SIMPLE_REPLY = 0x67446698

OPT_GO = 7
REP_ACK = 1
READ, WRITE, DISC, FLUSH, TRIM, CACHE, ZERO, STATUS = range(8)
# Those that take a range and bring no payload.
RANGED = (READ, TRIM, CACHE, ZERO)

# nbdkit 1.32 itself, whatever it serves, ends with a failed assertion where a
# connection breaks while several of its requests are being answered.
ONE_AT_A_TIME = ("-t", "1")


class Raw:
    """A connection of bytes, negotiated or not."""

    def __init__(self, server, negotiate=True):
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(60 * wt.tap.SCALE)
        self.socket.connect(server.socket)
        self.handle = 0
        expect(self.receive(16), b"NBDMAGICIHAVEOPT")
        self.receive(2)
        if negotiate:
            self.send(struct.pack(">I", 3))
            self.option(OPT_GO, struct.pack(">IH", 0, 0))
            while True:
                magic, _, kind, length = struct.unpack(
                    ">QIII", self.receive(20))
                expect(magic, REPLY_MAGIC)
                self.receive(length)
                if kind == REP_ACK:
                    break

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.socket.close()

    def send(self, data):
        """Whether the server still took it."""
        try:
            self.socket.sendall(data)
            return True
        except OSError as error:
            assert error.errno in (errno.EPIPE, errno.ECONNRESET), error
            return False

    def receive(self, length):
        data = b""
        while len(data) < length:
            more = self.socket.recv(length - len(data))
            if not more:
                raise EOFError
            data += more
        return data

    def option(self, number, data, length=None):
        self.send(struct.pack(">QII", OPTION_MAGIC, number,
                              len(data) if length is None else length) + data)

    def request(self, command, offset=0, length=0, flags=0, payload=b"",
                magic=REQUEST):
        self.handle += 1
        self.send(struct.pack(">IHHQQI", magic, flags, command, self.handle,
                              offset, length) + payload)

    def reply(self):
        magic, error, handle = struct.unpack(">IIQ", self.receive(16))
        expect(magic, SIMPLE_REPLY)
        expect(handle, self.handle)
        return error

    def refused(self, *args, **kwargs):
        """Sends a request that has to fail, and checks that it did."""
        self.request(*args, **kwargs)
        error = self.reply()
        assert error != 0, (args, kwargs)
        return error

    def works(self):
        """A good request on the same connection is served."""
        self.request(READ, 512, 1024)
        expect(self.reply(), 0)
        expect(self.receive(1024), wt.pattern(512, 1024, 1))

    def hung_up(self):
        """The server has closed the connection, with or without words."""
        try:
            while self.socket.recv(64 * K):
                pass
        except ConnectionResetError:
            pass


@contextlib.contextmanager
def untouched(args=()):
    """A server with dirty bytes in the cache, all as before at the end."""
    with cached({"size": SIZE}, args, dirty_age="1h") as server:
        h = server.connect()
        put(h, 0, CACHED, 1)
        expect(count(server, "write"), 0)
        yield server
        expect(seen(h, 0, CACHED), [1] * (CACHED // 512))
        expect(seen(h, CACHED, CACHED), [0] * (CACHED // 512))
        expect(count(server, "write"), 0)
        expect(count(server, "zero") + count(server, "trim"), 0)
        h.flush()
        expect(server.durable(0, SIZE),
               wt.pattern(0, CACHED, 1) + bytes(SIZE - CACHED))


# Requests that are refused, on connections that go on.

def test_unknown_commands():
    with untouched() as server, Raw(server) as raw:
        for command in list(range(8, 40)) + [255, 256, 4096, 0x8001, 65535]:
            expect(raw.refused(command, 0, 4096), errno.EINVAL)
            expect(raw.refused(command), errno.EINVAL)
        raw.works()


def test_unknown_flags():
    """Unknown ones, and those that this command does not have."""
    with untouched() as server, Raw(server) as raw:
        for bit in range(5, 16):
            flags = 1 << bit
            for command in RANGED:
                expect(raw.refused(command, 0, 4096, flags), errno.EINVAL)
            expect(raw.refused(FLUSH, flags=flags), errno.EINVAL)
            expect(raw.refused(WRITE, 0, 4096, flags, bytes(4096)),
                   errno.EINVAL)
        for command, flags in [(WRITE, 2), (WRITE, 16), (TRIM, 2), (TRIM, 16),
                               (READ, 2), (FLUSH, 2), (ZERO, 8)]:
            payload = bytes(4096) if command == WRITE else b""
            length = 0 if command == FLUSH else 4096
            expect(raw.refused(command, 0, length, flags, payload),
                   errno.EINVAL)
        raw.works()


def test_past_the_end():
    places = [(SIZE, 1), (SIZE - 1, 2), (SIZE - 4096, 4097), (1 << 62, 512),
              ((1 << 64) - 512, 512), ((1 << 64) - 1, 1), (1 << 63, 4096),
              ((1 << 64) - 512, 4096)]
    with untouched() as server, Raw(server) as raw:
        for offset, length in places:
            for command in RANGED:
                for flags in (0, 1) if command in (TRIM, ZERO) else (0,):
                    raw.refused(command, offset, length, flags)
            for flags in (0, 1):
                raw.refused(WRITE, offset, length, flags, b"x" * length)
        for command in (TRIM, CACHE, ZERO):
            raw.refused(command, 4096, 0xffffffff)
            raw.refused(command, SIZE - 512, 0xfffffe00)
        raw.works()


def test_empty_requests():
    """Whatever the server says to them, it is one answer each."""
    with untouched() as server, Raw(server) as raw:
        for command in RANGED + (WRITE,):
            for offset in (0, 1, SIZE - 1, SIZE, SIZE + 1, (1 << 64) - 1):
                raw.request(command, offset, 0)
                raw.reply()
        raw.works()


def test_flush_with_a_range():
    """A flush has none: it is one, or it is refused, but nothing else."""
    with cached({"size": SIZE}) as server, Raw(server) as raw:
        h = server.connect()
        put(h, 0, CACHED, 1)
        for offset, length in [(0, 4096), (1 << 63, 1), (SIZE, 0xffffffff)]:
            raw.request(FLUSH, offset, length)
            if raw.reply() == 0:
                expect(server.durable(0, CACHED), wt.pattern(0, CACHED, 1))
        raw.works()
        expect(seen(h, 0, CACHED), [1] * (CACHED // 512))


def test_long_reads():
    with untouched() as server, Raw(server) as raw:
        for length in (LIMIT + 1, 0x7fffffff, 0x80000000, 0xffffffff):
            raw.refused(READ, 0, length)
        raw.works()


def test_block_status_without_context():
    """It was not negotiated."""
    with untouched() as server, Raw(server) as raw:
        for offset, length in [(0, 4096), (SIZE, 1), (0, 0)]:
            raw.refused(STATUS, offset, length)
        raw.works()


# Requests that end the connection.

def test_long_writes():
    """Whether the server reads such a payload or hangs up, none of it is
    written."""
    with untouched() as server:
        for length in (LIMIT + 1, 0x7fffffff, 0xffffffff):
            with Raw(server) as raw:
                raw.request(WRITE, 0, length, payload=b"x" * 64 * K)
                raw.socket.shutdown(socket.SHUT_WR)
                raw.hung_up()


def test_wrong_magic():
    with untouched() as server:
        for magic in (0, 0xffffffff, SIMPLE_REPLY, REQUEST + 1, 0x13956025,
                      0x21e41c71):
            with Raw(server) as raw:
                raw.works()
                raw.request(WRITE, 0, 4096, payload=bytes(4096), magic=magic)
                raw.hung_up()


def test_requests_in_part():
    """Each way in which a header can be cut."""
    header = struct.pack(">IHHQQI", REQUEST, 0, WRITE, 1, 0, 4096)
    with untouched() as server:
        for n in range(len(header)):
            with Raw(server) as raw:
                raw.send(header[:n])
                if n % 2:
                    raw.socket.shutdown(socket.SHUT_WR)
                    raw.hung_up()


def test_disconnect_in_a_payload():
    """A write that did not come whole is none: not one byte of it."""
    with untouched() as server:
        for flags in (0, 1):
            for length in (512, 4096, M):
                for sent in (0, 1, 511, length // 2, length - 1):
                    with Raw(server) as raw:
                        raw.request(WRITE, 4096, length, flags,
                                    b"x" * sent)
                        if sent % 2:
                            raw.socket.shutdown(socket.SHUT_WR)
                            raw.hung_up()


def test_disconnect_before_the_reply():
    """Reads and flushes whose client does not wait for them."""
    with cached({"size": SIZE}, ONE_AT_A_TIME) as server:
        h = server.connect()
        put(h, 0, CACHED, 1)
        for _ in range(20):
            with Raw(server) as raw:
                for _ in range(16):
                    raw.request(READ, 0, CACHED)
                raw.request(FLUSH)
        wt.wait_until(lambda: server.stats()["connected"] == 1,
                      "those that were cut off are gone")
        expect(seen(h, 0, CACHED), [1] * (CACHED // 512))


# Before the first request.

def test_options_that_are_none():
    with untouched() as server:
        for number, data, length in [
                (OPT_GO, b"", 0), (OPT_GO, b"\xff" * 6, None),
                (OPT_GO, b"", 0xffffffff), (OPT_GO, bytes(5000), None),
                (1, b"x" * 5000, None), (0, b"", None),
                (0xffffffff, b"abc", None), (9, b"\0" * 3, None),
                (10, b"\xff" * 64, None), (OPT_GO, b"\0\0\0\5ab\0\0", None)]:
            with Raw(server, negotiate=False) as raw:
                raw.send(struct.pack(">I", 3))
                raw.option(number, data, length)
                raw.socket.shutdown(socket.SHUT_WR)
                raw.hung_up()
        with Raw(server) as raw:
            raw.works()


def test_negotiation_in_part():
    whole = (struct.pack(">I", 3) + struct.pack(">QII", OPTION_MAGIC, OPT_GO,
                                                6) + bytes(6))
    with untouched() as server:
        for n in range(len(whole) + 1):
            with Raw(server, negotiate=False) as raw:
                raw.send(whole[:n])


def test_noise():
    """Bytes by chance, whole headers with a few of them wrong among them."""
    seed = random.randrange(1 << 32)
    wt.comment("seed %d" % seed)
    rng = random.Random(seed)
    with untouched(ONE_AT_A_TIME) as server:
        for _ in range(60):
            with Raw(server, negotiate=rng.random() < 0.8) as raw:
                for _ in range(rng.randrange(1, 8)):
                    header = bytearray(struct.pack(
                        ">IHHQQI", REQUEST, 0, READ, 7, 0, 512))
                    # Not the command: what is a good write may be done.
                    for _ in range(rng.randrange(4)):
                        at = rng.choice([0, 1, 4, 5] + list(range(8, 28)))
                        header[at] = rng.randrange(256)
                    raw.send(bytes(header))
                raw.send(rng.randbytes(rng.randrange(200)))
                raw.socket.shutdown(socket.SHUT_WR)
                raw.hung_up()


# Unusual requests that are valid.

def test_unaligned_requests():
    """Any offset and length is served, with the bytes that belong there."""
    shadow = bytearray(wt.pattern(0, CACHED, 1))
    with cached({"size": SIZE, "block_min": 4096}) as server, \
            Raw(server) as raw:
        put(server.connect(), 0, CACHED, 1)
        for i, (offset, length) in enumerate([
                (1, 1), (511, 2), (4095, 2), (3, 4096), (0, 1), (65535, 65538),
                (4097, 4095), (12345, 67890), (CACHED - 7, 7)]):
            data = bytes([i + 1]) * length
            raw.request(WRITE, offset, length, i % 2, data)
            expect(raw.reply(), 0)
            shadow[offset:offset + length] = data
        for offset, length in [(0, CACHED), (1, 4095), (511, 1026),
                               (65533, 65600), (CACHED - 1, 1)]:
            raw.request(READ, offset, length)
            expect(raw.reply(), 0)
            expect(raw.receive(length), bytes(shadow[offset:offset + length]))
        raw.request(FLUSH)
        expect(raw.reply(), 0)
        expect(server.durable(0, CACHED), bytes(shadow))


wt.main()
