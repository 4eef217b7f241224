#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""TLS and plain clients of one server never share a cache (law 17)."""

import os
import shutil
import subprocess
import sys

sys.dont_write_bytecode = True

from live import (  # noqa: E402
    K, M, cached, count, durable, expect, put, seen, wait_closed, wt)


def run(*command, text=None):
    subprocess.run(command, input=text, text=True, check=True,
                   stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


class TlsServer:
    """A server that takes TLS clients and plain ones, and how to connect."""

    def __init__(self, **options):
        wt.require(shutil.which("psktool"), "psktool is not there")
        self.server = cached(**options)
        self.server.stop()
        keys = self.server.path("keys.psk")
        run("psktool", "-u", "alice", "-p", keys)
        self.server.args = ["--tls=on", "--tls-psk=" + keys]
        self.server.start()
        self.tls = {"psk": keys, "username": "alice"}

    def __enter__(self):
        return self.server, self.tls

    def __exit__(self, *exc):
        return self.server.__exit__(*exc)


def test_tls_alone():
    """Law 17: TLS clients among themselves share a cache."""
    with TlsServer() as (server, tls):
        a, b = server.connect(tls=tls), server.connect(tls=tls)
        assert a.can_multi_conn()
        put(a, 0, 4096, 1)
        expect(seen(b, 0, 4096), [1] * 8)
        expect(server.log().of("write", "read"), [])
        b.flush()
        expect(durable(server, 0, 4096), [1] * 8)


def test_tls_and_plain_do_not_share():
    """Law 17: each reads for itself, nothing is held back, multi-conn is
    not advertised, and one line says so."""
    with TlsServer() as (server, tls):
        plain, secret = server.connect(), server.connect(tls=tls)
        assert not secret.can_multi_conn()
        seen(plain, M, 4096)
        seen(secret, M, 4096)
        expect(count(server, "read", M, 4096), 2)
        for i, h in enumerate((plain, secret)):
            put(h, i * 64 * K, 4096, i + 1)
            expect(len(server.log().of("write")), i + 1)
        expect(seen(secret, 0, 4096), [1] * 8)
        expect(seen(plain, 64 * K, 4096), [2] * 8)
        plain.flush()
        secret.flush()
        expect(durable(server, 0, 4096), [1] * 8)
        expect(durable(server, 64 * K, 4096), [2] * 8)
        lines = [line for line in server.stderr().splitlines()
                 if "with TLS and without" in line]
        expect(len(lines), 1, server.stderr())


def test_what_was_held_back_is_written_first():
    """Law 17: when the other kind of client comes, what the first cache
    held back reaches the disk before it can be read."""
    with TlsServer() as (server, tls):
        plain = server.connect()
        put(plain, 0, 4096, 1)
        expect(server.log().of("write"), [])
        secret = server.connect(tls=tls)
        expect(seen(secret, 0, 4096), [1] * 8)
        put(plain, 4096, 4096, 2)
        expect(len([r for r in server.log().of("write")
                    if r.overlaps(4096, 4096)]), 1)


def test_held_back_again_when_alone():
    """Law 17: after the plain clients have gone both work on."""
    with TlsServer(keep="no") as (server, tls):
        plain = server.connect()
        put(plain, 0, 4096, 1)
        server.disconnect(plain)
        wait_closed(server)
        secret = server.connect(tls=tls)
        expect(seen(secret, 0, 4096), [1] * 8)
        put(secret, 0, 4096, 2)
        server.disconnect(secret)
        wait_closed(server)
        plain = server.connect()
        expect(seen(plain, 0, 4096), [2] * 8)


def test_certificates():
    """Law 17: the same with certificates."""
    wt.require(shutil.which("certtool"), "certtool is not there")
    with cached() as server:
        server.stop()
        folder = server.path("pki")
        os.mkdir(folder)

        def path(name):
            return os.path.join(folder, name)
        for name in "ca", "server":
            run("certtool", "--generate-privkey", "--ecc", "--outfile",
                path(name + "-key.pem"))
        with open(path("ca.info"), "w", encoding="ascii") as f:
            f.write("cn = Test\nca\ncert_signing_key\n")
        with open(path("server.info"), "w", encoding="ascii") as f:
            f.write("cn = localhost\ntls_www_server\nsigning_key\n")
        run("certtool", "--generate-self-signed", "--load-privkey",
            path("ca-key.pem"), "--template", path("ca.info"),
            "--outfile", path("ca-cert.pem"))
        run("certtool", "--generate-certificate", "--load-privkey",
            path("server-key.pem"), "--load-ca-certificate",
            path("ca-cert.pem"), "--load-ca-privkey", path("ca-key.pem"),
            "--template", path("server.info"), "--outfile",
            path("server-cert.pem"))
        server.args = ["--tls=on", "--tls-certificates=" + folder]
        server.start()
        plain = server.connect()
        secret = server.connect(tls={"certificates": folder,
                                     "verify": False})
        put(secret, 0, 4096, 1)
        expect(len(server.log().of("write")), 1)
        expect(seen(plain, 0, 4096), [1] * 8)


wt.main()
