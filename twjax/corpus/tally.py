"""Adds up what units report, for the manifest.

`stats` is [unit][stage] everywhere: the dictionaries that `units.run` returns.
"""

from __future__ import annotations

import collections
from collections.abc import Sequence
from typing import Any

Stats = Sequence[Sequence[dict[str, Any]]]


def by_step(stats: Stats) -> list[dict[str, Any]]:
    """Returns each step's documents in and out, rejections by reason and changes by kind."""
    totals: list[dict[str, Any]] = []
    for unit in stats:
        # A global step's counts come first in the stage behind it: joined, they are in order.
        row = [step for stage in unit for step in stage["steps"]]
        while len(totals) < len(row):
            totals.append({"in": 0, "out": 0, "rejected": {}, "changed": {}})
        for total, counts in zip(totals, row, strict=True):
            for name in ("in", "out"):
                total[name] += counts[name]
            for name in ("rejected", "changed"):
                added = collections.Counter(total[name]) + collections.Counter(counts[name])
                total[name] = dict(sorted(added.items()))
    return totals


def overall(stats: Stats) -> dict[str, Any]:
    """Returns records read, documents and bytes before and after, and all rejections."""
    reads = [unit[0]["read"] for unit in stats]
    rejected: collections.Counter[str] = collections.Counter()
    for unit in stats:
        rejected.update(unit[0]["read"]["rejected"])
        for stage in unit:
            for step in stage["steps"]:
                rejected.update(step["rejected"])
    return {
        "records": sum(read["records"] for read in reads),
        "documents_in": sum(read["documents"] for read in reads),
        "bytes_in": sum(read["bytes"] for read in reads),
        "documents": sum(len(unit[-1]["sizes"]) for unit in stats),
        "bytes": sum(sum(unit[-1]["sizes"]) for unit in stats),
        "rejected": dict(sorted(rejected.items())),
    }


def contents(stats: Stats) -> dict[str, Any]:
    """Returns documents and bytes by licence, and documents by language, of what is kept."""
    licenses: dict[str, dict[str, int]] = {}
    languages: collections.Counter[str] = collections.Counter()
    for unit in stats:
        languages.update(unit[-1]["languages"])
        for name, counts in unit[-1]["licenses"].items():
            entry = licenses.setdefault(name, {"documents": 0, "bytes": 0})
            for key in entry:
                entry[key] += counts[key]
    return {
        "licenses": dict(sorted(licenses.items())),
        "languages": dict(sorted(languages.items())),
    }
