# SPDX-License-Identifier: BSD-3-Clause
"""Runs a command in a world of its own: see the script world."""

import os
import shutil
import subprocess
import sys
import tempfile

import tap
import wt
import sshd_package

HERE = os.path.dirname(os.path.abspath(__file__))


def environment(needs):
    env = dict(os.environ)
    env["WTCACHE_FILTER"] = wt.filter_path()
    env["PYTHON"] = sys.executable
    env["WT_NEEDS"] = " ".join(needs)
    env["PATH"] += ":/usr/sbin:/sbin"
    if "sshd" in needs:
        env["WT_SSHD"] = sshd_package.command()
    return env


def run(command, needs=(), files=None, keep=None):
    """Runs it, which has to succeed.

    files   texts of files that its folder begins with, by name
    keep    the name of a file there; its text is returned, if there is one
    """
    tap.require(shutil.which("unshare"), "there is no unshare")
    folder = tempfile.mkdtemp(prefix="wt-")
    try:
        for name, text in (files or {}).items():
            with open(os.path.join(folder, name), "w",
                      encoding="utf-8") as f:
                f.write(text)
        done = subprocess.run(
            [os.path.join(HERE, "world"), folder] + command,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, text=True, errors="replace",
            env=environment(needs))
        kept = os.path.join(folder, keep or "none")
        text = None
        if os.path.exists(kept):
            with open(kept, encoding="utf-8", errors="replace") as f:
                text = f.read()
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    if done.returncode == 77:
        raise tap.Skip((done.stdout.splitlines() or ["no world"])[-1])
    assert done.returncode == 0, "status %d\n%s" % (done.returncode,
                                                    done.stdout)
    return text
