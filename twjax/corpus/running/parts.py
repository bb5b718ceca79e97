"""The output files of a corpus: where they are cut, and how one is joined of units' files."""

from __future__ import annotations

import collections
import dataclasses
import itertools
import pathlib
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from twjax import storage
from twjax.corpus import document
from twjax.corpus.running.units import Files, Task, read_table

KINDS = ("shards", "rejected", "changes")
# Each row's other columns take room too; documents without text must not all be in one part.
ROW_BYTES = 64
# Of each part, enough that the most frequent of all parts are right.
_PAIRS = 2_000
_PAIR_CHARACTERS = 40


@dataclasses.dataclass(frozen=True)
class Source:
    """A unit's file (its name in the work folder) with its rows and the bytes of their text."""

    name: str
    rows: int
    bytes: int


def sources(
    stats: dict[str, Sequence[int]], unit: str, stage: int, last: bool
) -> dict[str, Source]:
    """Returns what one unit's stage adds to each kind of output; documents only in the last."""
    files = Files(pathlib.Path(), unit, stage)
    paths = {"rejected": files.rejected, "changes": files.changes}
    found = {kind: Source(path.name, *stats[kind]) for kind, path in paths.items()}
    if last:
        found["shards"] = Source(files.documents.name, *stats["kept"])
    return found


@dataclasses.dataclass(frozen=True)
class Join(Task):
    """One output file: slices [start, stop) of units' files, in order."""

    kind: str
    index: int
    of: int
    slices: tuple[tuple[str, int, int], ...]

    @property
    def path(self) -> pathlib.Path:
        """The output file."""
        name = f"part-{self.index:05d}-of-{self.of:05d}.parquet"
        return self.folder / "corpus" / self.kind / name

    @property
    def mark(self) -> pathlib.Path:
        return self.folder / f"joined-{self.kind}-{self.index:05d}.json"

    def needs(self) -> list[pathlib.Path]:
        return [self.folder / name for name, _, _ in self.slices]

    def run(self) -> dict[str, Any]:
        """Writes the file; returns its name, hash and counts."""
        tables = [
            read_table(self.folder / name).slice(start, stop - start)
            for name, start, stop in self.slices
        ]
        table = pa.concat_tables(tables)
        document.write_table(self.path, table)
        entry = {
            "file": f"{self.kind}/{self.path.name}",
            "sha256": storage.sha256_file(self.path),
        }
        if self.kind == "changes":
            return {**entry, "edits": table.num_rows, "pairs": _frequent(table)}
        size = pc.sum(pc.binary_length(table.column("text"))).as_py()  # pyright: ignore
        return {**entry, "documents": table.num_rows, "bytes": size}


def plan(
    folder: pathlib.Path,
    kind: str,
    sources: Sequence[Source],
    part_bytes: int,
    weigh: Callable[[str], np.ndarray],
) -> list[Join]:
    """Cuts rows, in order, into parts of equal bytes, at most about `part_bytes` each.

    The cuts depend on the rows alone, not on which file holds them. `weigh` returns the `weights`
    of a source; only those in which a cut falls are asked for.
    """
    sources = [source for source in sources if source.rows]
    if not sources:
        return []
    rows = np.cumsum([0, *(s.rows for s in sources)])
    totals = np.cumsum([0, *(s.bytes + ROW_BYTES * s.rows for s in sources)])
    number = -(-int(totals[-1]) // part_bytes)
    bounds = [0]
    for part in range(1, number):
        target = int(totals[-1]) * part // number
        # The first row at or behind the target: in the last file that begins before it.
        file = int(np.searchsorted(totals, target)) - 1
        sizes = weigh(sources[file].name)
        row = np.searchsorted(np.cumsum(sizes) - sizes, target - totals[file])
        bounds.append(int(rows[file] + row))
    bounds = sorted({*bounds, int(rows[-1])})
    joins = []
    for index, (low, high) in enumerate(itertools.pairwise(bounds)):
        files = range(
            int(np.searchsorted(rows, low, "right")) - 1, int(np.searchsorted(rows, high))
        )
        slices = tuple(
            (
                sources[file].name,
                max(0, low - int(rows[file])),
                min(sources[file].rows, high - int(rows[file])),
            )
            for file in files
        )
        joins.append(Join(folder, kind, index, len(bounds) - 1, slices))
    return joins


def weights(path: pathlib.Path) -> np.ndarray:
    """Returns what each row of a unit's file counts when parts are cut, int64."""
    table = read_table(path)
    total = np.full(table.num_rows, ROW_BYTES, np.int64)
    for name in ("text",) if "text" in table.column_names else ("before", "after"):
        total += pc.binary_length(table.column(name)).to_numpy()  # pyright: ignore
    return total


def _frequent(changes: pa.Table) -> list[list[Any]]:
    """Returns [step, kind, before, after, count] of short edits, the most frequent ones first."""
    keys = ["step", "kind", "before", "after"]
    lengths = pc.add(  # pyright: ignore
        pc.utf8_length(changes.column("before")),  # pyright: ignore
        pc.utf8_length(changes.column("after")),  # pyright: ignore
    )
    short = changes.filter(pc.less_equal(lengths, _PAIR_CHARACTERS))  # pyright: ignore
    counted = short.group_by(keys).aggregate([([], "count_all")])
    order = [("count_all", "descending"), *((key, "ascending") for key in keys)]
    rows = counted.sort_by(order).slice(0, _PAIRS).to_pydict()
    return [list(row) for row in zip(*(rows[k] for k in [*keys, "count_all"]), strict=True)]


def most_frequent(joined: Sequence[dict[str, Any]], number: int) -> dict[str, dict[str, list[Any]]]:
    """Returns {step: {kind: [[before, after, count], …]}} of the parts of "changes"."""
    totals: collections.Counter[tuple[str, ...]] = collections.Counter()
    for entry in joined:
        for *pair, count in entry["pairs"]:
            totals[tuple(pair)] += count
    found: dict[str, dict[str, list[Any]]] = {}
    for (step, kind, before, after), count in sorted(totals.items(), key=lambda i: (-i[1], i[0])):
        mine = found.setdefault(step, {}).setdefault(kind, [])
        if len(mine) < number:
            mine.append([before, after, count])
    return found
