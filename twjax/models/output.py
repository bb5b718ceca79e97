"""From the last activations to logits, alike in decoders and encoder-decoders."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from twjax.config import Model
from twjax.config.keeping import Adapter
from twjax.models import parts
from twjax.models.adapters import input_dims, is_adapter, prepared
from twjax.models.low_bits import LowBits
from twjax.models.spec import WeightSpec, is_spec
from twjax.parallel.sharding import constrain


@dataclasses.dataclass(frozen=True)
class Output:
    """A network's configuration and weights' specs, and what follows from these alone."""

    config: Model
    # They follow from the configuration and the adapter, which make two networks equal.
    specs: Any = dataclasses.field(compare=False)
    adapter: Adapter | None = None
    # What layers' products are computed in (`low_bits.TYPES`); None: the dtype of the computation.
    matmul: str | None = None

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
        if self.adapter is not None:
            cast = prepared(self, params, cast)
        return cast if self.matmul is None else self._in_low_bits(cast, self.matmul)

    def _in_low_bits(self, cast: Any, kind: str) -> Any:
        specs, values = parts.by_name(self.specs), parts.flat(cast)
        return parts.nest(
            {
                name: LowBits(value, kind) if name in specs and _is_matrix(specs[name]) else value
                for name, value in values.items()
            }
        )


def _is_matrix(spec: WeightSpec) -> bool:
    """Whether a layer's activations are multiplied by this weight, and it is no adapter."""
    return input_dims(spec) > 0 and not is_adapter(spec.name)


def bent_logits(logits: jax.Array, config: Model) -> jax.Array:
    """Applies `logits_scale`, then `logits_softcap` c: c · tanh(logits / c)."""
    if config.logits_scale is not None:
        logits = logits * config.logits_scale
    if config.logits_softcap is not None:
        logits = config.logits_softcap * jnp.tanh(logits / config.logits_softcap)
    return logits
