"""Scores a run's checkpoint: bits-per-byte by domain on held-out rows, and what a suite names.

With --follow it scores each checkpoint of a run that trains, as it comes, until the run is
finished, and appends the scores to RUN/evaluations.jsonl; the run knows nothing of it.

  twjax eval build/quickstart/replay
  twjax eval RUN --step 200 --task tw_laws --rows 64 --json scores.json
  twjax eval RUN --suite configs/evaluations/taiwan.gin     # exams, wording, identity, writing
  twjax eval RUN --generate tw_drcd_answers,tw_civil_exam   # answers, scored by SeqIO's evaluator
  twjax eval --follow RUN --suite configs/evaluations/taiwan.gin
"""

from __future__ import annotations

import argparse
import pathlib

from twjax.cli import evaluate_tasks
from twjax.cli.options import add_weights

HELP = "score a run's checkpoint on held-out rows by domain, or all as they come"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run_dir", metavar="RUN", help="a run directory, or an imported model")
    parser.add_argument(
        "--config",
        help="score on the data and tasks of this run configuration (needed for a model, which "
        "has none of its own)",
    )
    parser.add_argument("--step", type=int, help="checkpoint to use (default: the newest)")
    add_weights(parser)
    parser.add_argument(
        "--task", action="append", help="task to score; may be repeated (default: the run's)"
    )
    parser.add_argument("--rows", type=int, help="rows a task (default: the run's setting)")
    parser.add_argument(
        "--suite",
        metavar="FILE",
        help="also score what this gin file names (default: the run's Evaluation.suite, if it has "
        "one); with --task none nothing else is scored",
    )
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="BINDING",
        help="change a setting of the suite: --set 'Suite.limit = 200'; may be repeated",
    )
    parser.add_argument(
        "--details",
        metavar="DIR",
        type=pathlib.Path,
        help="write each question's, pair's and probe's log-likelihoods and all texts there",
    )
    parser.add_argument("--json", type=pathlib.Path, help="also write the scores to this file")
    parser.add_argument(
        "--record", action="store_true", help="also append the scores to RUN/evaluations.jsonl"
    )
    follow = parser.add_argument_group("following a run")
    follow.add_argument(
        "--follow",
        action="store_true",
        help="score every checkpoint into RUN/evaluations.jsonl: those that come, the newest "
        "first, and those that are there; ends when the run is finished",
    )
    follow.add_argument(
        "--every", type=int, default=1, metavar="N", help="only steps that are multiples of N"
    )
    follow.add_argument(
        "--idle-timeout",
        type=float,
        metavar="SECONDS",
        help="end also after so long without a new checkpoint (default: wait)",
    )
    follow.add_argument(
        "--nice",
        type=int,
        default=10,
        metavar="N",
        help="how far everything else on this machine goes first, 0 to 19 (default: 10)",
    )
    evaluate_tasks.add_arguments(parser)


def run(args: argparse.Namespace) -> int:
    if args.generate is not None:
        return evaluate_tasks.run(args)
    import dataclasses
    import os

    kept = args.follow or args.record
    if args.every < 1:
        raise ValueError(f"--every ({args.every}) must be at least 1.")
    if kept and args.weights != "last":
        raise ValueError("RUN/evaluations.jsonl is of a run's weights; write others with --json.")
    if args.follow and (args.step is not None or args.json):
        raise ValueError("--follow scores every checkpoint; leave out --step and --json.")
    if args.follow:
        # Before any thread is started: it is a property of each.
        os.nice(args.nice)

    from twjax.parallel import distributed

    distributed.initialize()
    import jax

    from twjax.cli.evaluate_table import table
    from twjax.config import Run, Suite, load
    from twjax.evaluation import follow
    from twjax.evaluation.suite import SuiteScores
    from twjax.evaluation.watch import open_scores, open_vocabulary
    from twjax.huggingface.carry import end_ids
    from twjax.models.network import network as declare
    from twjax.parallel.mesh import mesh_here
    from twjax.progress import say
    from twjax.storage import local_folder, write_json
    from twjax.training.source import Source

    if args.follow:
        if jax.process_count() > 1:
            raise ValueError("--follow runs in one process; start it without the others.")
        follow.await_checkpoint(local_folder(args.run_dir), args.idle_timeout)
    source = Source.open(args.run_dir, args.step)
    if args.weights == "ema":
        source.require_average()
    if kept and source.imported:
        raise ValueError(f"{args.run_dir} is an imported model: it has no log to add to.")
    run = source.run
    if args.config:
        other = load(Run, [args.config]).value
        run = dataclasses.replace(
            run, data=other.data, evaluation=other.evaluation, step=other.step, mesh=other.mesh
        )
    suite = run.evaluation.suite
    if args.suite:
        suite = load(Suite, [args.suite], args.set).value
    elif args.set:
        raise ValueError("--set changes the suite that --suite names; name one.")
    tasks = run.evaluation.tasks
    if args.task:
        tasks = () if args.task == ["none"] else tuple(args.task)
    if not tasks and suite is None:
        raise ValueError(
            f"{args.run_dir} is an imported model: name data to score with --config, or a --suite."
            if source.imported and not args.config
            else f"{args.run_dir}: the run has no Evaluation.tasks; name one with --task."
        )
    rows = run.evaluation.rows if args.rows is None else args.rows
    evaluation = dataclasses.replace(run.evaluation, tasks=tasks, rows=rows)
    config = dataclasses.replace(run, evaluation=evaluation)
    network = declare(config.model)
    mesh = mesh_here(config.mesh)
    parts = []
    with jax.set_mesh(mesh):
        if tasks:
            scores, _ = open_scores(
                config,
                network,
                mesh,
                vocabulary=source.vocabulary,
                config_name=args.config or str(source.directory / "config.gin"),
            )
            keys = frozenset(("eval", task) for task in tasks)
            parts.append(follow.Part(keys, scores, scores.settings))
        if suite is not None:
            model = open_vocabulary(config.data.vocabulary, config, source.vocabulary)
            others = SuiteScores(
                config,
                network,
                mesh,
                suite,
                model,
                end_ids=lambda: end_ids(source.directory),
                details=args.details,
            )
            parts.append(follow.Part(others.keys, others, others.settings))
        read = source.reader(network, mesh, args.weights)
        if args.follow:
            with follow.only_follower(source.directory):
                reading = follow.reading(source.directory, read)
                follower = follow.Follower(source.directory, reading, parts, every=args.every)
                tally = follower.follow(args.idle_timeout)
            say(f"{args.run_dir}: {tally}.")
            return 1 if tally.broken else 0
        params = read(source.step)
        records = [record for part in parts for record in part.score(params, source.step)]
    if args.record:
        follow.record(source.directory, source.step, records)
    if jax.process_index() != 0:
        return 0
    print(f"{args.run_dir} at step {source.step}")
    print(table(records))
    if args.json:
        write_json(args.json, {"run": str(args.run_dir), "step": source.step, "scores": records})
    return 0
