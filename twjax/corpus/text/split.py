"""Long documents cut at sections, paragraphs and sentences.

Nothing is lost: the parts of a document, put together, are its text. White space between two
parts stays with the first.
"""

from __future__ import annotations

import bisect
import dataclasses
import itertools
from collections.abc import Sequence
from enum import IntEnum
from typing import ClassVar, Literal

import numpy as np
import regex

from twjax.corpus.document import Document
from twjax.corpus.step import Outcome, Step
from twjax.corpus.text import spans

_NUMERAL = r"[\d一二三四五六七八九十百零〇○-]+"
# A heading is a section's first line: Markdown's, a law's article or chapter, a numbered one.
_SECTION = regex.compile(
    rf"(?m)^(?:#{{1,6}} |第 {{0,2}}{_NUMERAL} {{0,2}}(?:條(?:之 ?{_NUMERAL})?|[章節編篇回卷])"
    r"(?=[ \u3000\n]|$)|(?:[壹貳參肆伍陸柒捌玖拾]+|[一二三四五六七八九十]+)、|CHAPTER )"
)
_PARAGRAPH = regex.compile(r"\n[ \t\r\u3000]*\n\s*+")
_LINE = regex.compile(r"\n[ \t\r\u3000]*+")
_CLOSE = "」』”’\"')）》〉】〕\\]］"
# Full-width marks end a sentence anywhere; Latin ones before a space and what may start another.
_SENTENCE = regex.compile(
    rf"(?:(?<![。！？；｡])[。！？；｡]++|(?<!…)…{{2,}}+(?![，、：]))[。！？…!?]*+[{_CLOSE}]*+(?![，、。；：！？…])\s*+"
    rf"|(?<=\p{{Han}})[!?;]++[{_CLOSE}]*+(?![，、])\s*+"
    r"|(?<!\b\p{Lu})(?<!\b(?:Mr|Mrs|Ms|Dr|St|vs|cf|No|Fig|Jr|Sr|e\.g|i\.e))"
    rf"(?<![.!?])[.!?]++[{_CLOSE}]*+\s++(?=[\p{{Lu}}\d\p{{Han}}\"“‘'(\[「『])"
)
_PAUSE = regex.compile(rf"[，、：:,;][{_CLOSE}]*+\s*+|\s++")
# What a character can't be parted from: marks, joiners and selectors after it, and LF after CR.
_WHOLE = regex.compile(r"\X")


class _Level(IntEnum):
    PAUSE = 1
    SENTENCE = 2
    LINE = 3
    PARAGRAPH = 4
    SECTION = 5


@dataclasses.dataclass(frozen=True, kw_only=True)
class SplitDocuments(Step):
    """Splits documents larger than `limit` into parts no larger, at the best places.

    `unit` says what `limit` counts: "characters", "bytes" (UTF-8), or "tokens", estimated as
    bytes times `tokens_per_byte` of the vocabulary in mind. A part ends where a section, else a
    paragraph, a line, a sentence ends, if that leaves it at least `fill` full, else at the last
    end of a sentence; inside a sentence only if the sentence alone is too large. Parts are
    documents "<id>#1", "<id>#2", … with meta "part" (from 1), "parts" and "part_of" (the id).
    """

    name: ClassVar[str] = "split_documents"

    limit: int
    unit: Literal["characters", "bytes", "tokens"] = "characters"
    tokens_per_byte: float | None = None
    fill: float = 0.5

    def __post_init__(self) -> None:
        if self.limit < 1:
            raise ValueError(f"SplitDocuments.limit ({self.limit}) must be positive.")
        if not 0 <= self.fill < 1:
            raise ValueError(f"SplitDocuments.fill ({self.fill}) must be from 0 to below 1.")
        if (self.unit == "tokens") != (self.tokens_per_byte is not None):
            raise ValueError(
                f"SplitDocuments.tokens_per_byte ({self.tokens_per_byte}) must be given for unit "
                f'"tokens" and only there; unit is "{self.unit}".'
            )
        if self.tokens_per_byte is not None and not self.tokens_per_byte > 0:
            raise ValueError(
                f"SplitDocuments.tokens_per_byte ({self.tokens_per_byte}) must be positive."
            )

    def versions(self) -> dict[str, str]:
        return {"regex": regex.__version__}

    def apply(self, batch: Sequence[Document]) -> Outcome:
        outcome = Outcome([])
        for document in batch:
            parts = self.split(document.text)
            if len(parts) == 1:
                outcome.kept.append(document)
                continue
            outcome.changed["documents"] += 1
            outcome.changed["parts"] += len(parts)
            for number, text in enumerate(parts, start=1):
                meta = {**document.meta, "part": str(number), "parts": str(len(parts))}
                meta["part_of"] = document.id
                outcome.kept.append(
                    dataclasses.replace(
                        document, id=f"{document.id}#{number}", text=text, meta=meta
                    )
                )
        return outcome

    def split(self, text: str) -> list[str]:
        """Returns the parts of a text; one if it is small enough."""
        # No character has more than four bytes.
        scale = self.tokens_per_byte or 1.0
        most = 1.0 if self.unit == "characters" else 4.0 * scale
        if len(text) * most <= self.limit:
            return [text]
        costs = np.ones(len(text)) if self.unit == "characters" else byte_lengths(text) * scale
        if float(costs.sum()) <= self.limit:
            return [text]
        places = [0, *cuts(text, costs, self.limit, self.fill), len(text)]
        return [text[a:b] for a, b in itertools.pairwise(places)]


def byte_lengths(text: str) -> np.ndarray:
    """Returns float64 [characters], the UTF-8 bytes of each."""
    points = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), np.uint32)
    return 1.0 + (points >= 0x80) + (points >= 0x800) + (points >= 0x10000)


def cuts(text: str, costs: np.ndarray, limit: float, fill: float) -> list[int]:
    """Returns where to cut a text, ascending, so that the costs of each part are within `limit`.

    `costs` are one number a character; a caller with a vocabulary gives each token's cost, 1, to
    its first character. A single character that costs more than `limit` is a part.
    """
    totals = np.concatenate(([0.0], np.cumsum(costs)))
    places, levels = _places(text)
    found: list[int] = []
    start = 0
    while totals[-1] - totals[start] > limit:
        done = totals[start]
        left = float(totals[-1] - done)
        stop = int(np.searchsorted(totals, done + limit * (1 + 1e-9), "right")) - 1
        # So that the last part isn't a scrap.
        last = min(fill * limit, left) / 2
        ideal = int(np.searchsorted(totals, done + min(limit, left - last), "right")) - 1
        low = int(np.searchsorted(totals, done + min(fill * limit, left / 2)))
        cut = (
            _best(places, levels, max(low, start + 1), ideal, _Level.SENTENCE)
            or _last(places, levels, start, stop, _Level.SENTENCE)
            or _best(places, levels, max(low, start + 1), stop, _Level.PAUSE)
            or _last(places, levels, start, stop, _Level.PAUSE)
            or _whole(text, start, stop)
        )
        found.append(cut)
        start = cut
        if start >= len(text):
            found.pop()
            break
    return found


def _places(text: str) -> tuple[np.ndarray, np.ndarray]:
    """Returns where a text may be cut, ascending, and how good each place is."""
    best: dict[int, int] = {}
    for level, pattern in (
        (_Level.PAUSE, _PAUSE),
        (_Level.SENTENCE, _SENTENCE),
        (_Level.LINE, _LINE),
        (_Level.PARAGRAPH, _PARAGRAPH),
    ):
        best.update(dict.fromkeys((m.end() for m in pattern.finditer(text)), int(level)))
    best.update(dict.fromkeys((m.start() for m in _SECTION.finditer(text)), int(_Level.SECTION)))
    guarded = spans.protected(text)
    stops = [stop for _, stop in guarded]
    for place in best:
        index = bisect.bisect_right(stops, place)
        # In code any line is as good as another, and none as good as what is outside.
        if index < len(guarded) and guarded[index][0] < place:
            best[place] = int(_Level.PAUSE)
    places = sorted(place for place in best if 0 < place < len(text))
    return np.array(places, np.int64), np.array([best[p] for p in places], np.int64)


def _best(places: np.ndarray, levels: np.ndarray, low: int, high: int, least: _Level) -> int | None:
    """Returns the last of the best places from `low` to `high`, if one is at least `least`."""
    first, stop = np.searchsorted(places, (low, high + 1))
    if stop <= first:
        return None
    window = levels[first:stop]
    top = int(window.max())
    return int(places[first + np.flatnonzero(window == top)[-1]]) if top >= least else None


def _last(
    places: np.ndarray, levels: np.ndarray, start: int, high: int, least: _Level
) -> int | None:
    """Returns the last place after `start` up to `high` that is at least `least`."""
    first, stop = np.searchsorted(places, (start + 1, high + 1))
    good = np.flatnonzero(levels[first:stop] >= least)
    return int(places[first + good[-1]]) if len(good) else None


def _whole(text: str, start: int, stop: int) -> int:
    """Returns the last place up to `stop` that parts no character from its marks."""
    stop = max(stop, start + 1)
    at = max(start, stop - 64)
    last = start
    for match in _WHOLE.finditer(text, at, min(len(text), stop + 64)):
        if match.end() > stop:
            break
        last = match.end()
    return last if last > start else stop
