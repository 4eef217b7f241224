# SPDX-License-Identifier: BSD-3-Clause
"""Tests of the completion in bash: what tab offers on a command line, with
nbdkit's own completion where it is installed.  A bash in a pseudo-terminal
would show the same; its functions are called directly instead."""

import os
import subprocess
import sys
import tempfile

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)),
                                "..", "lib"))

import tap  # noqa: E402

TOP = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..")
TOOLS = os.path.join(TOP, "packaging", "completions", "wtcachectl")
BUILT = os.environ.get("top_builddir", TOP)
OWN = os.path.join(TOP, "packaging", "completions", "nbdkit-wtcache-filter")
FRAMEWORK = "/usr/share/bash-completion/bash_completion"
NBDKITS = "/usr/share/bash-completion/completions/nbdkit"
FILTER = os.environ["WTCACHE_FILTER"]

# The words as readline would split them, the last being completed.
SCRIPT = """
. "$1" && . "$2" || exit
shift 2
COMP_WORDS=()
for word; do
    while [[ $word == *=* ]]; do
        COMP_WORDS+=( "${word%%=*}" "=" )
        word=${word#*=}
        [[ -n $word ]] || continue 2
    done
    COMP_WORDS+=( "$word" )
done
[[ ${COMP_WORDS[-1]} != = ]] || COMP_WORDS+=( "" )
COMP_CWORD=$(( ${#COMP_WORDS[@]} - 1 ))
COMP_LINE="$*"
COMP_POINT=${#COMP_LINE}
command=${COMP_WORDS[0]}
$(complete -p "$command" | sed 's/.*-F \\([^ ]*\\).*/\\1/') "$command" \
    "${COMP_WORDS[COMP_CWORD]}" "${COMP_WORDS[COMP_CWORD-1]}"
printf '%s\\n' "${COMPREPLY[@]}"
"""


def offered(*words, command="nbdkit", completion=OWN):
    """What tab offers for the last of the words of a command line."""
    tap.require(os.path.exists(FRAMEWORK), "bash-completion is missing")
    tools = os.path.join(BUILT, "tools") + os.pathsep
    result = subprocess.run(
        ["bash", "--norc", "-c", SCRIPT, "bash", FRAMEWORK, completion,
         command, *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        text=True, env=dict(os.environ, PATH=tools + os.environ["PATH"]))
    assert result.stderr == "", result.stderr
    return [line for line in result.stdout.split("\n") if line]


def parameters():
    """The names of the parameters, from the filter's help."""
    text = subprocess.run(
        ["nbdkit", "--filter=" + FILTER, "null", "--help"], check=True,
        stdout=subprocess.PIPE, text=True).stdout
    return sorted(line.split("=")[0] + "=" for line in text.split("\n")
                  if line.startswith("wtcache-"))


def expect(found, wanted):
    assert sorted(found) == sorted(wanted), "%r instead of %r" % (
        found, wanted)


def test_all_parameters():
    names = parameters()
    assert len(names) >= 13, names
    expect(offered("--filter=" + FILTER, "null", "wtcache-"), names)
    expect(offered("--filter", FILTER, "null", "wtcache-"), names)


def test_part_of_a_name():
    expect(offered("--filter=" + FILTER, "null", "wtcache-dirty"),
           ["wtcache-dirty-age=", "wtcache-dirty-max="])


def test_each_choice():
    """What the filter's messages name as choices is offered."""
    for name, values in (
            ("mode", ["writeback", "writethrough", "writearound"]),
            ("share", ["auto", "always", "never"]),
            ("key", ["name", "all"]), ("keep", ["yes", "no"]),
            ("readahead", ["off"]), ("depth", ["auto"]), ("fill", ["auto"]),
            ("dirty-max", ["auto"])):
        expect(offered("--filter=" + FILTER, "null",
                       "wtcache-%s=" % name), values)
        for value in values:
            subprocess.run(["nbdkit", "--filter=" + FILTER, "null",
                            "wtcache-%s=%s" % (name, value), "--run", "true"],
                           check=True)


def test_part_of_a_value():
    expect(offered("--filter=" + FILTER, "null", "wtcache-mode=writet"),
           ["writethrough"])


def test_file():
    expect(offered("--filter=" + FILTER, "null",
                   "wtcache-stats=" + OWN[:-1]), [OWN])


def test_nothing_without_the_filter():
    expect(offered("null", "wtcache-"), [])
    expect(offered("--filter=cache", "null", "wtcache-"), [])


def test_nothing_before_the_plugin():
    expect(offered("--filter=" + FILTER, "wtcache-"), [])


def test_nbdkits_own():
    tap.require(os.path.exists(NBDKITS), "nbdkit's completion is missing")
    expect(offered("--filter=" + FILTER, "--exit-with"),
           ["--exit-with-parent"])
    assert "memory" in offered("--filter=" + FILTER, "mem")
    found = offered("--filter=" + FILTER, "memory", "")
    assert "size=" in found and "wtcache-size=" in found, found


def ctl(*words):
    return offered(*words, command="wtcachectl", completion=TOOLS)


def test_commands_of_wtcachectl():
    """All that its help tells is offered, and its options where they are
    of use."""
    tool = os.path.join(BUILT, "tools", "wtcachectl")
    tap.require(os.path.exists(tool), "wtcachectl is not built")
    text = subprocess.run([tool, "--help"], check=True,
                          stdout=subprocess.PIPE, text=True).stdout
    names = [line.split()[2] for line in text.split("\n")
             if line.startswith("wtcachectl SOCKET ")]
    expect(ctl("ctl", ""), names)
    expect(ctl("ctl", "d"), ["drop", "discard"])
    expect(ctl("ctl", "set", ""), ["size", "dirty-max", "dirty-age", "depth",
                                   "readahead", "mode"])
    expect(ctl("ctl", "set", "mode", "writet"), ["writethrough"])
    expect(ctl("ctl", "set", "readahead", ""), ["off"])
    expect(ctl("ctl", "status", "-"), ["--json"])
    expect(ctl("ctl", "discard", "a", "0", "512", "--"), ["--yes"])
    expect(ctl("--v"), ["--version"])
    expect(ctl("ctl", "status", ""), [])
    expect(ctl(TOOLS[:-1]), [TOOLS])
    expect(ctl("ctl", "trace", TOOLS[:-1]), [TOOLS])


def test_names_of_exports():
    """A server that is there is asked for them."""
    tap.require(os.path.exists(os.path.join(BUILT, "tools", "wtcachectl")),
                "wtcachectl is not built")
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "ctl")
        result = subprocess.run(
            ["nbdkit", "-U", "-", "--filter=" + FILTER, "null", "size=1M",
             "wtcache-control=" + path, "--run",
             "nbdinfo --size nbd+unix:///vm-1?socket=$unixsocket >&2; "
             "nbdinfo --size nbd+unix:///vm%202?socket=$unixsocket >&2; "
             + sys.executable + " " + os.path.abspath(__file__)
             + " --names " + path],
            stdout=subprocess.PIPE, text=True)
        expect(result.stdout.split("\n")[:2],
               ["['vm-1', 'vm\\\\ 2']", "['vm-1']"])
    expect(ctl(folder + "/gone", "flush", ""), [])


if __name__ == "__main__" and sys.argv[1:2] == ["--names"]:
    print(sorted(ctl(sys.argv[2], "flush", "")))
    print(ctl(sys.argv[2], "prefetch", "vm-"))
elif __name__ == "__main__":
    tap.main()
