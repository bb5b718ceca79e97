"""Which steps of a run are traced."""

from __future__ import annotations

from typing import NamedTuple

from twjax.config.checks import require


class Steps(NamedTuple):
    """Steps `first` to `last`, both of them too; a run's first step is 1."""

    first: int
    last: int

    @classmethod
    def parse(cls, text: str, steps: int) -> Steps:
        """Reads "10:13" or "10" for a run of so many steps."""
        first, both, last = text.partition(":")
        given, last = f"--profile {text}: ", last if both else first
        require(
            all(part.isascii() and part.isdigit() for part in (first, last)),
            f"{given}give the first and the last step to trace as numbers, as in 10:13.",
        )
        found = cls(int(first), int(last))
        require(found.first >= 1, f"{given}the first step of a run is 1.")
        require(found.last >= found.first, f"{given}the last step comes before the first one.")
        require(found.last <= steps, f"{given}the run ends with step {steps} (Run.steps).")
        return found

    def __contains__(self, step: object) -> bool:
        return isinstance(step, int) and self.first <= step <= self.last

    def __str__(self) -> str:
        return f"steps {self.first} to {self.last}"
