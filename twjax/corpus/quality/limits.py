"""Steps that measure documents and hold each figure against a limit.

A limit's name begins with "min_" or "max_". Where a step leaves one unset, the preset of the
document's source sets it; a limit of infinity (or minus infinity) switches its rule off.
"""

from __future__ import annotations

import abc
import dataclasses
import fnmatch
import functools
import math
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from typing import ClassVar, Literal

import numpy as np

from twjax.corpus import codepoints
from twjax.corpus.codepoints import View
from twjax.corpus.document import Document, Rejection
from twjax.corpus.step import Outcome, Step

Measured = dict[str, np.ndarray]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Limits(Step):
    """Base of steps with limits: subclasses name their rules, presets, and how to measure.

    `preset` sets the limits that aren't given; `by_source` ("moj*=law", "*sayit*=speech") chooses
    another preset for documents whose source matches, the first match counting. `policy` "drop"
    rejects a document for the first rule that it breaks, with the value seen. "label" keeps all
    and writes `meta[label]`: "ok", or the rules broken as "reason: value", separated by "; ".
    """

    rules: ClassVar[Mapping[str, str]]  # The reason of rejection by limit, in the order of trial.
    presets: ClassVar[Mapping[str, Mapping[str, float]]]
    label: ClassVar[str]

    preset: str = "web"
    by_source: tuple[str, ...] = ()
    policy: Literal["drop", "label"] = "drop"

    def __post_init__(self) -> None:
        for name in (self.preset, *(preset for _, preset in self._sources())):
            if name not in self.presets:
                known = ", ".join(self.presets)
                raise ValueError(f"{type(self).__name__}: no preset {name!r}; it has {known}.")
        if self.policy not in ("drop", "label"):
            raise ValueError(f"{type(self).__name__}.policy ({self.policy}) is drop or label.")

    def versions(self) -> dict[str, str]:
        return {"unicode": unicodedata.unidata_version}

    def limits(self, preset: str) -> dict[str, float]:
        """Returns the limit of each rule: what the step says, else what the preset says."""
        given = {rule: getattr(self, rule) for rule in self.rules}
        return {
            rule: float(self.presets[preset][rule] if value is None else value)
            for rule, value in given.items()
        }

    def preset_of(self, source: str) -> str:
        """Returns the preset that a document of this source is held against."""
        for pattern, preset in self._sources():
            if fnmatch.fnmatchcase(source, pattern):
                return preset
        return self.preset

    def _sources(self) -> list[tuple[str, str]]:
        pairs = []
        for entry in self.by_source:
            pattern, _, preset = entry.rpartition("=")
            if not pattern:
                raise ValueError(
                    f"{type(self).__name__}.by_source ({entry!r}) must read pattern=preset."
                )
            pairs.append((pattern, preset))
        return pairs

    @abc.abstractmethod
    def measure(
        self, view: View, batch: Sequence[Document], wanted: np.ndarray
    ) -> Iterator[Measured]:
        """Yields float64 [documents] by rule, cheap rules first; NaN passes.

        Figures are only needed where `wanted` is set; after each yield it is cleared for the
        documents that have failed.
        """

    def apply(self, batch: Sequence[Document]) -> Outcome:
        outcome = Outcome([])
        for start, texts in codepoints.groups(batch):
            self._judge(View(texts), batch[start : start + len(texts)], outcome)
        return outcome

    def _judge(self, view: View, batch: Sequence[Document], outcome: Outcome) -> None:
        table = functools.cache(self.limits)
        choose = functools.cache(self.preset_of)
        limits = [table(choose(document.source)) for document in batch]
        broken: list[list[str]] = [[] for _ in batch]
        values: list[str] = [""] * len(batch)
        wanted = np.ones(len(batch), bool)
        for measured in self.measure(view, batch, wanted):
            for rule, figures in measured.items():
                limit = np.array([of[rule] for of in limits])
                failed = figures < limit if rule.startswith("min_") else figures > limit
                for index in np.flatnonzero(failed & wanted):
                    broken[index].append(rule)
                    values[index] = f"{figures[index]:.4g}"
                    if self.policy == "drop":
                        wanted[index] = False
                    else:
                        broken[index][-1] = f"{self.rules[rule]}: {values[index]}"
        for document, rules, value in zip(batch, broken, values, strict=True):
            if self.policy == "label":
                meta = {**document.meta, self.label: "; ".join(rules) or "ok"}
                outcome.kept.append(dataclasses.replace(document, meta=meta))
                outcome.changed.update(rule.partition(":")[0] for rule in rules)
            elif rules:
                outcome.rejected.append(Rejection(document, self.rules[rules[0]], value))
            else:
                outcome.kept.append(document)


OFF = {"min_": -math.inf, "max_": math.inf}


def complete(rules: Mapping[str, str], given: Mapping[str, float]) -> dict[str, float]:
    """Returns limits for all rules: those not given are off."""
    return {rule: given.get(rule, OFF[rule[:4]]) for rule in rules}
