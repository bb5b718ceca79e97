"""The chunked vocabulary loss against float64 NumPy."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from twjax.training.loss import NO_BEND, Bend, next_token_loss, next_token_sums

B, S, D, V, REAL = 3, 12, 8, 32, 27
# Caps low enough that most logits are bent.
BENDS = [NO_BEND, Bend(scale=0.4), Bend(softcap=3.0), Bend(scale=1.5, softcap=4.0)]


@pytest.fixture(scope="module")
def case():
    rng = np.random.default_rng(0)
    return {
        "hidden": rng.normal(size=(B, S, D)),
        "head": rng.normal(size=(D, V)),
        "tokens": rng.integers(0, REAL, (B, S)),
        "weights": rng.integers(0, 2, (B, S)),
    }


def reference(case, bend=NO_BEND):
    """Per-row sums [B] of nll, squared log-normaliser, hits and weight, looping in float64."""
    nll, z, hits, weight = np.zeros((4, B))
    for b in range(B):
        for s in range(S - 1):
            if case["weights"][b, s + 1] == 0:
                continue
            scores = (case["hidden"][b, s] @ case["head"])[:REAL] * (bend.scale or 1.0)
            if bend.softcap:
                scores = np.tanh(scores / bend.softcap) * bend.softcap
            log_z = np.log(np.exp(scores).sum())
            target = case["tokens"][b, s + 1]
            nll[b] += log_z - scores[target]
            z[b] += log_z**2
            hits[b] += scores.argmax() == target
            weight[b] += 1
    return nll, z, hits, weight


def arrays(case):
    return (
        jnp.asarray(case["hidden"], jnp.float32),
        jnp.asarray(case["head"], jnp.float32),
        jnp.asarray(case["tokens"]),
        jnp.asarray(case["weights"], jnp.uint8),
    )


def sums(case, chunks, bend=NO_BEND):
    return next_token_sums(*arrays(case), vocab_size=REAL, chunks=chunks, bend=bend)


def loss(hidden, head, case, chunks, z_loss=0.0, bend=NO_BEND):
    return next_token_loss(
        hidden, head, *arrays(case)[2:], vocab_size=REAL, chunks=chunks, z_loss=z_loss, bend=bend
    )


@pytest.mark.parametrize("bend", BENDS)
@pytest.mark.parametrize("chunks", [1, 3])
def test_sums_equal_float64(case, chunks, bend):
    for ours, theirs in zip(sums(case, chunks, bend), reference(case, bend), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-5)
    objective, total = loss(*arrays(case)[:2], case, chunks, z_loss=0.3, bend=bend)
    for ours, theirs in zip(total, reference(case, bend), strict=True):
        np.testing.assert_allclose(ours, theirs.sum(), rtol=1e-5)
    nll, z, *_ = reference(case, bend)
    np.testing.assert_allclose(objective, nll.sum() + 0.3 * z.sum(), rtol=1e-5)


@pytest.mark.parametrize("bend", BENDS)
@pytest.mark.parametrize("which", ["hidden", "head"])
@pytest.mark.parametrize(("chunks", "z_loss"), [(1, 0.0), (4, 0.2)])
def test_gradient_equals_finite_differences(case, chunks, z_loss, which, bend):
    place = ("hidden", "head").index(which)
    # A factor behind the loss: the saved gradient must be scaled by what flows back.
    grad = jax.grad(lambda *x: 3.0 * loss(*x, case, chunks, z_loss, bend)[0], argnums=place)(
        *arrays(case)[:2]
    )
    direction = np.random.default_rng(1).normal(size=case[which].shape)
    step = 1e-5

    def at(sign):
        nll, z, *_ = reference(case | {which: case[which] + sign * step * direction}, bend)
        return 3.0 * (nll.sum() + z_loss * z.sum())

    slope = (at(1) - at(-1)) / (2 * step)
    np.testing.assert_allclose(float(jnp.sum(grad * direction)), slope, rtol=1e-4)


def test_the_first_token_and_unweighted_tokens_are_never_predicted(case):
    other = case | {"tokens": case["tokens"].copy()}
    other["tokens"][case["weights"] == 0] = 1
    other["tokens"][:, 0] = 2
    np.testing.assert_array_equal(sums(case, 2).nll, sums(other, 2).nll)


def test_whole_logits_are_never_in_memory():
    """The largest float32 of the compiled gradient is a chunk of logits, not all of them."""
    B, S, V, chunks = 4, 256, 4096, 16

    def loss(hidden, head):
        tokens = jnp.zeros((B, S), jnp.int32)
        ones = jnp.ones((B, S), jnp.uint8)
        return next_token_loss(hidden, head, tokens, ones, vocab_size=V, chunks=chunks)[0]

    shapes = jax.ShapeDtypeStruct((B, S, 8), jnp.float32), jax.ShapeDtypeStruct((8, V), jnp.float32)
    compiled = jax.jit(jax.grad(loss, argnums=(0, 1))).lower(*shapes).compile()
    whole = B * S * V * 4
    assert compiled.memory_analysis().temp_size_in_bytes < whole / 2
