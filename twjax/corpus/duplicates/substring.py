"""Passages that occur before, word for word: exact substring de-duplication.

After Lee et al. 2021, "Deduplicating Training Data Makes Language Models Better" (section 4.1):
every stretch of at least N characters that occurs twice, anywhere. Instead of a suffix array of the
corpus, which needs one large machine: anchors are chosen by winnowing (Schleimer, Wilkerson,
Aiken, SIGMOD 2003), so that each stretch of N characters holds one and equal stretches hold equal
ones; only around anchors that occur twice are all windows of N characters compared.
"""

from __future__ import annotations

import collections
import dataclasses
import functools
import pathlib
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import ClassVar

import numpy as np

from twjax.corpus import codepoints
from twjax.corpus.document import Document, Rejection
from twjax.corpus.duplicates import shingles, spill
from twjax.corpus.step import GlobalStep, Outcome, Records

_RECORD = np.dtype([("document", "<u4"), ("place", "<u4"), ("hash", "<u8")])


@dataclasses.dataclass(frozen=True, kw_only=True)
class SubstringDedup(GlobalStep):
    """Takes out passages of at least `length` characters that occur earlier in the corpus.

    The first copy stays, in the order of the documents and in a document. Characters count as
    they are, code points; a copy is cut back to whole sentences (they end in 。！？!?； or a line
    break, with what closes them) and left alone if they have fewer than `min_cut` characters. A
    document is rejected if more than the share `most` of it would go. The document itself may hold
    the first copy, which then ends before the second begins.
    """

    name: ClassVar[str] = "substring_dedup"
    rounds: ClassVar[int] = 2

    length: int = 100
    min_cut: int = 50
    most: float = 0.8

    def __post_init__(self) -> None:
        if self.length < 8:
            raise ValueError(f"SubstringDedup.length ({self.length}) must be at least 8.")
        if self.min_cut < 1:
            raise ValueError(f"SubstringDedup.min_cut ({self.min_cut}) must be positive.")
        if not 0 < self.most <= 1:
            raise ValueError(f"SubstringDedup.most ({self.most}) must be in (0, 1].")

    def map(self, round: int, batch: Sequence[Document], request: np.ndarray | None) -> np.ndarray:
        parts = [np.empty(0, _RECORD)]
        if round == 0:
            chosen = np.arange(len(batch))
            find = self._anchors
        else:
            assert request is not None
            chosen = np.unique(request["document"])
            find = functools.partial(self._windows, request)
        for first, texts in shingles.groups([batch[int(i)].text for i in chosen]):
            points, starts = shingles.code_points(texts)
            documents = chosen[first : first + len(texts)]
            places, hashes = find(points, starts, documents)
            part = np.empty(len(places), _RECORD)
            of = np.searchsorted(starts, places, "right") - 1
            part["document"], part["place"] = documents[of], places - starts[of]
            part["hash"] = hashes
            parts.append(part)
        return np.concatenate(parts)

    def _anchors(
        self, points: np.ndarray, starts: np.ndarray, _: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Returns where the anchors stand and their hashes.

        An anchor is a window of half the length that has the least hash of all windows of some
        stretch of `length` characters.
        """
        half = self.length // 2
        hashes = _window_hashes(points, half)
        span = self.length - half + 1
        if len(hashes) < span:
            return np.empty(0, np.int64), hashes[:0]
        least = _sliding(hashes, span, np.minimum)
        # Stretches that reach into the next text choose none.
        least[~shingles.inside(starts, self.length, len(least))] = 0
        padding = np.zeros(span - 1, np.uint64)
        chosen = _sliding(np.concatenate((padding, least, padding)), span, np.maximum)
        places = np.flatnonzero(chosen == hashes)
        return places, hashes[places]

    def _windows(
        self, request: np.ndarray, points: np.ndarray, starts: np.ndarray, documents: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Returns where windows of `length` characters that hold a wanted anchor begin, hashed."""
        low, high = np.searchsorted(request["document"], [documents[0], documents[-1] + 1])
        own = request[low:high]
        of = np.searchsorted(documents, own["document"])
        anchors = starts[of] + own["place"]
        first = np.maximum(anchors + self.length // 2 - self.length, starts[of])
        last = np.minimum(anchors, starts[of + 1] - self.length)
        marks = np.zeros(len(points) + 1, np.int32)
        np.add.at(marks, first, 1)
        np.add.at(marks, last + 1, -1)
        places = np.flatnonzero(np.cumsum(marks) > 0)
        # Other multipliers' worth of bits than in round 0 isn't needed: the lengths differ.
        return places, _window_hashes(points, self.length)[places]

    def reduce(self, round: int, records: Records, scratch: pathlib.Path) -> Iterable[np.ndarray]:
        return self._shared(records, scratch) if round == 0 else self._later(records, scratch)

    def _shared(self, records: Records, scratch: pathlib.Path) -> Iterator[np.ndarray]:
        """Yields the anchors that occur more than once."""
        budget = records.budget_bytes // 3
        with spill.Sorter(scratch, "shared", 2, budget, unique=True) as shared:
            with spill.Sorter(scratch, "anchors", 3, budget) as anchors:
                _add(anchors, records)
                for rows, first in spill.leaders(anchors.blocks(), 1):
                    later = (rows[:, 1:] != first[:, 1:]).any(axis=1)
                    shared.add(rows[later, 1], rows[later, 2])
                    shared.add(first[later, 1], first[later, 2])
            yield from spill.requests(shared.blocks(), records, [("place", "<u4")])

    def _later(self, records: Records, scratch: pathlib.Path) -> Iterator[np.ndarray]:
        """Yields the stretches that occur earlier, merged where they touch."""
        budget, length = records.budget_bytes // 3, np.uint64(self.length)
        with spill.Sorter(scratch, "later", 2, budget) as found:
            with spill.Sorter(scratch, "windows", 3, budget) as windows:
                _add(windows, records)
                for rows, first in spill.leaders(windows.blocks(), 1):
                    later = rows[:, 1] != first[:, 1]
                    later |= rows[:, 2] >= first[:, 2] + length
                    found.add(rows[later, 1], rows[later, 2])
            dtype = np.dtype([("document", "<u4"), ("start", "<u4"), ("stop", "<u4")])
            for rows in spill.by_unit(found.blocks(), records):
                new = np.ones(len(rows), bool)
                new[1:] = rows[1:, 0] != rows[:-1, 0]
                if len(rows):
                    new[1:] |= rows[1:, 1] > rows[:-1, 1] + length
                begins = np.flatnonzero(new)
                request = np.empty(len(begins), dtype)
                if len(rows):
                    request["document"], request["start"] = rows[begins].T
                    request["stop"] = rows[np.append(begins[1:], len(rows)) - 1, 1] + length
                yield request

    def decide(
        self, batch: Sequence[Document], request: np.ndarray, names: Mapping[int, str]
    ) -> Outcome:
        stretches = collections.defaultdict(list)
        for index, start, stop in request.tolist():
            stretches[index].append((start, stop))
        outcome = Outcome([])
        for index, document in enumerate(batch):
            cuts = self._cuts(document.text, stretches[index]) if index in stretches else []
            size = sum(stop - start for start, stop in cuts)
            if not cuts:
                outcome.kept.append(document)
            elif size > self.most * len(document.text):
                share = f"{size / len(document.text):.3f}"
                outcome.rejected.append(Rejection(document, "repeated passages", share))
            else:
                bounds = [0, *(place for cut in cuts for place in cut), len(document.text)]
                pieces = zip(bounds[::2], bounds[1::2], strict=True)
                text = "".join(document.text[a:b] for a, b in pieces)
                outcome.kept.append(dataclasses.replace(document, text=text))
                outcome.changed["repeated passages"] += len(cuts)
                outcome.changed["characters of repeated passages"] += size
        return outcome

    def _cuts(self, text: str, stretches: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
        """Returns the whole sentences in each stretch, if they are long enough."""
        ends = sentence_ends(text)
        cuts = []
        for start, stop in stretches:
            first = ends[np.searchsorted(ends, start)]
            last = ends[np.searchsorted(ends, stop, "right") - 1]
            if last - first >= self.min_cut:
                cuts.append((int(first), int(last)))
        return cuts


_SENTENCE_END = re.compile(r"(?:[。！？!?；;]+[」』”’）)】〉》\]]*|\.(?=\s))[^\S\n]*\n*|\n+")


def sentence_ends(text: str) -> np.ndarray:
    """Returns 0, where each sentence ends, and the text's length: int64, ascending."""
    ends = [0, *(match.end() for match in _SENTENCE_END.finditer(text)), len(text)]
    return np.unique(np.array(ends, np.int64))


def _window_hashes(points: np.ndarray, length: int) -> np.ndarray:
    return codepoints.scramble(shingles.windows(points, length, np.uint64))


def _sliding(
    values: np.ndarray, span: int, choose: Callable[[np.ndarray, np.ndarray], np.ndarray]
) -> np.ndarray:
    """Returns the least or greatest value of each window of `span`, in log2(span) passes."""
    size = 1
    while size < span:
        more = min(size, span - size)
        values = choose(values[:-more], values[more:])
        size += more
    return values


def _add(sorter: spill.Sorter, records: Records) -> None:
    for start, unit in spill.numbered(records):
        sorter.add(unit["hash"], unit["document"] + start, unit["place"])
