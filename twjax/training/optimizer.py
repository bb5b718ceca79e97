"""optax chains from `config.Optimizer`, and the sharding of their state."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax.sharding import NamedSharding, PartitionSpec

from twjax.config import Optimizer
from twjax.models.spec import WeightSpec, is_spec
from twjax.training.schedule import Rate


def make_optimizer(
    config: Optimizer, schedule: Rate, specs: Any, new_rows: tuple[int, int] | None = None
) -> optax.GradientTransformation:
    """Returns clipping, AdamW or Adafactor, and decoupled decay on the weights declared so.

    `new_rows` are the first row and the one behind the last that `Optimizer.new_rows_steps` is
    about: until then clipping is by the norm of what is trained, and nothing else changes; then
    the moments start afresh, so that none is corrected for steps that it hasn't seen.
    """
    mask = jax.tree.map(lambda spec: spec.decay, specs, is_leaf=is_spec)
    clip = [] if config.clip_norm is None else [optax.clip_by_global_norm(config.clip_norm)]
    if config.name == "adamw":
        direction = [optax.scale_by_adam(b1=config.b1, b2=config.b2, eps=config.eps)]
    else:
        # Shazeer and Stern 2018, algorithm 4, with the update clipping of §6 and no momentum.
        direction = [optax.scale_by_factored_rms(decay_rate=0.8), _clip_by_rms(specs)]
        if config.parameter_scale:
            direction.append(_scale_by_weights(specs))
    decay = optax.add_decayed_weights(config.weight_decay, mask)
    rate = optax.scale_by_learning_rate(schedule)
    steps = config.new_rows_steps
    if new_rows is None or not steps:
        return optax.chain(*clip, *direction, decay, rate)
    moments = _start_again(optax.chain(*direction), steps)
    # Adding +0 would turn a weight of -0 into +0.
    before, after = (_only_rows(specs, new_rows, steps, value) for value in (0.0, -0.0))
    return optax.chain(before, *clip, moments, decay, rate, after)


def _rms(spec: WeightSpec, x: jax.Array) -> jax.Array:
    """Returns the root mean square of a weight, for each layer where layers are stacked."""
    axes = tuple(axis for axis, name in enumerate(spec.axes) if name != "layers")
    return jnp.sqrt(jnp.mean(jnp.square(x), axis=axes, keepdims=True))


def _clip_by_rms(specs: Any) -> optax.GradientTransformation:
    """Brings an update's root mean square down to 1 (ibid., algorithm 4)."""
    return optax.stateless(
        lambda updates, _: jax.tree.map(
            lambda spec, x: x / jnp.maximum(_rms(spec, x), 1.0), specs, updates, is_leaf=is_spec
        )
    )


def _scale_by_weights(specs: Any) -> optax.GradientTransformation:
    """Multiplies an update by max(1e-3, root mean square of its weight) (ibid., section 8)."""
    return optax.stateless(
        lambda updates, params: jax.tree.map(
            lambda spec, x, weight: x * jnp.maximum(_rms(spec, weight), 1e-3),
            specs,
            updates,
            params,
            is_leaf=is_spec,
        )
    )


class _Counted(NamedTuple):
    """`count` int32 []: updates so far; `inner` the state of the transformation within."""

    count: Any
    inner: Any


def _only_rows(
    specs: Any, rows: tuple[int, int], steps: int, value: float
) -> optax.GradientTransformation:
    """Puts `value` everywhere but in `rows` of the vocabulary's axis, for `steps` updates."""

    def update(updates: Any, state: Any, params: Any = None) -> tuple[Any, _Counted]:
        early = state.count < steps

        def one(spec: WeightSpec, x: jax.Array) -> jax.Array:
            if "vocab" not in spec.axes:
                return jnp.where(early, value, x)
            row = jax.lax.broadcasted_iota(jnp.int32, x.shape, spec.axes.index("vocab"))
            old = (row < rows[0]) | (row >= rows[1])
            return jnp.where(early & old, value, x)

        held = jax.tree.map(one, specs, updates, is_leaf=is_spec)
        return held, _Counted(state.count + 1, ())

    return optax.GradientTransformation(
        lambda params: _Counted(jnp.zeros((), jnp.int32), ()), update
    )


def _start_again(inner: optax.GradientTransformation, steps: int) -> optax.GradientTransformation:
    """Gives `inner` the state of a first step once more after `steps` updates."""

    def update(updates: Any, state: Any, params: Any = None) -> tuple[Any, _Counted]:
        now = state.count == steps
        fresh = inner.init(params)
        held = jax.tree.map(lambda new, old: jnp.where(now, new, old), fresh, state.inner)
        updates, held = inner.update(updates, held, params)
        return updates, _Counted(state.count + 1, held)

    return optax.GradientTransformation(
        lambda params: _Counted(jnp.zeros((), jnp.int32), inner.init(params)), update
    )


def optimizer_shardings(
    optimizer: optax.GradientTransformation, abstract_params: Any, param_shardings: Any
) -> Any:
    """Returns the shardings of `optimizer.init(params)`.

    A moment of a weight's shape is sharded like the weight; a factored moment loses the spec of
    the dim that was averaged away; everything else is replicated.
    """
    state = jax.eval_shape(optimizer.init, abstract_params)
    mesh = jax.tree.leaves(param_shardings)[0].mesh
    whole = NamedSharding(mesh, PartitionSpec())

    def like(leaf: jax.ShapeDtypeStruct, param: jax.ShapeDtypeStruct, sharding: NamedSharding):
        spec = (*sharding.spec, *[None] * (len(param.shape) - len(sharding.spec)))
        if leaf.shape == param.shape:
            return sharding
        for dim in range(len(param.shape)):
            if leaf.shape == param.shape[:dim] + param.shape[dim + 1 :]:
                return NamedSharding(mesh, PartitionSpec(*spec[:dim], *spec[dim + 1 :]))
        return whole

    return optax.tree_map_params(
        optimizer,
        like,
        state,
        abstract_params,
        param_shardings,
        transform_non_params=lambda _: whole,
    )
