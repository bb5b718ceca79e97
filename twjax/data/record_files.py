"""Numbered records of one size in a few ArrayRecord files, read at random."""

from __future__ import annotations

import itertools
import pathlib
import threading
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from array_record.python.array_record_module import (  # pyright: ignore
    ArrayRecordReader,
    ArrayRecordWriter,
)

# One record a group: a random read decompresses one row. With zstd a row of 2,048 skewed ids takes
# 3.2 kB instead of 18.5 kB and two cores still read 28 M tokens/s in random order (41 M raw).
WRITER_OPTIONS = "group_size:1,zstd"
# Rows are read at random; reading ahead would only fetch what nobody asked for.
READER_OPTIONS = "readahead_buffer_size:0"
READER_BUFFER_BYTES = 1 << 15
FILE_BYTES = 1 << 28


class RecordFiles:
    """Random access to the records of some files, numbered from 0 through all of them.

    `files` has "file" and "rows" of each. A file is opened when a record of it is first read.
    Errors end with `advice`. Safe to use from many threads.
    """

    def __init__(self, folder: pathlib.Path, files: Sequence[Mapping[str, Any]], advice: str):
        self._folder, self._files, self._advice = folder, files, advice
        self._starts = np.array([0, *itertools.accumulate(f["rows"] for f in files)], np.int64)
        self._readers: list[Any] = [None] * len(files)
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return int(self._starts[-1])

    def read(self, indices: Sequence[int] | np.ndarray) -> list[bytes]:
        """Returns the records of these numbers, in any order, repeats allowed."""
        rows = np.asarray(indices, np.int64).reshape(-1)
        if rows.size and not 0 <= rows.min() <= rows.max() < len(self):
            raise IndexError(
                f"{self._folder}: rows {rows.min()} to {rows.max()} were asked for; there are "
                f"{len(self)}."
            )
        records: list[bytes] = [b""] * rows.size
        files = np.searchsorted(self._starts, rows, side="right") - 1
        for number in np.unique(files).tolist():
            places = np.flatnonzero(files == number)
            positions = (rows[places] - self._starts[number]).tolist()
            try:
                found = self._open(number).read(positions)
            except RuntimeError as error:
                raise self._broken(number, str(error)) from error
            for place, record in zip(places.tolist(), found, strict=True):
                records[place] = record
        return records

    def _open(self, number: int) -> Any:
        if self._readers[number] is None:
            with self._lock:
                if self._readers[number] is None:
                    self._readers[number] = self._opened(number)
        return self._readers[number]

    def _opened(self, number: int) -> Any:
        entry = self._files[number]
        try:
            reader = ArrayRecordReader(
                str(self._folder / entry["file"]),
                options=READER_OPTIONS,
                file_reader_buffer_size=READER_BUFFER_BYTES,
            )
        except RuntimeError as error:
            raise self._broken(number, str(error)) from error
        # A truncated file opens without an error and has lost its index.
        if reader.num_records() != entry["rows"]:
            readable = reader.num_records()
            reader.close()
            raise self._broken(number, f"{readable} of {entry['rows']} rows can be read")
        return reader

    def _broken(self, number: int, why: str) -> OSError:
        path = self._folder / self._files[number]["file"]
        why = " ".join(why.split())
        return OSError(f"{path}: truncated or damaged ({why}); {self._advice}")

    def __getstate__(self) -> dict[str, Any]:
        state = self.__dict__ | {"_readers": [None] * len(self._readers)}
        del state["_lock"]
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._lock = threading.Lock()


class RecordFile:
    """Writes one file of records; `close` checks that all of them can be read."""

    def __init__(self, path: pathlib.Path):
        self.path, self.rows = path, 0
        try:
            self._writer: Any = ArrayRecordWriter(str(path), WRITER_OPTIONS)
        except RuntimeError as error:
            raise self._unwritten(error) from error

    @property
    def ok(self) -> bool:
        """Whether nothing has gone wrong that `close` will raise."""
        return self._writer.ok()

    def write(self, record: bytes) -> None:
        """Appends a record; raises OSError where that fails, as later calls may."""
        try:
            self._writer.write(record)
        except RuntimeError as error:
            raise self._unwritten(error) from error
        self.rows += 1

    def abandon(self) -> None:
        """Closes the file, whatever is in it."""
        try:
            self._writer.close()
        except RuntimeError:
            return

    def close(self) -> None:
        """Completes the file; raises OSError when it doesn't hold all that was written."""
        try:
            self._writer.close()
            reader = ArrayRecordReader(str(self.path), options=READER_OPTIONS)
            rows = reader.num_records()
            reader.close()
        except RuntimeError as error:
            raise self._unwritten(error) from error
        if rows != self.rows:
            raise OSError(f"{self.path}: {self.rows} rows were written, {rows} can be read.")

    def _unwritten(self, error: RuntimeError) -> OSError:
        return OSError(f"{self.path}: could not be written ({' '.join(str(error).split())}).")
