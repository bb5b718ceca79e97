"""The decoder against a float64 NumPy forward, and the properties that packing relies on."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from twjax import config
from twjax.config import Model, Step
from twjax.models.decoder import Network
from twjax.models.positions import segment_positions
from twjax.models.spec import abstract_weights, count_weights, init_weights

SMALL = Model(
    vocab_size=50,
    num_layers=3,
    embed_dim=24,
    num_heads=4,
    num_kv_heads=2,
    head_dim=8,
    mlp_dim=40,
    rope_theta=500.0,
    norm_eps=1e-3,
    init_std=0.3,
)


def forward64(model: Model, params, tokens: np.ndarray) -> np.ndarray:
    """Logits [S, vocab] of one document, position by position, in float64 NumPy."""
    p = jax.tree.map(lambda x: np.asarray(x, np.float64), params)
    half = model.head_dim // 2

    def norm(x, scale):
        return x / np.sqrt((x * x).mean() + model.norm_eps) * scale

    def turn(x, position):
        out = np.empty_like(x)
        for i in range(half):
            angle = position * model.rope_theta ** (-2 * i / model.head_dim)
            a, b = x[:, i], x[:, i + half]
            out[:, i] = a * np.cos(angle) - b * np.sin(angle)
            out[:, i + half] = b * np.cos(angle) + a * np.sin(angle)
        return out

    xs = [p["embedding"][t] for t in tokens]
    for layer in range(model.num_layers):
        w = {name: value[layer] for name, value in p["layers"].items()}
        keys, values, out = [], [], []
        for position, x in enumerate(xs):
            y = norm(x, w["attention_norm"])
            q = turn(np.tensordot(y, w["q"], 1), position)
            keys.append(turn(np.tensordot(y, w["k"], 1), position))
            values.append(np.tensordot(y, w["v"], 1))
            mixed = np.zeros((model.num_heads, model.head_dim))
            for head in range(model.num_heads):
                kv = head // (model.num_heads // model.num_kv_heads)
                scores = np.array([q[head] @ k[kv] for k in keys]) / np.sqrt(model.head_dim)
                weights = np.exp(scores - scores.max())
                weights /= weights.sum()
                mixed[head] = sum(a * v[kv] for a, v in zip(weights, values, strict=True))
            x = x + np.einsum("nh,nhd->d", mixed, w["o"])
            y = norm(x, w["mlp_norm"])
            gate = y @ w["gate"]
            out.append(x + (gate / (1 + np.exp(-gate)) * (y @ w["up"])) @ w["down"])
        xs = out
    head = p["embedding"].T if model.tie_embeddings else p["head"]
    hidden = np.stack([norm(x, p["final_norm"]) for x in xs])
    return (hidden @ head)[:, : model.vocab_size]


def logits(model: Model, params, tokens, segment_ids, **options):
    network = Network.create(model)
    options = {"dtype": jnp.float32, "kind": "reference"} | options
    hidden = network.hidden(params, jnp.asarray(tokens), jnp.asarray(segment_ids), **options)
    return np.asarray(network.logits(params, hidden))


def weights(model: Model, seed: int = 0):
    params = init_weights(Network.create(model).specs, jax.random.key(seed))
    # Norm scales away from one, so that forgetting them would show.
    key = jax.random.key(seed + 1)
    return jax.tree.map(lambda x: x + 0.1 * jax.random.normal(key, x.shape), params)


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("kv_heads", [1, 2, 4])
def test_logits_equal_a_float64_forward(tied, kv_heads):
    model = dataclasses.replace(SMALL, tie_embeddings=tied, num_kv_heads=kv_heads)
    params = weights(model)
    tokens = np.random.default_rng(0).integers(0, 50, (1, 12))
    ours = logits(model, params, tokens, np.ones((1, 12), np.int32))[0]
    np.testing.assert_allclose(ours, forward64(model, params, tokens[0]), atol=2e-4, rtol=1e-4)


@pytest.mark.slow
def test_packed_documents_equal_each_alone():
    params = weights(SMALL)
    rng = np.random.default_rng(1)
    parts = [rng.integers(0, 50, length) for length in (5, 9, 2)]
    row = np.concatenate([*parts, np.zeros(4, int)])[None]
    segments = np.repeat([1, 2, 3, 0], [5, 9, 2, 4])[None]
    packed = logits(SMALL, params, row, segments)[0]
    start = 0
    for part in parts:
        alone = logits(SMALL, params, part[None], np.ones((1, len(part)), np.int32))[0]
        np.testing.assert_allclose(packed[start : start + len(part)], alone, atol=1e-5)
        start += len(part)


def test_a_later_token_changes_nothing_before_it():
    params = weights(SMALL)
    tokens = np.random.default_rng(2).integers(0, 50, (1, 10))
    other = tokens.copy()
    other[0, 6] = (other[0, 6] + 1) % 50
    ones = np.ones((1, 10), np.int32)
    a, b = logits(SMALL, params, tokens, ones)[0], logits(SMALL, params, other, ones)[0]
    np.testing.assert_array_equal(a[:6], b[:6])
    assert np.abs(a[6:] - b[6:]).max() > 1e-3


@pytest.mark.slow
@pytest.mark.parametrize("remat", ["dots", "full"])
def test_recomputing_changes_no_gradient(remat):
    params = weights(SMALL)
    network = Network.create(SMALL)
    tokens = jnp.asarray(np.random.default_rng(3).integers(0, 50, (2, 8)))

    def loss(params, remat):
        hidden = network.hidden(
            params,
            tokens,
            jnp.ones_like(tokens),
            dtype=jnp.float32,
            kind="reference",
            saved=Step(remat=remat).saved,
        )
        return jnp.sum(jnp.sin(network.logits(params, hidden)))

    plain, again = jax.grad(loss)(params, "none"), jax.grad(loss)(params, remat)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-4, rtol=1e-4), plain, again)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("rope_theta", 1e6),
        ("norm_eps", 0.5),
        ("num_kv_heads", 4),
        ("tie_embeddings", True),
        ("num_layers", 2),
        ("mlp_dim", 32),
        ("init_std", 0.1),
        ("head_dim", 4),
        ("embed_dim", 16),
        ("num_heads", 2),
    ],
)
def test_every_field_of_the_model_changes_the_output(field, value):
    other = dataclasses.replace(SMALL, **{field: value})
    tokens, ones = np.arange(8)[None], np.ones((1, 8), np.int32)
    a, b = (
        logits(m, init_weights(Network.create(m).specs, jax.random.key(0)), tokens, ones)
        for m in (SMALL, other)
    )
    assert np.abs(a - b).max() > 1e-4


def test_rows_of_padding_are_no_token():
    model = dataclasses.replace(SMALL, vocab_multiple=64)
    assert model.padded_vocab_size == 64
    out = logits(model, weights(model), np.arange(6)[None], np.ones((1, 6), np.int32))
    assert out.shape[-1] == 50


def test_positions_restart_with_each_segment():
    ids = jnp.asarray([[1, 1, 1, 2, 2, 0, 0], [1, 2, 3, 3, 3, 3, 4]])
    expected = [[0, 1, 2, 0, 1, 0, 1], [0, 0, 0, 1, 2, 3, 0]]
    np.testing.assert_array_equal(segment_positions(ids), expected)


def test_llama_3_8b_has_the_published_number_of_parameters():
    # 8,030,261,248: Meta's Llama 3 8B, whose 128,256 ids need no padding.
    model = config.load(config.Run, ["configs/runs/llama3_8b.gin"]).value.model
    assert count_weights(Network.create(model).specs) == 8_030_261_248


def test_a_weight_keeps_its_initial_value_when_others_change():
    small = init_weights(Network.create(SMALL).specs, jax.random.key(0))
    tied = dataclasses.replace(SMALL, tie_embeddings=True)
    other = init_weights(Network.create(tied).specs, jax.random.key(0))
    np.testing.assert_array_equal(small["layers"]["q"], other["layers"]["q"])
    assert set(small) - set(other) == {"head"}


def test_weights_are_declared_without_being_allocated():
    model = dataclasses.replace(SMALL, num_layers=100_000, embed_dim=100_000, mlp_dim=100_000)
    specs = Network.create(model).specs
    assert count_weights(specs) > 1e15
    assert all(
        isinstance(x, jax.ShapeDtypeStruct) for x in jax.tree.leaves(abstract_weights(specs))
    )
