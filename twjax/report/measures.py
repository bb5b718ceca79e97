"""What evaluations beside bits-per-byte say: accuracy, preference, probes, wording, generation."""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from twjax.report.chart import Line, line_chart
from twjax.report.frame import Axis, clean
from twjax.report.read import RunLog, number
from twjax.report.scale import Curve, compact, fixed, thin

# A band and dots are drawn for so many evaluations; more are thinned.
_MOST = 240


def _share(value: float) -> str:
    return f"{value:.1%}" if math.isfinite(value) else "–"


def _shares(values: Sequence[float]) -> list[str]:
    step = min((b - a for a, b in itertools.pairwise(values)), default=1.0)
    return [f"{v:.0%}" if step > 0.0099 else f"{v:.1%}" for v in values]


@dataclasses.dataclass(frozen=True)
class Measure:
    """One number that evaluations of a kind give.

    `of` takes it from a record, and `error` its standard error. `better` says which way is good:
    1 up, -1 down, 0 that depends. `chance` is what guessing gives, where records don't say it.
    """

    kind: str
    title: str
    of: Callable[[Mapping[str, Any]], float]
    axis: Axis
    better: int = 1
    error: Callable[[Mapping[str, Any]], float] | None = None
    chance: float | None = None
    note: str = ""


def _field(name: str) -> Callable[[Mapping[str, Any]], float]:
    return lambda record: number(record.get(name))


def _per_1000(name: str) -> Callable[[Mapping[str, Any]], float]:
    rate = _field(f"{name}_per_1000")
    # Of texts without a Han character there is no rate.
    return lambda record: math.nan if record.get("han") == 0 else rate(record)


_SHARE = Axis("share", form=_share, tick_form=_shares)
_RATE = Axis("per 1,000 Han characters", form=lambda v: fixed(v, 2), zero=True)

MEASURES = (
    Measure(
        "choice", "Multiple choice: right answers", _field("accuracy"), _SHARE,
        error=_field("stderr"), note="The shade is one standard error to either side.",
    ),
    Measure(
        "pairs", "Taiwan's wording preferred", _field("preferred"), _SHARE, chance=0.5,
        note="The share of pairs whose Taiwan side the model finds likelier.",
    ),
    Measure("probes", "Questions about Taiwan: right answers", _field("right"), _SHARE),
    Measure(
        "writing", "Simplified characters written", _per_1000("simplified"), _RATE, -1,
        note="Characters that are Simplified only, of what the model wrote; less is better.",
    ),
    Measure(
        "writing", "Mainland terms written", _per_1000("mainland"), _RATE, -1,
        note="Terms that Taiwan has another word for, of what the model wrote; less is better.",
    ),
)  # fmt: skip


def measures_of(runs: Iterable[RunLog]) -> list[Measure]:
    """Returns the measures that these runs have, the generation tasks' own metrics last."""
    runs = list(runs)
    found = [m for m in MEASURES if any(run.results.get(m.kind) for run in runs)]
    names = {
        metric: None
        for run in runs
        for points in run.results.get("generation", {}).values()
        for record in points.values()
        if isinstance(record.get("metrics"), dict)
        for metric in record["metrics"]
    }
    return found + [_generation(name) for name in names]


def _generation(name: str) -> Measure:
    def value(record: Mapping[str, Any]) -> float:
        metrics = record.get("metrics")
        return number(metrics.get(name)) if isinstance(metrics, dict) else math.nan

    return Measure("generation", f"Generation: {name}", value, Axis(name), 0)


def points(run: RunLog, measure: Measure, task: str) -> dict[int, float]:
    """Returns {step: value} of a measure, only what is a number."""
    records = run.results.get(measure.kind, {}).get(task, {})
    values = {step: measure.of(record) for step, record in records.items()}
    return {step: value for step, value in values.items() if math.isfinite(value)}


def tasks(runs: Iterable[RunLog], measure: Measure) -> list[str]:
    """Returns the names under which these runs have a measure."""
    return list(
        dict.fromkeys(
            task
            for run in runs
            for task in run.results.get(measure.kind, {})
            if points(run, measure, task)
        )
    )


def curve(run: RunLog, measure: Measure, task: str, place: Callable[[int], float]) -> Curve:
    """Returns a measure's line, with its standard error as the range; `place` gives a step's x."""
    values = points(run, measure, task)
    x = [place(step) for step in values]
    if measure.error is None or not values or len(values) > _MOST:
        return thin(x, list(values.values()), _MOST)
    records = run.results[measure.kind][task]
    errors = [measure.error(records[step]) for step in values]
    if not all(map(math.isfinite, errors)):
        return thin(x, list(values.values()), _MOST)
    y = list(values.values())
    low = [max(0.0, v - e) for v, e in zip(y, errors, strict=True)]
    return Curve(x, y, low, [min(1.0, v + e) for v, e in zip(y, errors, strict=True)])


def chart(
    title: str,
    measure: Measure,
    names: Sequence[str],
    runs: Sequence[RunLog],
    lines: Sequence[Line],
    axis: Axis,
) -> str:
    """Draws a measure's lines, with what guessing gives in these tasks where that is known."""
    note = " ".join(filter(None, (measure.note, shots_note(runs, measure))))
    levels = guessing(runs, measure, names)
    return line_chart(title, lines, axis, measure.axis, note, levels=levels)


def guessing(
    runs: Sequence[RunLog], measure: Measure, names: Sequence[str]
) -> list[tuple[float, str]]:
    """Returns what guessing gives in these tasks, each value once with its name."""
    if measure.chance is not None:
        return [(measure.chance, "guessing")]
    found: dict[float, list[str]] = {}
    for name in names:
        records = [
            r for run in runs for r in run.results.get(measure.kind, {}).get(name, {}).values()
        ]
        chances = [number(record.get("chance")) for record in records]
        for chance in [chance for chance in chances if math.isfinite(chance)][-1:]:
            found.setdefault(round(chance, 3), []).append(name)
    if len(found) == 1:
        return [(value, "guessing") for value in found]
    return [(value, f"guessing: {', '.join(of)}") for value, of in found.items()]


def shots_note(runs: Iterable[RunLog], measure: Measure) -> str:
    """Returns with how many examples questions were asked, if all were with as many."""
    records = [
        record
        for run in runs
        for by_step in run.results.get(measure.kind, {}).values()
        for record in by_step.values()
    ]
    shots = [record.get("shots") for record in records]
    same = bool(shots) and isinstance(shots[0], int) and all(n == shots[0] for n in shots)
    return f"{shots[0]} examples before each question." if same and shots[0] else ""


def one_run(run: RunLog, axis: Axis, place: Callable[[int], float]) -> list[str]:
    """Returns a chart a measure, a line a task."""
    charts = []
    for measure in measures_of([run]):
        names = tasks([run], measure)
        if not names:
            continue
        lines = [Line(name, curve(run, measure, name, place)) for name in names]
        title = measure.title if len(lines) != 1 else f"{measure.title}, {lines[0].name}"
        charts.append(chart(title, measure, names, [run], lines, axis))
    return charts


def groups_table(run: RunLog) -> str:
    """Returns the subjects and groups of the last evaluation, the best first."""
    parts = []
    for kind, field in (("choice", "subjects"), ("probes", "groups")):
        for task, records in run.results.get(kind, {}).items():
            step = max(records)
            groups = records[step].get(field)
            if not isinstance(groups, dict):
                continue
            counts = {name: _counts(value) for name, value in groups.items()}
            shares = {name: right / of for name, (right, of) in counts.items() if of >= 1}
            rows = "".join(
                f'<tr><th scope="row">{clean(name)}</th><td class="n">{counts[name][0]:,.9g} of '
                f'{counts[name][1]:,.9g}</td><td class="n">{_share(share)}</td></tr>'
                for name, share in sorted(shares.items(), key=lambda pair: -pair[1])
            )
            if rows:
                title = f"{task} by {field[:-1]}, step {step:,}"
                parts.append(
                    f"<details><summary>{clean(title)}</summary><div><table><tbody>{rows}"
                    "</tbody></table></div></details>"
                )
    return "".join(parts)


def _counts(value: Any) -> tuple[float, float]:
    """Returns (right, of how many) of a group; (0, 0) for what is no such pair."""
    if isinstance(value, list) and len(value) == 2:
        right, count = number(value[0]), number(value[1])
        if math.isfinite(right + count):
            return right, count
    return 0.0, 0.0


def changes_table(runs: Sequence[RunLog]) -> str:
    """Returns every measure's first and last value, a column a run."""
    rows = []
    for measure in measures_of(runs):
        for task in tasks(runs, measure):
            cells = "".join(f'<td class="pair">{_change(run, measure, task)}</td>' for run in runs)
            title = f'{clean(measure.title)}<br><span class="soft">{clean(task)}</span>'
            rows.append(f'<tr><th scope="row">{title}</th>{cells}</tr>')
    if not rows:
        return ""
    names = (
        "".join(f"<th>{clean(run.name)}</th>" for run in runs)
        if len(runs) > 1
        else "<th>first → last evaluation</th>"
    )
    return (
        f'<div class="card"><table><thead><tr><th>measure</th>{names}</tr></thead>'
        f"<tbody>{''.join(rows)}</tbody></table></div>"
    )


def _change(run: RunLog, measure: Measure, task: str) -> str:
    values = points(run, measure, task)
    if not values:
        return "–"
    form = compact if measure.kind == "generation" else measure.axis.form
    first, last = values[min(values)], values[max(values)]
    if len(values) == 1:
        return clean(form(last))
    moved = (last - first) * measure.better
    tone = "good" if moved > 0 else "bad" if moved < 0 else ""
    arrow = "▲ " if last > first else "▼ " if last < first else ""
    return f'{clean(form(first))} → <span class="change {tone}">{arrow}{clean(form(last))}</span>'
