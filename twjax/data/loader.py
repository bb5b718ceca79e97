"""Batches on devices: cached rows, in the order of a mixture, each process reading its own part.

The batch of a step is a pure function of the step. Nothing is skipped to resume and nothing about
the position is saved: an iterator that starts at step s begins with the batch of step s.
"""

from __future__ import annotations

import collections
import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import grain
import jax
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec

from twjax.config.data import Data
from twjax.data.mixture import MixtureIndex
from twjax.data.rows import RowReader

# Reads the rows at places [n] of a step's batch: arrays [n, L] by field name.
Fetch = Callable[[int, np.ndarray], dict[str, np.ndarray]]

THREADS = 4
PREFETCH = 8


def open_mixture(
    data: Data,
    split: str = "train",
    *,
    batch_size: int | None = None,
    steps: int | None = None,
    config: str = "CONFIG",
) -> tuple[dict[str, RowReader], MixtureIndex]:
    """Opens the rows of all tasks of a mixture, checks them, and orders them.

    Raises one ValueError that lists everything wrong: missing, damaged or stale caches, rows of
    different kinds or vocabularies, tasks without rows. `batch_size` is `Data.batch_size` unless
    given; `steps` is how many the run needs, for tasks with `max_epochs`; `config` is the
    file named in the advice to run `twjax tasks cache`.
    """
    readers: dict[str, RowReader] = {}
    problems: list[str] = []
    for task in data.mixture.tasks:
        try:
            reader = RowReader(data.cache, task, split, data.seq_len, config=config)
        except (OSError, ValueError) as error:
            problems.append(str(error))
            continue
        readers[task] = reader
        problems += reader.problems(data.vocabulary)
        if len(reader) == 0:
            problems.append(f"{reader.path}: task {task} has no rows in split {split}")
    problems += _differences(readers)
    if problems:
        raise ValueError(" | ".join(dict.fromkeys(problems)))
    index = MixtureIndex(
        data.mixture,
        {task: len(reader) for task, reader in readers.items()},
        batch_size=batch_size or data.batch_size,
        steps=steps,
    )
    return readers, index


def _differences(readers: Mapping[str, RowReader]) -> list[str]:
    """Returns a line for each task whose rows can't stand in one batch with the first's."""
    lines = []
    first = next(iter(readers.values()), None)
    for task, reader in readers.items():
        assert first is not None
        one, other = first.info, reader.info
        for what, a, b in (
            ("vocabulary sha256", one.vocabulary["sha256"], other.vocabulary["sha256"]),
            ("vocabulary size", one.vocabulary["size"], other.vocabulary["size"]),
            ("row format", one.row_format, other.row_format),
        ):
            if a != b:
                lines.append(
                    f"{reader.path}: {what} of task {task} is {b}, of task {one.task} {a}; "
                    "cache all tasks of a mixture alike"
                )
    return lines


def batches(
    readers: Mapping[str, RowReader],
    index: MixtureIndex,
    sharding: NamedSharding,
    batch_size: int,
    start_step: int = 0,
    *,
    threads: int = THREADS,
    prefetch: int = PREFETCH,
) -> Iterator[dict[str, jax.Array]]:
    """Yields the global batches of steps `start_step`, `start_step` + 1, … without end.

    Decoder rows give tokens int32, segment_ids int32 and loss_weights uint8, all
    [batch_size, seq_len] with `sharding`. Up to `prefetch` batches are read ahead by `threads`
    threads (0: none); neither changes what is read.
    """
    if batch_size != index.batch_size:
        raise ValueError(
            f"A batch of {batch_size} rows was asked for from a mixture ordered for "
            f"{index.batch_size}."
        )
    ordered = [readers[task] for task in index.tasks]

    def fetch(step: int, places: np.ndarray) -> dict[str, np.ndarray]:
        tasks, rows = index.lookup(step * batch_size + places)
        batch: dict[str, np.ndarray] = {}
        for task in np.unique(tasks).tolist():
            here = np.flatnonzero(tasks == task)
            for name, values in ordered[task].read(rows[here]).items():
                if name not in batch:
                    batch[name] = np.empty((len(places), values.shape[1]), values.dtype)
                batch[name][here] = values
        return batch

    # Rows are numbered in int64.
    steps = range(start_step, 2**62 // batch_size)
    return _stream(fetch, sharding, batch_size, steps, threads, prefetch)


def evaluation_batches(
    reader: RowReader,
    sharding: NamedSharding,
    batch_size: int,
    rows: int | None = None,
    *,
    threads: int = THREADS,
    prefetch: int = PREFETCH,
) -> Iterator[dict[str, jax.Array]]:
    """Yields the first `rows` rows (None: all) of one task in order, `batch_size` at a time.

    The last batch is filled up with rows of zeros: padding without loss weight.
    """
    total = len(reader) if rows is None else min(rows, len(reader))

    def fetch(step: int, places: np.ndarray) -> dict[str, np.ndarray]:
        wanted = step * batch_size + places
        real = wanted < total
        batch = {}
        for name, values in reader.read(wanted[real]).items():
            batch[name] = np.zeros((len(places), values.shape[1]), values.dtype)
            batch[name][real] = values
        return batch

    steps = range(-(-total // batch_size))
    return _stream(fetch, sharding, batch_size, steps, threads, prefetch)


def local_places(sharding: NamedSharding, batch_size: int) -> np.ndarray:
    """Returns the sorted places int64[n] of a batch that devices of this process hold.

    A row that several of them hold counts once.
    """
    axes = sharding.spec[0] if len(sharding.spec) else None
    names = (axes,) if isinstance(axes, str) else tuple(axes or ())
    parts = math.prod(sharding.mesh.shape[name] for name in names)
    if batch_size % parts:
        raise ValueError(
            f"Data.batch_size ({batch_size}) must be a multiple of {parts}: the mesh "
            f"{dict(sharding.mesh.shape)} cuts a batch into that many parts."
        )
    rows = NamedSharding(sharding.mesh, PartitionSpec(axes))
    slices = rows.addressable_devices_indices_map((batch_size,)).values()
    held = {index[0].indices(batch_size) for index in slices if index is not None}
    return np.unique(np.concatenate([np.arange(*bounds) for bounds in held]))


def _stream(
    fetch: Fetch,
    sharding: NamedSharding,
    batch_size: int,
    steps: range,
    threads: int,
    prefetch: int,
) -> Iterator[dict[str, jax.Array]]:
    """Yields the batches of `steps`, the next one already on its way to the devices."""
    places = local_places(sharding, batch_size)
    dataset = grain.MapDataset.range(steps.start, steps.stop).map(lambda step: fetch(step, places))
    options = grain.ReadOptions(
        num_threads=threads, prefetch_buffer_size=max(prefetch, threads) if threads else 0
    )
    iterator = iter(dataset.to_iter_dataset(options))
    # Reading begins now, while the caller still compiles its step.
    iterator.start_prefetch()
    return _placed(iterator, places, sharding, batch_size)


def _placed(
    iterator: grain.DatasetIterator,
    places: np.ndarray,
    sharding: NamedSharding,
    batch_size: int,
) -> Iterator[dict[str, jax.Array]]:
    waiting: collections.deque[dict[str, jax.Array]] = collections.deque()
    try:
        for batch in iterator:
            waiting.append(
                {name: _place(rows, places, sharding, batch_size) for name, rows in batch.items()}
            )
            if len(waiting) > 1:
                yield waiting.popleft()
        yield from waiting
    finally:
        iterator.close()


def _place(
    rows: np.ndarray, places: np.ndarray, sharding: NamedSharding, batch_size: int
) -> jax.Array:
    """Makes the global array [batch_size, L] from the rows that this process has read."""

    def part(index: Any) -> np.ndarray:
        start, stop, _ = index[0].indices(batch_size)
        first = int(np.searchsorted(places, start))
        return rows[first : first + stop - start, index[1]]

    return jax.make_array_from_callback((batch_size, rows.shape[1]), sharding, part)
