"""Where a run's time went since its first start, by cause."""

from __future__ import annotations

import contextlib
import math
import os
import pathlib
import time
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from twjax.storage import read_json_lines
from twjax.training import ledger
from twjax.training.metrics import FILE
from twjax.training.profiling import Profile
from twjax.training.watchdog import Watchdog

# Seconds of which the sum is the time since the first start: steps that count; compiling them;
# waiting for rows; saves and evaluations that steps waited for; from a process's start to its
# first step; reading the checkpoint that it goes on from, of the run's folder or of its hosts; what
# was done again after a kill or a rollback; without a process. What passes between a process's last
# word in the log and its end counts as down.
CAUSES = (
    "stepping",
    "compiling",
    "reading",
    "saving",
    "evaluating",
    "starting",
    "restoring",
    "lost",
    "down",
)
# What is done again by a run that goes back.
_AGAIN = ("stepping", "reading", "saving", "evaluating")
# A step may wait as long as it takes for these.
_PAUSES = ("compiling", "saving", "evaluating", "restoring")


class Clock:
    """Counts the seconds of a process by cause, one at a time, and tells a watchdog of pauses.

    `profile` is what looks closer at some steps.
    """

    def __init__(self, watchdog: Watchdog | None = None, profile: Profile | None = None):
        self.watchdog, self.profile = watchdog, profile or Profile()
        self._seconds: dict[str, float] = dict.fromkeys(CAUSES, 0.0)
        self._causes = ["starting"]
        self._born = time.time() - _age()
        self._last = time.monotonic() - (time.time() - self._born)

    @contextlib.contextmanager
    def spend(self, cause: str) -> Iterator[None]:
        """Counts what is done here as of one cause; back to the one before at its end."""
        self._count()
        self._causes.append(cause)
        paused = contextlib.nullcontext()
        if self.watchdog is not None and cause in _PAUSES:
            paused = self.watchdog.pause(cause)
        try:
            with paused:
                yield
        finally:
            self._count()
            self._causes.pop()

    def seconds(self) -> dict[str, float]:
        """Returns the seconds until now."""
        self._count()
        return {cause: round(value, 3) for cause, value in self._seconds.items()}

    def record(self) -> dict[str, Any]:
        """Returns what the ledger keeps: `seconds`, and the time of day (Unix seconds)."""
        return {"seconds": self.seconds(), "time": time.time()}

    def take_up(self, run_dir: pathlib.Path, step: int) -> None:
        """Adds what a run's earlier processes have spent, of which the state of `step` is left."""
        last = newest(_records(run_dir))
        if last is None:
            return
        for cause in CAUSES:
            self._seconds[cause] += last[1].get(cause, 0.0)
        self._seconds["down"] += max(self._born - last[0], 0.0)
        self.back_to(run_dir, step)

    def back_to(self, run_dir: pathlib.Path, step: int) -> None:
        """Counts as lost what a run has done since a step to which it goes back."""
        self._count()
        records = (r for r in read_json_lines(run_dir / FILE) if r["step"] <= step)
        kept = newest(records if step else ())
        for cause in _AGAIN:
            left = min((kept[1] if kept else {}).get(cause, 0.0), self._seconds[cause])
            self._seconds["lost"] += self._seconds[cause] - left
            self._seconds[cause] = left

    def _count(self) -> None:
        now = time.monotonic()
        self._seconds[self._causes[-1]] += now - self._last
        self._last = now


def newest(records: Iterable[Mapping[str, Any]]) -> tuple[float, dict[str, float]] | None:
    """Returns (Unix seconds, seconds by cause) of the newest record that has them, if any."""
    found = None
    for record in records:
        seconds, at = record.get("seconds"), record.get("time")
        if not isinstance(seconds, dict) or not isinstance(at, (int, float)):
            continue
        known = {
            cause: float(value)
            for cause, value in seconds.items()
            if cause in CAUSES and isinstance(value, (int, float)) and math.isfinite(value)
        }
        if found is None or at >= found[0]:
            found = (float(at), known)
    return found


def _records(run_dir: pathlib.Path) -> Iterator[Mapping[str, Any]]:
    for path in (run_dir / FILE, *sorted(run_dir.glob("metrics-abandoned-*.jsonl"))):
        yield from read_json_lines(path)
    for event in ledger.read(run_dir):
        if isinstance(event.get("goodput"), dict):
            yield event["goodput"]


def _age() -> float:
    """Returns the seconds since this process began; 0 where the system doesn't tell."""
    try:
        with open("/proc/self/stat", encoding="ascii") as file:
            ticks = float(file.read().rsplit(")", 1)[1].split()[19])
        return max(time.clock_gettime(time.CLOCK_BOOTTIME) - ticks / os.sysconf("SC_CLK_TCK"), 0.0)
    except (OSError, ValueError, IndexError, AttributeError):
        return 0.0
