"""Batches on devices: cached rows, in the order of a mixture, each process reading its own part.

The batch of a step is a pure function of the step. Nothing is skipped to resume and nothing about
the position is saved: an iterator that starts at step s begins with the batch of step s.
"""

from __future__ import annotations

import collections
import math
from collections.abc import Callable, Collection, Generator, Iterator, Sequence
from typing import Any

import grain
import jax
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec

from twjax.config.data import Data, SeqLen
from twjax.config.reading import Reading
from twjax.data.course import Course, Jump, Turn
from twjax.data.rows import RowReader
from twjax.data.top_logits import TopReaders

# Of each task, by the length of its rows.
Readers = dict[SeqLen, dict[str, RowReader]]
# Reads the rows at places [n] of a step's batch: arrays [n, L] by field name.
Fetch = Callable[[int, np.ndarray], dict[str, np.ndarray]]

THREADS = 4
PREFETCH = 8


def open_course(
    data: Data,
    readings: Sequence[tuple[int, Reading]] = (),
    turns: Sequence[Turn] = (),
    jumps: Sequence[Jump] = (),
    *,
    split: str = "train",
    steps: int | None = None,
    config: str = "CONFIG",
) -> tuple[Readers, Course]:
    """Opens the rows of all tasks that a run reads, checks them, and orders them.

    Raises one ValueError that lists everything wrong: missing, damaged or stale caches, rows of
    different kinds or vocabularies, tasks without rows. `readings`, `turns` and `jumps` are those
    of `Course`, by default what `data` says; `steps` is how many the run needs, for tasks with
    `max_epochs`; `config` is the file named in the advice to run `twjax tasks cache`.
    """
    readings = readings or ((0, Reading.of(data)),)
    readers: Readers = {}
    problems: list[str] = []
    for length, task in dict.fromkeys(pair for _, r in readings for pair in _read_by(r)):
        try:
            reader = RowReader(data.cache, task, split, length, config=config)
        except (OSError, ValueError) as error:
            problems.append(str(error))
            continue
        readers.setdefault(length, {})[task] = reader
        problems += reader.problems(data.vocabulary)
        if len(reader) == 0:
            problems.append(f"{reader.path}: task {task} has no rows in split {split}")
        if split == "train" and (lacking := _unscreened(reader, data)):
            problems.append(
                f"{reader.path}: evaluation items weren't removed from the rows of task {task}, as "
                f"Data.screening asks{lacking}; run: twjax tasks cache {config}"
            )
    problems += _differences([reader for some in readers.values() for reader in some.values()])
    if problems:
        raise ValueError(" | ".join(dict.fromkeys(problems)))
    sizes = {
        length: {task: len(reader) for task, reader in some.items()}
        for length, some in readers.items()
    }
    return readers, Course(readings, sizes, turns=turns, jumps=jumps, steps=steps)


def _unscreened(reader: RowReader, data: Data) -> str:
    """Says what keeps rows from being those that `Data.screening` asks for; "" if nothing does."""
    if data.screening is None or data.screening.policy != "remove":
        return ""
    if reader.info.without is None:
        return " (none were looked for)"
    # Knows the scripts' forms, which no other run needs to load.
    from twjax.data.contamination import Removal

    removal = Removal.of(data.screening)
    differences = removal.differences(reader.info.ingredients) if removal else ""
    return f" ({differences})" if differences else ""


def _read_by(reading: Reading) -> Iterator[tuple[SeqLen, str]]:
    """Yields (length, task) of the rows that are read."""
    ends = [*(start for start, _ in reading.lengths[1:]), math.inf]
    for (first, length), end in zip(reading.lengths, ends, strict=True):
        nexts = [*(start for start, _ in reading.stages[1:]), math.inf]
        tasks: set[str] = set()
        for (start, weights), following in zip(reading.stages, nexts, strict=True):
            if start < end and following > first:
                tasks |= {task for task, weight in weights.items() if weight > 0}
        yield from ((length, task) for task in sorted(tasks))


def _differences(readers: Sequence[RowReader]) -> list[str]:
    """Returns a line for each task whose rows can't stand in one batch with the first's."""
    lines = []
    for reader in readers:
        one, other, task = readers[0].info, reader.info, reader.info.task
        # Of one vocabulary sizes may differ: sentinels of span corruption follow all other ids.
        alike = one.vocabulary["sha256"] == other.vocabulary["sha256"]
        for what, a, b in (
            ("vocabulary sha256", one.vocabulary["sha256"], other.vocabulary["sha256"]),
            ("vocabulary size", one.vocabulary["size"], other.vocabulary["size"]),
            ("row format", one.row_format, other.row_format),
        ):
            if a != b and not (alike and what == "vocabulary size"):
                lines.append(
                    f"{reader.path}: {what} of task {task} is {b}, of task {one.task} {a}; "
                    "cache all tasks of a mixture alike"
                )
    return lines


def batches(
    readers: Readers,
    course: Course,
    sharding: NamedSharding,
    start_step: int = 0,
    *,
    marked: Collection[str] = (),
    tops: TopReaders | None = None,
    threads: int = THREADS,
    prefetch: int = PREFETCH,
) -> Generator[dict[str, jax.Array]]:
    """Yields the global batches of steps `start_step`, `start_step` + 1, … without end.

    Decoder rows give tokens int32, segment_ids int32 and loss_weights uint8, all
    [batch_size, seq_len] with `sharding`. With `marked` tasks there is replay uint8 [batch_size],
    1 for their rows; with `tops`, what was written for these rows stands beside them, and zeros
    beside the others. Up to `prefetch` batches are read ahead by `threads` threads (0: none);
    neither changes what is read.
    """
    tasks = course.tasks
    is_marked = np.array([task in marked for task in tasks], np.uint8)

    def fetch(step: int, places: np.ndarray) -> dict[str, np.ndarray]:
        numbers, rows = course.lookup(step, places)
        length = course.shape(step)[0]
        of_length, beside = readers[length], tops.readers.get(length, {}) if tops else {}
        batch = tops.nothing(length, len(places)) if tops else {}
        for number in np.unique(numbers).tolist():
            here = np.flatnonzero(numbers == number)
            read = of_length[tasks[number]].read(rows[here])
            if tasks[number] in beside:
                read |= beside[tasks[number]].read(rows[here])
            for name, values in read.items():
                if name not in batch:
                    batch[name] = np.empty((len(places), values.shape[1]), values.dtype)
                batch[name][here] = values
        if marked:
            batch["replay"] = is_marked[numbers]
        return batch

    def stream(first: int) -> Iterator[dict[str, jax.Array]]:
        _, rows, end = course.shape(first)
        # Rows are numbered in int64.
        steps = range(first, 2**62 // rows if end is None else end)
        return _stream(fetch, sharding, rows, steps, threads, prefetch)

    def all_shapes(now: Iterator[dict[str, jax.Array]]) -> Generator[dict[str, jax.Array]]:
        first: int | None = start_step
        while first is not None:
            yield from now
            first = course.shape(first)[2]
            if first is not None:
                now = stream(first)

    # Reading begins now, while the caller still compiles its step.
    return all_shapes(stream(start_step))


def evaluation_batches(
    reader: RowReader,
    sharding: NamedSharding,
    batch_size: int,
    rows: int | None = None,
    *,
    start: int = 0,
    threads: int = THREADS,
    prefetch: int = PREFETCH,
) -> Iterator[dict[str, jax.Array]]:
    """Yields the first `rows` rows (None: all) of one task in order, `batch_size` at a time.

    It begins with row `start`. The last batch is filled up with rows of zeros: padding without
    loss weight.
    """
    total = len(reader) if rows is None else min(rows, len(reader))

    def fetch(step: int, places: np.ndarray) -> dict[str, np.ndarray]:
        wanted = start + step * batch_size + places
        real = wanted < total
        batch = {}
        for name, values in reader.read(wanted[real]).items():
            batch[name] = np.zeros((len(places), values.shape[1]), values.dtype)
            batch[name][real] = values
        return batch

    steps = range(-(-(total - start) // batch_size))
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
    """Makes the global array [batch_size, …] from the rows that this process has read."""

    def part(index: Any) -> np.ndarray:
        start, stop, _ = index[0].indices(batch_size)
        first = int(np.searchsorted(places, start))
        return rows[first : first + stop - start, *index[1:]]

    if rows.ndim == 1:
        sharding = NamedSharding(sharding.mesh, PartitionSpec(*sharding.spec[:1]))
    return jax.make_array_from_callback((batch_size, *rows.shape[1:]), sharding, part)
