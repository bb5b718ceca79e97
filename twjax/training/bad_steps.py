"""Bad steps, seen from the host: they are counted in the ledger, and many in a row lead back."""

from __future__ import annotations

import math
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from twjax.config.faults import Faults
from twjax.data.course import Course, Jump
from twjax.progress import say
from twjax.training import ledger
from twjax.training.history import History


class BadSteps:
    """The bad steps of a run from a step on; all processes see the same and decide alike.

    `history` is what its ledger says, `streak` how many bad steps in a row the log ends with.
    Only the process with `write` writes.
    """

    def __init__(
        self,
        faults: Faults,
        run_dir: pathlib.Path,
        history: History,
        start: int,
        streak: int,
        *,
        write: bool,
    ):
        self._faults, self._run_dir, self._write = faults, run_dir, write
        self._known = set(history.bad_steps)
        self._last, self._streak = start, streak
        self._rollbacks = history.bad_rollbacks
        # (first, last) of the bad steps that ask for a rollback.
        self.due: tuple[int, int] | None = None
        self._judge()

    def see(self, record: Mapping[str, Any]) -> None:
        """Takes the logged values of the next step."""
        self._last = record["step"]
        if not record.get("skipped"):
            self._streak = 0
            return
        self._streak += 1
        if self._last not in self._known:
            self._known.add(self._last)
            values = {name: record[name] for name in ("loss", "grad_norm")}
            if self._write:
                # JSON has no NaN.
                told = {name: x if math.isfinite(x) else str(x) for name, x in values.items()}
                ledger.append(self._run_dir, "bad_step", self._last, **told)
                say(
                    f"step {self._last} is skipped: loss {values['loss']:.4g}, gradient norm "
                    f"{values['grad_norm']:.4g}"
                )
        self._judge()

    def needs(self, step: int) -> bool:
        """Whether the bad steps that the log ends with may lead back to a checkpoint of `step`."""
        return self._streak > 0 and step < self._last - self._streak

    def roll_back(
        self,
        kept: Sequence[int],
        history: History,
        course: Course,
        reopen: Callable[[History], Course],
        is_sound: Callable[[int], bool] = lambda step: True,
    ) -> History:
        """Returns the history of the run when it has gone back; it is in the ledger then.

        It goes to the last sound one of the checkpoints `kept` behind which a step was good: from
        the others' weights all that was tried was bad. `course` is what was read until now,
        `reopen` returns that of a history. Raises FloatingPointError where there is no such
        checkpoint or row left, and after `Faults.rollbacks`.
        """
        assert self.due is not None
        first, last = self.due
        what = (
            f"{self._run_dir}: steps {first} to {last} were all bad (Faults.in_a_row is "
            f"{self._faults.in_a_row}; the ledger has their losses and gradient norms)"
        )
        advice = (
            "The newest checkpoint is as it was before them. Look at the rows of these steps, "
            "lower Schedule.peak or Optimizer.clip_norm, or set Step.dtype = 'float32' to see "
            "whether precision is the reason."
        )
        if self._rollbacks >= self._faults.rollbacks:
            raise FloatingPointError(
                f"{what}, after {self._rollbacks} rollbacks of at most {self._faults.rollbacks}. "
                f"{advice}"
            )
        good = (step for step in reversed(kept) if step < first - 1)
        back = next(filter(is_sound, good), None)
        if back is None:
            raise FloatingPointError(
                f"{what}, and there is no checkpoint behind which a step was good. {advice}"
            )
        jump = Jump(step=back, until=last, read=course.read_until(last))
        event = {"event": "roll_back", "step": jump.step, "skip": jump.record()}
        after = history.after([event])
        try:
            reopen(after)
        except ValueError as error:
            raise FloatingPointError(f"{what}, and no rows are left: {error} {advice}") from error
        if self._write:
            ledger.append(self._run_dir, **event)
            say(
                f"steps {first} to {last} were bad: rolling back to step {jump.step}, and reading "
                f"on behind the rows of step {last}"
            )
        return after

    def _judge(self) -> None:
        if self.due is None and self._streak >= self._faults.in_a_row:
            # A run that was stopped behind them leaves out no more rows than one that wasn't.
            first = self._last - self._streak + 1
            self.due = (first, first + self._faults.in_a_row - 1)
