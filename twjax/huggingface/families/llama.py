"""Llama 2, 3, 3.1 and 3.2, and whatever else is stored as `LlamaForCausalLM`."""

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
    "vocab_size": 32_000,
    "num_hidden_layers": 32,
    "hidden_size": 4096,
    "num_attention_heads": 32,
    "num_key_value_heads": None,
    "intermediate_size": 11_008,
}


def read(config: dict[str, Any]) -> Model:
    """Returns the model that a Llama config.json describes."""
    fields = Fields(config, "llama")
    bias = fields.flag("attention_bias", False)
    theta, scaling = read_rope(fields)
    model = Model(
        **rotary.take_shape(fields, _DEFAULTS),
        norm_eps=fields.number("rms_norm_eps", 1e-6),
        activation=fields.choose("hidden_act", rotary.ACTIVATIONS, "silu"),
        rope_theta=theta,
        rope_scaling=scaling,
        qkv_bias=bias,
        out_bias=bias,
        mlp_bias=fields.flag("mlp_bias", False),
        tie_embeddings=fields.flag("tie_word_embeddings", False),
        init_std=fields.number("initializer_range", 0.02),
    )
    fields.idle(*rotary.IDLE)
    fields.finish()
    return model


def _fresh(model: Model) -> dict[str, Any]:
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        **rotary.write_shape(model),
        "attention_bias": model.qkv_bias,
        "mlp_bias": model.mlp_bias,
    }


FAMILY = Family(
    name="llama",
    architectures=("LlamaForCausalLM",),
    read_config=read,
    write_config=functools.partial(write, read=read, fresh=_fresh),
    rules=rotary.tensor_rules,
    ignored=rotary.ROTARY_BUFFERS,
)
