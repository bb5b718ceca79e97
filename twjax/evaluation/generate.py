"""Continued token ids: prompts are read once, then each new token costs one token's work.

Shapes: B prompts, S prompt columns, V vocabulary.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Collection, Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from twjax.evaluation.sampling import GREEDY, Sampling, choose
from twjax.models.attention import SPLASH_COLUMNS, choose_attention
from twjax.models.decoder import Network
from twjax.models.encdec import START_ID, EncoderDecoder
from twjax.parallel.sharding import batch_shards, constrain, replicated, seq_shards

# Tokens computed between two looks of the host: none is lost but those behind a row's end.
TOKENS_A_CALL = 16


def generate(
    network: Network | EncoderDecoder,
    params: Any,
    prompts: Sequence[Sequence[int]],
    *,
    tokens: int,
    mesh: jax.sharding.Mesh,
    sampling: Sampling = GREEDY,
    eos_ids: Collection[int] = (),
    dtype: str = "float32",
    attention: str = "auto",
) -> list[list[int]]:
    """Returns up to `tokens` new ids for each prompt, without one of `eos_ids` and what follows.

    An encoder-decoder reads a prompt with its encoder. Prompts must not be empty.
    """
    rows: list[list[int]] = [[] for _ in prompts]
    ended = [False] * len(prompts)
    for columns in stream(
        network,
        params,
        prompts,
        tokens=tokens,
        mesh=mesh,
        sampling=sampling,
        dtype=dtype,
        attention=attention,
    ):
        for number, new in enumerate(columns.tolist()):
            for id in new:
                ended[number] = ended[number] or id in eos_ids
                if not ended[number]:
                    rows[number].append(id)
        if all(ended):
            break
    return rows


def stream(
    network: Network | EncoderDecoder,
    params: Any,
    prompts: Sequence[Sequence[int]],
    *,
    tokens: int,
    mesh: jax.sharding.Mesh,
    sampling: Sampling = GREEDY,
    dtype: str = "float32",
    attention: str = "auto",
    at_once: int = TOKENS_A_CALL,
    numbers: Sequence[int] | None = None,
) -> Iterator[np.ndarray]:
    """Yields the next `at_once` ids of all prompts, int32 [prompts, at_once], `tokens` in all.

    Nothing ends a row here; who has seen enough stops asking. Each process gets all rows. What is
    drawn for a prompt follows from the seed and its one of `numbers`, by default its place here.
    """
    if not prompts:
        return
    require_positions(network, prompts, tokens)
    tokens_BS, segment_ids_BS = prompt_columns(prompts, mesh)
    room = tokens_BS.shape[1] + tokens
    kind = choose_attention(attention, mesh.devices.flat[0].platform)
    seed, sampling = np.uint32(sampling.seed), dataclasses.replace(sampling, seed=0)
    numbers_B = np.arange(len(tokens_BS), dtype=np.int32)
    numbers_B[: len(prompts)] = range(len(prompts)) if numbers is None else numbers
    with jax.set_mesh(mesh):
        params = cast_weights(network, params, dtype)
        penalised = sampling.repetition_penalty != 1.0
        state = _begin(network, params, tokens_BS, segment_ids_BS, room, dtype, kind, penalised)
    for first in range(0, tokens, at_once):
        count = min(at_once, tokens - first)
        with jax.set_mesh(mesh):
            new_BT, state = _more(
                network, params, state, seed, count, sampling, replicated(mesh), numbers_B
            )
        # Whole on every device, so that each process can read it.
        yield np.asarray(new_BT)[: len(prompts)]


def require_positions(
    network: Network | EncoderDecoder, prompts: Sequence[Sequence[int]], tokens: int
) -> None:
    """Raises ValueError where a prompt and its new tokens are more than the learned positions."""
    limit = network.config.max_positions
    longest = max(map(len, prompts)) + tokens
    if limit is not None and longest > limit:
        raise ValueError(
            f"a prompt with its {tokens} new tokens has {longest} positions, but the model has "
            f"learned {limit} (Model.max_positions)."
        )


def prompt_columns(
    prompts: Sequence[Sequence[int]], mesh: jax.sharding.Mesh, size: int | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Returns tokens and segment ids [B, S] of prompts that end together; 0 is padding.

    The mesh can divide both. S is `size`, or the next multiple of what splash attention takes.
    """
    for number, prompt in enumerate(prompts):
        if not len(prompt):
            raise ValueError(f"prompt {number} has no tokens; begin it with the vocabulary's BOS.")
    shards = batch_shards(mesh)
    count = -(-len(prompts) // shards) * shards
    # This keeps the number of compilations small, too.
    unit = math.lcm(SPLASH_COLUMNS, seq_shards(mesh))
    length = -(-max(map(len, prompts)) // unit) * unit if size is None else size
    tokens_BS, segment_ids_BS = np.zeros((2, count, length), np.int32)
    for row in range(count):
        # Rows beyond the prompts, which make the mesh's devices even, repeat the last one.
        prompt = prompts[min(row, len(prompts) - 1)]
        tokens_BS[row, length - len(prompt) :] = prompt
        segment_ids_BS[row, length - len(prompt) :] = 1
    return tokens_BS, segment_ids_BS


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class _State:
    """Between two tokens: the cache, the logits of the next one, its number, what was there."""

    cache: Any
    logits_BV: jax.Array
    index: jax.Array
    seen_BV: jax.Array | None


def cast_weights(network: Network | EncoderDecoder, params: Any, dtype: str) -> Any:
    """Casts the weights once, not at each call."""
    shapes = jax.eval_shape(lambda params: network.cast(params, jnp.dtype(dtype)), params)
    same = jax.tree.map(lambda a, b: a.dtype == b.dtype, shapes, params)
    if all(jax.tree.leaves(same)):
        return params
    shardings = jax.tree.map(lambda x: x.sharding, params)
    cast = jax.jit(lambda params: network.cast(params, jnp.dtype(dtype)), out_shardings=shardings)
    return cast(params)


@functools.partial(jax.jit, static_argnums=(0, 4, 5, 6, 7))
def _begin(
    network: Network | EncoderDecoder,
    params: Any,
    tokens_BS: jax.Array,
    segment_ids_BS: jax.Array,
    room: int,
    dtype: str,
    kind: Any,
    penalised: bool,
) -> _State:
    tokens_BS = constrain(jnp.asarray(tokens_BS), "batch", "seq")
    segment_ids_BS = constrain(jnp.asarray(segment_ids_BS), "batch", "seq")
    B = tokens_BS.shape[0]
    had_BS, held_BS = tokens_BS, segment_ids_BS
    if isinstance(network, EncoderDecoder):
        cache = network.start(
            params, tokens_BS, segment_ids_BS, room - tokens_BS.shape[1] + 1, dtype=jnp.dtype(dtype)
        )
        # What the decoder has said so far, and not what the encoder has read.
        had_BS, held_BS = jnp.full((B, 1), START_ID, jnp.int32), jnp.ones((B, 1), jnp.int32)
        hidden_BTD, cache = network.extend(params, had_BS, cache)
    else:
        hidden_BTD, cache = network.start(
            params, tokens_BS, segment_ids_BS, length=room, dtype=jnp.dtype(dtype), kind=kind
        )
    logits_BV = network.logits(params, hidden_BTD[:, -1:])[:, 0]
    seen_BV = None
    if penalised:
        rows_B1 = jnp.arange(B)[:, None]
        counts_BV = jnp.zeros(logits_BV.shape, jnp.int32).at[rows_B1, had_BS].max(held_BS)
        seen_BV = constrain(counts_BV > 0, "batch", None)
    return _State(cache, logits_BV, jnp.zeros((), jnp.int32), seen_BV)


@functools.partial(jax.jit, static_argnums=(0, 4, 5, 6), donate_argnums=2)
def _more(
    network: Network | EncoderDecoder,
    params: Any,
    state: _State,
    seed: jax.Array,
    count: int,
    sampling: Sampling,
    out: jax.sharding.NamedSharding,
    numbers_B: jax.Array,
) -> tuple[jax.Array, _State]:
    """Returns `count` new ids of every row [B, count]."""

    def one(state: _State, _: None) -> tuple[_State, jax.Array]:
        chosen_B = choose(state.logits_BV, state.seen_BV, state.index, seed, sampling, numbers_B)
        seen_BV = state.seen_BV
        if seen_BV is not None:
            seen_BV = seen_BV.at[jnp.arange(chosen_B.shape[0]), chosen_B].set(True)
        hidden_BTD, cache = network.extend(params, chosen_B[:, None], state.cache)
        logits_BV = network.logits(params, hidden_BTD)[:, 0]
        return _State(cache, logits_BV, state.index + 1, seen_BV), chosen_B

    state, new_TB = jax.lax.scan(one, state, None, length=count)
    return jax.lax.with_sharding_constraint(new_TB.T, out), state
