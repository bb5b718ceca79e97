"""Runs a build's tasks on all cores of this machine.

What a unit has finished is marked in the work folder, so that a killed build continues there.
"""

from __future__ import annotations

import pathlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import numpy as np

from twjax import storage
from twjax.corpus import document
from twjax.corpus.running import gather, parts, units
from twjax.corpus.running.job import Done, Job
from twjax.corpus.running.pool import Pool
from twjax.corpus.running.tally import Tally
from twjax.corpus.sources import reading
from twjax.progress import Progress, say


def run(job: Job, workers: int) -> Done:
    """Does all tasks of a build with `workers` processes."""
    with Pool(workers) as pool:
        return _Runner(job, pool).run()


class _Runner:
    def __init__(self, job: Job, pool: Pool):
        self._job, self._pool, self._tally = job, pool, Tally()
        self._bytes_done = 0

    def run(self) -> Done:
        job = self._job
        found: dict[str, list[parts.Source]] = {kind: [] for kind in parts.KINDS}
        names: list[str] = []
        for stage in job.stages:
            if stage.index == 0:
                names = self._read(stage)
            else:
                tasks = (units.Clean(job.folder, name, stage) for name in names)
                self._all(tasks, f"{job.name}: {stage.title}", len(names))
            sizes = self._count(stage, names, found)
            if stage.closing is not None:
                self._reduce(stage, names, sizes)
        runner = {"runner": "local", "workers": self._pool.workers}
        return Done(self._tally, self._join(found), self._bytes_done, runner)

    def _all(self, tasks: Iterable[units.Task], description: str, total: int) -> None:
        with Progress(total, description, "pieces") as progress:
            for _ in self._pool.map(units.call, self._todo(tasks, progress)):
                progress.update()

    def _todo(self, tasks: Iterable[units.Task], progress: Progress) -> Iterator[units.Task]:
        """Yields the tasks that are not done; removes what a killed run had yet to remove."""
        for task in tasks:
            if task.mark.is_file():
                units.call(task)
                progress.update()
            else:
                yield task

    def _read(self, stage: units.Stage) -> list[str]:
        """Runs the first stage; returns the units' names."""
        names: list[str] = []
        size = sum(each.bytes for each in self._job.inputs)
        title = f"{self._job.name}: {stage.title}"
        with Progress(max(1, size // 1000), title, "kB") as bar:
            advance = _advance_kilobytes(bar)
            for task, stats in self._pool.map(units.call, self._pieces(stage, names, advance)):
                assert task.piece is not None
                self._bytes_done += stats["read"]["bytes"]
                advance(task.piece.consumed)
        return names

    def _pieces(
        self, stage: units.Stage, names: list[str], advance: Callable[[int], None]
    ) -> Iterator[units.Clean]:
        """Yields the pieces that still have to be done, and notes all pieces' names."""
        for number, each in enumerate(self._job.inputs):
            # How many pieces a file has is noted once known: it needn't be unpacked again.
            note = self._job.folder / f"input-{number:06d}.json"
            if note.is_file():
                mine = [units.unit_name(number, i) for i in range(storage.read_json(note))]
                if all(units.Clean(self._job.folder, u, stage).mark.is_file() for u in mine):
                    names.extend(mine)
                    advance(each.bytes)
                    continue
            count = 0
            size = self._job.piece_bytes
            for piece in reading.pieces(each.name, each.path, size, each.source):
                task = units.Clean(self._job.folder, units.unit_name(number, count), stage, piece)
                names.append(task.unit)
                count += 1
                if task.mark.is_file():
                    advance(piece.consumed)
                else:
                    yield task
            with document.disk_errors(note):
                storage.write_json(note, count)

    def _count(
        self, stage: units.Stage, names: list[str], found: dict[str, list[parts.Source]]
    ) -> list[int]:
        """Adds up a finished stage and says what its steps did; returns documents a unit."""
        sizes = []
        last = stage.closing is None
        for name in names:
            stats = storage.read_json(units.Files(self._job.folder, name, stage.index).stats)
            self._tally.add(name, stage, stats)
            sizes.append(stats["kept"][0])
            for kind, source in parts.sources(stats, name, stage.index, last).items():
                found[kind].append(source)
        for place, label in enumerate(stage.labels, start=stage.first):
            say(f"{self._job.name}: {label}: {describe(self._tally.of_step(place))}")
        return sizes

    def _reduce(self, stage: units.Stage, names: list[str], sizes: list[int]) -> None:
        job = self._job
        assert stage.closing is not None
        rounds = stage.closing.rounds
        for number in range(rounds):
            title = f"{job.name}: {stage.closing.name}, round {number + 1} of {rounds}"
            if number:
                tasks = [units.Record(job.folder, name, stage, number) for name in names]
                self._all(tasks, title, len(tasks))
                for task in tasks:
                    self._tally.add_seconds(stage, storage.read_json(task.mark))
            with Progress(1, f"{title}, bring together", "rounds") as progress:
                reduce = gather.Reduce(
                    job.folder, stage, number, tuple(names), tuple(sizes), job.budget_bytes
                )
                for _, result in self._pool.map(units.call, [reduce]):
                    self._tally.add_seconds(stage, result)
                    progress.update()

    def _join(self, found: Mapping[str, list[parts.Source]]) -> dict[str, list[dict[str, Any]]]:
        """Writes shards, rejected and changed parts below `corpus/` of the work folder."""
        job = self._job
        remove_torn(job.folder / "corpus")

        def weigh(name: str) -> np.ndarray:
            return parts.weights(job.folder / name)

        joins = [
            join
            for kind in parts.KINDS
            for join in parts.plan(job.folder, kind, found[kind], job.shard_bytes, weigh)
        ]
        self._all(joins, f"{job.name}: write", len(joins))
        return {
            kind: [storage.read_json(join.mark) for join in joins if join.kind == kind]
            for kind in parts.KINDS
        }


def remove_torn(folder: pathlib.Path) -> None:
    """Removes the files that a killed process was writing; they must not be published."""
    for path in folder.rglob(".*.tmp"):
        path.unlink()


def describe(counts: Mapping[str, Any]) -> str:
    """Returns one line about what a step did."""
    texts = [f"{counts['in']:,} documents in, {counts['out']:,} out"]
    for name in ("rejected", "changed"):
        if counts[name]:
            pairs = ", ".join(f"{key} {number:,}" for key, number in counts[name].items())
            texts.append(f"{name}: {pairs}")
    return "; ".join(texts)


def _advance_kilobytes(bar: Progress) -> Callable[[int], None]:
    """Returns a function of bytes that advances a bar of kilobytes and loses no remainder."""
    total = 0

    def advance(count: int) -> None:
        nonlocal total
        before, total = total // 1000, total + count
        if total // 1000 > before:
            bar.update(total // 1000 - before)

    return advance
