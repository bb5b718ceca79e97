"""Llama 2, 3, 3.1 and 3.2, and whatever else is stored as `LlamaForCausalLM`."""

from __future__ import annotations

import functools
from typing import Any

from twjax.config import Model
from twjax.huggingface.config_fields import Fields
from twjax.huggingface.families import rotary
from twjax.huggingface.families.writing import write
from twjax.huggingface.mapping import Family

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
    model = Model(
        **rotary.take_settings(fields, _DEFAULTS),
        qkv_bias=bias,
        out_bias=bias,
        mlp_bias=fields.flag("mlp_bias", False),
    )
    fields.idle(*rotary.IDLE)
    fields.finish()
    return model


def _fresh(model: Model) -> dict[str, Any]:
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        **rotary.write_settings(model),
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
