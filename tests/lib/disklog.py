# SPDX-License-Identifier: BSD-3-Clause
"""The log of the tests' disk."""

import collections


class Request:
    """A request in the log of the disk.

    start and end are numbers in the order of all events; end and errno are
    None while it has not ended.  flags is a set of "fua", "may_trim", "fast".
    """

    def __init__(self, number, words):
        self.start = number
        self.id = int(words[0])
        self.export = words[1]
        self.connection = int(words[2])
        self.op = words[3]
        self.offset = int(words[4])
        self.length = int(words[5])
        self.flags = set(words[6].split(",")) - {"-"}
        self.in_flight = int(words[7])
        self.start_ns = int(words[8])
        self.data_offset = int(words[9]) if len(words) > 9 else None
        self.end = self.errno = self.end_ns = self.partial = None
        self.violation = False

    @property
    def fua(self):
        return "fua" in self.flags

    def overlaps(self, offset, length):
        return (self.offset < offset + length
                and offset < self.offset + self.length)

    def __repr__(self):
        return "<%s %s %d+%d %s [%s..%s] errno=%s>" % (
            self.id, self.op, self.offset, self.length,
            ",".join(sorted(self.flags)) or "-", self.start, self.end,
            self.errno)


Event = collections.namedtuple("Event", "number kind request words")


class Log:
    """The log: requests in the order of their start, and all events.

    An event has a kind (start, end, violation, partial, forget, crash), its
    request or None, and the words that follow the kind.
    """

    def __init__(self, text):
        self.events = []
        self.requests = []
        by_id = {}
        for line in text.splitlines():
            number, kind, *words = line.split()
            number = int(number)
            request = None
            if kind == "start":
                request = Request(number, words)
                by_id[request.id] = request
                self.requests.append(request)
            elif kind in ("end", "violation", "partial"):
                request = by_id[int(words[0])]
            if kind == "end":
                request.end = number
                request.errno = int(words[1])
                request.end_ns = int(words[2])
            elif kind == "violation":
                request.violation = True
            elif kind == "partial":
                request.partial = int(words[1])
            self.events.append(Event(number, kind, request, words))

    def of(self, *ops):
        """The requests with one of these operations."""
        return [r for r in self.requests if r.op in ops]

    def __iter__(self):
        return iter(self.requests)

    def __len__(self):
        return len(self.requests)
