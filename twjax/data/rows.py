"""Cached rows on disk: fixed structs in ArrayRecord files, and the `info.json` beside them.

A cache directory is `CACHE/<task>/<split>/<seq_len>/<fingerprint>/` with `rows-*.array_record`,
`token_bytes.npy` and `info.json`; the file `current` one level up names the fingerprint to read.
Both the caching commands and the trainer use this module; it imports neither TensorFlow nor seqio.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import itertools
import os
import pathlib
import secrets
import shutil
import socket
import threading
from collections.abc import Mapping, Sequence
from typing import Any, Literal, Self

import numpy as np
from array_record.python.array_record_module import (  # pyright: ignore
    ArrayRecordReader,
    ArrayRecordWriter,
)

from twjax import storage
from twjax.data.source_hash import source_sha256

__all__ = [
    "Info",
    "RowReader",
    "RowWriter",
    "cache_dir",
    "decode",
    "encode",
    "row_dtype",
    "set_current",
    "source_sha256",
]

FORMAT = 1

RowFormat = Literal["decoder", "encoder_decoder"]
# Tokens a row: one number, or (inputs, targets) for encoder-decoder rows.
SeqLen = int | tuple[int, int]

# One record a group: a random read decompresses one row. With zstd a row of 2,048 skewed ids takes
# 3.2 kB instead of 18.5 kB and two cores still read 28 M tokens/s in random order (41 M raw).
WRITER_OPTIONS = "group_size:1,zstd"
READER_OPTIONS = "readahead_buffer_size:0"
READER_BUFFER_BYTES = 1 << 15
FILE_BYTES = 1 << 28


def row_dtype(row_format: RowFormat, seq_len: SeqLen) -> np.dtype:
    """Returns the packed little-endian struct of one row.

    "decoder": tokens int32[L], segment_ids int32[L], loss_weights uint8[L].
    "encoder_decoder": inputs, inputs_segment_ids int32[Li]; targets, targets_segment_ids
    int32[Lt], loss_weights uint8[Lt]. Segment ids count 1, 2, … in a row; 0 is padding.
    """
    if row_format == "decoder" and isinstance(seq_len, int):
        fields = [("tokens", "<i4", seq_len), ("segment_ids", "<i4", seq_len)]
        fields += [("loss_weights", "u1", seq_len)]
    elif row_format == "encoder_decoder" and not isinstance(seq_len, int):
        inputs, targets = seq_len
        fields = [("inputs", "<i4", inputs), ("inputs_segment_ids", "<i4", inputs)]
        fields += [("targets", "<i4", targets), ("targets_segment_ids", "<i4", targets)]
        fields += [("loss_weights", "u1", targets)]
    else:
        raise ValueError(
            f"Row format {row_format!r} with seq_len {seq_len}: 'decoder' rows have one length, "
            "'encoder_decoder' rows two (inputs, targets)."
        )
    return np.dtype([(name, kind, (length,)) for name, kind, length in fields])


def encode(features: Mapping[str, np.ndarray], dtype: np.dtype) -> list[bytes]:
    """Returns one record a row from arrays [n, L] named as the fields of `dtype`."""
    names = dtype.names or ()
    if set(features) != set(names):
        raise ValueError(f"Row features {sorted(features)} must be {sorted(names)}.")
    rows = np.zeros(len(next(iter(features.values()))), dtype)
    for name in names:
        value, field = np.asarray(features[name]), rows[name]
        if value.shape != field.shape or value.dtype.kind not in "iub":
            raise ValueError(
                f"Row feature {name} has shape {value.shape} and type {value.dtype}; integers "
                f"of shape {field.shape} are expected."
            )
        limits = np.iinfo(field.dtype)
        if value.size and not (limits.min <= value.min() and value.max() <= limits.max):
            raise ValueError(
                f"Row feature {name} has values from {value.min()} to {value.max()}, outside "
                f"{field.dtype}."
            )
        field[...] = value
    return [row.tobytes() for row in rows]


def decode(records: Sequence[bytes], dtype: np.dtype) -> dict[str, np.ndarray]:
    """Returns arrays [n, L] by field name from n records."""
    for record in records:
        if len(record) != dtype.itemsize:
            raise ValueError(f"A row has {len(record)} bytes; {dtype.itemsize} are expected.")
    rows = np.frombuffer(b"".join(records), dtype)
    return {name: np.ascontiguousarray(rows[name]) for name in dtype.names or ()}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Info:
    """What `info.json` says of one cache directory.

    `tokens` counts all but padding and `loss_tokens` those with a loss weight; `text_bytes` is
    the UTF-8 length of the documents' text. `vocabulary` has sha256, size, path. `files` has
    file, rows, bytes, sha256 of each rows file. `ingredients` is what `fingerprint` hashes; its
    "preprocessors" are [{name, arguments, source_sha256}].
    """

    format: int = FORMAT
    task: str
    split: str
    seq_len: SeqLen
    row_format: RowFormat
    fingerprint: str
    rows: int
    tokens: int
    loss_tokens: int
    documents: int
    text_bytes: int
    pad_fraction: float
    tokens_per_byte: float
    vocabulary: dict[str, Any]
    files: list[dict[str, Any]]
    ingredients: dict[str, Any]

    @classmethod
    def load(cls, path: pathlib.Path) -> Self:
        """Reads `info.json`; raises ValueError when it isn't what this version writes."""
        values = storage.read_json(path)
        if not isinstance(values, dict) or values.get("format") != FORMAT:
            raise ValueError(f"{path}: not cached rows of format {FORMAT}; cache the task again.")
        names = {field.name for field in dataclasses.fields(cls)}
        if names != set(values):
            odd = ", ".join(sorted(names ^ set(values)))
            raise ValueError(f"{path}: fields {odd} are missing or unknown; cache the task again.")
        if isinstance(values["seq_len"], list):
            values["seq_len"] = tuple(values["seq_len"])
        return cls(**values)


def cache_dir(
    cache: str | os.PathLike[str], task: str, split: str, seq_len: SeqLen
) -> pathlib.Path:
    """Returns the folder that holds `current` and a folder for each fingerprint."""
    length = str(seq_len) if isinstance(seq_len, int) else "x".join(map(str, seq_len))
    return pathlib.Path(cache) / task / split / length


def set_current(
    cache: str | os.PathLike[str], task: str, split: str, seq_len: SeqLen, fingerprint: str
) -> None:
    """Makes whole rows of this fingerprint the ones that readers get."""
    folder = cache_dir(cache, task, split, seq_len)
    if not (folder / fingerprint / "info.json").is_file():
        raise FileNotFoundError(f"{folder / fingerprint}: no info.json, so no whole cache.")
    with storage.atomic_writer(folder / "current") as file:
        file.write(fingerprint + "\n")


class RowWriter:
    """Writes the rows of one cache directory, which appears whole when `finish` is called.

    A context manager: leaving it without `finish` deletes what was written. Rows go to files of
    at most `rows_per_file`. `token_bytes` is int32[vocab size]: the UTF-8 bytes of text that each
    id stands for, 0 for control tokens; token ids are checked against its length.
    """

    def __init__(
        self,
        cache: str | os.PathLike[str],
        task: str,
        split: str,
        seq_len: SeqLen,
        fingerprint: str,
        *,
        row_format: RowFormat = "decoder",
        token_bytes: np.ndarray,
        rows_per_file: int | None = None,
    ):
        self._place = (cache, task, split, seq_len)
        self._format: RowFormat = row_format
        self._fingerprint = fingerprint
        self._dtype = row_dtype(row_format, seq_len)
        self._token_bytes = np.asarray(token_bytes, np.int32)
        self._rows_per_file = rows_per_file or max(1, FILE_BYTES // self._dtype.itemsize)
        self._writer: Any = None
        self._files: list[dict[str, Any]] = []
        self._rows_in_file = self._tokens = self._loss_tokens = 0
        self._folder = cache_dir(cache, task, split, seq_len)
        self._folder.mkdir(parents=True, exist_ok=True)
        _remove_dead(self._folder)
        name = f".tmp-{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(4)}"
        self._temporary = self._folder / name
        self._temporary.mkdir()

    @property
    def rows(self) -> int:
        """Number of rows written so far."""
        return sum(entry["rows"] for entry in self._files) + self._rows_in_file

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        if self._writer is not None:
            with contextlib.suppress(RuntimeError):
                self._writer.close()
            self._writer = None
        shutil.rmtree(self._temporary, ignore_errors=True)

    def write(self, features: Mapping[str, np.ndarray]) -> None:
        """Appends n rows given as arrays [n, L] by field name."""
        records = encode(features, self._dtype)
        for name, value in features.items():
            if name.endswith("segment_ids"):
                self._tokens += int(np.count_nonzero(value))
            elif name == "loss_weights":
                self._loss_tokens += int(np.count_nonzero(value))
            elif value.size and not 0 <= value.min() <= value.max() < len(self._token_bytes):
                raise ValueError(
                    f"{self._folder}: {name} has ids from {value.min()} to {value.max()}; the "
                    f"vocabulary has {len(self._token_bytes)}."
                )
        for record in records:
            if self._writer is None:
                path = self._temporary / f"rows-{len(self._files):05d}"
                self._writer = ArrayRecordWriter(str(path), WRITER_OPTIONS)
            self._writer.write(record)
            self._rows_in_file += 1
            if self._rows_in_file == self._rows_per_file or not self._writer.ok():
                self._close_file()

    def _close_file(self) -> None:
        path = self._temporary / f"rows-{len(self._files):05d}"
        writer, self._writer = self._writer, None
        try:
            writer.close()
            reader = ArrayRecordReader(str(path), options=READER_OPTIONS)
            rows = reader.num_records()
            reader.close()
        except RuntimeError as error:
            raise OSError(f"{path}: could not be written ({error}).") from error
        if rows != self._rows_in_file:
            raise OSError(f"{path}: {self._rows_in_file} rows were written, {rows} can be read.")
        self._files.append({"file": path.name, "rows": rows})
        self._rows_in_file = 0

    def finish(
        self,
        *,
        documents: int,
        text_bytes: int,
        vocabulary: Mapping[str, Any],
        ingredients: Mapping[str, Any],
    ) -> Info:
        """Completes the files, writes `info.json` last, and renames the folder into place.

        `vocabulary` is {sha256, size, path}. Readers get these rows from now on (`current`). When
        another process finished the same fingerprint first, its rows stay and these go.
        """
        if self._writer is not None:
            self._close_file()
        for entry in self._files:
            old = self._temporary / entry["file"]
            new = old.with_name(f"{old.name}-of-{len(self._files):05d}.array_record")
            old.rename(new)
            entry |= {
                "file": new.name,
                "bytes": new.stat().st_size,
                "sha256": storage.sha256_file(new),
            }
            _fsync(new)
        _, task, split, seq_len = self._place
        slots = self.rows * sum(
            self._dtype[name].shape[0]
            for name in self._dtype.names or ()
            if name.endswith("segment_ids")
        )
        info = Info(
            task=task,
            split=split,
            seq_len=seq_len,
            row_format=self._format,
            fingerprint=self._fingerprint,
            rows=self.rows,
            tokens=self._tokens,
            loss_tokens=self._loss_tokens,
            documents=documents,
            text_bytes=text_bytes,
            pad_fraction=1 - self._tokens / slots if slots else 0.0,
            tokens_per_byte=self._tokens / text_bytes if text_bytes else 0.0,
            vocabulary=dict(vocabulary),
            files=self._files,
            ingredients=dict(ingredients),
        )
        np.save(self._temporary / "token_bytes.npy", self._token_bytes)
        _fsync(self._temporary / "token_bytes.npy")
        storage.write_json(self._temporary / "info.json", dataclasses.asdict(info))
        final = self._folder / self._fingerprint
        if not (final / "info.json").is_file():
            shutil.rmtree(final, ignore_errors=True)
            self._temporary.rename(final)
            _fsync(self._folder)
        set_current(*self._place, self._fingerprint)
        return Info.load(final / "info.json")


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

        Checked without TensorFlow: sizes of the files, source code of the preprocessors, and
        the vocabulary's sha256 when the model file (default: the one that made the rows) can be
        read.
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
            try:
                same = source_sha256(step["name"]) == step["source_sha256"]
                what = "has changed since the rows were cached"
            except ValueError as error:
                same, what = False, f"can't be found any more ({error})"
            if not same:
                lines.append(f"{self._folder}: preprocessor {step['name']} {what}; {self._advice}")
        model = pathlib.Path(vocabulary or self.info.vocabulary["path"])
        if model.is_file() and storage.sha256_file(model) != self.info.vocabulary["sha256"]:
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


def _remove_dead(folder: pathlib.Path) -> None:
    """Deletes what killed builds of this machine left in `folder`."""
    host = socket.gethostname()
    for path in folder.glob(f".tmp-{host}-*"):
        pid = path.name.removeprefix(f".tmp-{host}-").partition("-")[0]
        try:
            os.kill(int(pid), 0)
        except ProcessLookupError:
            shutil.rmtree(path, ignore_errors=True)
        except (PermissionError, ValueError):
            continue


def _fsync(path: pathlib.Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
