"""Answers to many prompts: the likeliest tokens, in batches of prompts of like length."""

from __future__ import annotations

import collections
from collections.abc import Collection, Sequence
from typing import Any

import jax

from twjax.config import Run
from twjax.evaluation.generate import generate
from twjax.models.network import AnyNetwork
from twjax.parallel.sharding import batch_shards
from twjax.progress import Progress

# Tokens of prompts and of their answers that a device holds at a time, and rows at most.
TOKENS_A_DEVICE, ROWS_A_DEVICE = 1 << 14, 64
# `generate` pads prompts to a multiple of this.
_PADDED = 128


def batches(lengths: Sequence[int], tokens: int, shards: int) -> list[tuple[tuple[int, ...], int]]:
    """Returns (prompts, rows) of each batch, the longest prompts first.

    Prompts of one batch are padded to one length, and batches of one length have one number of
    rows (the last prompt is repeated), so that each length is compiled once. `rows` is a multiple
    of `shards`.
    """
    by_length: dict[int, list[int]] = collections.defaultdict(list)
    for number in sorted(range(len(lengths)), key=lambda number: (-lengths[number], number)):
        by_length[-(-lengths[number] // _PADDED) * _PADDED].append(number)
    found = []
    for length, numbers in by_length.items():
        most = max(1, min(ROWS_A_DEVICE, TOKENS_A_DEVICE // (length + tokens)))
        needed = -(-len(numbers) // shards)
        rows = shards * min(most, 1 << (needed - 1).bit_length())
        for first in range(0, len(numbers), rows):
            found.append((tuple(numbers[first : first + rows]), rows))
    return found


def answer(
    run: Run,
    network: AnyNetwork,
    params: Any,
    prompts: Sequence[Sequence[int]],
    *,
    mesh: jax.sharding.Mesh,
    tokens: int,
    eos_ids: Collection[int],
    name: str = "answers",
) -> list[list[int]]:
    """Returns up to `tokens` likeliest ids for each prompt, without one of `eos_ids`, in order.

    The same as `generate` for each prompt alone, but for the rounding of sums over other shapes.
    """
    found: list[list[int]] = [[] for _ in prompts]
    planned = batches(list(map(len, prompts)), tokens, batch_shards(mesh))
    with Progress(len(prompts), name, "prompts") as progress:
        for numbers, rows in planned:
            padded = [*numbers, *[numbers[-1]] * (rows - len(numbers))]
            said = generate(
                network,
                params,
                [prompts[number] for number in padded],
                tokens=tokens,
                mesh=mesh,
                eos_ids=eos_ids,
                dtype=run.step.dtype,
                attention=run.step.attention,
            )
            for number, ids in zip(numbers, said, strict=False):
                found[number] = ids
            progress.update(len(numbers))
    return found
