"""Next-token loss over the vocabulary, formed in pieces of the sequence with its gradient.

Shapes: B batch, S sequence, C positions a piece, D embed, V padded vocabulary.
"""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from twjax.config import Model
from twjax.parallel.sharding import constrain, seq_axis, seq_parts
from twjax.training.divergence import Base, Comparison, Tops, divergence, top_divergence


class LossSums(NamedTuple):
    """Float32 sums over the predicted tokens of a batch.

    `nll` negative log-likelihood in nats; `z` squared log-normalisers; `correct` tokens whose
    target has the highest logit; `weight` tokens.
    """

    nll: jax.Array
    z: jax.Array
    correct: jax.Array
    weight: jax.Array


class Bend(NamedTuple):
    """What becomes of hidden · head before the softmax: times `scale`, then softly capped.

    A cap c makes a logit c · tanh(logit / c) (Gemma Team 2024, "Gemma 2", §2).
    """

    scale: float | None = None
    softcap: float | None = None

    @classmethod
    def of(cls, model: Model) -> Bend:
        """Returns the model's."""
        return cls(model.logits_scale, model.logits_softcap)


NO_BEND = Bend()


def next_token_loss(
    hidden_BSD: jax.Array,
    head_DV: jax.Array,
    tokens_BS: jax.Array,
    loss_weights_BS: jax.Array,
    *,
    vocab_size: int,
    chunks: int,
    z_loss: float = 0.0,
    bend: Bend = NO_BEND,
    ahead: int = 1,
) -> tuple[jax.Array, LossSums]:
    """Returns nll + z_loss · z, differentiable, and the sums it is made of, not differentiable.

    Position i predicts token i + `ahead` with that token's weight; an encoder-decoder's decoder
    reads its targets shifted, and `ahead` is 0. Logits exist for
    S / chunks positions at a time and once only: their gradient is formed beside them, so that
    the backward pass has nothing left but to scale it. Ids at or above `vocab_size` are padding
    and get no probability. The z term is PaLM's (Chowdhery et al. 2022, §5).
    """
    targets_BS, weights_BS = _shift(tokens_BS, loss_weights_BS, ahead)
    static = (vocab_size, chunks, z_loss, bend, None)
    return _loss(hidden_BSD, head_DV, targets_BS, weights_BS, None, static)[:2]


def distilled_loss(
    hidden_BSD: jax.Array,
    head_DV: jax.Array,
    tokens_BS: jax.Array,
    loss_weights_BS: jax.Array,
    base: Base | Tops,
    how: Comparison,
    *,
    vocab_size: int,
    chunks: int,
    z_loss: float = 0.0,
    bend: Bend = NO_BEND,
    ahead: int = 1,
) -> tuple[jax.Array, tuple[LossSums, jax.Array]]:
    """Returns `next_token_loss` + factor · T² · KL, its sums, and the KL(base ‖ model) in nats.

    The KL is summed over the predicted tokens of the rows that count; nothing flows back into the
    base. The base's logits, too, exist for S / chunks positions at a time.
    """
    targets_BS, weights_BS = _shift(tokens_BS, loss_weights_BS, ahead)
    static = (vocab_size, chunks, z_loss, bend, how)
    objective, *sums = _loss(hidden_BSD, head_DV, targets_BS, weights_BS, base, static)
    return objective, (sums[0], sums[1])


def predicted(loss_weights_BS: jax.Array, ahead: int) -> jax.Array:
    """Returns each row's predicted tokens, float32 [B], as the losses here count them."""
    return jnp.sum(predicted_places(loss_weights_BS, ahead), axis=1)


def predicted_places(loss_weights_BS: jax.Array, ahead: int) -> jax.Array:
    """Returns 1 where the losses here count what is predicted, else 0: float32 [B, S]."""
    return _shift(loss_weights_BS, loss_weights_BS, ahead)[1]


def next_token_sums(
    hidden_BSD: jax.Array,
    head_DV: jax.Array,
    tokens_BS: jax.Array,
    loss_weights_BS: jax.Array,
    *,
    vocab_size: int,
    chunks: int,
    bend: Bend = NO_BEND,
    ahead: int = 1,
) -> LossSums:
    """Returns the sums of `next_token_loss` for each row: arrays [B]."""
    targets_BS, weights_BS = _shift(tokens_BS, loss_weights_BS, ahead)

    def piece(carry: None, part: tuple[jax.Array, ...]) -> tuple[None, LossSums]:
        return carry, _piece(part, head_DV, vocab_size, bend)[0]

    parts = tuple(pieces(x, chunks) for x in (hidden_BSD, targets_BS, weights_BS))
    _, sums = jax.lax.scan(piece, None, parts)
    return jax.tree.map(lambda x: jnp.sum(x, axis=0), sums)


def _shift(
    tokens_BS: jax.Array, loss_weights_BS: jax.Array, ahead: int
) -> tuple[jax.Array, jax.Array]:
    weights_BS = loss_weights_BS.astype(jnp.float32)
    if not ahead:
        return tokens_BS, weights_BS
    weights_BS = jnp.roll(weights_BS, -ahead, axis=1)
    return jnp.roll(tokens_BS, -ahead, axis=1), weights_BS.at[:, -ahead:].set(0.0)


def pieces(x_BS: jax.Array, chunks: int) -> jax.Array:
    """Cuts arrays [B, S, …] into [chunks, B, S / chunks, …].

    Where devices share rows each cuts the positions that it holds: no position moves, and all work
    on every piece.
    """
    B, S = x_BS.shape[:2]
    parts = seq_parts(S // chunks)
    if parts == 1:
        return jnp.moveaxis(x_BS.reshape(B, chunks, S // chunks, *x_BS.shape[2:]), 1, 0)
    x = x_BS.reshape(B, parts, chunks, S // (parts * chunks), *x_BS.shape[2:])
    return jnp.moveaxis(x, 2, 0).reshape(chunks, B, S // chunks, *x_BS.shape[2:])


def rows(cut: jax.Array) -> jax.Array:
    """Returns the arrays [B, S, …] that `pieces` has cut."""
    chunks, B, C = cut.shape[:3]
    parts = seq_parts(C)
    if parts > 1:
        cut = jnp.moveaxis(cut.reshape(chunks, B, parts, C // parts, *cut.shape[3:]), 0, 2)
        return cut.reshape(B, chunks * C, *cut.shape[4:])
    return jnp.moveaxis(cut, 0, 1).reshape(B, chunks * C, *cut.shape[3:])


class _Softmax(NamedTuple):
    """What the gradient of a piece needs.

    The logits, exp(logits - max), its sum, the log-normaliser, where the targets are, and the slope
    of the logits over hidden · head, None where it is 1.
    """

    logits_BCV: jax.Array
    exp_BCV: jax.Array
    total_BC: jax.Array
    log_z_BC: jax.Array
    hit_BCV: jax.Array
    bend_BCV: jax.Array | float | None


def _piece(
    part: tuple[jax.Array, ...], head_DV: jax.Array, vocab_size: int, bend: Bend
) -> tuple[LossSums, _Softmax]:
    """Returns one piece's sums by row [B] and its softmax."""
    hidden_BCD, targets_BC, weights_BC = part
    C, V = hidden_BCD.shape[1], head_DV.shape[1]
    logits_BCV = jnp.einsum("BCD,DV->BCV", hidden_BCD, head_DV, preferred_element_type=jnp.float32)
    logits_BCV = constrain(logits_BCV, "batch", seq_axis(C), "vocab")
    bend_BCV: jax.Array | float | None = bend.scale
    if bend.scale is not None:
        logits_BCV = logits_BCV * bend.scale
    if bend.softcap is not None:
        tanh_BCV = jnp.tanh(logits_BCV / bend.softcap)
        logits_BCV = bend.softcap * tanh_BCV
        # In this order: tanh is near ±1 where the slope is near 0.
        bend_BCV = (1.0 - tanh_BCV) * (1.0 + tanh_BCV) * (bend.scale or 1.0)
    ids_V = jax.lax.broadcasted_iota(jnp.int32, (1, 1, V), 2)
    if vocab_size < V:
        logits_BCV = jnp.where(ids_V < vocab_size, logits_BCV, -1e30)
    best_BC = jnp.max(logits_BCV, axis=-1)
    exp_BCV = jnp.exp(logits_BCV - best_BC[..., None])
    total_BC = jnp.sum(exp_BCV, axis=-1)
    log_z_BC = jnp.log(total_BC) + best_BC
    # A masked sum, not a gather: it stays local where the vocabulary is sharded.
    hit_BCV = ids_V == targets_BC[..., None]
    target_BC = jnp.sum(jnp.where(hit_BCV, logits_BCV, 0.0), axis=-1)
    sums = LossSums(
        nll=jnp.sum((log_z_BC - target_BC) * weights_BC, axis=1),
        z=jnp.sum(jnp.square(log_z_BC) * weights_BC, axis=1),
        correct=jnp.sum((target_BC >= best_BC) * weights_BC, axis=1),
        weight=jnp.sum(weights_BC, axis=1),
    )
    return sums, _Softmax(logits_BCV, exp_BCV, total_BC, log_z_BC, hit_BCV, bend_BCV)


Static = tuple[int, int, float, Bend, Comparison | None]
# The objective, its sums, and the sum of the KL.
Losses = tuple[jax.Array, LossSums, jax.Array]


@functools.partial(jax.custom_vjp, nondiff_argnums=(5,))
def _loss(
    hidden_BSD: jax.Array,
    head_DV: jax.Array,
    targets_BS: jax.Array,
    weights_BS: jax.Array,
    base: Base | Tops | None,
    static: Static,
) -> Losses:
    return _forward(hidden_BSD, head_DV, targets_BS, weights_BS, base, static)[0]


def _forward(
    hidden_BSD: jax.Array,
    head_DV: jax.Array,
    targets_BS: jax.Array,
    weights_BS: jax.Array,
    base: Base | Tops | None,
    static: Static,
) -> tuple[Losses, tuple[jax.Array, jax.Array]]:
    vocab_size, chunks, z_loss, bend, how = static

    def piece(
        carry: tuple[LossSums, jax.Array, jax.Array], part: tuple[jax.Array, ...]
    ) -> tuple[tuple[LossSums, jax.Array, jax.Array], jax.Array]:
        hidden_BCD, _, weights_BC = part[:3]
        sums, softmax = _piece(part[:3], head_DV, vocab_size, bend)
        # d(nll + z_loss z)/dlogits = w ((1 + 2 z_loss log z) p - onehot).
        scale_BC = weights_BC * (1.0 + 2.0 * z_loss * softmax.log_z_BC) / softmax.total_BC
        slope_BCV = softmax.exp_BCV * scale_BC[..., None]
        slope_BCV = slope_BCV - jnp.where(softmax.hit_BCV, weights_BC[..., None], 0.0)
        far = jnp.zeros((), jnp.float32)
        if base is not None and how is not None:
            counted_BC = weights_BC * base.rows_B[:, None]
            if isinstance(base, Tops):
                ids_BCK, logs_BCJ = part[3:]
                far, away_BCV = top_divergence(
                    softmax.logits_BCV, ids_BCK, logs_BCJ, counted_BC, how
                )
            else:
                far, away_BCV = divergence(
                    softmax.logits_BCV, part[3], base.head_DV, counted_BC, how
                )
            slope_BCV = slope_BCV + base.factor * away_BCV
        if softmax.bend_BCV is not None:
            slope_BCV = slope_BCV * softmax.bend_BCV
        slope_BCV = slope_BCV.astype(hidden_BCD.dtype)
        d_hidden_BCD = jnp.einsum("BCV,DV->BCD", slope_BCV, head_DV)
        d_head_DV = jnp.einsum(
            "BCD,BCV->DV", hidden_BCD, slope_BCV, preferred_element_type=jnp.float32
        )
        total, kl, head = carry
        added = jax.tree.map(lambda a, b: a + jnp.sum(b), total, sums)
        return (added, kl + far, head + d_head_DV), constrain(
            d_hidden_BCD, "batch", seq_axis(d_hidden_BCD.shape[1]), None
        )

    zero = jnp.zeros((), jnp.float32)
    start = (LossSums(zero, zero, zero, zero), zero, jnp.zeros(head_DV.shape, jnp.float32))
    beside: tuple[jax.Array, ...] = ()
    if isinstance(base, Tops):
        beside = (base.ids_BSK, base.logs_BSJ)
    elif base is not None:
        beside = (base.hidden_BSD,)
    parts = tuple(pieces(x, chunks) for x in (hidden_BSD, targets_BS, weights_BS, *beside))
    (sums, kl, d_head_DV), d_hidden = jax.lax.scan(piece, start, parts)
    d_hidden_BSD = rows(d_hidden)
    objective = sums.nll + z_loss * sums.z
    if base is not None and how is not None:
        objective = objective + base.factor * how.temperature**2 * kl
    return (objective, sums, kl), (d_hidden_BSD, d_head_DV.astype(head_DV.dtype))


def _backward(static: Static, saved: tuple[jax.Array, jax.Array], cotangent: Any) -> tuple:
    d_hidden_BSD, d_head_DV = saved
    # The sums beside the objective are reports: nothing flows back through them.
    scale = cotangent[0]
    return (
        (scale * d_hidden_BSD).astype(d_hidden_BSD.dtype),
        (scale * d_head_DV).astype(d_head_DV.dtype),
        None,
        None,
        None,
    )


_loss.defvjp(_forward, _backward)
