"""What a cached row is, and what stands in the folder around it.

A cache directory is `CACHE/<task>/<split>/<seq_len>/<fingerprint>/` with `rows-*.array_record`,
`token_bytes.npy` and `info.json`; the file `current` one level up names the fingerprint to read.
"""

from __future__ import annotations

import dataclasses
import os
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any, Literal, Self

import numpy as np

from twjax import storage

FORMAT = 1

RowFormat = Literal["decoder", "encoder_decoder"]
# Tokens a row: one number, or (inputs, targets) for encoder-decoder rows.
SeqLen = int | tuple[int, int]


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
    "preprocessors" are [{name, arguments, source_sha256}]. `without` says how many examples were
    left out because they hold an evaluation item, {examples, sets: {set: {items, examples}}}; None
    where none was looked for.
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
    without: dict[str, Any] | None = None

    @classmethod
    def load(cls, path: pathlib.Path) -> Self:
        """Reads `info.json`; raises ValueError when it isn't what this version writes."""
        values = storage.read_json(path)
        if not isinstance(values, dict) or values.get("format") != FORMAT:
            raise ValueError(f"{path}: not cached rows of format {FORMAT}; cache the task again.")
        # Rows that nothing was removed from may not say so.
        values.setdefault("without", None)
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
