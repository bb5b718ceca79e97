"""How a run used its machine: the part of the peak, and the part of the time that it trained."""

from __future__ import annotations

import bisect
import math

from twjax.config.data import SeqLen, lengths_of
from twjax.planning.topology import peak_flops
from twjax.report.events import began, reading_at
from twjax.report.read import RunLog


def devices(run: RunLog) -> list[tuple[int, str, int]]:
    """Returns (first step, kind, number) of the devices that a run had, from step to step."""
    found = []
    for record in run.ledger:
        versions, step = record.get("versions"), record.get("step")
        if record.get("event") not in ("start", "resume") or not isinstance(step, int):
            continue
        if isinstance(versions, dict):
            kind, number = versions.get("device"), versions.get("devices")
            if isinstance(kind, str) and isinstance(number, int) and number > 0:
                found.append((step, kind, number))
    return found


def unknown_peak(run: RunLog) -> str:
    """Returns why the use of the peak can't be told; empty if it can."""
    kinds = sorted({kind for _, kind, _ in devices(run)})
    if not kinds:
        return "the ledger doesn't say which devices it ran on"
    unknown = [kind for kind in kinds if peak_flops(kind) is None]
    if unknown:
        return f"the peak of {', '.join(unknown)} is not known"
    return run.settings.problem


def utilization(run: RunLog) -> list[float]:
    """Returns, for each logged step, the arithmetic that the model asks for over the devices' peak.

    The arithmetic of `planning.flops` for full rows, as if every weight were trained; the bfloat16
    peak. nan where no speed was logged; all nan where `unknown_peak` has a reason.
    """
    values = [math.nan] * len(run.steps)
    config = run.settings.run
    if unknown_peak(run) or config is None:
        return values
    from twjax.models.network import network
    from twjax.planning.flops import model_flops_per_row

    specs = network(config.model).specs
    of_row: dict[SeqLen, float] = {}
    had = devices(run)
    starts = [first for first, _, _ in had]
    for i, (step, seconds) in enumerate(zip(run.steps, run.columns["step_seconds"], strict=True)):
        if not (math.isfinite(seconds) and seconds > 0):
            continue
        # The batch of step s is the one that is read at s - 1.
        reading = reading_at(run, step - 1)
        if reading is None:
            continue
        length = reading.length(step - 1)
        if length not in of_row:
            of_row[length] = model_flops_per_row(config.model, specs, lengths_of(length))
        _, kind, number = had[max(0, bisect.bisect_right(starts, step - 1) - 1)]
        work = reading.rows(step - 1) * of_row[length]
        values[i] = work / (seconds * number * (peak_flops(kind) or math.nan))
    return values


def causes(run: RunLog) -> list[tuple[int, dict[str, float]]]:
    """Returns (step, {cause: its share of the time since the run's first start}), where logged."""
    found = []
    for step, seconds in run.seconds:
        whole = sum(seconds.values())
        if whole > 0:
            found.append((step, {cause: value / whole for cause, value in seconds.items()}))
    return found


def goodput(run: RunLog) -> tuple[list[float], list[float]]:
    """Returns, for each logged step, the shares of the time since the start that went into steps
    that count, and into evaluations and saves; nan where the log doesn't tell.

    As far as it can be told from logs that don't have the seconds by cause (`causes`). What is left
    of 1 was start-up, waiting between a stop and a resume, and steps done again.
    """
    begin = began(run)
    if begin is None:
        return [math.nan] * len(run.steps), [math.nan] * len(run.steps)
    before, start = begin
    training, pauses = [], []
    trained = paused = 0.0
    columns = (run.columns[name] for name in ("step_seconds", "paused_seconds", "time"))
    for step, seconds, pause, now in zip(run.steps, *columns, strict=True):
        if math.isfinite(seconds):
            trained += seconds * (step - before)
            before = step
        paused += pause if math.isfinite(pause) else 0.0
        known = math.isfinite(seconds) and now > start
        training.append(trained / (now - start) if known else math.nan)
        pauses.append(paused / (now - start) if known else math.nan)
    return training, pauses
