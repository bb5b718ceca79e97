"""optax chains from `config.Optimizer`, and the sharding of their state."""

from __future__ import annotations

from typing import Any

import jax
import optax
from jax.sharding import NamedSharding, PartitionSpec

from twjax.config import Optimizer
from twjax.models.spec import is_spec
from twjax.training.schedule import Rate


def make_optimizer(config: Optimizer, schedule: Rate, specs: Any) -> optax.GradientTransformation:
    """Returns clipping, AdamW or Adafactor, and decoupled decay on the weights declared so."""
    mask = jax.tree.map(lambda spec: spec.decay, specs, is_leaf=is_spec)
    clip = [] if config.clip_norm is None else [optax.clip_by_global_norm(config.clip_norm)]
    if config.name == "adamw":
        return optax.chain(
            *clip,
            optax.scale_by_adam(b1=config.b1, b2=config.b2, eps=config.eps),
            optax.add_decayed_weights(config.weight_decay, mask),
            optax.scale_by_learning_rate(schedule),
        )
    # Shazeer and Stern 2018, algorithm 4, with the update clipping of §6 and no momentum; the
    # rate is given, not relative to the weights' scale.
    return optax.chain(
        *clip,
        optax.scale_by_factored_rms(decay_rate=0.8),
        optax.clip_by_block_rms(1.0),
        optax.add_decayed_weights(config.weight_decay, mask),
        optax.scale_by_learning_rate(schedule),
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
