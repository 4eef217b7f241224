# SPDX-License-Identifier: BSD-3-Clause
"""Tests of the tests' disk itself, without the filter: what it promises must
hold, since it judges the filter."""

import errno
import os
import sys

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)),
                                "..", "lib"))

import wt  # noqa: E402
from words import K, M, disk, durable, expect, put, seen  # noqa: E402


# Durability: of which bytes, and when.

def test_write_is_visible_and_not_durable():
    with disk() as server:
        h = server.connect()
        put(h, 4096, 1024, 1)
        expect(seen(h, 3584, 2048), [0, 1, 1, 0])
        expect(durable(server, 4096, 1024), [0, 0])


def test_flush_makes_durable():
    with disk() as server:
        h = server.connect()
        for offset in range(0, M, 100 * K):
            put(h, offset, 1024, 1)
        put(h, 64 * K - 1024, 2048, 2)
        h.flush()
        for offset in range(0, M, 100 * K):
            expect(durable(server, offset, 1024), [1, 1])
        expect(durable(server, 64 * K - 1024, 2048), [2] * 4)


def test_fua_makes_its_own_range_durable():
    with disk() as server:
        h = server.connect()
        put(h, 0, 2048, 1)
        put(h, 512, 1024, 2, wt.FUA)
        expect(durable(server, 0, 2048), [0, 2, 2, 0])
        expect(seen(h, 0, 2048), [1, 2, 2, 1])


def test_kill_leaves_the_durable_image():
    with disk() as server:
        h = server.connect()
        put(h, 0, 1024, 1)
        h.flush()
        put(h, 0, 512, 2)
        put(h, 4096, 512, 3, wt.FUA)
        server.kill()
        server.restart()
        h = server.connect()
        expect(seen(h, 0, 1024), [1, 1])
        expect(seen(h, 4096, 512), [3])


def test_stop_makes_nothing_durable():
    with disk() as server:
        put(server.connect(), 0, 512, 1)
        server.restart()
        expect(seen(server.connect(), 0, 512), [0])


def test_crash_command():
    with disk() as server:
        h = server.connect()
        put(h, 0, 1024, 1, wt.FUA)
        put(h, 512, 1024, 2)
        server.control("crash")
        expect(seen(h, 0, 1536), [1, 1, 0])


def test_flush_covers_only_what_had_ended():
    with disk() as server:
        a, b = server.connect(), server.connect()
        put(a, 0, 512, 1)
        # A write that has acted but not ended when the flush begins.
        server.control("gate w op=write when=after first=512 last=512")
        write = wt.start(b, "pwrite", wt.pattern(512, 512, 1), 512)
        server.control("gated w")
        expect(seen(a, 512, 512), [1])
        a.flush()
        expect(durable(server, 0, 1024), [1, 0])
        server.control("open w")
        expect(write.wait(), 0)
        a.flush()
        expect(durable(server, 0, 1024), [1, 1])


def test_write_that_ends_during_a_flush():
    with disk() as server:
        a, b = server.connect(), server.connect()
        put(b, 0, 1024, 1)
        server.control("gate f op=flush")
        flush = wt.start(a, "flush")
        server.control("gated f")
        put(b, 512, 512, 2)     # rewritten: the newer one is durable
        put(b, 1024, 512, 2)    # new: not covered
        server.control("open f")
        expect(flush.wait(), 0)
        expect(durable(server, 0, 1536), [1, 2, 0])


def test_fua_is_durable_before_its_end_only_after_it_acts():
    with disk() as server:
        a, b = server.connect(), server.connect()
        server.control("gate w op=write fua=1")
        write = wt.start(b, "pwrite", wt.pattern(0, 512, 1), 0, wt.FUA)
        server.control("gated w")
        expect(seen(a, 0, 512), [0])
        put(a, 0, 512, 2)
        expect(seen(a, 0, 512), [2])
        server.control("open w")
        expect(write.wait(), 0)
        expect(durable(server, 0, 512), [1])


def test_zero_and_trim():
    with disk() as server:
        h = server.connect()
        put(h, 0, 200 * K, 1)
        h.flush()
        h.zero(100 * K, 50 * K)
        h.trim(512, 0)
        expect(seen(h, 0, 200 * K),
               [0] + [1] * 99 + [0] * 200 + [1] * 100)
        expect(durable(server, 0, 200 * K), [1] * 400)
        h.trim(512, 512, wt.FUA)
        h.zero(512, 1024, wt.FUA | wt.NO_HOLE)
        expect(durable(server, 0, 2048), [1, 0, 0, 1])
        h.flush()
        expect(durable(server, 0, 200 * K),
               [0] * 3 + [1] * 97 + [0] * 200 + [1] * 100)


def test_trim_keeps():
    with disk(trim_keeps="yes") as server:
        h = server.connect()
        put(h, 0, 1024, 1)
        h.trim(1024, 0)
        expect(seen(h, 0, 1024), [1, 1])


def test_unaligned_against_a_shadow():
    size = 300 * K + 100
    with disk(size=size) as server:
        h = server.connect()
        shadow = bytearray(size)
        state = 12345
        for step in range(1, 400):
            state = (state * 1103515245 + 12345) & 0x7fffffff
            offset = (state >> 3) % size
            length = min(1 + state % (100 * K if step % 7 == 0 else 1500),
                         size - offset)
            flags = wt.FUA if step % 5 == 0 else 0
            if step % 3 == 0:
                h.zero(length, offset, flags)
                shadow[offset:offset + length] = bytes(length)
            else:
                data = wt.pattern(offset, length, step)
                h.pwrite(data, offset, flags)
                shadow[offset:offset + length] = data
            if flags:
                first = offset - offset % 512
                last = min(size, -(-(offset + length) // 512) * 512)
                expect(server.durable(first, last - first),
                       shadow[first:last])
            if step % 20 == 0:
                expect(h.pread(size, 0), shadow)
            if step % 60 == 0:
                h.flush()
                expect(server.durable(), shadow)


def test_huge_size():
    size = (1 << 63) - 1
    with disk(size=size) as server:
        h = server.connect()
        expect(h.get_size(), size)
        last = size - 5000
        data = wt.pattern(0, 5000, 1)
        h.pwrite(data, last, wt.FUA)
        h.zero((1 << 32) - 1, 1 << 40)
        h.zero((1 << 32) - 512, last - (1 << 32))
        expect(h.pread(5000, last), data)
        server.kill()
        server.restart()
        expect(server.connect().pread(5000, last), data)


def test_size_of_the_durable_image():
    with disk() as server:
        put(server.connect(), 0, 512, 1, wt.FUA)
        server.disk_options["size"] = None
        server.restart()
        h = server.connect()
        expect(h.get_size(), 64 * M)
        expect(seen(h, 0, 512), [1])


def test_size_command():
    with disk(size=M) as server:
        h = server.connect()
        put(h, 0, 1024, 1, wt.FUA)
        put(h, 512, 512, 2)
        put(h, M - 512, 512, 2)
        server.control("size 600")
        h = server.connect()
        expect(h.get_size(), 600)
        expect(h.pread(88, 512), wt.pattern(512, 88, 2))
        server.control("size 2M")
        h = server.connect()
        expect(h.get_size(), 2 * M)
        expect(h.pread(M, M), bytes(M))
        expect(h.pread(1024, 512), wt.pattern(512, 88, 2) + bytes(936))


# Kinds of disks.

def test_fua_emulated_is_a_flush():
    with disk(fua="emulate") as server:
        h = server.connect()
        put(h, 0, 512, 1)
        put(h, 512, 512, 1, wt.FUA)
        expect(durable(server, 0, 1024), [1, 1])
        expect([(r.op, r.fua) for r in server.log()],
               [("write", False), ("write", False), ("flush", False)])


def test_fua_emulated_without_flush():
    with disk(fua="emulate", flush="no") as server:
        h = server.connect()
        expect(h.can_flush(), False)
        put(h, 0, 512, 1, wt.FUA)
        expect(durable(server, 0, 512), [1])


def test_neither_fua_nor_flush():
    with disk(fua="none", flush="no") as server:
        h = server.connect()
        expect((h.can_flush(), h.can_fua()), (False, False))
        put(h, 0, 512, 1)
        expect(durable(server, 0, 512), [1])


def test_native_fua_without_flush():
    with disk(flush="no") as server:
        h = server.connect()
        expect((h.can_flush(), h.can_fua()), (False, True))
        put(h, 0, 1024, 1)
        put(h, 0, 512, 2, wt.FUA)
        expect(durable(server, 0, 1024), [2, 0])


def test_what_is_advertised():
    with disk(trim="no", fast_zero="no", multi_conn="no", rotational="yes",
              readonly="yes", block_min=1024, block_preferred=8192,
              block_max="1M") as server:
        h = server.connect()
        expect((h.is_read_only(), h.can_trim(), h.can_multi_conn(),
                h.can_fast_zero()), (True, False, False, False))
        expect([h.get_block_size(i) for i in range(3)], [1024, 8192, M])
    with disk() as server:
        h = server.connect()
        expect((h.is_read_only(), h.can_trim(), h.can_multi_conn(),
                h.can_fast_zero(), h.can_zero(), h.is_rotational()),
               (False, True, True, True, True, False))


def test_zero_emulated_by_writes():
    with disk(zero="no") as server:
        h = server.connect()
        put(h, 0, 1024, 1)
        h.zero(512, 0)
        expect(seen(h, 0, 1024), [0, 1])
        expect([r.op for r in server.log() if r.op != "read"],
               ["write", "write"])


def test_exports_are_apart():
    with disk(exports="a,b") as server:
        a, b = server.connect("a"), server.connect("b")
        put(a, 0, 512, 1, wt.FUA)
        put(b, 0, 512, 2)
        expect(seen(a, 0, 512), [1])
        expect(seen(b, 0, 512), [2])
        expect(durable(server, 0, 512, "a"), [1])
        expect(durable(server, 0, 512, "b"), [0])
        expect([r.export for r in server.log()], ["a", "b", "a", "b"])
        for name in ("", "c"):
            assert wt.errno_of(server.connect, name), "let in as %r" % name


def test_every_name_is_one_disk():
    with disk() as server:
        put(server.connect("a"), 0, 512, 1)
        expect(seen(server.connect("b"), 0, 512), [1])


def test_thread_models():
    for model in ("serialize-connections", "serialize-all-requests",
                  "serialize-requests", "parallel"):
        with disk(thread_model=model) as server:
            h = server.connect()
            commands = [wt.start(h, "pwrite", wt.pattern(i * 512, 512, 1),
                                 i * 512) for i in range(16)]
            wt.wait_all(commands)
            expect([c.errno for c in commands], [0] * 16)
            most = server.stats()["max_in_flight"]
            if model != "parallel":
                expect(most, 1)


def test_block_status():
    with disk() as server:
        h = server.connect()
        expect(wt.block_status(h, M, 0), [(M, 3)])
        put(h, 64 * K, 64 * K, 1)
        put(h, 256 * K, 64 * K, 1, wt.FUA)
        expect(wt.block_status(h, 512 * K, 0),
               [(64 * K, 3), (64 * K, 0), (128 * K, 3), (64 * K, 0),
                (192 * K, 3)])
        h.zero(64 * K, 256 * K)
        expect(wt.block_status(h, 512 * K, 0),
               [(64 * K, 3), (64 * K, 0), (384 * K, 3)])
        server.control("crash")
        expect(wt.block_status(h, 512 * K, 0),
               [(256 * K, 3), (64 * K, 0), (192 * K, 3)])


def test_block_status_is_aligned():
    with disk(block_min=4096) as server:
        put(server.connect(), 4096, 4096, 1, wt.FUA)
    with disk(block_min=65536, block_preferred=65536) as server:
        with open(server.durable_file, "r+b") as f:
            f.seek(3 * 4096)
            f.write(b"x" * 4096)
        h = server.connect()
        expect(wt.block_status(h, M, 0), [(64 * K, 0), (M - 64 * K, 3)])


def test_no_block_status():
    with disk(extents="no") as server:
        h = server.connect()
        expect(wt.block_status(h, M, 0), [(M, 0)])
        expect(server.log().of("extents"), [])


def test_block_size_is_enforced():
    with disk(size=M + 100, block_min=4096, block_max="64K") as server:
        h = server.connect()
        put(h, 4096, 64 * K, 1)
        put(h, M, 100, 1)
        for call, args in (
                (h.pwrite, (bytes(512), 0)), (h.pread, (4096, 512)),
                (h.pread, (68 * K, 0)), (h.zero, (512, 0)),
                (h.trim, (4096, 100)), (h.pwrite, (bytes(50), M))):
            expect(wt.errno_of(call, *args), errno.EINVAL)
        h.zero(M, 0)    # carries no data: the maximum is not for it
        expect(server.stats()["violations"], 6)
        expect(len([r for r in server.log() if r.violation]), 6)


# The log.

def test_log():
    with disk(log_data="yes") as server:
        h = server.connect()
        put(h, 512, 1024, 7, wt.FUA)
        h.zero(512, 0, wt.NO_HOLE)
        h.zero(512, 0, wt.FAST_ZERO)
        put(h, 0, 512, 8)
        h.flush()
        h.pread(512, 0)
        log = server.log()
        expect([(r.op, r.offset, r.length, r.flags) for r in log],
               [("write", 512, 1024, {"fua"}), ("zero", 0, 512, set()),
                ("zero", 0, 512, {"may_trim", "fast"}),
                ("write", 0, 512, set()), ("flush", 0, 0, set()),
                ("read", 0, 512, set())])
        expect([e.number for e in log.events], list(range(1, 13)))
        expect([(r.start, r.end, r.errno) for r in log],
               [(i, i + 1, 0) for i in range(1, 13, 2)])
        assert all(r.start_ns <= r.end_ns for r in log)
        expect([server.written(r) for r in log.of("write")],
               [wt.pattern(512, 1024, 7), wt.pattern(0, 512, 8)])


def test_log_of_what_has_not_ended():
    with disk() as server:
        h = server.connect()
        server.control("gate g op=write")
        write = wt.start(h, "pwrite", bytes(512), 0)
        server.control("gated g")
        request, = server.log()
        expect((request.end, request.errno), (None, None))
        server.control("crash")
        server.control("open g")
        expect(write.wait(), 0)
        expect([e.kind for e in server.log().events],
               ["start", "crash", "end"])


def test_stats():
    with disk() as server:
        h = server.connect()
        put(h, 0, 1024, 1)
        put(h, 0, 512, 1, wt.FUA)
        stats = server.stats()
        expect([stats[k] for k in ("write", "write_fua", "write_bytes",
                                   "in_flight", "connections",
                                   "connected")],
               [2, 1, 1536, 0, 1, 1])
        server.control("stats-reset")
        expect(server.stats()["write"], 0)


def test_bad_commands():
    with disk() as server:
        for line in ("", "nonsense", "fault", "fault f", "fault f op=read",
                     "fault f op=what errno=EIO", "fault f op=any errno=EWHAT",
                     "fault f op=any errno=EIO skip=-1", "gate g when=after",
                     "gate g op=any when=never", "gate g op=any errno=EIO",
                     "open g", "unfault f", "gated g", "hits f", "serve x",
                     "latency op=any", "latency op=any fast", "size x",
                     "size export=x 1M", "stats now"):
            try:
                server.control(line)
            except AssertionError as error:
                assert ": error" in str(error), error
            else:
                raise AssertionError("taken: " + line)


def test_bad_parameters():
    for word in ("size=x", "fua=what", "read-latency=fast", "nonsense=1",
                 "thread-model=many", "serve=-1", "block-min=0",
                 "forget=perhaps", "exports=a b"):
        with wt.Server(start=False, parameters=[word]) as server:
            server.spawn()
            assert server.wait() != 0, "taken: " + word


wt.main()
