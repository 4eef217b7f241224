#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""The kernel's client: a file system on the cache, a server that is killed
and started again, and every file that was promised is there.  A short form
of test-full.py."""

import os
import sys

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)),
                                "..", "lib"))

import tap  # noqa: E402
import wt  # noqa: E402
from client import (  # noqa: E402
    EXT4, Machine, Server, check_image, new_random, survive_kills)


@tap.timeout(500)
def test_ext4_survives_kill():
    rng = new_random()
    with Server() as server:
        with Machine(server) as machine:
            survive_kills(server, machine, rng, 1)
        server.stop()
        check_image(server, EXT4)


wt.main()
