#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""Writes what the filter's help says of its parameters into the documents.

    docs/parameters.py FILTER            writes README.md and the manual page
    docs/parameters.py --check FILTER    exit status 1 if they are stale

FILTER is the module that was built, nbdkit-wtcache-filter.so.  The table of
README.md, the SYNOPSIS of the manual page, and there each parameter's head and
the line below it are taken from nbdkit --help; the text below that is not
touched.
"""

import os
import re
import subprocess
import sys

TOP = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
PAGE, README = "docs/nbdkit-wtcache-filter.pod", "README.md"
BEGIN, END = "<!-- options: docs/parameters.py -->\n", "<!-- end of options -->\n"

# One in the help: its name, its forms, and all that explains it.
PARAMETER = re.compile(r"^wtcache-([-a-z]+)=(\S+)((?:\n? +.*)+)", re.M)
# Its explanation: its purpose, its range or nothing, its default, and whether
# it is changeable.
PARTS = re.compile(r"(.*) \((?:(a .*); )?default ([^ ;]+)(; changeable)?\)$")


class Parameter:
    def __init__(self, name, forms, text):
        self.name, self.forms = name, forms
        self.help, self.range, self.default, self.changeable = PARTS.match(
            " ".join(text.split())).groups()


def read_help(module):
    text = subprocess.run(["nbdkit", "--filter=" + module, "null", "--help"],
                          stdout=subprocess.PIPE, check=True, text=True).stdout
    return [Parameter(*found) for found in PARAMETER.findall(text)]


def readme(text, parameters):
    begin, end = text.index(BEGIN), text.index(END)
    rows = ["| `wtcache-%s=%s` | %s | %s%s |" % (
        p.name, p.forms.replace("|", "\\|"), p.default, p.help,
        " (%s)" % p.range if p.range else "") for p in parameters]
    return "%s%s\n| option | default | meaning |\n|---|---|---|\n%s\n\n%s" % (
        text[:begin], BEGIN, "\n".join(rows), text[end:])


def synopsis(text, parameters):
    begin = re.search(r"\n +\[wtcache-", text).start()
    end = text.index("\n\n", begin)
    return text[:begin] + "".join(
        "\n%s[wtcache-%s=%s]" % (" " * 25, p.name, p.forms)
        for p in parameters) + text[end:]


def line(p):
    """The line below the head of a parameter."""
    sentences = [p.range[0].upper() + p.range[1:] + "."] if p.range else []
    sentences.append("The default is %s." % p.default)
    if p.changeable:
        sentences.append("wtcachectl can change it.")
    return "I<%s>" % "  ".join(sentences)


def page(text, parameters):
    text = synopsis(text, parameters)
    begin = text.index("=head1 PARAMETERS")
    end = text.index("\n=head1", begin)
    parts = re.split(r"(?m)^=item B<wtcache-([-a-z]+)=>.*\n\n(?:I<.*>\n\n)?",
                     text[begin:end])
    names = [p.name for p in parameters]
    if parts[1::2] != names:
        sys.exit("%s: PARAMETERS has not these, in this order: %s" % (
            PAGE, ", ".join(names)))
    heads = ["=item B<wtcache-%s=>%s\n\n%s\n\n" % (p.name, p.forms, line(p))
             for p in parameters]
    return text[:begin] + parts[0] + "".join(
        head + prose for head, prose in zip(heads, parts[2::2])) + text[end:]


def main(words):
    check = words[:1] == ["--check"]
    parameters = read_help(words[-1])
    stale = 0
    for name, write in (README, readme), (PAGE, page):
        path = os.path.join(TOP, name)
        with open(path, encoding="utf-8") as f:
            old = f.read()
        new = write(old, parameters)
        if check and new != old:
            print("%s: the parameters are stale: run docs/parameters.py" % name)
            stale = 1
        elif not check:
            with open(path, "w", encoding="utf-8") as f:
                f.write(new)
    return stale


if __name__ == "__main__":
    if not sys.argv[1:] or sys.argv[1:] == ["--check"]:
        sys.exit(__doc__)
    sys.exit(main(sys.argv[1:]))
