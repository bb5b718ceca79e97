"""Starts the points of a sweep, each a `twjax train` of its own, and says what became of them."""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import os
import pathlib
import shlex
import signal
import string
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from types import FrameType
from typing import Any, Literal

from twjax.config import Change, ConfigError, Run, load, other_results
from twjax.progress import Progress, say
from twjax.storage import local_folder
from twjax.sweeps.points import Point
from twjax.training import ledger

State = Literal["waiting", "running", "finished", "failed", "stopped"]
FIELDS = ("config", "run_dir", "overrides", "name", "slot")
LOGS = "logs"
# In LOGS, of each point: where it was started.
SLOT = ".slot"
CONFIG = "config.gin"
LAST_LINES = 6


@dataclasses.dataclass
class Status:
    """What became of a point: "finished" means that its ledger says so."""

    state: State = "waiting"
    code: int | None = None
    lines: tuple[str, ...] = ()


def command(point: Point, run_dir: pathlib.Path, template: str | None, slot: int) -> list[str]:
    """Returns what starts a point: this Python's `twjax train`, or the words of a template.

    In a template {overrides} standing alone becomes as many words as it has; inside a word it is
    quoted for a shell.
    """
    overrides = [part for binding in point.overrides for part in ("--set", binding)]
    overrides += point.more
    if template is None:
        train = [sys.executable, "-m", "twjax", "train", point.config]
        return [*train, "--run-dir", str(run_dir), *overrides]
    values = {"config": point.config, "run_dir": str(run_dir), "name": point.name,
              "slot": str(slot), "overrides": shlex.join(overrides)}  # fmt: skip
    words: list[str] = []
    for word in shlex.split(template):
        words += overrides if word == "{overrides}" else [word.format(**values)]
    return words


def check_template(template: str) -> None:
    """Raises ConfigError for a launch template that can't start a point."""
    try:
        named = {name for _, name, _, _ in string.Formatter().parse(template) if name is not None}
        words = shlex.split(template)
    except ValueError as error:
        raise ConfigError(f"--launch {template!r}: {error}.") from None
    unknown, missing = named - set(FIELDS), {"config", "run_dir", "overrides"} - named
    if unknown or missing or not words:
        problem = f"has {{{min(unknown)}}}" if unknown else f"lacks {{{min(missing)}}}"
        raise ConfigError(
            f"--launch {template!r}: {problem}; it needs {{config}}, {{run_dir}} and "
            "{overrides}, and may have {name} and {slot}."
        )


def is_finished(point: Point, run_dir: pathlib.Path) -> bool:
    """Whether the run's ledger ends with "finish" under the configuration of the point."""
    if not (run_dir / CONFIG).is_file():
        return False
    events = ledger.read(run_dir)
    if not events or events[-1]["event"] != "finish":
        return False
    return not _changes(point, run_dir)


def refuse_edited(points: Sequence[Point], folder: pathlib.Path) -> None:
    """Raises ConfigError where a point was begun with other settings than it has now.

    It would go on from its checkpoint and be neither the one run nor the other.
    """
    edited = {
        point.name: found for point in points if (found := _changes(point, folder / point.name))
    }
    if edited:
        name, changes = next(iter(edited.items()))
        others = len(edited) - 1
        more = f" (and {others} more point{'s' * (others > 1)})" if others else ""
        listing = "; ".join(f"{c.path} {c.old!r} -> {c.new!r}" for c in changes)
        raise ConfigError(
            f"{folder / name}: was begun with other settings: {listing}{more}. Use another "
            f"--output, or delete the point{'s' * bool(others)}."
        )


def _changes(point: Point, run_dir: pathlib.Path) -> list[Change]:
    """Returns what differs from the configuration that the point's run has, if it matters."""
    frozen = run_dir / CONFIG
    return other_results(load(Run, [frozen]).value, point.run.value) if frozen.is_file() else []


class Runner:
    """Runs the points of a sweep in `folder`, up to `jobs` at a time.

    A point that has finished isn't started, and one that was stopped or killed goes on, as the
    training command does by itself; one that another process still trains is waited for, and is one
    of the `jobs` until it ends, in the slot that it was started in. `changed` is called whenever a
    point ends. SIGTERM, SIGHUP and Ctrl-C are passed on, so that runs save; at a second Ctrl-C they
    are killed.
    """

    def __init__(
        self,
        folder: pathlib.Path,
        points: Sequence[Point],
        *,
        jobs: int = 1,
        template: str | None = None,
        changed: Callable[[dict[str, Status]], object] = lambda states: None,
    ):
        self.folder, self.points = local_folder(folder), list(points)
        self.jobs, self.template, self.changed = jobs, template, changed
        self.states = {point.name: Status() for point in self.points}
        self.elsewhere: set[str] = set()
        self.asked = 0

    def run(self) -> bool:
        """Runs what isn't finished; returns whether now all points are."""
        waiting = deque(self.points)
        running: dict[int, tuple[Point, subprocess.Popen[bytes]]] = {}
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.folder / LOGS).mkdir(exist_ok=True)
        with (
            _only_one(self.folder),
            self._signals(),
            _none_left(running),
            Progress(len(self.points), "sweep", "point") as progress,
        ):
            for point in self.points:
                if is_finished(point, self.folder / point.name):
                    waiting.remove(point)
                    self._is_done(point, progress)
            while running or (waiting and not self.asked):
                ended = [slot for slot, (_, process) in running.items() if _over(process)]
                for slot in ended:
                    point, process = running.pop(slot)
                    if process.returncode and _is_held(self.folder / point.name / ".lock"):
                        # What was left elsewhere had not taken its lock when this one looked.
                        waiting.append(point)
                        self._say_waiting(point.name)
                        continue
                    self._note(point, process.returncode)
                    progress.update(note=point.name)
                told = self.asked
                free = len(running) < self.jobs and not told
                left = self._left(list(waiting)) if waiting and free else {}
                for point in list(waiting):
                    if len(running) + len(left) >= self.jobs or told:
                        break
                    if point.name in left:
                        continue
                    waiting.remove(point)
                    if is_finished(point, self.folder / point.name):
                        self._is_done(point, progress)
                        continue
                    taken = {*running, *left.values()}
                    slot = next(n for n in range(self.jobs) if n not in taken)
                    running[slot] = point, self._start(point, slot)
                time.sleep(0.1)
                self._pass_on(running, told)
        self.changed(self.states)
        return all(status.state == "finished" for status in self.states.values())

    def _is_done(self, point: Point, progress: Progress) -> None:
        self.states[point.name] = Status("finished")
        progress.update(note=f"{point.name} was finished")

    def _left(self, waiting: Sequence[Point]) -> dict[str, int | None]:
        """Returns the points that processes of another sweep run, with their slots if known.

        They may be points that the sweep no longer has.
        """
        found: dict[str, int | None] = {}
        for mark in (self.folder / LOGS).glob(f"*{SLOT}"):
            name = mark.name.removesuffix(SLOT)
            if (name not in self.states or any(point.name == name for point in waiting)) and (
                _is_held(mark)
            ):
                text = mark.read_text()
                found[name] = int(text) if text.isdigit() else None
        for point in waiting:
            if point.name not in found and _is_held(self.folder / point.name / ".lock"):
                found[point.name] = None
        for name in found:
            self._say_waiting(name)
        return found

    def _say_waiting(self, name: str) -> None:
        if name not in self.elsewhere:
            self.elsewhere.add(name)
            if name in self.states:
                self.states[name] = Status("running")
            say(f"{name}: another process trains it; its end is waited for.")

    def _start(self, point: Point, slot: int) -> subprocess.Popen[bytes]:
        words = command(point, self.folder / point.name, self.template, slot)
        # Points of one shape compile once.
        environment = {"JAX_COMPILATION_CACHE_DIR": str(self.folder / "compiled")} | os.environ
        self.states[point.name] = Status("running")
        log = self.folder / LOGS / f"{point.name}.log"
        with log.open("ab") as told, (self.folder / LOGS / f"{point.name}{SLOT}").open("w") as mark:
            # What is started holds this lock to its end: the next sweep learns of it, and where,
            # should this one be killed.
            fcntl.flock(mark, fcntl.LOCK_EX | fcntl.LOCK_NB)
            mark.write(str(slot))
            mark.flush()
            # In a session of its own, so that a Ctrl-C of the terminal reaches it once, from here.
            process = subprocess.Popen(
                words, stdout=told, stderr=told, stdin=subprocess.DEVNULL,
                env=environment, start_new_session=True, pass_fds=(mark.fileno(),),
            )  # fmt: skip
        if self.template is None and self.jobs > 1:
            _pin(process.pid, slot, self.jobs)
        return process

    def _note(self, point: Point, code: int) -> None:
        """Keeps what became of a point that ended, and says it when it isn't finished."""
        lines = _last_lines(self.folder / LOGS / f"{point.name}.log")
        if is_finished(point, self.folder / point.name):
            status = Status("finished", code)
        elif self.asked:
            status = Status("stopped", code)
        else:
            status = Status("failed", code, lines)
            shown = "\n  ".join(lines) or "it wrote nothing"
            say(f"{point.name}: not finished, exit code {code}:\n  {shown}")
        self.states[point.name] = status
        self.changed(self.states)

    @contextlib.contextmanager
    def _signals(self) -> Iterator[None]:
        def ask(number: int, frame: FrameType | None) -> None:
            self.asked += 1

        watched = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
        before = {number: signal.signal(number, ask) for number in watched}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _pass_on(self, running: dict[int, Any], told: int) -> None:
        """Tells the runs to save and stop, or at the second time kills them."""
        if self.asked == told or not running:
            return
        if told == 0:
            say(f"Asked to stop: {len(running)} running points save; the same command goes on.")
        for _, process in running.values():
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL if told else signal.SIGTERM)


@contextlib.contextmanager
def _none_left(running: dict[int, Any]) -> Iterator[None]:
    """Stops what still runs when an error ends the sweep."""
    try:
        yield
    finally:
        for _, process in running.values():
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGTERM)


def _over(process: subprocess.Popen[bytes]) -> bool:
    return process.poll() is not None


@contextlib.contextmanager
def _only_one(folder: pathlib.Path) -> Iterator[None]:
    """Keeps a second sweep out of the folder; the lock goes with the process."""
    with (folder / ".lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ConfigError(
                f"{folder}: another sweep runs in this folder; wait for it, or use another "
                "--output."
            ) from None
        yield


def _is_held(path: pathlib.Path) -> bool:
    """Whether a process holds a lock on a file."""
    if not path.exists():
        return False
    with path.open("a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        return False


def _pin(process: int, slot: int, jobs: int) -> None:
    """Gives a process its part of the cores: small models gain little from more."""
    if not hasattr(os, "sched_setaffinity"):
        return
    cores = sorted(os.sched_getaffinity(0))
    mine = cores[slot * len(cores) // jobs : (slot + 1) * len(cores) // jobs]
    with contextlib.suppress(ProcessLookupError):
        os.sched_setaffinity(process, set(mine or cores))


def _last_lines(path: pathlib.Path) -> tuple[str, ...]:
    text = path.read_text(encoding="utf-8", errors="replace") if path.is_file() else ""
    return tuple(line for line in text.splitlines() if line.strip())[-LAST_LINES:]
