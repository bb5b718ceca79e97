"""Evaluation items in what a run trains on: in examples as they are cached, and in cached rows.

Documents are cut at the ends of rows and packed anew, so the two places differ: when rows are
made, examples are looked at whole; in rows, an item that a cut divides is found by the larger
part. Neither needs TensorFlow.
"""

from __future__ import annotations

import collections
import dataclasses
import functools
import itertools
import pathlib
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from twjax.config import Screening
from twjax.corpus.conversion import opencc
from twjax.corpus.duplicates import items, scripts
from twjax.corpus.duplicates.index import VERSION, Index, Item, Match
from twjax.data.rows import RowReader
from twjax.data.spelt import Speller, row_texts

# Held-out text is looked for in pieces of so many characters: a part of a document tells.
_PIECE = 200
# What had to be folded so that the text has an item's letters, from nothing to everything.
CHANGES = ("none", "white space", "width or case", "punctuation", "script", "wording")
EXAMPLES = 5


@dataclasses.dataclass(frozen=True)
class Finding:
    """A text holds `share` of an item: `stretch` is where, `change` is one of `CHANGES`.

    `text` is the number of the text among those that were searched. `cut` says that only a part of
    the item is there, since the text is cut.
    """

    text: int
    set: str
    item: str
    share: float
    stretch: str
    change: str
    cut: bool

    def entry(self) -> dict[str, Any]:
        """Returns what a report says of it."""
        found = dataclasses.asdict(self)
        del found["text"]
        return {**found, "share": round(self.share, 3)}


class Screen:
    """Looks for the items of several sets at once: `sets` is {name: items}."""

    def __init__(self, sets: Mapping[str, Sequence[Item]], share: float, ngram: int):
        self._items = [(name, item) for name, found in sets.items() for item in found]
        self._index = Index([item for _, item in self._items], ngram)
        self._share, self._ngram = share, ngram
        self.counts = {name: len(found) for name, found in sets.items()}
        short = collections.Counter(self._items[n][0] for n in self._index.too_short)
        self.too_short = {name: short[name] for name in sets}

    def search(self, texts: Sequence[str], cut: np.ndarray | None = None) -> list[Finding]:
        """Returns what the texts hold; `cut` is that of `Index.search`."""
        return [
            self._finding(match, texts[match.text])
            for match in self._index.search(texts, self._share, cut)
        ]

    def _finding(self, match: Match, text: str) -> Finding:
        name, item = self._items[match.item]
        stretch = text[match.start : match.stop]
        return Finding(
            match.text, name, item.name, match.share, stretch, self._change(item, match, text),
            match.cut,
        )  # fmt: skip

    def _change(self, item: Item, match: Match, text: str) -> str:
        """Returns the least that must be folded so that the form that was found is in the text."""
        # Marks at the form's ends aren't in the stretch.
        around, wanted = text[max(0, match.start - 8) : match.stop + 8], item.forms[match.form][0]
        if match.cut:
            # Here the text's part is in the form.
            around, wanted = wanted, text[match.start : match.stop]
        for level, change in enumerate(CHANGES[:-1]):
            if folded(wanted.strip(), level) in folded(around, level):
                return change
        return CHANGES[-1]


def folded(text: str, level: int) -> str:
    """Returns the text with the first `level` of `CHANGES` behind "none" undone."""
    if level >= 1:
        text = "".join(text.split())
    if level >= 2:
        text = unicodedata.normalize("NFKC", text).lower()
    if level >= 3:
        text = "".join(character for character in text if character.isalnum())
    if level >= 4:
        forms = scripts.forms()
        text = "".join(forms.get(character, character) for character in text)
    return text


@functools.lru_cache(maxsize=4)
def open_screen(files: tuple[tuple[str, str], ...], share: float, ngram: int) -> Screen:
    """Returns the screen of sets (name, file); ValueError for what can't be read."""
    return Screen({name: items.read_set(file) for name, file in files}, share, ngram)


@dataclasses.dataclass(frozen=True)
class Removal:
    """Which items' examples are left out of rows: `files` are (set, file); what workers get."""

    files: tuple[tuple[str, str], ...]
    share: float
    ngram: int

    @classmethod
    def of(cls, screening: Screening | None) -> Removal | None:
        """Returns what a configuration asks to remove, or None."""
        if screening is None or screening.policy != "remove":
            return None
        return cls(tuple(sorted(screening.items.items())), screening.share, screening.ngram)

    @property
    def screen(self) -> Screen:
        return open_screen(self.files, self.share, self.ngram)

    def held(
        self, speller: Speller, tokens: np.ndarray, lengths: np.ndarray
    ) -> list[tuple[int, Finding, str]]:
        """Returns (number, the item it holds most of, text) of the examples that hold one.

        `lengths` int [examples] sum to the number of `tokens`.
        """
        if not len(tokens):
            return []
        ids = tokens.astype(np.int64)
        texts = speller.texts(ids, lengths)
        best: dict[int, Finding] = {}
        for finding in self.screen.search(texts, speller.cut(ids, lengths)):
            known = best.get(finding.text)
            if known is None or finding.share > known.share:
                best[finding.text] = finding
        return [(number, best[number], texts[number]) for number in sorted(best)]

    def ingredients(self) -> dict[str, Any]:
        """Returns what decides which examples go."""
        return {
            "items": {name: items.set_sha256(file) for name, file in self.files},
            "share": self.share,
            "ngram": self.ngram,
            "rule": VERSION,
            "unicode": unicodedata.unidata_version,
            "opencc": opencc.version(),
        }

    def differences(self, ingredients: Mapping[str, Any]) -> str:
        """Says how rows of these `ingredients` were screened otherwise; "" if they weren't.

        Files of items are compared where they are here: a machine that only trains may lack them.
        """
        before = ingredients.get("without") or {}
        hashes, lines = before.get("items", {}), []
        names = {name for name, _ in self.files}
        if missing := sorted(names - hashes.keys()):
            lines.append(f"items of {', '.join(missing)} weren't looked for")
        if others := sorted(hashes.keys() - names):
            lines.append(f"items of {', '.join(others)} were left out, too")
        for name, file in self.files:
            here = name in hashes and pathlib.Path(file).exists()
            if here and items.set_sha256(file) != hashes[name]:
                lines.append(f"{file} ({name}) had other items")
        for name, value in (("share", self.share), ("ngram", self.ngram)):
            if before.get(name) != value:
                lines.append(f"Screening.{name} was {before.get(name)}, not {value}")
        return "; ".join(lines)


def held_out_items(reader: RowReader, speller: Speller, rows: int | None) -> list[Item]:
    """Returns the segments of held-out rows as items; a text holds one if it holds a piece."""
    found = []
    for some in row_texts(reader, speller, rows):
        for text, row, segment in zip(some.texts, some.row, some.segment, strict=True):
            count = max(1, len(text) // _PIECE)
            bounds = [len(text) * place // count for place in range(count + 1)]
            pieces = tuple((text[a:b],) for a, b in itertools.pairwise(bounds))
            found.append(Item(f"{reader.info.task} row {row} segment {segment}", pieces))
    return found


def search_rows(
    reader: RowReader, speller: Speller, screen: Screen
) -> Iterator[tuple[int, list[tuple[int, Finding]]]]:
    """Yields (rows read, [(row, what it holds)]) for stretches of a task's rows."""
    done = 0
    for some in row_texts(reader, speller):
        found = [(int(some.row[f.text]), f) for f in screen.search(some.texts, some.cut)]
        last = int(some.row[-1]) + 1
        yield last - done, found
        done = last


class Tally:
    """What the rows of one task hold, by set."""

    def __init__(self, task: str, rows: int, examples: int = EXAMPLES):
        self.task, self.rows, self._most = task, rows, examples
        self._items: dict[str, set[str]] = collections.defaultdict(set)
        self._rows: dict[str, set[int]] = collections.defaultdict(set)
        self._changes: dict[str, dict[str, int]] = collections.defaultdict(dict)
        self._examples: dict[str, list[dict[str, Any]]] = collections.defaultdict(list)
        self._any: set[int] = set()

    def add(self, row: int, finding: Finding) -> None:
        name = finding.set
        level = CHANGES.index(finding.change)
        self._rows[name].add(row)
        self._any.add(row)
        # An item counts by the copy that is nearest to it.
        known = self._changes[name].get(finding.item)
        if known is None or level < known:
            self._changes[name][finding.item] = level
        if finding.item not in self._items[name] and len(self._examples[name]) < self._most:
            self._examples[name].append({"row": row, **finding.entry()})
        self._items[name].add(finding.item)

    def result(self) -> dict[str, Any]:
        """Returns {rows, rows_that_hold, sets: {set: {items, rows, by_change, examples}}}."""
        sets = {}
        for name in sorted(self._items):
            levels = collections.Counter(self._changes[name].values())
            sets[name] = {
                "items": len(self._items[name]),
                "rows": len(self._rows[name]),
                "by_change": {CHANGES[level]: levels[level] for level in sorted(levels)},
                "examples": self._examples[name],
            }
        return {"rows": self.rows, "rows_that_hold": len(self._any), "sets": sets}
