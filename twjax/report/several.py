"""The comparison that a report of several runs opens with."""

from __future__ import annotations

import math

from twjax.report.chart import Axis, Line, clean, line_chart, path_chart
from twjax.report.read import RunLog
from twjax.report.scale import Curve, change_percent, fixed, thin
from twjax.report.single import (
    PROMPTS_SHOWN,
    by_prompt,
    change_cell,
    percents,
    progress_axis,
    sample_row,
    tokens_text,
)
from twjax.report.summary import Comparison


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
                final = fixed(points[max(points)]) if points else "–"
                cells = f'<td class="pair">{final}</td>'
            for run in runs:
                change = comparison.change(run, task)
                cells += "<td>–</td>" if change is None else (
                    f'<td class="pair">{fixed(change.before)} → {fixed(change.after)}<br>'
                    f"{change_cell(change)}</td>"
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


def plane(comparison: Comparison) -> str:
    """Gain of the domains to learn against the worst loss of a protected one, a path a run."""
    if not comparison.learnt or not comparison.protected:
        return ""
    lines = []
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
        known = [(g, w.relative) for g, w in points if w is not None and math.isfinite(g)]
        lines.append(Line(run.name, Curve([g for g, _ in known], [w for _, w in known]), i))
    percent = {"form": change_percent, "tick_form": percents}
    return path_chart(
        "Learnt against forgotten",
        lines,
        Axis("gain: mean fall of the domains to learn →", **percent),
        Axis("worst rise of a protected domain", **percent),
        "To the right: more learnt. Up: more forgotten; best is bottom right. Large dots are the "
        f"ends of the runs. To learn: {', '.join(comparison.learnt)}. Protected: "
        f"{', '.join(comparison.protected)}.",
    )


def domain_charts(comparison: Comparison) -> list[str]:
    """A small chart a domain, a line a run."""
    charts = []
    order = [*comparison.learnt, *comparison.protected]
    tasks = sorted({task for run in comparison.continued for task in run.bits_per_byte})
    order += [task for task in tasks if task not in order]
    axes = [progress_axis(run) for run in comparison.continued]
    by_tokens = all(axis.form is tokens_text for axis, _ in axes)
    for task in order:
        lines = []
        for i, run in enumerate(comparison.runs):
            points = run.bits_per_byte.get(task)
            if run is comparison.baseline or not points:
                continue
            x = [run.tokens_at(step) if by_tokens else float(step) for step in points]
            lines.append(Line(run.name, thin(x, list(points.values())), i))
        if lines:
            charts.append(line_chart(task, lines, axes[0][0], Axis("bits per byte", form=fixed)))
    return charts


def last_samples(comparison: Comparison) -> str:
    """What each run wrote at its last evaluation, side by side by prompt."""
    texts: dict[str, list[tuple[str, str]]] = {}
    for run in comparison.runs:
        for prompt, steps in by_prompt(run.samples).items():
            last = max(steps)
            texts.setdefault(prompt, []).append((f"{run.name}, step {last:,}", steps[last]))
    shared = {prompt: cells for prompt, cells in texts.items() if len(cells) > 1}
    if not shared:
        return ""
    rows = [sample_row(prompt, cells) for prompt, cells in list(shared.items())[:PROMPTS_SHOWN]]
    if len(shared) > PROMPTS_SHOWN:
        rows.append(f'<p class="note">{PROMPTS_SHOWN} of {len(shared)} prompts are shown.</p>')
    return f"<h3>What the runs write at their end</h3>{''.join(rows)}"


def run_lines(comparison: Comparison) -> list[tuple[RunLog, str]]:
    """One line a continued run: its gain and its worst protected domain."""
    lines = []
    for run in comparison.continued:
        gain, worst = comparison.gain(run), comparison.worst(run)
        told = []
        if math.isfinite(gain):
            told.append(f"domains to learn {change_percent(-gain)} on average")
        if worst is not None:
            told.append(f"worst protected domain {worst.task} {change_percent(worst.relative)}")
        if told:
            lines.append((run, "; ".join(told)))
    return lines
