"""What a mixture law says of a sweep: the loss at a share, and the share that keeps a budget."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any

from twjax.config import ConfigError
from twjax.sweeps import laws
from twjax.sweeps.laws import Critical, Curve, Fit, Prediction
from twjax.sweeps.results import Result, Results

# A law of tokens says nothing of the warm-up: this part of a run is left out.
SKIPPED = 0.4


@dataclasses.dataclass(frozen=True)
class Forecast:
    """One task under a law: the runs that it was fitted to, and what it says.

    `asked` are the predictions at shares that were asked for, with the losses of the runs that were
    held out; `left_out` those of each fitted run by the others.
    """

    task: str
    share: str
    fitted: list[Curve]
    fit: Fit
    asked: list[tuple[Prediction, float | None]]
    left_out: list[tuple[Prediction, float]]

    def fits(self, share: float) -> bool:
        """Whether the law was fitted to a run with this share."""
        return any(_near(curve.share, share) for curve in self.fitted)


def runs_of(results: Results, share: str, where: Mapping[str, str]) -> list[tuple[float, Result]]:
    """Returns (share, point) of the finished points, of those that `where` names if it does.

    `where` is {label: value as text}. Raises ConfigError where points differ in something else
    than the share, or a seed.
    """
    known = {label for point in results.points for label in point.shares}
    if share not in known:
        raise ConfigError(
            f"--share {share}: the sweep has {', '.join(sorted(known)) or 'no swept shares'}; "
            "shares are those of Sweep.shares."
        )
    for label in where:
        if label not in results.settings:
            raise ConfigError(
                f"--where {label}: the sweep has {', '.join(results.settings)} among its settings."
            )
    points = [
        point
        for point in results.finished
        if all(_same(point.settings.get(label), value) for label, value in where.items())
    ]
    for label in results.settings:
        if label == share or label in where or "seed" in label.lower():
            continue
        values = list(dict.fromkeys(str(point.settings.get(label)) for point in points))
        if len(values) > 1:
            raise ConfigError(
                f"Points differ in {label} too ({', '.join(values)}): choose one with --where "
                f"{label}=VALUE."
            )
    return [(float(point.settings[share]), point) for point in points]


def _same(value: Any, text: str) -> bool:
    try:
        return float(value) == float(text)
    except (TypeError, ValueError):
        return str(value) == text


def curves(
    runs: Sequence[tuple[float, Result]], task: str, *, until: int | None = None
) -> list[Curve]:
    """Returns the course of a task in each run, without its beginning; `until` is a last step."""
    found, size = [], None
    for share, point in runs:
        outcome = point.outcomes.get(task)
        if outcome is None or outcome.unit != "bits_per_byte":
            known = [n for n, o in point.outcomes.items() if o.unit == "bits_per_byte"]
            raise ConfigError(
                f"--task {task}: {point.name} was evaluated on {', '.join(known) or 'nothing'}."
            )
        size = size if found else outcome.size
        last = outcome.steps[-1] if until is None else until
        places = [i for i, s in enumerate(outcome.steps) if SKIPPED * last <= s <= last and s > 0]
        if not places or not outcome.tokens:
            raise ConfigError(f"{point.name}: has no evaluation of {task} after its beginning.")
        if outcome.size != size:
            raise ConfigError(
                f"{task}: {point.name} was evaluated on {_bytes(outcome.size)} of text, "
                f"{runs[0][1].name} on {_bytes(size)}; a law needs one measure. Evaluate all "
                "points on the same rows."
            )
        tokens = tuple(outcome.tokens[i] for i in places)
        found.append(Curve(share, tokens, tuple(outcome.values[i] for i in places)))
    return found


def _bytes(size: int | None) -> str:
    return "an unknown number of bytes" if size is None else f"{size:,} bytes"


def forecast(
    runs: Sequence[tuple[float, Result]],
    share: str,
    task: str,
    *,
    law: str = "share",
    asked: Sequence[float] = (),
    held_out: Sequence[float] = (),
    level: float = 0.9,
) -> Forecast:
    """Fits a law to a task's losses in all runs but those held out; predicts at those and `asked`.

    Raises ValueError when there are too few runs, and ConfigError for a held-out share that nobody
    ran or a share beyond those that the law was fitted to.
    """
    every = curves(runs, task)
    for value in held_out:
        if not any(_near(curve.share, value) for curve in every):
            shares = ", ".join(f"{s:g}" for s in sorted({c.share for c in every}))
            raise ConfigError(
                f"--hold-out {value:g}: no finished point has it; there are {shares}."
            )
    fitted = [c for c in every if not any(_near(c.share, value) for value in held_out)]
    found = laws.fit(fitted, law)
    answers: list[tuple[Prediction, float | None]] = []
    for value in dict.fromkeys((*held_out, *asked)):
        if not min(found.shares) <= value <= max(found.shares):
            raise ConfigError(
                f"{share} {value:g} is beyond the shares that were run ({min(found.shares):g} to "
                f"{max(found.shares):g}); a law isn't to be trusted there. Run a point beyond it."
            )
        prediction = found.predict(value, level)
        hidden = any(_near(value, share) for share in held_out)
        ran = [curve.losses[-1] for curve in every if hidden and _near(curve.share, value)]
        answers += [(prediction, loss) for loss in ran] or [(prediction, None)]
    return Forecast(task, share, fitted, found, answers, laws.left_out(fitted, law, level))


def _near(one: float, other: float) -> bool:
    return math.isclose(one, other, rel_tol=1e-6, abs_tol=1e-9)


# From a share to another.
Range = tuple[float, float]


@dataclasses.dataclass(frozen=True)
class Enough:
    """Which shares keep what tasks are allowed: by the law, and with its whole error bar.

    `allowed` is {task: rise} and `baselines` the losses at step 0 that they may rise over.
    `between` are the least and the greatest share that were run: nothing is known beyond them.
    None: no share between them does. `rising` is whether losses rise with the share, for each task.
    """

    allowed: dict[str, float]
    baselines: dict[str, float]
    between: Range
    rising: tuple[bool, ...]
    share: Range | None
    safe: Range | None


def enough(
    runs: Sequence[tuple[float, Result]],
    share: str,
    allowed: Mapping[str, float],
    *,
    law: str = "share",
    held_out: Sequence[float] = (),
    level: float = 0.9,
) -> list[Enough]:
    """Returns what keeps each of {task: rise over step 0 in bits per byte}, and last all of them.

    Some losses may fall and others rise with the share, so all are looked at together.
    """
    fits = {
        task: forecast(runs, share, task, law=law, held_out=held_out, level=level).fit
        for task in allowed
    }
    first = {task: baseline(runs, task) for task in allowed}

    def of(tasks: Sequence[str]) -> Enough:
        limits = [(fits[task], first[task] + allowed[task]) for task in tasks]
        shares = [share for fit, _ in limits for share in fit.shares]
        return Enough(
            {task: allowed[task] for task in tasks},
            {task: first[task] for task in tasks},
            (min(shares), max(shares)),
            tuple(fit.rising for fit, _ in limits),
            laws.kept(limits, None),
            laws.kept(limits, level),
        )

    return [*(of([task]) for task in allowed), of(list(allowed))]


def baseline(runs: Sequence[tuple[float, Result]], task: str) -> float:
    """Returns a task's loss at step 0, which all runs have in common."""
    starts = {p.outcomes[task].values[0] for _, p in runs if p.outcomes[task].steps[0] == 0}
    if not starts or max(starts) - min(starts) > 1e-3:
        raise ConfigError(
            f"{task}: the points have no loss at step 0 in common "
            f"({', '.join(f'{s:.4f}' for s in sorted(starts)) or 'none was evaluated there'}), so "
            "there is nothing that it could rise over."
        )
    return sum(starts) / len(starts)


@dataclasses.dataclass(frozen=True)
class Ratios:
    """The critical ratio of new text at (tokens) of each evaluation, and its law.

    None: no share that was run keeps all allowances. Ratios are at most `greatest`, which the least
    share that was run leaves: there it may be more. Fewer than five others have no law.
    """

    table: list[tuple[float, float | None]]
    greatest: float
    law: Critical | None


def critical(
    runs: Sequence[tuple[float, Result]],
    allowed: Mapping[str, float],
    *,
    held_out: Sequence[float] = (),
) -> Ratios:
    """Returns the greatest share of new text that keeps all allowances, at each evaluation.

    It is that of the share law fitted to the losses of the evaluation, without the held-out shares.
    """
    first = {task: baseline(runs, task) for task in allowed}
    runs = [run for run in runs if not any(_near(run[0], value) for value in held_out)]
    greatest = 1 - min(share for share, _ in runs)
    task = next(iter(allowed))
    steps = [s for s in runs[0][1].outcomes[task].steps if s > 0]
    table: list[tuple[float, float | None]] = []
    for step in steps[int(len(steps) * SKIPPED) :]:
        until = {name: curves(runs, name, until=step) for name in allowed}
        limits = [(laws.fit(until[name], "share"), first[name] + allowed[name]) for name in allowed]
        shares = laws.kept(limits, None)
        tokens = until[task][0].tokens[-1]
        table.append((tokens, None if shares is None else 1 - shares[0]))
    inside = [(t, ratio) for t, ratio in table if ratio is not None and ratio < greatest - 1e-9]
    law = laws.critical_law(*zip(*inside, strict=True)) if len(inside) >= 5 else None
    return Ratios(table, greatest, law)
