# SPDX-License-Identifier: BSD-3-Clause
"""The files of a run in a folder: result.json, table.md and plots.

The plots are drawn by gnuplot, as SVG, from what is in result.json alone:

    goals.svg  every check that has a goal, as a multiple of the goal
    peers.svg  rates of wtcache and of its peers, as multiples of no filter

It knows nothing of how anything was measured.
"""

import json
import math
import os
import shutil
import subprocess

PEERS = ["no filter", "cache", "cow", "readahead+cache", "qemu-nbd"]
COLOURS = {"met": "#2a7f3f", "undecided": "#c08a00", "not met": "#b03030"}


def number(value):
    if value is None:
        return ""
    if abs(value) >= 1000:
        return f"{value:,.0f}"
    return f"{value:.3g}" if abs(value) < 10 else f"{value:.1f}"


def spread_text(line):
    if line["low"] == line["high"]:
        return "the same"
    return number(line["low"]) + " .. " + number(line["high"])


def name_of(line):
    return line["what"] + (f", {line['unit']}" if line["unit"] else "")


def goal_of(line):
    if line["goal"] is None:
        return ""
    return ("<= " if line["better"] == "less" else ">= ") + number(
        line["goal"])


def rounded(value):
    return float(f"{value:.4g}") if isinstance(value, float) else value


def compact(result):
    """The data that the repository keeps: the lines, and each round's values."""
    entries = []
    for entry in result["rows"]:
        entry = {key: value for key, value in entry.items()
                 if key != "rounds"}
        entry["lines"] = [
            {key: [rounded(v) for v in value] if key == "values"
             else rounded(value) for key, value in line.items()}
            for line in entry.get("lines", [])]
        entries.append(entry)
    return {**result, "rows": entries}


def write_json(result, path):
    """A line of the file is a check."""
    with open(path, "w") as file:
        rest = {key: value for key, value in result.items() if key != "rows"}
        file.write(json.dumps(rest)[:-1] + ',\n "rows": [')
        for i, entry in enumerate(result["rows"]):
            file.write(",\n" if i else "\n")
            head = {key: value for key, value in entry.items()
                    if key != "lines"}
            file.write("  " + json.dumps(head)[:-1] + ', "lines": [')
            file.write(",".join("\n   " + json.dumps(line)
                                for line in entry["lines"]))
            file.write("]}")
        file.write("\n]}\n")


def machine_text(result):
    machine = result["machine"]
    return (f"{machine['cpu']}, {machine['cores']} cores, "
            f"{machine['memory_mib']} MiB, Linux {machine['kernel']}, "
            f"{machine['nbdkit']}")


def write_table(result, path):
    with open(path, "w") as file:
        def row(*cells):
            file.write("| " + " | ".join(cells) + " |\n")

        file.write("<!-- SPDX-License-Identifier: BSD-3-Clause -->\n"
                   "# Figures\n\n"
                   f"On {machine_text(result)}; {result['rounds']} rounds of "
                   f"{result['seconds']:g} s a side, made by `make bench`; "
                   "[how to read them](../../bench/README.md).\n")
        for group, title in (("goal", "Goals"), ("floor", "Floors")):
            entries = [entry for entry in result["rows"]
                       if entry["group"] == group]
            if not entries:
                continue
            file.write(f"\n## {title}\n\n")
            row("load", "what", "goal", "measured", "spread", "",
                "here", "there")
            row(*["---"] * 8)
            for entry in entries:
                title = f"**{entry['name']}**: {entry['title']}"
                if entry["status"] != "measured":
                    row(title, entry["status"], "", "", "", "",
                        entry["reason"], "")
                for line in entry["lines"]:
                    row(title, name_of(line), goal_of(line),
                        number(line["ratio"]), spread_text(line),
                        line["verdict"], number(line["median"]),
                        number(line["median_against"]))
                    title = ""


def gnuplot(script):
    subprocess.run(["gnuplot"], input=script, text=True, check=True)


def quoted(text):
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def quoted_tic(text):
    """A label of an axis, which gnuplot takes for a format of numbers."""
    return quoted(text.replace("%", "%%"))


def block(name, lines):
    return f"${name} << EOD\n" + "\n".join(lines) + "\nEOD\n"


HEAD = """set terminal svg size 960,{height} font "sans-serif,12" \
background "white"
set output {output}
set title {title}
"""


def plot_goals(result, path):
    """Multiples of the goal, to the right the better: on a logarithmic
    scale, where only goals and values of the same sign can be.
    """
    lines = []
    for entry in result["rows"]:
        for line in entry["lines"]:
            goal = line["goal"]
            if not goal or goal < 0 or min(line["low"], line["ratio"]) <= 0:
                continue
            values = [line[key] / goal for key in ("ratio", "low", "high")]
            if line["better"] == "less":
                middle, low, high = (1 / value for value in values)
                low, high = high, low
            else:
                middle, low, high = values
            label = entry["name"] + ": " + name_of(line)
            lines.append((label, middle, low, high, line["verdict"]))
    if not lines:
        return
    script = HEAD.format(
        height=130 + 17 * len(lines), output=quoted(path),
        title=quoted("Multiples of the goal, with their spread"))
    names = []
    for verdict in COLOURS:
        # Gnuplot knows no empty block of data.
        script += block(verdict.replace(" ", ""), [
            f"{middle:.5g} {len(lines) - i} {low:.5g} {high:.5g}"
            for i, (_, middle, low, high, its) in enumerate(lines)
            if its == verdict] or ["NaN NaN NaN NaN"])
        names.append(verdict)
    tics = ", ".join(f"{quoted_tic(label)} {len(lines) - i}"
                     for i, (label, *_) in enumerate(lines))
    script += (f"set ytics ({tics})\nset yrange [0:{len(lines) + 1}]\n"
               "set logscale x 2\nset grid x\n"
               "set key outside bottom center horizontal\n"
               "set arrow from 1, graph 0 to 1, graph 1 nohead lw 2 "
               "lc rgb '#404040'\n"
               "plot " + ", ".join(
                   f"${verdict.replace(' ', '')} using 1:2:3:4 "
                   f"with xerrorbars pt 7 ps 0.6 lc rgb '{COLOURS[verdict]}' "
                   f"title '{verdict}'" for verdict in names) + "\n")
    gnuplot(script)


def plot_peers(result, path):
    """Rates, where a row knows more of them than that of no filter."""
    rows = []
    for entry in result["rows"]:
        ratios = {line["against"]: line["ratio"] for line in entry["lines"]
                  if line["key"] == "iops" and line["against"] in PEERS}
        if entry["group"] == "goal" and len(ratios) > 1 and ratios.get(
                "no filter"):
            mine = ratios["no filter"]
            rows.append((entry["name"],
                         [mine] + [mine / ratios[peer] if ratios.get(peer)
                                   else math.nan for peer in PEERS[1:]]))
    if not rows:
        return
    script = HEAD.format(
        height=420, output=quoted(path),
        title=quoted("Requests a second, as multiples of nbdkit without a "
                     "filter"))
    script += block("rates", [
        quoted(name) + " " + " ".join(
            "NaN" if math.isnan(value) else f"{value:.4g}"
            for value in values)
        for name, values in rows])
    # Gnuplot draws no histogram of nothing.
    there = [i for i in range(1, len(PEERS))
             if any(not math.isnan(values[i]) for _, values in rows)]
    script += ("set style data histograms\n"
               "set style histogram clustered gap 1\n"
               "set style fill solid 0.8\nset logscale y\nset grid y\n"
               "set xtics rotate by -20\nset key outside right\n"
               "set arrow from graph 0, first 1 to graph 1, first 1 nohead "
               "lw 2 lc rgb '#404040'\n"
               "plot $rates using 2:xtic(1) title 'wtcache'" +
               "".join(f", '' using {i + 2} title {quoted(PEERS[i])}"
                       for i in there) + "\n")
    gnuplot(script)


def write(result, folder):
    """All of it; what could not be made, as a line of text, or None."""
    os.makedirs(folder, exist_ok=True)
    result = compact(result)
    write_json(result, os.path.join(folder, "result.json"))
    write_table(result, os.path.join(folder, "table.md"))
    if not shutil.which("gnuplot"):
        return "no plots: gnuplot is not installed"
    plot_goals(result, os.path.join(folder, "goals.svg"))
    plot_peers(result, os.path.join(folder, "peers.svg"))
    return None
