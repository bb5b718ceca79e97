"""Trains a run. It resumes by itself: the same command goes on from the newest checkpoint.

SIGTERM or Ctrl-C saves and exits 0; the run is finished only when all its steps are.

  twjax train configs/runs/quickstart_base.gin --run-dir build/quickstart/base
  twjax train CONFIG --set 'Schedule.peak = 1e-4' --set 'Run.steps = 2_000'
  twjax train CONFIG --branch-from runs/trunk@5000 --decay 500
  twjax train CONFIG --profile 10:13
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
    parser.add_argument(
        "--branch-from",
        metavar="RUN@STEP",
        help="begin with the whole state of another run's checkpoint, at its step (default "
        "--run-dir: RUN-from-STEP)",
    )
    parser.add_argument(
        "--decay",
        type=int,
        metavar="STEPS",
        help="with --branch-from: end after that many steps, all of them the last decay of a 'wsd' "
        "or 'infinite' schedule",
    )
    parser.add_argument(
        "--profile",
        metavar="FIRST:LAST",
        help="trace these steps for XProf into RUN-DIR/profile and print the slowest operations",
    )


def run(args: argparse.Namespace) -> int:
    from twjax import config
    from twjax.config.profile import Steps
    from twjax.config.sweep import decay_bindings
    from twjax.storage import local_folder

    overrides, name = list(args.set), pathlib.Path("runs") / pathlib.Path(args.config).stem
    if args.branch_from is not None:
        trunk, _, step = args.branch_from.rpartition("@")
        if not trunk or not step.isdigit():
            raise config.ConfigError(
                f"--branch-from {args.branch_from}: give the run and the step of one of its "
                "checkpoints, as in runs/trunk@5000."
            )
        name = pathlib.Path(f"{trunk.rstrip('/')}-from-{step}")
        if args.decay is not None:
            overrides += decay_bindings(int(step), args.decay)
    if args.decay is not None and (args.decay < 1 or args.branch_from is None):
        raise config.ConfigError(
            f"--decay {args.decay}: is a number of steps after the one of --branch-from."
        )
    loaded = config.load(config.Run, [args.config], overrides)
    run_dir = local_folder(args.run_dir or name)
    traced = args.profile and Steps.parse(args.profile, loaded.value.steps)

    from twjax.parallel import distributed

    distributed.initialize()
    from twjax.evaluation.watch import Watch
    from twjax.training.profiling import Profile
    from twjax.training.program import train

    def open_folder(text: str):
        from twjax.huggingface.source import HubSource

        return HubSource(text)

    def ends():
        from twjax.huggingface.carry import end_ids

        return end_ids(run_dir)

    stopped = distributed.stop_code()
    finished = train(
        loaded,
        run_dir,
        lambda *parts: Watch(*parts, run_dir=run_dir, config=args.config, end_ids=ends),
        allow_change=args.allow_change,
        config_name=args.config,
        open_folder=open_folder,
        branch_from=args.branch_from,
        profile=Profile(traced, run_dir),
    )
    return 0 if finished else stopped
