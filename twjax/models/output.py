"""From the last activations to logits, alike in decoders and encoder-decoders."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from twjax.config import Model
from twjax.config.keeping import Adapter
from twjax.models.adapters import prepared
from twjax.models.spec import is_spec
from twjax.parallel.sharding import constrain


@dataclasses.dataclass(frozen=True)
class Output:
    """A network's configuration and weights' specs, and what follows from these alone."""

    config: Model
    # They follow from the configuration and the adapter, which make two networks equal.
    specs: Any = dataclasses.field(compare=False)
    adapter: Adapter | None = None

    def head(self, params: Any, dtype: Any) -> jax.Array:
        """Returns the output projection [D, V], gathered over everything but the vocabulary."""
        tied = self.config.tie_embeddings
        weight_DV = params["embedding"].T if tied else params["head"]
        return constrain(weight_DV.astype(dtype), None, "vocab")

    def logits(self, params: Any, hidden_BSD: jax.Array) -> jax.Array:
        """Returns float32 logits [B, S, vocab_size]; rows of padding are dropped."""
        head_DV = self.head(params, hidden_BSD.dtype)[:, : self.config.vocab_size]
        logits_BSV = jnp.einsum(
            "BSD,DV->BSV", hidden_BSD, head_DV, preferred_element_type=jnp.float32
        )
        return bent_logits(logits_BSV, self.config)

    def cast(self, params: Any, dtype: Any) -> Any:
        """Casts the weights of matrix products; norm scales and biases stay float32."""
        cast = jax.tree.map(
            lambda spec, value: value.astype(dtype) if spec.matmul else value,
            self.specs,
            params,
            is_leaf=is_spec,
        )
        return cast if self.adapter is None else prepared(self, params, cast)


def bent_logits(logits: jax.Array, config: Model) -> jax.Array:
    """Applies `logits_scale`, then `logits_softcap` c: c · tanh(logits / c)."""
    if config.logits_scale is not None:
        logits = logits * config.logits_scale
    if config.logits_softcap is not None:
        logits = config.logits_softcap * jnp.tanh(logits / config.logits_softcap)
    return logits
