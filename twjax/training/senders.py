"""Processes beside a run that send its log to trackers, so that no tracker can hold it up.

A tracker's library never runs in the trainer: what is slow there, fails or hangs is so in a
process that reads `metrics.jsonl` (`twjax track`). The trainer starts it, and waits for it for
some seconds at its own end.
"""

from __future__ import annotations

import importlib.util
import pathlib
import subprocess
import sys
import threading
import time
from typing import IO

from twjax.config import ConfigError, Tracking
from twjax.progress import say

# At the end of a run; less than the grace that schedulers give a process which they stop.
WAIT_SECONDS = 10.0


def require_installed(tracking: Tracking) -> None:
    """Raises ConfigError, which names the extra, for a tracker whose package is absent."""
    for kind in tracking.to:
        # Not imported: a tracker's package starts threads and hooks into the process.
        if importlib.util.find_spec(kind) is None:
            raise ConfigError(
                f"Tracking.to names {kind!r}, which isn't installed: pip install 'twjax[{kind}]'."
            )


class Senders:
    """One process a tracker of `tracking` (None: no tracker); a context manager around the run.

    A process knows that the trainer has ended, in whatever way, when its standard input does.
    """

    def __init__(self, run_dir: pathlib.Path, tracking: Tracking | None):
        if tracking is not None:
            require_installed(tracking)
        self._run_dir, self._kinds = run_dir, tracking.to if tracking else ()
        self._processes: dict[str, subprocess.Popen[str]] = {}
        self._listeners: list[threading.Thread] = []

    def __enter__(self) -> Senders:
        return self

    def start(self) -> None:
        """Starts the processes, once."""
        for kind in self._kinds:
            if kind not in self._processes:
                self._processes[kind] = process = self._started(kind)
                assert process.stdout is not None
                listener = threading.Thread(target=_repeat, args=(process.stdout,), daemon=True)
                listener.start()
                self._listeners.append(listener)

    def __exit__(self, *exc: object) -> None:
        for process in self._processes.values():
            assert process.stdin is not None
            process.stdin.close()
        until = time.monotonic() + WAIT_SECONDS
        for kind, process in self._processes.items():
            try:
                code = process.wait(max(0.0, until - time.monotonic()))
            except subprocess.TimeoutExpired:
                say(f"{kind}: still sending, without this process.")
                code = None
            if code != 0:
                say(f"{kind}: `twjax track {self._run_dir} --to {kind}` sends what is missing.")
        for listener in self._listeners:
            listener.join(max(0.1, until - time.monotonic()))

    def _started(self, kind: str) -> subprocess.Popen[str]:
        folder = self._run_dir / "tracking"
        folder.mkdir(exist_ok=True)
        command = [sys.executable, "-m", "twjax", "track", str(self._run_dir)]
        with (folder / f"{kind}.log").open("a", encoding="utf-8") as log:
            return subprocess.Popen(
                [*command, "--to", kind, "--attached"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                # Ctrl-C in the terminal is for the trainer.
                start_new_session=True,
            )


def _repeat(lines: IO[str]) -> None:
    for line in lines:
        say(line.rstrip("\n"))
