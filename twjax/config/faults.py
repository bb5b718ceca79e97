"""What a run does about steps that go wrong, and about steps that don't end."""

from __future__ import annotations

import dataclasses

from twjax.config.checks import refuse_idle, require, require_at_least, require_positive


@dataclasses.dataclass(frozen=True, kw_only=True)
class Faults:
    """How a run goes on after a bad step, and when it gives up waiting for one.

    A bad step changes no weight, no moment and no average; the step and the rows count on, and the
    learning rate goes by the step. A step is bad whose loss or gradient norm isn't finite
    (`skip_nonfinite`; without it the run ends there), or, with `spike`, whose gradient norm is more
    than `spike` times the median of the last `window` good steps.

    After `in_a_row` bad steps the run goes back to the last checkpoint behind which a step was
    good, and reads on behind the rows that led to the bad ones; at most `rollbacks` times, then it
    ends.

    Where no step has ended for `timeout` seconds (None: any time is waited), the process writes
    where all its threads are and exits to be started again; compiling, evaluations, saves and
    restores may take `pause_timeout`.
    """

    skip_nonfinite: bool = True
    spike: float | None = None
    window: int = 64
    in_a_row: int = 10
    rollbacks: int = 3
    timeout: float | None = 1800.0
    pause_timeout: float = 7200.0

    def __post_init__(self) -> None:
        require_positive(self, "spike", "timeout", "pause_timeout")
        require(
            self.spike is None or self.spike > 1,
            f"Faults.spike ({self.spike}) is a multiple of the median norm: more than 1.",
        )
        require_at_least(self, 2, "window")
        require_at_least(self, 1, "in_a_row")
        require_at_least(self, 0, "rollbacks")
        refuse_idle(self, ("window",), self.spike is not None, "Faults.spike")
        require(
            self.timeout is None or self.pause_timeout >= self.timeout,
            f"Faults.pause_timeout ({self.pause_timeout}) must be at least Faults.timeout "
            f"({self.timeout}).",
        )

    @property
    def skips(self) -> bool:
        """Whether any step may be skipped."""
        return self.skip_nonfinite or self.spike is not None
