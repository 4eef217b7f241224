# SPDX-License-Identifier: BSD-3-Clause
"""Tests of the picture that wtcache-top --curve draws."""

import os
import shutil
import subprocess
import sys
import xml.etree.ElementTree

sys.dont_write_bytecode = True

import top  # noqa: E402
from top import Export, expect, fails, fresh, run, tap  # noqa: E402


def texts(svg):
    root = xml.etree.ElementTree.parse(svg).getroot()
    return [element.text for element in root.iter() if element.text]


def draw(*paths):
    picture = os.path.join(top.folder, "curve.svg")
    result = run("--curve", picture, *paths)
    assert (result.returncode, result.stderr) == (0, ""), result
    return picture


CURVE = {0.25: 0.8, 0.5: 0.6, 1: 0.4, 2: 0.3, 4: 0.25, 8: 0.2}


def test_curve():
    found = texts(draw(fresh(Export(), curve=CURVE)))
    for text in ("80 %", "20 %", "64 MiB", "256 MiB", "2 GiB", "now",
                 "Doubling the cache would save 25 % of backend reads."):
        assert text in found, (text, found)


def test_curve_is_a_line_down():
    picture = draw(fresh(Export(), curve=CURVE))
    root = xml.etree.ElementTree.parse(picture).getroot()
    points = [(float(c.get("cx")), float(c.get("cy")))
              for c in root.iter("{http://www.w3.org/2000/svg}circle")]
    expect(len(points), 6)
    steps = [b[0] - a[0] for a, b in zip(points, points[1:])]
    assert max(steps) - min(steps) < 0.2, points
    heights = [y for _, y in points]
    expect(heights, sorted(heights))
    # 0.8 is as far above the axis as four times 0.2.
    axis = heights[-1] + (heights[-1] - heights[0]) / 3
    assert abs((axis - heights[2]) * 2 - (axis - heights[0])) < 0.5, points


def test_curves():
    """Each is named by its file; one has none."""
    one, other = fresh(curve=CURVE), fresh(curve={1: 0.01, 2: 0.001})
    odd = os.path.join(top.folder, "a & <b>.prom")
    os.rename(other, odd)
    found = texts(draw(one, fresh(), odd))
    assert "a & <b>.prom" in found, found
    assert os.path.basename(one) in found, found
    assert "now" in found and "\u00d7 2" in found, found
    expect(sum(text.endswith(".prom") for text in found), 2)


def test_curves_of_sizes():
    """There are no factors where they would be of different sizes."""
    found = texts(draw(fresh(curve=CURVE), fresh(curve=CURVE, size=1 << 30)))
    assert "now" not in found and "8 GiB" in found, found


def test_curve_can_be_rendered():
    tap.require(shutil.which("rsvg-convert"), "rsvg-convert is missing")
    for curve in CURVE, {1: 0.5}, {1: 0, 2: 0}, {1: 1, 2: 1e-9}:
        picture = draw(fresh(curve=curve))
        subprocess.run(["rsvg-convert", "-o", picture + ".png", picture],
                       check=True)


def test_curve_without_estimate():
    message = fails(1, "--curve", "/nonexistent/x.svg", fresh(Export()))
    assert "there is no estimate of miss ratios yet" in message, message


def test_curve_that_cannot_be_drawn():
    path = fresh(curve=CURVE)
    message = fails(1, "--curve", "/nonexistent/x.svg", path)
    assert "/nonexistent/x.svg: cannot be drawn: " in message, message
    assert "No such file" in message, message
    target = os.path.join(top.folder, "a-top.folder")
    os.mkdir(target)
    fails(1, "--curve", target, path)
    expect([n for n in os.listdir(top.folder) if n.startswith("a-top.folder")],
           ["a-top.folder"])


def test_curve_replaces_pictures_only():
    """A disk that is named by mistake keeps its bytes."""
    path = fresh(curve=CURVE)
    picture = draw(path)
    first = os.stat(picture).st_ino
    assert os.stat(draw(path)).st_ino != first
    other = os.path.join(top.folder, "disk.img")
    with open(other, "wb") as f:
        f.write(bytes(4096))
    message = fails(1, "--curve", other, path)
    assert "disk.img: cannot be drawn: " in message, message
    with open(other, "rb") as f:
        expect(f.read(), bytes(4096))
    link = os.path.join(top.folder, "link.svg")
    os.symlink(other, link)
    fails(1, "--curve", link, path)
    assert os.path.islink(link)


top.main()
