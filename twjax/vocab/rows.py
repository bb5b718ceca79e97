"""Rows of an embedding that look untrained: nearly zero, or the same as another's.

Such rows get their first gradients in continual pretraining, all at once when the new text uses
their ids, and are a known cause of spikes there (Land and Bartolo 2024, "Fishing for Magikarp").
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

import numpy as np

from twjax.vocab.scripts import KINDS

NO_ID = "no id"
# Of the median length of all rows with an id.
NEAR_ZERO = 0.1


@dataclasses.dataclass(frozen=True)
class RowCounts:
    """Rows of one script; `length` is the median of their Euclidean norms.

    `duplicates` are rows that are bit for bit the same as another.
    """

    rows: int
    near_zero: int
    duplicates: int
    length: float


def row_counts(blocks: Iterator[np.ndarray], kinds: np.ndarray) -> dict[str, RowCounts]:
    """Counts rows by script; `blocks` are the rows in order, any float dtype [some, D].

    `kinds` is `scripts.kinds_of` of the vocabulary; rows beyond it have no id.
    """
    lengths, marks = [], []
    for block in blocks:
        # -0 and 0 are the same number.
        values = np.ascontiguousarray(block, np.float32) + np.float32(0)
        lengths.append(np.linalg.norm(values.astype(np.float64), axis=1))
        marks.append(_marks(values))
    length, mark = np.concatenate(lengths), np.concatenate(marks)
    _, place, times = np.unique(mark, return_inverse=True, return_counts=True)
    same = times[place] > 1
    kind = np.full(len(length), len(KINDS), np.int64)
    count = min(len(kinds), len(length))
    kind[:count] = kinds[:count]
    faint = length < NEAR_ZERO * np.median(length[:count])
    found = {}
    for number, name in enumerate((*KINDS, NO_ID)):
        here = kind == number
        if here.any():
            found[name] = RowCounts(
                int(here.sum()),
                int(faint[here].sum()),
                int(same[here].sum()),
                float(np.median(length[here])),
            )
    return found


def _marks(values: np.ndarray) -> np.ndarray:
    """Returns uint64 [rows] by which equal rows are equal, and others by a chance of 2**-64."""
    bits = values.view(np.uint32).astype(np.uint64)
    factors = np.random.default_rng(0).integers(1, 2**63, bits.shape[1], np.uint64) * 2 + 1
    mixed = (bits + np.uint64(0x9E3779B97F4A7C15)) * factors
    mixed ^= mixed >> np.uint64(29)
    return mixed.sum(axis=1, dtype=np.uint64)
