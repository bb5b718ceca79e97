"""Small random T5s of `transformers`, of each kind: for parity tests.

Import only after `pytest.importorskip("torch")`.
"""

from __future__ import annotations

from typing import Any

import torch
import transformers

SHAPE = {
    "vocab_size": 97,
    "d_model": 32,
    "d_kv": 16,
    "d_ff": 40,
    "num_heads": 3,
    "num_layers": 2,
    "num_decoder_layers": 3,
    "relative_attention_num_buckets": 8,
    "relative_attention_max_distance": 12,
    "decoder_start_token_id": 0,
}
UNTIED = {"tie_word_embeddings": False}

# What: (class, what differs from the shape above).
CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "t5": ("T5", {}),
    "t5 like the published": (
        "T5",
        {
            **{"d_kv": 8, "num_heads": 4, "num_decoder_layers": None},
            **{"relative_attention_num_buckets": 32, "relative_attention_max_distance": 128},
        },
    ),
    "t5 v1.1": ("T5", {"feed_forward_proj": "gated-gelu", **UNTIED}),
    "t5 silu": ("T5", {"feed_forward_proj": "gated-silu", "layer_norm_epsilon": 1e-3}),
    "mt5": ("MT5", UNTIED),
    "mt5 tied": ("MT5", {"tie_word_embeddings": True}),
    "umt5": ("UMT5", UNTIED),
    "umt5 tied": ("UMT5", {"feed_forward_proj": "relu", "tie_word_embeddings": True}),
}


def torch_model(case: str, seed: int = 0) -> Any:
    """Returns a float32 model with random weights, none of them 0 or 1, and logits up to ~10."""
    kind, changes = CASES[case]
    config = getattr(transformers, f"{kind}Config")(**{**SHAPE, **changes})
    model = getattr(transformers, f"{kind}ForConditionalGeneration")(config)
    tied = changes.get("tie_word_embeddings", True)
    if not tied:
        # transformers 5 ties whatever the configuration says, until it loads an untied file.
        model.lm_head.weight = torch.nn.Parameter(model.lm_head.weight.clone())
    # It forgets what was said, and umT5 would scale what its authors don't.
    model.config.tie_word_embeddings = tied
    draw = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            noise = torch.randn(weight.shape, generator=draw)
            if weight.ndim == 1:
                weight.copy_(1 + 0.2 * noise)
            elif "relative" in name:
                weight.copy_(noise)
            elif name in ("shared.weight", "lm_head.weight"):
                scaled = tied and kind != "MT5"
                weight.copy_(noise * (2.5 if scaled else 0.5))
            elif ".q." in name:
                weight.copy_(noise / (weight.shape[1] * SHAPE["d_kv"]) ** 0.5)
            else:
                weight.copy_(1.2 * noise / weight.shape[1] ** 0.5)
    return model.eval()
