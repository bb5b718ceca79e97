"""How many rows of each task stand before a given row: exact shares in closed form.

Rows of a segment come in blocks. Before row x of a segment, tasks 1 … j have together had
F_j(x) = round(P_j x + carry_j) rows, P_j being the exact sum of their shares; a task's own count
is the difference of two neighbours. Two roundings are off by less than one row, so each count
is within one row of its share, for every x, without drift.

A count must also never shrink from one boundary to the next. Task j gains more than p_j B - 2 rows
in a block of B, so none shrinks where p_j B >= 1. Tasks too rare for that are put first and
counted together (the first sum is monotone whatever its share) at the boundaries of blocks, and
each for itself at those of superblocks, which are long enough for the rarest.
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
    positive and sum to 1; the first `rare` tasks of them have shares below one row a block.
    `carry` are the roundings of the cumulative shares left over from the segments before that
    have the same tasks. `block` and `superblock` are rows; the last of each, in a segment that
    ends, takes the rest and is longer (up to twice), or is the whole segment.
    """

    start: int
    length: int | None
    weights: dict[str, Fraction]
    rare: int
    carry: tuple[Fraction, ...]
    block: int
    superblock: int

    @classmethod
    def of(
        cls,
        start: int,
        length: int | None,
        weights: Mapping[str, Fraction],
        block: int,
        carry: tuple[Fraction, ...] | None = None,
    ) -> Segment:
        """Normalises positive weights and sizes the superblocks.

        A carry that would make some task's count negative in a short segment is dropped.
        """
        total = sum(weights.values())
        shares = {task: weight / total for task, weight in weights.items()}
        # Rare tasks first; the order only depends on weights and names.
        order = sorted(shares, key=lambda task: (shares[task] * block >= 1, task))
        rare = sum(shares[task] * block < 1 for task in order)
        span = math.ceil(1 / min(shares.values()))
        segment = cls(
            start=start,
            length=length,
            weights={task: shares[task] for task in order},
            rare=rare,
            carry=carry or (Fraction(0),) * len(order),
            block=block,
            superblock=block * math.ceil(span / block),
        )
        short = length is not None and length < segment.superblock
        if carry and short and min(segment.counts(length or 0)) < 0:
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

        Holds for all tasks at superblock boundaries and at the segment's end, for those that
        aren't rare at block boundaries too.
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
        before. Blocks, and the rare tasks' rows in a superblock, are shuffled by keys made from
        `seed` and the place in the stream.
        """
        # Column 0 stands for all rare tasks together.
        columns = range(max(self.rare, 1) - 1, len(self.weights))
        column, count = self._place(rows, rows, self.block, columns, seed)
        task = column + columns.start
        if self.rare > 1:
            pool = np.flatnonzero(column == 0)
            task[pool], count[pool] = self._place(
                rows[pool], count[pool], self.superblock, range(self.rare), seed
            )
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
        self, rows: np.ndarray, items: np.ndarray, block: int, columns: range, seed: int
    ) -> tuple[np.ndarray, np.ndarray]:
        """Shuffles items inside blocks and hands them to columns of `sums`.

        `items` count what is dealt from the segment's start: the rows themselves, or the rare
        tasks' rows. Returns (column, how many the column had before) for each.
        """
        low, high = self.boundaries(rows, block)
        edges, where = np.unique(np.stack([low, high]), return_inverse=True)
        where = where.reshape(2, -1)
        sums = [self.sums(edge) for edge in edges.tolist()]
        table = np.array([[s[j] for j in columns] for s in sums], np.int64).reshape(
            len(edges), len(columns)
        )
        first, last = table[where[0]], table[where[1]]
        begin = first[:, -1]
        kind = "block" if items is rows else "rare"
        keys = permutation.subkey(permutation.key_of(seed, kind), self.start + low)
        spot = permutation.permute(items - begin, last[:, -1] - begin, keys)
        gains = last - first
        column = np.sum(spot[:, None] >= gains, axis=1)
        pick = np.arange(len(rows)), column
        before = np.where(column > 0, gains[pick[0], column - 1], 0)
        had = first[pick] - np.where(column > 0, first[pick[0], column - 1], 0)
        return column, had + spot - before

    def tally(self, row: int, seed: int) -> list[int]:
        """Returns how many rows each task has among the first `row`, at any row."""
        low = int(self.boundaries(np.array([row]), self.block)[0][0])
        counts = self.counts(low)
        if self.rare > 1:
            begin = int(self.boundaries(np.array([low]), self.superblock)[0][0])
            counts[: self.rare] = self.counts(begin)[: self.rare]
            pool = np.arange(self.sums(begin)[self.rare - 1], self.sums(low)[self.rare - 1])
            at = np.full(len(pool), low)
            task, _ = self._place(at, pool, self.superblock, range(self.rare), seed)
            _add(counts, task)
        task, _ = self.deal(np.arange(low, row), seed)
        _add(counts, task)
        return counts


def _add(counts: list[int], tasks: np.ndarray) -> None:
    for task, count in enumerate(np.bincount(tasks, minlength=len(counts)).tolist()):
        counts[task] += count
