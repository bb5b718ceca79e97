"""Arrays of a checkpoint as they lie on the disk: written and read piece by piece.

For weights that are larger than the memory of the machine that converts them. Orbax keeps the
tree, the names and the atomic folder; TensorStore, which Orbax writes with, the pieces. Pieces
are written uncompressed, a file each: weights hardly compress.
"""

from __future__ import annotations

import concurrent.futures
import dataclasses
import itertools
import os
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
import tensorstore

Slices = tuple[slice, ...]

# Pieces in flight: enough for a disk of several queues, and a bound on memory.
WORKERS = min(16, max(4, os.cpu_count() or 1))
# What TensorStore may keep of pieces that are read in parts.
_CACHE_BYTES = 256 << 20


@dataclasses.dataclass(frozen=True)
class Pieces:
    """An array that is made one piece at a time: `read(box)` returns a box of it.

    `chunk` is the shape of a piece. `read` is called from several threads, once for each piece.
    """

    shape: tuple[int, ...]
    dtype: np.dtype
    chunk: tuple[int, ...]
    read: Callable[[Slices], np.ndarray]

    def boxes(self) -> Iterator[Slices]:
        """Yields the box of each piece; those at the end of a dim may be smaller."""
        starts = (range(0, n, c) for n, c in zip(self.shape, self.chunk, strict=True))
        for corner in itertools.product(*starts):
            yield tuple(
                slice(start, min(start + c, n))
                for start, c, n in zip(corner, self.chunk, self.shape, strict=True)
            )


@dataclasses.dataclass(frozen=True)
class StoredArray:
    """An array of a checkpoint that has been opened; `read` takes a box of it from the disk."""

    shape: tuple[int, ...]
    dtype: np.dtype
    _store: Any = dataclasses.field(repr=False)

    def read(self, box: Slices) -> np.ndarray:
        return self._store[box].read().result()


class _Handler(ocp.type_handlers.NumpyHandler):
    """Writes `Pieces` and reads `StoredArray`s, in the format of Orbax's own arrays."""

    def __init__(self, typestr: str):
        super().__init__()
        self._typestr = typestr

    def typestr(self) -> str:
        return self._typestr

    async def serialize(
        self, values: Sequence[Any], infos: Sequence[Any], args: Any = None
    ) -> Sequence[Any]:
        work = []
        for value, info in zip(values, infos, strict=True):
            await info.await_path_creation()
            spec = {
                "driver": "zarr",
                "kvstore": {"driver": "file", "path": f"{info.path}/"},
                "dtype": value.dtype.name,
                "metadata": {"shape": value.shape, "chunks": value.chunk, "compressor": None},
                # A piece of zeros is written like any other.
                "store_data_equal_to_fill_value": True,
            }
            store = await tensorstore.open(spec, create=True)
            work += [(store, value, box) for box in value.boxes()]

        def write(store: Any, value: Pieces, box: Slices) -> None:
            store[box].write(value.read(box), can_reference_source_data_indefinitely=True).result()

        with concurrent.futures.ThreadPoolExecutor(WORKERS) as pool:
            running = [pool.submit(write, *item) for item in work]
            try:
                for task in concurrent.futures.as_completed(running):
                    task.result()
            except BaseException:
                pool.shutdown(cancel_futures=True)
                raise
        return []

    async def deserialize(self, infos: Sequence[Any], args: Any = None) -> Sequence[Any]:
        context = tensorstore.Context({"cache_pool": {"total_bytes_limit": _CACHE_BYTES}})
        found = []
        for info in infos:
            kvstore: Any = {"driver": "file", "path": f"{info.parent_dir / info.name}/"}
            if info.is_ocdbt_checkpoint:
                base = f"file://{info.parent_dir}/"
                kvstore = {"driver": "ocdbt", "base": base, "path": f"{info.name}/"}
            spec = {"driver": "zarr3" if info.use_zarr3 else "zarr", "kvstore": kvstore}
            store = await tensorstore.open(spec, open=True, read=True, context=context)
            found.append(StoredArray(tuple(store.shape), store.dtype.numpy_dtype, store))
        return found


def writing_handler() -> ocp.PyTreeCheckpointHandler:
    """Returns the Orbax handler of trees of `Pieces`."""
    registry = ocp.type_handlers.create_type_handler_registry((Pieces, _Handler("np.ndarray")))
    return ocp.PyTreeCheckpointHandler(use_ocdbt=False, type_handler_registry=registry)


def reading_handler() -> ocp.PyTreeCheckpointHandler:
    """Returns the Orbax handler that gives a `StoredArray` for every array of a checkpoint."""
    registry = ocp.type_handlers.create_type_handler_registry(
        (np.ndarray, _Handler("np.ndarray")),
        (jax.Array, _Handler("jax.Array")),
        (int, ocp.type_handlers.ScalarHandler()),
    )
    return ocp.PyTreeCheckpointHandler(type_handler_registry=registry)
