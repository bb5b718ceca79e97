"""What may be forgotten: protected domains, and what is done to keep them."""

from __future__ import annotations

import dataclasses
from typing import Literal

from twjax.config.checks import require, require_at_least, require_positive


@dataclasses.dataclass(frozen=True, kw_only=True)
class Budget:
    """A forgetting budget: how far the loss of protected domains may rise, and how that is kept.

    `allowed` is {task of Evaluation.tasks: bits per byte that it may rise over step 0}. `replay` is
    {protected task: task of Mixture.stages whose rows renew it}. With `mode` "observe" each
    evaluation only says how much of the budget is used; with "steer" it sets the share of each
    replay task, from what the stages give it at first; with "off" nothing is looked at.

    `least` and `most` bound the sum of those shares. `margin` is the part of an allowance that is
    aimed at, `gain` how strongly a share answers to the part of the allowance that is missed (its
    logarithm moves by `gain` times that), `ahead` for how many evaluations the trend is drawn on.
    A share at most doubles, or halves, at an evaluation, unless `most` asks for more.

    `beyond` is what happens when a domain has been beyond its allowance for `patience` evaluations
    although replay is at `most`: the run goes on, stops, multiplies the learning rate by
    `rate_factor`, or rolls back to the last checkpoint that was within all allowances (at most
    `rollbacks` times, then it goes on) and starts from there with replay at `most`.
    """

    allowed: dict[str, float]
    replay: dict[str, str]
    mode: Literal["off", "observe", "steer"] = "steer"
    least: float = 0.02
    most: float = 0.5
    margin: float = 0.7
    gain: float = 0.3
    ahead: float = 0.5
    beyond: Literal["go_on", "stop", "lower_rate", "roll_back"] = "go_on"
    patience: int = 2
    rate_factor: float = 0.5
    rollbacks: int = 2

    def __post_init__(self) -> None:
        require(len(self.allowed) > 0, "Budget.allowed is empty; name what is to be protected.")
        for task, rise in self.allowed.items():
            require(
                0 < rise < float("inf"),
                f"Budget.allowed of {task} ({rise}) must be positive: bits per byte over step 0.",
            )
        require(
            self.allowed.keys() == self.replay.keys(),
            f"Budget.replay names {_names(self.replay)}, Budget.allowed {_names(self.allowed)}: "
            "every protected task needs the task that renews it.",
        )
        require(
            0 < self.least <= self.most < 1,
            f"Budget.least ({self.least}) and Budget.most ({self.most}) are shares: 0 < least <= "
            "most < 1.",
        )
        require(
            0 < self.margin <= 1,
            f"Budget.margin ({self.margin}) is a part of an allowance: above 0, up to 1.",
        )
        require_positive(self, "gain")
        require_at_least(self, 0, "ahead", "rollbacks")
        require_at_least(self, 1, "patience")
        require(
            0 < self.rate_factor < 1,
            f"Budget.rate_factor ({self.rate_factor}) must be above 0 and below 1.",
        )

    def check(
        self, stages: tuple[tuple[object, dict[str, float]], ...], evaluated: tuple[str, ...]
    ) -> None:
        """Raises ValueError for a protected task that isn't scored, or one that no stage replays.

        `stages` are the mixture's, `evaluated` the tasks that evaluations score.
        """
        missing = sorted(self.allowed.keys() - set(evaluated))
        require(
            not missing,
            f"Budget.allowed: {_names(missing)} has no baseline, as Evaluation.tasks "
            f"({_names(evaluated)}) doesn't score it; add it there.",
        )
        for start, weights in stages:
            for task in sorted(set(self.replay.values())):
                require(
                    weights.get(task, 0) > 0,
                    f"Budget.replay: the stage of Mixture.stages from step {start} on has no share "
                    f"of {task}; give it one, which the budget then changes.",
                )
            require(
                any(w > 0 and task not in self.replay.values() for task, w in weights.items()),
                f"Budget.replay: the stage of Mixture.stages from step {start} on has nothing but "
                "replay, so no share can change.",
            )


def _names(tasks: object) -> str:
    return ", ".join(sorted(tasks)) or "nothing"  # type: ignore[call-overload]
