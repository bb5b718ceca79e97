"""The sections that tell one run's story."""

from __future__ import annotations

import json
import math
import pathlib
from collections.abc import Iterable, Sequence
from typing import Any

from twjax.report import balance, curves, licences, measures, mixing, settings
from twjax.report.chart import Line, line_chart
from twjax.report.curves import percents, progress_axis
from twjax.report.events import happened, marks
from twjax.report.frame import Axis, clean
from twjax.report.read import RunLog
from twjax.report.samples import samples_section
from twjax.report.scale import change_percent, compact, fixed, median, thin
from twjax.report.summary import NOT_A_NUMBER, Change, Comparison, change_bits

LEDGER_SHOWN = 300


def tiles(run: RunLog) -> str:
    """The run in a few numbers."""
    columns = run.columns
    losses = [v for v in columns["loss"] if math.isfinite(v)]
    values = [
        ("steps", f"{run.last_step:,}"),
        ("tokens", compact(run.tokens_at(run.last_step))),
        ("last training loss", compact(losses[-1]) if losses else "–"),
        ("median tokens/s", compact(median(columns["tokens_per_second"]))),
        ("median step", f"{compact(median(columns['step_seconds']))} s"),
        *curves.speed_tiles(run),
    ]
    items = "".join(f"<li><b>{clean(v)}</b>{k}</li>" for k, v in values if not v.startswith("–"))
    return f'<ul class="tiles">{items}</ul>'


def changes_table(changes: Sequence[Change]) -> str:
    """Bits-per-byte by domain, before and after, learnt and forgotten apart.

    The heads say the steps; where domains were evaluated at several, each line does.
    """
    if not changes:
        return '<p class="none">No domain was evaluated before and after.</p>'
    groups = (
        ("Learnt: bits-per-byte fell", [c for c in changes if c.learnt]),
        ("Forgotten: bits-per-byte rose", [c for c in changes if c.forgotten][::-1]),
        ("As before", [c for c in changes if c.known and not c.learnt and not c.forgotten]),
        ("Not a number", [c for c in changes if not c.known]),
    )
    firsts, lasts = {c.first for c in changes}, {c.last for c in changes}
    rows = []
    for name, members in groups:
        if members:
            rows.append(f'<tr class="group"><th colspan="4" scope="colgroup">{name}</th></tr>')
        for c in members:
            rows.append(
                f'<tr><th scope="row">{clean(c.task)}</th>'
                f'<td class="n">{bits_text(c.before)}{_at(c.first, len(firsts) > 1)}</td>'
                f'<td class="n">{bits_text(c.after)}{_at(c.last, len(lasts) > 1)}</td>'
                f'<td class="n">{change_cell(c)}</td></tr>'
            )
    return (
        '<div class="card"><table><thead><tr><th>domain</th>'
        f'<th class="n">before{_at(changes[0].first, len(firsts) == 1)}</th>'
        f'<th class="n">after{_at(changes[0].last, len(lasts) == 1)}</th>'
        '<th class="n">change</th></tr></thead>'
        f"<tbody>{''.join(rows)}</tbody></table></div>"
    )


def _at(step: int | None, told: bool) -> str:
    return f'<br><span class="soft">step {step:,}</span>' if told and step is not None else ""


def bits_text(value: float) -> str:
    """Returns bits per byte that were evaluated."""
    return fixed(value) if math.isfinite(value) else NOT_A_NUMBER


def change_cell(change: Change) -> str:
    """A change with its direction as a sign, an arrow and a colour."""
    if not change.known:
        return "–"
    arrow = "▼ " if change.learnt else "▲ " if change.forgotten else ""
    tone = "good" if change.learnt else "bad" if change.forgotten else ""
    return (
        f'<span class="change {tone}">{arrow}{change_percent(change.relative)}</span>'
        f'<span class="soft wide"> ({change_bits(change.bits)})</span>'
    )


def domain_charts(run: RunLog) -> list[str]:
    """Bits-per-byte by domain against tokens, absolute and relative to the first evaluation."""
    axis, place = progress_axis(run)
    absolute, relative = [], []
    for i, (task, points) in enumerate(run.bits_per_byte.items()):
        x = [place(step) for step in points]
        absolute.append(Line(task, thin(x, list(points.values())), i))
        start = next(iter(points.values()))
        if len(points) > 1 and start > 0:
            change = [value / start - 1 for value in points.values()]
            relative.append(Line(task, thin(x, change), i))
    percent = Axis("change", form=change_percent, tick_form=percents, zero=True)
    bits = Axis("bits per byte", form=fixed)
    return [
        line_chart("Bits-per-byte by domain", absolute, axis, bits),
        line_chart(
            "Change since the first evaluation", relative, axis, percent,
            "Below the dashed line: learnt. Above it: forgotten.",
        ),
    ]  # fmt: skip


def records_section(run: RunLog) -> str:
    """Ledger, configuration and versions, folded."""
    parts = []
    if run.ledger:
        shown = run.ledger[-LEDGER_SHOWN:]
        rest = len(run.ledger) - len(shown)
        left_out = f"<p class='note'>The first {rest:,} entries are left out.</p>" if rest else ""
        parts.append(_details(f"Ledger: decisions and resumes ({len(run.ledger):,})",
                              left_out + _ledger_table(shown)))  # fmt: skip
    config = run.settings.run
    if config is not None:
        said, lines = settings.against_source(config)
        body = f'<p class="note">{clean(said)}</p>'
        if lines:
            body += settings_table(("setting", "there", "here"), lines)
        parts.append(_details("Configuration against where the weights came from", body))
    elif run.config:
        parts.append(f'<p class="note">config.gin: {clean(run.settings.problem)}</p>')
    if run.config:
        text = f'<pre class="code">{clean(run.config)}</pre>'
        parts.append(_details("Configuration (operative)", text))
    if run.versions:
        rows = "".join(
            f'<tr><th scope="row">{clean(key)}</th><td>{clean(value)}</td></tr>'
            for key, value in _flat(run.versions)
        )
        parts.append(_details("Versions", f"<table><tbody>{rows}</tbody></table>"))
    return "".join(parts)


def settings_table(head: Sequence[str], lines: Iterable[Sequence[str]]) -> str:
    """Settings that differ, a column a configuration."""
    rows = "".join(
        f'<tr><th scope="row">{clean(path)}</th>'
        + "".join(f"<td>{clean(value)}</td>" for value in values)
        + "</tr>"
        for path, *values in lines
    )
    heads = "".join(f"<th>{clean(name)}</th>" for name in head)
    return f'<table class="settings"><thead><tr>{heads}</tr></thead><tbody>{rows}</tbody></table>'


def _details(title: str, body: str) -> str:
    return f"<details><summary>{clean(title)}</summary><div>{body}</div></details>"


def _ledger_table(records: Sequence[dict[str, Any]]) -> str:
    first = [k for k in ("step", "time", "kind", "event", "action") if any(k in r for r in records)]
    head = "".join(f"<th>{clean(key)}</th>" for key in (*first, "details"))
    rows = []
    for record in records:
        cells = [_flat_text(record.get(key, "")) for key in first]
        rest = {k: v for k, v in record.items() if k not in first}
        cells.append("; ".join(f"{k} = {_flat_text(v)}" for k, v in rest.items()))
        rows.append("<tr>" + "".join(f"<td>{clean(cell)}</td>" for cell in cells) + "</tr>")
    return f"<table><thead><tr>{head}</tr></thead><tbody>{''.join(rows)}</tbody></table>"


def _flat_text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _flat(value: dict[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    rows = []
    for key, item in value.items():
        if isinstance(item, dict):
            rows += _flat(item, f"{prefix}{key}.")
        else:
            rows.append((f"{prefix}{key}", _flat_text(item)))
    return rows


def run_section(comparison: Comparison, run: RunLog) -> str:
    """All that the report shows of one run below its headline."""
    events = happened(run)
    axis, place = progress_axis(run)
    warning = "".join(
        f'<p class="warn">{count:,} {"line" if count == 1 else "lines"} of {clean(file)} could '
        "not be read and "
        f"{'is' if count == 1 else 'are'} left out: the writer was stopped in the middle.</p>"
        for file, count in sorted(run.unreadable.items())
    )
    changes = comparison.changes(run)
    past = f'<p class="note">{clean(_past(run))}</p>' if run.branched else ""
    parts = [warning, balance.of_domains(changes), tiles(run), past]
    parts.append("<h3>Bits-per-byte by domain</h3>")
    parts += [changes_table(changes), charts(domain_charts(run))]
    parts.append("<h3>What it read</h3>")
    budget = mixing.budget_chart(run, events)
    parts.append(charts([mixing.mixture_chart(run, events), *([budget] if budget else [])]))
    parts += [mixing.budget_table(run), mixing.events_list(run, events)]
    measured = measures.one_run(run, axis, place)
    if measured:
        parts += ["<h3>Beyond bits-per-byte</h3>", measures.changes_table([run]), charts(measured)]
        parts.append(measures.groups_table(run))
    # What a budget does to replay shows in the mixture.
    other = [event for event in events if event.sign not in ("more", "less", "shift")]
    trained = curves.training_charts(run, marks(other, place))
    parts += ["<h3>Training</h3>", charts(trained + curves.speed_charts(run))]
    parts += [samples_section(run), licences.section(run)]
    parts.append(f"<h3>Records</h3>{records_section(run)}")
    return "".join(parts)


def _past(run: RunLog) -> str:
    """Tells what of a branch's past is in the page."""
    trunk = pathlib.PurePath(str((run.history.branch or {}).get("from", "another run"))).name
    begun = f"A branch of {trunk} from step {run.branched:,}."
    if run.missing is None:
        return f"{begun} Evaluations, rows and samples until then are those of {trunk}."
    name, step = run.missing
    return f"{begun} The log of {name} until step {step:,} is not there, so that is left out."


def charts(drawn: Sequence[str]) -> str:
    """Charts side by side where there is room."""
    return f'<div class="charts">{"".join(drawn)}</div>'
