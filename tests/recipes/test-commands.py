#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""The commands that the README, the manual pages, docs/operations.md and other
documents print, run as they are printed.

Each section is one test: its blocks in order, in a folder and a world of its
own (see world), ended by the first command that fails.  Where a block is a
part of a file, it must be one still; where a link names a file, a heading or
a test, it must be there; and the picture is what its script draws.
"""

import glob
import os
import re
import shutil
import subprocess
import sys

sys.dont_write_bytecode = True
HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [os.path.join(HERE, "..", "lib"), HERE]

import tap  # noqa: E402
import wt  # noqa: E402
import printed  # noqa: E402
import world  # noqa: E402

TOP = os.path.join(HERE, "..", "..")
DOCUMENTS = ["HACKING.md", "README.md", "SECURITY.md", "docs/faq.md",
             "docs/laws.md", "docs/nbdkit-wtcache-filter.pod",
             "docs/operations.md", "docs/peers.md", "docs/testing.md",
             "docs/upgrade.md", "docs/wtcache-replay.pod",
             "docs/wtcache-tier.pod", "docs/wtcache-top.pod",
             "docs/wtcachectl.pod"]

# Programs that may be missing where the tests run.
PROGRAMS = ["certtool", "jq", "nbdcopy", "nbdinfo", "nbdsh", "psktool", "qemu-img",
            "qemu-io", "qemu-system-x86_64", "systemd-socket-activate"]
TOOLS = ["wtcache-replay", "wtcache-tier", "wtcache-top", "wtcachectl"]
PLUGINS = ["curl", "file", "nbd", "S3", "sh", "ssh"]


def require_programs(script):
    """Skips a test for which something is not installed."""
    for word in re.findall(r"(?m)(?:^ *|\| )([\w.-]+) ", script):
        if word in TOOLS:
            tap.require(os.path.exists(os.path.join(
                os.environ.get("top_builddir", TOP), "tools", word)),
                word + " is not built")
        if word in PROGRAMS:
            tap.require(shutil.which(word), "there is no " + word)
    for plugin in PLUGINS:
        if re.search(r"nbdkit .*\b%s " % plugin, script):
            done = subprocess.run(["nbdkit", plugin, "--version"],
                                  stdin=subprocess.DEVNULL,
                                  capture_output=True)
            tap.require(done.returncode == 0,
                        "nbdkit has no %s plugin" % plugin)


def run(section):
    """Runs a section's blocks, one shell for all."""
    script = "set -eu\nset -o pipefail\n"
    script += "".join(block.script() for block in section.blocks
                      if block.runs)
    require_programs(script)
    try:
        world.run(["bash", "-x", ".script"], section.needs,
                  {".script": script})
    except AssertionError as error:
        raise AssertionError("%s, %s: %s" % (
            section.document, section.title, error)) from None


def check_file(section, block):
    """A block that is a part of a file."""
    where = "%s:%d" % (section.document, block.line)
    assert "file" in block.marks, (
        where + ": neither sh nor text: of which file is it a part?")
    with open(os.path.join(TOP, block.marks["file"]), encoding="utf-8") as f:
        assert block.text in f.read(), (
            "%s: not as in %s" % (where, block.marks["file"]))


def test_files():
    """Text that is quoted from files is in them."""
    for section in ALL:
        for block in section.blocks:
            if block.language not in ("sh", "text") and not block.in_guest:
                check_file(section, block)


LINK = re.compile(r"\[([^]]*)\]\(([^)\s]+)\)")


def anchors(path):
    """The headings of a document, as links name them."""
    with open(path, encoding="utf-8") as f:
        titles = [line.lstrip("# ").strip() for line in f
                  if line.startswith("#")]
    return {re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-")
            for title in titles}


def check_link(document, words, target):
    """A link leads somewhere, and the test it names is there."""
    where = "%s: [%s](%s)" % (document, words, target)
    path, _, anchor = target.partition("#")
    path = os.path.normpath(os.path.join(
        TOP, os.path.dirname(document) if path else "", path or document))
    assert os.path.exists(path), where + ": no such file"
    if anchor:
        assert anchor in anchors(path), where + ": no such heading"
    if re.match(r"^`test_\w+`$", words):
        with open(path, encoding="utf-8") as f:
            assert re.search(r"\b%s ?\(" % words.strip("`"), f.read()), (
                where + ": no such test")


def test_links():
    """The targets of links in documents exist."""
    for document in DOCUMENTS:
        with open(os.path.join(TOP, document), encoding="utf-8") as f:
            links = LINK.findall(f.read().replace("\n", " "))
        assert links or document.endswith(".pod")
        for words, target in links:
            if not target.startswith("http"):
                check_link(document, words, target)


def test_log_lines():
    """The log lines in docs/operations.md are those that are logged."""
    sources = ""
    for path in glob.glob(os.path.join(TOP, "plugins", "wtcache", "**", "*.c"),
                          recursive=True):
        with open(path, encoding="utf-8") as f:
            sources += re.sub(r'"\n +"', "", f.read())
    with open(os.path.join(TOP, "docs", "operations.md"),
              encoding="utf-8") as f:
        table = f.read().split("## Lines of the log")[1].split("\n## ")[0]
    lines = re.findall(r"(?m)^\| `([^`]+)` \|", table)
    assert len(lines) > 5
    for line in lines:
        # The first one is nbdkit's.
        assert line in sources or line.startswith("aborting"), line


def test_rows():
    """The rows of the benchmark that the README names are there."""
    with open(os.path.join(TOP, "README.md"), encoding="utf-8") as f:
        table = f.read().split("| row |\n")[1].split("\n\n")[0]
    rows = ""
    for name in "instructions.py", "rows.py":
        with open(os.path.join(TOP, "bench", name), encoding="utf-8") as f:
            rows += f.read()
    names = re.findall(r"(?m)`([a-z0-9-]+)` \|$", table)
    assert len(names) == table.count("\n"), names
    for name in names:
        assert '"%s"' % name in rows, name


def test_picture():
    """The picture is what its script draws."""
    drawn = subprocess.run(
        [sys.executable, os.path.join(TOP, "docs", "data-path.py")],
        stdout=subprocess.PIPE, check=True, text=True).stdout
    with open(os.path.join(TOP, "docs", "data-path.svg"),
              encoding="utf-8") as f:
        assert f.read() == drawn, "docs/data-path.svg: draw it again"


def tests_of(section):
    def test():
        run(section)
    test.timeout = 240
    return test


ALL = [section for document in DOCUMENTS
       for section in printed.sections(TOP, document)]
for each in ALL:
    # Commands of the kernel's client are run by nbd-client.py.
    if each.runs() and not each.in_guest():
        name = "test_" + each.name
        assert name not in globals(), "two sections of one name: " + name
        globals()[name] = tests_of(each)


wt.main()
