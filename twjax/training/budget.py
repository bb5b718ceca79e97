"""What a forgetting budget decides at an evaluation: a pure function of what came before."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Any, Literal

from twjax.config import Budget

Action = Literal["observe", "hold", "steer", "go_on", "stop", "lower_rate", "roll_back"]
# Within this part of an allowance around the aim, a share stays: evaluations are noisy.
_DEADBAND = 0.1
_FASTEST = 2.0
_DIGITS = 4


@dataclasses.dataclass(frozen=True, kw_only=True)
class Look:
    """One evaluation as the budget saw it, and what followed.

    `used` is {protected task: its rise over step 0 as a part of its allowance}; `shares` are those
    of the replay tasks from here on, and `rate` the factor of the learning rate. `beyond` counts
    the evaluations in a row at which something was beyond its allowance with replay at its most.
    """

    step: int
    used: dict[str, float]
    shares: dict[str, float]
    action: Action
    rate: float = 1.0
    beyond: int = 0

    @property
    def within(self) -> bool:
        """Whether every protected task is within its allowance."""
        return all(used <= 1 for used in self.used.values())

    def record(self) -> dict[str, Any]:
        """Returns what the ledger keeps, the step apart."""
        return {k: v for k, v in dataclasses.asdict(self).items() if k != "step"}

    @classmethod
    def parse(cls, event: Mapping[str, Any]) -> Look:
        """Reads an event of the ledger."""
        return cls(**{field.name: event[field.name] for field in dataclasses.fields(cls)})


def decide(
    budget: Budget,
    step: int,
    bits: Mapping[str, float],
    baseline: Mapping[str, float],
    before: Look | None,
    shares: Mapping[str, float],
    *,
    rollbacks: int = 0,
) -> Look:
    """Returns what follows from an evaluation.

    `bits` are bits per byte by task, `baseline` those of step 0. `before` is the look before this
    one; `shares` are the shares of the replay tasks until now; `rollbacks` is how many there were.

    A proportional-derivative law on the logarithm of a share: it answers to where the rise will be
    `Budget.ahead` evaluations on if its trend lasts, so that a share is raised while the loss still
    climbs, and not lowered again while it falls back.
    """
    used = {
        task: round((bits[task] - baseline[task]) / rise, 6)
        for task, rise in budget.allowed.items()
    }
    rate = before.rate if before else 1.0
    now = {task: shares[task] for task in sorted(set(budget.replay.values()))}
    if budget.mode == "observe":
        return Look(step=step, used=used, shares=now, action="observe", rate=rate)
    if before is None:
        # Step 0 is the baseline itself.
        return Look(step=step, used=used, shares=now, action="hold", rate=rate)

    full = sum(now.values()) >= budget.most - 10.0**-_DIGITS * len(now)
    look = Look(
        step=step,
        used=used,
        shares=_steered(budget, used, before.used, now),
        action="steer",
        rate=rate,
        beyond=before.beyond + 1 if full and max(used.values()) > 1 else 0,
    )
    if look.shares == now:
        look = dataclasses.replace(look, action="hold")
    if look.beyond < budget.patience:
        return look
    if budget.beyond == "lower_rate":
        return dataclasses.replace(
            look, action="lower_rate", rate=rate * budget.rate_factor, beyond=0
        )
    if budget.beyond == "roll_back" and rollbacks < budget.rollbacks:
        return dataclasses.replace(look, action="roll_back", beyond=0)
    return dataclasses.replace(look, action="stop" if budget.beyond == "stop" else "go_on")


def rolled_back(budget: Budget, look: Look, to: Look) -> Look:
    """Returns what a run goes on with at the step of `to` when `look` rolls it back there."""
    factor = budget.most / sum(look.shares.values())
    shares = _bounded(budget, {task: share * factor for task, share in look.shares.items()})
    return dataclasses.replace(to, shares=shares, action="steer", rate=look.rate, beyond=0)


def _steered(
    budget: Budget,
    used: Mapping[str, float],
    before: Mapping[str, float],
    shares: Mapping[str, float],
) -> dict[str, float]:
    factors: dict[str, float] = {}
    free: dict[str, float] = {}
    for task, part in used.items():
        expected = part + budget.ahead * (part - before.get(task, part))
        missed = expected - budget.margin
        factor = 1.0
        if abs(missed) > _DEADBAND:
            factor = math.exp(budget.gain * missed) if missed < 20 else _FASTEST
        replay = budget.replay[task]
        # A task that renews several domains follows the one in the greatest need.
        factors[replay] = max(factors.get(replay, 0.0), min(factor, _FASTEST))
        free[replay] = min(free.get(replay, 1.0), max(1.0 - expected, 0.0))
    least = {task: share / _FASTEST for task, share in shares.items()}
    moved = {task: max(share * factors[task], least[task]) for task, share in shares.items()}
    return _bounded(budget, _relieved(budget, moved, least, free))


def _relieved(
    budget: Budget,
    shares: Mapping[str, float],
    least: Mapping[str, float],
    free: Mapping[str, float],
) -> dict[str, float]:
    """Takes what is over `Budget.most` from those whose allowance is least used, to `least` each.

    `free` is the part of the allowance that each will have left. Were all cut alike, a domain in
    need would lose replay to those that have more than they need.
    """
    weights = {task: share * free[task] for task, share in shares.items()}
    excess, whole = sum(shares.values()) - budget.most, sum(weights.values())
    if excess <= 0 or not whole:
        return dict(shares)
    taken = excess / whole
    return {task: max(share - weights[task] * taken, least[task]) for task, share in shares.items()}


def _bounded(budget: Budget, shares: Mapping[str, float]) -> dict[str, float]:
    """Brings the sum of shares into the budget's bounds; none vanishes."""
    least = budget.least / (2 * len(shares))
    shares = {task: max(share, least) for task, share in shares.items()}
    total = sum(shares.values())
    factor = min(max(total, budget.least), budget.most) / total
    unit = 10.0**-_DIGITS
    return {task: round(max(share * factor, unit), _DIGITS) for task, share in shares.items()}
