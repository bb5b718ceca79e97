"""Learning rates by step, from `config.Schedule` and optax's pieces."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

from twjax.config import Schedule

Rate = Callable[[Any], Any]


def make_schedule(config: Schedule, steps: int, start: float) -> Rate:
    """Returns the rate of optimiser step s (0-based) of a run of `steps` steps.

    Warm-up is linear from `start`; after it:
    `cosine`, `linear` fall to `final`·peak at the last step; `constant` stays;
    `rsqrt` is peak·sqrt(k / max(s, k)) with k = max(warmup_steps, rsqrt_offset), T5's schedule
    (Raffel et al. 2020, §3.1.2) in the form that starts at peak;
    `wsd` holds peak, then falls over the last `decay_fraction` of the run: linearly, as
    final^t (MiniCPM, Hu et al. 2024, §4), or as 1 - (1 - final)·sqrt(t) (Hägele et al. 2024, §3).
    """
    c = config
    body = steps - c.warmup_steps
    after = _after_warmup(c, steps, body)

    def rate(step: Any) -> jax.Array:
        # Step 0 already moves: a warm-up of w steps reaches peak at step w.
        warm = start + (c.peak - start) * (step + 1) / (c.warmup_steps + 1)
        later = after(jnp.maximum(step - c.warmup_steps, 0))
        return jnp.where(jnp.asarray(step) < c.warmup_steps, warm, later).astype(jnp.float32)

    return rate


def _after_warmup(c: Schedule, steps: int, body: int) -> Rate:
    """Returns the rate by the number of steps since the end of the warm-up."""
    if c.kind == "cosine":
        return optax.cosine_decay_schedule(c.peak, max(body - 1, 1), alpha=c.final)
    if c.kind == "linear":
        return optax.linear_schedule(c.peak, c.peak * c.final, max(body - 1, 1))
    if c.kind == "constant":
        return optax.constant_schedule(c.peak)
    if c.kind == "rsqrt":
        k = max(c.warmup_steps, c.rsqrt_offset)
        return lambda step: c.peak * jnp.sqrt(k / jnp.maximum(step + c.warmup_steps, k))

    length = min(max(round(steps * c.decay_fraction), 1), max(body, 1))

    def wsd(step: Any) -> jax.Array:
        t = jnp.clip((step - (body - length)) / max(length - 1, 1), 0.0, 1.0)
        if c.decay == "exp":
            share = c.final**t
        elif c.decay == "linear":
            share = 1.0 - (1.0 - c.final) * t
        else:
            share = 1.0 - (1.0 - c.final) * jnp.sqrt(t)
        return c.peak * share

    return wsd
