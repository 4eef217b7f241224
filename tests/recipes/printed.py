# SPDX-License-Identifier: BSD-3-Clause
"""The commands in documents: their code blocks, by section.

In Markdown a block is fenced and has a language: sh is a command to run,
text is not, anything else is a part of a file of the source.  In pod each
verbatim paragraph is a command.  A comment just before a block says what is
special of it; in Markdown

    <!-- not run here: REASON -->
    <!-- fails -->                 each of its lines does
    <!-- in the guest -->          run there, or a file that is put there
    <!-- with: NAME... -->         what the section needs (see world)
    <!-- file: PATH -->            the file that this is a part of

and in pod "=for comment not run here: REASON" and "=for comment with: ...".
This module runs nothing.
"""

import re

FENCE = re.compile(r"^```(.*)$")
MARK = re.compile(r"^<!-- (not run here|fails|in the guest|with|file)"
                  r"(?:: (.*))? -->$")
POD_MARK = re.compile(r"^=for comment (not run here|with): (.*)$")


class Block:
    """A code block: its language, text, first line and marks."""

    def __init__(self, language, line, marks):
        self.language = language
        self.line = line
        self.marks = marks
        self.lines = []

    @property
    def text(self):
        return "\n".join(self.lines) + "\n"

    @property
    def in_guest(self):
        return "in the guest" in self.marks

    @property
    def runs(self):
        return self.language == "sh" and "not run here" not in self.marks

    def script(self):
        """The block for a shell that ends at the first error."""
        script = "echo '# line %d'\n" % self.line
        if "fails" not in self.marks:
            return script + self.text
        return script + "".join(
            "if %s; then false; fi\n" % command
            for command in self.commands())

    def commands(self):
        """Its lines, those that go on in the next one joined."""
        joined = re.sub(r"\\\n\s*", "", self.text)
        return [line for line in joined.splitlines()
                if line.strip() and not line.startswith("#")]


class Section:
    """The text under one heading of a document."""

    def __init__(self, document, title):
        self.document = document
        self.title = title
        self.blocks = []

    @property
    def name(self):
        words = self.document.split("/")[-1].split(".")[0] + " " + self.title
        return re.sub(r"[^a-z0-9]+", "_", words.lower()).strip("_")

    @property
    def needs(self):
        return [word for block in self.blocks
                for word in block.marks.get("with", "").split()]

    def runs(self):
        return any(block.runs for block in self.blocks)

    def in_guest(self):
        return any(block.in_guest for block in self.blocks)


def markdown(path, lines):
    section = Section(path, "")
    marks, block = {}, None
    for number, line in enumerate(lines, 1):
        fence = FENCE.match(line)
        if block is not None:
            if fence:
                block = None
            else:
                block.lines.append(line)
        elif fence:
            block = Block(fence.group(1), number, marks)
            section.blocks.append(block)
            marks = {}
        elif MARK.match(line):
            name, value = MARK.match(line).groups()
            marks[name] = value or ""
        elif line.startswith("#"):
            yield section
            section = Section(path, line.lstrip("# "))
        elif line.startswith("    "):
            raise AssertionError("%s:%d: a block without a fence" % (
                path, number))
        elif line:
            assert not marks, "%s:%d: a mark with no block" % (path, number)
    yield section


def pod(path, lines):
    section = Section(path, "")
    marks, block = {}, None
    for number, line in enumerate(lines, 1):
        if line[:1] in (" ", "\t"):
            if block is None:
                block = Block("sh", number, marks)
                section.blocks.append(block)
                marks = {}
            block.lines.append(line)
            continue
        block = None
        if POD_MARK.match(line):
            name, value = POD_MARK.match(line).groups()
            marks[name] = value
        elif line.startswith(("=head", "=item")):
            yield section
            section = Section(path, line.partition(" ")[2])
        elif line:
            assert not marks, "%s:%d: a mark with no block" % (path, number)
    yield section


def sections(top, path):
    """The sections of a document that have code blocks."""
    with open("%s/%s" % (top, path), encoding="utf-8") as f:
        lines = f.read().splitlines()
    parse = pod if path.endswith(".pod") else markdown
    return [section for section in parse(path, lines) if section.blocks]
