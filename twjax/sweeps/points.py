"""The points of a sweep: each a configuration with a name, checked before any of them runs."""

from __future__ import annotations

import collections
import dataclasses
import hashlib
import pathlib
import re
from collections.abc import Mapping, Sequence
from typing import Any

from twjax.config import ConfigError, Loaded, Run, load, resolve
from twjax.config.sweep import Sweep, shared
from twjax.data.loader import open_course
from twjax.data.rows import RowReader

LONGEST = 100


@dataclasses.dataclass(frozen=True)
class Point:
    """One run of a sweep.

    `name` is that of its folder; `settings` are what is swept, {label: value}, and `shares` those
    of them that are shares of the mixture. The run is `config` with `overrides`, and `more`
    arguments of `twjax train`.
    """

    name: str
    settings: dict[str, Any]
    shares: tuple[str, ...]
    config: str
    overrides: tuple[str, ...]
    run: Loaded[Run]
    more: tuple[str, ...] = ()


def expand(sweep: Sweep) -> list[Point]:
    """Returns the points of a sweep; raises ConfigError that names the point at fault."""
    config = str(resolve(sweep.base))
    labels = _labels(sweep)
    points = []
    for bindings, shares in sweep.combinations():
        settings = {labels[name]: value for name, value in (bindings | shares).items()}
        name = point_name(settings)
        overrides = [f"{key} = {value!r}" for key, value in (sweep.fixed | bindings).items()]
        try:
            run = load(Run, [config], overrides)
            if shares:
                stages = shared(run.value.data.mixture.stages, shares, sweep.parts)
                overrides.append(f"Mixture.stages = {stages!r}")
                run = load(Run, [config], overrides)
                _refuse_steered(run.value)
        except ValueError as error:
            raise ConfigError(f"Point {name}: {error}") from error
        points.append(Point(name, settings, tuple(shares), config, tuple(overrides), run))
    refuse_twins(points)
    return points


def _refuse_steered(run: Run) -> None:
    if run.budget is not None and run.budget.mode == "steer":
        raise ConfigError(
            "Budget.mode is 'steer', which sets other shares than Sweep.shares; set it to "
            "'observe' in Sweep.fixed, or Run.budget to None."
        )


def refuse_twins(points: Sequence[Point]) -> None:
    """Raises ConfigError when two points would have the same folder."""
    times = collections.Counter(point.name for point in points)
    twins = [name for name, count in times.items() if count > 1]
    if twins:
        raise ConfigError(
            f"Sweep: {len(twins)} points stand there more than once ({', '.join(twins[:3])}); "
            "give every combination of values once."
        )


def point_name(settings: Mapping[str, Any]) -> str:
    """Returns a name for a folder that can be read: "replay=0.1,peak=0.0003"."""
    name = ",".join(f"{label}={_text(value)}" for label, value in settings.items())
    if len(name) > LONGEST:
        name = f"{name[: LONGEST - 9]}-{_digest(name)}"
    return name


def _labels(sweep: Sweep) -> dict[str, str]:
    """Returns a short name of every swept setting: its field, unless two have the same."""
    bindings = [*{name: 0 for point in sweep.points for name in point}, *sweep.grid]
    short = collections.Counter([*(n.split(".")[1] for n in bindings), *sweep.shares])
    labels = {n: f if short[f := n.split(".")[1]] == 1 else n for n in bindings}
    return labels | {name: name for name in sweep.shares}


def _text(value: Any) -> str:
    if isinstance(value, float):
        short = f"{value:g}"
        return short if float(short) == value else repr(value)
    if value is None or isinstance(value, int):
        return str(value)
    if isinstance(value, str) and re.fullmatch(r"[\w./:@+-]{1,40}", value):
        # The end of a path says more than its beginning, and a folder's name has no slash.
        return re.sub(r"[/:@]", "-", value.strip("/").rpartition("/")[2] or value)
    return _digest(repr(value))


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:8]


def check_points(points: Sequence[Point]) -> None:
    """Raises ConfigError that lists every point whose rows aren't there, or whose source isn't."""
    problems: dict[str, list[str]] = {}
    for point in points:
        for problem in _problems(point):
            problems.setdefault(problem, []).append(point.name)
    if problems:
        lines = [
            f"{problem} ({names[0]}{f' and {len(names) - 1} more' if len(names) > 1 else ''})"
            for problem, names in problems.items()
        ]
        raise ConfigError(" | ".join(lines))


def _problems(point: Point) -> list[str]:
    run, found = point.run.value, []
    try:
        reading = run.reading
        open_course(run.data, ((0, reading),), steps=run.steps, config=point.config)
    except (OSError, ValueError) as error:
        found += str(error).split(" | ")
    for task in run.evaluation.tasks:
        data = run.data
        try:
            RowReader(
                data.cache, task, run.evaluation.split, data.seq_len, config=point.config
            )  # fmt: skip
        except (OSError, ValueError) as error:
            found.append(str(error))
    kind, _, rest = (run.init or "").partition(":")
    folder = rest if pathlib.Path(rest).is_dir() else rest.rpartition("@")[0]
    if kind in ("run", "hf") and not pathlib.Path(folder or rest).is_dir():
        found.append(f"Run.init ({run.init!r}): there is no such folder; train or convert it first")
    return found
