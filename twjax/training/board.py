"""TensorBoard event files, written in this thread: an error is raised where it happens."""

# Protocol buffers make their classes when they are imported.
# pyright: reportAttributeAccessIssue=false

from __future__ import annotations

import os
import pathlib
import time

from tensorboardX.event_file_writer import EventsWriter
from tensorboardX.proto.event_pb2 import Event, SessionLog
from tensorboardX.proto.summary_pb2 import Summary


class Board:
    """Appends scalars to a new event file in `folder`.

    Points at or after `first_step` that older files hold are hidden by TensorBoard: a resumed
    run writes them again.
    """

    def __init__(self, folder: pathlib.Path, first_step: int):
        folder.mkdir(parents=True, exist_ok=True)
        self._writer = EventsWriter(str(folder / "events"), f".{first_step}.{os.getpid()}")
        self._write(Event(step=first_step, session_log=SessionLog(status=SessionLog.START)))

    def scalar(self, name: str, value: float, step: int) -> None:
        """Adds one point."""
        point = Summary(value=[Summary.Value(tag=name, simple_value=value)])
        self._write(Event(step=step, summary=point))

    def flush(self) -> None:
        """Hands everything to the operating system."""
        self._writer.flush()

    def close(self) -> None:
        """Closes the file."""
        self._writer.close()

    def _write(self, event: Event) -> None:
        event.wall_time = time.time()
        self._writer.write_event(event)
