"""Sorting more rows than memory holds, and handing them out by group and by unit.

Rows are uint64 [rows, columns], ordered by the first column, then by the next ones. Sorted runs go
to files and are merged block by block, so that neither many rows nor many equal ones need memory.
"""

from __future__ import annotations

import os
import pathlib
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np

from twjax.corpus import document
from twjax.corpus.step import Records

# Rows, their copies while they are sorted, and the order: bytes a byte of rows.
_COPIES = 5
_LEAST_ROWS = 1 << 10


def sort_rows(rows: np.ndarray) -> np.ndarray:
    """Returns rows sorted by all columns."""
    rows = rows[np.argsort(rows[:, 0])]
    same = rows[1:, 0] == rows[:-1, 0]
    if rows.shape[1] > 1 and same.any():
        # Only rows that are equal so far need the slow sort; they already stand together.
        tied = np.zeros(len(rows), bool)
        tied[1:], tied[:-1] = same, same | tied[:-1]
        tied[1:] |= same
        part = rows[tied]
        rows[tied] = part[np.lexsort(part.T[::-1])]
    return rows


def distinct(rows: np.ndarray) -> np.ndarray:
    """Returns sorted rows without repetitions."""
    new = np.ones(len(rows), bool)
    new[1:] = (rows[1:] != rows[:-1]).any(axis=1)
    return rows if new.all() else rows[new]


class Sorter:
    """Takes rows in any order and gives them back sorted, within about `budget_bytes`.

    `unique` drops repeated rows. `folder` gets files only if the rows don't fit; use it as a
    context manager to have them removed.
    """

    def __init__(
        self, folder: pathlib.Path, name: str, columns: int, budget_bytes: int, unique: bool = False
    ):
        self._folder, self._name = folder, name
        self._columns, self._unique = columns, unique
        self._row_bytes = 8 * columns
        self._room = max(_LEAST_ROWS, budget_bytes // (_COPIES * self._row_bytes))
        self._pending: list[np.ndarray] = []
        self._waiting = 0
        self._runs: list[pathlib.Path] = []
        self.spilled_bytes = 0

    def __enter__(self) -> Sorter:
        return self

    def __exit__(self, *_: Any) -> None:
        for path in self._runs:
            path.unlink(missing_ok=True)

    def add(self, *columns: np.ndarray) -> None:
        """Adds rows, given column by column: integers from 0."""
        rows = np.empty((len(columns[0]), self._columns), np.uint64)
        for index, column in enumerate(columns):
            rows[:, index] = column
        for start in range(0, len(rows), self._room):
            part = rows[start : start + self._room]
            if self._waiting + len(part) > self._room:
                self._spill()
            self._pending.append(part)
            self._waiting += len(part)

    def _sorted(self) -> np.ndarray:
        if not self._pending:
            return np.empty((0, self._columns), np.uint64)
        rows = np.concatenate(self._pending)
        self._pending, self._waiting = [], 0
        rows = sort_rows(rows)
        return distinct(rows) if self._unique else rows

    def _spill(self) -> None:
        rows = self._sorted()
        if not len(rows):
            return
        path = self._folder / f"{self._name}-{len(self._runs):05d}.run"
        self._runs.append(path)
        # `tofile` wouldn't say why it failed.
        with document.disk_errors(path), open(path, "wb") as file:
            file.write(memoryview(rows).cast("B"))
        self.spilled_bytes += rows.nbytes

    def blocks(self) -> Iterator[np.ndarray]:
        """Yields all rows, sorted, in blocks; once."""
        if not self._runs:
            rows = self._sorted()
            for start in range(0, len(rows), max(1, self._room // 2)):
                yield rows[start : start + max(1, self._room // 2)]
            return
        self._spill()
        share = max(_LEAST_ROWS, self._room // (2 * len(self._runs)))
        runs = [_Run(path, self._columns, share) for path in self._runs]
        while runs:
            waiting = [run.rows[-1] for run in runs if not run.ended]
            # All rows up to the least of these are in memory.
            last = min(waiting, key=tuple) if waiting else None
            rows = sort_rows(np.concatenate([run.take(last) for run in runs]))
            yield distinct(rows) if self._unique else rows
            runs = [run for run in runs if run.fill()]


class _Run:
    """A sorted file, of which a stretch is in memory."""

    def __init__(self, path: pathlib.Path, columns: int, share: int):
        self._path, self._columns, self._share = path, columns, share
        self._at, self.ended = 0, False
        self.rows = np.empty((0, columns), np.uint64)
        self.fill()

    def fill(self) -> bool:
        """Reads on if nothing is in memory; returns whether there are rows."""
        if not len(self.rows) and not self.ended:
            count = self._share * self._columns
            flat = np.fromfile(self._path, np.uint64, count, offset=self._at)
            self._at += flat.nbytes
            self.rows = flat.reshape(-1, self._columns)
            self.ended = self._at >= self._path.stat().st_size
        return len(self.rows) > 0

    def take(self, last: np.ndarray | None) -> np.ndarray:
        """Returns and gives up the rows in memory that don't come behind `last`."""
        cut = len(self.rows) if last is None else _behind(self.rows, last)
        taken, self.rows = self.rows[:cut], self.rows[cut:]
        return taken


def _behind(rows: np.ndarray, last: np.ndarray) -> int:
    """Returns how many sorted rows don't come behind `last`."""
    low, high = 0, len(rows)
    for column, value in enumerate(last):
        part = rows[low:high, column]
        low, high = (
            low + int(np.searchsorted(part, value, "left")),
            low + int(np.searchsorted(part, value, "right")),
        )
    return high


def leaders(blocks: Iterable[np.ndarray], keys: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yields (rows, first): for each row the first one of all whose first `keys` columns are equal.

    Both [rows, columns]; a group may go over any number of blocks.
    """
    carry = None
    for block in blocks:
        if not len(block):
            continue
        rows = block if carry is None else np.concatenate((carry, block))
        new = np.ones(len(rows), bool)
        new[1:] = (rows[1:, :keys] != rows[:-1, :keys]).any(axis=1)
        first = rows[np.maximum.accumulate(np.where(new, np.arange(len(rows)), 0))]
        skip = 0 if carry is None else 1
        carry = first[-1:].copy()
        yield rows[skip:], first[skip:]


def numbered(records: Records) -> Iterator[tuple[np.int64, np.ndarray]]:
    """Yields (global number of the first document, records) of each unit that has records."""
    for start, unit in zip(records.starts, records, strict=True):
        if len(unit):
            yield start, unit


def by_unit(blocks: Iterable[np.ndarray], records: Records) -> Iterator[np.ndarray]:
    """Yields for each unit the rows whose first column is a global number of its documents.

    The first column becomes the index in the unit. `blocks` are sorted.
    """
    stream = iter(blocks)
    rows: np.ndarray | None = next(stream, None)
    columns = 1 if rows is None else rows.shape[1]
    for start, size in zip(records.starts.tolist(), records.sizes.tolist(), strict=True):
        parts = [np.empty((0, columns), np.uint64)]
        while rows is not None:
            cut = int(np.searchsorted(rows[:, 0], np.uint64(start + size)))
            parts.append(rows[:cut])
            rows = rows[cut:]
            if len(rows):
                break
            rows = next(stream, None)
        own = np.concatenate(parts)
        own[:, 0] -= np.uint64(start)
        yield own


def requests(
    blocks: Iterable[np.ndarray], records: Records, columns: Sequence[tuple[str, str]]
) -> Iterator[np.ndarray]:
    """Yields one request a unit of sorted rows; `columns` are the others' names and types."""
    dtype = np.dtype([("document", "<u4"), *columns])
    for rows in by_unit(blocks, records):
        request = np.empty(len(rows), dtype)
        for index, name in enumerate(dtype.names or ()):
            if len(rows):
                request[name] = rows[:, index]
        yield request


def room(folder: pathlib.Path, name: str, length: int, dtype: Any, budget_bytes: int) -> np.ndarray:
    """Returns an array of zeros in memory, or in a file of `folder` if it exceeds the budget."""
    dtype = np.dtype(dtype)
    if length * dtype.itemsize <= budget_bytes or not length:
        return np.zeros(length, dtype)
    path = folder / f"{name}.npy"
    with document.disk_errors(path):
        array = np.lib.format.open_memmap(path, "w+", dtype, (length,))
        # A file with holes would end the process when the disk is full; this raises.
        with open(path, "r+b") as file:
            os.posix_fallocate(file.fileno(), 0, path.stat().st_size)
    return array
