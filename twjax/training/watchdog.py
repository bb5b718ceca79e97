"""Ends a process in which no step ends any more, so that whoever started it starts it again."""

from __future__ import annotations

import contextlib
import faulthandler
import os
import pathlib
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any

import jax

from twjax.config.faults import Faults

# EX_TEMPFAIL of sysexits.h: the same command may do better when it is run again.
EXIT_CODE = 75


class Watchdog:
    """A thread that waits for steps to end; a context manager around all that a run does.

    It begins in a pause: `Faults.pause_timeout` holds for what is named by `pause`, and until the
    first step ends. Time in which the process itself is stopped doesn't count.
    """

    def __init__(self, faults: Faults, run_dir: pathlib.Path):
        self._faults, self._run_dir = faults, run_dir
        self._lock = threading.Lock()
        self._end = threading.Event()
        self._running: list[jax.Array] = []
        self._pauses = ["starting"]
        self._idle = 0.0
        self._ended = 0
        self._thread = threading.Thread(target=self._watch, name="watchdog", daemon=True)

    def __enter__(self) -> Watchdog:
        if self._faults.timeout is not None:
            self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._end.set()
        if self._thread.ident is not None:
            self._thread.join()

    def dispatched(self, value: jax.Array) -> None:
        """Takes what a step returns that the devices have been given; it has ended when it is
        there.
        """
        if self._faults.timeout is not None:
            with self._lock:
                self._running.append(value)

    @contextlib.contextmanager
    def pause(self, what: str) -> Iterator[None]:
        """Lets something else than a step take `Faults.pause_timeout`."""
        self._turn(begins=what)
        try:
            yield
        finally:
            self._turn(ends=what)

    def begin(self) -> None:
        """Says that the next step is a first one: it compiles, and its rows have to be found.

        From here on until it has ended, `Faults.pause_timeout` holds.
        """
        with self._lock:
            self._running.clear()
            self._idle = 0.0
            if "starting" not in self._pauses:
                self._pauses.append("starting")

    def _turn(self, begins: str | None = None, ends: str | None = None) -> None:
        with self._lock:
            self._idle = 0.0
            if begins is not None:
                self._pauses.append(begins)
            if ends is not None:
                self._pauses.remove(ends)

    def _watch(self) -> None:
        timeout = self._faults.timeout
        assert timeout is not None
        tick = min(timeout / 20, 1.0)
        last = time.monotonic()
        while not self._end.wait(tick):
            now = time.monotonic()
            # A process that was stopped for a while has had no more time than a tick.
            passed, last = min(now - last, 2 * tick), now
            with self._lock:
                self._look(passed)
                limit = self._faults.pause_timeout if self._pauses else timeout
                over, what = self._idle > limit, self._pauses[-1] if self._pauses else "a step"
            if over:
                self._give_up(limit, what)

    def _look(self, passed: float) -> None:
        """Counts the steps that have ended since the last look."""
        before = len(self._running)
        self._running = [value for value in self._running if not _is_there(value)]
        if len(self._running) == before:
            self._idle += passed
            return
        self._ended += before - len(self._running)
        self._idle = 0.0
        if "starting" in self._pauses:
            self._pauses.remove("starting")

    def _give_up(self, limit: float, what: str) -> None:
        number = jax.process_index()
        path = self._run_dir / f"hang-{time.strftime('%Y%m%d-%H%M%S')}-host{number}.txt"
        limits = "Faults.pause_timeout" if what != "a step" else "Faults.timeout"
        text = (
            f"{what}: no step has ended for {limit:g} seconds ({limits}), after {self._ended} "
            f"steps of this process; {len(self._running)} are with the devices"
        )
        # First to where it can't fail; a file system may be what hangs.
        print(f"twjax train: {text}. Where the threads are:", file=sys.stderr, flush=True)
        with contextlib.suppress(Exception):
            faulthandler.dump_traceback(file=2, all_threads=True)
        writer = threading.Thread(target=self._write, args=(path, text), daemon=True)
        writer.start()
        writer.join(_WRITING)
        where = f"; the stacks are in {path}" if not writer.is_alive() else ""
        print(f"twjax train: exiting to be started again{where}.", file=sys.stderr, flush=True)
        # Nothing is waited for: what hangs wouldn't let the process end.
        os._exit(EXIT_CODE)

    def _write(self, path: pathlib.Path, text: str) -> None:
        with contextlib.suppress(OSError), path.open("w", encoding="utf-8") as file:
            file.write(f"{text}\n\n")
            file.flush()
            faulthandler.dump_traceback(file=file, all_threads=True)


def _is_there(value: Any) -> bool:
    # What JAX's own type leaves out.
    return value.is_ready()


# Seconds that writing the stacks may take.
_WRITING = 10.0
