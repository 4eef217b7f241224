# SPDX-License-Identifier: BSD-3-Clause
"""Tests of the completion in bash: what tab offers on a command line, with
nbdkit's own completion where it is installed.  A bash in a pseudo-terminal
would show the same; its functions are called directly instead."""

import os
import re
import shutil
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
FOLDER = os.path.join(TOP, "packaging", "completions")
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
    """The completions of the last of the words of a command line."""
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
    """The choices that the filter's messages name are offered."""
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
    names = re.findall(r"^  ([a-z]+)[^a-z]", text, re.M)
    assert len(names) >= 10, names
    for words in [], ["./ctl"]:
        expect(ctl(*words, ""), names)
        expect(ctl(*words, "d"), ["drop", "discard"])
        expect(ctl(*words, "set", ""), ["size", "dirty-max", "dirty-age",
                                        "depth", "readahead", "mode"])
        expect(ctl(*words, "set", "mode", "writet"), ["writethrough"])
        expect(ctl(*words, "set", "readahead", ""), ["off"])
        expect(ctl(*words, "set", "dirty-age", ""), [])
        expect(ctl(*words, "get", "dirty"), ["dirty-max", "dirty-age"])
        expect(ctl(*words, "help", "tr"), ["trace"])
        options = ["--json", "--timeout=", "--help", "--version"]
        expect(ctl(*words, "status", "-"), options)
        expect(ctl(*words, "discard", "a", "0", "512", "--"),
               options + ["--yes"])
        expect(ctl(*words, "status", ""), [])
        expect(ctl(*words, "trace", TOOLS + ".fi"), [TOOLS + ".fish"])
    expect(ctl("--v"), ["--version"])
    expect(ctl(TOOLS + ".fi"), [TOOLS + ".fish"])


def test_names_of_servers():
    with tempfile.TemporaryDirectory() as folder:
        for name in "disk.ctl", "other.ctl", "disk.sock":
            open(os.path.join(folder, name), "w").close()
        os.environ["WTCACHE_RUN"] = folder
        try:
            expect(ctl("di"), ["disk", "discard"])
            expect(ctl("oth"), ["other"])
        finally:
            del os.environ["WTCACHE_RUN"]


def shell(name, *words):
    """Runs another shell with the completions of the tree."""
    tap.require(shutil.which(name), name + " is not installed")
    tools = os.path.join(BUILT, "tools") + os.pathsep
    result = subprocess.run(
        [name, *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        text=True, env=dict(os.environ, PATH=tools + os.environ["PATH"]))
    assert result.returncode == 0 and result.stderr == "", result
    return result.stdout


def fish(line, command="wtcachectl"):
    """fish's completions of the last word of a line, undescribed."""
    path = os.path.join(FOLDER, command + ".fish")
    out = shell("fish", "-N", "-c",
                "cd /; source %s; complete -C '%s'" % (path, line))
    return [text.split("\t")[0] for text in out.splitlines()]


def test_fish():
    for server in "", "./ctl ":
        found = fish("wtcachectl %s" % server)
        for name in "status", "flush", "get", "list":
            assert name in found, found
        expect(fish("wtcachectl %sset dep" % server), ["depth"])
        expect(fish("wtcachectl %sset mode writet" % server), ["writethrough"])
        expect(fish("wtcachectl %sstatus --js" % server), ["--json"])
        expect(fish("wtcachectl %sget page" % server), ["page-size"])
    expect(fish("wtcache-top --int", "wtcache-top"), ["--interval"])


def check_options(program):
    """Those of the help, in each shell."""
    tool = os.path.join(BUILT, "tools", program)
    tap.require(os.path.exists(tool), program + " is not built")
    text = subprocess.run([tool, "--help"], check=True,
                          stdout=subprocess.PIPE, text=True).stdout
    names = re.findall(r"^ .*?--([a-z]+)", text, re.M)
    assert len(names) >= 6, names
    for file, form in (("_" + program, "--%s"), (program + ".fish", "-l %s")):
        with open(os.path.join(FOLDER, file), encoding="ascii") as f:
            text = f.read()
        for name in names:
            assert form % name in text, (file, name)
    found = offered("--", command=program,
                    completion=os.path.join(FOLDER, program))
    for name in names:
        assert any(word.rstrip("=") == "--" + name for word in found), found


def test_options_of_wtcache_top():
    check_options("wtcache-top")


def test_options_of_wtcache_replay():
    check_options("wtcache-replay")


def test_options_of_wtcache_tier():
    check_options("wtcache-tier")


def test_commands_of_wtcache_tier():
    """Each command of the help, in each shell."""
    tool = os.path.join(BUILT, "tools", "wtcache-tier")
    tap.require(os.path.exists(tool), "wtcache-tier is not built")
    text = subprocess.run([tool, "--help"], check=True,
                          stdout=subprocess.PIPE, text=True).stdout
    names = re.findall(r"^  ([a-z]+) ", text, re.M)
    assert len(names) == 4, names
    for file in "wtcache-tier", "_wtcache-tier", "wtcache-tier.fish":
        with open(os.path.join(FOLDER, file), encoding="ascii") as f:
            assert " ".join(names) in f.read(), (file, names)


def test_zsh():
    """The functions are well formed, and found by the name of the command."""
    for name in ("wtcachectl", "wtcache-replay", "wtcache-tier",
                 "wtcache-top"):
        path = os.path.join(FOLDER, "_" + name)
        shell("zsh", "-n", path)
        out = shell("zsh", "-f", "-c", "fpath=( %s $fpath ); autoload -Uz "
                    "compinit; compinit -D -u; echo $_comps[%s]"
                    % (os.path.abspath(FOLDER), name))
        expect(out, "_%s\n" % name)


def test_options_in_zsh():
    """The names and values that the function finds in the help."""
    with open(os.path.join(FOLDER, "_wtcachectl"), encoding="ascii") as f:
        text = f.read()
    listed = text[text.index("_wtcachectl_options ()"):]
    listed = listed[:listed.index("\n}") + 2]
    names, values = re.findall(r"compadd -- (\$\{\$?.*_wtcachectl_options"
                               r"[^;]*) ;;", text)
    for words, form, wanted in (
            ([], names, ["size", "dirty-max", "dirty-age", "depth",
                         "readahead", "mode"]),
            (["mode"], values, ["writeback", "writethrough", "writearound"]),
            (["depth"], values, ["auto"]), (["size"], values, [])):
        out = shell("zsh", "-f", "-c", "%s\ncommand=set words_left=( %s )\n"
                    "print -- %s" % (listed, " ".join(words), form))
        expect(out.split(), wanted)


def test_names_of_exports():
    """A server that is there is asked for them: those that were read."""
    tap.require(os.path.exists(os.path.join(BUILT, "tools", "wtcachectl")),
                "wtcachectl is not built")
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "ctl")
        result = subprocess.run(
            ["nbdkit", "-U", "-", "--filter=" + FILTER, "pattern", "size=1M",
             "wtcache-control=" + path, "--run",
             "nbdcopy nbd+unix:///vm-1?socket=$unixsocket null:; "
             "nbdcopy nbd+unix:///vm%202?socket=$unixsocket null:; "
             + sys.executable + " " + os.path.abspath(__file__)
             + " --names " + path],
            stdout=subprocess.PIPE, text=True)
        expect(result.stdout.split("\n")[:2],
               ["['vm-1', 'vm\\\\ 2']", "['vm-1']"])
    expect(ctl(folder + "/gone", "flush", ""), [])


if sys.argv[1:2] == ["--names"]:
    print(sorted(ctl(sys.argv[2], "flush", "")))
    print(ctl(sys.argv[2], "prefetch", "vm-"))
else:
    tap.main()
