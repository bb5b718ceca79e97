"""What happened in a run beside its steps, from its ledger: in words, and as marks of charts."""

from __future__ import annotations

import dataclasses
import datetime
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from twjax.config import Reading
from twjax.config.data import SeqLen
from twjax.report.decisions import listing, taken_back, telling, unfolded
from twjax.report.frame import Mark, Sign
from twjax.report.read import RunLog


@dataclasses.dataclass(frozen=True)
class Event:
    """One thing that happened at a step; `sign` is None for what changed nothing.

    `undone` says that the run went back before it, so that what came of it is no part of the run.
    """

    step: int
    text: str
    sign: Sign | None = None
    time: str = ""
    undone: bool = False


def happened(run: RunLog) -> list[Event]:
    """Returns what the ledger tells and the stages that began, by step.

    A branch has what it took over from its trunk. What was undone stands in the ledger's order in
    front of what undid it.
    """
    ledger = list(unfolded(run.ledger))
    places = {id(record): place for place, record in enumerate(ledger)}
    back = taken_back(ledger)
    events: dict[int, Event] = {}
    for record, text, sign in telling(ledger):
        place, time = places[id(record)], str(record.get("time", ""))
        events[place] = Event(record["step"], text, sign, time, undone=place in back)
    standing = [(event, place) for place, event in events.items() if not event.undone]
    standing += [(e, -1) for e in _planned_changes(run) if e.step <= run.last_step]
    undone: dict[int, list[Event]] = {}
    for place, event in events.items():
        if event.undone:
            undone.setdefault(_last(back, place), []).append(event)
    found: list[Event] = []
    for event, place in sorted(standing, key=lambda pair: pair[0].step):
        found += [*undone.get(place, ()), event]
    return found


def _last(back: Mapping[int, int], place: int) -> int:
    """Returns the place of the event that stands after all takings back of another."""
    while place in back:
        place = back[place]
    return place


def marks(events: Sequence[Event], place: Callable[[int], float]) -> list[Mark]:
    """Returns what a chart shows of events that stand; `place` gives the x of a step."""
    return [
        Mark(place(event.step), event.sign, f"step {event.step:,}: {event.text}")
        for event in events
        if event.sign is not None and not event.undone
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


@dataclasses.dataclass(frozen=True)
class Part:
    """Steps from `first` to before `end` that read alike: a batch's rows, their length, shares."""

    first: int
    end: float
    rows: int
    length: SeqLen
    shares: dict[str, float]


def reading_parts(run: RunLog) -> list[Part]:
    """Returns what is planned, in order; empty where it can't be read."""
    plan = planned(run)
    found = []
    for first, end, reading in _readings(run):
        series = (reading.stages, reading.batches, reading.lengths)
        cuts = {first} | {start for of in series for start, _ in of if first < start < end}
        starts = sorted(cuts)
        for at, until in zip(starts, [*starts[1:], end], strict=True):
            shares = next((shares for start, shares in reversed(plan) if start <= at), {})
            found.append(Part(at, until, reading.rows(at), reading.length(at), shares))
    return found


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
