# SPDX-License-Identifier: BSD-3-Clause
"""A virtual machine that runs the distribution's kernel, which has a block
device over NBD, under emulation: no special processor, device or privilege.

    with guest.Guest(["mkfs.ext4"], ["nbd"]) as machine:
        machine.run("mkfs.ext4 -q /dev/nbd0")

All of its files are in an initramfs made on the spot: busybox, the programs
asked for with their libraries, the modules asked for.  The kernel's messages
go to one serial line.  On the other one a shell takes commands, a line each,
and answers with their output and status.  10.0.2.2 is this machine's
127.0.0.1.  This module knows nothing of servers and file systems.
"""

import os
import shutil
import socket
import subprocess
import tempfile

import tap
import wt

EMULATOR = "qemu-system-x86_64"
KERNEL_PACKAGE = "linux-image-cloud-amd64"
MEMORY = "768"
BOOT_TIMEOUT = 120
NETWORK_MODULES = ["virtio_pci", "virtio_net"]

INIT = """#!/bin/busybox sh
busybox mkdir -p /proc /sys /dev /run /mnt /tmp /etc
busybox mount -t proc none /proc
busybox --install -s /busybox
export PATH=/bin:/busybox
mount -t sysfs none /sys
mount -t devtmpfs none /dev
while read module; do insmod $module; done </modules
ifconfig lo 127.0.0.1
ifconfig eth0 10.0.2.15 netmask 255.255.255.0 up
: >/etc/mtab
stty -F /dev/ttyS1 raw -echo
"""

# A command begins with its number, and so does the last line of its answer.
COMMANDS = """echo READY
while read -r number command; do
  dash -c "$command" </dev/null >/output 2>&1
  status=$?
  cat /output
  echo
  echo "END $number $status"
done
poweroff -f
"""

machines = []       # all that have not been closed
reports = []        # what closed ones leave to report if the test fails


# The kernel.

def output_of(*command, **options):
    """The output of a command, which must succeed."""
    return subprocess.run(command, stdin=subprocess.DEVNULL, text=True,
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                          check=True, **options).stdout


def first_line(text):
    return (text.strip().splitlines() or ["no reason given"])[0]


def kernel_package(apt):
    """The package that the name without a version leads to."""
    for line in output_of("apt-cache", *apt, "depends", "--important",
                          KERNEL_PACKAGE).splitlines():
        kind, _, name = line.strip().partition(": ")
        if kind == "Depends" and name.startswith("linux-image-"):
            return name
    raise AssertionError("%s depends on no kernel" % KERNEL_PACKAGE)


def download(folder):
    """Fetches the kernel's package; its path.

    Where the system's lists of packages are missing or too old, lists of
    its own are fetched: those of the system are not ours to change.
    """
    lists = os.path.join(folder, "lists")
    os.makedirs(os.path.join(lists, "partial"), exist_ok=True)
    own = ["-o", "Dir::State::Lists=" + lists,
           "-o", "Dir::Cache=" + folder, "-o", "APT::Sandbox::User="]
    for apt in [], own:
        try:
            if apt:
                output_of("apt-get", *apt, "-q", "update", timeout=120)
            package = kernel_package(apt)
            output_of("apt-get", *apt, "-q", "download", package,
                      cwd=folder, timeout=120)
        except subprocess.CalledProcessError as error:
            reason = first_line(error.stderr)
            continue
        except subprocess.TimeoutExpired as error:
            reason = str(error)
            continue
        return [os.path.join(folder, name) for name in os.listdir(folder)
                if name.startswith(package + "_")][0]
    raise tap.Skip("the kernel cannot be fetched: " + reason)


def kernel():
    """The folder of the kernel's package, unpacked; kept in the build."""
    wt.require(os.uname().machine == "x86_64", "the kernel is one for x86-64")
    for tool in EMULATOR, "busybox", "cpio", "depmod":
        wt.require(shutil.which(tool), "%s is not installed" % tool)
    top = os.path.join(os.environ.get("top_builddir", "."), "tests", "vm")
    kept = os.path.abspath(os.path.join(top, "kernel"))
    if os.path.isdir(kept):
        return kept
    wt.require(shutil.which("apt-get"), "the kernel cannot be fetched: "
               "there is no apt-get")
    os.makedirs(top, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=top) as folder:
        root = os.path.join(folder, "root")
        output_of("dpkg-deb", "-x", download(folder), root)
        if not os.path.exists(os.path.join(root, "lib")):
            os.symlink("usr/lib", os.path.join(root, "lib"))
        output_of("depmod", "-b", root, release_of(root))
        try:
            os.rename(root, kept)
        except OSError:
            # Another test that runs at once has been faster.
            if not os.path.isdir(kept):
                raise
    return kept


def release_of(root):
    image, = [name for name in os.listdir(os.path.join(root, "boot"))
              if name.startswith("vmlinuz-")]
    return image[len("vmlinuz-"):]


def module_files(root, names):
    """The files of modules and of all that they need, in order."""
    folder = os.path.join(root, "lib", "modules", release_of(root))
    needs = {}
    with open(os.path.join(folder, "modules.dep"), encoding="ascii") as f:
        for line in f:
            module, _, others = line.partition(":")
            name = os.path.basename(module).split(".")[0]
            needs[name] = [module] + others.split()
    with open(os.path.join(folder, "modules.builtin"), encoding="ascii") as f:
        for line in f:
            needs[os.path.basename(line).split(".")[0]] = []
    files = []
    for name in names:
        for path in reversed(needs[name]):
            if os.path.join(folder, path) not in files:
                files.append(os.path.join(folder, path))
    return files


# The initramfs.

def libraries(program):
    """The libraries that a program is linked with, its loader among them."""
    try:
        lines = output_of("ldd", program).splitlines()
    except subprocess.CalledProcessError:
        return []       # linked statically
    words = [word for line in lines for word in line.split()]
    return [word for word in words if word.startswith("/")]


def add_libraries(tree, program):
    for library in libraries(program):
        copy = tree + library
        os.makedirs(os.path.dirname(copy), exist_ok=True)
        if not os.path.exists(copy):
            shutil.copy(library, copy)


def add_program(tree, program, folder="bin"):
    """Copies a program, found by its name or its path, and its libraries."""
    path = program if "/" in program else shutil.which(program)
    wt.require(path, "%s is not installed" % program)
    shutil.copy(path, os.path.join(tree, folder, os.path.basename(program)))
    add_libraries(tree, path)


def make_initramfs(folder, root, programs, modules, begin, fill):
    """Makes it in the folder; its path.

    It is not compressed: to uncompress takes longer under emulation.
    """
    tree = os.path.join(folder, "tree")
    for name in "usr/bin", "usr/lib", "usr/lib64", "busybox", "modules.d":
        os.makedirs(os.path.join(tree, name))
    for name, target in (("bin", "usr/bin"), ("sbin", "usr/bin"),
                         ("lib", "usr/lib"), ("lib64", "usr/lib64"),
                         ("usr/sbin", "bin")):
        os.symlink(target, os.path.join(tree, name))
    for program in ["busybox", "dash"] + programs:
        add_program(tree, program)
    fill(tree)
    with open(os.path.join(tree, "modules"), "w", encoding="ascii") as f:
        for path in module_files(root, NETWORK_MODULES + modules):
            name = os.path.join("modules.d", os.path.basename(path))
            shutil.copy(path, os.path.join(tree, name))
            f.write("/" + name + "\n")
    for name, text in ("init", INIT + begin), ("commands", COMMANDS):
        with open(os.path.join(tree, name), "w", encoding="ascii") as f:
            f.write(text)
        os.chmod(os.path.join(tree, name), 0o755)
    result = os.path.join(folder, "initramfs")
    subprocess.run("find . | cpio --quiet -o -H newc -R 0:0 >../initramfs",
                   shell=True, cwd=tree, check=True)
    shutil.rmtree(tree)
    return result


# The machine.

class Guest:
    """A machine that has booted, until the end of its with block.

    programs    their names, or paths of built ones
    modules     names of the kernel's modules, loaded in this order
    """

    # The end of the first program's script.
    begin = "exec dash /commands </dev/ttyS1 >/dev/ttyS1 2>&1\n"

    def __init__(self, programs, modules):
        root = kernel()
        self.folder = tempfile.mkdtemp(prefix="wt-")
        self.process = None
        self.answers = None
        self.number = 0
        self.history = []
        machines.append(self)
        try:
            self.boot(root, make_initramfs(
                self.folder, root, programs, modules, self.begin, self.fill))
        except BaseException:
            self.close()
            raise

    def __enter__(self):
        return self

    def __exit__(self, kind, _value, _traceback):
        try:
            if kind is None:
                self.power_off()
        finally:
            self.close()

    def path(self, name):
        return os.path.join(self.folder, name)

    def fill(self, tree):
        """Puts more files into the folder that becomes the guest's root."""

    def boot(self, root, initramfs):
        image = os.path.join(root, "boot", "vmlinuz-" + release_of(root))
        with open(self.path("emulator"), "wb") as log:
            self.process = subprocess.Popen(
                [EMULATOR, "-nodefaults", "-no-user-config", "-no-reboot",
                 "-display", "none", "-accel", "tcg,thread=multi",
                 "-cpu", "max", "-smp", "2", "-m", MEMORY,
                 "-kernel", image, "-initrd", initramfs,
                 "-append", "console=ttyS0 panic=-1 oops=panic "
                 "mitigations=off random.trust_cpu=on",
                 "-serial", "file:" + self.path("console"),
                 # The guest does not begin before a reader listens to it:
                 # its output before that is lost.
                 "-chardev", "socket,id=commands,server=on,wait=on,path="
                 + self.path("commands"), "-serial", "chardev:commands",
                 "-netdev", "user,id=net",
                 "-device", "virtio-net-pci,netdev=net,romfile="],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        self.line = wt.wait_until(self.dial, "the emulator listens")
        self.answers = self.line.makefile("r", encoding="utf-8",
                                          errors="replace", newline="\n")
        self.read_until("READY", BOOT_TIMEOUT)

    def dial(self):
        """The guest's line of commands, once it is there."""
        assert self.process.poll() is None, "the emulator does not run"
        line = socket.socket(socket.AF_UNIX)
        if line.connect_ex(self.path("commands")) == 0:
            return line
        line.close()
        return None

    def read_until(self, prefix, timeout):
        """The lines before one with this prefix, and the rest of that."""
        self.line.settimeout(timeout * tap.SCALE)
        lines = []
        while True:
            try:
                line = self.answers.readline()
            except socket.timeout:
                raise AssertionError(
                    "the guest gives no answer:\n" + "\n".join(lines)
                ) from None
            assert line, "the guest has gone"
            line = line.rstrip("\n")
            if line.startswith(prefix):
                return lines, line[len(prefix):]
            lines.append(line)

    def run(self, command, timeout=120, status=0):
        """Runs a command; its output.  Status None: whichever it has."""
        assert "\n" not in command
        self.number += 1
        self.line.sendall(("%d %s\n" % (self.number, command)).encode())
        lines, end = self.read_until("END %d " % self.number, timeout)
        output = "\n".join(lines).strip()
        self.history += ["$ " + command] + output.splitlines()
        assert status is None or int(end) == status, (
            "%s: status %s\n%s" % (command, end, output))
        return output

    def power_off(self):
        self.line.sendall(b"0 poweroff -f\n")
        try:
            self.process.wait(60 * tap.SCALE)
        except subprocess.TimeoutExpired:
            raise AssertionError("the guest does not power off") from None

    def report(self):
        """The commands and the kernel's last messages."""
        lines = ["guest: " + line for line in self.history[-100:]]
        for name in "emulator", "console":
            if os.path.exists(self.path(name)):
                with open(self.path(name), errors="replace") as f:
                    lines += [name + ": " + line.rstrip()
                              for line in f.readlines()[-60:]]
        return lines

    def close(self):
        reports.append(self.report())
        if self.process is not None:
            self.process.kill()
            self.process.wait()
        if self.answers is not None:
            self.answers.close()
            self.line.close()
        shutil.rmtree(self.folder, ignore_errors=True)
        machines.remove(self)


# The hooks that tap calls.

def end_hung_machines():
    for machine in list(machines):
        if machine.process is not None:
            machine.process.kill()


def clean_up(failed):
    for machine in list(machines):
        machine.close()
    lines = [line for report in reports for line in report]
    reports.clear()
    return lines if failed else []


tap.on_hang.append(end_hung_machines)
tap.on_end.append(clean_up)
