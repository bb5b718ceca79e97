"""Where a run's texts are from: each corpus with its licences, and what of it was consumed."""

from __future__ import annotations

import dataclasses
import itertools
import pathlib
import re
from collections.abc import Mapping
from typing import Any

from twjax.config.data import lengths_of
from twjax.report.decisions import unfolded
from twjax.report.events import planned, reading_parts
from twjax.report.read import RunLog
from twjax.storage import read_json


@dataclasses.dataclass(frozen=True)
class Corpus:
    """What the manifest of a corpus says; `problem` is why there is none, or empty.

    `licenses` and `sources` are {name: (documents, bytes)}; None where the manifest has no word of
    them. `steps` are the names of what was done to the texts, `contaminated` the documents that
    were left out because they hold items of an evaluation set (None: nobody looked).
    """

    name: str
    folder: pathlib.Path
    documents: int | None = None
    bytes: int | None = None
    licenses: Mapping[str, tuple[int, int]] | None = None
    sources: Mapping[str, tuple[int, int]] | None = None
    languages: tuple[str, ...] = ()
    fingerprint: str = ""
    steps: tuple[str, ...] = ()
    contaminated: int | None = None
    read: bool | None = None
    problem: str = ""


@dataclasses.dataclass(frozen=True)
class Consumed:
    """What a run has read of a task: rows, their tokens (None: unknown), and its share of rows.

    Tokens are rows times their length, padding included. `planned` is the share that the stages
    gave it over the same rows; None where they aren't known.
    """

    rows: int
    tokens: int | None
    share: float
    planned: float | None


def corpora_of(run: RunLog) -> list[Corpus]:
    """Returns the corpora of `Data.corpora`, also those that are for evaluation only.

    One that was rebuilt after its rows were cached has nothing but its name.
    """
    config = run.settings.run
    if config is None:
        return []
    found = []
    for name, path in config.data.corpora.items():
        corpus = read_corpus(name, pathlib.Path(path))
        sources = _sources(run, name, pathlib.Path(config.data.cache))
        if corpus.fingerprint and sources - {None, corpus.fingerprint}:
            corpus = Corpus(name, corpus.folder, read=False, problem="rebuilt since it was read")
        elif sources == {corpus.fingerprint}:
            corpus = dataclasses.replace(corpus, read=True)
        found.append(corpus)
    return found


def _sources(run: RunLog, task: str, cache: pathlib.Path) -> set[str | None]:
    """Returns the fingerprints of the corpora that a task's rows were made of.

    The ledger has the rows' own fingerprints, the rows' `info.json` that of their corpus; None is
    of rows that aren't there any more.
    """
    rows: set[str] = set()
    for record in unfolded(run.ledger):
        caches = record.get("caches")
        for name, fingerprint in caches.items() if isinstance(caches, dict) else ():
            # Rows of another length, or held-out ones, have it in their name.
            mine = name == task or name.startswith((f"{task}@", f"{task}/"))
            if mine and isinstance(fingerprint, str) and re.fullmatch(r"\w+", fingerprint):
                rows.add(fingerprint)
    return {_source(cache / task, fingerprint) for fingerprint in rows}


def _source(folder: pathlib.Path, rows: str) -> str | None:
    for file in folder.glob(f"*/*/{rows}/info.json"):
        try:
            return str(read_json(file)["ingredients"]["source"]["fingerprint"])
        except (KeyError, OSError, TypeError, ValueError):
            continue
    return None


def read_corpus(name: str, folder: pathlib.Path) -> Corpus:
    """Reads what the manifest in `folder` says, as far as it says anything."""
    file = folder / "manifest.json"
    try:
        manifest = read_json(file)
    except OSError as error:
        return Corpus(name, folder, problem=f"{file}: {error.strerror or error}")
    except ValueError as error:
        return Corpus(name, folder, problem=str(error))
    if not isinstance(manifest, dict):
        return Corpus(name, folder, problem=f"{file}: holds no manifest")
    shards = [s for s in _list(manifest, "shards") if isinstance(s, dict)]
    counts = manifest["counts"] if isinstance(manifest.get("counts"), dict) else {}
    totals = {
        field: value
        if isinstance(value := counts.get(field), int)
        else sum(s[field] for s in shards)
        if shards and all(isinstance(s.get(field), int) for s in shards)
        else None
        for field in ("documents", "bytes")
    }
    steps = [s for s in _list(manifest, "steps") if isinstance(s, dict)]
    names = tuple(str(step.get("name")) for step in steps)
    looked = [step for step in steps if step.get("name") == "decontaminate"]
    languages = manifest.get("languages")
    return Corpus(
        name=name,
        folder=folder,
        documents=totals["documents"],
        bytes=totals["bytes"],
        licenses=_groups(manifest.get("licenses")),
        sources=_groups(manifest.get("sources")),
        languages=tuple(map(str, languages)) if isinstance(languages, dict) else (),
        fingerprint=str(manifest.get("fingerprint", "")),
        steps=names,
        contaminated=sum(map(_touched, looked)) if looked else None,
    )


def consumed(run: RunLog, until: int | None = None) -> dict[str, Consumed]:
    """Returns what a run has read of each task by the end of a step (None: the last logged)."""
    steps = [step for step in run.row_steps if until is None or step <= until]
    if not steps:
        return {}
    last = len(steps) - 1
    rows = {task: counts[last] for task, counts in run.rows.items()}
    whole = sum(rows.values()) or 1
    tokens, wanted = dict.fromkeys(rows, 0), dict.fromkeys(rows, 0.0)
    known, plan, planned_shares = True, reading_parts(run), bool(planned(run))
    for place, (before, after) in enumerate(itertools.pairwise([0, *steps])):
        read = {t: c[place] - (c[place - 1] if place else 0) for t, c in run.rows.items()}
        # The batch of step s is the one that is read at s - 1.
        while plan and plan[0].end <= before:
            plan.pop(0)
        stretch = [
            (part, part.rows * (min(part.end, after) - max(part.first, before)))
            for part in plan
            if part.first < after
        ]
        lengths = {sum(lengths_of(part.length)) for part, _ in stretch}
        # What a trunk read of each length isn't told by a branch's own log.
        if not stretch or (len(lengths) > 1 and run.missing and before < run.branched):
            known = False
        planned_rows = sum(count for _, count in stretch) or 1
        size = sum(count * sum(lengths_of(part.length)) for part, count in stretch) / planned_rows
        for task, count in read.items():
            share = sum(n * part.shares.get(task, 0.0) for part, n in stretch) / planned_rows
            wanted[task] += share * sum(read.values())
            tokens[task] += round(count * size)
    return {
        task: Consumed(
            rows=count,
            tokens=tokens[task] if known else None,
            share=count / whole,
            planned=wanted[task] / whole if planned_shares else None,
        )
        for task, count in rows.items()
    }


def _touched(step: Mapping[str, Any]) -> int:
    """Returns how many documents a step left out or changed."""
    changed = step["changed"] if isinstance(step.get("changed"), dict) else {}
    numbers = [step.get("in"), step.get("out"), *changed.values()]
    into, out, *labelled = (n if isinstance(n, int) else 0 for n in numbers)
    return into - out + sum(labelled)


def _list(manifest: Mapping[str, Any], key: str) -> list[Any]:
    value = manifest.get(key)
    return value if isinstance(value, list) else []


def _groups(value: Any) -> dict[str, tuple[int, int]] | None:
    if not isinstance(value, dict):
        return None
    return {
        str(name): (int(of.get("documents", 0)), int(of.get("bytes", 0)))
        for name, of in sorted(value.items())
        if isinstance(of, dict)
    }
