#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""Block status over layers that give each legal answer in its rarest form.

nbdkit lets an answer end after any byte that follows its begin, with and
without REQ_ONE, begin before the request and end after it.  The map of these
tests has runs of 1000 bytes, data and holes in turn.
"""

import shutil
import subprocess
import sys

sys.dont_write_bytecode = True

from live import K, M, expect, put, wt  # noqa: E402

DATA = 0
HOLE = 3        # a hole that reads as zeroes
RUN = 1000
SIZE = 20 * K + 123

# Ways to answer: shell words for what to say of $count bytes at $offset, with
# a function "say" that prints one extent.
ANSWERS = {
    # All that was asked for, to the byte.
    "exact": "say_from $offset $((offset + count))",
    # One extent, whatever was asked for.
    "one": "say $offset $next",
    # One byte.
    "byte": "say $offset $((offset + 1))",
    # One extent with REQ_ONE alone.
    "req_one": """
        case "$flags" in
        *req_one*) say $offset $next ;;
        *) say_from $offset $((offset + count)) ;;
        esac""",
    # From before the request, and to the end of the disk.
    "wide": "say_from $(((offset / run) * run)) $size",
    # Equal neighbours that could have been one extent.
    "split": """
        say $offset $((offset + 1))
        [ $((offset + 1)) -ge $next ] || say $((offset + 1)) $next""",
}

SCRIPT = """
    run=%d size=%d count=$3 offset=$4 flags="$5"
    say () {
        [ $2 -le $size ] || set -- $1 $size
        if [ $(($1 / run %% 2)) = 0 ]; then type=; else type=hole,zero; fi
        echo $1 $(($2 - $1)) $type
    }
    say_from () {
        at=$1
        while [ $at -lt $2 ]; do
            to=$(((at / run + 1) * run))
            [ $to -le $2 ] || to=$2
            say $at $to
            at=$to
        done
    }
    next=$(((offset / run + 1) * run))
    %s"""


def truth(offset):
    return HOLE if offset // RUN % 2 else DATA


def image():
    return bytes(0x55 if truth(i) == DATA else 0 for i in range(SIZE))


def answering(answer, strict=1):
    """A server over a plugin that gives one kind of answer; STRICT: no
    request below has other ends than multiples of it."""
    below = ["blocksize-policy"] if strict > 1 else []
    size = SIZE - SIZE % strict
    words = ["blocksize-minimum=%d" % strict,
             "blocksize-preferred=%d" % max(strict, 4096),
             "blocksize-maximum=%d" % M,
             "blocksize-error-policy=error"] if below else []
    server = wt.Server({"wtcache-size": "2M", "wtcache-mode": "writeback"},
                       filters_below=below, start=False)
    with open(server.path("image"), "wb") as f:
        f.write(image())
    server.plugin = [
        "eval", "get_size=echo %d" % size, "can_write=exit 0",
        "can_extents=exit 0",
        "can_multi_conn=exit 0",
        "pread=dd if=%s iflag=skip_bytes,count_bytes skip=$4 count=$3 "
        "bs=1M status=none" % server.path("image"),
        "pwrite=exit 0",
        "extents=" + SCRIPT % (RUN, size, ANSWERS[answer])]
    server.parameters = words
    server.start()
    return server


def walk(h, offset, end, flags, most):
    """Asks from where the last answer ended; (offset, length, type)."""
    found = []
    while offset < end:
        extents = wt.block_status(h, min(most, end - offset), offset, flags)
        assert extents
        if flags & wt.REQ_ONE:
            expect(len(extents), 1)
        for length, kind in extents:
            assert length > 0
            found.append((offset, length, kind))
            offset += length
    return found


def check(answer, h, offset, end, flags, most, strict):
    size = h.get_size()
    for at, length, kind in walk(h, offset, end, flags, most):
        for byte in range(at, min(at + length, size)):
            # Where blocks are coarser than the map, some may be data that
            # are none.
            if strict == 1 or kind == HOLE:
                assert kind == truth(byte), (answer, at, length, kind, byte)


def check_answer(answer, strict):
    with answering(answer, strict) as server:
        h = server.connect()
        for flags in 0, wt.REQ_ONE:
            if answer == "byte" and strict == 1:
                check(answer, h, 990, 1030, flags, 4 * K, strict)
                continue
            size = h.get_size()
            check(answer, h, 0, size, flags, size, strict)
            for offset in 1000, 1536, 8193:
                check(answer, h, offset, offset + 3 * K, flags, 3000, strict)
                check(answer, h, offset, offset + 1, flags, 1, strict)


def test_answers_over_any_requests():
    """An answer that ends after any byte is enough."""
    for answer in ANSWERS:
        check_answer(answer, 1)


def test_answers_over_strict_blocks():
    """An answer that ends before the request's own bytes is not taken for
    one about them."""
    for answer in ANSWERS:
        for strict in 512, 4096:
            check_answer(answer, strict)


def test_dirty_over_a_rare_answer():
    """A held block is data whatever the answer's form."""
    for answer in "one", "wide", "split":
        with answering(answer) as server:
            h = server.connect()
            put(h, 1024, 512, 1)
            found = walk(h, 1000, 2000, 0, 1000)
            kinds = {byte: kind for at, length, kind in found
                     for byte in range(at, at + length)}
            for byte in range(1000, 2000):
                wanted = DATA if 1024 <= byte < 1536 else HOLE
                expect(kinds[byte], wanted, "%s at %d" % (answer, byte))


# The commands that people use.

def run_tool(*command):
    wt.require(shutil.which(command[0]), command[0] + " is not there")
    result = subprocess.run(command, capture_output=True, text=True,
                            timeout=100)
    expect(result.returncode, 0, result.stderr)
    return result.stdout


def check_tools(server, wanted):
    """Each command ends well, and copies what is there."""
    server.connect().shutdown()
    for command in (["nbdinfo", "--map", server.uri],
                    ["nbdinfo", "--map", "--totals", server.uri],
                    ["qemu-img", "map", "--output=json", "-f", "raw",
                     server.uri]):
        run_tool(*command)
    copy = server.path("copy")
    run_tool("nbdcopy", server.uri, copy)
    with open(copy, "rb") as f:
        found = f.read()
    expect(len(found), len(wanted))
    assert found == wanted


def sparse_image(path, size):
    """Data and holes of a file system's own blocks, and an odd size."""
    data = bytearray(size)
    with open(path, "wb") as f:
        f.truncate(size)
        for offset in range(0, size, 64 * K):
            bytes_ = wt.pattern(offset, min(8 * K, size - offset), 1)
            f.seek(offset)
            f.write(bytes_)
            data[offset:offset + len(bytes_)] = bytes_
    return bytes(data)


def over_file(filters, parameters, cut):
    """CUT makes of the file's bytes those that a client sees."""
    server = wt.Server({"wtcache-size": "2M"}, filters_below=filters,
                       start=False)
    with server:
        data = sparse_image(server.path("image"), 300 * K + 1001)
        server.plugin = ["file", server.path("image")]
        server.parameters = parameters
        server.start()
        check_tools(server, cut(data))


def test_tools_over_a_rounded_size():
    over_file(["truncate"], ["round-up=4096"],
              lambda data: data + bytes(-len(data) % 4096))


def test_tools_over_a_larger_size():
    over_file(["truncate"], ["truncate=400000"],
              lambda data: data + bytes(400000 - len(data)))


def test_tools_over_an_offset():
    over_file(["offset"], ["offset=1001", "range=200003"],
              lambda data: data[1001:1001 + 200003])


def test_tools_over_a_policy_of_blocks():
    over_file(["blocksize-policy", "truncate"],
              ["blocksize-minimum=4096", "blocksize-preferred=64K",
               "blocksize-maximum=1M", "blocksize-error-policy=error",
               "round-up=4096"],
              lambda data: data + bytes(-len(data) % 4096))


def test_tools_over_short_answers():
    for answer in "one", "req_one", "wide":
        with answering(answer) as server:
            check_tools(server, image())


wt.main()
