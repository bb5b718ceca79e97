"""Mistral 7B, with the sliding window of v0.1 and without, as in v0.2 and v0.3."""

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
    "num_key_value_heads": 8,
    "intermediate_size": 14_336,
}


def read(config: dict[str, Any]) -> Model:
    """Returns the model that a Mistral config.json describes."""
    fields = Fields(config, "mistral")
    theta, scaling = read_rope(fields)
    # null is no window; a file without the field has transformers' default.
    window = fields.nullable_integer("sliding_window", 4096)
    model = Model(
        **rotary.take_shape(fields, _DEFAULTS),
        norm_eps=fields.number("rms_norm_eps", 1e-6),
        activation=fields.choose("hidden_act", rotary.ACTIVATIONS, "silu"),
        rope_theta=theta,
        rope_scaling=scaling,
        window=window,
        tie_embeddings=fields.flag("tie_word_embeddings", False),
        init_std=fields.number("initializer_range", 0.02),
    )
    fields.idle(*rotary.IDLE)
    fields.finish()
    return model


def _fresh(model: Model) -> dict[str, Any]:
    return {
        "architectures": ["MistralForCausalLM"],
        "model_type": "mistral",
        **rotary.write_shape(model),
        "sliding_window": model.window,
    }


FAMILY = Family(
    name="mistral",
    architectures=("MistralForCausalLM",),
    read_config=read,
    write_config=functools.partial(write, read=read, fresh=_fresh),
    rules=rotary.tensor_rules,
    ignored=rotary.ROTARY_BUFFERS,
)
