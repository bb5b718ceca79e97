"""A run directory as data: the columns that were logged, the evaluations, the samples."""

from __future__ import annotations

import bisect
import dataclasses
import functools
import json
import math
import os
import pathlib
from collections.abc import Iterator
from typing import Any, TypeGuard

from twjax.evaluation.records import Key, key_of
from twjax.report.evaluations import Series, merged, names
from twjax.report.settings import Settings, read_settings
from twjax.training.goodput import CAUSES
from twjax.training.history import History

COLUMNS = (
    "tokens",
    "loss",
    "accuracy",
    "grad_norm",
    "learning_rate",
    "tokens_per_second",
    "step_seconds",
    "time",
    "paused_seconds",
)
# No run has so many steps, and no value so large can be drawn.
_MOST_STEPS, _LARGEST = 10**15, 10**100
# Kinds of evaluations beside bits-per-byte.
KINDS = ("choice", "pairs", "probes", "writing", "generation")

# {step: record}
Steps = dict[int, dict[str, Any]]
Evaluated = dict[Series, Steps]
# {kind: {name: {step: record}}}
Results = dict[str, dict[str, Steps]]


@dataclasses.dataclass(frozen=True)
class Sample:
    """What the model wrote after `prompt` at `step`."""

    step: int
    prompt: str
    text: str


@dataclasses.dataclass(frozen=True)
class RunLog:
    """Everything that a run directory tells.

    `steps` and each list of `columns` are of one length, a value a logged step; a value that was
    not logged is nan. `rows` counts the rows consumed since the run began, at `row_steps`.
    `bits_per_byte` is {task: {step: value}}, steps rising; `results` are the other evaluations;
    both are what `evaluated` says, by name.
    `unreadable` counts by file the lines that were left out, torn by a writer that was killed;
    `not_numbers` counts by column the values that were logged but are not finite.

    A branch's log begins at `branched`. What its trunk logged before that is not in `steps` and
    `columns`, but `twjax.report.trunk` puts it into the rest, with `earlier_tokens`. `missing` is
    the trunk whose log isn't there, and the step at which what is known begins. `seconds` are
    (step, {cause: seconds since the run's first start}), the last one from the ledger where the run
    has ended.
    """

    name: str
    path: pathlib.Path
    steps: list[int]
    columns: dict[str, list[float]]
    row_steps: list[int]
    rows: dict[str, list[int]]
    bits_per_byte: dict[str, dict[int, float]]
    results: Results
    samples: list[Sample]
    ledger: list[dict[str, Any]]
    config: str
    versions: dict[str, Any]
    unreadable: dict[str, int]
    not_numbers: dict[str, int]
    evaluated: Evaluated = dataclasses.field(default_factory=dict)
    branched: int = 0
    earlier_tokens: tuple[tuple[int, float], ...] = ()
    missing: tuple[str, int] | None = None
    seconds: tuple[tuple[int, dict[str, float]], ...] = ()

    @property
    def last_step(self) -> int:
        """The last step of which anything was logged."""
        evaluated = [step for points in self.bits_per_byte.values() for step in points]
        others = [s for of in self.results.values() for points in of.values() for s in points]
        return max([0, *self.steps[-1:], *evaluated, *others])

    @functools.cached_property
    def settings(self) -> Settings:
        """The configuration, as far as this version of twjax can read it."""
        return read_settings(self.path)

    @functools.cached_property
    def history(self) -> History:
        """What the ledger's events led to; empty where they can't be understood."""
        try:
            return History().after(self.ledger)
        except (AttributeError, KeyError, TypeError, ValueError):
            return History()

    @functools.cached_property
    def _known_tokens(self) -> list[tuple[int, float]]:
        pairs = [*self.earlier_tokens, *zip(self.steps, self.columns["tokens"], strict=True)]
        return [(0, 0.0), *(pair for pair in pairs if pair[0] and math.isfinite(pair[1]))]

    def tokens_at(self, step: float) -> float:
        """Returns the tokens trained on by the end of `step`, between logged steps by a line."""
        known = self._known_tokens
        if step <= 0:
            return 0.0
        right = bisect.bisect_left(known, step, key=lambda pair: pair[0])
        if right == len(known):
            last_step, last = known[-1]
            return last * step / last_step if last_step else float("nan")
        if known[right][0] == step:
            return known[right][1]
        (s0, t0), (s1, t1) = known[right - 1], known[right]
        return t0 + (t1 - t0) * (step - s0) / (s1 - s0)


def read_run(path: str | os.PathLike[str], name: str | None = None) -> RunLog:
    """Reads a run directory; `name` is what the report calls it, by default the folder's name.

    Lines torn by a killed writer are left out and counted. Where a resumed run logged a step
    twice, the later record holds, and what was logged past the step it went back to is dropped.
    Raises ValueError for a folder that is absent or has no `metrics.jsonl`.
    """
    path = pathlib.Path(path)
    if not path.is_dir():
        raise ValueError(f"{path}: no such run directory; give the folder that `twjax train` made.")
    metrics = path / "metrics.jsonl"
    if not metrics.is_file():
        raise ValueError(
            f"{path}: holds no metrics.jsonl, so it is not a run directory or nothing was logged "
            "yet; give the folder that `twjax train` made."
        )
    unreadable: dict[str, int] = {}
    train: dict[int, dict[str, Any]] = {}
    evaluated: dict[Key, Steps] = {}
    last = -1
    for record in _records(metrics, unreadable):
        step = record.get("step")
        if not _is_step(step):
            _count(unreadable, metrics)
        elif record.get("kind") == "train":
            if step <= last:
                train = {s: r for s, r in train.items() if s < step}
                for points in evaluated.values():
                    for later in [s for s in points if s > step]:
                        del points[later]
            last = step
            train[step] = record
        elif (key := _key(record)) is not None:
            evaluated.setdefault(key, {})[step] = record
    ledger = list(_records(path / "ledger.jsonl", unreadable))
    beside = _beside(path / "evaluations.jsonl", unreadable)
    records = list(train.values())
    row_steps = [step for step, record in train.items() if isinstance(record.get("rows"), dict)]
    config, versions = path / "config.gin", path / "versions.json"
    return RunLog(
        name=name or path.resolve().name,
        path=path,
        steps=list(train),
        columns={key: [number(r.get(key)) for r in records] for key in COLUMNS},
        row_steps=row_steps,
        rows=row_columns([train[step]["rows"] for step in row_steps]),
        **by_name(merged(evaluated, beside)),
        samples=_samples(path / "samples", unreadable),
        ledger=ledger,
        config=config.read_text(encoding="utf-8", errors="replace") if config.is_file() else "",
        versions=_versions(versions),
        unreadable=unreadable,
        not_numbers={
            key: sum(key in r and not math.isfinite(number(r[key])) for r in records)
            for key in COLUMNS
        },
        seconds=_seconds(train, ledger),
    )


def _seconds(train: Steps, ledger: list[dict[str, Any]]) -> tuple[tuple[int, Any], ...]:
    logged = list(train.items())
    end = ledger[-1] if ledger else {}
    if end.get("event") in ("finish", "stop") and isinstance(end.get("goodput"), dict):
        logged.append((end.get("step"), end["goodput"]))  # type: ignore[arg-type]
    found = []
    for step, record in logged:
        values = record.get("seconds")
        if not _is_step(step) or not isinstance(values, dict):
            continue
        # Older logs count it as starting.
        values = {"restoring": 0.0} | values
        known = {cause: number(values.get(cause)) for cause in CAUSES}
        if all(math.isfinite(value) and value >= 0 for value in known.values()):
            found.append((step, known))
    return tuple(found)


def by_name(evaluated: Evaluated) -> dict[str, Any]:
    """Returns the fields of a `RunLog` that hold evaluations."""
    return {
        "bits_per_byte": {
            task: {step: number(record["bits_per_byte"]) for step, record in points.items()}
            for task, points in _of_kind(evaluated, "eval").items()
        },
        "results": {kind: of for kind in KINDS if (of := _of_kind(evaluated, kind))},
        "evaluated": evaluated,
    }


def _key(record: dict[str, Any]) -> Key | None:
    kind = record.get("kind")
    if kind not in KINDS and not (kind == "eval" and "bits_per_byte" in record):
        return None
    return key_of(record)


def _beside(path: pathlib.Path, unreadable: dict[str, int]) -> dict[Key, Steps]:
    """Reads what `twjax eval` has measured beside the run."""
    found: dict[Key, Steps] = {}
    for record in _records(path, unreadable):
        step, key = record.get("step"), _key(record)
        if not _is_step(step) or key is None:
            _count(unreadable, path)
            continue
        found.setdefault(key, {})[step] = record
    return found


def _of_kind(evaluated: Evaluated, kind: str) -> dict[str, Steps]:
    """Returns {name: {step: record}}, steps rising."""
    called = names(evaluated)
    of = sorted((s for s in evaluated if s.kind == kind), key=lambda s: (*s[:-1], s.size or 0))
    return {called[s]: dict(sorted(evaluated[s].items())) for s in of if evaluated[s]}


def _records(path: pathlib.Path, unreadable: dict[str, int]) -> Iterator[dict[str, Any]]:
    if not path.is_file():
        return
    # Only "\n" ends a record: text inside one may hold U+2028 and other line separators.
    with open(path, encoding="utf-8", errors="replace", newline="\n") as file:
        for line in file:
            if not line.strip():
                continue
            try:
                record = json.loads(line)
            except ValueError:
                record = None
            if isinstance(record, dict):
                yield record
            else:
                _count(unreadable, path)


def _is_step(value: Any) -> TypeGuard[int]:
    return isinstance(value, int) and 0 <= value < _MOST_STEPS


def _count(unreadable: dict[str, int], path: pathlib.Path) -> None:
    unreadable[path.name] = unreadable.get(path.name, 0) + 1


def number(value: Any) -> float:
    """Returns a logged value as a float; nan for what is no number that could be drawn."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return float("nan")
    return float(value) if abs(value) < _LARGEST else float("nan")


def row_columns(counts: list[dict[str, Any]]) -> dict[str, list[int]]:
    """Returns each task's rows at each place; a task that a record lacks has read no more."""
    tasks = sorted({task for count in counts for task in count})
    columns: dict[str, list[int]] = {}
    for task in tasks:
        column, seen = [], 0
        for count in counts:
            value = count.get(task, seen)
            seen = value if isinstance(value, int) else seen
            column.append(seen)
        columns[task] = column
    return columns


def _samples(folder: pathlib.Path, unreadable: dict[str, int]) -> list[Sample]:
    samples = []
    for path in folder.glob("*.jsonl") if folder.is_dir() else ():
        for record in _records(path, unreadable):
            step = record.get("step", path.stem)
            if str(step).isdecimal():
                prompt, text = (str(record.get(key, "")) for key in ("prompt", "text"))
                samples.append(Sample(int(step), prompt, text))
            else:
                _count(unreadable, path)
    return sorted(samples, key=lambda sample: sample.step)


def _versions(path: pathlib.Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except ValueError as error:
        raise ValueError(f"{path}: not valid JSON ({error}); delete it or restore it.") from error
    return value if isinstance(value, dict) else {}
