"""How one of their tensors holds one of our weights: named layouts, each read both ways.

A `Layout` writes both sides as dims of letters, theirs with the letters that they merge into one
dim in brackets: "(n h) d" against "d n h". Reading reshapes and permutes; writing is the same
line read backwards, so that no transform can differ from its inverse. Values are never changed.

Letters: d embed, n heads, h head dim, f mlp, v vocabulary, p the part of a fused tensor. Within
one layer: the stacked L axis is dealt with by the caller.
"""

from __future__ import annotations

import dataclasses
import functools
import math
import re
from collections.abc import Sequence

import numpy as np

Slices = tuple[slice, ...]


@dataclasses.dataclass(frozen=True)
class Layout:
    """`theirs` and `ours` in letters; `parts` names what a fused tensor's `p` counts.

    An empty pair means that both are the same.
    """

    theirs: str = ""
    ours: str = ""
    parts: tuple[str, ...] = ()

    @functools.cached_property
    def _groups(self) -> tuple[str, ...]:
        """Their dims, each a string of letters, outermost first."""
        return tuple(
            "".join(group.strip("()").split()) for group in re.findall(r"\([^)]*\)|\w", self.theirs)
        )

    @functools.cached_property
    def _letters(self) -> tuple[str, ...]:
        return tuple(self.ours.split())

    @property
    def split_axis(self) -> int:
        """Our dim that can be cut so that the cuts are whole rows of theirs."""
        if not self.theirs:
            return 0
        return self._letters.index(next(letter for letter in self._groups[0] if letter != "p"))

    def part_index(self, part: str | None) -> int | None:
        """Returns the place of a part; raises ValueError for one that the layout doesn't have."""
        if (part is None) != (not self.parts) or (part is not None and part not in self.parts):
            raise ValueError(f"layout {self.theirs!r}: part {part!r} is not one of {self.parts}.")
        return None if part is None else self.parts.index(part)

    def _sizes(self, shape: Sequence[int]) -> dict[str, int]:
        if len(shape) != len(self._letters):
            raise ValueError(f"layout {self.ours!r} can't hold a weight of shape {tuple(shape)}.")
        return dict(zip(self._letters, shape, strict=True)) | {"p": len(self.parts)}

    def their_shape(self, shape: Sequence[int]) -> tuple[int, ...]:
        """Returns their tensor's shape for one layer's weight of ours of this shape."""
        if not self.theirs:
            return tuple(shape)
        sizes = self._sizes(shape)
        return tuple(math.prod(sizes[letter] for letter in group) for group in self._groups)

    def box(self, shape: Sequence[int], index: Slices, part: int | None) -> Slices:
        """Returns the smallest box of their tensor that holds the box `index` of ours."""
        if not self.theirs:
            return tuple(slice(*i.indices(size)) for i, size in zip(index, shape, strict=True))
        sizes = self._sizes(shape)
        return tuple(
            slice(*_bounds(group, sizes, self._ranges(shape, index, part)))
            for group in self._groups
        )

    def read(
        self, box: np.ndarray, shape: Sequence[int], index: Slices, part: int | None
    ) -> np.ndarray:
        """Returns the box `index` of ours from what `box` gave of theirs; a view where it can."""
        if not self.theirs:
            return box
        return self._view(box, shape, index, part)

    def write(
        self,
        box: np.ndarray,
        values: np.ndarray,
        shape: Sequence[int],
        index: Slices,
        part: int | None,
    ) -> None:
        """Puts the box `index` of ours into `box`, an array of what `box` gives of theirs."""
        view = box if not self.theirs else self._view(box, shape, index, part)
        copy_into(view, values)

    def _ranges(
        self, shape: Sequence[int], index: Slices, part: int | None
    ) -> dict[str, tuple[int, int]]:
        ranges = {
            letter: slice_.indices(size)[:2]
            for letter, slice_, size in zip(self._letters, index, shape, strict=True)
        }
        return ranges if part is None else ranges | {"p": (part, part + 1)}

    def _view(
        self, box: np.ndarray, shape: Sequence[int], index: Slices, part: int | None
    ) -> np.ndarray:
        """Returns `box` seen as the box `index` of ours: no copy, so that it can be written."""
        sizes, ranges = self._sizes(shape), self._ranges(shape, index, part)
        grid: list[int] = []
        cuts: list[slice] = []
        for group in self._groups:
            whole = False
            for letter in group:
                first, last = ranges[letter]
                # What lies within a dim that the box holds whole is cut here, not when reading.
                grid.append(sizes[letter] if whole else last - first)
                cuts.append(slice(first, last) if whole else slice(None))
                whole = whole or last - first > 1
        order = "".join(self._groups)
        view = box.reshape(grid)[tuple(cuts)]
        # One part of a fused tensor: its dim goes.
        view = view[tuple(0 if letter == "p" else slice(None) for letter in order)]
        letters = [letter for letter in order if letter != "p"]
        return view.transpose([letters.index(letter) for letter in self._letters])


def _bounds(
    group: str, sizes: dict[str, int], ranges: dict[str, tuple[int, int]]
) -> tuple[int, int]:
    """Returns the first and last + 1 place of a merged dim that hold the letters' ranges."""
    start, unit = 0, math.prod(sizes[letter] for letter in group)
    for letter in group:
        unit //= sizes[letter]
        first, last = ranges[letter]
        start += first * unit
        if last - first != 1:
            return start, start + (last - first) * unit
    return start, start + 1


TRANSFORMS: dict[str, Layout] = {
    "copy": Layout(),
    # torch.nn.Linear keeps [out, in].
    "transpose": Layout("b a", "a b"),
    "heads": Layout("(n h) d", "d n h"),
    "heads_out": Layout("d (n h)", "n h d"),
    "heads_bias": Layout("(n h)", "n h"),
    # GPT's Conv1D keeps [in, out]; its c_attn has all of q, then all of k, then all of v.
    "conv1d_qkv": Layout("d (p n h)", "d n h", ("q", "k", "v")),
    "conv1d_qkv_bias": Layout("(p n h)", "n h", ("q", "k", "v")),
    "conv1d_out": Layout("(n h) d", "n h d"),
    # BLOOM's query_key_value has q, k, v of head 0, then of head 1 …
    "heads_qkv": Layout("(n p h) d", "d n h", ("q", "k", "v")),
    "heads_qkv_bias": Layout("(n p h)", "n h", ("q", "k", "v")),
}


# Rows and columns of a tile: half a MiB in, half a MiB out for 2 bytes a value.
_TILE = 512


def copy_into(target: np.ndarray, values: np.ndarray) -> None:
    """Copies values of the same shape and dtype, in tiles where dims are permuted.

    NumPy's own copy of a transposed matrix misses the cache at each element; in tiles, whose
    values are moved in fours or pairs, it is ten times as fast.
    """
    raw = np.dtype(f"u{target.dtype.itemsize}")
    target, values = _merged(target.view(raw), values.view(raw))
    if target.ndim < 2 or (inner := int(np.argmin(values.strides))) == target.ndim - 1:
        target[...] = values
        return
    last = target.ndim - 1
    others = [axis for axis in range(last) if axis != inner]
    target, values = (array.transpose(*others, inner, last) for array in (target, values))
    for place in np.ndindex(target.shape[:-2]):
        _transpose(target[place], values[place])


def _transpose(target: np.ndarray, values: np.ndarray) -> None:
    """Copies a matrix; rows of `target` lie together in memory, and columns of `values`."""
    widest = 8 if target.strides[1] == target.itemsize else target.itemsize
    for row in range(0, target.shape[0], _TILE):
        for column in range(0, target.shape[1], _TILE):
            place = slice(row, row + _TILE), slice(column, column + _TILE)
            to, rows = target[place], values[place].T
            while rows.itemsize < widest and rows.shape[0] % 2 == 0:
                rows = _paired(rows)
            if to.itemsize < rows.itemsize:
                to = to.view(rows.dtype)
            to[...] = rows.T


def _paired(rows: np.ndarray) -> np.ndarray:
    """Returns values of twice the width: of each row of even number and, beside it, the next."""
    both = np.empty((rows.shape[0] // 2, rows.shape[1], 2), rows.dtype)
    both[..., 0], both[..., 1] = rows[0::2], rows[1::2]
    return both.view(f"u{2 * rows.itemsize}")[..., 0]


def _merged(target: np.ndarray, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns both with dims in the target's order in memory, those that lie as one made one."""
    order = sorted(range(target.ndim), key=lambda axis: -target.strides[axis])
    order = [axis for axis in order if target.shape[axis] > 1]
    shape: list[int] = []
    strides: list[tuple[int, int]] = []
    for axis in order:
        size, ours, theirs = target.shape[axis], target.strides[axis], values.strides[axis]
        if strides and strides[-1] == (ours * size, theirs * size):
            shape[-1] *= size
            strides[-1] = ours, theirs
        else:
            shape.append(size)
            strides.append((ours, theirs))
    as_strided = np.lib.stride_tricks.as_strided
    return (
        as_strided(target, shape, [ours for ours, _ in strides]),
        as_strided(values, shape, [theirs for _, theirs in strides], writeable=False),
    )
