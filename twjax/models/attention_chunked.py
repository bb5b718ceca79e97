"""Attention over packed rows in tiles, on any device: no array of [S, S], in either pass.

The softmax is that of Dao et al. 2022 (FlashAttention, §3.1): a running maximum and sum by query,
and a backward pass that computes the scores of a tile again from them.

Shapes: B batch, S sequence, N query heads, K key/value heads, G = N / K, H head dim; Q rows of a
tile of queries, T of a tile of keys.
"""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp
from jax.ad_checkpoint import checkpoint_name

from twjax.models.attention import RESIDUALS, Form
from twjax.models.positions import alibi_slopes
from twjax.models.tiles import meetings

# Rows of a tile, of queries and of keys.
ROWS = 512

# Of a score that doesn't count. Finite: a tile may have none that does, and inf - inf is NaN.
MASKED = -1e30


def attend_chunked(
    q_BSNH: jax.Array,
    k_BSKH: jax.Array,
    v_BSKH: jax.Array,
    segment_ids_BS: jax.Array,
    form: Form,
    rows: int = ROWS,
) -> jax.Array:
    """Returns what `attention.attend` does, [B, S, N, H], on one device's arrays."""
    B, S, N, H = q_BSNH.shape
    K = k_BSKH.shape[2]
    rows = min(rows, S)
    q_BSKGH = q_BSNH.reshape(B, S, K, N // K, H)
    filled = [_filled(x, rows) for x in (q_BSKGH, k_BSKH, v_BSKH)]
    # Rows that only fill the last tile see each other: no row of the softmax is empty.
    ids_BS = _filled(segment_ids_BS, rows, jnp.iinfo(jnp.int32).max)
    out_BSKGH = _attend(*filled, ids_BS, form, rows)
    return out_BSKGH[:, :S].reshape(B, S, N, H)


def _filled(x_BS: jax.Array, rows: int, value: int = 0) -> jax.Array:
    over = -x_BS.shape[1] % rows
    widths = [(0, 0), (0, over)] + [(0, 0)] * (x_BS.ndim - 2)
    return jnp.pad(x_BS, widths, constant_values=value) if over else x_BS


def _tile(x_BS: jax.Array, index: Any, rows: int) -> jax.Array:
    return jax.lax.dynamic_slice_in_dim(x_BS, index * rows, rows, axis=1)


def _scores(
    q_BQKGH: jax.Array,
    k_BTKH: jax.Array,
    ids: tuple[jax.Array, jax.Array],
    start: tuple[Any, Any],
    form: Form,
) -> tuple[jax.Array, jax.Array]:
    """Returns a tile's float32 scores [B, K, G, Q, T], and what a change of q·k changes them by.

    `ids` and `start` are the segment ids and the first positions of queries and keys.
    """
    x_BKGQT = form.scale * jnp.einsum(
        "BQKGH,BTKH->BKGQT", q_BQKGH, k_BTKH, preferred_element_type=jnp.float32
    )
    slope_BKGQT = jnp.asarray(form.scale, jnp.float32)
    if form.softcap is not None:
        bent_BKGQT = jnp.tanh(x_BKGQT / form.softcap)
        x_BKGQT = form.softcap * bent_BKGQT
        slope_BKGQT = form.scale * (1 - jnp.square(bent_BKGQT))
    Q, K, G = q_BQKGH.shape[1:4]
    distance_QT = (start[0] + jnp.arange(Q))[:, None] - start[1] - jnp.arange(k_BTKH.shape[1])
    if form.alibi:
        slopes_KG11 = alibi_slopes(K * G).reshape(K, G, 1, 1)
        x_BKGQT = x_BKGQT - slopes_KG11 * distance_QT.astype(jnp.float32)
    seen_BQT = form.sees(distance_QT) & (ids[0][:, :, None] == ids[1][:, None, :])
    return jnp.where(seen_BQT[:, None, None], x_BKGQT, MASKED), slope_BKGQT


def _forward(
    q_BSKGH: jax.Array,
    k_BSKH: jax.Array,
    v_BSKH: jax.Array,
    ids_BS: jax.Array,
    form: Form,
    rows: int,
) -> tuple[jax.Array, jax.Array]:
    """Returns the output [B, S, K, G, H] and the logarithms of the softmax's sums [B, K, G, S]."""
    B, S, K, G, H = q_BSKGH.shape
    first_I = meetings(ids_BS, rows, rows, form.window)[0].min(0)

    def queries(i: jax.Array) -> tuple[jax.Array, jax.Array]:
        q_BQKGH, ids_BQ = _tile(q_BSKGH, i, rows), _tile(ids_BS, i, rows)

        def keys(j: jax.Array, carry: Any) -> Any:
            out, most_BKGQ, sum_BKGQ = carry
            k_BTKH, v_BTKH = _tile(k_BSKH, j, rows), _tile(v_BSKH, j, rows)
            ids = (ids_BQ, _tile(ids_BS, j, rows))
            x_BKGQT, _ = _scores(q_BQKGH, k_BTKH, ids, (i * rows, j * rows), form)
            now_BKGQ = jnp.maximum(most_BKGQ, x_BKGQT.max(-1))
            p_BKGQT = jnp.exp(x_BKGQT - now_BKGQ[..., None])
            before_BKGQ = jnp.exp(most_BKGQ - now_BKGQ)
            mixed_BKGQH = jnp.einsum(
                "BKGQT,BTKH->BKGQH",
                p_BKGQT.astype(v_BTKH.dtype),
                v_BTKH,
                preferred_element_type=jnp.float32,
            )
            out = out * before_BKGQ[..., None] + mixed_BKGQH
            return out, now_BKGQ, sum_BKGQ * before_BKGQ + p_BKGQT.sum(-1)

        shape = (B, K, G, rows)
        carry = (jnp.zeros((*shape, H)), jnp.full(shape, MASKED), jnp.zeros(shape))
        out, most_BKGQ, sum_BKGQ = jax.lax.fori_loop(first_I[i], i + 1, keys, carry)
        out_BQKGH = jnp.moveaxis(out / sum_BKGQ[..., None], 3, 1).astype(q_BSKGH.dtype)
        return out_BQKGH, most_BKGQ + jnp.log(sum_BKGQ)

    out, logs = jax.lax.map(queries, jnp.arange(S // rows))
    return jnp.moveaxis(out, 0, 1).reshape(q_BSKGH.shape), jnp.moveaxis(logs, 0, 3).reshape(
        B, K, G, S
    )


def _backward(
    form: Form, rows: int, kept: tuple[jax.Array, ...], d_out_BSKGH: jax.Array
) -> tuple[jax.Array, jax.Array, jax.Array, None]:
    q_BSKGH, k_BSKH, v_BSKH, ids_BS, out_BSKGH, log_BKGS = kept
    B, S, K, _, H = q_BSKGH.shape
    behind_J = meetings(ids_BS, rows, rows, form.window)[1].max(0)
    # Σ p · dp of a query, from the output (Dao et al. 2022, appendix B.2).
    delta_BSKG = jnp.einsum(
        "BSKGH,BSKGH->BSKG", d_out_BSKGH, out_BSKGH, preferred_element_type=jnp.float32
    )
    log_BSKG = jnp.moveaxis(log_BKGS, 3, 1)
    product = functools.partial(jnp.einsum, preferred_element_type=jnp.float32)

    def keys(d_q_BSKGH: jax.Array, j: jax.Array) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
        k_BTKH, v_BTKH, ids_BT = (_tile(x, j, rows) for x in (k_BSKH, v_BSKH, ids_BS))

        def queries(i: jax.Array, carry: Any) -> Any:
            d_q_BSKGH, d_k_BTKH, d_v_BTKH = carry
            q_BQKGH, d_out_BQKGH, ids_BQ = (
                _tile(x, i, rows) for x in (q_BSKGH, d_out_BSKGH, ids_BS)
            )
            log_BKGQ, delta_BKGQ = (
                jnp.moveaxis(_tile(x, i, rows), 1, 3) for x in (log_BSKG, delta_BSKG)
            )
            start = (i * rows, j * rows)
            x_BKGQT, slope = _scores(q_BQKGH, k_BTKH, (ids_BQ, ids_BT), start, form)
            p_BKGQT = jnp.exp(x_BKGQT - log_BKGQ[..., None])
            d_v_BTKH += product("BKGQT,BQKGH->BTKH", p_BKGQT.astype(q_BSKGH.dtype), d_out_BQKGH)
            d_p_BKGQT = product("BQKGH,BTKH->BKGQT", d_out_BQKGH, v_BTKH)
            d_x_BKGQT = p_BKGQT * (d_p_BKGQT - delta_BKGQ[..., None]) * slope
            d_x_BKGQT = d_x_BKGQT.astype(q_BSKGH.dtype)
            d_k_BTKH += product("BKGQT,BQKGH->BTKH", d_x_BKGQT, q_BQKGH)
            d_q_BQKGH = product("BKGQT,BTKH->BQKGH", d_x_BKGQT, k_BTKH)
            had_BQKGH = _tile(d_q_BSKGH, i, rows)
            d_q_BSKGH = jax.lax.dynamic_update_slice_in_dim(
                d_q_BSKGH, had_BQKGH + d_q_BQKGH, i * rows, axis=1
            )
            return d_q_BSKGH, d_k_BTKH, d_v_BTKH

        zero = jnp.zeros((B, rows, K, H))
        carry = jax.lax.fori_loop(j, behind_J[j], queries, (d_q_BSKGH, zero, zero))
        return carry[0], carry[1:]

    d_q_BSKGH, both = jax.lax.scan(keys, jnp.zeros(q_BSKGH.shape), jnp.arange(S // rows))
    d_k_BSKH, d_v_BSKH = (jnp.moveaxis(x, 0, 1).reshape(k_BSKH.shape) for x in both)
    dtype = q_BSKGH.dtype
    return d_q_BSKGH.astype(dtype), d_k_BSKH.astype(dtype), d_v_BSKH.astype(dtype), None


def _attended(
    q_BSKGH: jax.Array,
    k_BSKH: jax.Array,
    v_BSKH: jax.Array,
    ids_BS: jax.Array,
    form: Form,
    rows: int,
) -> tuple[jax.Array, tuple[jax.Array, ...]]:
    out_BSKGH, log_BKGS = _forward(q_BSKGH, k_BSKH, v_BSKH, ids_BS, form, rows)
    out_BSKGH = checkpoint_name(out_BSKGH, RESIDUALS)
    log_BKGS = checkpoint_name(log_BKGS, RESIDUALS)
    return out_BSKGH, (q_BSKGH, k_BSKH, v_BSKH, ids_BS, out_BSKGH, log_BKGS)


@functools.partial(jax.custom_vjp, nondiff_argnums=(4, 5))
def _attend(
    q_BSKGH: jax.Array,
    k_BSKH: jax.Array,
    v_BSKH: jax.Array,
    ids_BS: jax.Array,
    form: Form,
    rows: int,
) -> jax.Array:
    return _forward(q_BSKGH, k_BSKH, v_BSKH, ids_BS, form, rows)[0]


_attend.defvjp(_attended, _backward)
