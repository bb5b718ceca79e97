"""How many rows of each task stand before a given row: exact shares in closed form.

Rows of a segment come in blocks. Before row x of a segment, tasks 1 … j have together had
F_j(x) = round(P_j x + carry_j) rows, P_j being the exact sum of their shares; a task's own count
is the difference of two neighbours. Two roundings are off by less than one row, so each count
is within one row of its share, for every x, without drift.

A count must also never shrink from one boundary to the next. Task j gains more than p_j B - 2 rows
in a block of B, so none shrinks where p_j B >= 1. Tasks too rare for that are put first and
counted together (the first sum is monotone whatever its share). Within blocks of twice the length
their common rows are dealt in the same way, and so on: each task has its share at the end of every
block that is long enough for one row of it.
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
import math
from collections.abc import Mapping
from fractions import Fraction

import numpy as np

from twjax.data import permutation


def exact(number: float) -> Fraction:
    """Returns the decimal that a float was written as: 0.7 is 7/10."""
    return Fraction(repr(number))


@dataclasses.dataclass(frozen=True, kw_only=True)
class Segment:
    """A stretch of rows with constant weights.

    `start` is its first row of the stream; `length` None means that it never ends. `weights` are
    positive and sum to 1, the rarest tasks first. `carry` are the roundings of the cumulative
    shares left over from the segments before that have the same tasks. `levels` are (rows of a
    block, number of tasks that are too rare for it): blocks double until they hold a row of each
    task, or until one task is left. The last block of a level, in a segment that ends, takes the
    rest and is longer (up to twice), or is the whole segment.
    """

    start: int
    length: int | None
    weights: dict[str, Fraction]
    carry: tuple[Fraction, ...]
    levels: tuple[tuple[int, int], ...]

    @classmethod
    def of(
        cls,
        start: int,
        length: int | None,
        weights: Mapping[str, Fraction],
        block: int,
        carry: tuple[Fraction, ...] | None = None,
    ) -> Segment:
        """Normalises positive weights and sizes the blocks, of which `block` is the shortest.

        A carry that would make some task's count negative in a short segment is dropped.
        """
        total = sum(weights.values())
        shares = {task: weight / total for task, weight in weights.items()}
        # How often the block must be doubled to hold a row of the task.
        doublings = {t: (math.ceil(1 / (s * block)) - 1).bit_length() for t, s in shares.items()}
        order = sorted(shares, key=lambda task: (-doublings[task], task))
        levels = []
        for level in range(max(doublings.values()) + 1):
            rare = sum(doublings[task] > level for task in order)
            levels.append((block << level, rare))
            if rare <= 1:
                break
        segment = cls(
            start=start,
            length=length,
            weights={task: shares[task] for task in order},
            carry=carry or (Fraction(0),) * len(order),
            levels=tuple(levels),
        )
        if carry and length is not None and min(segment.counts(length)) < 0:
            return cls.of(start, length, weights, block)
        return segment

    @functools.cached_property
    def _lines(self) -> tuple[int, list[tuple[int, int]]]:
        """(scale, [(slope, offset)]): F_j(x) = (slope x + offset) // scale, without rounding."""
        sums = list(itertools.accumulate(self.weights.values()))
        base = math.lcm(*(f.denominator for f in (*sums, *self.carry)))
        pairs = zip(sums, self.carry, strict=True)
        return 2 * base, [(int(2 * base * s), int(2 * base * c) + base) for s, c in pairs]

    def sums(self, row: int) -> list[int]:
        """Returns F_j(row) for each task j."""
        scale, lines = self._lines
        return [(slope * row + offset) // scale for slope, offset in lines]

    def counts(self, row: int) -> list[int]:
        """Returns how many rows each task has among the first `row` of the segment.

        Holds for a task at the boundaries of blocks with a row of it, and at the segment's end.
        """
        sums = self.sums(row)
        return [b - a for a, b in zip([0, *sums], sums, strict=False)]

    def carry_out(self) -> tuple[Fraction, ...]:
        """Returns the rounding that is left at the segment's end."""
        if self.length is None:
            raise ValueError("A segment without end leaves nothing over.")
        scale, lines = self._lines
        exact_sums = [Fraction(slope * self.length + offset, scale) for slope, offset in lines]
        sums = self.sums(self.length)
        return tuple(e - f - Fraction(1, 2) for e, f in zip(exact_sums, sums, strict=True))

    def rows_within(self, left: Mapping[str, int]) -> int | None:
        """Returns the most rows after which no task has had more than it has `left`.

        The segment's length, if that is enough; otherwise one task is then used up exactly: from
        one row to the next a count grows by at most one. Every value in `left` is positive.
        """

        def fits(row: int) -> bool:
            counts = zip(self.weights, self.counts(row), strict=True)
            return all(count <= left[task] for task, count in counts if task in left)

        shares = [(share, left[task]) for task, share in self.weights.items() if task in left]
        if self.length is not None and fits(self.length):
            return self.length
        if not shares:
            return None
        good, bad = 0, self.length
        if bad is None:
            bad = min(math.ceil((rows + 2) / share) for share, rows in shares)
        while bad - good > 1:
            middle = (good + bad) // 2
            good, bad = (middle, bad) if fits(middle) else (good, middle)
        return good

    def deal(self, rows: np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray]:
        """Returns (task, count) int64 of rows of the segment, counted from its start.

        `task` indexes `weights`; `count` is how many rows of the task the segment gave out
        before. Blocks, and the rare tasks' rows in longer ones, are shuffled by keys made from
        `seed`, the level and the place in the stream.
        """
        task, count = np.zeros_like(rows), rows.copy()
        todo, stop = np.arange(len(rows)), len(self.weights)
        for level, (_, rare) in enumerate(self.levels):
            # The first column stands for all tasks that are too rare for this level's blocks.
            columns = range(max(rare, 1) - 1, stop)
            column, had = self._place(rows[todo], count[todo], level, columns, seed)
            task[todo], count[todo] = column + columns.start, had
            todo, stop = todo[column == 0], columns.start + 1
        return task, count

    def boundaries(self, rows: np.ndarray, block: int) -> tuple[np.ndarray, np.ndarray]:
        """Returns the first row of the block around each row, and the first after it."""
        low = rows // block
        if self.length is None:
            return low * block, (low + 1) * block
        last = max(self.length // block - 1, 0)
        low = np.minimum(low, last)
        return low * block, np.where(low == last, self.length, (low + 1) * block)

    def _place(
        self, rows: np.ndarray, items: np.ndarray, level: int, columns: range, seed: int
    ) -> tuple[np.ndarray, np.ndarray]:
        """Shuffles items inside a level's blocks and hands them to columns of `sums`.

        `items` count what is dealt from the segment's start: the rows themselves, or the rare
        tasks' rows. Returns (column, how many the column had before) for each.
        """
        low, high = self.boundaries(rows, self.levels[level][0])
        edges, where = np.unique(np.stack([low, high]), return_inverse=True)
        where = where.reshape(2, -1)
        sums = [self.sums(edge) for edge in edges.tolist()]
        table = np.array([[s[j] for j in columns] for s in sums], np.int64).reshape(
            len(edges), len(columns)
        )
        first, last = table[where[0]], table[where[1]]
        begin = first[:, -1]
        kind = ("rare", level) if level else ("block",)
        keys = permutation.subkey(permutation.key_of(seed, *kind), self.start + low)
        spot = permutation.permute(items - begin, last[:, -1] - begin, keys)
        gains = last - first
        column = np.sum(spot[:, None] >= gains, axis=1)
        pick = np.arange(len(rows)), column
        before = np.where(column > 0, gains[pick[0], column - 1], 0)
        had = first[pick] - np.where(column > 0, first[pick[0], column - 1], 0)
        return column, had + spot - before

    def tally(self, row: int, seed: int) -> list[int]:
        """Returns how many rows each task has among the first `row`, at any row."""
        counts = [0] * len(self.weights)
        low, stop = row, len(counts)
        items = np.zeros(0, np.int64)
        for level, (block, rare) in enumerate(self.levels):
            last = low
            low = int(self.boundaries(np.array([low]), block)[0][0])
            # The whole shorter blocks within this one, then what came of the one cut by `row`.
            sums = self.sums(low)
            whole = np.arange(sums[stop - 1], self.sums(last)[stop - 1])
            items = np.concatenate([whole, items])
            columns = range(max(rare, 1) - 1, stop)
            column, had = self._place(np.full_like(items, low), items, level, columns, seed)
            placed = np.bincount(column, minlength=len(columns)).tolist()
            for task, more in zip(columns, placed, strict=True):
                counts[task] = sums[task] - (sums[task - 1] if task else 0) + more
            items, stop = had[column == 0], columns.start + 1
        return counts
