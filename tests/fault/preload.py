# SPDX-License-Identifier: BSD-3-Clause
"""The library in the server, and the page that it shares with us: a
file of numbers of 64 bits that both have mapped."""

import mmap
import os
import struct

from seeds import wt


class Page:
    """Named numbers in a file; reading and setting them needs no call of the
    server."""

    def __init__(self, path, names):
        self.path = path
        self.names = names
        with open(path, "wb") as f:
            f.truncate(mmap.PAGESIZE)
        with open(path, "r+b") as f:
            self.memory = mmap.mmap(f.fileno(), mmap.PAGESIZE)

    def __getitem__(self, name):
        return struct.unpack_from("<q", self.memory,
                                  8 * self.names.index(name))[0]

    def __setitem__(self, name, value):
        struct.pack_into("<q", self.memory, 8 * self.names.index(name), value)


def module(name):
    """A module beside this file that is built for the server."""
    return wt.module_path("", "tests", "fault", ".libs", name + ".so")


def with_others(name):
    """The value of LD_PRELOAD, with what a sanitizer needs before it."""
    return " ".join(os.environ.get("WT_LD_PRELOAD", "").split()
                    + [module(name)])


def require_bare():
    """A sanitizer has an allocator of its own in place of that of libc."""
    for name in "WT_LD_PRELOAD", "WT_NBDKIT_WRAPPER", "WT_NBDKIT":
        wt.require(not os.environ.get(name), name + " is in the way")
