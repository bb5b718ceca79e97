"""What a report of a long run costs: time to write, bytes, and time until Chromium has drawn it.

  PYTHONPATH=. python benchmarks/report.py --steps 100000

Writes run directories as the trainer does, of one run and of three side by side, and opens each
report five times at the width of a phone and of a desk.
"""

from __future__ import annotations

import argparse
import json
import pathlib
import shutil
import statistics
import tempfile
import time
from collections.abc import Sequence

from tests.browser import Tab
from tests.report_side import make_run
from twjax.report import write_report

OPENED = 5


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=100_000)
    parser.add_argument("--evaluations", type=int, default=50)
    parser.add_argument("--json", type=pathlib.Path, help="where to write the figures")
    args = parser.parse_args()
    folder = pathlib.Path(tempfile.mkdtemp())
    try:
        figures = measure(folder, args.steps, args.evaluations)
    finally:
        shutil.rmtree(folder)
    for name, of in figures.items():
        print(f"{name}: {', '.join(f'{key} {value:.2f}' for key, value in of.items())}")
    if args.json:
        args.json.write_text(json.dumps(figures, indent=2) + "\n")


def measure(folder: pathlib.Path, steps: int, evaluations: int) -> dict[str, dict[str, float]]:
    """Returns the figures of a report of one run and of one of three."""
    runs = [
        make_run(folder / name, steps=steps, every=1, evaluations=evaluations, seed=seed)
        for seed, name in enumerate("abc")
    ]
    return {
        "one run": of_report(runs[:1], folder / "one.html", folder / "user"),
        "three runs": of_report(runs, folder / "three.html", folder / "user"),
    }


def of_report(
    runs: Sequence[pathlib.Path], page: pathlib.Path, user: pathlib.Path
) -> dict[str, float]:
    """Returns seconds to write, megabytes, and the median seconds to open by width."""
    began = time.perf_counter()
    write_report(runs, page)
    figures = {"write_s": time.perf_counter() - began, "MB": page.stat().st_size / 1e6}
    with Tab(user) as tab:
        for width in (390, 1280):
            seconds = [tab.open(page, width=width, dark=False) for _ in range(OPENED)]
            figures[f"open_{width}px_s"] = statistics.median(seconds)
        assert not tab.said and not tab.asked, (tab.said, tab.asked)
    return figures


if __name__ == "__main__":
    main()
