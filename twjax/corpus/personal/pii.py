"""Personal data and secrets, found by pattern, checksum and context; replaced or labelled."""

from __future__ import annotations

import bisect
import collections
import dataclasses
import functools
import hashlib
import pathlib
from collections.abc import Collection, Iterator, Sequence
from typing import ClassVar, Literal

import numpy as np
import regex

from twjax.corpus.document import Document, Rejection
from twjax.corpus.personal import (
    accounts,
    addresses,
    births,
    keys,
    online,
    papers,
    persons,
    phones,
    plates,
    surrogates,
    tables,
    windows,
)  # fmt: skip
from twjax.corpus.personal.offices import is_public, is_sample
from twjax.corpus.personal.patterns import BREAK, Found, Recognizer, fold
from twjax.corpus.step import Edit, Outcome, Step

# Where two kinds claim a stretch, the earlier one has it.
KINDS = (
    *("secret", "e-mail", "address", "identity number", "passport", "health card", "birth date"),
    *("bank account", "card", "mobile", "landline", "LINE id", "plate", "IP address"),
    *("company number", "name"),
)
# Public by law (company number); off by default (name).
_UNASKED = ("company number", "name")
_RANK = {kind: rank for rank, kind in enumerate(KINDS)}
_SCAN_CHARACTERS = 1 << 20

_OF_A_PERSON = {
    "identity number",
    "mobile",
    "birth date",
    "LINE id",
    "passport",
    "health card",
    "name",
}
# What a bare number in a column of orders or goods may look like.
_OF_DIGITS = {"mobile", "landline", "card", "bank account", "health card", "passport"}
_NEIGHBOURHOOD = 60
_LIST = 120


@functools.cache
def _recognizers(kinds: frozenset[str]) -> tuple[Recognizer, ...]:
    files = (keys, online, addresses, papers, plates, births, accounts, phones, persons)
    return tuple(r for file in files for r in file.recognizers() if r.kind in kinds)


def find(text: str, kinds: Collection[str] = KINDS) -> list[Found]:
    """Returns the stretches of these kinds, in order and without overlaps; `KINDS` are all.

    Takes time linear in the length of the text, whatever it holds.
    """
    return _found(*fold(text), frozenset(kinds))


def _scan(folded: str, codes: np.ndarray, kinds: frozenset[str]) -> Iterator[Found]:
    if not folded:
        return
    cut = windows.cut(folded, codes)
    for one in _recognizers(kinds):
        window = cut.get(one.where)
        check, text = one.check, window.text if window else folded
        if one.needs not in text:
            continue
        for match in one.pattern.finditer(text):
            found = check(text, match)
            if found is not None:
                yield window.moved(found) if window else found


def _found(folded: str, codes: np.ndarray, kinds: frozenset[str]) -> list[Found]:
    cells = list(tables.cells(folded, codes))
    told = _scan(folded, codes, kinds)
    if cells:
        numbers = {(c.start, c.end) for c in cells if not c.kind}
        own = [
            one for one in told if one.kind not in _OF_DIGITS or (one.start, one.end) not in numbers
        ]
        told = iter([*own, *_in_cells(folded, cells, kinds)])
    return [one for one in _resolved(told) if not is_sample(folded, one)]


def _in_cells(text: str, cells: list[tables.Cell], kinds: frozenset[str]) -> Iterator[Found]:
    """Yields what the cells of a table hold, each read behind the label of its column."""
    cells = [cell for cell in cells if cell.kind in kinds]
    starts, parts, size = [], [], 0
    for cell in cells:
        starts.append(size)
        parts.append(cell.label + text[cell.start : cell.end])
        size += len(parts[-1]) + len(BREAK)
    for found in _scan(*fold(BREAK.join(parts)), frozenset(cell.kind for cell in cells)):
        index = bisect.bisect_right(starts, found.start) - 1
        cell, shift = cells[index], starts[index] + len(cells[index].label)
        if found.kind == cell.kind and found.start >= shift:
            moved = cell.start - shift
            yield found._replace(start=found.start + moved, end=found.end + moved)


def _resolved(found: Iterator[Found]) -> list[Found]:
    kept: list[Found] = []
    for one in sorted(found, key=lambda f: (f.start, _RANK[f.kind], -f.end)):
        if not kept or one.start >= kept[-1].end:
            kept.append(one)
        elif _RANK[one.kind] < _RANK[kept[-1].kind]:
            kept[-1] = one
    return kept


@dataclasses.dataclass(frozen=True, kw_only=True)
class ReplacePersonalData(Step):
    """Finds personal data and secrets of `kinds` and replaces them.

    `policy` "replace" puts in `style` "surrogate" a stand-in of the same kind that is nobody's
    (see `personal.surrogates`) or "tag" such as [MOBILE_1]; equal values of a document get equal
    ones. "label" leaves the text and writes the counts to `meta["pii"]` ("e-mail:1 mobile:2");
    "drop" rejects documents with `drop_from` finds or more and leaves the others as they are.

    `offices` "keep" leaves what is public by the words around it (see `is_public`): landlines,
    addresses, mailboxes (info@…) and LINE accounts of companies and authorities, and places;
    "replace" treats them like a person's. Toll-free and short numbers are never touched, mobile
    numbers always. Company numbers are public by law, and names are of public figures more often
    than not: both are found only if `kinds` has them, and names in `public_names` never. The
    counts are by kind; edits have a tag in place of what was replaced, and no value found is kept
    anywhere.
    """

    name: ClassVar[str] = "personal_data"

    kinds: tuple[str, ...] = tuple(kind for kind in KINDS if kind not in _UNASKED)
    policy: Literal["replace", "label", "drop"] = "replace"
    style: Literal["surrogate", "tag"] = "surrogate"
    offices: Literal["keep", "replace"] = "keep"
    drop_from: int = 1
    public_names: tuple[str, ...] = ()
    seed: int = 0

    def __post_init__(self) -> None:
        unknown = sorted(set(self.kinds) - set(KINDS))
        if unknown:
            raise ValueError(
                f"ReplacePersonalData.kinds has {unknown}; choose from {', '.join(KINDS)}."
            )
        for field, values in (
            ("policy", ("replace", "label", "drop")),
            ("style", ("surrogate", "tag")),
            ("offices", ("keep", "replace")),
        ):
            if getattr(self, field) not in values:
                raise ValueError(
                    f"ReplacePersonalData.{field} ({getattr(self, field)!r}) must be one of "
                    f"{', '.join(values)}."
                )
        if self.drop_from < 1:
            raise ValueError(f"ReplacePersonalData.drop_from ({self.drop_from}) must be 1 or more.")

    def versions(self) -> dict[str, str]:
        digest = hashlib.sha256()
        for file in sorted(pathlib.Path(surrogates.__file__).parent.glob("*.py")):
            digest.update(file.read_bytes())
        return {"regex": regex.__version__, "personal data rules": digest.hexdigest()[:16]}

    def apply(self, batch: Sequence[Document]) -> Outcome:
        outcome = Outcome([])
        for document, found in zip(batch, self.find([d.text for d in batch]), strict=True):
            if not found:
                outcome.kept.append(document)
                continue
            counts = collections.Counter(f.kind for f in found)
            summary = " ".join(f"{kind}:{counts[kind]}" for kind in sorted(counts))
            if self.policy == "drop" and len(found) >= self.drop_from:
                outcome.rejected.append(Rejection(document, "personal data", summary))
                continue
            if self.policy == "label":
                document = dataclasses.replace(document, meta={**document.meta, "pii": summary})
            elif self.policy == "replace":
                text, edits = self._replaced(document, found)
                document = dataclasses.replace(document, text=text)
                outcome.edits += edits
            outcome.changed.update(counts)
            outcome.changed["documents"] += 1
            outcome.kept.append(document)
        return outcome

    def find(self, texts: Sequence[str]) -> list[list[Found]]:
        """Returns what is personal in each text under the step's kinds and policies."""
        result: list[list[Found]] = [[] for _ in texts]
        for group in _groups(texts):
            # Short texts are scanned together: a call costs more than a hundred characters.
            joined, codes = fold(BREAK.join(texts[i] for i in group))
            starts = [0]
            for i in group:
                starts.append(starts[-1] + len(texts[i]) + 1)
            place = 0
            all_found = _found(joined, codes, frozenset(self.kinds))
            for index, found in enumerate(all_found):
                while found.start >= starts[place + 1]:
                    place += 1
                if self._is_asked(joined, all_found, index):
                    moved = found._replace(
                        start=found.start - starts[place], end=found.end - starts[place]
                    )
                    result[group[place]].append(moved)
        return result

    def _is_asked(self, text: str, finds: list[Found], index: int) -> bool:
        found = finds[index]
        if found.kind == "name" and found.value in self.public_names:
            return False
        if self.offices == "replace":
            return True
        beside = [
            (other, max(found.start, other.start) - min(found.end, other.end))
            for other in finds[max(0, index - 2) : index + 3]
            if other is not found
            and BREAK not in text[min(found.end, other.end) : max(found.start, other.start)]
        ]
        near = any(other.kind in _OF_A_PERSON and gap <= _NEIGHBOURHOOD for other, gap in beside)
        # Three addresses in a row are a list of shops or offices.
        listed = sum(other.kind == "address" and gap <= _LIST for other, gap in beside) >= 2
        return not is_public(text, found, near, listed)

    def _replaced(self, document: Document, found: list[Found]) -> tuple[str, list[Edit]]:
        ordinals: dict[tuple[str, str], int] = {}
        numbers: collections.Counter[str] = collections.Counter()
        parts: list[str] = []
        edits: list[Edit] = []
        end = size = 0
        for one in found:
            key = (one.kind, one.value)
            if key not in ordinals:
                ordinals[key] = numbers[one.kind]
                numbers[one.kind] += 1
            before_it, written = document.text[end : one.start], document.text[one.start : one.end]
            tag = f"[{one.kind.upper().replace(' ', '_').replace('-', '_')}_{ordinals[key] + 1}]"
            by = tag
            if self.style == "surrogate":
                draw = surrogates.Draw(self.seed, document.id, one.kind, ordinals[key])
                by = surrogates.surrogate(one.kind, written, draw)
            parts += [before_it, by]
            size += len(before_it)
            # The tag stands for what was there: personal data goes nowhere.
            edits.append(Edit(document.id, one.kind, size, tag, by))
            size += len(by)
            end = one.end
        return "".join([*parts, document.text[end:]]), edits


def _groups(texts: Sequence[str]) -> Iterator[list[int]]:
    group: list[int] = []
    size = 0
    for i, text in enumerate(texts):
        if group and size + len(text) > _SCAN_CHARACTERS:
            yield group
            group, size = [], 0
        group.append(i)
        size += len(text) + 1
    if group:
        yield group
