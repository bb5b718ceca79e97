"""Sends a run's log to Weights & Biases or MLflow: what they lack, from the first step on.

A run with `Run.tracking` does this by itself while it trains; this sends what it could not, or a
run that was trained without it. A finished run may be sent again: nothing is there twice.

  twjax track runs/taiwan --to wandb
  twjax track runs/taiwan --to mlflow --mlflow-uri http://127.0.0.1:5000 --follow
"""

from __future__ import annotations

import argparse
import pathlib

HELP = "send a run's log to Weights & Biases or MLflow"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run_dir", metavar="RUN", type=pathlib.Path, help="a run directory")
    parser.add_argument(
        "--to",
        choices=("wandb", "mlflow"),
        help="the tracker (default: those of the run's configuration)",
    )
    parser.add_argument(
        "--project", help="Weights & Biases' project, MLflow's experiment (default: twjax)"
    )
    parser.add_argument("--name", help="the run's name there (default: that of its folder)")
    parser.add_argument(
        "--offline", action="store_true", help="Weights & Biases: write files for `wandb sync`"
    )
    parser.add_argument(
        "--mlflow-uri", help="MLflow's server or store (default: MLFLOW_TRACKING_URI)"
    )
    parser.add_argument(
        "--follow", action="store_true", help="go on until the run is finished, or Ctrl-C"
    )
    # Started by the trainer, whose end is that of standard input.
    parser.add_argument("--attached", action="store_true", help=argparse.SUPPRESS)


def run(args: argparse.Namespace) -> int:
    import dataclasses
    import os

    from twjax.config import ConfigError, Run, Tracking, load
    from twjax.report import sending

    frozen = args.run_dir / "config.gin"
    if not frozen.is_file():
        raise ConfigError(f"{args.run_dir}: not a run directory (no config.gin).")
    tracking = load(Run, [frozen]).value.tracking
    kinds = (args.to,) if args.to else tracking.to if tracking else ()
    if not kinds:
        raise ConfigError(f"{args.run_dir}: was trained without Run.tracking; name one with --to.")
    if args.follow and len(kinds) > 1:
        raise ConfigError(f"--follow sends to one tracker: --to {' or --to '.join(kinds)}.")
    tracking = tracking or Tracking(to=kinds)
    changes = {
        "project": args.project,
        "name": args.name,
        "wandb_mode": "offline" if args.offline else None,
        "mlflow_uri": args.mlflow_uri,
    }
    tracking = dataclasses.replace(tracking, **{k: v for k, v in changes.items() if v is not None})
    if args.attached or args.follow:
        os.nice(10)
    missing = []
    for kind in kinds:
        with sending.only_sender(args.run_dir, kind, patience=60.0 if args.attached else 0.0):
            sender = sending.Sender(args.run_dir, kind, tracking)
            ended = sending.until_end(sender, attached=args.attached, follow=args.follow)
            if not sending.send_until(sender, kind, ended, sending.speaker(args.attached)):
                missing.append(kind)
    if missing and not args.attached:
        raise OSError(f"{', '.join(missing)}: not all was sent; the same command sends the rest.")
    return 1 if missing else 0
