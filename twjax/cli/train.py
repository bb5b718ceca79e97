"""Trains a run. It resumes by itself: the same command goes on from the newest checkpoint.

SIGTERM or Ctrl-C saves and exits 0; the run is finished only when all its steps are.

  twjax train configs/runs/quickstart_base.gin --run-dir build/quickstart/base
  twjax train CONFIG --set 'Schedule.peak = 1e-4' --set 'Run.steps = 2_000'
"""

from __future__ import annotations

import argparse
import pathlib

from twjax.cli.options import add_config

HELP = "train a run, or go on with it"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_config(parser, "run configuration (a .gin file)")
    parser.add_argument(
        "--run-dir",
        help="where checkpoints, metrics and samples go (default: runs/NAME-OF-CONFIG)",
    )
    parser.add_argument(
        "--allow-change",
        action="store_true",
        help="go on with a run although settings that decide its data or shapes have changed",
    )


def run(args: argparse.Namespace) -> int:
    from twjax import config
    from twjax.storage import local_folder

    loaded = config.load(config.Run, [args.config], args.set)
    run_dir = local_folder(args.run_dir or pathlib.Path("runs") / pathlib.Path(args.config).stem)

    from twjax.parallel import distributed

    distributed.initialize()
    from twjax.evaluation.watch import Watch
    from twjax.training.program import train

    def open_folder(text: str):
        from twjax.huggingface.source import HubSource

        return HubSource(text)

    train(
        loaded,
        run_dir,
        lambda *parts: Watch(*parts, run_dir=run_dir, config=args.config),
        allow_change=args.allow_change,
        config_name=args.config,
        open_folder=open_folder,
    )
    return 0
