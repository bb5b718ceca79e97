"""A log that is read while it is written: new whole lines, whatever its writer does."""

from __future__ import annotations

import json
import os
import pathlib
from typing import IO, Any, NamedTuple


class News(NamedTuple):
    """`records` since the last look, or all that there are: where the log was replaced (`anew`)."""

    anew: bool
    records: list[dict[str, Any]]


class Tail:
    """New records of a JSON-lines log that is appended to, torn by a kill, or replaced as a whole.

    The file is only read. A line without its end is kept until its end is there; `unreadable`
    counts whole lines that are no JSON object.
    """

    def __init__(self, path: pathlib.Path):
        self.path, self.unreadable = path, 0
        self._file: IO[bytes] | None = None
        self._rest = b""

    def read(self) -> News:
        """Returns what is new; nothing while there is no file."""
        anew = self._reopen()
        if self._file is None:
            return News(anew, [])
        *lines, self._rest = (self._rest + self._file.read()).split(b"\n")
        records = []
        for line in filter(None, lines):
            try:
                record = json.loads(line.decode("utf-8", errors="replace"))
            except ValueError:
                record = None
            if isinstance(record, dict):
                records.append(record)
            else:
                self.unreadable += 1
        return News(anew, records)

    def close(self) -> None:
        """Forgets what was read: the next look is a first one."""
        if self._file is not None:
            self._file.close()
        self._file, self._rest, self.unreadable = None, b"", 0

    def _reopen(self) -> bool:
        """Opens the file that stands there now; returns whether it is another one than before."""
        try:
            now = os.stat(self.path)
        except FileNotFoundError:
            return False
        if self._file is not None:
            # An open file keeps its number, so another file can't have it.
            mine = os.fstat(self._file.fileno())
            same = (mine.st_dev, mine.st_ino) == (now.st_dev, now.st_ino)
            if same and now.st_size >= self._file.tell():
                return False
            self.close()
        try:
            self._file = open(self.path, "rb")  # noqa: SIM115
        except FileNotFoundError:
            return False
        return True
