# SPDX-License-Identifier: BSD-3-Clause
"""Shared by the tests of wtcache-top: files as servers write them, and the
program on paper, as JSON and in a terminal."""

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [os.path.join(HERE, "..", "lib"), HERE]

import exposition  # noqa: E402
import tap  # noqa: E402
import wt  # noqa: E402
from exposition import Export  # noqa: E402

TOP = os.path.join(os.environ.get("top_builddir",
                                  os.path.join(HERE, "..", "..")),
                   "tools", "wtcache-top")
MIB = 1 << 20

folder = None


def fresh(*exports, **options):
    """The name of a new file with these exports."""
    global folder
    if folder is None:
        folder = tempfile.mkdtemp(prefix="wtcache-top-")
    handle, path = tempfile.mkstemp(suffix=".prom", dir=folder)
    os.close(handle)
    exposition.write(path, *exports, **options)
    return path


def run(*arguments, locale="C.UTF-8", **options):
    tap.require(os.path.exists(TOP), "wtcache-top is not built")
    return subprocess.run(
        [TOP, *arguments], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
        stderr=subprocess.PIPE, text=True, timeout=60 * tap.SCALE,
        env={**os.environ, "LC_ALL": locale}, **options)


def once(*arguments, **options):
    result = run("--once", *arguments, **options)
    assert result.returncode == 0, result
    assert result.stderr == "", result.stderr
    return result.stdout


def as_json(*arguments):
    result = run("--json", *arguments)
    assert result.returncode == 0, result
    return json.loads(result.stdout)["files"]


def one_export(*arguments):
    return as_json(*arguments)[0]["exports"][0]


def fails(status, *arguments, **options):
    """It ends with this status and one line, which is returned."""
    result = run(*arguments, **options)
    assert result.returncode == status, result
    assert result.stdout == "", result.stdout
    assert re.fullmatch("wtcache-top: [^\n]+\n", result.stderr), result.stderr
    return result.stderr


def expect(found, wanted):
    assert found == wanted, "%r instead of %r" % (found, wanted)


def expect_near(found, wanted):
    assert abs(found - wanted) <= 1e-6 * abs(wanted), "%r instead of %r" % (
        found, wanted)


def in_terminal(*paths, **options):
    tap.require(os.path.exists(TOP), "wtcache-top is not built")
    try:
        from terminal import Terminal
    except ImportError:
        raise tap.Skip("python3-pyte is missing")
    options = {"LC_ALL": "C.UTF-8", "NO_COLOR": "", **options}
    return Terminal([TOP, *paths], **options)


def clean_up(_failed):
    if folder:
        shutil.rmtree(folder, ignore_errors=True)
        os.mkdir(folder)
    return []


def main():
    tap.on_end.append(clean_up)
    try:
        tap.main()
    finally:
        if folder:
            shutil.rmtree(folder, ignore_errors=True)
