"""What a decoder computes on a TPU, its kernel in the interpreter, against the reference's way."""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from twjax.config import Model, RopeScaling
from twjax.models import attention
from twjax.models.decoder import Network
from twjax.models.positions import Rotary, rotate
from twjax.models.spec import init_weights
from twjax.parallel.tpu import Tiles

BASE: dict[str, Any] = {
    "vocab_size": 64,
    "embed_dim": 32,
    "num_layers": 2,
    "num_heads": 2,
    "num_kv_heads": 1,
    "head_dim": 128,
    "mlp_dim": 48,
}
MODELS: dict[str, dict[str, Any]] = {
    "llama": {
        "rope_scaling": RopeScaling(
            kind="llama3", factor=8.0, original_length=64, low_frequency=1.0, high_frequency=4.0
        )
    },
    "gemma": {"query_scale": 0.05, "attention_softcap": 5.0, "window": 40, "qk_norm": True,
              "window_pattern": ("local", "global")},
    "alibi": {"positions": "alibi", "num_kv_heads": 2},
    "learned": {"positions": "learned", "max_positions": 256},
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("family", MODELS)
def test_activations_and_gradients_are_those_of_the_reference(family, monkeypatch):
    """Queries come scaled to the kernel, pairs change places by products, and nothing differs."""
    monkeypatch.setattr(attention, "_splash", functools.partial(attention._splash, interpret=True))
    network = Network.create(Model(**{**BASE, **MODELS[family]}))
    params = init_weights(network.specs, jax.random.key(0))
    # Attention that isn't flat shows how it is scaled.
    params["layers"]["q"] *= 20.0
    tokens = jax.random.randint(jax.random.key(1), (1, 256), 0, 64)
    segments = jnp.asarray(np.repeat([1, 2, 0], [150, 90, 16])[None])

    def run(kind):
        def total(params):
            hidden = network.hidden(params, tokens, segments, dtype=jnp.float32, kind=kind)
            hidden = jnp.where(segments[..., None] > 0, hidden, 0.0)
            return jnp.sum(hidden * jnp.sin(jnp.arange(hidden.size).reshape(hidden.shape))), hidden

        (_, hidden), grads = jax.value_and_grad(total, has_aux=True)(params)
        return hidden, grads

    expected, grads = run("reference")
    for kind in ("splash", Tiles(forward=128, queries=128, keys=256, compute=128)):
        found, others = run(kind)
        np.testing.assert_allclose(found, expected, atol=2e-4, rtol=1e-3)
        for a, b in zip(jax.tree.leaves(others), jax.tree.leaves(grads), strict=True):
            np.testing.assert_allclose(a, b, atol=2e-3 * float(jnp.abs(b).max()) + 1e-6)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("head_dim", [8, 64, 128])
def test_pairs_change_places_exactly(dtype, head_dim):
    x = jax.random.normal(jax.random.key(0), (2, 5, 3, head_dim)).astype(dtype)
    angles = jax.random.uniform(jax.random.key(1), (2, 5, head_dim // 2)) * 100
    split = rotate(x, Rotary(angles, 1.25))
    products = rotate(x, Rotary(angles, 1.25, products=True))
    # The same products and one sum, but for what a fused multiply-add doesn't round.
    np.testing.assert_allclose(
        np.asarray(products, np.float32),
        np.asarray(split, np.float32),
        rtol=2**-7 if dtype == "bfloat16" else 1e-6,
        atol=1e-6,
    )


def test_what_is_saved_changes_no_gradient():
    network = Network.create(Model(**BASE))
    params = init_weights(network.specs, jax.random.key(0))
    tokens = jax.random.randint(jax.random.key(1), (2, 16), 0, 64)
    segments = jnp.ones_like(tokens)

    def gradients(saved):
        def total(params):
            hidden = network.hidden(
                params, tokens, segments, dtype=jnp.float32, kind="reference", saved=saved
            )
            return jnp.sum(jnp.square(hidden) * jnp.arange(32))

        return jax.jit(jax.grad(total))(params)

    expected = gradients(None)
    for saved in ((), ("attention",), ("query", "key", "value", "attention", "gate", "up")):
        for a, b in zip(jax.tree.leaves(gradients(saved)), jax.tree.leaves(expected), strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5 * float(jnp.abs(b).max()))
