"""Shares stacked over an axis, and runs as paths in a plane."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence

from twjax.report.chart import Line
from twjax.report.frame import (
    BOTTOM,
    HEIGHT,
    LEFT,
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
    mark_lines,
    marks_legend,
    span,
    svg,
)
from twjax.report.scale import Curve


def area_chart(
    title: str,
    edges: Sequence[float],
    layers: dict[str, list[float]],
    totals: dict[str, float],
    x: Axis,
    note: str = "",
    *,
    plan: Sequence[tuple[float, Mapping[str, float]]] = (),
    marks: Sequence[Mark] = (),
) -> str:
    """Stacks shares (0 to 1) of each bin between `edges`, from the bottom up; `totals` are of all.

    Within a bin the share is one number, so the outline has steps, not slopes. `plan` is what the
    shares were to be from each x on, drawn as dashed borders.
    """
    layers = {name: values for name, values in layers.items() if any(values)}
    if len(edges) < 2 or not layers:
        return figure(title, [], '<p class="none">Nothing was logged.</p>', note)
    names = list(layers)
    marks = [mark for mark in marks if edges[0] <= mark.x <= edges[-1]]
    frame = Frame(
        (edges[0], edges[-1]), (0.0, 1.0), WIDTH - label_room(names), MARKED_TOP if marks else TOP
    )
    y = Axis("share of rows", tick_form=lambda values: [f"{v:.0%}" for v in values])
    percent = Axis("", form=lambda v: f"{v:.1%}")
    parts, hover, middles = [], [], []
    middle_x = [(a + b) / 2 for a, b in itertools.pairwise(edges)]
    px = [round(frame.at_x(v), 1) for v in middle_x]
    corners = [v for pair in itertools.pairwise(edges) for v in pair]
    base = [0.0] * len(middle_x)
    for i, (name, values) in enumerate(layers.items()):
        top = [a + b for a, b in zip(base, values, strict=True)]
        there = frame.points(corners, [v for v in top for _ in range(2)])
        back = frame.points(corners, [v for v in base for _ in range(2)])
        outline = " ".join([there, *reversed(back.split())])
        parts.append(f'<polygon class="area {colour_class(i)}" points="{outline}"/>')
        hover.append(hover_series(name, colour_class(i), Curve(middle_x, values), px, x, percent))
        middles.append(frame.at_y((base[-1] + top[-1]) / 2))
        base = top
    parts += axes(frame, x, y) + _borders(frame, plan, names) + mark_lines(frame, marks)
    parts += end_labels(frame, middles, names, [colour_class(i) for i in range(len(names))])
    legend = [(name, colour_class(i), f"{totals[name]:.1%}") for i, name in enumerate(names)]
    body = svg(title, parts, hover, frame, marks) + marks_legend(marks)
    return figure(title, legend[::-1], body, note, y.label)


def _borders(
    frame: Frame, plan: Sequence[tuple[float, Mapping[str, float]]], names: Sequence[str]
) -> list[str]:
    """Returns the borders between the planned shares; parts of no task that was read are open."""
    low, high = frame.x
    steps = [(max(at, low), weights) for at, weights in plan if at < high]
    if not steps:
        return []
    corners = [v for a, b in itertools.pairwise([*(at for at, _ in steps), high]) for v in (a, b)]
    lines = []
    for number in range(1, len(names)):
        heights = [sum(w.get(name, 0.0) for name in names[:number]) for _, w in steps]
        points = frame.points(corners, [v for v in heights for _ in range(2)])
        lines.append(f'<polyline class="plan" points="{points}"/>')
    return lines


def path_chart(title: str, lines: Sequence[Line], x: Axis, y: Axis, note: str = "") -> str:
    """Draws each line as a path in a plane, its last point large and labelled.

    To the right and down is better: that quarter is tinted, and so is what lies above 0.
    """
    lines = [line for line in lines if line.curve.x]
    if not lines:
        return figure(title, [], '<p class="none">Nothing to compare.</p>', note)
    xs = [v for line in lines for v in line.curve.x]
    ys = [v for line in lines for v in line.curve.y]
    names = [line.name for line in lines]
    frame = Frame(
        span(min(0, *xs), max(0, *xs)), span(min(0, *ys), max(0, *ys)), WIDTH - label_room(names)
    )
    zero_x, zero_y, bottom = frame.at_x(0), frame.at_y(0), HEIGHT - BOTTOM
    parts = [
        f'<rect class="worse" x="{LEFT}" y="{TOP}" width="{frame.right - LEFT:.1f}" '
        f'height="{max(0.0, zero_y - TOP):.1f}"/>',
        f'<rect class="better" x="{zero_x:.1f}" y="{zero_y:.1f}" '
        f'width="{max(0.0, frame.right - zero_x):.1f}" height="{max(0.0, bottom - zero_y):.1f}"/>',
        *axes(frame, x, y),
        f'<line class="zero" x1="{zero_x:.1f}" x2="{zero_x:.1f}" y1="{TOP}" y2="{bottom}"/>',
    ]
    if zero_y - TOP > 40:
        parts.append(f'<text class="bad halo" x="{LEFT + 6}" y="{TOP + 15}">forgets ↑</text>')
    hover, ends, legend = [], [], []
    for i, line in enumerate(lines):
        colour = colour_class(i if line.colour is None else line.colour)
        px = [round(frame.at_x(v), 1) for v in line.curve.x]
        py = [round(frame.at_y(v), 1) for v in line.curve.y]
        points = frame.points(line.curve.x, line.curve.y)
        parts.append(f'<polyline class="line thin {colour}" points="{points}"/>')
        parts += [f'<circle class="dot {colour}" cx="{a:g}" cy="{b:g}" r="2"/>'
                  for a, b in zip(px[:-1], py[:-1], strict=True)]  # fmt: skip
        parts.append(f'<circle class="dot {colour}" cx="{px[-1]:g}" cy="{py[-1]:g}" r="6"/>')
        ends.append(py[-1])
        final = f"{x.form(line.curve.x[-1])}, {y.form(line.curve.y[-1])}"
        legend.append((line.name, colour, final))
        hover.append(hover_series(line.name, colour, line.curve, px, x, y))
    parts += end_labels(frame, ends, names, [colour for _, colour, _ in legend])
    return figure(title, legend, svg(title, parts, hover, frame), note, y.label)
