"""The step: optimisers against NumPy, and one result however the work is divided."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from tests import tiny
from twjax import config
from twjax.config import Mesh, Optimizer, Run
from twjax.models.decoder import Network
from twjax.models.spec import WeightSpec, ones
from twjax.parallel.mesh import axis_sizes, make_mesh
from twjax.parallel.sharding import batch_sharding, weight_sharding
from twjax.training.optimizer import make_optimizer, optimizer_shardings
from twjax.training.schedule import make_schedule
from twjax.training.state import init_state
from twjax.training.step import make_train_step


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Run:
    path = tmp_path_factory.mktemp("step") / "run.gin"
    path.write_text(tiny.CONFIG.format(cache="none"))
    return config.load(Run, [path], ["Run.steps = 20"]).value


def train(run: Run, mesh: Mesh, devices: int, steps: int = 20, **step):
    """Losses, gradient norms and final parameters of `steps` steps on random rows."""
    run = dataclasses.replace(run, step=dataclasses.replace(run.step, **step))
    mesh = make_mesh(mesh, jax.devices()[:devices])
    network = Network.create(run.model)
    schedule = make_schedule(run.schedule, run.steps, 0.0)
    optimizer = make_optimizer(run.optimizer, schedule, network.specs)
    seen = []
    with jax.set_mesh(mesh):
        state = init_state(network, optimizer, mesh, run.seed)
        step_fn = make_train_step(network, run, optimizer, schedule, mesh)
        for index in range(steps):
            batch = tiny.rows(np.random.default_rng(index), run.data.batch_size)
            state, metrics = step_fn(state, jax.device_put(batch, batch_sharding(mesh)))
            seen.append([float(metrics["loss"]), float(metrics["grad_norm"])])
    return np.array(seen), jax.device_get(state.params)


@pytest.fixture(scope="module")
def alone(run):
    return train(run, Mesh(fsdp=1), 1)


@pytest.mark.parametrize(
    ("mesh", "devices", "step"),
    [
        pytest.param(Mesh(fsdp=8), 8, {}, marks=pytest.mark.slow),
        (Mesh(data=2, fsdp=2, tensor=2), 8, {}),
        pytest.param(Mesh(slice=2, fsdp=4), 8, {}, marks=pytest.mark.slow),
        pytest.param(Mesh(fsdp=2, context=2), 4, {}, marks=pytest.mark.slow),
        (Mesh(fsdp=2), 2, {"accumulation": 2, "remat": "dots", "loss_chunks": 8}),
    ],
    ids=["fsdp8", "data2-fsdp2-tensor2", "slice2-fsdp4", "context2", "accumulate2"],
)
def test_twenty_steps_agree_with_one_device(run, alone, mesh, devices, step):
    seen, params = train(run, mesh, devices, **step)
    np.testing.assert_allclose(seen, alone[0], rtol=1e-4)
    close = lambda a, b: np.testing.assert_allclose(a, b, atol=2e-4)  # noqa: E731
    jax.tree.map(close, params, alone[1])


def test_training_learns_the_rows(alone):
    assert alone[0][-1, 0] < 0.85 * alone[0][0, 0]


@pytest.mark.slow
def test_z_loss_pulls_the_normaliser(run):
    pulled = dataclasses.replace(run, step=dataclasses.replace(run.step, z_loss=0.1))
    a, b = train(run, Mesh(fsdp=1), 1, steps=6), train(pulled, Mesh(fsdp=1), 1, steps=6)
    assert a[0][0, 0] == b[0][0, 0]
    assert np.abs(a[0][-1] - b[0][-1]).max() > 1e-4


def test_adamw_equals_its_definition():
    """Loshchilov and Hutter 2019, algorithm 2, with clipping; decay only where declared."""
    specs = {
        "w": WeightSpec("w", (3, 2), (None, None), ones(), decay=True, matmul=True),
        "scale": WeightSpec("scale", (2,), (None,), ones(), decay=False, matmul=False),
    }
    c = Optimizer(b1=0.8, b2=0.9, eps=1e-3, weight_decay=0.3, clip_norm=1.5)
    optimizer = make_optimizer(c, lambda step: 0.1 / (step + 1), specs)
    rng = np.random.default_rng(0)
    params = {"w": rng.normal(size=(3, 2)), "scale": rng.normal(size=2)}
    ours = jax.tree.map(lambda x: jnp.asarray(x, jnp.float32), params)
    state = optimizer.init(ours)
    m = v = {"w": 0.0, "scale": 0.0}
    for step in range(4):
        grads = {"w": rng.normal(size=(3, 2)), "scale": rng.normal(size=2)}
        updates, state = optimizer.update(
            jax.tree.map(lambda x: jnp.asarray(x, jnp.float32), grads), state, ours
        )
        ours = optax.apply_updates(ours, updates)
        norm = np.sqrt(sum((g**2).sum() for g in grads.values()))
        grads = {k: g * min(1, 1.5 / norm) for k, g in grads.items()}
        m = {k: 0.8 * m[k] + 0.2 * g for k, g in grads.items()}
        v = {k: 0.9 * v[k] + 0.1 * g**2 for k, g in grads.items()}
        for k in params:
            hat = m[k] / (1 - 0.8 ** (step + 1))
            move = hat / (np.sqrt(v[k] / (1 - 0.9 ** (step + 1))) + 1e-3)
            decay = 0.3 * params[k] if k == "w" else 0.0
            params[k] = params[k] - 0.1 / (step + 1) * (move + decay)
    for k in params:
        np.testing.assert_allclose(ours[k], params[k], rtol=1e-5)


@pytest.mark.parametrize("scaled", [False, True])
def test_adafactor_is_optaxs_for_each_layer_by_itself(scaled):
    """optax holds one weight a layer, ours a stack; optax's `adafactor` is T5's (its default)."""
    rng = np.random.default_rng(0)
    shapes = {"stack": (3, 130, 140), "norm": (3, 130), "embedding": (150, 130)}
    axes = {"stack": ("layers", "embed", "mlp"), "norm": ("layers", None), "embedding": (None,) * 2}
    specs = {k: WeightSpec(k, shapes[k], axes[k], ones(), decay=False, matmul=True) for k in shapes}
    config = Optimizer(name="adafactor", weight_decay=0.0, clip_norm=None, parameter_scale=scaled)
    ours = make_optimizer(config, lambda step: 0.1 / (step + 1), specs)
    theirs = optax.adafactor(lambda step: 0.1 / (step + 1), multiply_by_parameter_scale=scaled)
    sizes = np.array([1e-5, 0.1, 3.0], np.float32)

    def draw(k):
        x = rng.normal(size=shapes[k]).astype(np.float32)
        return jnp.asarray(x if k == "embedding" else x * sizes.reshape(-1, *[1] * (x.ndim - 1)))

    def apart(tree):
        return {k: x if k == "embedding" else list(x) for k, x in tree.items()}

    params = {k: draw(k) for k in shapes}
    state, other = ours.init(params), theirs.init(apart(params))
    expected = apart(params)
    for _ in range(3):
        grads = {k: draw(k) for k in shapes}
        updates, state = ours.update(grads, state, params)
        params = optax.apply_updates(params, updates)
        updates, other = theirs.update(apart(grads), other, expected)
        expected = optax.apply_updates(expected, updates)
    found, wanted = jax.tree.leaves(apart(params)), jax.tree.leaves(expected)
    for a, b in zip(found, wanted, strict=True):
        np.testing.assert_allclose(a, b, rtol=2e-5, atol=1e-7 * np.abs(b).max())


@pytest.mark.slow
def test_adafactor_trains_and_keeps_factored_moments_sharded(run):
    factored = dataclasses.replace(
        run,
        optimizer=Optimizer(name="adafactor", weight_decay=0.0),
        model=dataclasses.replace(run.model, embed_dim=128, mlp_dim=256),
    )
    one, eight = train(factored, Mesh(fsdp=1), 1, 5), train(factored, Mesh(fsdp=8), 8, 5)
    np.testing.assert_allclose(one[0], eight[0], rtol=1e-4)
    network = Network.create(factored.model)
    mesh = make_mesh(Mesh(fsdp=8))
    shapes = {"gate": jax.ShapeDtypeStruct((2, 128, 256), jnp.float32)}
    spec = network.specs["layers"]["gate"]
    optimizer = make_optimizer(factored.optimizer, lambda _: 0.1, {"gate": spec})
    tree = optimizer_shardings(optimizer, shapes, {"gate": weight_sharding(spec, mesh)})
    state = jax.eval_shape(optimizer.init, shapes)
    held = jax.tree.map(lambda x, s: np.prod(s.shard_shape(x.shape)) / max(x.size, 1), state, tree)
    sizes = [
        (x.size, h) for x, h in zip(jax.tree.leaves(state), jax.tree.leaves(held), strict=True)
    ]
    assert (2 * 128, 1 / 8) in sizes


def test_wrong_meshes_are_refused_by_name(run):
    with pytest.raises(ValueError, match=r"layers/k: dim 2 \(kv\) of size 2 can't be divided"):
        train(run, Mesh(tensor=8, fsdp=1), 8)
    with pytest.raises(ValueError, match=r"a multiple of 3 devices, but there are 8"):
        axis_sizes(Mesh(data=3), 8)
    with pytest.raises(ValueError, match=r"needs 4 devices, but there are 8"):
        axis_sizes(Mesh(data=2, fsdp=2), 8)
    twice = WeightSpec("w", (8, 8), ("heads", "mlp"), ones(), decay=True, matmul=True)
    with pytest.raises(ValueError, match="weight w: dims 0 and 1 are both on mesh axis 'tensor'"):
        weight_sharding(twice, make_mesh(Mesh(tensor=8, fsdp=1)))
    unknown = WeightSpec("w", (8,), ("width",), ones(), decay=True, matmul=True)
    with pytest.raises(ValueError, match="weight w: unknown logical axis 'width'"):
        weight_sharding(unknown, make_mesh(Mesh(fsdp=8)))
