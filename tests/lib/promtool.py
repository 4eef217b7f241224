# SPDX-License-Identifier: BSD-3-Clause
"""promtool, which knows whether metrics and expressions are right.
tests/fetch-promtool puts it into the built tree.

    promtool.metrics(text)           check a file as wtcache-stats writes it
    promtool.expressions(["up"])     check expressions
"""

import json
import os
import shutil
import subprocess
import tempfile

import tap


def path():
    """The program, if it is anywhere."""
    fetched = os.path.join(os.environ.get("top_builddir", "."),
                           "promtool", "promtool")
    found = fetched if os.path.exists(fetched) else shutil.which("promtool")
    tap.require(found, "promtool is not there: tests/fetch-promtool gets it")
    return found


def run(*arguments, text=None):
    """Its output; fails if it finds anything."""
    result = subprocess.run([path(), *arguments], input=text,
                            stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                            timeout=60 * tap.SCALE, check=False)
    result.stdout = result.stdout.decode()
    assert result.returncode == 0, "promtool: " + result.stdout
    return result.stdout


def metrics(text):
    """The text of a file, as bytes."""
    found = run("check", "metrics", text=text)
    assert found == "", "promtool: " + found


def expressions(wanted):
    """As rules, of which JSON is a form that YAML is a superset of."""
    rules = [{"record": "rule_%d" % number, "expr": expression}
             for number, expression in enumerate(wanted)]
    with tempfile.NamedTemporaryFile("w", suffix=".yml") as f:
        json.dump({"groups": [{"name": "all", "rules": rules}]}, f)
        f.flush()
        found = run("check", "rules", f.name)
    assert "%d rules found" % len(rules) in found, found
