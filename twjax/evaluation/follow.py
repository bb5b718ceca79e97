"""Evaluates a run's checkpoints beside it, as they come; the run knows nothing of it.

Nothing is shared with the trainer but files that it has finished. They are only read: no lock of
the trainer's is taken, and a checkpoint may be deleted at any time.
"""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import os
import pathlib
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import jax

from twjax.config import ConfigError
from twjax.evaluation.records import FILE, Records, key_of
from twjax.progress import say
from twjax.storage import read_json_lines
from twjax.training import ledger
from twjax.training.checkpoint import FOLDER, Checkpoints
from twjax.training.metrics import Key
from twjax.training.source import CONFIG_FILE

POLL_SECONDS = 1.0

# Of each file of a checkpoint: number, size and time.
Files = dict[str, tuple[int, int, int]]
# The parameters of a step's checkpoint, and what all records of it have in common.
Reading = Callable[[int], tuple[Any, dict[str, Any]]]


@dataclasses.dataclass(frozen=True)
class Part:
    """Something to evaluate: `score(params, step)` returns a record for each of `keys`.

    A record without "kind" is one of held-out rows ("eval"). `settings` are fields of a key's
    record that say how it is asked, such as its number of rows: with other values it is another
    evaluation.
    """

    keys: frozenset[Key]
    score: Callable[[Any, int], list[dict[str, Any]]]
    settings: Mapping[Key, Mapping[str, Any]] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class Tally:
    """Steps that were evaluated, deleted before they were, and not readable or not scored."""

    evaluated: set[int] = dataclasses.field(default_factory=set)
    gone: set[int] = dataclasses.field(default_factory=set)
    broken: set[int] = dataclasses.field(default_factory=set)

    def note(self, step: int, where: set[int]) -> bool:
        """Moves a step to one of the sets; returns whether it is new there."""
        new = step not in where
        for steps in (self.evaluated, self.gone, self.broken):
            steps.discard(step)
        where.add(step)
        return new

    def __str__(self) -> str:
        text = f"{len(self.evaluated)} checkpoint(s) evaluated"
        text += f", {len(self.gone)} deleted before that" if self.gone else ""
        return text + (f", {len(self.broken)} not readable or scored" if self.broken else "")


def await_checkpoint(run_dir: pathlib.Path, idle_timeout: float | None) -> None:
    """Returns when a run has its first checkpoint; raises TimeoutError after `idle_timeout`."""
    began, said = time.monotonic(), False
    while not ((run_dir / CONFIG_FILE).is_file() and steps_on_disk(run_dir)):
        if idle_timeout is not None and time.monotonic() - began > idle_timeout:
            raise TimeoutError(f"{run_dir}: no checkpoint within {idle_timeout:g} s.")
        if not said:
            say(f"{run_dir}: waiting for a checkpoint.")
        said = True
        time.sleep(POLL_SECONDS)


def steps_on_disk(run_dir: pathlib.Path) -> set[int]:
    """Returns the steps of the complete checkpoints: a folder has its name when all is in it."""
    try:
        return {int(name) for name in os.listdir(run_dir / FOLDER) if name.isdigit()}
    except FileNotFoundError:
        return set()


def is_finished(run_dir: pathlib.Path) -> bool:
    """Whether a run has done all its steps, and was not begun again since."""
    events = ledger.read(run_dir)
    return bool(events) and events[-1]["event"] == "finish"


@contextlib.contextmanager
def only_follower(run_dir: pathlib.Path) -> Iterator[None]:
    """Keeps a second follower out; the lock goes with the process."""
    with (run_dir / ".follow.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ConfigError(
                f"{run_dir}: another process follows this run; stop it first."
            ) from None
        yield


class Follower:
    """Evaluates what a run saves, the newest checkpoint first.

    `read(step)` returns a checkpoint's parameters and what its records have in common. Where a
    follower falls behind, it is by older checkpoints, which it comes back to while they are there.
    Only steps that are multiples of `every` count, and the last one of a finished run.
    """

    def __init__(
        self,
        run_dir: pathlib.Path,
        read: Reading,
        parts: Sequence[Part],
        *,
        every: int = 1,
    ):
        self._run_dir, self._read, self._parts, self._every = run_dir, read, parts, every
        self._records = Records(run_dir)
        self._keys = frozenset().union(*(part.keys for part in parts))
        self._settings = {k: v for part in parts for k, v in part.settings.items()}
        # Of which it was said that their records stay as they are.
        self._told: set[Key] = set()
        # Tried in vain, with the files that were there; until there are others.
        self._left: dict[int, Files] = {}
        self.tally = Tally()

    def follow(self, idle_timeout: float | None = None) -> Tally:
        """Returns when the run is finished and all is evaluated that is there.

        Without an end it returns when there was nothing to do for `idle_timeout` seconds.
        """
        last = time.monotonic()
        while True:
            # Before looking for checkpoints: what the run has saved by then is seen.
            over = is_finished(self._run_dir)
            self._records.leave_abandoned()
            due = self._due(over)
            if due:
                self._evaluate(max(due), len(due) - 1)
                last = time.monotonic()
            elif over:
                return self.tally
            elif idle_timeout is not None and time.monotonic() - last > idle_timeout:
                say(f"{self._run_dir}: nothing new for {idle_timeout:g} s.")
                return self.tally
            else:
                time.sleep(POLL_SECONDS)

    def _due(self, over: bool) -> list[int]:
        there = steps_on_disk(self._run_dir)
        self._left = {s: f for s, f in self._left.items() if s in there and f == self._files(s)}
        for step in self.tally.broken - there:
            self.tally.note(step, self.tally.gone)
        wanted = {step for step in there if step % self._every == 0}
        if over and there:
            wanted.add(max(there))
        done = self._done()
        return sorted(s for s in wanted - self._left.keys() if not done.get(s, set()) >= self._keys)

    def _evaluate(self, step: int, waiting: int) -> None:
        rollbacks = self._records.rollbacks()
        before = self._files(step)
        params, about, problem = None, {}, None
        try:
            params, about = self._read(step)
        except Exception as error:
            problem = error
        after = self._files(step)
        if not before or after != before:
            # What a deletion had left may have been read as zeros: nothing of it counts.
            self._left[step] = after
            if self.tally.note(step, self.tally.gone):
                say(f"step {step}: the checkpoint was deleted while it was read; going on.")
            return
        if problem is not None:
            self._break(step, after, problem)
            return
        done = self._done().get(step, set())
        records: list[dict[str, Any]] = []
        for part in self._parts:
            if part.keys <= done:
                continue
            try:
                records += [about | record for record in part.score(params, step)]
            except Exception as error:
                # A diverged model has no likelihoods, say; what else was scored is kept.
                problem = error

        def current() -> bool:
            return self._records.rollbacks() == rollbacks

        if not self._records.append(records, current):
            say(f"step {step}: the run has gone back in the meantime; not recorded.")
            return
        if problem is None:
            self.tally.note(step, self.tally.evaluated)
        else:
            self._break(step, after, problem)
        if records:
            say(f"step {step}: {_told(records)}" + (f"; {waiting} more" if waiting else ""))
        if problem is None and not self._done().get(step, set()) >= self._keys:
            # Some record isn't there even now: trying again would never end.
            self._left[step] = after

    def _break(self, step: int, files: Files, problem: Exception) -> None:
        """Leaves a step that can't be read or scored until its files are others."""
        self._left[step] = files
        if self.tally.note(step, self.tally.broken):
            say(f"step {step}: {' '.join(str(problem).split())[:300]}")

    def _done(self) -> dict[int, set[Key]]:
        """Returns what has been evaluated, by step: as it is asked now, or so that it stays.

        A record with other settings leaves room for another one if the log tells the two apart.
        """
        found: dict[int, set[Key]] = {}
        staying: dict[Key, set[int]] = {}
        for record in read_json_lines(self._run_dir / FILE):
            key = record["kind"], record["task"]
            now = record | self._settings.get(key, {})
            if now == record or key_of(now) == key_of(record):
                found.setdefault(record["step"], set()).add(key)
            if now != record and key_of(now) == key_of(record):
                staying.setdefault(key, set()).add(record["step"])
        for kind, task in staying.keys() - self._told:
            say(
                f"{self._run_dir}: {task} ({kind}) was evaluated with other settings at "
                f"{len(staying[kind, task])} step(s), and isn't again; under another name it is."
            )
        self._told |= staying.keys()
        return found

    def _files(self, step: int) -> Files:
        """Returns what identifies each file of a checkpoint; nothing where it is being deleted."""
        folder, found = self._run_dir / FOLDER / str(step), {}
        try:
            for path in filter(pathlib.Path.is_file, folder.rglob("*")):
                stat = path.stat()
                found[str(path.relative_to(folder))] = stat.st_ino, stat.st_size, stat.st_mtime_ns
        except FileNotFoundError:
            return {}
        return found


def reading(run_dir: pathlib.Path, params: Callable[[int], Any]) -> Reading:
    """Returns the `read` of a follower; `params(step)` returns a checkpoint's parameters."""

    def read(step: int) -> tuple[Any, dict[str, Any]]:
        about = about_of(run_dir, step)
        return jax.block_until_ready(params(step)), about

    return read


def about_of(run_dir: pathlib.Path, step: int) -> dict[str, Any]:
    """Returns what the records of a checkpoint have in common, as in the run's own log."""
    with Checkpoints(run_dir) as checkpoints:
        tokens = checkpoints.meta(step)["tokens"]
    return {"kind": "eval", "step": step, "train_tokens": tokens}


def record(run_dir: pathlib.Path, step: int, records: Sequence[dict[str, Any]]) -> None:
    """Appends what was evaluated of one checkpoint to the run's evaluations.

    Every process must call it; the first one writes.
    """
    # Opening a checkpoint waits for all processes.
    about = about_of(run_dir, step)
    if jax.process_index() != 0:
        return
    own = Records(run_dir)
    own.leave_abandoned()
    whole, done = [about | record for record in records], own.done().get(step, set())
    own.append(whole)
    if staying := [f"{r['task']} ({r['kind']})" for r in whole if key_of(r) in done]:
        say(f"{run_dir}: step {step} has {', '.join(staying)} already; not recorded again.")


def _told(records: Sequence[dict[str, Any]]) -> str:
    parts = []
    for r in records:
        names = ("bits_per_byte", "accuracy", "preferred", "right", "simplified_per_1000")
        name = next((n for n in names if isinstance(r.get(n), float)), None)
        if name is not None:
            unit = "" if name == "bits_per_byte" else f" {name}"
            parts.append(f"{r['task']} {r[name]:.4f}{unit}")
    return ", ".join(parts) or f"{len(records)} record(s)"
