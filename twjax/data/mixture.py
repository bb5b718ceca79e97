"""Which row of which task is row i of a mixture: a pure function of its shares, its seed and i."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from fractions import Fraction

import numpy as np

from twjax.data import permutation, shares, stretches

# Counts up when another order of rows follows from the same mixture; runs keep it in their ledger.
ORDER = 2


def rates(
    sizes: Mapping[str, int], temperature: float = 1.0, maximum: int | None = None
) -> dict[str, float]:
    """Returns weights min(size, maximum) ** (1 / temperature), the order seqio uses.

    As `seqio.mixing_rate_num_examples`; T5 (Raffel et al. 2020, section 3.5.2) calls them
    examples-proportional and temperature-scaled mixing.
    """
    if temperature <= 0:
        raise ValueError(f"rates: temperature ({temperature}) must be positive.")
    clipped = {t: size if maximum is None else min(size, maximum) for t, size in sizes.items()}
    return {task: float(size) ** (1 / temperature) for task, size in clipped.items()}


@dataclasses.dataclass(frozen=True)
class Read:
    """What of a task has been read: `count` rows of its order, all before `count` + the number of
    `pending` ones, but for those.
    """

    count: int = 0
    pending: tuple[int, ...] = ()

    def places(self, more: np.ndarray) -> np.ndarray:
        """Returns the places int64[n] in the task's order of its next rows, counted from 0 on."""
        fresh = self.count + more
        if not self.pending:
            return fresh
        waiting = np.array(self.pending, np.int64)
        return np.where(more < len(waiting), waiting[np.minimum(more, len(waiting) - 1)], fresh)


class MixtureIndex:
    """The endless sequence of rows that stages of shares describe, by position.

    `stages` are (first row, {task: relative weight}), the first from row 0 on; `sizes` are rows of
    each task, `caps` the most rows that a task may be read, over all epochs. `read` is what was
    read of each task before row 0: it goes on from there.

    Shares: at the end of every block and of every stage, each task's rows since row 0 are within
    one row of its exact share. A block has `block_rows` rows, doubled until it holds a row of the
    stage's rarest task; the last of a stage takes the rest and may be up to twice as long. From the
    row on at which a task has used up its cap, its share goes to the others of the stage in
    proportion. Inside a block, parts of `block_rows` rows or a little more are within four rows.

    A task's rows are read in the order of a permutation a time, one for each epoch, and go on
    where the task stopped, whatever stages lie between.
    """

    def __init__(
        self,
        stages: Sequence[tuple[int, Mapping[str, float | Fraction]]],
        sizes: Mapping[str, int],
        *,
        seed: int = 0,
        block_rows: int = 256,
        caps: Mapping[str, int] | None = None,
        read: Mapping[str, Read] | None = None,
    ):
        self.stages = [
            (start, {task: shares.exact(w) for task, w in weights.items() if w > 0})
            for start, weights in stages
        ]
        self.tasks = tuple(sorted({task for _, weights in self.stages for task in weights}))
        for task in self.tasks:
            if sizes.get(task, 0) < 1:
                raise ValueError(
                    f"Mixture.stages: task {task} has a positive weight but no rows; cache it "
                    "with more text or drop it."
                )
        self.sizes = {task: sizes[task] for task in self.tasks}
        self.seed, self.block_rows = seed, block_rows
        self.read = {task: (read or {}).get(task, Read()) for task in self.tasks}
        self.caps = {task: rows for task, rows in (caps or {}).items() if task in self.sizes}
        self.segments, self.end = self._plan()
        self._starts = np.array([segment.stretch.start for segment in self.segments], np.int64)
        self._sizes = np.array([self.sizes[task] for task in self.tasks], np.int64)
        self._keys = np.array([permutation.key_of(seed, "task", t) for t in self.tasks])

    def _plan(self) -> tuple[list[shares.Segment], int | None]:
        """Returns the segments and the row at which tasks are used up, if any."""
        left = {task: max(rows - self.read[task].count, 0) for task, rows in self.caps.items()}
        cuts, end = stretches.plan(self.stages, left)
        for cut in cuts:
            task = min(cut.shares, key=lambda task: cut.shares[task])
            if cut.shares[task] < stretches.MIN_SHARE:
                raise ValueError(
                    f"Mixture.stages: task {task} has a share of {float(cut.shares[task]):.1e}, "
                    "less than a row in 10^8; raise its weight or leave it out."
                )
        part = self.block_rows
        blocks = [shares.block_length(cut, part) for cut in cuts]
        # Without a cut all tasks are spent from the start.
        counts = stretches.settle(cuts, blocks) if cuts else []
        segments = []
        for number, (cut, block) in enumerate(zip(cuts, blocks, strict=True)):
            tasks = tuple(sorted(cut.shares))
            last = None if cut.length is None else counts[number + 1]
            segment = shares.Segment(
                stretch=cut,
                tasks=tasks,
                first=tuple(counts[number][task] for task in tasks),
                last=None if last is None else tuple(last[task] for task in tasks),
                block=block,
                part=part,
            )
            segments.append(segment)
        self._before = counts
        return segments, end

    def lookup(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Returns (task, row) int64[n] of positions `rows` of the stream, in any order.

        `task` indexes `tasks`; `row` is the number of the task's cached row.
        """
        rows = np.asarray(rows, np.int64)
        if rows.size and (rows.min() < 0 or (self.end is not None and rows.max() >= self.end)):
            raise IndexError(f"row {rows.max()} was asked for; all tasks are spent at {self.end}")
        task, count = np.empty_like(rows), np.empty_like(rows)
        where = np.searchsorted(self._starts, rows, side="right") - 1
        for number in np.unique(where).tolist():
            segment, here = self.segments[number], np.flatnonzero(where == number)
            local, given = segment.deal(rows[here] - segment.stretch.start, self.seed)
            task[here] = np.array([self.tasks.index(name) for name in segment.tasks])[local]
            count[here] = given
        for number, name in enumerate(self.tasks):
            here = task == number
            count[here] = self.read[name].places(count[here])
        epoch, index = np.divmod(count, self._sizes[task])
        keys = permutation.subkey(self._keys[task], epoch)
        return task, permutation.permute(index, self._sizes[task], keys)

    def counts(self, rows: int) -> dict[str, int]:
        """Returns how many of the first `rows` positions each task has."""
        if rows < 0 or (self.end is not None and rows > self.end):
            raise IndexError(f"row {rows} was asked for; all tasks are spent at {self.end}")
        if not rows:
            return dict.fromkeys(self.tasks, 0)
        number = int(np.searchsorted(self._starts, rows, side="right")) - 1
        segment = self.segments[number]
        tally = segment.tally(rows - segment.stretch.start, self.seed)
        return self._before[number] | dict(zip(segment.tasks, tally, strict=True))

    def read_until(self, rows: int) -> dict[str, Read]:
        """Returns what has been read of each task after `rows` positions.

        Rows are shuffled in parts: in the middle of one, some are read before others that come
        first in the order of their task.
        """
        counts = self.counts(rows)
        later: dict[str, list[int]] = {task: [] for task in self.tasks}
        number = int(np.searchsorted(self._starts, rows, side="right")) - 1
        if rows and self.end != rows:
            segment = self.segments[number]
            first = segment.stretch.start
            low, length, *_ = segment.parts(np.array([rows - first]), self.seed)
            rest = np.arange(rows - first, low[0] + length[0])
            if low[0] < rows - first:
                task, given = segment.deal(rest, self.seed)
                for place, name in enumerate(segment.tasks):
                    later[name] = given[task == place].tolist()
        found = {}
        for name, read in self.read.items():
            here = sorted(read.places(np.array(later[name], np.int64)).tolist())
            reached = counts[name] + len(here)
            found[name] = Read(read.count + counts[name], (*here, *read.pending[reached:]))
        return found
