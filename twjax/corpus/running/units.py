"""What a worker does: one unit of a build in, files in the work folder out.

A unit is a piece of an input. Each stage of a build (the decision of a global step, then the
local steps up to the next one) turns a unit's documents into the next file; the units' records
for a global step lie beside it. A task names the files that it reads and the one that marks it
done, so that a runner can do it anywhere, and twice if need be.
"""

from __future__ import annotations

import abc
import collections
import dataclasses
import io
import json
import pathlib
import time
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from twjax import storage
from twjax.corpus import document
from twjax.corpus.document import Document, Rejection
from twjax.corpus.sources import reading
from twjax.corpus.step import Edit, GlobalStep, Outcome, Step, keepers, load_array

CHANGES_SCHEMA = pa.schema(
    [
        pa.field("step", pa.string(), nullable=False),
        pa.field("id", pa.string(), nullable=False),
        pa.field("kind", pa.string(), nullable=False),
        pa.field("start", pa.int64(), nullable=False),
        pa.field("before", pa.string(), nullable=False),
        pa.field("after", pa.string(), nullable=False),
    ]
)


def unit_name(input: int, piece: int) -> str:
    """Returns a unit's name; names sort as the pieces of the inputs do."""
    return f"{input:06d}-{piece:06d}"


@dataclasses.dataclass(frozen=True)
class Files:
    """Where a unit's files of one stage are; `stats` is written last and marks it done."""

    folder: pathlib.Path
    unit: str
    stage: int

    def _path(self, suffix: str) -> pathlib.Path:
        return self.folder / f"unit-{self.unit}-stage-{self.stage}.{suffix}"

    @property
    def documents(self) -> pathlib.Path:
        return self._path("parquet")

    @property
    def rejected(self) -> pathlib.Path:
        return self._path("rejected.parquet")

    @property
    def changes(self) -> pathlib.Path:
        return self._path("changes.parquet")

    @property
    def ids(self) -> pathlib.Path:
        """The documents' ids, for whoever has to name one without its text."""
        return self._path("ids.json")

    @property
    def stats(self) -> pathlib.Path:
        return self._path("json")

    def records(self, round: int) -> pathlib.Path:
        return self._path(f"round-{round}.npy")

    def recorded(self, round: int) -> pathlib.Path:
        """Marks the records of a later round done; those of round 0 come with `stats`."""
        return self._path(f"round-{round}.json") if round else self.stats

    def request(self, round: int) -> pathlib.Path:
        return self._path(f"request-{round}.npy")

    @property
    def names(self) -> pathlib.Path:
        """The ids of the documents that the decision names, in the order of their numbers."""
        return self._path("names.json")


@dataclasses.dataclass(frozen=True)
class Stage:
    """The decision of `opening`, then local steps, then the records of `closing`.

    `first` is the place of its first step (of `opening`, if there is one) in the pipeline;
    `labels` are the names of `opening` and `steps`, numbered where the pipeline repeats one.
    """

    index: int
    first: int
    opening: GlobalStep | None
    steps: tuple[Step, ...]
    closing: GlobalStep | None
    labels: tuple[str, ...]

    @property
    def title(self) -> str:
        """Says what the stage does, for progress."""
        return ", ".join(self.labels if self.index else ("read", *self.labels)) or "write"


def stages(steps: Sequence[Step]) -> list[Stage]:
    """Cuts a pipeline before each global step; there is always a last stage without `closing`."""
    labels = step_labels(steps)
    bounds = [i for i, step in enumerate(steps) if isinstance(step, GlobalStep)]
    found: list[Stage] = []
    for low, high in zip([0, *bounds], [*bounds, len(steps)], strict=True):
        opening, closing = (steps[low] if found else None), steps[high : high + 1]
        assert opening is None or isinstance(opening, GlobalStep)
        local = tuple(steps[low + (opening is not None) : high])
        last = closing[0] if closing else None
        assert last is None or isinstance(last, GlobalStep)
        found.append(Stage(len(found), low, opening, local, last, tuple(labels[low:high])))
    return found


def step_labels(steps: Sequence[Step]) -> list[str]:
    """Returns the steps' names; the second of one name is "name.2", and so on."""
    seen: collections.Counter[str] = collections.Counter()
    labels = []
    for step in steps:
        seen[step.name] += 1
        labels.append(step.name if seen[step.name] == 1 else f"{step.name}.{seen[step.name]}")
    return labels


@dataclasses.dataclass(frozen=True)
class Task(abc.ABC):
    """Something to do in a work folder; doing it again gives the same files."""

    folder: pathlib.Path

    @property
    @abc.abstractmethod
    def mark(self) -> pathlib.Path:
        """The file that is written last: what `run` returns, as JSON."""

    @abc.abstractmethod
    def needs(self) -> list[pathlib.Path]:
        """Returns the files that it reads; those that don't exist are not needed."""

    def spent(self) -> list[pathlib.Path]:
        """Returns the files that nobody reads once it is done."""
        return []

    @abc.abstractmethod
    def run(self) -> dict[str, Any]:
        """Does it."""


def call(task: Task) -> dict[str, Any]:
    """Does a task unless it is done, and returns what its mark says."""
    if task.mark.is_file():
        result = storage.read_json(task.mark)
    else:
        result = task.run()
        with document.disk_errors(task.mark):
            storage.write_json(task.mark, result)
    for path in task.spent():
        path.unlink(missing_ok=True)
    return result


@dataclasses.dataclass(frozen=True)
class Clean(Task):
    """One unit of one stage: a piece to read, or the former stage's documents to decide about."""

    unit: str
    stage: Stage
    piece: reading.Piece | None = None

    @property
    def files(self) -> Files:
        return Files(self.folder, self.unit, self.stage.index)

    @property
    def mark(self) -> pathlib.Path:
        return self.files.stats

    def needs(self) -> list[pathlib.Path]:
        if self.stage.opening is None:
            return []
        former = self._former
        return [former.documents, former.request(self.stage.opening.rounds - 1), former.names]

    def spent(self) -> list[pathlib.Path]:
        if self.stage.opening is None:
            return []
        former = self._former
        rounds = range(self.stage.opening.rounds)
        each = [path(r) for r in rounds for path in (former.records, former.request)]
        return [former.documents, former.ids, former.names, *each]

    @property
    def _former(self) -> Files:
        return Files(self.folder, self.unit, self.stage.index - 1)

    def run(self) -> dict[str, Any]:
        """Writes the unit's files; returns the counts."""
        seconds: dict[str, float] = {}
        stats: dict[str, Any] = {"steps": [], "cpu_seconds": seconds}
        rejections: list[Rejection] = []
        edits: list[tuple[str, Edit]] = []
        before = time.process_time()
        if self.stage.opening is None:
            batch, rejections, stats["read"] = self._read()
            seconds["read"] = time.process_time() - before
            steps: list[Step] = [*self.stage.steps]
        else:
            batch = document.from_table(read_table(self._former.documents))
            seconds["write"] = time.process_time() - before
            steps = [self.stage.opening, *self.stage.steps]
        for label, step in zip(self.stage.labels, steps, strict=True):
            start = time.process_time()
            if not batch:
                outcome = Outcome([])
            elif isinstance(step, GlobalStep):
                outcome = step.decide(batch, *self._decision())
            else:
                outcome = _apply(step, label, batch)
            used = time.process_time() - start
            stats["steps"].append(_counts(len(batch), outcome, used))
            rejections.extend(outcome.rejected)
            edits.extend((label, edit) for edit in outcome.edits)
            batch = outcome.kept
        start = time.process_time()
        self._write(batch, rejections, edits, stats)
        seconds["write"] = seconds.get("write", 0.0) + time.process_time() - start
        start = time.process_time()
        if self.stage.closing is not None and batch:
            record(self.files, self.stage.closing, 0, batch)
        seconds["map"] = time.process_time() - start
        return stats

    def _read(self) -> tuple[list[Document], list[Rejection], dict[str, Any]]:
        assert self.piece is not None
        batch, rejections = reading.read(self.piece)
        reasons = collections.Counter(r.reason for r in rejections)
        read = {
            "records": len(batch) + len(rejections) - reasons["damaged file"],
            "documents": len(batch),
            "bytes": sum(len(d.text.encode()) for d in batch),
            "rejected": dict(sorted(reasons.items())),
        }
        return batch, rejections, read

    def _decision(self) -> tuple[np.ndarray, Mapping[int, str]]:
        assert self.stage.opening is not None
        request = load_array(self._former.request(self.stage.opening.rounds - 1))
        numbers = keepers(request).tolist()
        names = storage.read_json(self._former.names) if numbers else []
        return request, dict(zip(numbers, names, strict=True))

    def _write(
        self,
        batch: list[Document],
        rejections: list[Rejection],
        edits: list[tuple[str, Edit]],
        stats: dict[str, Any],
    ) -> None:
        files = self.files
        licenses: dict[str, list[int]] = collections.defaultdict(lambda: [0, 0])
        sources: dict[str, list[int]] = collections.defaultdict(lambda: [0, 0])
        total = 0
        for item in batch:
            size = len(item.text.encode())
            total += size
            for entry in (licenses[item.license], sources[item.source]):
                entry[0] += 1
                entry[1] += size
        stats["licenses"], stats["sources"] = dict(licenses), dict(sources)
        stats["languages"] = dict(collections.Counter(d.lang for d in batch))
        regions = collections.Counter(d.meta["region"] for d in batch if "region" in d.meta)
        stats["regions"] = dict(regions)
        stats["kept"] = [len(batch), total]
        gone = sum(len(r.document.text.encode()) for r in rejections)
        stats["rejected"] = [len(rejections), gone]
        size = sum(len(e.before.encode()) + len(e.after.encode()) for _, e in edits)
        stats["changes"] = [len(edits), size]
        document.write_parquet(files.documents, batch)
        if rejections:
            document.write_table(files.rejected, document.rejected_table(rejections))
        if edits:
            document.write_table(files.changes, _changes_table(edits))
        if self.stage.closing is not None:
            with document.disk_errors(files.ids), storage.atomic_writer(files.ids) as file:
                json.dump([d.id for d in batch], file, ensure_ascii=False)


@dataclasses.dataclass(frozen=True)
class Record(Task):
    """The records of one unit for a later round of a global step."""

    unit: str
    stage: Stage
    round: int

    @property
    def mark(self) -> pathlib.Path:
        return self._files.recorded(self.round)

    def needs(self) -> list[pathlib.Path]:
        return [self._files.documents, self._files.request(self.round - 1)]

    @property
    def _files(self) -> Files:
        return Files(self.folder, self.unit, self.stage.index)

    def run(self) -> dict[str, Any]:
        """Writes the records; returns the seconds that they took."""
        start = time.process_time()
        assert self.stage.closing is not None
        batch = document.from_table(read_table(self._files.documents))
        if batch:
            record(self._files, self.stage.closing, self.round, batch)
        return {"cpu_seconds": {"map": time.process_time() - start}}


def record(files: Files, step: GlobalStep, round: int, batch: Sequence[Document]) -> None:
    """Writes what a global step records of a unit's documents."""
    request = load_array(files.request(round - 1)) if round else None
    save_array(files.records(round), step.map(round, batch, request))


def save_array(path: pathlib.Path, array: np.ndarray) -> None:
    """Writes one `.npy` file, atomically."""
    buffer = io.BytesIO()
    # Not straight to the file: NumPy's error of a full disk has no number.
    np.save(buffer, array)
    with document.disk_errors(path), storage.atomic_writer(path, "wb") as file:
        file.write(buffer.getbuffer())


def read_table(path: pathlib.Path) -> pa.Table:
    """Reads one Parquet file; `pq.read_table` would guess partitions from folders' names."""
    with pq.ParquetFile(path) as file:
        return file.read()


def _apply(step: Step, label: str, batch: Sequence[Document]) -> Outcome:
    """Applies a step; an error that it didn't foresee names the document."""
    try:
        return step.apply(batch)
    except (OSError, MemoryError):
        raise
    except Exception as error:
        for item in batch:
            try:
                step.apply([item])
            except Exception as again:
                why = f"{type(again).__name__}: {again}"
                raise RuntimeError(f"Step {label} failed on document {item.id}: {why}") from error
        raise


def _counts(before: int, outcome: Outcome, seconds: float) -> dict[str, Any]:
    reasons = collections.Counter(r.reason for r in outcome.rejected)
    kinds = collections.Counter(e.kind for e in outcome.edits)
    return {
        "in": before,
        "out": len(outcome.kept),
        "rejected": dict(reasons),
        "changed": dict(outcome.changed),
        "edits": dict(kinds),
        "cpu_seconds": seconds,
    }


def _changes_table(edits: Sequence[tuple[str, Edit]]) -> pa.Table:
    columns = {name: [getattr(e, name) for _, e in edits] for name in CHANGES_SCHEMA.names[1:]}
    return pa.table({"step": [label for label, _ in edits], **columns}, schema=CHANGES_SCHEMA)
