"""The tiny run's step with a part of its weights trained, and a checkpoint's arrays."""

from __future__ import annotations

import dataclasses
import pathlib
from typing import Any

import jax
import numpy as np

from tests import tiny
from twjax.config import Mesh, Run
from twjax.models import adapters
from twjax.models.network import network as declare
from twjax.parallel.mesh import make_mesh
from twjax.parallel.sharding import batch_sharding
from twjax.training.checkpoint import Checkpoints
from twjax.training.optimizer import make_optimizer
from twjax.training.schedule import make_schedule
from twjax.training.state import TrainState, init_state
from twjax.training.step import make_train_step
from twjax.training.trained import Trained


def with_optimizer(run: Run, **settings: Any) -> Run:
    """Returns the run with other settings of its optimiser."""
    return dataclasses.replace(run, optimizer=dataclasses.replace(run.optimizer, **settings))


def train(
    run: Run, mesh: Mesh, devices: int, steps: int, new_rows: tuple[int, int] | None = None
) -> tuple[list[TrainState], list[dict[str, float]]]:
    """Returns the states before the first and after each step (NumPy), and the metrics."""
    made = make_mesh(mesh, jax.devices()[:devices])
    network = adapters.adapted(declare(run.model), run.adapter)
    schedule = make_schedule(run.schedule, run.steps, 0.0)
    trained = Trained.of(run, network.specs)
    optimizer = make_optimizer(run.optimizer, schedule, trained.specs, new_rows)
    with jax.set_mesh(made):
        state = init_state(network, optimizer, made, run.seed, trained)
        step_fn = make_train_step(network, run, optimizer, schedule, made, trained)
        states, seen = [jax.device_get(state)], []
        for index in range(steps):
            batch = tiny.rows(np.random.default_rng(index), run.data.batch_size)
            state, metrics = step_fn(state, jax.device_put(batch, batch_sharding(made)))
            states.append(jax.device_get(state))
            seen.append({name: float(value) for name, value in metrics.items()})
    return states, seen


def arrays_of(run_dir: pathlib.Path, step: int, average: bool = False) -> dict[str, np.ndarray]:
    """Reads a checkpoint's weights by name."""
    with Checkpoints(run_dir) as checkpoints:
        return {
            name: array.read(tuple(slice(0, n) for n in array.shape))
            for name, array in checkpoints.arrays(step, average=average).items()
        }
