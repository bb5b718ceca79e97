"""How a run learns: the rate by step, and the optimiser."""

from __future__ import annotations

import dataclasses
import math
from typing import Literal

from twjax.config.checks import refuse_idle, require, require_at_least


@dataclasses.dataclass(frozen=True, kw_only=True)
class Schedule:
    """Learning rate by step: linear warm-up from `start` to `peak`, then `kind`.

    `start` is a rate, or "source": the rate at which the run named in `Run.init` ended
    (re-warm-up). `final` is the last rate as a share of `peak`. `wsd` holds `peak` and decays
    over the last `decay_fraction` of the run by `decay`; `rsqrt` is
    peak * sqrt(warmup_steps / step) with at least `rsqrt_offset` steps under the root.
    """

    kind: Literal["cosine", "linear", "rsqrt", "constant", "wsd"]
    peak: float
    warmup_steps: int = 0
    start: float | Literal["source"] = 0.0
    final: float = 0.1
    decay_fraction: float = 0.1
    decay: Literal["linear", "exp", "1-sqrt"] = "1-sqrt"
    rsqrt_offset: int = 10_000

    def __post_init__(self) -> None:
        require(
            math.isfinite(self.peak) and self.peak > 0,
            f"Schedule.peak ({self.peak}) must be positive and finite.",
        )
        refuse_idle(self, ("decay", "decay_fraction"), self.kind == "wsd", "kind 'wsd'")
        refuse_idle(self, ("rsqrt_offset",), self.kind == "rsqrt", "kind 'rsqrt'")
        refuse_idle(
            self, ("final",), self.kind not in ("constant", "rsqrt"), "a kind that decays to it"
        )
        require(
            self.warmup_steps >= 0,
            f"Schedule.warmup_steps ({self.warmup_steps}) must not be negative.",
        )
        require(0 <= self.final <= 1, f"Schedule.final ({self.final}) is a share: 0 to 1.")
        require(
            0 < self.decay_fraction <= 1,
            f"Schedule.decay_fraction ({self.decay_fraction}) is a share: above 0, up to 1.",
        )
        require(
            self.kind != "wsd" or self.decay != "exp" or self.final > 0,
            "Schedule.final must be positive when a wsd schedule decays by 'exp'.",
        )
        require(
            self.rsqrt_offset >= 1,
            f"Schedule.rsqrt_offset ({self.rsqrt_offset}) must be at least 1.",
        )
        if not isinstance(self.start, str):
            require(self.start >= 0, f"Schedule.start ({self.start}) must not be negative.")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Optimizer:
    """AdamW or Adafactor. Weight decay is decoupled and spares norms and biases.

    `clip_norm` bounds the global gradient norm; None turns it off. For the first `new_rows_steps`
    steps only the rows of the ids that `twjax vocab extend` added are trained, in the embedding
    and in the output matrix: all else stays bit for bit what it was.
    """

    name: Literal["adamw", "adafactor"] = "adamw"
    b1: float = 0.9
    b2: float = 0.95
    eps: float = 1e-8
    weight_decay: float = 0.1
    clip_norm: float | None = 1.0
    new_rows_steps: int = 0

    def __post_init__(self) -> None:
        require_at_least(self, 0, "new_rows_steps")
        refuse_idle(self, ("b1", "b2", "eps"), self.name == "adamw", "name 'adamw'")
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
