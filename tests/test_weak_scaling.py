"""The script of weak scaling: a schedule is caught before its compilation ends, and drawn."""

from __future__ import annotations

import re
import subprocess
import sys
import time
import xml.etree.ElementTree as ElementTree

from benchmarks import weak_scaling
from benchmarks.weak_scaling import Size

MODULE = "HloModule m\n\n%body {\n  x = f32[] parameter(0)\n}\n\nENTRY %main {\n  y = f32[]\n}\n"
SLOW_COMPILER = """
import pathlib, sys, time
name = "module_1.jit_step.after_optimizations_after_buffer_assignment.txt"
time.sleep(1)
with pathlib.Path(sys.argv[1], name).open("w") as out:
    for line in sys.argv[2].splitlines(keepends=True):
        out.write(line)
        out.flush()
        time.sleep(0.3)
time.sleep(600)
"""


def started(program: str, *arguments: str) -> subprocess.Popen:
    return subprocess.Popen([sys.executable, "-c", program, *arguments])


def test_a_schedule_is_read_when_it_is_whole_and_not_before(tmp_path):
    process = started(SLOW_COMPILER, str(tmp_path), MODULE)
    try:
        text = weak_scaling.wait_for(process, tmp_path, time.monotonic() + 60)
        assert process.poll() is None
    finally:
        process.kill()
        process.wait()
    assert text == MODULE


def test_a_compilation_that_ends_or_takes_too_long_has_none(tmp_path):
    ended = started("pass")
    ended.wait()
    assert weak_scaling.wait_for(ended, tmp_path, time.monotonic() + 60) == ""
    assert weak_scaling.wait_for(ended, tmp_path, time.monotonic() - 1) == ""


def test_every_size_is_drawn_with_its_seconds():
    one = [Size(f"v5p-{n}", n, 1.0, 0.5, 0.1 * n, 0.0, None) for n in (2, 8, 64)]
    other = [Size(f"{n}xv5e-256", 256 * n, 2.0, 0.5, 0.1, 0.01 * n, 0.2) for n in (1, 16)]
    drawing = ElementTree.fromstring(weak_scaling.plot({"v5p": one, "v5e": other}))
    texts = [node.text for node in drawing.iter() if node.tag.endswith("text")]
    for size in (*one, *other):
        assert f"{size.seconds:.2f}" in texts and f"{size.chips:,}" in texts
    polygons = [node for node in drawing.iter() if node.tag.endswith("polygon")]
    assert len(polygons) == 8
    numbers = [float(n) for p in polygons for n in re.findall(r"[\d.]+", p.attrib["points"])]
    assert max(numbers) <= 860


def test_the_table_says_how_much_of_the_first_is_left(capsys):
    sizes = [Size("v5p-8", 4, 1.0, 0.5, 0.5, 0.0, None), Size("v5p-16", 8, 1.0, 0.5, 1.0, 0.0, 0.9)]
    weak_scaling.print_table("v5p", sizes)
    table = capsys.readouterr().out
    assert "| v5p-8 | 4 | 1.000 s | 0.500 s | 0.500 s | 0.000 s | 2.000 s | 100.0% | – |" in table
    assert "| 2.500 s | 80.0% | 0.900 s |" in table
    assert "50 Gbit" in table and "90 GB/s" in table
