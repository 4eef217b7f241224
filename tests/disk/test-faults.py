# SPDX-License-Identifier: BSD-3-Clause
"""Tests of the tests' disk: faults, gates and latencies, connections that
differ, and a disk that dies."""

import errno
import os
import sys

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)),
                                "..", "lib"))

import wt  # noqa: E402
from words import M, disk, durable, expect, put, seen  # noqa: E402


# Faults.

def test_faults_by_operation():
    with disk() as server:
        h = server.connect()
        put(h, 0, 1024, 1)
        calls = {
            "read": (h.pread, 512, 0), "write": (h.pwrite, bytes(512), 0),
            "zero": (h.zero, 512, 0), "trim": (h.trim, 512, 0),
            "flush": (h.flush,),
        }
        for op, (call, *args) in calls.items():
            server.control("fault f op=%s errno=EIO" % op)
            expect(wt.errno_of(call, *args), errno.EIO)
            if op != "read":
                expect(seen(h, 0, 1024), [1, 1])
            server.control("unfault f")
        expect(seen(h, 0, 1024), [1, 1])
        expect(durable(server, 0, 512), [0])
        h.flush()
        expect(durable(server, 0, 1024), [1, 1])


def test_fault_for_others_does_not_strike():
    with disk(exports="a,b") as server:
        a, b = server.connect("a"), server.connect("b")
        server.control("fault f op=write fua=1 export=b first=1024 last=2047"
                       " errno=ENOSPC")
        put(a, 1024, 512, 1, wt.FUA)
        put(b, 1024, 512, 1)
        put(b, 512, 512, 1, wt.FUA)
        put(b, 2048, 512, 1, wt.FUA)
        b.flush()
        expect(server.control("hits f"), "0")
        for offset, length in ((512, 513), (2047, 1), (0, 4096)):
            expect(wt.errno_of(b.pwrite, bytes(length), offset, wt.FUA),
                   errno.ENOSPC)
        expect(server.control("hits f 3"), "3")
        expect(seen(b, 512, 2048), [1, 1, 0, 1])


def test_fault_with_skip_and_count():
    with disk() as server:
        h = server.connect()
        server.control("fault f op=any errno=EIO skip=2 count=3")
        found = [wt.errno_of(h.pread, 512, 0) for _ in range(8)]
        expect([bool(e) for e in found],
               [False, False, True, True, True, False, False, False])
        expect(server.stats()["read_errors"], 3)


def test_partial_write():
    with disk() as server:
        h = server.connect()
        put(h, 0, 2048, 1)
        server.control("fault f op=write errno=ENOSPC partial=1024 count=1")
        expect(wt.errno_of(put, h, 0, 2048, 2), errno.ENOSPC)
        expect(seen(h, 0, 2048), [2, 2, 1, 1])
        expect([r.partial for r in server.log().of("write")], [None, 1024])
        h.flush()
        expect(durable(server, 0, 2048), [2, 2, 1, 1])


def test_failed_flush_without_forget():
    with disk() as server:
        h = server.connect()
        put(h, 0, 512, 1)
        server.control("fault f op=flush errno=EIO count=1")
        expect(wt.errno_of(h.flush), errno.EIO)
        expect(durable(server, 0, 512), [0])
        expect(seen(h, 0, 512), [1])
        h.flush()
        expect(durable(server, 0, 512), [1])


def test_failed_flush_forgets():
    with disk(forget="yes") as server:
        h = server.connect()
        put(h, 0, 1024, 1, wt.FUA)
        put(h, 512, 1024, 2)
        server.control("fault f op=flush errno=EIO count=1")
        expect(wt.errno_of(h.flush), errno.EIO)
        expect(seen(h, 0, 1536), [1, 1, 0])
        h.flush()
        expect(durable(server, 0, 1536), [1, 1, 0])
        expect(server.stats()["forgets"], 1)


def test_failed_fua_forgets():
    with disk(forget="yes") as server:
        h = server.connect()
        put(h, 0, 512, 1)
        server.control("fault f op=write errno=EIO count=2")
        expect(wt.errno_of(put, h, 512, 512, 2), errno.EIO)
        expect(seen(h, 0, 1024), [1, 0])
        expect(wt.errno_of(put, h, 512, 512, 2, wt.FUA), errno.EIO)
        expect(seen(h, 0, 1024), [0, 0])


def test_fua_is_never_forgotten():
    with disk(forget="yes") as server:
        a, b = server.connect(), server.connect()
        server.control("gate w op=write fua=1 when=after")
        write = wt.start(a, "pwrite", wt.pattern(0, 512, 1), 0, wt.FUA)
        server.control("gated w")
        server.control("fault f op=flush errno=EIO count=1")
        expect(wt.errno_of(b.flush), errno.EIO)
        server.control("open w")
        expect(write.wait(), 0)
        expect(seen(b, 0, 512), [1])
        expect(durable(server, 0, 512), [1])


# Gates, latencies, the bound.

def test_gate_before_and_after():
    with disk() as server:
        a, b = server.connect(), server.connect()
        put(b, 0, 1024, 1)
        server.control("gate early op=read first=0 last=511 when=before")
        server.control("gate late op=read first=512 last=1023 when=after")
        early = wt.start(a, "pread", 512, 0)
        late = wt.start(a, "pread", 512, 512)
        server.control("gated early")
        server.control("gated late")
        put(b, 0, 1024, 2)
        expect((early.done(), late.done()), (False, False))
        server.control("open all")
        expect(wt.versions(early.data(), 0), [2])
        expect(wt.versions(late.data(), 512), [1])


def test_gate_counts():
    with disk() as server:
        h = server.connect()
        server.control("gate g op=write")
        commands = [wt.start(h, "pwrite", bytes(512), i * 512)
                    for i in range(5)]
        expect(server.control("gated g 5"), "5")
        h2 = server.connect()
        h2.pread(512, 0)
        server.control("open g")
        wt.wait_all(commands)
        expect([c.errno for c in commands], [0] * 5)
        assert server.log().requests[4].in_flight == 5


def test_fault_strikes_what_stands_at_a_gate():
    with disk() as server:
        h = server.connect()
        server.control("gate g op=write")
        write = wt.start(h, "pwrite", bytes(512), 0)
        server.control("gated g")
        server.control("fault f op=write errno=ENOSPC")
        server.control("open g")
        expect(write.wait(), errno.ENOSPC)


def test_serve_bound():
    with disk(serve=2, write_latency="20ms") as server:
        h = server.connect()

        def burst():
            server.control("stats-reset")
            commands = [wt.start(h, "pwrite", bytes(512), i * 512)
                        for i in range(12)]
            wt.wait_all(commands)
            return server.stats()
        stats = burst()
        assert stats["max_serving"] <= 2, stats
        assert stats["max_in_flight"] > 2, stats
        server.control("serve 1")
        expect(burst()["max_serving"], 1)
        server.control("serve 0")
        assert burst()["max_serving"] > 2


def test_latency_is_taken():
    with disk() as server:
        h = server.connect()
        server.control("latency op=flush 30ms")
        server.control("latency op=write 10ms")
        put(h, 0, 512, 1)
        put(h, 0, 512, 1, wt.FUA)
        h.flush()
        took = [(r.end_ns - r.start_ns) / 1e6 for r in server.log()]
        for found, least in zip(took, (10, 40, 30)):
            assert found >= least, took


# Connections that differ, and a disk that dies.

def test_offer_is_for_the_next_connection():
    with disk() as server:
        a = server.connect()
        server.control("offer fua=none flush=no zero=no trim=no "
                       "multi-conn=no readonly=yes")
        b = server.connect()
        server.control("offer readonly=no")
        c = server.connect()
        expect([h.can_fua() for h in (a, b, c)], [True, False, False])
        expect([h.can_flush() for h in (a, b, c)], [True, False, False])
        expect([h.can_zero() for h in (a, b, c)], [True, False, True])
        expect([h.can_trim() for h in (a, b, c)], [True, False, False])
        expect([h.can_multi_conn() for h in (a, b, c)], [True, False, False])
        expect([h.is_read_only() for h in (a, b, c)], [False, True, False])
        # Without FUA and flush what is written is durable.
        put(c, 0, 512, 1)
        put(a, 512, 512, 2)
        expect(durable(server, 0, 1024), [1, 0])


def test_offer_of_nothing_known():
    with disk() as server:
        for words in ("size=1M", "flush", "fua=sometimes"):
            try:
                server.control("offer " + words)
            except AssertionError as e:
                assert "bad word" in str(e), e
            else:
                raise AssertionError("offer %s was taken" % words)


def test_flush_of_its_own():
    with disk(flush_own="yes", multi_conn="no") as server:
        a, b = server.connect(), server.connect()
        put(a, 0, 1024, 1)
        put(b, 512, 1024, 2)
        b.flush()
        expect(durable(server, 0, 2048), [0, 2, 2, 0])
        a.flush()
        expect(durable(server, 0, 2048), [1, 2, 2, 0])


def test_flush_of_its_own_after_another_wrote():
    with disk(flush_own="yes", multi_conn="no") as server:
        a, b = server.connect(), server.connect()
        put(a, 0, 1024, 1)
        put(b, 0, 512, 2)
        b.zero(512, 512)
        a.flush()
        expect(durable(server, 0, 1024), [1, 1])
        b.flush()
        expect(durable(server, 0, 1024), [2, 0])


def test_flush_of_its_own_with_multi_conn():
    with disk(flush_own="yes") as server:
        a, b = server.connect(), server.connect()
        put(a, 0, 512, 1)
        b.flush()
        expect(durable(server, 0, 512), [1])


def test_extents_max():
    with disk(extents_max=700) as server:
        found = []
        server.connect().block_status(
            4096, 100, lambda _context, offset, entries, _err:
            found.append((offset, entries[0::2])) or 0)
        expect(found, [(100, [700])])


def test_copy():
    with disk(exports="a,b", size=1 * M + 512) as server:
        h = server.connect("b")
        put(h, 512, 1024, 1, wt.FUA)
        put(h, 512, 512, 2)
        for words, wanted in (("", [0, 1, 1]), ("volatile=1", [0, 2, 1])):
            server.control("copy export=b %s %s" % (words, server.path("c")))
            with open(server.path("c"), "rb") as f:
                data = f.read()
            expect(len(data), M + 512)
            expect(wt.versions(data[:1536], 0), wanted)


def test_probe_takes_a_place():
    with disk() as server:
        h = server.connect()
        server.control("gate g op=write")
        write = wt.background(h.pwrite, bytes(512), 0)
        server.control("gated g")
        server.control("stats-reset")
        server.control("probe op=write")    # not at the gate
        expect(server.stats()["max_serving"], 1)
        server.control("open g")
        write.result()


def test_die():
    for keep, wanted in ((0, [1, 0]), (1, [1, 2])):
        with disk() as server:
            h = server.connect()
            put(h, 0, 512, 1, wt.FUA)
            put(h, 512, 512, 2)
            server.control("die keep=%d" % keep, ends=True)
            server.wait()
            expect(durable(server, 0, 1024), wanted)
            server.start()
            expect(seen(server.connect(), 0, 1024), wanted)


wt.main()
