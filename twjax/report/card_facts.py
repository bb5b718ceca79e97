"""What a model card may say of a run: only what the run's own files have recorded."""

from __future__ import annotations

import dataclasses
import math
import pathlib
from collections.abc import Mapping
from typing import Any, TypeVar

from twjax.report import measures, mixing
from twjax.report.evaluations import is_beside
from twjax.report.origin import Base, Earlier, Lineage, Text, base_of, record_of
from twjax.report.provenance import Corpus, consumed, corpora_of
from twjax.report.read import RunLog
from twjax.report.summary import Change, compare
from twjax.report.trunk import whole_run

T = TypeVar("T")
# (step, value)
Point = tuple[int, float]


@dataclasses.dataclass(frozen=True)
class Score:
    """A task's first and last evaluation; `first` is None where there was but one.

    That one is the last, unless it is of step 0: then `last` is None.
    """

    task: str
    first: Point | None
    last: Point | None

    @classmethod
    def of(cls, task: str, points: Mapping[int, float], step: int) -> Score:
        """Reads evaluations up to a step, of which there is at least one."""
        start, end = min(points), max(points)
        last = (end, points[end])
        if start < end:
            return cls(task, (start, points[start]), last)
        return cls(task, last, None) if start == 0 < step else cls(task, None, last)


@dataclasses.dataclass(frozen=True)
class Facts:
    """All of a card's facts, at the exported step; `run` has no evaluation after it.

    `scores` are bits per byte, `measured` other evaluations. `changes` are those of domains that
    were evaluated before and after, `used` the part of its allowance that each protected domain
    has used.
    """

    name: str
    run: RunLog
    step: int
    average: bool
    base: Base | None
    texts: tuple[Text, ...]
    scores: list[Score]
    changes: list[Change]
    measured: list[tuple[measures.Measure, Score]]
    used: dict[str, float]

    @property
    def runs(self) -> tuple[Earlier, ...]:
        """What twjax had trained the base model on, the oldest first."""
        return self.base.runs if self.base else ()

    @property
    def languages(self) -> list[str]:
        """The hub's codes of the languages that were read, the most read first."""
        tags = [tag for text in self._all_texts for tag in text.languages]
        return list(dict.fromkeys(tag.split("-")[0].lower() for tag in tags))

    @property
    def datasets(self) -> list[str]:
        """The names of all texts that were read."""
        return sorted({text.name for text in self._all_texts})

    @property
    def _all_texts(self) -> list[Text]:
        return [*self.texts, *(text for run in reversed(self.runs) for text in run.texts)]

    @property
    def untold(self) -> list[str]:
        """The domains of which it can't be told what was forgotten: evaluated but once."""
        told = {change.task for change in self.changes}
        names = [score.task for score in self.scores]
        return [task for task in names if task not in told and not is_beside(task)]

    def lineage(self) -> dict[str, Any]:
        """Returns what an export records, for the cards of runs that begin with it."""
        tokens = self.run.tokens_at(self.step)
        own = Earlier(
            self.name,
            self.step,
            tokens if tokens > 0 and math.isfinite(tokens) else None,
            self.texts,
            self.base.through if self.base else (),
        )
        origin = self.base
        if origin is not None and origin.lineage is not None:
            origin = origin.lineage.origin
        return record_of(Lineage(origin, (*self.runs, own)))


def gather(
    run_dir: pathlib.Path, name: str, step: int, *, average: bool, base_model: str = ""
) -> Facts:
    """Reads a run's directory; `average` says that it isn't the last weights that are exported.

    `base_model` is the base model's id on the hub, if its user states it. Raises ValueError for a
    folder that is no run directory.
    """
    whole = whole_run(run_dir)
    run = dataclasses.replace(
        whole,
        bits_per_byte={
            task: kept
            for task, points in whole.bits_per_byte.items()
            if (kept := _until(points, step))
        },
        results={
            kind: {t: kept for t, p in of.items() if (kept := _until(p, step))}
            for kind, of in whole.results.items()
        },
    )
    used = mixing.budget_used(run)
    return Facts(
        name=name,
        run=run,
        step=step,
        average=average,
        base=base_of(run_dir, base_model),
        texts=tuple(texts_of(run, step)),
        scores=[Score.of(task, points, step) for task, points in run.bits_per_byte.items()],
        changes=compare([run]).changes(run),
        measured=[
            (measure, Score.of(task, measures.points(run, measure, task), step))
            for measure in measures.measures_of([run])
            for task in measures.tasks([run], measure)
        ],
        # An evaluation that gave no number has used nothing that could be told.
        used={t: p[max(p)] for t, p in used.items() if max(p) == max(run.bits_per_byte[t])},
    )


def texts_of(run: RunLog, step: int) -> list[Text]:
    """Returns what a run has read by the end of a step, the most read first."""
    corpora = {corpus.name: corpus for corpus in corpora_of(run)}
    read = {task: of for task, of in consumed(run, step).items() if of.rows}
    found = []
    for task, of in sorted(read.items(), key=lambda pair: -pair[1].rows):
        corpus = corpora.get(task) or Corpus(task, pathlib.Path())
        found.append(
            Text(
                name=task,
                rows=of.rows,
                share=of.share,
                tokens=of.tokens,
                documents=corpus.documents,
                bytes=corpus.bytes,
                licenses=corpus.licenses,
                sources=corpus.sources,
                languages=corpus.languages,
                contaminated=corpus.contaminated,
                same=corpus.read,
            )
        )
    return found


def _until(points: dict[int, T], step: int) -> dict[int, T]:
    return {at: value for at, value in points.items() if at <= step}
