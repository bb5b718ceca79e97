"""Data cards for a finished corpus folder, with excerpts of what was left out."""

from __future__ import annotations

import heapq
import pathlib
from collections.abc import Mapping
from typing import Any

import pyarrow.parquet as pq
import xxhash

from twjax import storage
from twjax.corpus import card, document

NAMES = {"en": "README.md", "zh-TW": "README.zh-TW.md"}
_EACH = 3
# A card shows a line of each; whole texts needn't be held.
_CHARACTERS = 200


def write_cards(folder: pathlib.Path, manifest: Mapping[str, Any]) -> None:
    """Writes the cards of a corpus in English and in Traditional Chinese into its folder."""
    excerpts = draw(folder, manifest)
    for language, name in NAMES.items():
        with document.disk_errors(folder / name), storage.atomic_writer(folder / name) as file:
            file.write(card.card(manifest, excerpts, language))


def draw(folder: pathlib.Path, manifest: Mapping[str, Any]) -> list[card.Excerpt]:
    """Returns up to three rejected documents a reason, drawn by a hash of their ids."""
    drawn: dict[str, list[tuple[int, str, int, int]]] = {}
    for part, entry in enumerate(manifest["rejected"]):
        with pq.ParquetFile(folder / entry["file"]) as file:
            table = file.read(columns=["id", "reason"])
        ids, reasons = table.column("id").to_pylist(), table.column("reason").to_pylist()
        for row, (id, reason) in enumerate(zip(ids, reasons, strict=True)):
            mine = drawn.setdefault(reason, [])
            item = (-xxhash.xxh3_64_intdigest(id.encode()), id, part, row)
            (heapq.heappush if len(mine) < _EACH else heapq.heappushpop)(mine, item)
    chosen = {
        (part, row): (reason, -key)
        for reason, items in drawn.items()
        for key, _, part, row in items
    }
    found = []
    for part, entry in enumerate(manifest["rejected"]):
        rows = sorted(row for each, row in chosen if each == part)
        with pq.ParquetFile(folder / entry["file"]) as file:
            start = 0
            for group in range(file.num_row_groups):
                stop = start + file.metadata.row_group(group).num_rows
                mine = [row - start for row in rows if start <= row < stop]
                if mine:
                    columns = ["reason", "id", "value", "text"]
                    table = file.read_row_group(group, columns=columns)
                    for row in mine:
                        record = table.slice(row, 1).to_pylist()[0]
                        record["text"] = record["text"][:_CHARACTERS]
                        excerpt = card.Excerpt(**record)
                        found.append((chosen[part, start + row], excerpt))
                start = stop
    return [excerpt for _, excerpt in sorted(found, key=lambda item: (*item[0], item[1].id))]
