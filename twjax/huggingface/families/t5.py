"""T5, T5 v1.1, mT5 and umT5: encoder-decoders, one class of `transformers` each but for v1.1.

T5 v1.0 ties its output weight to the embedding and multiplies logits by d_model ** -0.5. v1.1, mT5
and umT5, whose config.json says `tie_word_embeddings` false, do neither (T5X's configurations,
`logits_via_embedding`). `transformers` 5 keeps to that for T5; it never scales mT5, and always
scales umT5: there an exported umT5 has the same likeliest tokens, but flatter probabilities.

Saved again by `transformers` 5, mT5 and umT5 say true beside an output weight of their own, which
it goes by when it loads them.
"""

from __future__ import annotations

import functools
from typing import Any

from twjax.config import Model
from twjax.huggingface.config_fields import Fields
from twjax.huggingface.families.rotary import IDLE
from twjax.huggingface.families.writing import write
from twjax.huggingface.mapping import Family, Rule

# feed_forward_proj: (activation, gated, dense_act_fn). T5's gated GELU is the tanh approximation.
_MLPS = {
    "relu": ("relu", False, "relu"),
    "gelu": ("gelu", False, "gelu"),
    "gelu_new": ("gelu_tanh", False, "gelu_new"),
    "silu": ("silu", False, "silu"),
    "gated-relu": ("relu", True, "relu"),
    "gated-gelu": ("gelu_tanh", True, "gelu_new"),
    "gated-silu": ("silu", True, "silu"),
}
_CLASSES = {
    "t5": "T5ForConditionalGeneration",
    "mt5": "MT5ForConditionalGeneration",
    "umt5": "UMT5ForConditionalGeneration",
}
# vocab_size, d_ff, num_layers, num_heads, feed_forward_proj where a config.json leaves them out.
_DEFAULTS = {
    "t5": (32_128, 2048, 6, 8, "relu"),
    "mt5": (250_112, 1024, 8, 6, "gated-gelu"),
    "umt5": (250_112, 1024, 8, 6, "gated-gelu"),
}


def read(config: dict[str, Any], *, kind: str) -> Model:
    """Returns the model that a T5's, mT5's or umT5's config.json describes."""
    fields = Fields(config, kind)
    vocab_size, d_ff, layers, heads, mlp = _DEFAULTS[kind]
    layers = fields.integer("num_layers", layers)
    heads = fields.integer("num_heads", heads)
    d_model = fields.integer("d_model", 512)
    activation, gated, name = fields.choose("feed_forward_proj", {k: _MLPS[k] for k in _MLPS}, mlp)
    # What transformers derives from it and writes beside it.
    fields.expect("dense_act_fn", name, None)
    fields.expect("is_gated_act", gated, None)
    fields.expect("is_encoder_decoder", True)
    # Padding begins the decoder's text.
    fields.expect("decoder_start_token_id", 0, None)
    fields.expect("pad_token_id", 0, None)
    tied, scaled = _ends(fields, kind)
    fields.idle("n_positions", "scalable_attention", *IDLE)
    model = Model(
        vocab_size=fields.integer("vocab_size", vocab_size),
        encoder_layers=layers,
        num_layers=fields.integer("num_decoder_layers", layers),
        embed_dim=d_model,
        num_heads=heads,
        num_kv_heads=heads,
        head_dim=fields.integer("d_kv", 64),
        mlp_dim=fields.integer("d_ff", d_ff),
        norm_eps=fields.number("layer_norm_epsilon", 1e-6),
        activation=activation,
        gated=gated,
        positions="relative",
        relative_buckets=fields.integer("relative_attention_num_buckets", 32),
        relative_distance=fields.integer("relative_attention_max_distance", 128),
        relative_shared=kind != "umt5",
        query_scale=1.0,
        tie_embeddings=tied,
        logits_scale=d_model**-0.5 if scaled else None,
    )
    fields.finish()
    return model


def _ends(fields: Fields, kind: str) -> tuple[bool, bool]:
    """Returns whether the output weight is the embedding, and whether logits are scaled."""
    if kind != "t5":
        # mT5's class has said so by default since it was published.
        tied = fields.flag("tie_word_embeddings", False)
        return tied, tied and kind == "umt5"
    tied = fields.flag("tie_word_embeddings", True)
    # `transformers` 5 writes true for every T5, and in this field what it read.
    scaled = fields.flag("scale_decoder_outputs", tied)
    if scaled and not tied:
        raise fields.refusal("scale_decoder_outputs", True, "untied T5 are not scaled")
    return scaled, scaled


def fresh(model: Model, *, kind: str) -> dict[str, Any]:
    """Returns a whole config.json."""
    mlps = {(activation, gated): name for name, (activation, gated, _) in _MLPS.items()}
    fields = {
        "architectures": [_CLASSES[kind]],
        "model_type": kind,
        "is_encoder_decoder": True,
        "vocab_size": model.vocab_size,
        "d_model": model.embed_dim,
        "d_kv": model.head_dim,
        "d_ff": model.mlp_dim,
        "num_layers": model.encoder_layers,
        "num_decoder_layers": model.num_layers,
        "num_heads": model.num_heads,
        "feed_forward_proj": mlps.get((model.activation, model.gated)),
        "relative_attention_num_buckets": model.relative_buckets,
        "relative_attention_max_distance": model.relative_distance,
        "layer_norm_epsilon": model.norm_eps,
        "tie_word_embeddings": model.tie_embeddings,
        "pad_token_id": 0,
        "eos_token_id": 1,
        "decoder_start_token_id": 0,
    }
    return fields


def rules(model: Model) -> tuple[Rule, ...]:
    """Returns which tensor holds which weight."""
    found = [
        Rule("embedding", "shared.weight"),
        Rule("embedding", "encoder.embed_tokens.weight", alias=True),
        Rule("embedding", "decoder.embed_tokens.weight", alias=True),
        *_stack("encoder", model),
        *_stack("decoder", model),
    ]
    if model.tie_embeddings:
        found.append(Rule("embedding", "lm_head.weight", alias=True))
    else:
        found.append(Rule("head", "lm_head.weight", "transpose"))
    return tuple(found)


def _stack(side: str, model: Model) -> list[Rule]:
    """Returns the rules of the encoder or the decoder: their sublayers are numbered."""
    block, ours = f"{side}.block.{{layer}}.layer.", f"{side}/layers/"
    bias = "layer.0.SelfAttention.relative_attention_bias.weight"
    # One table for all is kept by the first layer.
    first = "0" if model.relative_shared else "{layer}"
    found = [
        Rule(f"{side}/relative", f"{side}.block.{first}.{bias}"),
        Rule(f"{side}/final_norm", f"{side}.final_layer_norm.weight"),
    ]
    attentions = [("", "attention_norm", "0", "SelfAttention")]
    if side == "decoder":
        attentions.append(("cross_", "cross_norm", "1", "EncDecAttention"))
    for prefix, norm, place, name in attentions:
        found.append(Rule(ours + norm, f"{block}{place}.layer_norm.weight"))
        for part in ("q", "k", "v", "o"):
            layout = "heads_out" if part == "o" else "heads"
            found.append(Rule(ours + prefix + part, f"{block}{place}.{name}.{part}.weight", layout))
    last = f"{block}{len(attentions)}."
    found.append(Rule(ours + "mlp_norm", last + "layer_norm.weight"))
    names = {"gate": "wi_0", "up": "wi_1"} if model.gated else {"up": "wi"}
    for part, name in (names | {"down": "wo"}).items():
        found.append(Rule(ours + part, f"{last}DenseReluDense.{name}.weight", "transpose"))
    return found


def family(kind: str) -> Family:
    """Returns the family of one class."""
    reading = functools.partial(read, kind=kind)
    return Family(
        name=kind,
        architectures=(_CLASSES[kind],),
        read_config=reading,
        write_config=functools.partial(
            write, read=reading, fresh=functools.partial(fresh, kind=kind)
        ),
        rules=rules,
        own_output=kind != "t5",
        vocab_size=_DEFAULTS[kind][0],
        # Old checkpoints have a table for cross attention, which T5 doesn't read.
        ignored=(r"decoder\.block\.0\.layer\.1\.EncDecAttention\.relative_attention_bias\.weight",),
    )


FAMILY = family("t5")
