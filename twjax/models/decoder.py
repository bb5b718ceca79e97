"""The decoder: RMSNorm, rotary grouped-query attention, SwiGLU, layers in one scan.

Shapes: B batch, S sequence, D embed, L layers, N heads, K key/value heads, H head dim, F mlp,
V padded vocabulary. Weights carry a leading L and are sliced by the scan.
"""

from __future__ import annotations

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jax.ad_checkpoint import checkpoint_name

from twjax.config import Model
from twjax.models import attention
from twjax.models.spec import normal, ones, weight, weight_specs
from twjax.parallel.sharding import constrain

# What the backward pass finds saved instead of computing again, by `Step.remat`.
SAVED_NAMES = ("query", "key", "value", attention.RESIDUALS, "out", "gate", "up", "down")


def rms_norm(x_BSD: jax.Array, scale_D: jax.Array, eps: float) -> jax.Array:
    """Normalises by the root mean square in float32 (Zhang and Sennrich 2019, eq. 4)."""
    x = x_BSD.astype(jnp.float32)
    x = x * jax.lax.rsqrt(jnp.mean(x * x, axis=-1, keepdims=True) + eps)
    return (x * scale_D).astype(x_BSD.dtype)


class Block(nnx.Module):
    """All L layers' weights, declared once; called with one layer's slice merged in."""

    def __init__(self, config: Model):
        c = config
        L, D, N, K, H, F = (
            c.num_layers,
            c.embed_dim,
            c.num_heads,
            c.num_kv_heads,
            c.head_dim,
            c.mlp_dim,
        )
        init = normal(c.init_std)
        # Projections that add to the residual stream start smaller: GPT-2's 1/sqrt(2L).
        init_out = normal(c.init_std / (2 * L) ** 0.5)
        scale = functools.partial(weight, (L, D), ("layers", None), ones())
        self.attention_norm = scale(decay=False, matmul=False)
        self.q = weight((L, D, N, H), ("layers", "embed", "heads", None), init)
        self.k = weight((L, D, K, H), ("layers", "embed", "kv", None), init)
        self.v = weight((L, D, K, H), ("layers", "embed", "kv", None), init)
        self.o = weight((L, N, H, D), ("layers", "heads", None, "embed"), init_out)
        self.mlp_norm = scale(decay=False, matmul=False)
        self.gate = weight((L, D, F), ("layers", "embed", "mlp"), init)
        self.up = weight((L, D, F), ("layers", "embed", "mlp"), init)
        self.down = weight((L, F, D), ("layers", "mlp", "embed"), init_out)
        self.eps = c.norm_eps

    def __call__(
        self,
        x_BSD: jax.Array,
        angles_BSF: jax.Array,
        segment_ids_BS: jax.Array,
        kind: attention.Kind,
    ) -> jax.Array:
        y_BSD = rms_norm(x_BSD, self.attention_norm[...], self.eps)
        q_BSNH = jnp.einsum("BSD,DNH->BSNH", y_BSD, self.q[...])
        k_BSKH = jnp.einsum("BSD,DKH->BSKH", y_BSD, self.k[...])
        v_BSKH = jnp.einsum("BSD,DKH->BSKH", y_BSD, self.v[...])
        q_BSNH = checkpoint_name(attention.rotate(q_BSNH, angles_BSF), "query")
        k_BSKH = checkpoint_name(attention.rotate(k_BSKH, angles_BSF), "key")
        v_BSKH = checkpoint_name(v_BSKH, "value")
        q_BSNH = constrain(q_BSNH, "batch", "seq", "heads", None)
        k_BSKH = constrain(k_BSKH, "batch", "seq", "kv", None)
        v_BSKH = constrain(v_BSKH, "batch", "seq", "kv", None)
        mixed_BSNH = attention.attend(q_BSNH, k_BSKH, v_BSKH, segment_ids_BS, kind)
        out_BSD = jnp.einsum("BSNH,NHD->BSD", mixed_BSNH, self.o[...])
        x_BSD = x_BSD + checkpoint_name(out_BSD, "out")
        x_BSD = constrain(x_BSD, "batch", "seq", None)

        y_BSD = rms_norm(x_BSD, self.mlp_norm[...], self.eps)
        gate_BSF = checkpoint_name(jnp.einsum("BSD,DF->BSF", y_BSD, self.gate[...]), "gate")
        up_BSF = checkpoint_name(jnp.einsum("BSD,DF->BSF", y_BSD, self.up[...]), "up")
        hidden_BSF = constrain(jax.nn.silu(gate_BSF) * up_BSF, "batch", "seq", "mlp")
        down_BSD = jnp.einsum("BSF,FD->BSD", hidden_BSF, self.down[...])
        x_BSD = x_BSD + checkpoint_name(down_BSD, "down")
        return constrain(x_BSD, "batch", "seq", None)


class Decoder(nnx.Module):
    """Weights of a causal language model, without values; `forward` is its function."""

    def __init__(self, config: Model):
        V, D = config.padded_vocab_size, config.embed_dim
        init = normal(config.init_std)
        self.embedding = weight((V, D), ("vocab", "embed"), init)
        self.layers = Block(config)
        self.final_norm = weight((D,), (None,), ones(), decay=False, matmul=False)
        if not config.tie_embeddings:
            self.head = weight((D, V), ("embed", "vocab"), init)


@dataclasses.dataclass(frozen=True)
class Network:
    """A decoder as pure functions of its parameters: nested dicts named as in `specs`."""

    config: Model
    # Both follow from the configuration, which alone makes two networks equal.
    specs: Any = dataclasses.field(compare=False)
    _layers: Any = dataclasses.field(compare=False)

    @classmethod
    def create(cls, config: Model) -> Network:
        """Declares the network; nothing is allocated."""
        decoder = Decoder(config)
        return cls(config, weight_specs(decoder), nnx.split(decoder.layers)[0])

    def hidden(
        self,
        params: Any,
        tokens_BS: jax.Array,
        segment_ids_BS: jax.Array,
        *,
        dtype: Any,
        kind: attention.Kind,
        remat: str = "none",
    ) -> jax.Array:
        """Returns the last layer's normed activations [B, S, D] in `dtype`.

        `params` are the float32 master weights; they are cast before the scan so that sharded
        weights are gathered in the compute dtype.
        """
        params = self.cast(params, dtype)
        table_VD = constrain(params["embedding"], "vocab", None)
        x_BSD = constrain(table_VD[tokens_BS], "batch", "seq", None)
        positions_BS = attention.segment_positions(segment_ids_BS)
        angles_BSF = attention.rotary_angles(
            positions_BS, self.config.head_dim, self.config.rope_theta
        )

        def layer(x_BSD: jax.Array, weights: Any) -> tuple[jax.Array, None]:
            block = nnx.merge(self._layers, weights)
            return block(x_BSD, angles_BSF, segment_ids_BS, kind), None

        if remat != "none":
            policy = (
                jax.checkpoint_policies.save_only_these_names(*SAVED_NAMES)
                if remat == "dots"
                else jax.checkpoint_policies.nothing_saveable
            )
            # The scan already keeps XLA from merging the two passes.
            layer = jax.checkpoint(layer, policy=policy, prevent_cse=False)
        x_BSD, _ = jax.lax.scan(layer, x_BSD, params["layers"])
        return rms_norm(x_BSD, params["final_norm"], self.config.norm_eps)

    def head(self, params: Any, dtype: Any) -> jax.Array:
        """Returns the output projection [D, V], gathered over everything but the vocabulary."""
        tied = self.config.tie_embeddings
        weight_DV = params["embedding"].T if tied else params["head"]
        return constrain(weight_DV.astype(dtype), None, "vocab")

    def logits(self, params: Any, hidden_BSD: jax.Array) -> jax.Array:
        """Returns float32 logits [B, S, vocab_size]; rows of padding are dropped."""
        head_DV = self.head(params, hidden_BSD.dtype)[:, : self.config.vocab_size]
        return jnp.einsum("BSD,DV->BSV", hidden_BSD, head_DV, preferred_element_type=jnp.float32)

    def cast(self, params: Any, dtype: Any) -> Any:
        """Casts the weights of matrix products; norm scales stay float32."""
        return jax.tree.map(
            lambda spec, value: value.astype(dtype) if spec.matmul else value,
            self.specs,
            params,
            is_leaf=lambda leaf: hasattr(leaf, "matmul"),
        )
