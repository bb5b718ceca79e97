"""A sweep: a base run, and what is bound differently at each of its points."""

from __future__ import annotations

import dataclasses
import itertools
import re
from collections.abc import Mapping
from typing import Any

from twjax.config.checks import require
from twjax.config.data import When

_BINDING = re.compile(r"[A-Za-z_]\w*\.\w+")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Sweep:
    """Runs that differ in a few settings: one for every combination of what is swept.

    `base` is the gin file of a run and `fixed` {binding: value} what all points bind over it.
    `grid` is {binding: (value, ...)}: 'Schedule.peak': (1e-4, 3e-4). `shares` is {name: (share,
    ...)} with `parts` {name: {task: weight}}: at a point these tasks together have that share of
    each stage of the base's mixture, and all others keep their proportions in the rest. `points`
    are bindings that go together, ({binding: value, ...}, ...); each is combined with all others.
    """

    base: str
    fixed: dict[str, Any] = dataclasses.field(default_factory=dict)
    grid: dict[str, tuple[Any, ...]] = dataclasses.field(default_factory=dict)
    shares: dict[str, tuple[float, ...]] = dataclasses.field(default_factory=dict)
    parts: dict[str, dict[str, float]] = dataclasses.field(default_factory=dict)
    points: tuple[dict[str, Any], ...] = ()

    def __post_init__(self) -> None:
        require(
            bool(self.grid or self.shares or self.points),
            "Sweep: nothing is swept; give Sweep.grid, Sweep.shares or Sweep.points.",
        )
        bound = [("fixed", list(self.fixed)), ("grid", list(self.grid))]
        bound += [("points", list(bindings)) for bindings in self.points]
        for field, names in bound:
            for name in names:
                require(
                    _BINDING.fullmatch(name) is not None,
                    f"Sweep.{field}: {name!r} must be CLASS.FIELD, as in 'Schedule.peak'.",
                )
        for field in ("grid", "shares"):
            for name, values in getattr(self, field).items():
                require(len(values) > 0, f"Sweep.{field} of {name} is empty; give its values.")
        swept = [*self.grid, *{name: 0 for bindings in self.points for name in bindings}]
        for name in swept:
            require(
                name not in self.fixed and swept.count(name) == 1,
                f"Sweep: {name} is bound twice, by two of Sweep.fixed, Sweep.grid, Sweep.points.",
            )
        require(
            self.shares.keys() == self.parts.keys(),
            f"Sweep.parts names {sorted(self.parts)}, Sweep.shares {sorted(self.shares)}: every "
            "swept share needs the tasks that it is of.",
        )
        require(
            not self.shares or "Mixture.stages" not in swept,
            "Sweep: Mixture.stages is swept beside Sweep.shares, which change it too.",
        )
        self._check_shares()

    def _check_shares(self) -> None:
        seen: dict[str, str] = {}
        for name, weights in self.parts.items():
            require(
                bool(weights) and all(weight > 0 for weight in weights.values()),
                f"Sweep.parts of {name} ({weights}): give {{task: weight}} with positive weights.",
            )
            for task in weights:
                require(
                    task not in seen,
                    f"Sweep.parts: {task} is a part of both {seen.get(task)} and {name}.",
                )
                seen[task] = name
            for share in self.shares[name]:
                require(
                    0 <= share <= 1,
                    f"Sweep.shares of {name} ({share}) must be between 0 and 1.",
                )
        most = sum(max(values) for values in self.shares.values())
        require(
            most <= 1 + 1e-9,
            f"Sweep.shares: the largest add up to {most:g}, which is more than the whole mixture.",
        )

    def combinations(self) -> list[tuple[dict[str, Any], dict[str, float]]]:
        """Returns (bindings, shares) of all points, the last swept setting changing fastest."""
        found = []
        for bindings in self.points or ({},):
            for values in itertools.product(*self.grid.values()):
                for shares in itertools.product(*self.shares.values()):
                    grid = dict(zip(self.grid, values, strict=True))
                    found.append(
                        ({**bindings, **grid}, dict(zip(self.shares, shares, strict=True)))
                    )
        return found


def shared(
    stages: tuple[tuple[When, dict[str, float]], ...],
    shares: Mapping[str, float],
    parts: Mapping[str, Mapping[str, float]],
) -> tuple[tuple[When, dict[str, float]], ...]:
    """Returns stages in which the tasks of each part have their share, and the others the rest.

    Shares of each stage add up to 1. Raises ValueError for a stage that has nothing to fill the
    rest with.
    """
    inside = {task for weights in parts.values() for task in weights}
    rest = 1 - sum(shares.values())
    found = []
    for start, weights in stages:
        others = {task: w for task, w in weights.items() if task not in inside and w > 0}
        require(
            bool(others) or rest < 1e-9,
            f"Sweep.shares ({dict(shares)}) leave {rest:g} of the stage of Mixture.stages from "
            f"step {start} on, which has no task outside of Sweep.parts.",
        )
        whole = sum(others.values())
        stage = {task: w / whole * rest for task, w in others.items() if rest >= 1e-9}
        for name, part in parts.items():
            total = sum(part.values())
            stage |= {task: w / total * shares[name] for task, w in part.items() if shares[name]}
        found.append((start, {task: round(w, 9) for task, w in stage.items()}))
    return tuple(found)


def decay_bindings(step: int, decay: int) -> list[str]:
    """Returns what makes a run that branches off at `step` end with a decay of so many steps."""
    steps = step + decay
    return [f"Run.steps = {steps}", f"Schedule.decay_fraction = {decay / steps!r}"]
