"""Learning rates by step, from `config.Schedule` and optax's pieces."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import optax

from twjax.config import Schedule


def make_schedule(config: Schedule, steps: int, start: float) -> optax.Schedule:
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
    final = c.peak * c.final

    if c.kind == "cosine":
        after = optax.cosine_decay_schedule(c.peak, max(body - 1, 1), alpha=c.final)
    elif c.kind == "linear":
        after = optax.linear_schedule(c.peak, final, max(body - 1, 1))
    elif c.kind == "constant":
        after = optax.constant_schedule(c.peak)
    elif c.kind == "rsqrt":
        k = max(c.warmup_steps, c.rsqrt_offset)

        def after(step):
            return c.peak * jnp.sqrt(k / jnp.maximum(step + c.warmup_steps, k))
    else:
        length = max(round(steps * c.decay_fraction), 1)
        hold = max(body - length, 0)

        def after(step):
            t = jnp.clip((step - hold) / max(min(length, body) - 1, 1), 0.0, 1.0)
            if c.decay == "exp":
                share = c.final**t
            elif c.decay == "linear":
                share = 1.0 - (1.0 - c.final) * t
            else:
                share = 1.0 - (1.0 - c.final) * jnp.sqrt(t)
            return c.peak * share

    if c.warmup_steps == 0:
        return lambda step: jnp.asarray(after(step), jnp.float32)

    def rate(step: jax.Array | int) -> jax.Array:
        # Step 0 already moves: a warm-up of w steps reaches peak at step w.
        warm = start + (c.peak - start) * (step + 1) / (c.warmup_steps + 1)
        return jnp.where(
            jnp.asarray(step) < c.warmup_steps, warm, after(step - c.warmup_steps)
        ).astype(jnp.float32)

    return rate
