# SPDX-License-Identifier: BSD-3-Clause
"""Short words over wt.py for the bytes of a disk."""

import wt

K = 1024
M = K * K
G = K * M


def with_dashes(options):
    return {key.replace("_", "-"): value for key, value in options.items()}


def disk(**options):
    """A server of the disk alone; underscores in names become dashes."""
    return wt.Server(disk_options=with_dashes(options))


def expect(found, wanted, what=""):
    assert found == wanted, "%s%.2000r instead of %.2000r" % (
        what and what + ": ", found, wanted)


def put(h, offset, length, version, flags=0):
    h.pwrite(wt.pattern(offset, length, version), offset, flags)


def put_error(h, offset, length, version, flags=0):
    """The errno of a write."""
    return wt.errno_of(put, h, offset, length, version, flags)


def begin_put(h, offset, length, version, flags=0):
    return wt.start(h, "pwrite", wt.pattern(offset, length, version), offset,
                    flags)


def seen(h, offset, length):
    """The versions of the blocks that a client reads."""
    return wt.versions(h.pread(length, offset), offset)


def durable(server, offset, length, export=None):
    return wt.versions(server.durable(offset, length, export), offset)
