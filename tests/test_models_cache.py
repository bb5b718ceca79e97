"""A cache changes no activation: reading piece by piece equals reading all at once."""

from __future__ import annotations

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from twjax.config import Model, RopeScaling
from twjax.models.decoder import Network
from twjax.models.spec import init_weights

LLAMA = Model(
    vocab_size=61,
    num_layers=3,
    embed_dim=24,
    num_heads=4,
    num_kv_heads=2,
    head_dim=8,
    mlp_dim=40,
    init_std=0.3,
)
BIASES = {"qkv_bias": True, "out_bias": True, "mlp_bias": True}
GPT = {"norm": "layer", "gated": False, "activation": "gelu_tanh", "num_kv_heads": 4, **BIASES}
KINDS = {
    "llama": {"rope_scaling": RopeScaling(kind="llama3", factor=8.0, original_length=16)},
    "window": {"window": 5},
    "window of one": {"window": 1},
    "gpt1": {**GPT, "norm_position": "post", "positions": "learned", "max_positions": 48},
    "gpt2": {**GPT, "positions": "learned", "max_positions": 48},
    "bloom": {
        **GPT,
        "positions": "alibi",
        "embedding_norm": True,
        "num_heads": 6,
        "num_kv_heads": 6,
    },
    "gemma": {
        **{"num_layers": 8, "window": 4, "window_pattern": ("local", "local", "global")},
        **{"norm_offset": True, "norm_position": "both", "activation": "gelu_tanh"},
        **{"qk_norm": True, "rope_theta": 1e6, "rope_local_theta": 1e4, "query_scale": 0.2},
        **{"attention_softcap": 5.0, "logits_softcap": 8.0, "embedding_scale": True},
        **{"tie_embeddings": True, "num_kv_heads": 1},
    },
}


def made(kind: str) -> tuple[Network, dict]:
    network = Network.create(dataclasses.replace(LLAMA, **KINDS[kind]))
    params = init_weights(network.specs, jax.random.key(0))
    # Biases away from zero and norms away from one, so that forgetting them would show.
    noise = functools.partial(jax.random.normal, jax.random.key(1))
    return network, jax.tree.map(lambda x: x + 0.1 * noise(x.shape), params)


@functools.partial(jax.jit, static_argnums=0)
def whole(network, params, tokens, segments):
    hidden = network.hidden(params, tokens, segments, dtype=jnp.float32, kind="reference")
    return network.logits(params, hidden)


@functools.partial(jax.jit, static_argnums=(0, 4))
def start(network, params, tokens, segments, length):
    hidden, cache = network.start(
        params, tokens, segments, length=length, dtype=jnp.float32, kind="reference"
    )
    return network.logits(params, hidden), cache


@functools.partial(jax.jit, static_argnums=0)
def extend(network, params, tokens, cache):
    hidden, cache = network.extend(params, tokens, cache)
    return network.logits(params, hidden), cache


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_pieces_equal_the_whole(kind):
    """Three prompts of different lengths, then pieces of 1, 1, 7 and 2 tokens."""
    network, params = made(kind)
    lengths, columns, total = [3, 9, 1], 9, 20
    tokens = np.random.default_rng(0).integers(0, 61, (3, total + 9)).astype(np.int32)
    ours = np.zeros((3, columns + 11), np.int32)
    segments = np.zeros((3, columns), np.int32)
    for row, length in enumerate(lengths):
        ours[row, columns - length :] = tokens[row, : length + 11]
        segments[row, columns - length :] = 1
    found, cache = start(network, params, ours[:, :columns], segments, columns + 11)
    parts, at = [found], columns
    for size in (1, 1, 7, 2):
        found, cache = extend(network, params, ours[:, at : at + size], cache)
        parts.append(found)
        at += size
    found = np.concatenate(parts, axis=1)
    expected = whole(network, params, tokens, np.ones_like(tokens))
    for row, length in enumerate(lengths):
        np.testing.assert_allclose(
            found[row, columns - length :], expected[row, : length + 11], atol=2e-5, rtol=1e-4
        )


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["window", "gemma"])
def test_a_windowed_layer_keeps_no_more_than_its_window(kind):
    network, params = made(kind)
    ones = np.ones((2, 16), np.int32)
    _, cache = start(network, params, ones, ones, 40)
    sizes = {kind: held.shape[1] for kind, held in cache.positions.items()}
    window = network.config.window
    assert sizes["local"] == window - 1 and sizes.get("global", 40) == 40
    columns = {x.shape[-2] for x in jax.tree.leaves(cache.layers)}
    assert columns == set(sizes.values())
    assert cache.layers[0][0][0].shape[0] == network.config.num_layers // len(cache.layers[0])


def test_a_cache_too_short_for_its_prompt_is_refused():
    network, params = made("llama")
    ones = np.ones((1, 8), np.int32)
    with pytest.raises(ValueError, match="a cache of 7 columns can't hold 8 tokens"):
        start(network, params, ones, ones, 7)
