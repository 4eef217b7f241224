#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""web.py FOLDER ADDRESS PORT: a web server that knows ranges, for files of a
folder.  As object stores name their objects /BUCKET/KEY, it is also one of
those for clients that only read."""

import email.utils
import http.server
import os
import re
import sys

RANGE = re.compile(r"^bytes=(\d+)-(\d*)$")


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def answer(self, with_body):
        folder = os.path.realpath(sys.argv[1])
        path = os.path.realpath(folder + self.path.partition("?")[0])
        if not path.startswith(folder + "/") or not os.path.isfile(path):
            self.send_error(404)
            return
        with open(path, "rb") as f:
            size = os.fstat(f.fileno()).st_size
            first, last = 0, size - 1
            wanted = RANGE.match(self.headers.get("Range", ""))
            if wanted:
                first = int(wanted.group(1))
                last = min(int(wanted.group(2) or last), last)
            if first > last:
                self.send_error(416)
                return
            self.send_response(206 if wanted else 200)
            self.send_header("Accept-Ranges", "bytes")
            self.send_header("Content-Length", str(last - first + 1))
            self.send_header("Last-Modified", email.utils.formatdate(
                os.fstat(f.fileno()).st_mtime, usegmt=True))
            if wanted:
                self.send_header("Content-Range", "bytes %d-%d/%d" % (
                    first, last, size))
            self.end_headers()
            if with_body:
                f.seek(first)
                self.wfile.write(f.read(last - first + 1))

    def do_GET(self):
        self.answer(True)

    def do_HEAD(self):
        self.answer(False)


http.server.ThreadingHTTPServer(
    (sys.argv[2], int(sys.argv[3])), Handler).serve_forever()
