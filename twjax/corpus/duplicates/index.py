"""Which evaluation items a text holds, by the n-grams of letters that they share.

Letters are those of `scripts.letters`: neither line breaks, white space, width, case, punctuation
nor the script of Chinese matter.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Sequence

import numpy as np

from twjax.corpus import codepoints
from twjax.corpus.duplicates import scripts, shingles

# Raise it whenever the same texts would be judged differently: it is part of what a cache is.
VERSION = 1

# An item needs so many of its n-grams in a text, or all if it has fewer.
LEAST = 10
# Of an item that a text's end cuts off: the share of the n-grams that could be there, and how many
# letters must be there (or half the item's, if that is less).
_FRAGMENT_SHARE, _FRAGMENT_LETTERS = 0.8, 22


@dataclasses.dataclass(frozen=True)
class Item:
    """An evaluation item: a text holds it if it holds one of its `forms`.

    A form is some strings; its n-grams lie in one string each. A text that ends within a form is
    looked at only for forms of one string.
    """

    name: str
    forms: tuple[tuple[str, ...], ...]


@dataclasses.dataclass(frozen=True)
class Match:
    """Text number `text` holds `share` of the n-grams of form `form` of item number `item`.

    They lie between the characters `start` and `stop` of the text. `cut` says that the item goes on
    behind the text's end, or began before it; `share` is then of the n-grams that are left.
    """

    text: int
    item: int
    form: int
    share: float
    start: int
    stop: int
    cut: bool = False


class Index:
    """Finds `items` by their n-grams of `ngram` letters."""

    def __init__(self, items: Sequence[Item], ngram: int):
        self._ngram = ngram
        forms = [(number, form) for number, item in enumerate(items) for form in item.forms]
        # The item of each form, and which of its forms it is.
        self._items = np.array([number for number, _ in forms], np.int64)
        self._numbers = np.concatenate([np.arange(len(item.forms)) for item in items] or [[]])
        strings = [text for _, form in forms for text in form]
        own = np.repeat(np.arange(len(forms)), [len(form) for _, form in forms])
        grams, owners = [np.empty(0, np.uint64)], [np.empty(0, np.int64)]
        offsets, sizes = [np.empty(0, np.int64)], [np.empty(0, np.int64)]
        for first, part in shingles.groups(strings):
            hashes, of, within, letters = self._grams(part)
            sizes.append(letters)
            grams.append(hashes)
            owners.append(own[first + of])
            offsets.append(within)
        hashes, owner, offset = map(np.concatenate, (grams, owners, offsets))
        # Each n-gram once a form, where it stands first.
        order = np.lexsort((offset, owner, hashes))
        hashes, owner, offset = hashes[order], owner[order], offset[order]
        new = np.ones(len(order), bool)
        new[1:] = (hashes[1:] != hashes[:-1]) | (owner[1:] != owner[:-1])
        hashes, self._owners, self._offsets = hashes[new], owner[new], offset[new]
        if not len(hashes):
            raise ValueError(
                f"Evaluation items: none of {len(items)} items has {ngram} letters; check the "
                "files, and the fields that are read of them."
            )
        self._letters = np.bincount(own, np.concatenate(sizes), len(forms)).astype(np.int64)
        self._sizes = np.bincount(self._owners, minlength=len(forms))
        self._single = np.array([len(form) == 1 for _, form in forms])
        self._hashes, begins = np.unique(hashes, return_index=True)
        self._begins = np.append(begins, len(hashes))
        # Most n-grams of most texts are in no item; a small table tells so without a search.
        self._bits = max(16, len(self._hashes).bit_length() + 4)
        self._seen = np.zeros(1 << self._bits, bool)
        self._seen[self._slots(self._hashes)] = True
        searched = np.bincount(self._items, self._sizes, len(items))
        # Items of fewer letters than an n-gram are in ordinary language; they aren't looked for.
        self.too_short = np.flatnonzero(searched == 0).tolist()

    def _slots(self, hashes: np.ndarray) -> np.ndarray:
        return hashes >> np.uint64(64 - self._bits)

    def _grams(self, texts: Sequence[str]) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Returns of each n-gram its hash, its text and its letter there; of each text its letters.

        uint64 [n-grams], int64 [n-grams], int64 [n-grams], int64 [texts].
        """
        letters, starts = shingles.fold(texts, scripts.letters())
        hashes = codepoints.scramble(shingles.windows(letters, self._ngram, np.uint64))
        inside = shingles.inside(starts, self._ngram, len(hashes))
        counts = np.maximum(np.diff(starts) - self._ngram + 1, 0)
        of = np.repeat(np.arange(len(texts)), counts)
        within = np.arange(len(of)) - np.repeat(np.cumsum(counts) - counts, counts)
        return hashes[inside], of, within, np.diff(starts)

    def search(
        self, texts: Sequence[str], share: float, cut: np.ndarray | None = None
    ) -> list[Match]:
        """Returns the items that texts hold, by text and item, the form that is there most.

        A form is held if at least the share `share` of its different n-grams, and ten or all of
        them, lie within a stretch twice as long as itself. `cut` bool [texts, 2] says whether a
        text's begin and its end are cuts through a longer text: there a form's beginning or end
        is enough if it has 22 letters or half the form's, and nearly all n-grams that it could
        have.
        """
        found: list[Match] = []
        for first, part in shingles.groups(texts):
            edges = None if cut is None else cut[first : first + len(part)]
            for match in self._search(part, share, edges):
                found.append(dataclasses.replace(match, text=first + match.text))
        return found

    def _search(self, texts: Sequence[str], share: float, cut: np.ndarray | None) -> list[Match]:
        hashes, of, within, letters = self._grams(texts)
        places = np.flatnonzero(self._seen[self._slots(hashes)])
        at = np.searchsorted(self._hashes, hashes[places])
        at[at == len(self._hashes)] = 0
        hit = self._hashes[at] == hashes[places]
        at, places = at[hit], places[hit]
        # Each place once a form that has its n-gram, in the order of texts, forms, places.
        begins, counts = self._begins[at], np.diff(self._begins)[at]
        more = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
        entries = np.repeat(begins, counts) + more
        at, places = np.repeat(at, counts), np.repeat(places, counts)
        forms, offsets = self._owners[entries], self._offsets[entries]
        order = np.lexsort((places, forms, of[places]))
        at, places, forms, offsets = at[order], places[order], forms[order], offsets[order]
        own = of[places]
        bounds = np.flatnonzero(np.diff(own * np.int64(len(self._sizes)) + forms, prepend=-1))
        best: dict[tuple[int, int], tuple[float, int, Match]] = {}
        for low, high in itertools.pairwise(np.append(bounds, len(own)).tolist()):
            text, form = int(own[low]), int(forms[low])
            spot = within[places[low:high]]
            match = self._whole(text, form, at[low:high], spot, share)
            if match is None and cut is not None and cut[text].any() and self._single[form]:
                match = self._fragment(
                    text, form, offsets[low:high], spot, int(letters[text]), cut[text]
                )
            if match is not None:
                # Of forms of which as much is there, the longest says most.
                key, rank = (text, match.item), (match.share, int(self._letters[form]), match)
                if key not in best or rank[:2] > best[key][:2]:
                    best[key] = rank
        return [_placed(match, texts[match.text]) for _, _, match in best.values()]

    def _whole(
        self, text: int, form: int, at: np.ndarray, spot: np.ndarray, share: float
    ) -> Match | None:
        """Judges the hits of a form in a text: which n-grams `at`, from which letters `spot`."""
        size = int(self._sizes[form])
        needed = max(math.ceil(share * size), min(LEAST, size))
        if len(spot) < needed:
            return None
        ends = np.searchsorted(spot, spot + 2 * self._letters[form], "right")
        low = int((ends - np.arange(len(spot))).argmax())
        high = int(ends[low])
        held = len(np.unique(at[low:high]))
        if held < needed:
            return None
        start, stop = int(spot[low]), int(spot[high - 1]) + self._ngram
        return self._match(text, form, held / size, start, stop)

    def _fragment(
        self,
        text: int,
        form: int,
        offsets: np.ndarray,
        spot: np.ndarray,
        letters: int,
        cut: np.ndarray,
    ) -> Match | None:
        """Judges a form that would reach beyond a cut end of the text."""
        # Where in the text the form would begin, by most of its n-grams.
        shifts, counts = np.unique(spot - offsets, return_counts=True)
        shift, hits = int(shifts[counts.argmax()]), int(counts.max())
        whole = int(self._letters[form])
        beyond = (shift < 0, shift + whole > letters)
        if not any(beyond) or any(
            out and not open_ for out, open_ in zip(beyond, cut, strict=True)
        ):
            return None
        start, stop = max(shift, 0), min(shift + whole, letters)
        grams = stop - start - self._ngram + 1
        enough = min(_FRAGMENT_LETTERS, (whole + 1) // 2)
        if stop - start < enough or hits < max(1, _FRAGMENT_SHARE * grams):
            return None
        return self._match(text, form, hits / grams, start, stop, cut=True)

    def _match(
        self, text: int, form: int, share: float, start: int, stop: int, cut: bool = False
    ) -> Match:
        number = int(self._numbers[form])
        return Match(text, int(self._items[form]), number, share, start, stop, cut)


def _placed(match: Match, text: str) -> Match:
    """Turns a match's letters into characters of the text."""
    points, _ = shingles.code_points([text])
    characters = np.flatnonzero(scripts.letters().take(points))
    start, stop = int(characters[match.start]), int(characters[match.stop - 1]) + 1
    return dataclasses.replace(match, start=start, stop=stop)
