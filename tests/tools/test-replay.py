#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""Tests of wtcache-replay: what it sends, when, and what it says of it."""

import json
import os
import subprocess
import sys

sys.dont_write_bytecode = True
HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "..", "lib"))

import tap  # noqa: E402
import wt  # noqa: E402

TOP = os.environ.get("top_builddir", os.path.join(HERE, "..", ".."))
TOOL = os.path.join(TOP, "tools", "wtcache-replay")
TRACE = "0,R,0,4\n1000,W,8,1\n2000,R,100,2\n"


def replay(*words, text=TRACE, status=0):
    """The output, or what it complains of if the status is another."""
    tap.require(os.path.exists(TOOL), "wtcache-replay is not built")
    done = subprocess.run([TOOL, *words], input=text, text=True,
                          capture_output=True, timeout=60 * tap.SCALE)
    assert done.returncode == status, done
    if status == 0:
        assert done.stderr == "", done
        return done.stdout
    lines = done.stderr.splitlines()
    assert len(lines) == 1 and lines[0].startswith("wtcache-replay: "), done
    return lines[0][len("wtcache-replay: "):]


def on(server, *words, **more):
    return replay(*words, "-", server.uri, **more)


def found(server):
    """The requests that reached the disk: operation, page, pages."""
    return [(r.op, r.offset // 4096, r.length // 4096)
            for r in server.log().of("read", "write")]


def plain(**options):
    """The tests' disk without readahead, so that it sees what is asked."""
    return wt.Server({"wtcache-readahead": "off", "wtcache-fill": "4K",
                      "wtcache-mode": "writethrough"},
                     dict({"size": "1M"}, **options))


def test_reads_alone():
    """Without --write no write goes to the disk, and it says so."""
    with plain() as server:
        said = on(server)
        # Both are in flight at once.
        assert sorted(found(server)) == [("read", 0, 4), ("read", 100, 2)], (
            found(server))
        assert "reads            2 requests" in said, said
        assert "1 writes were left out: --write sends them" in said, said


def test_writes():
    with plain() as server:
        said = json.loads(on(server, "--write", "--json"))
        assert ("write", 8, 1) in found(server), found(server)
        assert said["writes_left_out"] == 0, said
        assert said["writes"]["requests"] == 1, said
        assert said["writes"]["bytes"] == 4096, said
        assert said["reads"]["requests"] == 2, said
        assert said["reads"]["bytes"] == 6 * 4096, said
        assert 0 < said["reads"]["p50_seconds"] <= said["reads"][
            "max_seconds"], said


def test_last_page():
    """The last page of an export may be shorter than a page of the trace."""
    with plain(size="10000") as server:
        said = json.loads(on(server, "--json", text="0,R,1,2\n"))
        assert said["reads"]["bytes"] == 10000 - 4096, said


def test_times():
    """As recorded: the last request is sent a second after the first."""
    text = "500000,R,0,1\n1500000,R,9,1\n"
    with plain() as server:
        assert json.loads(on(server, "--json", text=text))["seconds"] >= 1
        assert json.loads(on(server, "--json", "--speed=4",
                             text=text))["seconds"] >= 0.25
        # An hour, which nothing waits for.
        on(server, "--fast", text="0,R,0,1\n3600000000,R,9,1\n")
        on(server, "--speed=1e6", text="0,R,0,1\n3600000000,R,9,1\n")


def test_errors_of_requests():
    with plain() as server:
        server.control("fault f op=read errno=EIO")
        said = on(server, "--json", status=1)
        assert said == "2 requests failed", said


def test_what_is_wrong():
    with plain() as server:
        for text, wanted in (
                ("", "-: there is no request in it"),
                ("0,R,0,1\n0,X,0,1\n", "-: line 2 is not MICROSECONDS,"),
                ("0,R,0,0\n", "-: line 1 is not"),
                ("0,R,0\n", "-: line 1 is not"),
                ("0,R,0,1 \n", "-: line 1 is not"),
                ("0,R,0,99999999\n", "-: line 1 is not"),
                ("5,R,0,1\n4,R,0,1\n", "-: line 2 is earlier")):
            said = on(server, text=text, status=1)
            assert said.startswith(wanted), (text, said)
        said = on(server, text="0,R,255,2\n", status=1)
        assert "requests up to byte 1052672, the export has 1048576" in said
        for words, wanted in (
                (["--depht=4"], "--depht=4: there is no such option: is "
                 "--depth meant?"),
                (["--depth=0"], "--depth=0: must be a number above 0"),
                (["--depth=2000"], "--depth=2000: must be a number"),
                (["--depth=1.5"], "--depth=1.5: must be a whole number"),
                (["--speed=x"], "--speed=x: must be a number above 0"),
                (["a"], "usage: ")):
            said = on(server, *words, status=2)
            assert said.startswith(wanted), (words, said)
    assert replay("-", server.uri, status=1).startswith(server.uri)
    assert replay("/nowhere", server.uri, status=1) == (
        "/nowhere: No such file or directory")


wt.main()
