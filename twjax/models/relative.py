"""Relative positions as learned biases of attention scores, in buckets of distance.

Raffel et al. 2020, "Exploring the Limits of Transfer Learning", section 2.1. Shapes: N heads,
S queries, T keys, R buckets.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np


def buckets(offsets: np.ndarray, *, bidirectional: bool, count: int, distance: int) -> np.ndarray:
    """Returns the bucket of each offset, int32 of the same shape: key position - query position.

    A direction's first half of buckets hold one distance each; the others grow by a constant
    factor up to `distance`, and the last one holds all that is farther. `bidirectional` gives each
    direction half of the buckets; otherwise offsets above 0 count as 0.
    """
    offsets = np.asarray(offsets, np.int64)
    side = count // 2 if bidirectional else count
    steps = np.arange(distance + 1)
    exact = side // 2
    # The small addend keeps powers that are whole from falling just below.
    grown = np.log(np.maximum(steps, 1) / exact) / np.log(distance / exact) * (side - exact) + 1e-9
    table = np.where(steps < exact, steps, np.minimum(exact + np.floor(grown), side - 1))
    back = np.abs(offsets) if bidirectional else np.maximum(-offsets, 0)
    found = table[np.minimum(back, distance)]
    return (found + side * (offsets > 0) * bidirectional).astype(np.int32)


def bias(
    table_RN: jax.Array, queries: int, keys: int, *, bidirectional: bool, distance: int
) -> jax.Array:
    """Returns the bias [N, S, T] of `queries` x `keys` positions that both begin at 0.

    Positions in a packed row will do as well as positions in a segment: only their differences
    enter.
    """
    # Offset o is at place o mod (S + T); one place stays unused.
    places = queries + keys
    offsets = np.arange(places)
    offsets = np.where(offsets < keys, offsets, offsets - places)
    found = buckets(
        offsets, bidirectional=bidirectional, count=table_RN.shape[0], distance=distance
    )
    line_NP = table_RN[found].T
    # Rows of P - 1 cut from a line that repeats every P begin one place earlier each time: row s
    # has offset t - s in column t. Unlike a gather of S x T places, this has a gradient without
    # a scatter.
    N = line_NP.shape[0]
    lines = jnp.broadcast_to(line_NP[:, None, :], (N, queries, places)).reshape(N, -1)
    skewed = lines[:, : queries * (places - 1)].reshape(N, queries, places - 1)
    return skewed[:, :, :keys]


def bias_at(
    table_RN: jax.Array, query_positions: jax.Array, keys: int, *, distance: int
) -> jax.Array:
    """Returns the causal bias [N, S, keys] of queries at int32 positions [S], known when it runs.

    Keys are at positions 0, 1, …; those after a query get some value and must be masked.
    """
    found = buckets(
        -np.arange(distance + 1), bidirectional=False, count=table_RN.shape[0], distance=distance
    )
    back_ST = query_positions[:, None] - jnp.arange(keys, dtype=jnp.int32)
    by_distance = table_RN[found]
    return jnp.moveaxis(by_distance[jnp.clip(back_ST, 0, distance)], -1, 0)
