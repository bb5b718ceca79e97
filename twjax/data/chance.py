"""Random numbers of an example's own: the same with every version of every library."""

from __future__ import annotations

import hashlib

import numpy as np

_GAMMA = np.uint64(0x9E3779B97F4A7C15)


class Chance:
    """A stream of random numbers that depends on a key and a seed alone.

    SplitMix64 (Steele et al. 2014, "Fast splittable pseudorandom number generators", figure 17),
    started from a BLAKE2b hash of both.
    """

    def __init__(self, key: str | bytes, seed: int = 0, purpose: str = ""):
        name = key.encode() if isinstance(key, str) else key
        salt = hashlib.blake2b(f"{seed}/{purpose}".encode(), digest_size=32).digest()
        digest = hashlib.blake2b(name, digest_size=8, key=salt).digest()
        self._state = np.uint64(int.from_bytes(digest, "little"))

    def words(self, count: int) -> np.ndarray:
        """Returns the next uint64 [count]."""
        with np.errstate(over="ignore"):
            x = self._state + np.arange(1, count + 1, dtype=np.uint64) * _GAMMA
            self._state = self._state + np.uint64(count) * _GAMMA
            x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
            x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
            return x ^ (x >> np.uint64(31))

    def uniform(self) -> float:
        """Returns a number in [0, 1)."""
        return (int(self.words(1)[0]) >> 11) * 2.0**-53

    def below(self, bound: int) -> int:
        """Returns one of 0 … bound - 1."""
        return int(self.words(1)[0]) * bound >> 64

    def choice(self, shares: np.ndarray) -> int:
        """Returns an index, each as often as its share of float64 [n] shares."""
        edges = np.cumsum(shares)
        index = int(np.searchsorted(edges, self.uniform() * edges[-1], side="right"))
        return min(index, len(edges) - 1)

    def parts(self, total: int, count: int) -> np.ndarray:
        """Returns int64 [count] positive numbers that sum to `total`, uniform over all such."""
        cuts = np.sort(np.argsort(self.words(total - 1), kind="stable")[: count - 1]) + 1
        return np.diff(cuts, prepend=0, append=total)
