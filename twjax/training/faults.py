"""Being told to stop: SIGTERM and SIGINT end a run after a save, on every host at one step."""

from __future__ import annotations

import os
import signal
from types import FrameType
from typing import Any

import jax
from jax.experimental import multihost_utils


class StopSignal:
    """Turns SIGTERM (and the first Ctrl-C) into a request that the loop reads between steps.

    A context manager; the previous handlers come back at its end. With several processes the
    JAX coordinator carries the request, so that all stop after the same step.
    """

    def __init__(self) -> None:
        self._asked = False
        self._previous: dict[int, Any] = {}

    def __enter__(self) -> StopSignal:
        # The coordination service of a multi-process run watches SIGTERM by itself.
        watched = [signal.SIGINT] if jax.process_count() > 1 else [signal.SIGTERM, signal.SIGINT]
        for number in watched:
            self._previous[number] = signal.signal(number, self._ask)
        return self

    def __exit__(self, *exc: object) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def _ask(self, number: int, frame: FrameType | None) -> None:
        if self._asked and number == signal.SIGINT:
            raise KeyboardInterrupt
        self._asked = True
        if jax.process_count() > 1:
            # Only the coordination service can stop all processes at one step, and it listens to
            # SIGTERM alone.
            os.kill(os.getpid(), signal.SIGTERM)

    def requested(self, step: int) -> bool:
        """Whether to save and stop after `step`; the same answer in every process."""
        if jax.process_count() > 1:
            return multihost_utils.reached_preemption_sync_point(step)
        return self._asked
