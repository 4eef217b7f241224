#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""A server that dies, and QEMU's client, which can connect again by itself:
what was acknowledged and not flushed is lost with writeback, without
an error; with writethrough nothing is; without reconnecting the client is told.
"""

import os
import shutil
import subprocess
import sys

sys.dont_write_bytecode = True
sys.path[:0] = [os.path.join(os.path.dirname(os.path.abspath(__file__)),
                             "..", "lib")]

import tap  # noqa: E402
import wt  # noqa: E402


class Client:
    """qemu-io, attached to a server."""

    def __init__(self, server, reconnect):
        tap.require(shutil.which("qemu-io"), "there is no qemu-io")
        # Without buffers: it waits for lines with poll, which does not see
        # one that has been read ahead.
        self.process = subprocess.Popen(
            ["stdbuf", "-i0", "-oL", "qemu-io", "-t", "writeback",
             "--image-opts", "driver=nbd,server.type=unix,"
             "server.path=%s,reconnect-delay=%d" % (server.socket,
                                                    reconnect)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, text=True)

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.process.kill()
        self.process.wait()
        self.process.stdin.close()
        self.process.stdout.close()

    def run(self, command):
        """Its answer to a command: all lines up to its answer to a second one
        that it does not know."""
        self.process.stdin.write(command + "\nend-of-answer\n")
        self.process.stdin.flush()
        said = ""
        while "end-of-answer" not in said:
            line = self.process.stdout.readline()
            assert line, "qemu-io has gone:\n" + said
            said += line
        return said


def lose_server(mode, reconnect):
    """The answers that a client gets after its server died and another one
    came: to a read of its own writes, and to a flush."""
    server = wt.Server({"wtcache-mode": mode}, plugin=["file"], start=False)
    with server:
        # A file, which outlives the server.
        server.plugin.append(server.path("disk"))
        with open(server.path("disk"), "wb") as f:
            f.truncate(1 << 20)
        server.start()
        with Client(server, reconnect) as client:
            said = client.run("write -P 1 0 64k")
            assert "wrote 65536/65536" in said, said
            server.kill()
            server.start()
            read = client.run("read -P 1 0 64k")
            flush = client.run("flush")
        # Not stopped: a client that is gone may have left a handshake under
        # way, and nbdkit can crash if a connection ends while it stops.
        server.kill()
    return read, flush


def test_writeback_and_reconnect_lose():
    read, flush = lose_server("writeback", 600)
    assert "Pattern verification failed" in read, read
    assert "error" not in flush.lower() and "failed" not in flush, flush


def test_writethrough_and_reconnect_lose_nothing():
    read, flush = lose_server("writethrough", 600)
    assert "read 65536/65536" in read, read
    assert "verification failed" not in read, read
    assert "failed" not in flush, flush


def test_without_reconnect_the_client_is_told():
    read, _ = lose_server("writeback", 0)
    assert "read failed" in read, read


wt.main()
