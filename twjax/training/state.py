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
from twjax.training.trained import Trained


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class TrainState:
    """`step` int32 []; `params` float32 master weights; `optimizer` the optax state.

    `average` is the float32 average of the trained weights over the steps, None without one.
    """

    step: Any
    params: Any
    optimizer: Any
    average: Any = None


def state_shardings(
    network: AnyNetwork,
    optimizer: optax.GradientTransformation,
    mesh: jax.sharding.Mesh,
    trained: Trained | None = None,
) -> TrainState:
    """Returns the `TrainState` of `NamedSharding`s."""
    trained = trained or Trained(network.specs)
    params = weight_shardings(network.specs, mesh)
    moved = trained.take(params)
    moments = optimizer_shardings(optimizer, abstract_weights(trained.specs), moved)
    average = None if trained.ema is None else moved
    return TrainState(replicated(mesh), params, moments, average)


def abstract_state(
    network: AnyNetwork,
    optimizer: optax.GradientTransformation,
    mesh: jax.sharding.Mesh,
    trained: Trained | None = None,
) -> TrainState:
    """Returns the state's shapes, dtypes and shardings: what restoring and compiling need."""
    shapes = jax.eval_shape(
        lambda: new_state(optimizer, init_weights(network.specs, jax.random.key(0)), trained)
    )
    return jax.tree.map(
        lambda x, sharding: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding),
        shapes,
        state_shardings(network, optimizer, mesh, trained),
    )


def new_state(
    optimizer: optax.GradientTransformation, params: Any, trained: Trained | None = None
) -> TrainState:
    """Returns step 0 with fresh moments, and an average that begins as the weights."""
    moved = params if trained is None else trained.take(params)
    average = None
    if trained is not None and trained.ema is not None:
        # Copies: a step is given both to write into.
        average = jax.tree.map(jnp.copy, moved)
    return TrainState(jnp.zeros((), jnp.int32), params, optimizer.init(moved), average)


def init_state(
    network: AnyNetwork,
    optimizer: optax.GradientTransformation,
    mesh: jax.sharding.Mesh,
    seed: int,
    trained: Trained | None = None,
) -> TrainState:
    """Draws the initial state on the devices, sharded from the start."""
    shardings = state_shardings(network, optimizer, mesh, trained)
    init = jax.jit(
        lambda key: new_state(optimizer, init_weights(network.specs, key), trained),
        out_shardings=shardings,
    )
    return init(jax.random.key(seed))


def with_params(
    optimizer: optax.GradientTransformation,
    params: Any,
    shardings: TrainState,
    trained: Trained | None = None,
) -> TrainState:
    """Returns step 0 of a new run that starts from given parameters."""
    start = jax.jit(lambda params: new_state(optimizer, params, trained), out_shardings=shardings)
    return start(params)
