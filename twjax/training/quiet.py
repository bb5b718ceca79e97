"""Orbax's own reports, where ours say the same."""

from __future__ import annotations

import logging
import sys
from typing import Any

import absl.logging


def quiet_orbax() -> None:
    """Orbax reports every file at INFO, and failures both at ERROR and by raising."""
    absl.logging.set_verbosity(absl.logging.FATAL)
    logging.getLogger("asyncio").setLevel(logging.CRITICAL)
    _quiet_late_callbacks()


def _quiet_late_callbacks() -> None:
    """Drops the tracebacks of writes that end after the save they belong to has failed.

    They reach for the event loop of that save, which is closed; the save's own error is raised
    and says what happened. Everything else is reported as before.
    """

    def closed_loop(error: BaseException | None) -> bool:
        return isinstance(error, RuntimeError) and str(error) == "Event loop is closed"

    report, unraisable = sys.excepthook, sys.unraisablehook
    if getattr(report, "quiet_late_callbacks", False):
        return

    def on_error(kind: Any, error: BaseException, trace: Any) -> None:
        if not closed_loop(error):
            report(kind, error, trace)

    def on_unraisable(info: Any) -> None:
        if not closed_loop(info.exc_value):
            unraisable(info)

    on_error.quiet_late_callbacks = True  # type: ignore[attr-defined]
    sys.excepthook, sys.unraisablehook = on_error, on_unraisable
