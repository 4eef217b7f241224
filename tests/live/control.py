# SPDX-License-Identifier: BSD-3-Clause
"""Shared by the tests of control: servers with a control socket, and
wtcachectl."""

import json
import os
import socket
import subprocess

from live import cached, expect, wt

TOP = os.environ.get("top_builddir", os.path.join(
    os.path.dirname(os.path.abspath(__file__)), "..", ".."))
TOOL = os.path.join(TOP, "tools", "wtcachectl")


def controlled(disk=None, args=(), **options):
    """A server with a control socket; else as cached() has it."""
    server = cached(disk, args, start=False, **options)
    server.filter_options.setdefault("wtcache-control", server.path("ctl"))
    server.start()
    return server


def run(server, *words, **more):
    wt.require(os.path.exists(TOOL), "wtcachectl is not built: no jansson")
    return subprocess.Popen(
        [TOOL, server.path("ctl"), *[str(word) for word in words]],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **more)


def ctl(server, *words, status=0, **more):
    """The output of a command, which ends with this status; a complaint is one
    line."""
    process = run(server, *words, **more)
    out, err = process.communicate(timeout=120)
    assert process.returncode == status, (words, process.returncode, out, err)
    if status in (1, 2):
        assert out == "" and err.startswith("wtcachectl: "), (out, err)
        expect(err.count("\n"), 1, err)
        return err
    expect(err, "")
    return out


def report(server, status=0):
    """The answer to status, as JSON."""
    return json.loads(ctl(server, "status", "--json", status=status))


def dial(server):
    s = socket.socket(socket.AF_UNIX)
    s.connect(server.path("ctl"))
    return s


def log_of(server):
    with open(server.path("stderr"), errors="replace") as f:
        return f.read()
