"""Writing cached rows: a folder that is whole or absent."""

from __future__ import annotations

import dataclasses
import os
import pathlib
import secrets
import shutil
import socket
from collections.abc import Mapping
from typing import Any, Self

import numpy as np

from twjax import storage
from twjax.data.record_files import FILE_BYTES, RecordFile
from twjax.data.row_format import (
    Info,
    RowFormat,
    SeqLen,
    cache_dir,
    encode,
    row_dtype,
    set_current,
)


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
        self._file: RecordFile | None = None
        self._files: list[dict[str, Any]] = []
        self._tokens = self._loss_tokens = 0
        self._folder = cache_dir(cache, task, split, seq_len)
        self._folder.mkdir(parents=True, exist_ok=True)
        _remove_dead(self._folder)
        name = f".tmp-{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(4)}"
        self._temporary = self._folder / name
        self._temporary.mkdir()

    @property
    def rows(self) -> int:
        """Number of rows written so far."""
        return sum(f["rows"] for f in self._files) + (self._file.rows if self._file else 0)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        if self._file is not None:
            self._file.abandon()
            self._file = None
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
            self._append(record)

    def _append(self, record: bytes) -> None:
        if self._file is None:
            self._file = RecordFile(self._temporary / f"rows-{len(self._files):05d}")
        file = self._file
        file.write(record)
        if file.rows == self._rows_per_file or not file.ok:
            self._close_file(file)

    def _close_file(self, file: RecordFile) -> None:
        self._file = None
        file.close()
        self._files.append({"file": file.path.name, "rows": file.rows})

    def finish(
        self,
        *,
        documents: int,
        text_bytes: int,
        vocabulary: Mapping[str, Any],
        ingredients: Mapping[str, Any],
        without: Mapping[str, Any] | None = None,
    ) -> Info:
        """Completes the files, writes `info.json` last, and renames the folder into place.

        `vocabulary` is {sha256, size, path}. Readers get these rows from now on (`current`). When
        another process finished the same fingerprint first, its rows stay and these go.
        """
        if self._file is not None:
            self._close_file(self._file)
        for entry in self._files:
            old = self._temporary / entry["file"]
            new = old.with_name(f"{old.name}-of-{len(self._files):05d}.array_record")
            old.rename(new)
            entry |= {
                "file": new.name,
                "bytes": new.stat().st_size,
                "sha256": storage.sha256_file(new),
            }
            storage.sync(new)
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
            without=None if without is None else dict(without),
        )
        np.save(self._temporary / "token_bytes.npy", self._token_bytes)
        storage.sync(self._temporary / "token_bytes.npy")
        storage.write_json(self._temporary / "info.json", dataclasses.asdict(info))
        final = self._folder / self._fingerprint
        if not (final / "info.json").is_file():
            shutil.rmtree(final, ignore_errors=True)
            self._temporary.rename(final)
            storage.sync(self._folder)
        set_current(*self._place, self._fingerprint)
        return Info.load(final / "info.json")


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
