"""Adapters against float64 NumPy, on every kind of network, and merged against beside."""

from __future__ import annotations

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests import tiny
from twjax.config import Mesh, Model
from twjax.config.keeping import Adapter
from twjax.models import adapters, parts
from twjax.models.encdec import EncoderDecoder
from twjax.models.network import network as declare
from twjax.models.spec import init_weights
from twjax.parallel.mesh import make_mesh
from twjax.parallel.sharding import weight_shardings

LLAMA = Model(
    vocab_size=96, num_layers=2, embed_dim=16, num_heads=4, num_kv_heads=2, head_dim=8,
    mlp_dim=32, init_std=0.2,
)  # fmt: skip
GPT = dataclasses.replace(
    LLAMA, num_kv_heads=4, positions="learned", max_positions=32, norm="layer", gated=False,
    activation="gelu_tanh", qkv_bias=True, out_bias=True, mlp_bias=True, tie_embeddings=True,
)  # fmt: skip
BLOOM = dataclasses.replace(GPT, positions="alibi", max_positions=None, embedding_norm=True)
GEMMA = dataclasses.replace(
    LLAMA, num_layers=3, norm_offset=True, norm_position="both", qk_norm=True, window=8,
    window_pattern=("local", "global"), embedding_scale=True, logits_softcap=30.0,
    attention_softcap=50.0,
)  # fmt: skip
T5 = dataclasses.replace(
    LLAMA, init_std=Model.init_std, num_kv_heads=4, encoder_layers=2, positions="relative",
    query_scale=1.0, relative_buckets=8, relative_distance=20, gated=False, activation="relu",
    tie_embeddings=True,
)  # fmt: skip
UMT5 = dataclasses.replace(
    T5, relative_shared=False, gated=True, activation="gelu_tanh", tie_embeddings=False
)
FAMILIES = {
    "llama": LLAMA, "gpt": GPT, "bloom": BLOOM, "gemma": GEMMA, "t5": T5, "umt5": UMT5,
}  # fmt: skip
ALL = ("layers/*", "encoder/layers/*", "decoder/layers/*")


def adapter(model: Model, kind: Any = "lora", rank=4, alpha=12.0, **settings) -> Adapter:
    targets = ALL[1:] if model.encoder_layers else ALL[:1]
    return Adapter(kind=kind, rank=rank, alpha=alpha, **{"targets": targets} | settings)


def make(model: Model, kind: str, moved: bool, mesh):
    """The base, the network with adapters, and weights; with `moved` no adapter is zero."""
    base = declare(model)
    learner = adapters.adapted(base, adapter(model, kind))
    with jax.set_mesh(mesh):
        params = jax.device_put(
            init_weights(base.specs, jax.random.key(1)), weight_shardings(base.specs, mesh)
        )
        both = adapters.begin(learner, params, mesh, seed=2)
        if moved:
            added = parts.take(both, set(filter(adapters.is_adapter, parts.names_of(both))))
            rng = np.random.default_rng(3)
            shift = lambda x: x + jnp.asarray(0.1 * rng.normal(size=x.shape), x.dtype)  # noqa: E731
            both = parts.put(both, jax.tree.map(shift, added))
    return base, learner, params, both


@functools.partial(jax.jit, static_argnums=(0, 3))
def forward(network, params, rows, dtype):
    arrays = [rows["tokens"], rows["segment_ids"]]
    if isinstance(network, EncoderDecoder):
        arrays += [x[:, ::2] for x in arrays]
    hidden = network.hidden(params, *arrays, dtype=jnp.dtype(dtype), kind="reference")
    return network.logits(params, hidden)


def logits(network, params, mesh, dtype="float32"):
    rows = {name: jnp.asarray(x) for name, x in tiny.rows(np.random.default_rng(0), 4).items()}
    with jax.set_mesh(mesh):
        return np.asarray(forward(network, params, rows, dtype))


@pytest.fixture(scope="module")
def mesh():
    return make_mesh(Mesh(fsdp=1), jax.devices()[:1])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("family", "kind"), [*((name, "lora") for name in FAMILIES), ("gemma", "dora"), ("t5", "dora")]
)
def test_at_the_start_it_is_the_base_and_later_what_is_merged(family, kind, mesh):
    base, learner, params, begun = make(FAMILIES[family], kind, False, mesh)
    np.testing.assert_array_equal(logits(learner, begun, mesh), logits(base, params, mesh))
    *_, moved = make(FAMILIES[family], kind, True, mesh)
    merged = adapters.merger(learner, mesh)(moved)
    assert parts.names_of(merged) == parts.names_of(base.specs)
    beside, within = logits(learner, moved, mesh), logits(base, merged, mesh)
    assert np.abs(within - logits(base, params, mesh)).max() > 0.1
    np.testing.assert_allclose(beside, within, rtol=1e-5, atol=1e-5 * np.abs(within).max())


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["lora", "dora"])
def test_in_bfloat16_it_begins_as_the_base_too(kind, mesh):
    base, learner, params, begun = make(LLAMA, kind, False, mesh)
    one, other = (logits(n, p, mesh, "bfloat16") for n, p in ((learner, begun), (base, params)))
    np.testing.assert_array_equal(one, other)


def definition(w: dict[str, np.ndarray], name: str, cut: int, scale: float) -> np.ndarray:
    """W' of Liu et al. 2024, eq. 5 (LoRA without a length), one layer and output at a time."""
    frozen, a, b = (
        np.asarray(w[f"{name}{end}"], np.float64) for end in ("", adapters.A, adapters.B)
    )
    whole = np.empty_like(frozen)
    for layer in range(len(frozen)):
        inputs = int(np.prod(frozen.shape[1:cut]))
        W = frozen[layer].reshape(inputs, -1)
        direction = W + scale * a[layer].reshape(inputs, -1) @ b[layer].reshape(b.shape[1], -1)
        if f"{name}{adapters.LENGTH}" in w:
            offset = np.float64(w[f"{name}{adapters.LENGTH}"][layer]).reshape(-1)
            for out in range(W.shape[1]):
                length = np.linalg.norm(W[:, out]) + offset[out]
                direction[:, out] *= length / np.linalg.norm(direction[:, out])
        whole[layer] = direction.reshape(frozen.shape[1:])
    return whole


@pytest.mark.parametrize("kind", ["lora", "dora"])
@pytest.mark.parametrize("family", ["llama", "umt5"])
def test_merged_weights_equal_float64(family, kind, mesh):
    _, learner, _, moved = make(FAMILIES[family], kind, True, mesh)
    found = parts.flat(adapters.merger(learner, mesh)(moved))
    w = {name: np.asarray(value) for name, value in parts.flat(moved).items()}
    specs = parts.by_name(learner.specs)
    targets = [name for name in found if adapters.is_target(name, w)]
    assert len(targets) == (7 if family == "llama" else 18)
    for name in targets:
        cut = 1 + adapters.input_dims(specs[name])
        expected = definition(w, name, cut, 3.0)
        np.testing.assert_allclose(found[name], expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("kind", ["lora", "dora"])
def test_gradients_equal_those_of_the_definition(kind, mesh):
    """d(sum(G·W')) for A, B and length, by NumPy, DoRA's present length being a constant."""
    rng = np.random.default_rng(5)
    spec = parts.by_name(declare(LLAMA).specs)["layers/o"]
    declared = adapters.declare({"layers": {"o": spec}}, adapter(LLAMA, kind))
    w = {
        name: rng.normal(size=s.shape)
        for name, s in (parts.by_name(declared) | {"layers/o": spec}).items()
    }
    x = rng.normal(size=(5, 4, 8))
    G = rng.normal(size=(2, 5, 16))
    network = dataclasses.replace(
        declare(LLAMA), specs=parts.put(declared, {"layers": {"o": spec}}),
        adapter=adapter(LLAMA, kind),
    )  # fmt: skip

    def total(w: Any) -> Any:
        ready = network.cast(parts.nest(w), jnp.float32)["layers"]
        added = 0.0
        for layer in range(2):
            one = {name: value[layer] for name, value in ready.items()}
            y = adapters.project(one, "o", jnp.asarray(x, jnp.float32)[None], "BSNH,NHD->BSD")[0]
            added += jnp.sum(G[layer] * y)
        return added

    values = {name: jnp.asarray(value, jnp.float32) for name, value in w.items()}
    found: Any = jax.grad(total)(values)
    a = w[f"layers/o{adapters.A}"].reshape(2, 32, 4)
    b = w[f"layers/o{adapters.B}"]
    flat, scale = x.reshape(5, 32), 3.0
    for layer in range(2):
        dW = flat.T @ G[layer]
        if kind == "dora":
            W = w["layers/o"][layer].reshape(32, 16)
            V = W + scale * a[layer] @ b[layer]
            now = np.linalg.norm(V, axis=0)
            expected = (dW * V).sum(axis=0) / now
            np.testing.assert_allclose(
                found[f"layers/o{adapters.LENGTH}"][layer], expected, rtol=1e-4
            )
            offset = w[f"layers/o{adapters.LENGTH}"][layer]
            dW = dW * (np.linalg.norm(W, axis=0) + offset) / now
        dA, dB = scale * dW @ b[layer].T, scale * a[layer].T @ dW
        np.testing.assert_allclose(
            found[f"layers/o{adapters.A}"][layer].reshape(32, 4), dA, rtol=1e-3, atol=1e-3
        )
        np.testing.assert_allclose(found[f"layers/o{adapters.B}"][layer], dB, rtol=1e-3, atol=1e-3)


def test_shapes_and_shardings_follow_the_weights():
    declared = parts.by_name(adapters.declare(declare(LLAMA).specs, adapter(LLAMA, "dora")))
    shapes = {name: (spec.shape, spec.axes) for name, spec in declared.items()}
    assert shapes["layers/q_lora_a"] == ((2, 16, 4), ("layers", "embed", None))
    assert shapes["layers/q_lora_b"] == ((2, 4, 4, 8), ("layers", None, "heads", None))
    assert shapes["layers/q_lora_length"] == ((2, 4, 8), ("layers", "heads", None))
    assert shapes["layers/o_lora_a"] == ((2, 4, 8, 4), ("layers", "heads", None, None))
    assert shapes["layers/down_lora_b"] == ((2, 4, 16), ("layers", None, "embed"))
    assert len(shapes) == 3 * 7
    mesh = make_mesh(Mesh(fsdp=4, tensor=2))
    placed = weight_shardings(declared, mesh)
    assert placed["layers/q_lora_a"].shard_shape((2, 16, 4)) == (2, 4, 4)
    assert placed["layers/q_lora_b"].shard_shape((2, 4, 4, 8)) == (2, 4, 2, 8)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"targets": ("layers/qq",)}, "Adapter.targets: 'layers/qq' matches no weight.* layers/q"),
        ({"targets": ("embedding",)}, "Adapter.targets: 'embedding' matches no weight"),
        ({"targets": ("*norm",)}, "matches no weight"),
        ({"targets": ("layers/0/q",)}, "layers/q would have an adapter in some layers only"),
        ({"rank": 17}, r"Adapter.rank \(17\) is more than layers/\w+ .* can have"),
        ({"rank": 0}, r"Adapter.rank \(0\) must be at least 1"),
        ({"alpha": 0.0}, r"Adapter.alpha \(0.0\) must be positive"),
        ({"targets": ()}, "Adapter.targets is empty"),
    ],
)
def test_what_is_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        adapters.adapted(declare(LLAMA), adapter(LLAMA, **settings))
