"""The first picture of a report: what was learnt to the right, what was forgotten to the left.

Plain HTML, so that its words have the size of the page's on a phone as well.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

from twjax.report.frame import clean
from twjax.report.read import RunLog
from twjax.report.scale import change_percent
from twjax.report.summary import NOT_A_NUMBER, Change, Comparison


@dataclasses.dataclass(frozen=True)
class Side:
    """One end of a bar: its length (0 for none) and what is written below it."""

    size: float
    text: str


@dataclasses.dataclass(frozen=True)
class Row:
    """A line of the picture; a side that is None is not known."""

    name: str
    forgot: Side | None = None
    learnt: Side | None = None


def of_domains(changes: Sequence[Change]) -> str:
    """Returns the picture of one run, a line a domain, the most learnt first."""
    rows = []
    for change in changes:
        if not change.known:
            rows.append(Row(change.task, forgot=Side(0.0, NOT_A_NUMBER)))
            continue
        side = Side(abs(change.relative), change_percent(change.relative))
        if change.forgotten:
            rows.append(Row(change.task, forgot=side))
        else:
            learnt = side if change.learnt else Side(0.0, "as before")
            rows.append(Row(change.task, learnt=learnt))
    return _picture("What it learnt, what it forgot", rows, "")


def of_runs(comparison: Comparison) -> str:
    """Returns a line a run: the mean gain of what was to be learnt, the worst loss."""
    rows = [_row(comparison, run) for run in comparison.continued]
    notes = []
    if comparison.learnt:
        notes.append(f"Learnt: the mean of {', '.join(comparison.learnt)}.")
    if comparison.protected:
        notes.append(f"Forgot: the worst of {', '.join(comparison.protected)}.")
    return _picture("What each run learnt, what it forgot", rows, " ".join(notes))


def _row(comparison: Comparison, run: RunLog) -> Row:
    gain, worst = comparison.gain(run), comparison.worst(run)
    learnt = forgot = None
    changes = [comparison.change(run, task) for task in comparison.learnt]
    if math.isfinite(gain):
        learnt = Side(max(gain, 0.0), change_percent(-gain))
    elif any(change is not None and not change.known for change in changes):
        learnt = Side(0.0, NOT_A_NUMBER)
    if worst is not None and not worst.known:
        forgot = Side(0.0, f"{worst.task}: {NOT_A_NUMBER}")
    elif worst is not None:
        text = f"{worst.task} {change_percent(worst.relative)}"
        forgot = Side(max(worst.relative, 0.0), text if worst.relative > 0 else f"nothing: {text}")
    return Row(run.name, forgot, learnt)


def _picture(title: str, rows: Sequence[Row], note: str) -> str:
    rows = [row for row in rows if row.forgot or row.learnt]
    if not rows:
        return ""
    most = max(side.size for row in rows for side in (row.forgot, row.learnt) if side) or 1.0
    lines = [
        f'<div class="row"><b>{clean(row.name)}</b>{_half("forgot", row.forgot, most)}'
        f"{_half('learnt', row.learnt, most)}</div>"
        for row in rows
    ]
    return (
        f'<figure class="balance"><figcaption>{clean(title)} <span class="soft">change of '
        'bits-per-byte</span></figcaption><div class="row head"><b></b>'
        '<div class="forgot bad">◀ forgot</div><div class="learnt good">learnt ▶</div></div>'
        f'{"".join(lines)}<p class="note">{clean(note)}</p></figure>'
    )


def _half(kind: str, side: Side | None, most: float) -> str:
    if side is None:
        return f'<div class="{kind}"></div>'
    width = side.size / most * 100
    bar = f'<i style="width:{width:.1f}%"></i>'
    return f'<div class="{kind}">{bar}<span>{clean(side.text)}</span></div>'
