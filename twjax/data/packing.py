"""Best-fit packing: which piece of which example stands where in which row.

Ding et al. 2024, "Fewer Truncations Improve Language Modeling" (arXiv 2404.10830), section 3:
only examples longer than a row are cut, and pieces go, longest first, into the row with the least
room that still holds them (best-fit decreasing, O(n) rows with an index by room). A plan depends
on the lengths alone.
"""

from __future__ import annotations

import dataclasses

import numpy as np

# Part of a cache's fingerprint: raise it whenever the same examples would give other rows.
VERSION = 1

# Pieces that compete for the same rows; bounds time and memory of one best fit.
WINDOW = 1 << 20
# With two sides, how many rows are tried before a new one is opened.
_TRIES = 64


@dataclasses.dataclass(frozen=True)
class Plan:
    """Pieces in the order of rows; each array is int64 [pieces], `offset` [pieces, sides].

    Piece p is the tokens from `start` to `start + length` of one example, and segment `segment`
    (1, 2, …) of its row; side k of it begins at `offset[:, k]`.
    """

    rows: int
    row: np.ndarray
    segment: np.ndarray
    example: np.ndarray
    start: np.ndarray
    length: np.ndarray
    offset: np.ndarray


def plan_decoder(lengths: np.ndarray, seq_len: int) -> Plan:
    """Packs examples of int [n] tokens; a longer one than a row goes on in others.

    A continuation starts with a repeat of the token before it, so that its first new token is
    predicted from something: pieces overlap by one token. Examples need at least 2 tokens.
    """
    lengths = np.asarray(lengths, np.int64)
    more = np.maximum(0, -(-(lengths - seq_len) // (seq_len - 1)))
    counts = 1 + more
    example = np.repeat(np.arange(len(lengths)), counts)
    number = np.arange(len(example)) - np.repeat(np.cumsum(counts) - counts, counts)
    start = number * (seq_len - 1)
    length = np.minimum(seq_len, lengths[example] - start)
    return _plan(example, start, length, length[:, None], (seq_len,))


def plan_encoder_decoder(inputs: np.ndarray, targets: np.ndarray, seq_len: tuple[int, int]) -> Plan:
    """Packs examples of int [n] inputs and targets whole; each side fits its own length."""
    sizes = np.stack([inputs, targets], axis=1).astype(np.int64)
    if len(sizes) and (sizes > seq_len).any():
        raise ValueError(f"Examples of up to {sizes.max(axis=0)} tokens don't fit {seq_len}.")
    return _plan(
        np.arange(len(sizes)), np.zeros(len(sizes), np.int64), sizes.sum(1), sizes, seq_len
    )


def _plan(
    example: np.ndarray,
    start: np.ndarray,
    length: np.ndarray,
    sizes: np.ndarray,
    capacity: tuple[int, ...],
) -> Plan:
    row = np.empty(len(example), np.int64)
    rows = 0
    for begin in range(0, len(example), WINDOW):
        window = slice(begin, begin + WINDOW)
        if len(capacity) == 1:
            found = _best_fit(sizes[window, 0], capacity[0])
        else:
            found = _best_fit_pairs(sizes[window], capacity)
        count = int(found.max()) + 1
        # Best fit opens rows for the longest pieces first; readers of the first rows of a task
        # must get a fair sample of it.
        row[window] = rows + _scatter(count)[found]
        rows += count
    order = np.lexsort((np.arange(len(row)), row))
    row, sizes = row[order], sizes[order]
    first = np.searchsorted(row, row)
    before = np.cumsum(sizes, axis=0) - sizes
    return Plan(
        rows=rows,
        row=row,
        segment=np.arange(len(row)) - first + 1,
        example=example[order],
        start=start[order],
        length=length[order],
        offset=before - before[first] if len(row) else before,
    )


def _best_fit(sizes: np.ndarray, capacity: int) -> np.ndarray:
    """Returns the row of each piece, int64 [n].

    Open rows are stacks by their room, and an integer has a bit for each room there is: its
    lowest bit at or above a size is the best fit.
    """
    order = np.argsort(-sizes, kind="stable")
    rows = np.empty(len(sizes), np.int64)
    open_rows: list[list[int]] = [[] for _ in range(capacity + 1)]
    rooms = count = 0
    for piece, size in zip(order.tolist(), sizes[order].tolist(), strict=True):
        fitting = rooms >> size
        if fitting:
            room = size + (fitting & -fitting).bit_length() - 1
            stack = open_rows[room]
            row = stack.pop()
            if not stack:
                rooms ^= 1 << room
            room -= size
        else:
            row, room = count, capacity - size
            count += 1
        rows[piece] = row
        if room:
            if not open_rows[room]:
                rooms |= 1 << room
            open_rows[room].append(row)
    return rows


def _best_fit_pairs(sizes: np.ndarray, capacity: tuple[int, ...]) -> np.ndarray:
    """Like `_best_fit` for two sides: tightest on the first among those that hold the second."""
    order = np.lexsort((np.arange(len(sizes)), -(sizes / capacity).max(axis=1)))
    rows = np.empty(len(sizes), np.int64)
    open_rows: list[list[tuple[int, int]]] = [[] for _ in range(capacity[0] + 1)]
    rooms = count = 0
    for piece, (first, second) in zip(order.tolist(), sizes[order].tolist(), strict=True):
        fitting, base, tries, place = rooms >> first, first, _TRIES, None
        while fitting and tries > 0 and place is None:
            skip = (fitting & -fitting).bit_length() - 1
            base, fitting = base + skip + 1, fitting >> (skip + 1)
            stack = open_rows[base - 1]
            for index in range(len(stack) - 1, max(-1, len(stack) - 1 - tries), -1):
                tries -= 1
                if stack[index][1] >= second:
                    place = (base - 1, index)
                    break
        if place is None:
            row, room, other = count, capacity[0] - first, capacity[1] - second
            count += 1
        else:
            row, left = open_rows[place[0]].pop(place[1])
            if not open_rows[place[0]]:
                rooms ^= 1 << place[0]
            room, other = place[0] - first, left - second
        rows[piece] = row
        if room and other:
            if not open_rows[room]:
                rooms |= 1 << room
            open_rows[room].append((row, other))
    return rows


def _scatter(count: int) -> np.ndarray:
    """Returns a fixed permutation of `count` numbers, the same with every version of NumPy.

    Ranks of SplitMix64 hashes (Steele et al. 2014, "Fast splittable pseudorandom number
    generators"), whose mixing function is a bijection: there are no ties.
    """
    with np.errstate(over="ignore"):
        x = (np.arange(count, dtype=np.uint64) + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15)
        x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        x ^= x >> np.uint64(31)
    ranks = np.empty(count, np.int64)
    ranks[np.argsort(x)] = np.arange(count)
    return ranks
