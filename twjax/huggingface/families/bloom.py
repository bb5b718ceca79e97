"""BLOOM and BloombergGPT: ALiBi, LayerNorm after the embedding, fused queries, keys, values."""

from __future__ import annotations

import functools
from typing import Any

from twjax.config import Model
from twjax.huggingface.config_fields import Fields
from twjax.huggingface.families.rotary import IDLE, head_rules
from twjax.huggingface.families.writing import write
from twjax.huggingface.mapping import Family, Rule


def read(config: dict[str, Any]) -> Model:
    """Returns the model that a BLOOM config.json describes."""
    fields = Fields(config, "bloom")
    # `n_embed` is the older name of the width.
    older = fields.take("n_embed", None)
    width = fields.integer("hidden_size" if older is None else "n_embed", 64)
    fields.idle("hidden_size")
    # Files of the first release have the names of other configurations beside BLOOM's own.
    heads = fields.integer("n_head", fields.take("num_attention_heads", 8))
    layers = fields.integer("n_layer", fields.take("num_hidden_layers", 2))
    fields.expect("num_attention_heads", heads)
    fields.expect("num_hidden_layers", layers)
    if width % heads:
        raise fields.refusal("hidden_size", width, f"it must be a multiple of n_head ({heads})")
    fields.expect("apply_residual_connection_post_layernorm", False)
    model = Model(
        vocab_size=fields.integer("vocab_size", 250_880),
        num_layers=layers,
        embed_dim=width,
        num_heads=heads,
        num_kv_heads=heads,
        head_dim=width // heads,
        mlp_dim=4 * width,
        norm="layer",
        norm_eps=fields.number("layer_norm_epsilon", 1e-5),
        activation="gelu_tanh",
        gated=False,
        positions="alibi",
        qkv_bias=True,
        out_bias=True,
        mlp_bias=True,
        embedding_norm=True,
        tie_embeddings=fields.flag("tie_word_embeddings", True),
        init_std=fields.number("initializer_range", 0.02),
    )
    # How products were split and fused in training, biases that are always there, and lengths
    # that ALiBi doesn't need.
    fields.idle(
        "slow_but_exact",
        "masked_softmax_fusion",
        "attention_softmax_in_fp32",
        "bias_dropout_fusion",
        "offset_alibi",
        "seq_length",
        "skip_bias_add",
        "skip_bias_add_qkv",
        *IDLE,
    )
    fields.finish()
    return model


def _fresh(model: Model) -> dict[str, Any]:
    return {
        "architectures": ["BloomForCausalLM"],
        "model_type": "bloom",
        "vocab_size": model.vocab_size,
        "hidden_size": model.embed_dim,
        "n_layer": model.num_layers,
        "n_head": model.num_heads,
        "layer_norm_epsilon": model.norm_eps,
        "initializer_range": model.init_std,
        "tie_word_embeddings": model.tie_embeddings,
    }


def rules(model: Model) -> tuple[Rule, ...]:
    """Returns which tensor holds which weight."""
    layer = "transformer.h.{layer}."
    found = [Rule("embedding", "transformer.word_embeddings.weight")]
    for ours, theirs in (
        ("embedding_norm", "transformer.word_embeddings_layernorm"),
        ("layers/attention_norm", layer + "input_layernorm"),
        ("layers/mlp_norm", layer + "post_attention_layernorm"),
        ("final_norm", "transformer.ln_f"),
    ):
        found += [Rule(ours, theirs + ".weight"), Rule(f"{ours}_bias", theirs + ".bias")]
    fused = layer + "self_attention.query_key_value"
    for part in ("q", "k", "v"):
        found += [
            Rule(f"layers/{part}", fused + ".weight", "heads_qkv", part),
            Rule(f"layers/{part}_bias", fused + ".bias", "heads_qkv_bias", part),
        ]
    return (
        *found,
        Rule("layers/o", layer + "self_attention.dense.weight", "heads_out"),
        Rule("layers/o_bias", layer + "self_attention.dense.bias"),
        Rule("layers/up", layer + "mlp.dense_h_to_4h.weight", "transpose"),
        Rule("layers/up_bias", layer + "mlp.dense_h_to_4h.bias"),
        Rule("layers/down", layer + "mlp.dense_4h_to_h.weight", "transpose"),
        Rule("layers/down_bias", layer + "mlp.dense_4h_to_h.bias"),
        *head_rules(model),
    )


FAMILY = Family(
    name="bloom",
    architectures=("BloomForCausalLM",),
    read_config=read,
    write_config=functools.partial(write, read=read, fresh=_fresh),
    rules=rules,
    prefix="transformer.",
)
