"""Searches for the fastest step that fits slices: compiles what looks best until time is up."""

from __future__ import annotations

import dataclasses
import json
import math
import os
import pathlib
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from typing import Any, Literal

from twjax import storage
from twjax.planning.cache import restore
from twjax.planning.candidates import Candidate, Considered
from twjax.planning.compile import Plan
from twjax.planning.topology import GIB

State = Literal["fits", "too large", "failed", "out of time", "not tried"]


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What became of a candidate; `why` says it for those without a plan that fits."""

    candidate: Candidate
    state: State
    why: str = ""
    plan: Plan | None = None
    wall_seconds: float = 0.0

    @property
    def seconds_per_token(self) -> float:
        """What is compared: the predicted step by its tokens; infinite without one that fits."""
        if self.state != "fits" or self.plan is None or self.plan.prediction is None:
            return math.inf
        return self.plan.prediction.seconds / self.plan.tokens

    @property
    def bytes(self) -> float:
        return math.inf if self.plan is None else self.plan.memory.total


@dataclasses.dataclass(frozen=True)
class Found:
    """All outcomes of a search in the order in which they came, and what was never a candidate."""

    outcomes: tuple[Outcome, ...]
    considered: Considered
    seconds: float
    usable: float

    @property
    def fitting(self) -> list[Outcome]:
        """What fits, fastest first."""
        found = [o for o in self.outcomes if o.state == "fits"]
        return sorted(found, key=lambda o: (o.seconds_per_token, o.bytes))

    @property
    def best(self) -> Outcome | None:
        return next(iter(self.fitting), None)

    @property
    def front(self) -> list[Outcome]:
        """What nothing beats in both time and memory, fastest first."""
        return pareto(self.fitting)


def pareto(outcomes: Sequence[Outcome]) -> list[Outcome]:
    """Returns those that no other one beats, or equals in one and beats in the other."""
    front: list[Outcome] = []
    for outcome in sorted(outcomes, key=lambda o: (o.seconds_per_token, o.bytes)):
        if not front or outcome.bytes < front[-1].bytes:
            front.append(outcome)
    return front


# (candidate, most seconds) -> the plan, or why there is none
Compile = Callable[[Candidate, float], Plan | str]


class TimedOut(Exception):
    """A compilation was ended because its time was up."""


def search(
    considered: Considered,
    compile: Compile,
    *,
    seconds: float,
    each: float,
    usable: float,
    most: int | None = None,
    tell: Callable[[str], None] = lambda message: None,
) -> Found:
    """Compiles candidates in their order until `seconds` are over; each has `each` at most.

    `most` bounds how many are compiled. One that saves more than another of the same mesh and rows
    that doesn't fit isn't compiled. An interrupt (Ctrl-C) ends the search with what there is.
    """
    begin = time.monotonic()
    outcomes: list[Outcome] = []
    todo = list(considered.ordered)
    quickest, compiled = 0.0, 0
    while todo and (most is None or compiled < most):
        left = seconds - (time.monotonic() - begin)
        if left <= 0 or left < quickest / 2:
            break
        candidate = todo.pop(0)
        if larger := _larger_than_one_too_large(candidate, outcomes):
            outcomes.append(Outcome(candidate, "too large", larger))
            continue
        number = f"{len(outcomes) + 1} of {len(considered.ordered)}"
        tell(f"{number}, {left / 60:.0f} min left: {candidate.point.describe()}")
        start = time.monotonic()
        compiled += 1
        try:
            answer = compile(candidate, min(each, left))
        except KeyboardInterrupt:
            tell("interrupted; what was found until now follows")
            todo.insert(0, candidate)
            break
        except TimedOut:
            spent = time.monotonic() - start
            why = f"ended after {spent:.0f} s"
            outcomes.append(Outcome(candidate, "out of time", why, wall_seconds=spent))
            continue
        spent = time.monotonic() - start
        outcome = _judged(candidate, answer, usable, spent)
        outcomes.append(outcome)
        if isinstance(answer, Plan):
            quickest = min(quickest or spent, spent)
        tell("  " + (_short(outcome) if outcome.state == "fits" else outcome.why))
    outcomes += [Outcome(candidate, "not tried", "the search was over") for candidate in todo]
    return Found(tuple(outcomes), considered, time.monotonic() - begin, usable)


def _judged(candidate: Candidate, answer: Plan | str, usable: float, spent: float) -> Outcome:
    if isinstance(answer, str):
        return Outcome(candidate, "failed", answer, wall_seconds=spent)
    total = answer.memory.total
    if not answer.memory.fits or total > usable:
        why = f"needs {total / GIB:.1f} of {usable / GIB:.1f} GiB"
        return Outcome(candidate, "too large", why, answer, spent)
    return Outcome(candidate, "fits", "", answer, spent)


def _short(outcome: Outcome) -> str:
    assert outcome.plan is not None
    told = f"{outcome.bytes / GIB:.1f} GiB"
    if outcome.plan.prediction is not None:
        told = f"{outcome.plan.prediction.seconds:.3f} s, {told}"
    return f"{told}, in {outcome.wall_seconds:.0f} s"


def _larger_than_one_too_large(candidate: Candidate, outcomes: Sequence[Outcome]) -> str:
    """Returns why a candidate can't fit: it saves all that a compiled one does that doesn't."""
    for outcome in outcomes:
        if outcome.plan is None or outcome.state != "too large":
            continue
        other = outcome.candidate
        point = candidate.point
        alike = dataclasses.replace(point, remat=other.point.remat) == other.point
        if alike and not point.offload and candidate.memory.saved >= other.memory.saved:
            return f"saves more than one that {outcome.why}"
    return ""


@dataclasses.dataclass(frozen=True)
class Worker:
    """Compiles candidates of a configuration, each in a process of its own.

    `bindings` are the user's; `cache` is the folder of plans, None for none.
    """

    config: str
    bindings: tuple[str, ...]
    run: Any
    num_devices: int
    topology: str
    quick: bool
    cache: pathlib.Path | None
    command: tuple[str, ...] = (sys.executable, "-m", "twjax.planning.worker")

    def __call__(self, candidate: Candidate, seconds: float) -> Plan | str:
        """Returns the plan, or why there is none; raises `TimedOut` after `seconds`."""
        with tempfile.TemporaryDirectory(prefix="twjax-search-") as folder:
            output, errors = pathlib.Path(folder, "plan.json"), pathlib.Path(folder, "stderr")
            asked = {
                "config": self.config,
                "set": [
                    *self.bindings,
                    *candidate.point.bindings(self.run, self.num_devices),
                ],
                "topology": self.topology,
                "quick": self.quick,
                "cache": None if self.cache is None else str(self.cache),
                "output": str(output),
            }
            with errors.open("wb") as log:
                status = _run(self.command, json.dumps(asked) + "\n", seconds, log)
            if output.is_file():
                answer = storage.read_json(output)
                return answer["error"] if "error" in answer else restore(Plan, answer["plan"])
            return _last_words(status, errors.read_text(encoding="utf-8", errors="replace"))


def _run(command: Sequence[str], line: str, seconds: float, log: Any) -> int:
    """Runs a process with a line of input that stays open; it and its children end in time."""
    process = subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=log,
        stderr=log,
        text=True,
        start_new_session=True,
    )
    assert process.stdin is not None
    try:
        process.stdin.write(line)
        process.stdin.flush()
        return process.wait(seconds)
    except BrokenPipeError:
        return process.wait()
    except subprocess.TimeoutExpired as error:
        raise TimedOut from error
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def _last_words(status: int, text: str) -> str:
    lines = [line for line in text.splitlines() if line.strip()]
    # JAX adds remarks on its traceback behind the error.
    lines = [line for line in lines if re.match(r"[\w.]+(Error|Exception|Exit)\b", line)] or lines
    how = f"died of {signal.Signals(-status).name}" if status < 0 else f"ended with {status}"
    return f"the compiler's process {how}" + (f": {lines[-1].strip()[:300]}" if lines else "")
