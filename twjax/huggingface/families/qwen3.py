"""Qwen3's dense models: no biases, queries and keys normed, heads of a width of their own."""

from __future__ import annotations

import functools
from typing import Any

from twjax.config import Model
from twjax.huggingface.config_fields import Fields
from twjax.huggingface.families import qwen2, rotary
from twjax.huggingface.families.writing import write
from twjax.huggingface.mapping import Family
from twjax.huggingface.rope import read_rope


def read(config: dict[str, Any]) -> Model:
    """Returns the model that a Qwen3 config.json describes."""
    fields = Fields(config, "qwen3")
    bias = fields.flag("attention_bias", False)
    theta, scaling = read_rope(fields)
    shape = rotary.take_shape(fields, qwen2.DEFAULTS, head_dim=128)
    model = Model(
        **shape,
        norm_eps=fields.number("rms_norm_eps", 1e-6),
        activation=fields.choose("hidden_act", rotary.ACTIVATIONS, "silu"),
        rope_theta=theta,
        rope_scaling=scaling,
        qkv_bias=bias,
        out_bias=bias,
        qk_norm=True,
        tie_embeddings=fields.flag("tie_word_embeddings", False),
        init_std=fields.number("initializer_range", 0.02),
        **qwen2.take_windows(fields, shape["num_layers"]),
    )
    fields.idle(*rotary.IDLE)
    fields.finish()
    return model


def _fresh(model: Model) -> dict[str, Any]:
    return {
        "architectures": ["Qwen3ForCausalLM"],
        "model_type": "qwen3",
        **rotary.write_shape(model),
        "attention_bias": model.qkv_bias,
        **qwen2.write_windows(model),
    }


FAMILY = Family(
    name="qwen3",
    architectures=("Qwen3ForCausalLM",),
    read_config=read,
    write_config=functools.partial(write, read=read, fresh=_fresh),
    rules=rotary.tensor_rules,
    ignored=rotary.ROTARY_BUFFERS,
)
