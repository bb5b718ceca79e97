"""What happened in a run beside its steps, from its ledger: in words, and as marks of charts."""

from __future__ import annotations

import dataclasses
import datetime
from collections.abc import Callable, Sequence
from typing import Any

from twjax.config import Reading
from twjax.report.decisions import listing, telling
from twjax.report.frame import Mark, Sign
from twjax.report.read import RunLog


@dataclasses.dataclass(frozen=True)
class Event:
    """One thing that happened at a step; `sign` is None for what changed nothing."""

    step: int
    text: str
    sign: Sign | None = None
    time: str = ""


def happened(run: RunLog) -> list[Event]:
    """Returns what the ledger tells, in its order, and the stages that began, by step."""
    told = [
        Event(record["step"], text, sign, str(record.get("time", "")))
        for record, text, sign in telling(run.ledger)
    ]
    told += [event for event in _planned_changes(run) if event.step <= run.last_step]
    return sorted(told, key=lambda event: event.step)


def marks(events: Sequence[Event], place: Callable[[int], float]) -> list[Mark]:
    """Returns what a chart shows of events; `place` gives the x of a step."""
    return [
        Mark(place(event.step), event.sign, f"step {event.step:,}: {event.text}")
        for event in events
        if event.sign is not None
    ]


def planned(run: RunLog) -> list[tuple[int, dict[str, float]]]:
    """Returns (first step, shares) as the configuration has them, whatever a budget made of them.

    Empty where neither the ledger nor the configuration can be read.
    """
    found = []
    for first, last, reading in _readings(run):
        stages = reading.stages
        begun = max(start for start, _ in stages if start <= first)
        for start, weights in stages:
            if begun <= start < last:
                whole = sum(weights.values()) or 1
                shares = {task: weight / whole for task, weight in weights.items() if weight}
                found.append((max(start, first), shares))
    return found


def _readings(run: RunLog) -> list[tuple[int, float, Reading]]:
    """Returns what is read as (first step, step of the next one, reading)."""
    readings = list(run.history.readings)
    if not all(isinstance(first, int) and _is_sound(reading) for first, reading in readings):
        readings = []
    if not readings and run.settings.run is not None:
        readings = [(0, run.settings.run.reading)]
    ends = [*(first for first, _ in readings), float("inf")][1:]
    return [(first, end, reading) for (first, reading), end in zip(readings, ends, strict=True)]


def _is_sound(reading: Reading) -> bool:
    """Whether what a ledger says is read could be read; the file may be damaged."""

    def shares(weights: Any) -> bool:
        return all(isinstance(weight, (int, float)) for weight in weights.values())

    def lengths(length: Any) -> bool:
        return all(isinstance(n, int) for n in (length if isinstance(length, tuple) else [length]))

    try:
        return all(
            series[0][0] == 0 and all(isinstance(at, int) and sound(value) for at, value in series)
            for series, sound in (
                (reading.stages, shares),
                (reading.batches, lambda rows: isinstance(rows, int)),
                (reading.lengths, lengths),
            )
        )
    except (AttributeError, IndexError, KeyError, TypeError, ValueError):
        return False


def reading_at(run: RunLog, step: int) -> Reading | None:
    """Returns what the batch at a step is read by; None if it is unknown."""
    for first, end, reading in _readings(run):
        if first <= step < end:
            return reading
    return None


def began(run: RunLog) -> tuple[int, float] | None:
    """Returns the step at which the run began, and when, in seconds since 1970, if it is told."""
    for record in run.ledger:
        if record.get("event") in ("start", "branch") and isinstance(record.get("step"), int):
            try:
                time = datetime.datetime.fromisoformat(str(record.get("time"))).timestamp()
            except ValueError:
                return None
            return record["step"], time
    return None


def _planned_changes(run: RunLog) -> list[Event]:
    events = []
    for first, end, reading in _readings(run):
        for start, weights in reading.stages:
            if first < start < end:
                whole = sum(weights.values()) or 1
                shares = {task: weight / whole for task, weight in weights.items()}
                events.append(Event(start, f"a stage begins: {listing(shares)}", "stage"))
        for start, rows in reading.batches:
            if first < start < end:
                events.append(Event(start, f"a batch has {rows:,} rows from here", "shape"))
        for start, length in reading.lengths:
            if first < start < end:
                events.append(Event(start, f"rows have {length} tokens from here", "shape"))
    return events
