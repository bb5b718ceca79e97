"""Where numbers and long tokens stand, found by NumPy, so that patterns for them read little else.

Most text has neither. The places that do are cut out with what stands around them and read as one
short text; finds are moved back.
"""

from __future__ import annotations

import dataclasses

import numpy as np

from twjax.corpus.personal.patterns import BREAK, Found, Where

# Local telephone numbers have 7 digits, some passports 6.
_MIN_DIGITS = 6
# The shortest token is AWS's, of 20 characters.
_MIN_TOKEN = 20
# Checks look at most so far around a find.
_LEFT, _RIGHT = 96, 64
_SEPARATOR = np.zeros(0x10000, bool)
_SEPARATOR[[ord(c) for c in " \u00a0\u3000-－‐‑‒–—―−.．()（）・"]] = True


@dataclasses.dataclass(frozen=True)
class Windows:
    """A text cut out of another; `starts` and `origins`, int64 [windows], say from where."""

    text: str
    starts: np.ndarray
    origins: np.ndarray

    def moved(self, found: Found) -> Found:
        """Returns the find with its place in the whole text."""
        index = int(np.searchsorted(self.starts, found.start, "right")) - 1
        shift = int(self.origins[index] - self.starts[index])
        return found._replace(start=found.start + shift, end=found.end + shift)


def cut(text: str, codes: np.ndarray) -> dict[Where, Windows]:
    """Returns the windows around numbers and around tokens of what `patterns.fold` returned."""
    kind = codes.dtype.type
    digit = (codes - kind(48)) < 10
    token = ((codes | kind(32)) - kind(97)) < 26
    token |= digit
    for char in "-_/+":
        token |= codes == ord(char)
    return {
        "numbers": _cut(text, *_number_spans(codes, np.flatnonzero(digit))),
        "tokens": _cut(text, *_token_spans(token)),
        "plates": _cut(text, *_plate_spans(codes, digit), 36, 28),
    }


def _number_spans(codes: np.ndarray, digits: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns starts and ends of numbers: 6 digits or more, or 4 groups of digits or more.

    Up to 3 separators may stand between two digits.
    """
    if len(digits) < 4:
        return digits[:0], digits[:0]
    gap = np.diff(digits) - 1
    joined = gap <= 3
    for place in (1, 2, 3):
        wide = np.flatnonzero(joined & (gap >= place))
        joined[wide] = _SEPARATOR[np.minimum(codes[digits[wide] + place].astype(np.int64), 0xFFFF)]
    ends = np.append(np.flatnonzero(~joined), len(digits) - 1)
    firsts = np.append(0, ends[:-1] + 1)
    gaps = np.append(0, np.cumsum(gap > 0))
    groups = gaps[ends] - gaps[firsts] + 1
    enough = (ends - firsts + 1 >= _MIN_DIGITS) | (groups >= 4)
    return digits[firsts[enough]], digits[ends[enough]] + 1


def _plate_spans(codes: np.ndarray, digit: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns starts and ends of places where a capital letter and a digit meet.

    Up to 3 separators may stand between them.
    """
    kind = codes.dtype.type
    # 1 for a digit, 2 for a capital letter: of two neighbours that are not 0 a change is a meeting.
    sort = digit.astype(np.int8)
    sort += 2 * ((codes - kind(65)) < 26).astype(np.int8)
    places = np.flatnonzero(sort)
    if len(places) < 4:
        return places[:0], places[:0]
    gap = np.diff(places) - 1
    meets = np.flatnonzero((sort[places[1:]] != sort[places[:-1]]) & (gap <= 3))
    for place in (1, 2, 3):
        wide = gap[meets] >= place
        between = np.minimum(
            codes[places[meets] + np.where(wide, place, 0)].astype(np.int64), 0xFFFF
        )
        meets = meets[~wide | _SEPARATOR[between]]
    return np.maximum(places[meets] - 4, 0), np.minimum(places[meets + 1] + 5, len(codes))


def _token_spans(token: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns starts and ends of long unbroken runs of letters, digits and -_/+."""
    edges = np.flatnonzero(token[1:] != token[:-1]) + 1
    bounds = np.concatenate(([0], edges, [len(token)]))
    long = np.flatnonzero(np.diff(bounds) >= _MIN_TOKEN)
    long = long[token[bounds[long]]]
    return bounds[long], bounds[long + 1]


def _cut(
    text: str, starts: np.ndarray, ends: np.ndarray, before: int = _LEFT, after: int = _RIGHT
) -> Windows:
    if not len(starts):
        empty = np.zeros(1, np.int64)
        return Windows("", empty, empty)
    left = np.maximum(starts - before, 0)
    right = np.minimum(ends + after, len(text))
    # Windows that touch are one.
    apart = np.flatnonzero(left[1:] > np.maximum.accumulate(right)[:-1])
    firsts, lasts = np.append(0, apart + 1), np.append(apart, len(left) - 1)
    begin, end = left[firsts], right[lasts]
    parts = [text[b:e] for b, e in zip(begin.tolist(), end.tolist(), strict=True)]
    places = np.append(0, np.cumsum(end - begin + len(BREAK))[:-1])
    return Windows(BREAK.join(parts), places, begin)
