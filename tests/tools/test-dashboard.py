# SPDX-License-Identifier: BSD-3-Clause
"""Tests of the dashboard for Grafana: it is sound, what it asks for is
documented, and Prometheus understands how it asks."""

import json
import os
import re
import sys
import tempfile

sys.dont_write_bytecode = True
HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [os.path.join(HERE, "..", "lib"), HERE]

import exposition  # noqa: E402
import promtool  # noqa: E402
import tap  # noqa: E402

TOP = os.path.join(HERE, "..", "..")
VARIABLES = {"$instance": ".*", "$server": ".*", "$export": ".*", "$__rate_interval": "5m"}


def dashboard():
    path = os.path.join(TOP, "packaging", "dashboards",
                        "grafana-dashboard.json")
    with open(path, encoding="utf-8") as f:
        return json.load(f)


def panels():
    return [p for p in dashboard()["panels"] if p["type"] != "row"]


def expressions():
    """All that are asked for, with the dashboard's variables filled in."""
    found = [target["expr"] for panel in panels()
             for target in panel["targets"]]
    for variable in dashboard()["templating"]["list"]:
        query = variable.get("definition", "")
        found += re.findall(r"label_values\((.*), \w+\)", query)
    for name, value in VARIABLES.items():
        found = [expression.replace(name, value) for expression in found]
    return found


def documented():
    """The metrics that the manual page names, and their types."""
    path = os.path.join(TOP, "docs", "wtcache-statistics.pod")
    with open(path, encoding="utf-8") as f:
        page = f.read()
    return dict(re.findall(r"^=item B<(wtcache_\w+)> \((\w+)", page, re.M))


def metric_of(name, types):
    """The documented type of a name in an expression."""
    for suffix in "_bucket", "_sum", "_count":
        whole = name[:-len(suffix)]
        if name.endswith(suffix) and types.get(whole) == "histogram":
            return whole
    return name


def test_what_it_asks_for_is_documented():
    types = documented()
    assert len(types) > 50, types
    for expression in expressions():
        names = re.findall(r"\bwtcache_\w+", expression)
        assert names, expression
        for name in names:
            assert metric_of(name, types) in types, name
            assert types.get(name) != "histogram", name


def test_counters_have_rates():
    types = documented()
    for expression in expressions():
        for rate, name in re.findall(r"(rate\()?\b(wtcache_\w+)", expression):
            histogram = types.get(metric_of(name, types)) == "histogram"
            counter = histogram or types[name] == "counter"
            # Names alone fill a list to choose from; the curve needs so many
            # reads since the start.
            enough = re.search(name + r"\{[^}]*\}\) >= 1000", expression)
            if "(" in expression and not enough:
                assert bool(rate) == counter, expression


def test_curve_waits_for_enough_reads():
    """A panel that draws the curve is empty before 1000 sampled reads."""
    curves = [e for e in expressions() if "curve_miss_ratio" in e]
    assert len(curves) >= 3, curves
    series = [{"series": 'wtcache_curve_miss_ratio{instance="i",server="%s",'
                         'size_ratio="%s"}' % (server, ratio),
               "values": value}
              for server in ("few", "many")
              for ratio, value in (("1", "0.5"), ("2", "0.25"))]
    series += [{"series": 'wtcache_curve_sampled_reads_total{instance="i",'
                          'server="%s"}' % server, "values": value}
               for server, value in (("few", "999"), ("many", "1000"))]
    tests = [{"expr": 'count by (server) (%s) > 0' % curve, "eval_time": "0s",
              "exp_samples": [{"labels": '{server="many"}',
                               "value": 1 if " / " in curve else 2}]}
             for curve in curves]
    with tempfile.NamedTemporaryFile("w", suffix=".yml") as f:
        json.dump({"tests": [{"interval": "15s", "input_series": series,
                              "promql_expr_test": tests}]}, f)
        f.flush()
        promtool.run("test", "rules", f.name)


def test_prometheus_understands_it():
    promtool.expressions(expressions())


def test_no_variable_is_left():
    for expression in expressions():
        assert "$" not in expression, expression


def test_names_in_legends():
    """A legend names labels that the expression leaves."""
    for panel in panels():
        for target in panel["targets"]:
            for label in re.findall(r"{{(\w+)}}", target["legendFormat"]):
                by = re.search(r"by \(([^)]*)\)", target["expr"])
                assert by is None or label in by.group(1).split(", "), target


def test_layout():
    """Numbers are unique, and no two panels lie over each other."""
    all_panels = dashboard()["panels"]
    ids = [p["id"] for p in all_panels]
    assert len(ids) == len(set(ids)), ids
    taken = {}
    for p in all_panels:
        at = p["gridPos"]
        assert at["x"] + at["w"] <= 24, p["title"]
        for x in range(at["x"], at["x"] + at["w"]):
            for y in range(at["y"], at["y"] + at["h"]):
                assert (x, y) not in taken, (p["title"], taken[x, y])
                taken[x, y] = p["title"]


def rules():
    """The text of the rules, and the names that they ask for."""
    path = os.path.join(TOP, "packaging", "dashboards", "alerts.yml")
    with open(path, encoding="utf-8") as f:
        text = f.read()
    asked = "\n".join(re.findall(
        r"expr: (.*(?:\n          +.*)*)", text))
    return path, text, set(re.findall(r"\bwtcache_\w+", asked))


def test_rules_are_sound():
    path, text, names = rules()
    types = documented()
    assert names, text
    for name in names:
        assert name in types, name
    found = promtool.run("check", "rules", path)
    assert "%d rules found" % text.count("- alert:") in found, found


def test_rules_speak_when_they_should():
    """Each of them, and not before."""
    path, text, _ = rules()
    with open(os.path.join(HERE, "alerts.yml"), encoding="utf-8") as f:
        tests = f.read()
    for alert in re.findall(r"- alert: (\w+)", text):
        assert tests.count("alertname: " + alert) >= 2, alert
    with tempfile.NamedTemporaryFile("w", suffix=".yml") as f:
        f.write(tests.replace("- RULES", "- " + os.path.abspath(path)))
        f.flush()
        promtool.run("test", "rules", f.name)


def test_every_metric_is_used():
    """By the dashboard or by a rule."""
    types = documented()
    used = {metric_of(name, types) for expression in expressions()
            for name in re.findall(r"\bwtcache_\w+", expression)}
    unused = set(types) - used - rules()[2]
    assert not unused, sorted(unused)


def test_samples_are_sound():
    """The files that the tests of wtcache-top make are named as documented."""
    types = documented()
    text = (exposition.process(curve={1: 0.5})
            + exposition.Export(error="EIO").text())
    for name in set(re.findall(r"^wtcache_\w+", text, re.M)):
        assert metric_of(name, types) in types, name


tap.main()
