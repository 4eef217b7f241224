# SPDX-License-Identifier: BSD-3-Clause
"""Servers, and the load on them.

A server is nbdkit with the filters of one stack over a backend of its own.  It
is started once for a row and kept while rounds alternate; a connection of ours
is held open meanwhile, so that no load's end is the end of the last client.

It knows paths, processes and /proc. rows.py says which loads are measured and
which results are good.
"""

import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import time

import nbd

HERE = os.path.dirname(os.path.abspath(__file__))
TICK = os.sysconf("SC_CLK_TCK")

# The stacks that are compared: filters and their parameters.
STACKS = {
    "wtcache": (["wtcache"], []),
    "no filter": ([], []),
    "cache": (["cache"], ["cache-on-read=true"]),
    "cow": (["cow"], ["cow-on-read=true"]),
    "readahead+cache": (["readahead", "cache"], ["cache-on-read=true"]),
}

# wtcache with something else; see `run --beside`.
BESIDE = "the other wtcache"
STACKS[BESIDE] = STACKS["wtcache"]
other_filter = None


class Missing(Exception):
    """A requirement of a row is not on this machine."""


class Failed(Exception):
    """A server or a load did not do what it was asked."""


def find(variable, path):
    """A built file: named by the environment, or in the build or the tree."""
    if os.environ.get(variable):
        return os.environ[variable]
    for top in (os.environ.get("top_builddir"), os.getcwd(),
                os.path.dirname(HERE)):
        if top and os.path.exists(os.path.join(top, path)):
            return os.path.join(top, path)
    raise Missing(f"{path} is not built (or name it in {variable})")


def load_program():
    return find("WTCACHE_LOAD", "bench/load")


def filter_path():
    return find("WTCACHE_FILTER",
                "plugins/wtcache/.libs/nbdkit-wtcache-filter.so")


def filter_of(stack):
    """The module of wtcache in a stack."""
    return (stack == BESIDE and other_filter) or filter_path()


def disk_path():
    return find("WTDISK_PLUGIN", "tests/disk/.libs/nbdkit-wtdisk-plugin.so")


class File:
    """A file on tmpfs, served by nbdkit's file plugin."""

    def __init__(self, size, filled=True):
        self.size = size
        self.filled = filled

    def arguments(self, folder):
        path = os.path.join(folder, "file")
        with open(path, "wb") as file:
            file.truncate(self.size)
            if self.filled:
                piece = os.urandom(1 << 20)
                for _ in range(self.size >> 20):
                    file.write(piece)
        return ["file", path]


class Disk:
    """The tests' disk, with the latencies of a remote one."""

    def __init__(self, log=False, **parameters):
        self.log = log
        self.parameters = {"size": "4G", "multi-conn": "yes", **parameters}

    def arguments(self, folder):
        return [disk_path(), "durable=" + os.path.join(folder, "durable"),
                "control=" + os.path.join(folder, "control"),
                *(["log=" + os.path.join(folder, "log.disk")]
                  if self.log else []),
                *(f"{key}={value}" for key, value in self.parameters.items())]


class Server:
    """One nbdkit.  `parameters` are those of wtcache and go to no other."""

    def __init__(self, folder, stack, backend, parameters=(), threads=None,
                 wrapper=(), transport="unix"):
        self.folder = folder
        self.stack = stack
        self.backend = backend
        os.mkdir(folder)
        self.uri, listens = self.listen_by(transport)
        if stack == "qemu-nbd":
            # Its backend is a file's name, never a plugin.
            command = [stack, "-f", "raw", "-t", "-e", "99", "-k",
                       self.path("nbd"), "--cache=writeback",
                       backend.arguments(folder)[1]]
        else:
            filters, own = STACKS[stack]
            command = [*wrapper, "nbdkit", "-f", "--exit-with-parent",
                       *listens]
            if threads:
                command += ["-t", str(threads)]
            for name in filters:
                command += ["--filter", filter_of(stack)
                            if name == "wtcache" else name]
            command += backend.arguments(folder) + own
            if "wtcache" in filters:
                command += [text.replace("{folder}", folder)
                            for text in parameters]
        with open(self.path("log"), "wb") as log:
            # The cache and cow filters keep their data in TMPDIR.
            self.process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                env={**os.environ, "TMPDIR": folder})
        try:
            self.connection = self.connect()
        except BaseException:
            self.process.kill()
            self.process.wait()
            raise

    def path(self, name):
        return os.path.join(self.folder, name)

    def listen_by(self, transport):
        """The URI of the server, and nbdkit's options for it."""
        if transport == "unix":
            return ("nbd+unix:///?socket=" + self.path("nbd"),
                    ["-U", self.path("nbd")])
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        listens = ["-i", "127.0.0.1", "-p", str(port)]
        if transport == "tcp":
            return f"nbd://127.0.0.1:{port}/", listens
        keys = self.path("psk")
        with open(keys, "w") as file:
            file.write("bench:" + os.urandom(32).hex() + "\n")
        return (f"nbds://bench@127.0.0.1:{port}/?tls-psk-file={keys}",
                [*listens, "--tls=require", "--tls-psk=" + keys])

    def log(self):
        with open(self.path("log"), errors="replace") as log:
            return log.read().strip().splitlines()

    def connect(self):
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            if self.process.poll() is not None:
                raise Failed("nbdkit: " + "; ".join(self.log()[-2:]))
            handle = nbd.NBD()
            handle.set_uri_allow_local_file(True)
            try:
                handle.connect_uri(self.uri)
                return handle
            except nbd.Error:
                time.sleep(0.02)
        raise Failed("nbdkit: it does not listen")

    def stop(self):
        try:
            self.connection.shutdown()
        except nbd.Error:
            pass  # it is gone already, and a load has said so
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(60)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    def settle(self):
        """Writes left by one round are not the next round's work."""
        try:
            if self.connection.can_flush():
                self.connection.flush()
        except nbd.Error as error:
            raise Failed(f"{error}; " + "; ".join(self.log()[-2:]))

    def cpu(self):
        """Seconds of CPU so far, ended threads included."""
        with open(f"/proc/{self.process.pid}/stat") as stat:
            fields = stat.read().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / TICK

    def highest_resident(self):
        """The most that VmRSS ever was, in bytes."""
        with open(f"/proc/{self.process.pid}/status") as status:
            for line in status:
                if line.startswith("VmHWM:"):
                    return int(line.split()[1]) << 10
        raise Failed("nbdkit has ended")

    def control(self, *commands):
        """Say a line to the tests' disk; its answer."""
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
            sock.connect(self.path("control"))
            with sock.makefile("rw") as stream:
                stream.write(" ".join(commands) + "\n")
                stream.flush()
                sock.shutdown(socket.SHUT_WR)
                answer = stream.read().strip()
        if not answer.startswith("ok"):
            raise Failed("the disk: " + " ".join(commands) + ": " + answer)
        return answer

    def metric(self, name, **labels):
        """The sum of a metric in the statistics that wtcache writes next."""
        path = self.path("stats")
        began = time.time()
        deadline = time.monotonic() + 30
        # One that was begun before this call may tell of what was before.
        while (not os.path.exists(path) or
               os.stat(path).st_mtime < began + 0.1):
            if time.monotonic() > deadline:
                raise Failed("wtcache writes no statistics")
            time.sleep(0.05)
        wanted = [f'{key}="{value}"' for key, value in labels.items()]
        with open(path) as stats:
            values = [float(line.split()[-1]) for line in stats
                      if re.match(name + "[ {]", line) and
                      all(label in line for label in wanted)]
        if not values:
            raise Missing(f"the filter has no metric {name}")
        return sum(values)

    def disk_log_begin(self):
        """The next disk_log has what comes from here on."""
        self.control("sync")
        self.log_begins = os.path.getsize(self.path("log.disk"))

    def disk_log(self):
        """Lines of the disk's log since disk_log_begin, in words."""
        self.control("sync")
        with open(self.path("log.disk")) as log:
            log.seek(self.log_begins)
            return [line.split() for line in log if line.endswith("\n")]

    def disk_stats(self):
        """The disk's counters, by name."""
        return {key: int(value) for key, _, value in
                (word.partition("=") for word in
                 self.control("stats").split()) if value.isdigit()}


class Load:
    """A run of bench/load, begun; `result` waits for its line."""

    def __init__(self, server, arguments):
        self.server = server
        self.command = [load_program(), *arguments, server.uri]
        self.process = subprocess.Popen(
            self.command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.PIPE, text=True)

    def result(self):
        try:
            out, err = self.process.communicate()
        except BaseException:
            self.kill()
            raise
        if self.process.returncode != 0:
            raise Failed(" ".join(self.command) + ": " +
                         (err.strip() or out.strip() or "failed") + " " +
                         "; ".join(self.server.log()[-2:]))
        return {key: float(value) for key, _, value in
                (word.partition("=") for word in out.split())}

    def kill(self):
        self.process.kill()
        self.process.communicate()

    def stop(self):
        """End it early.  It prints its line all the same."""
        self.process.send_signal(signal.SIGINT)
        return self.result()


def load(server, *arguments):
    """Run one load to its end; with the server's CPU per request."""
    before = server.cpu()
    result = Load(server, arguments).result()
    used = server.cpu() - before
    result["cpu"] = 1e6 * used / max(result["requests"], 1)
    return result


@contextlib.contextmanager
def load_begun(server, *arguments):
    """A load goes on meanwhile."""
    other = Load(server, [*arguments, "--seconds", "600"])
    try:
        yield
        other.stop()
    except BaseException:
        other.kill()
        raise


def load_beside(server, background, *arguments):
    """Run one load while another goes on; the results of both."""
    other = Load(server, [*background, "--seconds", "600"])
    try:
        result = load(server, *arguments)
    except BaseException:
        other.kill()
        raise
    return result, other.stop()


def loads_together(server, *lists):
    """Run several loads at once; the results of all."""
    running = [Load(server, arguments) for arguments in lists]
    try:
        return [one.result() for one in running]
    except BaseException:
        for one in running:
            one.process.kill()
        raise


def fio(server, *arguments):
    """The same kind of load by fio; a part of what `load` measures."""
    before = server.cpu()
    command = ["fio", "--name=load", "--ioengine=nbd",
               "--uri=" + server.uri, "--time_based",
               "--output-format=json", *arguments]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, text=True,
                          capture_output=True)
    if done.returncode != 0:
        raise Failed("fio: " + done.stderr.strip())
    # It greets the server before it prints.
    job = json.loads(done.stdout[done.stdout.index("{"):])["jobs"][0]
    if job["error"]:
        raise Failed(f"fio: error {job['error']}")
    requests = job["read"]["total_ios"] + job["write"]["total_ios"]
    return {"iops": job["read"]["iops"] + job["write"]["iops"],
            "requests": requests,
            "cpu": 1e6 * (server.cpu() - before) / max(requests, 1)}
