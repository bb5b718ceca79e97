"""Qwen3's dense models: no biases, queries and keys normed, heads of a width of their own."""

from __future__ import annotations

import functools
from typing import Any

from twjax.config import Model
from twjax.huggingface.config_fields import Fields
from twjax.huggingface.families import qwen2, rotary
from twjax.huggingface.families.writing import write
from twjax.huggingface.mapping import Family


def read(config: dict[str, Any]) -> Model:
    """Returns the model that a Qwen3 config.json describes."""
    fields = Fields(config, "qwen3")
    bias = fields.flag("attention_bias", False)
    settings = rotary.take_settings(fields, qwen2.DEFAULTS, head_dim=128)
    model = Model(
        **settings,
        qkv_bias=bias,
        out_bias=bias,
        qk_norm=True,
        **qwen2.take_windows(fields, settings["num_layers"]),
    )
    fields.idle(*rotary.IDLE)
    fields.finish()
    return model


def _fresh(model: Model) -> dict[str, Any]:
    return {
        "architectures": ["Qwen3ForCausalLM"],
        "model_type": "qwen3",
        **rotary.write_settings(model),
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
