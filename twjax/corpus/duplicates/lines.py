"""Lines and paragraphs that an earlier document has already."""

from __future__ import annotations

import collections
import dataclasses
import pathlib
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from typing import ClassVar, Literal

import numpy as np

from twjax.corpus.document import Document, Rejection
from twjax.corpus.duplicates import shingles, spill
from twjax.corpus.step import GlobalStep, Outcome, Records

_RECORD = np.dtype([("document", "<u4"), ("line", "<u4"), ("hash", "<u8")])
# A document's number and a line's share 64 bits; lines behind these aren't compared.
_LINE_BITS = 24
_TERMINALS = frozenset("。．｡.！？!?；;：:…")
_CLOSERS = "」』”’\"'）)】〕》〉］]"


@dataclasses.dataclass(frozen=True, kw_only=True)
class LineDedup(GlobalStep):
    """Takes out lines that an earlier document of the corpus has, or documents made of them.

    `unit` says what a line is: "line" what ends with a line break, "sentence" as many of them as
    it takes until one ends a sentence or is blank, since text that was wrapped by hand must not
    lose the half of a sentence, "paragraph" what stands between blank lines. They are compared as
    letters (`shingles.letters`): neither width nor punctuation nor the wrapping matters. Those of
    fewer than `min_letters` letters (第一條, a heading) always stay, and so does a line that only
    its own document repeats. `policy` "lines" takes out repeated lines, "document" changes no text;
    both reject a document if repeated lines hold more than the share `most` of its letters. Two
    different lines among 10^9 are taken for the same with a chance of 3 % (xxh3, 64 bits).
    """

    name: ClassVar[str] = "line_dedup"

    unit: Literal["sentence", "line", "paragraph"] = "sentence"
    policy: Literal["lines", "document"] = "lines"
    min_letters: int = 30
    most: float = 0.8

    def __post_init__(self) -> None:
        if self.unit not in ("sentence", "line", "paragraph"):
            raise ValueError(
                f"LineDedup.unit ({self.unit!r}) must be 'sentence', 'line' or 'paragraph'."
            )
        if self.policy not in ("lines", "document"):
            raise ValueError(f"LineDedup.policy ({self.policy!r}) must be 'lines' or 'document'.")
        if self.min_letters < 1:
            raise ValueError(f"LineDedup.min_letters ({self.min_letters}) must be positive.")
        if not 0 < self.most <= 1:
            raise ValueError(f"LineDedup.most ({self.most}) must be in (0, 1].")

    def versions(self) -> dict[str, str]:
        return {"unicode": unicodedata.unidata_version}

    def map(self, round: int, batch: Sequence[Document], request: np.ndarray | None) -> np.ndarray:
        """Returns the hash of each line or paragraph that is long enough."""
        parts = [np.empty(0, _RECORD)]
        for first, texts in shingles.groups([d.text for d in batch]):
            lines, units, of = [], [], []
            for index, text in enumerate(texts):
                own = text.split("\n")
                lines += own
                units.append(self._units(own))
                of.append(np.full(len(own), first + index))
            letters, starts = shingles.fold(lines)
            unit, of = np.concatenate(units), np.concatenate(of)
            # Where a unit begins: its lines stand together, so do their letters.
            new = np.ones(len(unit), bool)
            new[1:] = (unit[1:] != unit[:-1]) | (of[1:] != of[:-1])
            begins = np.flatnonzero(new)
            bounds = np.append(starts[begins], starts[-1])
            long = np.flatnonzero(
                (np.diff(bounds) >= self.min_letters) & (unit[begins] < 1 << _LINE_BITS)
            )
            part = np.empty(len(long), _RECORD)
            part["document"], part["line"] = of[begins[long]], unit[begins[long]]
            part["hash"] = shingles.digests(letters, bounds)[long]
            parts.append(part)
        return np.concatenate(parts)

    def reduce(self, round: int, records: Records, scratch: pathlib.Path) -> Iterable[np.ndarray]:
        """Yields the lines of each document that an earlier one has."""
        budget, bits = records.budget_bytes // 3, np.uint64(_LINE_BITS)
        with (
            spill.Sorter(scratch, "lines", 2, budget) as lines,
            spill.Sorter(scratch, "gone", 2, budget) as gone,
        ):
            for start, unit in spill.numbered(records):
                numbers = (unit["document"] + start).astype(np.uint64)
                lines.add(unit["hash"], numbers << bits | unit["line"])
            for rows, first in spill.leaders(lines.blocks(), 1):
                places = rows[rows[:, 1] >> bits != first[:, 1] >> bits, 1]
                gone.add(places >> bits, places & np.uint64((1 << _LINE_BITS) - 1))
            yield from spill.requests(gone.blocks(), records, [("line", "<u4")])

    def decide(
        self, batch: Sequence[Document], request: np.ndarray, names: Mapping[int, str]
    ) -> Outcome:
        repeated = collections.defaultdict(set)
        for index, line in zip(request["document"].tolist(), request["line"].tolist(), strict=True):
            repeated[index].add(line)
        outcome = Outcome([])
        for index, document in enumerate(batch):
            if index not in repeated:
                outcome.kept.append(document)
                continue
            lines = document.text.split("\n")
            gone = np.isin(self._units(lines), list(repeated[index]))
            letters = np.diff(shingles.fold(lines)[1])
            share = float(letters[gone].sum() / letters.sum())
            if share > self.most:
                outcome.rejected.append(Rejection(document, "repeated lines", f"{share:.3f}"))
            elif self.policy == "document":
                outcome.kept.append(document)
            else:
                text = "\n".join(line for line, out in zip(lines, gone, strict=True) if not out)
                outcome.kept.append(dataclasses.replace(document, text=text))
                outcome.changed["repeated lines"] += len(repeated[index])
                outcome.changed["characters of repeated lines"] += len(document.text) - len(text)
        return outcome

    def _units(self, lines: Sequence[str]) -> np.ndarray:
        """Returns the number of each line's unit; blank lines belong to the one before."""
        if self.unit == "line":
            return np.arange(len(lines))
        full = np.fromiter((bool(line.strip()) for line in lines), bool, len(lines))
        ended = ~full
        if self.unit == "sentence":
            ended |= np.fromiter(map(_ends_sentence, lines), bool, len(lines))
        begins = full.copy()
        begins[1:] &= ended[:-1]
        return np.cumsum(begins)


def _ends_sentence(line: str) -> bool:
    return line.rstrip().rstrip(_CLOSERS)[-1:] in _TERMINALS
