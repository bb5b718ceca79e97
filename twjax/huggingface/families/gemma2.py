"""Gemma 2: norms before and after, soft caps, every other layer with a window."""

from __future__ import annotations

import functools
from typing import Any

from twjax.config import Model
from twjax.huggingface.config_fields import Fields
from twjax.huggingface.families import rotary
from twjax.huggingface.families.writing import write
from twjax.huggingface.mapping import Family
from twjax.huggingface.rope import read_rope

_DEFAULTS = {
    "vocab_size": 256_000,
    "num_hidden_layers": 26,
    "hidden_size": 2304,
    "num_attention_heads": 8,
    "num_key_value_heads": 4,
    "intermediate_size": 9216,
}


def take_common(
    fields: Fields, shape: dict[str, Any], logits_softcap: float | None
) -> dict[str, Any]:
    """Returns what Gemma 2 and 3 have alike; `logits_softcap` is the default."""
    scalar = fields.number("query_pre_attn_scalar", 256)
    bias = fields.flag("attention_bias", False)
    fields.expect("use_bidirectional_attention", None, False)
    return {
        "norm_eps": fields.number("rms_norm_eps", 1e-6),
        "norm_offset": True,
        "norm_position": "both",
        "activation": fields.choose("hidden_activation", rotary.ACTIVATIONS, "gelu_pytorch_tanh"),
        "qkv_bias": bias,
        "out_bias": bias,
        "query_scale": None if scalar == shape["head_dim"] else scalar**-0.5,
        "logits_softcap": fields.nullable("final_logit_softcapping", logits_softcap),
        "embedding_scale": True,
        "tie_embeddings": fields.flag("tie_word_embeddings", True),
        "init_std": fields.number("initializer_range", 0.02),
    }


def write_common(model: Model) -> dict[str, Any]:
    """Returns the fields that Gemma 2 and 3 have alike."""
    scalar = model.head_dim if model.query_scale is None else model.query_scale**-2
    if abs(scalar - round(scalar)) < 1e-6 * scalar:
        scalar = round(scalar)
    fields = rotary.write_settings(model)
    del fields["hidden_act"]
    return {
        **fields,
        "hidden_activation": rotary.ACTIVATION_NAMES[model.activation],
        "query_pre_attn_scalar": scalar,
        "attention_bias": model.qkv_bias,
        "attn_logit_softcapping": model.attention_softcap,
        "final_logit_softcapping": model.logits_softcap,
        "sliding_window": model.window,
        "layer_types": rotary.layer_types(model),
    }


def read(config: dict[str, Any]) -> Model:
    """Returns the model that a Gemma 2 config.json describes."""
    fields = Fields(config, "gemma2")
    shape = rotary.take_shape(fields, _DEFAULTS, head_dim=256)
    theta, scaling = read_rope(fields)
    kinds = fields.take("layer_types", None)
    if kinds is None:
        names = ("sliding_attention", "full_attention")
        kinds = [names[layer % 2] for layer in range(shape["num_layers"])]
    window, pattern = rotary.window_pattern(
        fields, kinds, shape["num_layers"], fields.nullable_integer("sliding_window", 4096)
    )
    model = Model(
        **shape,
        **take_common(fields, shape, logits_softcap=30.0),
        attention_softcap=fields.nullable("attn_logit_softcapping", 50.0),
        rope_theta=theta,
        rope_scaling=scaling,
        window=window,
        window_pattern=pattern,
    )
    # transformers reads sliding_window and hidden_activation, not their second names.
    fields.idle("sliding_window_size", "hidden_act", *rotary.IDLE)
    fields.finish()
    return model


def _fresh(model: Model) -> dict[str, Any]:
    return {
        "architectures": ["Gemma2ForCausalLM"],
        "model_type": "gemma2",
        **write_common(model),
    }


FAMILY = Family(
    name="gemma2",
    architectures=("Gemma2ForCausalLM",),
    read_config=read,
    write_config=functools.partial(write, read=read, fresh=_fresh),
    rules=rotary.tensor_rules,
    ignored=rotary.ROTARY_BUFFERS,
)
