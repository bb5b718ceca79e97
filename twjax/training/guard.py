"""Which steps are bad, decided on the devices, and what such a step leaves as it was."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from twjax.config.faults import Faults


class Guarded(NamedTuple):
    """An optimiser's state with float32 `norms` [window] of the last good steps, the newest last.

    Before so many steps were good, the first ones are NaN, and no norm is a spike.
    """

    norms: Any
    inner: Any


def guarded(
    optimizer: optax.GradientTransformation, faults: Faults
) -> optax.GradientTransformation:
    """Returns the optimiser with the state that `Faults.spike` needs; without it, as it is.

    The norms stand in the state so that a run that is resumed judges as one that never ended.
    """
    if faults.spike is None:
        return optimizer
    window = faults.window

    def init(params: Any) -> Guarded:
        return Guarded(jnp.full((window,), jnp.nan, jnp.float32), optimizer.init(params))

    def update(updates: Any, state: Any, params: Any = None) -> tuple[Any, Guarded]:
        # Of the gradients as they are, before any clipping.
        norm = optax.global_norm(updates).astype(jnp.float32)
        updates, inner = optimizer.update(updates, state.inner, params)
        return updates, Guarded(jnp.append(state.norms[1:], norm), inner)

    return optax.GradientTransformation(init, update)


def is_bad(faults: Faults, loss: jax.Array, norm: jax.Array, state: Any) -> jax.Array:
    """Returns whether a step is skipped, bool [], from its loss, gradient norm and optimiser state.

    A norm or loss that isn't finite is no spike: `Faults.skip_nonfinite` answers to these.
    """
    finite = jnp.isfinite(loss) & jnp.isfinite(norm)
    bad = ~finite if faults.skip_nonfinite else jnp.zeros((), bool)
    if faults.spike is not None:
        # NaN as long as the window isn't full: nothing is more than that.
        bad |= finite & (norm > faults.spike * jnp.median(state.norms))
    return bad


def unless(bad: jax.Array, new: Any, old: Any) -> Any:
    """Returns `old` where a step is bad, else `new`; rates are by step, so their counts go on."""

    def one(after: Any, before: Any) -> Any:
        if isinstance(after, optax.ScaleByScheduleState):
            return after
        return jnp.where(bad, before, after)

    is_rate = lambda node: isinstance(node, optax.ScaleByScheduleState)  # noqa: E731
    return jax.tree.map(one, new, old, is_leaf=is_rate)
