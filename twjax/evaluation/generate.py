"""Continued text by running the whole sequence for each new token: simple, and exact."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from twjax.models.attention import choose_attention
from twjax.models.decoder import Network
from twjax.parallel.sharding import batch_shards, constrain, replicated


def generate(
    network: Network,
    params: Any,
    prompts: Sequence[Sequence[int]],
    *,
    tokens: int,
    mesh: jax.sharding.Mesh,
    temperature: float = 0.0,
    eos_id: int | None = None,
    seed: int = 0,
    dtype: str = "float32",
    attention: str = "auto",
) -> list[list[int]]:
    """Returns up to `tokens` new token ids for each prompt, without `eos_id` and what follows.

    `temperature` 0 takes the likeliest token; otherwise tokens are drawn from the softmax of
    logits / temperature, by a key of (seed, prompt, position). Prompts must not be empty.
    """
    for number, prompt in enumerate(prompts):
        if not prompt:
            raise ValueError(f"prompt {number} has no tokens; begin it with the vocabulary's BOS.")
    if not prompts:
        return []
    multiple = batch_shards(mesh)
    count = -(-len(prompts) // multiple) * multiple
    longest = max(map(len, prompts))
    # A multiple of 128 keeps the number of compilations small and suits the TPU's tiles.
    length = -(-(longest + tokens) // 128) * 128
    buffer = np.zeros((count, length), np.int32)
    lengths = np.ones(count, np.int32)
    for row, prompt in enumerate(prompts):
        buffer[row, : len(prompt)] = prompt
        lengths[row] = len(prompt)
    with jax.set_mesh(mesh):
        filled = _fill(
            network,
            params,
            buffer,
            lengths,
            np.uint32(seed),
            tokens,
            temperature,
            dtype,
            choose_attention(attention, mesh.devices.flat[0].platform),
            replicated(mesh),
        )
    # Whole on every device, so that each process can read it.
    filled = np.asarray(filled)
    results = []
    for row, prompt in enumerate(prompts):
        new = filled[row][len(prompt) : len(prompt) + tokens].tolist()
        results.append(new[: new.index(eos_id)] if eos_id is not None and eos_id in new else new)
    return results


@functools.partial(jax.jit, static_argnums=(0, 5, 6, 7, 8, 9))
def _fill(
    network: Network,
    params: Any,
    buffer_BS: jax.Array,
    lengths_B: jax.Array,
    seed: jax.Array,
    tokens: int,
    temperature: float,
    dtype: str,
    kind: Any,
    out: jax.sharding.NamedSharding,
) -> jax.Array:
    rows_B = jnp.arange(buffer_BS.shape[0])
    key = jax.random.key(seed)

    def one(index: jax.Array, buffer_BS: jax.Array) -> jax.Array:
        last_B = lengths_B + index - 1
        hidden_BSD = network.hidden(
            params, buffer_BS, jnp.ones_like(buffer_BS), dtype=jnp.dtype(dtype), kind=kind
        )
        logits_BV = network.logits(params, hidden_BSD[rows_B, last_B][:, None])[:, 0]
        if temperature == 0:
            chosen_B = jnp.argmax(logits_BV, axis=-1)
        else:
            # A key a prompt and position: a prompt's text doesn't depend on its neighbours.
            keys_B = jax.vmap(lambda row: jax.random.fold_in(jax.random.fold_in(key, row), index))(
                rows_B
            )
            chosen_B = jax.vmap(jax.random.categorical)(keys_B, logits_BV / temperature)
        return buffer_BS.at[rows_B, last_B + 1].set(chosen_B.astype(jnp.int32))

    buffer_BS = constrain(buffer_BS, "batch", None)
    filled_BS = jax.lax.fori_loop(0, tokens, one, buffer_BS)
    return jax.lax.with_sharding_constraint(filled_BS, out)
