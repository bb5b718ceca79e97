"""Charts as inline SVG that can be read without a script; hovering adds the values.

Coordinates are of a 480-wide view, so that text stays legible when a phone shows it 350 wide.
Colours are the classes `c0`…`c7` of the page's style sheet, which has a light and a dark set.
"""

from __future__ import annotations

import dataclasses
import html
import itertools
import json
import math
import unicodedata
from collections.abc import Callable, Sequence

from twjax.report.scale import Curve, compact, tick_labels, ticks

COLOURS = 8
WIDTH = 480
HEIGHT = 260
LEFT, TOP, BOTTOM = 58, 12, 42
FONT = 13.5
LINE = 16

Format = Callable[[float], str]


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
class Line:
    """One named line. `colour` is an index; None takes the line's place in the chart."""

    name: str
    curve: Curve
    colour: int | None = None


@dataclasses.dataclass(frozen=True)
class Axis:
    """What an axis shows. `zero` includes 0; `top` cuts off what is above it."""

    label: str
    form: Format = compact
    tick_form: Callable[[Sequence[float]], list[str]] = tick_labels
    zero: bool = False
    top: float | None = None


@dataclasses.dataclass(frozen=True)
class _Frame:
    """The plotting area and its two linear scales."""

    x: tuple[float, float]
    y: tuple[float, float]
    right: float

    def at_x(self, value: float) -> float:
        low, high = self.x
        return LEFT + (value - low) / (high - low) * (self.right - LEFT)

    def at_y(self, value: float) -> float:
        low, high = self.y
        share = (min(value, high) - low) / (high - low)
        return HEIGHT - BOTTOM - share * (HEIGHT - BOTTOM - TOP)


def line_chart(title: str, lines: Sequence[Line], x: Axis, y: Axis, note: str = "") -> str:
    """Draws lines over a common x, labelled at their right ends; empty lines are left out.

    Where a line's points stand for groups, the range of each group is shaded.
    """
    lines = [
        dataclasses.replace(line, colour=i if line.colour is None else line.colour)
        for i, line in enumerate(lines)
        if line.curve.x
    ]
    if not lines:
        return _figure(title, [], '<p class="none">Nothing was logged.</p>', note)
    xs = [v for line in lines for v in line.curve.x]
    lows = [v for line in lines for v in line.curve.low or line.curve.y]
    highs = [v for line in lines for v in line.curve.high or line.curve.y]
    names = [line.name for line in lines] if len(lines) > 1 else []
    frame = _Frame(
        _span(min(xs), max(xs), pad=0),
        _span(min(lows), max(highs) if y.top is None else y.top, zero=y.zero),
        WIDTH - _label_room(names),
    )
    parts = _axes(frame, x, y)
    hover = []
    for line in lines:
        curve, colour = line.curve, _colour(line.colour)
        if curve.low and curve.high:
            there = [f"{frame.at_x(a):.1f},{frame.at_y(b):.1f}" for a, b in
                     zip(curve.x, curve.high, strict=True)]  # fmt: skip
            back = [f"{frame.at_x(a):.1f},{frame.at_y(b):.1f}" for a, b in
                    zip(reversed(curve.x), reversed(curve.low), strict=True)]  # fmt: skip
            parts.append(f'<polygon class="band {colour}" points="{" ".join(there + back)}"/>')
        px = [round(frame.at_x(v), 1) for v in curve.x]
        py = [round(frame.at_y(v), 1) for v in curve.y]
        points = " ".join(f"{a:g},{b:g}" for a, b in zip(px, py, strict=True))
        dash = " dashed" if (line.colour or 0) >= COLOURS else ""
        parts.append(f'<polyline class="line {colour}{dash}" points="{points}"/>')
        if len(px) <= 40:
            parts += [f'<circle class="dot {colour}" cx="{a:g}" cy="{b:g}" r="2.6"/>'
                      for a, b in zip(px, py, strict=True)]  # fmt: skip
        hover.append(_hover_series(line.name, colour, curve, px, py, x, y))
    if names:
        ends = [frame.at_y(line.curve.y[-1]) for line in lines]
        parts += _end_labels(frame, ends, names, [_colour(line.colour) for line in lines])
    legend = [(line.name, _colour(line.colour), y.form(line.curve.y[-1])) for line in lines]
    return _figure(title, legend if names else [], _svg(title, parts, hover, frame), note, y.label)


def area_chart(
    title: str,
    edges: Sequence[float],
    layers: dict[str, list[float]],
    totals: dict[str, float],
    x: Axis,
    note: str = "",
) -> str:
    """Stacks shares (0 to 1) of each bin between `edges`, from the bottom up; `totals` are of all.

    Within a bin the share is one number, so the outline has steps, not slopes.
    """
    layers = {name: values for name, values in layers.items() if any(values)}
    if len(edges) < 2 or not layers:
        return _figure(title, [], '<p class="none">Nothing was logged.</p>', note)
    names = list(layers)
    frame = _Frame((edges[0], edges[-1]), (0.0, 1.0), WIDTH - _label_room(names))
    y = Axis("share of rows", tick_form=lambda values: [f"{v:.0%}" for v in values])
    parts, hover, middles = [], [], []
    middle_x = [(a + b) / 2 for a, b in itertools.pairwise(edges)]
    px = [round(frame.at_x(v), 1) for v in middle_x]
    base = [0.0] * len(middle_x)
    for i, (name, values) in enumerate(layers.items()):
        top = [a + b for a, b in zip(base, values, strict=True)]
        outline = []
        for heights, order in ((top, 1), (base, -1)):
            spans = list(zip(itertools.pairwise(edges), heights, strict=True))[::order]
            for span, height in spans:
                outline += [f"{frame.at_x(v):.1f},{frame.at_y(height):.1f}" for v in span[::order]]
        parts.append(f'<polygon class="area {_colour(i)}" points="{" ".join(outline)}"/>')
        py = [round(frame.at_y((a + b) / 2), 1) for a, b in zip(base, top, strict=True)]
        curve = Curve(middle_x, values)
        percent = Axis("", form=lambda v: f"{v:.1%}")
        hover.append(_hover_series(name, _colour(i), curve, px, py, x, percent))
        middles.append(py[-1])
        base = top
    parts += _axes(frame, x, y)
    parts += _end_labels(frame, middles, names, [_colour(i) for i in range(len(names))])
    legend = [(name, _colour(i), f"{totals[name]:.1%}") for i, name in enumerate(names)]
    return _figure(title, legend[::-1], _svg(title, parts, hover, frame), note, y.label)


def path_chart(title: str, lines: Sequence[Line], x: Axis, y: Axis, note: str = "") -> str:
    """Draws each line as a path in a plane, its last point large and labelled."""
    lines = [line for line in lines if line.curve.x]
    if not lines:
        return _figure(title, [], '<p class="none">Nothing to compare.</p>', note)
    xs = [v for line in lines for v in line.curve.x]
    ys = [v for line in lines for v in line.curve.y]
    names = [line.name for line in lines]
    frame = _Frame(
        _span(min(0, *xs), max(0, *xs)), _span(min(0, *ys), max(0, *ys)), WIDTH - _label_room(names)
    )
    parts = _axes(frame, x, y)
    zero_x = frame.at_x(0)
    parts.append(f'<line class="zero" x1="{zero_x:.1f}" x2="{zero_x:.1f}" y1="{TOP}" '
                 f'y2="{HEIGHT - BOTTOM}"/>')  # fmt: skip
    hover, ends, legend = [], [], []
    for i, line in enumerate(lines):
        colour = _colour(i if line.colour is None else line.colour)
        px = [round(frame.at_x(v), 1) for v in line.curve.x]
        py = [round(frame.at_y(v), 1) for v in line.curve.y]
        points = " ".join(f"{a:g},{b:g}" for a, b in zip(px, py, strict=True))
        parts.append(f'<polyline class="line thin {colour}" points="{points}"/>')
        parts += [f'<circle class="dot {colour}" cx="{a:g}" cy="{b:g}" r="2"/>'
                  for a, b in zip(px[:-1], py[:-1], strict=True)]  # fmt: skip
        parts.append(f'<circle class="dot {colour}" cx="{px[-1]:g}" cy="{py[-1]:g}" r="6"/>')
        ends.append(py[-1])
        final = f"{x.form(line.curve.x[-1])}, {y.form(line.curve.y[-1])}"
        legend.append((line.name, colour, final))
        hover.append(_hover_series(line.name, colour, line.curve, px, py, x, y))
    parts += _end_labels(frame, ends, names, [colour for _, colour, _ in legend])
    return _figure(title, legend, _svg(title, parts, hover, frame), note, y.label)


def _span(low: float, high: float, zero: bool = False, pad: float = 0.06) -> tuple[float, float]:
    low, high = (min(low, 0.0), max(high, 0.0)) if zero else (low, high)
    size = high - low
    if size <= abs(high) * 1e-9:
        size = abs(high) or 1.0
        return (low - size * 0.1, high + size * 0.1) if pad else (low, high + size)
    bottom = low if zero and low == 0 else low - size * pad
    return bottom, high + size * pad


def _colour(index: int | None) -> str:
    return f"c{(index or 0) % COLOURS}"


def _width(text: str) -> float:
    wide = sum(unicodedata.east_asian_width(c) in "WF" for c in text)
    return (wide + (len(text) - wide) * 0.6) * FONT


def fit_label(name: str, room: float = 128) -> str:
    """Returns a name, cut with … where it is wider than `room` in a chart's units."""
    if _width(name) <= room:
        return name
    while name and _width(name + "…") > room:
        name = name[:-1]
    return name + "…"


def _label_room(names: Sequence[str]) -> float:
    return max((_width(fit_label(name)) for name in names), default=6) + 12


def _axes(frame: _Frame, x: Axis, y: Axis) -> list[str]:
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
    for value, label in zip(values, x.tick_form(values), strict=True):
        at = frame.at_x(value)
        parts.append(f'<line class="tick" x1="{at:.1f}" x2="{at:.1f}" y1="{bottom}" '
                     f'y2="{bottom + 4}"/>')  # fmt: skip
        parts.append(f'<text class="mid" x="{at:.1f}" y="{bottom + 19}">{clean(label)}</text>')
    parts.append(f'<line class="axis" x1="{LEFT}" x2="{frame.right:.1f}" y1="{bottom}" '
                 f'y2="{bottom}"/>')  # fmt: skip
    middle = (LEFT + frame.right) / 2
    parts.append(
        f'<text class="mid soft" x="{middle:.1f}" y="{HEIGHT - 5}">{clean(x.label)}</text>'
    )
    return parts


def _end_labels(
    frame: _Frame, heights: Sequence[float], names: Sequence[str], colours: Sequence[str]
) -> list[str]:
    """Names at the right edge, pushed apart where lines end together."""
    order = sorted(range(len(names)), key=lambda i: heights[i])
    gap = min(LINE, (HEIGHT - BOTTOM - TOP) / max(1, len(names)))
    at = [0.0] * len(names)
    floor = TOP - gap
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


def _hover_series(
    name: str, colour: str, curve: Curve, px: list[float], py: list[float], x: Axis, y: Axis
) -> dict[str, object]:
    values = [y.form(v) for v in curve.y]
    if curve.low and curve.high:
        values = [
            f"{v} ({y.form(a)} – {y.form(b)})"
            for v, a, b in zip(values, curve.low, curve.high, strict=True)
        ]
    return {"n": name, "c": colour, "x": px, "y": py, "t": [x.form(v) for v in curve.x],
            "v": values}  # fmt: skip


def _svg(title: str, parts: list[str], hover: list[dict[str, object]], frame: _Frame) -> str:
    data = json.dumps(hover, ensure_ascii=False, separators=(",", ":"))
    return (
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{clean(title)}" '
        f'data-top="{TOP}" data-bottom="{HEIGHT - BOTTOM}" data-right="{math.ceil(frame.right)}" '
        f'data-hover="{clean(data)}">{"".join(parts)}</svg>'
    )


def _figure(
    title: str, legend: Sequence[tuple[str, str, str]], body: str, note: str, unit: str = ""
) -> str:
    items = "".join(
        f'<li><i class="{colour}"></i>{clean(name)} <b>{clean(value)}</b></li>'
        for name, colour, value in legend
    )
    legend_html = f'<ul class="legend">{items}</ul>' if items else ""
    note_html = f'<p class="note">{clean(note)}</p>' if note else ""
    unit_html = f' <span class="soft">{clean(unit)}</span>' if unit else ""
    caption = f"<figcaption>{clean(title)}{unit_html}</figcaption>"
    return f"<figure>{caption}{body}{legend_html}{note_html}</figure>"
