"""Cached rows: reading them at random, and the names that make and describe them.

Both the caching commands and the trainer use this module; it imports neither TensorFlow nor seqio.
"""

from __future__ import annotations

import functools
import importlib.util
import itertools
import os
import pathlib
import threading
from collections.abc import Sequence
from typing import Any

import numpy as np
from array_record.python.array_record_module import (  # pyright: ignore
    ArrayRecordReader,
)

from twjax.data.row_format import (
    READER_OPTIONS,
    Info,
    RowFormat,
    SeqLen,
    cache_dir,
    decode,
    encode,
    row_dtype,
    set_current,
)
from twjax.data.row_writer import RowWriter
from twjax.data.source_hash import source_sha256
from twjax.vocab.tokenizer_files import vocabulary_sha256

__all__ = [
    "Info",
    "RowFormat",
    "RowReader",
    "RowWriter",
    "SeqLen",
    "cache_dir",
    "decode",
    "encode",
    "row_dtype",
    "set_current",
    "source_sha256",
]

READER_BUFFER_BYTES = 1 << 15


class RowReader:
    """Random access to the current rows of one task, split and length.

    Opening reads `info.json` only; files are opened when a row of theirs is first read. `config`
    names the configuration file in the advice that errors give. Safe to use from many threads.
    """

    def __init__(
        self,
        cache: str | os.PathLike[str],
        task: str,
        split: str,
        seq_len: SeqLen,
        *,
        config: str = "CONFIG",
    ):
        self._advice = f"run: twjax tasks cache {config}"
        self._folder = self._find(cache_dir(cache, task, split, seq_len), task, split)
        self.info = Info.load(self._folder / "info.json")
        stated = (self.info.task, self.info.split, self.info.seq_len)
        if stated != (task, split, seq_len):
            raise ValueError(
                f"{self._folder / 'info.json'}: holds rows of {stated}, not of "
                f"{(task, split, seq_len)}; {self._advice}"
            )
        counts = [entry["rows"] for entry in self.info.files]
        if sum(counts) != self.info.rows:
            raise ValueError(
                f"{self._folder / 'info.json'}: says {self.info.rows} rows, its files have "
                f"{sum(counts)}; delete the folder and {self._advice}"
            )
        self.dtype = row_dtype(self.info.row_format, self.info.seq_len)
        self._starts = np.array([0, *itertools.accumulate(counts)], np.int64)
        self._readers: list[Any] = [None] * len(counts)
        self._lock = threading.Lock()

    def _find(self, folder: pathlib.Path, task: str, split: str) -> pathlib.Path:
        try:
            fingerprint = (folder / "current").read_text(encoding="utf-8").strip()
        except FileNotFoundError:
            lengths = sorted(p.parent.name for p in folder.parent.glob("*/current"))
            others = f" (there are rows of length {', '.join(lengths)})" if lengths else ""
            raise FileNotFoundError(
                f"{folder}: no cached rows of task {task}, split {split}{others}; {self._advice}"
            ) from None
        if not (folder / fingerprint / "info.json").is_file():
            raise FileNotFoundError(
                f"{folder / 'current'}: names {fingerprint!r}, which has no info.json; "
                f"{self._advice}"
            )
        return folder / fingerprint

    @property
    def path(self) -> pathlib.Path:
        """The folder of the rows, named by their fingerprint."""
        return self._folder

    def __len__(self) -> int:
        return self.info.rows

    @functools.cached_property
    def token_bytes(self) -> np.ndarray:
        """int32[vocab size]: UTF-8 bytes of text that each token id stands for."""
        values = np.load(self._folder / "token_bytes.npy")
        if values.shape != (self.info.vocabulary["size"],):
            raise ValueError(
                f"{self._folder / 'token_bytes.npy'}: has shape {values.shape}, the vocabulary "
                f"has {self.info.vocabulary['size']} ids; delete the folder and {self._advice}"
            )
        return values

    def read(self, indices: Sequence[int] | np.ndarray) -> dict[str, np.ndarray]:
        """Returns arrays [n, L] by field name for n row numbers in any order, repeats allowed."""
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
        return decode(records, self.dtype)

    def _open(self, number: int) -> Any:
        if self._readers[number] is None:
            with self._lock:
                if self._readers[number] is None:
                    self._readers[number] = self._opened(number)
        return self._readers[number]

    def _opened(self, number: int) -> Any:
        entry = self.info.files[number]
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
        path = self._folder / self.info.files[number]["file"]
        why = " ".join(why.split())
        return OSError(
            f"{path}: truncated or damaged ({why}); delete {self._folder} and {self._advice}"
        )

    def problems(self, vocabulary: str | os.PathLike[str] | None = None) -> list[str]:
        """Returns a line for everything that makes these rows stale or unreadable.

        Checked without TensorFlow: sizes of the files, source code of the preprocessors where
        their package is installed, and the vocabulary's sha256 where the model file (default: the
        one that made the rows) can be read.
        """
        lines = []
        for entry in self.info.files:
            path = self._folder / entry["file"]
            size = path.stat().st_size if path.exists() else None
            if size != entry["bytes"]:
                lines.append(
                    f"{path}: {'is missing' if size is None else f'has {size} bytes'}, "
                    f"{entry['bytes']} were written; delete {self._folder} and {self._advice}"
                )
        for step in self.info.ingredients.get("preprocessors", ()):
            # A machine that only trains may lack the package; there is nothing to compare then.
            if importlib.util.find_spec(step["name"].partition(".")[0]) is None:
                continue
            try:
                same = source_sha256(step["name"]) == step["source_sha256"]
                what = "has changed since the rows were cached"
            except ValueError as error:
                same, what = False, f"can't be found any more ({error})"
            if not same:
                lines.append(f"{self._folder}: preprocessor {step['name']} {what}; {self._advice}")
        model = pathlib.Path(vocabulary or self.info.vocabulary["path"])
        if model.exists() and vocabulary_sha256(model) != self.info.vocabulary["sha256"]:
            lines.append(
                f"{self._folder}: the rows were made with another vocabulary than {model} "
                f"(its sha256 differs); {self._advice}"
            )
        return lines

    def verify(self, vocabulary: str | os.PathLike[str] | None = None) -> None:
        """Raises one ValueError with all of `problems`."""
        if lines := self.problems(vocabulary):
            raise ValueError(" | ".join(lines))

    def __getstate__(self) -> dict[str, Any]:
        state = self.__dict__ | {"_readers": [None] * len(self._readers)}
        del state["_lock"]
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._lock = threading.Lock()
