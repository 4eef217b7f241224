#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""The statistics over HTTP, as docs/operations.md has it: a socket of systemd
that starts metrics-http for each connection, and a Prometheus that asks it."""

import http.client
import json
import os
import shutil
import socket
import subprocess
import sys
import urllib.parse
import urllib.request

sys.dont_write_bytecode = True
HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "..", "lib"))

import promtool  # noqa: E402
import tap  # noqa: E402
import wt  # noqa: E402

TOP = os.path.join(HERE, "..", "..")
BUILT = os.environ.get("top_builddir", TOP)
TOOLS = os.path.join(BUILT, "tools")
SCRIPT = os.path.abspath(os.path.join(TOP, "packaging", "scripts",
                                      "metrics-http"))


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


class Http:
    """The socket that is listened to, until the end of the with block."""

    def __init__(self, server):
        tap.require(shutil.which("systemd-socket-activate"),
                    "there is no systemd")
        tap.require(os.path.exists(os.path.join(TOOLS, "wtcachectl")),
                    "wtcachectl is not built")
        self.port = free_port()
        path = os.path.abspath(TOOLS) + os.pathsep + os.environ["PATH"]
        self.process = subprocess.Popen(
            ["systemd-socket-activate", "--accept", "--inetd", "-l",
             "127.0.0.1:%d" % self.port, "-E", "PATH=" + path, "-E",
             "WTCACHE_RUN=" + server.folder, SCRIPT], stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def __enter__(self):
        wt.wait_until(self.listens, "the socket listens")
        return self

    def __exit__(self, *exc):
        self.process.kill()
        self.process.wait()

    def listens(self):
        with socket.socket() as s:
            return s.connect_ex(("127.0.0.1", self.port)) == 0

    def get(self, query=""):
        """Status, type and body of an answer."""
        connection = http.client.HTTPConnection(
            "127.0.0.1", self.port, timeout=60 * tap.SCALE)
        connection.request("GET", "/metrics" + query, headers={"X-Long": "x" * 4000})
        answer = connection.getresponse()
        body = answer.read()
        connection.close()
        return answer.status, answer.getheader("Content-Type"), body


def served():
    server = wt.Server({}, {"size": "1M"}, start=False)
    server.filter_options["wtcache-control"] = server.path("disk.ctl")
    server.filter_options["wtcache-name"] = "disk"
    server.start()
    return server


def test_metrics():
    """The counters of this moment, as Prometheus wants them."""
    with served() as server, Http(server) as web:
        h = server.connect()
        for number in 1, 2:
            h.pread(512, 0)
            status, kind, body = web.get()
            assert (status, kind) == (200, "text/plain; version=0.0.4")
            line = (b'wtcache_read_requests_total{server="disk",export="",'
                    b'tls="no",number="1"} %d\n' % number)
            assert line in body, body
        assert web.get("?server=disk")[2].split(b"wtcache_written")[0] == (
            body.split(b"wtcache_written")[0])
        promtool.metrics(body)


def test_no_server():
    """An answer that a monitor takes for a failure, with the reason."""
    with served() as server, Http(server) as web:
        for query in "?server=other", "?server=", "?server=../run/disk":
            status, _, body = web.get(query)
            assert status == 503, (query, status)
            assert body.startswith(b"wtcachectl: "), body
        server.stop()
        status, _, body = web.get()
        assert status == 503, status
        assert body.startswith(b"wtcachectl: "), body


def ask(port, query):
    with urllib.request.urlopen(
            "http://127.0.0.1:%d/api/v1/query?query=%s"
            % (port, urllib.parse.quote(query))) as answer:
        return json.load(answer)["data"]["result"]


def test_prometheus():
    """A real one collects them."""
    program = os.path.join(os.path.dirname(promtool.path()), "prometheus")
    tap.require(os.path.exists(program), "there is no prometheus")
    with served() as server, Http(server) as web:
        server.connect().pread(512, 0)
        port = free_port()
        with open(server.path("prometheus.yml"), "w", encoding="ascii") as f:
            json.dump({"scrape_configs": [{
                "job_name": "wtcache", "scrape_interval": "1s",
                "static_configs": [{"targets": ["127.0.0.1:%d" % web.port]}]
            }]}, f)
        with open(server.path("prometheus.log"), "wb") as log:
            process = subprocess.Popen(
                [program, "--config.file=" + server.path("prometheus.yml"),
                 "--storage.tsdb.path=" + server.path("tsdb"),
                 "--web.listen-address=127.0.0.1:%d" % port],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log)

        def collected():
            try:
                return ask(port, 'wtcache_read_requests_total{server="disk"}')
            except OSError:
                return []

        try:
            found = wt.wait_until(collected, "Prometheus has a sample",
                                  timeout=60)
            assert found[0]["value"][1] == "1", found
            assert ask(port, "up")[0]["value"][1] == "1"
        finally:
            process.kill()
            process.wait()


wt.main()
