"""New rows of an extended vocabulary: their numbers, and that they are trained first."""

from __future__ import annotations

import dataclasses
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from tests import tiny
from twjax.config import Mesh, Model, Optimizer
from twjax.config.extension import RECORD, Extension
from twjax.models.network import network as declare
from twjax.models.spec import init_weights
from twjax.parallel.mesh import make_mesh
from twjax.parallel.sharding import weight_shardings
from twjax.training.new_rows import NewRows
from twjax.training.optimizer import make_optimizer
from twjax.training.state import new_state

OLD, NEW = tiny.VOCAB, 40
MODEL = Model(
    vocab_size=OLD, num_layers=2, embed_dim=16, num_heads=4, num_kv_heads=2, head_dim=8,
    mlp_dim=32, vocab_multiple=64,
)  # fmt: skip
PARTS = tuple(
    tuple(np.random.default_rng(n).integers(0, OLD, 1 + n % 5).tolist()) for n in range(NEW)
)


def record(folder: pathlib.Path, base: str = "0", made: str = "1", old: int = OLD) -> Extension:
    names = tuple(f"piece {number}" for number in range(NEW))
    extension = Extension(folder / RECORD, {"v": base}, {"v": made}, old, names, PARTS)
    extension.write()
    return extension


def grown(tmp_path, kind, mesh, *, tie=False, old_rows=OLD, seed=3, count=NEW):
    """Returns (old parameters, new ones, the new network) as NumPy arrays."""
    model = dataclasses.replace(MODEL, tie_embeddings=tie, vocab_size=old_rows)
    extension = record(tmp_path)
    if count > NEW:
        more = tuple(PARTS[n % NEW] for n in range(count))
        extension = dataclasses.replace(extension, names=("x",) * count, parts=more)
    before, size = declare(model), max(old_rows, OLD + count)
    after = declare(dataclasses.replace(model, vocab_size=size))
    with jax.set_mesh(mesh):
        old = jax.device_put(
            init_weights(before.specs, jax.random.key(0)), weight_shardings(before.specs, mesh)
        )
        new = NewRows(extension, old_rows, kind, seed).add(old, after.specs, mesh)
        wanted = weight_shardings(after.specs, mesh)
        assert jax.tree.all(
            jax.tree.map(lambda x, s: x.sharding.is_equivalent_to(s, x.ndim), new, wanted)
        )
        return jax.device_get(old), jax.device_get(new), after


MESHES = {"one": (Mesh(fsdp=1), 1), "eight": (Mesh(fsdp=4, tensor=2), 8)}


@pytest.fixture(params=MESHES)
def mesh(request):
    settings, devices = MESHES[request.param]
    return make_mesh(settings, jax.devices()[:devices])


@pytest.mark.slow
@pytest.mark.parametrize("tie", [False, True])
def test_a_new_row_is_the_mean_of_its_parts_and_in_the_embedding_as_long(tmp_path, mesh, tie):
    old, new, network = grown(tmp_path, "mean", mesh, tie=tie)
    matrices = {"embedding": lambda x: x} | ({} if tie else {"head": lambda x: x.T})
    for name, rows in matrices.items():
        before, after = rows(old[name]).astype(np.float64), rows(new[name])
        assert len(after) == network.config.padded_vocab_size == 192
        np.testing.assert_array_equal(after[:OLD], rows(old[name])[:OLD])
        assert not after[OLD + NEW :].any()
        for number, ids in enumerate(PARTS):
            mean = before[list(ids)].mean(axis=0)
            length = np.linalg.norm(before[list(ids)], axis=1).mean()
            expected = mean if name == "head" else mean * length / np.linalg.norm(mean)
            np.testing.assert_allclose(after[OLD + number], expected, rtol=2e-6, atol=1e-8)
    for name in old.keys() - matrices.keys():
        jax.tree.map(np.testing.assert_array_equal, old[name], new[name])


def test_parts_that_cancel_out_give_a_row_of_zeros(tmp_path):
    extension = dataclasses.replace(record(tmp_path), names=("x",), parts=((1, 2),))
    network = declare(dataclasses.replace(MODEL, vocab_size=OLD + 1))
    old = init_weights(declare(MODEL).specs, jax.random.key(0))
    old["embedding"] = old["embedding"].at[2].set(-old["embedding"][1])
    mesh = make_mesh(Mesh(fsdp=1), jax.devices()[:1])
    new = NewRows(extension, OLD, "mean", 0).add(old, network.specs, mesh)
    assert not new["embedding"][OLD].any() and np.isfinite(new["head"]).all()


def test_gaussian_rows_have_the_mean_and_covariance_of_the_old(tmp_path):
    mesh = make_mesh(*(lambda s, n: (s, jax.devices()[:n]))(*MESHES["eight"]))
    old, new, _ = grown(tmp_path, "gaussian", mesh, count=20_000)
    for name, rows in {"embedding": lambda x: x, "head": lambda x: x.T}.items():
        before, fresh = rows(old[name])[:OLD].astype(np.float64), rows(new[name])[OLD:][:20_000]
        np.testing.assert_allclose(fresh.mean(0), before.mean(0), atol=6e-4)
        np.testing.assert_allclose(np.cov(fresh.T), np.cov(before.T, bias=True), atol=2e-5)
    assert np.abs(new["embedding"][OLD:][:9] - new["head"].T[OLD:][:9]).max() > 1e-3


def test_zero_rows_are_faint_and_all_different(tmp_path, mesh):
    old, new, _ = grown(tmp_path, "zero", mesh)
    fresh, before = new["embedding"][OLD : OLD + NEW], old["embedding"][:OLD].astype(np.float64)
    size = np.sqrt((before**2).mean())
    np.testing.assert_allclose(fresh.std(), 0.01 * size, rtol=0.1)
    assert len(np.unique(fresh, axis=0)) == NEW


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["gaussian", "zero"])
def test_a_seed_decides_the_draw_on_any_mesh(tmp_path, kind):
    draws = [
        grown(tmp_path, kind, make_mesh(s, jax.devices()[:n]), seed=seed)[1]["head"]
        for s, n in MESHES.values()
        for seed in (1, 2)
    ]
    np.testing.assert_allclose(draws[0], draws[2], atol=1e-6)
    np.testing.assert_allclose(draws[1], draws[3], atol=1e-6)
    assert np.abs(draws[0] - draws[1]).max() > 1e-5


@pytest.mark.slow
def test_rows_beyond_the_old_ids_are_used_first_and_the_rest_stays(tmp_path, mesh):
    """Qwen3 has 151,936 rows for 151,669 ids: new ids take rows that stood for nothing."""
    old, new, network = grown(tmp_path, "mean", mesh, old_rows=150)
    assert network.config.vocab_size == 150
    for name, rows in {"embedding": lambda x: x, "head": lambda x: x.T}.items():
        before, after = rows(old[name]), rows(new[name])
        np.testing.assert_array_equal(after[:OLD], before[:OLD])
        np.testing.assert_array_equal(after[OLD + NEW : 150], before[OLD + NEW : 150])
        assert np.abs(after[OLD : OLD + NEW] - before[OLD : OLD + NEW]).max() > 1e-3
        assert not after[150:].any()


@pytest.mark.slow
@pytest.mark.parametrize("name", ["adamw", "adafactor"])
@pytest.mark.parametrize("tie", [False, True])
def test_only_new_rows_move_at_first_and_then_all_as_from_the_start(name, tie):
    model = dataclasses.replace(MODEL, vocab_size=OLD + NEW, tie_embeddings=tie)
    specs = declare(model).specs
    settings = {"b2": 0.999} if name == "adamw" else {}
    settings |= {"name": name, "weight_decay": 0.3, "clip_norm": 0.5}
    held = make_optimizer(
        Optimizer(new_rows_steps=3, **settings), lambda s: 0.01 / (s + 1), specs, (OLD, OLD + NEW)
    )
    plain = make_optimizer(Optimizer(**settings), lambda s: 0.01 / (s + 4), specs)
    params = init_weights(specs, jax.random.key(0))
    # Weights of -0 are kept as such.
    params["layers"]["q"] = params["layers"]["q"].at[0, 0].set(-0.0)
    params["embedding"] = params["embedding"].at[5].set(-0.0)
    before = jax.device_get(params)

    @jax.jit
    def grads(step):
        return init_weights(specs, jax.random.key(100 + step))

    def bits(x):
        return np.asarray(x).view(np.int32)

    update = jax.jit(
        lambda g, s, p: (lambda u, s: (optax.apply_updates(p, u), s))(*held.update(g, s, p))
    )
    state = new_state(held, params).optimizer
    for step in range(3):
        params, state = update(grads(step), state, params)
        for weight in before:
            if weight not in ("embedding", "head"):
                jax.tree.map(
                    lambda a, b: np.testing.assert_array_equal(bits(a), bits(b)),
                    params[weight], before[weight],
                )  # fmt: skip
        for weight in ("embedding",) if tie else ("embedding", "head"):
            turn = (lambda x: np.asarray(x).T) if weight == "head" else np.asarray
            now, then = turn(params[weight]), turn(before[weight])
            old = np.r_[0:OLD, OLD + NEW : len(now)]
            np.testing.assert_array_equal(
                np.ascontiguousarray(now[old]).view(np.int32),
                np.ascontiguousarray(then[old]).view(np.int32),
            )
            assert (now[OLD : OLD + NEW] != then[OLD : OLD + NEW]).all()
    # From here on it is an optimiser that begins with these weights.
    fresh = jax.jit(plain.init)(params)
    other = params
    for step in range(3, 6):
        params, state = update(grads(step), state, params)
        updates, fresh = jax.jit(plain.update)(grads(step), fresh, other)
        other = optax.apply_updates(other, updates)
        jax.tree.map(
            lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6), params, other
        )
    moved = jax.tree.map(lambda a, b: bool((np.asarray(a) != b).any()), params, before)
    assert all(jax.tree.leaves(moved))


def test_what_is_held_back_does_not_count_for_clipping():
    specs = declare(dataclasses.replace(MODEL, vocab_size=OLD + NEW)).specs
    settings = Optimizer(new_rows_steps=2, weight_decay=0.0, clip_norm=1.0, eps=1.0)
    held = make_optimizer(settings, lambda s: 1.0, specs, (OLD, OLD + NEW))
    params = init_weights(specs, jax.random.key(0))
    grads = jax.tree.map(jnp.zeros_like, params)
    grads["layers"]["q"] = grads["layers"]["q"] + jnp.nan
    grads["embedding"] = grads["embedding"].at[0].set(1e3).at[OLD].set(0.1)
    updates, _ = jax.jit(held.update)(grads, jax.jit(held.init)(params), params)
    # Adam's first step: g / (|g| + eps).
    np.testing.assert_allclose(updates["embedding"][OLD], -0.1 / 1.1, rtol=1e-5)
    assert not updates["embedding"][0].any() and not updates["layers"]["q"].any()
