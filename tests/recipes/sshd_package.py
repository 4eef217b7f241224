# SPDX-License-Identifier: BSD-3-Clause
"""The ssh server's program, without its service: the installed one, or that
of the distribution's packages, fetched and unpacked into the build."""

import glob
import os
import shutil
import subprocess
import tempfile

import tap

# The program's own, and libraries that only it needs, on some releases.
PACKAGES = ["openssh-server", "libwrap0", "libwtmpdb0"]


def known(package):
    return subprocess.run(["apt-cache", "show", package],
                          capture_output=True).returncode == 0


def fetch(folder):
    """The packages, unpacked in a folder."""
    try:
        subprocess.run(
            ["apt-get", "-q", "-o", "APT::Sandbox::User=", "download"]
            + [package for package in PACKAGES if known(package)],
            cwd=folder, stdin=subprocess.DEVNULL, capture_output=True,
            timeout=120, check=True)
    except subprocess.SubprocessError as error:
        raise tap.Skip("there is no sshd, and it cannot be fetched"
                       ) from error
    root = os.path.join(folder, "root")
    for package in glob.glob(os.path.join(folder, "*.deb")):
        subprocess.run(["dpkg-deb", "-x", package, root], check=True)
    return root


def command():
    """The command, as a shell takes it; skips the test where it is not to
    be had."""
    installed = shutil.which("sshd", path="/usr/sbin:/sbin:/usr/bin")
    if installed:
        return installed
    top = os.path.join(os.environ.get("top_builddir", "."), "tests",
                       "recipes")
    kept = os.path.abspath(os.path.join(top, "sshd-package"))
    if not os.path.isdir(kept):
        tap.require(shutil.which("apt-get"),
                    "there is no sshd, and no apt-get")
        os.makedirs(top, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=top) as folder:
            try:
                os.rename(fetch(folder), kept)
            except OSError:
                pass    # another test that runs at once has been faster
    libraries = {os.path.dirname(path) for path in glob.glob(
        os.path.join(kept, "**", "lib*.so*"), recursive=True)}
    return "env LD_LIBRARY_PATH=%s %s" % (
        ":".join(sorted(libraries)), os.path.join(kept, "usr/sbin/sshd"))
