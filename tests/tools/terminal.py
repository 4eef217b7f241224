# SPDX-License-Identifier: BSD-3-Clause
"""A program in a pseudo-terminal, and what its screen shows: pyte reads it
as the terminal "linux" would, of which vt100's sequences are a part."""

import fcntl
import os
import re
import select
import signal
import struct
import termios
import time

import pyte

import tap


class Terminal:
    """Runs a command in a terminal of so many rows and columns."""

    def __init__(self, command, rows=24, columns=80, **environment):
        self.screen = pyte.Screen(columns, rows)
        self.stream = pyte.ByteStream(self.screen)
        self.raw = b""
        self.status = None
        try:
            self.pid, self.fd = os.forkpty()
        except OSError as error:
            tap.require(False, "no pseudo-terminals: %s" % error)
        if self.pid == 0:
            try:
                self.set_size(rows, columns, 0)
                os.execvpe(command[0], command,
                           {**os.environ, "TERM": "linux", **environment})
            finally:
                os._exit(127)

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        if self.status is None:
            os.kill(self.pid, signal.SIGKILL)
            os.waitpid(self.pid, 0)
        os.close(self.fd)

    @staticmethod
    def set_size(rows, columns, fd):
        fcntl.ioctl(fd, termios.TIOCSWINSZ,
                    struct.pack("HHHH", rows, columns, 0, 0))

    def resize(self, rows, columns):
        self.screen.resize(rows, columns)
        self.set_size(rows, columns, self.fd)

    def press(self, keys):
        os.write(self.fd, keys.encode())

    def read(self):
        """Takes what has come; false at the program's end."""
        if not select.select([self.fd], [], [], 0.1)[0]:
            return True
        try:
            data = os.read(self.fd, 65536)
        except OSError:     # EIO, once the other side is closed
            data = b""
        self.raw += data
        self.stream.feed(data)
        return data != b""

    def lines(self):
        return [line.rstrip() for line in self.screen.display]

    def wait_for(self, predicate, what, timeout=30):
        """Reads until the lines are as wanted, and returns them."""
        end = time.monotonic() + timeout * tap.SCALE
        while not predicate(self.lines()):
            assert self.read(), "it has ended\n" + "\n".join(self.lines())
            assert time.monotonic() < end, "in vain for %s:\n%s" % (
                what, "\n".join(self.lines()))
        return self.lines()

    def wait_for_text(self, text):
        return self.wait_for(lambda lines: text in "\n".join(lines), text)

    def wait_for_line(self, pattern):
        return self.wait_for(
            lambda lines: any(re.fullmatch(pattern, line) for line in lines),
            pattern)

    def wait_for_end(self, timeout=30):
        """Its exit status."""
        end = time.monotonic() + timeout * tap.SCALE
        while self.read():
            assert time.monotonic() < end, "it does not end"
        _, status = os.waitpid(self.pid, 0)
        self.status = os.waitstatus_to_exitcode(status)
        return self.status

    def colour_of(self, text):
        """The colour in which the first character of a text is shown."""
        for y, line in enumerate(self.screen.display):
            x = line.find(text)
            if x >= 0:
                return self.screen.buffer[y][x].fg
        raise AssertionError("%r is not on the screen" % text)
