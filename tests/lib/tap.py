# SPDX-License-Identifier: BSD-3-Clause
"""Runs the test_* functions of a file and reports them as TAP.

A test fails by raising anything.  A test that takes too long is a hang: the
hooks on_hang are called (they end what the test may be waiting for), then an
exception is raised in it, and if even that does not end it the whole file is
given up.  After each test the hooks on_end are called with whether it
failed; they return lines to report and may raise to fail it.  This module
knows nothing of servers.
"""

import os
import signal
import sys
import threading
import traceback

DEFAULT_TIMEOUT = 120
GRACE = 30

# How much slower than usual everything may be: a sanitizer sets this.
SCALE = float(os.environ.get("WT_SCALE", "1"))

on_hang = []
on_end = []


class Skip(Exception):
    """Raised by a test that cannot run here; its text is the reason."""


class Hang(Exception):
    """Raised in a test that takes too long."""


def require(condition, reason):
    """Skips the test unless the condition is true."""
    if not condition:
        raise Skip(reason)


def timeout(seconds):
    """Decorator: the test may take this long."""
    def decorate(function):
        function.timeout = seconds
        return function
    return decorate


def comment(text):
    """Prints text as TAP comments."""
    for line in text.splitlines():
        print("# " + line)
    sys.stdout.flush()


class Watchdog:
    """Ends a test, or else this process, when its time is over."""

    def __init__(self, name, seconds):
        self.name = name
        self.seconds = seconds * SCALE
        self.ended = threading.Event()
        self.thread = threading.Thread(target=self.watch, daemon=True)

    def __enter__(self):
        signal.signal(signal.SIGALRM, self.raise_hang)
        self.thread.start()
        return self

    def __exit__(self, *exc):
        self.ended.set()
        self.thread.join()

    def raise_hang(self, _signum, _frame):
        # The signal may come just when the test has ended.
        if not self.ended.is_set():
            raise Hang("the test took too long")

    def watch(self):
        if self.ended.wait(self.seconds):
            return
        comment("%s: no end after %g s" % (self.name, self.seconds))
        for hook in on_hang:
            hook()
        if self.ended.wait(5):
            return
        signal.pthread_kill(threading.main_thread().ident, signal.SIGALRM)
        if self.ended.wait(GRACE * SCALE):
            return
        print("Bail out! %s hangs" % self.name, flush=True)
        os._exit(1)


def raise_exit(signum, _frame):
    # So that what the tests have started is cleaned up.
    raise SystemExit("ended by signal %d" % signum)


def run_hooks(failed):
    """The messages of the hooks, and whether one of them failed the test."""
    lines = []
    for hook in on_end:
        try:
            lines += hook(failed)
        except Exception:
            lines += traceback.format_exc().splitlines()
            failed = True
    return lines, failed


def run(number, name, function):
    """Runs one test; true unless it failed."""
    lines = []
    failed = False
    skipped = None
    seconds = getattr(function, "timeout", DEFAULT_TIMEOUT)
    try:
        with Watchdog(name, seconds):
            function()
    except Skip as reason:
        skipped = str(reason)
    except Exception:
        lines = traceback.format_exc().splitlines()
        failed = True
    more, failed = run_hooks(failed)
    what = "not ok" if failed else "ok"
    end = " # SKIP " + skipped if skipped and not failed else ""
    print("%s %d - %s%s" % (what, number, name, end))
    comment("\n".join(lines + more))
    return not failed


def tests_of(module, names):
    tests = {name: function for name, function in vars(module).items()
             if name.startswith("test_") and callable(function)}
    unknown = [name for name in names if name not in tests]
    if unknown:
        sys.exit("no such test: " + " ".join(unknown))
    return {name: tests[name] for name in names or tests}


def main():
    """Runs the tests of the main module, or those named as arguments."""
    tests = tests_of(sys.modules["__main__"], sys.argv[1:])
    for signum in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(signum, raise_exit)
    print("1..%d" % len(tests), flush=True)
    good = True
    try:
        for number, (name, function) in enumerate(tests.items(), 1):
            good = run(number, name, function) and good
    except SystemExit:
        run_hooks(True)
        raise
    sys.exit(0 if good else 1)
