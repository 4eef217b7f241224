#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""Options: wrong ones are refused at start in one line, good ones at their
bounds are taken, and what is there is told by --help."""

import os
import shlex
import subprocess
import sys

sys.dont_write_bytecode = True

from live import expect, wt  # noqa: E402

# Option: values that are wrong, values that are right, words that the line
# which refuses must have.
OPTIONS = {
    "size": (["", "0", "1", "1023K", "x", "1Q", "-1", "1M2", "65T", "1.5M",
              "16E", "99999999999999999999"],
             ["1M", "1048576", "2m"], ["1M"]),
    "page-size": (["", "0", "512", "2K", "3K", "6K", "4095", "2M", "x", "1G",
                   "-4096", "4K4"],
                  ["4K", "4096", "8K", "1M"], ["4K", "1M"]),
    "mode": (["", "x", "WRITEBACK", "writethroug", "wb"],
             ["writeback", "writethrough", "writearound"],
             ["writeback", "writethrough", "writearound"]),
    "dirty-max": (["", "0", "0%", "51%", "100%", "1", "63K", "x", "%", "5%%",
                   "-1", "9M"],
                  ["auto", "1%", "50%", "64K", "8M"], []),
    "dirty-age": (["", "0", "x", "-1", "30x", "ms", "0ms", "1.5",
                   "99999999999999999999"],
                  ["1", "30", "30s", "500ms", "1h"],
                  ["500ms", "above 0", "100 years", "us, ms, s, m or h"]),
    "drain": (["", "0", "x", "-1", "5d", "ms"],
              ["1", "60", "60s", "5m", "500ms"],
              ["60", "above 0", "100 years", "us, ms, s, m or h"]),
    "depth": (["", "0", "65", "x", "-1", "1K", "1.0"],
              ["auto", "1", "64"], ["auto", "64"]),
    "fill": (["", "0", "511", "256", "3K", "2M", "x", "-512"],
             ["auto", "512", "4K", "1M"], ["auto", "1M"]),
    "readahead": (["", "0", "4095", "65M", "x", "on", "-1"],
                  ["off", "4K", "2M", "64M"], ["off", "64M"]),
    "share": (["", "x", "yes", "ALWAYS"], ["auto", "always", "never"],
              ["auto", "always", "never"]),
    "key": (["", "x", "names"], ["name", "all"], ["name", "all"]),
    "keep": (["", "x", "maybe", "2"],
             ["yes", "no", "true", "false", "1", "0", "on", "off", "YES"],
             ["yes", "no"]),
    "stats": ([""], [], ["file"]),
    "name": (["", "a b", "a\"b", "a/b", "x" * 64, "ä"],
             ["disk", "a.b-c_1", "x" * 63], ["1 to 63"]),
}


def nbdkit(*words):
    """Runs nbdkit to its end; the result with its text."""
    command = shlex.split(os.environ.get("WT_NBDKIT_WRAPPER", ""))
    command += shlex.split(os.environ.get("WT_NBDKIT", "nbdkit"))
    env = dict(os.environ)
    if env.get("WT_LD_PRELOAD"):
        env["LD_PRELOAD"] = env["WT_LD_PRELOAD"]
    return subprocess.run(
        command + ["--filter=" + wt.filter_path(), *words],
        stdin=subprocess.DEVNULL, capture_output=True, text=True,
        timeout=100, check=False, env=env)


def run_with(*options):
    """Starts with these options and a command that ends at once."""
    result = nbdkit("-U", "-", "null", *options, "--run", "true")
    # nbdkit's own line about any filter that sleeps when it stops, the
    # filter's that explains it, and its advice about this version of nbdkit.
    result.stderr = "".join(
        line for line in result.stderr.splitlines(keepends=True)
        if "aborting sleep because of server shut down" not in line
        and "the line above is no error" not in line
        and "aborts when a client" not in line)
    return result


def check_refused(options, words):
    result = run_with(*options)
    assert result.returncode != 0, "%s is taken" % (options,)
    lines = result.stderr.splitlines()
    expect(len(lines), 1, result.stderr)
    for word in words:
        assert word in lines[0], (options, word, lines[0])


def check_option(name):
    bad, good, words = OPTIONS[name]
    for value in bad:
        option = "wtcache-%s=%s" % (name, value)
        extra = ["wtcache-size=16M"] if name == "dirty-max" else []
        check_refused([option] + extra,
                      ["wtcache-" + name, "must"] + words
                      + ([value] if value and value != "9M" else []))
    for value in good:
        result = run_with("wtcache-size=16M",
                          "wtcache-%s=%s" % (name, value))
        expect((result.returncode, result.stderr), (0, ""), value)


def make_test(name):
    def test():
        check_option(name)
    test.__doc__ = "Every wrong value of wtcache-%s is refused." % name
    return test


for option_name in OPTIONS:
    globals()["test_" + option_name.replace("-", "_")] = make_test(
        option_name)


def test_options_that_do_not_go_together():
    """A cache smaller than it can work with; more dirty than is sane."""
    check_refused(["wtcache-size=15M", "wtcache-page-size=1M"],
                  ["wtcache-size", "16 pages"])
    check_refused(["wtcache-size=1M", "wtcache-page-size=128K"],
                  ["wtcache-size", "16 pages"])
    check_refused(["wtcache-size=4M", "wtcache-dirty-max=3M"],
                  ["wtcache-dirty-max", "half"])
    result = run_with("wtcache-size=16M", "wtcache-page-size=1M")
    expect((result.returncode, result.stderr), (0, ""))


def test_unknown_option():
    """One that is misspelt is refused by its name."""
    check_refused(["wtcache-sizes=1M"], ["wtcache-sizes", "1M"])
    check_refused(["wtcache-=1M"], ["wtcache-"])


def test_misspelt_option():
    """The line says which one is meant, if any is near."""
    for name, meant in (("wtcache-sizes", "wtcache-size"),
                        ("wtcache-dirtymax", "wtcache-dirty-max"),
                        ("wtcache-pagesize", "wtcache-page-size"),
                        ("wtcache-reedahed", "wtcache-readahead")):
        check_refused([name + "=1M"], [name, "is %s meant?" % meant])
    result = run_with("wtcache-unrelated-words=1M")
    assert "meant" not in result.stderr, result.stderr


def test_sizes_with_the_word_bytes():
    """Other programs write 1GiB: the line says what nbdkit's form is."""
    for name, value, meant in (("size", "1GiB", "1G"), ("size", "512MB", "512M"),
                               ("page-size", "4kb", "4K"),
                               ("readahead", "2mib", "2M")):
        check_refused(["wtcache-%s=%s" % (name, value)],
                      [value, ": write %s" % meant])
    result = run_with("wtcache-size=1Gx")
    assert "write" not in result.stderr, result.stderr


def test_sizes_as_they_were_written():
    check_refused(["wtcache-size=15M", "wtcache-page-size=1M"],
                  ["wtcache-size=15M:", "that is 16M,"])
    check_refused(["wtcache-size=256M", "wtcache-dirty-max=129M"],
                  ["wtcache-dirty-max=129M:", "that is 128M"])


def test_stats_file_that_cannot_be():
    """A file in a folder that is not there is refused at start."""
    check_refused(["wtcache-stats=/nowhere/at/all"],
                  ["wtcache-stats", "/nowhere/at/all"])


def test_filter_given_twice():
    """The two would share one memory."""
    check_refused(["--filter=" + wt.filter_path()], ["--filter=wtcache", "2 times"])


def test_help():
    """--help tells of every option."""
    result = nbdkit("null", "--help")
    expect(result.returncode, 0, result.stderr)
    for name in OPTIONS:
        assert "wtcache-%s=" % name in result.stdout, name


def test_dump_plugin():
    """--dump-plugin works through the filter."""
    result = nbdkit("null", "--dump-plugin")
    expect(result.returncode, 0, result.stderr)
    assert "name=null" in result.stdout
    version = subprocess.run(
        ["nbdkit", "--dump-config"], capture_output=True, text=True,
        check=True).stdout.split("version_minor=")[1].split()[0]
    if int(version) >= 36:
        assert "wtcache_" in result.stdout


def test_other_parameters_reach_the_plugin():
    """Other parameters are passed to the plugin."""
    result = nbdkit("-U", "-", "null", "size=12K", "wtcache-size=1M", "--run",
                    "nbdinfo --size \"$uri\"")
    expect((result.returncode, result.stdout.strip()), (0, "12288"))


wt.main()
