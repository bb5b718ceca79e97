"""A tiny Llama folder written without torch: config, weights in one file or in shards."""

from __future__ import annotations

import json
import pathlib

import ml_dtypes
import numpy as np
from safetensors.numpy import save_file

LAYERS, EMBED, HEADS, KV, HEAD, MLP, VOCAB = 2, 16, 4, 2, 8, 32, 96
DTYPES = {"bfloat16": ml_dtypes.bfloat16, "float16": np.float16, "float32": np.float32}
CONFIG = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "vocab_size": VOCAB,
    "hidden_size": EMBED,
    "intermediate_size": MLP,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": HEADS,
    "num_key_value_heads": KV,
    "head_dim": HEAD,
    "hidden_act": "silu",
    "rms_norm_eps": 1e-5,
    "rope_theta": 10_000.0,
    "tie_word_embeddings": False,
    "max_position_embeddings": 64,
    "bos_token_id": 1,
    "eos_token_id": [2, 3],
    "torch_dtype": "float32",
}


def tensors(
    dtype: str = "float32", vocab: int = VOCAB, layers: int = LAYERS, seed: int = 0
) -> dict[str, np.ndarray]:
    """Returns weights by Hugging Face's names."""
    rng = np.random.default_rng(seed)
    shapes = {"model.embed_tokens.weight": (vocab, EMBED)}
    for layer in range(layers):
        place = f"model.layers.{layer}."
        shapes |= {
            place + "input_layernorm.weight": (EMBED,),
            place + "post_attention_layernorm.weight": (EMBED,),
            place + "self_attn.q_proj.weight": (HEADS * HEAD, EMBED),
            place + "self_attn.k_proj.weight": (KV * HEAD, EMBED),
            place + "self_attn.v_proj.weight": (KV * HEAD, EMBED),
            place + "self_attn.o_proj.weight": (EMBED, HEADS * HEAD),
            place + "mlp.gate_proj.weight": (MLP, EMBED),
            place + "mlp.up_proj.weight": (MLP, EMBED),
            place + "mlp.down_proj.weight": (EMBED, MLP),
        }
    shapes |= {"model.norm.weight": (EMBED,), "lm_head.weight": (vocab, EMBED)}
    return {
        name: (rng.normal(0, 0.1, shape) + ("norm" in name)).astype(DTYPES[dtype])
        for name, shape in shapes.items()
    }


def write(
    folder: pathlib.Path,
    weights: dict[str, np.ndarray] | None = None,
    shards: int = 1,
    **config: object,
) -> pathlib.Path:
    """Writes a folder; `config` changes fields of config.json, None takes one away."""
    weights = tensors() if weights is None else weights
    folder.mkdir(parents=True, exist_ok=True)
    fields = {name: value for name, value in (CONFIG | config).items() if value is not None}
    # Spaces and order as no program here would write them: a copy must keep them.
    (folder / "config.json").write_text(json.dumps(fields, indent=3) + "\n\n")
    (folder / "generation_config.json").write_text('{"eos_token_id":[2,3] ,"do_sample": true}')
    (folder / "chat_template.jinja").write_text("{{ messages }}\n台灣")
    (folder / "special_tokens_map.json").write_text("{}")
    if shards == 1:
        save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
        return folder
    places = {}
    for number in range(shards):
        name = f"model-{number + 1:05}-of-{shards:05}.safetensors"
        part = {n: weights[n] for n in list(weights)[number::shards]}
        save_file(part, folder / name, metadata={"format": "pt"})
        places |= dict.fromkeys(part, name)
    total = sum(array.nbytes for array in weights.values())
    index = {"metadata": {"total_size": total, "total_parameters": 1}, "weight_map": places}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    return folder


def contents(folder: pathlib.Path) -> dict[str, bytes]:
    """Returns the bytes of every file of a folder by name."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }
