"""Documents that occur more than once."""

from __future__ import annotations

import dataclasses
import functools
import pathlib
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from typing import ClassVar, Literal

import numpy as np
import xxhash

from twjax.corpus.document import Document
from twjax.corpus.duplicates import spill
from twjax.corpus.step import GlobalStep, Outcome, Records, drop

_RECORD = np.dtype([("document", "<u4"), ("high", "<u8"), ("low", "<u8")])


@dataclasses.dataclass(frozen=True, kw_only=True)
class ExactDedup(GlobalStep):
    """Keeps the first of equal documents, in the order of the inputs and of their lines.

    `form` "folded" compares without white space and with full-width, circled and other
    compatibility characters (UAX #15, NFKC) as the one character they stand for, so that
    re-wrapped copies and full-width digits are equal; "exact" compares the text as it is.
    The key is xxh3's 128 bits: among 10^12 documents a false match has a chance of 10^-15.
    """

    name: ClassVar[str] = "exact_dedup"

    form: Literal["folded", "exact"] = "folded"

    def versions(self) -> dict[str, str]:
        return {"unicode": unicodedata.unidata_version}

    def map(self, round: int, batch: Sequence[Document], request: np.ndarray | None) -> np.ndarray:
        """Returns the halves of each document's hash."""
        return hashed([self._form(document.text) for document in batch])

    def reduce(self, round: int, records: Records, scratch: pathlib.Path) -> Iterable[np.ndarray]:
        """Yields the documents that go, each with the first of its equals."""
        budget = records.budget_bytes // 3
        with (
            spill.Sorter(scratch, "hashes", 3, budget) as hashes,
            spill.Sorter(scratch, "gone", 2, budget) as gone,
        ):
            for start, unit in spill.numbered(records):
                hashes.add(unit["high"], unit["low"], unit["document"] + start)
            for rows, first in spill.leaders(hashes.blocks(), 2):
                later = rows[:, 2] != first[:, 2]
                gone.add(rows[later, 2], first[later, 2])
            yield from spill.requests(gone.blocks(), records, [("keeper", "<i8")])

    def decide(
        self, batch: Sequence[Document], request: np.ndarray, names: Mapping[int, str]
    ) -> Outcome:
        return drop(batch, request, names, "exact duplicate")

    def _form(self, text: str) -> bytes:
        if self.form == "exact":
            return text.encode()
        points = _folded()[np.frombuffer(text.encode("utf-32-le"), np.uint32)]
        return points[points != 0].tobytes()


def hashed(keys: Sequence[bytes]) -> np.ndarray:
    """Returns records of a unit's documents: the halves of the hash of each one's key."""
    records = np.empty(len(keys), _RECORD)
    records["document"] = np.arange(len(keys))
    digests = b"".join(map(xxhash.xxh3_128_digest, keys))
    halves = np.frombuffer(digests, ">u8").reshape(-1, 2)
    records["high"], records["low"] = halves[:, 0], halves[:, 1]
    return records


@functools.cache
def _folded() -> np.ndarray:
    """Returns uint32 [0x110000]: the code point that each stands for, 0 for white space.

    A table is twenty times as fast as NFKC; characters that NFKC makes several of stay.
    """
    table = np.arange(0x110000, dtype=np.uint32)
    for point in range(0x30000):
        character = unicodedata.normalize("NFKC", chr(point))
        if character.isspace():
            table[point] = 0
        elif len(character) == 1:
            table[point] = ord(character)
    return table
