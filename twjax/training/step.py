"""One training step: a pure function (state, batch) -> (state, metrics)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from twjax.config import Run
from twjax.models.attention import choose_attention
from twjax.models.encdec import EncoderDecoder
from twjax.models.network import AnyNetwork
from twjax.parallel.sharding import batch_sharding, replicated
from twjax.training.loss import Bend, LossSums, next_token_loss
from twjax.training.schedule import Rate
from twjax.training.state import TrainState, state_shardings

Batch = dict[str, jax.Array]
Metrics = dict[str, jax.Array]


class Forward(NamedTuple):
    """What a loss is made of, in the run's precision: position i predicts token i + `ahead`."""

    hidden_BSD: jax.Array
    head_DV: jax.Array
    tokens_BS: jax.Array
    loss_weights_BS: jax.Array
    ahead: int


def forward(network: AnyNetwork, run: Run, params: Any, batch: Batch, platform: str) -> Forward:
    """Runs the network over a batch of decoder's or encoder-decoder's rows."""
    dtype = jnp.dtype(run.step.dtype)
    both = isinstance(network, EncoderDecoder)
    names = ("inputs", "inputs_segment_ids", "targets", "targets_segment_ids")
    hidden = network.hidden(
        params,
        *(batch[name] for name in (names if both else ("tokens", "segment_ids"))),
        dtype=dtype,
        kind=choose_attention(run.step.attention, platform),
        remat=run.step.remat,
    )
    tokens = batch["targets" if both else "tokens"]
    head = network.head(params, dtype)
    return Forward(hidden, head, tokens, batch["loss_weights"], 0 if both else 1)


def make_train_step(
    network: AnyNetwork,
    run: Run,
    optimizer: optax.GradientTransformation,
    schedule: Rate,
    mesh: jax.sharding.Mesh,
) -> Callable[[TrainState, Batch], tuple[TrainState, Metrics]]:
    """Returns the jitted step; the state is donated, all shardings are pinned.

    The batch has `tokens`, `segment_ids`, `loss_weights` [batch, seq], or an encoder-decoder's
    rows (`twjax.data.row_format.row_dtype`). The loss is the mean over
    the predicted tokens of the whole batch, however it is split into microbatches or devices.
    Metrics are float32 scalars: loss, z (mean squared log-normaliser), accuracy, grad_norm,
    learning_rate, tokens.
    """
    platform = mesh.devices.flat[0].platform
    shardings = state_shardings(network, optimizer, mesh)

    def objective(params: Any, batch: Batch) -> tuple[jax.Array, LossSums]:
        *arrays, ahead = forward(network, run, params, batch, platform)
        return next_token_loss(
            *arrays,
            ahead=ahead,
            vocab_size=run.model.vocab_size,
            bend=Bend.of(run.model),
            chunks=run.step.loss_chunks,
            z_loss=run.step.z_loss,
        )

    gradient = jax.value_and_grad(objective, has_aux=True)

    def step(state: TrainState, batch: Batch) -> tuple[TrainState, Metrics]:
        grads, sums = _accumulate(
            gradient, state.params, batch, run.step.accumulation, shardings.params
        )
        # Sums first, one division last: microbatches with few tokens weigh no more than they hold.
        weight = jnp.maximum(sums.weight, 1.0)
        grads = jax.tree.map(lambda g: g / weight, grads)
        updates, moments = optimizer.update(grads, state.optimizer, state.params)
        params = optax.apply_updates(state.params, updates)
        metrics = {
            "loss": sums.nll / weight,
            "z": sums.z / weight,
            "accuracy": sums.correct / weight,
            "grad_norm": optax.global_norm(grads),
            "learning_rate": schedule(state.step),
            "tokens": sums.weight,
        }
        return TrainState(state.step + 1, params, moments), metrics

    return jax.jit(
        step,
        in_shardings=(shardings, batch_sharding(mesh)),
        out_shardings=(shardings, replicated(mesh)),
        donate_argnums=0,
    )


def _accumulate(
    gradient: Any, params: Any, batch: Batch, parts: int, shardings: Any
) -> tuple[Any, LossSums]:
    """Sums gradients and losses over `parts` microbatches, one after another."""
    if parts == 1:
        (_, sums), grads = gradient(params, batch)
        return grads, sums

    def split(x: jax.Array) -> jax.Array:
        # Each device splits the rows it already holds: no row moves.
        return jnp.moveaxis(x.reshape(x.shape[0] // parts, parts, *x.shape[1:]), 1, 0)

    def add(carry: tuple[Any, LossSums], part: Batch) -> tuple[tuple[Any, LossSums], None]:
        (_, sums), grads = gradient(params, part)
        # Unpinned, the partitioner may keep a whole gradient on every device.
        grads = jax.lax.with_sharding_constraint(grads, shardings)
        return jax.tree.map(jnp.add, carry, (grads, sums)), None

    zero = jnp.zeros((), jnp.float32)
    start = (jax.tree.map(jnp.zeros_like, params), LossSums(zero, zero, zero, zero))
    return jax.lax.scan(add, start, jax.tree.map(split, batch))[0]
