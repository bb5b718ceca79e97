"""The sections that tell one run's story."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from twjax.report.chart import Axis, Line, area_chart, clean, line_chart
from twjax.report.read import RunLog, Sample
from twjax.report.scale import change_percent, compact, fixed, median, shares, thin, tick_labels
from twjax.report.summary import Change, Comparison, change_bits

SAMPLES_SHOWN = 6
PROMPTS_SHOWN = 20
SAMPLE_CHARACTERS = 1_200
LEDGER_SHOWN = 300


def steps_text(value: float) -> str:
    return f"step {value:,.0f}"


def tokens_text(value: float) -> str:
    return f"{compact(value)} tokens"


def percents(values: Sequence[float]) -> list[str]:
    """Tick labels for relative changes: as many decimals as their spacing needs."""
    labels = tick_labels([v * 100 for v in values])
    return [label if label == "0" or v < 0 else f"+{label}" for v, label in
            zip(values, (f"{t}%" if t != "0" else t for t in labels), strict=True)]  # fmt: skip


STEP = Axis("step", form=steps_text)


def progress_axis(run: RunLog) -> tuple[Axis, Callable[[int], float]]:
    """The x of evaluations: tokens where they were logged, else steps."""
    if math.isfinite(run.tokens_at(run.last_step)):
        return Axis("tokens trained on", form=tokens_text), run.tokens_at
    return STEP, float


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
    ]
    items = "".join(f"<li><b>{clean(v)}</b>{k}</li>" for k, v in values if not v.startswith("–"))
    return f'<ul class="tiles">{items}</ul>'


def changes_table(changes: Sequence[Change]) -> str:
    """Bits-per-byte by domain, before and after, learnt and forgotten apart."""
    if not changes:
        return '<p class="none">No domain was evaluated before and after.</p>'
    most = max([abs(c.relative) for c in changes if math.isfinite(c.relative)], default=0) or 1.0
    worst = max([c.relative for c in changes if c.forgotten], default=0.0)
    best = -min([c.relative for c in changes if c.learnt], default=0.0)
    zero = best / ((best + worst) or most) * 100
    groups = (
        ("Learnt: bits-per-byte fell", [c for c in changes if c.learnt]),
        ("Forgotten: bits-per-byte rose", [c for c in changes if c.forgotten][::-1]),
        ("As before", [c for c in changes if not c.learnt and not c.forgotten]),
    )
    rows = []
    for name, members in groups:
        if members:
            rows.append(f'<tr class="group"><th colspan="5" scope="colgroup">{name}</th></tr>')
        for c in members:
            size = (
                abs(c.relative) / ((best + worst) or most) * 100 if c.learnt or c.forgotten else 0
            )
            left = zero - size if c.learnt else zero
            rows.append(
                f'<tr><th scope="row">{clean(c.task)}</th><td class="n">{fixed(c.before)}</td>'
                f'<td class="n">{fixed(c.after)}</td>'
                f'<td class="n">{change_cell(c)}</td>'
                f'<td class="bar"><div style="--zero:{zero:.1f}%"><i class="{_tone(c)}" '
                f'style="left:{left:.1f}%;width:{size:.1f}%"></i></div></td></tr>'
            )
    return (
        '<div class="card"><table><thead><tr><th>domain</th><th class="n">before</th>'
        '<th class="n">after</th><th class="n">change</th><th></th></tr></thead>'
        f"<tbody>{''.join(rows)}</tbody></table></div>"
    )


def change_cell(change: Change) -> str:
    """A change with its direction as a sign, an arrow and a colour."""
    arrow = "▼ " if change.learnt else "▲ " if change.forgotten else ""
    return (
        f'<span class="change {_tone(change)}">{arrow}{change_percent(change.relative)}</span>'
        f'<span class="soft wide"> ({change_bits(change.bits)})</span>'
    )


def _tone(change: Change) -> str:
    return "good" if change.learnt else "bad" if change.forgotten else ""


def domain_charts(run: RunLog) -> list[str]:
    """Bits-per-byte by domain against tokens, absolute and relative to the first evaluation."""
    axis, position = progress_axis(run)
    absolute, relative = [], []
    for i, (task, points) in enumerate(run.bits_per_byte.items()):
        x = [position(step) for step in points]
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


def training_charts(run: RunLog) -> list[str]:
    """Loss, learning rate, the mixture consumed, throughput."""
    edges, parts = shares(run.row_steps, run.rows)
    total = {task: counts[-1] for task, counts in run.rows.items() if counts}
    whole = sum(total.values()) or 1
    totals = {task: rows / whole for task, rows in total.items()}
    consumed = ", ".join(f"{task} {rows:,}" for task, rows in total.items() if rows)
    charts = [
        _logged("Training loss", run, "loss", Axis("nats per token")),
        _logged("Learning rate", run, "learning_rate", Axis("rate", zero=True)),
        area_chart("Mixture consumed", edges, parts, totals, STEP,
                   f"Rows consumed: {consumed}." if consumed else ""),
        _logged("Throughput: tokens/s", run, "tokens_per_second", Axis("tokens/s", zero=True)),
        _logged("Seconds a step", run, "step_seconds",
                Axis("seconds", form=lambda v: f"{compact(v)} s", zero=True)),
    ]  # fmt: skip
    if any(map(math.isfinite, run.columns["grad_norm"])):
        charts.insert(2, _logged("Gradient norm", run, "grad_norm", Axis("norm", zero=True)))
    return charts


def _logged(title: str, run: RunLog, column: str, axis: Axis) -> str:
    values = run.columns[column]
    curve = thin(run.steps, values)
    note = ""
    finite = sorted(v for v in values if math.isfinite(v))
    if column == "step_seconds" and finite:
        # The first step compiles: on its scale all the others would be a flat line at 0.
        limit = 1.6 * finite[int(0.95 * (len(finite) - 1))]
        if 0 < limit < finite[-1]:
            above = sum(v > limit for v in finite)
            note = (
                f"{above:,} of {len(finite):,} values {'is' if above == 1 else 'are'} above the "
                f"axis; the largest is {compact(finite[-1])} s."
            )
            axis = Axis(axis.label, axis.form, axis.tick_form, axis.zero, limit)
    broken = run.not_numbers[column]
    if broken:
        verb = "is not a number" if broken == 1 else "are not numbers"
        note = f"{note} {broken:,} of {broken + len(finite):,} values {verb}.".strip()
    if curve.low is not None:
        note = f"Mean over groups of steps; the shade is their range. {note}".strip()
    return line_chart(title, [Line(title, curve)], STEP, axis, note)


def by_prompt(samples: Iterable[Sample]) -> dict[str, dict[int, str]]:
    """Groups samples: prompt → step → text, in the order of the logs."""
    grouped: dict[str, dict[int, str]] = {}
    for sample in samples:
        grouped.setdefault(sample.prompt, {})[sample.step] = sample.text
    return grouped


def samples_section(run: RunLog) -> str:
    """What the model wrote at each evaluation, side by side by prompt."""
    grouped = by_prompt(run.samples)
    if not grouped:
        return ""
    parts = ["<h3>Samples</h3>"]
    for prompt, texts in list(grouped.items())[:PROMPTS_SHOWN]:
        steps = list(texts)
        last = len(steps) - 1
        shown = min(SAMPLES_SHOWN, len(steps))
        picked = sorted({steps[round(i * last / max(1, shown - 1))] for i in range(shown)})
        cells = [(f"step {step:,}", texts[step]) for step in picked]
        more = (
            f"{len(picked)} of {len(steps)} evaluations are shown."
            if len(picked) < len(steps)
            else ""
        )
        parts.append(sample_row(prompt, cells, more))
    if len(grouped) > PROMPTS_SHOWN:
        parts.append(
            f'<p class="note">{PROMPTS_SHOWN} of {len(grouped)} prompts are shown; all are in '
            f"{clean(run.path / 'samples')}.</p>"
        )
    return "".join(parts)


def sample_row(prompt: str, cells: Sequence[tuple[str, str]], note: str = "") -> str:
    """One prompt and its continuations side by side; text is shown as it is, never as HTML."""
    shown = []
    for heading, text in cells:
        if len(text) > SAMPLE_CHARACTERS:
            rest = len(text) - SAMPLE_CHARACTERS
            text = f"{text[:SAMPLE_CHARACTERS]}… ({rest:,} more characters)"
        shown.append(
            f'<div><h4>{clean(heading)}</h4><pre dir="auto" lang="zh-Hant-TW">{clean(text)}</pre>'
            "</div>"
        )
    title = clean(prompt) if prompt.strip() else '<span class="soft">(no prompt)</span>'
    note_html = f'<p class="note">{clean(note)}</p>' if note else ""
    return (
        f'<div class="card"><p class="prompt" dir="auto" lang="zh-Hant-TW">{title}</p>'
        f'<div class="samples">{"".join(shown)}</div>{note_html}</div>'
    )


def records_section(run: RunLog) -> str:
    """Ledger, configuration and versions, folded."""
    parts = []
    if run.ledger:
        shown = run.ledger[-LEDGER_SHOWN:]
        rest = len(run.ledger) - len(shown)
        left_out = f"<p class='note'>The first {rest:,} entries are left out.</p>" if rest else ""
        parts.append(_details(f"Ledger: decisions and resumes ({len(run.ledger):,})",
                              left_out + _ledger_table(shown)))  # fmt: skip
    if run.config:
        config = f'<pre class="code">{clean(run.config)}</pre>'
        parts.append(_details("Configuration (operative)", config))
    if run.versions:
        rows = "".join(
            f'<tr><th scope="row">{clean(key)}</th><td>{clean(value)}</td></tr>'
            for key, value in _flat(run.versions)
        )
        parts.append(_details("Versions", f"<table><tbody>{rows}</tbody></table>"))
    return "".join(parts)


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


def run_section(comparison: Comparison, run: RunLog, table: bool = True) -> str:
    """All that the report shows of one run below its headline."""
    warning = "".join(
        f'<p class="warn">{count:,} {"line" if count == 1 else "lines"} of {clean(file)} could '
        "not be read and "
        f"{'is' if count == 1 else 'are'} left out: the writer was stopped in the middle.</p>"
        for file, count in sorted(run.unreadable.items())
    )
    parts = [warning, tiles(run)]
    if table:
        parts.append("<h3>Bits-per-byte by domain</h3>")
        parts.append(changes_table(comparison.changes(run)))
    parts.append(f'<div class="charts">{"".join(domain_charts(run))}</div>')
    parts.append(f'<h3>Training</h3><div class="charts">{"".join(training_charts(run))}</div>')
    parts.append(samples_section(run))
    parts.append(f"<h3>Records</h3>{records_section(run)}")
    return "".join(parts)
