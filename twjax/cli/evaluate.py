"""Scores a run's checkpoint on held-out rows: bits-per-byte, loss and perplexity by domain.

With --follow it scores each checkpoint of a run that trains, as it comes, until the run is
finished, and appends the scores to RUN/evaluations.jsonl; the run knows nothing of it.

  twjax eval build/quickstart/replay
  twjax eval RUN --step 200 --task tw_laws --rows 64 --json scores.json
  twjax eval --follow RUN --rows 512
"""

from __future__ import annotations

import argparse
import pathlib

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


def run(args: argparse.Namespace) -> int:
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

    from twjax.config import Run, load
    from twjax.evaluation import follow
    from twjax.evaluation.watch import open_scores
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
    elif source.imported:
        raise ValueError(f"{args.run_dir} is an imported model: name data to score with --config.")
    changes = {}
    if args.task:
        changes["tasks"] = tuple(args.task)
    if args.rows is not None:
        changes["rows"] = args.rows
    config = dataclasses.replace(run, evaluation=dataclasses.replace(run.evaluation, **changes))
    network = declare(config.model)
    mesh = mesh_here(config.mesh)
    if not config.evaluation.tasks:
        raise ValueError(f"{args.run_dir}: the run has no Evaluation.tasks; name one with --task.")
    with jax.set_mesh(mesh):
        scores, _ = open_scores(
            config,
            network,
            mesh,
            vocabulary=source.vocabulary,
            config_name=args.config or str(source.directory / "config.gin"),
        )
        read = source.reader(network, mesh, args.weights)
        if args.follow:
            keys = frozenset(("eval", task) for task in config.evaluation.tasks)
            parts = [follow.Part(keys, scores)]
            with follow.only_follower(source.directory):
                reading = follow.reading(source.directory, read)
                follower = follow.Follower(source.directory, reading, parts, every=args.every)
                tally = follower.follow(args.idle_timeout)
            say(f"{args.run_dir}: {tally}.")
            return 1 if tally.broken else 0
        records = scores(read(source.step), source.step)
    if jax.process_index() != 0:
        return 0
    if args.record:
        follow.record(source.directory, source.step, records)
    width = max(len(record["task"]) for record in records)
    print(f"{args.run_dir} at step {source.step}")
    print(f"{'task':{width}}  bits/byte  nats/token  perplexity  accuracy     bytes")
    for r in records:
        print(
            f"{r['task']:{width}}  {r['bits_per_byte']:9.4f}  {r['loss']:10.4f}  "
            f"{r['perplexity']:10.2f}  {r['accuracy']:8.2%}  {r['bytes']:8,}"
        )
    mean = sum(r["bits_per_byte"] for r in records) / len(records)
    print(f"{'mean':{width}}  {mean:9.4f}")
    if args.json:
        write_json(args.json, {"run": str(args.run_dir), "step": source.step, "scores": records})
    return 0
