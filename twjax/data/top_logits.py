"""What a base finds likely at each place of cached rows: written once, read beside the rows.

`FOLDER/info.json` says whose predictions they are. `FOLDER/<task>/<seq_len>/<fingerprint>/` has a
record for each train row of that fingerprint, and an `info.json` when it is whole.
"""

from __future__ import annotations

import dataclasses
import pathlib
from collections.abc import Iterator
from typing import Any, Self

import numpy as np

from twjax import storage
from twjax.data.record_files import FILE_BYTES, RecordFile, RecordFiles
from twjax.data.row_format import SeqLen
from twjax.data.rows import RowReader

FORMAT = 1
INFO = "info.json"


def top_dtype(seq_len: SeqLen, top_k: int) -> np.dtype:
    """Returns the packed struct of a record: for each place K ids and K + 1 log-probabilities.

    `top_ids` int32 [L, K] are in falling order of `top_logs` float16 [L, K + 1], whose last is that
    of all other ids together. L is the length of an encoder-decoder's targets.
    """
    places = seq_len if isinstance(seq_len, int) else seq_len[1]
    return np.dtype([("top_ids", "<i4", (places, top_k)), ("top_logs", "<f2", (places, top_k + 1))])


@dataclasses.dataclass(frozen=True, kw_only=True)
class Teaching:
    """Whose predictions a folder holds: the `top_k` likeliest of the first `known` ids.

    `directory` and `step` are of the weights, `new_rows` is how they were extended; `dtype` is that
    of the computation.
    """

    directory: str
    step: int
    new_rows: dict[str, Any] | None
    known: int
    top_k: int
    temperature: float
    dtype: str
    format: int = FORMAT

    @classmethod
    def load(cls, folder: pathlib.Path) -> Self | None:
        """Reads what a folder says; None where it says nothing."""
        path = folder / INFO
        if not path.is_file():
            return None
        values = storage.read_json(path)
        names = {field.name for field in dataclasses.fields(cls)}
        if not isinstance(values, dict) or set(values) != names or values["format"] != FORMAT:
            raise ValueError(
                f"{path}: not written by `twjax teach` of this version; delete {folder} and run it "
                "again."
            )
        return cls(**values)

    def claim(self, folder: pathlib.Path) -> None:
        """Makes `folder` this teaching's, or raises ValueError where it is another's."""
        if self.load(folder) is None:
            folder.mkdir(parents=True, exist_ok=True)
            storage.write_json(folder / INFO, dataclasses.asdict(self))
        self.check(folder)

    def check(self, folder: pathlib.Path) -> None:
        """Raises ValueError unless `folder` holds this teaching."""
        found = self.load(folder)
        if found is None:
            raise ValueError(f"Distillation.logits ({folder}): has no {INFO}; run `twjax teach`.")
        differing = "; ".join(
            f"{field.name} {getattr(found, field.name)!r} there, {getattr(self, field.name)!r} here"
            for field in dataclasses.fields(self)
            if getattr(found, field.name) != getattr(self, field.name)
        )
        if differing:
            raise ValueError(
                f"Distillation.logits ({folder}): holds other predictions ({differing}). Name "
                "another folder and run `twjax teach`."
            )


def _place(folder: pathlib.Path, task: str, seq_len: SeqLen, fingerprint: str) -> pathlib.Path:
    length = str(seq_len) if isinstance(seq_len, int) else "x".join(map(str, seq_len))
    return folder / task / length / fingerprint


class TopReader:
    """Random access to what was written for the rows of `rows`; opening it checks that it is."""

    def __init__(self, folder: pathlib.Path, rows: RowReader, top_k: int, *, config: str):
        info = rows.info
        place = _place(folder, info.task, info.seq_len, info.fingerprint)
        advice = f"run: twjax teach {config}"
        if not (place / INFO).is_file():
            raise FileNotFoundError(
                f"{place}: nothing for the rows of task {info.task} in {rows.path}; {advice}"
            )
        files = storage.read_json(place / INFO)["files"]
        for entry in files:
            path = place / entry["file"]
            size = path.stat().st_size if path.exists() else None
            if size != entry["bytes"]:
                raise ValueError(
                    f"{path}: {'is missing' if size is None else f'has {size} bytes'}, "
                    f"{entry['bytes']} were written; delete {place} and {advice}"
                )
        self.dtype = top_dtype(info.seq_len, top_k)
        self._files = RecordFiles(place, files, f"delete {place} and {advice}")
        if len(self._files) != len(rows):
            raise ValueError(
                f"{place}: has {len(self._files)} rows, {rows.path} has {len(rows)}; delete it "
                f"and {advice}"
            )

    def read(self, indices: np.ndarray) -> dict[str, np.ndarray]:
        """Returns top_ids [n, L, K] and top_logs [n, L, K + 1] for n row numbers."""
        records = np.frombuffer(b"".join(self._files.read(indices)), self.dtype)
        return {name: np.ascontiguousarray(records[name]) for name in self.dtype.names or ()}


@dataclasses.dataclass(frozen=True)
class TopReaders:
    """What was written for a run's rows: a reader by length and task."""

    top_k: int
    readers: dict[SeqLen, dict[str, TopReader]]

    def nothing(self, seq_len: SeqLen, rows: int) -> dict[str, np.ndarray]:
        """Returns what stands beside rows that the base says nothing about."""
        empty = np.zeros(rows, top_dtype(seq_len, self.top_k))
        return {name: np.ascontiguousarray(empty[name]) for name in empty.dtype.names or ()}


class TopWriter:
    """Writes what stands beside the rows of `rows`, file by file; a killed one goes on.

    `done` rows are on disk; `write` takes those that follow.
    """

    def __init__(
        self,
        folder: pathlib.Path,
        rows: RowReader,
        top_k: int,
        *,
        rows_per_file: int | None = None,
    ):
        info = rows.info
        self._folder = _place(folder, info.task, info.seq_len, info.fingerprint)
        self._total = len(rows)
        self._dtype = top_dtype(info.seq_len, top_k)
        self._per_file = rows_per_file or max(1, FILE_BYTES // self._dtype.itemsize)
        self._file: RecordFile | None = None
        self._folder.mkdir(parents=True, exist_ok=True)
        whole = (self._folder / INFO).is_file()
        self.done = self._total if whole else sum(n for _, n in self._finished())

    def _finished(self) -> Iterator[tuple[pathlib.Path, int]]:
        """Yields the files that are whole, and their rows."""
        for number in range(-(-self._total // self._per_file)):
            path = self._folder / f"rows-{number:05d}.array_record"
            rows = min(self._per_file, self._total - number * self._per_file)
            if not path.is_file():
                return
            yield path, rows

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        if self._file is not None:
            self._file.abandon()
            self._file.path.unlink(missing_ok=True)
            self._file = None

    def write(self, top_ids: np.ndarray, top_logs: np.ndarray) -> None:
        """Appends n rows: ids [n, L, K], log-probabilities [n, L, K + 1]."""
        records = np.zeros(len(top_ids), self._dtype)
        records["top_ids"], records["top_logs"] = top_ids, top_logs
        for record in records:
            if self._file is None:
                number = self.done // self._per_file
                self._file = RecordFile(self._folder / f".rows-{number:05d}")
            self._file.write(record.tobytes())
            self.done += 1
            if self.done % self._per_file == 0 or self.done == self._total:
                self._keep(self._file)

    def _keep(self, file: RecordFile) -> None:
        self._file = None
        file.close()
        storage.sync(file.path)
        file.path.rename(file.path.with_name(f"{file.path.name[1:]}.array_record"))

    def finish(self) -> None:
        """Says that all rows are there."""
        if (self._folder / INFO).is_file():
            return
        files = [
            {"file": path.name, "rows": rows, "bytes": path.stat().st_size}
            for path, rows in self._finished()
        ]
        if sum(entry["rows"] for entry in files) != self._total:
            raise ValueError(f"{self._folder}: {self.done} of {self._total} rows were written.")
        storage.write_json(self._folder / INFO, {"files": files})
