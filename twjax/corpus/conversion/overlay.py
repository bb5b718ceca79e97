"""Taiwan's words over OpenCC's characters: a table of phrases with the contexts they hold in.

OpenCC turns each Simplified character into a Traditional one, and the table says where Taiwan
says it otherwise: 软件 → 軟體, but 文件 → 檔案 only in writing about computers. Phrases are
looked for in the Simplified text, longest first from the left, so what OpenCC makes of their
neighbours can't hide them (少数组织 holds no 数组), and a phrase that stands for itself blocks
shorter ones inside it.
"""

from __future__ import annotations

import csv
import functools
import hashlib
import io
from collections.abc import Iterable, Sequence
from importlib import resources
from typing import NamedTuple

import numpy as np

TAIWAN = "taiwan"
_COLUMNS = ("from", "to", "where", "before", "after", "exclude", "note", "source", "licence")
_WHERE = ("", "cue", "computing", "computing cue")

# How far a word of `exclude` that may stand anywhere is looked for, in code points either way.
_NEAR = 20
# Cues in 1,000 Han characters of Simplified text, by document: 3 to 30 in software's manuals, at
# most 0.8 in news and 1.6 in articles. Only Han, since a manual may be half code and commands. One
# cue is enough where there is no room for two.
_CUE_DENSITY = 0.0015
_SHORT = 400
_HASH_BITS = 18


class Rule:
    """One row: `source` becomes `to` where its context allows.

    `before` and `after` are alternatives of which one must touch the phrase; of `exclude` none
    may: "x~" stands before it, "~x" after it, "x~y" around it, and "x" anywhere near.
    """

    __slots__ = ("_after", "_around", "_before", "_near", "_not_after", "_not_before", "source",
                 "to", "where")  # fmt: skip

    def __init__(
        self,
        source: str,
        to: str,
        where: str = "",
        before: Sequence[str] = (),
        after: Sequence[str] = (),
        exclude: Sequence[str] = (),
    ):
        self.source, self.to, self.where = source, to, where
        self._before, self._after = tuple(before), tuple(after)
        parts = [pattern.partition("~") for pattern in exclude]
        self._not_before = tuple(left for left, tilde, right in parts if tilde and not right)
        self._not_after = tuple(right for left, tilde, right in parts if tilde and not left)
        self._around = tuple((left, right) for left, _, right in parts if left and right)
        self._near = tuple(word for word, tilde, _ in parts if not tilde)

    def holds(self, text: str, start: int) -> bool:
        """Whether the context of the phrase at `start` allows the rule."""
        stop = start + len(self.source)
        if self._not_after and text.startswith(self._not_after, stop):
            return False
        if self._not_before and text.endswith(self._not_before, 0, start):
            return False
        if self._before and not text.endswith(self._before, 0, start):
            return False
        if self._after and not text.startswith(self._after, stop):
            return False
        if any(text.endswith(x, 0, start) and text.startswith(y, stop) for x, y in self._around):
            return False
        low, high = max(0, start - _NEAR), stop + _NEAR
        return not any(text.find(word, low, high) >= 0 for word in self._near)


class Match(NamedTuple):
    """A rule that holds for the stretch from `start` to `stop`, code points of the text."""

    start: int
    stop: int
    rule: Rule


class Overlay:
    """The rules of a table, ready to be looked for."""

    def __init__(self, rules: Sequence[Rule], digest: str):
        self.digest = digest
        sources: dict[str, list[Rule]] = {}
        for rule in rules:
            sources.setdefault(rule.source, []).append(rule)
        self._by_pair: dict[str, list[tuple[str, list[Rule]]]] = {}
        for source in sorted(sources, key=len, reverse=True):
            self._by_pair.setdefault(source[:2], []).append((source, sources[source]))
        # Two characters begin a phrase of two, or three begin a longer one.
        self._pairs = _marked(source for source in sources if len(source) == 2)
        self._triples = _marked(source[:3] for source in sources if len(source) > 2)

    def rules(self) -> list[Rule]:
        """Returns all rules."""
        return [r for group in self._by_pair.values() for _, rules in group for r in rules]

    def matches(
        self, text: str, context: str | None = None, computing: bool | None = None
    ) -> tuple[list[Match], bool]:
        """Returns the rules that hold, in order and apart, and whether `text` is about computers.

        That is judged by the cues in the text, unless `computing` says it. Phrases are looked for
        in `text`, their contexts in `context`: the text before parts of it were masked.
        """
        context = text if context is None else context
        found = self._candidates(text)
        if computing is None:
            cues = sum(rules[0].where.endswith("cue") for _, ((_, rules), *_) in found)
            least = 1 if len(text) <= _SHORT else 2
            points = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), np.uint32)
            han = np.count_nonzero((points >= 0x4E00) & (points < 0xA000))
            computing = bool(cues >= max(least, _CUE_DENSITY * han))
        chosen: list[Match] = []
        free = 0
        for start, group in found:
            if start >= free:
                rule = _first(context, start, group, computing)
                if rule is not None:
                    free = start + len(rule.source)
                    chosen.append(Match(start, free, rule))
        return chosen, computing

    def _candidates(self, text: str) -> list[tuple[int, list[tuple[str, list[Rule]]]]]:
        """Returns each place where phrases begin, with those phrases, the longest first."""
        if len(text) < 2:
            return []
        pairs, triples = _hashes(text)
        begins = self._pairs[pairs]
        begins[:-1] |= self._triples[triples]
        found = []
        for start in np.flatnonzero(begins).tolist():
            group = self._by_pair.get(text[start : start + 2])
            if group is not None:
                here = [item for item in group if text.startswith(item[0], start)]
                if here:
                    found.append((start, here))
        return found


def _first(
    text: str, start: int, group: list[tuple[str, list[Rule]]], computing: bool
) -> Rule | None:
    for _, rules in group:
        for rule in rules:
            if (computing or rule.where[:9] != "computing") and rule.holds(text, start):
                return rule
    return None


def _marked(beginnings: Iterable[str]) -> np.ndarray:
    """Returns bool [2 ** _HASH_BITS], true at the hash of each of these two or three characters."""
    marks = np.zeros(1 << _HASH_BITS, bool)
    for beginning in beginnings:
        marks[_hashes(beginning)[len(beginning) - 2][0]] = True
    return marks


def _hashes(text: str) -> tuple[np.ndarray, np.ndarray]:
    """Returns uint32 [len(text) - 1] and [len(text) - 2]: hashes of each two, three characters."""
    points = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), np.uint32)
    pairs = points[:-1] * np.uint32(0x9E3779B1) ^ points[1:] * np.uint32(0x85EBCA6B)
    triples = pairs[:-1] ^ points[2:] * np.uint32(0xC2B2AE35)
    shift = np.uint32(32 - _HASH_BITS)
    return pairs >> shift, triples >> shift


@functools.cache
def load(name: str = TAIWAN) -> Overlay:
    """Returns the table `twjax/corpus/tables/overlay.tsv` ("taiwan") or that at a path."""
    if name == TAIWAN:
        data = (resources.files("twjax.corpus") / "tables" / "overlay.tsv").read_bytes()
    else:
        with open(name, "rb") as file:
            data = file.read()
    return Overlay(parse(data.decode(), name), hashlib.sha256(data).hexdigest())


def parse(text: str, name: str) -> list[Rule]:
    """Reads a table: tab-separated, a header of column names, `#` before a comment line.

    Raises ValueError naming `name`, the line and the field.
    """
    lines = [(n, line) for n, line in enumerate(io.StringIO(text), 1) if line[:1] not in "#\n"]
    rows = csv.reader((line for _, line in lines), delimiter="\t", quoting=csv.QUOTE_NONE)
    header = tuple(next(rows, ()))
    if header != _COLUMNS:
        raise ValueError(f"{name}: the columns are {header}, they must be {_COLUMNS}.")
    rules: list[Rule] = []
    seen: set[tuple[str, ...]] = set()
    for (number, _), row in zip(lines[1:], rows, strict=True):
        at = f"{name}:{number}"
        if len(row) != len(_COLUMNS):
            raise ValueError(f"{at}: {len(row)} columns, there must be {len(_COLUMNS)}.")
        source, to, where, before, after, exclude = row[:6]
        if len(source) < 2 or not to or "\n" in to:
            raise ValueError(f"{at}: `from` {source!r} needs two characters or more, `to` one.")
        if where not in _WHERE:
            raise ValueError(f"{at}: `where` {where!r} must be one of {_WHERE}.")
        if (key := (source, where, before, after, exclude)) in seen:
            raise ValueError(f"{at}: {source!r} is here twice with the same context.")
        seen.add(key)
        rules.append(Rule(source, to, where, *map(_alternatives, (before, after, exclude))))
    return rules


def _alternatives(field: str) -> tuple[str, ...]:
    return tuple(part for part in field.split("|") if part)
