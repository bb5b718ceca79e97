"""Answers to evaluations as a run's budget says, and keeps each answer in the ledger."""

from __future__ import annotations

import dataclasses
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from twjax.config import Budget, ConfigError
from twjax.data.course import Course, Turn
from twjax.progress import say
from twjax.training import ledger
from twjax.training.budget import Look, decide, rolled_back
from twjax.training.history import History


class Steering:
    """A run's budget from a step on; `history` and `course` are what has been decided until now.

    `known` has the answers of the ledger, also those after that step: they were given before a
    kill, and are given again. `reopen` returns the course of a history. Only the process with
    `write` writes.
    """

    def __init__(
        self,
        budget: Budget,
        run_dir: pathlib.Path,
        known: History,
        start: int,
        reopen: Callable[[History], Course],
        *,
        write: bool,
    ):
        self._budget, self._run_dir, self._known = budget, run_dir, known
        self.history, self._reopen = known.until(start), reopen
        self.course = reopen(self.history)
        self._write = write
        if start and self.history.baseline is None:
            raise ConfigError(
                f"{run_dir}: Run.budget has no baseline, as the run began without it and is at "
                f"step {start}. Start a new run with it, or leave it out."
            )
        look = self.history.looks.get(start)
        if look is not None and look.action == "stop":
            raise ConfigError(self._stopped(look))

    def has_answered(self, step: int) -> bool:
        """Whether the evaluation of a step has its answer."""
        return step in self.history.looks

    def answer(self, step: int, records: Sequence[Mapping[str, Any]]) -> Look:
        """Decides on an evaluation, and follows: `history` and `course` go on from it.

        Raises ConfigError when the budget stops the run.
        """
        bits = {r["task"]: r["bits_per_byte"] for r in records if "bits_per_byte" in r}
        if self.history.baseline is None:
            protected = {task: bits[task] for task in sorted(self._budget.allowed)}
            self._append("baseline", step, bits=protected)
        assert self.history.baseline is not None
        looks = [look for at, look in self.history.looks.items() if at < step]
        before, shares = looks[-1] if looks else None, self._shares(step)
        look = decide(
            self._budget,
            step,
            bits,
            self.history.baseline,
            before,
            shares,
            rollbacks=self.history.rollbacks - self.history.bad_rollbacks,
        )
        look = self._possible(look, before)
        self._follow(look)
        self._say(look, before)
        return look

    def due(self, step: int) -> Look | None:
        """Returns the answer of a step that asks for a rollback, which a kill may have prevented.

        A rollback that was begun has replaced the answers that led to it.
        """
        look = self.history.looks.get(step)
        return look if look is not None and look.action == "roll_back" else None

    def within(self, step: int) -> bool:
        """Whether an evaluation at this step was within all allowances: a rollback may go there."""
        look = self.history.looks.get(step)
        return look is not None and look.within

    def roll_back(
        self,
        look: Look,
        kept: Sequence[int],
        is_sound: Callable[[int], bool] = lambda step: True,
    ) -> int | None:
        """Returns the step of the last sound checkpoint in `kept` that was within the budget.

        The ledger says so before anything is removed.
        """
        looks = self.history.looks
        good = (step for step in reversed(kept) if step < look.step and self.within(step))
        back = next(filter(is_sound, good), None)
        if back is None:
            self._tell(f"no checkpoint before step {look.step} was within the budget: going on")
            return None
        to = rolled_back(self._budget, look, looks[back])
        event = {"event": "roll_back", "step": to.step, "look": to.record() | {"step": to.step}}
        try:
            self._reopen(self.history.after([event]))
        except ValueError as error:
            self._tell(f"step {look.step}: no rows for replay at Budget.most, going on: {error}")
            return None
        self._append(**event)
        self._tell(
            f"rolling back from step {look.step} to step {to.step}; replay {_listing(to.shares)}"
        )
        return to.step

    def stopped(self, look: Look) -> ConfigError:
        """Returns the error of a run that the budget stops."""
        return ConfigError(self._stopped(look))

    def _shares(self, step: int) -> dict[str, float]:
        turns = self.history.turns
        shares = turns[-1].shares if turns else self.course.shares(step)
        return {task: round(shares[task], 4) for task in sorted(set(self._budget.replay.values()))}

    def _possible(self, look: Look, before: Look | None) -> Look:
        """Returns the look with the shares of before where rows for its own would run dry."""
        if before is None or look.shares == before.shares or look.action in ("observe", "hold"):
            return look
        try:
            self.course.turned(Turn(step=look.step, shares=look.shares))
        except ValueError as error:
            self._tell(f"step {look.step}: no rows for replay {_listing(look.shares)}: {error}")
            action = "hold" if look.action == "steer" else look.action
            return dataclasses.replace(look, shares=before.shares, action=action)
        return look

    def _follow(self, look: Look) -> None:
        turns = self.history.turns
        if self._known.looks.get(look.step) == look:
            event = {"event": "budget", "step": look.step} | look.record()
            self.history = self.history.after([event])
        else:
            self._append("budget", look.step, **look.record())
        if len(self.history.turns) > len(turns):
            self.course = self.course.turned(self.history.turns[-1])

    def _append(self, event: str, step: int, **details: Any) -> None:
        if self._write:
            ledger.append(self._run_dir, event, step, **details)
        self.history = self.history.after([{"event": event, "step": step} | details])

    def _say(self, look: Look, before: Look | None) -> None:
        used = ", ".join(f"{task} {part:.0%}" for task, part in look.used.items())
        text = f"step {look.step}: {used} of the budget; replay {_listing(look.shares)}"
        if before is not None and look.shares != before.shares:
            text += f", was {_listing(before.shares)}"
        if look.action == "lower_rate":
            text += f"; the learning rate is {look.rate:g} of the schedule's from here"
        if look.action == "go_on":
            text += "; it can't be kept with replay at its most: going on"
        self._tell(text)

    def _stopped(self, look: Look) -> str:
        worst = max(look.used, key=lambda task: look.used[task])
        return (
            f"{self._run_dir}: at step {look.step} {worst} had used {look.used[worst]:.0%} of its "
            f"Budget.allowed ({self._budget.allowed[worst]} bits per byte) for "
            f"{self._budget.patience} evaluations with replay at Budget.most "
            f"({self._budget.most}), and Budget.beyond is 'stop'. The state is saved. Raise one of "
            "them or lower Schedule.peak, with --allow-change or in a new run."
        )

    def _tell(self, text: str) -> None:
        if self._write:
            say(f"budget: {text}")


def _listing(shares: Mapping[str, float]) -> str:
    return ", ".join(f"{task} {share:.1%}" for task, share in shares.items())
