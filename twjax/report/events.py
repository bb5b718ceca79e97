"""What happened in a run beside its steps, from its ledger: in words, and as marks of charts."""

from __future__ import annotations

import dataclasses
import datetime
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from twjax.config import Reading
from twjax.report.frame import Mark, Sign
from twjax.report.read import RunLog
from twjax.report.scale import fixed, percent
from twjax.training.budget import Look

# Events that keep the books and change nothing that a reader would see.
_SILENT = ("rolled_back",)


@dataclasses.dataclass(frozen=True)
class Event:
    """One thing that happened at a step; `sign` is None for what changed nothing."""

    step: int
    text: str
    sign: Sign | None = None
    time: str = ""


def happened(run: RunLog) -> list[Event]:
    """Returns what the ledger tells, in its order, and the stages that began, by step."""
    told: list[Event] = []
    before: Look | None = None
    for record in run.ledger:
        kind, step = record.get("event"), record.get("step")
        if not isinstance(kind, str) or not isinstance(step, int) or kind in _SILENT:
            continue
        time = str(record.get("time", ""))
        if kind == "budget":
            try:
                look = Look.parse(record)
                told.append(dataclasses.replace(_answer(look, before), time=time))
            except (AttributeError, KeyError, TypeError, ValueError):
                told.append(Event(step, "a decision of the budget that can't be read", time=time))
                continue
            before = look
        else:
            told.append(Event(step, *_told(kind, record), time=time))
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
    if not readings and run.settings.run is not None:
        readings = [(0, run.settings.run.reading)]
    ends = [*(first for first, _ in readings), float("inf")][1:]
    return [(first, end, reading) for (first, reading), end in zip(readings, ends, strict=True)]


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


def _answer(look: Look, before: Look | None) -> Event:
    """Tells what a budget saw at an evaluation and did about it."""
    used = f"used of what may be forgotten: {listing(look.used, 0)}"
    old = before.shares if before else {}
    more = sum(look.shares.values()) - sum(old.values())
    changed = before is not None and look.shares != before.shares
    moves = [
        f"{task} {percent(old[task], 1)} → {percent(share, 1)}"
        for task, share in look.shares.items()
        if old.get(task, share) != share
    ]
    replay = f"replay {', '.join(moves) if moves else listing(look.shares)}"
    sign: Sign | None = None
    if look.action == "lower_rate":
        sign, text = "rate", f"{used}; the learning rate is {look.rate:g} of the schedule's"
    elif look.action == "go_on":
        sign, text = "beyond", f"{used}, beyond the budget with replay at its most; going on"
    elif look.action == "stop":
        sign, text = "beyond", f"{used}, beyond the budget: the run stops"
    elif look.action == "roll_back":
        sign, text = "beyond", f"{used}, beyond the budget: back to a checkpoint within it"
    elif look.action == "steer":
        if changed:
            # Shares have four digits.
            sign = "shift" if abs(more) < 1e-6 else "more" if more > 0 else "less"
        text = f"{used}; {replay}"
    elif look.action == "observe":
        text = f"{used}; only looked at"
    else:
        text = f"{used}; {replay}, unchanged"
    return Event(look.step, text, sign)


def _told(kind: str, record: Mapping[str, Any]) -> tuple[str, Sign | None]:
    if kind == "start":
        return f"the run begins {_origin(record)}{_machine(record)}", None
    if kind == "resume":
        changes = record.get("changes")
        names = [str(c).split(" = ")[0].removeprefix("- ") for c in changes or ()]
        with_changes = f", with other settings: {', '.join(names)}" if names else ""
        return f"the run goes on{_machine(record)}{with_changes}", "resume"
    if kind == "stop":
        return "asked to stop; the state is saved", None
    if kind == "finish":
        return "the run is finished", None
    if kind == "branch":
        return f"the run branches off from {record.get('from')}", None
    if kind == "baseline" and isinstance(record.get("bits"), dict):
        bits = ", ".join(
            f"{task} {fixed(value)}"
            for task, value in record["bits"].items()
            if isinstance(value, float)
        )
        return f"the budget counts from here, in bits per byte: {bits}", None
    if kind == "roll_back":
        look = record.get("look")
        shares = look.get("shares") if isinstance(look, dict) else None
        replay = f", replay {listing(shares)}" if isinstance(shares, dict) else ""
        return f"rolled back to this step{replay}", "back"
    return kind.replace("_", " "), None


def _origin(record: Mapping[str, Any]) -> str:
    source = record.get("source")
    if not isinstance(source, dict):
        return "with random weights"
    return f"with the weights of {source.get('directory')}, step {source.get('step')}"


def _machine(record: Mapping[str, Any]) -> str:
    versions = record.get("versions")
    if not isinstance(versions, dict) or "devices" not in versions:
        return ""
    return f", on {versions['devices']} × {versions.get('device', 'device')}"


def listing(shares: Mapping[str, Any], decimals: int = 1) -> str:
    """Returns shares in words, the largest first."""
    known = [(t, s) for t, s in shares.items() if isinstance(s, (int, float))]
    order = sorted(known, key=lambda pair: -pair[1])
    return ", ".join(f"{task} {percent(share, decimals)}" for task, share in order)
