#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""Which clients are let in with certificates and keys of GnuTLS's tools, peers
being verified, and that bytes cached for clients of one kind never reach the
other kind, even where the disk has changed beneath."""

import os
import shutil
import subprocess
import sys

sys.dont_write_bytecode = True

from live import (  # noqa: E402
    K, M, expect, put, seen, wait_closed, wt)

PAST = ('activation_date = "2019-01-01 00:00:00"\n'
        'expiration_date = "2020-01-01 00:00:00"\n')


# Certificates and keys.

def run(*command):
    wt.require(shutil.which(command[0]), command[0] + " is not there")
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL,
                   stderr=subprocess.DEVNULL)


def certtool(folder, name, template, *words):
    """Makes NAME-key.pem and NAME-cert.pem in a folder."""
    def path(end):
        return os.path.join(folder, name + end)
    with open(path(".info"), "w", encoding="ascii") as f:
        f.write(template)
    run("certtool", "--generate-privkey", "--ecc", "--outfile",
        path("-key.pem"))
    run("certtool", *words, "--template", path(".info"), "--load-privkey",
        path("-key.pem"), "--outfile", path("-cert.pem"))


class Authority:
    """A certificate authority, and the folders that nbdkit and libnbd take:
    each with its certificate and one that it has signed."""

    def __init__(self, folder, name):
        self.folder = os.path.join(folder, name)
        os.mkdir(self.folder)
        certtool(self.folder, "ca",
                 "cn = %s\nca\ncert_signing_key\n" % name,
                 "--generate-self-signed")

    def folder_with(self, name, usage=None, more="", trusted=None):
        """A folder with "server" or "client" files, or with neither."""
        folder = os.path.join(self.folder, name)
        os.mkdir(folder)
        shutil.copy(os.path.join((trusted or self).folder, "ca-cert.pem"),
                    folder)
        if usage:
            ca = os.path.join(self.folder, "ca-")
            certtool(folder, usage,
                     "cn = localhost\ntls_www_%s\nsigning_key\n" % usage
                     + more,
                     "--generate-certificate", "--load-ca-certificate",
                     ca + "cert.pem", "--load-ca-privkey", ca + "key.pem")
        return folder


def key_file(server, name, user="alice"):
    path = server.path(name)
    run("psktool", "-u", user, "-p", path)
    return path


def certificate_server(server, tls="require"):
    """A server before its start is given certificates; its authority."""
    ours = Authority(server.folder, "ours")
    server.args = ["--tls=" + tls, "--tls-verify-peer",
                   "--tls-certificates="
                   + ours.folder_with("server", "server")]
    return ours


def unstarted():
    return wt.Server({"wtcache-size": "8M"}, {"size": M}, start=False)


# Refused clients.

def refused(server, tls):
    """It is sent away and causes no request, and others are served on."""
    requests = len(server.log())
    try:
        server.connect(tls=tls)
    except wt.nbd.Error:
        pass
    else:
        raise AssertionError("it is let in: %r" % tls)
    wait_closed(server)
    expect(len(server.log()), requests)


def let_in(server, tls, version):
    h = server.connect(tls=tls)
    expect(h.get_tls_negotiated(), tls is not None)
    put(h, 0, 4096, version, wt.FUA)
    expect(seen(h, 0, 4096), [version] * 8)
    server.disconnect(h)
    wait_closed(server)


def test_refused_certificates():
    """Clients with certificates that the server's authority has not signed."""
    with unstarted() as server:
        ours = certificate_server(server)
        theirs = Authority(server.folder, "theirs")
        good = {"certificates": ours.folder_with("good", "client")}
        bad = [
            None,
            {"certificates": ours.folder_with("none")},
            {"certificates": ours.folder_with("expired", "client", PAST)},
            {"certificates": theirs.folder_with("wrong", "client",
                                                trusted=ours)},
            {"psk": key_file(server, "keys"), "username": "alice"},
        ]
        server.start()
        for version, tls in enumerate(bad, 1):
            let_in(server, good, version)
            refused(server, tls)
        let_in(server, good, len(bad) + 1)


def test_refused_keys():
    """A key that is not the user's, a user that has none, and none at all."""
    with unstarted() as server:
        keys = key_file(server, "keys")
        server.args = ["--tls=require", "--tls-psk=" + keys]
        server.start()
        good = {"psk": keys, "username": "alice"}
        wrong = key_file(server, "wrong")
        stranger = key_file(server, "stranger", "mallory")
        for version, tls in enumerate((
                {"psk": wrong, "username": "alice"},
                {"psk": stranger, "username": "mallory"},
                None), 1):
            let_in(server, good, version)
            refused(server, tls)
        let_in(server, good, 4)


# The bytes of each kind. The file beneath is changed behind the server's back,
# so that bytes tell whether they were cached, and for which client.

def change_file(path, offset, length, version):
    with open(path, "r+b") as f:
        f.seek(offset)
        f.write(wt.pattern(offset, length, version))


class TwoKinds:
    """A server of a file for plain clients and for TLS ones."""

    def __init__(self, certificates, **options):
        options.setdefault("size", "8M")
        self.server = wt.Server({"wtcache-" + key: value
                                 for key, value in options.items()},
                                plugin=["file"], start=False)
        self.file = self.server.path("file")
        self.server.plugin.append(self.file)
        with open(self.file, "wb") as f:
            f.write(wt.pattern(0, M, 1))
        if certificates:
            ours = certificate_server(self.server, "on")
            tls = {"certificates": ours.folder_with("good", "client")}
        else:
            keys = key_file(self.server, "keys")
            self.server.args = ["--tls=on", "--tls-psk=" + keys]
            tls = {"psk": keys, "username": "alice"}
        self.kinds = {"plain": None, "tls": tls}
        self.server.start()

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        return self.server.__exit__(*exc)

    def connect(self, kind):
        return self.server.connect(tls=self.kinds[kind])


BOTH_WAYS = ("tls", "plain"), ("plain", "tls")


def each_way(**options):
    for certificates in False, True:
        for first, second in BOTH_WAYS:
            with TwoKinds(certificates, **options) as two:
                yield two, first, second


def test_what_was_read_is_not_shared():
    """Bytes that one kind has cached are read again for the other."""
    for two, first, second in each_way():
        a, b = two.connect(first), two.connect(second)
        expect(seen(a, 0, 64 * K), [1] * 128)
        change_file(two.file, 0, 64 * K, 2)
        expect(seen(a, 0, 64 * K), [1] * 128, "not cached by " + first)
        expect(seen(b, 0, 64 * K), [2] * 128, "shown to " + second)
        change_file(two.file, 0, 64 * K, 3)
        expect(seen(two.connect(first), 0, 64 * K), [1] * 128)
        expect(seen(two.connect(second), 0, 64 * K), [2] * 128)


def test_what_was_written_is_not_shared():
    """Bytes that one kind has written are in its cache alone."""
    for two, first, second in each_way():
        a, b = two.connect(first), two.connect(second)
        for at, flags in (0, 0), (128 * K, wt.FUA):
            put(a, at, 64 * K, 4, flags)
            put(a, at + 64 * K + 100, 1000, 4, flags)
            change_file(two.file, at, 128 * K, 5)
            expect(seen(a, at, 64 * K), [4] * 128)
            expect(seen(b, at, 128 * K), [5] * 256, "shown to " + second)


def test_what_was_kept_is_not_shared():
    """Nor when the one kind comes after the other has left, and its cache
    is kept."""
    for two, first, second in each_way(keep="yes"):
        a = two.connect(first)
        expect(seen(a, 0, 64 * K), [1] * 128)
        put(a, 64 * K, 64 * K, 7)
        a.flush()
        two.server.disconnect(a)
        change_file(two.file, 0, 128 * K, 8)
        b = two.connect(second)
        expect(seen(b, 0, 128 * K), [8] * 256, "shown to " + second)


def test_prefetch_is_not_shared():
    """Data that was read ahead or prefetched for one kind is read again for
    the other."""
    for two, first, second in each_way(readahead="1M", fill="64K"):
        a, b = two.connect(first), two.connect(second)
        a.cache(256 * K, 512 * K)
        for offset in range(0, 128 * K, 8 * K):
            seen(a, offset, 8 * K)
        change_file(two.file, 0, M, 9)
        expect(seen(a, 512 * K, 256 * K), [1] * 512)
        expect(seen(b, 0, M), [9] * 2048, "shown to " + second)


wt.main()
