"""How far a model's predictions are from a frozen base's, over one piece of the sequence.

Shapes: B batch, S sequence, C positions a piece, D embed, V padded vocabulary, K ids that a base
found likeliest, J = K + 1 with all others as one.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp

from twjax.config import Model
from twjax.parallel.sharding import constrain, seq_axis


class Base(NamedTuple):
    """What the base computes for a batch, and how much each of its rows counts.

    `rows_B` is float32, 0 for rows on which the model is left alone. `factor` [] is what the sum
    over tokens is multiplied by in the objective.
    """

    hidden_BSD: jax.Array
    head_DV: jax.Array
    rows_B: jax.Array
    factor: jax.Array


class Tops(NamedTuple):
    """What the base found likely at each place, and how much each row counts.

    `ids` are int32, `logs` the log-probabilities of these and, last, of all other ids together
    (float16; they are brought to a sum of one here). The rest is as in `Base`.
    """

    ids_BSK: jax.Array
    logs_BSJ: jax.Array
    rows_B: jax.Array
    factor: jax.Array


class Comparison(NamedTuple):
    """Static: softmaxes are taken at `temperature`, over the first `known` ids alone.

    Ids that the base never learnt get no probability on either side. `scale` and `softcap` are the
    model's (`training.loss.Bend`).
    """

    temperature: float
    known: int
    scale: float | None
    softcap: float | None

    @classmethod
    def of(cls, model: Model, temperature: float, known: int) -> Comparison:
        """Returns the comparison of two networks of one form."""
        return cls(temperature, known, model.logits_scale, model.logits_softcap)


def divergence(
    logits_BCV: jax.Array,
    base_BCD: jax.Array,
    head_DV: jax.Array,
    weights_BC: jax.Array,
    how: Comparison,
) -> tuple[jax.Array, jax.Array]:
    """Returns the sum of weight · KL(base ‖ model) [] and the slope of T² times it [B, C, V].

    `logits` are the model's as its softmax takes them; the slope is that over them. Times T², the
    slope is as large at one temperature T as at another (Hinton et al. 2015, §2).
    """
    base_BCV = predictions(base_BCD, head_DV, how)
    known_V = _known(head_DV.shape[1], how)

    def logs(x_BCV: jax.Array) -> jax.Array:
        return jax.nn.log_softmax(jnp.where(known_V, x_BCV / how.temperature, -1e30), axis=-1)

    model_BCV, base_BCV = logs(logits_BCV), logs(base_BCV)
    wanted_BCV = jnp.exp(base_BCV)
    far_BC = jnp.sum(jnp.where(known_V, wanted_BCV * (base_BCV - model_BCV), 0.0), axis=-1)
    slope_BCV = (jnp.exp(model_BCV) - wanted_BCV) * (how.temperature * weights_BC)[..., None]
    return jnp.sum(far_BC * weights_BC), slope_BCV


def top_divergence(
    logits_BCV: jax.Array,
    ids_BCK: jax.Array,
    logs_BCJ: jax.Array,
    weights_BC: jax.Array,
    how: Comparison,
) -> tuple[jax.Array, jax.Array]:
    """Returns what `divergence` does, for a base that is known by its likeliest ids.

    The KL is between distributions over K ids and the rest as one more: never more than that of the
    whole distributions, and as great where both share the rest out alike.
    """
    logs_BCJ = jax.nn.log_softmax(logs_BCJ.astype(jnp.float32), axis=-1)
    B, C, V = logits_BCV.shape
    scores_BCV = jnp.where(_known(V, how), logits_BCV / how.temperature, -1e30)
    at = (jnp.arange(B)[:, None, None], jnp.arange(C)[None, :, None], ids_BCK)
    rest_BCV = scores_BCV.at[at].set(-1e30)
    log_z_BC = jax.nn.logsumexp(scores_BCV, axis=-1)
    log_rest_BC = jax.nn.logsumexp(rest_BCV, axis=-1)
    model_BCJ = jnp.concatenate([scores_BCV[at], log_rest_BC[..., None]], axis=-1)
    model_BCJ = model_BCJ - log_z_BC[..., None]
    wanted_BCJ = jnp.exp(logs_BCJ)
    far_BC = jnp.sum(wanted_BCJ * (logs_BCJ - model_BCJ), axis=-1)
    # Towards the base's probability of its ids, and towards the model's own way to share the rest.
    wanted_BCV = jnp.exp(rest_BCV - log_rest_BC[..., None]) * wanted_BCJ[..., -1:]
    wanted_BCV = wanted_BCV.at[at].set(wanted_BCJ[..., :-1])
    slope_BCV = jnp.exp(scores_BCV - log_z_BC[..., None]) - wanted_BCV
    slope_BCV = slope_BCV * (how.temperature * weights_BC)[..., None]
    return jnp.sum(far_BC * weights_BC), slope_BCV


def likeliest(
    hidden_BCD: jax.Array, head_DV: jax.Array, how: Comparison, top_k: int
) -> tuple[jax.Array, jax.Array]:
    """Returns the `top_k` likeliest ids int32 [B, C, K] and log-probabilities float32 [B, C, J]."""
    scores_BCV = predictions(hidden_BCD, head_DV, how) / how.temperature
    scores_BCV = jnp.where(_known(head_DV.shape[1], how), scores_BCV, -1e30)
    best_BCK, ids_BCK = jax.lax.top_k(scores_BCV, top_k)
    B, C, _ = ids_BCK.shape
    at = (jnp.arange(B)[:, None, None], jnp.arange(C)[None, :, None], ids_BCK)
    rest_BC = jax.nn.logsumexp(scores_BCV.at[at].set(-1e30), axis=-1)
    logs_BCJ = jnp.concatenate([best_BCK, rest_BC[..., None]], axis=-1)
    return ids_BCK, logs_BCJ - jax.nn.logsumexp(logs_BCJ, axis=-1, keepdims=True)


def predictions(hidden_BCD: jax.Array, head_DV: jax.Array, how: Comparison) -> jax.Array:
    """Returns logits float32 [B, C, V] as a softmax takes them."""
    logits_BCV = jnp.einsum("BCD,DV->BCV", hidden_BCD, head_DV, preferred_element_type=jnp.float32)
    logits_BCV = constrain(logits_BCV, "batch", seq_axis(logits_BCV.shape[1]), "vocab")
    if how.scale is not None:
        logits_BCV = logits_BCV * how.scale
    if how.softcap is not None:
        logits_BCV = how.softcap * jnp.tanh(logits_BCV / how.softcap)
    return logits_BCV


def _known(vocab: int, how: Comparison) -> jax.Array:
    return jax.lax.broadcasted_iota(jnp.int32, (1, 1, vocab), 2) < how.known
