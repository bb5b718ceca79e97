"""What reading texts again is worth: tokens of new text that would teach as much."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence

from twjax.config.data import SeqLen
from twjax.config.reading import Reading
from twjax.data.course import Course
from twjax.data.rows import RowReader

# R*: after as many repetitions another one is worth 1/e of new text.
R_STAR = 15.39


def effective_tokens(unique: float, epochs: float) -> float:
    """Returns U + U·R*·(1 - exp(-R / R*)) for U `unique` tokens read R + 1 = `epochs` times.

    Muennighoff et al. 2023, equation 5, with their R* of 15.39. It was fitted on English web pages
    and on models of up to 9 billion weights trained from random ones. Less than an epoch is worth
    what was read.
    """
    if unique < 0 or epochs < 0:
        raise ValueError(f"effective_tokens: {unique} tokens, {epochs} epochs; both must be >= 0.")
    if epochs <= 1:
        return unique * epochs
    return unique + unique * R_STAR * -math.expm1(-(epochs - 1) / R_STAR)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Use:
    """How a run uses one task: `shares` are those of the rows of each stage.

    `rows` and `tokens` are what there is, of the first length of rows that the task has; `cap` the
    most epochs, None without one.
    """

    task: str
    rows: int
    tokens: int
    shares: tuple[float, ...]
    epochs: float
    cap: float | None

    @property
    def read(self) -> float:
        """Tokens that are read, repetitions included."""
        return self.tokens * self.epochs

    @property
    def effective(self) -> float:
        return effective_tokens(self.tokens, self.epochs)

    @property
    def spent(self) -> bool:
        """Whether no further row may be read."""
        return self.cap is not None and self.tokens > 0 and self.epochs + 1 / self.rows > self.cap


def stage_ends(reading: Reading, steps: int) -> list[tuple[int, int]]:
    """Returns (first step, step behind the last) of each stage that a run of `steps` has."""
    starts = [start for start, _ in reading.stages if start < steps]
    return list(zip(starts, [*starts[1:], steps], strict=True))


def held(readers: Mapping[SeqLen, Mapping[str, RowReader]]) -> dict[str, tuple[int, int]]:
    """Returns (rows, tokens without padding) of each task, of the first length that it has."""
    found: dict[str, tuple[int, int]] = {}
    for some in readers.values():
        for task, reader in some.items():
            found.setdefault(task, (reader.info.rows, reader.info.tokens))
    return found


def uses(
    course: Course, reading: Reading, steps: int, sizes: Mapping[str, tuple[int, int]]
) -> list[Use]:
    """Returns the use of each task by a course of `steps` steps, sorted by task.

    `sizes` are what `held` returns.
    """
    counts = [[course.counts(step) for step in stage] for stage in stage_ends(reading, steps)]
    caps, epochs = reading.max_epochs, course.epochs(steps)
    found = []
    for task in course.tasks:
        rows, tokens = sizes[task]
        shares = tuple(
            (after[task] - before[task]) / max(sum(after.values()) - sum(before.values()), 1)
            for before, after in counts
        )
        cap = caps.get(task) if isinstance(caps, dict) else caps
        found.append(
            Use(task=task, rows=rows, tokens=tokens, shares=shares, epochs=epochs[task], cap=cap)
        )
    return found


def table(found: Sequence[Use], reading: Reading, steps: int) -> list[str]:
    """Returns the lines of a table of what a run reads, a task a line and their sum."""
    starts = [start for start, _ in stage_ends(reading, steps)]
    names = [f"from {start:,}" for start in starts] if len(starts) > 1 else ["share"]
    lines = [("", "rows", "tokens", *names, "read", "epochs", "cap", "effective")]
    for use in found:
        cap = "–" if use.cap is None else f"{use.cap:g}"
        lines.append(
            (
                use.task,
                f"{use.rows:,}",
                short(use.tokens),
                *(f"{share:.1%}" for share in use.shares),
                short(use.read),
                f"{use.epochs:.2f}",
                cap + (" (spent)" if use.spent else ""),
                short(use.effective),
            )
        )
    read = sum(use.read for use in found)
    worth = sum(use.effective for use in found)
    lines.append(
        ("total", f"{sum(use.rows for use in found):,}", short(sum(use.tokens for use in found)),
         *("" for _ in starts), short(read), "", "", short(worth))
    )  # fmt: skip
    widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]))]
    text = [
        "  " + "  ".join(
            cell.ljust(width) if column == 0 else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    ]  # fmt: skip
    share = worth / read if read else 1.0
    return [
        f"data of {steps:,} steps",
        *text,
        f"  What is read is worth {short(worth)} tokens of new text, {share:.1%} of it "
        "(Muennighoff et al. 2023).",
    ]


def short(number: float) -> str:
    """Returns a number with three digits and a unit: 41.9 B."""
    units = ("", " k", " M", " B", " T")
    power = 0
    while number >= 999.5 and power + 1 < len(units):
        number, power = number / 1000, power + 1
    return f"{number:.3g}{units[power]}"
