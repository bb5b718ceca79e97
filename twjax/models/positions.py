"""Where a token stands: positions of packed rows, rotary angles, ALiBi slopes.

Shapes: B batch, S sequence, N heads, H head dim, F = H / 2 rotary frequencies.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from twjax.config import Model, RopeScaling

# Turns within the original length between which YaRN blends (Peng et al. 2023, §3.2: β and α).
_YARN_FAST, _YARN_SLOW = 32.0, 1.0


def segment_positions(segment_ids_BS: jax.Array) -> jax.Array:
    """Returns int32 positions [B, S] that restart at 0 where the segment id changes."""
    index = jnp.arange(segment_ids_BS.shape[1], dtype=jnp.int32)[None, :]
    starts = jnp.concatenate(
        [
            jnp.ones_like(segment_ids_BS[:, :1], dtype=bool),
            segment_ids_BS[:, 1:] != segment_ids_BS[:, :-1],
        ],
        axis=1,
    )
    first = jax.lax.cummax(jnp.where(starts, index, 0), axis=1)
    return index - first


class Rotary(NamedTuple):
    """Float32 angles [B, S, F] by which pairs are turned; cosine and sine are times `scale`.

    With `products` the halves of a head change places by a product with a matrix of 0, 1 and -1:
    on a TPU, whose vectors are as wide as a head, anything else is passes over memory.
    """

    angles_BSF: jax.Array
    scale: float = 1.0
    products: bool = False


def rotary(positions_BS: jax.Array, config: Model, kind: str) -> Rotary:
    """Returns the angles of a "local" or "global" layer of rotary embeddings.

    Su et al. 2021, §3.4.2; local layers with a base of their own are never stretched.
    """
    theta, scaling = config.rope_theta, config.rope_scaling
    if kind == "local" and config.rope_local_theta is not None:
        theta, scaling = config.rope_local_theta, None
    frequencies_F, scale = rotary_frequencies(config.head_dim, theta, scaling)
    angles_BSF = positions_BS[..., None].astype(jnp.float32) * frequencies_F
    return Rotary(angles_BSF, scale)


def rotary_frequencies(
    head_dim: int, theta: float, scaling: RopeScaling | None
) -> tuple[np.ndarray, float]:
    """Returns float32 radians a position [F], and the factor of cosines and sines."""
    frequencies = theta ** (-np.arange(0, head_dim, 2, dtype=np.float64) / head_dim)
    if scaling is None:
        return frequencies.astype(np.float32), 1.0
    stretched = frequencies / scaling.factor
    if scaling.kind == "linear":
        return stretched.astype(np.float32), 1.0
    if scaling.kind == "llama3":
        turns = scaling.original_length * frequencies / (2 * math.pi)
        low, high = scaling.low_frequency, scaling.high_frequency
        kept = np.clip((turns - low) / (high - low), 0, 1)
        return (kept * frequencies + (1 - kept) * stretched).astype(np.float32), 1.0

    def pair(turns: float) -> float:
        """The pair, counted from 0, that makes this many turns in the original length."""
        wavelength = scaling.original_length / (turns * 2 * math.pi)
        return head_dim * math.log(wavelength) / (2 * math.log(theta))

    # Whole pairs, as the authors' code has it.
    first = max(math.floor(pair(_YARN_FAST)), 0)
    last = min(math.ceil(pair(_YARN_SLOW)), head_dim - 1)
    ramp = (np.arange(head_dim // 2) - first) / max(last - first, 0.001)
    blend = np.clip(ramp, 0, 1)
    frequencies = (1 - blend) * frequencies + blend * stretched
    return frequencies.astype(np.float32), 0.1 * math.log(scaling.factor) + 1.0


def rotate(x_BSNH: jax.Array, rotary: Rotary) -> jax.Array:
    """Turns pairs (i, i + H/2) of each head by its position's angles, in float32.

    The halves, not neighbours, form a pair: the layout of Hugging Face's Llama weights.
    """
    cos, sin = jnp.cos(rotary.angles_BSF), jnp.sin(rotary.angles_BSF)
    if rotary.scale != 1.0:
        cos, sin = cos * rotary.scale, sin * rotary.scale
    cos, sin = cos[:, :, None], sin[:, :, None]
    if rotary.products:
        F = cos.shape[-1]
        # (a, b) · exchange = (-b, a), exactly: of each sum one term isn't 0.
        exchange_HH = np.zeros((2 * F, 2 * F), np.float32)
        exchange_HH[np.arange(F) + F, np.arange(F)] = -1.0
        exchange_HH[np.arange(F), np.arange(F) + F] = 1.0
        other_BSNH = jnp.einsum(
            "BSNH,HG->BSNG",
            x_BSNH,
            exchange_HH.astype(x_BSNH.dtype),
            precision=jax.lax.Precision.HIGHEST if x_BSNH.dtype == jnp.float32 else None,
        )
        cos, sin = (jnp.concatenate([x, x], axis=-1) for x in (cos, sin))
        turned = x_BSNH.astype(jnp.float32) * cos + other_BSNH.astype(jnp.float32) * sin
        return turned.astype(x_BSNH.dtype)
    first, second = jnp.split(x_BSNH.astype(jnp.float32), 2, axis=-1)
    turned = jnp.concatenate([first * cos - second * sin, second * cos + first * sin], axis=-1)
    return turned.astype(x_BSNH.dtype)


def alibi_slopes(num_heads: int) -> np.ndarray:
    """Returns float32 [N]: how much each head's scores fall a position of distance.

    Press et al. 2022, §3: 2^(-8 i / N) for N a power of two; other N take the slopes of the
    power below, then every other one of the power above, as the authors' code and BLOOM do.
    """
    power = 2 ** int(math.log2(num_heads))
    slopes = [2.0 ** (-8.0 * (i + 1) / power) for i in range(power)]
    slopes += [2.0 ** (-4.0 * (2 * i + 1) / power) for i in range(num_heads - power)]
    return np.array(slopes, np.float32)
