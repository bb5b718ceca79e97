"""The arithmetic that a model asks for, whatever a compiler makes of it."""

from __future__ import annotations

from typing import Any

import jax

from twjax.config import Model
from twjax.models.spec import is_spec


def model_flops_per_token(model: Model, specs: Any, seq_len: int) -> float:
    """Returns the FLOPs of training on one token of a row of `seq_len`, forward and backward.

    Six a weight in a matrix product (Kaplan et al. 2020, §2.1) and 12·L·S·N·H for attention,
    halved because it is causal, as MaxText counts since its pull request 1988. Recomputation and
    the vocabulary's padding are not counted; a lookup in the embedding is no product. Rows packed
    with several documents need less attention than this.
    """
    weights = sum(
        spec.size
        for spec in jax.tree.leaves(specs, is_leaf=is_spec)
        if spec.matmul and spec.name not in ("embedding", "head")
    )
    weights += model.vocab_size * model.embed_dim
    attention = 12 * model.num_layers * seq_len * model.num_heads * model.head_dim / 2
    return 6.0 * weights + attention
