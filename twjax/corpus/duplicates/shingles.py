"""Texts as letters that re-wrapping and width don't change, and hashes of their n-grams.

A letter is a folded character, scrambled to 32 bits; white space, punctuation, marks and symbols
are none. Everything that compares texts loosely (near duplicates, lines, evaluation items) looks
at letters; work goes over groups of documents that fit the processor's caches.
"""

from __future__ import annotations

import functools
import itertools
import unicodedata
from collections.abc import Iterator, Sequence

import numpy as np
import xxhash

# A group's arrays stay in the second-level cache; one longer text makes a group by itself.
GROUP_CHARACTERS = 1 << 17

# Odd multipliers (fractional parts of the golden ratio and of square roots, as in SplitMix64 and
# SHA-2): one for each doubling of a window's length.
_MULTIPLIERS = (
    0x9E3779B97F4A7C15,
    0xBB67AE8584CAA73B,
    0x3C6EF372FE94F82B,
    0xA54FF53A5F1D36F1,
    0x510E527FADE682D1,
    0x9B05688C2B3E6C1F,
    0x1F83D9ABFB41BD6B,
    0x5BE0CD19137E2179,
)


@functools.cache
def letters() -> np.ndarray:
    """Returns uint32 [0x110000]: the letter of each code point, 0 where it is none.

    Folded are compatibility forms that stand for one character (UAX #15, NFKC), case, and accents
    of Latin, Greek and Cyrillic. Letters are one-to-one with folded characters.
    """
    table = np.zeros(0x110000, np.uint32)
    for point in range(0x32400):
        character = unicodedata.normalize("NFKC", chr(point))
        if len(character) != 1 or not character.isalnum():
            # "㎏" or "⒈" stand for several characters; they stay what they are.
            character = chr(point)
            if not character.isalnum():
                continue
        base = unicodedata.normalize("NFD", character)[0]
        if base < "\u0530":
            character = base
        lower = character.lower()
        table[point] = ord(lower if len(lower) == 1 else character)
    return np.where(table != 0, scramble32(table), 0).astype(np.uint32)


def scramble32(values: np.ndarray) -> np.ndarray:
    """Mixes uint32 so that all bits depend on all, one-to-one (the finalizer of MurmurHash3)."""
    values = values.astype(np.uint32)
    values ^= values >> np.uint32(16)
    values *= np.uint32(0x85EBCA6B)
    values ^= values >> np.uint32(13)
    values *= np.uint32(0xC2B2AE35)
    values ^= values >> np.uint32(16)
    return values


def groups(texts: Sequence[str]) -> Iterator[tuple[int, Sequence[str]]]:
    """Yields (index of the first text, texts) for stretches of bounded size."""
    start, size = 0, 0
    for index, text in enumerate(texts):
        if size and size + len(text) > GROUP_CHARACTERS:
            yield start, texts[start:index]
            start, size = index, 0
        size += len(text)
    if start < len(texts):
        yield start, texts[start:]


def code_points(texts: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """Returns the code points of texts, one behind the other, uint32, and int64 [texts + 1]."""
    points = np.frombuffer("".join(texts).encode("utf-32-le", "surrogatepass"), np.uint32)
    starts = np.zeros(len(texts) + 1, np.int64)
    np.cumsum(np.fromiter(map(len, texts), np.int64, len(texts)), out=starts[1:])
    return points, starts


def fold(texts: Sequence[str], table: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Returns the letters of texts, one behind the other, and where each text's begin.

    uint32 [letters], int64 [texts + 1]. `table` gives the letter of each code point instead of
    `letters()`.
    """
    points, starts = code_points(texts)
    found = (letters() if table is None else table).take(points)
    keep = found != 0
    before = np.zeros(len(found) + 1, np.int64)
    np.cumsum(keep, out=before[1:])
    return found[keep], before[starts]


def digests(values: np.ndarray, starts: np.ndarray) -> np.ndarray:
    """Returns uint64 [texts]: a hash of the letters of each text (xxh3)."""
    raw = memoryview(values.tobytes())
    bounds = (starts * values.itemsize).tolist()
    found = [xxhash.xxh3_64_intdigest(raw[a:b]) for a, b in itertools.pairwise(bounds)]
    return np.array(found, np.uint64)


def windows(values: np.ndarray, length: int, dtype: type[np.unsignedinteger]) -> np.ndarray:
    """Returns a hash of each window of `length` values, in `dtype` (uint32 or uint64).

    The hash of a window is made of those of its halves, so that it takes log2(length) passes; the
    last two parts may overlap. Not scrambled: the low bits are weak.
    """
    bits = 8 * dtype().itemsize
    hashes, size, step = values.astype(dtype), 1, 0
    while size < length:
        more = min(size, length - size)
        multiplier = dtype(_MULTIPLIERS[step % len(_MULTIPLIERS)] >> (64 - bits) | 1)
        if len(hashes) <= more:
            return hashes[:0]
        mixed = hashes[:-more] * multiplier
        # Without this the hash would be a sum, in which changes can cancel out.
        mixed ^= mixed >> dtype(bits // 2 - 1)
        mixed += hashes[more:]
        hashes, size, step = mixed, size + more, step + 1
    return hashes


def inside(starts: np.ndarray, length: int, count: int) -> np.ndarray:
    """Returns bool [count]: whether the window that begins there lies in one text.

    `starts` [texts + 1] says where each text's values begin.
    """
    marks = np.zeros(count + 1, np.int32)
    np.add.at(marks, np.clip(np.maximum(starts[1:] - length + 1, starts[:-1]), 0, count), 1)
    np.add.at(marks, np.clip(starts[1:], 0, count), -1)
    return np.cumsum(marks[:-1]) == 0


def shingles(values: np.ndarray, starts: np.ndarray, length: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns the scrambled hash of each n-gram that lies in one text, and where a text's begin.

    uint32 [n-grams], int64 [texts + 1]; a text shorter than `length` has none.
    """
    hashes = windows(values, length, np.uint32)
    counts = np.maximum(np.diff(starts) - length + 1, 0)
    bounds = np.zeros(len(starts), np.int64)
    np.cumsum(counts, out=bounds[1:])
    if len(starts) > 2:
        hashes = hashes[inside(starts, length, len(hashes))]
    return scramble32(hashes), bounds
