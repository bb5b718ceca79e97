"""Attention over packed rows as Pallas kernels for GPUs, through Triton.

The forward pass is one kernel; the backward pass is one for the queries' gradients and one for the
keys' and values', as in Dao 2023 (FlashAttention-2, §3.1.2). A program has one tile and goes over
those that it meets: none behind it, none before a window, none of other segments.

Shapes: B batch, S sequence, N query heads, K key/value heads, G = N / K, H head dim; Q rows of a
tile of queries, T of a tile of keys.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.ad_checkpoint import checkpoint_name
from jax.experimental import pallas as pl
from jax.experimental.pallas import triton

from twjax.models.attention import RESIDUALS, Form
from twjax.models.attention_chunked import MASKED
from twjax.models.positions import alibi_slopes
from twjax.models.tiles import meetings

HEAD_DIMS = (32, 64, 128, 256)

# A product's side on the tensor cores is at least this.
_LEAST = 16

_LOG2_E = math.log2(math.e)


@dataclasses.dataclass(frozen=True)
class Tile:
    """Rows of a kernel's tiles of queries and of keys, its warps, and loads that it runs ahead."""

    queries: int
    keys: int
    warps: int
    stages: int = 2


@dataclasses.dataclass(frozen=True)
class Tiling:
    """The tiles of the forward pass, and those of the gradients of queries and of keys."""

    forward: Tile = Tile(128, 64, 8)
    queries: Tile = Tile(64, 64, 4)
    keys: Tile = Tile(64, 64, 4)


TILING = Tiling()
# What is held of one position is wider.
WIDE = Tiling(Tile(64, 32, 4), Tile(32, 32, 4), Tile(32, 32, 4))


def takes(q_BSNH: jax.Array) -> bool:
    """Whether the kernels take these queries: 16-bit numbers, known heads, rows that tiles fill."""
    S, H = q_BSNH.shape[1], q_BSNH.shape[3]
    return q_BSNH.dtype in (jnp.bfloat16, jnp.float16) and H in HEAD_DIMS and S % 128 == 0


def attend_gpu(
    q_BSNH: jax.Array,
    k_BSKH: jax.Array,
    v_BSKH: jax.Array,
    segment_ids_BS: jax.Array,
    form: Form,
    tiling: Tiling | None = None,
    interpret: bool = False,
) -> jax.Array:
    """Returns what `attention.attend` does, [B, S, N, H], on one device's arrays.

    With `interpret` it runs anywhere, slowly.
    """
    if tiling is None:
        tiling = WIDE if q_BSNH.shape[-1] > 128 else TILING
    return _attend(q_BSNH, k_BSKH, v_BSKH, segment_ids_BS, form, tiling, interpret)


def _rows(ref: Any, index: Any, rows: int) -> Any:
    return triton.load(ref.at[pl.ds(index * rows, rows)])


def _of_head(ref: Any, index: Any, rows: int, head: Any) -> Any:
    return triton.load(ref.at[pl.ds(index * rows, rows), head])


def _scores(
    products_QT: Any, start: tuple[Any, Any], ids: tuple[Any, Any], form: Form, slope: Any
) -> tuple[Any, Any]:
    """Returns scores [Q, T] and what a change of q·k changes them by, or None for `form.scale`."""
    x_QT, change_QT = products_QT * form.scale, None
    if form.softcap is not None:
        bent_QT = jnp.tanh(x_QT / form.softcap)
        x_QT = form.softcap * bent_QT
        change_QT = form.scale * (1 - bent_QT * bent_QT)
    Q, T = products_QT.shape
    distance_QT = (start[0] + jnp.arange(Q))[:, None] - (start[1] + jnp.arange(T))[None, :]
    if form.alibi:
        x_QT = x_QT - slope * distance_QT.astype(jnp.float32)
    seen_QT = form.sees(distance_QT) & (ids[0][:, None] == ids[1][None, :])
    return jnp.where(seen_QT, x_QT, MASKED), change_QT


def _forward_kernel(
    q_ref, k_ref, v_ref, ids_ref, first_ref, slopes_ref, out_ref, log_ref, *, form: Form, tile: Tile
):
    """One tile of queries of one head; q [Q, H], k and v [S, H]."""
    i, n = pl.program_id(0), pl.program_id(2)
    q_QH = triton.load(q_ref)
    slope = triton.load(slopes_ref.at[n])
    ids_Q = _rows(ids_ref, i, tile.queries)

    def keys(j: Any, carry: Any) -> Any:
        out_QH, most_Q, sum_Q = carry
        k_TH = _rows(k_ref, j, tile.keys)
        ids = (ids_Q, _rows(ids_ref, j, tile.keys))
        start = (i * tile.queries, j * tile.keys)
        x_QT, _ = _scores(triton.dot(q_QH, k_TH.T), start, ids, form, slope)
        now_Q = jnp.maximum(most_Q, x_QT.max(axis=1))
        p_QT = jnp.exp2((x_QT - now_Q[:, None]) * _LOG2_E)
        before_Q = jnp.exp2((most_Q - now_Q) * _LOG2_E)
        v_TH = _rows(v_ref, j, tile.keys)
        out_QH = out_QH * before_Q[:, None] + triton.dot(p_QT.astype(v_TH.dtype), v_TH)
        return out_QH, now_Q, sum_Q * before_Q + p_QT.sum(axis=1)

    Q, H = q_QH.shape
    zero_Q = jnp.zeros((Q,), jnp.float32)
    carry = (jnp.zeros((Q, H), jnp.float32), zero_Q + MASKED, zero_Q)
    stop = ((i + 1) * tile.queries + tile.keys - 1) // tile.keys
    out_QH, most_Q, sum_Q = jax.lax.fori_loop(triton.load(first_ref.at[i]), stop, keys, carry)
    triton.store(out_ref, (out_QH / sum_Q[:, None]).astype(out_ref.dtype))
    triton.store(log_ref, most_Q + jnp.log2(sum_Q) / _LOG2_E)


def _queries_kernel(
    q_ref, k_ref, v_ref, d_out_ref, log_ref, delta_ref, ids_ref, first_ref, slopes_ref, d_q_ref, *,
    form: Form, tile: Tile,
):  # fmt: skip
    """The gradients of one tile of queries of one head."""
    i, n = pl.program_id(0), pl.program_id(2)
    q_QH, d_out_QH = triton.load(q_ref), triton.load(d_out_ref)
    log_Q, delta_Q = triton.load(log_ref), triton.load(delta_ref)
    slope = triton.load(slopes_ref.at[n])
    ids_Q = _rows(ids_ref, i, tile.queries)

    def keys(j: Any, d_q_QH: Any) -> Any:
        k_TH, v_TH = _rows(k_ref, j, tile.keys), _rows(v_ref, j, tile.keys)
        ids = (ids_Q, _rows(ids_ref, j, tile.keys))
        start = (i * tile.queries, j * tile.keys)
        x_QT, change_QT = _scores(triton.dot(q_QH, k_TH.T), start, ids, form, slope)
        p_QT = jnp.exp2((x_QT - log_Q[:, None]) * _LOG2_E)
        d_x_QT = p_QT * (triton.dot(d_out_QH, v_TH.T) - delta_Q[:, None])
        d_x_QT = d_x_QT * (form.scale if change_QT is None else change_QT)
        return d_q_QH + triton.dot(d_x_QT.astype(k_TH.dtype), k_TH)

    stop = ((i + 1) * tile.queries + tile.keys - 1) // tile.keys
    zero_QH = jnp.zeros(q_QH.shape, jnp.float32)
    d_q_QH = jax.lax.fori_loop(triton.load(first_ref.at[i]), stop, keys, zero_QH)
    triton.store(d_q_ref, d_q_QH.astype(d_q_ref.dtype))


def _keys_kernel(
    q_ref, k_ref, v_ref, d_out_ref, log_ref, delta_ref, ids_ref, behind_ref, slopes_ref, d_k_ref,
    d_v_ref, *, form: Form, tile: Tile,
):  # fmt: skip
    """The gradients of one tile of keys and values, summed over the G heads that share them."""
    j, group = pl.program_id(0), pl.program_id(2)
    k_TH, v_TH = triton.load(k_ref), triton.load(v_ref)
    ids_T = _rows(ids_ref, j, tile.keys)
    G = q_ref.shape[1]
    first = (j * tile.keys) // tile.queries
    behind = triton.load(behind_ref.at[j])

    def heads(g: Any, carry: Any) -> Any:
        slope = triton.load(slopes_ref.at[group * G + g])

        def queries(i: Any, carry: Any) -> Any:
            d_k_TH, d_v_TH = carry
            q_QH = _of_head(q_ref, i, tile.queries, g)
            d_out_QH = _of_head(d_out_ref, i, tile.queries, g)
            here = pl.ds(i * tile.queries, tile.queries)
            log_Q, delta_Q = triton.load(log_ref.at[g, here]), triton.load(delta_ref.at[g, here])
            ids = (_rows(ids_ref, i, tile.queries), ids_T)
            start = (i * tile.queries, j * tile.keys)
            x_QT, change_QT = _scores(triton.dot(q_QH, k_TH.T), start, ids, form, slope)
            p_QT = jnp.exp2((x_QT - log_Q[:, None]) * _LOG2_E)
            d_v_TH = d_v_TH + triton.dot(p_QT.astype(d_out_QH.dtype).T, d_out_QH)
            d_x_QT = p_QT * (triton.dot(d_out_QH, v_TH.T) - delta_Q[:, None])
            d_x_QT = d_x_QT * (form.scale if change_QT is None else change_QT)
            return d_k_TH + triton.dot(d_x_QT.astype(q_QH.dtype).T, q_QH), d_v_TH

        return jax.lax.fori_loop(first, behind, queries, carry)

    zero_TH = jnp.zeros(k_TH.shape, jnp.float32)
    d_k_TH, d_v_TH = jax.lax.fori_loop(0, G, heads, (zero_TH, zero_TH))
    triton.store(d_k_ref, d_k_TH.astype(d_k_ref.dtype))
    triton.store(d_v_ref, d_v_TH.astype(d_v_ref.dtype))


def _fitted(tile: Tile, S: int) -> Tile:
    """Returns the tile with rows that divide S."""
    queries, keys = (max(math.gcd(rows, S), _LEAST) for rows in (tile.queries, tile.keys))
    return dataclasses.replace(tile, queries=queries, keys=keys)


def _call(kernel: Any, tile: Tile, name: str, interpret: bool, **shapes: Any) -> Any:
    return pl.pallas_call(
        kernel,
        compiler_params=triton.CompilerParams(num_warps=tile.warps, num_stages=tile.stages),
        name=name,
        interpret=interpret,
        **shapes,
    )


def _forward(
    q_BSNH: jax.Array,
    k_BSKH: jax.Array,
    v_BSKH: jax.Array,
    ids_BS: jax.Array,
    form: Form,
    tiling: Tiling,
    interpret: bool,
) -> tuple[jax.Array, jax.Array]:
    """Returns the output [B, S, N, H] and the logarithms of the softmax's sums [B, N, S]."""
    B, S, N, H = q_BSNH.shape
    G, tile = N // k_BSKH.shape[2], _fitted(tiling.forward, S)
    first_BI, _ = meetings(ids_BS, tile.queries, tile.keys, form.window)
    whole = pl.BlockSpec((None, S, None, H), lambda i, b, n: (b, 0, n // G, 0))
    mine = pl.BlockSpec((None, tile.queries, None, H), lambda i, b, n: (b, i, n, 0))
    return _call(
        functools.partial(_forward_kernel, form=form, tile=tile),
        tile,
        "attention",
        interpret,
        grid=(S // tile.queries, B, N),
        in_specs=[
            mine,
            whole,
            whole,
            pl.BlockSpec((None, S), lambda i, b, n: (b, 0)),
            pl.BlockSpec((None, first_BI.shape[1]), lambda i, b, n: (b, 0)),
            pl.BlockSpec((N,), lambda i, b, n: (0,)),
        ],
        out_specs=[mine, pl.BlockSpec((None, None, tile.queries), lambda i, b, n: (b, n, i))],
        out_shape=[
            jax.ShapeDtypeStruct(q_BSNH.shape, q_BSNH.dtype),
            jax.ShapeDtypeStruct((B, N, S), jnp.float32),
        ],
    )(q_BSNH, k_BSKH, v_BSKH, ids_BS, first_BI, _slopes(form, N))


def _slopes(form: Form, heads: int) -> np.ndarray:
    return alibi_slopes(heads) if form.alibi else np.zeros(heads, np.float32)


def _backward(
    form: Form, tiling: Tiling, interpret: bool, kept: tuple[jax.Array, ...], d_out_BSNH: jax.Array
) -> tuple[jax.Array, jax.Array, jax.Array, None]:
    q_BSNH, k_BSKH, v_BSKH, ids_BS, out_BSNH, log_BNS = kept
    B, S, N, H = q_BSNH.shape
    K = k_BSKH.shape[2]
    G = N // K
    # Σ p · dp of a query, from the output (Dao et al. 2022, appendix B.2).
    delta_BNS = jnp.einsum(
        "BSNH,BSNH->BNS", d_out_BSNH, out_BSNH, preferred_element_type=jnp.float32
    )
    slopes_N = _slopes(form, N)
    arrays = (q_BSNH, k_BSKH, v_BSKH, d_out_BSNH, log_BNS, delta_BNS, ids_BS)

    tile = _fitted(tiling.queries, S)
    first_BI, _ = meetings(ids_BS, tile.queries, tile.keys, form.window)
    mine = pl.BlockSpec((None, tile.queries, None, H), lambda i, b, n: (b, i, n, 0))
    whole = pl.BlockSpec((None, S, None, H), lambda i, b, n: (b, 0, n // G, 0))
    number = pl.BlockSpec((None, None, tile.queries), lambda i, b, n: (b, n, i))
    d_q_BSNH = _call(
        functools.partial(_queries_kernel, form=form, tile=tile),
        tile,
        "attention_d_queries",
        interpret,
        grid=(S // tile.queries, B, N),
        in_specs=[
            mine,
            whole,
            whole,
            mine,
            number,
            number,
            pl.BlockSpec((None, S), lambda i, b, n: (b, 0)),
            pl.BlockSpec((None, first_BI.shape[1]), lambda i, b, n: (b, 0)),
            pl.BlockSpec((N,), lambda i, b, n: (0,)),
        ],
        out_specs=mine,
        out_shape=jax.ShapeDtypeStruct(q_BSNH.shape, q_BSNH.dtype),
    )(*arrays, first_BI, slopes_N)

    tile = _fitted(tiling.keys, S)
    _, behind_BJ = meetings(ids_BS, tile.queries, tile.keys, form.window)
    mine = pl.BlockSpec((None, tile.keys, None, H), lambda j, b, k: (b, j, k, 0))
    heads = pl.BlockSpec((None, S, G, H), lambda j, b, k: (b, 0, k, 0))
    numbers = pl.BlockSpec((None, G, S), lambda j, b, k: (b, k, 0))
    d_k_BSKH, d_v_BSKH = _call(
        functools.partial(_keys_kernel, form=form, tile=tile),
        tile,
        "attention_d_keys",
        interpret,
        grid=(S // tile.keys, B, K),
        in_specs=[
            heads,
            mine,
            mine,
            heads,
            numbers,
            numbers,
            pl.BlockSpec((None, S), lambda j, b, k: (b, 0)),
            pl.BlockSpec((None, behind_BJ.shape[1]), lambda j, b, k: (b, 0)),
            pl.BlockSpec((N,), lambda j, b, k: (0,)),
        ],
        out_specs=[mine, mine],
        out_shape=[jax.ShapeDtypeStruct(k_BSKH.shape, k_BSKH.dtype)] * 2,
    )(*arrays, behind_BJ, slopes_N)
    return d_q_BSNH, d_k_BSKH, d_v_BSKH, None


def _attended(
    q_BSNH: jax.Array,
    k_BSKH: jax.Array,
    v_BSKH: jax.Array,
    ids_BS: jax.Array,
    form: Form,
    tiling: Tiling,
    interpret: bool,
) -> tuple[jax.Array, tuple[jax.Array, ...]]:
    out_BSNH, log_BNS = _forward(q_BSNH, k_BSKH, v_BSKH, ids_BS, form, tiling, interpret)
    out_BSNH = checkpoint_name(out_BSNH, RESIDUALS)
    log_BNS = checkpoint_name(log_BNS, RESIDUALS)
    return out_BSNH, (q_BSNH, k_BSKH, v_BSKH, ids_BS, out_BSNH, log_BNS)


@functools.partial(jax.custom_vjp, nondiff_argnums=(4, 5, 6))
def _attend(
    q_BSNH: jax.Array,
    k_BSKH: jax.Array,
    v_BSKH: jax.Array,
    ids_BS: jax.Array,
    form: Form,
    tiling: Tiling,
    interpret: bool,
) -> jax.Array:
    return _forward(q_BSNH, k_BSKH, v_BSKH, ids_BS, form, tiling, interpret)[0]


_attend.defvjp(_attended, _backward)
