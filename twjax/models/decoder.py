"""The decoder of every family: what `Model` says, layers in one scan, with or without a cache.

Shapes: B batch, S sequence, D embed, L layers, N heads, K key/value heads, H head dim, F mlp,
V padded vocabulary. Weights carry a leading L and are sliced by the scan.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jax.ad_checkpoint import checkpoint_name

from twjax.config import Model
from twjax.models import attention, layers
from twjax.models.attention import Form
from twjax.models.balanced import balance, natural
from twjax.models.cache import Cache
from twjax.models.output import Output
from twjax.models.positions import Rotary, rotary, rotate, segment_positions
from twjax.models.spec import normal, ones, weight, weight_specs
from twjax.models.stack import run_layers
from twjax.parallel.sharding import constrain, row_major

# (queries, keys, values) -> (what attention mixes [B, S, N, H], what to keep of the layer)
Mix = Callable[[jax.Array, jax.Array, jax.Array], tuple[jax.Array, Any]]


class Layers(nnx.Module):
    """All L layers' weights, declared once."""

    def __init__(self, config: Model):
        L, D = config.num_layers, config.embed_dim
        # Projections that add to the residual stream start smaller: GPT-2's 1/sqrt(2L).
        std_out = config.init_std / (2 * L) ** 0.5
        layers.declare_norm(self, "attention_norm", config, D, L)
        layers.declare_attention(self, config, L, std_out=std_out)
        layers.declare_norm(self, "mlp_norm", config, D, L)
        layers.declare_mlp(self, config, L, std_out=std_out)
        if config.norm_position == "both":
            layers.declare_norm(self, "attention_post_norm", config, D, L)
            layers.declare_norm(self, "mlp_post_norm", config, D, L)


class Decoder(nnx.Module):
    """Weights of a causal language model, without values; `Network` is its function."""

    def __init__(self, config: Model):
        V, D = config.padded_vocab_size, config.embed_dim
        init = normal(config.init_std)
        self.embedding = weight((V, D), ("vocab", "embed"), init)
        if config.positions == "learned":
            # Looked up, not multiplied.
            shape = (config.max_positions or 0, D)
            self.positions = weight(shape, (None, "embed"), init, matmul=False)
        if config.embedding_norm:
            self.embedding_norm = weight((D,), (None,), ones(), decay=False, matmul=False)
            layers.declare_bias(self, "embedding_norm_bias", (D,), (None,))
        self.layers = Layers(config)
        if config.norm_position != "post":
            layers.declare_norm(self, "final_norm", config, D)
        if not config.tie_embeddings:
            self.head = weight((D, V), ("embed", "vocab"), init)


def block(
    config: Model,
    w: layers.Weights,
    x_BSD: jax.Array,
    turns: tuple[Rotary, Rotary] | None,
    mix: Mix,
    seq: str | None = "seq",
) -> tuple[jax.Array, Any]:
    """Runs one layer; `turns` are those of queries and of keys.

    `seq` is the logical axis of S (None: whole on every device).
    """
    pre, post = config.norm_position != "post", config.norm_position == "both"
    y_BSD = layers.norm(w, "attention_norm", x_BSD, config) if pre else x_BSD
    q_BSNH = layers.heads(w, "q", y_BSD, config)
    k_BSKH = layers.heads(w, "k", y_BSD, config)
    v_BSKH = layers.heads(w, "v", y_BSD, config)
    if turns is not None:
        q_BSNH, k_BSKH = rotate(q_BSNH, turns[0]), rotate(k_BSKH, turns[1])
    q_BSNH = constrain(checkpoint_name(q_BSNH, "query"), "batch", seq, "heads", None)
    k_BSKH = constrain(checkpoint_name(k_BSKH, "key"), "batch", seq, "kv", None)
    v_BSKH = constrain(checkpoint_name(v_BSKH, "value"), "batch", seq, "kv", None)
    mixed_BSNH, kept = mix(q_BSNH, k_BSKH, v_BSKH)
    out_BSD = layers.out(w, mixed_BSNH)
    if post:
        out_BSD = layers.norm(w, "attention_post_norm", out_BSD, config)
    x_BSD = x_BSD + out_BSD
    if not pre:
        x_BSD = layers.norm(w, "attention_norm", x_BSD, config)
    x_BSD = constrain(x_BSD, "batch", seq, None)

    y_BSD = layers.norm(w, "mlp_norm", x_BSD, config) if pre else x_BSD
    down_BSD = layers.mlp(w, y_BSD, config, seq)
    if post:
        down_BSD = layers.norm(w, "mlp_post_norm", down_BSD, config)
    x_BSD = x_BSD + down_BSD
    if not pre:
        x_BSD = layers.norm(w, "mlp_norm", x_BSD, config)
    return constrain(x_BSD, "batch", seq, None), kept


@dataclasses.dataclass(frozen=True)
class Network(Output):
    """A decoder as pure functions of its parameters: nested dicts named as in `specs`."""

    @classmethod
    def create(cls, config: Model) -> Network:
        """Declares the network; nothing is allocated."""
        if config.encoder_layers:
            raise ValueError(
                f"Model.encoder_layers ({config.encoder_layers}) makes this an encoder-decoder, "
                "not a decoder."
            )
        return cls(config, weight_specs(Decoder(config)))

    def hidden(
        self,
        params: Any,
        tokens_BS: jax.Array,
        segment_ids_BS: jax.Array,
        *,
        dtype: Any,
        kind: attention.Kind,
        saved: tuple[str, ...] | None = None,
        offloaded: tuple[str, ...] = (),
    ) -> jax.Array:
        """Returns the last layer's activations [B, S, D] in `dtype`, normed but for "post" norms.

        `params` are the float32 master weights; they are cast before the scan so that sharded
        weights are gathered in the compute dtype.
        """
        hidden_BSD, _ = self._rows(
            params,
            tokens_BS,
            segment_ids_BS,
            dtype=dtype,
            kind=kind,
            saved=saved,
            offloaded=offloaded,
            keep=False,
        )
        return hidden_BSD

    def start(
        self,
        params: Any,
        tokens_BS: jax.Array,
        segment_ids_BS: jax.Array,
        *,
        length: int,
        dtype: Any,
        kind: attention.Kind,
    ) -> tuple[jax.Array, Cache]:
        """Reads prompts; returns activations [B, S, D] as `hidden` does, and their cache.

        Prompts end at the same place: `segment_ids_BS` is 0 for the padding before a prompt and 1
        from there on. The cache has room for `length` - S tokens more.
        """
        hidden_BSD, kept = self._rows(
            params, tokens_BS, segment_ids_BS, dtype=dtype, kind=kind, saved=None, keep=True
        )
        return hidden_BSD, Cache.start(self.config, kept, segment_ids_BS, length)

    def extend(self, params: Any, tokens_BS: jax.Array, cache: Cache) -> tuple[jax.Array, Cache]:
        """Reads S tokens more of every row; returns their activations [B, S, D] and the cache.

        They are computed in the cache's dtype. There must be room for them: the cache doesn't
        know when it is full.
        """
        config, steps_S = self.config, jnp.arange(tokens_BS.shape[1])
        params = self.cast(params, cache.dtype)
        positions_BS = cache.next_B[:, None] + steps_S
        x_BSD = self._embed(params, tokens_BS, positions_BS, seq=None)
        turns = self._turns(positions_BS, "reference")
        distance_BSS = (steps_S[:, None] - steps_S[None, :])[None]

        def layer(kind: str, x_BSD: jax.Array, w: Any, old: Any) -> tuple[jax.Array, Any]:
            form, held_BC = Form.of(config, kind), cache.positions[kind]
            distance_BSC = positions_BS[:, :, None] - held_BC[:, None, :]

            def mix(q: jax.Array, k: jax.Array, v: jax.Array) -> tuple[jax.Array, Any]:
                mixed = attention.attend_cached(
                    q, old, (k, v), distance_BSC, held_BC >= 0, distance_BSS, form
                )
                return mixed, (k, v)

            turn = turns[kind]
            return block(config, w, x_BSD, turn and (turn, turn), mix, seq=None)

        kinds = config.layer_kinds
        x_BSD, kept = run_layers(layer, kinds, x_BSD, params["layers"], cache.layers)
        return self._final(params, x_BSD), cache.extended(kept, positions_BS)

    def _rows(
        self,
        params: Any,
        tokens_BS: jax.Array,
        segment_ids_BS: jax.Array,
        *,
        dtype: Any,
        kind: attention.Kind,
        saved: tuple[str, ...] | None,
        keep: bool,
        offloaded: tuple[str, ...] = (),
    ) -> tuple[jax.Array, Any]:
        config = self.config
        params = self.cast(params, dtype)
        # What is kept for a cache stays in the order of the rows.
        parts = 1 if keep else attention.parts_of(kind, tokens_BS.shape[1])
        positions_BS = segment_positions(segment_ids_BS)
        if parts > 1:
            # Once for all layers. From here to the last activations all else is a token's own.
            segment_ids_BS = constrain(segment_ids_BS, "batch", None)
            tokens_BS, positions_BS = (balance(x, parts) for x in (tokens_BS, positions_BS))
        x_BSD = self._embed(params, tokens_BS, positions_BS)
        turns = self._turns(positions_BS, kind)

        def layer(place: str, x_BSD: jax.Array, w: Any, _: None) -> tuple[jax.Array, Any]:
            form, turn = Form.of(config, place), turns[place]
            queries = turn
            if turn is not None and attention.is_splash(kind):
                # Queries are scaled as they turn: a pass over memory less.
                queries = turn._replace(scale=turn.scale * form.scale)
                form = dataclasses.replace(form, scale=1.0)

            def mix(q: jax.Array, k: jax.Array, v: jax.Array) -> tuple[jax.Array, Any]:
                mixed = attention.attend(q, k, v, segment_ids_BS, kind, form, parts)
                return mixed, (k, v) if keep else None

            both = (queries, turn) if queries and turn else None
            x_BSD, kept = block(config, w, x_BSD, both, mix)
            return row_major(x_BSD) if attention.is_splash(kind) else x_BSD, kept

        x_BSD, kept = run_layers(
            layer,
            config.layer_kinds,
            x_BSD,
            params["layers"],
            saved=saved,
            offloaded=offloaded,
        )
        x_BSD = self._final(params, x_BSD)
        return x_BSD if parts == 1 else natural(x_BSD, parts), kept

    def _embed(
        self, params: Any, tokens_BS: jax.Array, positions_BS: jax.Array, seq: str | None = "seq"
    ) -> jax.Array:
        config = self.config
        table_VD = constrain(params["embedding"], "vocab", None)
        x_BSD = table_VD[tokens_BS]
        if config.embedding_scale:
            # The factor itself is rounded, as Gemma was trained.
            x_BSD = x_BSD * jnp.asarray(config.embed_dim**0.5, x_BSD.dtype)
        if config.positions == "learned":
            x_BSD = x_BSD + params["positions"].astype(x_BSD.dtype)[positions_BS]
        if config.embedding_norm:
            scale_D, bias_D = params["embedding_norm"], params["embedding_norm_bias"]
            x_BSD = layers.layer_norm(x_BSD, scale_D, bias_D, config.norm_eps)
        return constrain(x_BSD, "batch", seq, None)

    def _turns(self, positions_BS: jax.Array, attends: attention.Kind) -> dict[str, Rotary | None]:
        """Returns the rotary angles of each kind of layer, once for all layers of the kind."""
        kinds: dict[str, Rotary | None] = dict.fromkeys(self.config.layer_kinds)
        if self.config.positions != "rotary":
            return kinds
        turns = {kind: rotary(positions_BS, self.config, kind) for kind in kinds}
        return {
            kind: t._replace(products=attention.is_splash(attends)) for kind, t in turns.items()
        }

    def _final(self, params: Any, x_BSD: jax.Array) -> jax.Array:
        if self.config.norm_position == "post":
            return x_BSD
        return layers.norm(params, "final_norm", x_BSD, self.config)
