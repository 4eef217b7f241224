# SPDX-License-Identifier: BSD-3-Clause
"""Tests of ./quickstart and ./check as far as they need no build: what they
refuse, and where they build."""

import fcntl
import os
import shutil
import struct
import subprocess
import sys
import tempfile

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)),
                                "..", "lib"))

import tap  # noqa: E402

TOP = os.path.abspath(os.path.join(os.path.dirname(__file__), "..", ".."))
CLAIM = os.path.join(TOP, "bench", "claim.py")


def run(*words, **more):
    return subprocess.run(words, stdin=subprocess.DEVNULL,
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                          text=True, timeout=100, check=False, **more)


def refused(status, *words):
    """The error of a command that is refused; its first line says why."""
    result = run(*words)
    assert result.returncode == status, result
    assert result.stdout == "", result
    return result.stderr


class Folder:
    """A temporary folder, and in it an image with a file system."""

    def __enter__(self):
        self.path = tempfile.mkdtemp(prefix="wtcache-commands-")
        self.image = os.path.join(self.path, "disk.img")
        with open(self.image, "wb") as f:
            f.truncate(8 << 20)
        self.undo = []
        return self

    def loop(self):
        """A loop device of the image."""
        tap.require(os.geteuid() == 0, "only root can make a loop device")
        result = run("losetup", "-f", "--show", self.image)
        tap.require(result.returncode == 0, "there are no loop devices here")
        device = result.stdout.strip()
        self.undo.append(["losetup", "-d", device])
        return device

    def mount(self, device):
        folder = os.path.join(self.path, "mounted")
        os.mkdir(folder)
        subprocess.run(["mkfs.ext4", "-q", device], check=True)
        result = run("mount", device, folder)
        tap.require(result.returncode == 0, "nothing can be mounted here")
        self.undo.append(["umount", folder])
        return folder

    def __exit__(self, *exc):
        for command in reversed(self.undo):
            subprocess.run(command, check=True)
        shutil.rmtree(self.path)


def test_check_says_what_is_wrong_first():
    err = refused(2, TOP + "/check", "foo")
    assert err.startswith("check: foo: only --quick and --help "), err
    err = refused(2, TOP + "/check", "--quick", "foo")
    assert err.startswith("check: --quick foo: "), err


def test_help():
    for name in "check", "quickstart":
        for word in "-h", "--help":
            result = run(os.path.join(TOP, name), word)
            assert result.returncode == 0 and result.stderr == "", result
            assert "./%s" % name in result.stdout, result.stdout


def test_quickstart_says_what_is_wrong_first():
    err = refused(2, TOP + "/quickstart", "--fast")
    assert err.startswith("quickstart: --fast: there is no such option"), err
    err = refused(2, TOP + "/quickstart", "-r")
    assert err.startswith("quickstart: -r needs a disk"), err
    err = refused(2, TOP + "/quickstart", "a", "b")
    assert err.startswith("quickstart: b: one disk is served"), err
    err = refused(1, TOP + "/quickstart", "/dev/null")
    assert "not a disk image or a block device" in err, err


def test_device_in_use():
    """A mounted device is refused, with where it is mounted and what can be
    done instead; one that is free is not, and nothing else can claim it."""
    with Folder() as folder:
        device = folder.loop()
        where = folder.mount(device)
        err = refused(1, TOP + "/quickstart", device)
        first = err.splitlines()[0]
        assert first == "%s is in use: %s is mounted at %s" % (
            device, device, where), err
        assert "./quickstart -r " in err, err
        subprocess.run(folder.undo.pop(), check=True)
        result = run(sys.executable, CLAIM, device, "mount", device, where)
        if result.returncode == 0:
            folder.undo.append(["umount", where])
        assert result.returncode != 0, "it was mounted in spite of the claim"
        assert run(sys.executable, CLAIM, device, "true").returncode == 0


def test_image_behind_a_loop_device():
    with Folder() as folder:
        device = folder.loop()
        err = refused(1, TOP + "/quickstart", folder.image)
        assert err.startswith("%s is in use: %s is a loop device of it"
                              % (folder.image, device)), err


def test_locked_image():
    """As QEMU locks it."""
    with Folder() as folder:
        with open(folder.image, "rb") as f:
            fcntl.fcntl(f, 37, struct.pack("hhqqi", fcntl.F_RDLCK, 0, 100, 1,
                                           0))
            err = refused(1, TOP + "/quickstart", folder.image)
            assert "is in use: another program has locked it" in err, err
        result = run(sys.executable, CLAIM, folder.image, sys.executable,
                     CLAIM, folder.image, "true")
        assert result.returncode == 1 and "locked" in result.stderr, result


def sources(tree):
    """Where the commands take the sources from."""
    result = run("bash", "-c", '. .ci/setup.sh; find_sources "$1" "$1/log" >&2'
                 ' && echo "$sources"', "bash", os.path.join(tree, "build-x"),
                 cwd=tree)
    assert result.returncode == 0, result
    return result.stdout.strip()


def test_tree_in_which_configure_ran():
    """make there would refuse to build elsewhere: the sources are copied,
    without what configure and make have left."""
    with Folder() as folder:
        tree = os.path.join(folder.path, "tree")
        os.makedirs(os.path.join(tree, ".ci"))
        os.makedirs(os.path.join(tree, "build-aux"))
        os.makedirs(os.path.join(tree, "build-x"))
        shutil.copy(os.path.join(TOP, ".ci", "setup.sh"),
                    os.path.join(tree, ".ci"))
        assert sources(tree) == tree
        for name, text in (("config.status", ""), ("main.o", ""),
                           ("build-aux/missing", ""), ("main.c", ""),
                           ("Makefile", "distclean:\n\trm -f main.o Makefile")
                           ):
            with open(os.path.join(tree, name), "w") as f:
                f.write(text)
        os.utime(os.path.join(tree, "main.c"), ns=(1, 123456789))
        copy = sources(tree)
        assert copy == os.path.join(tree, "build-x", "source"), copy
        assert sorted(os.listdir(copy)) == [".ci", "build-aux", "main.c"]
        assert os.path.exists(os.path.join(copy, "build-aux", "missing"))
        assert os.stat(os.path.join(copy, "main.c")).st_mtime_ns == 123456789
        assert os.path.exists(os.path.join(tree, "main.o"))


def test_failed_test_is_counted_once():
    """The status that repeats what TAP says is not told to automake; another
    is."""
    for output, status, wanted in (
            ("ok 1\nnot ok 2\n1..2\n", 1, 0), ("ok 1\n1..1\n", 0, 0),
            ("ok 1\n1..1\n", 1, 1), ("not ok 1\nnot ok 2\n1..2\n", 2, 0),
            ("not ok 1\n1..1\n", 66, 66), ("not ok 1\n1..1\n", 124, 124),
            ("not ok 1 # TODO later\n1..1\n", 1, 1), ("", 139, 139)):
        result = run(os.path.join(TOP, "tests", "lib", "tap-status"), "sh",
                     "-c", "printf '%%s' '%s'; exit %d" % (output, status))
        assert (result.returncode, result.stdout) == (wanted, output), result


def test_labels_of_plots():
    """gnuplot takes a percent sign in them for a format."""
    sys.path.insert(0, os.path.join(TOP, "bench"))
    try:
        import report
    finally:
        sys.path.pop(0)
    label = report.quoted_tic("metadata, % of cached bytes")
    assert label == '"metadata, %% of cached bytes"', label
    folder = os.path.join(TOP, "docs", "bench")
    for name in os.listdir(folder):
        if name.endswith(".svg"):
            with open(os.path.join(folder, name), encoding="utf-8") as f:
                assert "14f" not in f.read(), name


tap.main()
