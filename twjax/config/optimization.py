"""How a run learns: the rate by step, and the optimiser."""

from __future__ import annotations

import dataclasses
from typing import Literal

from twjax.config.checks import refuse_idle, require, require_at_least, require_positive


@dataclasses.dataclass(frozen=True, kw_only=True)
class Schedule:
    """Learning rate by step: linear warm-up from `start` to `peak`, then `kind`.

    `start` is a rate, or "source": the rate at which the run named in `Run.init` ended
    (re-warm-up). Instead of `peak`, `rewarm` gives it as a multiple of that rate. `final` is the
    last rate as a share of `peak`; a cosine or a line is there at the share `fall_until` of the
    run, and stays. `wsd` holds `peak`; `infinite` falls by a cosine to
    `plateau` * peak within `cooldown_steps` after the warm-up and holds that (Ibrahim et al. 2024,
    §7.4); both decay over the last `decay_fraction` of the run by `decay`, so that another length
    of the run changes no earlier rate. `rsqrt` is peak * sqrt(warmup_steps / step) with at least
    `rsqrt_offset` steps under the root.
    """

    kind: Literal["cosine", "linear", "rsqrt", "constant", "wsd", "infinite"]
    peak: float | None = None
    rewarm: float | None = None
    warmup_steps: int = 0
    start: float | Literal["source"] = 0.0
    final: float = 0.1
    fall_until: float = 1.0
    decay_fraction: float = 0.1
    decay: Literal["linear", "exp", "1-sqrt"] = "1-sqrt"
    cooldown_steps: int = 0
    plateau: float = 0.5
    rsqrt_offset: int = 10_000

    def __post_init__(self) -> None:
        require(
            (self.peak is None) != (self.rewarm is None),
            f"Schedule.peak ({self.peak}) and Schedule.rewarm ({self.rewarm}): give one of them.",
        )
        require_positive(self, "peak", "rewarm")
        refuse_idle(self, ("decay", "decay_fraction"), self.decays, "kind 'wsd' or 'infinite'")
        infinite = self.kind == "infinite"
        refuse_idle(self, ("cooldown_steps", "plateau"), infinite, "kind 'infinite'")
        refuse_idle(self, ("rsqrt_offset",), self.kind == "rsqrt", "kind 'rsqrt'")
        refuse_idle(
            self, ("final",), self.kind not in ("constant", "rsqrt"), "a kind that decays to it"
        )
        refuse_idle(
            self, ("fall_until",), self.kind in ("cosine", "linear"), "kind 'cosine' or 'linear'"
        )
        require(
            0 < self.fall_until <= 1,
            f"Schedule.fall_until ({self.fall_until}) is a share of the run: above 0, up to 1.",
        )
        require_at_least(self, 0, "warmup_steps")
        require_at_least(self, 1 if infinite else 0, "cooldown_steps")
        require(0 <= self.final <= 1, f"Schedule.final ({self.final}) is a share: 0 to 1.")
        require(
            0 < self.plateau <= 1,
            f"Schedule.plateau ({self.plateau}) is a share of the peak: above 0, up to 1.",
        )
        require(
            0 < self.decay_fraction <= 1,
            f"Schedule.decay_fraction ({self.decay_fraction}) is a share: above 0, up to 1.",
        )
        require(
            not self.decays or self.decay != "exp" or self.final > 0,
            f"Schedule.final must be positive when a {self.kind} schedule decays by 'exp'.",
        )
        require(
            not infinite or self.final <= self.plateau,
            f"Schedule.final ({self.final}) must not be above Schedule.plateau ({self.plateau}).",
        )
        require_at_least(self, 1, "rsqrt_offset")
        if not isinstance(self.start, str):
            require(self.start >= 0, f"Schedule.start ({self.start}) must not be negative.")

    @property
    def decays(self) -> bool:
        """Whether the last part of the run is a decay of its own."""
        return self.kind in ("wsd", "infinite")

    def decay_steps(self, steps: int) -> int:
        """Returns the length of the last decay of a run of `steps` steps; 0 without one."""
        if not self.decays:
            return 0
        body = steps - self.warmup_steps - self.cooldown_steps
        return min(max(round(steps * self.decay_fraction), 1), max(body, 1))


@dataclasses.dataclass(frozen=True, kw_only=True)
class Optimizer:
    """AdamW or Adafactor. Weight decay is decoupled and spares norms and biases.

    `parameter_scale` multiplies Adafactor's rate by the root mean square of each weight of each
    layer, at least 1e-3, as T5 does: `Schedule.peak` is then relative to a weight's size.

    `clip_norm` bounds the global gradient norm; None turns it off. For the first `new_rows_steps`
    steps only the rows of the ids that `twjax vocab extend` added are trained, in the embedding
    and in the output matrix: all else stays bit for bit what it was.

    Weights whose name a pattern of `freeze` matches are never changed and have no moments:
    'embedding', '*_norm', 'layers/[qkv]'; a wrong pattern is answered with the nearest names.
    'layers/0-7/*' freezes those layers alone; moments are kept for a weight's layers together.
    `ema` is the decay, by step, of an average of the weights that is kept beside them.
    """

    name: Literal["adamw", "adafactor"] = "adamw"
    b1: float = 0.9
    b2: float = 0.95
    eps: float = 1e-8
    weight_decay: float = 0.1
    clip_norm: float | None = 1.0
    parameter_scale: bool = False
    new_rows_steps: int = 0
    freeze: tuple[str, ...] = ()
    ema: float | None = None

    def __post_init__(self) -> None:
        require(
            self.ema is None or 0 < self.ema < 1,
            f"Optimizer.ema ({self.ema}) must be above 0 and below 1, or None.",
        )
        require_at_least(self, 0, "new_rows_steps")
        refuse_idle(self, ("b1", "b2", "eps"), self.name == "adamw", "name 'adamw'")
        refuse_idle(self, ("parameter_scale",), self.name == "adafactor", "name 'adafactor'")
        for name in ("b1", "b2"):
            value = getattr(self, name)
            require(0 <= value < 1, f"Optimizer.{name} ({value}) must be in [0, 1).")
        require(self.eps > 0, f"Optimizer.eps ({self.eps}) must be positive.")
        require(
            self.weight_decay >= 0,
            f"Optimizer.weight_decay ({self.weight_decay}) must not be negative.",
        )
        require(
            self.clip_norm is None or self.clip_norm > 0,
            f"Optimizer.clip_norm ({self.clip_norm}) must be positive, or None.",
        )
