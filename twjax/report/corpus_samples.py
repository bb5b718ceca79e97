"""Examples of what a build kept, dropped and changed, drawn from a corpus folder.

The draw is by a hash of the documents' ids: uniform, the same at every call, and documents needn't
be in memory together.
"""

from __future__ import annotations

import dataclasses
import heapq
import pathlib
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import pyarrow.parquet as pq
import xxhash

from twjax import storage


@dataclasses.dataclass(frozen=True, order=True)
class _Drawn:
    """A row with its place in the draw; rows are ordered by it alone."""

    place: int
    row: dict[str, Any] = dataclasses.field(compare=False)


@dataclasses.dataclass(frozen=True)
class Change:
    """An edit with what stands around it in the finished document, empty if that moved on."""

    step: str
    kind: str
    id: str
    before: str
    after: str
    left: str
    right: str


def files(folder: pathlib.Path, kind: str) -> list[pathlib.Path]:
    """Returns the corpus folder's files of one kind ("shards", "rejected", "changes"), in order."""
    manifest = storage.read_json(folder / "manifest.json")
    return [folder / entry["file"] for entry in manifest.get(kind, [])]


def rows(paths: Sequence[pathlib.Path], columns: Sequence[str]) -> Iterator[dict[str, Any]]:
    """Yields rows of Parquet files as dictionaries, one row group in memory at a time."""
    for path in paths:
        with pq.ParquetFile(path) as file:
            for group in range(file.num_row_groups):
                yield from file.read_row_group(group, columns=list(columns)).to_pylist()


def drawn(
    found: Iterable[dict[str, Any]], number: int, by: Sequence[str] = (), seed: int = 0
) -> dict[tuple[str, ...], list[dict[str, Any]]]:
    """Returns up to `number` rows for each combination of the columns `by`, sorted by it.

    Another `seed` draws others.
    """
    heaps: dict[tuple[str, ...], list[_Drawn]] = {}
    for row in found:
        key = tuple(row[name] for name in by)
        heap = heaps.setdefault(key, [])
        # Negative: the heap's first is then the one to give up.
        name = f"{row['id']}\0{row.get('start', '')}"
        item = _Drawn(-xxhash.xxh3_64_intdigest(name.encode(), seed), row)
        if len(heap) < number:
            heapq.heappush(heap, item)
        elif heap and item > heap[0]:
            heapq.heapreplace(heap, item)
    return {key: [item.row for item in sorted(heaps[key], reverse=True)] for key in sorted(heaps)}


def kept(folder: pathlib.Path, number: int) -> list[dict[str, Any]]:
    """Returns up to `number` of the documents that stayed."""
    columns = ("id", "text", "source", "license", "lang", "meta")
    return drawn(rows(files(folder, "shards"), columns), number).get((), [])


def dropped(folder: pathlib.Path, number: int) -> dict[str, list[dict[str, Any]]]:
    """Returns up to `number` documents for each reason of rejection."""
    columns = ("id", "text", "source", "lang", "reason", "value")
    found = drawn(rows(files(folder, "rejected"), columns), number, ("reason",))
    return {reason: examples for (reason,), examples in found.items()}


def changed(
    folder: pathlib.Path, number: int, context: int = 40, seed: int = 0
) -> dict[tuple[str, str], list[Change]]:
    """Returns up to `number` edits for each step and kind, with `context` characters around."""
    columns = ("step", "id", "kind", "start", "before", "after")
    found = drawn(rows(files(folder, "changes"), columns), number, ("step", "kind"), seed)
    wanted = {edit["id"] for edits in found.values() for edit in edits}
    texts = {
        row["id"]: row["text"]
        for row in (rows(files(folder, "shards"), ("id", "text")) if wanted else ())
        if row["id"] in wanted
    }
    return {
        (step, kind): [_placed(edit, texts.get(edit["id"], ""), context) for edit in edits]
        for (step, kind), edits in found.items()
    }


def decided(
    folder: pathlib.Path, decision: str, number: int, seed: int = 0
) -> list[dict[str, Any]]:
    """Returns up to `number` cases of one decision, for someone to read; `seed` draws others.

    A decision is a reason of rejection ("near duplicate"), a kind of edit ("convert_simplified
    phrase"), or a label that kept documents have in `meta` ("wrap_columns"), also by how its value
    begins ("usage=mainland"). Raises ValueError for one that isn't there, with those that are.
    """
    manifest = storage.read_json(folder / "manifest.json")
    reasons = manifest["counts"]["rejected"]
    if decision in reasons:
        columns = ("id", "text", "source", "lang", "reason", "value")
        found = (r for r in rows(files(folder, "rejected"), columns) if r["reason"] == decision)
        return drawn(found, number, (), seed).get((), [])
    edits = {f"{s['name']} {kind}" for s in manifest["steps"] for kind in s.get("edits", {})}
    if decision in edits:
        step, kind = decision.split(" ", 1)
        cases = changed(folder, number, seed=seed)[step, kind]
        return [dataclasses.asdict(case) for case in cases]
    key, _, value = decision.partition("=")
    keys: set[str] = set()
    labelled = drawn(_labelled(folder, key, value, keys), number, (), seed).get((), [])
    if not labelled:
        known = "; ".join(", ".join(sorted(names)) for names in (reasons, edits, keys) if names)
        raise ValueError(f"{folder}: no decision {decision!r}; there are {known}.")
    return labelled


def _labelled(
    folder: pathlib.Path, key: str, value: str, keys: set[str]
) -> Iterator[dict[str, Any]]:
    """Yields the documents whose label begins so; `keys` gathers the labels that there are."""
    columns = ("id", "text", "source", "license", "lang", "meta")
    for row in rows(files(folder, "shards"), columns):
        meta = dict(row["meta"])
        keys.update(meta)
        if meta.get(key, "").startswith(value) and key in meta:
            yield row


def _placed(edit: dict[str, Any], text: str, context: int) -> Change:
    """Finds an edit in the finished text, which later steps may have shifted."""
    start, after = edit["start"], edit["after"]
    place = start if text.startswith(after, start) else -1
    if place < 0 and after:
        places = (text.find(after, max(0, start - context)), text.rfind(after, 0, start))
        place = min((p for p in places if p >= 0), key=lambda p: abs(p - start), default=-1)
    left = right = ""
    if place >= 0 and text:
        left = text[max(0, place - context) : place]
        right = text[place + len(after) : place + len(after) + context]
    names = {name: edit[name] for name in ("step", "kind", "id", "before", "after")}
    return Change(**names, left=left, right=right)
