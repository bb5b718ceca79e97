"""Several models' weights made into one: averages, task vectors, TIES, DARE, chat vectors.

A method is a function of one block of a tensor at a time, as each model has it, in float32. What
it gives doesn't depend on how tensors are cut into blocks.
"""

from __future__ import annotations

import dataclasses
import hashlib
import math
from collections.abc import Callable, Iterable, Sequence
from typing import Protocol

import numpy as np

Blocks = Sequence[np.ndarray]


class Method(Protocol):
    """Makes one block of the merged model from the same block of each model."""

    def __call__(self, name: str, first: int, blocks: Blocks) -> np.ndarray:
        """Returns float32 of the blocks' shape; `first` is the place in the tensor, in elements."""
        ...


@dataclasses.dataclass(frozen=True)
class Average:
    """The weighted mean of all models, weights in proportion (Wortsman et al. 2022, "Model soups",
    section 2, the uniform soup where they are equal)."""

    weights: tuple[float, ...]

    def __post_init__(self) -> None:
        _check_finite("weights", *self.weights)
        if sum(self.weights) <= 0:
            raise ValueError(f"weights {self.weights} must add up to more than 0.")

    def __call__(self, name: str, first: int, blocks: Blocks) -> np.ndarray:
        del name, first
        merged = np.zeros_like(blocks[0])
        for weight, block in zip(self.weights, blocks, strict=True):
            merged += np.float32(weight) * block
        merged /= np.float32(sum(self.weights))
        return merged


@dataclasses.dataclass(frozen=True)
class AddVectors:
    """The first model and weighted differences from the second: `start + sum w (model - base)`.

    Task arithmetic where start is the base (Ilharco et al. 2023, "Editing Models with Task
    Arithmetic", section 2); a chat vector where it is the continued model (Huang et al. 2024,
    "Chat Vector", section 3). Blocks: start, base, models.

    With `density` below 1 each element of a difference is kept with that probability and divided
    by it (DARE: Yu et al. 2024, "Language Models are Super Mario", section 3.2).
    """

    weights: tuple[float, ...]
    density: float = 1.0
    seed: int = 0

    def __post_init__(self) -> None:
        _check_finite("weights", *self.weights)
        _check_density(self.density)

    def __call__(self, name: str, first: int, blocks: Blocks) -> np.ndarray:
        start, base, *models = blocks
        merged = start.copy()
        for number, (weight, model) in enumerate(zip(self.weights, models, strict=True)):
            vector = model - base
            if self.density < 1:
                kept = keep(self.density, self.seed, f"{number}/{name}", first, vector.size)
                vector *= kept.reshape(vector.shape)
                vector /= np.float32(self.density)
            vector *= np.float32(weight)
            merged += vector
        return merged


@dataclasses.dataclass(frozen=True)
class Ties:
    """TIES: differences from the first model, trimmed, with one sign an element, averaged.

    Yadav et al. 2023, "TIES-Merging", section 4: of each difference the values of at least its
    `thresholds` stay; the sign of an element is that of the sum over models; the mean is over the
    models whose value has this sign; `scale` is the paper's lambda. `weights` count in both the
    sum and the mean. Blocks: base, models.
    """

    weights: tuple[float, ...]
    thresholds: tuple[float, ...]
    scale: float = 1.0

    def __post_init__(self) -> None:
        _check_finite("weights and scale", *self.weights, self.scale)
        if min(self.weights) < 0 or sum(self.weights) == 0:
            raise ValueError(
                f"weights {self.weights} must not be negative, nor all 0: TIES takes the mean of "
                "the models that agree."
            )

    def __call__(self, name: str, first: int, blocks: Blocks) -> np.ndarray:
        del name, first
        base, *models = blocks
        total = np.zeros_like(base)
        vectors = []
        for weight, least, model in zip(self.weights, self.thresholds, models, strict=True):
            vector = model - base
            vector[np.abs(vector) < np.float32(least)] = 0
            vectors.append(vector)
            total += np.float32(weight) * vector
        sign = np.sign(total)
        chosen, share = np.zeros_like(base), np.zeros_like(base)
        for weight, vector in zip(self.weights, vectors, strict=True):
            agrees = vector * sign > 0
            vector *= agrees
            vector *= np.float32(weight)
            chosen += vector
            share += np.float32(weight) * agrees
        # Where none agrees nothing is chosen, and 0 is divided by the smallest number there is.
        chosen /= np.maximum(share, np.finfo(np.float32).tiny)
        chosen *= np.float32(self.scale)
        return base + chosen


def trim_thresholds(
    scan: Callable[[], Iterable[Blocks]], models: int, density: float
) -> tuple[float, ...]:
    """Returns for each model the size that `density` of its differences have at least, exactly.

    `scan()` yields all blocks, base first, and is called twice: sizes are counted by the upper 16
    bits of their float32, then by the lower ones within the bin that the limit is in. Memory is two
    tables of counts a model. 0 where so many differences aren't 0 that all may stay.
    """
    _check_density(density)
    upper = np.zeros((models, 1 << 16), np.int64)
    for base, *others in scan():
        for counts, model in zip(upper, others, strict=True):
            counts += np.bincount(_bits(model - base) >> 16, minlength=1 << 16)
    # How many are to stay, counted from the largest.
    stay = [round(density * int(counts.sum())) for counts in upper]
    bins = [_bin_from_above(counts, n) for counts, n in zip(upper, stay, strict=True)]
    lower = np.zeros((models, 1 << 16), np.int64)
    for base, *others in scan():
        for counts, (chosen, _), model in zip(lower, bins, others, strict=True):
            bits = _bits(model - base)
            bits = bits[bits >> 16 == chosen]
            counts += np.bincount(bits & 0xFFFF, minlength=1 << 16)
    limits = []
    for counts, (chosen, above), n in zip(lower, bins, stay, strict=True):
        last, _ = _bin_from_above(counts, n - above)
        limits.append(float(np.uint32(chosen << 16 | last).view(np.float32)))
    return tuple(limits)


def keep(density: float, seed: int, name: str, first: int, count: int) -> np.ndarray:
    """Returns bool[count]: whether each element of a tensor stays, with probability `density`.

    Element i of tensor `name` has a random number of its own, a function of (seed, name, i).
    """
    digest = hashlib.sha256(f"{seed}/{name}".encode()).digest()
    bits = np.random.Philox(key=int.from_bytes(digest[:16], "little"))
    # Philox makes four numbers a step of its counter.
    bits.advance(first // 4)
    numbers = bits.random_raw(first % 4 + count)[first % 4 :]
    return numbers < np.uint64(min(int(density * 2**64), 2**64 - 1))


def _check_finite(what: str, *values: float) -> None:
    if not all(math.isfinite(value) for value in values):
        raise ValueError(f"{what} {values} must be finite.")


def _check_density(density: float) -> None:
    if not 0 < density <= 1:
        raise ValueError(f"density ({density}) must be above 0 and at most 1.")


def _bits(values: np.ndarray) -> np.ndarray:
    """Returns the sizes of float32 values as integers in the same order."""
    return np.abs(values).reshape(-1).view(np.uint32)


def _bin_from_above(counts: np.ndarray, number: int) -> tuple[int, int]:
    """Returns the bin that the `number`-th largest is in, and how many are in the bins above."""
    above = np.cumsum(counts[::-1])
    place = int(np.searchsorted(above, max(number, 1)))
    return len(counts) - 1 - place, int(above[place - 1]) if place else 0
