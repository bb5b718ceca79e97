"""Builds a corpus folder from input files, on all cores of one machine.

inputs → pieces → [local steps → keys → decision of a global step] … → shards + rejected + manifest

Work goes to a folder beside the output, one file a unit, so that a killed build continues where
it stopped; the output appears by one rename. Pieces, units, cuts and file settings depend on the
inputs and the configuration alone, so any number of workers gives the same bytes.
"""

from __future__ import annotations

import collections
import contextlib
import dataclasses
import fcntl
import functools
import pathlib
import platform
import shutil
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

import twjax
from twjax import storage
from twjax.corpus import document, reading, tally, units
from twjax.corpus.pool import Pool, default_workers
from twjax.corpus.step import Step
from twjax.progress import Progress, say

FORMAT = 1


@dataclasses.dataclass(frozen=True, kw_only=True)
class Corpus:
    """A corpus to build: `inputs` are files, read in this order; `output` is the folder to make.

    `shard_bytes` is how many bytes of text a shard holds at most, roughly.
    """

    name: str
    inputs: tuple[str, ...]
    output: str
    steps: tuple[Step, ...]
    shard_bytes: int = 256 << 20

    def __post_init__(self) -> None:
        if not self.name or "/" in self.name:
            raise ValueError(f"Corpus.name ({self.name!r}) must be a name without slashes.")
        if not self.inputs:
            raise ValueError("Corpus.inputs is empty; name at least one file.")
        doubled = [name for name, n in collections.Counter(self.inputs).items() if n > 1]
        if doubled:
            raise ValueError(f"Corpus.inputs names {', '.join(doubled)} twice.")
        if self.shard_bytes < 1:
            raise ValueError(f"Corpus.shard_bytes ({self.shard_bytes}) must be positive.")


@dataclasses.dataclass(frozen=True)
class Built:
    """A finished corpus folder; `fresh` is False when it was there already, from the same."""

    folder: pathlib.Path
    manifest: dict[str, Any]
    fresh: bool


def build(
    corpus: Corpus,
    *,
    locate: Callable[[str], pathlib.Path] = pathlib.Path,
    workers: int | None = None,
    fresh: bool = False,
) -> Built:
    """Builds `corpus`, or continues, or finds it up to date; `fresh` starts over.

    `locate` finds an input's file; the manifest keeps the configured names. `workers` None takes
    all cores that the inputs can keep busy.
    """
    paths = {name: locate(name) for name in corpus.inputs}
    for name, path in paths.items():
        if not path.is_file():
            raise ValueError(f"Corpus.inputs: no file {name}; check the path.")
        reading.check_format(path)
    output = pathlib.Path(corpus.output)
    if output.exists() and not (output / "manifest.json").is_file() and any(output.iterdir()):
        raise ValueError(
            f"Corpus.output ({output}) holds something that is no corpus; choose another folder."
        )
    work = output.with_name(f".{output.name}.building")
    with _lock(work):
        inputs = [{"path": n, "sha256": storage.sha256_file(p)} for n, p in paths.items()]
        ingredients = _ingredients(corpus, inputs)
        key = storage.sha256_json(ingredients)
        if fresh:
            _clear(work)
        elif (manifest := _finished(output, key)) is not None:
            _clear(work)
            return Built(output, manifest, False)
        folder = work / key[:16]
        # What an earlier configuration left can't be continued.
        _clear(work, but=folder)
        size = sum(path.stat().st_size for path in paths.values())
        if workers is None:
            workers = max(1, min(default_workers(), size // reading.PIECE_BYTES))
        with Pool(workers) as pool:
            builder = _Builder(corpus, paths, folder, pool)
            manifest = builder.build(inputs, ingredients, key)
        _publish(folder / "corpus", output, work)
        _clear(work)
    return Built(output, manifest, True)


def _ingredients(corpus: Corpus, inputs: list[dict[str, str]]) -> dict[str, Any]:
    """Returns everything that the output's bytes follow from.

    Asking steps for their versions also shows a wrong library before hours of work.
    """
    return {
        "format": FORMAT,
        "name": corpus.name,
        "inputs": inputs,
        "steps": [_describe(step) for step in corpus.steps],
        "shard_bytes": corpus.shard_bytes,
        "piece_bytes": reading.PIECE_BYTES,
        "code": _code(),
        "versions": {"pyarrow": pa.__version__},
    }


@functools.cache
def _code() -> str:
    """Hashes this room's source: a changed step must not pass for the old one."""
    files = sorted(pathlib.Path(__file__).parent.glob("*.py"))
    return storage.sha256_json({file.name: storage.sha256_file(file) for file in files})


def _describe(step: Step) -> dict[str, Any]:
    described = {"name": step.name, "parameters": step.parameters()}
    return {**described, "versions": step.versions()}


@contextlib.contextmanager
def _lock(work: pathlib.Path) -> Iterator[None]:
    """Keeps a second build of the same output away; the lock dies with its process."""
    with document.disk_errors(work):
        work.mkdir(parents=True, exist_ok=True)
    with document.disk_errors(work), (work / "lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise ValueError(f"{work}: another process is building this corpus.") from error
        yield
        (work / "lock").unlink()
        with contextlib.suppress(OSError):
            work.rmdir()


def _clear(work: pathlib.Path, but: pathlib.Path | None = None) -> None:
    for path in work.iterdir():
        if path.is_dir() and path != but:
            shutil.rmtree(path)


def _finished(output: pathlib.Path, key: str) -> dict[str, Any] | None:
    """Returns the manifest of a whole corpus made of the same ingredients."""
    path = output / "manifest.json"
    if not path.is_file():
        return None
    manifest = storage.read_json(path)
    if manifest.get("format") != FORMAT or manifest.get("ingredients_sha256") != key:
        return None
    for entry in (*manifest["shards"], *manifest["rejected"]):
        file = output / entry["file"]
        if not file.is_file() or storage.sha256_file(file) != entry["sha256"]:
            say(f"{file} is missing or damaged: building again.")
            return None
    return manifest


def _publish(finished: pathlib.Path, output: pathlib.Path, work: pathlib.Path) -> None:
    if output.exists():
        old = work / "replaced"
        output.rename(old)
        finished.rename(output)
        shutil.rmtree(old)
    else:
        finished.rename(output)


class _Builder:
    """One build's work folder and how far it is."""

    def __init__(
        self,
        corpus: Corpus,
        paths: dict[str, pathlib.Path],
        folder: pathlib.Path,
        pool: Pool,
    ):
        self._corpus, self._paths, self._folder, self._pool = corpus, paths, folder, pool
        self._stages = units.stages(corpus.steps)
        self._bytes_done = 0
        folder.mkdir(parents=True, exist_ok=True)

    def build(
        self, inputs: list[dict[str, Any]], ingredients: dict[str, Any], key: str
    ) -> dict[str, Any]:
        start = time.monotonic()
        owners = self._read()
        dropped: dict[int, dict[int, str]] = {}
        for stage in self._stages:
            if stage.index:
                self._run_stage(stage, len(owners), dropped)
            if stage.closing is not None:
                dropped = self._resolve(stage, len(owners))
        stats = [
            [storage.read_json(self._files(u, s.index).stats) for s in self._stages]
            for u in range(len(owners))
        ]
        shards = self._join(stats)
        for entry in inputs:
            mine = [s[0]["read"] for s, owner in zip(stats, owners, strict=True)
                    if owner == entry["path"]]  # fmt: skip
            entry["records"] = sum(read["records"] for read in mine)
        wall = time.monotonic() - start
        manifest = {
            "format": FORMAT,
            "name": self._corpus.name,
            "fingerprint": storage.sha256_json([shard["sha256"] for shard in shards["shards"]]),
            **shards,
            "inputs": inputs,
            "steps": [
                {**_describe(step), **counts}
                for step, counts in zip(self._corpus.steps, tally.by_step(stats), strict=True)
            ],
            "counts": tally.overall(stats),
            **tally.contents(stats),
            "ingredients_sha256": key,
            "ingredients": ingredients,
            "versions": {
                "twjax": twjax.__version__,
                "python": platform.python_version(),
                "pyarrow": pa.__version__,
            },
            "workers": self._pool.workers,
            "wall_seconds": round(wall, 3),
            # Of this run's own work: a resumed build doesn't count what was there.
            "megabytes_per_second": round(self._bytes_done / 1e6 / max(wall, 1e-9), 3),
        }
        with document.disk_errors(self._folder):
            storage.write_json(self._folder / "corpus" / "manifest.json", manifest)
        return manifest

    def _files(self, unit: int, stage: int) -> units.Files:
        return units.Files(self._folder, unit, stage)

    def _read(self) -> list[str]:
        """Runs the first stage; returns the input that each unit is a piece of."""
        owners: list[str] = []
        size = sum(path.stat().st_size for path in self._paths.values())
        with Progress(max(1, size // 1000), f"{self._corpus.name}: read and clean", "kB") as bar:
            advance = _advance_kilobytes(bar)
            for work, stats in self._pool.map(units.run, self._pieces(owners, advance)):
                assert work.piece is not None
                self._bytes_done += stats["read"]["bytes"]
                advance(work.piece.consumed)
        return owners

    def _pieces(self, owners: list[str], advance: Callable[[int], None]) -> Iterator[units.Work]:
        """Yields the pieces that still have to be done, and notes all pieces' owners."""
        for number, (name, path) in enumerate(self._paths.items()):
            # How many pieces a file has is noted once known: it needn't be unpacked again.
            note = self._folder / f"input-{number:06d}.json"
            if note.is_file():
                count = storage.read_json(note)
                last = range(len(owners), len(owners) + count)
                if all(self._files(unit, 0).stats.is_file() for unit in last):
                    owners.extend([name] * count)
                    advance(path.stat().st_size)
                    continue
            count = 0
            for piece in reading.pieces(name, path, reading.PIECE_BYTES):
                unit = len(owners)
                owners.append(name)
                count += 1
                if self._files(unit, 0).stats.is_file():
                    advance(piece.consumed)
                else:
                    yield units.Work(self._folder, unit, self._stages[0], piece)
            with document.disk_errors(note):
                storage.write_json(note, count)

    def _run_stage(
        self, stage: units.Stage, number: int, dropped: dict[int, dict[int, str]]
    ) -> None:
        todo = [
            units.Work(self._folder, unit, stage, dropped=dropped.get(unit, {}))
            for unit in range(number)
            if not self._files(unit, stage.index).stats.is_file()
        ]
        names = [s.name for s in (stage.opening, *stage.steps) if s is not None]
        description = f"{self._corpus.name}: {', '.join(names)}"
        with Progress(number, description, "pieces", number - len(todo)) as progress:
            for _ in self._pool.map(units.run, todo):
                progress.update()

    def _resolve(self, stage: units.Stage, number: int) -> dict[int, dict[int, str]]:
        """Lets a global step decide; returns {unit: {row: id of the document that stays}}."""
        assert stage.closing is not None
        files = [self._files(unit, stage.index) for unit in range(number)]
        sizes = [len(storage.read_json(file.stats)["sizes"]) for file in files]
        keys = [np.load(file.keys) for file, size in zip(files, sizes, strict=True) if size]
        if not keys:
            return {}
        stands = stage.closing.resolve(np.concatenate(keys))
        starts = np.cumsum([0, *sizes])
        gone = np.flatnonzero(stands != np.arange(len(stands)))
        unit_of = np.searchsorted(starts, np.arange(len(stands)), side="right") - 1
        ids: dict[int, str] = {}
        keepers = np.unique(stands[gone])
        for unit in np.unique(unit_of[keepers]):
            with pq.ParquetFile(files[unit].documents) as file:
                column = file.read(columns=["id"]).column("id")
            mine = keepers[unit_of[keepers] == unit]
            ids.update((int(k), column[int(k - starts[unit])].as_py()) for k in mine)
        dropped: dict[int, dict[int, str]] = collections.defaultdict(dict)
        for index in gone:
            unit = int(unit_of[index])
            dropped[unit][int(index - starts[unit])] = ids[int(stands[index])]
        return dropped

    def _join(self, stats: list[list[dict[str, Any]]]) -> dict[str, list[dict[str, Any]]]:
        """Writes shards and rejected parts below `corpus/` of the work folder."""
        last = self._stages[-1].index
        kept = [(self._files(u, last).documents, s[-1]["sizes"]) for u, s in enumerate(stats)]
        gone = [
            (self._files(u, i).rejected, s[i]["rejected_sizes"])
            for i in range(len(self._stages))
            for u, s in enumerate(stats)
        ]
        corpus = self._folder / "corpus"
        # A part that a killed run left is whole but cheap: writing all again keeps this simple.
        shutil.rmtree(corpus, ignore_errors=True)
        with document.disk_errors(corpus):
            for name in ("shards", "rejected"):
                (corpus / name).mkdir(parents=True)
        room = self._corpus.shard_bytes
        parts = units.plan_parts(corpus / "shards", kept, room)
        if not parts:
            raise ValueError(
                f"Corpus {self._corpus.name}: no document is left; rejected: "
                f"{tally.overall(stats)['rejected'] or 'none (the inputs are empty)'}."
            )
        other = units.plan_parts(corpus / "rejected", gone, room)
        entries = {}
        with Progress(len(parts) + len(other), f"{self._corpus.name}: write", "files") as progress:
            for part, entry in self._pool.map(units.join, [*parts, *other]):
                entries[part.path] = {"file": str(part.path.relative_to(corpus)), **entry}
                progress.update()
        return {
            "shards": [entries[part.path] for part in parts],
            "rejected": [entries[part.path] for part in other],
        }


def _advance_kilobytes(bar: Progress) -> Callable[[int], None]:
    """Returns a function of bytes that advances a bar of kilobytes and loses no remainder."""
    total = 0

    def advance(count: int) -> None:
        nonlocal total
        before, total = total // 1000, total + count
        bar.update(total // 1000 - before)

    return advance
