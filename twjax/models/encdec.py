"""The encoder-decoder: T5, T5 v1.1, mT5 and umT5.

Raffel et al. 2020, "Exploring the Limits of Transfer Learning", section 2.1; gated MLP and untied
head of v1.1: Xue et al. 2021, "mT5", section 3.1; a bias table a layer: Chung et al. 2023,
"UniMax". RMSNorm before each sublayer, no biases, no division of scores by √H.

Shapes: B batch, S inputs, T targets, D embed, L layers, N heads, H head dim, F mlp, R buckets,
V padded vocabulary. Weights of layers carry a leading L and are sliced by one scan a stack.
"""

from __future__ import annotations

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jax.ad_checkpoint import checkpoint_name

from twjax.config import Model
from twjax.models import attention, relative
from twjax.models.layers import Weights, heads, mlp, norm, out
from twjax.models.output import Output
from twjax.models.spec import normal, ones, weight, weight_specs
from twjax.models.stack import checkpointed
from twjax.parallel.sharding import constrain

# What the decoder is given before the first target: T5's padding.
START_ID = 0

_SAVED_AS = {"q": "query", "k": "key", "v": "value"}


class Layers(nnx.Module):
    """The weights of all layers of a stack; `cross` adds attention over the encoder's output.

    Initial deviations are those of T5's code: 1/√(what is summed), and queries are smaller where
    scores aren't divided by √H.
    """

    def __init__(self, config: Model, layers: int, *, cross: bool):
        c, L = config, layers
        D, N, H, F = c.embed_dim, c.num_heads, c.head_dim, c.mlp_dim

        def scale() -> nnx.Param:
            return weight((L, D), ("layers", None), ones(), decay=False, matmul=False)

        def read(std: float) -> nnx.Param:
            return weight((L, D, N, H), ("layers", "embed", "heads", None), normal(std))

        def write() -> nnx.Param:
            return weight((L, N, H, D), ("layers", "heads", None, "embed"), normal((N * H) ** -0.5))

        def widen() -> nnx.Param:
            return weight((L, D, F), ("layers", "embed", "mlp"), normal(D**-0.5))

        self.attention_norm = scale()
        std_q = (D * H) ** -0.5 / query_scale(c)
        self.q, self.k, self.v, self.o = read(std_q), read(D**-0.5), read(D**-0.5), write()
        if cross:
            self.cross_norm = scale()
            self.cross_q, self.cross_k = read(std_q), read(D**-0.5)
            self.cross_v, self.cross_o = read(D**-0.5), write()
        self.mlp_norm = scale()
        if c.gated:
            self.gate = widen()
        self.up = widen()
        self.down = weight((L, F, D), ("layers", "mlp", "embed"), normal(F**-0.5))


class Stack(nnx.Module):
    """An encoder's or a decoder's weights."""

    def __init__(self, config: Model, layers: int, *, cross: bool):
        D, R, N = config.embed_dim, config.relative_buckets, config.num_heads
        self.layers = Layers(config, layers, cross=cross)
        self.final_norm = weight((D,), (None,), ones(), decay=False, matmul=False)
        shape, axes = (R, N), (None, "heads")
        if not config.relative_shared:
            shape, axes = (layers, *shape), ("layers", *axes)
        self.relative = weight(shape, axes, normal(D**-0.5), decay=False, matmul=False)


class Declared(nnx.Module):
    """All weights, without values."""

    def __init__(self, config: Model):
        V, D = config.padded_vocab_size, config.embed_dim
        self.embedding = weight((V, D), ("vocab", "embed"), normal(1.0))
        self.encoder = Stack(config, config.encoder_layers, cross=False)
        self.decoder = Stack(config, config.num_layers, cross=True)
        if not config.tie_embeddings:
            self.head = weight((D, V), ("embed", "vocab"), normal(D**-0.5))


class Cache(NamedTuple):
    """What decoding keeps: keys and values of targets so far, and of the inputs, of each layer.

    `length` int32 [] targets are filled in; k, v [L, B, T, N, H]; cross_k, cross_v
    [L, B, S, N, H]; `inputs_segment_ids` int32 [B, S].
    """

    length: jax.Array
    k: jax.Array
    v: jax.Array
    cross_k: jax.Array
    cross_v: jax.Array
    inputs_segment_ids: jax.Array


@dataclasses.dataclass(frozen=True)
class EncoderDecoder(Output):
    """An encoder-decoder as pure functions of its parameters: nested dicts named as in `specs`.

    Rows may be packed: a segment of the targets sees the inputs that have its number.
    """

    @classmethod
    def create(cls, config: Model) -> EncoderDecoder:
        """Declares the network; nothing is allocated."""
        return cls(config, weight_specs(Declared(config)))

    def hidden(
        self,
        params: Any,
        inputs_BS: jax.Array,
        inputs_segment_ids_BS: jax.Array,
        targets_BT: jax.Array,
        targets_segment_ids_BT: jax.Array,
        *,
        dtype: Any,
        kind: attention.Kind = "reference",
        saved: tuple[str, ...] | None = None,
        offloaded: tuple[str, ...] = (),
    ) -> jax.Array:
        """Returns the decoder's normed activations [B, T, D]: place t predicts target t.

        `targets` are not shifted: the decoder reads each segment's behind `START_ID`. There is no
        kernel for scores with a learned bias, so attention is the reference's whatever `kind`.
        """
        del kind
        params = self.cast(params, dtype)
        encoded_BSD = self._encode(params, inputs_BS, inputs_segment_ids_BS, saved, offloaded)
        T = targets_BT.shape[1]
        place = jnp.arange(T)
        same_BTT = targets_segment_ids_BT[:, :, None] == targets_segment_ids_BT[:, None, :]
        self_mask_BTT = same_BTT & (place[:, None] >= place[None, :])
        cross_mask_BTS = targets_segment_ids_BT[:, :, None] == inputs_segment_ids_BS[:, None, :]

        def layer(x_BTD: jax.Array, w: Weights, bias_NTT: jax.Array) -> jax.Array:
            x_BTD = self._attention(w, x_BTD, self_mask_BTT, bias_NTT)
            x_BTD = self._attention(w, x_BTD, cross_mask_BTS, from_BTD=encoded_BSD)
            return self._mlp(w, x_BTD)

        before_BT = shift_right(targets_BT, targets_segment_ids_BT)
        return self._stack(params, "decoder", before_BT, layer, saved, offloaded)

    def start(
        self,
        params: Any,
        inputs_BS: jax.Array,
        inputs_segment_ids_BS: jax.Array,
        length: int,
        *,
        dtype: Any,
    ) -> Cache:
        """Encodes the inputs and returns a cache with room for `length` targets."""
        params = self.cast(params, dtype)
        encoded_BSD = self._encode(params, inputs_BS, inputs_segment_ids_BS, None, ())
        w = params["decoder"]["layers"]
        axes = (None, "batch", None, "heads", None)
        cross_k, cross_v = (
            constrain(jnp.einsum("BSD,LDNH->LBSNH", encoded_BSD, w[name]), *axes)
            for name in ("cross_k", "cross_v")
        )
        L, B, _, N, H = cross_k.shape
        empty = constrain(jnp.zeros((L, B, length, N, H), dtype), *axes)
        return Cache(
            jnp.zeros((), jnp.int32), empty, empty, cross_k, cross_v, inputs_segment_ids_BS
        )

    def extend(self, params: Any, tokens_BT: jax.Array, cache: Cache) -> tuple[jax.Array, Cache]:
        """Returns the activations [B, T, D] behind T more tokens of the decoder, and the cache.

        The first token of all is `START_ID`; place t predicts what follows token t. Every row is
        one document.
        """
        dtype = cache.k.dtype
        params = self.cast(params, dtype)
        positions_T = cache.length + jnp.arange(tokens_BT.shape[1], dtype=jnp.int32)
        room = cache.k.shape[2]
        seen_1TC = (positions_T[:, None] >= jnp.arange(room)[None, :])[None]
        inputs_B1S = (cache.inputs_segment_ids > 0)[:, None, :]

        def bias_at(table_RN: jax.Array) -> jax.Array:
            return relative.bias_at(
                table_RN, positions_T, room, distance=self.config.relative_distance
            )

        def layer(
            carry: tuple[jax.Array, jax.Array, jax.Array], part: Any
        ) -> tuple[tuple[jax.Array, jax.Array, jax.Array], None]:
            x_BTD, keys, values = carry
            number, w, table_RN, cross_k, cross_v = part
            y_BTD = norm(w, "attention_norm", x_BTD, self.config)
            # In the carry, the loop updates them in place.
            at = (number, 0, cache.length, 0, 0)
            keys = jax.lax.dynamic_update_slice(keys, self._heads(w, "k", y_BTD)[None], at)
            values = jax.lax.dynamic_update_slice(values, self._heads(w, "v", y_BTD)[None], at)
            bias_NTC = shared if table_RN is None else bias_at(table_RN)
            q_BTNH = self._heads(w, "q", y_BTD)
            mixed_BTNH = self._attend(q_BTNH, keys[number], values[number], seen_1TC, bias_NTC)
            x_BTD = x_BTD + out(w, mixed_BTNH)
            y_BTD = norm(w, "cross_norm", x_BTD, self.config)
            q_BTNH = self._heads(w, "q", y_BTD, "cross_")
            mixed_BTNH = self._attend(q_BTNH, cross_k, cross_v, inputs_B1S)
            x_BTD = x_BTD + out(w, mixed_BTNH, "cross_")
            return (self._mlp(w, x_BTD, seq=None), keys, values), None

        stack = params["decoder"]
        one = self.config.relative_shared
        shared = bias_at(stack["relative"]) if one else None
        x_BTD = constrain(params["embedding"][tokens_BT], "batch", None, None)
        parts = (
            jnp.arange(self.config.num_layers),
            stack["layers"],
            None if one else stack["relative"],
            cache.cross_k,
            cache.cross_v,
        )
        (x_BTD, keys, values), _ = jax.lax.scan(layer, (x_BTD, cache.k, cache.v), parts)
        hidden_BTD = norm(stack, "final_norm", x_BTD, self.config)
        length = cache.length + tokens_BT.shape[1]
        return hidden_BTD, cache._replace(length=length, k=keys, v=values)

    def _encode(
        self,
        params: Any,
        inputs_BS: jax.Array,
        segment_ids_BS: jax.Array,
        saved: tuple[str, ...] | None,
        offloaded: tuple[str, ...],
    ) -> jax.Array:
        mask_BSS = segment_ids_BS[:, :, None] == segment_ids_BS[:, None, :]

        def layer(x_BSD: jax.Array, w: Weights, bias_NSS: jax.Array) -> jax.Array:
            return self._mlp(w, self._attention(w, x_BSD, mask_BSS, bias_NSS))

        return self._stack(params, "encoder", inputs_BS, layer, saved, offloaded)

    def _stack(
        self,
        params: Any,
        name: str,
        tokens_BS: jax.Array,
        layer: Any,
        saved: tuple[str, ...] | None,
        offloaded: tuple[str, ...],
    ) -> jax.Array:
        """Embeds tokens and applies the layers of a stack and its last norm."""
        stack = params[name]
        table_VD = constrain(params["embedding"], "vocab", None)
        x_BSD = constrain(table_VD[tokens_BS], "batch", "seq", None)
        size = tokens_BS.shape[1]

        def bias(table_RN: jax.Array) -> jax.Array:
            bias_NSS = relative.bias(
                table_RN,
                size,
                size,
                bidirectional=name == "encoder",
                distance=self.config.relative_distance,
            )
            return constrain(bias_NSS, "heads", None, None)

        one = self.config.relative_shared
        shared = bias(stack["relative"]) if one else None

        def step(x_BSD: jax.Array, part: Any) -> tuple[jax.Array, None]:
            w, table_RN = part
            return layer(x_BSD, w, shared if table_RN is None else bias(table_RN)), None

        # The scan already keeps XLA from merging the two passes.
        step = checkpointed(step, saved, offloaded, prevent_cse=False)
        x_BSD, _ = jax.lax.scan(step, x_BSD, (stack["layers"], None if one else stack["relative"]))
        return norm(stack, "final_norm", x_BSD, self.config)

    def _attention(
        self,
        w: Weights,
        x_BSD: jax.Array,
        mask_BST: jax.Array,
        bias_NST: jax.Array | None = None,
        from_BTD: jax.Array | None = None,
    ) -> jax.Array:
        """Adds attention to itself, or over the encoder's output `from_BTD`."""
        prefix = "" if from_BTD is None else "cross_"
        y_BSD = norm(w, prefix + "norm" if prefix else "attention_norm", x_BSD, self.config)
        source_BTD = y_BSD if from_BTD is None else from_BTD
        q_BSNH = self._heads(w, "q", y_BSD, prefix)
        k_BTNH = self._heads(w, "k", source_BTD, prefix)
        v_BTNH = self._heads(w, "v", source_BTD, prefix)
        mixed_BSNH = self._attend(q_BSNH, k_BTNH, v_BTNH, mask_BST, bias_NST)
        return constrain(x_BSD + out(w, mixed_BSNH, prefix), "batch", "seq", None)

    def _heads(self, w: Weights, name: str, y_BSD: jax.Array, prefix: str = "") -> jax.Array:
        x_BSNH = checkpoint_name(heads(w, name, y_BSD, self.config, prefix), _SAVED_AS[name])
        return constrain(x_BSNH, "batch", None, "heads", None)

    def _attend(
        self,
        q_BSNH: jax.Array,
        k_BTNH: jax.Array,
        v_BTNH: jax.Array,
        mask_BST: jax.Array,
        bias_NST: jax.Array | None = None,
    ) -> jax.Array:
        return attend(q_BSNH, k_BTNH, v_BTNH, mask_BST, bias_NST, scale=query_scale(self.config))

    def _mlp(self, w: Weights, x_BSD: jax.Array, seq: str | None = "seq") -> jax.Array:
        y_BSD = norm(w, "mlp_norm", x_BSD, self.config)
        return constrain(x_BSD + mlp(w, y_BSD, self.config, None), "batch", seq, None)


def query_scale(config: Model) -> float:
    """Returns what q·k is multiplied by."""
    return config.head_dim**-0.5 if config.query_scale is None else config.query_scale


def attend(
    q_BSNH: jax.Array,
    k_BTNH: jax.Array,
    v_BTNH: jax.Array,
    mask_BST: jax.Array,
    bias_NST: jax.Array | None = None,
    *,
    scale: float,
) -> jax.Array:
    """Returns softmax(scale · q·k + bias)·v [B, S, N, H] over the keys where `mask` is true.

    A query that sees no key gets zeros. Scores and softmax are float32.
    """
    scores_BNST = jnp.einsum("BSNH,BTNH->BNST", q_BSNH, k_BTNH, preferred_element_type=jnp.float32)
    scores_BNST = scores_BNST * scale
    if bias_NST is not None:
        scores_BNST = scores_BNST + bias_NST
    mask_B1ST = mask_BST[:, None]
    # Finite, so that a query without keys has no NaN in its gradient.
    weights_BNST = jax.nn.softmax(jnp.where(mask_B1ST, scores_BNST, -1e30), axis=-1)
    weights_BNST = jnp.where(mask_B1ST, weights_BNST, 0.0).astype(v_BTNH.dtype)
    out_BSNH = jnp.einsum("BNST,BTNH->BSNH", weights_BNST, v_BTNH)
    return checkpoint_name(out_BSNH, attention.RESIDUALS)


def shift_right(targets_BT: jax.Array, segment_ids_BT: jax.Array) -> jax.Array:
    """Returns what the decoder reads: `START_ID`, then a segment's targets but for the last."""
    first_BT = segment_ids_BT != jnp.roll(segment_ids_BT, 1, axis=1)
    first_BT = first_BT.at[:, 0].set(True)
    return jnp.where(first_BT, START_ID, jnp.roll(targets_BT, 1, axis=1))
