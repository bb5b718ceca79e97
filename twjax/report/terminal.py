"""Runs on a terminal: one screen that is drawn again while they train."""

from __future__ import annotations

import math
import os
import pathlib
import signal
import sys
import time
from collections.abc import Sequence
from types import FrameType
from typing import Any

from twjax.report.cells import bar, cut, pad, plot, spark, width_of
from twjax.report.decisions import telling
from twjax.report.live import MAIN, Live
from twjax.report.scale import change_percent, compact, fixed

_BOLD, _DIM, _PLAIN = "\x1b[1m", "\x1b[2m", "\x1b[0m"
# Another screen, without a cursor; and back.
_ENTER, _LEAVE = "\x1b[?1049h\x1b[?25l", "\x1b[?25h\x1b[?1049l"
_TALLEST_CHART, _LOWEST_CHART = 14, 3
_SNAPSHOT_CHART, _SNAPSHOT_DECISIONS = 8, 8

# A line and how it looks.
Line = tuple[str, str]


def view(live: Live, width: int, height: int | None, now: float) -> list[Line]:
    """Returns what is to be seen of a run, in lines of at most `width` cells.

    With `height` there are no more lines than that; what matters most stays.
    """
    head = _head(live, width, now)
    table, budget = _table(live, width), _budget(live, width)
    decisions = [
        (cut(f"  step {event['step']}: {text}", width), "")
        for event, text, _ in telling(live.events)
    ]
    if height is None:
        chart = _chart(live, width, _SNAPSHOT_CHART)
        shown = decisions[-_SNAPSHOT_DECISIONS:]
    else:
        few = min(len(decisions), 3 if height >= 20 else 1)
        free = height - len(head) - len(table) - len(budget) - few - bool(few)
        # Two lines of a chart are its heading and its scale.
        rows = min(free - 2, _TALLEST_CHART)
        chart = _chart(live, width, rows) if rows >= _LOWEST_CHART else []
        shown = decisions[-max(few + free - len(chart), few, 1) :] if few else []
    lines = head + chart + table + budget
    if shown:
        lines += [("decisions", _DIM), *shown]
    return [(cut(text, width), style) for text, style in lines][:height]


def _head(live: Live, width: int, now: float) -> list[Line]:
    state = live.state(now)
    age = live.age(now)
    if math.isfinite(age) and state != "finished":
        state += f" · last line {_duration(age)} ago"
    name = cut(f"{live.name}  {live.path}", max(10, width - width_of(state) - 2))
    lines = [(pad(name, width - width_of(state)) + state, _BOLD)]
    if state == "waiting":
        return [*lines, ("nothing is logged yet", _DIM)]
    total, done = live.total, live.step
    counted = f"step {done:,}" + (f" / {total:,}" if total else "")
    if total:
        left = live.left if live.state(now) == "training" else None
        tail = f" {done / total:4.0%}" + (f"  ETA {_duration(left)}" if left is not None else "")
        room = width - width_of(counted) - width_of(tail) - 1
        counted += f" {bar(done / total, max(4, room))}{tail}"
    lines.append((counted, ""))
    values = [
        f"loss {fixed(_value(live.last, 'loss'), 4)}",
        f"{compact(_value(live.last, 'tokens'))} tokens",
        f"{compact(_value(live.speed, 'tokens_per_second'))} tok/s",
        f"{compact(live.pace)} s/step",
        f"rate {compact(_value(live.last, 'learning_rate'))}",
        f"grad {compact(_value(live.last, 'grad_norm'))}",
    ]
    if live.unreadable:
        values.append(f"{live.unreadable} unreadable line(s)")
    lines.append(("  ".join(values), ""))
    return lines


def _chart(live: Live, width: int, rows: int) -> list[Line]:
    if len(live.steps) < 2:
        return []
    margin = 9
    pictures, low, high = plot(live.steps, live.losses, max(10, width - margin - 1), rows)
    labels = {0: fixed(high), rows - 1: fixed(low)}
    lines: list[Line] = [("loss", _DIM)]
    for number, picture in enumerate(pictures):
        lines.append((f"{labels.get(number, ''):>{margin - 2}} ┤{picture}", ""))
    first, last = f"{live.steps[0]:,}", f"{live.steps[-1]:,}"
    gap = width - margin - 1 - len(first) - len(last)
    lines.append((f"{'step':>{margin - 2}}  {first}{' ' * max(1, gap)}{last}", _DIM))
    return lines


def _table(live: Live, width: int) -> list[Line]:
    lines: list[Line] = []
    evaluations = {key: p for key, p in live.evaluations.items() if p}
    if not evaluations:
        return lines
    kinds = sorted({kind for kind, _ in evaluations}, key=lambda kind: (kind != "eval", kind))
    titles = {kind: kind for kind in kinds} | {"eval": "bits per byte"}
    titles |= {k: f"{k}: {MAIN[k][0].replace('_', ' ')}" for k in kinds if k in MAIN}
    names = [*titles.values(), *(task for _, task in evaluations)]
    name = min(max(map(width_of, names)) + 2, max(15, width // 3))
    for kind in kinds:
        mine = {task: points for (other, task), points in evaluations.items() if other == kind}
        last = max(step for points in mine.values() for step in points)
        first = min(step for points in mine.values() for step in points)
        share = kind in MAIN and MAIN[kind][1]
        columns = f"{f'step {first:,}':>12}{f'step {last:,}':>12}{'change':>9}"
        lines.append((pad(titles[kind], name) + columns, _DIM))
        for task, points in mine.items():
            values = list(points.values())
            now, before = values[-1], points.get(first, math.nan)
            change = (now - before) / before if before and last > first else math.nan
            told = [f"{value:.1%}" if share else fixed(value, 4) for value in (before, now)]
            late = "" if max(points) == last else f" at step {max(points):,}"
            text = f"{told[0]:>12}{told[1]:>12}{change_percent(change):>9}  "
            room = max(0, width - name - len(text) - len(late))
            lines.append((pad(task, name) + text + spark(values, min(room, 40)) + late, ""))
    return lines


def _budget(live: Live, width: int) -> list[Line]:
    look = live.look()
    if not look.get("used"):
        return []
    allowed = live.run.budget.allowed if live.run and live.run.budget else {}
    shares = ", ".join(f"{task} {part:.1%}" for task, part in (look.get("shares") or {}).items())
    heading = f"budget at step {live.look().get('step')}: {look.get('action')}; replay {shares}"
    lines: list[Line] = [(heading, _DIM)]
    name = min(max(map(width_of, look["used"])) + 2, width // 3)
    for task, used in look["used"].items():
        of = f" of +{allowed[task]:g}" if task in allowed else ""
        lines.append((f"{pad(task, name)}{bar(used, 20)} {used:4.0%}{of}", ""))
    return lines


def _value(record: dict[str, Any], name: str) -> float:
    value = record.get(name)
    return float(value) if isinstance(value, (int, float)) else math.nan


def _duration(seconds: float) -> str:
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s" if whole < 600 else f"{whole // 60} min"
    hours = whole // 3600
    if hours < 48:
        return f"{hours} h {whole % 3600 // 60:02d} min"
    return f"{hours // 24} d {hours % 24} h"


def snapshot(runs: Sequence[Live], width: int) -> str:
    """Returns all runs as plain text."""
    now = time.time()
    parts = ["\n".join(text.rstrip() for text, _ in view(run, width, None, now)) for run in runs]
    return "\n\n".join(parts)


class Screen:
    """The terminal, taken over and given back as it was, however the program ends."""

    def __enter__(self) -> Screen:
        self._resized = False
        self._previous = {
            signal.SIGWINCH: signal.signal(signal.SIGWINCH, self._resize),
            signal.SIGTERM: signal.signal(signal.SIGTERM, _end),
            signal.SIGHUP: signal.signal(signal.SIGHUP, _end),
        }
        _write(_ENTER)
        return self

    def __exit__(self, *exc: object) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)
        _write(_LEAVE)

    def draw(self, runs: Sequence[Live]) -> None:
        """Shows the runs above each other, in equal parts."""
        self._resized = False
        width, height = os.get_terminal_size(sys.stdout.fileno())
        # The last cell of a line may make a terminal go on to the next one.
        lines, each = [], max(1, height // len(runs))
        for number, run in enumerate(runs):
            room = height - each * (len(runs) - 1) if number == len(runs) - 1 else each
            part = view(run, width - 1, room, time.time())
            lines += part + [("", "")] * (room - len(part))
        shown = (f"{style}{text}{_PLAIN if style else ''}\x1b[K" for text, style in lines[:height])
        _write("\x1b[H" + "\r\n".join(shown) + "\x1b[J")

    def wait(self, seconds: float) -> None:
        """Returns after some seconds, or when the terminal has another size."""
        until = time.monotonic() + seconds
        while time.monotonic() < until and not self._resized:
            time.sleep(0.1)

    def _resize(self, number: int, frame: FrameType | None) -> None:
        self._resized = True


def watch(runs: Sequence[Live], every: float) -> None:
    """Shows the runs until all are finished, or Ctrl-C (KeyboardInterrupt)."""

    def over() -> bool:
        for run in runs:
            run.update()
        return all(run.state() == "finished" for run in runs)

    if not over():
        with Screen() as screen:
            while not over():
                screen.draw(runs)
                screen.wait(every)


def await_folders(paths: Sequence[pathlib.Path], every: float) -> None:
    """Returns when all of the folders exist."""
    while not all(path.is_dir() for path in paths):
        time.sleep(every)


def _end(number: int, frame: FrameType | None) -> None:
    raise SystemExit(128 + number)


def _write(text: str) -> None:
    sys.stdout.write(text)
    sys.stdout.flush()
