"""What a mixture law says, for a terminal and as a page: curves, error bars, what was held out."""

from __future__ import annotations

import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from twjax.report import shell
from twjax.report.chart import Axis, Line, line_chart
from twjax.report.frame import clean
from twjax.report.scale import Curve, fixed
from twjax.storage import atomic_writer
from twjax.sweeps.forecast import Enough, Forecast, Range, Ratios
from twjax.sweeps.laws import STEEPEST

PAGE = "law.html"
# More than line charts mark with dots, so that a law is a line without any.
PLACES = 60

Lines = list[tuple[str, ...]]


def predictions(forecasts: Sequence[Forecast]) -> Lines:
    """Returns lines of what was asked for, the header first.

    "inside" is whether a run agrees that the law was not fitted to; "fitted": it was.
    """
    lines: Lines = [("task", "share", "predicted", "error bar", "observed", "off", "inside")]
    for forecast in forecasts:
        for prediction, loss in forecast.asked:
            fitted = "fitted" if forecast.fits(prediction.share) else "–"
            seen = ("–", "–", fitted) if loss is None else (
                f"{loss:.4f}",
                f"{loss - prediction.mean:+.4f}",
                "yes" if prediction.holds(loss) else "NO",
            )  # fmt: skip
            lines.append((
                forecast.task,
                f"{prediction.share:g}",
                f"{prediction.mean:.4f}",
                f"±{prediction.error:.4f}",
                *seen,
            ))  # fmt: skip
    return lines


def checks(forecasts: Sequence[Forecast], level: float) -> list[str]:
    """Returns a line a task: how the law does at shares that it is not shown."""
    lines = []
    for forecast in forecasts:
        left = forecast.left_out
        runs = f"{forecast.task}: fitted to {len(forecast.fitted)} runs"
        if not left:
            lines.append(f"{runs}; too few to leave one out as a check.")
            continue
        inside = sum(prediction.holds(loss) for prediction, loss in left)
        worst = max(abs(loss - prediction.mean) for prediction, loss in left)
        lines.append(
            f"{runs}; each inner share predicted by the others: {inside} of {len(left)} inside "
            f"their {level:.0%} error bars, off by {worst:.4f} at most."
        )
    return lines


def needs(found: Sequence[Enough], share: str, level: float) -> list[str]:
    """Returns a line a task, and one for all, which is the last of `found`: how much keeps what is
    allowed."""
    *each, together = found
    lines = []
    for one in each:
        [(task, rise)] = one.allowed.items()
        lines.append(
            f"{task} may rise by {rise:g} over {one.baselines[task]:.4f}: {share} by the law "
            f"{_said(one, one.share)}, with its {level:.0%} error bar {_said(one, one.safe)}"
        )
    law, sure = _said(together, together.share), _said(together, together.safe)
    return [*lines, f"all of them: {share} by the law {law}, with error bars {sure}"]


def _said(one: Enough, found: Range | None) -> str:
    """Returns which shares keep what is allowed, in words; more and less replay may both harm."""
    if found is None:
        if len(set(one.rising)) > 1:
            return "none of those that were run"
        return "less than was run" if one.rising[0] else "more than was run"
    low, high = found
    least, most = one.between
    if low > least and high < most:
        return f"{low:.3f} to {high:.3f}"
    if low > least:
        return f"{low:.3f}" if not any(one.rising) else f"{low:.3f} or more"
    if high < most:
        return f"up to {high:.3f}"
    if not any(one.rising):
        return f"{least:g} or less"
    return f"up to {most:g} or more" if all(one.rising) else f"any from {least:g} to {most:g}"


def ratios(found: Ratios) -> list[str]:
    """Returns lines on the critical ratio of new text, by tokens."""
    cells = ["greatest share of new text that keeps all of them, by the law at each evaluation:"]
    for tokens, ratio in found.table:
        if ratio is None:
            said = "none of those that were run"
        else:
            said = f"{ratio:.1%}" + (" or more" if ratio > found.greatest - 1e-9 else "")
        cells.append(f"{tokens:,.0f} tokens: {said}")
    law = found.law
    if law is None:
        return [*cells, "fewer than five are within what was run: no law of them over tokens."]
    first, slope, power = law.parameters
    last = law.tokens[-1]
    if abs(power) >= STEEPEST:
        return [*cells, "they follow no power of the tokens, so nothing is said of longer runs."]
    return [
        *cells,
        f"R(T) = {first:.3f} {slope:+.3f} · (T / {last:,.0f})^{power:.3f}; at twice the tokens "
        f"{law.at(2 * last):.1%}, were the learning rate to go on as it did",
    ]


def write_page(
    forecasts: Sequence[Forecast],
    folder: pathlib.Path,
    *,
    title: str,
    level: float,
    notes: Sequence[str] = (),
) -> pathlib.Path:
    """Writes law.html; it is whole or absent."""
    asked = predictions(forecasts)
    body = [_table(asked)] if len(asked) > 1 else []
    charts = "".join(_chart(forecast, level) for forecast in forecasts)
    body.append(f'<div class="charts">{charts}</div>')
    body += [f"<p>{clean(line)}</p>" for line in (*checks(forecasts, level), *notes)]
    body.append(_table(_parameters(forecasts)))
    note = (
        f"Error bars hold {level:.0%} of runs where the law holds and runs scatter alike at all "
        "shares. Outside of the shares that were run the law says nothing."
    )
    path = folder / PAGE
    with atomic_writer(path) as file:
        file.write(shell.document(title, "\n".join(body), clean(note)))
    return path


def _chart(forecast: Forecast, level: float) -> str:
    fit = forecast.fit
    places = np.linspace(min(fit.shares), max(fit.shares), PLACES).tolist()
    found = [fit.predict(place, level) for place in places]
    law = Curve(
        places,
        [p.mean for p in found],
        [p.mean - p.error for p in found],
        [p.mean + p.error for p in found],
    )
    runs = sorted((curve.share, curve.losses[-1]) for curve in forecast.fitted)
    lines = [
        Line("law", law, 0),
        Line("runs", Curve([x for x, _ in runs], [y for _, y in runs]), 1, joined=False),
    ]
    held = [(p.share, loss) for p, loss in forecast.asked if loss is not None]
    for share, loss in held:
        lines.append(Line(f"held out {share:g}", Curve([share], [loss]), 2))
    return line_chart(
        forecast.task, lines, Axis(f"share of {forecast.share}"), Axis("bits per byte")
    )


def _parameters(forecasts: Sequence[Forecast]) -> Lines:
    names = list(dict.fromkeys(name for f in forecasts for name in f.fit.named()))
    lines: Lines = [("task", "runs", *names, "spread of runs")]
    for forecast in forecasts:
        values: Mapping[str, Any] = forecast.fit.named()
        shown = [fixed(values[name], 4) if name in values else "–" for name in names]
        spread = fixed(forecast.fit.between, 4)
        lines.append((forecast.task, str(len(forecast.fitted)), *shown, spread))
    return lines


def _table(lines: Lines) -> str:
    head = "".join(
        f"<th{' class=n' if column else ''}>{clean(cell)}</th>"
        for column, cell in enumerate(lines[0])
    )
    rows = "".join(
        f'<tr><th scope="row">{clean(line[0])}</th>'
        + "".join(f'<td class="n">{clean(cell)}</td>' for cell in line[1:])
        + "</tr>"
        for line in lines[1:]
    )
    return (
        f'<div class="card"><table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>'
        "</div>"
    )
