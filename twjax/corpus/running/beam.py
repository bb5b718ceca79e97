"""Runs a build's tasks on Apache Beam: the same step objects, the same bytes as the local runner.

Only names and counts of units go through Beam's shuffles; texts and records lie in files of a work
folder, one a unit. Where workers share this machine's file system (the direct runner, a Flink or
Spark cluster with a mounted folder) that is the local runner's work folder. Elsewhere (Dataflow)
it is a URL that fsspec can read and write, such as gs://bucket/work: a worker fetches what a task
needs, does it in a folder of its own and stores what it made, the mark last. Finished tasks are not
done again, so that a failed pipeline continues when it is started again.

A reduction of a global step is one task: its worker's disk must hold the records of one round.

Beam is an extra: `pip install 'twjax[beam]'` in an environment of its own.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import pathlib
import pickle
import re
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import apache_beam as beam  # pyright: ignore[reportMissingImports]
import fsspec
import numpy as np
from apache_beam import pvalue  # pyright: ignore[reportMissingImports]
from apache_beam.options.pipeline_options import (  # pyright: ignore[reportMissingImports]
    PipelineOptions,
    StandardOptions,
)

from twjax import storage
from twjax.corpus import document
from twjax.corpus.running import gather, local, parts, units
from twjax.corpus.running.job import Done, Input, Job
from twjax.corpus.running.tally import Tally
from twjax.corpus.sources import places, reading

# What a finished task reports: its unit, its stage, and what its mark says.
Report = tuple[str, int, dict[str, Any]]
_SUMMARY = "summary.pickle"
_NOWHERE = pathlib.Path()


def run(job: Job, options: Sequence[str] = (), work: str = "") -> Done:
    """Does all tasks of a build in one pipeline with Beam's own `options`.

    `work` is a URL for the units' files where workers don't share `job.folder`. A failed pipeline
    is a RuntimeError of one line; the files of finished units stay.
    """
    place = Place(job.folder, work and f"{work.rstrip('/')}/{job.folder.name}")
    local.remove_torn(job.folder)
    parsed = PipelineOptions(list(options))
    if parsed.view_as(StandardOptions).runner is None:
        # Without a name Beam may try its Prism runner, a program that it downloads.
        parsed.view_as(StandardOptions).runner = "FnApiRunner"
    try:
        with beam.Pipeline(options=parsed) as pipeline:
            _construct(pipeline, job, place)
    except Exception as error:
        raise RuntimeError(f"The Beam pipeline failed: {_last_line(error)}") from error
    tally: Tally = pickle.loads(place.fetch(_SUMMARY).read_bytes())
    joined: dict[str, list[dict[str, Any]]] = {}
    for kind in parts.KINDS:
        names = place.names(f"joined-{kind}-")
        joined[kind] = [storage.read_json(place.fetch(name)) for name in names]
        for entry in joined[kind]:
            place.fetch(f"corpus/{entry['file']}")
    place.clear()
    return Done(tally, joined, tally.read.get("bytes", 0), {"runner": "beam"})


def _last_line(error: Exception) -> str:
    """Returns the cause; Beam sends whole tracebacks of workers as text."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    causes = [line for line in lines if re.match(r"[\w.]*(Error|Exception|Interrupt)\b.*:", line)]
    return (causes or lines or [type(error).__name__])[-1]


@dataclasses.dataclass(frozen=True)
class Place:
    """Where units' files are: `folder` if `url` is empty, else `url` (and `folder` is this
    machine's copy of what was fetched)."""

    folder: pathlib.Path
    url: str

    def perform(self, task: units.Task) -> dict[str, Any]:
        """Does a task unless it is done; returns what its mark says."""
        if not self.url:
            return units.call(dataclasses.replace(task, folder=self.folder))
        with tempfile.TemporaryDirectory(prefix="twjax-") as folder:
            there = dataclasses.replace(self, folder=pathlib.Path(folder))
            task = dataclasses.replace(task, folder=there.folder)
            with contextlib.suppress(FileNotFoundError):
                there.fetch(task.mark.name)
            if not task.mark.is_file():
                for path in task.needs():
                    with contextlib.suppress(FileNotFoundError):
                        there.fetch(str(path.relative_to(there.folder)))
                before = set(there.folder.rglob("*"))
                units.call(task)
                made = {path for path in there.folder.rglob("*") if path.is_file()} - before
                for path in sorted(made, key=lambda path: (path == task.mark, path)):
                    there.store(path)
            result = storage.read_json(task.mark)
            files, root = fsspec.core.url_to_fs(self.url)
            for path in task.spent():
                with contextlib.suppress(FileNotFoundError):
                    files.rm_file(f"{root}/{path.relative_to(there.folder)}")
            return result

    def fetch(self, name: str) -> pathlib.Path:
        """Returns a file on this machine."""
        path = self.folder / name
        if self.url and not path.is_file():
            path.parent.mkdir(parents=True, exist_ok=True)
            files, root = fsspec.core.url_to_fs(self.url)
            with document.disk_errors(path):
                partial = path.with_name(f".{path.name}.tmp")
                try:
                    files.get_file(f"{root}/{name}", str(partial))
                    partial.rename(path)
                finally:
                    partial.unlink(missing_ok=True)
        return path

    def store(self, path: pathlib.Path) -> None:
        """Stores a file of the folder."""
        if self.url:
            files, root = fsspec.core.url_to_fs(self.url)
            target = f"{root}/{path.relative_to(self.folder)}"
            files.makedirs(target.rpartition("/")[0], exist_ok=True)
            files.put_file(str(path), target)

    def names(self, prefix: str) -> list[str]:
        """Returns the sorted names of the files that begin so."""
        if not self.url:
            return sorted(path.name for path in self.folder.glob(f"{prefix}*"))
        files, root = fsspec.core.url_to_fs(self.url)
        return sorted(path.rpartition("/")[2] for path in files.glob(f"{root}/{prefix}*"))

    def clear(self) -> None:
        """Removes everything from the URL."""
        if self.url:
            files, root = fsspec.core.url_to_fs(self.url)
            files.rm(root, recursive=True)


@dataclasses.dataclass(frozen=True)
class Read(units.Clean):
    """The first stage of a unit whose piece lies in a file."""

    def needs(self) -> list[pathlib.Path]:
        return [self.folder / _piece_name(self.unit)]

    spent = needs

    def run(self) -> dict[str, Any]:
        """Reads the piece and does what the stage does."""
        piece = pickle.loads((self.folder / _piece_name(self.unit)).read_bytes())
        return dataclasses.replace(self, piece=piece)._run()

    def _run(self) -> dict[str, Any]:
        return super().run()


def _piece_name(unit: str) -> str:
    return f"unit-{unit}.piece"


class Cut(beam.DoFn):
    """An input with its number → names of its units, whose pieces are stored."""

    def __init__(self, place: Place, piece_bytes: int):
        self._place, self._piece_bytes = place, piece_bytes

    def process(self, element: tuple[int, Input]) -> Iterator[str]:
        number, given = element
        with tempfile.TemporaryDirectory(prefix="twjax-") as temporary:
            place = self._place
            if place.url:
                place = dataclasses.replace(place, folder=pathlib.Path(temporary))
            note = f"cut-{number:06d}.json"
            if place.names(note):
                count = storage.read_json(place.fetch(note))
            else:
                count = self._cut(place, number, given)
                with document.disk_errors(place.folder / note):
                    storage.write_json(place.folder / note, count)
                place.store(place.folder / note)
        for index in range(count):
            yield units.unit_name(number, index)

    def _cut(self, place: Place, number: int, given: Input) -> int:
        count = 0
        size = self._piece_bytes
        for piece in reading.pieces(given.name, given.path, size, given.source):
            file = place.folder / _piece_name(units.unit_name(number, count))
            with document.disk_errors(file), storage.atomic_writer(file, "wb") as out:
                pickle.dump(piece, out, pickle.HIGHEST_PROTOCOL)
            place.store(file)
            if place.url:
                file.unlink()
            count += 1
        return count


class Perform(beam.DoFn):
    """A unit's name → the report of `task` done for it."""

    def __init__(self, place: Place, task: units.Clean | units.Record):
        self._place, self._task = place, task

    def process(self, element: str) -> Iterator[Report]:
        task = dataclasses.replace(self._task, unit=element)
        yield element, task.stage.index, self._place.perform(task)


class Reduce(beam.DoFn):
    """Brings the records of all units together → their names, and a report."""

    REPORT = "report"

    def __init__(self, place: Place, task: gather.Reduce):
        self._place, self._task = place, task

    def process(
        self, element: int, sizes: Iterable[tuple[str, int]], recorded: int
    ) -> Iterator[str | pvalue.TaggedOutput]:
        # `recorded` is only waited for.
        pairs = sorted(sizes)
        names = tuple(name for name, _ in pairs)
        task = dataclasses.replace(self._task, units=names, sizes=tuple(size for _, size in pairs))
        result = self._place.perform(task)
        yield pvalue.TaggedOutput(self.REPORT, ("", self._task.stage.index, result))
        yield from names


class Plan(beam.DoFn):
    """All that units have written → the output files to join of it."""

    def __init__(self, place: Place, part_bytes: int):
        self._place, self._part_bytes = place, part_bytes

    def process(
        self, element: int, written: Iterable[tuple[int, str, dict[str, parts.Source]]]
    ) -> Iterator[parts.Join]:
        found = sorted(written, key=lambda each: each[:2])
        with tempfile.TemporaryDirectory(prefix="twjax-") as temporary:
            place = self._place
            if place.url:
                place = dataclasses.replace(place, folder=pathlib.Path(temporary))

            def weigh(name: str) -> np.ndarray:
                return parts.weights(place.fetch(name))

            joins = []
            for kind in parts.KINDS:
                sources = [each[kind] for _, _, each in found if kind in each]
                joins += parts.plan(_NOWHERE, kind, sources, self._part_bytes, weigh)
        yield from joins


class Join(beam.DoFn):
    """A file to join → its name."""

    def __init__(self, place: Place):
        self._place = place

    def process(self, element: parts.Join) -> Iterator[str]:
        yield self._place.perform(element)["file"]


class Sums(beam.CombineFn):
    """Adds up reports."""

    def __init__(self, stages: Sequence[units.Stage]):
        self._stages = stages

    def create_accumulator(self) -> Tally:
        return Tally()

    def add_input(self, mutable_accumulator: Tally, element: Report) -> Tally:
        unit, stage, stats = element
        if "steps" in stats:
            mutable_accumulator.add(unit, self._stages[stage], stats)
        else:
            mutable_accumulator.add_seconds(self._stages[stage], stats)
        return mutable_accumulator

    def merge_accumulators(self, accumulators: Iterable[Tally]) -> Tally:
        total = Tally()
        for tally in accumulators:
            total.merge(tally)
        return total

    def extract_output(self, accumulator: Tally) -> Tally:
        return accumulator


class Summarise(beam.DoFn):
    """The sums → a file for whoever started the pipeline."""

    def __init__(self, place: Place):
        self._place = place

    def process(self, element: Tally) -> Iterator[str]:
        with tempfile.TemporaryDirectory(prefix="twjax-") as temporary:
            place = self._place
            if place.url:
                place = dataclasses.replace(place, folder=pathlib.Path(temporary))
            path = place.folder / _SUMMARY
            with document.disk_errors(path), storage.atomic_writer(path, "wb") as out:
                pickle.dump(element, out)
            place.store(path)
        yield _SUMMARY


def _size(report: Report) -> tuple[str, int]:
    return report[0], report[2]["kept"][0]


def _written(report: Report, last: int) -> tuple[int, str, dict[str, parts.Source]]:
    unit, stage, stats = report
    return stage, unit, parts.sources(stats, unit, stage, stage == last)


def _construct(pipeline: beam.Pipeline, job: Job, place: Place) -> None:
    # Workers may start in another folder.
    inputs = [
        dataclasses.replace(
            each, path=each.path if places.is_url(each.path) else os.path.abspath(each.path)
        )
        for each in job.inputs
    ]
    names = (
        pipeline
        | "Inputs" >> beam.Create(list(enumerate(inputs)), reshuffle=False)
        | "Spread inputs" >> beam.Reshuffle()
        | "Cut" >> beam.ParDo(Cut(place, job.piece_bytes))
    )
    cleaned, timed = [], []
    for stage in job.stages:
        title = f"Stage {stage.index}, {stage.title}"
        kind = units.Clean if stage.index else Read
        done = (
            names
            | f"Spread: {title}" >> beam.Reshuffle()
            | title >> beam.ParDo(Perform(place, kind(_NOWHERE, "", stage)))
        )
        cleaned.append(done)
        if stage.closing is None:
            continue
        sizes = done | f"Sizes: {title}" >> beam.Map(_size)
        for number in range(stage.closing.rounds):
            title = f"Stage {stage.index}, {stage.closing.name}, round {number + 1}"
            if number:
                done = (
                    names
                    | f"Spread: {title}" >> beam.Reshuffle()
                    | f"Record: {title}"
                    >> beam.ParDo(Perform(place, units.Record(_NOWHERE, "", stage, number)))
                )
                timed.append(done)
            task = gather.Reduce(_NOWHERE, stage, number, (), (), job.budget_bytes)
            count = done | f"Count: {title}" >> beam.combiners.Count.Globally()
            reduced = (
                pipeline
                | f"Begin: {title}" >> beam.Create([0], reshuffle=False)
                | f"Reduce: {title}"
                >> beam.ParDo(
                    Reduce(place, task), pvalue.AsIter(sizes), pvalue.AsSingleton(count)
                ).with_outputs(Reduce.REPORT, main="names")
            )
            names = reduced.names
            timed.append(reduced[Reduce.REPORT])
    last = job.stages[-1].index
    reports = cleaned | "Finished" >> beam.Flatten()
    written = reports | "Written" >> beam.Map(_written, last)
    _ = (
        pipeline
        | "Begin: plan" >> beam.Create([0], reshuffle=False)
        | "Plan" >> beam.ParDo(Plan(place, job.shard_bytes), pvalue.AsIter(written))
        | "Spread parts" >> beam.Reshuffle()
        | "Write" >> beam.ParDo(Join(place))
    )
    _ = (
        [reports, *timed]
        | "All reports" >> beam.Flatten()
        | "Add up" >> beam.CombineGlobally(Sums(job.stages))
        | "Summarise" >> beam.ParDo(Summarise(place))
    )
