"""The anneal probe: a checkpoint decays on each candidate text, and what that gains is compared.

A candidate takes a share of the mixture while the learning rate falls to its end, as Llama 3 judged
data sets by annealing a half-trained 8B on 30% of the new text and 70% of its own (Grattafiori et
al. 2024), and OLMo 2 chose what its last stage reads. One short run a candidate says more
of small data sets than a mixture law, which needs several shares of each.
"""

from __future__ import annotations

import dataclasses
import math
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

from twjax.config import ConfigError, Loaded, Run, load
from twjax.config.data import When
from twjax.config.sweep import decay_bindings, shared
from twjax.sweeps.points import Point, point_name, refuse_twins
from twjax.sweeps.results import Results
from twjax.training import ledger

CANDIDATE, NONE = "candidate", "none"


@dataclasses.dataclass(frozen=True)
class Trunk:
    """The checkpoint that branches begin with, and the configuration of its run."""

    folder: pathlib.Path
    step: int
    config: str
    run: Loaded[Run]

    @classmethod
    def parse(cls, text: str, bindings: Sequence[str] = ()) -> Trunk:
        """Finds "RUN@STEP"; `bindings` are bound over the run's configuration."""
        folder, _, step = text.rpartition("@")
        if not folder or not step.isdigit():
            raise ConfigError(
                f"{text}: give the run and the step of one of its checkpoints, as in "
                "runs/trunk@5000."
            )
        config = pathlib.Path(folder) / "config.gin"
        if not config.is_file():
            raise ConfigError(f"{folder}: not a run directory (no config.gin).")
        checkpoints = pathlib.Path(folder) / "checkpoints"
        steps = sorted(int(p.name) for p in checkpoints.glob("*") if p.name.isdigit())
        if int(step) not in steps:
            raise ConfigError(f"{folder}: no checkpoint of step {step}; has {steps}.")
        return cls(
            pathlib.Path(folder), int(step), str(config), load(Run, [config], list(bindings))
        )

    def refuse_steered(self) -> None:
        """Raises ConfigError where a budget sets shares: a candidate would not have its own."""
        budget, events = self.run.value.budget, ledger.read(self.folder)
        # What was tried before without a checkpoint decides nothing.
        begun = max((n for n, event in enumerate(events) if event["event"] == "start"), default=0)
        if budget is not None and budget.mode == "steer":
            why = "Budget.mode is 'steer', so branches would"
        elif any(_steers(event, self.step) for event in events[begun:]):
            why = "a forgetting budget has set its shares of replay, so branches would"
        else:
            return
        raise ConfigError(
            f"{self.folder}: {why} read the shares that the budget sets, not --share of a "
            "candidate. Probe from a run with Budget.mode = 'observe', or without a budget."
        )


def _steers(event: Mapping[str, Any], step: int) -> bool:
    """Whether an event of a ledger sets the shares that are read after a step."""
    if event["event"] == "branch":
        return any(_steers(other, step) for other in event["events"])
    looks = event["event"] in ("budget", "roll_back")
    action = event.get("look", event).get("action") if looks else None
    return action not in (None, "observe", "hold") and event["step"] <= step


def branches(
    trunk: Trunk,
    candidates: Sequence[str],
    *,
    share: float,
    steps: int,
    bindings: Sequence[str] = (),
) -> list[Point]:
    """Returns a point for each candidate, after one that decays on the trunk's own mixture.

    Up to the checkpoint the branches' stages are the trunk's; from there on the candidate has
    `share` of the rows, and the stage of "decay" (or the one in force) the rest.
    """
    if not 0 < share < 1 or steps < 1 or not candidates:
        raise ConfigError(
            f"--share ({share:g}) must be above 0 and below 1, --steps ({steps}) at least 1, and "
            f"--candidates name a task."
        )
    if not trunk.run.value.schedule.decays:
        raise ConfigError(
            f"{trunk.config}: Schedule.kind ({trunk.run.value.schedule.kind!r}) has no decay of "
            "its own to probe with; the trunk must be a 'wsd' or 'infinite' run."
        )
    trunk.refuse_steered()
    stages = trunk.run.value.data.mixture.stages
    begun = tuple((start, w) for start, w in stages if start != "decay" and start <= trunk.step)
    now = stages[-1][1] if stages[-1][0] == "decay" else begun[-1][1]
    before = tuple((start, w) for start, w in begun if start < trunk.step)
    points = []
    for candidate in (NONE, *candidates):
        mixed: tuple[tuple[When, dict[str, float]], ...] = ((trunk.step, now),)
        if candidate != NONE:
            mixed = shared(mixed, {CANDIDATE: share}, {CANDIDATE: {candidate: 1.0}})
        more = [*bindings, f"Mixture.stages = {(*before, *mixed)!r}"]
        settings = {CANDIDATE: candidate}
        try:
            decaying = [*more, *decay_bindings(trunk.step, steps)]
            run = load(Run, [trunk.config], decaying)
        except ValueError as error:
            raise ConfigError(f"Candidate {candidate}: {error}") from error
        arguments = ("--branch-from", f"{trunk.folder}@{trunk.step}", "--decay", str(steps))
        name = point_name(settings)
        points.append(Point(name, settings, (), trunk.config, tuple(more), run, arguments))
    refuse_twins(points)
    return points


def table(results: Results) -> list[tuple[str, ...]]:
    """Returns lines, the header first: last values by domain, and what each candidate changes.

    Branches that aren't finished are compared with nothing: their last value may be the trunk's.
    """
    names = results.outcomes
    plain = next((p for p in results.finished if p.settings.get(CANDIDATE) == NONE), None)
    lines: list[tuple[str, ...]] = [(CANDIDATE, "state", *names)]
    for point in results.points:
        cells = []
        compared = plain if point is not plain and point.state == "finished" else None
        for name in names:
            value, other = point.last(name), compared.last(name) if compared else math.nan
            cell = "–" if math.isnan(value) else f"{value:.4f}"
            if not math.isnan(value - other):
                cell += f" ({value - other:+.4f})"
            cells.append(cell)
        lines.append((str(point.settings[CANDIDATE]), point.state, *cells))
    return lines
