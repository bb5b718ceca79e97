"""The parts that decoders and encoder-decoders share: norms, projections, MLP.

Weights are declared on an `nnx.Module` and come back as a dict `w` of one layer's values, under
the same names. Shapes: B batch, S sequence, D embed, L layers, N heads, K key/value heads,
H head dim, F mlp.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jax.ad_checkpoint import checkpoint_name

from twjax.config import Model
from twjax.models.adapters import project
from twjax.models.spec import Initializer, normal, ones, weight, zeros
from twjax.parallel.sharding import constrain

Weights = Mapping[str, jax.Array]

ACTIVATIONS: dict[str, Callable[[jax.Array], jax.Array]] = {
    "silu": jax.nn.silu,
    "gelu": lambda x: jax.nn.gelu(x, approximate=False),
    "gelu_tanh": lambda x: jax.nn.gelu(x, approximate=True),
    "relu": jax.nn.relu,
}


def rms_norm(x_BSD: jax.Array, scale_D: jax.Array, eps: float, offset: bool = False) -> jax.Array:
    """Normalises by the root mean square in float32 (Zhang and Sennrich 2019, eq. 4).

    With `offset` the scale is stored as its distance from 1.
    """
    x = x_BSD.astype(jnp.float32)
    x = x * jax.lax.rsqrt(jnp.mean(x * x, axis=-1, keepdims=True) + eps)
    scale_D = scale_D + 1.0 if offset else scale_D
    return (x * scale_D).astype(x_BSD.dtype)


def layer_norm(x_BSD: jax.Array, scale_D: jax.Array, bias_D: jax.Array, eps: float) -> jax.Array:
    """Normalises by mean and standard deviation in float32 (Ba et al. 2016, eq. 4)."""
    x = x_BSD.astype(jnp.float32)
    x = x - jnp.mean(x, axis=-1, keepdims=True)
    x = x * jax.lax.rsqrt(jnp.mean(x * x, axis=-1, keepdims=True) + eps)
    return (x * scale_D + bias_D).astype(x_BSD.dtype)


def declare_norm(
    module: nnx.Module, name: str, config: Model, dim: int, layers: int | None = None
) -> None:
    """Declares `name` [L, dim] (without `layers`: [dim]) and for LayerNorm `name`_bias."""
    shape = (dim,) if layers is None else (layers, dim)
    axes = (None,) if layers is None else ("layers", None)
    init = zeros() if config.norm_offset else ones()
    setattr(module, name, weight(shape, axes, init, decay=False, matmul=False))
    if config.norm == "layer":
        declare_bias(module, f"{name}_bias", shape, axes)


def norm(w: Weights, name: str, x_BSD: jax.Array, config: Model) -> jax.Array:
    """Applies the norm declared as `name`."""
    if config.norm == "layer":
        return layer_norm(x_BSD, w[name], w[f"{name}_bias"], config.norm_eps)
    return rms_norm(x_BSD, w[name], config.norm_eps, config.norm_offset)


def declare_bias(
    module: nnx.Module, name: str, shape: tuple[int, ...], axes: tuple[str | None, ...]
) -> None:
    """Declares a bias that starts at zero and isn't decayed."""
    setattr(module, name, weight(shape, axes, zeros(), decay=False, matmul=False))


def add_bias(x: jax.Array, w: Weights, name: str) -> jax.Array:
    """Adds the bias `name` if it was declared."""
    return x + w[name].astype(x.dtype) if name in w else x


def declare_attention(
    module: nnx.Module, config: Model, layers: int, prefix: str = "", std_out: float | None = None
) -> None:
    """Declares q, k, v, o, their biases and q and k's norms, each name after `prefix`.

    `std_out` is the initial deviation of o.
    """
    c, L = config, layers
    D, N, K, H = c.embed_dim, c.num_heads, c.num_kv_heads, c.head_dim
    init = normal(c.init_std)
    init_out = init if std_out is None else normal(std_out)

    def declare(name: str, *dims: tuple[int, str | None], init: Initializer = init) -> None:
        shape, axes = zip((L, "layers"), *dims, strict=True)
        setattr(module, prefix + name, weight(shape, axes, init))

    embed = (D, "embed")
    declare("q", embed, (N, "heads"), (H, None))
    declare("k", embed, (K, "kv"), (H, None))
    declare("v", embed, (K, "kv"), (H, None))
    declare("o", (N, "heads"), (H, None), embed, init=init_out)
    if c.qkv_bias:
        for name, heads, axis in (("q", N, "heads"), ("k", K, "kv"), ("v", K, "kv")):
            declare_bias(module, f"{prefix}{name}_bias", (L, heads, H), ("layers", axis, None))
    if c.out_bias:
        declare_bias(module, f"{prefix}o_bias", (L, D), ("layers", None))
    if c.qk_norm:
        init = zeros() if c.norm_offset else ones()
        for name in ("q_norm", "k_norm"):
            scale = weight((L, H), ("layers", None), init, decay=False, matmul=False)
            setattr(module, prefix + name, scale)


def heads(w: Weights, name: str, y_BSD: jax.Array, config: Model, prefix: str = "") -> jax.Array:
    """Returns the queries, keys or values ("q", "k", "v") [B, S, heads, H] of activations."""
    x_BSNH = project(w, prefix + name, y_BSD, "BSD,DNH->BSNH")
    x_BSNH = add_bias(x_BSNH, w, f"{prefix}{name}_bias")
    scale = f"{prefix}{name}_norm"
    if scale in w:
        x_BSNH = rms_norm(x_BSNH, w[scale], config.norm_eps, config.norm_offset)
    return x_BSNH


def out(w: Weights, mixed_BSNH: jax.Array, prefix: str = "") -> jax.Array:
    """Returns what attention adds to the residual stream [B, S, D]."""
    out_BSD = project(w, prefix + "o", mixed_BSNH, "BSNH,NHD->BSD")
    return checkpoint_name(add_bias(out_BSD, w, f"{prefix}o_bias"), "out")


def declare_mlp(
    module: nnx.Module, config: Model, layers: int, std_out: float | None = None
) -> None:
    """Declares gate (if gated), up, down and their biases; `std_out` is down's deviation."""
    D, F = config.embed_dim, config.mlp_dim
    init = normal(config.init_std)
    init_out = init if std_out is None else normal(std_out)
    inner: Any = module
    wide = ("gate", "up") if config.gated else ("up",)
    for name in wide:
        setattr(inner, name, weight((layers, D, F), ("layers", "embed", "mlp"), init))
    inner.down = weight((layers, F, D), ("layers", "mlp", "embed"), init_out)
    if config.mlp_bias:
        for name in wide:
            declare_bias(module, f"{name}_bias", (layers, F), ("layers", "mlp"))
        declare_bias(module, "down_bias", (layers, D), ("layers", None))


def mlp(w: Weights, y_BSD: jax.Array, config: Model, seq: str | None = "seq") -> jax.Array:
    """Returns what the MLP adds to the residual stream [B, S, D].

    Gated: activation(gate) · up (Shazeer 2020, §2); `seq` is the logical axis of S.
    """
    activation = ACTIVATIONS[config.activation]

    def wide(name: str) -> jax.Array:
        x_BSF = add_bias(project(w, name, y_BSD, "BSD,DF->BSF"), w, f"{name}_bias")
        return checkpoint_name(x_BSF, name)

    hidden_BSF = activation(wide("gate")) * wide("up") if config.gated else activation(wide("up"))
    hidden_BSF = constrain(hidden_BSF, "batch", seq, "mlp")
    down_BSD = project(w, "down", hidden_BSF, "BSF,FD->BSD")
    return checkpoint_name(add_bias(down_BSD, w, "down_bias"), "down")
