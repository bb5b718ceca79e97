"""A run as it stands now, kept up to date from its files at the cost of what is new in them."""

from __future__ import annotations

import collections
import math
import os
import pathlib
import statistics
import time
from collections.abc import Iterable
from typing import Any, Literal

from twjax.config import ConfigError, Run, load
from twjax.evaluation.records import Key, key_of
from twjax.report.evaluations import merged, names
from twjax.report.tail import News, Tail
from twjax.storage import is_locked

State = Literal["waiting", "training", "finished", "stopped", "not running"]
# What a record of each kind is told by, and whether it is a share.
MAIN = {
    "choice": ("accuracy", True),
    "pairs": ("preferred", True),
    "probes": ("right", True),
    "writing": ("simplified_per_1000", False),
}
# A log that is this much older than its usual pace is nobody's any more.
_LATE_STEPS, _LATE_SECONDS = 20, 60.0

Points = dict[int, float]
# By step, the values of a record by what their names have behind that of the measure.
_Measured = dict[Key, dict[int, dict[str, float]]]


class Live:
    """What the folder of a run tells; `update` reads what is new. Nothing is written or locked.

    `steps` and `losses` are of the training log, a value a step. `evaluations` are of both the
    run's own and those beside it: {(kind, name): {step: value}}, the value being bits per byte or
    what `MAIN` says; names are those of `report.evaluations`.
    """

    def __init__(self, path: pathlib.Path):
        self.path, self.name = path, path.name or str(path)
        self.run: Run | None = None
        self.events: list[dict[str, Any]] = []
        self._metrics = Tail(path / "metrics.jsonl")
        self._beside = Tail(path / "evaluations.jsonl")
        self._ledger = Tail(path / "ledger.jsonl")
        self._config: tuple[int, int] | None = None
        self._later: _Measured = {}
        self._clear()

    def _clear(self) -> None:
        self.steps: list[int] = []
        self.losses: list[float] = []
        # Of the last step, and of the last one with its speed.
        self.last: dict[str, Any] = {}
        self.speed: dict[str, Any] = {}
        self._paces: collections.deque[float] = collections.deque(maxlen=20)
        self._own: _Measured = {}
        self._seconds: dict[str, float] = {}

    def update(self) -> None:
        """Reads what is new."""
        if not self.path.is_dir():
            return
        self.name = self.path.resolve().name
        self._read_config()
        news = self._metrics.read()
        if news.anew:
            self._clear()
        self._take(news)
        beside = self._beside.read()
        if beside.anew:
            self._later = {}
        for record in beside.records:
            _add(self._later, record)
        decided = self._ledger.read()
        self.events = decided.records if decided.anew else self.events + decided.records

    def _take(self, news: News) -> None:
        for record in news.records:
            if record.get("kind") != "train":
                _add(self._own, record)
                if isinstance(record.get("seconds"), (int, float)):
                    self._seconds[str(record.get("task"))] = record["seconds"]
            elif isinstance(record.get("step"), int):
                self.steps.append(record["step"])
                self.losses.append(_number(record.get("loss")))
                self.last = record
                if "tokens_per_second" in record:
                    self.speed = record
                    self._paces.append(_number(record.get("step_seconds")))

    def _read_config(self) -> None:
        path = self.path / "config.gin"
        try:
            now = os.stat(path)
            stamp = (now.st_ino, now.st_mtime_ns)
            if stamp != self._config:
                self._config = stamp
                self.run = load(Run, [path]).value
        except (FileNotFoundError, ConfigError):
            # Of another version of twjax: what is read from it is left out.
            self.run = None

    @property
    def evaluations(self) -> dict[tuple[str, str], Points]:
        """All evaluations; at a step that both logs have, the run's own."""
        measured = merged(self._own, self._later)
        called = names(measured)
        found: dict[tuple[str, str], Points] = {}
        for series, points in measured.items():
            for step, values in points.items():
                for more, value in values.items():
                    name = series.kind, called[series] + more
                    found.setdefault(name, {})[step] = value
        return dict(sorted(found.items()))

    @property
    def step(self) -> int:
        """The last step of the training log."""
        return self.steps[-1] if self.steps else 0

    @property
    def total(self) -> int | None:
        """The steps of the whole run, if its configuration can be read."""
        return None if self.run is None else self.run.steps

    @property
    def unreadable(self) -> int:
        """Lines that are no record."""
        return self._metrics.unreadable + self._beside.unreadable + self._ledger.unreadable

    def age(self, now: float) -> float:
        """Returns the seconds since the log was written; infinity without one."""
        try:
            return max(0.0, now - os.stat(self._metrics.path).st_mtime)
        except FileNotFoundError:
            return math.inf

    def state(self, now: float | None = None) -> State:
        """Returns whether the run goes on, as far as this machine can tell."""
        if not self.events and not self.steps:
            return "waiting"
        last = self.events[-1].get("event") if self.events else None
        if last == "finish":
            return "finished"
        if is_locked(self.path / ".lock"):
            return "training"
        if last == "stop":
            return "stopped"
        # Its process may be one of another machine.
        late = max(_LATE_SECONDS, _LATE_STEPS * self.pace)
        return "training" if self.age(now or time.time()) < late else "not running"

    @property
    def pace(self) -> float:
        """Seconds a step, of late; 0 where nothing is known."""
        known = [pace for pace in self._paces if math.isfinite(pace)]
        return statistics.median(known) if known else 0.0

    @property
    def left(self) -> float | None:
        """Seconds to the end of the run, its evaluations included; None where it isn't known."""
        if self.total is None or not self.pace or self.run is None:
            return None
        every = self.run.evaluation.every
        looks = -(-self.total // every) - self.step // every
        return (self.total - self.step) * self.pace + looks * sum(self._seconds.values())

    def look(self) -> dict[str, Any]:
        """Returns the last answer of the budget; nothing without one."""
        for event in reversed(self.events):
            if event.get("event") in ("budget", "roll_back"):
                return event.get("look") or event
        return {}


def _add(measured: _Measured, record: dict[str, Any]) -> None:
    step, values = record.get("step"), dict(_told(record))
    if isinstance(step, int) and values:
        measured.setdefault(key_of(record), {})[step] = values


def _told(record: dict[str, Any]) -> Iterable[tuple[str, float]]:
    kind = record.get("kind")
    if kind == "eval":
        yield "", _number(record.get("bits_per_byte"))
    elif kind == "generation":
        for name, value in (record.get("metrics") or {}).items():
            yield f" {name}", _number(value)
    elif kind in MAIN:
        yield "", _number(record.get(MAIN[kind][0]))


def _number(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return math.nan
    return float(value)
