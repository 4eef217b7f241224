#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""Live migration, by the requests that it is made of: the destination
attaches and reads while the source still writes; then the source flushes and
leaves, and the guest goes on at the destination."""

import os
import sys

sys.dont_write_bytecode = True
sys.path[:0] = [os.path.join(os.path.dirname(os.path.abspath(__file__)),
                             "..", "lib")]

import wt  # noqa: E402

SIZE = 1 << 20
RANGE = 64 << 10


def migrate(source, destination):
    """The guest's last writes, as it reads them at the destination."""
    a = source.connect()
    a.pwrite(wt.pattern(0, RANGE, 1), 0)
    a.flush()
    b = destination.connect()
    assert b.pread(RANGE, 0) == wt.pattern(0, RANGE, 1)
    a.pwrite(wt.pattern(0, RANGE, 2), 0)
    a.flush()
    source.disconnect(a)
    return wt.versions(b.pread(RANGE, 0), 0)


def host(storage, **options):
    """An nbdkit with the cache over the storage."""
    return wt.Server({"wtcache-size": "8M", **options},
                     plugin=["nbd", "socket=" + storage.socket])


def test_one_nbdkit():
    """Both hosts attach to one: the guest reads what it wrote."""
    with wt.Server(None, {"size": SIZE}) as storage:
        with host(storage) as server:
            assert migrate(server, server) == [2] * (RANGE // 512)


def test_a_cache_on_each_host_is_stale():
    """That it does not work is what the documentation says: the storage has
    the last bytes, the destination's cache has those before."""
    for mode in "writeback", "writethrough", "writearound":
        with wt.Server(None, {"size": SIZE}) as storage:
            options = {"wtcache-mode": mode}
            with host(storage, **options) as a, host(storage,
                                                     **options) as b:
                assert migrate(a, b) == [1] * (RANGE // 512)
                assert storage.durable(0, RANGE) == wt.pattern(0, RANGE, 2)


wt.main()
