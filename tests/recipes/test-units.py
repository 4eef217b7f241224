#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""The units for systemd: what they promise, that systemd understands them,
how much they lock in, and their command, run by socket activation with
exactly the system calls that they allow.  No service is started."""

import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile

sys.dont_write_bytecode = True
HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [os.path.join(HERE, "..", "lib"), HERE]

import tap  # noqa: E402
import wt  # noqa: E402
import world  # noqa: E402

UNITS = os.path.join(HERE, "..", "..", "packaging", "systemd")

# The most that systemd-analyze may say of its exposure, of 100: it needs
# the network, and to open what its user may open.
EXPOSURE = 20


def settings(name):
    """The settings of a unit or of a file of variables, in order."""
    with open(os.path.join(UNITS, name), encoding="utf-8") as f:
        lines = f.read().replace("\\\n", "").splitlines()
    return [tuple(line.split("=", 1)) for line in lines
            if "=" in line and not line.startswith("#")]


def values(name, key):
    return [value for found, value in settings(name) if found == key]


def analyze(*words):
    """The output of systemd-analyze, which has to succeed."""
    tap.require(shutil.which("systemd-analyze"), "there is no systemd")
    done = subprocess.run(("systemd-analyze",) + words, text=True,
                          stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT)
    assert done.returncode == 0, done.stdout
    return done.stdout


def instances(folder):
    """The units of one disk, as systemd sees them."""
    paths = []
    for end in "service", "socket":
        path = os.path.join(folder, "wtcache@disk." + end)
        shutil.copy(os.path.join(UNITS, "wtcache@." + end), path)
        paths.append(path)
    return paths


def test_nothing_ends_it_early():
    """Data that the end of the process would lose is not risked."""
    for key, value in (("TimeoutStopSec", "infinity"),
                       ("OOMScoreAdjust", "-1000"), ("Restart", "no")):
        found = values("wtcache@.service", key)
        assert found == [value], "%s: %s" % (key, found)
    options, = values("disk.conf", "OPTIONS")
    assert "wtcache-drain=3600" in options.split()


def test_data_that_is_lost_makes_it_fail():
    """The file that a server leaves then is looked for where it leaves it:
    beside the statistics, by their name."""
    *_, post = values("wtcache@.service", "ExecStopPost")
    start, = values("wtcache@.service", "ExecStart")
    stats, = re.findall(r"wtcache-stats=(\S+)\.prom", start)
    assert post == "/usr/bin/test ! -e %s.lost" % stats, post
    assert "wtcache-control=%s.ctl" % stats in start, start


def test_users_and_folders():
    """It runs as, and writes to, what systemd makes for it."""
    with open(os.path.join(UNITS, "wtcache.sysusers"), encoding="ascii") as f:
        users = f.read()
    with open(os.path.join(UNITS, "wtcache.tmpfiles"), encoding="ascii") as f:
        folders = f.read()
    user, = values("wtcache@.service", "User")
    assert re.search(r"^u %s " % user, users, re.M), users
    group, = values("wtcache@.socket", "SocketGroup")
    assert re.search(r"^g %s " % group, users, re.M), users
    assert "d /run/wtcache 0755 %s %s -" % (user, user) in folders, folders
    assert "/run/wtcache" in values("wtcache@.service", "ReadWritePaths")
    tap.require(shutil.which("systemd-sysusers"), "there is no systemd")
    with tempfile.TemporaryDirectory() as root:
        os.mkdir(os.path.join(root, "etc"))
        for words in (["systemd-sysusers", "--root=" + root,
                       os.path.join(UNITS, "wtcache.sysusers")],
                      ["systemd-tmpfiles", "--root=" + root, "--create",
                       os.path.join(UNITS, "wtcache.tmpfiles")]):
            done = subprocess.run(words, stdout=subprocess.PIPE,
                                  stderr=subprocess.STDOUT, text=True)
            assert done.returncode == 0, (words, done.stdout)
        with open(os.path.join(root, "etc/passwd"), encoding="ascii") as f:
            assert re.search("^%s:" % user, f.read(), re.M)
        assert os.path.isdir(os.path.join(root, "run/wtcache"))


def test_verify():
    """systemd understands every line."""
    with tempfile.TemporaryDirectory() as folder:
        said = analyze("verify", "--man=no", *instances(folder))
        # Of units of the system it may say something as well.
        lines = [line for line in said.splitlines() if "wtcache" in line]
        assert not lines, "\n".join(lines)


def test_verify_metrics():
    with tempfile.TemporaryDirectory() as folder:
        service = os.path.join(folder, "wtcache-metrics@.service")
        with open(os.path.join(UNITS, "wtcache-metrics@.service.in"),
                  encoding="utf-8") as f:
            text = f.read().replace("@pkgdatadir@/metrics-http", "/bin/true")
        with open(service, "w", encoding="utf-8") as f:
            f.write(text)
        socket = os.path.join(folder, "wtcache-metrics.socket")
        shutil.copy(os.path.join(UNITS, "wtcache-metrics.socket"), socket)
        instance = service.replace("@", "@1")
        shutil.copy(service, instance)
        said = analyze("verify", "--man=no", instance, socket)
        lines = [line for line in said.splitlines() if "wtcache" in line]
        assert not lines, "\n".join(lines)


def test_exposure():
    with tempfile.TemporaryDirectory() as folder:
        analyze("security", "--offline=true", "--threshold=%d" % EXPOSURE,
                instances(folder)[0])


def command():
    """The service's command over the test's disk."""
    variables = dict(settings("disk.conf"))
    start, = values("wtcache@.service", "ExecStart")
    words = []
    for word in shlex.split(start.replace("%i", "disk")):
        words += (variables[word[1:]].split() if word[:1] == "$" else [word])
    return [word.replace("/srv/wtcache/", "") for word in words]


# $1 is the command's words; disk.img is the disk, and the client's copy is
# another image, which it sends with a flush.  Then the server is told to stop
# with more in its cache.
ACTIVATE = """set -eu
head -c 32M /dev/urandom >other.img
mkdir -p /run/wtcache
systemd-socket-activate -l $PWD/disk.sock %s "$@" &
server=$!
uri='nbd+unix:///?socket=disk.sock'
until nbdinfo "$uri" >info 2>&1; do sleep 0.05; done
nbdcopy disk.img copy.img
nbdcopy --flush other.img "$uri"
cmp other.img disk.img
nbdsh -u "$uri" -c 'h.pwrite(b"last" * 1024, 0)'
kill $server
wait $server
test "$(head -c 4 disk.img)" = last
"""


def activate(prefix=""):
    tap.require(shutil.which("systemd-socket-activate"),
                "there is no systemd")
    return world.run(["bash", "-xc", ACTIVATE % prefix, "bash"] + command(),
                     keep="trace")


def test_command():
    """The service's command, with the socket's connection."""
    activate()


def allowed():
    """The names of the system calls that the service may use."""
    def names(group):
        if not group.startswith("@"):
            return {group}
        found = set()
        for line in analyze("syscall-filter", group).splitlines()[1:]:
            word = line.strip()
            if word.startswith("@"):
                found |= names(word)
            elif word and not word.startswith("#"):
                found.add(word)
        return found
    result = set()
    for value in values("wtcache@.service", "SystemCallFilter"):
        groups = value.lstrip("~").split()
        for group in groups:
            if value.startswith("~"):
                result -= names(group)
            else:
                result |= names(group)
    # Always allowed.
    return result | names("@default")


def test_system_calls():
    """It needs no system call that the service forbids."""
    tap.require(shutil.which("strace"), "there is no strace")
    trace = activate("strace -D -f -qq -o trace")
    used = set()
    for line in trace.splitlines():
        words = line.split(None, 1)[1]
        name = words.partition("(")[0]
        if name.replace("_", "").isalnum():
            used.add(name)
    assert "pread64" in used or "pwrite64" in used, sorted(used)
    refused = used - allowed() - {"execve"}
    assert not refused, sorted(refused)


wt.main()
