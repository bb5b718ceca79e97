"""Cached rows: reading them at random, and the names that make and describe them.

Both the caching commands and the trainer use this module; it imports neither TensorFlow nor seqio.
"""

from __future__ import annotations

import functools
import importlib.util
import os
import pathlib
from collections.abc import Sequence

import numpy as np

from twjax.data.record_files import RecordFiles
from twjax.data.row_format import (
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
        self._files = RecordFiles(
            self._folder, self.info.files, f"delete {self._folder} and {self._advice}"
        )

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
        return decode(self._files.read(indices), self.dtype)

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
