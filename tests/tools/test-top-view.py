# SPDX-License-Identifier: BSD-3-Clause
"""Tests of wtcache-top in a terminal, and of a file that a server writes."""

import errno
import os
import re
import sys
import time

sys.dont_write_bytecode = True

import top  # noqa: E402
from top import (  # noqa: E402
    Export, MIB, TOP, as_json, expect, expect_near, exposition, fails,
    fresh, in_terminal, once, tap, wt)


def test_view():
    path = fresh(Export("disk", dirty_bytes=MIB, oldest_dirty_seconds=3))
    with in_terminal(path) as t:
        # The last row comes last.
        lines = t.wait_for_text(" q quit")
        assert lines[0].startswith(path[:60]), lines
        assert "1 MiB dirty, oldest 3 s" in "\n".join(lines), lines
        t.press("q")
        expect(t.wait_for_end(), 0)


def test_view_ends():
    path = fresh(Export("disk"))
    for key in "q", "Q", "\x1b", "\x1b[21~":
        with in_terminal(path) as t:
            t.wait_for_text("all on the backend")
            t.press(key)
            expect(t.wait_for_end(), 0)


def test_view_follows():
    """It shows rates as files are replaced, and a line for each."""
    now = time.time()
    path = fresh(Export("disk"), written=now - 6)
    with in_terminal(path) as t:
        t.wait_for_text("all on the backend")
        exposition.write(path, Export("disk", read_requests=400,
                                      read_bytes=4 * MIB, dirty_bytes=MIB),
                         written=now - 4)
        t.wait_for_line("  read +200/s +2 MiB/s .* █")
        exposition.write(path, Export("disk", read_requests=500,
                                      read_bytes=5 * MIB), written=now - 2)
        t.wait_for_line("  read +50/s +512 KiB/s .* █▃")
        t.wait_for_line("disk .* all on the backend")


def test_view_without_unicode():
    now = time.time()
    path = fresh(Export("Größe"), written=now - 4)
    with in_terminal(path, LC_ALL="C") as t:
        t.wait_for_text("Gr\\xc3\\xb6\\xc3\\x9fe")
        exposition.write(path, Export("Größe", read_bytes=MIB), written=now)
        t.wait_for_line("  read .*KiB/s .*#")
        assert max(t.raw) < 128, t.raw


def test_view_says_what_is_wrong():
    path = fresh(Export("disk"))
    with in_terminal(path) as t:
        t.wait_for_text("all on the backend")
        os.rename(path, path + ".gone")
        t.wait_for_text("cannot be opened: No such file or directory")
        os.rename(path + ".gone", path)
        t.wait_for(lambda lines: "cannot be" not in "\n".join(lines),
                   "the file is back")
        exposition.write(path, Export("disk"), written=time.time() - 300)
        t.wait_for_text("not written for 5 min")
        with open(path, "a") as f:
            f.write("nonsense\n")
        t.wait_for_text("a number is expected")


def test_view_is_resized():
    path = fresh(Export("disk", refusing=1, error="ENOSPC",
                        dirty_bytes=12 * MIB))
    with in_terminal(path) as t:
        t.wait_for_text("q quit")
        t.resize(50, 132)
        t.wait_for(lambda lines: lines[49].startswith(" q quit"),
                   "keys in the last row")
        t.resize(8, 30)
        lines = t.wait_for(lambda lines: lines[7].startswith(" q quit"),
                           "keys in the last row of fewer")
        assert all(len(line) <= 30 for line in lines), lines
        for size in (1, 20), (2, 1), (3, 5):
            t.resize(*size)
        t.resize(24, 80)
        t.wait_for_text("backend refuses writes: ENOSPC")
        t.press("q")
        expect(t.wait_for_end(), 0)


def test_view_scrolls():
    # Of a time to come: on a slow machine it would grow stale in between, and
    # have one line more.
    path = fresh(*[Export("disk%02d" % i, number=i) for i in range(40)],
                 written=time.time() + 3600)
    with in_terminal(path) as t:
        # The last row is drawn last: when it is there, so are the others.
        first = t.wait_for_text("1-23 of 4")
        t.press("\x1b[4~")              # End
        lines = t.wait_for(lambda lines: "1-23 of 4" not in lines[23], "the end")
        assert "disk39" in "\n".join(lines), lines
        assert "disk00" not in "\n".join(lines), lines
        t.press("\x1b[1~")              # Home
        t.wait_for(lambda lines: "1-23 of 4" in lines[23], "the beginning")
        t.press("\x1b[B")               # Down
        t.wait_for(lambda lines: lines[0] == first[1], "one line down")
        t.press("k")
        t.wait_for(lambda lines: lines[0] == first[0], "one line up")
        t.press("\x1b[6~")              # PgDn
        t.wait_for(lambda lines: lines[0] == first[22], "a page down")
        t.press("\x1b[5~\x1b[5~")       # PgUp, and beyond the first
        t.wait_for(lambda lines: lines[0] == first[0], "a page up")


def test_view_in_brief():
    path = fresh(*[Export("disk%02d" % i, number=i, dirty_bytes=i * MIB)
                   for i in range(15)])
    with in_terminal(path) as t:
        t.wait_for_text("disk00")
        t.press("b")
        t.wait_for_line("disk14 .* 14 MiB dirty, oldest .*")
        t.wait_for_line("disk00 .* all on the backend")
        t.press("b")
        t.wait_for(lambda lines: "disk14" not in "\n".join(lines), "all")


def test_view_helps():
    path = fresh(Export("disk"))
    with in_terminal(path) as t:
        t.wait_for_text("all on the backend")
        for key in "h", "?":
            t.press(key)
            t.wait_for_text("a line for each export, or a block")
            t.press(key)
            t.wait_for(lambda lines: "a line for each" not in "\n".join(lines)
                       and "disk  0 clients" in "\n".join(lines), "the view")


def test_view_in_colour():
    path = fresh(Export("clean"), Export("held", dirty_bytes=MIB),
                 Export("full", refusing=1, error="ENOSPC"))
    with in_terminal(path) as t:
        t.press("b")
        t.wait_for_text("backend refuses")
        expect(t.colour_of("all on the backend"), "green")
        expect(t.colour_of("1 MiB dirty"), "brown")
        expect(t.colour_of("backend refuses"), "red")
    for environment in {"NO_COLOR": "1"}, {"TERM": "vt100"}:
        with in_terminal(path, **environment) as t:
            t.press("b")
            t.wait_for_text("backend refuses")
            for text in "all on the", "1 MiB dirty", "backend refuses":
                expect(t.colour_of(text), "default")


def test_view_obeys_nothing_in_a_name():
    path = fresh(Export("\x1b[2J\x1b]0;title\x07"))
    with in_terminal(path) as t:
        t.wait_for_text("\\x1b[2J\\x1b]0;title\\x07")
        assert b"\x1b]0;title" not in t.raw, t.raw


def test_view_needs_a_terminal():
    path = fresh(Export())
    assert "this is not a terminal" in fails(1, path)
    with in_terminal(path, TERM="no-such-terminal") as t:
        expect(t.wait_for_end(), 1)
        assert b"TERM is no-such-terminal" in t.raw, t.raw


# A server.

def told(path, is_wanted):
    """The export as wtcache-top tells it, if that is as wanted."""
    exports = as_json(path)[0]["exports"]
    return exports[0] if exports and is_wanted(exports[0]) else None


def test_of_a_server():
    """From clean over dirty and a backend that refuses, to clean again."""
    tap.require(os.path.exists(TOP), "wtcache-top is not built")
    path = os.path.join(os.path.dirname(fresh()), "server.prom")
    with wt.Server({"wtcache-size": "16M", "wtcache-stats": path,
                    "wtcache-dirty-age": "1000"}) as server:
        h = server.connect("disk")
        for _ in range(3):
            h.pread(4096, 0)
        found = wt.wait_until(lambda: told(
            path, lambda e: e["values"]["read_requests_total"] == 3),
            "the reads are told")
        expect(found["export"], "disk")
        expect(found["condition"], "clean")
        expect_near(found["hit_ratio"], 2 / 3)
        assert found["backend"]["read"]["calls"] >= 1, found
        assert found["backend"]["read"]["p99_seconds"] > 0, found

        h.pwrite(bytes(65536), 0)
        found = wt.wait_until(lambda: told(
            path, lambda e: e["state"].startswith("64 KiB dirty, oldest ")),
            "the write is told")
        expect(found["condition"], "held")

        server.control("fault full op=write errno=ENOSPC")
        expect(wt.errno_of(h.flush), errno.ENOSPC)
        # Not of a moment in which it tries again: they are on their way then.
        found = wt.wait_until(lambda: told(
            path, lambda e: re.match(
                "backend refuses writes: ENOSPC since .*; 64 KiB dirty, "
                "oldest ", e["state"])), "the refusal is told")
        expect(found["condition"], "refusing")
        with in_terminal(path) as t:
            t.wait_for_text("backend refuses writes: ENOSPC")
            server.control("unfault all")
            h.flush()
            t.wait_for_text("all on the backend")
            server.stop()
            t.wait_for_text("the server ended at ")
            t.wait_for_text(", with all on the backend")
            t.press("q")
            expect(t.wait_for_end(), 0)


def test_of_a_server_that_loses_data():
    tap.require(os.path.exists(TOP), "wtcache-top is not built")
    path = os.path.join(os.path.dirname(fresh()), "server.prom")
    with wt.Server({"wtcache-size": "16M", "wtcache-stats": path,
                    "wtcache-drain": "100ms"}) as server:
        h = server.connect("disk")
        h.pwrite(bytes(65536), 0)
        server.control("fault full op=write errno=ENOSPC")
        server.stop()
        found = as_json(path)[0]
        expect((found["ended"], found["lost_bytes"]), (True, 65536))
        assert "LOST 64 KiB" in once(path), once(path)


top.main()
