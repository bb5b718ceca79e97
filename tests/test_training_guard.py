"""A bad step changes nothing but the step: decided on the devices, from the state alone."""

from __future__ import annotations

import dataclasses
import math

import jax
import numpy as np
import optax
import pytest

from tests import tiny
from twjax import config
from twjax.config import Faults, Run
from twjax.models.network import network as declare
from twjax.parallel.mesh import make_mesh
from twjax.parallel.sharding import batch_sharding
from twjax.training.checkpoint import Checkpoints
from twjax.training.guard import guarded
from twjax.training.optimizer import make_optimizer
from twjax.training.schedule import make_schedule
from twjax.training.state import abstract_state, init_state
from twjax.training.step import make_train_step
from twjax.training.trained import Trained


class Trainer:
    """The tiny run's step on one device, with an average and these faults."""

    def __init__(self, folder, faults, *bindings):
        path = folder / "run.gin"
        path.write_text(tiny.CONFIG.format(cache="none"))
        run = config.load(Run, [path], ["Run.steps = 20", "Optimizer.ema = 0.9", *bindings]).value
        self.run = dataclasses.replace(run, faults=faults)
        self.mesh = make_mesh(run.mesh, jax.devices()[:1])
        self.network = declare(run.model)
        self.trained = Trained.of(run, self.network.specs)
        schedule = make_schedule(run.schedule, run.steps, 0.0)
        self.optimizer = guarded(
            make_optimizer(run.optimizer, schedule, self.network.specs), faults
        )
        parts = (self.network, self.run, self.optimizer, schedule, self.mesh, self.trained)
        self.step_fn = make_train_step(*parts)

    def first(self):
        return init_state(self.network, self.optimizer, self.mesh, 0, self.trained)

    def abstract(self):
        return abstract_state(self.network, self.optimizer, self.mesh, self.trained)

    def step(self, state, number, poison=False):
        batch = tiny.rows(np.random.default_rng(number), 8)
        if poison:
            weights = batch["loss_weights"].astype(np.float32)
            weights[3, 7] = np.nan
            batch["loss_weights"] = weights
        with jax.set_mesh(self.mesh):
            state, metrics = self.step_fn(state, jax.device_put(batch, batch_sharding(self.mesh)))
        return state, jax.device_get(metrics)


def held(state):
    """All of a state but the step and the counts of the schedule, as NumPy arrays."""
    is_rate = lambda node: isinstance(node, optax.ScaleByScheduleState)  # noqa: E731
    drop = lambda node: None if is_rate(node) else np.array(node)  # noqa: E731
    return jax.tree.map(drop, (state.params, state.optimizer, state.average), is_leaf=is_rate)


def counts(state):
    leaves = jax.tree.leaves(
        state.optimizer, is_leaf=lambda n: isinstance(n, optax.ScaleByScheduleState)
    )
    rates = [leaf for leaf in leaves if isinstance(leaf, optax.ScaleByScheduleState)]
    return int(state.step), *(int(np.asarray(rate.count)) for rate in rates)


@pytest.mark.parametrize("bindings", [(), ("Optimizer.name = 'adafactor'",)])
def test_a_bad_step_leaves_all_but_the_step_as_it_was(tmp_path, bindings):
    trainer = Trainer(tmp_path, Faults(), *bindings)
    state = trainer.first()
    for number in range(2):
        state, metrics = trainer.step(state, number)
        assert metrics["skipped"] == 0
    before, counted = held(state), counts(state)
    state, metrics = trainer.step(state, 2, poison=True)
    assert metrics["skipped"] == 1 and not np.isfinite(metrics["loss"])
    jax.tree.map(np.testing.assert_array_equal, held(state), before)
    assert counted == (2, 2) and counts(state) == (3, 3)
    state, metrics = trainer.step(state, 3)
    assert metrics["skipped"] == 0 and np.isfinite(metrics["loss"])
    # The rate goes by the step, as if none had been skipped.
    rate = make_schedule(trainer.run.schedule, trainer.run.steps, 0.0)(3)
    assert metrics["learning_rate"] == np.float32(rate)


def test_without_skipping_a_bad_step_is_in_the_weights(tmp_path):
    trainer = Trainer(tmp_path, Faults(skip_nonfinite=False))
    state, metrics = trainer.step(trainer.first(), 0, poison=True)
    assert "skipped" not in metrics and np.isnan(state.params["final_norm"]).any()


def test_spikes_are_judged_by_the_median_of_the_last_good_steps(tmp_path):
    faults = Faults(spike=1.02, window=3)
    trainer = Trainer(tmp_path, faults)
    state = trainer.first()
    good: list[float] = []
    skipped: list[bool] = []
    saved = None
    bad: bool
    for number in range(14):
        # One that isn't finite is bad too, and no norm of a good step.
        state, metrics = trainer.step(state, number, poison=number == 8)
        norm = float(metrics["grad_norm"])
        bad = not math.isfinite(norm)
        if len(good) >= faults.window:
            median = np.median(np.array(good[-faults.window :], np.float32))
            bad = bad or bool(norm > np.float32(1.02) * median)
        assert bool(metrics["skipped"]) == bad
        skipped.append(bad)
        good += [] if bad else [norm]
        if number == 6:
            with Checkpoints(tmp_path, trainer.run.checkpoint) as checkpoints:
                checkpoints.save(state, 7, {"step": 7, "tokens": 0})
                checkpoints.wait()
                saved = checkpoints.restore(trainer.abstract(), 7).state
    assert 1 < sum(skipped[:8]) + sum(skipped[9:]) < 11 and skipped[8]
    # From the checkpoint on, all is judged as by the run that went on.
    again = []
    for number in range(7, 14):
        saved, metrics = trainer.step(saved, number, poison=number == 8)
        again.append(bool(metrics["skipped"]))
    assert again == skipped[7:]
    jax.tree.map(np.testing.assert_array_equal, held(saved), held(state))


@pytest.mark.parametrize(
    ("bindings", "wrong"),
    [
        ({"spike": 0.9}, "Faults.spike (0.9) is a multiple of the median norm: more than 1."),
        ({"window": 9}, "Faults.window (9) does nothing here: it belongs to Faults.spike."),
        ({"in_a_row": 0}, "Faults.in_a_row (0) must be at least 1."),
        ({"rollbacks": -1}, "Faults.rollbacks (-1) must be at least 0."),
        ({"timeout": 0.0}, "Faults.timeout (0.0) must be positive."),
        ({"pause_timeout": 9.0}, "Faults.pause_timeout (9.0) must be at least Faults.timeout"),
    ],
)
def test_faults_that_make_no_sense_are_refused(bindings, wrong):
    with pytest.raises(ValueError) as error:
        Faults(**bindings)
    assert wrong in str(error.value)
