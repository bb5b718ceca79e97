"""Configurations of runs as the report reads them, and what differs between them."""

from __future__ import annotations

import dataclasses
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

from twjax.config import Model, Run, flatten, load

_ABSENT = "–"


@dataclasses.dataclass(frozen=True)
class Settings:
    """A run's configuration; where `run` is None, `problem` says why."""

    run: Run | None
    problem: str = ""


def read_settings(folder: pathlib.Path) -> Settings:
    """Reads the frozen configuration of a run directory."""
    file = folder / "config.gin"
    if not file.is_file():
        return Settings(None, f"{file} is not there")
    try:
        return Settings(load(Run, [file]).value)
    except (OSError, ValueError) as error:
        return Settings(None, f"this twjax can't read it: {str(error).rstrip('.')}")


def source_folder(run: Run) -> pathlib.Path | None:
    """Returns the folder that `Run.init` names; None for random weights."""
    if run.init is None:
        return None
    scheme, _, name = run.init.partition(":")
    if scheme == "run" and "@" in name and name.rpartition("@")[2].isdigit():
        name = name.rpartition("@")[0]
    return pathlib.Path(name)


def against_source(run: Run) -> tuple[str, list[tuple[str, ...]]]:
    """Returns where a run's weights came from, and what its configuration has otherwise.

    The lines are (setting, value there, value here). An imported model has only a `Model`. Where
    there is nothing to compare with, there are no lines, and the text says why.
    """
    folder = source_folder(run)
    if folder is None:
        return "This run began with random weights.", []
    there = read_settings(folder)
    if there.run is not None:
        return f"Against {folder}, which it began with.", table([there.run, run])
    model = folder / "model.gin"
    if model.is_file():
        try:
            imported = load(Model, [model]).value
        except (OSError, ValueError) as error:
            return f"{model}: {error}", []
        lines = table([imported, run.model])
        return f"The model, against {folder}, which it began with.", lines
    return f"{folder}, which it began with, can't be compared: {there.problem}.", []


def table(configs: Sequence[Any]) -> list[tuple[str, ...]]:
    """Returns (setting, its value in each configuration) where they aren't all the same.

    Mappings and stages are taken apart, so that a line shows what differs and no more.
    """
    leaves = [_leaves(flatten(config)) for config in configs]
    usual: dict[str, str] = {}
    for config in configs:
        usual |= _leaves(_defaults(config))
    lines = []
    for path in dict.fromkeys(path for of in leaves for path in of):
        values = [of.get(path) or _absent(of, path) for of in leaves]
        # Of a part that only some have, such as a budget, what was chosen is enough.
        there = set(values) - {_ABSENT}
        if len(set(values)) > 1 and there != {usual.get(path)}:
            lines.append((path, *values))
    return lines


def _absent(leaves: Mapping[str, str], path: str) -> str:
    return "given" if any(other.startswith(f"{path}.") for other in leaves) else _ABSENT


def _leaves(values: Mapping[str, Any]) -> dict[str, str]:
    found: dict[str, str] = {}
    for path, value in values.items():
        if isinstance(value, Mapping):
            found |= _leaves({f"{path}[{key}]": item for key, item in value.items()})
        elif _is_stages(value):
            found |= _leaves({f"{path}, from {start}": item for start, item in value})
        elif isinstance(value, float):
            found[path] = f"{value:.6g}"
        else:
            found[path] = value if isinstance(value, str) and value else repr(value)
    return found


def _defaults(config: Any, prefix: str = "") -> dict[str, Any]:
    """Returns {dotted path: value} of what a tree of dataclasses has where nobody chose."""
    found: dict[str, Any] = {}
    for field in dataclasses.fields(config):
        path, value = f"{prefix}{field.name}", getattr(config, field.name)
        if dataclasses.is_dataclass(value):
            found |= _defaults(value, f"{path}.")
        elif field.default is not dataclasses.MISSING:
            found[path] = field.default
        elif field.default_factory is not dataclasses.MISSING:
            found[path] = field.default_factory()
    return found


def _is_stages(value: Any) -> bool:
    """Whether a value is ((first step, what holds from there on), …)."""
    return (
        isinstance(value, tuple)
        and bool(value)
        and all(isinstance(pair, tuple) and len(pair) == 2 for pair in value)
    )
