"""Keyed permutations of 0 … n-1 that are computed one element at a time, in any order."""

from __future__ import annotations

import hashlib

import numpy as np

# Luby and Rackoff (1988) need 4 rounds on large domains; small ones mix slower.
ROUNDS = 8
# 2^64 / golden ratio, the increment of SplitMix64.
_STRIDE = np.uint64(0x9E3779B97F4A7C15)


def key_of(*parts: int | str) -> np.uint64:
    """Returns a 64-bit key that depends on all parts and is the same on every machine."""
    text = "\0".join(map(str, parts)).encode()
    return np.uint64(int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "little"))


def subkey(key: np.ndarray | np.uint64, number: np.ndarray | int) -> np.ndarray:
    """Returns uint64 keys derived from `key` by integers `number`, element by element."""
    key = np.atleast_1d(key)
    return _mix(_mix(key + np.asarray(number).astype(np.uint64) * _STRIDE) ^ key)


def permute(index: np.ndarray, size: np.ndarray | int, key: np.ndarray | np.uint64) -> np.ndarray:
    """Maps index[i] in [0, size[i]) to int64 in the same range, bijectively for each key.

    A generalised Feistel network over Z_a x Z_a, a = ceil(sqrt(size)), with cycle walking for
    the few values outside (Black and Rogaway 2002, "Ciphers with arbitrary finite domains",
    sections 4 and 5). `size` is at most 2^52; `size` and `key` broadcast against `index`.
    """
    index = np.asarray(index)
    size = np.broadcast_to(np.asarray(size, np.uint64), index.shape)
    key = np.broadcast_to(key, index.shape)
    side = np.ceil(np.sqrt(size.astype(np.float64))).astype(np.uint64)
    keys = [subkey(key, round_) for round_ in range(ROUNDS)]
    value = _feistel(index.astype(np.uint64), side, keys)
    outside = np.flatnonzero(value >= size)
    while outside.size:
        value[outside] = _feistel(value[outside], side[outside], [k[outside] for k in keys])
        outside = outside[value[outside] >= size[outside]]
    return value.astype(np.int64)


def _feistel(value: np.ndarray, side: np.ndarray, keys: list[np.ndarray]) -> np.ndarray:
    left, right = np.divmod(value, side)
    for key in keys:
        left, right = right, (left + _mix(right ^ key) % side) % side
    return left * side + right


def _mix(value: np.ndarray) -> np.ndarray:
    """SplitMix64's finaliser: every input bit flips each output bit with probability near 1/2.

    Steele, Lea and Flood 2014, "Fast splittable pseudorandom number generators", with the
    constants of Stafford's variant 13.
    """
    value = (value ^ (value >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    value = (value ^ (value >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return value ^ (value >> np.uint64(31))
