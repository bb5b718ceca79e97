"""Qwen2 and Qwen2.5: Llama's layers with biases on queries, keys and values."""

from __future__ import annotations

import functools
from typing import Any

from twjax.config import Model
from twjax.huggingface.config_fields import Fields
from twjax.huggingface.families import rotary
from twjax.huggingface.families.writing import write
from twjax.huggingface.mapping import Family

DEFAULTS = {
    "vocab_size": 151_936,
    "num_hidden_layers": 32,
    "hidden_size": 4096,
    "num_attention_heads": 32,
    "num_key_value_heads": 32,
    "intermediate_size": 22_016,
}


def take_windows(fields: Fields, layers: int) -> dict[str, Any]:
    """Returns `window` and `window_pattern`: windows begin at layer `max_window_layers`."""
    used = fields.flag("use_sliding_window", False)
    window = fields.nullable_integer("sliding_window", 4096)
    first = fields.nullable_integer("max_window_layers", 28)
    if first is None:
        raise fields.refusal("max_window_layers", first, "it must be a whole number")
    kinds = fields.take("layer_types", None)
    if kinds is None:
        sliding = used and window is not None
        kinds = [
            "sliding_attention" if sliding and layer >= first else "full_attention"
            for layer in range(layers)
        ]
    size, pattern = rotary.window_pattern(fields, kinds, layers, window if used else None)
    return {"window": size, "window_pattern": pattern}


def write_windows(model: Model) -> dict[str, Any]:
    """Returns the fields that `take_windows` reads."""
    kinds = rotary.layer_types(model)
    return {
        "use_sliding_window": model.window is not None,
        "sliding_window": model.window,
        "max_window_layers": kinds.count("full_attention"),
        "layer_types": kinds,
    }


def read(config: dict[str, Any]) -> Model:
    """Returns the model that a Qwen2 config.json describes."""
    fields = Fields(config, "qwen2")
    settings = rotary.take_settings(fields, DEFAULTS)
    model = Model(
        **settings,
        qkv_bias=True,
        **take_windows(fields, settings["num_layers"]),
    )
    fields.idle("use_mrope", *rotary.IDLE)
    fields.finish()
    return model


def _fresh(model: Model) -> dict[str, Any]:
    return {
        "architectures": ["Qwen2ForCausalLM"],
        "model_type": "qwen2",
        **rotary.write_settings(model),
        **write_windows(model),
    }


FAMILY = Family(
    name="qwen2",
    architectures=("Qwen2ForCausalLM",),
    read_config=read,
    write_config=functools.partial(write, read=read, fresh=_fresh),
    rules=rotary.tensor_rules,
    ignored=rotary.ROTARY_BUFFERS,
)
