"""What all charts share: the plotting area and its scales, axes, marks, labels, hover, the figure.

Coordinates are of a view `WIDTH` wide, so that text stays legible when a phone shows it 350 wide.
Colours are the classes `c0`…`c7` of the page's style sheet, which has a light and a dark set.
"""

from __future__ import annotations

import dataclasses
import html
import json
import math
import unicodedata
from collections.abc import Callable, Sequence
from typing import Literal

from twjax.report.scale import Curve, compact, tick_labels, ticks

COLOURS = 8
WIDTH = 440
HEIGHT = 260
LEFT, TOP, BOTTOM = 58, 12, 42
# Signs of marks stand above the plotting area.
MARKED_TOP = 38
FONT = 13.5
LINE = 16
# More names than these at the right edge would lie on each other; the legend has them all.
MOST_LABELS = 14

Format = Callable[[float], str]
Sign = Literal["stage", "shape", "more", "less", "shift", "rate", "beyond", "back", "resume"]
# What a mark shows above its line, and the words of the legend.
SIGNS: dict[Sign, tuple[str, str]] = {
    "stage": ("■", "stage begins"),
    "shape": ("◆", "batch or row length changes"),
    "back": ("◀", "rolled back to here"),
    "rate": ("✕", "learning rate lowered"),
    "beyond": ("!", "beyond the budget"),
    "resume": ("○", "stopped and resumed"),
    "more": ("▲", "more replay"),
    "less": ("▽", "less replay"),
    "shift": ("↔", "replay moves between domains"),
}


def clean(text: object) -> str:
    """Escapes any text for HTML; what HTML can't hold (controls, surrogates) becomes U+FFFD."""
    shown = "".join(
        "\N{REPLACEMENT CHARACTER}"
        if (ord(c) < 32 and c not in "\n\t") or 0x7F <= ord(c) < 0xA0 or 0xD800 <= ord(c) < 0xE000
        else c
        for c in str(text)
    )
    return html.escape(shown)


@dataclasses.dataclass(frozen=True)
class Axis:
    """What an axis shows. `zero` includes 0; `top` cuts off what is above it."""

    label: str
    form: Format = compact
    tick_form: Callable[[Sequence[float]], list[str]] = tick_labels
    zero: bool = False
    top: float | None = None


@dataclasses.dataclass(frozen=True)
class Mark:
    """Something that happened at `x`: a line through the chart with a sign above it."""

    x: float
    sign: Sign
    text: str


@dataclasses.dataclass(frozen=True)
class Frame:
    """The plotting area and its two linear scales."""

    x: tuple[float, float]
    y: tuple[float, float]
    right: float
    top: float = TOP

    def at_x(self, value: float) -> float:
        low, high = self.x
        return LEFT + (value - low) / (high - low) * (self.right - LEFT)

    def at_y(self, value: float) -> float:
        low, high = self.y
        share = (min(value, high) - low) / (high - low)
        return HEIGHT - BOTTOM - share * (HEIGHT - BOTTOM - self.top)

    def points(self, xs: Sequence[float], ys: Sequence[float]) -> str:
        """Returns the `points` of a line or an outline."""
        return " ".join(
            f"{self.at_x(a):.1f},{self.at_y(b):.1f}" for a, b in zip(xs, ys, strict=True)
        )


def span(low: float, high: float, zero: bool = False, pad: float = 0.06) -> tuple[float, float]:
    """Returns the ends of an axis for values from `low` to `high`, with some room."""
    low, high = (min(low, 0.0), max(high, 0.0)) if zero else (low, high)
    size = high - low
    if size <= abs(high) * 1e-9:
        size = abs(high) or 1.0
        return (low - size * 0.1, high + size * 0.1) if pad else (low, high + size)
    bottom = low if zero and low == 0 else low - size * pad
    return bottom, high + size * pad


def colour_class(index: int | None) -> str:
    """Returns the style of the `index`-th colour."""
    return f"c{(index or 0) % COLOURS}"


def text_width(text: str) -> float:
    """Returns about how wide a text is in a chart's units, in a wide font."""
    wide = sum(unicodedata.east_asian_width(c) in "WF" for c in text)
    return (wide + (len(text) - wide) * 0.64) * FONT


def fit_label(name: str, room: float = 136) -> str:
    """Returns a name, cut with … where it is wider than `room` in a chart's units."""
    if text_width(name) <= room:
        return name
    while name and text_width(name + "…") > room:
        name = name[:-1]
    return name + "…"


def label_room(names: Sequence[str]) -> float:
    """Returns the room that names at the right edge need; they are bold."""
    names = names if len(names) <= MOST_LABELS else []
    return max((text_width(fit_label(name)) * 1.09 for name in names), default=6) + 10


def axes(frame: Frame, x: Axis, y: Axis) -> list[str]:
    """Returns the grid, the ticks and their labels."""
    parts = []
    bottom = HEIGHT - BOTTOM
    values = ticks(*frame.y, count=7)
    for value, label in zip(values, y.tick_form(values), strict=True):
        at = frame.at_y(value)
        kind = "zero" if value == 0 and frame.y[0] < 0 else "grid"
        parts.append(f'<line class="{kind}" x1="{LEFT}" x2="{frame.right:.1f}" y1="{at:.1f}" '
                     f'y2="{at:.1f}"/>')  # fmt: skip
        parts.append(f'<text class="end" x="{LEFT - 6}" y="{at + 4:.1f}">{clean(label)}</text>')
    values = ticks(*frame.x, count=5)
    labels = x.tick_form(values)
    # Wide labels of neighbours would touch: every second one stays.
    room = (frame.right - LEFT) / max(1, len(values))
    every = 2 if max(map(text_width, labels), default=0) + 8 > room else 1
    for place, (value, label) in enumerate(zip(values, labels, strict=True)):
        at = frame.at_x(value)
        parts.append(f'<line class="tick" x1="{at:.1f}" x2="{at:.1f}" y1="{bottom}" '
                     f'y2="{bottom + 4}"/>')  # fmt: skip
        if place % every == 0:
            parts.append(f'<text class="mid" x="{at:.1f}" y="{bottom + 19}">{clean(label)}</text>')
    parts.append(f'<line class="axis" x1="{LEFT}" x2="{frame.right:.1f}" y1="{bottom}" '
                 f'y2="{bottom}"/>')  # fmt: skip
    middle = (LEFT + frame.right) / 2
    parts.append(
        f'<text class="mid soft" x="{middle:.1f}" y="{HEIGHT - 5}">{clean(x.label)}</text>'
    )
    return parts


def level(frame: Frame, value: float, text: str, right: bool) -> list[str]:
    """Returns a dashed line at a value of y, named at its left or right end."""
    at = frame.at_y(value)
    # Above the line, but not in the signs' room.
    base = at - 4 if at - 4 - FONT > frame.top else at + FONT
    place = f'class="soft halo end" x="{frame.right - 5:.1f}"'
    if not right:
        place = f'class="soft halo" x="{LEFT + 5}"'
    return [
        f'<line class="level" x1="{LEFT}" x2="{frame.right:.1f}" y1="{at:.1f}" y2="{at:.1f}"/>',
        f'<text {place} y="{base:.1f}">{clean(text)}</text>',
    ]


def mark_lines(frame: Frame, marks: Sequence[Mark]) -> list[str]:
    """Returns the lines of what happened, signs above them in two rows.

    Where a sign finds no room, there is its line alone; the rarer kinds come first.
    """
    parts = []
    rows: tuple[list[float], ...] = ([], [])
    for mark in sorted(marks, key=lambda mark: list(SIGNS).index(mark.sign)):
        at = frame.at_x(mark.x)
        parts.append(
            f'<line class="mark {mark.sign}" x1="{at:.1f}" x2="{at:.1f}" y1="{frame.top}" '
            f'y2="{HEIGHT - BOTTOM}"/>'
        )
        for number, row in enumerate(rows):
            if all(abs(at - other) >= 12 for other in row):
                row.append(at)
                parts.append(
                    f'<text class="mid sign {mark.sign}" x="{at:.1f}" '
                    f'y="{frame.top - 6 - 14 * number}">{SIGNS[mark.sign][0]}</text>'
                )
                break
    return parts


def marks_legend(marks: Sequence[Mark]) -> str:
    """Returns the signs that a chart shows, in words, as HTML."""
    items = []
    for sign, (glyph, words) in SIGNS.items():
        number = sum(mark.sign == sign for mark in marks)
        if number:
            count = f" <b>{number}</b>" if number > 1 else ""
            items.append(f'<li><span class="sign {sign}">{glyph}</span> {words}{count}</li>')
    return f'<ul class="legend">{"".join(items)}</ul>' if items else ""


def end_labels(
    frame: Frame, heights: Sequence[float], names: Sequence[str], colours: Sequence[str]
) -> list[str]:
    """Returns names at the right edge, pushed apart where lines end together, unless too many."""
    if len(names) > MOST_LABELS:
        return []
    order = sorted(range(len(names)), key=lambda i: heights[i])
    gap = min(LINE, (HEIGHT - BOTTOM - frame.top) / max(1, len(names)))
    at = [0.0] * len(names)
    floor = frame.top - gap
    for i in order:
        at[i] = floor = max(heights[i], floor + gap)
    ceiling = HEIGHT - BOTTOM + gap
    for i in reversed(order):
        at[i] = ceiling = min(at[i], ceiling - gap)
    return [
        f'<text class="name {colours[i]}" x="{frame.right + 7:.1f}" y="{at[i] + 4:.1f}">'
        f"{clean(fit_label(names[i]))}</text>"
        for i in range(len(names))
    ]


def hover_series(
    name: str,
    colour: str,
    curve: Curve,
    px: list[float],
    x: Axis,
    y: Axis,
    told: Sequence[str] | None = None,
) -> dict[str, object]:
    """Returns what the pointer shows of a line; `told` stands for its x in words."""
    values = [y.form(v) for v in curve.y]
    if curve.low and curve.high:
        values = [
            f"{v} ({y.form(a)} – {y.form(b)})"
            for v, a, b in zip(values, curve.low, curve.high, strict=True)
        ]
    return {
        "n": name,
        "c": colour,
        "x": px,
        "t": list(told or map(x.form, curve.x)),
        "v": values,
    }


def svg(
    title: str,
    parts: list[str],
    hover: list[dict[str, object]],
    frame: Frame,
    marks: Sequence[Mark] = (),
) -> str:
    """Returns the drawing with what the pointer shows of its lines and of its marks."""
    data = json.dumps(hover, ensure_ascii=False, separators=(",", ":"))
    told = json.dumps([[round(frame.at_x(m.x), 1), m.text] for m in marks], ensure_ascii=False)
    signs = f' data-marks="{clean(told)}"' if marks else ""
    return (
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{clean(title)}" '
        f'data-top="{frame.top}" data-bottom="{HEIGHT - BOTTOM}" '
        f'data-right="{math.ceil(frame.right)}" data-wide="{WIDTH}"{signs} '
        f'data-hover="{clean(data)}">{"".join(parts)}</svg>'
    )


def figure(
    title: str, legend: Sequence[tuple[str, str, str]], body: str, note: str, unit: str = ""
) -> str:
    """Returns a chart with its title, its (name, colour, value) legend and a note."""
    items = "".join(
        f'<li><i class="{colour}"></i>{clean(name)} <b>{clean(value)}</b></li>'
        for name, colour, value in legend
    )
    legend_html = f'<ul class="legend">{items}</ul>' if items else ""
    note_html = f'<p class="note">{clean(note)}</p>' if note else ""
    unit_html = f' <span class="soft">{clean(unit)}</span>' if unit else ""
    caption = f"<figcaption>{clean(title)}{unit_html}</figcaption>"
    return f"<figure>{caption}{body}{legend_html}{note_html}</figure>"
