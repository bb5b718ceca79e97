"""How much of a training step's time the loop spends outside the compiled step.

Runs the quickstart's base in the real loop (cached rows, prefetch, metrics, TensorBoard) with a
step that waits for its own end: what is left of the loop's wall time is its time outside the step,
an upper bound, because without the wait it overlaps with the device's work. The compiled step
alone, on one batch that stays on the device, stands beside it. Needs the quickstart's cached rows:
run `make quickstart` once.

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
from twjax.data.loader import batches, open_course
from twjax.models.decoder import Network
from twjax.parallel.mesh import make_mesh
from twjax.parallel.sharding import batch_sharding
from twjax.storage import write_json
from twjax.training.checkpoint import Checkpoints
from twjax.training.loop import Way, train_loop
from twjax.training.metrics import MetricsLog
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

    sets = [f"Run.steps = {args.steps}", "Schedule.warmup_steps = 0"]
    sets += ["Evaluation.tasks = ()", "Evaluation.prompts = ()"]
    run = config.load(config.Run, [args.config], sets).value
    run = dataclasses.replace(run, init=None)
    mesh = make_mesh(run.mesh)
    network = Network.create(run.model)
    schedule = run_schedule(run, 0.0)
    optimizer = make_optimizer(run.optimizer, schedule, network.specs)
    readers, course = open_course(run.data, steps=run.steps)
    sharding = batch_sharding(mesh)

    def stream(step: int):
        return batches(readers, course, sharding, step)

    with jax.set_mesh(mesh):
        step_fn = make_train_step(network, run, optimizer, schedule, mesh)
        batch = next(stream(0))
        state, _ = step_fn(init_state(network, optimizer, mesh, 0), batch)
        alone, inside, outside = [], [], []
        for number in range(args.rounds):
            began = time.perf_counter()
            for _ in range(args.steps):
                state, metrics = step_fn(state, batch)
            jax.block_until_ready(metrics)
            alone.append((time.perf_counter() - began) / args.steps)
            start = init_state(network, optimizer, mesh, 0)
            step_s, rest_s = _loop(run, step_fn, start, stream)
            inside.append(step_s)
            outside.append(rest_s)
            print(
                f"round {number + 1}: step alone {alone[-1] * 1e3:.1f} ms; in the loop "
                f"{step_s * 1e3:.1f} ms + {rest_s * 1e3:.2f} ms outside it",
                flush=True,
            )
    a, b, c = (statistics.median(values) for values in (alone, inside, outside))
    print(
        f"\nmedian of {args.rounds}: step alone {a * 1e3:.1f} ms; in the loop {b * 1e3:.1f} ms + "
        f"{c * 1e3:.2f} ms outside it: {c / b:.2%} of a step (bound: < 2%)"
    )
    if args.json:
        write_json(args.json, {"alone_s": alone, "inside_s": inside, "outside_s": outside})


def _loop(run: config.Run, step_fn, state, stream) -> tuple[float, float]:
    """Returns the mean seconds of a step inside the compiled step and outside of it.

    The first step is left out: it waits for the first rows.
    """
    calls: list[tuple[float, float]] = []

    def timed(state, batch):
        began = time.perf_counter()
        result = jax.block_until_ready(step_fn(state, batch))
        calls.append((began, time.perf_counter()))
        return result

    with tempfile.TemporaryDirectory() as folder:
        run_dir = pathlib.Path(folder)
        metrics = MetricsLog(run_dir, step=0, tokens=0, rows=lambda step: {})
        with Checkpoints(run_dir, run.checkpoint) as checkpoints:
            train_loop(
                run,
                state,
                start=0,
                way=Way(timed, stream),
                evaluate=lambda params, step: [],
                answer=lambda step, records: None,
                checkpoints=checkpoints,
                metrics=metrics,
            )
        metrics.close()
    later = calls[1:]
    inside = sum(end - begin for begin, end in later)
    total = later[-1][1] - calls[0][1]
    return inside / len(later), (total - inside) / len(later)


if __name__ == "__main__":
    main()
