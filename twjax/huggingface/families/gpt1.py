"""GPT-1: GPT-2's weights with norms after the residual sums and none at the end."""

from __future__ import annotations

import functools
from typing import Any

from twjax.config import Model
from twjax.huggingface.config_fields import Fields
from twjax.huggingface.families import gpt2
from twjax.huggingface.families.rotary import IDLE, head_rules
from twjax.huggingface.families.writing import write
from twjax.huggingface.mapping import Family, Rule

# What `afn` means: transformers' GPT-1 calls the approximation by tanh "gelu".
_ACTIVATIONS = {"gelu": "gelu_tanh", "relu": "relu", "silu": "silu", "swish": "silu"}


def read(config: dict[str, Any]) -> Model:
    """Returns the model that a GPT-1 config.json describes."""
    fields = Fields(config, "gpt1")
    width, heads = fields.integer("n_embd", 768), fields.integer("n_head", 12)
    if width % heads:
        raise fields.refusal("n_embd", width, f"it must be a multiple of n_head ({heads})")
    positions = fields.integer("n_positions", 512)
    fields.expect("n_ctx", positions)
    model = Model(
        vocab_size=fields.integer("vocab_size", 40_478),
        num_layers=fields.integer("n_layer", 12),
        embed_dim=width,
        num_heads=heads,
        num_kv_heads=heads,
        head_dim=width // heads,
        mlp_dim=4 * width,
        norm="layer",
        norm_eps=fields.number("layer_norm_epsilon", 1e-5),
        norm_position="post",
        activation=fields.choose("afn", _ACTIVATIONS, "gelu"),
        gated=False,
        positions="learned",
        max_positions=positions,
        qkv_bias=True,
        out_bias=True,
        mlp_bias=True,
        tie_embeddings=fields.flag("tie_word_embeddings", True),
        init_std=fields.number("initializer_range", 0.02),
    )
    # `predict_special_tokens` and `n_special` are of versions before 2.
    fields.idle("predict_special_tokens", "n_special", *IDLE)
    fields.finish()
    return model


def _fresh(model: Model) -> dict[str, Any]:
    names = {ours: theirs for theirs, ours in reversed(_ACTIVATIONS.items())}
    return {
        "architectures": ["OpenAIGPTLMHeadModel"],
        "model_type": "openai-gpt",
        "vocab_size": model.vocab_size,
        "n_embd": model.embed_dim,
        "n_layer": model.num_layers,
        "n_head": model.num_heads,
        "n_positions": model.max_positions,
        "n_ctx": model.max_positions,
        "afn": names.get(model.activation, model.activation),
        "layer_norm_epsilon": model.norm_eps,
        "initializer_range": model.init_std,
        "tie_word_embeddings": model.tie_embeddings,
    }


def rules(model: Model) -> tuple[Rule, ...]:
    """Returns which tensor holds which weight."""
    return (
        Rule("embedding", "transformer.tokens_embed.weight"),
        Rule("positions", "transformer.positions_embed.weight"),
        *gpt2.conv1d_rules({"attention_norm": "ln_1", "mlp_norm": "ln_2"}),
        *head_rules(model),
    )


FAMILY = Family(
    name="gpt1",
    architectures=("OpenAIGPTLMHeadModel",),
    read_config=read,
    write_config=functools.partial(write, read=read, fresh=_fresh),
    rules=rules,
    # The causal mask and the running numbers, which older checkpoints store.
    ignored=(r"(transformer\.)?(h\.\d+\.attn\.bias|position_ids)",),
    prefix="transformer.",
)
