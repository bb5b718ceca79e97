"""A checkpoint's weights with its adapters merged into them, read piece by piece.

The same numbers as `models.adapters.merger` gives, in NumPy, for weights larger than the memory.
"""

from __future__ import annotations

import dataclasses
import math
import threading

import numpy as np

from twjax.config import Model
from twjax.config.keeping import Adapter
from twjax.models import adapters, parts
from twjax.models.network import network
from twjax.training.stored import Slices, StoredArray

# Of a frozen weight that is read at once to find the lengths of its outputs.
_BLOCK_BYTES = 64 << 20


@dataclasses.dataclass(frozen=True)
class MergedArray(StoredArray):
    """A frozen weight with its adapter: `read` adds the adapter's part of a box to it.

    `cut` is the first dim of the outputs; `length` is None but for DoRA.
    """

    frozen: StoredArray | None = None
    a: StoredArray | None = None
    b: StoredArray | None = None
    length: StoredArray | None = None
    cut: int = 0
    scale: float = 0.0
    gains: dict[int, np.ndarray] = dataclasses.field(default_factory=dict, repr=False)
    lock: threading.Lock = dataclasses.field(default_factory=threading.Lock, repr=False)

    def read(self, box: Slices) -> np.ndarray:
        layers = range(*box[0].indices(self.shape[0]))
        return np.stack([self._layer(layer, box[1:]) for layer in layers])

    def _layer(self, layer: int, box: Slices) -> np.ndarray:
        whole = self._sum(layer, box)
        if self.length is not None:
            whole = whole * self._gain(layer)[box[self.cut - 1 :]]
        return whole.astype(self.dtype)

    def _sum(self, layer: int, box: Slices) -> np.ndarray:
        """Returns a box of one layer's W + scale · A·B in float64."""
        assert self.frozen is not None and self.a is not None and self.b is not None
        one, every = slice(layer, layer + 1), slice(0, self.a.shape[-1])
        frozen = self.frozen.read((one, *box))[0]
        a = self.a.read((one, *box[: self.cut - 1], every))[0]
        b = self.b.read((one, every, *box[self.cut - 1 :]))[0]
        return frozen + self.scale * np.tensordot(a.astype(np.float64), b.astype(np.float64), 1)

    def _gain(self, layer: int) -> np.ndarray:
        """Returns the factor of each output of a layer: wanted length over present length."""
        assert self.frozen is not None and self.length is not None
        with self.lock:
            if layer not in self.gains:
                out = tuple(slice(0, n) for n in self.shape[self.cut :])
                inner = tuple(slice(0, n) for n in self.shape[2 : self.cut])
                row = math.prod(self.shape[2:]) * 8
                rows = max(1, _BLOCK_BYTES // row)
                base, now = 0.0, 0.0
                axes = tuple(range(self.cut - 1))
                for start in range(0, self.shape[1], rows):
                    box = (slice(start, min(start + rows, self.shape[1])), *inner, *out)
                    frozen = self.frozen.read((slice(layer, layer + 1), *box))[0]
                    base = base + np.square(frozen.astype(np.float64)).sum(axis=axes)
                    now = now + np.square(self._sum(layer, box)).sum(axis=axes)
                wanted = np.sqrt(base) + self.length.read((slice(layer, layer + 1), *out))[0]
                self.gains[layer] = wanted / np.maximum(np.sqrt(now), 1e-15)
            return self.gains[layer]


def merged_arrays(
    arrays: dict[str, StoredArray], adapter: Adapter, model: Model
) -> dict[str, StoredArray]:
    """Returns the arrays of the network without adapters, from those of one with them."""
    found = {name: array for name, array in arrays.items() if not adapters.is_adapter(name)}
    specs = parts.by_name(network(model).specs)
    for name, array in list(found.items()):
        if adapters.is_target(name, arrays):
            found[name] = MergedArray(
                array.shape,
                array.dtype,
                array.chunk,
                None,
                frozen=array,
                a=arrays[f"{name}{adapters.A}"],
                b=arrays[f"{name}{adapters.B}"],
                length=arrays.get(f"{name}{adapters.LENGTH}"),
                cut=1 + adapters.input_dims(specs[name]),
                scale=adapter.scale,
            )
    return found
