"""MinHash signatures by one permutation, their bands, and the Jaccard similarity of sets.

Each n-gram falls into one of K bins and each bin keeps its least hash, so that a text is read once
instead of K times (one-permutation hashing; Li, Owen, Zhang, NIPS 2012). Bins that stay empty,
those of short texts, are filled by the same again under other hashes, and the last by a hash of
their own over all n-grams. Since an earlier round goes before a later one for every text, two
signatures agree in a bin with a probability of exactly their Jaccard similarity, however short the
texts are (fast similarity sketching; Dahlgaard, Knudsen, Thorup, FOCS 2017).
"""

from __future__ import annotations

import itertools

import numpy as np

from twjax.corpus.codepoints import scramble
from twjax.corpus.duplicates.shingles import scramble32

_EMPTY = np.uint32(0xFFFFFFFF)
# Behind these, a text of 20 n-grams still lacks a quarter of 112 bins, one of 60 about one.
_ROUNDS = 8
_BLOCK = 1 << 16
_GOLDEN = 0x9E3779B9


def signatures(hashes: np.ndarray, starts: np.ndarray, bins: int) -> np.ndarray:
    """Returns uint32 [texts, bins]; texts without n-grams have 0xFFFFFFFF throughout.

    `hashes` uint32 are scrambled n-grams; `starts` [texts + 1] says where each text's begin.
    """
    sizes = np.diff(starts)
    found = np.full((len(sizes), bins), _EMPTY, np.uint32)
    texts = np.flatnonzero(sizes)
    sizes = sizes[texts]
    for number in range(_ROUNDS):
        if not len(texts):
            return found
        keys = scramble32(hashes ^ _seed(number)) if number else hashes
        rows = found[texts]
        rows = np.where(rows == _EMPTY, _least(keys, sizes, bins), rows)
        found[texts] = rows
        left = (rows == _EMPTY).any(axis=1)
        hashes = hashes[np.repeat(left, sizes)]
        texts, sizes = texts[left], sizes[left]
    if len(texts):
        rows = found[texts]
        begins = np.cumsum(sizes) - sizes
        for bin in np.flatnonzero((rows == _EMPTY).any(axis=0)):
            keys = scramble32(hashes ^ _seed(_ROUNDS + int(bin)))
            least = np.minimum.reduceat(keys, begins)
            rows[:, bin] = np.where(rows[:, bin] == _EMPTY, least, rows[:, bin])
        found[texts] = rows
    return found


def _seed(number: int) -> np.uint32:
    return np.uint32(number * _GOLDEN & 0xFFFFFFFF)


def _least(keys: np.ndarray, sizes: np.ndarray, bins: int) -> np.ndarray:
    """Returns uint32 [texts, bins]: the least key of each text in each bin."""
    least = np.full(len(sizes) * bins, _EMPTY, np.uint32)
    rows = np.repeat(np.arange(len(sizes), dtype=np.int64) * bins, sizes)
    # Blocks of a fixed length: a long text needs no more memory than many short ones.
    for start in range(0, len(keys), _BLOCK):
        block = keys[start : start + _BLOCK]
        # The upper half of a key, scaled to the bins.
        slots = (block >> np.uint32(16)) * np.uint32(bins) >> np.uint32(16)
        np.minimum.at(least, rows[start : start + _BLOCK] + slots, block)
    return least.reshape(len(sizes), bins)


def band_keys(found: np.ndarray, bands: int) -> np.ndarray:
    """Returns uint64 [texts, bands]: a hash of each of the `bands` equal stretches of a signature.

    Keys of different bands are different, so that all may be looked up together.
    """
    texts, bins = found.shape
    if bins % bands:
        raise ValueError(f"{bins} bins can't be cut into {bands} bands of equal length.")
    stretches = found.reshape(texts, bands, bins // bands).astype(np.uint64)
    keys = np.broadcast_to(np.arange(1, bands + 1, dtype=np.uint64), (texts, bands))
    for column in range(bins // bands):
        keys = scramble(keys * np.uint64(0x9E3779B97F4A7C15) + stretches[:, :, column])
    return keys


def sets(hashes: np.ndarray, starts: np.ndarray) -> list[np.ndarray]:
    """Returns the distinct n-grams of each text, uint32 ascending."""
    return [np.unique(hashes[a:b]) for a, b in itertools.pairwise(starts.tolist())]


def shared(first: np.ndarray, second: np.ndarray) -> int:
    """Returns how many elements two ascending sets have in common."""
    both = np.concatenate((first, second))
    both.sort()
    return int(np.count_nonzero(both[1:] == both[:-1]))
