"""TensorBoard event files, written in this thread: an error is raised where it happens."""

# Protocol buffers make their classes when they are imported.
# pyright: reportAttributeAccessIssue=false

from __future__ import annotations

import os
import pathlib
import time
from collections.abc import Mapping
from typing import Any

from tensorboardX.event_file_writer import EventsWriter
from tensorboardX.proto.event_pb2 import Event, SessionLog
from tensorboardX.proto.summary_pb2 import Summary
from tensorboardX.summary import text as text_summary


class Board:
    """Appends values to a new event file in `folder`: the tracker that every run has.

    Points at or after `first_step` that older files hold are hidden by TensorBoard: a resumed
    run writes them again.
    """

    def __init__(self, folder: pathlib.Path, first_step: int):
        folder.mkdir(parents=True, exist_ok=True)
        self._writer = EventsWriter(str(folder / "events"), f".{first_step}.{os.getpid()}")
        self._first = first_step
        self._write(Event(step=first_step, session_log=SessionLog(status=SessionLog.START)))

    def config(self, values: Mapping[str, Any]) -> None:
        """Shows settings as a text."""
        rows = "".join(f"| {name} | `{value}` |\n" for name, value in values.items())
        self.text("config", f"| setting | value |\n|---|---|\n{rows}", self._first)

    def scalar(self, name: str, value: float, step: int) -> None:
        """Adds one point."""
        point = Summary(value=[Summary.Value(tag=name, simple_value=value)])
        self._write(Event(step=step, summary=point))

    def text(self, name: str, value: str, step: int) -> None:
        """Adds a text, which TensorBoard reads as Markdown."""
        self._write(Event(step=step, summary=text_summary(name, value)))

    def flush(self) -> None:
        """Hands everything to the operating system."""
        self._writer.flush()

    def close(self) -> None:
        """Closes the file."""
        self._writer.close()

    def _write(self, event: Event) -> None:
        event.wall_time = time.time()
        self._writer.write_event(event)
