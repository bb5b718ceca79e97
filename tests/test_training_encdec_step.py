"""An encoder-decoder's step: one result however the work is divided, and what is refused."""

from __future__ import annotations

import dataclasses

import jax
import numpy as np
import pytest

from tests import tiny
from twjax import config
from twjax.config import Mesh, Run
from twjax.models.network import network as declare
from twjax.parallel.mesh import make_mesh
from twjax.parallel.sharding import batch_sharding
from twjax.training.optimizer import make_optimizer
from twjax.training.schedule import make_schedule
from twjax.training.state import init_state
from twjax.training.step import make_train_step

CONFIG = (
    tiny.CONFIG.replace("Data.seq_len = 32", "Data.seq_len = (32, 16)")
    + """
Model.encoder_layers = 2
Model.positions = 'relative'
Model.query_scale = 1.0
Model.relative_buckets = 8
Model.relative_distance = 20
Model.relative_shared = False
"""
).replace("num_kv_heads = 2", "num_kv_heads = 4")


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Run:
    path = tmp_path_factory.mktemp("encdec") / "run.gin"
    path.write_text(CONFIG.format(cache="none"))
    return config.load(Run, [path]).value


def rows(seed: int, count: int) -> dict[str, np.ndarray]:
    """Packed pairs whose targets are every other input."""
    inputs = tiny.rows(np.random.default_rng(seed), count)
    targets = {name: values[:, ::2] for name, values in inputs.items()}
    return {
        "inputs": inputs["tokens"],
        "inputs_segment_ids": inputs["segment_ids"],
        "targets": targets["tokens"],
        "targets_segment_ids": targets["segment_ids"],
        "loss_weights": (targets["segment_ids"] > 0).astype(np.uint8),
    }


def train(run: Run, mesh: Mesh, devices: int, steps: int = 8, **step):
    run = dataclasses.replace(run, step=dataclasses.replace(run.step, **step))
    made = make_mesh(mesh, jax.devices()[:devices])
    network = declare(run.model)
    schedule = make_schedule(run.schedule, run.steps, 0.0)
    optimizer = make_optimizer(run.optimizer, schedule, network.specs)
    seen = []
    with jax.set_mesh(made):
        state = init_state(network, optimizer, made, run.seed)
        step_fn = make_train_step(network, run, optimizer, schedule, made)
        for index in range(steps):
            batch = rows(index, run.data.batch_size)
            state, metrics = step_fn(state, jax.device_put(batch, batch_sharding(made)))
            assert metrics["tokens"] == batch["loss_weights"].sum()
            seen.append([float(metrics["loss"]), float(metrics["grad_norm"])])
    return np.array(seen), jax.device_get(state.params)


@pytest.fixture(scope="module")
def alone(run):
    return train(run, Mesh(fsdp=1), 1)


@pytest.mark.parametrize(
    ("mesh", "devices", "step"),
    [
        (Mesh(data=2, fsdp=2, tensor=2), 8, {}),
        pytest.param(Mesh(fsdp=2, context=2), 4, {}, marks=pytest.mark.slow),
        pytest.param(
            *(Mesh(fsdp=2), 2, {"accumulation": 2, "remat": "dots", "loss_chunks": 8}),
            marks=pytest.mark.slow,
        ),
    ],
    ids=["data2-fsdp2-tensor2", "context2", "accumulate2"],
)
def test_steps_agree_with_one_device(run, alone, mesh, devices, step):
    seen, params = train(run, mesh, devices, **step)
    np.testing.assert_allclose(seen, alone[0], rtol=1e-4)
    close = lambda a, b: np.testing.assert_allclose(a, b, atol=2e-4)  # noqa: E731
    jax.tree.map(close, params, alone[1])


def test_training_learns(alone):
    assert alone[0][-1, 0] < alone[0][0, 0]


@pytest.mark.parametrize(
    ("binding", "said"),
    [
        ("Data.seq_len = 32", r"two lengths \(inputs, targets\)"),
        ("Step.loss_chunks = 3", "targets"),
        ("Step.attention = 'splash'", "learned biases"),
        ("Step.attention = 'chunked'", "'chunked': the kernel has no learned biases"),
        ("Data.seq_len = (32, 1)", "at least 2"),
    ],
)
def test_settings_that_do_not_fit_are_refused(run, tmp_path, binding, said):
    path = tmp_path / "run.gin"
    path.write_text(CONFIG.format(cache="none"))
    with pytest.raises(config.ConfigError, match=said):
        config.load(Run, [path], [binding])
