"""The encoder-decoder: relative biases by brute force, packing, cache, one result on any mesh."""

from __future__ import annotations

import dataclasses
import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from twjax.config import Mesh, Model, Step
from twjax.evaluation.generate import generate
from twjax.models import relative
from twjax.models.encdec import START_ID, EncoderDecoder, shift_right
from twjax.models.network import network as declare
from twjax.models.spec import is_spec
from twjax.parallel.mesh import make_mesh
from twjax.planning.flops import model_flops_per_row

SMALL = Model(
    vocab_size=50,
    encoder_layers=2,
    num_layers=3,
    embed_dim=24,
    num_heads=4,
    num_kv_heads=4,
    head_dim=8,
    mlp_dim=40,
    activation="gelu_tanh",
    positions="relative",
    relative_buckets=8,
    relative_distance=10,
    query_scale=1.0,
)
KINDS = {
    "a table a layer": dataclasses.replace(SMALL, relative_shared=False),
    "tied": dataclasses.replace(
        SMALL, tie_embeddings=True, logits_scale=24**-0.5, gated=False, activation="relu"
    ),
}


def bucket(offset: int, both_ways: bool, count: int, distance: int) -> int:
    """Raffel et al. 2020's buckets by one offset, from their definition in words."""
    first = 0
    if both_ways:
        count //= 2
        first = count if offset > 0 else 0
        back = abs(offset)
    else:
        back = max(-offset, 0)
    exact = count // 2
    if back < exact:
        return first + back
    share = math.log(back / exact) / math.log(distance / exact)
    return first + min(exact + int(share * (count - exact) + 1e-9), count - 1)


@given(
    offset=st.integers(-300, 300),
    both_ways=st.booleans(),
    count=st.sampled_from([4, 6, 8, 32]),
    distance=st.integers(17, 130),
)
def test_buckets_are_those_of_the_paper(offset, both_ways, count, distance):
    found = relative.buckets(
        np.array([offset]), bidirectional=both_ways, count=count, distance=distance
    )
    assert found[0] == bucket(offset, both_ways, count, distance)


@pytest.mark.parametrize(
    ("queries", "keys", "both_ways"), [(9, 9, True), (9, 9, False), (5, 13, False), (40, 1, True)]
)
def test_biases_are_those_of_the_buckets(queries, keys, both_ways):
    table = np.random.default_rng(0).normal(size=(8, 2)).astype(np.float32)
    found = np.asarray(
        relative.bias(jnp.asarray(table), queries, keys, bidirectional=both_ways, distance=7)
    )
    for s in range(queries):
        for t in range(keys):
            np.testing.assert_array_equal(found[:, s, t], table[bucket(t - s, both_ways, 8, 7)])
    if not both_ways:
        last = jnp.asarray([queries - 1])
        one = np.asarray(relative.bias_at(jnp.asarray(table), last, keys, distance=7))
        np.testing.assert_array_equal(one[:, 0, :queries], found[:, -1, :queries])


@functools.cache
def weights(model: Model):
    """Random weights, norm scales away from one so that forgetting them would show."""
    draw = np.random.default_rng(0)

    def one(spec) -> jax.Array:
        noise = draw.normal(size=spec.shape)
        return jnp.asarray(0.3 * noise if spec.matmul else 1 + 0.3 * noise, jnp.float32)

    return jax.tree.map(one, declare(model).specs, is_leaf=is_spec)


@functools.partial(jax.jit, static_argnums=0)
def forward(model: Model, params, *rows):
    network = declare(model)
    assert isinstance(network, EncoderDecoder)
    return network.logits(params, network.hidden(params, *rows, dtype=jnp.float32))


def logits(model: Model, params, *rows):
    return np.asarray(forward(model, params, *(np.asarray(x, np.int32) for x in rows)))


def packed(seed: int = 0):
    """Two rows of pairs: inputs, their segment ids, targets, theirs, and where the pairs are."""
    draw = np.random.default_rng(seed)
    pairs = [((0, 7), (0, 3)), ((7, 9), (3, 10)), ((9, 16), (10, 11))]
    inputs, targets = draw.integers(2, 50, (2, 18)), draw.integers(2, 50, (2, 12))
    seen, said = np.zeros((2, 18), int), np.zeros((2, 12), int)
    for number, ((a, b), (c, d)) in enumerate(pairs):
        seen[:, a:b], said[:, c:d] = number + 1, number + 1
    return (inputs, seen, targets, said), pairs


@pytest.mark.parametrize("kind", KINDS)
def test_packed_pairs_equal_each_alone(kind):
    model, params = KINDS[kind], weights(KINDS[kind])
    (inputs, seen, targets, said), pairs = packed()
    together = logits(model, params, inputs, seen, targets, said)
    for (a, b), (c, d) in pairs:
        # Alone at the beginning of rows of zeros: one shape for all.
        rows = tuple(np.zeros_like(x) for x in (inputs, inputs, targets, targets))
        rows[0][:, : b - a], rows[1][:, : b - a] = inputs[:, a:b], 1
        rows[2][:, : d - c], rows[3][:, : d - c] = targets[:, c:d], 1
        alone = logits(model, params, *rows)[:, : d - c]
        np.testing.assert_allclose(together[:, c:d], alone, atol=2e-5)


def test_a_target_sees_those_before_it_and_the_inputs_of_its_segment():
    params = weights(SMALL)
    (inputs, seen, targets, said), _ = packed()
    before = logits(SMALL, params, inputs, seen, targets, said)
    other = targets.copy()
    other[:, 6] = 1 + other[:, 6] % 49
    changed = np.abs(logits(SMALL, params, inputs, seen, other, said) - before).max((0, 2))
    assert (changed[7:10] > 1e-4).all() and not changed[:7].any() and not changed[10:].any()
    other = inputs.copy()
    other[:, 8] = 1 + other[:, 8] % 49
    changed = np.abs(logits(SMALL, params, other, seen, targets, said) - before).max((0, 2))
    assert (changed[3:10] > 1e-4).all() and not changed[:3].any() and not changed[10:].any()


@pytest.mark.slow
def test_targets_without_inputs_and_padding_give_no_nan():
    network, params = declare(SMALL), weights(SMALL)
    assert isinstance(network, EncoderDecoder)
    inputs, targets = jnp.full((1, 4), 5), jnp.asarray([[3, 4, 6, 0, 0]])
    said = jnp.asarray([[1, 1, 2, 0, 0]])

    def total(params):
        hidden = network.hidden(params, inputs, inputs * 0 + 1, targets, said, dtype=jnp.float32)
        return jnp.sum(jnp.sin(network.logits(params, hidden)))

    value, grads = jax.jit(jax.value_and_grad(total))(params)
    assert np.isfinite(value)
    assert all(np.isfinite(x).all() for x in jax.tree.leaves(grads))


def test_the_decoder_reads_each_segment_behind_the_start():
    targets, said = np.array([[5, 6, 7, 8, 9, 0]]), np.array([[1, 1, 2, 2, 2, 0]])
    shifted = shift_right(jnp.asarray(targets), jnp.asarray(said))
    np.testing.assert_array_equal(shifted, [[START_ID, 5, START_ID, 7, 8, START_ID]])


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_reading_with_a_cache_equals_reading_at_once(kind):
    model, params = KINDS[kind], weights(KINDS[kind])
    network = declare(model)
    assert isinstance(network, EncoderDecoder)
    draw = np.random.default_rng(3)
    inputs, targets = draw.integers(2, 50, (2, 9)), draw.integers(2, 50, (2, 14))
    # Padding on the left, as prompts have, and on the right.
    seen = np.array([[0, 0, *[1] * 7], [*[1] * 5, *[0] * 4]])
    whole = logits(model, params, inputs, seen, targets, np.ones_like(targets))
    tokens = shift_right(jnp.asarray(targets), jnp.ones_like(targets))
    cache = network.start(params, jnp.asarray(inputs), jnp.asarray(seen), 16, dtype=jnp.float32)
    extend, read = jax.jit(network.extend), jax.jit(network.logits)
    parts = []
    for first, last in [(0, 3), (3, 4), (4, 5), (5, 8), (8, 11), (11, 14)]:
        hidden, cache = extend(params, tokens[:, first:last], cache)
        parts.append(read(params, hidden))
    np.testing.assert_allclose(np.concatenate(parts, 1), whole, atol=2e-5)


@pytest.mark.slow
def test_prompts_are_continued_alike_alone_together_and_sharded():
    params = weights(SMALL)
    network, prompts = declare(SMALL), [[5, 6, 7], [9] * 11, [3]]
    one, four = make_mesh(Mesh(), jax.devices()[:1]), make_mesh(Mesh(tensor=4), jax.devices())
    together = generate(network, params, prompts, tokens=9, mesh=one)
    assert generate(network, params, prompts, tokens=9, mesh=four) == together
    rows = make_mesh(Mesh(fsdp=2, context=4), jax.devices())
    assert generate(network, params, prompts, tokens=9, mesh=rows) == together
    assert generate(network, params, prompts[1:2], tokens=9, mesh=one) == together[1:2]
    # By whole forwards, with the inputs not padded.
    said = np.zeros((1, 9), np.int32)
    for place in range(9):
        rows = (prompts[:1], [[1] * 3], said, np.ones_like(said))
        said[0, place] = logits(SMALL, params, *rows)[0, place].argmax()
    assert together[0] == said[0].tolist()


@pytest.mark.slow
@pytest.mark.parametrize("remat", ["dots", "full"])
def test_recomputing_changes_no_gradient(remat):
    network, params = declare(SMALL), weights(SMALL)
    assert isinstance(network, EncoderDecoder)
    rows = tuple(jnp.asarray(x) for x in packed()[0])

    def grad(remat):
        def loss(params):
            hidden = network.hidden(params, *rows, dtype=jnp.float32, saved=Step(remat=remat).saved)
            return jnp.sum(jnp.sin(network.logits(params, hidden)))

        return jax.jit(jax.grad(loss))(params)

    close = lambda a, b: np.testing.assert_allclose(a, b, atol=1e-4, rtol=1e-4)  # noqa: E731
    jax.tree.map(close, grad("none"), grad(remat))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("query_scale", None),
        ("norm_eps", 0.5),
        ("tie_embeddings", True),
        ("gated", False),
        ("activation", "relu"),
        ("encoder_layers", 1),
        ("num_layers", 2),
        ("relative_buckets", 6),
        ("relative_distance", 7),
        ("relative_shared", False),
        ("logits_scale", 0.5),
    ],
)
def test_every_field_of_the_model_changes_the_output(field, value):
    rows = packed()[0]
    other = dataclasses.replace(SMALL, **{field: value})
    a, b = (logits(model, weights(model), *rows) for model in (SMALL, other))
    assert np.abs(a - b).max() > 1e-4


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"positions": "rotary"}, "positions"),
        ({"encoder_layers": 0}, "positions"),
        ({"num_kv_heads": 2}, "num_kv_heads"),
        ({"norm": "layer"}, "norm"),
        ({"init_std": 0.1}, "init_std"),
        ({"relative_buckets": 7}, "relative_buckets"),
        ({"relative_distance": 4}, "relative_distance"),
        ({"window": 4}, "window"),
    ],
)
def test_what_an_encoder_decoder_has_not_is_refused(changes, said):
    with pytest.raises(ValueError, match=said):
        dataclasses.replace(SMALL, **changes)


def test_products_are_counted_by_what_they_meet():
    # Every weight of a product meets each token of its side, forward and twice backward.
    c, inputs, targets = SMALL, 20, 8
    D, N, H, F = c.embed_dim, c.num_heads, c.head_dim, c.mlp_dim
    attention, mlp = 4 * D * N * H, 3 * D * F
    products = 2 * inputs * (attention + mlp) + 3 * targets * (attention + mlp)
    products += 3 * (2 * D * N * H) * (inputs + targets) + targets * c.vocab_size * D
    scores = 2 * inputs**2 + 3 * targets * (targets / 2 + inputs)
    expected = 6 * products + 12 * N * H * scores
    specs = declare(c).specs
    assert model_flops_per_row(c, specs, (inputs, targets)) == pytest.approx(expected)
