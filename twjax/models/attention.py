"""Causal attention over packed rows behind one function: reference, or splash on TPU.

Shapes: B batch, S sequence, N query heads, K key/value heads, H head dim.
"""

from __future__ import annotations

from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jax.ad_checkpoint import checkpoint_name
from jax.sharding import PartitionSpec

from twjax.parallel.sharding import activation_spec, current_mesh

Kind = Literal["reference", "splash"]

# The largest tile that splash attention is given; one tile is at most the sequence.
SPLASH_BLOCK = 1024

# Name under which attention's output and softmax statistics are saved by remat policies.
RESIDUALS = "attention"


def choose_attention(kind: str, platform: str) -> Kind:
    """Resolves "auto": splash on TPU, the reference elsewhere."""
    if kind == "splash" and platform != "tpu":
        raise ValueError(
            f"Step.attention = 'splash' is a TPU kernel, but this is {platform}; use 'auto'."
        )
    if kind == "auto":
        return "splash" if platform == "tpu" else "reference"
    return kind  # type: ignore[return-value]


def attend(
    q_BSNH: jax.Array, k_BSKH: jax.Array, v_BSKH: jax.Array, segment_ids_BS: jax.Array, kind: Kind
) -> jax.Array:
    """Returns softmax(q·k / √H)·v [B, S, N, H] in q's dtype.

    A position sees itself and what stands before it in its own segment. N is a multiple of K:
    consecutive query heads share a key/value head.
    """
    if kind == "splash":
        return _splash(q_BSNH, k_BSKH, v_BSKH, segment_ids_BS)
    return _reference(q_BSNH, k_BSKH, v_BSKH, segment_ids_BS)


def _reference(
    q_BSNH: jax.Array, k_BSKH: jax.Array, v_BSKH: jax.Array, segment_ids_BS: jax.Array
) -> jax.Array:
    B, S, N, H = q_BSNH.shape
    K = k_BSKH.shape[2]
    q_BSKGH = q_BSNH.reshape(B, S, K, N // K, H)
    scores_BKGST = jnp.einsum(
        "BSKGH,BTKH->BKGST", q_BSKGH, k_BSKH, preferred_element_type=jnp.float32
    ) * (H**-0.5)
    position = jnp.arange(S)
    causal_ST = position[:, None] >= position[None, :]
    mask_BST = causal_ST & (segment_ids_BS[:, :, None] == segment_ids_BS[:, None, :])
    # Every position sees itself, so no row of the softmax is empty.
    scores_BKGST = jnp.where(mask_BST[:, None, None], scores_BKGST, -jnp.inf)
    weights_BKGST = jax.nn.softmax(scores_BKGST, axis=-1).astype(v_BSKH.dtype)
    out_BSKGH = jnp.einsum("BKGST,BTKH->BSKGH", weights_BKGST, v_BSKH)
    return checkpoint_name(out_BSKGH.reshape(B, S, N, H), RESIDUALS)


def _splash(
    q_BSNH: jax.Array, k_BSKH: jax.Array, v_BSKH: jax.Array, segment_ids_BS: jax.Array
) -> jax.Array:
    """TPU flash attention by JAX's splash kernel, one call a device and batch row."""
    mesh = current_mesh()
    heads = activation_spec("batch", None, "heads", None)
    kv = activation_spec("batch", None, "kv", None)
    segments = activation_spec("batch", None)
    local = _splash_local
    if mesh is not None:
        local = jax.shard_map(
            local,
            mesh=mesh,
            in_specs=(heads, kv, kv, segments),
            out_specs=PartitionSpec(*heads),
            check_vma=False,
        )
    return local(q_BSNH * (q_BSNH.shape[-1] ** -0.5), k_BSKH, v_BSKH, segment_ids_BS)


def _splash_local(
    q_BSNH: jax.Array, k_BSKH: jax.Array, v_BSKH: jax.Array, segment_ids_BS: jax.Array
) -> jax.Array:
    from jax.experimental.pallas.ops.tpu import splash_attention as splash

    S, N, K = q_BSNH.shape[1], q_BSNH.shape[2], k_BSKH.shape[2]
    block = _tile(S)
    kernel = splash.make_splash_mqa_single_device(
        mask=splash.MultiHeadMask([splash.CausalMask((S, S))] * (N // K)),
        block_sizes=splash.BlockSizes(
            block_q=block,
            block_kv=block,
            block_kv_compute=block,
            block_q_dkv=block,
            block_kv_dkv=block,
            block_kv_dkv_compute=block,
            use_fused_bwd_kernel=True,
        ),
        residual_checkpoint_name=RESIDUALS,
    )
    q_BKGSH = jnp.moveaxis(q_BSNH, 1, 2).reshape(q_BSNH.shape[0], K, N // K, S, -1)
    k_BKSH, v_BKSH = jnp.moveaxis(k_BSKH, 1, 2), jnp.moveaxis(v_BSKH, 1, 2)

    def row(q_KGSH, k_KSH, v_KSH, segment_ids_S):
        ids = splash.SegmentIds(segment_ids_S, segment_ids_S)
        return jax.vmap(lambda q, k, v: kernel(q, k, v, segment_ids=ids))(q_KGSH, k_KSH, v_KSH)

    out_BKGSH: Any = jax.vmap(row)(q_BKGSH, k_BKSH, v_BKSH, segment_ids_BS)
    out_BNSH = out_BKGSH.reshape(q_BSNH.shape[0], N, S, -1)
    return jnp.moveaxis(out_BNSH, 1, 2)


def _tile(length: int) -> int:
    """Returns the largest multiple of 128 up to `SPLASH_BLOCK` that divides the sequence."""
    for block in range(min(SPLASH_BLOCK, length), 127, -1):
        if length % block == 0 and block % 128 == 0:
            return block
    raise ValueError(
        f"Data.seq_len ({length}) must be a multiple of 128 for splash attention; pick one, or "
        "set Step.attention = 'reference'."
    )


def segment_positions(segment_ids_BS: jax.Array) -> jax.Array:
    """Returns int32 positions [B, S] that restart at 0 where the segment id changes."""
    index = jnp.arange(segment_ids_BS.shape[1], dtype=jnp.int32)[None, :]
    starts = jnp.concatenate(
        [
            jnp.ones_like(segment_ids_BS[:, :1], dtype=bool),
            segment_ids_BS[:, 1:] != segment_ids_BS[:, :-1],
        ],
        axis=1,
    )
    first = jax.lax.cummax(jnp.where(starts, index, 0), axis=1)
    return index - first


def rotary_angles(positions_BS: jax.Array, head_dim: int, theta: float) -> np.ndarray | jax.Array:
    """Returns float32 angles [B, S, H/2] of rotary embeddings (Su et al. 2021, §3.4.2)."""
    frequencies = theta ** (-np.arange(0, head_dim, 2, dtype=np.float64) / head_dim)
    return positions_BS[..., None].astype(jnp.float32) * frequencies.astype(np.float32)


def rotate(x_BSNH: jax.Array, angles_BSF: jax.Array) -> jax.Array:
    """Turns pairs (i, i + H/2) of each head by its position's angles, in float32.

    The halves, not neighbours, form a pair: the layout of Hugging Face's Llama weights.
    """
    first, second = jnp.split(x_BSNH.astype(jnp.float32), 2, axis=-1)
    cos, sin = jnp.cos(angles_BSF)[:, :, None], jnp.sin(angles_BSF)[:, :, None]
    turned = jnp.concatenate([first * cos - second * sin, second * cos + first * sin], axis=-1)
    return turned.astype(x_BSNH.dtype)
