# SPDX-License-Identifier: BSD-3-Clause
"""A Ceph cluster of one node, of one monitor and one OSD (the daemon that has
the data), and RBD images in it, served over NBD in two ways.

    with ceph.Cluster() as cluster:
        image = cluster.create("disk", 32 << 20)
        with image.serve("qemu-nbd", {"wtcache-size": "8M"}) as server:
            server.connect().pwrite(b"x" * 4096, 0, wt.FUA)
            assert image.read(0, 4096) == b"x" * 4096

It uses fixed ports of 127.0.0.1, which tests/cluster/run keeps free.
Image.read reads from the OSD, by a client of its own, without a cache.
"""

import json
import os
import shutil
import signal
import subprocess
import uuid

import rados
import rbd

import tap
import wt

HERE = os.path.dirname(os.path.abspath(__file__))
PLUGIN = os.path.join(HERE, "..", "..", "packaging", "ceph", "rbd-plugin.py")
POOL = "rbd"
ADDRESSES = "[v2:127.0.0.1:3300,v1:127.0.0.1:6789]"

# One copy of everything: what is lost by the only OSD is seen to be lost.
CONFIGURATION = """
[global]
fsid = {fsid}
mon host = {addresses}
auth cluster required = none
auth service required = none
auth client required = none
osd pool default size = 1
osd pool default min size = 1
mon allow pool size one = true
osd crush chooseleaf type = 0
mon data avail warn = 1
mon data avail crit = 0
run dir = {folder}
log file = {folder}/$name.log
admin socket = {folder}/$name.$pid.asok
pid file =
mon data = {folder}/mon
osd data = {folder}/osd
osd objectstore = bluestore
bluestore block size = 8589934592
bluestore cache autotune = false
bluestore cache size = 268435456
"""

MODULES = """
plugin dir = {modules}/ceph
erasure code dir = {modules}/ceph/erasure-code
osd class dir = {modules}/rados-classes
"""


class Cluster:
    """Started by with, and gone after it."""

    def __init__(self):
        self.folder = os.environ["WT_CLUSTER_FOLDER"] + "/ceph"
        self.daemons = {}
        self.client = None
        self.helpers = []

    def path(self, name):
        return os.path.join(self.folder, name)

    def __enter__(self):
        shutil.rmtree(self.folder, ignore_errors=True)
        os.makedirs(self.path("mon"))
        os.makedirs(self.path("osd"))
        os.environ["CEPH_CONF"] = self.path("ceph.conf")
        try:
            self.make()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        self.forget_helpers()
        # The monitor and the OSD go first: a client waits for them no more.
        for process in self.daemons.values():
            process.kill()
            process.wait()
        self.daemons.clear()

    # Commands.

    def run(self, *command, timeout=120, check=True):
        """Its standard output; without check, what subprocess.run returns."""
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, text=True,
            timeout=timeout * tap.SCALE, check=False)
        if not check:
            return done
        assert done.returncode == 0, "%s: %s" % (" ".join(command),
                                                 done.stderr)
        return done.stdout

    def make(self):
        fsid = str(uuid.uuid4())
        text = CONFIGURATION.format(fsid=fsid, addresses=ADDRESSES,
                                    folder=self.folder)
        if "WT_CEPH_MODULES" in os.environ:
            text += MODULES.format(modules=os.environ["WT_CEPH_MODULES"])
        with open(self.path("ceph.conf"), "w", encoding="ascii") as f:
            f.write(text)
        self.run("monmaptool", "--create", "--fsid", fsid, "--addv", "a",
                 ADDRESSES, self.path("monmap"))
        self.run("ceph-mon", "--mkfs", "-i", "a", "--monmap",
                 self.path("monmap"), "--keyring", "/dev/null")
        self.start("ceph-mon", "a")
        osd = str(uuid.uuid4())
        assert self.run("ceph", "osd", "new", osd).strip() == "0"
        self.run("ceph-osd", "--mkfs", "-i", "0", "--osd-uuid", osd)
        self.start_osd()
        self.run("ceph", "osd", "pool", "create", POOL, "8")
        self.run("rbd", "pool", "init", POOL)

    def start(self, program, name):
        with open(self.path(program + ".out"), "ab") as out:
            self.daemons[program] = subprocess.Popen(
                [program, "-f", "-i", name], stdin=subprocess.DEVNULL,
                stdout=out, stderr=out)

    # The OSD.

    def start_osd(self):
        self.start("ceph-osd", "0")

    def stop_osd(self):
        """It stands still; no client is told."""
        self.daemons["ceph-osd"].send_signal(signal.SIGSTOP)

    def continue_osd(self):
        self.daemons["ceph-osd"].send_signal(signal.SIGCONT)

    def kill_osd(self):
        self.daemons["ceph-osd"].kill()
        self.daemons["ceph-osd"].wait()

    def osd_is_up(self):
        found = json.loads(self.run("ceph", "osd", "dump", "-f", "json"))
        return (self.daemons["ceph-osd"].poll() is None
                and found["osds"][0]["up"] == 1)

    def recover(self):
        """Lets the OSD run again, whatever a test has done to it."""
        if self.daemons["ceph-osd"].poll() is not None:
            self.start_osd()
        self.continue_osd()

    # Images.

    def pool(self):
        if self.client is None:
            self.client = rados.Rados(conffile=self.path("ceph.conf"))
            self.client.conf_set("rbd_cache", "false")
            self.client.connect()
        return self.client.open_ioctx(POOL)

    def create(self, name, size):
        """A new image, which has an exclusive lock for a client that asks."""
        self.run("rbd", "create", "--size", "%dB" % size, "--image-feature",
                 "layering,exclusive-lock", "%s/%s" % (POOL, name))
        return Image(self, name)

    def forget_helpers(self):
        for process in self.helpers:
            process.kill()
            process.wait()
        self.helpers.clear()


class Image:
    """An image, or a snapshot of one (NAME@SNAPSHOT)."""

    def __init__(self, cluster, name):
        self.cluster = cluster
        self.name = name

    @property
    def full_name(self):
        return "%s/%s" % (POOL, self.name)

    def open(self, read_only=True):
        """A handle of librbd."""
        name, _, snapshot = self.name.partition("@")
        return rbd.Image(self.cluster.pool(), name, snapshot or None,
                         read_only=read_only)

    def read(self, offset, length):
        """The bytes that the OSD has."""
        with self.open() as image:
            return image.read(offset, length)

    def fill(self, chunk=4 << 20):
        """Random bytes, so that nothing of it is a hole."""
        with self.open(read_only=False) as image:
            for offset in range(0, image.size(), chunk):
                image.write(os.urandom(chunk), offset)

    def watchers(self):
        """The addresses of the clients that have it open for writing."""
        found = json.loads(self.cluster.run(
            "rbd", "status", self.full_name, "--format", "json"))
        return [watcher["address"] for watcher in found["watchers"]]

    def start_qemu_nbd(self, readonly=False):
        """qemu-nbd of it; its process and its socket."""
        socket = self.cluster.path("qemu-nbd.%s" % uuid.uuid4().hex[:8])
        with open(socket + ".out", "wb") as out:
            process = subprocess.Popen(
                ["qemu-nbd", "-f", "raw", "--cache=none", "-e", "8", "-t",
                 "-k", socket] + (["-r"] if readonly else [])
                + ["rbd:" + self.full_name], stdin=subprocess.DEVNULL,
                stdout=out, stderr=out)
        self.cluster.helpers.append(process)
        wt.wait_until(lambda: wt.listens(socket), "qemu-nbd serves", 60)
        return process, socket

    def serve(self, kind, options, readonly=False):
        """A server of it with the cache; options None: without."""
        args = ["-r"] if readonly else []
        if kind == "plugin":
            return wt.Server(options, args=args, plugin=[
                "python", PLUGIN, "image=" + self.full_name])
        _, socket = self.start_qemu_nbd(readonly)
        return wt.Server(options, args=args,
                         plugin=["nbd", "socket=" + socket])
