# SPDX-License-Identifier: BSD-3-Clause
"""The library of the live tests: a server with the filter over the tests'
disk, libnbd clients of it, and the disk's log and control socket.

    import wt

    def test_something():
        with wt.Server({"wtcache-size": "1M"}, {"size": "64M"}) as server:
            h = server.connect()
            h.pwrite(wt.pattern(0, 4096, 1), 0, wt.FUA)
            assert server.durable(0, 4096) == wt.pattern(0, 4096, 1)

    wt.main()

A server keeps all its files in a folder of its own, which goes away with it.
Environment:
  WTCACHE_FILTER, WTDISK_PLUGIN  the modules (else those of the built tree)
  top_builddir                   the built tree (else the source tree)
  WT_NBDKIT                      the command (nbdkit, or "valgrind .. nbdkit")
  WT_NBDKIT_WRAPPER              words put before the command
  WT_LD_PRELOAD                  LD_PRELOAD of the server alone
  WT_SCALE                       how much slower than usual all may be
"""

import os
import shlex
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time

import nbd

import hangs
import tap
from disklog import Log
from nbdclient import (  # noqa: F401 (for the tests)
    BLOCK, FAST_ZERO, FUA, Handle, NO_HOLE, REQ_ONE, background, block_status,
    cut_off, errno_of, listens, pattern, start, version_of, versions,
    wait_all, wait_until)
from tap import (Hang, Skip, comment, main,  # noqa: F401 (for the tests)
                 require, timeout)

# The checks of libnbd that would keep a test's requests from the server.
LENIENT = (nbd.STRICT_ALIGN | nbd.STRICT_BOUNDS | nbd.STRICT_ZERO_SIZE
           | getattr(nbd, "STRICT_PAYLOAD", 0))

# Files larger than this are put on tmpfs, which has files of any size.
LARGE = 1 << 43


# The server.

def module_path(variable, *below):
    """A built module: by its variable, else in the built tree."""
    path = os.environ.get(variable)
    if not path:
        here = os.path.dirname(os.path.abspath(__file__))
        top = os.environ.get("top_builddir", os.path.join(here, "..", ".."))
        path = os.path.join(top, *below)
    if not os.path.exists(path):
        raise AssertionError("%s is not built; see %s" % (path, variable))
    return os.path.abspath(path)


def filter_path():
    return module_path("WTCACHE_FILTER", "plugins", "wtcache", ".libs",
                       "nbdkit-wtcache-filter.so")


def disk_path():
    return module_path("WTDISK_PLUGIN", "tests", "disk", ".libs",
                       "nbdkit-wtdisk-plugin.so")


def parse_size(size):
    """A size as nbdkit takes it, as a number."""
    text = str(size)
    units = "BKMGTPE"
    if text[-1].upper() in units:
        return int(text[:-1]) << (10 * units.index(text[-1].upper()))
    return int(text)


servers = []        # all that have not been closed
reports = []        # what closed ones leave to report if the test fails


class Server:
    """nbdkit in the foreground, with the filter over the tests' disk.

    filter_options  parameters of wtcache; None: without the filter
    disk_options    parameters of the tests' disk (size is 64M if not given;
                    durable, log and control are set here unless None)
    filters_above,  names or paths of other filters, outermost first, that
    filters_below   stand above and below wtcache
    plugin          another plugin in place of the disk: [name, args...]
    args            further arguments of nbdkit, put before the plugin
    parameters      further key=value words, put after the plugin's
    env             changes to the environment; None takes one away
    start=False     not started yet
    """

    def __init__(self, filter_options=None, disk_options=None,
                 filters_above=(), filters_below=(), plugin=None, args=(),
                 parameters=(), env=None, start=True):
        self.filter_options = filter_options
        self.filters_above = list(filters_above)
        self.filters_below = list(filters_below)
        self.plugin = plugin
        self.args = [str(arg) for arg in args]
        self.parameters = [str(word) for word in parameters]
        self.env = env or {}
        self.process = None
        self.handles = []
        self.run = 0
        self.local = threading.local()
        self.disk_options = {"size": "64M"}
        self.disk_options.update(disk_options or {})
        large = plugin is None and self.size_given() > LARGE
        self.folder = tempfile.mkdtemp(
            prefix="wt-", dir="/dev/shm" if large else None)
        self.socket = os.path.join(self.folder, "nbd")
        self.control_socket = os.path.join(self.folder, "control")
        self.durable_file = os.path.join(self.folder, "durable")
        servers.append(self)
        try:
            if start:
                self.start()
        except BaseException:
            reports.append(self.report())
            self.close()
            raise

    def __enter__(self):
        return self

    def __exit__(self, kind, _value, _traceback):
        try:
            if kind is None and self.running():
                self.stop()
        finally:
            reports.append(self.report())
            self.close()

    def size_given(self):
        size = self.disk_options["size"]
        return 0 if size is None else parse_size(size)

    def path(self, name):
        """A file in the server's folder."""
        return os.path.join(self.folder, name)

    # Starting.

    def log_file(self, run=None):
        return self.path("log.%d" % (self.run if run is None else run))

    def words_of(self, options):
        return ["%s=%s" % (key, value) for key, value in options.items()
                if value is not None]

    def plugin_words(self):
        if self.plugin is not None:
            return [str(word) for word in self.plugin]
        options = {
            "durable": self.durable_file,
            "control": self.control_socket,
            "log": self.log_file(),
        }
        options.update(self.disk_options)
        return [disk_path()] + self.words_of(options)

    def command(self):
        """The whole command line."""
        command = shlex.split(os.environ.get("WT_NBDKIT_WRAPPER", ""))
        command += shlex.split(os.environ.get("WT_NBDKIT", "nbdkit"))
        command += ["-f", "--exit-with-parent", "-U", self.socket,
                    "-P", self.path("pid")]
        filters = list(self.filters_above)
        if self.filter_options is not None:
            filters.append(filter_path())
        filters += self.filters_below
        command += ["--filter=" + name for name in filters]
        command += self.args + self.plugin_words()
        if self.filter_options is not None:
            command += self.words_of(self.filter_options)
        return command + self.parameters

    def environment(self):
        env = dict(os.environ)
        if os.environ.get("WT_LD_PRELOAD"):
            env["LD_PRELOAD"] = os.environ["WT_LD_PRELOAD"]
        for name, value in self.env.items():
            if value is None:
                env.pop(name, None)
            else:
                env[name] = value
        return env

    def spawn(self):
        """Starts the process without waiting until it serves."""
        self.run += 1
        for name in ("nbd", "control", "pid"):
            if os.path.exists(self.path(name)):
                os.unlink(self.path(name))
        self.stats_before = self.stats_file()
        with open(self.path("stderr"), "ab") as err:
            self.process = subprocess.Popen(
                self.command(), stdin=subprocess.DEVNULL, stdout=err,
                stderr=err, env=self.environment())

    def start(self):
        """Starts the server and waits until it serves."""
        assert not self.running()
        self.spawn()
        wait_until(self.serves, "the server serves", 60)

    def serves(self):
        status = self.process.poll()
        assert status is None, (
            "the server ended with status %s:\n%s" % (status, self.stderr()))
        pidfile = self.path("pid")
        return (os.path.exists(pidfile) and os.path.getsize(pidfile) > 0
                and ("wtcache-stats" not in (self.filter_options or {})
                     or self.stats_file() != self.stats_before))

    def stats_file(self):
        """Tells one file of statistics from the next; None: there is none.

        The server writes its first one after its PID.
        """
        try:
            found = os.stat((self.filter_options or {})["wtcache-stats"])
        except (KeyError, FileNotFoundError):
            return None
        return found.st_ino, found.st_mtime_ns

    # Ending.

    def running(self):
        return self.process is not None and self.process.poll() is None

    def terminate(self):
        """Asks the server to stop."""
        self.process.send_signal(signal.SIGTERM)

    def wait(self, timeout=60):
        """Waits until the server has ended by itself; its exit status."""
        try:
            status = self.process.wait(timeout * tap.SCALE)
        except subprocess.TimeoutExpired:
            comment(hangs.stacks_of(self.process.pid))
            self.process.kill()
            self.process.wait()
            raise AssertionError("the server does not end") from None
        self.forget_clients()
        return status

    def stop(self, timeout=60, status=0):
        """Disconnects the clients, stops the server, checks its status."""
        self.disconnect()
        self.wait_for_closes()
        self.terminate()
        found = self.wait(timeout)
        assert status is None or found == status, (
            "the server ended with status %d" % found)
        return found

    def wait_for_closes(self):
        """Waits, but not for ever, until the disk has no connection.

        nbdkit does not close those that are open when it is told to stop,
        and leaks their memory, which a sanitizer would report.
        """
        end = time.monotonic() + 5 * tap.SCALE
        while (os.path.exists(self.control_socket) and self.running()
               and self.stats()["connected"] and time.monotonic() < end):
            time.sleep(0.002)

    def kill(self):
        """kill -9."""
        self.process.kill()
        self.process.wait()
        self.forget_clients()

    def restart(self):
        """Starts it again over the same durable image."""
        if self.running():
            self.stop()
        self.start()

    def close(self):
        """Leaves nothing behind."""
        if self.running():
            self.process.kill()
            self.process.wait()
        self.forget_clients()
        shutil.rmtree(self.folder, ignore_errors=True)
        if self in servers:
            servers.remove(self)

    # Clients.

    @property
    def uri(self):
        return "nbd+unix:///?socket=" + self.socket

    def connect(self, export="", tls=None, strict=None, setup=None):
        """A libnbd handle, which sends what it is told to.

        tls is None, {"certificates": FOLDER} or {"psk": FILE, "username":
        NAME}, with "verify": False to trust any server. strict is the strict
        mode of libnbd (its checks of alignment, payload, bounds and empty
        requests are off). setup is called with the handle before it connects.
        """
        h = Handle()
        h.server = self
        if strict is None:
            strict = h.get_strict_mode() & ~LENIENT
        h.set_strict_mode(strict)
        h.add_meta_context(nbd.CONTEXT_BASE_ALLOCATION)
        h.set_export_name(export)
        if tls is not None:
            h.set_tls(nbd.TLS_REQUIRE)
            if "certificates" in tls:
                h.set_tls_certificates(tls["certificates"])
                h.set_tls_verify_peer(tls.get("verify", True))
            if "psk" in tls:
                h.set_tls_psk_file(tls["psk"])
            if "username" in tls:
                h.set_tls_username(tls["username"])
        if setup is not None:
            setup(h)
        h.connect_unix(self.socket)
        h.fd = h.aio_get_fd()
        self.handles.append(h)
        return h

    def disconnect(self, h=None):
        """Takes leave for one client, or all of connect()."""
        for handle in [h] if h is not None else list(self.handles):
            if handle in self.handles:
                self.handles.remove(handle)
            try:
                handle.shutdown()
            except nbd.Error:
                pass    # it is gone already

    def drop(self, h):
        """Cuts a client's connection off, with what it has in flight."""
        self.handles.remove(h)
        cut_off(h)

    def forget_clients(self):
        self.handles = []
        self.hang_up()

    # The disk.

    def hang_up(self):
        channel = getattr(self.local, "channel", None)
        if channel is not None:
            channel.close()
            self.local.channel = None

    def dial(self):
        """The calling thread's connection to the control socket."""
        channel = getattr(self.local, "channel", None)
        if channel is None or self.local.run != self.run:
            with socket.socket(socket.AF_UNIX) as s:
                s.connect(self.control_socket)
                channel = s.makefile("rw")
            self.local.channel = channel
            self.local.run = self.run
        return channel

    def control(self, command, ends=False):
        """Sends a command to the disk; what follows "ok" in its answer.
        ENDS: it lets the server end, maybe before it has answered."""
        channel = self.dial()
        channel.write(command + "\n")
        channel.flush()
        try:
            answer = channel.readline().rstrip("\n")
        except ConnectionResetError:
            answer = ""
        word, _, rest = answer.partition(" ")
        if word != "ok" and (answer or not ends):
            raise AssertionError("%s: %s" % (command, answer or "no answer"))
        return rest

    def stats(self):
        """The counters of the disk."""
        words = self.control("stats").split()
        return {key: int(value)
                for key, value in (word.split("=") for word in words)}

    def log(self, run=None):
        """The log of the disk, of this or of an earlier run."""
        if run is None and self.running():
            self.control("sync")
        with open(self.log_file(run), encoding="ascii") as f:
            text = f.read()
        # The line that a kill -9 cut off is none.
        return Log(text[:text.rfind("\n") + 1])

    def written(self, request, run=None):
        """The bytes of a write in the log, with log-data=yes."""
        with open(self.log_file(run) + ".data", "rb") as f:
            f.seek(request.data_offset)
            return f.read(request.length)

    def durable(self, offset=0, length=None, export=None):
        """Bytes of the durable image."""
        path = self.durable_file + ("." + export if export else "")
        with open(path, "rb") as f:
            if length is None:
                length = os.fstat(f.fileno()).st_size - offset
            # Not by read, which may ask for more than there can be in a file.
            data = bytearray()
            while len(data) < length:
                more = os.pread(f.fileno(), length - len(data),
                                offset + len(data))
                if not more:
                    break
                data += more
        return bytes(data) + bytes(length - len(data))

    # Looking into it.

    def stderr(self):
        try:
            with open(self.path("stderr"), errors="replace") as f:
                return f.read()
        except FileNotFoundError:
            return ""

    def report(self):
        text = self.stderr().splitlines()
        cut = ["..."] if len(text) > 200 else []
        return ["server: " + shlex.join(self.command())
                if self.run else "server not started"] + cut + text[-200:]


# The hooks that tap calls.

def end_hung_servers():
    for server in list(servers):
        if server.running():
            comment(hangs.stacks_of(server.process.pid))
            server.process.kill()


def clean_up(failed):
    """Closes what a test left open, and tells of its servers if it failed."""
    left = list(servers)
    for server in left:
        reports.append(server.report())
        server.close()
    lines = [line for report in reports for line in report]
    reports.clear()
    hung = hangs.watch.take_found()
    assert not hung, "\n".join(hung + lines)
    assert failed or not left, "the test left servers running"
    return lines if failed else []


tap.on_hang.append(end_hung_servers)
tap.on_end.append(clean_up)
