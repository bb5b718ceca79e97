"""Which row of which task is row i of a run: a pure function of the mixture, its seed and i."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

from twjax.config.data import Mixture
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


class MixtureIndex:
    """The endless sequence of rows that a mixture describes, by position.

    `sizes` are rows of each task. Step s reads rows s * batch_size … (s + 1) * batch_size - 1, on
    however many hosts. With `steps` given, a mixture whose capped tasks can't fill that many
    raises at once.

    Shares: at the end of every block and of every stage, each task's rows since the start of the
    run are within one row of its exact share. A block has `Mixture.block_rows` rows, doubled until
    it holds a row of the stage's rarest task; the last of a stage takes the rest and may be up to
    twice as long. From the row on at which a task has used up its `max_epochs`, its share goes to
    the others of the stage in proportion. Inside a block, parts of `block_rows` rows or a little
    more are within four rows.

    A task's rows are read in the order of a permutation a time, one for each epoch, and go on
    where the task stopped, whatever stages lie between.
    """

    def __init__(
        self,
        mixture: Mixture,
        sizes: Mapping[str, int],
        *,
        batch_size: int,
        steps: int | None = None,
    ):
        self.tasks = mixture.tasks
        self.batch_size = batch_size
        self.mixture = mixture
        for task in self.tasks:
            if sizes.get(task, 0) < 1:
                raise ValueError(
                    f"Mixture.stages: task {task} has a positive weight but no rows; cache it "
                    "with more text or drop it."
                )
        self.sizes = {task: sizes[task] for task in self.tasks}
        # Rows that a task with `max_epochs` may be read, over all epochs.
        self.caps = self._capped_rows()
        self.segments, self._end = self._plan()
        self._starts = np.array([segment.stretch.start for segment in self.segments], np.int64)
        self._sizes = np.array([self.sizes[task] for task in self.tasks], np.int64)
        self._keys = np.array([permutation.key_of(mixture.seed, "task", t) for t in self.tasks])
        if steps is not None and self._end is not None and steps * batch_size > self._end:
            raise ValueError(self._spent(f"the run needs {steps} steps"))

    def _capped_rows(self) -> dict[str, int]:
        caps = self.mixture.max_epochs
        by_task = caps if isinstance(caps, dict) else dict.fromkeys(self.tasks, caps)
        rows = {}
        for task, size in self.sizes.items():
            cap = by_task.get(task)
            if cap is not None:
                rows[task] = math.floor(shares.exact(cap) * size)
                if rows[task] < 1:
                    raise ValueError(
                        f"Mixture.max_epochs of {task} ({cap}) leaves none of its {size} rows."
                    )
        unknown = sorted(set(by_task) - set(self.tasks))
        if unknown:
            raise ValueError(
                f"Mixture.max_epochs names {', '.join(unknown)}, which no stage reads; the tasks "
                f"are {', '.join(self.tasks)}."
            )
        return rows

    def _plan(self) -> tuple[list[shares.Segment], int | None]:
        """Returns the segments and the row at which tasks are used up, if any."""
        stages = [
            (start * self.batch_size, {t: shares.exact(w) for t, w in weights.items() if w > 0})
            for start, weights in self.mixture.stages
        ]
        cuts, end = stretches.plan(stages, self.caps)
        for cut in cuts:
            task = min(cut.shares, key=lambda task: cut.shares[task])
            if cut.shares[task] < stretches.MIN_SHARE:
                share, step = float(cut.shares[task]), cut.start // self.batch_size
                raise ValueError(
                    f"Mixture.stages: task {task} has a share of {share:.1e} from step {step} on, "
                    "less than a row in 10^8; raise its weight or leave it out."
                )
        part = self.mixture.block_rows
        blocks = [shares.block_length(cut, part) for cut in cuts]
        counts = stretches.settle(cuts, blocks)
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

    def _spent(self, need: str) -> str:
        caps = self.mixture.max_epochs
        rows = ", ".join(
            f"{task} ({self.sizes[task]} rows, at most "
            f"{caps.get(task, 'any') if isinstance(caps, dict) else caps} epochs)"
            for task in self.tasks
        )
        end = self._end or 0
        step = end // self.batch_size
        stage = max(start for start, _ in self.mixture.stages if start * self.batch_size <= end)
        return (
            f"Mixture.max_epochs: no task of the stage from step {stage} on has rows left at step "
            f"{step}, and {need}: {rows}; raise max_epochs, add tasks or train fewer steps."
        )

    def lookup(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Returns (task, row) int64[n] of positions `rows` of the stream, in any order.

        `task` indexes `tasks`; `row` is the number of the task's cached row.
        """
        rows = np.asarray(rows, np.int64)
        if rows.size and (rows.min() < 0 or (self._end is not None and rows.max() >= self._end)):
            raise IndexError(self._spent(f"row {rows.max()} was asked for"))
        task, count = np.empty_like(rows), np.empty_like(rows)
        where = np.searchsorted(self._starts, rows, side="right") - 1
        for number in np.unique(where).tolist():
            segment, here = self.segments[number], np.flatnonzero(where == number)
            local, given = segment.deal(rows[here] - segment.stretch.start, self.mixture.seed)
            task[here] = np.array([self.tasks.index(name) for name in segment.tasks])[local]
            count[here] = given
        epoch, index = np.divmod(count, self._sizes[task])
        keys = permutation.subkey(self._keys[task], epoch)
        return task, permutation.permute(index, self._sizes[task], keys)

    def counts(self, rows: int) -> dict[str, int]:
        """Returns how many of the first `rows` positions each task has."""
        if rows < 0 or (self._end is not None and rows > self._end):
            raise IndexError(self._spent(f"row {rows} was asked for"))
        number = int(np.searchsorted(self._starts, rows, side="right")) - 1
        segment = self.segments[number]
        tally = segment.tally(rows - segment.stretch.start, self.mixture.seed)
        return self._before[number] | dict(zip(segment.tasks, tally, strict=True))
