"""What each way of keeping a model close to its base costs: time of a step, bytes of the state.

  python benchmarks/keeping.py [--rounds 7]

A Llama of 17 M parameters, 4 rows of 256 tokens on this machine's CPU. Steps of all kinds take
turns, so that what else the machine does falls on all alike; times are medians over the rounds.
"""

from __future__ import annotations

import argparse
import dataclasses
import os
import statistics
import time
from typing import Any

os.environ.setdefault("JAX_PLATFORMS", "cpu")

import jax
import numpy as np

from twjax import config
from twjax.config import Mesh, Model, Run
from twjax.config.keeping import Adapter, Distillation
from twjax.models.adapters import adapted
from twjax.models.network import network as declare
from twjax.parallel.mesh import make_mesh
from twjax.parallel.sharding import batch_sharding, rows_sharding
from twjax.training.base import FrozenBase
from twjax.training.optimizer import make_optimizer
from twjax.training.source import run_schedule
from twjax.training.state import init_state
from twjax.training.step import make_train_step
from twjax.training.trained import Trained

ROWS, LENGTH = 4, 256
MATRICES = ("layers/[qkvo]", "layers/gate", "layers/up", "layers/down")
LORA = Adapter(rank=16, alpha=32.0, targets=("layers/*",))
KL = Distillation(weight=1.0, tasks=("kept",))


def plain() -> Run:
    """Returns the run that all others are compared with."""
    return Run(
        steps=1000,
        model=Model(
            vocab_size=8192,
            num_layers=6,
            embed_dim=384,
            num_heads=6,
            num_kv_heads=6,
            head_dim=64,
            mlp_dim=1024,
        ),
        data=config.Data(
            cache="",
            vocabulary="",
            mixture=config.Mixture(stages=((0, {"new": 0.7, "kept": 0.3}),)),
            seq_len=LENGTH,
            batch_size=ROWS,
        ),
        mesh=Mesh(),
        optimizer=config.Optimizer(),
        schedule=config.Schedule(kind="constant", peak=1e-4),
        step=config.Step(dtype="float32", remat="none", loss_chunks=4),
        checkpoint=config.Checkpoint(every=1000),
        evaluation=config.Evaluation(tasks=(), every=1000),
        init="run:base",
    )


def kinds() -> dict[str, Run]:
    """Returns a run for each row of the table."""
    run = plain()

    def optimizer(**settings: Any) -> Run:
        return dataclasses.replace(run, optimizer=dataclasses.replace(run.optimizer, **settings))

    return {
        "all weights": run,
        "matrices frozen": optimizer(freeze=MATRICES),
        "average": optimizer(ema=0.999),
        "LoRA": dataclasses.replace(run, adapter=LORA),
        "DoRA": dataclasses.replace(run, adapter=dataclasses.replace(LORA, kind="dora")),
        "KL": dataclasses.replace(run, distillation=KL),
        "LoRA and KL": dataclasses.replace(run, adapter=LORA, distillation=KL),
    }


class Stepper:
    """One kind's compiled step and its state."""

    def __init__(self, run: Run, mesh: jax.sharding.Mesh):
        network = declare(run.model)
        learner = adapted(network, run.adapter)
        trained = Trained.of(run, learner.specs)
        schedule = run_schedule(run, None)
        optimizer = make_optimizer(run.optimizer, schedule, trained.specs)
        base = FrozenBase.of(run, network, trained, mesh)
        rng = np.random.default_rng(0)
        rows = {
            "tokens": rng.integers(0, run.model.vocab_size, (ROWS, LENGTH)).astype(np.int32),
            "segment_ids": np.ones((ROWS, LENGTH), np.int32),
            "loss_weights": np.ones((ROWS, LENGTH), np.uint8),
        }
        self.batch = jax.device_put(rows, batch_sharding(mesh))
        self.state = init_state(learner, optimizer, mesh, 0, trained)
        self.kept: tuple[Any, ...] = ()
        if base is not None:
            self.kept = (base.keep(self.state.params),)
            replay = np.array([1] + [0] * (ROWS - 1), np.uint8)
            self.batch["replay"] = jax.device_put(replay, rows_sharding(mesh))
        self.step = make_train_step(learner, run, optimizer, schedule, mesh, trained, base)

    def __call__(self) -> float:
        """Runs a step; returns its seconds."""
        began = time.perf_counter()
        self.state, metrics = self.step(self.state, self.batch, *self.kept)
        jax.block_until_ready((self.state, metrics))
        return time.perf_counter() - began

    @property
    def megabytes(self) -> float:
        """Of the state and of the base's copy."""
        return sum(x.nbytes for x in jax.tree.leaves((self.state, self.kept))) / 1e6


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--rounds", type=int, default=7)
    rounds = parser.parse_args().rounds
    mesh = make_mesh(Mesh(), jax.devices()[:1])
    with jax.set_mesh(mesh):
        steppers = {name: Stepper(run, mesh) for name, run in kinds().items()}
        times: dict[str, list[float]] = {name: [] for name in steppers}
        for number in range(rounds + 1):
            for name, stepper in steppers.items():
                seconds = stepper()
                # The first round compiles.
                times[name] += [seconds] if number else []
    first = statistics.median(times["all weights"])
    print("| trained | ms a step | of all weights | state, MB |\n|---|--:|--:|--:|")
    for name, stepper in steppers.items():
        median = statistics.median(times[name])
        print(
            f"| {name} | {1e3 * median:.0f} | {median / first:.0%} | {stepper.megabytes:.0f} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
