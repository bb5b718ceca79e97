"""Scores a run's checkpoint on held-out rows: bits-per-byte, loss and perplexity by domain.

twjax eval build/quickstart/replay
twjax eval RUN --step 200 --task tw_laws --rows 64 --json scores.json
twjax eval RUN --generate tw_drcd_answers,tw_civil_exam   # answers, scored by SeqIO's evaluator
"""

from __future__ import annotations

import argparse
import pathlib

from twjax.cli import evaluate_tasks
from twjax.cli.options import add_weights

HELP = "score a run's checkpoint on held-out rows by domain"


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
    evaluate_tasks.add_arguments(parser)


def run(args: argparse.Namespace) -> int:
    if args.generate is not None:
        return evaluate_tasks.run(args)
    import dataclasses

    from twjax.parallel import distributed

    distributed.initialize()
    import jax

    from twjax.config import Run, load
    from twjax.evaluation.watch import open_scores
    from twjax.models.network import network as declare
    from twjax.parallel.mesh import mesh_here
    from twjax.storage import write_json
    from twjax.training.source import Source

    source = Source.open(args.run_dir, args.step)
    if args.weights == "ema":
        source.require_average()
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
        records = scores(source.params(network, mesh, args.weights), source.step)
    if jax.process_index() != 0:
        return 0
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
