# SPDX-License-Identifier: BSD-3-Clause
"""The kernel's client in a guest, and a server on this machine that it
attaches to: the steps that the tests of both are made of.

The server is the filter over the tests' disk.  Data that it has not made
durable is lost when it is killed, as if the power had failed under a disk with
a volatile cache: the guest lives on and knows what it was promised.

Environment:
  WT_SEED  the seed of the storms and of the moments of the kills
  WTSTORM  the program storm (else that of the built tree)
"""

import os
import random
import socket
import subprocess

import guest
import tap
import wt

DEVICE = "/dev/nbd0"
STATE = "/run/storm"        # in the memory of the guest
WORKERS = 4                 # of a storm

# Less memory than the file system writes, so that pages are evicted, and a
# disk that is slow enough for much to be under way at any moment.
FILTER = {"wtcache-size": "8M", "wtcache-dirty-age": "500ms"}
DISK = {"size": "384M", "write-latency": "1ms", "flush-latency": "3ms"}


class Kind:
    """A kind of file system: how it is made, judged and how it recovers."""

    def __init__(self, name, make, check, recovered, programs, modules):
        self.name = name
        self.make = make
        self.check = check
        self.recovered = recovered
        self.programs = programs
        self.modules = modules


EXT4 = Kind("ext4", "mkfs.ext4 -q -b 4096", "e2fsck -fn",
            "EXT4-fs (nbd0): recovery complete",
            ["mkfs.ext4", "e2fsck"], [])
XFS = Kind("xfs", "mkfs.xfs -q -f", "xfs_repair -n",
           "XFS (nbd0): Ending recovery",
           ["mkfs.xfs", "xfs_repair"], ["xfs"])


def storm_path():
    return wt.module_path("WTSTORM", "tests", "vm", "storm")


def new_random():
    """Numbers from a seed, which is told."""
    seed = int(os.environ.get("WT_SEED") or random.SystemRandom().
               randrange(1 << 32))
    tap.comment("WT_SEED=%d" % seed)
    return random.Random(seed)


def free_port():
    """A port on which no server listens.

    It is not one of those that the system gives to connections, since it
    must be free again when the server is started another time.
    """
    while True:
        port = random.SystemRandom().randrange(20000, 32000)
        with socket.socket() as s:
            s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                s.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port


class Server(wt.Server):
    """A server on a port of 127.0.0.1, the same one at each start."""

    def __init__(self, filter_options=None, disk_options=None, **others):
        self.port = free_port()
        super().__init__(
            dict(FILTER, **(filter_options or {})),
            dict(DISK, **(disk_options or {})), **others)

    def command(self):
        command = super().command()
        at = command.index("-U")
        command[at:at + 2] = ["-i", "127.0.0.1", "-p", str(self.port)]
        return command


class Machine(guest.Guest):
    """A guest that attaches to a server."""

    def __init__(self, server, kind=EXT4, programs=(), modules=()):
        self.server = server
        self.kind = kind
        super().__init__(["nbd-client", storm_path()] + kind.programs
                         + list(programs),
                         ["nbd"] + kind.modules + list(modules))

    # The device.

    def attach_command(self, connections, sector):
        return "nbd-client -N '' 10.0.2.2 %d %s -b %d -C %d" % (
            self.server.port, DEVICE, sector, connections)

    def attach(self, connections=1, sector=512):
        self.run(self.attach_command(connections, sector))
        found = self.server.stats()["connected"]
        assert found == connections, "%d connections" % found

    def disconnect(self):
        """Also where the server has gone: what the device has in flight
        fails then, and else would wait for another connection for ever."""
        self.run("nbd-client -d " + DEVICE)

    def wait_until_free(self):
        """Until the device can be attached again; nothing may use it."""
        self.run("while [ -e /sys/block/nbd0/pid ]; do sleep 0.1; done")

    def detach(self):
        self.disconnect()
        self.wait_until_free()

    # The file system.

    def make(self):
        self.run("%s %s" % (self.kind.make, DEVICE))

    def mount(self, options=""):
        self.run("dmesg -c >/dev/null; mount -t %s %s %s /mnt" % (
            self.kind.name, options and "-o " + options, DEVICE))

    def unmount(self):
        self.run("umount /mnt")

    def check(self):
        self.run("%s %s" % (self.kind.check, DEVICE), timeout=300)

    def recovered(self):
        """Whether the last mount replayed the journal."""
        return self.kind.recovered in self.run("dmesg")

    def trim(self):
        """fstrim, which must reach the disk."""
        before = self.server.stats()["trim"]
        self.run("fstrim /mnt")
        assert self.server.stats()["trim"] > before, "nothing was trimmed"

    # The storm.

    def begin_storm(self, seed):
        self.run("storm run %s /mnt %d >/run/log 2>&1 &" % (STATE, seed))

    def wait_for_storm(self, promises):
        self.run("storm wait %s %d" % (STATE, promises), timeout=300)

    def end_storm(self):
        self.run("storm stop %s; cat /run/log" % STATE)

    def join_storm(self):
        """It ends by itself, since the disk is lost."""
        self.run("storm join " + STATE, timeout=300)
        text = self.run("cat /run/log")
        assert text.count("ends: ") == WORKERS, "the storm goes on:\n" + text

    def check_storm(self):
        self.run("storm check %s /mnt" % STATE, timeout=300)

    # Both.

    def lose_server(self, rng):
        """Kills the server in the middle of a storm."""
        self.begin_storm(rng.randrange(1 << 32))
        self.wait_for_storm(rng.randrange(100, 400))
        self.server.kill()
        self.disconnect()
        self.join_storm()
        self.unmount()
        self.wait_until_free()


def check_image(server, kind):
    """The bytes of the disk once the server has ended, by this machine's
    own program."""
    done = subprocess.run(
        kind.check.split() + [server.durable_file], stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, text=True)
    assert done.returncode == 0, done.stdout


def survive_kills(server, machine, rng, kills, connections=1, sector=512,
                  options=""):
    """Storms, each ended by a kill -9 of the server; then all is well.

    The device is not attached before and not after.
    """
    machine.attach(connections, sector)
    machine.make()
    machine.mount(options)
    for _ in range(kills):
        machine.lose_server(rng)
        server.start()
        machine.attach(connections, sector)
        machine.mount(options)
        assert machine.recovered(), "the journal was not replayed"
        machine.check_storm()
        machine.trim()
        machine.unmount()
        machine.check()
        machine.mount(options)
        machine.check_storm()
    machine.unmount()
    machine.detach()
