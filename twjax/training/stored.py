"""Checkpoints as they lie on the disk: their folders, and arrays that are read piece by piece.

Pieces are for weights that are larger than the memory of the machine that converts them. Orbax
keeps the tree, the names and the atomic folder; TensorStore, which Orbax writes with, each array's
metadata. They are chunks of zarr's version 2, uncompressed (weights hardly compress): a file each,
of its values in C order and nothing else (https://zarr-specs.readthedocs.io, v2.0, "Arrays").
TensorStore reads and writes the same files, but copies each piece once more and makes its writer
wait until it is on the disk.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import dataclasses
import itertools
import os
import pathlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

import jax
import numpy as np
import orbax.checkpoint as ocp
import tensorstore

from twjax import storage
from twjax.training import integrity
from twjax.training.integrity import PROMISE
from twjax.training.retention import Retention

Slices = tuple[slice, ...]
T = TypeVar("T")

# Pieces in flight: enough for a disk of several queues, and a bound on memory.
WORKERS = min(16, max(4, os.cpu_count() or 1))
# Files being brought to the disk at once, beside the workers that make the next ones.
_SYNCERS = 2
# All processes wait for the first one's checksums: minutes where a state has terabytes.
_SAVE_SECONDS = 3_600
# In the name of a checkpoint's folder while it is written.
_UNFINISHED = ocp.path.atomicity.TMP_DIR_SUFFIX
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
    """An array of a checkpoint that has been opened; `read` takes a box of it from the disk.

    `chunk` is the shape of what is stored together: whole chunks are read fastest.
    """

    shape: tuple[int, ...]
    dtype: np.dtype
    chunk: tuple[int, ...]
    _store: Any = dataclasses.field(repr=False)
    # Where chunks are plain files.
    _folder: pathlib.Path | None = None

    def read(self, box: Slices) -> np.ndarray:
        if self._folder is not None and self._is_chunk(box):
            return self._read_file(self._folder, box)
        return self._store[box].read().result()

    def _is_chunk(self, box: Slices) -> bool:
        return all(
            part.start % size == 0 and part.stop - part.start == size
            for part, size in zip(box, self.chunk, strict=True)
        )

    def _read_file(self, folder: pathlib.Path, box: Slices) -> np.ndarray:
        found = np.empty(self.chunk, self.dtype)
        path = folder / _file_name(box, self.chunk)
        with path.open("rb", buffering=0) as file:
            left = found.reshape(-1).view(np.uint8).data
            if (size := os.fstat(file.fileno()).st_size) != len(left):
                raise OSError(f"{path}: {size:,} bytes instead of {len(left):,}: it is damaged.")
            while left:
                left = left[file.readinto(left) or 0 :]
        return found


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
        work: list[tuple[pathlib.Path, Pieces, Slices]] = []
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
            await tensorstore.open(spec, create=True)
            folder = pathlib.Path(info.path)
            work += [(folder, value, box) for box in value.boxes()]
        with (
            concurrent.futures.ThreadPoolExecutor(_SYNCERS) as syncers,
            concurrent.futures.ThreadPoolExecutor(WORKERS) as pool,
        ):
            running = [pool.submit(_write, *item) for item in work]
            try:
                written = concurrent.futures.as_completed(running)
                synced = [syncers.submit(storage.sync, task.result()) for task in written]
                for task in synced:
                    task.result()
            except BaseException:
                pool.shutdown(cancel_futures=True)
                syncers.shutdown(cancel_futures=True)
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
            folder = pathlib.Path(info.parent_dir / info.name) if _plain(store) else None
            # A scalar has no chunks.
            chunk: Any = store.chunk_layout.read_chunk.shape or ()
            found.append(
                StoredArray(
                    tuple(store.shape),
                    store.dtype.numpy_dtype,
                    tuple(chunk),
                    store,
                    folder,
                )
            )
        return found


def _plain(store: Any) -> bool:
    """Whether an array's chunks are files of its values in C order."""
    spec = store.spec().to_json()
    metadata = spec.get("metadata", {})
    return (
        (spec["driver"], spec["kvstore"]["driver"]) == ("zarr", "file")
        and metadata.get("dimension_separator", ".") == "."
        and (metadata.get("order"), metadata.get("filters")) == ("C", None)
        and metadata.get("compressor") is None
        and not metadata["dtype"].startswith(">")
    )


def _file_name(box: Slices, chunk: Sequence[int]) -> str:
    """Returns the name of the chunk that a box begins in."""
    return ".".join(str(part.start // size) for part, size in zip(box, chunk, strict=True))


def _write(folder: pathlib.Path, value: Pieces, box: Slices) -> pathlib.Path:
    """Makes a piece and writes its file, in the page cache for now; returns its path."""
    data = value.read(box)
    if data.shape != value.chunk:
        # A chunk at the end is stored in full.
        whole = np.zeros(value.chunk, value.dtype)
        whole[tuple(slice(0, size) for size in data.shape)] = data
        data = whole
    path = folder / _file_name(box, value.chunk)
    with path.open("wb", buffering=0) as file:
        left = np.ascontiguousarray(data).reshape(-1).view(np.uint8).data
        try:
            while left:
                left = left[file.write(left) :]
        except OSError as error:
            raise OSError(error.errno, error.strerror, str(path)) from None
    return path


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


class Summed(ocp.path.atomicity.AtomicRenameTemporaryPath):
    """A checkpoint's folder while it is written; it gets its checksums before its name.

    One process does that, when all have written, in the background of an asynchronous save.
    """

    async def finalize(self) -> None:
        # The folders of items within one that is still temporary are finished alike.
        if _UNFINISHED not in self.get_final().parent.name:
            await asyncio.to_thread(integrity.write_sums, pathlib.Path(self.get()))
        await super().finalize()


def open_folder(
    folder: pathlib.Path, retention: Retention | None, *, write: bool
) -> ocp.CheckpointManager:
    """Opens a folder of checkpoints."""
    options = ocp.CheckpointManagerOptions(
        preservation_policy=retention,
        create=write,
        cleanup_tmp_directories=write,
        read_only=not write,
        temporary_path_class=Summed,
        async_options=ocp.AsyncOptions(timeout_secs=_SAVE_SECONDS),
        # Each folder has barriers of its own: both may be written at a time.
        multiprocessing_options=ocp.options.MultiprocessingOptions(
            barrier_sync_key_prefix=folder.name
        ),
    )
    return listed(
        lambda: ocp.CheckpointManager(folder, item_names=("state", "meta"), options=options)
    )


def save(manager: Any, tree: dict[str, Any], step: int, meta: dict[str, Any]) -> None:
    """Starts a save of a tree, which promises checksums."""
    manager.save(
        step,
        args=ocp.args.Composite(
            state=ocp.args.StandardSave(tree, jax.tree.map(_storage, tree)),
            meta=ocp.args.JsonSave(meta),
        ),
        custom_metadata=PROMISE,
        force=True,
    )


def listed(look: Callable[[], T]) -> T:
    """Returns what Orbax finds, which lists all checkpoints and then looks at each.

    A run that trains may delete one between the two: then they are listed again.
    """
    for _ in range(_LISTINGS):
        try:
            return look()
        except (FileNotFoundError, NotADirectoryError):
            continue
    return look()


_LISTINGS = 20


def _storage(leaf: Any) -> ocp.SaveArgs:
    """Large stacked weights are stored by layers, so that a layer can be read alone."""
    if leaf.ndim < 2:
        return ocp.SaveArgs()
    # An axis that is named is cut into ones before any other: a matrix would be rows, each alone.
    stacked = (0,) if leaf.ndim > 2 else ()
    return ocp.SaveArgs(chunk_byte_size=_CHUNK_BYTES, shard_axes=stacked)


_CHUNK_BYTES = 128 << 20
