"""The arithmetic that a model asks for, whatever a compiler makes of it."""

from __future__ import annotations

from typing import Any

import jax

from twjax.config import Model
from twjax.models.spec import is_spec


def model_flops_per_token(model: Model, specs: Any, seq_len: int) -> float:
    """Returns the FLOPs of training on one token of a row of `seq_len`, forward and backward.

    Six a weight in a matrix product (Kaplan et al. 2020, §2.1) and 12·N·H a layer and position
    seen, which are S / 2 on average because attention is causal, as MaxText counts since its pull
    request 1988; a window W leaves W - W² / 2S. Recomputation and the vocabulary's padding are
    not counted; a lookup in the embedding is no product. Rows packed with several documents need
    less attention than this.
    """
    weights = sum(
        spec.size
        for spec in jax.tree.leaves(specs, is_leaf=is_spec)
        if spec.matmul and spec.name not in ("embedding", "head")
    )
    weights += model.vocab_size * model.embed_dim
    window = min(model.window or seq_len, seq_len)
    seen = {"global": seq_len / 2, "local": window - window**2 / (2 * seq_len)}
    positions = sum(seen[kind] for kind in model.layer_kinds)
    return 6.0 * weights + 12 * model.num_heads * model.head_dim * positions


def model_flops_per_row(model: Model, specs: Any, lengths: tuple[int, ...]) -> float:
    """Returns the FLOPs of training on one row of (tokens,) or of (inputs, targets).

    Counted as `model_flops_per_token` does. An encoder's weights meet the inputs, a decoder's the
    targets but for the keys and values of cross attention, which are the inputs'; a target sees
    half of the targets and all inputs, an input all inputs.
    """
    if len(lengths) == 1:
        return lengths[0] * model_flops_per_token(model, specs, lengths[0])
    inputs, targets = lengths
    products = float(targets * model.vocab_size * model.embed_dim)
    for spec in jax.tree.leaves(specs, is_leaf=is_spec):
        if spec.matmul and spec.name not in ("embedding", "head"):
            reads_inputs = spec.name.startswith("encoder/") or spec.name in (
                "decoder/layers/cross_k",
                "decoder/layers/cross_v",
            )
            products += spec.size * (inputs if reads_inputs else targets)
    seen = model.encoder_layers * inputs * inputs
    seen += model.num_layers * targets * (targets / 2 + inputs)
    return 6.0 * products + 12 * model.num_heads * model.head_dim * seen
