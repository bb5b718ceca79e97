"""Mistral 7B, with the sliding window of v0.1 and without, as in v0.2 and v0.3."""

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
    "num_key_value_heads": 8,
    "intermediate_size": 14_336,
}


def read(config: dict[str, Any]) -> Model:
    """Returns the model that a Mistral config.json describes."""
    fields = Fields(config, "mistral")
    # null is no window; a file without the field has transformers' default.
    window = fields.nullable_integer("sliding_window", 4096)
    model = Model(
        **rotary.take_settings(fields, _DEFAULTS),
        window=window,
    )
    fields.idle(*rotary.IDLE)
    fields.finish()
    return model


def _fresh(model: Model) -> dict[str, Any]:
    return {
        "architectures": ["MistralForCausalLM"],
        "model_type": "mistral",
        **rotary.write_settings(model),
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
