"""A mixture law against what is observed: six small runs on real texts, one share held out.

    python benchmarks/mixture_law.py --data DIR [--work DIR] [--prepared DIR] [--json FILE]

DIR holds `.jsonl.gz` files with "text" (see `benchmarks/continual.py`, whose texts, vocabulary and
base these are; --prepared is a --work of it, and saves making them again). From one base, `twjax
sweep` goes on with Taiwan's texts and six shares of replay. A law is fitted to five of them and
predicts the sixth's bits per byte in every domain, with an error bar; then each inner share is
predicted by the others. WORK keeps the runs, and a second call goes on from there.
"""

from __future__ import annotations

import argparse
import math
import os
import pathlib
import subprocess
import sys
import tempfile
import time
from typing import Any

import continual
import prepare

SWEEP = """
Sweep.base = '{base}'
Sweep.shares = {{'replay': {shares!r}}}
Sweep.parts = {parts!r}
"""


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=pathlib.Path, required=True)
    parser.add_argument("--work", type=pathlib.Path, help="default: a folder that is deleted")
    parser.add_argument("--prepared", type=pathlib.Path, help="default: made in --work")
    parser.add_argument("--shares", type=float, nargs="+", default=[0.05, 0.1, 0.2, 0.3, 0.45, 0.6])
    parser.add_argument("--held-out", type=float, default=0.2)
    parser.add_argument("--base-steps", type=int, default=1000)
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--every", type=int, default=20, help="steps between evaluations")
    parser.add_argument("--peak", type=float, default=1.5e-3)
    parser.add_argument("--warmup", type=int, default=40)
    parser.add_argument("--allowed", type=float, default=0.25, help="rise in bits per byte")
    parser.add_argument("--level", type=float, default=0.9, help="of error bars")
    parser.add_argument("--json", type=pathlib.Path)
    args = parser.parse_args()
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="twjax-mixture-law-") as temporary:
        folder = sweep(args, (args.work or pathlib.Path(temporary)).absolute())
        figures = judge(args, folder)
    figures["minutes"] = (time.monotonic() - began) / 60
    print(f"{figures['minutes']:.0f} minutes")
    prepare.save(figures, args.json)
    return 0


def sweep(args: argparse.Namespace, work: pathlib.Path) -> pathlib.Path:
    """Trains the base and the points; returns the sweep's folder."""
    work.mkdir(parents=True, exist_ok=True)
    prepared = (args.prepared or work).absolute()
    common = prepared / "common.gin"
    if not common.is_file():
        common = continual.prepare_texts(args.data, prepared)
    base = continual.base(args, work, common, seed=0)
    trained = prepared / "runs" / base.stem
    stage = {name: 1 / len(continual.TAIWAN) for name in continual.TAIWAN}
    way = work / "way.gin"
    about = {"common": common, "base": trained, "stage": stage, "seed": 0, "more": ""}
    about |= {name: getattr(args, name) for name in ("steps", "every", "peak", "warmup")}
    way.write_text(continual.WAY.format(**about))
    path = work / "replay.gin"
    parts = {"replay": {name: 1.0 for name in continual.GENERAL}}
    path.write_text(SWEEP.format(base=way, shares=tuple(args.shares), parts=parts))
    if args.prepared is None:
        reads_all = stage | {name: 0.1 for name in continual.GENERAL}
        every = f"Mixture.stages = {((0, reads_all),)!r}"
        prepare.twjax("tasks", "cache", way, "--set", every)
        prepare.twjax("train", base, "--run-dir", trained)
    jobs = len(os.sched_getaffinity(0))
    words = ["sweep", "run", path, "--output", work / "points", "--jobs", jobs]
    # Not by prepare.twjax: how far it got is worth seeing.
    done = subprocess.run([sys.executable, "-m", "twjax", *map(str, words)], check=False)
    if done.returncode:
        raise SystemExit("the sweep isn't finished; the same command goes on")
    return work / "points"


def judge(args: argparse.Namespace, folder: pathlib.Path) -> dict[str, Any]:
    """Prints what the laws predict against what was observed; returns the figures."""
    from twjax.sweeps import forecast, law_page, results

    found = results.read(folder)
    runs = forecast.runs_of(found, "replay", {})
    protected = [f"{name}_test" for name in continual.GENERAL]
    figures: dict[str, Any] = {"points": {p.name: _ends(p) for p in found.points}, "laws": {}}
    print(results.render(results.table(found)))
    for law in ("share", "dcpt"):
        made = [
            forecast.forecast(
                runs, "replay", task, law=law, held_out=[args.held_out], level=args.level
            )
            for task in found.outcomes
        ]
        everything = [
            forecast.forecast(runs, "replay", task, law=law, level=args.level)
            for task in found.outcomes
        ]
        print(f"\n{law} law, {args.level:.0%} error bars, {len(runs) - 1} runs fitted")
        print(results.render(law_page.predictions(made)))
        left = [pair for one in everything for pair in one.left_out]
        inside = sum(prediction.holds(loss) for prediction, loss in left)
        rms = math.sqrt(sum((loss - p.mean) ** 2 for p, loss in left) / max(len(left), 1))
        print(f"each inner share by the others: {inside} of {len(left)} inside, rms {rms:.4f}")
        figures["laws"][law] = {
            "held_out": [
                {"task": one.task, "predicted": p.mean, "error": p.error, "observed": loss}
                for one in made
                for p, loss in one.asked
            ],
            "left_out": {"inside": inside, "of": len(left), "rms": rms},
        }
        law_page.write_page(made, folder, title=f"Mixture law ({law})", level=args.level)
    allowed: dict[str, float] = {task: args.allowed for task in protected}
    enough = forecast.enough(runs, "replay", allowed, level=args.level)
    print("\n".join(["", *law_page.needs(enough, "replay", args.level)]))
    print("\n".join(law_page.ratios(forecast.critical(runs, allowed))))
    return figures


def _ends(point: Any) -> dict[str, float]:
    return {name: point.last(name) for name in point.outcomes}


if __name__ == "__main__":
    sys.exit(main())
