"""One training step: a pure function (state, batch) -> (state, metrics)."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from twjax.config import Run
from twjax.data.row_format import row_dtype
from twjax.models import parts
from twjax.models.attention import Kind, choose_attention
from twjax.models.encdec import EncoderDecoder
from twjax.models.network import AnyNetwork
from twjax.parallel import low_bits
from twjax.parallel.sharding import batch_sharding, replicated, rows_sharding
from twjax.parallel.tpu import compiler_options, tuning
from twjax.training.base import FrozenBase, Taught
from twjax.training.divergence import Base, Comparison, Tops
from twjax.training.guard import is_bad, unless
from twjax.training.loss import Bend, LossSums, distilled_loss, next_token_loss, predicted
from twjax.training.schedule import Rate
from twjax.training.state import TrainState, state_shardings
from twjax.training.trained import Trained

Batch = dict[str, jax.Array]
Metrics = dict[str, jax.Array]


class Forward(NamedTuple):
    """What a loss is made of, in the run's precision: position i predicts token i + `ahead`."""

    hidden_BSD: jax.Array
    head_DV: jax.Array
    tokens_BS: jax.Array
    loss_weights_BS: jax.Array
    ahead: int


def attention_of(run: Run, device: Any) -> Kind:
    """Returns what computes attention in a run's step on this device."""
    chosen = choose_attention(run.step.attention, device.platform)
    # Its tiles need the options with which the step is compiled.
    return tuning(device).tiles if chosen == "splash" else chosen


def forward(network: AnyNetwork, run: Run, params: Any, batch: Batch, kind: Kind) -> Forward:
    """Runs the network over a batch of decoder's or encoder-decoder's rows."""
    dtype = jnp.dtype(run.step.dtype)
    both = isinstance(network, EncoderDecoder)
    names = ("inputs", "inputs_segment_ids", "targets", "targets_segment_ids")
    hidden = network.hidden(
        params,
        *(batch[name] for name in (names if both else ("tokens", "segment_ids"))),
        dtype=dtype,
        kind=kind,
        saved=run.step.saved,
        offloaded=run.step.offload,
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
    trained: Trained | None = None,
    base: FrozenBase | Taught | None = None,
    attends: Kind | None = None,
) -> Callable[..., tuple[TrainState, Metrics]]:
    """Returns the jitted step; the state is donated, all shardings are pinned.

    `trained` (default: all weights) are those that `optimizer` was made for; `attends` (default:
    what `attention_of` chooses) computes attention. `run.distillation` needs its `base`; with a
    `FrozenBase` the step has a third argument, what `base.keep` returned.

    The batch has `tokens`, `segment_ids`, `loss_weights` [batch, seq], or an encoder-decoder's
    rows (`twjax.data.row_format.row_dtype`). The loss is the mean over
    the predicted tokens of the whole batch, however it is split into microbatches or devices.
    Metrics are float32 scalars: loss, z (mean squared log-normaliser), accuracy, grad_norm (of
    what is trained), learning_rate, tokens; with `run.distillation` kl (nats a token, NaN in a step
    without rows that count); skipped, 1 where `run.faults` finds the step bad: then only `step` and
    what the schedule counts are other than before.
    """
    kept_close = run.distillation
    if (kept_close is None) != (base is None):
        raise ValueError("A step needs a base with Run.distillation, and none without.")
    device = mesh.devices.flat[0]
    low_bits.check(run.step.matmul, device)
    network = dataclasses.replace(network, matmul=run.step.matmul)
    attention = attends or attention_of(run, device)
    learnt = trained or Trained(network.specs)
    shardings = state_shardings(network, optimizer, mesh, learnt)

    def objective(
        moved: Any, fixed: Any, batch: Batch
    ) -> tuple[jax.Array, tuple[LossSums, jax.Array]]:
        params, kept, factor = fixed
        here = forward(network, run, parts.put(params, moved), batch, attention)
        arrays = here[:4]
        settings: dict[str, Any] = {
            "ahead": here.ahead,
            "vocab_size": run.model.vocab_size,
            "bend": Bend.of(run.model),
            "chunks": run.step.loss_chunks,
            "z_loss": run.step.z_loss,
        }
        if kept_close is None or base is None:
            value, sums = next_token_loss(*arrays, **settings)
            return value, (sums, jnp.zeros((), jnp.float32))
        rows_B = batch["replay"].astype(jnp.float32)
        compared: Base | Tops
        if isinstance(base, Taught):
            compared = Tops(batch["top_ids"], batch["top_logs"], rows_B, factor)
        else:
            there = forward(base.network, run, base.whole(kept, params), batch, attention)
            compared = Base(there.hidden_BSD, there.head_DV, rows_B, factor)
        how = Comparison.of(run.model, kept_close.temperature, base.known)
        return distilled_loss(*arrays, compared, how, **settings)

    gradient = jax.value_and_grad(objective, has_aux=True)

    def step(state: TrainState, batch: Batch, kept: Any = None) -> tuple[TrainState, Metrics]:
        moved = learnt.take(state.params)
        factor = counted = jnp.zeros((), jnp.float32)
        if kept_close is not None:
            # Both means are over the whole batch; in sums of tokens their ratio is a factor.
            ahead = 0 if isinstance(network, EncoderDecoder) else 1
            tokens_B = predicted(batch["loss_weights"], ahead)
            counted = jnp.sum(tokens_B * batch["replay"].astype(jnp.float32))
            share = jnp.maximum(jnp.sum(tokens_B), 1.0) / jnp.maximum(counted, 1.0)
            factor = kept_close.weight * share
        grads, (sums, kl) = accumulate(
            gradient,
            moved,
            (state.params, kept, factor),
            batch,
            run.step.accumulation,
            learnt.take(shardings.params),
        )
        # Sums first, one division last: microbatches with few tokens weigh no more than they hold.
        weight = jnp.maximum(sums.weight, 1.0)
        grads = learnt.hold(jax.tree.map(lambda g: g / weight, grads), 0.0)
        updates, moments = optimizer.update(grads, state.optimizer, moved)
        # Adding +0 would turn a weight of -0 into +0.
        moved = optax.apply_updates(moved, learnt.hold(updates, -0.0))
        average = learnt.averaged(state.average, moved)
        loss, norm = sums.nll / weight, optax.global_norm(grads)
        metrics = {
            "loss": loss,
            "z": sums.z / weight,
            "accuracy": sums.correct / weight,
            "grad_norm": norm,
            "learning_rate": schedule(state.step),
            "tokens": sums.weight,
        }
        if base is not None:
            metrics["kl"] = kl / counted
        if run.faults.skips:
            bad = is_bad(run.faults, loss, norm, state.optimizer)
            before = (learnt.take(state.params), state.optimizer, state.average)
            moved, moments, average = unless(bad, (moved, moments, average), before)
            metrics["skipped"] = bad.astype(jnp.float32)
        params = parts.put(state.params, moved)
        return TrainState(state.step + 1, params, moments, average), metrics

    given: tuple[Any, ...] = (shardings, batch_sharding(mesh))
    if base is not None:
        kind = "encoder_decoder" if isinstance(network, EncoderDecoder) else "decoder"
        names = row_dtype(kind, run.data.seq_len).names or ()
        if isinstance(base, Taught):
            names = (*names, "top_ids", "top_logs")
        rows = dict.fromkeys(names, batch_sharding(mesh)) | {"replay": rows_sharding(mesh)}
        given = (shardings, rows, *((base.shardings,) if isinstance(base, FrozenBase) else ()))
    return jax.jit(
        step,
        in_shardings=given,
        out_shardings=(shardings, replicated(mesh)),
        donate_argnums=0,
        compiler_options=compiler_options(device, run.step.compiler_options) or None,
    )


def accumulate(
    gradient: Any, moved: Any, fixed: Any, batch: Batch, count: int, shardings: Any
) -> tuple[Any, Any]:
    """Sums gradients and losses over `count` microbatches, one after another.

    `moved` are the weights that gradients are of; `fixed` is passed on.
    """
    if count == 1:
        (_, sums), grads = gradient(moved, fixed, batch)
        return grads, sums

    def split(x: jax.Array) -> jax.Array:
        # Each device splits the rows it already holds: no row moves.
        return jnp.moveaxis(x.reshape(x.shape[0] // count, count, *x.shape[1:]), 1, 0)

    def add(carry: tuple[Any, Any], part: Batch) -> tuple[tuple[Any, Any], None]:
        (_, sums), grads = gradient(moved, fixed, part)
        # Unpinned, the partitioner may keep a whole gradient on every device.
        grads = jax.lax.with_sharding_constraint(grads, shardings)
        return jax.tree.map(jnp.add, carry, (grads, sums)), None

    zero = jnp.zeros((), jnp.float32)
    start = (jax.tree.map(jnp.zeros_like, moved), (LossSums(zero, zero, zero, zero), zero))
    return jax.lax.scan(add, start, jax.tree.map(split, batch))[0]
