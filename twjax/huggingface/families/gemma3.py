"""Gemma 3, text: normed queries and keys, five windowed layers to a global one, two bases."""

from __future__ import annotations

import functools
from typing import Any

from twjax.config import Model
from twjax.huggingface.config_fields import Fields
from twjax.huggingface.families import rotary
from twjax.huggingface.families.gemma2 import take_common, write_common
from twjax.huggingface.families.writing import write
from twjax.huggingface.mapping import Family
from twjax.huggingface.rope import read_scaling

_DEFAULTS = {
    "vocab_size": 262_208,
    "num_hidden_layers": 26,
    "hidden_size": 2304,
    "num_attention_heads": 8,
    "num_key_value_heads": 4,
    "intermediate_size": 9216,
}
_GLOBAL_THETA, _LOCAL_THETA = 1_000_000.0, 10_000.0


def read(config: dict[str, Any]) -> Model:
    """Returns the model that a Gemma 3 text config.json describes."""
    fields = Fields(config, "gemma3")
    shape = rotary.take_shape(fields, _DEFAULTS, head_dim=256)
    layers = shape["num_layers"]
    kinds = fields.take("layer_types", None)
    period = fields.integer("sliding_window_pattern", 6)
    # transformers keeps the number under a private name when it writes.
    fields.idle("_sliding_window_pattern")
    if kinds is None:
        kinds = [
            "sliding_attention" if (layer + 1) % period else "full_attention"
            for layer in range(layers)
        ]
    window, pattern = rotary.window_pattern(
        fields, kinds, layers, fields.nullable_integer("sliding_window", 4096)
    )
    model = Model(
        **shape,
        **take_common(fields, shape, logits_softcap=None),
        **_take_ropes(fields, window, pattern),
        qk_norm=True,
        window=window,
        window_pattern=pattern,
    )
    fields.expect("attn_logit_softcapping", None)  # transformers' Gemma 3 doesn't apply it
    # transformers reads hidden_activation, not its second name.
    fields.idle("hidden_act", *rotary.IDLE)
    fields.finish()
    return model


def _take_ropes(fields: Fields, window: int | None, pattern: tuple[str, ...]) -> dict[str, Any]:
    """Returns the rotary settings; a base that no layer uses is left out."""
    both = fields.take("rope_parameters", {})
    if not isinstance(both, dict) or both.keys() - {"full_attention", "sliding_attention"}:
        raise fields.refusal("rope_parameters", both, "it must have full and sliding attention")
    # A file of transformers 4 has the scaling of global layers, and a base of each kind.
    wide = {**(both.get("full_attention") or {}), **fields.take("rope_scaling", {})}
    near = both.get("sliding_attention") or {}
    name = "rope_parameters" if both else "rope_scaling"
    theta = fields.number("rope_theta", _GLOBAL_THETA)
    theta, scaling = read_scaling(fields, name, wide, theta)
    local = fields.number("rope_local_base_freq", _LOCAL_THETA)
    local, local_scaling = read_scaling(fields, name, near, local)
    if local_scaling is not None:
        raise fields.refusal(name, near, "windowed layers have no scaling")
    if window is None:
        return {"rope_theta": theta, "rope_scaling": scaling}
    if not pattern:
        return {"rope_theta": local}
    return {"rope_theta": theta, "rope_scaling": scaling, "rope_local_theta": local}


def _fresh(model: Model) -> dict[str, Any]:
    fields = {
        "architectures": ["Gemma3ForCausalLM"],
        "model_type": "gemma3_text",
        **write_common(model),
    }
    local = model.rope_local_theta
    if model.window is not None and not model.window_pattern:
        local = fields.pop("rope_theta")
    if local is not None:
        fields["rope_local_base_freq"] = local
    return fields


FAMILY = Family(
    name="gemma3",
    architectures=("Gemma3ForCausalLM",),
    read_config=read,
    write_config=functools.partial(write, read=read, fresh=_fresh),
    rules=rotary.tensor_rules,
    ignored=rotary.ROTARY_BUFFERS,
)
