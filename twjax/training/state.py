"""The training state: parameters, optimiser moments, and the number of finished steps."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import optax

from twjax.models.network import AnyNetwork
from twjax.models.spec import abstract_weights, init_weights
from twjax.parallel.sharding import replicated, weight_shardings
from twjax.training.optimizer import optimizer_shardings


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class TrainState:
    """`step` int32 []; `params` float32 master weights; `optimizer` the optax state."""

    step: Any
    params: Any
    optimizer: Any


def state_shardings(
    network: AnyNetwork, optimizer: optax.GradientTransformation, mesh: jax.sharding.Mesh
) -> TrainState:
    """Returns the `TrainState` of `NamedSharding`s."""
    params = weight_shardings(network.specs, mesh)
    moments = optimizer_shardings(optimizer, abstract_weights(network.specs), params)
    return TrainState(step=replicated(mesh), params=params, optimizer=moments)


def abstract_state(
    network: AnyNetwork, optimizer: optax.GradientTransformation, mesh: jax.sharding.Mesh
) -> TrainState:
    """Returns the state's shapes, dtypes and shardings: what restoring and compiling need."""
    shapes = jax.eval_shape(
        lambda: new_state(optimizer, init_weights(network.specs, jax.random.key(0)))
    )
    return jax.tree.map(
        lambda x, sharding: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding),
        shapes,
        state_shardings(network, optimizer, mesh),
    )


def new_state(optimizer: optax.GradientTransformation, params: Any) -> TrainState:
    """Returns step 0 with fresh moments."""
    return TrainState(
        step=jnp.zeros((), jnp.int32), params=params, optimizer=optimizer.init(params)
    )


def init_state(
    network: AnyNetwork, optimizer: optax.GradientTransformation, mesh: jax.sharding.Mesh, seed: int
) -> TrainState:
    """Draws the initial state on the devices, sharded from the start."""
    shardings = state_shardings(network, optimizer, mesh)
    init = jax.jit(
        lambda key: new_state(optimizer, init_weights(network.specs, key)),
        out_shardings=shardings,
    )
    return init(jax.random.key(seed))


def with_params(
    optimizer: optax.GradientTransformation, params: Any, shardings: TrainState
) -> TrainState:
    """Returns step 0 of a new run that starts from given parameters."""
    start = jax.jit(lambda params: new_state(optimizer, params), out_shardings=shardings)
    return start(params)
