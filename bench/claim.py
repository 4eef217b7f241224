# SPDX-License-Identifier: BSD-3-Clause
"""claim.py DISK COMMAND...: runs the command while nothing else on this
machine may use the disk.

A block device is opened with O_EXCL, which the kernel refuses while the device
or one of its partitions is mounted, swapped to, or a part of RAID or LVM, and
which keeps others from doing that later.  An image gets the lock that QEMU
looks for, and must not be behind a loop device.  The command inherits the
descriptor that holds the claim.  Where the disk is in use this ends with
status 1 and one line that says by what."""

import errno
import fcntl
import glob
import os
import stat
import struct
import sys

F_OFD_SETLK = 37


def first_line(path):
    try:
        with open(path, encoding="utf-8", errors="replace") as f:
            return f.readline().rstrip("\n")
    except OSError:
        return ""


def mounts(device):
    """Where a device, "MAJOR:MINOR", is mounted."""
    with open("/proc/self/mountinfo", encoding="utf-8",
              errors="replace") as f:
        words = [line.split(" ") for line in f]
    return [word[4] for word in words if word[2] == device]


def users(device):
    """The users of a device or its partitions, as far as they can be seen."""
    found = []
    here = "/sys/dev/block/" + device
    for folder in [here] + [os.path.dirname(path) for path in
                            glob.glob(here + "/*/partition")]:
        name = os.path.basename(os.path.realpath(folder))
        found += ["/dev/%s is mounted at %s" % (name, where)
                  for where in mounts(first_line(folder + "/dev"))]
        found += ["/dev/%s is a part of %s" % (name, os.path.basename(holder))
                  for holder in glob.glob(folder + "/holders/*")]
    return found


def claim_device(disk):
    try:
        return os.open(disk, os.O_RDONLY | os.O_EXCL)
    except OSError as error:
        if error.errno != errno.EBUSY:
            sys.exit("%s: %s" % (disk, os.strerror(error.errno)))
    number = os.stat(disk).st_rdev
    found = users("%d:%d" % (os.major(number), os.minor(number)))
    sys.exit("%s is in use%s" % (disk, found and ": " + ", ".join(found)
                                 or ""))


def claim_image(disk):
    for path in glob.glob("/sys/block/loop*/loop/backing_file"):
        if first_line(path) == os.path.realpath(disk):
            sys.exit("%s is in use: /dev/%s is a loop device of it"
                     % (disk, path.split("/")[3]))
    held = os.open(disk, os.O_RDWR)
    lock = struct.pack("hhqqi", fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0)
    try:
        fcntl.fcntl(held, F_OFD_SETLK, lock)
    except OSError as error:
        # A file system without locks has none that could be respected.
        if error.errno in (errno.EAGAIN, errno.EACCES):
            sys.exit("%s is in use: another program has locked it" % disk)
    return held


def main():
    disk, command = sys.argv[1], sys.argv[2:]
    is_device = stat.S_ISBLK(os.stat(disk).st_mode)
    held = (claim_device if is_device else claim_image)(disk)
    os.set_inheritable(held, True)
    os.execvp(command[0], command)


main()
