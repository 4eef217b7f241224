# SPDX-License-Identifier: BSD-3-Clause
"""Finds requests that a server leaves unanswered for longer than any law allows.

wt.py lists each request of its clients here while it is unanswered.  A thread
looks twice a second.  A look counts against a request only if nothing excuses
it: the disk has a request in flight (perhaps at a gate), the answer waits in
the client's socket, the server is stopped or gone, the client has left.  One
with LIMIT seconds of such looks hangs (laws 14, 21 and 22): the stacks of the
server's threads are printed, the server is killed, and the test fails.

Looks that a busy machine delays count as little as others do: so its clock
stands still where the machine does.
"""

import select
import shutil
import subprocess
import threading
import time

import tap

LIMIT = 30      # seconds, without an excuse
STEP = 0.5      # between two looks
CHEAP = 5       # seconds before the disk is asked


def stacks_of(pid):
    """Where the threads of a process stand, if gdb can tell."""
    if shutil.which("gdb") is None:
        return "(no gdb to look into process %d)" % pid
    try:
        gdb = subprocess.run(
            ["gdb", "-nx", "-batch", "-p", str(pid),
             "-ex", "thread apply all bt"], stdin=subprocess.DEVNULL,
            capture_output=True, text=True, timeout=60)
    except subprocess.TimeoutExpired:
        return "(gdb does not end)"
    return gdb.stdout


class Request:
    """One that is unanswered."""

    def __init__(self, server, h, what):
        self.server = server
        self.h = h
        self.what = what
        self.waited = 0.0       # in looks without an excuse


class Hangs:
    """All requests of the clients of this process."""

    def __init__(self):
        self.lock = threading.Lock()
        self.requests = set()
        self.found = []         # those that hang, as text
        self.thread = None

    def begin(self, h, name, args):
        """A request is sent; H may be a client of something else."""
        server = getattr(h, "server", None)
        if server is None:
            return None
        request = Request(server, h, "%s %s" % (
            name, [arg for arg in args if isinstance(arg, int)]))
        with self.lock:
            self.requests.add(request)
            if self.thread is None:
                self.thread = threading.Thread(target=self.watch, daemon=True)
                self.thread.start()
        return request

    def end(self, request):
        with self.lock:
            self.requests.discard(request)

    def take_found(self):
        """The requests that hung since the last call, which are forgotten."""
        with self.lock:
            self.requests.clear()
            found, self.found = self.found, []
        return found

    def watch(self):
        while True:
            time.sleep(STEP)
            with self.lock:
                requests = list(self.requests)
            asked = {}
            for request in requests:
                self.look(request, asked)

    def look(self, request, asked):
        if is_excused(request, asked):
            request.waited = 0.0
            return
        request.waited += STEP
        if request.waited < LIMIT * tap.SCALE:
            return
        with self.lock:
            if request not in self.requests:
                return
            self.requests.discard(request)
            self.found.append("%s had no answer for %g s" % (
                request.what, request.waited))
        tap.comment(self.found[-1])
        tap.comment(stacks_of(request.server.process.pid))
        request.server.process.kill()


def is_readable(h):
    """Whether the answer is there: then it is the client that waits."""
    try:
        return bool(select.select([h.fd], [], [], 0)[0])
    except (OSError, ValueError):
        return True     # closed


def is_stopped(process):
    """By a signal, for example in a debugger."""
    try:
        with open("/proc/%d/stat" % process.pid, encoding="ascii") as f:
            return f.read().rpartition(")")[2].split()[0] in "TtZX"
    except OSError:
        return True


def is_at_disk(server):
    """Whether the disk has a request in flight, as far as it says so."""
    try:
        return any(r.end is None for r in server.log())
    except Exception:   # it ends just now, or another plugin is the backend
        return not server.running()


def is_excused(request, asked):
    server = request.server
    if not server.running() or request.h not in server.handles:
        return True
    if is_stopped(server.process) or is_readable(request.h):
        return True
    if request.waited < min(CHEAP, LIMIT / 2):
        return False
    if server not in asked:
        asked[server] = is_at_disk(server)
    return asked[server]


watch = Hangs()
