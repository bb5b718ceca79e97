"""How far a model's predictions are from a frozen base's, over one piece of the sequence.

Shapes: B batch, S sequence, C positions a piece, D embed, V padded vocabulary.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp

from twjax.config import Model
from twjax.parallel.sharding import constrain


class Base(NamedTuple):
    """What the base computes for a batch, and how much each of its rows counts.

    `rows_B` is float32, 0 for rows on which the model is left alone. `factor` [] is what the sum
    over tokens is multiplied by in the objective.
    """

    hidden_BSD: jax.Array
    head_DV: jax.Array
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
    base_BCV = jnp.einsum("BCD,DV->BCV", base_BCD, head_DV, preferred_element_type=jnp.float32)
    base_BCV = constrain(base_BCV, "batch", None, "vocab")
    if how.scale is not None:
        base_BCV = base_BCV * how.scale
    if how.softcap is not None:
        base_BCV = how.softcap * jnp.tanh(base_BCV / how.softcap)
    known_V = jax.lax.broadcasted_iota(jnp.int32, (1, 1, head_DV.shape[1]), 2) < how.known

    def logs(x_BCV: jax.Array) -> jax.Array:
        return jax.nn.log_softmax(jnp.where(known_V, x_BCV / how.temperature, -1e30), axis=-1)

    model_BCV, base_BCV = logs(logits_BCV), logs(base_BCV)
    wanted_BCV = jnp.exp(base_BCV)
    far_BC = jnp.sum(jnp.where(known_V, wanted_BCV * (base_BCV - model_BCV), 0.0), axis=-1)
    slope_BCV = (jnp.exp(model_BCV) - wanted_BCV) * (how.temperature * weights_BC)[..., None]
    return jnp.sum(far_BC * weights_BC), slope_BCV
