"""GPT-2, and GPT-3's dense shapes: learned positions, LayerNorm, biases everywhere."""

from __future__ import annotations

import functools
from typing import Any

from twjax.config import Model
from twjax.huggingface.config_fields import Fields
from twjax.huggingface.families.rotary import ACTIVATIONS, IDLE, head_rules
from twjax.huggingface.families.writing import write
from twjax.huggingface.mapping import Family, Rule


def read(config: dict[str, Any]) -> Model:
    """Returns the model that a GPT-2 config.json describes."""
    fields = Fields(config, "gpt2")
    width, heads = fields.integer("n_embd", 768), fields.integer("n_head", 12)
    if width % heads:
        raise fields.refusal("n_embd", width, f"it must be a multiple of n_head ({heads})")
    scaled = fields.flag("scale_attn_weights", True)
    fields.expect("scale_attn_by_inverse_layer_idx", False)
    fields.expect("add_cross_attention", False)
    positions = fields.integer("n_positions", 1024)
    fields.expect("n_ctx", positions)
    model = Model(
        vocab_size=fields.integer("vocab_size", 50_257),
        num_layers=fields.integer("n_layer", 12),
        embed_dim=width,
        num_heads=heads,
        num_kv_heads=heads,
        head_dim=width // heads,
        mlp_dim=fields.integer("n_inner", 4 * width),
        norm="layer",
        norm_eps=fields.number("layer_norm_epsilon", 1e-5),
        activation=fields.choose("activation_function", ACTIVATIONS, "gelu_new"),
        gated=False,
        positions="learned",
        max_positions=positions,
        qkv_bias=True,
        out_bias=True,
        mlp_bias=True,
        query_scale=None if scaled else 1.0,
        tie_embeddings=fields.flag("tie_word_embeddings", True),
        init_std=fields.number("initializer_range", 0.02),
    )
    fields.idle("reorder_and_upcast_attn", *IDLE)  # the order of a product in half precision
    fields.finish()
    return model


# The name that each activation is written under.
_NAMES = {"gelu_tanh": "gelu_new", "gelu": "gelu", "silu": "silu", "relu": "relu"}


def _fresh(model: Model) -> dict[str, Any]:
    return {
        "architectures": ["GPT2LMHeadModel"],
        "model_type": "gpt2",
        "vocab_size": model.vocab_size,
        "n_embd": model.embed_dim,
        "n_layer": model.num_layers,
        "n_head": model.num_heads,
        "n_inner": None if model.mlp_dim == 4 * model.embed_dim else model.mlp_dim,
        "n_positions": model.max_positions,
        "n_ctx": model.max_positions,
        "activation_function": _NAMES[model.activation],
        "layer_norm_epsilon": model.norm_eps,
        "scale_attn_weights": model.query_scale is None,
        "initializer_range": model.init_std,
        "tie_word_embeddings": model.tie_embeddings,
    }


def conv1d_rules(norms: dict[str, str]) -> list[Rule]:
    """Returns the rules of one layer of GPT-1 and GPT-2; weights are stored input first."""
    layer = "transformer.h.{layer}."
    rules = []
    for ours, theirs in norms.items():
        rules.append(Rule(f"layers/{ours}", f"{layer}{theirs}.weight"))
        rules.append(Rule(f"layers/{ours}_bias", f"{layer}{theirs}.bias"))
    for part in ("q", "k", "v"):
        rules += [
            Rule(f"layers/{part}", layer + "attn.c_attn.weight", "conv1d_qkv", part),
            Rule(f"layers/{part}_bias", layer + "attn.c_attn.bias", "conv1d_qkv_bias", part),
        ]
    return [
        *rules,
        Rule("layers/o", layer + "attn.c_proj.weight", "conv1d_out"),
        Rule("layers/o_bias", layer + "attn.c_proj.bias"),
        Rule("layers/up", layer + "mlp.c_fc.weight"),
        Rule("layers/up_bias", layer + "mlp.c_fc.bias"),
        Rule("layers/down", layer + "mlp.c_proj.weight"),
        Rule("layers/down_bias", layer + "mlp.c_proj.bias"),
    ]


def rules(model: Model) -> tuple[Rule, ...]:
    """Returns which tensor holds which weight."""
    return (
        Rule("embedding", "transformer.wte.weight"),
        Rule("positions", "transformer.wpe.weight"),
        *conv1d_rules({"attention_norm": "ln_1", "mlp_norm": "ln_2"}),
        Rule("final_norm", "transformer.ln_f.weight"),
        Rule("final_norm_bias", "transformer.ln_f.bias"),
        *head_rules(model),
    )


FAMILY = Family(
    name="gpt2",
    architectures=("GPT2LMHeadModel",),
    read_config=read,
    write_config=functools.partial(write, read=read, fresh=_fresh),
    rules=rules,
    # The causal mask and its fill value, which older checkpoints store.
    ignored=(r"(transformer\.)?h\.\d+\.attn\.(bias|masked_bias)",),
    prefix="transformer.",
)
