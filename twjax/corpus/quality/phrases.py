"""Finds the phrases of a reviewed table in many texts at once.

A table is a TSV file with a header; lines that begin with # say where it comes from. Phrases
match whatever their width, case and script (Simplified or Traditional), and Latin ones only as
whole words. A phrase whose category begins with "not " is a shield: a phrase inside it isn't
found, so that 反詐騙 needn't be 詐騙.
"""

from __future__ import annotations

import csv
import dataclasses
import functools
import hashlib
import pathlib
import unicodedata
from collections.abc import Sequence

import numpy as np

from twjax.corpus.codepoints import Class, View, scramble
from twjax.corpus.conversion import opencc

TABLES = pathlib.Path(__file__).parent.with_name("tables")
_BASE = np.uint64(0xD1342543DE82EF95)
_FILTER_BITS = 16


@dataclasses.dataclass(frozen=True)
class Hits:
    """Where phrases were found, in order of place: `text`, `place` (in the view), `phrase`."""

    text: np.ndarray
    place: np.ndarray
    phrase: np.ndarray


class Phrases:
    """Phrases with a category and a weight each, ready for searching."""

    def __init__(self, phrases: Sequence[str], categories: Sequence[str], weights: Sequence[float]):
        self.phrases = tuple(phrases)
        self.categories = tuple(categories)
        self.weights = np.array(weights)
        folded = [folds()[[ord(c) for c in phrase]] for phrase in phrases]
        for phrase, points in zip(phrases, folded, strict=True):
            if not 2 <= len(points) < 32:
                raise ValueError(f"Phrase {phrase!r} must have 2 to 31 characters.")
        self._lengths = np.array([len(points) for points in folded], np.int64)
        self._shields = np.array([category.startswith("not ") for category in categories], bool)
        # A bit a length of phrase, by its first two characters.
        self._filter = np.zeros(1 << _FILTER_BITS, np.uint32)
        self._by_length: dict[int, tuple[np.ndarray, np.ndarray]] = {}
        for length in sorted(set(self._lengths.tolist())):
            members = np.flatnonzero(self._lengths == length)
            stack = np.array([folded[i] for i in members.tolist()], np.uint32)
            self._filter[_pair(stack[:, 0], stack[:, 1])] |= np.uint32(1 << length)
            hashes = _hash(stack.ravel(), np.arange(len(members)) * length, length)
            order = np.argsort(hashes)
            doubled = np.flatnonzero(np.diff(hashes[order].view(np.int64)) == 0)
            if len(doubled):
                raise ValueError(
                    f"Phrase {phrases[int(members[order[doubled[0]]])]!r} occurs twice."
                )
            self._by_length[length] = hashes[order], members[order]

    def of(self, *categories: str) -> np.ndarray:
        """Returns bool [phrases]: which are of these categories."""
        return np.isin(self.categories, categories)

    def find(self, view: View) -> Hits:
        """Returns the occurrences that aren't inside another phrase's; shields stay out."""
        points = folds()[view.points]
        lengths = self._filter[_pair(points[:-1], points[1:])]
        candidates = np.flatnonzero(lengths)
        lengths = lengths[candidates]
        places, phrases = [], []
        for length, (hashes, members) in self._by_length.items():
            at = candidates[(lengths & np.uint32(1 << length)) != 0]
            at = at[at + length <= len(points)]
            found = _hash(points, at, length)
            slot = np.minimum(np.searchsorted(hashes, found), len(hashes) - 1)
            hit = hashes[slot] == found
            places.append(at[hit])
            phrases.append(members[slot[hit]])
        place, phrase = np.concatenate(places), np.concatenate(phrases)
        keep = self._whole(view, points, place, phrase)
        place, phrase = place[keep], phrase[keep]
        ends = place + self._lengths[phrase]
        order = np.lexsort((-ends, place))
        place, phrase, ends = place[order], phrase[order], ends[order]
        # Inside another one: that begins before, or there and is longer, and ends no sooner.
        furthest = np.maximum.accumulate(ends)
        inside = np.zeros(len(ends), bool)
        inside[1:] = furthest[:-1] >= ends[1:]
        free = ~inside & ~self._shields[phrase]
        place, phrase = place[free], phrase[free]
        text = np.searchsorted(view.starts, place, "right") - 1
        return Hits(text, place, phrase)

    def _whole(
        self, view: View, points: np.ndarray, place: np.ndarray, phrase: np.ndarray
    ) -> np.ndarray:
        """Whether each hit is outside web addresses, and cuts no Latin word or number."""
        ends = place + self._lengths[phrase]
        word = (view.classes >= Class.LETTER) & (view.classes <= Class.DIGIT)
        last = len(points) - 1
        cut_before = word[place] & word[np.maximum(place - 1, 0)] & (place > 0)
        cut_after = word[ends - 1] & word[np.minimum(ends, last)] & (ends <= last)
        return ~(cut_before | cut_after | (view.classes[place] == Class.SPACE))

    def totals(self, hits: Hits, texts: int, cap: int) -> np.ndarray:
        """Returns int64 [texts, phrases], occurrences, at most `cap` of each phrase."""
        size = len(self.phrases)
        counts = np.bincount(hits.text * size + hits.phrase, minlength=texts * size)
        return np.minimum(counts.reshape(texts, size), cap)


def _pair(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    mixed = first * np.uint32(0x9E3779B1) + second * np.uint32(0x85EBCA77)
    return mixed >> np.uint32(32 - _FILTER_BITS)


def _hash(points: np.ndarray, at: np.ndarray, length: int) -> np.ndarray:
    hashes = np.zeros(len(at), np.uint64)
    for offset in range(length):
        hashes = hashes * _BASE + points[at + offset]
    return scramble(hashes)


@functools.cache
def folds() -> np.ndarray:
    """Returns uint32 [0x110000]: what each character is compared as.

    Width by Unicode's NFKC, case, and OpenCC's Simplified form of one character.
    """
    table = np.arange(0x110000, dtype=np.uint32)
    simplified = opencc.converter("t2s")
    for point in (*range(0x2100, 0x3400), *range(0xF900, 0x10000), *range(0x250)):
        one = unicodedata.normalize("NFKC", chr(point)).lower()
        if len(one) == 1:
            table[point] = ord(one)
    for start, stop in ((0x3400, 0x4DC0), (0x4E00, 0xA000)):
        for point in range(start, stop):
            one = simplified(chr(point))
            if len(one) == 1:
                table[point] = ord(one)
    return table


def read_rows(path: pathlib.Path, columns: Sequence[str]) -> list[dict[str, str]]:
    """Returns the rows of a table; raises ValueError for one that lacks a column."""
    rows = []
    with path.open(encoding="utf-8", newline="") as file:
        lines = [(n, line) for n, line in enumerate(file, 1) if line.strip() and line[0] != "#"]
    reader = csv.reader((line for _, line in lines), delimiter="\t", quoting=csv.QUOTE_NONE)
    for (number, _), row in zip(lines, reader, strict=True):
        if len(row) != len(columns) or "" in row:
            raise ValueError(
                f"{path}:{number}: {len(row)} columns, or an empty one, where "
                f"{len(columns)} ({', '.join(columns)}) are due."
            )
        rows.append(dict(zip(columns, row, strict=True)))
    if not rows or rows[0] != {column: column for column in columns}:
        raise ValueError(f"{path}: the first row must name the columns {', '.join(columns)}.")
    return rows[1:]


@functools.cache
def load(name: str, path: str = "") -> Phrases:
    """Loads a table of phrase, category and weight: twjax's own by name, or the file `path`."""
    file = pathlib.Path(path) if path else TABLES / name
    rows = read_rows(file, ("phrase", "category", "weight"))
    weights = []
    for row in rows:
        try:
            weights.append(float(row["weight"]))
        except ValueError:
            raise ValueError(
                f"{file}: weight {row['weight']!r} of {row['phrase']} is no number."
            ) from None
    return Phrases([r["phrase"] for r in rows], [r["category"] for r in rows], weights)


def sha256(name: str, path: str = "") -> str:
    """Returns the hash of the table that `load` reads, for a step's versions."""
    file = pathlib.Path(path) if path else TABLES / name
    return hashlib.sha256(file.read_bytes()).hexdigest()
