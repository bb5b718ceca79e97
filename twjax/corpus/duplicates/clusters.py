"""Connected components of a graph whose edges come block by block."""

from __future__ import annotations

import numpy as np


class Clusters:
    """Which nodes hang together, by union-find over whole arrays of edges.

    `parent` int64 [nodes], zeros, in memory or memory-mapped; afterwards each node's root is the
    least node of its component. Edges are forgotten: memory is that of `parent`.
    """

    def __init__(self, parent: np.ndarray):
        for start in range(0, len(parent), 1 << 20):
            stop = min(start + (1 << 20), len(parent))
            parent[start:stop] = np.arange(start, stop)
        self._parent = parent

    def roots(self, nodes: np.ndarray) -> np.ndarray:
        """Returns the least node of each node's component."""
        while True:
            parents = self._parent[nodes]
            if np.array_equal(parents, nodes):
                return parents
            grand = self._parent[parents]
            self._parent[nodes] = grand  # Halves the way for whoever comes next.
            nodes = grand

    def join(self, first: np.ndarray, second: np.ndarray) -> None:
        """Adds the edges between the nodes `first` and `second`, both int64 [edges]."""
        while True:
            first, second = self.roots(first), self.roots(second)
            apart = first != second
            if not apart.any():
                return
            first, second = first[apart], second[apart]
            low, high = np.minimum(first, second), np.maximum(first, second)
            # Of several edges at one root the least wins; the others come round again.
            np.minimum.at(self._parent, high, low)
