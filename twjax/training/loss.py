"""Next-token loss over the vocabulary in pieces of the sequence.

Shapes: B batch, S sequence, D embed, V padded vocabulary, C positions a piece.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp

from twjax.parallel.sharding import constrain


class LossSums(NamedTuple):
    """Float32 sums over the predicted tokens of a batch.

    `nll` negative log-likelihood in nats; `z` squared log-normalisers; `correct` tokens whose
    target has the highest logit; `weight` tokens.
    """

    nll: jax.Array
    z: jax.Array
    correct: jax.Array
    weight: jax.Array


def next_token_sums(
    hidden_BSD: jax.Array,
    head_DV: jax.Array,
    tokens_BS: jax.Array,
    loss_weights_BS: jax.Array,
    *,
    vocab_size: int,
    chunks: int,
    per_row: bool = False,
) -> LossSums:
    """Sums the loss of predicting each token from the positions before it.

    Position i predicts token i + 1 with weight `loss_weights[:, i + 1]`. Logits exist for
    S / chunks positions at a time, forward and backward, in float32; ids at or above
    `vocab_size` are padding and get no probability. With `per_row` the sums keep dim B.
    """
    B, S, _ = hidden_BSD.shape
    V = head_DV.shape[1]
    targets_BS = jnp.roll(tokens_BS, -1, axis=1)
    weights_BS = jnp.roll(loss_weights_BS, -1, axis=1).astype(jnp.float32).at[:, -1].set(0.0)

    def pieces(x: jax.Array) -> jax.Array:
        return jnp.moveaxis(x.reshape(B, chunks, S // chunks, *x.shape[2:]), 1, 0)

    @jax.checkpoint
    def piece(sums: LossSums, inputs: tuple[jax.Array, jax.Array, jax.Array]):
        hidden_BCD, targets_BC, weights_BC = inputs
        logits_BCV = jnp.einsum(
            "BCD,DV->BCV", hidden_BCD, head_DV, preferred_element_type=jnp.float32
        )
        logits_BCV = constrain(logits_BCV, "batch", None, "vocab")
        ids_V = jax.lax.broadcasted_iota(jnp.int32, (1, 1, V), 2)
        if vocab_size < V:
            logits_BCV = jnp.where(ids_V < vocab_size, logits_BCV, -1e30)
        log_z_BC = jax.nn.logsumexp(logits_BCV, axis=-1)
        # A masked sum, not a gather: it stays local where the vocabulary is sharded.
        hit_BCV = ids_V == targets_BC[:, :, None]
        target_BC = jnp.sum(jnp.where(hit_BCV, logits_BCV, 0.0), axis=-1)
        best_BC = jax.lax.stop_gradient(jnp.max(logits_BCV, axis=-1))
        axis = 1 if per_row else None
        added = LossSums(
            nll=jnp.sum((log_z_BC - target_BC) * weights_BC, axis=axis),
            z=jnp.sum(jnp.square(log_z_BC) * weights_BC, axis=axis),
            correct=jnp.sum((target_BC >= best_BC) * weights_BC, axis=axis),
            weight=jnp.sum(weights_BC, axis=axis),
        )
        return jax.tree.map(jnp.add, sums, added), None

    zero = jnp.zeros((B,) if per_row else (), jnp.float32)
    sums, _ = jax.lax.scan(
        piece,
        LossSums(zero, zero, zero, zero),
        (pieces(hidden_BSD), pieces(targets_BS), pieces(weights_BS)),
    )
    return sums
