"""The states that a run may go back to: its regular checkpoints, and the one that it began with."""

from __future__ import annotations

import pathlib
from collections.abc import Mapping
from typing import Any

from twjax.training.checkpoint import Checkpoints
from twjax.training.start import Start


class Anchors:
    """The states to which a run of these checkpoints can go back; all processes ask alike.

    `every` is `Checkpoint.every`; `branch` says where a branch begins, `source` where the weights
    of a run's first state come from.
    """

    def __init__(
        self,
        checkpoints: Checkpoints,
        every: int,
        branch: Mapping[str, Any] | None,
        source: Start | None,
    ):
        self._checkpoints, self._every = checkpoints, every
        self._branch, self._source = branch, source
        self.first: int = branch["step"] if branch else 0

    def kept(self) -> list[int]:
        """Returns the steps of the regular checkpoints, oldest first."""
        # A save for a stop that was asked for isn't there when nobody asks.
        return [step for step in self._checkpoints.settled() if step % self._every == 0]

    def before(self, step: int) -> list[int]:
        """Returns `kept`, and the first state where no checkpoint was saved between it and a step.

        Elsewhere too much would be lost for a run to decide it by itself.
        """
        near = step - self.first <= self._every
        return [self.first, *self.kept()] if near else self.kept()

    def is_sound(self, step: int) -> bool:
        """Whether there is the state of a step, as it was saved.

        A run that goes back removes what it has of later steps: it has to know before.
        """
        if step in self._checkpoints.steps:
            return self._checkpoints.is_sound(step)
        if self._branch is None:
            return self._source is None or self._source.is_there()
        with Checkpoints(pathlib.Path(self._branch["from"])) as others:
            return others.is_sound(step)
