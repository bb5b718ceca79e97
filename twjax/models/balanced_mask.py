"""What splash attention computes of a balanced row's scores, told by distances alone.

The kernel gets a mask as tiles that are empty, full or mixed, found on the host before anything is
compiled: at 131,072 positions as an array a mask would be 16 GiB.
"""

from __future__ import annotations

import dataclasses
import functools
from typing import Any

import numpy as np
from jax.experimental.pallas.ops.tpu.splash_attention import Mask

from twjax.models.balanced import balanced_order


@dataclasses.dataclass(frozen=True)
class BalancedMask(Mask):
    """Queries in balanced order against keys in the natural one, within `window` (None: no bound).

    A tile of queries must lie within a chunk.
    """

    length: int
    parts: int
    window: int | None = None

    @property
    def shape(self) -> tuple[int, int]:
        return self.length, self.length

    @functools.cached_property
    def q_sequence(self) -> np.ndarray:
        """The positions that the kernel hands to `mask_function` with its queries."""
        return balanced_order(self.length, self.parts)

    def mask_function(self, queries: Any, keys: Any) -> Any:
        """Whether queries see keys; the kernel calls it for the positions of a tile."""
        seen = queries >= keys
        return seen if self.window is None else seen & (queries - self.window < keys)

    def __getitem__(self, tile: Any) -> np.ndarray:
        """Returns each value that the tile has along its distances once: [1, distances].

        That tells as much as the tile whether anything or everything in it is seen.
        """
        queries, keys = tile
        run = self.q_sequence[queries]
        assert run[-1] - run[0] == len(run) - 1
        distances = np.arange(run[0] - (keys.stop - 1), run[-1] - keys.start + 1)
        return self.mask_function(distances, 0)[None]
