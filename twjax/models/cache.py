"""Keys and values of what has been read, so that a new token costs one token's work.

Shapes: B batch, S tokens read at once, C columns of a layer, K key/value heads, H head dim,
P places of the period of layer kinds (`models.stack`), n periods.

Every row has read as much as the others, padding before the prompt included, so a token goes to
the same column in all rows. Global layers have a column for every token; windowed ones go round
in window - 1 columns: the new token itself is never looked up.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from twjax.config import Model
from twjax.models.positions import segment_positions
from twjax.parallel.sharding import constrain

# Keys and values: one pair a place in the period [n, B, K, C, H], one a left-over layer
# [B, K, C, H].
Pairs = tuple[tuple[Any, ...], tuple[Any, ...]]


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Cache:
    """`index` int32 []: columns read; `next_B` int32 [B]: position of each row's next token.

    `positions` has for each kind of layer the position [B, C] that a column holds, -1 for none.
    """

    index: jax.Array
    next_B: jax.Array
    positions: dict[str, jax.Array]
    layers: Pairs
    kinds: tuple[str, ...] = dataclasses.field(metadata={"static": True})

    @property
    def dtype(self) -> Any:
        """The dtype of keys and values."""
        return jax.tree.leaves(self.layers)[0].dtype

    @classmethod
    def start(cls, config: Model, kept: Pairs, segment_ids_BS: jax.Array, length: int) -> Cache:
        """Returns the cache of S tokens whose keys and values [.., B, S, K, H] are `kept`.

        Segment 0 is padding and is never seen. `length` is the number of columns.
        """
        S = segment_ids_BS.shape[1]
        if length < S:
            raise ValueError(f"a cache of {length} columns can't hold {S} tokens.")
        positions_BS = segment_positions(segment_ids_BS)
        held_BS = jnp.where(segment_ids_BS == 0, -1, positions_BS)
        sizes = {kind: _columns(config, kind, length) for kind in dict.fromkeys(config.layer_kinds)}

        def pair(kind: str, kv: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
            return _pinned(tuple(_first(_turned(x), sizes[kind], 0) for x in kv))

        return cls(
            index=jnp.asarray(S, jnp.int32),
            next_B=positions_BS[:, -1] + 1,
            positions={
                kind: _first(held_BS[..., None], size, -1)[..., 0] for kind, size in sizes.items()
            },
            layers=_paired(pair, config.layer_kinds, kept),
            kinds=config.layer_kinds,
        )

    def extended(self, kept: Pairs, positions_BS: jax.Array) -> Cache:
        """Returns the cache with the columns of S tokens more, `kept` as in `start`."""

        def pair(kind: str, kv: tuple[Any, Any], old: tuple[Any, Any]) -> tuple[Any, Any]:
            pairs = zip(old, kv, strict=True)
            return _pinned(tuple(_written(x, _turned(new), self.index) for x, new in pairs))

        return dataclasses.replace(
            self,
            index=self.index + positions_BS.shape[1],
            next_B=self.next_B + positions_BS.shape[1],
            positions={
                kind: _written(held_BC[..., None], positions_BS[..., None], self.index)[..., 0]
                for kind, held_BC in self.positions.items()
            },
            layers=_paired(pair, self.kinds, kept, self.layers),
        )

    def taken(self, rows_B: jax.Array) -> Cache:
        """Returns the cache of these rows, which may be there any number of times."""

        def pair(kind: str, old: tuple[Any, Any]) -> tuple[Any, Any]:
            return _pinned(tuple(jnp.take(x, rows_B, axis=x.ndim - 4) for x in old))

        return dataclasses.replace(
            self,
            next_B=self.next_B[rows_B],
            positions={kind: held_BC[rows_B] for kind, held_BC in self.positions.items()},
            layers=_paired(pair, self.kinds, self.layers),
        )


def _columns(config: Model, kind: str, length: int) -> int:
    if kind == "global" or config.window is None:
        return length
    return max(min(config.window - 1, length), 1)


def _paired(pair: Any, kinds: tuple[str, ...], *pairs: Pairs) -> Pairs:
    """Maps a function of (kind, pairs of that place) over the places and the left-over layers."""
    places, left = zip(*pairs, strict=True)
    # Left-over layers begin a period anew, so both start at the first kind.
    return (
        tuple(pair(kinds[i], *each) for i, each in enumerate(zip(*places, strict=True))),
        tuple(pair(kinds[i], *each) for i, each in enumerate(zip(*left, strict=True))),
    )


def _turned(x: jax.Array) -> jax.Array:
    """[.., S, K, H] to [.., K, S, H]: a head's columns lie together, as its products read them."""
    return jnp.swapaxes(x, -3, -2)


def _pinned(pair: Any) -> Any:
    def pin(x: jax.Array) -> jax.Array:
        return constrain(x, *(None,) * (x.ndim - 4), "batch", "kv", None, None)

    return tuple(map(pin, pair))


def _first(x: jax.Array, size: int, empty: int) -> jax.Array:
    """Places columns [.., S, H] in the first `size`, or the last of them round a smaller ring."""
    S = x.shape[-2]
    if size >= S:
        pad = [(0, 0)] * x.ndim
        pad[-2] = (0, size - S)
        return jnp.pad(x, pad, constant_values=empty)
    return jnp.roll(x[..., S - size :, :], S % size, axis=-2)


def _written(old: jax.Array, new: jax.Array, index: jax.Array) -> jax.Array:
    """Writes columns [.., S, H] from `index` on, round and round; the last of a column stays."""
    size, S = old.shape[-2], new.shape[-2]
    new = new.astype(old.dtype)
    if S == 1:
        start = [jnp.zeros((), jnp.int32)] * old.ndim
        start[-2] = index % size
        return jax.lax.dynamic_update_slice(old, new, start)
    last = min(S, size)
    columns = (index + np.arange(S - last, S)) % size
    return old.at[..., columns, :].set(new[..., S - last :, :])
