"""Documents that are nearly the same: MinHash-LSH for candidates, true Jaccard for the decision.

Round 0 records the band keys of each document; documents that share one are candidates, paired
within a bounded window. Round 1 fetches the sets of n-grams of the candidates alone, measures each
pair, and joins what is similar to clusters, of which one document stays.
"""

from __future__ import annotations

import dataclasses
import pathlib
import unicodedata
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import ClassVar, Literal

import numpy as np

from twjax.corpus.document import Document
from twjax.corpus.duplicates import minhash, pairs, shingles, spill
from twjax.corpus.step import GlobalStep, Outcome, Records, drop

# In a crowded band a document is paired with so many first ones and so many before it (in the
# order of their lengths): the work stays linear, however common a template is.
_WINDOW = 16
_SIZE_BITS = 24


@dataclasses.dataclass(frozen=True, kw_only=True)
class NearDedup(GlobalStep):
    """Keeps one of documents that share most of their letters' n-grams.

    Texts are compared as letters (`shingles.letters`), so that line breaks, widths, case and
    punctuation don't matter. Documents with equal letters are duplicates. Others are if the
    Jaccard similarity of their sets of `ngram` letters is at least `threshold`, which is measured
    for all that agree in one of `bands` bands of `rows` MinHash values: a pair of similarity s is
    found with a probability of 1 - (1 - s^rows)^bands. Documents of fewer than `min_letters`
    letters are duplicates only if they are equal; those without a letter are left alone.

    Preferred is the document whose source comes first in `sources` (others come behind), then the
    first or the longest (`keep`), then the first. `linkage` "cluster": duplicates of duplicates
    are one cluster, of which the preferred one stays. "kept": a document goes only if it is a
    duplicate of one that stays, so that a chain of amendments isn't taken for one text; documents
    are gone through in the order of preference.

    Defaults: character 5-grams, 14 × 8 as in FineWeb (Penedo et al. 2024, section 3.4), but
    measured instead of believed, since statutes share templates.
    """

    name: ClassVar[str] = "near_dedup"
    rounds: ClassVar[int] = 2

    ngram: int = 5
    bands: int = 14
    rows: int = 8
    threshold: float = 0.8
    min_letters: int = 20
    linkage: Literal["cluster", "kept"] = "cluster"
    keep: Literal["first", "longest"] = "first"
    sources: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for field in ("ngram", "bands", "rows"):
            if getattr(self, field) < 1:
                raise ValueError(f"NearDedup.{field} ({getattr(self, field)}) must be positive.")
        if self.bands * self.rows > 4096:
            raise ValueError(
                f"NearDedup.bands × rows ({self.bands} × {self.rows}) must be at most 4096."
            )
        if not 0 < self.threshold <= 1:
            raise ValueError(f"NearDedup.threshold ({self.threshold}) must be in (0, 1].")
        if self.linkage not in ("cluster", "kept"):
            raise ValueError(f"NearDedup.linkage ({self.linkage!r}) must be 'cluster' or 'kept'.")
        if self.keep not in ("first", "longest"):
            raise ValueError(f"NearDedup.keep ({self.keep!r}) must be 'first' or 'longest'.")

    def versions(self) -> dict[str, str]:
        return {"unicode": unicodedata.unidata_version, "signature": "1"}

    def map(self, round: int, batch: Sequence[Document], request: np.ndarray | None) -> np.ndarray:
        return self._keys(batch) if round == 0 else self._sets(batch, request)

    def reduce(self, round: int, records: Records, scratch: pathlib.Path) -> Iterable[np.ndarray]:
        if round == 0:
            return _candidates(records, scratch)
        return pairs.Judge(records, scratch, self.threshold, self.linkage).decision()

    def decide(
        self, batch: Sequence[Document], request: np.ndarray, names: Mapping[int, str]
    ) -> Outcome:
        return drop(batch, request, names, "near duplicate")

    def _keys(self, batch: Sequence[Document]) -> np.ndarray:
        """Returns for each document with letters its size, their hash and its band keys.

        The size is 0 where only equal documents are duplicates.
        """
        dtype = np.dtype(
            [("document", "<u4"), ("size", "<u4"), ("whole", "<u8"), ("keys", "<u8", (self.bands,))]
        )
        records = np.zeros(len(batch), dtype)
        records["document"] = np.arange(len(batch))
        full = np.zeros(len(batch), bool)
        for first, texts in shingles.groups([d.text for d in batch]):
            part = slice(first, first + len(texts))
            letters, starts = shingles.fold(texts)
            records["whole"][part] = shingles.digests(letters, starts)
            counts = np.diff(starts)
            full[part] = counts > 0
            hashes, starts = shingles.shingles(letters, starts, self.ngram)
            found = minhash.signatures(hashes, starts, self.bands * self.rows)
            records["keys"][part] = minhash.band_keys(found, self.bands)
            records["size"][part] = np.where(counts >= self.min_letters, np.diff(starts), 0)
        return records[full]

    def _sets(self, batch: Sequence[Document], request: np.ndarray | None) -> np.ndarray:
        """Returns for each candidate a header, its partners and its n-grams, cut into blocks."""
        assert request is not None
        numbers, begins = np.unique(request["document"], return_index=True)
        partners = np.split(request["partner"].astype("<u8"), begins[1:])
        wanted = [batch[n] for n in numbers]
        ranks = {source: rank for rank, source in enumerate(self.sources)}
        blocks = []
        for first, texts in shingles.groups([d.text for d in wanted]):
            part = range(first, first + len(texts))
            measured = [bool((partners[i] & np.uint64(1) == 0).any()) for i in part]
            letters, starts = shingles.fold(
                [t if m else "" for t, m in zip(texts, measured, strict=True)]
            )
            grams = minhash.sets(*shingles.shingles(letters, starts, self.ngram))
            for index, text, own in zip(part, texts, grams, strict=True):
                others = partners[index][partners[index] < pairs.NAMED].view("<u4")
                length = 0xFFFFFFFF - len(text) if self.keep == "longest" else 0
                rank = ranks.get(wanted[index].source, len(ranks))
                blocks.append(pairs.blocks(int(numbers[index]), (rank, length), others, own))
        return np.concatenate(blocks) if blocks else np.empty(0, pairs.BLOCK)


def _candidates(records: Records, scratch: pathlib.Path) -> Iterator[np.ndarray]:
    """Yields a request a unit: each candidate with what it is to be compared with.

    "partner" is a later document's global number times two, plus one if they are equal; or that
    others name this document. A pair stands with its earlier document.
    """
    budget = records.budget_bytes
    copies = spill.room(scratch, "copies", records.documents, np.bool_, budget // 8)
    with spill.Sorter(scratch, "pairs", 2, budget // 3, unique=True) as found:
        with spill.Sorter(scratch, "wholes", 2, budget // 3) as wholes:
            for start, unit in spill.numbered(records):
                wholes.add(unit["whole"], unit["document"] + start)
            for rows, first in spill.leaders(wholes.blocks(), 1):
                equal = rows[:, 1] != first[:, 1]
                original, copy = first[equal, 1], rows[equal, 1]
                copies[copy.astype(np.int64)] = True
                found.add(original, copy << np.uint64(1) | np.uint64(1))
                found.add(copy, np.broadcast_to(np.uint64(pairs.EQUAL), len(copy)))
        with spill.Sorter(scratch, "keys", 2, budget // 3) as keys:
            for start, unit in spill.numbered(records):
                numbers = unit["document"] + start
                unit = unit[(unit["size"] > 0) & ~copies[numbers]]
                numbers = (unit["document"] + start).astype(np.uint64)
                sizes = np.minimum(unit["size"], (1 << _SIZE_BITS) - 1).astype(np.uint64)
                sized = sizes << np.uint64(64 - _SIZE_BITS) | numbers
                keys.add(unit["keys"].ravel(), np.repeat(sized, unit["keys"].shape[1]))
            for one, other in _windows(keys.blocks()):
                low, high = np.minimum(one, other), np.maximum(one, other)
                found.add(low, high << np.uint64(1))
                found.add(high, np.broadcast_to(np.uint64(pairs.NAMED), len(high)))
        yield from spill.requests(found.blocks(), records, [("partner", "<u8")])


def _windows(blocks: Iterable[np.ndarray]) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yields pairs of global numbers that agree in a key, from sorted rows (key, size and number).

    Of a group all pairs, if it isn't larger than the window.
    """
    carry = np.empty((0, 2), np.uint64)
    number = np.uint64((1 << 64 - _SIZE_BITS) - 1)
    for block in blocks:
        rows = np.concatenate((carry, block))
        if not len(rows):
            continue
        new = np.ones(len(rows), bool)
        new[1:] = rows[1:, 0] != rows[:-1, 0]
        begins = np.maximum.accumulate(np.where(new, np.arange(len(rows)), 0))
        places = np.arange(len(rows)) - begins
        numbers = rows[:, 1] & number
        later = np.flatnonzero(places)
        for back in range(1, _WINDOW + 1):
            later = later[places[later] >= back]
            yield from _apart(numbers[later - back], numbers[later])
        for ahead in range(_WINDOW):
            later = later[places[later] > _WINDOW + ahead]
            yield from _apart(numbers[begins[later] + ahead], numbers[later])
        group = rows[begins[-1] :]
        # Enough to go on with the group in the next block.
        if len(group) > 2 * _WINDOW:
            group = np.concatenate((group[:_WINDOW], group[-_WINDOW:]))
        carry = group


def _apart(one: np.ndarray, other: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    differ = one != other
    if differ.any():
        yield one[differ], other[differ]
