"""Which task reads a given row of a stretch of constant shares, without looking at other rows.

The stretch is cut into blocks that are long enough for a row of its rarest task. At the end of a
block, tasks 1 … j have together had F_j(x) = floor(P_j(x) + u) rows, P_j(x) being their exact sum
at row x; a task's own count is the difference of two neighbours. Roundings of two sums differ by
less than one row, so each count is within one row of its share, without drift. A block holds at
least one row of each task, so counts less than a row off never shrink from block to block.

Inside a block the counts are whole numbers, which are halved until the parts are short: systematic
sampling with a random start (Madow 1949) gives each half its part of every task. The last parts
are shuffled.
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
import math
from fractions import Fraction

import numpy as np

from twjax.data import permutation
from twjax.data.stretches import Stretch


def exact(number: float | Fraction) -> Fraction:
    """Returns the decimal that a float was written as: 0.7 is 7/10."""
    return number if isinstance(number, Fraction) else Fraction(repr(number))


def block_length(stretch: Stretch, shortest: int) -> int:
    """Returns `shortest`, doubled until a block holds a row of each task."""
    block = shortest
    while min(stretch.shares.values()) * block < 1:
        block *= 2
    return block


@dataclasses.dataclass(frozen=True, kw_only=True)
class Segment:
    """A stretch whose counts at both ends are settled.

    `tasks` are those with a share; `first` and `last` (None without an end) are the rows each has
    had at the ends, since the stream began. A block has `block` rows; the last one takes the rest
    and is up to twice as long, or the whole segment. Parts of a block have at least `part` rows and
    less than twice as many.
    """

    stretch: Stretch
    tasks: tuple[str, ...]
    first: tuple[int, ...]
    last: tuple[int, ...] | None
    block: int
    part: int

    @functools.cached_property
    def _lines(self) -> tuple[int, list[tuple[int, int]]]:
        """(scale, [(slope, offset)]): F_j(x) = (slope x + offset) // scale, without rounding."""
        had = [self.stretch.had[task] for task in self.tasks]
        # What tasks that pause hold beyond their shares is missing here: -1 < owed < 1. The same u
        # for all sums but the last, which is whole, keeps every task within one row.
        owed = sum(self.first) - sum(had, Fraction(0))
        start = (1 + owed) / 2
        slopes = list(itertools.accumulate(self.stretch.shares[task] for task in self.tasks))
        offsets = [total + start for total in itertools.accumulate(had)]
        offsets[-1] = Fraction(sum(self.first))
        scale = math.lcm(*(number.denominator for number in (*slopes, *offsets)))
        pairs = zip(slopes, offsets, strict=True)
        return scale, [(int(slope * scale), int(offset * scale)) for slope, offset in pairs]

    def counts(self, row: int) -> list[int]:
        """Returns how many rows each task has had at `row` of the segment, the end of a block."""
        if row == 0:
            return list(self.first)
        if row == self.stretch.length and self.last is not None:
            return list(self.last)
        scale, lines = self._lines
        sums = [(slope * row + offset) // scale for slope, offset in lines]
        return [b - a for a, b in zip([0, *sums], sums, strict=False)]

    def _blocks(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Returns the first row of the block around each row, and the first after it."""
        low = rows // self.block
        if self.stretch.length is None:
            return low * self.block, (low + 1) * self.block
        last = max(self.stretch.length // self.block - 1, 0)
        low = np.minimum(low, last)
        high = np.where(low == last, self.stretch.length, (low + 1) * self.block)
        return low * self.block, high

    def parts(
        self, rows: np.ndarray, seed: int
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Returns for each row: the first row of its part, the part's length, and by task how many
        rows had been read before the part and how many it has, int64[n, tasks].
        """
        low, high = self._blocks(rows)
        edges, where = np.unique(np.stack([low, high]), return_inverse=True)
        table = np.array([self.counts(edge) for edge in edges.tolist()], np.int64)
        begin, end = where.reshape(2, -1)
        had, gains, length = table[begin], table[end] - table[begin], high - low
        halving = permutation.key_of(seed, "half")
        depth = 0
        while (long := np.flatnonzero(length >= 2 * self.part)).size:
            rest = length[long]
            half = rest // 2
            keys = permutation.subkey(halving, depth)
            keys = permutation.subkey(keys, self.stretch.start + low[long])
            offset = (keys % rest.astype(np.uint64)).astype(np.int64)
            sums = np.cumsum(gains[long], axis=1) * half[:, None] + offset[:, None]
            left = np.diff(sums // rest[:, None], axis=1, prepend=0)
            right = rows[long] >= low[long] + half
            had[long] += np.where(right[:, None], left, 0)
            gains[long] = np.where(right[:, None], gains[long] - left, left)
            low[long] += np.where(right, half, 0)
            length[long] = np.where(right, rest - half, half)
            depth += 1
        return low, length, had, gains

    def deal(self, rows: np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray]:
        """Returns (task, count) int64 of rows of the segment, counted from its start.

        `task` indexes `tasks`; `count` is how many rows of the task the stream gave out before.
        Parts are halved and shuffled by keys made from `seed` and the place in the stream.
        """
        low, length, had, gains = self.parts(rows, seed)
        keys = permutation.subkey(permutation.key_of(seed, "block"), self.stretch.start + low)
        spot = permutation.permute(rows - low, length, keys)
        sums = np.cumsum(gains, axis=1)
        task = np.sum(spot[:, None] >= sums, axis=1)
        pick = np.arange(len(rows)), task
        return task, had[pick] + spot - (sums[pick] - gains[pick])

    def tally(self, row: int, seed: int) -> list[int]:
        """Returns how many rows each task has had before `row` of the segment, at any row."""
        if row == self.stretch.length:
            return self.counts(row)
        low, _, had, _ = self.parts(np.array([row]), seed)
        if low[0] == row:
            return had[0].tolist()
        task, _ = self.deal(np.arange(low[0], row), seed)
        return (had[0] + np.bincount(task, minlength=len(self.tasks))).tolist()
