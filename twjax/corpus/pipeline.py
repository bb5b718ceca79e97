"""Builds a corpus folder from input files, with any runner.

inputs → pieces → [local steps → records → decision of a global step] … → shards, rejected
documents, changes, manifest

Work goes to a folder beside the output, one file a unit, so that a killed build continues where
it stopped; the output appears by one rename. Pieces, units, cuts and file settings depend on the
inputs and the configuration alone, so any runner with any number of workers gives the same bytes.
"""

from __future__ import annotations

import collections
import concurrent.futures
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

import pyarrow as pa

import twjax
from twjax import storage
from twjax.corpus import document, excerpts
from twjax.corpus.running import local, parts, units
from twjax.corpus.running.job import Done, Input, Job
from twjax.corpus.running.pool import default_workers
from twjax.corpus.sources import places, reading
from twjax.corpus.sources.formats import Source
from twjax.corpus.step import BUDGET_BYTES, Step
from twjax.progress import say

FORMAT = 2
# The most frequent edits of each kind that the manifest shows.
_FREQUENT = 20


@dataclasses.dataclass(frozen=True, kw_only=True)
class Corpus:
    """A corpus to build: `inputs` are read in this order; `output` is the folder to make.

    An input is a file, a folder or a URL that fsspec opens. `sources` are more inputs, behind
    these, with what is known about each. A shard holds about `shard_bytes` of text at most.
    """

    name: str
    output: str
    steps: tuple[Step, ...]
    inputs: tuple[str, ...] = ()
    sources: tuple[Source, ...] = ()
    shard_bytes: int = 256 << 20

    def __post_init__(self) -> None:
        if not self.name or "/" in self.name:
            raise ValueError(f"Corpus.name ({self.name!r}) must be a name without slashes.")
        if not self.inputs and not self.sources:
            raise ValueError("Corpus.inputs and Corpus.sources are empty; name at least one file.")
        names = [source.path for source in self.all_sources()]
        if not all(names):
            raise ValueError("Corpus.sources: a Source lacks its path.")
        doubled = [name for name, n in collections.Counter(names).items() if n > 1]
        if doubled:
            raise ValueError(f"Corpus.inputs and Corpus.sources name {', '.join(doubled)} twice.")
        if self.shard_bytes < 1:
            raise ValueError(f"Corpus.shard_bytes ({self.shard_bytes}) must be positive.")

    def all_sources(self) -> tuple[Source, ...]:
        """Returns all inputs, in order."""
        return (*(Source(path=name) for name in self.inputs), *self.sources)


@dataclasses.dataclass(frozen=True)
class Built:
    """A finished corpus folder; `fresh` is False when it was there already, from the same."""

    folder: pathlib.Path
    manifest: dict[str, Any]
    fresh: bool


def build(
    corpus: Corpus,
    *,
    locate: Callable[[str], pathlib.Path | str] | None = None,
    workers: int | None = None,
    fresh: bool = False,
    budget_bytes: int = BUDGET_BYTES,
    runner: Callable[[Job], Done] | None = None,
) -> Built:
    """Builds `corpus`, or continues, or finds it up to date; `fresh` starts over.

    `locate` finds an input; the manifest keeps the configured names. `workers` None takes all
    cores that the inputs can keep busy. `budget_bytes` is what the reduction of a global step may
    hold in memory. `runner` does the work instead of this machine's cores.
    """
    inputs = []
    for source in corpus.all_sources():
        path = (locate or _find)(source.path)
        reading.check_format(path, source)
        inputs.append(Input(source.path, path, places.size(path), source))
    output = storage.local_folder(corpus.output)
    if output.exists() and not (output / "manifest.json").is_file() and any(output.iterdir()):
        raise ValueError(
            f"Corpus.output ({output}) holds something that is no corpus; choose another folder."
        )
    work = output.with_name(f".{output.name}.building")
    with _lock(work):
        with concurrent.futures.ThreadPoolExecutor(default_workers()) as threads:
            hashes = threads.map(places.sha256, [each.path for each in inputs])
            described = [_input(each, h) for each, h in zip(inputs, hashes, strict=True)]
        ingredients = _ingredients(corpus, described)
        key = storage.sha256_json(ingredients)
        if fresh:
            _clear(work)
        elif (manifest := _finished(output, key)) is not None:
            _clear(work)
            return Built(output, manifest, False)
        folder = work / key[:16]
        # What an earlier configuration left can't be continued.
        _clear(work, but=folder)
        with document.disk_errors(folder):
            folder.mkdir(parents=True, exist_ok=True)
        if workers is None:
            workers = max(
                1, min(default_workers(), sum(i.bytes for i in inputs) // reading.PIECE_BYTES)
            )
        job = Job(
            name=corpus.name,
            folder=folder,
            inputs=tuple(inputs),
            stages=tuple(units.stages(corpus.steps)),
            piece_bytes=reading.PIECE_BYTES,
            shard_bytes=corpus.shard_bytes,
            budget_bytes=budget_bytes,
        )
        start = time.monotonic()
        done = local.run(job, workers) if runner is None else runner(job)
        if not done.joined["shards"]:
            raise ValueError(
                f"Corpus {corpus.name}: no document is left; rejected: "
                f"{done.tally.overall()['rejected'] or 'none (the inputs are empty)'}."
            )
        wall = time.monotonic() - start
        manifest = {
            **_manifest(corpus, described, done),
            "ingredients_sha256": key,
            "ingredients": ingredients,
            "versions": {
                "twjax": twjax.__version__,
                "python": platform.python_version(),
                "pyarrow": pa.__version__,
            },
            # How this build went, which decides nothing.
            "run": {
                **done.runner,
                "wall_seconds": round(wall, 3),
                # Of this run's own work: a resumed build doesn't count what was there.
                "megabytes_per_second": round(done.bytes_done / 1e6 / max(wall, 1e-9), 3),
                "cpu_seconds": done.tally.cpu_seconds(units.step_labels(corpus.steps)),
            },
        }
        with document.disk_errors(folder):
            storage.write_json(folder / "corpus" / "manifest.json", manifest)
        excerpts.write_cards(folder / "corpus", manifest)
        _publish(folder / "corpus", output, work)
        _clear(work)
    return Built(output, manifest, True)


def _find(name: str) -> pathlib.Path | str:
    return name if places.is_url(name) else pathlib.Path(name)


def _input(given: Input, sha256: str) -> dict[str, Any]:
    """Returns what the manifest says of an input; settings are those that aren't the usual."""
    usual = dataclasses.asdict(Source(path=given.name))
    settings = {k: v for k, v in dataclasses.asdict(given.source).items() if v != usual[k]}
    return {"path": given.name, "sha256": sha256, **({"settings": settings} if settings else {})}


def _ingredients(corpus: Corpus, inputs: list[dict[str, Any]]) -> dict[str, Any]:
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
    """Hashes this room's source and tables: a changed step must not pass for the old one."""
    room = pathlib.Path(__file__).parent
    files = [p for p in room.rglob("*") if p.suffix in (".py", ".tsv", ".npz")]
    hashes = {str(p.relative_to(room)): storage.sha256_file(p) for p in files}
    return storage.sha256_json(hashes)


def _manifest(corpus: Corpus, inputs: list[dict[str, Any]], done: Done) -> dict[str, Any]:
    """Returns what the corpus holds and what became of the inputs."""
    frequent = parts.most_frequent(done.joined["changes"], _FREQUENT)
    steps = []
    for place, label in enumerate(units.step_labels(corpus.steps)):
        counts = done.tally.of_step(place)
        counts["edits"] = {
            kind: {"count": count, "frequent": frequent.get(label, {}).get(kind, [])}
            for kind, count in counts["edits"].items()
        }
        steps.append({**_describe(corpus.steps[place]), **counts})
    return {
        "format": FORMAT,
        "name": corpus.name,
        "fingerprint": storage.sha256_json([shard["sha256"] for shard in done.joined["shards"]]),
        **{
            kind: [{k: v for k, v in entry.items() if k != "pairs"} for entry in entries]
            for kind, entries in done.joined.items()
        },
        "inputs": [
            {**entry, "records": done.tally.inputs[number]} for number, entry in enumerate(inputs)
        ],
        "steps": steps,
        "counts": done.tally.overall(),
        **done.tally.contents(),
    }


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
    for entry in (entry for kind in parts.KINDS for entry in manifest[kind]):
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
