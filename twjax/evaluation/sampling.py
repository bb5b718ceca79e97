"""The next token from logits: the likeliest, or drawn from what is left of the softmax."""

from __future__ import annotations

import dataclasses
import math

import jax
import jax.numpy as jnp


@dataclasses.dataclass(frozen=True, kw_only=True)
class Sampling:
    """How a token is chosen.

    `temperature` 0 takes the likeliest token; otherwise one is drawn from the softmax of
    logits / temperature, of the `top_k` likeliest tokens, of those the fewest that hold `top_p`
    of the probability (Holtzman et al. 2020, §3.1). `repetition_penalty` divides positive logits
    of tokens that were there before and multiplies negative ones (Keskar et al. 2019, §4.1).
    """

    temperature: float = 0.0
    top_k: int | None = None
    top_p: float | None = None
    repetition_penalty: float = 1.0
    seed: int = 0

    def __post_init__(self) -> None:
        if not (math.isfinite(self.temperature) and self.temperature >= 0):
            raise ValueError(f"temperature ({self.temperature}) must not be negative.")
        for name in ("top_k", "top_p"):
            value = getattr(self, name)
            if value is not None and self.temperature == 0:
                raise ValueError(
                    f"{name} ({value}) does nothing at temperature 0, which takes the likeliest "
                    "token; set a temperature."
                )
        if self.top_k is not None and self.top_k < 1:
            raise ValueError(f"top_k ({self.top_k}) must be at least 1.")
        if self.top_p is not None and not 0 < self.top_p <= 1:
            raise ValueError(f"top_p ({self.top_p}) must be above 0 and at most 1.")
        if not (math.isfinite(self.repetition_penalty) and self.repetition_penalty > 0):
            raise ValueError(f"repetition_penalty ({self.repetition_penalty}) must be positive.")


GREEDY = Sampling()


def choose(
    logits_BV: jax.Array,
    seen_BV: jax.Array | None,
    index: jax.Array,
    seed: jax.Array,
    sampling: Sampling,
    numbers_B: jax.Array | None = None,
) -> jax.Array:
    """Returns int32 ids [B], the `index`-th new ones of their rows.

    `seen_BV` says which tokens a row has had; None where there is no penalty. `seed` is the
    sampling's, here a value so that a new one compiles nothing. A row's draw follows from (seed,
    its number, index) and not from its neighbours; without `numbers_B` they are 0, 1, …
    """
    if seen_BV is not None:
        penalty = sampling.repetition_penalty
        fallen_BV = jnp.where(logits_BV > 0, logits_BV / penalty, logits_BV * penalty)
        logits_BV = jnp.where(seen_BV, fallen_BV, logits_BV)
    if sampling.temperature == 0:
        return jnp.argmax(logits_BV, axis=-1).astype(jnp.int32)
    logits_BV = likeliest(logits_BV / sampling.temperature, sampling.top_k, sampling.top_p)
    key = jax.random.key(seed)
    numbers_B = jnp.arange(logits_BV.shape[0]) if numbers_B is None else numbers_B
    keys_B = jax.vmap(lambda n: jax.random.fold_in(jax.random.fold_in(key, n), index))(numbers_B)
    return jax.vmap(jax.random.categorical)(keys_B, logits_BV).astype(jnp.int32)


def likeliest(logits_BV: jax.Array, top_k: int | None, top_p: float | None) -> jax.Array:
    """Returns the logits with -inf for what `top_k`, then `top_p` leave out."""
    V = logits_BV.shape[-1]
    if top_k is not None and top_k < V:
        least_B1 = jax.lax.top_k(logits_BV, top_k)[0][:, -1:]
        logits_BV = jnp.where(logits_BV < least_B1, -jnp.inf, logits_BV)
    if top_p is not None and top_p < 1:
        sorted_BV = jnp.sort(logits_BV, axis=-1, descending=True)
        shares_BV = jax.nn.softmax(sorted_BV, axis=-1)
        # What is needed to reach top_p is what has less than that before it.
        needed_BV = jnp.cumsum(shares_BV, axis=-1) - shares_BV < top_p
        least_B1 = jnp.min(jnp.where(needed_BV, sorted_BV, jnp.inf), axis=-1, keepdims=True)
        logits_BV = jnp.where(logits_BV < least_B1, -jnp.inf, logits_BV)
    return logits_BV
