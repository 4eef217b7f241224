#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""Real programs and a real file system image through the filter: what comes
out is what went in."""

import json
import os
import random
import shutil
import subprocess
import sys

sys.dont_write_bytecode = True

from live import K, M, expect, wt  # noqa: E402

SIZE = 48 * M


def need(*programs):
    for program in programs:
        wt.require(shutil.which(program), program + " is not there")


def run(*command, env=None):
    """Runs a program, which has to succeed; what it printed."""
    result = subprocess.run(
        [str(word) for word in command], stdin=subprocess.DEVNULL,
        capture_output=True, text=True, timeout=100, check=False,
        env=dict(os.environ, **(env or {})))
    assert result.returncode == 0, "%s: %d\n%s%s" % (
        command, result.returncode, result.stdout, result.stderr)
    return result.stdout


def read_file(path):
    with open(path, "rb") as f:
        return f.read()


def make_files(folder):
    """A folder with files of many sizes."""
    rng = random.Random(4)
    os.makedirs(os.path.join(folder, "a", "b"))
    for i in range(60):
        path = os.path.join(folder, "a" if i % 2 else "a/b", "f%d" % i)
        with open(path, "wb") as f:
            f.write(rng.randbytes(rng.randrange(1, 150000)))
    with open(os.path.join(folder, "large"), "wb") as f:
        f.write(rng.randbytes(6 * M))


def make_ext4(server):
    """An ext4 image with files in it."""
    need("mke2fs")
    folder = server.path("files")
    image = server.path("ext4")
    make_files(folder)
    run("mke2fs", "-q", "-F", "-t", "ext4", "-d", folder, image,
        "%dk" % (SIZE // K))
    return image


class FileServer(wt.Server):
    """The filter over a file of zeroes, which is self.image."""

    def __init__(self, size=SIZE, memory="8M", **options):
        given = {"wtcache-" + key.replace("_", "-"): value
                 for key, value in options.items()}
        super().__init__({"wtcache-size": memory, **given}, plugin=["file"],
                         start=False)
        self.image = self.path("image")
        with open(self.image, "wb") as f:
            f.truncate(size)
        self.plugin.append(self.image)
        self.start()


def test_nbdcopy_of_ext4():
    """In and out by nbdcopy with several connections, and e2fsck."""
    need("nbdcopy", "e2fsck")
    with FileServer() as server:
        image = make_ext4(server)
        run("nbdcopy", "--flush", image, server.uri)
        assert read_file(server.image) == read_file(image)
        out = server.path("out")
        run("nbdcopy", "--connections=4", "--threads=4", server.uri, out)
        assert read_file(out) == read_file(image)
        run("e2fsck", "-fn", out)


def test_nbdcopy_without_flush():
    """Without --flush the bytes are there when the last client has left."""
    need("nbdcopy")
    with FileServer() as server:
        image = make_ext4(server)
        run("nbdcopy", "--connections=4", image, server.uri)
        server.stop()
        assert read_file(server.image) == read_file(image)


def test_parallel_nbdcopy():
    """Several copies at once, in and out, in every mode."""
    need("nbdcopy")
    for mode in "writeback", "writethrough", "writearound":
        with FileServer(size=16 * M, mode=mode) as server:
            source = server.path("source")
            with open(source, "wb") as f:
                f.write(random.Random(5).randbytes(16 * M))
            copies = [wt.background(
                run, "nbdcopy", "--flush", "--connections=4",
                "--request-size=%d" % (K << i), source, server.uri)
                for i in range(5, 8)]
            for copy in copies:
                copy.result()
            outs = [server.path("out%d" % i) for i in range(3)]
            copies = [wt.background(run, "nbdcopy", "--connections=4",
                                    server.uri, out) for out in outs]
            for copy in copies:
                copy.result()
            for path in outs + [server.image]:
                assert read_file(path) == read_file(source), (mode, path)


def test_nbdcopy_of_a_sparse_image():
    """Holes stay holes, data stays data, and trimmed ranges are zeroes."""
    need("nbdcopy")
    with FileServer(size=16 * M) as server:
        h = server.connect()
        for i in range(0, 16, 2):
            h.pwrite(wt.pattern(i * M, M, 1), i * M)
        h.trim(M, 4 * M)
        h.zero(M, 6 * M)
        out = server.path("out")
        run("nbdcopy", server.uri, out)
        wanted = b"".join(
            wt.pattern(i * M, M, 1 if i % 2 == 0 and i not in (4, 6) else 0)
            for i in range(16))
        assert read_file(out) == wanted


def test_qemu_img():
    """qemu-img convert in and out, and compare, with several coroutines out
    of order."""
    need("qemu-img")
    with FileServer() as server:
        image = make_ext4(server)
        run("qemu-img", "convert", "-n", "-W", "-m", "8", "-f", "raw", "-O",
            "raw", image, server.uri)
        found = run("qemu-img", "compare", "-f", "raw", "-F", "raw", image,
                    server.uri)
        assert "identical" in found
        out = server.path("out")
        run("qemu-img", "convert", "-W", "-f", "raw", "-O", "raw",
            server.uri, out)
        assert read_file(out) == read_file(image)
        server.stop()
        assert read_file(server.image) == read_file(image)


def test_qemu_img_qcow2():
    """A qcow2 image that lives on the export."""
    need("qemu-img")
    with FileServer(size=64 * M) as server:
        image = make_ext4(server)
        run("qemu-img", "create", "-f", "qcow2", server.uri, "%d" % SIZE)
        run("qemu-img", "convert", "-n", "-f", "raw", "-O", "qcow2", image,
            server.uri)
        run("qemu-img", "check", "-f", "qcow2", server.uri)
        run("qemu-img", "compare", "-f", "raw", "-F", "qcow2", image,
            server.uri)
        server.stop()
        server.start()
        run("qemu-img", "compare", "-f", "raw", "-F", "qcow2", image,
            server.uri)


def test_qemu_io():
    """Writes, flushes, discards and zeroes of qemu-io with -t writeback,
    compared with the same done to a file."""
    need("qemu-io")
    rng = random.Random(6)
    commands = []
    for i in range(150):
        offset = rng.randrange(0, 15 * M, 512)
        length = rng.randrange(512, 600 * K, 512)
        kind = rng.choice(("write", "write", "write -f", "write -z",
                           "write -z -u", "flush", "aio_write",
                           "aio_write -z"))
        if kind == "flush":
            commands.append("flush")
        elif "-z" in kind:
            commands.append("%s %d %d" % (kind, offset, length))
        else:
            commands.append("%s -P %d %d %d" % (kind, i % 255 + 1, offset,
                                                length))
        if kind.startswith("aio"):
            commands.append("aio_flush")
    words = []
    for command in commands:
        words += ["-c", command]
    with FileServer(size=16 * M) as server:
        reference = server.path("reference")
        with open(reference, "wb") as f:
            f.truncate(16 * M)
        for target in reference, server.uri:
            run("qemu-io", "-t", "writeback", "-f", "raw", *words, target)
        run("qemu-img", "compare", "-f", "raw", "-F", "raw", reference,
            server.uri)
        # A discard may or may not zero: what is read twice is the same.
        run("qemu-io", "-t", "writeback", "-d", "unmap", "-f", "raw", "-c",
            "discard 1M 2M", "-c", "write -P 7 1M 4K", "-c", "flush", "-c",
            "read -P 7 1M 4K", server.uri)
        out = server.path("out")
        run("qemu-img", "convert", "-f", "raw", "-O", "raw", server.uri, out)
        server.stop()
        assert read_file(server.image) == read_file(out)


def fio(server, *options):
    need("fio")
    wt.require("nbd" in run("fio", "--enghelp"), "fio has no nbd engine")
    run("fio", "--name=job", "--ioengine=nbd", "--uri=" + server.uri,
        "--size=8M", "--verify=crc32c", "--verify_fatal=1", "--randseed=1",
        "--output=" + server.path("fio"), *options)


def test_fio_verify():
    """fio reads back what it wrote, with flushes, through a cache that is
    smaller, in every mode."""
    for mode in "writeback", "writethrough", "writearound":
        with FileServer(size=8 * M, memory="2M", mode=mode,
                        dirty_max="512K") as server:
            fio(server, "--rw=randwrite", "--bs=4k", "--iodepth=16",
                "--fsync=64")
            fio(server, "--rw=randrw", "--bsrange=512-64k", "--iodepth=8",
                "--fsync=32", "--bs_unaligned=1")


def test_fio_verify_after_a_restart():
    """Bytes that fio has written are there after the server's end."""
    with FileServer(size=8 * M) as server:
        fio(server, "--rw=write", "--bs=64k", "--iodepth=4", "--do_verify=0")
        server.stop()
        server.start()
        fio(server, "--rw=write", "--bs=64k", "--verify_only")


def test_nbdinfo():
    """nbdinfo sees what is advertised, and the map of the data."""
    need("nbdinfo")
    with FileServer(size=4 * M) as server:
        info = json.loads(run("nbdinfo", "--json", server.uri))["exports"][0]
        expect(info["export-size"], 4 * M)
        for name in ("can_flush", "can_fua", "can_multi_conn", "can_cache",
                     "can_zero", "can_trim"):
            expect(info[name], True, name)
        expect(info["is_read_only"], False)
        expect(info["block_size_minimum"], 1)
        h = server.connect()
        h.pwrite(wt.pattern(M, M, 1), M)
        extents = json.loads(run("nbdinfo", "--map", "--json", server.uri))
        data = [e for e in extents if e["type"] == 0]
        assert any(e["offset"] <= M and e["offset"] + e["length"] >= 2 * M
                   for e in data), extents
        run("nbdinfo", "--list", server.uri)


def test_memory_plugin():
    """A backend with FUA and flush of its own kind."""
    need("nbdcopy")
    with wt.Server({"wtcache-size": "2M"}, plugin=["memory", "16M"]) as server:
        source = server.path("source")
        with open(source, "wb") as f:
            f.write(random.Random(7).randbytes(16 * M))
        run("nbdcopy", "--flush", source, server.uri)
        out = server.path("out")
        run("nbdcopy", server.uri, out)
        assert read_file(out) == read_file(source)


def test_over_another_server():
    """The filter over the nbd plugin, that is over a remote server."""
    need("nbdcopy")
    config = run("nbdkit", "--dump-config")
    folder = config.split("plugindir=")[1].splitlines()[0]
    wt.require(os.path.exists(os.path.join(folder, "nbdkit-nbd-plugin.so")),
               "nbdkit has no nbd plugin")
    data = random.Random(8).randbytes(16 * M)
    with FileServer(size=16 * M) as below:
        with wt.Server({"wtcache-size": "4M"},
                       plugin=["nbd", "uri=" + below.uri]) as server:
            source = server.path("source")
            with open(source, "wb") as f:
                f.write(data)
            run("nbdcopy", "--flush", "--connections=2", source, server.uri)
            run("nbdcopy", server.uri, server.path("out"))
            assert read_file(server.path("out")) == data
        below.stop()
        assert read_file(below.image) == data


wt.main()
