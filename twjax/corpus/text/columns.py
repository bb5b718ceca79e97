"""Lines of text as a terminal shows them: display columns, and what stands where a line breaks."""

from __future__ import annotations

import dataclasses
import functools
import unicodedata
from collections.abc import Sequence
from enum import IntEnum

import numpy as np
import regex

# Wider lines are paragraphs.
MAX_COLUMNS = 200
_NUMERAL = "一二三四五六七八九十百零〇○"
# An article's number, which a reader may have put before a line of full width.
_HEADING = regex.compile(rf"第 {{0,2}}[\d{_NUMERAL}-]+ {{0,2}}條(?:之 ?[\d{_NUMERAL}]+)?[ \u3000]+")


class Kind(IntEnum):
    SPACE = 0
    HAN = 1  # and kana, Bopomofo: no spaces between words
    WORD = 2  # letters and digits of scripts that write spaces
    PAUSE = 3  # ，、 and the like: a sentence goes on
    END = 4  # 。！？；：
    CLOSE = 5
    OPEN = 6
    OTHER = 7


_PAUSES = "，、,﹐﹑､"
ENDS = "。！？；：.!?;:…⋯︰．｡﹔﹕"
CLOSES = "」』”’》〉】）)〕］]}｝﹂﹄"
_OPENS = "「『“‘《〈【（(〔［[{｛﹁﹃"


def among(*kinds: Kind) -> np.ndarray:
    """Returns bool [kinds]: whether each is one of some."""
    return np.isin(np.arange(len(Kind)), kinds)


OPEN_ENDED = among(Kind.HAN, Kind.WORD, Kind.PAUSE)
ENDED = among(Kind.END, Kind.CLOSE)
NO_SPACE_AFTER = among(Kind.HAN, Kind.OPEN)
NO_SPACE_BEFORE = among(Kind.HAN, Kind.PAUSE, Kind.END, Kind.CLOSE)


@functools.cache
def _tables() -> tuple[np.ndarray, np.ndarray]:
    """Returns uint8 [0x110000] twice: kinds, and columns by Unicode Standard Annex #11.

    Characters of ambiguous width have two columns, as they have in Big5.
    """
    kinds = np.full(0x110000, Kind.OTHER, np.uint8)
    columns = np.ones(0x110000, np.uint8)
    kinds[0x20000:0x32400], columns[0x20000:0x32400] = Kind.HAN, 2
    for point in range(0x20000):
        character = chr(point)
        category = unicodedata.category(character)
        wide = unicodedata.east_asian_width(character) in "WFA"
        columns[point] = 0 if category in ("Mn", "Me", "Cf") else 1 + wide
        if category[0] in "LNM":
            han = 0x2E80 <= point < 0xA000 or 0xF900 <= point < 0xFB00
            spaced = not han or 0x3130 <= point < 0x3190
            kinds[point] = Kind.WORD if spaced else Kind.HAN
        elif category[0] == "Z" or character in "\t\r\n":
            kinds[point] = Kind.SPACE
    # Latin with accents is ambiguous in width for Big5's sake only.
    columns[0xA0:0x250] = 1
    for characters, kind in (
        (_PAUSES, Kind.PAUSE),
        (ENDS, Kind.END),
        (CLOSES, Kind.CLOSE),
        (_OPENS, Kind.OPEN),
    ):
        kinds[[ord(c) for c in characters]] = kind
    return kinds, columns


def display_columns(text: str) -> np.ndarray:
    """Returns uint8 [characters], the columns that each takes: 0, 1 or 2."""
    return _tables()[1][np.frombuffer(text.encode("utf-32-le", "surrogatepass"), np.uint32)]


@dataclasses.dataclass(frozen=True)
class Breaks:
    """Breaks between two lines of text: arrays, one value a break.

    `line` is the line before, `width` its columns, `bare` those without the number of an article
    (which may have been put before the line after it was wrapped), `need` the
    columns that the start of the next line would have taken there. `inside` marks those that look
    to be inside a sentence, `weight` is how much they tell: more if the next line is indented, or
    starts with what can't start one.
    """

    line: np.ndarray
    width: np.ndarray
    bare: np.ndarray
    need: np.ndarray
    inside: np.ndarray
    weight: np.ndarray
    hanging: np.ndarray

    def full(self, limit: int) -> np.ndarray:
        """Returns which lines could not have taken more."""
        exact = (self.width <= limit) & (self.width + self.need > limit)
        return exact | ((self.bare <= limit) & (self.bare + self.need > limit))

    def __getitem__(self, key: slice | np.ndarray) -> Breaks:
        return Breaks(
            self.line[key],
            self.width[key],
            self.bare[key],
            self.need[key],
            self.inside[key],
            self.weight[key],
            self.hanging[key],
        )


class Lines:
    """The lines of several texts, and for each what its break to the next line looks like."""

    def __init__(self, texts: Sequence[str]):
        # An empty line between texts: no break of interest crosses from one to the next.
        self.text = "\n\n".join((*texts, ""))
        points = np.frombuffer(self.text.encode("utf-32-le", "surrogatepass"), np.uint32)
        kind_of, columns_of = _tables()
        self.points = points
        self.kinds = kinds = kind_of[points]
        sizes = np.fromiter(map(len, texts), np.int64, len(texts))
        self.begins = np.concatenate(([0], np.cumsum(sizes + 2)))
        columns = np.zeros(len(points) + 1, np.int64)
        np.cumsum(columns_of[points], out=columns[1:])
        self.columns = columns
        self.end = np.flatnonzero(points == 10)
        self.start = np.concatenate(([0], self.end[:-1] + 1))
        visible = np.flatnonzero(kinds != Kind.SPACE)
        stops = np.searchsorted(visible, self.end)
        starts = np.concatenate(([0], stops[:-1]))
        self.blank = stops == starts
        padded = np.append(visible, 0)
        self.first = np.where(self.blank, self.start, padded[starts])
        self.last = np.where(self.blank, self.start, padded[stops - 1])
        self.indent = columns[self.first] - columns[self.start]
        self.width = columns[self.last + 1] - columns[self.start]
        self.last_kind = np.where(self.blank, Kind.SPACE, kinds[self.last])
        self.table = self._tables()
        self._breaks = np.flatnonzero((kinds != Kind.WORD) & (kinds != Kind.OTHER))

    def _tables(self) -> np.ndarray:
        """Returns which lines have columns: a tab or three spaces inside, or drawn lines."""
        points = self.points
        space = (self.kinds == Kind.SPACE) & (points != 10)
        gap = points == 9
        gap[2:] |= space[:-2] & space[1:-1] & space[2:]
        drawn = ((points >= 0x2500) & (points < 0x2590)) | (points == ord("|"))
        counts = np.zeros(len(self.end) + 1, np.int64)
        for places, inside in ((np.flatnonzero(gap), True), (np.flatnonzero(drawn), False)):
            lines = np.searchsorted(self.end, places)
            if inside:
                lines = lines[(places > self.first[lines]) & (places < self.last[lines])]
            counts += np.bincount(lines, minlength=len(counts)) * (1 + inside)
        return counts[:-1] >= 2

    def breaks(self, min_columns: int) -> Breaks:
        """Returns the breaks after lines that are wide enough, but those of tables."""
        prose = ~self.blank & ~self.table
        line = np.flatnonzero(prose[:-1] & prose[1:] & (self.width[:-1] >= min_columns))
        following = self.kinds[self.first[line + 1]]
        hanging = self.indent[line + 1] > self.indent[line]
        weight = 1 + hanging + ((following >= Kind.PAUSE) & (following <= Kind.CLOSE))
        bare = self.bare_widths(line)
        inside = OPEN_ENDED[self.last_kind[line]] & (bare <= MAX_COLUMNS)
        return Breaks(line, self.width[line], bare, self._needs(line), inside, weight, hanging)

    def bare_widths(self, line: np.ndarray) -> np.ndarray:
        """Returns lines' columns without the number of an article before them."""
        width = self.width[line]
        first = self.first[line]
        for place in np.flatnonzero(self.points[first] == ord("第")).tolist():
            start = int(first[place])
            if match := _HEADING.match(self.text, start):
                width[place] -= self.columns[match.end()] - self.columns[start]
        return width

    def _needs(self, lines: np.ndarray) -> np.ndarray:
        """Returns the columns that the start of the next line would have taken on each line."""
        first = self.first[lines + 1]
        kinds = self.kinds
        spaced = (kinds[first] == Kind.WORD) | (kinds[first] == Kind.OTHER)
        # A word to its end, or one character; and the punctuation that can't leave it.
        stop = np.where(spaced, self._breaks[np.searchsorted(self._breaks, first)], first + 1)
        for _ in range(2):
            after = kinds[stop]
            stop = stop + ((after >= Kind.PAUSE) & (after <= Kind.CLOSE))
        need = self.columns[stop] - self.columns[first]
        trailing = self.columns[self.end[lines]] - self.columns[self.last[lines] + 1]
        space = spaced & (kinds[self.last[lines]] != Kind.HAN)
        return need + np.maximum(np.minimum(trailing, 2), space)
