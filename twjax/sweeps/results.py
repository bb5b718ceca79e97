"""What the points of a sweep measured: one JSON file, and a table."""

from __future__ import annotations

import csv
import dataclasses
import io
import math
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

from twjax.report.evaluations import Series, names, size_of
from twjax.report.read import number, read_run
from twjax.storage import atomic_writer, read_json, write_json
from twjax.sweeps.points import Point
from twjax.sweeps.runner import Status

FILE, TABLE = "results.json", "results.csv"
# Of each kind of record: its value, whether less is better, and what tells it from a task's own.
KINDS = {
    "eval": ("bits_per_byte", True, ""),
    "choice": ("accuracy", False, " accuracy"),
    "pairs": ("preferred", False, " preferred"),
    "probes": ("right", False, " right"),
}

# By step, the records of each measure.
Measured = dict[Series, dict[int, dict[str, Any]]]


@dataclasses.dataclass(frozen=True)
class Outcome:
    """One thing that was measured, at steps rising; `tokens` are those trained on, or empty.

    `size` counts what it was measured on at the last of them, as the records say (None: they
    don't): bytes of text, questions, pairs or probes.
    """

    less: bool
    unit: str
    steps: list[int]
    tokens: list[float]
    values: list[float]
    size: int | None = None


@dataclasses.dataclass(frozen=True)
class Result:
    """A point: what was swept, and its outcomes by name."""

    name: str
    settings: dict[str, Any]
    shares: tuple[str, ...]
    state: str
    outcomes: dict[str, Outcome]

    def last(self, outcome: str) -> float:
        """Returns the last value of an outcome; nan if there is none."""
        found = self.outcomes.get(outcome)
        return found.values[-1] if found else math.nan


@dataclasses.dataclass(frozen=True)
class Results:
    """All points of a sweep, in its order."""

    name: str
    points: list[Result]

    @property
    def settings(self) -> list[str]:
        return list(dict.fromkeys(label for point in self.points for label in point.settings))

    @property
    def outcomes(self) -> list[str]:
        return list(dict.fromkeys(name for point in self.points for name in point.outcomes))

    @property
    def finished(self) -> list[Result]:
        return [point for point in self.points if point.state == "finished"]

    def less(self, outcome: str) -> bool:
        """Whether less of an outcome is better."""
        return next(p.outcomes[outcome].less for p in self.points if outcome in p.outcomes)

    def unit(self, outcome: str) -> str:
        return next(p.outcomes[outcome].unit for p in self.points if outcome in p.outcomes)

    def best(self, outcome: str) -> Result | None:
        """Returns the finished point with the best last value."""
        measured = [p for p in self.finished if math.isfinite(p.last(outcome))]
        sign = 1 if measured and self.less(outcome) else -1
        return min(measured, key=lambda p: sign * p.last(outcome), default=None)


def collect(
    name: str, folder: pathlib.Path, points: Sequence[Point], states: Mapping[str, Status]
) -> Results:
    """Reads what the points have logged so far."""
    measured = {point.name: _measured(folder / point.name) for point in points}
    # Of all points together, so that a measure has one name wherever it was taken.
    called = names(series for found in measured.values() for series in found)
    return Results(
        name,
        [
            Result(
                point.name,
                point.settings,
                point.shares,
                states[point.name].state,
                _outcomes(measured[point.name], called),
            )
            for point in points
        ],
    )


def outcomes(run_dir: pathlib.Path) -> dict[str, Outcome]:
    """Returns what a run has measured, by name; the last record of a step holds."""
    measured = _measured(run_dir)
    return _outcomes(measured, names(measured))


def _measured(run_dir: pathlib.Path) -> Measured:
    if not (run_dir / "metrics.jsonl").is_file():
        return {}
    return {s: steps for s, steps in read_run(run_dir).evaluated.items() if s.kind in KINDS}


def _outcomes(measured: Measured, called: Mapping[Series, str]) -> dict[str, Outcome]:
    result = {}
    for series, records in measured.items():
        field, less, more = KINDS[series.kind]
        known = {s: r for s, r in records.items() if isinstance(r.get(field), (int, float))}
        if not known:
            continue
        tokens = [number(r.get("train_tokens")) for r in known.values()]
        result[called[series] + more] = Outcome(
            less,
            field,
            list(known),
            tokens if all(map(math.isfinite, tokens)) else [],
            [float(r[field]) for r in known.values()],
            size_of(known[max(known)]),
        )
    return result


def write(results: Results, folder: pathlib.Path) -> None:
    """Writes results.json and results.csv."""
    write_json(
        folder / FILE,
        {"name": results.name, "points": [dataclasses.asdict(p) for p in results.points]},
    )
    text = io.StringIO()
    rows = csv.writer(text, lineterminator="\n")
    names = results.outcomes
    rows.writerow(["point", *results.settings, "state", "step", *names])
    for point in results.points:
        values = [point.last(name) for name in names]
        rows.writerow(
            [
                point.name,
                *(point.settings.get(label, "") for label in results.settings),
                point.state,
                max((o.steps[-1] for o in point.outcomes.values()), default=0),
                *("" if math.isnan(v) else repr(v) for v in values),
            ]
        )
    with atomic_writer(folder / TABLE) as file:
        file.write(text.getvalue())


def read(folder: pathlib.Path) -> Results:
    """Reads results.json; raises ValueError for a folder that holds no sweep."""
    path = folder / FILE
    if not path.is_file():
        raise ValueError(f"{folder}: holds no {FILE}; give the --output of a `twjax sweep run`.")
    record = read_json(path)
    points = [
        Result(
            **(
                point
                | {
                    "shares": tuple(point["shares"]),
                    "outcomes": {n: Outcome(**o) for n, o in point["outcomes"].items()},
                }
            )
        )
        for point in record["points"]
    ]
    return Results(record["name"], points)


def table(results: Results) -> list[tuple[str, ...]]:
    """Returns lines for a terminal, the header first; a * marks the best of a column."""
    names = results.outcomes
    best = {name: point.name for name in names if (point := results.best(name))}
    lines: list[tuple[str, ...]] = [("point", "state", *names)]
    for point in results.points:
        cells = []
        for name in names:
            value = point.last(name)
            mark = "*" if best.get(name) == point.name else ""
            cells.append("–" if math.isnan(value) else f"{value:.4f}{mark}")
        lines.append((point.name, point.state, *cells))
    return lines


def render(lines: Sequence[tuple[str, ...]]) -> str:
    """Returns a table with its columns aligned."""
    widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]))]
    return "\n".join(
        "  ".join(c.ljust(w) for c, w in zip(line, widths, strict=True)).rstrip() for line in lines
    )
