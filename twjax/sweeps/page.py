"""A sweep as one page: the table with the best of each column, outcomes over what was swept."""

from __future__ import annotations

import collections
import math
import pathlib
import statistics
from collections.abc import Sequence

from twjax.report import shell
from twjax.report.chart import Axis, Line, clean, line_chart
from twjax.report.scale import Curve, fixed
from twjax.storage import atomic_writer
from twjax.sweeps.results import Result, Results

PAGE = "sweep.html"
UNITS = {
    "bits_per_byte": "bits per byte",
    "accuracy": "accuracy",
    "preferred": "share preferred",
    "right": "share right",
}


def write_page(results: Results, folder: pathlib.Path) -> pathlib.Path:
    """Writes sweep.html; it is whole or absent, and asks no network."""
    done, all_of = len(results.finished), len(results.points)
    settings = ", ".join(results.settings)
    body = [
        f'<p class="lead">{done} of {all_of} points are finished. Swept: {clean(settings)}.</p>'
    ]
    if done < all_of:
        states = collections.Counter(p.state for p in results.points if p.state != "finished")
        shown = ", ".join(f"{count} {state}" for state, count in states.items())
        body.append(f'<p class="warn">Not finished: {clean(shown)}.</p>')
    units = list(dict.fromkeys(map(results.unit, results.outcomes)))
    if units:
        shown = f", {UNITS[units[0]]}" if len(units) == 1 else ""
        body.append(f"<h2>At the end of each point{shown}</h2>{_table(results)}")
    charts = [chart for label in results.settings for chart in _over_setting(results, label)]
    charts += [_courses(results, name) for name in results.outcomes]
    if charts:
        body.append(
            "<h2>Over what was swept, and while training</h2>"
            f'<div class="charts">{"".join(charts)}</div>'
        )
    note = "The best finished point of each column is marked. Values are of the last evaluation."
    path = folder / PAGE
    with atomic_writer(path) as file:
        file.write(shell.document(f"Sweep {results.name}", "\n".join(body), note))
    return path


def _table(results: Results) -> str:
    names = results.outcomes
    best = {name: point.name for name in names if (point := results.best(name))}
    several = len(set(map(results.unit, names))) > 1
    units = [f' <span class="soft">{UNITS[results.unit(n)]}</span>' * several for n in names]
    heads = "".join(
        f'<th class="n">{clean(name)}{unit}</th>' for name, unit in zip(names, units, strict=True)
    )
    rows = []
    for point in results.points:
        cells = "".join(_cell(point, name, best.get(name) == point.name) for name in names)
        state = "" if point.state == "finished" else f' <span class="soft">{point.state}</span>'
        rows.append(f'<tr><th scope="row">{clean(point.name)}{state}</th>{cells}</tr>')
    return (
        f'<div class="card"><table><thead><tr><th>point</th>{heads}</tr></thead>'
        f"<tbody>{''.join(rows)}</tbody></table></div>"
    )


def _cell(point: Result, name: str, best: bool) -> str:
    value = point.last(name)
    shown = "–" if math.isnan(value) else fixed(value, 4)
    return f'<td class="n"><b class="good">{shown} best</b></td>' if best else (
        f'<td class="n">{shown}</td>'
    )  # fmt: skip


def _over_setting(results: Results, label: str) -> list[str]:
    """Returns a chart a unit: the last value of each outcome over one setting.

    Where points differ in other settings too, the mean of them, their range shaded.
    """
    charts = []
    for unit in dict.fromkeys(map(results.unit, results.outcomes)):
        lines = []
        for name in (n for n in results.outcomes if results.unit(n) == unit):
            at: dict[float, list[float]] = {}
            for point in results.finished:
                place, value = point.settings.get(label), point.last(name)
                if _is_number(place) and math.isfinite(value):
                    at.setdefault(float(place), []).append(value)  # type: ignore[arg-type]
            if len(at) > 1:
                lines.append(Line(name, _ranges(at)))
        if lines:
            title = f"{UNITS[unit].capitalize()} over {label}"
            charts.append(line_chart(title, lines, Axis(label), Axis(UNITS[unit])))
    return charts


def _ranges(at: dict[float, list[float]]) -> Curve:
    places = sorted(at)
    means = [statistics.mean(at[place]) for place in places]
    if all(len(values) == 1 for values in at.values()):
        return Curve(places, means)
    return Curve(places, means, [min(at[p]) for p in places], [max(at[p]) for p in places])


def _courses(results: Results, name: str) -> str:
    """Returns a chart of one outcome of all points over tokens, or over steps if need be."""
    measured = [point for point in results.points if name in point.outcomes]
    tokens = all(point.outcomes[name].tokens for point in measured)
    lines = []
    for point in measured:
        outcome = point.outcomes[name]
        x = outcome.tokens if tokens else [float(step) for step in outcome.steps]
        lines.append(Line(_short(point, measured), Curve(x, outcome.values)))
    unit = UNITS[results.unit(name)]
    return line_chart(name, lines, Axis("tokens" if tokens else "step"), Axis(unit))


def _short(point: Result, points: Sequence[Result]) -> str:
    """Returns the values of a point that has no other setting than the rest have, else its name."""
    if len(point.settings) == 1 and all(p.settings.keys() == point.settings.keys() for p in points):
        [value] = point.settings.values()
        return f"{value:g}" if _is_number(value) else str(value)
    return point.name


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)
