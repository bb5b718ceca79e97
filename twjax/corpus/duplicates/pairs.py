"""Measures candidate pairs by their sets of n-grams and decides which documents go.

A candidate's words (uint32) are a header, its partners and its n-grams, cut into blocks of one
size, so that any number of them is one array. They stay on the disk: pairs are fetched when they
are measured.
"""

from __future__ import annotations

import collections
import pathlib
from collections.abc import Iterator

import numpy as np

from twjax.corpus.duplicates import minhash, spill
from twjax.corpus.duplicates.clusters import Clusters
from twjax.corpus.step import Records

# What stands in place of a partner: others name this document, to be measured or as an equal.
# Partners are a global number times two, plus one if the documents are equal.
NAMED, EQUAL = (1 << 63) - 2, (1 << 63) - 1
_WORDS = 31  # With its document a block is 128 bytes.
BLOCK = np.dtype([("document", "<u4"), ("words", "<u4", (_WORDS,))])
_HEADER = 4  # Words: how many of partners, of n-grams; the two ranks.
_PAIRS = 4096
_AT_ONCE = 64
_OPEN = 64  # Units whose records are mapped at a time.
_NODES = 1 << 16


def blocks(
    document: int, ranks: tuple[int, int], partners: np.ndarray, grams: np.ndarray
) -> np.ndarray:
    """Returns a candidate's blocks; `partners` are uint32 halves, lower ranks are preferred."""
    header = np.array((len(partners), len(grams), *ranks), "<u4")
    words = np.concatenate((header, partners, grams))
    found = np.empty(-(-len(words) // _WORDS), BLOCK)
    found["document"] = document
    found["words"] = np.resize(words, len(found) * _WORDS).reshape(-1, _WORDS)
    return found


class Judge:
    """Decides by the blocks of all candidates; a candidate's index among them is its node."""

    def __init__(self, records: Records, scratch: pathlib.Path, threshold: float, linkage: str):
        self._records, self._scratch = records, scratch
        self._threshold, self._linkage = threshold, linkage
        self._budget = records.budget_bytes
        rows = [len(unit) for unit in records]
        self._unit_rows = np.concatenate([[0], np.cumsum(rows)]).astype(np.int64)
        total = sum(int(_firsts(unit).sum()) for _, unit in spill.numbered(records))
        self._numbers = self._room("numbers", total, np.int64)
        self._rows = self._room("rows", total, np.int64)
        self._sizes = self._room("sizes", 2 * total, np.uint32).reshape(-1, 2)
        self._ranks = self._room("ranks", total, np.uint64)
        self._clusters = Clusters(self._room("parents", total, np.int64))
        full = self._unit_rows[:-1][np.diff(self._unit_rows) > 0]
        done = 0
        for (start, unit), row in zip(spill.numbered(records), full, strict=True):
            first = np.flatnonzero(_firsts(unit))
            part = slice(done, done + len(first))
            header = unit["words"][first, :_HEADER]
            self._numbers[part] = unit["document"][first].astype(np.int64) + start
            self._rows[part] = first + row
            self._sizes[part] = header[:, :2]
            self._ranks[part] = header[:, 2].astype(np.uint64) << np.uint64(32) | header[:, 3]
            done += len(first)
        self._open: collections.OrderedDict[int, np.ndarray] = collections.OrderedDict()

    def _room(self, name: str, length: int, dtype: type) -> np.ndarray:
        return spill.room(self._scratch, name, length, dtype, self._budget // 16)

    def decision(self) -> Iterator[np.ndarray]:
        """Yields for each unit the documents that go, with the one that stays for each."""
        with spill.Sorter(self._scratch, "gone", 2, self._budget // 4) as gone:
            if self._linkage == "cluster":
                for first, second, equal in self._pairs():
                    self._clusters.join(first[equal], second[equal])
                    self._join(first[~equal], second[~equal])
                for nodes, best, _ in self._best():
                    gone.add(self._numbers[nodes], self._numbers[best])
            else:
                for first, second, equal in self._pairs():
                    self._clusters.join(first[equal], second[equal])
                keeper = self._greedy()
                for start in range(0, len(keeper), _NODES):
                    nodes = np.arange(start, min(start + _NODES, len(keeper)))
                    stays = keeper[self._clusters.roots(nodes)]
                    nodes, stays = self._numbers[nodes], self._numbers[stays]
                    gone.add(nodes[nodes != stays], stays[nodes != stays])
            yield from spill.requests(gone.blocks(), self._records, [("keeper", "<i8")])

    def _pairs(self) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
        """Yields nodes, their partners, and whether they are equal: blocks of pairs, in order."""
        nodes: list[int] = []
        codes: list[np.ndarray] = []
        waiting = 0
        for start in range(0, len(self._numbers), _NODES):
            named = np.flatnonzero(self._sizes[start : start + _NODES, 0]) + start
            for node in named.tolist():
                count = int(self._sizes[node, 0])
                nodes.append(node)
                codes.append(self._words(node)[_HEADER : _HEADER + count].view("<u8"))
                waiting += len(codes[-1])
                if waiting >= _PAIRS or node == named[-1]:
                    first = np.repeat(np.array(nodes), [len(c) for c in codes])
                    code = np.concatenate(codes)
                    numbers = (code >> np.uint64(1)).astype(np.int64)
                    equal = code & np.uint64(1) == 1
                    yield first, np.searchsorted(self._numbers, numbers), equal
                    nodes, codes, waiting = [], [], 0

    def _join(self, first: np.ndarray, second: np.ndarray) -> None:
        """Joins similar pairs; what hangs together already isn't measured again."""
        while len(first):
            apart = self._clusters.roots(first) != self._clusters.roots(second)
            first, second = first[apart], second[apart]
            now, later = slice(0, _AT_ONCE), slice(_AT_ONCE, None)
            similar = self._similar(first[now], second[now])
            self._clusters.join(first[now][similar], second[now][similar])
            first, second = first[later], second[later]

    def _best(self) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
        """Yields of each cluster the nodes but the preferred one, that one, and the root."""
        with spill.Sorter(self._scratch, "clusters", 3, self._budget // 4) as clusters:
            for start in range(0, len(self._numbers), _NODES):
                nodes = np.arange(start, min(start + _NODES, len(self._numbers)))
                # Nodes are in the order of the documents.
                clusters.add(self._clusters.roots(nodes), self._ranks[nodes], nodes)
            for rows, first in spill.leaders(clusters.blocks(), 1):
                others = rows[:, 2] != first[:, 2]
                rows, first = rows[others].astype(np.int64), first[others].astype(np.int64)
                yield rows[:, 2], first[:, 2], first[:, 0]

    def _greedy(self) -> np.ndarray:
        """Returns int64 [nodes]: at the root of each class of equals, the node that stays for it.

        A class is preferred like its most preferred member.
        """
        keeper = self._room("keeper", len(self._numbers), np.int64)
        for start in range(0, len(keeper), _NODES):
            stop = min(start + _NODES, len(keeper))
            keeper[start:stop] = np.arange(start, stop)
        for _, best, root in self._best():
            keeper[root] = best
        gone = self._room("dropped", len(keeper), np.bool_)
        with spill.Sorter(self._scratch, "edges", 4, self._budget // 4) as edges:
            for first, second, equal in self._pairs():
                first, second = first[~equal], second[~equal]
                similar = self._similar(first, second)
                first, second = first[similar], second[similar]
                ranks, others = self._ranks[keeper[first]], self._ranks[keeper[second]]
                later = (ranks > others) | (ranks == others) & (keeper[first] > keeper[second])
                first, second = np.where(later, second, first), np.where(later, first, second)
                edges.add(self._ranks[keeper[first]], keeper[first], first, second)
            # What is preferred to a node has been decided when its turn comes.
            for rows in edges.blocks():
                rows = rows.astype(np.int64)
                begins = np.flatnonzero(np.diff(rows[:, 2], prepend=-1))
                for low, high in zip(begins, np.append(begins[1:], len(rows)), strict=True):
                    node = rows[low, 2]
                    if not gone[node]:
                        others = rows[low:high, 3]
                        others = others[~gone[others]]
                        gone[others] = True
                        keeper[others] = keeper[node]
        return keeper

    def _similar(self, first: np.ndarray, second: np.ndarray) -> np.ndarray:
        """Returns bool [pairs]: whether the similarity reaches the threshold."""
        few = np.minimum(self._sizes[first, 1], self._sizes[second, 1])
        many = np.maximum(self._sizes[first, 1], self._sizes[second, 1])
        # The similarity can't exceed the ratio of the sizes.
        similar = few >= self._threshold * many
        for place in np.flatnonzero(similar).tolist():
            one, other = self._grams(int(first[place])), self._grams(int(second[place]))
            both = minhash.shared(one, other)
            similar[place] = both / (len(one) + len(other) - both) >= self._threshold
        return similar

    def _grams(self, node: int) -> np.ndarray:
        partners, count = self._sizes[node].tolist()
        return self._words(node)[_HEADER + partners : _HEADER + partners + count]

    def _words(self, node: int) -> np.ndarray:
        """Returns a candidate's words: header, partners, n-grams."""
        row = int(self._rows[node])
        unit = int(np.searchsorted(self._unit_rows, row, "right")) - 1
        if unit not in self._open:
            if len(self._open) >= _OPEN:
                self._open.popitem(last=False)
            self._open[unit] = self._records[unit]["words"]
        size = _HEADER + int(self._sizes[node].sum())
        begin = row - int(self._unit_rows[unit])
        return self._open[unit][begin : begin + -(-size // _WORDS)].ravel()


def _firsts(unit: np.ndarray) -> np.ndarray:
    """Returns bool: whether a block is its document's first."""
    first = np.ones(len(unit), bool)
    documents = unit["document"]
    first[1:] = documents[1:] != documents[:-1]
    return first
