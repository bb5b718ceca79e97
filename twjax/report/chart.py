"""Lines over a common axis as inline SVG that can be read without a script."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from twjax.report.frame import (
    COLOURS,
    MARKED_TOP,
    TOP,
    WIDTH,
    Axis,
    Frame,
    Mark,
    axes,
    colour_class,
    end_labels,
    figure,
    hover_series,
    label_room,
    level,
    mark_lines,
    marks_legend,
    span,
    svg,
)
from twjax.report.scale import Curve


@dataclasses.dataclass(frozen=True)
class Line:
    """One named line. `colour` is an index; None takes the line's place in the chart.

    `told` says each point's x in other words than the axis would. Points that aren't `joined` are
    dots alone.
    """

    name: str
    curve: Curve
    colour: int | None = None
    told: Sequence[str] | None = None
    joined: bool = True


def line_chart(
    title: str,
    lines: Sequence[Line],
    x: Axis,
    y: Axis,
    note: str = "",
    *,
    levels: Sequence[tuple[float, str]] = (),
    marks: Sequence[Mark] = (),
) -> str:
    """Draws lines over a common x, labelled at their right ends; empty lines are left out.

    Where a line's points stand for groups, the range of each group is shaded. `levels` are values
    of y to be seen beside the lines, each with its name.
    """
    lines = [
        dataclasses.replace(line, colour=i if line.colour is None else line.colour)
        for i, line in enumerate(lines)
        if line.curve.x
    ]
    if not lines:
        return figure(title, [], '<p class="none">Nothing was logged.</p>', note)
    xs = [v for line in lines for v in line.curve.x]
    at_levels = [value for value, _ in levels]
    lows = [v for line in lines for v in line.curve.low or line.curve.y] + at_levels
    highs = [v for line in lines for v in line.curve.high or line.curve.y] + at_levels
    names = [line.name for line in lines] if len(lines) > 1 else []
    marks = [mark for mark in marks if min(xs) <= mark.x <= max(xs)]
    frame = Frame(
        span(min(xs), max(xs), pad=0),
        span(min(lows), max(highs) if y.top is None else y.top, zero=y.zero),
        WIDTH - label_room(names),
        MARKED_TOP if marks else TOP,
    )
    parts = axes(frame, x, y) + mark_lines(frame, marks)
    for value, text in levels:
        # Named at the end from which the lines are further.
        left, right = (min(abs(line.curve.y[end] - value) for line in lines) for end in (0, -1))
        parts += level(frame, value, text, right > left)
    hover = []
    for line in lines:
        curve, colour = line.curve, colour_class(line.colour)
        if curve.low and curve.high:
            there, back = frame.points(curve.x, curve.high), frame.points(curve.x, curve.low)
            outline = " ".join([there, *reversed(back.split())])
            parts.append(f'<polygon class="band {colour}" points="{outline}"/>')
        dash = " dashed" if (line.colour or 0) >= COLOURS else ""
        points = frame.points(curve.x, curve.y)
        if line.joined:
            parts.append(f'<polyline class="line {colour}{dash}" points="{points}"/>')
        if len(curve.x) <= 40 or not line.joined:
            for point in points.split():
                a, b = point.split(",")
                parts.append(f'<circle class="dot {colour}" cx="{a}" cy="{b}" r="2.6"/>')
        px = [round(frame.at_x(v), 1) for v in curve.x]
        hover.append(hover_series(line.name, colour, curve, px, x, y, line.told))
    if names:
        ends = [frame.at_y(line.curve.y[-1]) for line in lines]
        parts += end_labels(frame, ends, names, [colour_class(line.colour) for line in lines])
    legend = [(line.name, colour_class(line.colour), y.form(line.curve.y[-1])) for line in lines]
    body = svg(title, parts, hover, frame, marks) + marks_legend(marks)
    return figure(title, legend if names else [], body, note, y.label)
