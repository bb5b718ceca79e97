"""Causal attention over packed rows behind one function: reference, splash on TPU, or in tiles.

Shapes: B batch, S queries, T keys, N query heads, K key/value heads, G = N / K, H head dim.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Callable
from typing import Any, Literal

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
from jax.ad_checkpoint import checkpoint_name
from jax.sharding import PartitionSpec

from twjax.config import Model
from twjax.models.balanced import balanced_order, devices_a_row, gathered, own
from twjax.models.positions import alibi_slopes
from twjax.parallel.sharding import activation_spec, constrain, current_mesh
from twjax.parallel.tpu import SMALL_TILES, Tiles

# (q, k, v, segment ids, form) -> what `attend` returns
Attend = Callable[[jax.Array, jax.Array, jax.Array, jax.Array, "Form"], jax.Array]
# Tiles: splash with these.
Kind = Literal["reference", "splash", "chunked", "pallas"] | Tiles | Attend

# JAX's names of a GPU's platform.
GPUS = ("gpu", "cuda", "rocm")

# Rows that it takes are multiples of this.
SPLASH_COLUMNS = 128

# Name under which attention's output and softmax statistics are saved by remat policies.
RESIDUALS = "attention"


@dataclasses.dataclass(frozen=True)
class Form:
    """What attention does with q·k: times `scale`, capped, less for distance, within a window.

    `softcap` c makes a score c · tanh(score / c); `alibi` lowers it by slope · distance;
    `window` lets a position see itself and the window - 1 before.
    """

    scale: float
    softcap: float | None = None
    window: int | None = None
    alibi: bool = False

    @classmethod
    def of(cls, config: Model, kind: str) -> Form:
        """Returns the form of a decoder's "local" or "global" layer."""
        scale = config.head_dim**-0.5 if config.query_scale is None else config.query_scale
        window = config.window if kind == "local" else None
        return cls(scale, config.attention_softcap, window, config.positions == "alibi")

    def sees(self, distance: jax.Array) -> jax.Array:
        """Whether a query sees a key that stands `distance` positions before it."""
        seen = distance >= 0
        return seen if self.window is None else seen & (distance < self.window)


def choose_attention(kind: str, platform: str) -> Kind:
    """Resolves "auto": splash on TPU, the Pallas kernel on GPU, the reference elsewhere."""
    for kernel, name, platforms in (("splash", "TPU", ("tpu",)), ("pallas", "GPU", GPUS)):
        if kind == kernel and platform not in platforms:
            raise ValueError(
                f"Step.attention = '{kernel}' is a {name} kernel, but this is {platform}; use "
                "'auto'."
            )
    if kind == "auto":
        return "splash" if platform == "tpu" else "pallas" if platform in GPUS else "reference"
    return kind  # type: ignore[return-value]


def is_splash(kind: Kind) -> bool:
    """Whether it is the TPU kernel, for which layers lay out their work otherwise."""
    return kind == "splash" or isinstance(kind, Tiles)


def chunk_unit(kind: Kind) -> int | None:
    """Returns what chunks of rows that devices share are multiples of; None: rows are taken whole.

    `twjax.models.balanced` has the chunks.
    """
    if kind == "reference":
        return 1
    return SPLASH_COLUMNS if is_splash(kind) else None


def parts_of(kind: Kind, length: int) -> int:
    """Returns over how many devices attention of this kind divides the queries of a row."""
    unit = chunk_unit(kind)
    return 1 if unit is None else devices_a_row(length, unit)


def attend(
    q_BSNH: jax.Array,
    k_BSKH: jax.Array,
    v_BSKH: jax.Array,
    segment_ids_BS: jax.Array,
    kind: Kind,
    form: Form,
    parts: int = 1,
) -> jax.Array:
    """Returns softmax(scores)·v [B, S, N, H] in q's dtype, with scores as `form` says.

    A position sees itself and what stands before it in its own segment. N is a multiple of K:
    consecutive query heads share a key/value head. With `parts` above 1 q, k, v and what is
    returned are in balanced order, divided over so many devices; segment ids are in the natural one
    and whole.
    """
    if callable(kind):
        return kind(q_BSNH, k_BSKH, v_BSKH, segment_ids_BS, form)
    if kind == "chunked" or kind == "pallas":
        return _in_tiles(q_BSNH, k_BSKH, v_BSKH, segment_ids_BS, kind, form)
    if kind != "reference":
        tiles = SMALL_TILES if kind == "splash" else kind
        return _splash(q_BSNH, k_BSKH, v_BSKH, segment_ids_BS, form, tiles, parts=parts)
    position: Any = jnp.arange(q_BSNH.shape[1])
    if parts > 1:
        position = balanced_order(q_BSNH.shape[1], parts)
        segment_ids_BS = segment_ids_BS[:, position]
        k_BSKH = constrain(k_BSKH, "batch", None, "kv", None)
        v_BSKH = constrain(v_BSKH, "batch", None, "kv", None)
    distance_ST = position[:, None] - position[None, :]
    same_BST = segment_ids_BS[:, :, None] == segment_ids_BS[:, None, :]
    # Every position sees itself, so no row of the softmax is empty.
    mask_BST = form.sees(distance_ST) & same_BST
    mixed_BSNH = attend_masked(q_BSNH, k_BSKH, v_BSKH, mask_BST, form, distance_ST)
    return checkpoint_name(mixed_BSNH, RESIDUALS)


def attend_masked(
    q_BSNH: jax.Array,
    k_BTKH: jax.Array,
    v_BTKH: jax.Array,
    mask_BST: jax.Array,
    form: Form,
    distance: jax.Array | None = None,
    bias_NST: jax.Array | None = None,
) -> jax.Array:
    """Returns attention [B, S, N, H] under any mask that leaves each query a key.

    `distance` [S, T] or [B, S, T] is what ALiBi needs; `bias_NST` is added to the scores.
    `form.window` isn't applied: it is in the mask.
    """
    B, S, N, H = q_BSNH.shape
    scores_BKGST = scores(q_BSNH, k_BTKH, form, distance)
    if bias_NST is not None:
        scores_BKGST += bias_NST.reshape(*scores_BKGST.shape[1:])
    scores_BKGST = jnp.where(mask_BST[:, None, None], scores_BKGST, -jnp.inf)
    weights_BKGST = jax.nn.softmax(scores_BKGST, axis=-1).astype(v_BTKH.dtype)
    out_BSKGH = jnp.einsum("BKGST,BTKH->BSKGH", weights_BKGST, v_BTKH)
    return out_BSKGH.reshape(B, S, N, H)


def attend_cached(
    q_BSNH: jax.Array,
    old: tuple[jax.Array, jax.Array],
    new: tuple[jax.Array, jax.Array],
    distance_BSC: jax.Array,
    held_BC: jax.Array,
    distance_BSS: jax.Array,
    form: Form,
) -> jax.Array:
    """Returns attention [B, S, N, H] over a cache's C keys and S new ones.

    `old` are keys and values [B, K, C, H], of which `held_BC` says what counts; `new` are
    [B, S, K, H]. Both parts share one softmax, so that the cache is read but never copied.
    """
    B, S, N, H = q_BSNH.shape
    k_BKCH, v_BKCH = old
    k_BSKH, v_BSKH = new
    K, C = k_BKCH.shape[1:3]
    before = _scores("BSKGH,BKCH->BKGSC", _grouped(q_BSNH, K), k_BKCH, form, distance_BSC)
    seen_BSC = form.sees(distance_BSC) & held_BC[:, None]
    before = jnp.where(seen_BSC[:, None, None], before, -jnp.inf)
    within = scores(q_BSNH, k_BSKH, form, distance_BSS)
    within = jnp.where(form.sees(distance_BSS)[:, None, None], within, -jnp.inf)
    weights = jax.nn.softmax(jnp.concatenate([before, within], axis=-1), axis=-1)
    weights = weights.astype(v_BSKH.dtype)
    out_BSKGH = jnp.einsum("BKGSC,BKCH->BSKGH", weights[..., :C], v_BKCH)
    out_BSKGH += jnp.einsum("BKGST,BTKH->BSKGH", weights[..., C:], v_BSKH)
    return out_BSKGH.reshape(B, S, N, H)


def scores(
    q_BSNH: jax.Array, k_BTKH: jax.Array, form: Form, distance: jax.Array | None
) -> jax.Array:
    """Returns float32 scores [B, K, G, S, T] before any mask."""
    q_BSKGH = _grouped(q_BSNH, k_BTKH.shape[2])
    return _scores("BSKGH,BTKH->BKGST", q_BSKGH, k_BTKH, form, distance)


def _grouped(q_BSNH: jax.Array, K: int) -> jax.Array:
    B, S, N, H = q_BSNH.shape
    return q_BSNH.reshape(B, S, K, N // K, H)


def _scores(
    product: str, q_BSKGH: jax.Array, k: jax.Array, form: Form, distance: jax.Array | None
) -> jax.Array:
    x_BKGST = jnp.einsum(product, q_BSKGH, k, preferred_element_type=jnp.float32) * form.scale
    if form.softcap is not None:
        x_BKGST = form.softcap * jnp.tanh(x_BKGST / form.softcap)
    if form.alibi:
        assert distance is not None
        K, G = q_BSKGH.shape[2:4]
        slopes_KG11 = alibi_slopes(K * G).reshape(K, G, 1, 1)
        x_BKGST = x_BKGST - slopes_KG11 * distance[..., None, None, :, :].astype(jnp.float32)
    return x_BKGST


def _in_tiles(
    q_BSNH: jax.Array,
    k_BSKH: jax.Array,
    v_BSKH: jax.Array,
    segment_ids_BS: jax.Array,
    kind: Kind,
    form: Form,
) -> jax.Array:
    """The GPU kernel where it takes these arrays, else the same in plain JAX; a call a device."""
    # They need this file.
    from twjax.models.attention_chunked import attend_chunked
    from twjax.models.attention_gpu import attend_gpu, takes

    def local(q_BSNH, k_BSKH, v_BSKH, segment_ids_BS):
        attend = attend_gpu if kind == "pallas" and takes(q_BSNH) else attend_chunked
        return attend(q_BSNH, k_BSKH, v_BSKH, segment_ids_BS, form)

    mesh = current_mesh()
    if mesh is not None:
        heads = activation_spec("batch", None, "heads", None)
        kv = activation_spec("batch", None, "kv", None)
        local = jax.shard_map(
            local,
            mesh=mesh,
            in_specs=(heads, kv, kv, activation_spec("batch", None)),
            out_specs=heads,
            check_vma=False,
        )
    return local(q_BSNH, k_BSKH, v_BSKH, segment_ids_BS)


def _splash(
    q_BSNH: jax.Array,
    k_BSKH: jax.Array,
    v_BSKH: jax.Array,
    segment_ids_BS: jax.Array,
    form: Form,
    tiles: Tiles = SMALL_TILES,
    interpret: bool = False,
    parts: int = 1,
) -> jax.Array:
    """TPU flash attention by JAX's splash kernel, one call a device and batch row.

    With `interpret` it runs anywhere, slowly.
    """
    mesh = current_mesh()
    S, seq = q_BSNH.shape[1], None if parts == 1 else "seq"
    heads = activation_spec("batch", seq, "heads", None)
    kv = activation_spec("batch", seq, "kv", None)
    segments = activation_spec("batch", None)
    if form.scale != 1.0:
        q_BSNH = q_BSNH * form.scale
    if form.alibi:
        position = np.arange(S) if parts == 1 else balanced_order(S, parts)
        q_BSNH, k_BSKH = _with_alibi(q_BSNH, k_BSKH, position)
    local = functools.partial(_splash_local, form=form, tiles=tiles, interpret=interpret)
    in_specs, divided = (heads, kv, kv, segments), ()
    if parts > 1:
        # What a device computes is data: all run one program.
        group = q_BSNH.shape[2] // k_BSKH.shape[2]
        kernel = _kernel(S, group, q_BSNH.shape[-1], form, tiles, interpret, parts)
        divided = (kernel,)
        in_specs = (*in_specs, jax.tree.map(_of_queries, kernel))
    if mesh is not None:
        local = jax.shard_map(
            local,
            mesh=mesh,
            in_specs=in_specs,
            out_specs=PartitionSpec(*heads),
            check_vma=False,
        )
    return local(q_BSNH, k_BSKH, v_BSKH, segment_ids_BS, *divided)


def _of_queries(info: jax.Array) -> PartitionSpec:
    """How what the kernel knows of its mask is divided: [S], or tiles [1, queries, keys]."""
    return activation_spec("seq") if info.ndim == 1 else activation_spec(None, "seq", None)


def _with_alibi(
    q_BSNH: jax.Array, k_BSKH: jax.Array, position: np.ndarray | None = None
) -> tuple[jax.Array, jax.Array]:
    """Lengthens q and k by 6 so that their products hold slope · position of the key.

    Within a row of the softmax that equals - slope · distance but for a constant, and the kernel
    needs no bias. In bfloat16 each factor is exact: a slope is the sum of three parts, a position
    of two digits in base 256, and the products are summed in float32.
    """
    S, N = q_BSNH.shape[1:3]
    rest, parts = alibi_slopes(N), []
    for _ in range(3):
        parts.append(rest.astype(ml_dtypes.bfloat16).astype(np.float32))
        rest = rest - parts[-1]
    position = np.arange(S) if position is None else position
    digits_S2 = np.stack([position // 256 * 256, position % 256], axis=-1)
    slopes_N6 = np.repeat(np.stack(parts, axis=-1), 2, axis=-1)
    digits_S6 = np.tile(digits_S2, (1, 3))
    q6 = jnp.broadcast_to(slopes_N6.astype(q_BSNH.dtype), (*q_BSNH.shape[:3], 6))
    k6 = jnp.broadcast_to(
        digits_S6[:, None].astype(np.float32).astype(k_BSKH.dtype), (*k_BSKH.shape[:3], 6)
    )
    return jnp.concatenate([q_BSNH, q6], axis=-1), jnp.concatenate([k_BSKH, k6], axis=-1)


def _splash_local(
    q_BSNH: jax.Array,
    k_BSKH: jax.Array,
    v_BSKH: jax.Array,
    segment_ids_BS: jax.Array,
    kernel: Any = None,
    *,
    form: Form,
    tiles: Tiles,
    interpret: bool,
) -> jax.Array:
    """One device's part; with a `kernel` its queries are its own chunks of balanced rows."""
    from jax.experimental.pallas.ops.tpu import splash_attention as splash

    S, N, K = q_BSNH.shape[1], q_BSNH.shape[2], k_BSKH.shape[2]
    divided = kernel is not None
    if kernel is None:
        kernel = _kernel(S, N // K, q_BSNH.shape[-1], form, tiles, interpret)
    q_BKGSH = jnp.moveaxis(q_BSNH, 1, 2).reshape(q_BSNH.shape[0], K, N // K, S, -1)
    k_BKTH, v_BKTH = jnp.moveaxis(k_BSKH, 1, 2), jnp.moveaxis(v_BSKH, 1, 2)
    queries_BS = segment_ids_BS
    if divided:
        parts = segment_ids_BS.shape[1] // S
        queries_BS = own(segment_ids_BS, parts)
        if k_BKTH.shape == v_BKTH.shape:
            k_BKTH, v_BKTH = gathered(jnp.stack([k_BKTH, v_BKTH]), parts)
        else:
            k_BKTH, v_BKTH = gathered(k_BKTH, parts), gathered(v_BKTH, parts)

    def row(q_KGSH, k_KTH, v_KTH, queries_S, segment_ids_T):
        ids = splash.SegmentIds(queries_S, segment_ids_T)
        return jax.vmap(lambda q, k, v: kernel(q, k, v, segment_ids=ids))(q_KGSH, k_KTH, v_KTH)

    out_BKGSH: Any = jax.vmap(row)(q_BKGSH, k_BKTH, v_BKTH, queries_BS, segment_ids_BS)
    out_BNSH = out_BKGSH.reshape(q_BSNH.shape[0], N, S, -1)
    return jnp.moveaxis(out_BNSH, 1, 2)


def _kernel(
    length: int,
    group: int,
    head_dim: int,
    form: Form,
    tiles: Tiles,
    interpret: bool,
    parts: int = 1,
) -> Any:
    """Returns JAX's kernel for the query heads of one key/value head."""
    from jax.experimental.pallas.ops.tpu import splash_attention as splash

    sizes = dataclasses.astuple(tiles)
    forward, queries, keys, compute = (_tile(length, head_dim, most) for most in sizes)
    # What is multiplied at a time divides the tile that is held.
    compute = math.gcd(keys, compute)
    few, window = forward, form.window
    if window is not None and window >= length:
        window = None
    if parts > 1:
        from twjax.models.balanced_mask import BalancedMask

        # A tile of queries is of one chunk.
        width = length // (2 * parts)
        few, queries = (_tile(width, head_dim, most) for most in (tiles.forward, tiles.queries))
        mask: Any = BalancedMask(length, parts, window)
    elif window is not None:
        mask = splash.LocalMask((length, length), window_size=(window - 1, 0), offset=0)
    else:
        mask = splash.CausalMask((length, length))
    return splash.make_splash_mqa(
        mask=splash.MultiHeadMask([mask] * group),
        block_sizes=splash.BlockSizes(
            block_q=few,
            block_kv=forward,
            block_kv_compute=forward,
            block_q_dkv=queries,
            block_kv_dkv=keys,
            block_kv_dkv_compute=compute,
            use_fused_bwd_kernel=True,
        ),
        residual_checkpoint_name=RESIDUALS,
        attn_logits_soft_cap=form.softcap,
        interpret=interpret,
        head_shards=1,
        q_seq_shards=parts,
    )


def _tile(length: int, head_dim: int, most: int) -> int:
    """Returns the largest multiple of 128 up to `most` that divides the sequence.

    Heads wider than a vector's 128 lanes take half the rows: the backward kernel's tiles of both
    would be more than the core's own memory (BloombergGPT's 192 on v5p).
    """
    most = most if head_dim <= 128 else max(most // 2, SPLASH_COLUMNS)
    for block in range(min(most, length), SPLASH_COLUMNS - 1, -1):
        if length % block == 0 and block % SPLASH_COLUMNS == 0:
            return block
    raise ValueError(
        f"Data.seq_len ({length}) must be a multiple of 128 for splash attention; pick one, or "
        "set Step.attention = 'reference'."
    )
