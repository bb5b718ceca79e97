"""What a network is: one class for every family, whose defaults are Llama's."""

from __future__ import annotations

import dataclasses
import math
from typing import Literal

from twjax.config.checks import refuse_idle, require, require_at_least, require_positive


@dataclasses.dataclass(frozen=True, kw_only=True)
class RopeScaling:
    """How rotary frequencies are stretched for rows longer than those first trained on.

    `linear` divides all frequencies by `factor` (Chen et al. 2023, §2.3). `llama3` divides those
    with fewer than `low_frequency` turns in `original_length` positions, keeps those with more
    than `high_frequency`, and blends between (Llama 3.1's reference code). `yarn` blends from 32
    turns (kept) to 1 (divided) and multiplies cosines and sines by 0.1 ln(factor) + 1 (Peng et
    al. 2023, §3.2 and §3.4).
    """

    kind: Literal["linear", "llama3", "yarn"]
    factor: float
    low_frequency: float = 1.0
    high_frequency: float = 4.0
    original_length: int = 8192

    def __post_init__(self) -> None:
        require(
            math.isfinite(self.factor) and self.factor >= 1,
            f"RopeScaling.factor ({self.factor}) must be at least 1.",
        )
        require_positive(self, "low_frequency", "high_frequency")
        require_at_least(self, 1, "original_length")
        refuse_idle(
            self, ("low_frequency", "high_frequency"), self.kind == "llama3", "kind 'llama3'"
        )
        refuse_idle(
            self, ("original_length",), self.kind != "linear", "kind 'llama3' and kind 'yarn'"
        )
        require(
            self.low_frequency < self.high_frequency,
            f"RopeScaling.low_frequency ({self.low_frequency}) must be below "
            f"RopeScaling.high_frequency ({self.high_frequency}).",
        )


@dataclasses.dataclass(frozen=True, kw_only=True)
class Model:
    """A decoder, or with `encoder_layers` an encoder-decoder; the defaults are Llama's.

    `vocab_size` is the number of rows that the weights have, at least one for each id of the
    vocabulary (SentencePiece or `tokenizer.json`); published models may have more. The embedding
    has `padded_vocab_size` rows, the next multiple of `vocab_multiple`, and the padding is masked
    out of every softmax.

    Norms: `norm_offset` stores scales as their distance from 1. `norm_position` "pre" norms the
    input of attention and MLP, "post" the sum with the residual stream (and there is no norm
    after the last layer), "both" the input and the output.

    Attention: q·k is multiplied by `query_scale` (None: head_dim ** -0.5), capped smoothly at
    `attention_softcap`, and for "alibi" positions lowered by the distance. With `window`, layers
    that `window_pattern` calls "local" see themselves and the window - 1 positions before; the
    pattern repeats over the layers, and an empty one makes all local. `rope_local_theta` is the
    base of local layers; then `rope_scaling` is for the global ones only.

    `max_positions` is the number of learned positions. `embedding_scale` multiplies embeddings
    by sqrt(embed_dim), `embedding_norm` is a LayerNorm after them. Logits are multiplied by
    `logits_scale`, then capped smoothly at `logits_softcap`.

    An encoder-decoder has relative positions (T5): `relative_buckets` distances up to
    `relative_distance`, learned once for all layers (`relative_shared`) or by each.
    """

    vocab_size: int
    num_layers: int
    embed_dim: int
    num_heads: int
    num_kv_heads: int
    head_dim: int
    mlp_dim: int
    norm: Literal["rms", "layer"] = "rms"
    norm_eps: float = 1e-5
    norm_offset: bool = False
    norm_position: Literal["pre", "post", "both"] = "pre"
    activation: Literal["silu", "gelu", "gelu_tanh", "relu"] = "silu"
    gated: bool = True
    positions: Literal["rotary", "learned", "alibi", "relative"] = "rotary"
    max_positions: int | None = None
    rope_theta: float = 10_000.0
    rope_local_theta: float | None = None
    rope_scaling: RopeScaling | None = None
    qkv_bias: bool = False
    out_bias: bool = False
    mlp_bias: bool = False
    qk_norm: bool = False
    query_scale: float | None = None
    attention_softcap: float | None = None
    logits_softcap: float | None = None
    window: int | None = None
    window_pattern: tuple[Literal["local", "global"], ...] = ()
    embedding_scale: bool = False
    embedding_norm: bool = False
    tie_embeddings: bool = False
    init_std: float = 0.02
    vocab_multiple: int = 128
    encoder_layers: int = 0
    relative_buckets: int = 32
    relative_distance: int = 128
    relative_shared: bool = True
    logits_scale: float | None = None

    def __post_init__(self) -> None:
        require_at_least(self, 1, "vocab_size", "num_layers", "embed_dim", "num_heads")
        require_at_least(self, 1, "num_kv_heads", "head_dim", "mlp_dim", "vocab_multiple")
        require_at_least(self, 0, "encoder_layers")
        require_positive(self, "rope_theta", "norm_eps", "init_std", "rope_local_theta")
        require_positive(self, "query_scale", "attention_softcap", "logits_softcap")
        require_positive(self, "logits_scale")
        require(
            self.num_heads % self.num_kv_heads == 0,
            f"Model.num_heads ({self.num_heads}) must be a multiple of Model.num_kv_heads "
            f"({self.num_kv_heads}).",
        )
        refuse_idle(self, ("norm_offset",), self.norm == "rms", "norm 'rms'")
        require(
            self.positions != "alibi" or self.attention_softcap is None,
            f"Model.attention_softcap ({self.attention_softcap}) with Model.positions 'alibi': no "
            "kernel caps the scores and not the bias; leave one out.",
        )
        self._check_positions()
        self._check_window()
        self._check_encoder()

    def _check_positions(self) -> None:
        rotary, learned = self.positions == "rotary", self.positions == "learned"
        names = ("rope_theta", "rope_local_theta", "rope_scaling")
        refuse_idle(self, names, rotary, "positions 'rotary'")
        require(
            not rotary or self.head_dim % 2 == 0,
            f"Model.head_dim ({self.head_dim}) must be even: rotary positions turn pairs.",
        )
        refuse_idle(self, ("max_positions",), learned, "positions 'learned'")
        require(
            not learned or (self.max_positions or 0) >= 1,
            f"Model.max_positions ({self.max_positions}) must be the number of learned positions.",
        )

    def _check_window(self) -> None:
        windowed = self.window is not None
        refuse_idle(self, ("window_pattern",), windowed, "a window")
        require(
            self.window is None or self.window >= 1,
            f"Model.window ({self.window}) must be at least 1, or None for no window.",
        )
        kinds = self.layer_kinds
        require(
            not windowed or "local" in kinds,
            f"Model.window ({self.window}) does nothing here: none of the {self.num_layers} "
            f"layers of Model.window_pattern {self.window_pattern} is local.",
        )
        refuse_idle(self, ("rope_local_theta",), windowed, "windowed layers")
        require(
            self.rope_local_theta is None or "global" in kinds,
            f"Model.rope_local_theta ({self.rope_local_theta}) is for local layers beside global "
            "ones; all layers are local here, so bind Model.rope_theta.",
        )

    def _check_encoder(self) -> None:
        both = self.encoder_layers > 0
        require(
            both == (self.positions == "relative"),
            f"Model.positions ({self.positions!r}) with Model.encoder_layers "
            f"({self.encoder_layers}): an encoder-decoder has positions 'relative', a decoder "
            "doesn't.",
        )
        names = ("relative_buckets", "relative_distance", "relative_shared")
        refuse_idle(self, names, both, "an encoder-decoder (Model.encoder_layers)")
        if not both:
            return
        names = ("norm", "norm_offset", "norm_position", "qkv_bias", "out_bias", "mlp_bias")
        names += ("qk_norm", "attention_softcap", "logits_softcap", "window", "window_pattern")
        names += ("embedding_scale", "embedding_norm", "init_std")
        refuse_idle(self, names, False, "decoders")
        require(
            self.num_kv_heads == self.num_heads,
            f"Model.num_kv_heads ({self.num_kv_heads}) must be Model.num_heads ({self.num_heads}) "
            "in an encoder-decoder.",
        )
        # Half of the encoder's buckets look ahead, and half of the rest hold one distance each.
        require(
            self.relative_buckets >= 4 and self.relative_buckets % 2 == 0,
            f"Model.relative_buckets ({self.relative_buckets}) must be even and at least 4.",
        )
        require(
            self.relative_distance > self.relative_buckets // 2,
            f"Model.relative_distance ({self.relative_distance}) must be more than half of "
            f"Model.relative_buckets ({self.relative_buckets}).",
        )

    @property
    def padded_vocab_size(self) -> int:
        return math.ceil(self.vocab_size / self.vocab_multiple) * self.vocab_multiple

    @property
    def layer_kinds(self) -> tuple[Literal["local", "global"], ...]:
        """Whether each layer is windowed ("local") or sees all of its segment ("global")."""
        if self.window is None:
            return ("global",) * self.num_layers
        pattern = self.window_pattern or ("local",)
        return tuple(pattern[layer % len(pattern)] for layer in range(self.num_layers))
