#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""A disk as a service: a guest under systemd has what `make install` or the
package installs, a file /etc/wtcache/NAME.conf, and no more.  The kernel's
client attaches, parameters change, the service is stopped with dirty data,
the server dies and is started again, and a disk that refuses makes the unit
fail.

Environment:
  WTCACHE_ROOT  a folder with the files of a package (else make install)
"""

import os
import re
import shutil
import subprocess
import sys

sys.dont_write_bytecode = True
HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "..", "lib"))

import guest  # noqa: E402
import tap  # noqa: E402
import wt  # noqa: E402

SYSTEMD = "/lib/systemd"
DEVICE = "/dev/nbd0"
PROGRAMS = ["nbd-client", "nbdkit", "systemctl", "journalctl",
            "cat", "sh", "systemd-sysusers", "systemd-tmpfiles", "test"]
HELPERS = ["systemd", "systemd-journald", "systemd-shutdown",
           "systemd-executor"]

# Units that start what the guest does not have, or what takes time there.
LEFT_OUT = """
kmod-static-nodes.service systemd-binfmt.service systemd-firstboot.service
systemd-modules-load.service systemd-pcrphase.service
systemd-random-seed.service systemd-pcrphase-sysinit.service
systemd-repart.service systemd-sysctl.service systemd-udevd.service
systemd-udev-trigger.service systemd-update-utmp.service
systemd-hwdb-update.service systemd-machine-id-commit.service
dev-hugepages.mount dev-mqueue.mount sys-kernel-debug.mount
sys-kernel-tracing.mount modprobe@.service
""".split()

# In a namespace of its own, as a service has one, the root must be a file
# system that is mounted on another: the kernel's first one is on none.  The
# shell that takes commands is started beside systemd.
BEGIN = """hostname guest
mount -o rbind / /mnt
cd /mnt
mount --move . /
exec chroot . busybox sh /second
"""
SECOND = """dash /commands </dev/ttyS1 >/dev/ttyS1 2>&1 &
exec /lib/systemd/systemd --unit=basic.target --show-status=no \
  --log-target=console --default-standard-output=journal
"""

FILES = {
    "etc/passwd": "root:x:0:0:root:/:/bin/sh\n",
    "etc/group": "root:x:0:\n",
    "etc/machine-id": "0123456789abcdef0123456789abcdef\n",
    "etc/nsswitch.conf": "passwd: files\ngroup: files\n",
    "etc/fstab": "",
    "second": SECOND,
}


def install(tree):
    """Puts into the tree what is installed under /usr and /etc."""
    root = os.environ.get("WTCACHE_ROOT")
    if root:
        subprocess.run(["cp", "-a", root + "/.", tree], check=True)
        return
    top = os.environ.get("top_builddir", os.path.join(HERE, "..", ".."))
    environment = {key: value for key, value in os.environ.items()
                   if not key.startswith(("MAKE", "MFLAGS"))}
    subprocess.run(["make", "-s", "-C", top, "install", "prefix=/usr",
                    "sysconfdir=/etc", "DESTDIR=" + tree], check=True,
                   stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                   stderr=subprocess.DEVNULL, env=environment)


FILTER = "nbdkit-wtcache-filter.so"


def make_other(tree):
    """A filter that says that it was built with another nbdkit."""
    version = subprocess.run(
        ["nbdkit", "--dump-config"], check=True, text=True,
        stdout=subprocess.PIPE).stdout.split("\nversion=")[1].split()[0]
    with open(tree + os.path.join(module_folder("filter"), FILTER),
              "rb") as f:
        module = f.read()
    other = version[:-1] + chr(ord(version[-1]) ^ 1)
    assert version.encode() in module
    with open(os.path.join(tree, "other.so"), "wb") as f:
        f.write(module.replace(version.encode(), other.encode()))


def module_folder(kind):
    return subprocess.run(
        ["pkg-config", "--variable=%sdir" % kind, "nbdkit"], check=True,
        text=True, stdout=subprocess.PIPE).stdout.strip()


class Machine(guest.Guest):
    """A guest that systemd has booted."""

    begin = BEGIN

    def __init__(self):
        wt.require(os.path.exists(SYSTEMD + "/systemd"), "there is no systemd")
        super().__init__(PROGRAMS, ["nbd"])
        self.run("until systemctl -q is-active basic.target; "
                 "do sleep 0.2; done")

    def fill(self, tree):
        folder = tree + SYSTEMD
        os.makedirs(folder)
        for name in "system", "system-preset":
            shutil.copytree(os.path.join(SYSTEMD, name),
                            os.path.join(folder, name), symlinks=True)
        for name in HELPERS:
            if os.path.exists(os.path.join(SYSTEMD, name)):
                guest.add_program(tree, os.path.join(SYSTEMD, name),
                                  folder[len(tree) + 1:])
        # Only these of the system's own: the guest lacks what others want.
        for name in "sysusers.d", "tmpfiles.d":
            os.makedirs(os.path.join(tree, "usr/lib", name))
        plugin = os.path.join(module_folder("plugin"),
                              "nbdkit-%s-plugin.so")
        for name in "file", "null":
            copy = tree + plugin % name
            os.makedirs(os.path.dirname(copy), exist_ok=True)
            shutil.copy(plugin % name, copy)
            guest.add_libraries(tree, copy)
        install(tree)
        make_other(tree)
        for name in "wtcachectl", "wtcache-top":
            guest.add_libraries(tree, os.path.join(tree, "usr/bin", name))
        guest.add_libraries(tree, tree + os.path.join(
            module_folder("filter"), FILTER))
        for name in "etc/systemd/system", "srv/wtcache", "var/lib", "root":
            os.makedirs(os.path.join(tree, name))
        for name in LEFT_OUT:
            os.symlink("/dev/null", os.path.join(
                tree, "etc/systemd/system", name))
        for name, text in FILES.items():
            with open(os.path.join(tree, name), "w", encoding="ascii") as f:
                f.write(text)

    def put(self, path, *lines):
        self.run("printf '%%s\\n' %s >%s" % (
            " ".join("'%s'" % line for line in lines), path))

    def state(self, unit):
        """Result and ActiveState, as in "exit-code failed"."""
        return self.run(self.state_command(unit))

    def state_command(self, unit):
        return ("echo $(systemctl show --value -p ActiveState -p Result %s)"
                % unit)

    def wait_for_state(self, unit, state):
        self.run("until [ \"$(%s)\" = \"%s\" ]; do sleep 0.2; done"
                 % (self.state_command(unit), state))

    def log(self, unit):
        return self.run("journalctl --no-pager -o cat -u " + unit)

    def attach(self, name="disk"):
        self.run("nbd-client -unix /run/wtcache/%s.sock %s -b 4096 -C 2"
                 % (name, DEVICE))

    def disconnect(self):
        """Of a device whose server may have gone."""
        self.run("nbd-client -d %s; while [ -e /sys/block/nbd0/pid ]; "
                 "do sleep 0.1; done" % DEVICE)

    def write(self, letter, blocks, more=""):
        """Blocks of 4096 such letters, past the guest's own cache.  The
        kernel sends no flush for them."""
        self.run("head -c %d /dev/zero | tr '\\0' %s | dd of=%s bs=4096 "
                 "oflag=direct conv=notrunc %s 2>&1"
                 % (blocks * 4096, letter, DEVICE, more))

    def is_on_disk(self, letter, blocks, path="/srv/wtcache/disk.img"):
        return self.run("head -c %d %s | tr -d %s | wc -c" % (
            blocks * 4096, path, letter)) == "0"


def check_installed(machine):
    """Nothing is started or enabled, and the user and the folders are
    there after a boot."""
    said = machine.run("systemctl list-units --all --plain --no-legend "
                       "'wtcache*'")
    assert said == "", said
    said = machine.run("systemctl is-enabled wtcache@disk.socket",
                       status=None)
    assert said == "disabled", said
    machine.run("grep -q ^wtcache: /etc/passwd && grep -q ^kvm: /etc/group")
    said = machine.run("stat -c '%U %a' /run/wtcache /etc/wtcache")
    assert said == "wtcache 755\nroot 755", said


def serve(machine):
    """The first hour, as docs/operations.md has it."""
    machine.run("cp /usr/share/wtcache/disk.conf /etc/wtcache/disk.conf")
    machine.run("sed -i 's/^OPTIONS=.*/OPTIONS=wtcache-key=all "
                "wtcache-size=64M wtcache-dirty-age=1h/' "
                "/etc/wtcache/disk.conf")
    machine.run("truncate -s 64M /srv/wtcache/disk.img && "
                "chown wtcache /srv/wtcache/disk.img")
    machine.run("systemctl enable --now wtcache@disk.socket 2>&1")
    assert machine.state("wtcache@disk")== "success inactive"
    machine.attach()
    assert machine.state("wtcache@disk") == "success active"
    said = machine.run("stat -c '%G %a' /run/wtcache/disk.sock")
    assert said == "kvm 660", said
    machine.write("a", 100)
    machine.run("wtcachectl disk status", status=3)
    assert not machine.is_on_disk("a", 100)
    machine.run("wtcachectl flush")
    machine.run("wtcachectl status")
    assert machine.is_on_disk("a", 100)
    assert "disk" in machine.run("wtcachectl list")
    # node_exporter runs as another user.
    said = machine.run("stat -c '%U %a' /run/wtcache/disk.prom")
    assert said == "wtcache 644", said
    machine.run("wtcache-top --once /run/wtcache/disk.prom")


def ask_for_statistics(machine):
    """Over HTTP."""
    machine.run("systemctl start wtcache-metrics.socket")
    for query in "", "?server=disk":
        said = machine.run("busybox wget -q -O - "
                           "'http://127.0.0.1:9748/metrics%s'" % query)
        assert 'wtcache_connections{server="disk"' in said, said


def change_parameters(machine):
    """While the client is attached."""
    machine.run("wtcachectl disk set size 32M")
    machine.run("wtcachectl disk set mode writethrough")
    machine.write("b", 10)
    assert machine.is_on_disk("b", 10), "it did not go through"
    machine.run("wtcachectl disk set mode writeback")
    said = machine.run("wtcachectl disk get size")
    assert re.search(r"32M", said), said


def stop_with_dirty_data(machine):
    """The drain begins at once, and the unit ends when the client has
    left: with success, because all is on the disk."""
    machine.write("c", 200)
    assert not machine.is_on_disk("c", 200)
    machine.run("systemctl stop --no-block wtcache@disk.service")
    wt.wait_until(lambda: machine.is_on_disk("c", 200),
                  "what was dirty is on the disk", timeout=60)
    assert machine.state("wtcache@disk") == "success deactivating"
    machine.disconnect()
    machine.wait_for_state("wtcache@disk.service", "success inactive")


def crash(machine):
    """The unit fails and is not started again while its clients are
    attached; what was flushed is there, and the next client gets a server."""
    machine.attach()
    machine.write("d", 50, "conv=notrunc,fsync")
    machine.write("e", 20)
    machine.run("systemctl kill -s KILL wtcache@disk.service")
    machine.wait_for_state("wtcache@disk.service", "signal failed")
    machine.disconnect()
    assert machine.is_on_disk("d", 50)
    machine.attach()
    machine.wait_for_state("wtcache@disk.service", "success active")
    assert machine.run("head -c 4 " + DEVICE) == "dddd"
    machine.disconnect()
    machine.run("systemctl stop wtcache@disk.service")
    machine.wait_for_state("wtcache@disk.service", "success inactive")


def lose(machine):
    """A disk that refuses until the end of the drain: the unit fails, and
    the next start logs what was lost."""
    machine.run("mkdir /srv/wtcache/full && "
                "mount -t tmpfs -o size=1M none /srv/wtcache/full")
    machine.run("truncate -s 64M /srv/wtcache/full/disk.img && "
                "chown wtcache /srv/wtcache/full/disk.img")
    machine.put("/etc/wtcache/full.conf",
                "BACKEND=file /srv/wtcache/full/disk.img",
                "OPTIONS=wtcache-key=all wtcache-drain=1s "
                "wtcache-dirty-age=1h")
    machine.run("systemctl start wtcache@full.socket")
    machine.attach("full")
    # More than the disk takes, and too little for write-back to begin.
    machine.write("f", 400)
    machine.run("systemctl stop --no-block wtcache@full.service")
    wt.wait_until(lambda: "LOST" in machine.log("wtcache@full"),
                  "the log says that data is lost", timeout=60)
    machine.disconnect()
    machine.wait_for_state("wtcache@full.service", "exit-code failed")
    machine.run("umount /srv/wtcache/full && "
                "truncate -s 64M /srv/wtcache/full/disk.img && "
                "chown wtcache /srv/wtcache/full/disk.img")
    before = machine.log("wtcache@full").count("LOST")
    machine.attach("full")
    machine.wait_for_state("wtcache@full.service", "success active")
    said = machine.log("wtcache@full")
    assert said.count("LOST") > before, said
    machine.disconnect()
    machine.run("systemctl stop wtcache@full.service")
    machine.wait_for_state("wtcache@full.service", "success inactive")


def upgrade(machine):
    """With another nbdkit than that of the build the unit fails, and its
    log says what to do."""
    path = os.path.join(module_folder("filter"), FILTER)
    machine.run("mv %s /kept.so && cp /other.so %s" % (path, path))
    machine.run("systemctl start wtcache@disk.service", status=None)
    machine.wait_for_state("wtcache@disk.service", "exit-code failed")
    said = machine.log("wtcache@disk.service")
    assert "install the wtcache that was built with it" in said, said
    machine.run("mv /kept.so %s && systemctl reset-failed" % path)
    machine.run("systemctl start wtcache@disk.socket")
    machine.attach()
    machine.wait_for_state("wtcache@disk.service", "success active")
    machine.disconnect()
    machine.run("systemctl stop wtcache@disk.service")
    said = machine.log("wtcache@disk.service")
    assert said.count("was built with it") == 1, said


@tap.timeout(400)
def test_service():
    with Machine() as machine:
        check_installed(machine)
        serve(machine)
        ask_for_statistics(machine)
        change_parameters(machine)
        stop_with_dirty_data(machine)
        crash(machine)
        lose(machine)
        upgrade(machine)


wt.main()
