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


def run(args: argparse.Namespace) -> int:
    began = time.monotonic()
    if args.fresh and ROOT.exists():
        shutil.rmtree(ROOT)
    stages = [
        ("Clean the texts", [["corpus", "build", f"configs/corpora/{c}.gin"] for c in CORPORA]),
        ("Train a vocabulary", [["vocab", "train", "configs/corpora/quickstart_vocab.gin"]]),
        ("Cache packed rows", [["tasks", "cache", "configs/runs/quickstart_replay.gin"]]),
        ("Train a general base", [_train("base")]),
        ("Continue on Taiwan's texts alone", [_train("taiwan")]),
        ("Continue on Taiwan's texts with 30% replay", [_train("replay")]),
    ]
    for number, (title, commands) in enumerate(stages, start=1):
        minutes = (time.monotonic() - began) / 60
        _say(f"\n[{number}/{len(stages) + 1}] {title}  ({minutes:.1f} min so far)")
        for command in commands:
            _say("$ twjax " + " ".join(command))
            code = subprocess.run(
                [sys.executable, "-m", "twjax", *command], env=_environment(), check=False
            ).returncode
            if code:
                _say(f"twjax {' '.join(command)} ended with exit code {code}; nothing is lost.")
                return code
            if command[0] == "train" and not _finished(pathlib.Path(command[-1])):
                _say("Interrupted; the same command goes on from here.")
                return 130
    _say(f"\n[{len(stages) + 1}/{len(stages) + 1}] Report")
    path = _report()
    _say(f"Done in {(time.monotonic() - began) / 60:.1f} min. Open {path.resolve()}")
    return 0


def _train(name: str) -> list[str]:
    return ["train", f"configs/runs/quickstart_{name}.gin", "--run-dir", str(ROOT / name)]


def _environment() -> dict[str, str]:
    # The quickstart is sized for a CPU, whatever else the machine has.
    return {**os.environ, "JAX_PLATFORMS": "cpu"}


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
