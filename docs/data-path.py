#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""Draws docs/data-path.svg, the picture in the README: which way each kind of
request takes, and when it is answered.

    docs/data-path.py >docs/data-path.svg

A lane a request, from the client through the cache's pages to the backend
and back.  The colours are set by a style sheet, for light and dark pages.
"""

import html

WIDTH, HEIGHT = 920, 562
TOP = 78                    # of the first lane
LANE = 92

# The columns: left and right edge.
CLIENT = 16, 156
CACHE = 332, 596
BACKEND = 768, 904

STYLE = """
  text { font: 13px "DejaVu Sans", Verdana, Arial, sans-serif; fill: #1f2328 }
  .title { font-size: 15px; font-weight: bold; text-anchor: middle }
  .sub, .note { fill: #57606a; font-size: 12px }
  .middle, .sub { text-anchor: middle }
  .name { font-weight: bold; text-anchor: middle }
  .paper { fill: #ffffff }
  .column { fill: #f6f8fa; stroke: #afb8c1 }
  .line { stroke: #d0d7de }
  .page { stroke: #57606a }
  .clean { fill: #d5e9d6 }
  .dirty { fill: #ffd8a8 }
  .unstable { fill: #d0d4f7 }
  .missing { fill: none; stroke-dasharray: 3 3 }
  .arrow { stroke: #1f2328; stroke-width: 1.6; fill: none }
  .reply { stroke: #1a7f37 }
  .later { stroke-dasharray: 6 4 }
  .head { fill: #1f2328 }
  .reply-head { fill: #1a7f37 }
  text.reply-text { fill: #1a7f37; stroke: none }
  @media (prefers-color-scheme: dark) {
    text { fill: #e6edf3 }
    .sub, .note { fill: #9da7b3 }
    .paper { fill: #0d1117 }
    .column { fill: #161b22; stroke: #484f58 }
    .line { stroke: #30363d }
    .page { stroke: #9da7b3 }
    .clean { fill: #1f4d2b }
    .dirty { fill: #7a4a12 }
    .unstable { fill: #363c7c }
    .arrow { stroke: #e6edf3 }
    .reply { stroke: #56d364 }
    .head { fill: #e6edf3 }
    .reply-head { fill: #56d364 }
    text.reply-text { fill: #56d364 }
  }
"""

parts = []


def element(name, text=None, **attributes):
    words = "".join(' %s="%s"' % (key.replace("_", "-").rstrip("-"), value)
                    for key, value in attributes.items())
    if text is None:
        parts.append("<%s%s/>" % (name, words))
    else:
        parts.append("<%s%s>%s</%s>" % (name, words, html.escape(text), name))


def text(x, y, words, kind="note"):
    element("text", words, x=x, y=y, class_=kind)


def column(edges, title, subtitle):
    left, right = edges
    element("rect", x=left, y=14, width=right - left, height=HEIGHT - 28,
            rx=8, class_="column")
    text((left + right) / 2, 38, title, "title")
    text((left + right) / 2, 56, subtitle, "sub")


def arrow(start, end, y, kind="", words=None):
    """A horizontal arrow, with words above it."""
    head = "reply-head" if kind == "reply" else "head"
    step = 9 if end > start else -9
    element("path", d="M %d %d H %d" % (start, y, end - step),
            class_=("arrow " + kind).strip())
    element("path", d="M %d %d l %d -4.5 v 9 z" % (end, y, -step),
            class_=head)
    if words:
        text((start + end) / 2, y - 6, words,
             "middle reply-text" if kind == "reply" else "middle")


def pages(y, kinds):
    """Pages of the cache: a letter each, c(lean), d(irty), u(nstable), and
    m(issing)."""
    names = {"c": "clean", "d": "dirty", "u": "unstable", "m": "missing"}
    size = 20
    left = (CACHE[0] + CACHE[1]) / 2 - len(kinds) * size / 2
    for i, kind in enumerate(kinds):
        element("rect", x=left + i * size, y=y, width=size, height=size,
                class_="page " + names[kind])


def lane(number, name, kinds, notes):
    """A request's lane; returns the heights of its two arrows."""
    y = TOP + number * LANE
    for edges in CLIENT, CACHE, BACKEND:
        element("path", d="M %d %d H %d" % (edges[0], y, edges[1]),
                class_="line")
    middle = (CLIENT[0] + CLIENT[1]) / 2
    lines = name.split("\n")
    for i, line in enumerate(lines):
        text(middle, y + 50 + (i - (len(lines) - 1) / 2) * 17, line, "name")
    pages(y + 12, kinds)
    for i, line in enumerate(notes):
        text((CACHE[0] + CACHE[1]) / 2, y + 50 + i * 16, line, "sub")
    return y + 34, y + 66


def to_cache(y, words=None):
    arrow(CLIENT[1], CACHE[0], y, words=words)


def answer(y, words):
    arrow(CACHE[0], CLIENT[1], y, "reply", words)


def to_backend(y, words, kind=""):
    arrow(CACHE[1], BACKEND[0], y, kind, words)


def from_backend(y, words, kind=""):
    arrow(BACKEND[0], CACHE[1], y, kind, words)


def draw():
    element("rect", width=WIDTH, height=HEIGHT, class_="paper")
    column(CLIENT, "clients", "kernel, QEMU, libnbd")
    column(CACHE, "wtcache", "pages in nbdkit's memory, shared by all")
    column(BACKEND, "backend", "any nbdkit plugin")

    there, back = lane(0, "read", "ccccc", ["found: the backend is not asked"])
    to_cache(there)
    answer(back, "answered from memory")

    there, back = lane(1, "read", "cmmcc",
                       ["not found: one read at the backend",
                        "for all that wait; more if in sequence"])
    to_cache(there)
    to_backend(there, "one read")
    from_backend(back, "fills the pages")
    answer(back, "answered")

    there, back = lane(2, "write", "ccddc",
                       ["dirty until it is written back: by age,",
                        "at half of the bound, or at a flush"])
    to_cache(there)
    answer(back, "answered from memory")
    to_backend(there, "later, neighbours in one", "later")

    there, back = lane(3, "write\nwith FUA", "dcccd",
                       ["only its own blocks go through;",
                        "what else is dirty stays"])
    to_cache(there)
    to_backend(there, "FUA, or a shared flush")
    from_backend(back, "durable", "reply")
    answer(back, "answered: durable")

    there, back = lane(4, "flush", "duudc",
                       ["all that was answered before:",
                        "what is dirty is written, then flushed"])
    to_cache(there)
    to_backend(there, "writes, then one flush")
    from_backend(back, "durable", "reply")
    answer(back, "answered: durable")

    # The meaning of the colours of the pages.
    y = HEIGHT - 20
    for x, kind, words in ((176, "clean", "clean"), (248, "dirty", "dirty"),
                           (616, "unstable", "written, not flushed")):
        element("rect", x=x, y=y - 11, width=12, height=12,
                class_="page " + kind)
        text(x + 17, y, words)

draw()
print('<svg xmlns="http://www.w3.org/2000/svg" width="%d" height="%d" '
      'viewBox="0 0 %d %d" role="img">' % (WIDTH, HEIGHT, WIDTH, HEIGHT))
print("<!-- SPDX-License-Identifier: BSD-3-Clause -->")
print("<title>The way of a read, a write, a write with FUA and a flush</title>")
print("<style>%s</style>" % STYLE)
print("\n".join(parts))
print("</svg>")
