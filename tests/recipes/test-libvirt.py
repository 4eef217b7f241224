#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""The domain for libvirt is valid by libvirt's own schema."""

import os
import shutil
import subprocess
import sys

sys.dont_write_bytecode = True
HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [os.path.join(HERE, "..", "lib")]

import tap  # noqa: E402
import wt  # noqa: E402

DOMAIN = os.path.join(HERE, "..", "..", "packaging", "libvirt", "domain.xml")
SCHEMA = "/usr/share/libvirt/schemas/domain.rng"


def valid(text):
    done = subprocess.run(
        ["xmllint", "--noout", "--relaxng", SCHEMA, "-"], input=text,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    return done.returncode == 0, done.stdout


def test_schema():
    tap.require(shutil.which("xmllint"), "there is no xmllint")
    tap.require(os.path.exists(SCHEMA), "libvirt's schemas are not there")
    with open(DOMAIN, encoding="utf-8") as f:
        text = f.read()
    good, said = valid(text)
    assert good, said
    # The schema looks at what matters here.
    for right, wrong in (("protocol='nbd'", "protocol='wtcache'"),
                         ("socket=", "path="), ("tls='yes'", "tls='maybe'")):
        assert right in text
        good, said = valid(text.replace(right, wrong))
        assert not good, "not refused: " + wrong


wt.main()
