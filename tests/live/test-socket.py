#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""The control socket and its clients: which files it takes the place of, and
clients that hang, die or write nonsense."""

import fcntl
import json
import os
import re
import signal
import socket
import stat
import subprocess
import sys

sys.dont_write_bytecode = True

from control import TOOL, controlled, ctl, dial, log_of, run  # noqa: E402
from live import (  # noqa: E402
    K, M, durable, ended, expect, gate, gated, open_gate, put, seen, wt)


# The socket, and its clients.

def test_socket_is_for_its_owner():
    """Mode 0600, whatever the umask, and gone at the end."""
    old = os.umask(0)
    try:
        server = controlled()
    finally:
        os.umask(old)
    with server:
        path = server.path("ctl")
        found = os.stat(path)
        assert stat.S_ISSOCK(found.st_mode)
        expect(stat.S_IMODE(found.st_mode), 0o600)
        server.stop()
        assert not os.path.exists(path)


def test_socket_of_a_dead_server():
    """It is replaced, one of a server that lives is not."""
    with controlled() as server:
        path = server.path("ctl")
        server.kill()
        assert os.path.exists(path)
        server.start()
        ctl(server, "status")
        found = refused_start(path)
        assert "another server listens there" in found, found
        ctl(server, "status")


def refused_start(path):
    """The log of a server that does not start with this path."""
    with wt.Server({"wtcache-control": path}, plugin=["null"],
                   start=False) as other:
        found = subprocess.run(other.command(), env=other.environment(),
                               stderr=subprocess.PIPE, text=True, timeout=60)
    assert found.returncode != 0, path
    return found.stderr


def test_socket_that_cannot_be():
    """A file that is something else stays, and the reason is told."""
    with controlled() as server:
        path = server.path("file")
        with open(path, "w", encoding="ascii") as f:
            f.write("mine")
        assert "exists and is no socket" in refused_start(path)
        with open(path, encoding="ascii") as f:
            expect(f.read(), "mine")
        assert "cannot be opened: No such file" in refused_start(server.path("no/x"))
        assert "longer than" in refused_start(server.path("x" * 200))
        assert "must be the path" in refused_start("")


def test_folder_that_another_has_locked():
    """Any user may open the folder, and hold a lock on it."""
    with controlled() as server:
        server.stop()
        fd = os.open(server.folder, os.O_RDONLY)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX)
            server.start()
            ctl(server, "status")
            assert not os.path.exists(server.path("ctl.lock"))
        finally:
            os.close(fd)


def test_lock_that_another_has():
    """Of two servers that start with one socket one waits; a file that lies
    in the lock's place is no lock."""
    with controlled() as server:
        server.stop()
        lock = server.path("ctl.lock")
        with open(lock, "w", encoding="ascii") as f:
            fcntl.flock(f, fcntl.LOCK_EX)
            server.spawn()
            wt.wait_until(lambda: os.path.exists(
                "/proc/%d/fd" % server.process.pid), "it has begun")
            assert not os.path.exists(server.path("ctl"))
            fcntl.flock(f, fcntl.LOCK_UN)
            wt.wait_until(server.serves, "it serves")
        server.stop()
        with open(lock, "w", encoding="ascii") as f:
            f.write("mine")
        assert "in the way" in refused_start(server.path("ctl"))


def test_socket_that_another_has_replaced():
    """At its end a server removes its own only."""
    with controlled() as server:
        path = server.path("ctl")
        os.unlink(path)
        with socket.socket(socket.AF_UNIX) as s:
            s.bind(path)
            server.stop()
            assert os.path.exists(path)


def test_many_clients():
    """Some at once are served, one more is refused, until one leaves."""
    with controlled() as server:
        put(server.connect(), 0, 4 * K, 1)
        clients = [dial(server) for _ in range(8)]
        # A place is kept for a client that asks why.
        ctl(server, "status", status=3)
        err = ctl(server, "drop", status=1)
        assert "too many clients" in err, err
        kept = [dial(server) for _ in range(2)]
        err = ctl(server, "status", status=1)
        assert "too many clients" in err, err
        for s in kept + [clients.pop()]:
            s.close()
        wt.wait_until(lambda: run(server, "drop").wait() == 0,
                      "there is room again")
        for s in clients:
            s.sendall(b"flush\n")
        for s in clients:
            expect(s.makefile().read(), "ok\n")
            s.close()
        ctl(server, "status")


def test_client_that_dies():
    """Its command goes on to its end, and no other client is delayed."""
    with controlled() as server:
        h = server.connect()
        put(h, 0, 4 * K, 1)
        gate(server, "write")
        process = run(server, "flush")
        gated(server)
        process.kill()
        process.communicate()
        put(h, M, 4 * K, 1)
        expect(seen(h, 0, 512), [1])
        ctl(server, "status", status=3)
        open_gate(server)
        wt.wait_until(lambda: ended(server, "flush"), "the flush goes on")
        for text in b"", b"flu", b"status":
            with dial(server) as s:
                s.sendall(text)
        ctl(server, "flush")


def test_client_that_hangs():
    """It does not keep the server from its end."""
    with controlled() as server:
        put(server.connect(), 0, 4 * K, 1)
        clients = [dial(server) for _ in range(3)]
        clients[0].sendall(b"stat")
        clients[1].sendall(b"trace file=%s seconds=3600\n"
                           % server.path("t").encode())
        expect(clients[1].recv(100), b"begun\n")
        server.stop()
        expect(durable(server, 0, 512), [1])
        for s in clients:
            s.close()


def test_stop_during_a_command():
    """SIGTERM while a flush stands at the backend: it ends, then the
    server, and nothing is lost."""
    with controlled() as server:
        h = server.connect()
        put(h, 0, 64 * K, 1)
        gate(server, "write")
        process = run(server, "flush")
        gated(server)
        server.terminate()
        wt.wait_until(lambda: "shut down" in log_of(server),
                      "the filter knows that it is to stop")
        open_gate(server, ends=True)
        process.communicate(timeout=60)
        server.disconnect()
        expect(server.wait(), 0)
        expect(durable(server, 0, 64 * K), [1] * 128)


def test_commands_that_make_no_sense():
    """Over the socket, whatever may come."""
    with controlled() as server:
        put(server.connect(), 0, 4 * K, 1)
        for text in ("", "x", "status x", "status a=b", "flush export",
                     "flush export=a export=b", "flush =a", "flush xport=a",
                     "discard", "discard export=", "discard export=%",
                     "discard export= offset=0 length=-1",
                     "discard export= offset=0x0 length=512",
                     "discard export= offset=18446744073709551616 length=1",
                     "flush export=%00", "flush export=%g0", "set", "set a",
                     "set size=8M depth=1", "trace file=x seconds=1",
                     "trace seconds=1", "status\0x y", "s" * 20000):
            with dial(server) as s:
                try:
                    s.sendall(text.encode() + b"\n")
                    answer = s.makefile(errors="replace").read()
                except OSError:
                    answer = "usage"  # it has read enough
                if not text.startswith("status\0"):
                    assert answer.startswith("usage"), (text[:50], answer)
        ctl(server, "status", status=3)


def test_usage():
    """Bad input to the tool: one line, and exit 2."""
    with controlled() as server:
        path = server.path("ctl")
        for words in ([], [path], [path, "x"], [path, "flush", "a", "b"],
                      [path, "status", "x"], ["--bad", path, "status"],
                      [path, "drop", "--yes"], [path, "--timeout=x", "flush"],
                      [path, "--timeout=0", "flush"], ["--timeout"], ["x"],
                      [path, "prefetch", "", "0"],
                      [path, "prefetch", "", "x", "1"],
                      [path, "prefetch", "", "0", "1X"],
                      [path, "prefetch", "", "0", "-1"],
                      [path, "prefetch", "", "0", ""],
                      [path, "set", "size"], [path, "trace", "x"],
                      ["x" * 200, "status"]):
            wt.require(os.path.exists(TOOL), "wtcachectl is not built")
            found = subprocess.run([TOOL, *words], capture_output=True,
                                   text=True)
            expect((found.returncode, found.stdout), (2, ""), str(words))
            expect(found.stderr.count("\n"), 1, found.stderr)
        found = subprocess.run([TOOL, server.path("none"), "status"],
                               capture_output=True, text=True)
        expect(found.returncode, 1)
        assert "cannot connect: No such file" in found.stderr, found.stderr
        for words in (["--help"], ["-h"], ["--version"], ["help"],
                      [path, "help"], [path, "flush", "-h"]):
            found = subprocess.run([TOOL, *words], capture_output=True,
                                   text=True, check=True)
            assert "wtcachectl" in found.stdout and found.stderr == ""


def test_misspelt():
    """The one line says which word is meant."""
    for words, meant in ((["x/y", "stauts"], "status"), (["flsuh"], "flush"),
                         (["x/y", "status", "--jsn"], "--json"),
                         (["--timeuot=3", "status"], "--timeout"),
                         (["x/y", "prefetch", "", "0", "1GiB"], "1G"),
                         (["x/y", "prefetch", "", "16kb", "1"], "16K")):
        found = subprocess.run([TOOL, *words], capture_output=True, text=True)
        expect((found.returncode, found.stdout), (2, ""), str(words))
        assert (found.stderr.endswith("is %s meant?\n" % meant)
                or found.stderr.endswith("write %s\n" % meant)), found.stderr


def test_server_that_is_stopped():
    """It answers nothing: status ends by itself, others when they are told
    to."""
    with controlled() as server:
        server.process.send_signal(signal.SIGSTOP)
        try:
            err = ctl(server, "status", status=1)
            assert "no answer in 5 s: the server is stopped" in err, err
            err = ctl(server, "flush", "--timeout=1", status=1)
            assert "no answer in 1 s" in err, err
        finally:
            server.process.send_signal(signal.SIGCONT)
        ctl(server, "status")


# The usual folder.

class Usual:
    """Servers with their sockets in a folder that takes the place of
    /run/wtcache."""

    def __init__(self, *names):
        self.servers = {}
        for name in names:
            server = wt.Server({"wtcache-size": "8M"}, start=False)
            if not self.servers:
                self.folder = server.path("run")
                os.mkdir(self.folder)
            server.filter_options["wtcache-control"] = os.path.join(
                self.folder, name + ".ctl")
            server.start()
            self.servers[name] = server

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        for server in reversed(list(self.servers.values())):
            server.close()

    def run(self, *words, folder=None):
        return subprocess.run(
            [TOOL, *words], capture_output=True, text=True, timeout=100,
            cwd="/", env=dict(os.environ, WTCACHE_RUN=folder or self.folder))


def test_the_only_server():
    """With one server in the usual folder none has to be named."""
    with Usual("disk") as usual:
        put(usual.servers["disk"].connect(), 0, 4 * K, 1)
        for words in ["status"], ["disk", "status"]:
            found = usual.run(*words)
            expect((found.returncode, found.stderr), (3, ""))
        expect(usual.run("flush").returncode, 0)
        expect(usual.run("flush", "").returncode, 0)
        # A socket that a dead server has left is none.
        with socket.socket(socket.AF_UNIX) as s:
            s.bind(os.path.join(usual.folder, "dead.ctl"))
        expect(usual.run("status").returncode, 0)
        found = usual.run("status", folder="/nowhere")
        expect((found.returncode, found.stdout), (2, ""))
        assert "there is no server in /nowhere" in found.stderr, found.stderr
        found = usual.run("disc", "status")
        assert "/disc.ctl: cannot connect: No such file" in found.stderr, found


def test_several_servers():
    """list shows them; another command wants a name."""
    with Usual("a", "b") as usual:
        put(usual.servers["b"].connect(), 0, 4 * K, 1)
        found = usual.run("status")
        expect((found.returncode, found.stdout), (2, ""))
        assert found.stderr.endswith("name one of a, b\n"), found.stderr
        expect(usual.run("a", "status").returncode, 0)
        expect(usual.run("b", "status").returncode, 3)
        lines = usual.run("list").stdout.splitlines()
        expect(len(lines), 2, lines)
        assert re.match("a +all on the backend, 0 exports, .* of 8.0 MiB in use,"
                        " process %d$" % usual.servers["a"].process.pid,
                        lines[0]), lines
        assert re.match("b +not all on the backend, 1 export,", lines[1]), lines
        usual.servers["a"].process.send_signal(signal.SIGSTOP)
        try:
            found = usual.run("list", "--json", "--timeout=1")
        finally:
            usual.servers["a"].process.send_signal(signal.SIGCONT)
        a, b = json.loads(found.stdout)["servers"]
        expect((a["name"], a["answers"]), ("a", False))
        assert "no answer in 1 s" in a["error"], a
        expect((b["name"], b["answers"], b["all_on_backend"],
                b["server"]["pid"]),
               ("b", True, False, usual.servers["b"].process.pid))
        found = usual.run("list", folder="/nowhere")
        expect((found.returncode, found.stdout),
               (0, "There is no server in /nowhere.\n"))


wt.main()
