"""How much of a text its own repeated n-grams are, for many texts at once.

Two figures of Rae et al. (2021, "Scaling Language Models: Methods, Analysis & Insights from
Training Gopher", §A.1.1): the share of characters that the most frequent n-gram makes up, and the
share that lies in n-grams seen before in the same text. An n-gram that occurs once can't begin a
longer one that occurs twice, so each length only looks at what repeated at the length before.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np

from twjax.corpus.codepoints import Tokens, scramble

# Sorted keys are 40 bits of hash above 24 bits of position: equal n-grams come in order of place
# by one plain sort. In a text of 100,000 tokens the chance of one false repeat is 1 in 200.
_POSITION_BITS = 24
MAX_TOKENS = 1 << _POSITION_BITS
_POSITION = np.uint64(MAX_TOKENS - 1)
# Odd, with a long period (Steele and Vigna 2021, "Computationally easy, spectrally good
# multipliers").
_BASE = 0xD1342543DE82EF95


def top_shares(
    tokens: Tokens, lengths: Sequence[int], floor: float = 0.0, times: int = 2
) -> np.ndarray:
    """Returns float64 [lengths, texts], what the heaviest n-gram's occurrences amount to.

    `lengths` ascend. The share is of the characters in tokens, at most 1, and 0 where nothing
    occurs `times` times; one that doesn't exceed `floor` may be given as 0. Tokens beyond
    `MAX_TOKENS` count as absent.
    """
    texts = _Texts(tokens)
    shares = np.zeros((len(lengths), texts.number))
    # An n-gram that occurs less often than this is too light in every text.
    heaviest = int(np.max(texts.weigh(np.arange(texts.size), lengths[-1]), initial=1))
    least = max(times, int(floor * np.min(texts.totals[texts.full], initial=0) / heaviest))
    repeats = texts.repeats(lengths[0], least)
    for row, length in zip(shares, lengths, strict=True):
        if length > lengths[0]:
            repeats = texts.longer(repeats, length, least)
        begin = repeats.place[repeats.run]
        weight = texts.weigh(begin, length) * np.diff(np.append(repeats.run, len(repeats.place)))
        np.maximum.at(row, texts.owner[begin], weight)
    return np.minimum(shares / texts.totals, 1)


def duplicate_shares(tokens: Tokens, lengths: Sequence[int], floor: float = 0.0) -> np.ndarray:
    """Returns float64 [lengths, texts], what lies in second and later occurrences of n-grams.

    `lengths` ascend. Each character counts once; the share is of the characters in tokens. One
    that doesn't exceed `floor` may be given as 0. Tokens beyond `MAX_TOKENS` count as absent.
    """
    texts = _Texts(tokens)
    shares = np.zeros((len(lengths), texts.number))
    repeats = texts.repeats(lengths[0], 2)
    for row, length in zip(shares, lengths, strict=True):
        if length > lengths[0]:
            repeats = texts.longer(repeats, length, 2)
        later = np.ones(len(repeats.place), bool)
        later[repeats.run] = False
        begin = np.sort(repeats.place[later])
        # What overlaps the next occurrence is counted there.
        covered = np.full(len(begin), length)
        covered[:-1] = np.minimum(np.diff(begin), length)
        weights = texts.weigh(begin, covered)
        row[:] = np.bincount(texts.owner[begin], weights, minlength=texts.number) / texts.totals
        # Longer n-grams lie within these, so their share can only be smaller.
        repeats = repeats.only((row > floor)[texts.owner[repeats.place]])
    return shares


@dataclasses.dataclass(frozen=True)
class _Repeats:
    """Places where n-grams of one length begin that repeat, equal ones in a row.

    `hashes` are theirs; `run` says where each row of equals begins, its places ascending.
    """

    place: np.ndarray
    hashes: np.ndarray
    run: np.ndarray
    length: int

    def only(self, mask: np.ndarray) -> _Repeats:
        """Returns the places of the marked texts (whole rows of equals)."""
        return _Repeats(self.place[mask], self.hashes[mask], self.run[:0], self.length)


class _Texts:
    """Tokens prepared for finding what repeats within each text."""

    def __init__(self, tokens: Tokens):
        self.starts = np.minimum(tokens.starts, MAX_TOKENS)
        sizes = np.diff(self.starts)
        self.size, self.number = int(self.starts[-1]), len(sizes)
        self.full = sizes > 0
        self.mixed = scramble(tokens.values[: self.size])
        self.owner = np.repeat(np.arange(self.number), sizes)
        # Characters before each token, so that n-grams are weighed by a difference.
        self._before = np.concatenate(([0], np.cumsum(tokens.lengths[: self.size])))
        self.totals = np.maximum(np.diff(self._before[self.starts]), 1)

    def weigh(self, place: np.ndarray, length: int | np.ndarray) -> np.ndarray:
        """Returns the characters in so many tokens from each place."""
        return self._before[np.minimum(place + length, self.size)] - self._before[place]

    def repeats(self, length: int, least: int) -> _Repeats:
        """Returns the n-grams that occur at least `least` times in their text."""
        hashes = _windows(self.mixed, length)
        keys = (hashes & ~_POSITION) | np.arange(len(hashes), dtype=np.uint64)
        # N-grams that leave their text get the hash 0: they are sorted to the front, and go.
        leaving = (self.starts[1:-1, None] - np.arange(1, length)).ravel()
        leaving = np.unique(leaving[(leaving >= 0) & (leaving < len(keys))])
        keys[leaving] &= _POSITION
        keys.sort()
        return self._rows(keys[len(leaving) :], hashes, None, least, length)

    def longer(self, repeats: _Repeats, length: int, least: int) -> _Repeats:
        """Returns those of the repeats that still are when tokens are appended."""
        stop = self.starts[1:][self.owner[repeats.place]]
        fits = repeats.place + length <= stop
        place, hashes = repeats.place[fits], repeats.hashes[fits]
        for offset in range(repeats.length, length):
            hashes = hashes * np.uint64(_BASE) + self.mixed[place + offset]
        keys = (hashes & ~_POSITION) | place.astype(np.uint64)
        keys.sort()
        order = np.argsort(place)
        return self._rows(keys, hashes[order], place[order], least, length)

    def _rows(
        self,
        keys: np.ndarray,
        hashes: np.ndarray,
        known: np.ndarray | None,
        least: int,
        length: int,
    ) -> _Repeats:
        """Finds the rows of equals among sorted keys.

        Texts hold their places in a row, so equals of one text stay together, in order of place.
        `hashes` are of the places `known`, ascending, or of all places.
        """
        step = least - 1
        head = np.flatnonzero((keys[step:] ^ keys[: max(len(keys) - step, 0)]) <= _POSITION)
        begin = (keys[head] & _POSITION).astype(np.int64)
        end = (keys[head + step] & _POSITION).astype(np.int64)
        head = head[self.owner[begin] == self.owner[end]]
        # Heads that follow each other are of one row; it goes on for `step` keys after the last.
        new = np.ones(len(head), bool)
        new[1:] = np.diff(head) > 1
        run = np.flatnonzero(new)
        sizes = np.diff(np.append(run, len(head))) + step
        starts = np.cumsum(sizes) - sizes
        at = np.repeat(head[run] - starts, sizes) + np.arange(int(sizes.sum()))
        place = (keys[at] & _POSITION).astype(np.int64)
        slots = place if known is None else np.searchsorted(known, place)
        return _Repeats(place, hashes[slots], starts, length)


def _windows(mixed: np.ndarray, length: int) -> np.ndarray:
    """Returns uint64 [max(0, tokens - length + 1)], a polynomial hash of each window."""
    if len(mixed) < length:
        return mixed[:0]
    if length == 1:
        return mixed
    half = length // 2
    shorter = _windows(mixed, half)
    count = len(mixed) - 2 * half + 1
    hashes = shorter[:count] * np.uint64(pow(_BASE, half, 1 << 64))
    hashes += shorter[half : half + count]
    if length % 2:
        hashes = hashes[:-1] * np.uint64(_BASE)
        hashes += mixed[length - 1 :]
    return hashes
