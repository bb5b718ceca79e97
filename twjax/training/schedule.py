"""Learning rates by step, from `config.Schedule` and optax's pieces."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import optax

from twjax.config import Schedule

Rate = Callable[[Any], Any]


def make_schedule(config: Schedule, steps: int, start: float, peak: float | None = None) -> Rate:
    """Returns the rate of optimiser step s (0-based) of a run of `steps` steps.

    `peak` is needed where `Schedule.rewarm` stands for it. Warm-up is linear from `start`; after
    it:
    `cosine`, `linear` fall to `final`·peak at the last step, or at the share `fall_until` of the
    run, and stay there; `constant` stays;
    `rsqrt` is peak·sqrt(k / max(s, k)) with k = max(warmup_steps, rsqrt_offset), T5's schedule
    (Raffel et al. 2020, §3.1.2) in the form that starts at peak;
    `wsd` holds peak, then falls over the last `decay_fraction` of the run: linearly, as
    final^t (MiniCPM, Hu et al. 2024, §4), or as 1 - (1 - final)·sqrt(t) (Hägele et al. 2024, §3);
    `infinite` falls by a cosine to plateau·peak, holds it, and falls to final·peak at last in the
    same ways (Ibrahim et al. 2024, §7.4).
    """
    peak = config.peak if peak is None else peak
    assert peak is not None
    after = _after_warmup(config, steps, peak)

    def rate(step: Any) -> jax.Array:
        # Step 0 already moves: a warm-up of w steps reaches peak at step w.
        warm = start + (peak - start) * (step + 1) / (config.warmup_steps + 1)
        later = after(jnp.maximum(step - config.warmup_steps, 0))
        early = jnp.asarray(step) < config.warmup_steps
        return jnp.where(early, warm, later).astype(jnp.float32)

    return rate


def scaled(rate: Rate, changes: Sequence[tuple[int, float]]) -> Rate:
    """Returns the rate times the factor of the newest of `changes`, (first step, factor)."""
    if not changes:
        return rate

    def changed(step: Any) -> jax.Array:
        factor = jnp.ones((), jnp.float32)
        for first, value in changes:
            factor = jnp.where(jnp.asarray(step) >= first, jnp.float32(value), factor)
        return rate(step) * factor

    return changed


def _after_warmup(c: Schedule, steps: int, peak: float) -> Rate:
    """Returns the rate by the number of steps since the end of the warm-up."""
    body = steps - c.warmup_steps
    fall = max(round(steps * c.fall_until) - c.warmup_steps - 1, 1)
    if c.kind == "cosine":
        return optax.cosine_decay_schedule(peak, fall, alpha=c.final)
    if c.kind == "linear":
        return optax.linear_schedule(peak, peak * c.final, fall)
    if c.kind == "constant":
        return optax.constant_schedule(peak)
    if c.kind == "rsqrt":
        k = max(c.warmup_steps, c.rsqrt_offset)
        return lambda step: peak * jnp.sqrt(k / jnp.maximum(step + c.warmup_steps, k))

    length, held = c.decay_steps(steps), 1.0
    if c.kind == "infinite":
        held = c.plateau
        cool = optax.cosine_decay_schedule(peak, c.cooldown_steps, alpha=held)
    else:
        cool = optax.constant_schedule(peak)
    lowest = c.final / held

    def decaying(step: Any) -> Any:
        t = jnp.clip((step - (body - length)) / max(length - 1, 1), 0.0, 1.0)
        if c.decay == "exp":
            share = lowest**t
        elif c.decay == "linear":
            share = 1.0 - (1.0 - lowest) * t
        else:
            share = 1.0 - (1.0 - lowest) * jnp.sqrt(t)
        return cool(step) * share

    return decaying
