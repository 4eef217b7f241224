# SPDX-License-Identifier: BSD-3-Clause
"""Tests of wtcache-top: what it makes of files as servers write them, in
every state, on paper and as JSON; and its command line."""

import ctypes
import json
import os
import re
import select
import subprocess
import sys
import time

sys.dont_write_bytecode = True

import top  # noqa: E402
from top import (  # noqa: E402
    Export, HERE, MIB, TOP, as_json, expect, expect_near, exposition,
    fails, fresh, once, one_export, run, tap)


# The state in words.

def state(**values):
    path = fresh(Export("disk", **values))
    export = one_export(path)
    assert export["state"] in once(path), once(path)
    return export["condition"], export["state"]


def test_all_on_the_backend():
    expect(state(), ("clean", "all on the backend"))


def test_dirty():
    expect(state(dirty_bytes=12 * MIB, oldest_dirty_seconds=3.2),
           ("held", "12 MiB dirty, oldest 3 s"))


def test_on_its_way_and_not_flushed():
    expect(state(writeback_bytes=MIB, unstable_bytes=5000),
           ("held", "1 MiB on its way, 4.9 KiB not flushed"))
    expect(state(dirty_bytes=512, oldest_dirty_seconds=7200,
                 writeback_bytes=MIB, unstable_bytes=MIB),
           ("held", "512 B dirty, oldest 2 h 0 min, 1 MiB on its way, "
            "1 MiB not flushed"))


def test_refusing():
    since = time.mktime((2020, 5, 17, 14, 3, 5, 0, 0, -1))
    condition, words = state(
        refusing=1, error="ENOSPC", dirty_bytes=12 * MIB,
        oldest_dirty_seconds=200,
        refusing_since_timestamp_seconds=since)
    expect(condition, "refusing")
    expect(words, "backend refuses writes: ENOSPC since 2020-05-17 14:03:05;"
           " 12 MiB dirty, oldest 3 min")


def test_refusing_since_today():
    since = int(time.time()) - 1
    _, words = state(refusing=1, error="EIO", dirty_bytes=512,
                     refusing_since_timestamp_seconds=since)
    # Unless midnight was a second ago.
    clock = time.strftime("%H:%M:%S", time.localtime(since))
    assert re.match("backend refuses writes: EIO since (.* )?%s; 512 B dirty"
                    % clock, words), words


def test_refusing_without_a_reason():
    expect(state(refusing=1, dirty_bytes=512),
           ("refusing",
            "backend refuses writes; 512 B dirty, oldest 0 s"))


def test_unknown_state():
    """An older filter may not tell all."""
    path = fresh(written=time.time())
    with open(path, "a") as f:
        f.write('wtcache_dirty_bytes{export="a"} 0\n')
    expect(one_export(path)["condition"], "unknown")
    assert "the file does not tell what is dirty" in once(path)


def test_stale():
    path = fresh(Export(), written=time.time() - 600)
    assert ("not written for 10 min: the server has ended, or hangs"
            in once(path)), once(path)
    found = as_json(path)[0]
    assert found["stale"] and 600 <= found["age_seconds"] < 4000, found
    path = fresh(Export())
    expect(as_json(path)[0]["stale"], False)
    assert "not written" not in once(path)


def test_stale_state():
    """The state in an old file is not shown as that of now."""
    then = time.mktime((2020, 5, 17, 14, 3, 5, 0, 0, -1))
    path = fresh(Export("disk"), written=then)
    found = one_export(path)
    expect((found["condition"], found["state"]),
           ("unknown", "last known at 2020-05-17 14:03:05: all on the backend"))
    assert found["state"] in once(path), once(path)
    path = fresh(Export("disk", dirty_bytes=512, oldest_dirty_seconds=2),
                 written=then)
    expect(one_export(path)["state"],
           "last known at 2020-05-17 14:03:05: 512 B dirty, oldest 2 s")


def test_server_that_has_ended():
    """It says so in its last file, and whether it has lost anything."""
    then = time.mktime((2020, 5, 17, 14, 3, 5, 0, 0, -1))
    path = fresh(Export("disk"), written=then, ended=1)
    text = once(path)
    assert ("the server ended at 2020-05-17 14:03:05, with all on the backend"
            in text), text
    assert "hangs" not in text, text
    found = as_json(path)[0]
    expect((found["ended"], found["lost_bytes"],
            found["exports"][0]["condition"]), (True, 0, "clean"))
    path = fresh(Export("disk", dirty_bytes=MIB, oldest_dirty_seconds=2),
                 written=then, ended=1, lost=MIB)
    text = once(path)
    assert ("the server ended at 2020-05-17 14:03:05 and LOST 1 MiB that it "
            "could not make durable" in text), text
    found = as_json(path)[0]
    expect((found["lost_bytes"], found["exports"][0]["condition"]),
           (MIB, "unknown"))


def test_no_export():
    path = fresh()
    assert "no export has been opened" in once(path)
    expect(as_json(path)[0]["exports"], [])


def test_saving():
    path = fresh(Export(), curve={0.25: 0.9, 0.5: 0.8, 1: 0.4, 2: 0.3})
    assert ("doubling the cache would save 25 % of backend reads"
            in once(path)), once(path)
    found = as_json(path)[0]
    expect_near(found["saved_by_doubling"], 0.25)
    expect(found["curve"][0],
           {"size_ratio": 0.25, "size_bytes": 64 * MIB, "miss_ratio": 0.9})


def test_no_saving_without_estimate():
    for curve, sampled in (({}, 9999), ({1: 0.4}, 9999), ({1: 0, 2: 0}, 9999),
                           ({1: "NaN", 2: "NaN"}, 9999),
                           ({1: 0.5, 2: 0}, 0)):
        path = fresh(Export(), curve=curve, sampled=sampled)
        assert "doubling" not in once(path), curve
        assert "saved_by_doubling" not in as_json(path)[0], curve


def test_too_few_reads_for_a_curve():
    """Ten samples say nothing."""
    path = fresh(Export(), curve={0.5: 0.9, 1: 0.4, 2: 0.2}, sampled=10)
    text = once(path)
    assert "not enough reads yet (10 of 1000 in the sample)" in text, text
    assert "doubling" not in text, text
    found = as_json(path)[0]
    expect(found["curve_sampled_reads"], 10)
    assert "curve" not in found and "saved_by_doubling" not in found, found
    message = fails(1, "--curve", "/nonexistent/x.svg", path)
    assert "not enough reads (10 of 1000 in the sample)" in message, message


def test_warnings():
    text = once(fresh(Export(throttled_writes=3, failed_requests=2,
                             errors={"write": 4, "flush": 1})))
    assert "3 writes waited at the bound" in text, text
    assert "5 calls of the backend failed" in text, text
    assert "2 requests failed" in text, text
    text = once(fresh(Export()))
    assert "failed" not in text and "waited" not in text, text


# Names.

def test_names():
    path = fresh(Export("", number=1), Export("a b", tls="yes", number=2),
                 Export("same", number=3), Export("same", number=4),
                 Export("same", tls="yes", number=5))
    text = once(path)
    for name in ("default export", "a b (TLS)", "same #3", "same #4",
                 "same (TLS)"):
        assert "\n%s  0 clients" % name in text, (name, text)
    expect([(e["export"], e["tls"], e["number"])
            for e in as_json(path)[0]["exports"]],
           [("", False, "1"), ("a b", True, "2"), ("same", False, "3"),
            ("same", False, "4"), ("same", True, "5")])


def test_names_that_are_escaped():
    name = 'quote " backslash \\ newline \n brace } comma , equals ='
    path = fresh(Export(name))
    expect(one_export(path)["export"], name)


def test_names_that_a_terminal_would_obey():
    path = fresh(Export("\x1b[31mred\x07\u009b2J"))
    text = once(path)
    assert "\\x1b[31mred\\x07\\xc2\\x9b2J" in text, text
    assert not set(text) & {"\x1b", "\x07", "\u009b"}, text


def test_names_outside_of_the_locale():
    path = fresh(Export("Größe"))
    assert "Größe" in once(path)
    assert "Gr\\xc3\\xb6\\xc3\\x9fe" in once(path, locale="C")


def test_name_that_is_not_utf8():
    path = fresh()
    with open(path, "ab") as f:
        f.write(b'wtcache_dirty_bytes{export="\xff\xfe"} 0\n')
    assert "\\xff\\xfe" in once(path)
    expect(one_export(path)["export"], "\\xff\\xfe")


# Numbers.

def test_totals():
    text = once(fresh(Export(
        read_requests=1500, read_bytes=3 * MIB, read_hit_requests=1455,
        seconds={"read": [0.005] * 90 + [0.05] * 10}, batches=[1, 2, 3],
        backend_reads=100, cached_pages=256)))
    assert re.search(r"read +1\.5k +3 MiB +97 % hits\n", text), text
    assert re.search(r"backend read +100 +0 B +p50 6 ms, p99 91 ms\n", text)
    assert "2 writes a batch" in text, text
    assert "1 MiB of pages" in text, text
    assert "/s" not in text, text


def test_no_quantile_of_nothing():
    text = once(fresh(Export()))
    assert "p50" not in text and "hits" not in text, text
    export = one_export(fresh(Export()))
    expect(export["backend"]["read"], {"calls": 0})
    assert "hit_ratio" not in export, export


def test_quantiles():
    """Even within a bucket; beyond the last finite bound, that one."""
    export = one_export(fresh(Export(
        seconds={"read": [0.0005] * 10, "flush": [100],
                 "write": [0.00005] * 50 + [0.5] * 50})))
    read, write = export["backend"]["read"], export["backend"]["write"]
    expect_near(read["p50_seconds"], 0.0001 + 0.0009 / 2)
    expect_near(read["mean_seconds"], 0.0005)
    expect_near(write["p50_seconds"], 0.0001)
    expect_near(write["p90_seconds"], 0.1 + 0.9 * 0.8)
    expect_near(export["backend"]["flush"]["p99_seconds"], 60)


def test_waits_of_clients():
    """Those that there were have a line, all that the file has an object."""
    file = fresh(Export(waits={"read_hit": [0.00005] * 100,
                               "fua_write": [0.005] * 90 + [0.05] * 10}))
    text = once(file)
    assert re.search(r"\n +a hit takes +p50 50 µs, p99 99 µs\n", text), text
    assert re.search(r"\n +a FUA write takes +p50 6 ms, p99 91 ms\n", text)
    assert text.count(" takes ") == 2, text
    found = one_export(file)["requests"]
    expect_near(found["read_hit"]["p50_seconds"], 0.00005)
    expect(found["read_miss"], {"calls": 0})
    expect(sorted(found), ["flush", "fua_write", "read_hit", "read_miss",
                           "write"])


def watch_closed(path):
    """A descriptor that is readable once a process has read the file."""
    libc = ctypes.CDLL(None, use_errno=True)
    fd = libc.inotify_init1(os.O_CLOEXEC)
    close_nowrite = 0x10
    assert libc.inotify_add_watch(fd, path.encode(), close_nowrite) >= 0, (
        os.strerror(ctypes.get_errno()))
    return fd


def rates_of(before, after, seconds=2):
    """The export that is told of two files, one after the other."""
    now = time.time()
    path = fresh(before, written=now - seconds)
    closed = watch_closed(path)
    waiting = subprocess.Popen([TOP, "--json", "--rates", path],
                               stdout=subprocess.PIPE, text=True)
    try:
        assert select.select([closed], [], [], 60 * tap.SCALE)[0], (
            "it does not read the file")
        assert waiting.poll() is None, "it does not wait"
        exposition.write(path, after, written=now)
        text, _ = waiting.communicate(timeout=60 * tap.SCALE)
    finally:
        waiting.kill()
        waiting.wait()
        os.close(closed)
    expect(waiting.returncode, 0)
    found = json.loads(text)["files"][0]
    assert abs(found["interval_seconds"] - seconds) < 1e-3, found
    return found["exports"][0]


def test_rates():
    tap.require(os.path.exists(TOP), "wtcache-top is not built")
    before = Export("disk", read_requests=1000, read_hit_requests=10,
                    read_bytes=MIB, seconds={"read": [0.05] * 50})
    after = Export("disk", read_requests=1200, read_hit_requests=160,
                   read_bytes=5 * MIB,
                   seconds={"read": [0.05] * 50 + [0.005] * 10})
    found = rates_of(before, after)
    expect_near(found["rates"]["read_requests"], 100)
    expect_near(found["rates"]["read_bytes"], 2 * MIB)
    expect(found["rates"]["write_requests"], 0)
    expect_near(found["hit_ratio"], 0.75)
    expect(found["backend"]["read"]["calls"], 10)
    expect_near(found["backend"]["read"]["p50_seconds"], 0.0055)
    assert "dirty_bytes" not in found["rates"], found["rates"]


def test_rates_after_a_restart():
    """Counters that begin anew have grown by what they are."""
    tap.require(os.path.exists(TOP), "wtcache-top is not built")
    found = rates_of(
        Export("disk", read_requests=1000, seconds={"read": [0.05] * 5}),
        Export("disk", read_requests=40, read_hit_requests=10,
               seconds={"read": [0.005] * 2}))
    expect_near(found["rates"]["read_requests"], 20)
    expect(found["backend"]["read"]["calls"], 2)


def test_rates_of_a_new_export():
    tap.require(os.path.exists(TOP), "wtcache-top is not built")
    found = rates_of(Export("old", number=1),
                     Export("new", number=2, write_requests=8))
    expect(found["export"], "new")
    expect_near(found["rates"]["write_requests"], 4)


def test_rates_of_a_stale_file():
    """It is not waited for."""
    path = fresh(Export(), written=time.time() - 600)
    result = run("--once", "--rates", path)
    expect(result.returncode, 0)
    assert "not written for" in result.stdout, result.stdout


# A line an interval.

INTERVAL = """time       read/s    hits   read B/s  write/s   FUA/s  write B/s \
 b.read/s b.write/s b.flush/s      held"""


def intervals(before, *more, arguments=()):
    """The lines that are printed of a file, and of it after a second file
    took its place."""
    tap.require(os.path.exists(TOP), "wtcache-top is not built")
    now = time.time()
    path = fresh(before, written=now - 4)
    closed = watch_closed(path)
    process = subprocess.Popen([TOP, "--interval", "1", *arguments, path],
                               stdout=subprocess.PIPE, text=True)
    try:
        assert select.select([closed], [], [], 60 * tap.SCALE)[0], (
            "it does not read the file")
        exposition.write(path, *more, written=now - 2)
        if not arguments:
            expect(process.stdout.readline().rstrip("\n"), INTERVAL)
        # The file may have come after the first interval.
        for _ in range(20):
            line = process.stdout.readline()
            if not re.match(r".{8} +- ", line):
                return line.rstrip("\n")
        raise AssertionError(line)
    finally:
        os.close(closed)
        process.kill()
        process.communicate()


def test_interval():
    """All exports together, between two files."""
    line = intervals(
        Export("a", number=1, read_requests=100),
        Export("a", number=1, read_requests=300, read_hit_requests=150,
               read_bytes=4 * MIB, write_requests=20, fua_requests=4,
               write_bytes=2 * MIB, dirty_bytes=MIB),
        Export("b", number=2, read_requests=100, read_hit_requests=75,
               backend_reads=50, backend_writes=10, backend_flushes=2,
               unstable_bytes=MIB))
    # The exports count from the first file, or from nothing.
    expect(line[8:], "      150    75 %      2 MiB       10       2      1 MiB"
           "        25         5         1     2 MiB")


def test_interval_as_json():
    found = json.loads(intervals(
        Export("a", read_requests=100), Export("a", read_requests=300),
        arguments=["--json"]))
    rates = found["files"][0]["exports"][0].get("rates")
    if rates:       # else it was before the second file came
        expect_near(rates["read_requests"], 100)


def test_two_files():
    one, other = fresh(Export("one")), fresh(Export("other"))
    text = once(one, other)
    assert text.index(one) < text.index("one  0 clients") < text.index(
        other) < text.index("other  0 clients"), text
    expect([f["file"] for f in as_json(one, other)], [one, other])


def test_once_and_json():
    """Each says that it is once; JSON says how."""
    path = fresh(Export("disk"))
    for arguments in ["--once", "--json"], ["-1j"], ["-j", "--once"]:
        result = run(*arguments, path)
        expect((result.returncode, result.stderr), (0, ""))
        expect(json.loads(result.stdout)["files"][0]["file"], path)


def test_of_the_process():
    found = as_json(fresh(Export(), size=512 * MIB, mode="writearound",
                          frames=300 * MIB))[0]
    expect(found["mode"], "writearound")
    expect(found["size_bytes"], 512 * MIB)
    expect(found["memory_by_kind"]["frames"], 300 * MIB)
    expect(found["memory_bytes"], sum(found["memory_by_kind"].values()))
    expect((found["version"], found["nbdkit"]), ("0.1.0", "1.32.5"))


def test_formats_that_may_be():
    """Other forms that the text format allows."""
    path = fresh()
    with open(path, "w") as f:
        f.write('# a comment\n\n   # another\n#\n'
                'wtcache_size_bytes\t2.68435456e+08 1700000000000\n'
                'node_load1 3\n'
                'other_metric{ a = "b" , } NaN\n'
                'wtcache_dirty_bytes { export="x",tls="no",number="1", } +1\n'
                'wtcache_writeback_bytes{tls="no",number="1",export="x"} 2.5\n'
                'wtcache_not_known_yet{export="x",tls="no",number="1"} 1\n'
                'wtcache_unstable_bytes{export="x",tls="no",number="1"} 0')
    export = one_export(path)
    expect(export["values"]["dirty_bytes"], 1)
    expect(export["values"]["writeback_bytes"], 2.5)
    expect(export["condition"], "held")


# Errors.

def test_misuse():
    path = fresh(Export())
    for arguments, words in (
            ([], "no file"), (["--once"], "no file"),
            (["--nonsense", path], "--nonsense is not an option"),
            (["-x", path], "-x is not an option"),
            (["--once=1", path], "--once=1 is not"),
            (["--interval", "0", path], "must be a number of seconds"),
            (["--interval=x", path], "must be a number of seconds, 1 to"),
            (["-i"], "--interval needs"),
            (["-1i3", path], "only one of --once and --interval"),
            (["-rji3", path], "--rates goes with"),
            (["--json", "--curve=x.svg", path], "--curve goes with no other"),
            (["--jsno", path], "--jsno is not an option: is --json meant?"),
            (["--intervall=5", path], "is --interval meant?"),
            (["--rates", path], "--rates goes with"),
            (["--rates", "--curve=x.svg", path], "--rates goes with"),
            ([path, "--curve"], "--curve needs")):
        message = fails(2, *arguments)
        assert words in message, (arguments, message)


def test_files_that_cannot_be_read():
    path = fresh(Export())
    fails(1, path)
    for name, words in (("/nonexistent", "No such file"),
                        (top.folder, "not a file of wtcache-stats"),
                        ("/dev/null", "not a file of wtcache-stats")):
        message = fails(1, "--once", path, name)
        assert name in message and words in message, message
    fifo = os.path.join(top.folder, "fifo")
    os.mkfifo(fifo)
    assert "not a file" in fails(1, "--once", fifo)


def state_of_process(pid):
    """S if it sleeps, Z if it has ended."""
    with open("/proc/%d/stat" % pid, encoding="ascii") as f:
        return f.read().rpartition(")")[2].split()[0]


def test_file_of_a_server_that_just_begins():
    """It is waited for."""
    with open(fresh(Export()), encoding="utf-8") as f:
        text = f.read()
    path = os.path.join(top.folder, "late.prom")
    with subprocess.Popen([TOP, "--once", path], text=True,
                          stdout=subprocess.PIPE) as waiting:
        # It waits, or has ended.
        while state_of_process(waiting.pid) not in "SZ":
            time.sleep(0.01)
        with open(path + "~", "w", encoding="utf-8") as f:
            f.write(text)
        os.rename(path + "~", path)
        printed = waiting.communicate()[0]
    assert waiting.returncode == 0 and "memory" in printed, printed


def test_texts_that_are_wrong():
    good = "wtcache_size_bytes 1\n"
    for text, words in (
            ("", "not a file of wtcache-stats"),
            ("node_load1 3\n", "not a file of wtcache-stats"),
            (good + "wtcache_x\n", "line 2: a number is expected"),
            (good + "wtcache_x one\n", "line 2: a number is expected"),
            (good + "wtcache_x 0x10\n", "line 2: a number is expected"),
            (good + "wtcache_x 1 2 3\n", "line 2: the line does not end"),
            (good + "1x 1\n", "line 2: the name of a metric"),
            (good + 'x{a="b} 1\n', "line 2: the value of a label"),
            (good + 'x{a="b\\q"} 1\n', "line 2: the value of a label"),
            (good + 'x{a=b} 1\n', "line 2: the value of a label"),
            (good + 'x{a} 1\n', "line 2: '=' is expected"),
            (good + 'x{1="b"} 1\n', "line 2: the name of a label"),
            (good + 'x{a="b" c="d"} 1\n', "line 2: ',' or '}'"),
            (good + "x{%s} 1\n" % ",".join('a%d=""' % i for i in range(20)),
             "line 2: too many labels"),
            (good + 'wtcache_backend_seconds_bucket{export="",le="x",'
             'operation="read"} 1\n', "no number as its label le"),
            (good + 'wtcache_curve_miss_ratio 1\n',
             "no number as its label size_ratio"),
            (good + "\0", "not a file of wtcache-stats")):
        path = fresh()
        with open(path, "w") as f:
            f.write(text)
        message = fails(1, "--once", path)
        assert words in message, (text, message)


def test_output_that_cannot_be_written():
    path = fresh(Export())
    tap.require(os.path.exists(TOP), "wtcache-top is not built")
    for option in "--once", "--json":
        with open("/dev/full", "w") as full:
            result = subprocess.run([TOP, option, path], stdout=full,
                                    stderr=subprocess.PIPE, text=True)
        expect(result.returncode, 1)
        assert re.fullmatch("wtcache-top: cannot print: [^\n]+\n",
                            result.stderr), result.stderr


def test_help_and_version():
    for option in "--help", "-h", "--version":
        result = run(option)
        expect((result.returncode, result.stderr), (0, ""))
        assert "wtcache-top" in result.stdout, result.stdout


def offered(*words):
    """The completions of the last of the words of a command line."""
    framework = "/usr/share/bash-completion/bash_completion"
    tap.require(os.path.exists(TOP), "wtcache-top is not built")
    tap.require(os.path.exists(framework), "bash-completion is missing")
    own = os.path.join(HERE, "..", "..", "packaging", "completions",
                       "wtcache-top")
    script = """
        . "$1" && . "$2" || exit
        shift 2
        COMP_WORDS=( "$@" )
        COMP_CWORD=$(( $# - 1 ))
        COMP_LINE="$*"
        COMP_POINT=${#COMP_LINE}
        _wtcache_top "$1" "${COMP_WORDS[-1]}" "${COMP_WORDS[-2]}"
        printf '%s\\n' "${COMPREPLY[@]}"
    """
    result = subprocess.run(
        ["bash", "--norc", "-c", script, "bash", framework, own, TOP, *words],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        cwd=top.folder)
    # bash says so without a terminal.
    errors = result.stderr.replace("compopt: not currently executing", "")
    assert "error" not in errors and "not found" not in errors, errors
    return sorted(line for line in result.stdout.split("\n") if line)


def test_completion():
    path = fresh()
    for name in "x.svg", "x.png":
        with open(os.path.join(top.folder, name), "w"):
            pass
    expect(offered("--"), ["--curve=", "--help", "--interval=", "--json",
                           "--once", "--rates", "--version"])
    expect(offered("--o"), ["--once"])
    expect(offered(os.path.basename(path)[:5]), [os.path.basename(path)])
    expect(offered("--curve", "x"), ["x.svg"])


top.main()
