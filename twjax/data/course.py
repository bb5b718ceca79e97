"""What a whole run reads: stages, batch sizes, lengths of rows, and changes that came on the way.

A course is cut wherever something changes that was not known from the start of a part: another
configuration of a run that went on, another share of replay, rows of another length. Up to a cut,
rows are those that were read before anybody knew of it; from there shares count anew, and tasks go
on where they stopped.
"""

from __future__ import annotations

import bisect
import dataclasses
import math
from collections.abc import Mapping, Sequence
from fractions import Fraction
from typing import Any

import numpy as np

from twjax.config.data import SeqLen
from twjax.config.reading import Reading
from twjax.data import shares
from twjax.data.mixture import MixtureIndex, Read

# Of each task, by the length of its rows.
Reads = dict[SeqLen, dict[str, Read]]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Turn:
    """From `step` on, these tasks have these shares, and the others of a stage what is left."""

    step: int
    shares: Mapping[str, float]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Jump:
    """From `step` on, what is read follows on `read`: what the steps up to `until` had read."""

    step: int
    until: int
    read: Reads

    def record(self) -> dict[str, Any]:
        """Returns what JSON can hold, the step apart."""
        lengths = [
            [length, {task: [of.count, of.pending] for task, of in tasks.items()}]
            for length, tasks in self.read.items()
        ]
        return {"until": self.until, "read": lengths}

    @classmethod
    def parse(cls, step: int, record: Mapping[str, Any]) -> Jump:
        """Reads what `record` wrote."""
        read: Reads = {
            tuple(length) if isinstance(length, list) else length: {
                task: Read(count, tuple(pending)) for task, (count, pending) in tasks.items()
            }
            for length, tasks in record["read"]
        }
        return cls(step=step, until=record["until"], read=read)


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Part:
    """Steps from `start` on that one index orders; `first` is the row of its own at `start`.

    `read` is what had been read of rows of each length when the part began.
    """

    start: int
    reading: Reading
    length: SeqLen
    index: MixtureIndex
    read: Reads

    def rows(self, step: int) -> int:
        """Returns the rows between the start of the part and a step."""
        return self.reading.rows_before(step) - self.reading.rows_before(self.start)

    def read_until(self, step: int) -> Reads:
        now = self.index.read_until(self.rows(step))
        return self.read | {self.length: self.read.get(self.length, {}) | now}


class Course:
    """The rows of every step of a run.

    `readings` are (first step, what is read from there on), the first from step 0; `turns` change
    shares on the way; `jumps` leave rows out, which count as read. `sizes` are the rows of each
    task by length. With `steps` given, a course whose capped tasks can't fill that many raises at
    once.
    """

    def __init__(
        self,
        readings: Sequence[tuple[int, Reading]],
        sizes: Mapping[SeqLen, Mapping[str, int]],
        *,
        turns: Sequence[Turn] = (),
        jumps: Sequence[Jump] = (),
        steps: int | None = None,
    ):
        self._readings, self._sizes = list(readings), sizes
        self._turns: list[Turn] = []
        self._jumped = {jump.step: jump.read for jump in jumps}
        self._steps = steps
        cuts = {start for start, _ in readings}
        for number, (start, reading) in enumerate(readings):
            end = readings[number + 1][0] if number + 1 < len(readings) else math.inf
            cuts |= {first for first, _ in reading.lengths if start < first < end}
        self._parts: list[_Part] = []
        cuts |= self._jumped.keys()
        events: list[tuple[int, Turn | None]] = [(cut, None) for cut in cuts]
        events += [(turn.step, turn) for turn in turns]
        for cut, turn in sorted(events, key=lambda pair: pair[0]):
            if turn is not None:
                self._turns.append(turn)
            self._cut(cut)
        self._check(self._parts[-1], steps)

    def turned(self, turn: Turn) -> Course:
        """Returns the course that a turn after all others leads to."""
        other = object.__new__(Course)
        other.__dict__ = self.__dict__ | {"_turns": [*self._turns, turn], "_parts": self._parts[:]}
        later = [part.start for part in self._parts if part.start > turn.step]
        other._cut(turn.step)
        for start in later:
            other._cut(start)
        other._check(other._parts[-1], self._steps)
        return other

    @property
    def tasks(self) -> tuple[str, ...]:
        """All tasks that are read, sorted; `lookup` numbers them."""
        return tuple(sorted({task for part in self._parts for task in part.index.tasks}))

    def shape(self, step: int) -> tuple[SeqLen, int, int | None]:
        """Returns the length and number of a step's rows, and the step at which either changes."""
        part = self._part(step)
        after = self._parts.index(part) + 1
        ends = [first for first, _ in part.reading.batches if first > step]
        ends += [other.start for other in self._parts[after : after + 1]]
        return part.length, part.reading.rows(step), min(ends, default=None)

    def lookup(self, step: int, places: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Returns (task, row) int64[n] of places of a step's batch; `task` indexes `tasks`."""
        part = self._part(step)
        task, row = part.index.lookup(part.rows(step) + places)
        names = self.tasks
        return np.array([names.index(name) for name in part.index.tasks])[task], row

    def counts(self, step: int) -> dict[str, int]:
        """Returns how many rows of each task all batches before a step have, of any length."""
        total = dict.fromkeys(self.tasks, 0)
        part = self._part(step)
        counts = part.index.counts(part.rows(step))
        for read in part.read.values():
            for task, of_task in read.items():
                counts[task] = counts.get(task, 0) + of_task.count
        for task, rows in counts.items():
            total[task] += rows
        return total

    def epochs(self, step: int) -> dict[str, float]:
        """Returns how often the rows of each task were read before a step, over all lengths."""
        read = self._part(step).read_until(step)
        return {task: float(self._epochs(read, task)) for task in self.tasks}

    def read_until(self, step: int) -> Reads:
        """Returns what all batches before a step have read."""
        return self._part(step).read_until(step)

    def shares(self, step: int) -> dict[str, float]:
        """Returns the shares of the tasks of a step, as if no task were spent."""
        part = self._part(step)
        row = part.rows(step)
        weights = [weights for start, weights in part.index.stages if start <= row][-1]
        total = sum(weights.values())
        return {task: float(weight / total) for task, weight in weights.items()}

    def _part(self, step: int) -> _Part:
        starts = [part.start for part in self._parts]
        return self._parts[bisect.bisect_right(starts, step) - 1]

    def _epochs(self, read: Reads, task: str, but: Any = None) -> Fraction:
        found = Fraction(0)
        for length, counts in read.items():
            if length != but and task in counts:
                found += Fraction(counts[task].count, self._sizes[length][task])
        return found

    def _cut(self, start: int) -> None:
        """Ends the course at a step and begins a part there; nothing behind its end is of use.

        The part goes on from what was read before it, or from where a jump leads.
        """
        if self._parts and self._steps is not None and start >= self._steps:
            return
        self._parts = [part for part in self._parts if part.start <= start]
        if self._parts:
            self._check(self._parts[-1], start)
        read = self._part(start).read_until(start) if self._parts else {}
        read = self._jumped.get(start, read)
        self._parts = [part for part in self._parts if part.start < start]
        reading = [reading for first, reading in self._readings if first <= start][-1]
        length, before = reading.length(start), reading.rows_before(start)
        # What follows rows of another length isn't read in these.
        end = min([first for first, _ in reading.lengths if first > start], default=math.inf)
        first = max(first for first, _ in reading.stages if first <= start)
        stages = [
            (reading.rows_before(max(at, start)) - before, self._weights(weights))
            for at, weights in reading.stages
            if first <= at < end
        ]
        sizes = self._sizes[length]
        index = MixtureIndex(
            stages,
            sizes,
            seed=reading.seed,
            block_rows=reading.block_rows,
            caps=self._caps(reading, sizes, read, length),
            read=read.get(length),
        )
        self._parts.append(
            _Part(start=start, reading=reading, length=length, index=index, read=read)
        )

    def _weights(self, weights: Mapping[str, float]) -> dict[str, Fraction]:
        """Gives the tasks of the newest turn their shares, where a stage has others too."""
        some = {task: shares.exact(weight) for task, weight in weights.items() if weight > 0}
        given = self._turns[-1].shares if self._turns else {}
        others = {task: weight for task, weight in some.items() if task not in given}
        if not given or not others:
            return some
        turned = {task: shares.exact(share) for task, share in given.items()}
        left, total = 1 - sum(turned.values()), sum(others.values())
        return turned | {task: weight * left / total for task, weight in others.items()}

    def _caps(
        self, reading: Reading, sizes: Mapping[str, int], read: Reads, length: SeqLen
    ) -> dict[str, int]:
        """Returns the most rows of a length that each task may be read, others' epochs counted."""
        caps = reading.max_epochs
        tasks = {task for _, weights in reading.stages for task, w in weights.items() if w > 0}
        by_task = caps if isinstance(caps, dict) else dict.fromkeys(tasks, caps)
        unknown = sorted(set(by_task) - tasks)
        if unknown:
            raise ValueError(
                f"Mixture.max_epochs names {', '.join(unknown)}, which no stage reads; the tasks "
                f"are {', '.join(sorted(tasks))}."
            )
        rows = {}
        for task, cap in by_task.items():
            if cap is None or task not in sizes:
                continue
            whole = math.floor(shares.exact(cap) * sizes[task])
            if whole < 1:
                raise ValueError(
                    f"Mixture.max_epochs of {task} ({cap}) leaves none of its {sizes[task]} rows."
                )
            elsewhere = self._epochs(read, task, but=length)
            rows[task] = max(math.floor((shares.exact(cap) - elsewhere) * sizes[task]), 0)
        return rows

    def _check(self, part: _Part, end: int | None) -> None:
        """Raises ValueError where no task of a part's stages has rows left before its end."""
        spent = part.index.end
        if end is None or spent is None or part.rows(end) <= spent:
            return
        low, high = part.start, end
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (middle, high) if part.rows(middle) <= spent else (low, middle)
        stage = max(start for start, _ in part.reading.stages if start <= low)
        caps = part.reading.max_epochs
        rows = ", ".join(
            f"{task} ({size} rows, at most "
            f"{caps.get(task, 'any') if isinstance(caps, dict) else caps} epochs)"
            for task, size in part.index.sizes.items()
        )
        raise ValueError(
            f"Mixture.max_epochs: no task of the stage from step {stage} on has rows left at "
            f"step {low}, and the run needs {self._steps or end} steps: {rows}; raise "
            "max_epochs, add tasks or train fewer steps."
        )
