"""Chooses a mixture before it is paid for: many small runs, a law of them, a probe of candidates.

twjax sweep run configs/sweeps/quickstart_replay.gin --output build/sweep   # resumes by itself
twjax sweep fit build/sweep --task en_general --share replay --at 0.15
twjax sweep anneal runs/trunk@5000 --candidates tw_laws,tw_web --steps 500 --output build/anneal
"""

from __future__ import annotations

import argparse
import pathlib
import shlex
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from twjax.sweeps.points import Point
    from twjax.sweeps.results import Results

HELP = "run many small runs, predict a mixture from them, probe candidate texts"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    commands = parser.add_subparsers(dest="sweep_command", metavar="run|fit|anneal", required=True)
    run = commands.add_parser(
        "run",
        help="train every point of a sweep, or go on with it",
        description="Trains every point of a sweep (a gin file with a Sweep), each in a folder of "
        "its own below --output. The same command goes on after a stop or a kill; what has "
        "finished isn't repeated. Writes results.json, results.csv and sweep.html.",
    )
    run.add_argument("config", metavar="SWEEP", help="a gin file with a Sweep")
    run.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="BINDING",
        help="override a setting of the sweep, e.g. --set \"Sweep.fixed = {'Run.steps': 50}\"",
    )
    fit = commands.add_parser(
        "fit",
        help="fit a mixture law to a sweep's points; predict the loss at a share",
        description="Fits a mixture law to the bits per byte of a sweep's finished points and "
        "predicts those at shares that were not run, with error bars. Writes law.html.",
    )
    _add_fit(fit)
    anneal = commands.add_parser(
        "anneal",
        help="decay a checkpoint on each candidate text, and compare",
        description="Branches off from a checkpoint once for each candidate task, which has "
        "--share of the rows while the learning rate falls to its end, and once without any. "
        "Compares what they are on each domain. A candidate's rows must be cached.",
    )
    anneal.add_argument("trunk", metavar="RUN@STEP", help="a checkpoint of a wsd or infinite run")
    anneal.add_argument("--candidates", required=True, metavar="TASK,…", help="cached tasks")
    anneal.add_argument("--steps", type=int, required=True, help="of the decay")
    anneal.add_argument(
        "--share", type=float, default=0.3, help="of the rows, of a candidate (default 0.3)"
    )
    anneal.add_argument(
        "--set", action="append", default=[], metavar="BINDING",
        help="override a setting of all branches, e.g. --set \"Evaluation.tasks = ('a', 'b')\"",
    )  # fmt: skip
    for command in (run, anneal):
        command.add_argument("--output", required=True, metavar="DIR", help="folder of the points")
        command.add_argument("--jobs", type=int, default=1, help="points at a time (default 1)")
        command.add_argument(
            "--launch",
            metavar="TEMPLATE",
            help="how to start a point that isn't trained on this machine: a command with "
            "{config}, {run_dir} and {overrides} (and {name}, {slot}), which ends when the point "
            "does; e.g. 'srun --gpus=1 twjax train {config} --run-dir {run_dir} {overrides}'",
        )
        command.add_argument("--dry-run", action="store_true", help="only list what would be run")


def _add_fit(fit: argparse.ArgumentParser) -> None:
    fit.add_argument("folder", metavar="DIR", help="the --output of a sweep")
    fit.add_argument("--task", nargs="+", required=True, help="whose loss is predicted")
    fit.add_argument("--share", required=True, metavar="NAME", help="a name of Sweep.shares")
    fit.add_argument(
        "--at", nargs="+", type=float, default=[], metavar="SHARE", help="predict it there"
    )
    fit.add_argument(
        "--hold-out", nargs="+", type=float, default=[], metavar="SHARE",
        help="predict it there from the other points, and compare with the points that have it",
    )  # fmt: skip
    fit.add_argument(
        "--allowed", nargs="+", default=[], metavar="TASK=RISE",
        help="also find the smallest share with which these tasks rise by no more bits per byte "
        "over step 0, as in Budget.allowed",
    )  # fmt: skip
    fit.add_argument(
        "--law",
        choices=("share", "dcpt"),
        default="share",
        help="over the share, at the end of the runs (default); or the D-CPT law, over the share "
        "and the tokens of all evaluations after the first 40%%",
    )
    fit.add_argument(
        "--where", nargs="+", default=[], metavar="SETTING=VALUE",
        help="only points with it, where something else is swept too",
    )  # fmt: skip
    fit.add_argument("--level", type=float, default=0.9, help="of error bars (default 0.9)")


def run(args: argparse.Namespace) -> int:
    return {"run": _run, "fit": _fit, "anneal": _anneal}[args.sweep_command](args)


def _run(args: argparse.Namespace) -> int:
    from twjax import config
    from twjax.config.sweep import Sweep
    from twjax.sweeps.points import expand
    from twjax.sweeps.results import table

    loaded = config.load(Sweep, [args.config], args.set)
    points = expand(loaded.value)
    return _go(args, pathlib.Path(args.config).stem, points, table)


def _anneal(args: argparse.Namespace) -> int:
    from twjax.sweeps import anneal

    trunk = anneal.Trunk.parse(args.trunk, args.set)
    points = anneal.branches(
        trunk, _names(args.candidates), share=args.share, steps=args.steps, bindings=args.set
    )
    return _go(args, f"anneal {trunk.folder.name}@{trunk.step}", points, anneal.table)


def _go(
    args: argparse.Namespace,
    name: str,
    points: Sequence[Point],
    table: Callable[[Results], list[tuple[str, ...]]],
) -> int:
    """Checks all points, trains what isn't finished, and writes what they measured."""
    from twjax.config import ConfigError
    from twjax.progress import say
    from twjax.storage import local_folder
    from twjax.sweeps import page, results, runner
    from twjax.sweeps.points import check_points

    folder = local_folder(args.output)
    if args.jobs < 1:
        raise ConfigError(f"--jobs ({args.jobs}) must be at least 1.")
    if args.launch is not None:
        runner.check_template(args.launch)
    runner.refuse_edited(points, folder)
    if args.dry_run:
        for point in points:
            done = runner.is_finished(point, folder / point.name)
            words = runner.command(point, folder / point.name, args.launch, 0)
            print(f"{point.name}{'  (finished)' if done else ''}\n  {shlex.join(words)}")
        return 0
    check_points(points)

    def write(states: dict[str, runner.Status]) -> Results:
        found = results.collect(name, folder, points, states)
        results.write(found, folder)
        page.write_page(found, folder)
        return found

    sweep = runner.Runner(folder, points, jobs=args.jobs, template=args.launch, changed=write)
    finished = sweep.run()
    found = write(sweep.states)
    print(results.render(table(found)), flush=True)
    say(f"{len(found.finished)} of {len(points)} points are finished: {folder / page.PAGE}")
    return 0 if finished else 1


def _fit(args: argparse.Namespace) -> int:
    from twjax.config import ConfigError
    from twjax.progress import say
    from twjax.sweeps import forecast, law_page, results

    if not 0 < args.level < 1:
        raise ConfigError(f"--level ({args.level}) must be above 0 and below 1.")
    folder = pathlib.Path(args.folder)
    found = results.read(folder)
    runs = forecast.runs_of(found, args.share, _pairs("--where", args.where))
    forecasts = [
        forecast.forecast(
            runs, args.share, task,
            law=args.law, asked=args.at, held_out=args.hold_out, level=args.level,
        )
        for task in args.task
    ]  # fmt: skip
    asked = law_page.predictions(forecasts)
    if len(asked) > 1:
        print(results.render(asked))
    notes = []
    if args.allowed:
        pairs = _pairs("--allowed", args.allowed)
        try:
            allowed = {task: float(rise) for task, rise in pairs.items()}
        except ValueError as error:
            raise ConfigError(f"--allowed: {error}.") from None
        enough = forecast.enough(
            runs, args.share, allowed, law=args.law, held_out=args.hold_out, level=args.level
        )
        notes = law_page.needs(enough, args.share, args.level)
        notes += law_page.ratios(forecast.critical(runs, allowed, held_out=args.hold_out))
    print("\n".join([*law_page.checks(forecasts, args.level), *notes]), flush=True)
    title = f"Mixture law of {found.name}"
    path = law_page.write_page(forecasts, folder, title=title, level=args.level, notes=notes)
    say(f"Written: {path}")
    return 0


def _names(text: str) -> list[str]:
    return [name.strip() for name in text.split(",") if name.strip()]


def _pairs(option: str, texts: Sequence[str]) -> dict[str, str]:
    from twjax.config import ConfigError

    pairs = {}
    for text in texts:
        name, mark, value = text.partition("=")
        if not mark or not name:
            raise ConfigError(f"{option} {text}: give NAME=VALUE.")
        pairs[name] = value
    return pairs
