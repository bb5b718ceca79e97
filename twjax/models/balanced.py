"""Rows divided over the mesh's `context` axis so that causal attention costs each device alike.

A row is cut into 2C chunks for C devices, and device i holds chunks i and 2C - 1 - i: a late chunk
sees much, an early one little. "Balanced order" is chunks 0, 2C - 1, 1, 2C - 2, …; every device
holds a run of it, as it holds a run of the natural order.
Shapes: B batch, S sequence, W positions a chunk, H head dim.
"""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np

from twjax.parallel.sharding import RULES, activation_spec, current_mesh, seq_shards

(AXIS,) = RULES["seq"]


def devices_a_row(length: int, unit: int = 1) -> int:
    """Returns over how many devices rows are balanced; 1: attention has them whole.

    Chunks must be multiples of `unit`.
    """
    mesh = current_mesh()
    parts = 1 if mesh is None else seq_shards(mesh)
    return 1 if length % (2 * parts * unit) else parts


def balanced_order(length: int, parts: int) -> np.ndarray:
    """Returns the natural position of each place in balanced order, int32 [S]."""
    chunks = np.arange(length, dtype=np.int32).reshape(2 * parts, -1)
    return np.stack([chunks[:parts], chunks[: -parts - 1 : -1]], axis=1).ravel()


def balance(x_BS: jax.Array, parts: int) -> jax.Array:
    """Brings an array [B, S, …] from natural to balanced order, in two exchanges of half of it."""
    return _exchange(x_BS, parts, back=False)


def natural(x_BS: jax.Array, parts: int) -> jax.Array:
    """Brings an array [B, S, …] from balanced to natural order."""
    return _exchange(x_BS, parts, back=True)


def _exchange(x_BS: jax.Array, parts: int, *, back: bool) -> jax.Array:
    spec = activation_spec("batch", "seq", *[None] * (x_BS.ndim - 2))
    move = functools.partial(_back if back else _forth, parts=parts)
    return jax.shard_map(move, mesh=current_mesh(), in_specs=spec, out_specs=spec)(x_BS)


def _routes(parts: int) -> tuple[list[tuple[int, int]], list[tuple[int, int]]]:
    """Returns who sends to whom: the first chunks of the devices' runs, and the second ones.

    First chunks have even numbers, second ones odd; both go to all devices, one to each.
    """
    home = [chunk if chunk < parts else 2 * parts - 1 - chunk for chunk in range(2 * parts)]
    return [(i, home[2 * i]) for i in range(parts)], [(i, home[2 * i + 1]) for i in range(parts)]


def _forth(x_BS: jax.Array, parts: int) -> jax.Array:
    first, second = _routes(parts)
    even, odd = jnp.split(x_BS, 2, axis=1)
    even, odd = jax.lax.ppermute(even, AXIS, first), jax.lax.ppermute(odd, AXIS, second)
    # Of a device's chunks the early one has its number, the late one that of the other parity.
    swap = jax.lax.axis_index(AXIS) % 2 == 1
    return jnp.concatenate([jnp.where(swap, odd, even), jnp.where(swap, even, odd)], axis=1)


def _back(x_BS: jax.Array, parts: int) -> jax.Array:
    first, second = ([(to, of) for of, to in route] for route in _routes(parts))
    early, late = jnp.split(x_BS, 2, axis=1)
    swap = jax.lax.axis_index(AXIS) % 2 == 1
    even, odd = jnp.where(swap, late, early), jnp.where(swap, early, late)
    even, odd = jax.lax.ppermute(even, AXIS, first), jax.lax.ppermute(odd, AXIS, second)
    return jnp.concatenate([even, odd], axis=1)


def own(x_BS: jax.Array, parts: int) -> jax.Array:
    """Within `shard_map`: a device's own chunks [B, 2W] of rows in natural order [B, S]."""
    width = x_BS.shape[1] // (2 * parts)
    index = jax.lax.axis_index(AXIS)
    chunks = (index, 2 * parts - 1 - index)
    cut = [jax.lax.dynamic_slice_in_dim(x_BS, c * width, width, axis=1) for c in chunks]
    return jnp.concatenate(cut, axis=1)


def gathered(x: jax.Array, parts: int) -> jax.Array:
    """Within `shard_map`: all devices' [..., 2W, H] in natural order [..., S, H].

    One gather; in the backward pass each device gets the sum of what concerns its own.
    """
    *before, columns, H = x.shape
    halves = jax.lax.all_gather(x.reshape(*before, 2, columns // 2, H), AXIS, axis=0)
    chunks = jnp.concatenate([halves[..., 0, :, :], halves[::-1, ..., 1, :, :]], axis=0)
    return jnp.moveaxis(chunks, 0, -3).reshape(*before, parts * columns, H)
