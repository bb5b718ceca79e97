"""What was logged as it trained: loss, learning rate, throughput, and where its time went."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence

from twjax.report import speed
from twjax.report.chart import Line, line_chart
from twjax.report.frame import Axis, Mark
from twjax.report.read import RunLog
from twjax.report.scale import Curve, compact, thin, tick_labels
from twjax.training.goodput import CAUSES

# Points of a line; fewer where lines of several runs cross each other.
_POINTS, _COMPARED = 160, 48
# The x of a step.
Place = Callable[[float], float]


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
_PART = Axis(
    "share",
    form=lambda v: f"{v:.1%}",
    tick_form=lambda values: [f"{t}%" for t in tick_labels([v * 100 for v in values])],
    zero=True,
)


def progress_axis(run: RunLog) -> tuple[Axis, Place]:
    """The x of a run's charts: tokens where they were logged, else steps."""
    if math.isfinite(run.tokens_at(run.last_step)):
        return Axis("tokens trained on", form=tokens_text), run.tokens_at
    return STEP, float


def common_axis(runs: Sequence[RunLog]) -> tuple[Axis, Callable[[RunLog], Place]]:
    """The x of charts with several runs: tokens where all have logged them, else steps."""
    axes = [progress_axis(run) for run in runs]
    if axes and all(axis is not STEP for axis, _ in axes):
        return axes[0][0], lambda run: run.tokens_at
    return STEP, lambda run: float


def training_charts(run: RunLog, marks: Sequence[Mark]) -> list[str]:
    """Loss, learning rate and the norm of gradients, with what happened to the batch."""
    charts = [
        _logged("Training loss", run, "loss", Axis("nats per token"), marks),
        _logged("Learning rate", run, "learning_rate", Axis("rate", zero=True), marks),
    ]
    if any(map(math.isfinite, run.columns["grad_norm"])):
        charts.append(_logged("Gradient norm", run, "grad_norm", Axis("norm", zero=True)))
    return charts


def speed_charts(run: RunLog) -> list[str]:
    """Throughput, the part of the devices' peak that was used, and where the time went."""
    charts = [
        _logged("Throughput: tokens/s", run, "tokens_per_second", Axis("tokens/s", zero=True)),
        _logged("Seconds a step", run, "step_seconds",
                Axis("seconds", form=lambda v: f"{compact(v)} s", zero=True)),
    ]  # fmt: skip
    axis, place = progress_axis(run)
    used = _line("MFU", run, speed.utilization(run), place)
    if used.curve.x:
        note = "Model FLOPs over the devices' bfloat16 peak, as if every weight were trained."
        charts.append(line_chart("MFU: use of the devices' peak", [used], axis, _PART, note))
    causes = speed.causes(run)
    if causes:
        return [*charts, _causes_chart(run, causes, axis, place)]
    training, paused = speed.goodput(run)
    parts = (("training", training), ("pauses", paused))
    lines = [_line(name, run, values, place) for name, values in parts]
    if lines[0].curve.x:
        charts.append(
            line_chart(
                "Goodput: share of the time since the start", lines, axis, _PART,
                "Pauses are evaluations and saves. What is left was start-up, waiting, and steps "
                "done again.",
            )
        )  # fmt: skip
    return charts


def comparison_charts(runs: Sequence[tuple[int, RunLog]]) -> list[str]:
    """Loss, learning rate and throughput, a line a run; runs come with their colours."""
    axis, place_of = common_axis([run for _, run in runs])
    charts = []
    for title, column, y in (
        ("Training loss of each run", "loss", Axis("nats per token")),
        ("Learning rate of each run", "learning_rate", Axis("rate", zero=True)),
        ("Throughput of each run", "tokens_per_second", Axis("tokens/s", zero=True)),
    ):
        lines = []
        for colour, run in runs:
            line = _line(run.name, run, run.columns[column], place_of(run), _COMPARED)
            curve = Curve(line.curve.x, line.curve.y)
            lines.append(dataclasses.replace(line, curve=curve, colour=colour))
        if any(line.curve.x for line in lines):
            charts.append(line_chart(title, lines, axis, y))
    return charts


def speed_tiles(run: RunLog) -> list[tuple[str, str]]:
    """Returns what the run was worth of its machine, as (what, value)."""
    used = [v for v in speed.utilization(run) if math.isfinite(v)]
    causes = speed.causes(run)
    training = [shares["stepping"] for _, shares in causes]
    training = training or [v for v in speed.goodput(run)[0] if math.isfinite(v)]
    unknown = speed.unknown_peak(run)
    tiles = [("MFU, median", f"{sorted(used)[len(used) // 2]:.1%}")] if used else []
    if not used and speed.devices(run) and unknown:
        tiles.append(("MFU", "unknown peak"))
    return tiles + ([("goodput", f"{training[-1]:.0%}")] if training else [])


def _causes_chart(
    run: RunLog, causes: list[tuple[int, dict[str, float]]], axis: Axis, place: Place
) -> str:
    """Shares of the time by cause; the seconds until now stand in the note."""
    steps = [step for step, _ in causes]
    lines = []
    for cause in CAUSES:
        shares = [of[cause] for _, of in causes]
        if any(shares):
            curve = thin(steps, shares, _POINTS)
            told = [steps_text(step) for step in curve.x]
            x = [place(step) for step in curve.x]
            lines.append(Line(cause, dataclasses.replace(curve, x=x), len(lines), told=told))
    last = sorted(run.seconds[-1][1].items(), key=lambda pair: -pair[1])
    told = ", ".join(f"{cause} {_time(seconds)}" for cause, seconds in last if seconds)
    return line_chart(
        "Goodput: share of the time since the start",
        lines,
        axis,
        _PART,
        f"Of {_time(sum(run.seconds[-1][1].values()))}: {told}.",
    )


def _time(seconds: float) -> str:
    """Returns a time in the unit that suits it."""
    for unit, length in (("d", 86_400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.1f} {unit}"
    return f"{seconds:.1f} s"


def _line(
    name: str, run: RunLog, values: Sequence[float], place: Place, most: int = _POINTS
) -> Line:
    """Returns a line over the run's x whose points say their step."""
    curve = thin(run.steps, values, most)
    told = [steps_text(step) for step in curve.x]
    x = [place(step) for step in curve.x]
    return Line(name, dataclasses.replace(curve, x=x), told=told)


def _logged(title: str, run: RunLog, column: str, y: Axis, marks: Sequence[Mark] = ()) -> str:
    values = run.columns[column]
    axis, place = progress_axis(run)
    line = _line(title, run, values, place)
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
            y = dataclasses.replace(y, top=limit)
    broken = run.not_numbers[column]
    if broken:
        verb = "is not a number" if broken == 1 else "are not numbers"
        note = f"{note} {broken:,} of {broken + len(finite):,} values {verb}.".strip()
    if line.curve.low is not None:
        note = f"Mean over groups of steps; the shade is their range. {note}".strip()
    return line_chart(title, [line], axis, y, note, marks=marks)
