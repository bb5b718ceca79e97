"""The text that token ids of rows and examples spell, many at once, without TensorFlow."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from twjax.data.rows import RowReader
from twjax.vocab.tokenizer import Tokenizer

# Rows that are spelt together.
ROWS = 256


@dataclasses.dataclass(frozen=True)
class Texts:
    """Texts of rows: `row` and `segment` int64 [texts] say where each stands.

    `cut` bool [texts, 2]: whether a text's begin and its end may be cuts through a document.
    """

    texts: list[str]
    row: np.ndarray
    segment: np.ndarray
    cut: np.ndarray


class Speller:
    """Spells ids of `model` and of the `extra_ids` sentinels behind its own.

    Spaces that encoding puts in front of a text stay. Where spans were replaced by sentinels, and
    the spans follow behind (T5's objective), they are put back in their places.
    """

    def __init__(self, model: Tokenizer, extra_ids: int = 0):
        self._model = model
        pieces = [*model.bytes_of_ids, *[b""] * extra_ids]
        self._bytes = np.frombuffer(b"".join(pieces), np.uint8)
        self._sizes = np.fromiter(map(len, pieces), np.int64, len(pieces))
        self._begins = np.cumsum(self._sizes) - self._sizes
        self._sentinels = model.vocab_size - model.sentinels

    def texts(self, ids: np.ndarray, lengths: np.ndarray) -> list[str]:
        """Returns the text of each stretch of `ids`; `lengths` int [texts] sum to their number."""
        ends = np.cumsum(lengths)
        if (ids >= self._sentinels).any():
            parts = [restored(part.tolist(), self._sentinels) for part in np.split(ids, ends[:-1])]
            ids = np.array([id for part in parts for id in part], np.int64)
            ends = np.cumsum([len(part) for part in parts])
        sizes = self._sizes[ids]
        until = np.concatenate([[0], np.cumsum(sizes)])
        at = np.repeat(self._begins[ids] - until[:-1], sizes) + np.arange(until[-1])
        data = self._bytes[at].tobytes()
        bounds = until[np.concatenate([[0], ends])].tolist()
        spans = itertools.pairwise(bounds)
        return [data[low:high].decode(errors="replace") for low, high in spans]

    def cut(self, ids: np.ndarray, lengths: np.ndarray) -> np.ndarray:
        """Returns bool [texts, 2]: whether begin and end lack what a document has there."""
        ends = np.cumsum(lengths)
        first, last = ids[np.minimum(ends - lengths, len(ids) - 1)], ids[ends - 1]
        begins = first != self._model.bos_id if self._model.adds_bos else np.ones(len(first), bool)
        return np.stack([begins, last != self._model.eos_id], axis=1)


def restored(ids: Sequence[int], sentinels: int) -> list[int]:
    """Returns ids with the spans that follow sentinels back where the sentinels stand.

    Ids from `sentinels` on are sentinels. Each that comes a second time begins what the first one
    stands for; if none does, they are taken out.
    """
    places = [place for place, id in enumerate(ids) if id >= sentinels]
    seen: set[int] = set()
    behind = len(ids)
    for place in places:
        if ids[place] in seen:
            behind = place
            break
        seen.add(ids[place])
    spans: dict[int, list[int]] = {}
    current: list[int] = []
    for id in ids[behind:]:
        if id >= sentinels:
            current = spans.setdefault(id, [])
        else:
            current.append(id)
    whole: list[int] = []
    for id in ids[:behind]:
        whole += spans.get(id, []) if id >= sentinels else [id]
    return whole


def row_texts(reader: RowReader, speller: Speller, rows: int | None = None) -> Iterator[Texts]:
    """Yields the texts of the segments of the first `rows` rows, in their order."""
    count = len(reader) if rows is None else min(rows, len(reader))
    for first in range(0, count, ROWS):
        numbers = range(first, min(count, first + ROWS))
        ids, row, segment = _segments(reader.read(numbers))
        if not len(ids):
            continue
        new = np.flatnonzero(np.diff(row, prepend=-1) | np.diff(segment, prepend=-1))
        lengths = np.diff(np.append(new, len(ids)))
        yield Texts(
            speller.texts(ids, lengths),
            first + row[new],
            segment[new],
            speller.cut(ids, lengths),
        )


def _segments(rows: Mapping[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Returns ids, row and segment of all but padding: a segment's inputs, then its targets."""
    sides = ("inputs", "targets") if "inputs" in rows else ("tokens",)
    found = []
    for side in sides:
        owners = rows["segment_ids" if side == "tokens" else f"{side}_segment_ids"]
        row, column = np.nonzero(owners)
        found.append((rows[side][row, column], row, owners[row, column]))
    ids, row, segment = (np.concatenate(parts) for parts in zip(*found, strict=True))
    if len(sides) > 1:
        order = np.lexsort((segment, row))
        ids, row, segment = ids[order], row[order], segment[order]
    return ids.astype(np.int64), row, segment
