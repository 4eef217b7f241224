#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""Servers that their client starts.  nbdkit -s serves one client on its standard
input and ends with it: under inetd, and behind nbdsh.  No signal tells it to
stop."""

import shutil
import socket
import subprocess
import sys

sys.dont_write_bytecode = True

from live import K, M, expect, put, wt  # noqa: E402


class OneClient(wt.Server):
    """A server with -s."""

    def __init__(self, **options):
        given = {"wtcache-size": "4M", "wtcache-dirty-age": "1000"}
        given.update({"wtcache-" + key.replace("_", "-"): value
                      for key, value in options.items()})
        super().__init__(given, start=False)
        # The disk starts with data from this file, and leaves it there.
        self.saved = self.durable_file

    def command(self):
        words = super().command()
        at = words.index("-U")
        del words[at:at + 2]
        words.remove("-f")
        words.insert(words.index("--exit-with-parent"), "-s")
        return words

    def in_file(self, length):
        with open(self.saved, "rb") as f:
            return wt.versions(f.read(length), 0)


# libnbd waits for the end of the server that it has started: in a process of
# its own, which can be given up.
CLIENT = """
import sys
import nbd
h = nbd.NBD()
h.connect_command(sys.argv[1:])
h.pwrite(sys.stdin.buffer.read(), 0)
h.shutdown()
del h
"""


def test_connect_command():
    """As in nbdsh: h.connect_command (["nbdkit", "-s", ...])."""
    with OneClient() as server:
        subprocess.run([sys.executable, "-c", CLIENT] + server.command(),
                       input=wt.pattern(0, 64 * K, 1), check=True,
                       timeout=60 * wt.tap.SCALE, env=server.environment())
        expect(server.in_file(64 * K), [1] * 128)


def test_inetd():
    """A socket as standard input; what the client leaves dirty is written
    before the end, though it says nothing and goes."""
    with OneClient() as server:
        ours, theirs = socket.socketpair()
        with open(server.path("stderr"), "ab") as err:
            process = subprocess.Popen(
                server.command(), stdin=theirs, stdout=theirs, stderr=err,
                env=server.environment())
        theirs.close()
        h = wt.nbd.NBD()
        h.connect_socket(ours.detach())
        put(h, 0, 64 * K, 1)
        h.shutdown()
        del h
        try:
            expect(process.wait(60 * wt.tap.SCALE), 0)
        finally:
            process.kill()
        expect(server.in_file(64 * K), [1] * 128)
        assert "LOST" not in server.stderr()


def test_nbdcopy():
    """nbdcopy -- [ nbdkit ... ] FILE: it hands over a socket that listens, for
    which nbdkit wants no -s, and ends the server itself."""
    wt.require(shutil.which("nbdcopy"), "nbdcopy is not there")
    with OneClient() as server:
        out = server.path("out")
        with open(server.saved, "wb") as f:
            f.write(wt.pattern(0, M, 3))
        server.disk_options["size"] = "1M"
        subprocess.run(
            ["nbdcopy", "--", "["]
            + [word for word in server.command() if word != "-s"]
            + ["]", out],
            stdin=subprocess.DEVNULL, check=True, timeout=60 * wt.tap.SCALE,
            env=server.environment())
        with open(out, "rb") as f:
            assert f.read() == wt.pattern(0, M, 3)


wt.main()
