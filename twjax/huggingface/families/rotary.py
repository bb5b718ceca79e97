"""What Llama and its descendants share: rotary settings, fields and tensor names.

Facts of the formats: transformers' configuration classes and checkpoints of the models.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from twjax.config import Model
from twjax.huggingface.config_fields import Fields
from twjax.huggingface.mapping import Rule
from twjax.huggingface.rope import read_rope, write_rope

ACTIVATIONS = {
    "silu": "silu",
    "swish": "silu",
    "gelu": "gelu",
    "gelu_new": "gelu_tanh",
    "gelu_pytorch_tanh": "gelu_tanh",
    "relu": "relu",
}
# The name that each is written under.
ACTIVATION_NAMES = {
    "silu": "silu",
    "gelu": "gelu",
    "gelu_tanh": "gelu_pytorch_tanh",
    "relu": "relu",
}

# What no family of decoders computes with: how far positions were trained, how tokenizers and
# generation were set up, and what tools write into the file.
IDLE = (
    *("max_position_embeddings", "name_or_path", "tokenizer_class", "unk_token_id"),
    *("cache_implementation", "attn_implementation", "_attn_implementation"),
    *("_attn_implementation_autoset", "is_encoder_decoder", "return_dict_in_generate"),
    *("output_scores", "use_return_dict", "max_length", "min_length", "do_sample"),
    *("temperature", "top_k", "top_p", "typical_p", "num_beams", "num_beam_groups"),
    *("diversity_penalty", "repetition_penalty", "length_penalty", "no_repeat_ngram_size"),
    *("encoder_no_repeat_ngram_size", "num_return_sequences", "early_stopping"),
    *("unsloth_version", "unsloth_fixed"),
)

# Rotary frequencies that older versions stored beside the weights; they follow from the config.
ROTARY_BUFFERS = (r".*\.rotary_emb\.inv_freq",)

# The longest run of layers after which a local/global pattern must repeat: a block of that many
# layers is one step of the scan.
LONGEST_PATTERN = 12


def take_shape(fields: Fields, defaults: Mapping[str, Any], **head_dim: int) -> dict[str, Any]:
    """Returns the sizes as keyword arguments of `Model`.

    `defaults` are the family's own for fields that a short config.json leaves out; `head_dim`,
    where given, is a default too, in place of width / heads.
    """
    sizes = {
        ours: fields.integer(theirs, defaults[theirs])
        for ours, theirs in (
            ("vocab_size", "vocab_size"),
            ("num_layers", "num_hidden_layers"),
            ("embed_dim", "hidden_size"),
            ("num_heads", "num_attention_heads"),
            ("mlp_dim", "intermediate_size"),
        )
    }
    heads = fields.nullable_integer("num_key_value_heads", defaults["num_key_value_heads"])
    sizes["num_kv_heads"] = sizes["num_heads"] if heads is None else heads
    width = fields.nullable_integer("head_dim", head_dim.get("head_dim"))
    if width is None:
        if sizes["embed_dim"] % sizes["num_heads"]:
            raise fields.refusal(
                "hidden_size", sizes["embed_dim"], "it must be a multiple of the heads"
            )
        width = sizes["embed_dim"] // sizes["num_heads"]
    sizes["head_dim"] = width
    return sizes


def take_settings(fields: Fields, defaults: Mapping[str, Any], **head_dim: int) -> dict[str, Any]:
    """Returns all that `write_settings` writes, as keyword arguments of `Model`."""
    theta, scaling = read_rope(fields)
    return {
        **take_shape(fields, defaults, **head_dim),
        "norm_eps": fields.number("rms_norm_eps", 1e-6),
        "activation": fields.choose("hidden_act", ACTIVATIONS, "silu"),
        "rope_theta": theta,
        "rope_scaling": scaling,
        "tie_embeddings": fields.flag("tie_word_embeddings", False),
        "init_std": fields.number("initializer_range", 0.02),
    }


def write_settings(model: Model) -> dict[str, Any]:
    """Returns the fields that every one of these families has."""
    return {
        "vocab_size": model.vocab_size,
        "hidden_size": model.embed_dim,
        "intermediate_size": model.mlp_dim,
        "num_hidden_layers": model.num_layers,
        "num_attention_heads": model.num_heads,
        "num_key_value_heads": model.num_kv_heads,
        "head_dim": model.head_dim,
        "hidden_act": ACTIVATION_NAMES[model.activation],
        "rms_norm_eps": model.norm_eps,
        **write_rope(model.rope_theta, model.rope_scaling),
        "initializer_range": model.init_std,
        "tie_word_embeddings": model.tie_embeddings,
    }


def window_pattern(
    fields: Fields, layer_types: Sequence[str], num_layers: int, window: int | None
) -> tuple[int | None, tuple[Literal["local", "global"], ...]]:
    """Returns `Model.window` and `Model.window_pattern` for transformers' kind of each layer."""
    kinds: dict[str, Literal["local", "global"]] = {
        "sliding_attention": "local",
        "full_attention": "global",
    }
    if len(layer_types) != num_layers:
        raise fields.refusal("layer_types", layer_types, f"it must list {num_layers} layers")
    for name in layer_types:
        if name not in kinds:
            raise fields.refusal("layer_types", name, f"it knows {' or '.join(kinds)}")
    layers: tuple[Literal["local", "global"], ...] = tuple(kinds[name] for name in layer_types)
    if "local" not in layers:
        return None, ()
    if window is None:
        raise fields.refusal("sliding_window", None, "layer_types has windows")
    if "global" not in layers:
        return window, ()
    for length in range(2, LONGEST_PATTERN + 1):
        pattern = layers[:length]
        if all(kind == pattern[i % length] for i, kind in enumerate(layers)):
            return window, pattern
    raise fields.refusal(
        "layer_types", list(layer_types), f"it must repeat within {LONGEST_PATTERN} layers"
    )


def layer_types(model: Model) -> list[str]:
    """Returns transformers' kind of each layer."""
    if model.window is None:
        return ["full_attention"] * model.num_layers
    pattern = model.window_pattern or ("local",)
    names = {"local": "sliding_attention", "global": "full_attention"}
    return [names[pattern[i % len(pattern)]] for i in range(model.num_layers)]


def tensor_rules(model: Model, prefix: str = "model.") -> tuple[Rule, ...]:
    """Returns the rules of a gated, rotary decoder with RMSNorm."""
    layer = prefix + "layers.{layer}."
    norms = {"attention_norm": "input_layernorm"}
    if model.norm_position == "both":
        norms |= {
            "attention_post_norm": "post_attention_layernorm",
            "mlp_norm": "pre_feedforward_layernorm",
            "mlp_post_norm": "post_feedforward_layernorm",
        }
    else:
        norms |= {"mlp_norm": "post_attention_layernorm"}
    rules = [Rule("embedding", prefix + "embed_tokens.weight")]
    rules += [Rule(f"layers/{ours}", f"{layer}{theirs}.weight") for ours, theirs in norms.items()]
    for name in ("q", "k", "v"):
        theirs = f"{layer}self_attn.{name}_proj"
        rules.append(Rule(f"layers/{name}", f"{theirs}.weight", "heads"))
        if model.qkv_bias:
            rules.append(Rule(f"layers/{name}_bias", f"{theirs}.bias", "heads_bias"))
    rules.append(Rule("layers/o", layer + "self_attn.o_proj.weight", "heads_out"))
    if model.out_bias:
        rules.append(Rule("layers/o_bias", layer + "self_attn.o_proj.bias"))
    if model.qk_norm:
        rules += [
            Rule(f"layers/{name}", f"{layer}self_attn.{name}.weight")
            for name in ("q_norm", "k_norm")
        ]
    for name in ("gate", "up", "down"):
        rules.append(Rule(f"layers/{name}", f"{layer}mlp.{name}_proj.weight", "transpose"))
        if model.mlp_bias:
            rules.append(Rule(f"layers/{name}_bias", f"{layer}mlp.{name}_proj.bias"))
    rules.append(Rule("final_norm", prefix + "norm.weight"))
    return (*rules, *head_rules(model))


def head_rules(model: Model) -> list[Rule]:
    """Returns the rule of `lm_head.weight`: the output weight, or the embedding once more."""
    if model.tie_embeddings:
        return [Rule("embedding", "lm_head.weight", alias=True)]
    return [Rule("head", "lm_head.weight", "transpose")]
