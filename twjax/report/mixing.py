"""The mixture as planned and as consumed, what a forgetting budget saw, and what was done."""

from __future__ import annotations

import math
from collections.abc import Sequence

from twjax.report.chart import Line, line_chart
from twjax.report.curves import percents, progress_axis
from twjax.report.events import Event, marks, planned
from twjax.report.frame import SIGNS, Axis, clean
from twjax.report.planes import area_chart
from twjax.report.read import RunLog, number
from twjax.report.scale import compact, fixed, percent, shares, thin
from twjax.report.summary import NOT_A_NUMBER

EVENTS_SHOWN = 40


def mixture_chart(run: RunLog, events: Sequence[Event]) -> str:
    """What was read, stacked, with the stages' plan and what happened on the way."""
    axis, place = progress_axis(run)
    edges, parts = shares(run.row_steps, run.rows)
    total = {task: counts[-1] for task, counts in run.rows.items() if counts}
    whole = sum(total.values()) or 1
    totals = {task: rows / whole for task, rows in total.items()}
    consumed = ", ".join(f"{task} {rows:,}" for task, rows in total.items() if rows)
    plan = [(place(step), weights) for step, weights in planned(run)]
    note = "The dashed borders are the configured stages. " if plan else ""
    if consumed:
        note += f"Rows consumed: {consumed}."
    return area_chart(
        "Mixture consumed",
        [place(edge) for edge in edges],
        parts,
        totals,
        axis,
        note.strip(),
        plan=plan,
        marks=marks(events, place),
    )


def budget_chart(run: RunLog, events: Sequence[Event]) -> str:
    """How much of its allowance each protected domain has used; empty without a budget."""
    used = budget_used(run)
    if not used:
        return ""
    axis, place = progress_axis(run)
    lines = [
        Line(task, thin([place(step) for step in points], list(points.values())))
        for task, points in used.items()
    ]
    used_axis = Axis("of the allowed rise", form=percent, tick_form=_parts, zero=True)
    return line_chart(
        "Forgetting budget used", lines, axis, used_axis,
        "A line above its allowance has forgotten more than it may.",
        levels=[(1.0, "allowance")],
        marks=marks([e for e in events if e.sign not in ("stage", "shape", "resume")], place),
    )  # fmt: skip


def _parts(values: Sequence[float]) -> list[str]:
    return [label.removeprefix("+") for label in percents(values)]


def budget_used(run: RunLog) -> dict[str, dict[int, float]]:
    """Returns {protected domain: {step: its rise as a part of its allowance}}."""
    budget = run.settings.run.budget if run.settings.run is not None else None
    if budget is None or budget.mode == "off":
        return {}
    # A ledger may be damaged.
    known = run.history.baseline if isinstance(run.history.baseline, dict) else {}
    found = {}
    for task, allowed in budget.allowed.items():
        points = run.bits_per_byte.get(task, {})
        start = number(known.get(task, points.get(0)))
        used = {s: (v - start) / allowed for s, v in points.items() if math.isfinite(v - start)}
        if used:
            found[task] = used
    return found


def budget_table(run: RunLog) -> str:
    """Each protected domain's allowance beside its rise at the end and at its worst."""
    used = budget_used(run)
    budget = run.settings.run.budget if run.settings.run is not None else None
    if not used or budget is None:
        return ""
    rows = []
    for task, points in used.items():
        allowed, most = budget.allowed[task], max(points.values())
        # The last evaluation may have given no number.
        last = points.get(max(run.bits_per_byte[task]), math.nan)
        known = math.isfinite(last)
        tone = "good" if last <= 1 else "bad"
        rows.append(
            f'<tr><th scope="row">{clean(task)}</th><td class="n">{fixed(allowed)}</td>'
            f'<td class="n">{fixed(last * allowed) if known else NOT_A_NUMBER}</td>'
            f'<td class="n">{fixed(most * allowed)}</td>'
            f'<td class="n change {tone}">{percent(last)}</td></tr>'
        )
    return (
        '<div class="card"><table><thead><tr><th>protected domain</th><th class="n">may rise by'
        '</th><th class="n">has risen by</th><th class="n">at most by</th><th class="n">used</th>'
        f"</tr></thead><tbody>{''.join(rows)}</tbody></table></div>"
    )


def events_list(run: RunLog, events: Sequence[Event]) -> str:
    """What happened, in words; evaluations at which nothing changed are counted."""
    quiet = [e for e in events if e.sign is None and e.text.endswith(("unchanged", "looked at"))]
    told = [event for event in events if event not in quiet]
    if not told:
        return ""
    rows = []
    for event in told[:EVENTS_SHOWN]:
        tokens = run.tokens_at(event.step)
        sign, undone = "", ""
        if event.undone:
            undone = " (undone)"
        elif event.sign:
            sign = f'<span class="sign {event.sign}">{SIGNS[event.sign][0]}</span> '
        at = f', <span class="soft">{clean(compact(tokens))} tokens</span>' if tokens > 0 else ""
        kind = ' class="soft"' if event.undone else ""
        rows.append(
            f"<li{kind}>{sign}<b>step {event.step:,}</b>{undone}{at}<br>{clean(event.text)}</li>"
        )
    notes = []
    if len(told) > EVENTS_SHOWN:
        notes.append(f"{len(told) - EVENTS_SHOWN:,} more are in the ledger below.")
    if quiet:
        times = "one evaluation" if len(quiet) == 1 else f"{len(quiet):,} evaluations"
        notes.append(f"At {times} the budget changed nothing.")
    note = f'<p class="note">{clean(" ".join(notes))}</p>' if notes else ""
    return (
        f'<h3>What happened on the way</h3><div class="card"><ul class="events">{"".join(rows)}'
        f"</ul>{note}</div>"
    )
