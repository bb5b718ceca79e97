"""Text in a terminal's cells: widths, cuts, and pictures of characters."""

from __future__ import annotations

import itertools
import math
import unicodedata
from collections.abc import Sequence

_EIGHTHS = " ▏▎▍▌▋▊▉█"
_BARS = "▁▂▃▄▅▆▇█"
# Bits of the dots of a braille character, by row and column.
_DOTS = ((0x01, 0x08), (0x02, 0x10), (0x04, 0x20), (0x40, 0x80))


def width_of(text: str) -> int:
    """Returns the cells that a text takes: two for a Han character or a full-width sign."""
    return sum(map(_cells, text))


def _cells(character: str) -> int:
    if unicodedata.category(character) in ("Mn", "Me", "Cf"):
        return 0
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1


def cut(text: str, width: int) -> str:
    """Returns a text of at most `width` cells, without control characters; "…" for what is gone."""
    text = "".join(" " if unicodedata.category(c) == "Cc" else c for c in text)
    if width_of(text) <= width:
        return text
    taken, used = [], 0
    for character in text:
        if used + _cells(character) > width - 1:
            break
        taken.append(character)
        used += _cells(character)
    return "".join(taken) + ("…" if width > 0 else "")


def pad(text: str, width: int) -> str:
    """Returns a text cut or filled with spaces to `width` cells."""
    text = cut(text, width)
    return text + " " * (width - width_of(text))


def bar(part: float, width: int) -> str:
    """Returns a bar of `width` cells, filled to `part` of it."""
    eighths = round(min(max(part, 0.0), 1.0) * width * 8)
    full, rest = divmod(eighths, 8)
    text = "█" * full + (_EIGHTHS[rest] if rest else "")
    return text + "░" * (width - len(text))


def spark(values: Sequence[float], width: int) -> str:
    """Returns a line of up to `width` blocks, each the mean of as many of the finite values."""
    finite = [value for value in values if math.isfinite(value)]
    if not finite or width < 1:
        return ""
    count = min(width, len(finite))
    edges = [len(finite) * i // count for i in range(count + 1)]
    means = [sum(finite[a:b]) / (b - a) for a, b in itertools.pairwise(edges)]
    low, high = min(means), max(means)
    scale = (len(_BARS) - 1) / (high - low) if high > low else 0.0
    return "".join(_BARS[round((value - low) * scale)] for value in means)


def plot(
    xs: Sequence[float], ys: Sequence[float], columns: int, rows: int
) -> tuple[list[str], float, float]:
    """Returns a curve in braille, `rows` lines of `columns` cells, and its lowest and highest y.

    A cell is two points wide and four high. Values of one point across are averaged, and points
    that follow each other are joined.
    """
    width, height = columns * 2, rows * 4
    pairs = [(x, y) for x, y in zip(xs, ys, strict=True) if math.isfinite(y)]
    if not pairs:
        return [" " * columns for _ in range(rows)], math.nan, math.nan
    first, last = pairs[0][0], pairs[-1][0]
    sums: dict[int, tuple[float, int]] = {}
    for x, y in pairs:
        at = 0 if last == first else round((x - first) / (last - first) * (width - 1))
        total, count = sums.get(at, (0.0, 0))
        sums[at] = total + y, count + 1
    means = {at: total / count for at, (total, count) in sums.items()}
    low, high = min(means.values()), max(means.values())
    cells = [[0] * columns for _ in range(rows)]

    def dot(across: int, up: int) -> None:
        down = height - 1 - up
        cells[down // 4][across // 2] |= _DOTS[down % 4][across % 2]

    before: tuple[int, int] | None = None
    for at, value in sorted(means.items()):
        level = round((value - low) / (high - low) * (height - 1)) if high > low else height // 2
        here = at, level
        for across, up in _line(before or here, here):
            dot(across, up)
        before = here
    return ["".join(chr(0x2800 + bits) for bits in row) for row in cells], low, high


def _line(start: tuple[int, int], end: tuple[int, int]) -> list[tuple[int, int]]:
    steps = max(abs(end[0] - start[0]), abs(end[1] - start[1]), 1)
    return [
        (
            round(start[0] + (end[0] - start[0]) * i / steps),
            round(start[1] + (end[1] - start[1]) * i / steps),
        )
        for i in range(steps + 1)
    ]
