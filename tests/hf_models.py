"""Small random networks of `transformers`, and the same weights as ours: for parity tests.

Import only after `pytest.importorskip("torch")`.
"""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import torch
import transformers

from twjax.huggingface.mapping import bind, unflatten
from twjax.huggingface.registry import family_of
from twjax.models.decoder import Network
from twjax.models.network import AnyNetwork
from twjax.models.network import network as declare

SHAPE = {
    "vocab_size": 97,
    "hidden_size": 64,
    "intermediate_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 64,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 0,
}
GPT_SHAPE = {"vocab_size": 97, "n_embd": 64, "n_layer": 3, "n_head": 4, "n_positions": 64}
IDS = {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}
LINEAR = {"rope_type": "linear", "factor": 4.0, "rope_theta": 10_000.0}
LLAMA3 = {
    "rope_type": "llama3",
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 16,
    "rope_theta": 5_000.0,
}
YARN = {
    "rope_type": "yarn",
    "factor": 4.0,
    "original_max_position_embeddings": 16,
    "rope_theta": 10_000.0,
}
TWO_BASES = {
    "full_attention": {"rope_type": "linear", "factor": 8.0, "rope_theta": 1_000_000.0},
    "sliding_attention": {"rope_type": "default", "rope_theta": 10_000.0},
}
BLOOM_SHAPE = {"vocab_size": 97, "hidden_size": 64, "n_layer": 3, "n_head": 4, **IDS}

# What: (transformers' model_type, what differs from the shape above).
CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "llama": ("llama", {}),
    "llama mha": ("llama", {"num_key_value_heads": 4}),
    "llama mqa tied": ("llama", {"num_key_value_heads": 1, "tie_word_embeddings": True}),
    "llama wide heads": ("llama", {"head_dim": 24}),
    "llama biases": ("llama", {"attention_bias": True, "mlp_bias": True, "hidden_act": "gelu"}),
    "llama linear": ("llama", {"rope_parameters": LINEAR}),
    "llama llama3": ("llama", {"rope_parameters": LLAMA3, "tie_word_embeddings": True}),
    "llama yarn": ("llama", {"rope_parameters": YARN}),
    "mistral": ("mistral", {"sliding_window": None}),
    "mistral window": ("mistral", {"sliding_window": 5, "head_dim": 24}),
    "mistral mqa tied": (
        "mistral",
        {"num_key_value_heads": 1, "tie_word_embeddings": True, "rope_parameters": LINEAR},
    ),
    "qwen2 tied": ("qwen2", {"tie_word_embeddings": True}),
    "qwen2 mha": ("qwen2", {"num_key_value_heads": 4, "rope_parameters": {**YARN}}),
    "qwen2 window": (
        "qwen2",
        {"use_sliding_window": True, "sliding_window": 5, "max_window_layers": 0},
    ),
    "qwen2 late window": (
        "qwen2",
        {"use_sliding_window": True, "sliding_window": 5, "max_window_layers": 2},
    ),
    "qwen3": ("qwen3", {"head_dim": 24}),
    "qwen3 biases tied": (
        "qwen3",
        {"head_dim": 16, "attention_bias": True, "tie_word_embeddings": True},
    ),
    "gemma2": ("gemma2", {"head_dim": 16, "sliding_window": 5, "query_pre_attn_scalar": 16}),
    "gemma2 scale": (
        "gemma2",
        {
            **{"head_dim": 24, "sliding_window": 5, "query_pre_attn_scalar": 40},
            **{"attn_logit_softcapping": None, "attention_bias": True, "num_hidden_layers": 4},
            "rms_norm_eps": 1e-3,
        },
    ),
    "gemma2 mha untied": (
        "gemma2",
        {
            **{"head_dim": 16, "sliding_window": 3, "num_key_value_heads": 4},
            **{"tie_word_embeddings": False, "rope_parameters": LLAMA3},
        },
    ),
    "gemma3": (
        "gemma3_text",
        {
            **{"head_dim": 24, "sliding_window": 5, "num_hidden_layers": 8},
            **{"rope_parameters": TWO_BASES, "query_pre_attn_scalar": 40},
        },
    ),
    "gemma3 mqa cap": (
        "gemma3_text",
        {
            **{"head_dim": 16, "sliding_window": 4, "num_key_value_heads": 1},
            **{"layer_types": ["sliding_attention", "full_attention", "sliding_attention"]},
            **{"final_logit_softcapping": 15.0, "rms_norm_eps": 1e-3},
        },
    ),
    "gemma3 all local": ("gemma3_text", {"head_dim": 16, "sliding_window": 4}),
    "gpt1": ("openai-gpt", {}),
    "gpt2": ("gpt2", {}),
    "gpt2 untied": ("gpt2", {"tie_word_embeddings": False, "n_inner": 80, "n_head": 2}),
    "gpt2 unscaled": ("gpt2", {"scale_attn_weights": False, "activation_function": "gelu"}),
    "bloom": ("bloom", {}),
    "bloom six heads": ("bloom", {"hidden_size": 96, "n_head": 6, "tie_word_embeddings": False}),
}
# Gemma 3 with an image half, which parity leaves out: (text, image).
IMAGES = (
    {"head_dim": 24, "sliding_window": 5, "num_hidden_layers": 7, **SHAPE},
    {
        **{"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1},
        **{"num_attention_heads": 2, "image_size": 28, "patch_size": 14},
    },
)
# One of each family.
PLAIN = (
    *("llama", "mistral window", "qwen2 tied", "qwen3", "gemma2", "gemma3", "gpt1", "gpt2"),
    "bloom",
)


def torch_config(case: str) -> transformers.PretrainedConfig:
    """Returns the configuration of a case."""
    if case == "gemma3 images":
        text, image = IMAGES
        return transformers.Gemma3Config(
            text_config={**text, "num_hidden_layers": 7}, vision_config=image, mm_tokens_per_image=1
        )
    kind, changes = CASES[case]
    shape = {"openai-gpt": {**GPT_SHAPE, **IDS}, "gpt2": {**GPT_SHAPE, **IDS}, "bloom": BLOOM_SHAPE}
    return transformers.AutoConfig.for_model(kind, **{**shape.get(kind, SHAPE), **changes})


def torch_model(case: str, seed: int = 0) -> Any:
    """Returns a float32 model with random weights, none of them 0 or 1, and logits up to ~10."""
    config = torch_config(case)
    model = transformers.AutoModelForCausalLM.from_config(config, attn_implementation="eager")
    draw = torch.Generator().manual_seed(seed)
    vocabulary = config.get_text_config().vocab_size
    with torch.no_grad():
        for name, weight in model.named_parameters():
            noise = torch.randn(weight.shape, generator=draw)
            if weight.ndim == 1:
                # Norms keep their initial 1, or 0 where they store the distance from 1.
                weight.copy_(weight.round() + 0.2 * noise)
            elif vocabulary in weight.shape:
                weight.copy_(0.4 * noise)
            else:
                fan_in = weight.shape[0] if "Conv1D" in repr(_owner(model, name)) else None
                weight.copy_(1.5 * noise / (fan_in or weight.shape[1]) ** 0.5)
    return model.eval()


def _owner(model: Any, name: str) -> Any:
    return model.get_submodule(name.rpartition(".")[0])


def torch_logits(model: Any, tokens_BS: np.ndarray, lengths: list[int]) -> np.ndarray:
    """Returns logits [B, S, V] of rows that are padded behind `lengths` tokens."""
    mask_BS = np.arange(tokens_BS.shape[1])[None] < np.array(lengths)[:, None]
    with torch.no_grad():
        out = model(
            input_ids=torch.from_numpy(tokens_BS), attention_mask=torch.from_numpy(mask_BS).long()
        )
    return out.logits.numpy()


def ours(model: Any) -> tuple[AnyNetwork, dict[str, Any]]:
    """Returns a model of torch's as our network and parameters, by the family's table."""
    tensors = {name: value.numpy() for name, value in model.state_dict().items()}
    return by_table(model, tensors)


def by_table(model: Any, tensors: dict[str, np.ndarray]) -> tuple[AnyNetwork, dict[str, Any]]:
    """Returns the network, and tensors (weights or gradients) of a model as a tree of ours."""
    config = {**model.config.to_dict(), "architectures": [type(model).__name__]}
    family = family_of(config)
    network = declare(family.read_config(config))
    binding = bind(family, network.config, network.specs)
    names = binding.resolve(tensors, "state_dict")
    values = {}
    for name, pieces in binding.pieces.items():
        value = np.zeros(binding.specs[name].shape, np.float32)
        for piece in pieces:
            whole = tuple(slice(0, size) for size in piece.sizes)
            box = piece.layout.box(piece.sizes, whole, piece.part)
            read = piece.layout.read(
                tensors[names[piece.tensor]][box], piece.sizes, whole, piece.part
            )
            place = whole if piece.layer is None else (piece.layer, *whole)
            value[place] = read
        values[name] = value
    return network, unflatten(values)


def our_logits(
    network: Network, params: Any, tokens_BS: np.ndarray, segment_ids_BS: np.ndarray
) -> np.ndarray:
    """Returns float32 logits [B, S, V]."""
    return np.asarray(_logits(network, params, tokens_BS, segment_ids_BS))


@functools.partial(jax.jit, static_argnums=0)
def _logits(network: Network, params: Any, tokens_BS: Any, segment_ids_BS: Any) -> jax.Array:
    hidden_BSD = network.hidden(
        params,
        tokens_BS.astype(jnp.int32),
        segment_ids_BS.astype(jnp.int32),
        dtype=jnp.float32,
        kind="reference",
    )
    return network.logits(params, hidden_BSD)
