# SPDX-License-Identifier: BSD-3-Clause
"""The rows that count what a request executes and writes, by valgrind's
tools."""

import collections
import os
import re
import shutil
import subprocess

import side
from row import GI, MI, Row, Server, Side, most, read_once, span
from side import Disk, Failed, File, load

ATOMIC = "atomic read-modify-writes"
STORES = "stores, not to the stack"
INSTRUCTION = re.compile(r" *([0-9a-f]+):\t(.*)")


def kinds_of(module):
    """The addresses of a module's instructions, by what they do to memory:
    those that lock it, and those that write to it other than on the stack.
    """
    text = subprocess.run(
        ["objdump", "-d", "--no-show-raw-insn", module], check=True,
        text=True, capture_output=True).stdout
    kinds = {ATOMIC: set(), STORES: set()}
    for line in text.splitlines():
        match = INSTRUCTION.match(line)
        if not match:
            continue
        address, words = int(match.group(1), 16), match.group(2)
        name, _, operands = words.partition(" ")
        operands = operands.split("#")[0].strip()
        locks = name == "lock" or (name.startswith("xchg") and
                                   "(" in operands)
        if locks:
            kinds[ATOMIC].add(address)
        # Rows that write come last.
        if operands.endswith(")") and "%rsp" not in operands and (
                locks or re.match(r"(mov|add|sub|inc|dec|or|and|xor|set|vmov|"
                                  r"bts|btr)", name)):
            kinds[STORES].add(address)
    return kinds


def profile_of(path, stack, kinds):
    """The cost of the filters of a stack by a callgrind profile: their own
    instructions, and those of the libraries they call except memcpy.  The work
    of nbdkit and of the backend does not count.  A call of a lock in a library
    counts as an atomic.
    """
    objects = tuple(f"nbdkit-{name}-filter.so"
                    for name in side.STACKS[stack][0])
    names = {}
    counts = dict.fromkeys(["instructions", *kinds], 0)
    mine = called = called_function = ""
    calls = 0

    def name_of(kind, text):
        """Names are written once, with a number that stands for them."""
        number, name = re.match(r"(\(\d+\)) ?(.*)", text).groups()
        return names.setdefault((kind, number), name)

    with open(path) as profile:
        for line in profile:
            key, equals, value = line.rstrip().partition("=")
            if equals and key in ("ob", "cob"):
                if key == "ob":
                    mine = name_of("ob", value)
                called = name_of("ob", value)
            elif equals and key in ("fn", "cfn"):
                called_function = name_of("fn", value)
            elif equals and key == "calls":
                calls = int(value.split()[0])
            elif line.startswith("0x"):
                address, _, cost = line.split()
                if not mine.endswith(objects):
                    pass
                elif not calls:
                    counts["instructions"] += int(cost)
                    for kind, addresses in kinds.items():
                        if int(address, 16) in addresses:
                            counts[kind] += int(cost)
                elif not (called.endswith(("/nbdkit", *objects)) or
                          "memcpy" in called_function or
                          "memmove" in called_function):
                    counts["instructions"] += int(cost)
                    if "lock" in called_function:
                        counts[ATOMIC] += calls
                calls = 0
                called = mine
    return counts


def callgrind(server, run, callback, parameters, warm, arguments):
    """Profile one callback of a server like this one, and nothing else, under
    a load of one request at a time; the costs of one request, by kind.
    """
    stack = server.stack
    folder = server.path("profiled")
    kinds = {ATOMIC: set(), STORES: set()}
    if "wtcache" in side.STACKS[stack][0] and shutil.which("objdump"):
        kinds = kinds_of(side.filter_of(stack))
    # The instructions of other threads are not the request's.
    toggles = [f"--toggle-collect={name}_{callback}"
               for name in side.STACKS[stack][0]]
    profiled = side.Server(
        folder, stack, server.backend, parameters, threads=1,
        wrapper=["valgrind", "--tool=callgrind", "--dump-instr=yes",
                 "--compress-pos=no", *toggles,
                 f"--callgrind-out-file={folder}/profile"])
    try:
        if warm:
            warm(profiled)
        subprocess.run(["callgrind_control", "-z",
                        str(profiled.process.pid)], check=True,
                       stdout=subprocess.DEVNULL,
                       stderr=subprocess.DEVNULL,
                       env={**os.environ, "TMPDIR": folder})
        done = load(profiled, "--depth", "1", *arguments)
    finally:
        profiled.stop()
    counts = profile_of(f"{folder}/profile", stack, kinds)
    if counts["instructions"] == 0:
        raise Failed("callgrind saw nothing of the filter")
    return {key: round(value / done["requests"], 1)
            for key, value in counts.items()}


def instructions_row(name, title, goal, callback, arguments, length=64 * MI,
                     parameters=(), warm=None, backend=None, atomics=None):
    """The instructions of one kind of request, one at a time."""
    def measure(server, run):
        return callgrind(server, run, callback,
                         ["wtcache-size=128M", *parameters], warm,
                         [*arguments, *span(0, length)])

    # Of x86-64, whose instructions it knows.
    known_machine = (os.uname().machine == "x86_64" and
                     shutil.which("objdump"))
    checks = [most("instructions", "instructions", goal)]
    if known_machine:
        checks += [most(ATOMIC, ATOMIC, atomics), most(STORES, STORES, None)]
    return Row(name, "goal", f"{title} inside the filter, memcpy apart "
               "(callgrind)",
               {"wtcache": Server("wtcache", backend or File(length))},
               [Side("wtcache", "wtcache", measure)], checks, rounds=1)


def hit_instructions_row():
    # Random reads are neighbours now and then, and begin a stream.
    return instructions_row("hit-instructions", "a 4K read hit", 250, "pread",
                            ["--count", "10000"], warm=read_once(64 * MI),
                            atomics=2)


def miss_instructions_row():
    # The cache is full, so each miss evicts a page.
    length = 1 * GI
    return instructions_row("miss-instructions", "a read miss of one page",
                            1500, "pread", ["--count", "10000"], length,
                            ["wtcache-fill=4K"], read_once(160 * MI),
                            Disk(size="1G"))


def fua_instructions_row():
    length = 64 * MI
    return instructions_row("fua-instructions", "a 4K FUA write over a cached "
                            "page, by the flag,", 2000, "pwrite",
                            ["--op", "write", "--fua", "--count", "10000"],
                            length, warm=read_once(length),
                            backend=Disk(size="1G", fua="native"))


def write_once(length):
    def warm(server):
        load(server, "--op", "write", "--depth", "1", "--pattern",
             "sequential", "--count", str(length >> 12), *span(0, length))
    return warm


# No write-back takes part: dirty data stays below half of its bound.
KEEP_DIRTY = ["wtcache-dirty-max=50%", "wtcache-dirty-age=3600"]


def rewrite_instructions_row():
    length = 24 * MI
    return instructions_row("rewrite-instructions", "a 4K ordinary write over "
                            "a dirty page", 350, "pwrite",
                            ["--op", "write", "--count", "10000"], length,
                            KEEP_DIRTY, write_once(length))


def new_page_instructions_row():
    length = 24 * MI
    return instructions_row("new-page-instructions", "a 4K ordinary write to "
                            "a page that is not cached", 1000, "pwrite",
                            ["--op", "write", "--pattern", "sequential",
                             "--count", str(length >> 12)], length,
                            KEEP_DIRTY)


def shared_lines_row():
    """Two connections, each with a thread and pages of its own: which cache
    lines do the hits of both write?  Lackey traces each instruction and each
    store; a hit is what lies between the entry of the filter's pread and the
    return to nbdkit.
    """
    length = MI
    count = 400
    line_size = 64

    def code_of(pid, name):
        """Where the code of a file is in a process."""
        with open(f"/proc/{pid}/maps") as maps:
            for line in maps:
                words = line.split()
                if "x" in words[1] and words[-1].endswith("/" + name):
                    begin, _, end = words[0].partition("-")
                    begin, end = int(begin, 16), int(end, 16)
                    return begin - int(words[2], 16), range(begin, end)
        raise Failed(f"{name} is not in the process")

    def address_of(module, function):
        text = subprocess.run(["nm", module], check=True, text=True,
                              capture_output=True).stdout
        for line in text.splitlines():
            words = line.split()
            if words[-1] == function and len(words) == 3:
                return int(words[0], 16)
        raise Failed(f"{module} has no symbol {function}")

    def writes(path, begin, end, entry, ours, callers):
        """How often our code wrote each line in hits, in a part of a trace.
        """
        counts = collections.Counter()
        in_hit = in_ours = False
        with open(path, "rb") as trace:
            trace.seek(begin)
            for text in trace.read(end - begin).splitlines():
                if text.startswith(b"I "):
                    address = int(text[3:].split(b",")[0], 16)
                    in_ours = address in ours
                    if address == entry:
                        in_hit = True
                    elif address in callers:
                        in_hit = False
                elif in_hit and in_ours and text[:2] in (b" S", b" M"):
                    address, _, size = text[3:].partition(b",")
                    first = int(address, 16) // line_size
                    last = (int(address, 16) + int(size) - 1) // line_size
                    counts.update(range(first, last + 1))
        return counts

    def measure(server, run):
        folder = server.path("traced")
        trace = folder + "/trace"
        traced = side.Server(
            folder, server.stack, File(length), ["wtcache-size=16M"],
            threads=1, wrapper=["valgrind", "--tool=lackey",
                                "--trace-mem=yes", f"--log-file={trace}"])
        try:
            module = side.filter_of(server.stack)
            offset, ours = code_of(traced.process.pid,
                                   os.path.basename(module))
            _, callers = code_of(traced.process.pid, "nbdkit")
            entry = offset + address_of(module, "wtcache_pread")
            read_once(length)(traced)
            clients = [traced.connect(), traced.connect()]
            # Each warms what is the thread's own; then it is measured.
            parts = []
            for warming in True, False:
                for i, client in enumerate(clients):
                    begin = os.path.getsize(trace)
                    for j in range(16 if warming else count):
                        client.pread(4096, i * length // 2 +
                                     j * 4096 % (length // 2))
                    parts.append((begin, os.path.getsize(trace)))
            counts = [writes(trace, *part, entry, ours, callers)
                      for part in parts[2:]]
            for client in clients:
                client.shutdown()
        finally:
            traced.stop()
        if not counts[0] or not counts[1]:
            raise Failed("lackey saw no stores of the filter")
        return {"shared": len(counts[0].keys() & counts[1].keys())}

    return Row("shared-lines", "goal", "cache lines that read hits of two "
               "connections both write, on pages of their own (lackey)",
               {"wtcache": Server("wtcache", File(length))},
               [Side("wtcache", "wtcache", measure)],
               [most("lines that both write", "shared", 0)], rounds=1)


ROWS = [
    hit_instructions_row(),
    miss_instructions_row(),
    fua_instructions_row(),
    rewrite_instructions_row(),
    new_page_instructions_row(),
    shared_lines_row(),
]
