# SPDX-License-Identifier: BSD-3-Clause
"""The requests of two clients while requests to the backend fail.

They act in turn.  The second only asks for what the cache has to answer by
itself, and so never sees an error.  Acknowledged writes stay, failed ones may
have happened or not.  When the faults are over a flush succeeds; then both
clients and the durable image agree.
"""

import errno

from seeds import wt

K = 1024
AREA = 256 * K
BLOCK = wt.BLOCK
MOST = 1 << 40


class Shadow:
    """The versions that each block may have; None: any, after a trim.

    settles: what has been seen of a block stays, though a write of it failed.
    """

    def __init__(self, settles=True):
        self.settles = settles
        self.blocks = {n: {0} for n in range(AREA // BLOCK)}
        self.failed = set()     # blocks of which the last change has

    def change(self, offset, length, version, failed):
        for n in range(offset // BLOCK, (offset + length) // BLOCK):
            if failed:
                self.failed.add(n)
            else:
                self.failed.discard(n)
            if version is None:
                self.blocks[n] = None
            elif not failed:
                self.blocks[n] = {version}
            elif self.blocks[n] is not None:
                self.blocks[n] = self.blocks[n] | {version}

    def check(self, data, offset, what):
        for n, version in enumerate(wt.versions(data, offset),
                                    offset // BLOCK):
            assert version is not None, "%s: block %d is torn" % (what, n)
            allowed = self.blocks[n]
            assert allowed is None or version in allowed, (
                "%s: block %d has version %d instead of %s" % (
                    what, n, version, sorted(allowed)))
            if allowed is not None and self.settles:
                self.blocks[n] = {version}    # one value for all from now on


class Scenario:
    def __init__(self, server):
        self.server = server
        self.first = server.connect()
        self.second = server.connect()
        self.shadow = Shadow()
        self.version = 0
        self.failures = []

    def attempt(self, what, *args):
        """Calls the first client; whether it failed."""
        error = wt.errno_of(getattr(self.first, what), *args)
        assert error in (0, errno.EIO), (
            "%s: %s" % (what, errno.errorcode.get(error, error)))
        if error:
            self.failures.append(what)
        return bool(error)

    def write(self, offset, length, flags=0):
        self.version += 1
        failed = self.attempt(
            "pwrite", wt.pattern(offset, length, self.version), offset, flags)
        self.shadow.change(offset, length, self.version, failed)

    def zero(self, offset, length, flags=0):
        failed = self.attempt("zero", length, offset, flags)
        self.shadow.change(offset, length, 0, failed)

    def trim(self, offset, length):
        failed = self.attempt("trim", length, offset)
        self.shadow.change(offset, length, None, failed)

    def read(self, offset, length):
        try:
            data = self.first.pread(length, offset)
        except wt.nbd.Error as error:
            assert error.errnum == errno.EIO, error
            self.failures.append("pread")
            return
        self.shadow.check(data, offset, "read")

    def flush(self):
        return self.attempt("flush")

    def look(self):
        """The second client reads what was never anything but cached."""
        data = self.second.pread(16 * K, 224 * K)
        self.shadow.check(data, 224 * K, "the other client")

    def run(self):
        """Every path to the backend, and each over what the others left."""
        self.write(0, 32 * K)                       # dirty
        self.write(8 * K, 8 * K, wt.FUA)            # over dirty blocks
        self.look()
        self.write(64 * K + 512, 1024)              # a part of a block
        self.write(80 * K + 512, 1024, wt.FUA)
        self.zero(16 * K, 8 * K)                    # over dirty blocks
        self.flush()
        self.look()
        self.write(20 * K, 2 * K)                   # in a zeroed range
        self.read(96 * K, 16 * K)
        self.write(98 * K, 4 * K)
        self.zero(100 * K, 40 * K, wt.FUA)
        self.write(0, 4 * K, wt.FUA)                # over what is stable
        self.write(4 * K, 4 * K, wt.FUA)
        self.zero(128 * K, 32 * K)
        self.write(132 * K, 512, wt.FUA)            # where zeroes may be lost
        self.trim(160 * K, 16 * K)
        self.flush()
        self.look()
        self.write(168 * K, 4 * K)                  # where it was trimmed
        self.write(0, 48 * K)
        self.zero(32 * K, 64 * K, wt.nbd.CMD_FLAG_NO_HOLE)
        self.flush()

    def act(self, rng):
        """Anything, anywhere but where the second client looks."""
        unit = rng.choice((BLOCK, 4 * K, 4 * K))
        first = rng.randrange(192 * K // unit)
        length = min(rng.choice((1, 2, 4, 9)), 192 * K // unit - first) * unit
        flags = rng.choice((0, 0, wt.FUA))
        what = rng.choice(("write",) * 6 + ("zero",) * 3
                          + ("read", "read", "trim", "flush", "look"))
        if what in ("flush", "look"):
            getattr(self, what)()
        elif what in ("read", "trim"):
            getattr(self, what)(first * unit, length)
        else:
            getattr(self, what)(first * unit, length, flags)

    def unsure(self):
        """Blocks that may be read otherwise than they are on stable storage:
        trimmed ones, if the disk forgot the trim after they had been read,
        and those of which a write failed, if the disk cannot flush."""
        disk = self.server.disk_options
        blocks = set()
        if disk.get("forget") == "yes":
            blocks |= {n for n, allowed in self.shadow.blocks.items()
                       if allowed is None}
        if disk.get("flush") == "no":
            blocks |= self.shadow.failed
        return blocks

    def finish(self):
        """No fault is left."""
        unsure = self.unsure()
        self.look()
        assert wt.errno_of(self.second.flush) == 0, "the last flush fails"
        data = self.second.pread(AREA, 0)
        self.shadow.check(data, 0, "after the flush")
        assert self.first.pread(AREA, 0) == data, "the clients differ"
        durable = self.server.durable(0, AREA)
        for n, pair in enumerate(zip(wt.versions(data, 0),
                                     wt.versions(durable, 0))):
            assert pair[0] == pair[1] or n in unsure, (
                "block %d has version %s, durable is %s" % ((n,) + pair))


OPTIONS = {"wtcache-size": "2M", "wtcache-fill": "4K",
           "wtcache-readahead": "off", "wtcache-dirty-age": "1000"}
