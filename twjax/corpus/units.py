"""What a worker does: one unit of a build in, files in the work folder out.

A unit is a piece of an input. Each stage of a build (the steps up to a global one, then those
behind it, …) turns a unit's documents into the next file; the last pass joins them to shards.
"""

from __future__ import annotations

import collections
import dataclasses
import itertools
import pathlib
import time
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from twjax import storage
from twjax.corpus import document, reading
from twjax.corpus.document import Document, Rejection
from twjax.corpus.step import GlobalStep, Step


@dataclasses.dataclass(frozen=True)
class Files:
    """Where a unit's files of one stage are; `stats` is written last and marks it done."""

    folder: pathlib.Path
    unit: int
    stage: int

    def _path(self, suffix: str) -> pathlib.Path:
        return self.folder / f"unit-{self.unit:06d}-stage-{self.stage}.{suffix}"

    @property
    def documents(self) -> pathlib.Path:
        return self._path("parquet")

    @property
    def rejected(self) -> pathlib.Path:
        return self._path("rejected.parquet")

    @property
    def keys(self) -> pathlib.Path:
        return self._path("npy")

    @property
    def stats(self) -> pathlib.Path:
        return self._path("json")


@dataclasses.dataclass(frozen=True)
class Stage:
    """Local steps, then the keys of `closing`; `opening` is the global step decided just before."""

    index: int
    opening: GlobalStep | None
    steps: tuple[Step, ...]
    closing: GlobalStep | None


def stages(steps: Sequence[Step]) -> list[Stage]:
    """Cuts a pipeline behind each global step; there is always a last stage without `closing`."""
    found: list[Stage] = []
    opening, local = None, []
    for step in steps:
        if isinstance(step, GlobalStep):
            found.append(Stage(len(found), opening, tuple(local), step))
            opening, local = step, []
        else:
            local.append(step)
    return [*found, Stage(len(found), opening, tuple(local), None)]


@dataclasses.dataclass(frozen=True)
class Work:
    """One unit of one stage: a piece to read, or the former stage's file and who is dropped.

    `dropped` maps a row of that file to the id of the document that stands for it.
    """

    folder: pathlib.Path
    unit: int
    stage: Stage
    piece: reading.Piece | None = None
    dropped: Mapping[int, str] = dataclasses.field(default_factory=dict)

    @property
    def files(self) -> Files:
        return Files(self.folder, self.unit, self.stage.index)


def run(work: Work) -> dict[str, Any]:
    """Does one unit's stage and returns its statistics, which are also on disk."""
    start = time.process_time()
    stats: dict[str, Any] = {"steps": []}
    if work.piece is not None:
        batch, rejections = reading.read(work.piece)
        reasons = collections.Counter(r.reason for r in rejections)
        stats["read"] = {
            "records": len(batch) + len(rejections) - reasons["damaged file"],
            "documents": len(batch),
            "bytes": sum(len(d.text.encode()) for d in batch),
            "rejected": dict(sorted(reasons.items())),
        }
    else:
        table = _read(Files(work.folder, work.unit, work.stage.index - 1).documents)
        batch, rejections = _without(document.from_table(table), work)
        if work.stage.opening is not None:
            stats["steps"].append(_counts(len(batch) + len(rejections), batch, rejections, {}))
    for step in work.stage.steps:
        outcome = step.apply(batch)
        stats["steps"].append(_counts(len(batch), outcome.kept, outcome.rejected, outcome.changed))
        rejections = rejections + outcome.rejected
        batch = outcome.kept
    _write(work, batch, rejections, stats)
    stats["cpu_seconds"] = time.process_time() - start
    with document.disk_errors(work.files.stats):
        storage.write_json(work.files.stats, stats)
    return stats


def _without(documents: list[Document], work: Work) -> tuple[list[Document], list[Rejection]]:
    assert work.stage.opening is not None or not work.dropped
    reason = work.stage.opening.reason if work.stage.opening else ""
    kept = [d for row, d in enumerate(documents) if row not in work.dropped]
    dropped = [
        Rejection(documents[row], reason, stands) for row, stands in sorted(work.dropped.items())
    ]
    return kept, dropped


def _counts(
    before: int, kept: list[Document], rejected: list[Rejection], changed: Mapping[str, int]
) -> dict[str, Any]:
    reasons = collections.Counter(r.reason for r in rejected)
    return {"in": before, "out": len(kept), "rejected": dict(reasons), "changed": dict(changed)}


def _write(
    work: Work, batch: list[Document], rejections: list[Rejection], stats: dict[str, Any]
) -> None:
    files = work.files
    sizes = [len(d.text.encode()) for d in batch]
    licenses: dict[str, dict[str, int]] = {}
    for item, size in zip(batch, sizes, strict=True):
        entry = licenses.setdefault(item.license, {"documents": 0, "bytes": 0})
        entry["documents"] += 1
        entry["bytes"] += size
    stats["sizes"], stats["licenses"] = sizes, licenses
    stats["languages"] = dict(collections.Counter(d.lang for d in batch))
    stats["rejected_sizes"] = [len(r.document.text.encode()) for r in rejections]
    document.write_parquet(files.documents, batch)
    if rejections:
        document.write_table(files.rejected, document.rejected_table(rejections))
    if work.stage.closing is not None and batch:
        with document.disk_errors(files.keys), storage.atomic_writer(files.keys, "wb") as file:
            np.save(file, work.stage.closing.keys(batch))


@dataclasses.dataclass(frozen=True)
class Part:
    """One output file: slices [start, stop) of unit files, in order."""

    path: pathlib.Path
    slices: tuple[tuple[pathlib.Path, int, int], ...]


def join(part: Part) -> dict[str, Any]:
    """Writes one output file and returns its hash and counts."""
    tables = [_read(path).slice(start, stop - start) for path, start, stop in part.slices]
    table = pa.concat_tables(tables)
    document.write_table(part.path, table)
    return {
        "sha256": storage.sha256_file(part.path),
        "documents": table.num_rows,
        "bytes": pc.sum(pc.binary_length(table.column("text"))).as_py(),  # pyright: ignore
    }


def _read(path: pathlib.Path) -> pa.Table:
    # `pq.read_table` would guess partitions from the names of folders.
    with pq.ParquetFile(path) as file:
        return file.read()


def plan_parts(
    folder: pathlib.Path,
    sources: Sequence[tuple[pathlib.Path, Sequence[int]]],
    part_bytes: int,
) -> list[Part]:
    """Cuts documents, in order, into parts of equal bytes, at most about `part_bytes` each.

    `sources` are files with their documents' sizes. The cuts depend on the documents alone, not
    on which file holds them.
    """
    sources = [(path, each) for path, each in sources if each]
    sizes = np.asarray([size for _, each in sources for size in each], np.int64)
    if not len(sizes):
        return []
    # Each document's record takes room too; documents without text must not all be in one part.
    sizes = sizes + 64
    total, before = int(sizes.sum()), np.cumsum(sizes) - sizes
    number = -(-total // part_bytes)
    bounds = np.searchsorted(before, [total * i // number for i in range(number + 1)])
    bounds = np.unique(np.append(bounds, len(sizes)))
    starts = np.cumsum([0, *(len(each) for _, each in sources)])
    parts = []
    for index, (low, high) in enumerate(itertools.pairwise(bounds)):
        slices = tuple(
            (path, max(0, int(low - start)), min(len(each), int(high - start)))
            for (path, each), start in zip(sources, starts, strict=False)
            if start < high and start + len(each) > low
        )
        name = f"part-{index:05d}-of-{len(bounds) - 1:05d}.parquet"
        parts.append(Part(folder / name, slices))
    return parts
