"""How much of a training step's time the loop adds to the compiled step itself.

Runs the quickstart's base in the real loop (cached rows, prefetch, metrics, TensorBoard) and, in
turn with it, the compiled step alone on one batch that stays on the device. Needs the quickstart's
cached rows: run `make quickstart` once.

  python benchmarks/loop.py [CONFIG] [--steps 30] [--rounds 5] [--json FILE]
"""

from __future__ import annotations

import argparse
import dataclasses
import pathlib
import statistics
import tempfile
import time

import jax

from twjax import config
from twjax.data.loader import batches, open_mixture
from twjax.models.decoder import Network
from twjax.parallel.mesh import make_mesh
from twjax.parallel.sharding import batch_sharding
from twjax.storage import read_json_lines, write_json
from twjax.training.checkpoint import Checkpoints
from twjax.training.loop import train_loop
from twjax.training.metrics import FILE, MetricsLog
from twjax.training.optimizer import make_optimizer
from twjax.training.source import run_schedule
from twjax.training.state import init_state
from twjax.training.step import make_train_step


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("config", nargs="?", default="configs/runs/quickstart_base.gin")
    parser.add_argument("--steps", type=int, default=30, help="steps a round")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", type=pathlib.Path)
    args = parser.parse_args()

    sets = [f"Run.steps = {args.steps}", "Evaluation.tasks = ()", "Schedule.warmup_steps = 0"]
    run = config.load(config.Run, [args.config], sets).value
    run = dataclasses.replace(run, init=None)
    mesh = make_mesh(run.mesh)
    network = Network.create(run.model)
    schedule = run_schedule(run, 0.0)
    optimizer = make_optimizer(run.optimizer, schedule, network.specs)
    readers, index = open_mixture(run.data, steps=run.steps)
    sharding = batch_sharding(mesh)

    def stream(step: int):
        return batches(readers, index, sharding, run.data.batch_size, start_step=step)

    with jax.set_mesh(mesh):
        step_fn = make_train_step(network, run, optimizer, schedule, mesh)
        batch = next(stream(0))
        state, _ = step_fn(init_state(network, optimizer, mesh, 0), batch)
        alone, looped = [], []
        for number in range(args.rounds):
            began = time.perf_counter()
            for _ in range(args.steps):
                state, metrics = step_fn(state, batch)
            jax.block_until_ready(metrics)
            alone.append((time.perf_counter() - began) / args.steps)
            looped.append(_loop(run, step_fn, init_state(network, optimizer, mesh, 0), stream))
            print(f"round {number + 1}: step alone {alone[-1] * 1e3:.1f} ms, "
                  f"in the loop {looped[-1] * 1e3:.1f} ms", flush=True)  # fmt: skip
    a, b = statistics.median(alone), statistics.median(looped)
    print(f"\nmedian of {args.rounds}: step alone {a * 1e3:.1f} ms, in the loop {b * 1e3:.1f} ms")
    print(f"outside the compiled step: {(b - a) / a:+.2%} of a step (bound: < 2%)")
    if args.json:
        write_json(args.json, {"alone_s": alone, "loop_s": looped, "share": (b - a) / a})


def _loop(run: config.Run, step_fn, state, stream) -> float:
    """Returns the mean seconds of a step between the first and the last flush of the log."""
    with tempfile.TemporaryDirectory() as folder:
        run_dir = pathlib.Path(folder)
        metrics = MetricsLog(run_dir, step=0, tokens=0, rows=lambda step: {})
        with Checkpoints(run_dir, run.checkpoint) as checkpoints:
            train_loop(
                run,
                state,
                start=0,
                step_fn=step_fn,
                batches=stream,
                evaluate=lambda params, step: [],
                checkpoints=checkpoints,
                metrics=metrics,
            )
        metrics.close()
        flushed = [r for r in read_json_lines(run_dir / FILE) if "step_seconds" in r]
        steps = [r["step"] for r in flushed]
        seconds = [
            r["step_seconds"] * (r["step"] - before)
            for before, r in zip([0, *steps], flushed, strict=False)
        ]
        return sum(seconds) / steps[-1]


if __name__ == "__main__":
    main()
