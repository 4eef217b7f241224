#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""Tests of wtcache-tier: what it makes, what it refuses, what it finds.  The
parts of a tier are also read and written here, as docs/tier-format.md describes
them, so that page is right."""

import contextlib
import fcntl
import json
import os
import struct
import subprocess
import sys
import tempfile

sys.dont_write_bytecode = True
HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "..", "lib"))

import tap  # noqa: E402
import wt  # noqa: E402

TOP = os.environ.get("top_builddir", os.path.join(HERE, "..", ".."))
TOOL = os.path.join(TOP, "tools", "wtcache-tier")
UNIT = 4096
MIB = 1 << 20


def tier(*words, status=0):
    """The output; or what it complains of, one line, if that is the status."""
    tap.require(os.path.exists(TOOL), "wtcache-tier is not built")
    done = subprocess.run([TOOL, *words], stdin=subprocess.DEVNULL, text=True,
                          capture_output=True, timeout=60 * tap.SCALE)
    assert done.returncode == status, done
    if status == 0 or not done.stderr:
        assert done.stderr == "", done
        return done.stdout
    lines = done.stderr.splitlines()
    assert len(lines) == 1 and lines[0].startswith("wtcache-tier: "), done
    assert done.stdout == "", done
    return lines[0][len("wtcache-tier: "):]


def refused(path, words, wanted):
    """It says so, and changes nothing."""
    before = content(path)
    said = tier(*words, path, status=1)
    assert said.startswith(path + ": ") and wanted in said, said
    assert content(path) == before, path


def content(path):
    with contextlib.suppress(FileNotFoundError):
        with open(path, "rb") as f:
            return f.read()


@contextlib.contextmanager
def folder():
    with tempfile.TemporaryDirectory(prefix="test-tier-") as name:
        yield name


def write_at(path, offset, data):
    with open(path, "r+b") as f:
        f.seek(offset)
        f.write(data)


# ---- the format, as its page describes it ----

TABLE = []
for n in range(256):
    for _ in range(8):
        n = n >> 1 ^ (0x82f63b78 if n & 1 else 0)
    TABLE.append(n)


def crc32c(*parts):
    crc = 0xffffffff
    for part in parts:
        for byte in part:
            crc = TABLE[(crc ^ byte) & 255] ^ crc >> 8
    return crc ^ 0xffffffff


class Format:
    """The parts of a tier that was just formatted."""

    def __init__(self, path):
        self.path = path
        with open(path, "rb") as f:
            unit = f.read(UNIT)
        (magic, version, checksum, *features, self.uuid, self.generation,
         condition, copy) = struct.unpack_from("<8sII3Q16sQII", unit)
        (self.size, self.page, self.segment_size, self.segments, self.slots,
         self.summary_units, self.exports, self.groups, self.bitmap_units,
         self.region, state0, state1, self.first, *log) = struct.unpack_from(
             "<Q8IQ3QQQ", unit, 72)
        assert (magic, version, features) == (b"WTCTIER\0", 1, [0, 0, 0])
        assert (condition, copy, log) == (1, 0, [0, 0])
        assert checksum == crc32c(unit[:12], bytes(4), unit[16:])
        self.state = (state0, state1)[self.generation % 2]

    def seal(self, kind, generation, index, count, number, contents):
        """A unit with its head."""
        def head(checksum):
            return struct.pack("<4sIQIIQ", kind, checksum, generation, index,
                               count, number)
        contents = contents.ljust(UNIT - 32, b"\0")
        return head(crc32c(self.uuid, head(0), contents)) + contents

    def put(self, offset, *unit):
        write_at(self.path, offset, self.seal(*unit))

    def put_state(self, settled, exports, intents, live):
        """Over the state of the generation; LIVE: numbers of slots."""
        at = self.state
        self.put(at, b"WTHE", self.generation, 0, len(exports), 0,
                 struct.pack("<QIIQ", settled, 3, 100, 1600000000))
        for i, (number, name, size, kind, identity) in enumerate(exports):
            self.put(at + UNIT * (1 + i), b"WTEX", self.generation, i, 1, 0,
                     struct.pack("<IIQQIIII", number, i, size, 0, kind,
                                 len(name), len(identity), 0) + name + identity)
        entries = b"".join(struct.pack("<IIQ", e, 0, r) for e, r in intents)
        for odd in 2, 3:
            self.put(at + UNIT * (1 + self.exports + odd), b"WTIN",
                     self.generation, 0, len(intents), 1, entries)
        bits = bytearray(UNIT - 32)
        for slot in live:
            bits[slot // 8] |= 1 << slot % 8
        self.put(at + UNIT * (1 + self.exports + 4 * self.groups), b"WTLI",
                 self.generation, 0, self.segments * self.slots, 0, bytes(bits))

    def put_segment(self, segment, sequence, pages):
        """PAGES: of each slot from 0 on the export, page and bytes."""
        base = self.first + segment * self.segment_size
        entries = []
        for slot, (export, page, data) in enumerate(pages):
            cover = struct.pack("<IIQQ", export, segment * self.slots + slot,
                                page, sequence)
            entries.append(struct.pack("<QII", page, export,
                                       crc32c(self.uuid, cover, data)))
            write_at(self.path, base + slot * self.page, data)
        entries += [bytes(16)] * (self.slots - len(entries))
        for i in range(self.summary_units):
            own = entries[254 * i:254 * (i + 1)]
            self.put(base + self.segment_size - UNIT * (self.summary_units - i),
                     b"WTSU", sequence, i, len(own), segment, b"".join(own))


def filled(path):
    """A tier with two exports, three intents, and pages in two segments."""
    tier("format", "--size=21M", path)
    f = Format(path)
    f.put_state(50, [(7, b"disk", 1 << 30, 0, b""),
                     (9, "gr\u00fcn\n".encode(), 5000, 1, b"image 4")],
                [(7, 2), (7, 3), (9, 2**64 - 1)], [0, 2])
    pages = [bytes([n]) * UNIT for n in range(1, 6)]
    # Settled: the first is live, the second is not, the third has an intent.
    f.put_segment(0, 49, [(7, 10, pages[0]), (7, 11, pages[1]),
                          (7, 2 * 4096, pages[2])])
    # Younger: the bitmap does not decide; there is no export 8.
    f.put_segment(2, 50, [(7, 12, pages[3]), (8, 12, pages[4])])
    return f


# ---- format ----

def test_file():
    """Its room is taken at once, other users cannot read it, and it is as the
    page says."""
    with folder() as here:
        path = os.path.join(here, "tier")
        assert "pages        14266 of 4K" in tier("format", "--size=64M", path)
        status = os.stat(path)
        assert status.st_size == 64 * MIB, status
        assert status.st_blocks * 512 >= 64 * MIB, status
        assert status.st_mode & 0o7777 == 0o600, status
        f = Format(path)
        assert (f.size, f.slots, f.segments) == (64 * MIB, 1019, 14)
        assert tier("check", path).endswith("\ngood\n")
        told = json.loads(tier("info", "--json", path))
        assert told["uuid"].replace("-", "") == f.uuid.hex(), told
        assert told["exports"] == [] and told["clean"], told
        other = os.path.join(here, "other")
        told = json.loads(tier("format", "--json", "-s64M", "-p64K", other))
        assert told["page_size"] == 65536, told
        assert told["uuid"].replace("-", "") != f.uuid.hex(), told


def test_what_is_there():
    """A file of zeroes is empty, any byte is not."""
    with folder() as here:
        path = os.path.join(here, "tier")
        with open(path, "wb") as f:
            f.truncate(30 * MIB + 100)
        told = json.loads(tier("format", "--json", path))
        assert told["size"] == 30 * MIB, told
        refused(path, ["format"], "is a tier already: --force empties it")
        was = Format(path).uuid
        tier("format", "--force", path)
        assert Format(path).uuid != was

        for offset in 0, 12345678, 30 * MIB - 1:
            with open(path, "wb") as f:
                f.truncate(30 * MIB)
            write_at(path, offset, b"x")
            refused(path, ["format"], "is not empty: --force overwrites it")
            refused(path, ["format", "--upgrade"], "nothing to upgrade")
        tier("format", "--force", path)
        assert "\ngood\n" in tier("check", path)


def test_small():
    with folder() as here:
        path = os.path.join(here, "tier")
        refused(path, ["format"], "there is no such file: --size makes one")
        refused(path, ["format", "--size=20M"], "it takes 21M at least")
        refused(path, ["format", "--size=64M", "--page=1M"], "at least")
        assert not os.path.exists(path)
        tier("format", "--size=21M", path)
        with open(path, "wb"):
            pass
        refused(path, ["format"], "is an empty file: say how large")
        refused(path, ["format", "--size=1E"], "cannot get")
        with folder() as there:
            other = os.path.join(there, "tier")
            tier("format", "--size=1E", other, status=1)
            assert not os.path.exists(other)


def test_paths():
    """A link leads to a file; what is no file is refused."""
    with folder() as here:
        path, link = (os.path.join(here, n) for n in ("tier", "link"))
        os.symlink("tier", link)
        refused(link, ["format", "--size=21M"], "a link to nothing")
        assert not os.path.exists(path)
        tier("format", "--size=21M", path)
        assert "\ngood\n" in tier("check", link)
        refused(link, ["format"], "is a tier already")
        fifo = os.path.join(here, "fifo")
        os.mkfifo(fifo)
        for command in "format", "info":
            said = tier(command, fifo, status=1)
            assert said == fifo + ": is neither a file nor a block device"
            said = tier(command, here, status=1)
            assert said.startswith(here + ": "), said
        said = tier("info", os.path.join(here, "none"), status=1)
        assert said.endswith(": cannot be opened: No such file or directory")


def lock(f, kind):
    fcntl.fcntl(f, 37, struct.pack("hhqqi4x", kind, 0, 0, 0, 0))  # F_OFD_SETLK


def test_in_use():
    """A server that has it open keeps all out; a reader keeps writers out."""
    with folder() as here:
        path = os.path.join(here, "tier")
        tier("format", "--size=21M", path)
        with open(path, "r+b") as f:
            lock(f, fcntl.F_WRLCK)
            for words in ["format", "--force"], ["info"], ["check"], ["dump"]:
                said = tier(*words, path, status=1)
                assert said == path + ": is in use by another process", said
            lock(f, fcntl.F_RDLCK)
            tier("info", path)
            refused(path, ["format", "--force"], "is in use")
        tier("format", "--force", path)


def test_versions():
    """An older one is emptied with --upgrade alone; a newer one by --force."""
    with folder() as here:
        path = os.path.join(here, "tier")
        for version, words in (0, ["--upgrade"]), (2, ["--force"]):
            tier("format", "--force", "--size=21M", path)
            for copy in 0, UNIT:
                unit = bytearray(content(path)[copy:copy + UNIT])
                unit[8] = version
                unit[12:16] = bytes(4)
                unit[12:16] = struct.pack("<I", crc32c(unit))
                write_at(path, copy, unit)
            wanted = "has version %d of the format" % version
            refused(path, ["info"], wanted)
            refused(path, ["check"], wanted)
            if version == 0:
                refused(path, ["info"], "`wtcache-tier format --upgrade`")
                refused(path, ["format"], "is a tier of version 0 of the "
                        "format: --upgrade empties it and makes one of "
                        "version 1")
            else:
                refused(path, ["format", "--upgrade"], "nothing to upgrade")
                refused(path, ["format"], "--force overwrites it")
            tier("format", *words, path)
            assert "\ngood\n" in tier("check", path)
        refused(path, ["format", "--upgrade"], "nothing to upgrade")


# ---- what is in it ----

def test_shown():
    """All that was written by the page's description."""
    with folder() as here:
        path = os.path.join(here, "tier")
        filled(path)
        told = json.loads(tier("dump", "--json", path))
        assert told["tier"]["exports"] == [
            {"id": 7, "name": "disk", "tls": False, "size": 1 << 30,
             "since": 0, "identity_kind": "none", "identity": ""},
            {"id": 9, "name": "gr\u00fcn\n", "tls": True, "size": 5000,
             "since": 0, "identity_kind": "text", "identity": "image 4"}], told
        assert told["tier"]["starts"] == 3, told
        assert told["tier"]["intents"] == 3, told
        assert told["tier"]["written_seconds"] == 1600000000, told
        assert told["intents"] == [{"export": 7, "region": 2},
                                   {"export": 7, "region": 3},
                                   {"export": 9, "region": None}], told
        assert [(s["segment"], s["sequence"]) for s in told["segments"]] == [
            (0, 49), (2, 50)], told
        assert [(s["slot"], s["export"], s["page"], s["counts"])
                for segment in told["segments"] for s in segment["slots"]] == [
            (0, 7, 10, True), (1, 7, 11, False), (2, 7, 8192, False),
            (0, 7, 12, True), (1, 8, 12, False)], told

        text = tier("dump", path)
        for line in ('export 7  "disk", 1G', "intent of export 9: all",
                     "segment 2: sequence 50", "written 2020-09-13 12:26:40 UTC",
                     "  slot 1: export 7, page 11, checksum "):
            assert "\n" + line in text or line in text, (line, text)
        # The name cannot forge a line.
        assert "gr\u00fcn\n" not in text, text


def test_check():
    """The figures; a wrong page is damage only where it was settled."""
    with folder() as here:
        path = os.path.join(here, "tier")
        f = filled(path)
        assert json.loads(tier("check", "--json", "--data", path)) == {
            "good": True, "problems": [], "segments": 4, "without_summary": 2,
            "used_slots": 5, "counting_slots": 2, "pages_read": 2,
            "pages_unfinished": 0}
        write_at(path, f.first + 2 * f.segment_size + 99, b"x")
        told = json.loads(tier("check", "--json", "--data", path))
        assert told["good"] and told["pages_unfinished"] == 1, told
        write_at(path, f.first + 99, b"x")
        assert tier("check", path).endswith("good\n")
        text = tier("check", "--data", path, status=1)
        assert text.startswith("segment 0, slot 0: wrong checksum\n"), text
        assert text.endswith("problems: 1\n"), text


def test_damage():
    """One superblock is no loss, and the state is."""
    with folder() as here:
        path = os.path.join(here, "tier")
        f = filled(path)
        write_at(path, UNIT + 20, b"x")
        told = json.loads(tier("check", "--json", path, status=1))
        assert len(told["problems"]) == 1 and not told["good"], told
        assert "superblock 1 is damaged" in told["problems"][0], told
        assert "superblocks  good, damaged" in tier("info", path)
        write_at(path, f.state + UNIT + 40, b"x")
        for command in "info", "check", "dump":
            refused(path, [command], "is damaged: generation 1: export 0 is "
                    "damaged: `wtcache-tier format --force` makes a new one")
        write_at(path, 20, b"x")
        refused(path, ["info"], "is damaged: no superblock is good")

        filled(os.path.join(here, "cut"))
        path = os.path.join(here, "cut")
        os.truncate(path, 20 * MIB)
        refused(path, ["check"], "is truncated: 20971520 of 22020096 bytes")
        write_at(path, 0, bytes(2 * UNIT))
        refused(path, ["info"], "is no tier: `wtcache-tier format` makes one")


def test_usage():
    for words, wanted in (
            ([], "a command is missing"),
            (["chek", "x"], "chek: there is no such command: is check meant?"),
            (["info"], "usage: wtcache-tier info [OPTION...] PATH"),
            (["info", "a", "b"], "usage: "),
            (["info", "--jsno", "x"], "--jsno: there is no such option: is "
             "--json meant?"),
            (["format", "--size=4GiB", "x"], "--size=4GiB: must be a size, "
             "such as 10G: write 4G"),
            (["format", "--size=0", "x"], "--size=0: must be a size"),
            (["format", "--page=5K", "x"], "--page=5K: must be a power of two "
             "from 4K to 1M"),
            (["format", "x", "--size"], "--size: a size is missing"),
            (["info", "--force", "x"], "--force is for format alone"),
            (["dump", "--data", "x"], "--data is for check alone")):
        said = tier(*words, status=2)
        assert said.startswith(wanted), (words, said)
    assert not os.path.exists("x")


wt.main()
