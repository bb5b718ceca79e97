"""The whole way on real texts that come with twjax, on a CPU, in about ten minutes.

Raw texts -> clean corpora -> vocabulary -> cached rows -> a small general base -> continual
pretraining for Taiwan with and without replay -> bits-per-byte by domain -> report.html.
Each stage is a command of its own that you can run yourself; a second call reuses and resumes.
"""

from __future__ import annotations

import argparse
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import time

HELP = "the whole way on real texts that come with twjax, on a CPU"

ROOT = pathlib.Path("build/quickstart")
CORPORA = ("tw_laws", "tw_transcripts", "tw_articles", "tw_drcd", "en_general", "cn_general")
RUNS = ("base", "taiwan", "replay")
TAIWAN = ("tw_laws", "tw_transcripts", "tw_articles", "tw_drcd")
GENERAL = ("en_general", "cn_general")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--fresh", action="store_true", help=f"delete {ROOT} first and start over")
    parser.add_argument(
        "--steps", type=int, help="steps of each run, for a quick look (default: as configured)"
    )


def run(args: argparse.Namespace) -> int:
    began = time.monotonic()
    if args.fresh and ROOT.exists():
        shutil.rmtree(ROOT)
    stages = [
        ("Clean the texts", [["corpus", "build", f"configs/corpora/{c}.gin"] for c in CORPORA]),
        ("Train a vocabulary", [["vocab", "train", "configs/corpora/quickstart_vocab.gin"]]),
        ("Cache packed rows", [["tasks", "cache", "configs/runs/quickstart_replay.gin"]]),
        ("Train a general base", [_train("base", args.steps)]),
        ("Continue on Taiwan's texts alone", [_train("taiwan", args.steps)]),
        ("Continue on Taiwan's texts with 30% replay", [_train("replay", args.steps)]),
    ]
    for number, (title, commands) in enumerate(stages, start=1):
        minutes = (time.monotonic() - began) / 60
        _say(f"\n[{number}/{len(stages) + 1}] {title}  ({minutes:.1f} min so far)")
        for command in commands:
            _say("$ twjax " + " ".join(command))
            code = _call([sys.executable, "-m", "twjax", *command])
            if code:
                _say(f"twjax {' '.join(command)} ended with exit code {code}; nothing is lost.")
                return code
            if command[0] == "train" and not _finished(pathlib.Path(command[3])):
                _say("Interrupted; the same command goes on from here.")
                return 130
    _say(f"\n[{len(stages) + 1}/{len(stages) + 1}] Report")
    path = _report()
    _say(f"Done in {(time.monotonic() - began) / 60:.1f} min. Open {path.resolve()}")
    return 0


def _train(name: str, steps: int | None) -> list[str]:
    command = ["train", f"configs/runs/quickstart_{name}.gin", "--run-dir", str(ROOT / name)]
    if steps is not None:
        command += ["--set", f"Run.steps = {steps}"]
        command += ["--set", f"Schedule.warmup_steps = {steps // 10}"]
    return command


def _call(command: list[str]) -> int:
    """Runs a command to its own end: asked to stop, it saves first."""
    # The quickstart is sized for a CPU, whatever else the machine has.
    process = subprocess.Popen(command, env={**os.environ, "JAX_PLATFORMS": "cpu"})

    def pass_on(number: int, frame: object) -> None:
        # A terminal's Ctrl-C has reached the command already.
        if number == signal.SIGTERM:
            process.send_signal(number)

    previous = {n: signal.signal(n, pass_on) for n in (signal.SIGTERM, signal.SIGINT)}
    try:
        return process.wait()
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def _finished(run_dir: pathlib.Path) -> bool:
    from twjax.training import ledger

    return ledger.read(run_dir)[-1]["event"] == "finish"


def _report() -> pathlib.Path:
    from twjax.report.page import write_report
    from twjax.report.summary import Roles

    base, taiwan, replay = (ROOT / name for name in RUNS)
    return write_report(
        [base, taiwan, replay],
        ROOT / "report.html",
        title="Quickstart: a small base learns Taiwan",
        roles=Roles(
            baseline=base,
            without_replay=taiwan,
            with_replay=replay,
            learnt=TAIWAN,
            protected=GENERAL,
        ),
    )


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
