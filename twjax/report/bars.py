"""Bars side by side, one group a line, as inline SVG in the style of the other charts."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

from twjax.report.frame import COLOURS, FONT, WIDTH, clean, fit_label

_NAME_ROOM, _VALUE_ROOM, _BAR, _GAP = 200, 56, 15, 11


def bar_chart(
    title: str,
    groups: Sequence[str],
    series: Mapping[str, Sequence[float | None]],
    form: Callable[[float], str],
    unit: str = "",
    note: str = "",
    least: float = 0.0,
) -> str:
    """Draws a bar for each group and name, from 0; None is left out.

    `series` has a value a group for each name; `form` writes a value behind its bar. The longest
    bar stands for `least` or more.
    """
    values = [v for row in series.values() for v in row if v is not None and math.isfinite(v)]
    if not values:
        return (
            f'<figure><figcaption>{clean(title)}</figcaption><p class="none">Nothing.</p></figure>'
        )
    most = max(*values, least) or 1.0
    room = WIDTH - _NAME_ROOM - _VALUE_ROOM
    parts, top = [], 4.0
    for place, group in enumerate(groups):
        middle = top + len(series) * _BAR / 2
        parts.append(
            f'<text class="end" x="{_NAME_ROOM - 8}" y="{middle + 4.5:.1f}">'
            f"{clean(fit_label(group, _NAME_ROOM - 12))}</text>"
        )
        for number, (name, row) in enumerate(series.items()):
            value, at = row[place], top + number * _BAR
            if value is None or not math.isfinite(value):
                continue
            width = max(1.0, value / most * room)
            parts.append(
                f'<rect class="area c{number % COLOURS}" x="{_NAME_ROOM}" y="{at:.1f}" '
                f'width="{width:.1f}" height="{_BAR - 1}"><title>{clean(group)}, {clean(name)}: '
                f"{clean(form(value))}</title></rect>"
                f'<text class="soft" x="{_NAME_ROOM + width + 5:.1f}" '
                f'y="{at + _BAR / 2 + FONT * 0.33:.1f}">{clean(form(value))}</text>'
            )
        top += len(series) * _BAR + _GAP
    parts.append(
        f'<line class="axis" x1="{_NAME_ROOM}" x2="{_NAME_ROOM}" y1="0" y2="{top - _GAP + 4:.1f}"/>'
    )
    items = "".join(
        f'<li><i style="background:var(--a)" class="c{number % COLOURS}"></i>{clean(name)}</li>'
        for number, name in enumerate(series)
    )
    legend = f'<ul class="legend">{items}</ul>' if len(series) > 1 else ""
    unit_html = f' <span class="soft">{clean(unit)}</span>' if unit else ""
    note_html = f'<p class="note">{clean(note)}</p>' if note else ""
    return (
        f"<figure><figcaption>{clean(title)}{unit_html}</figcaption>"
        f'<svg viewBox="0 0 {WIDTH} {top:.0f}" role="img" aria-label="{clean(title)}">'
        f"{''.join(parts)}</svg>{legend}{note_html}</figure>"
    )
