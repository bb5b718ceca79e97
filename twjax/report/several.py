"""The comparison that a report of several runs opens with."""

from __future__ import annotations

import math

from twjax.report import measures, settings
from twjax.report.chart import Line, line_chart
from twjax.report.curves import common_axis, percents
from twjax.report.frame import Axis, clean
from twjax.report.planes import path_chart
from twjax.report.read import RunLog
from twjax.report.scale import Curve, change_percent, fixed, thin
from twjax.report.single import bits_text, change_cell, settings_table
from twjax.report.summary import NOT_A_NUMBER, Change, Comparison


def comparison_table(comparison: Comparison) -> str:
    """Before and after of every domain, a column a run; the domains to learn come first."""
    runs = comparison.continued
    baseline = comparison.baseline
    tasks = sorted({task for run in comparison.runs for task in run.bits_per_byte})
    groups = (
        ("To be learnt", [t for t in tasks if t in comparison.learnt]),
        ("To be kept", [t for t in tasks if t in comparison.protected]),
        ("Other domains",
         [t for t in tasks if t not in comparison.learnt and t not in comparison.protected]),
    )  # fmt: skip
    columns = len(runs) + 1 + (baseline is not None)
    rows = []
    for name, members in groups:
        if members:
            rows.append(
                f'<tr class="group"><th colspan="{columns}" scope="colgroup">{name}</th></tr>'
            )
        for task in members:
            cells = ""
            if baseline is not None:
                points = baseline.bits_per_byte.get(task)
                final = bits_text(points[max(points)]) if points else "–"
                cells = f'<td class="pair">{final}</td>'
            for run in runs:
                change = comparison.change(run, task)
                cells += "<td>–</td>" if change is None else (
                    f'<td class="pair">{bits_text(change.before)} → {bits_text(change.after)}<br>'
                    f"{change_cell(change)}{_since(change)}</td>"
                )  # fmt: skip
            rows.append(f'<tr><th scope="row">{clean(task)}</th>{cells}</tr>')
    head = "<th>domain</th>"
    if baseline is not None:
        head += f"<th>{clean(baseline.name)} (start)</th>"
    head += "".join(f"<th>{clean(run.name)}</th>" for run in runs)
    return (
        f'<div class="card"><table><thead><tr>{head}</tr></thead>'
        f"<tbody>{''.join(rows)}</tbody></table></div>"
    )


def _since(change: Change) -> str:
    """Says where a run's first evaluation isn't that of its beginning."""
    return f'<br><span class="soft">from step {change.first:,}</span>' if change.first else ""


def plane(comparison: Comparison) -> str:
    """Gain of the domains to learn against the worst loss of a protected one, a path a run."""
    if not comparison.learnt or not comparison.protected:
        return ""
    lines, early = [], ""
    for i, run in enumerate(comparison.runs):
        if run is comparison.baseline:
            continue
        steps = sorted(
            set.intersection(
                *(
                    set(run.bits_per_byte.get(t, ()))
                    for t in comparison.learnt + comparison.protected
                )
            )
        )
        points = [(comparison.gain(run, s), comparison.worst(run, s)) for s in steps]
        known = [
            (g, w.relative) for g, w in points if w is not None and math.isfinite(g + w.relative)
        ]
        last = comparison.worst(run)
        if known and last is not None and not math.isfinite(comparison.gain(run) + last.relative):
            early += f" {run.name} ends at its last evaluation with numbers."
        lines.append(Line(run.name, Curve([g for g, _ in known], [w for _, w in known]), i))
    percent = {"form": change_percent, "tick_form": percents}
    return path_chart(
        "Learnt against forgotten",
        lines,
        Axis("gain: mean fall of the domains to learn →", **percent),
        Axis("worst rise of a protected domain", **percent),
        "To the right: more learnt. Up: more forgotten; best is bottom right. Large dots are the "
        f"ends of the runs. To learn: {', '.join(comparison.learnt)}. Protected: "
        f"{', '.join(comparison.protected)}.{early}",
    )


def domain_charts(comparison: Comparison) -> list[str]:
    """A small chart a domain, a line a run."""
    charts = []
    order = [*comparison.learnt, *comparison.protected]
    tasks = sorted({task for run in comparison.continued for task in run.bits_per_byte})
    order += [task for task in tasks if task not in order]
    axis, place_of = common_axis(comparison.continued)
    for task in order:
        lines = []
        for i, run in enumerate(comparison.runs):
            points = run.bits_per_byte.get(task)
            if run is comparison.baseline or not points:
                continue
            x = [place_of(run)(step) for step in points]
            lines.append(Line(run.name, thin(x, list(points.values())), i))
        if lines:
            charts.append(line_chart(task, lines, axis, Axis("bits per byte", form=fixed)))
    return charts


def coloured(comparison: Comparison) -> list[tuple[int, RunLog]]:
    """Returns the compared runs with the colours that they have in every chart."""
    return [(i, r) for i, r in enumerate(comparison.runs) if r is not comparison.baseline]


def measure_charts(comparison: Comparison) -> list[str]:
    """A chart for each other measure and task, a line a run."""
    runs = coloured(comparison)
    only = [run for _, run in runs]
    axis, place_of = common_axis(only)
    charts = []
    for measure in measures.measures_of(only):
        for task in measures.tasks(only, measure):
            lines = [
                Line(run.name, measures.curve(run, measure, task, place_of(run)), i)
                for i, run in runs
            ]
            title = f"{measure.title}, {task}: each run"
            charts.append(measures.chart(title, measure, [task], only, lines, axis))
    return charts


def differences(comparison: Comparison) -> str:
    """The settings in which the configurations of the runs differ."""
    read = [(run, run.settings.run) for run in comparison.runs]
    known = [(run, config) for run, config in read if config is not None]
    parts = [
        f'<p class="note">{clean(run.name)}: {clean(run.settings.problem)}.</p>'
        for run, config in read
        if config is None
    ]
    if len(known) > 1:
        lines = settings.table([config for _, config in known])
        head = ("setting", *(run.name for run, _ in known))
        table = settings_table(head, lines) if lines else '<p class="none">None.</p>'
        parts.append(f'<div class="card">{table}</div>')
    return f"<h3>What differs in the configurations</h3>{''.join(parts)}"


def run_lines(comparison: Comparison) -> list[tuple[RunLog, str]]:
    """One line a continued run: its gain and its worst protected domain."""
    lines = []
    for run in comparison.continued:
        gain, worst = comparison.gain(run), comparison.worst(run)
        told = []
        if math.isfinite(gain):
            told.append(f"domains to learn {change_percent(-gain)} on average")
        if worst is not None:
            risen = change_percent(worst.relative) if worst.known else NOT_A_NUMBER
            told.append(f"worst protected domain {worst.task} {risen}")
        if told:
            lines.append((run, "; ".join(told)))
    return lines
