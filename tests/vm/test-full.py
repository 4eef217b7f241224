#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""The kernel's client, at length: ext4 and xfs, one and several connections,
the modes of the cache and the kinds of disks, programs that verify what they
wrote, and servers that are killed again and again.

Arguments are names of tests.  WT_ROUNDS is the number of kills of each."""

import os
import sys

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)),
                                "..", "lib"))

import tap  # noqa: E402
import wt  # noqa: E402
from client import (  # noqa: E402
    DEVICE, EXT4, Machine, Server, XFS, check_image, new_random,
    survive_kills)

ROUNDS = int(os.environ.get("WT_ROUNDS", "3"))

FIO = ("fio --output-format=terse --directory=/mnt --size=%s --numjobs=%d "
       "--name=v --thread --group_reporting --verify=crc32c --verify_fatal=1 "
       "--do_verify=1 --verify_backlog=256 --randrepeat=0 --randseed=%d ")


def kill_again_and_again(kind, connections, sector=512, options="",
                         filter_options=None, disk_options=None, args=()):
    rng = new_random()
    with Server(filter_options, disk_options, args=args) as server:
        with Machine(server, kind) as machine:
            survive_kills(server, machine, rng, ROUNDS, connections, sector,
                          options)
        server.stop()
        check_image(server, kind)


# Kills.

@tap.timeout(1200)
def test_ext4_one_connection():
    kill_again_and_again(EXT4, 1)


@tap.timeout(1200)
def test_ext4_several_connections():
    kill_again_and_again(EXT4, 2, 4096)


@tap.timeout(1200)
def test_xfs_one_connection():
    kill_again_and_again(XFS, 1)


@tap.timeout(1200)
def test_xfs_several_connections():
    kill_again_and_again(XFS, 4, 4096)


@tap.timeout(1200)
def test_data_in_the_journal_and_trims_at_once():
    """ext4 writes file data to its journal, and trims what is removed."""
    kill_again_and_again(EXT4, 2, options="data=journal,discard")


@tap.timeout(1200)
def test_disk_without_fua():
    kill_again_and_again(EXT4, 2, disk_options={"fua": "emulate"})


@tap.timeout(1200)
def test_disk_that_serves_one_request_at_a_time():
    kill_again_and_again(EXT4, 1, disk_options={
        "thread-model": "serialize-all-requests"})


@tap.timeout(1200)
def test_disk_with_large_blocks():
    kill_again_and_again(XFS, 2, disk_options={
        "block-min": "4096", "block-preferred": "65536"})


@tap.timeout(1200)
def test_disk_without_zero_and_trim():
    rng = new_random()
    options = {"zero": "no", "fast-zero": "no", "trim": "no"}
    with Server(disk_options=options) as server:
        with Machine(server) as machine:
            machine.attach()
            machine.make()
            machine.mount()
            machine.lose_server(rng)
            server.start()
            machine.attach()
            machine.mount()
            machine.check_storm()
            machine.run("fstrim /mnt", status=1)
            machine.unmount()
            machine.check()
            machine.detach()
        server.stop()
        check_image(server, EXT4)


@tap.timeout(1200)
def test_mode_writethrough():
    kill_again_and_again(EXT4, 2, filter_options={
        "wtcache-mode": "writethrough"})


@tap.timeout(1200)
def test_mode_writearound():
    kill_again_and_again(XFS, 2, filter_options={
        "wtcache-mode": "writearound"})


@tap.timeout(1200)
def test_smallest_cache():
    kill_again_and_again(XFS, 2, filter_options={"wtcache-size": "1M"})


@tap.timeout(1200)
def test_large_pages():
    kill_again_and_again(EXT4, 2, filter_options={
        "wtcache-page-size": "64K"})


# Verified loads, and what a client sees of them after a kill.

def verify(kind, connections):
    seed = new_random().randrange(1 << 32)
    with Server() as server:
        with Machine(server, kind, ["fio"]) as machine:
            machine.attach(connections)
            machine.make()
            machine.mount()
            # Each in its own way: direct and deep, buffered with a storm of
            # fsync, and sequential in pieces that are no whole pages.
            for words in ("--rw=randwrite --bs=4k --direct=1 --iodepth=16 "
                          "--ioengine=libaio --fsync=32",
                          "--rw=randwrite --bsrange=512-32k --bs_unaligned "
                          "--ioengine=psync --fsync=1",
                          "--rw=write --bs=19k --ioengine=psync --fsync=16"):
                machine.run("rm -f /mnt/v*; " + FIO % ("2m", 3, seed)
                            + words, timeout=300)
                machine.run("sync; echo 3 >/proc/sys/vm/drop_caches")
                machine.run(FIO % ("2m", 3, seed) + words + " --verify_only",
                            timeout=300)
            machine.run("md5sum /mnt/v* >/run/sums")
            machine.run("sync; rm /mnt/v.0.0; sync; "
                        "sed -i /v.0.0/d /run/sums")
            machine.trim()
            server.kill()
            machine.disconnect()
            # An unmount of a disk that was lost may say so.
            machine.run("touch /mnt/x; sync; umount /mnt", status=None)
            machine.wait_until_free()
            server.start()
            machine.attach(connections)
            machine.mount()
            machine.run("md5sum -c /run/sums && ! [ -e /mnt/v.0.0 ]")
            machine.unmount()
            machine.check()
            # The disk itself, without a file system.
            machine.run(FIO.replace("--directory=/mnt", "--filename=" + DEVICE)
                        % ("24m", 1, seed) + "--rw=randwrite --bsrange=512-64k "
                        "--direct=1 --iodepth=16 --ioengine=libaio "
                        "--fsync=64", timeout=300)
            machine.detach()
        server.stop()


@tap.timeout(1200)
def test_verify_ext4():
    verify(EXT4, 1)


@tap.timeout(1200)
def test_verify_xfs_several_connections():
    verify(XFS, 4)


# The offered abilities.

@tap.timeout(600)
def test_several_connections_only_where_shared():
    """Connections with caches of their own are not offered as one device."""
    with Server({"wtcache-share": "never"}) as server:
        with Machine(server) as machine:
            machine.run(machine.attach_command(2, 512), status=1)
            said = machine.run("dmesg -c")
            assert "does not support multiple connections" in said, said
            machine.wait_until_free()
            machine.attach(1)
            machine.make()
            machine.mount()
            machine.begin_storm(1)
            machine.wait_for_storm(100)
            machine.end_storm()
            machine.unmount()
            machine.check()
            machine.mount()
            machine.check_storm()
            machine.unmount()
            machine.detach()
        server.stop()
        check_image(server, EXT4)


@tap.timeout(600)
def test_read_only():
    """A device that is attached to a read-only server can be read."""
    with Server() as server:
        with Machine(server) as machine:
            machine.attach()
            machine.make()
            machine.mount()
            machine.begin_storm(1)
            machine.wait_for_storm(100)
            machine.end_storm()
            machine.unmount()
            machine.detach()
            server.stop()
            server.args = ["-r"]
            server.start()
            machine.attach(2)
            assert machine.run("cat /sys/block/nbd0/ro") == "1"
            machine.mount("ro")
            machine.check_storm()
            machine.unmount()
            machine.check()
            machine.detach()
        server.stop()


wt.main()
