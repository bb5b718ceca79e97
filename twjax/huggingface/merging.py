"""Folders of weights merged into one folder, block by block: no model is ever in memory whole."""

from __future__ import annotations

import concurrent.futures
import dataclasses
import itertools
import json
import math
import pathlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Protocol

import numpy as np

from twjax import __version__
from twjax.huggingface import carry
from twjax.huggingface.folder import CONFIG, THREADS, HubFolder
from twjax.huggingface.output import whole_folder
from twjax.huggingface.tensors import DTYPES, INDEX, ShardWriter, make_header
from twjax.progress import Progress, say
from twjax.storage import read_json, write_json

MERGE_FILE = "twjax_merge.json"
# What the blocks of all threads together may take.
BLOCKS_BYTES = 1 << 29
# Elements that a thread reads at once, at most.
BLOCK = 4 << 20
# Elements that a method is given at once: what it makes in between stays in the processor's cache.
PART = 1 << 16
GENERATION = "generation_config.json"
TEMPLATE = "chat_template.jinja"


class Method(Protocol):
    """Makes one block of the result from the same block of each model, all in float32."""

    def __call__(self, name: str, first: int, blocks: Sequence[np.ndarray]) -> np.ndarray: ...


@dataclasses.dataclass(frozen=True)
class Rows:
    """Rows of one tensor: `tensor` is the table's name, `first` and `stop` are rows."""

    tensor: str
    first: int
    stop: int


class Models:
    """Several folders of one network, read side by side; the first says how the result is stored.

    What doesn't fit is refused when it is made: another network, missing tensors. With `grown` the
    vocabularies may differ in size; then `skipped` are the tensors with a row for each piece, in
    which only the first model counts.
    """

    def __init__(self, paths: Sequence[pathlib.Path], *, grown: bool = False):
        opened: dict[pathlib.Path, HubFolder] = {}
        for path in paths:
            if path.resolve() not in opened:
                opened[path.resolve()] = HubFolder.open(path)
        self.folders = [opened[path.resolve()] for path in paths]
        self.first = self.folders[0]
        sizes = {folder.model.vocab_size for folder in self.folders}
        if len(sizes) > 1 and not grown:
            listed = ", ".join(f"{f.path} {f.model.vocab_size:,}" for f in self.folders)
            raise ValueError(f"the models have different vocabularies: {listed}.")
        vocabulary = {
            piece.tensor
            for weight, spec in self.first.binding.specs.items()
            if "vocab" in spec.axes
            for piece in (*self.first.binding.pieces[weight], *self.first.binding.aliases)
            if piece.weight == weight
        }
        self.vocabulary = sorted(vocabulary & self.first.names.keys())
        self.skipped = self.vocabulary if len(sizes) > 1 else []
        for folder in self.folders[1:]:
            self._check_network(folder)
        # Of each element a thread holds what the models store, the result in float32 and as stored.
        element = 4 * (len(self.folders) + 2)
        self.block = min(BLOCK, max(1, BLOCKS_BYTES // (THREADS * element)))

    def __enter__(self) -> Models:
        return self

    def __exit__(self, *exc: object) -> None:
        for folder in self.folders:
            folder.__exit__(*exc)

    def shape(self, tensor: str) -> tuple[int, ...]:
        return self.first.reader.tensors[self.first.names[tensor]].shape

    def rows(self) -> Iterator[Rows]:
        """Yields all tensors cut into rows that make up at most `block` elements."""
        for tensor in self.first.names:
            shape = self.shape(tensor)
            step = max(1, self.block // math.prod(shape[1:]))
            for first in range(0, shape[0], step):
                yield Rows(tensor, first, min(first + step, shape[0]))

    def read(self, number: int, rows: Rows) -> np.ndarray:
        """Returns rows of one model's tensor as they are stored."""
        folder = self.folders[number]
        shape = self.shape(rows.tensor)
        box = (slice(rows.first, rows.stop), *(slice(0, size) for size in shape[1:]))
        actual = folder.names[_stored(folder, rows.tensor)]
        values = folder.reader.read(actual, box)
        folder.reader.check_finite(actual, values)
        return values

    def read_all(self, rows: Rows) -> list[np.ndarray]:
        """Returns rows of every model's tensor; a folder that stands twice is read once."""
        read: dict[int, np.ndarray] = {}
        for number, folder in enumerate(self.folders):
            if id(folder) not in read:
                read[id(folder)] = self.read(number, rows)
        return [read[id(folder)] for folder in self.folders]

    def scan(self) -> Iterator[list[np.ndarray]]:
        """Yields the same elements of every model in float32, all in turn; shows progress."""
        total = sum(math.prod(self.shape(tensor)) for tensor in self.first.names)
        with (
            Progress(total, "compare", "weights") as progress,
            concurrent.futures.ThreadPoolExecutor(THREADS) as pool,
        ):
            work = (lambda rows=rows: self.read_all(rows) for rows in self.rows())
            for blocks in _in_order(pool, work):
                for _, parts in _parts(blocks):
                    yield parts
                progress.update(blocks[0].size)

    def _check_network(self, folder: HubFolder) -> None:
        ours, theirs = self.first.model, folder.model
        differing = [
            field.name
            for field in dataclasses.fields(ours)
            if field.name != "vocab_size"
            and getattr(ours, field.name) != getattr(theirs, field.name)
        ]
        if self.first.binding.family.name != folder.binding.family.name:
            differing.insert(0, "family")
        shapes = []
        for name in self.first.names:
            if name in folder.names:
                here, there = self.shape(name), folder.reader.tensors[folder.names[name]].shape
                # Vocabularies may differ in size.
                first = 1 if name in self.vocabulary else 0
                if here[first:] != there[first:]:
                    shapes.append(f"{name} {there}, not {here}")
        if shapes or "num_layers" in differing or "family" in differing:
            raise ValueError(
                f"{folder.path}: another network than {self.first.path} "
                f"({', '.join(differing + shapes[:1])} differ)."
            )
        for name in differing:
            say(
                f"{folder.path}: {name} is {getattr(theirs, name)!r}, in {self.first.path} "
                f"{getattr(ours, name)!r}; the result has the latter."
            )


def merge(
    models: Models,
    prepare: Callable[[], tuple[Method, Mapping[str, Any]]],
    out: pathlib.Path,
    *,
    record: Mapping[str, Any],
    dtype: str = "source",
    talks: HubFolder | None = None,
    copied_rows: Sequence[int] = (),
    force: bool = False,
) -> dict[str, Any]:
    """Writes the merged folder, laid out as the first model's; returns what `MERGE_FILE` records.

    `prepare` is called once it is sure that the folder can be made, and returns the method and what
    to record of it beside `record`.
    `dtype` is "source", each tensor in the first model's, or one of `tensors.DTYPES`' names for
    all. `talks` is the model whose chat template and generation settings the result gets, and its
    tokenizer where the vocabularies are equal; `copied_rows` are ids whose embedding and output
    rows are its, unmerged.
    """
    first = models.first
    _check_place(out, models)
    _check_rows(copied_rows, talks, first)
    headers = {
        name: shard.header if dtype == "source" else _recast(first, shard.header, dtype)
        for name, shard in first.reader.shards.items()
    }
    entries = {n: e for header in headers.values() for n, e in _entries(header).items()}
    needs = sum(e["data_offsets"][1] - e["data_offsets"][0] for e in entries.values())
    with whole_folder(out, force=force, needs=needs) as partial:
        method, learnt = prepare()
        changes = _write_files(partial, models, talks)
        if dtype != "source":
            _write_dtype(partial, headers, dtype)
        writers = {name: ShardWriter(partial / name, header) for name, header in headers.items()}
        try:
            _write_weights(models, method, writers, entries, talks, copied_rows)
            for writer in writers.values():
                writer.finish()
        finally:
            for writer in writers.values():
                writer.close()
        found = {
            "twjax": __version__,
            **record,
            **learnt,
            "models": [str(folder.path.resolve()) for folder in models.folders],
            "dtype": dtype,
            "not_merged": models.skipped,
            "copied_rows": list(copied_rows),
            "files": changes,
        }
        write_json(partial / MERGE_FILE, found)
    return found


def _write_weights(
    models: Models,
    method: Method,
    writers: Mapping[str, ShardWriter],
    entries: Mapping[str, Any],
    talks: HubFolder | None,
    copied_rows: Sequence[int],
) -> None:
    first = models.first
    for name in first.ignored:
        writers[first.reader.tensors[name].file].write_raw(name, first.reader.raw(name))

    def make(rows: Rows) -> int:
        skipped = rows.tensor in models.skipped
        blocks = [models.read(0, rows)] if skipped else models.read_all(rows)
        width = math.prod(blocks[0].shape[1:])
        merged = np.empty(blocks[0].shape, np.float32)
        flat = merged.reshape(-1)
        for place, parts in _parts(blocks):
            made = parts[0]
            if not skipped:
                made = method(rows.tensor, rows.first * width + place, parts)
            flat[place : place + made.size] = made
        if talks is not None and rows.tensor in models.vocabulary:
            for row in copied_rows:
                if rows.first <= row < rows.stop:
                    actual = talks.names[_stored(talks, rows.tensor)]
                    box = (slice(row, row + 1), slice(0, width))
                    merged[row - rows.first] = talks.reader.read(actual, box)[0]
        actual = first.names[rows.tensor]
        kept = DTYPES[entries[actual]["dtype"]]
        with np.errstate(over="ignore"):
            values = merged.astype(kept)
        if not np.isfinite(values.astype(np.float32)).all():
            raise ValueError(f"{actual}: merged values are beyond {kept.name}; choose --dtype.")
        writers[first.reader.tensors[actual].file].write(actual, rows.first, values)
        return merged.size

    total = sum(math.prod(models.shape(tensor)) for tensor in first.names)
    with (
        Progress(total, "merge", "weights") as progress,
        concurrent.futures.ThreadPoolExecutor(THREADS) as pool,
    ):
        for count in _in_order(pool, (lambda rows=rows: make(rows) for rows in models.rows())):
            progress.update(count)


def _parts(blocks: Sequence[np.ndarray]) -> Iterator[tuple[int, list[np.ndarray]]]:
    """Yields at most `PART` elements of blocks at a time, in float32, and the first one's place."""
    flat = [block.reshape(-1) for block in blocks]
    for first in range(0, flat[0].size, PART):
        yield first, [block[first : first + PART].astype(np.float32) for block in flat]


def _in_order(
    pool: concurrent.futures.ThreadPoolExecutor, work: Iterable[Callable[[], Any]]
) -> Iterator[Any]:
    """Yields results in the order of the work; only as much as the threads can do is begun."""
    calls = iter(work)
    waiting = [pool.submit(call) for call in itertools.islice(calls, THREADS)]
    while waiting:
        done = waiting.pop(0).result()
        waiting += [pool.submit(call) for call in itertools.islice(calls, 1)]
        yield done


def _stored(folder: HubFolder, tensor: str) -> str:
    """Returns the table's name under which a folder stores a tensor: a tied one has one of two."""
    if tensor in folder.names:
        return tensor
    weight = next(piece.weight for piece in folder.binding.aliases if piece.tensor == tensor)
    return folder.binding.pieces[weight][0].tensor


def _check_place(out: pathlib.Path, models: Models) -> None:
    """Refuses a folder that is, or holds, a model to merge: replacing it would take that away."""
    place = out.resolve()
    for path in dict.fromkeys(folder.path for folder in models.folders):
        if path.resolve().is_relative_to(place):
            what = "is" if path.resolve() == place else f"holds {path},"
            raise ValueError(f"{out} {what} one of the models to merge; name another folder.")


def _check_rows(rows: Sequence[int], talks: HubFolder | None, first: HubFolder) -> None:
    if rows and talks is None:
        raise ValueError("rows are copied from a chat model: name one.")
    least = min(f.model.vocab_size for f in (first, talks) if f is not None)
    if wrong := [row for row in rows if not 0 <= row < least]:
        raise ValueError(f"rows {wrong} to copy: the vocabularies have ids 0 to {least - 1}.")


def _write_files(folder: pathlib.Path, models: Models, talks: HubFolder | None) -> list[str]:
    """Writes all but the weights; returns a line for each file that isn't the first model's."""
    source = models.first.path
    for name in carry.carried_files(source):
        carry.copy_file(source / name, folder / name)
    if models.first.reader.index is not None:
        carry.copy_file(source / INDEX, folder / INDEX)
    if talks is None:
        return []
    changes = []
    if not models.skipped:
        new = [name for name in carry.TOKENIZER if (talks.path / name).is_file()]
        for name in carry.TOKENIZER if new else ():
            (folder / name).unlink(missing_ok=True)
        for name in new:
            carry.copy_file(talks.path / name, folder / name)
        changes += [f"tokenizer: {', '.join(new)} from {talks.path}"] if new else []
    elif (template := _template(talks.path)) is not None:
        (folder / TEMPLATE).write_text(template, encoding="utf-8")
        changes.append(f"{TEMPLATE}: from {talks.path}")
    if (talks.path / GENERATION).is_file():
        carry.copy_file(talks.path / GENERATION, folder / GENERATION)
        changes.append(f"{GENERATION}: from {talks.path}")
    return changes


def _template(folder: pathlib.Path) -> str | None:
    """Returns a folder's chat template, from a file of its own or the tokenizer's settings."""
    if (folder / TEMPLATE).is_file():
        return (folder / TEMPLATE).read_text(encoding="utf-8")
    settings = folder / "tokenizer_config.json"
    found = read_json(settings).get("chat_template") if settings.is_file() else None
    return found if isinstance(found, str) else None


def _recast(first: HubFolder, header: bytes, dtype: str) -> bytes:
    """Returns a file's header with all weights in another dtype."""
    weights = set(first.names.values())
    entries = {}
    for name, entry in _entries(header).items():
        kept = _NAMES[dtype] if name in weights else entry["dtype"]
        start, stop = entry["data_offsets"]
        size = (
            math.prod(entry["shape"]) * DTYPES[kept].itemsize if name in weights else stop - start
        )
        entries[name] = (kept, entry["shape"], size)
    return make_header(entries, json.loads(header).get("__metadata__"))


def _write_dtype(folder: pathlib.Path, headers: Mapping[str, bytes], dtype: str) -> None:
    config = read_json(folder / CONFIG)
    config["torch_dtype" if "torch_dtype" in config else "dtype"] = dtype
    write_json(folder / CONFIG, config)
    if (folder / INDEX).is_file():
        index = read_json(folder / INDEX)
        found = [e["data_offsets"] for h in headers.values() for e in _entries(h).values()]
        index["metadata"] = (index.get("metadata") or {}) | {
            "total_size": sum(stop - start for start, stop in found)
        }
        write_json(folder / INDEX, index)


def _entries(header: bytes) -> dict[str, Any]:
    found = json.loads(header)
    found.pop("__metadata__", None)
    return found


_NAMES = {dtype.name: name for name, dtype in DTYPES.items()}
