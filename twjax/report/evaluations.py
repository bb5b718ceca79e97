"""Which measure a record of an evaluation is one of, of the run's own log and of what is beside it.

Whoever reads evaluations reads them through here: the trainer's own records hold, what `twjax eval`
measured fills in the steps that they lack, and what was measured on other items is another measure.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any, TypeVar

from twjax.evaluation.records import SIZES, Key, key_of

T = TypeVar("T")
_BESIDE = re.compile(r" \(twjax eval(, [\d,]+ \w+)?\)$")
# What tells series of a task apart, and what goes without saying.
_FORMS: dict[str, tuple[Any, ...]] = {
    "shots": (0,),
    "style": ("", "letters"),
    "wording": ("", "zh-TW"),
}


class Series(Key):
    """A measure of a run, which a `Key` names.

    `size` is None where it is measured as the run's own log does, or without one as the first
    record beside the run: only a measure on other items has one.
    """

    __slots__ = ()


class Told:
    """Tells the series of records as they come: those of the run's own log before those beside it.

    A record that doesn't say how much it was measured on is taken for one as the others are.
    """

    def __init__(self) -> None:
        self._own: dict[Series, int | None] = {}
        self._beside: dict[Series, int] = {}

    def own(self, key: Key) -> Series:
        """Returns the series of a record of the run's own log; the newest says its size."""
        series = Series(*key)._replace(size=None)
        self._own[series] = self._own.get(series) if key.size is None else key.size
        return series

    def beside(self, key: Key) -> Series:
        """Returns the series of a record beside the run."""
        series = Series(*key)._replace(size=None)
        known = self._own.get(series)
        if known is None and key.size is not None:
            known = self._beside.setdefault(series, key.size)
        return series if key.size in (known, None) else series._replace(size=key.size)

    def named(
        self, own: Iterable[dict[str, Any]], beside: Iterable[dict[str, Any]]
    ) -> list[tuple[str, dict[str, Any]]]:
        """Returns new records of both logs, each with a name of its series that never changes.

        Those of training steps have none.
        """
        return [
            *(("" if _is_step(r) else lasting_name(self.own(key_of(r))), r) for r in own),
            *((lasting_name(self.beside(key_of(r))), r) for r in beside),
        ]


def _is_step(record: Mapping[str, Any]) -> bool:
    return record.get("kind") == "train"


def merged(
    own: Mapping[Key, Mapping[int, T]], beside: Mapping[Key, Mapping[int, T]]
) -> dict[Series, dict[int, T]]:
    """Returns {series: {step: what was measured}}, steps rising, of those of both logs by `Key`."""
    told = Told()
    found: dict[Series, dict[int, T]] = {}
    # The newest own record says the size, whichever came first.
    for key, points in sorted(own.items(), key=lambda item: max(item[1], default=-1)):
        found.setdefault(told.own(key), {}).update(points)
    for key, points in beside.items():
        if points:
            mine = found.setdefault(told.beside(key), {})
            mine.update({step: value for step, value in points.items() if step not in mine})
    return {series: dict(sorted(points.items())) for series, points in found.items() if points}


def size_of(record: Mapping[str, Any]) -> int | None:
    """Returns how much a record was measured on, as it says itself."""
    return key_of(record).size


def names(series: Iterable[Series]) -> dict[Series, str]:
    """Returns what to call each series: its task, and what tells it from others of the task."""
    every = list(dict.fromkeys(series))
    found = {}
    for one in every:
        alike = [other for other in every if (other.kind, other.task) == (one.kind, one.task)]
        shown = [field for field in _FORMS if len({getattr(s, field) for s in alike}) > 1]
        sizes = {s.size for s in alike if s._replace(size=one.size) == one} - {None}
        found[one] = _name(one, shown, sized=len(sizes) > 1)
    return found


def lasting_name(series: Series) -> str:
    """Returns a name that doesn't depend on what else was measured."""
    unusual = [field for field, usual in _FORMS.items() if getattr(series, field) not in usual]
    return _name(series, unusual, sized=True)


def _name(series: Series, shown: Iterable[str], *, sized: bool) -> str:
    said = {"shots": f"{series.shots}-shot", "style": series.style, "wording": series.wording}
    name = ", ".join([series.task, *filter(None, (said[field] for field in shown))])
    if series.size is None:
        return name
    size = f", {series.size:,} {SIZES[series.kind]}" if sized else ""
    return f"{name} (twjax eval{size})"


def is_beside(name: str) -> bool:
    """Whether a name is that of a measure on other items than the run's own."""
    return _BESIDE.search(name) is not None
