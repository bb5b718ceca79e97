"""What a run has been, from the events of its ledger: what it read, and what was decided."""

from __future__ import annotations

import dataclasses
import pathlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from twjax.config import Reading
from twjax.data.course import Jump, Turn
from twjax.training import ledger
from twjax.training.budget import Look


@dataclasses.dataclass(frozen=True)
class History:
    """The events that decide what is computed, oldest first.

    `readings` are (first step, what is read), `baseline` the bits per byte of protected tasks on
    the initial weights, `looks` the evaluations that the budget has answered to, by step.
    `rolling_back` is the step to which checkpoints have still to be removed, or None. `rollbacks`
    counts all rollbacks, `bad_rollbacks` those for bad steps, which left out rows: `jumps`.
    """

    readings: tuple[tuple[int, Reading], ...] = ()
    baseline: Mapping[str, float] | None = None
    looks: Mapping[int, Look] = dataclasses.field(default_factory=dict)
    rollbacks: int = 0
    bad_rollbacks: int = 0
    bad_steps: tuple[int, ...] = ()
    jumps: tuple[Jump, ...] = ()
    rolling_back: int | None = None
    source: Mapping[str, Any] | None = None
    branch: Mapping[str, Any] | None = None

    @classmethod
    def of(cls, run_dir: pathlib.Path) -> History:
        """Reads a run's ledger."""
        return cls().after(ledger.read(run_dir))

    def after(self, events: Iterable[Mapping[str, Any]]) -> History:
        """Returns the history that some more events lead to."""
        now = self
        for event in events:
            now = now._after(event)
        return now

    def read_as(self, reading: Reading, first: int | None) -> tuple[tuple[int, Reading], ...]:
        """Returns `readings` with this one from its first step on; None: no other than before."""
        if first is None:
            return self.readings or ((0, reading),)
        return (*(pair for pair in self.readings if pair[0] < first), (first, reading))

    def _after(self, event: Mapping[str, Any]) -> History:
        kind, step = event["event"], event["step"]
        if kind == "branch":
            now = History().after(event["events"])
            return dataclasses.replace(now, branch={"from": event["from"], "step": step})
        # What was tried before without a checkpoint decides nothing.
        now = History() if kind == "start" else self
        if kind == "resume":
            names = [text.removeprefix("- ") for text in event.get("changes", ())]
            now = now.reconsidered(step, names)
        change: dict[str, Any] = {}
        if event.get("source"):
            change["source"] = event["source"]
        if event.get("reading"):
            reading = Reading.parse(event["reading"])
            change["readings"] = now.read_as(reading, event["reading_from"])
        # A decision made again, or at an earlier step, replaces all that followed it.
        earlier = {s: look for s, look in now.looks.items() if s < step}
        if kind == "baseline":
            change["baseline"] = event["bits"]
        elif kind == "budget":
            change["looks"] = earlier | {step: Look.parse(event)}
        elif kind == "bad_step":
            change["bad_steps"] = (*(s for s in now.bad_steps if s != step), step)
        elif kind == "roll_back":
            change |= now._back_to(step, event)
            change["rollbacks"] = now.rollbacks + 1
            change["rolling_back"] = step
        elif kind == "rolled_back":
            change["rolling_back"] = None
        return dataclasses.replace(now, **change)

    def _back_to(self, step: int, event: Mapping[str, Any]) -> dict[str, Any]:
        """Returns what a rollback to a step changes; what followed the step goes."""
        change: dict[str, Any] = {"bad_steps": tuple(s for s in self.bad_steps if s <= step)}
        if "skip" not in event:
            earlier = {s: look for s, look in self.looks.items() if s < step}
            change["looks"] = earlier | {step: Look.parse(event["look"])}
            change["jumps"] = tuple(jump for jump in self.jumps if jump.step <= step)
        else:
            # The state of the step, and so the answer to its evaluation, is as it was.
            change["looks"] = {s: look for s, look in self.looks.items() if s <= step}
            earlier_jumps = (jump for jump in self.jumps if jump.step < step)
            change["jumps"] = (*earlier_jumps, Jump.parse(step, event["skip"]))
            change["bad_rollbacks"] = self.bad_rollbacks + 1
        return change

    def until(self, step: int) -> History:
        """Returns the history of a run whose newest state is that of `step`."""
        looks = {s: look for s, look in self.looks.items() if s <= step}
        return dataclasses.replace(self, looks=looks)

    def reconsidered(self, step: int, changed: Iterable[str]) -> History:
        """Returns the history of a run that goes on at a step with these settings changed.

        Where its budget stopped it there, another budget or schedule decides again.
        """
        look = self.looks.get(step)
        if look is None or look.action != "stop":
            return self
        if not any(name.startswith(("budget.", "schedule.")) for name in changed):
            return self
        return dataclasses.replace(self, looks={s: x for s, x in self.looks.items() if s < step})

    @property
    def turns(self) -> list[Turn]:
        """Changes of shares, in order."""
        found: list[Turn] = []
        before = None
        for look in self.looks.values():
            if look.action not in ("observe", "hold") and look.shares != before:
                found.append(Turn(step=look.step, shares=look.shares))
            before = look.shares
        return found

    @property
    def rates(self) -> list[tuple[int, float]]:
        """Factors of the learning rate by the step from which they hold."""
        found: list[tuple[int, float]] = []
        for look in self.looks.values():
            if look.rate != (found[-1][1] if found else 1.0):
                found.append((look.step, look.rate))
        return found


def flat(events: Iterable[Mapping[str, Any]]) -> Iterator[Mapping[str, Any]]:
    """Yields events, those of a trunk in the place of the branch's own beginning."""
    for event in events:
        if event["event"] == "branch":
            yield from flat(event["events"])
        else:
            yield event


def handed_on(events: Sequence[Mapping[str, Any]], step: int) -> list[dict[str, Any]]:
    """Returns the events of a trunk that a branch from its checkpoint of `step` needs."""
    needed = []
    keys = ("reading", "reading_from", "source", "caches", "vocabulary", "order")
    for event in flat(events):
        decides = event["event"] in (
            "baseline",
            "budget",
            "bad_step",
            "roll_back",
            "rolled_back",
        )
        if event["step"] <= step and (decides or any(event.get(key) for key in keys)):
            about = tuple(event) if decides else keys
            needed.append(
                {k: event[k] for k in dict.fromkeys(("event", "step", *about)) if k in event}
            )
    return needed
