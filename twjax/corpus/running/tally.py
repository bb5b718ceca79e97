"""Adds up what units report, for the manifest.

Adding is commutative and associative, so that any runner may add in any order and in parts.
"""

from __future__ import annotations

import collections
import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from twjax.corpus.running.units import Stage

_COUNTS = ("rejected", "changed", "edits")


@dataclasses.dataclass
class Tally:
    """Sums over units; all values are plain, for JSON.

    `steps` are by place in the pipeline, `inputs` by place among the inputs (records read),
    `groups` the documents and bytes kept by licence and by source.
    """

    steps: dict[int, dict[str, Any]] = dataclasses.field(default_factory=dict)
    read: dict[str, Any] = dataclasses.field(default_factory=dict)
    inputs: collections.Counter[int] = dataclasses.field(default_factory=collections.Counter)
    groups: dict[str, dict[str, list[int]]] = dataclasses.field(default_factory=dict)
    languages: collections.Counter[str] = dataclasses.field(default_factory=collections.Counter)
    regions: collections.Counter[str] = dataclasses.field(default_factory=collections.Counter)
    kept: list[int] = dataclasses.field(default_factory=lambda: [0, 0])
    seconds: collections.Counter[str] = dataclasses.field(default_factory=collections.Counter)

    def add(self, unit: str, stage: Stage, stats: Mapping[str, Any]) -> None:
        """Adds what one unit's stage reports."""
        if "read" in stats:
            self.inputs[int(unit.split("-")[0])] += stats["read"]["records"]
            _add(self.read, stats["read"])
        for place, counts in enumerate(stats["steps"], start=stage.first):
            _add(self.steps.setdefault(place, {}), counts)
        self.add_seconds(stage, stats)
        if stage.closing is None:
            self.languages.update(stats["languages"])
            self.regions.update(stats["regions"])
            _add(self.groups, {name: stats[name] for name in ("licenses", "sources")})
            self.kept = [a + b for a, b in zip(self.kept, stats["kept"], strict=True)]

    def add_seconds(self, stage: Stage, stats: Mapping[str, Any]) -> None:
        """Adds the processor time of anything done in a stage beside its steps."""
        for name, seconds in stats["cpu_seconds"].items():
            if name in ("read", "write"):
                self.seconds[name] += seconds
            elif stage.closing is not None:
                # The next stage's opening step, whose counts come with that stage.
                place = stage.first + len(stage.labels)
                _add(self.steps.setdefault(place, {}), {"cpu_seconds": seconds})

    def merge(self, other: Tally) -> None:
        """Adds the sums over other units."""
        for place, counts in other.steps.items():
            _add(self.steps.setdefault(place, {}), counts)
        _add(self.read, other.read)
        _add(self.groups, other.groups)
        self.inputs.update(other.inputs)
        self.languages.update(other.languages)
        self.regions.update(other.regions)
        self.seconds.update(other.seconds)
        self.kept = [a + b for a, b in zip(self.kept, other.kept, strict=True)]

    def of_step(self, place: int) -> dict[str, Any]:
        """Returns a step's documents in and out, and its counts by reason and kind, sorted."""
        counts = self.steps.get(place, {})
        sorts = {name: dict(sorted(counts.get(name, {}).items())) for name in _COUNTS}
        return {"in": counts.get("in", 0), "out": counts.get("out", 0), **sorts}

    def overall(self) -> dict[str, Any]:
        """Returns records read, documents and bytes before and after, and all rejections."""
        rejected: collections.Counter[str] = collections.Counter()
        for counts in (self.read, *self.steps.values()):
            rejected.update(counts.get("rejected", {}))
        return {
            "records": self.read.get("records", 0),
            "documents_in": self.read.get("documents", 0),
            "bytes_in": self.read.get("bytes", 0),
            "documents": self.kept[0],
            "bytes": self.kept[1],
            "rejected": dict(sorted(rejected.items())),
        }

    def contents(self) -> dict[str, Any]:
        """Returns what is kept: documents and bytes by licence, source, language and region."""
        groups = {
            name: {
                key: {"documents": documents, "bytes": size}
                for key, (documents, size) in sorted(self.groups.get(name, {}).items())
            }
            for name in ("licenses", "sources")
        }
        counts = {"languages": self.languages, "regions": self.regions}
        return {**groups, **{name: dict(sorted(of.items())) for name, of in counts.items()}}

    def cpu_seconds(self, labels: Sequence[str]) -> dict[str, float]:
        """Returns processor seconds of reading, of each step (all its rounds), and of writing."""
        steps = [self.steps.get(i, {}).get("cpu_seconds", 0.0) for i in range(len(labels))]
        seconds = (self.seconds["read"], *steps, self.seconds["write"])
        return dict(zip(("read", *labels, "write"), (round(s, 3) for s in seconds), strict=True))


def _add(total: dict[Any, Any], more: Mapping[Any, Any]) -> None:
    """Adds numbers, lists of numbers and dictionaries of these into `total`."""
    for key, value in more.items():
        if isinstance(value, Mapping):
            _add(total.setdefault(key, {}), value)
        elif isinstance(value, list):
            before = total.get(key, [0] * len(value))
            total[key] = [a + b for a, b in zip(before, value, strict=True)]
        else:
            total[key] = total.get(key, 0) + value
