"""What a model card says of evaluations: each number with its step, and what was forgotten."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from twjax.report.card_facts import Facts, Point, Score
from twjax.report.card_words import Words
from twjax.report.markdown import table
from twjax.report.measures import MEASURES
from twjax.report.scale import change_percent, fixed, percent

# How a value is written.
Form = Callable[[float], str]


def evaluation(facts: Facts, words: Words) -> list[str]:
    """Returns the tables of all evaluations, and what was not measured."""
    parts = []
    if facts.scores:
        changes = {change.task: change for change in facts.changes}
        order = [*changes, *(s.task for s in facts.scores if s.task not in changes)]
        scores = sorted(facts.scores, key=lambda score: order.index(score.task))
        heads, cells = _columns(scores, [fixed] * len(scores), facts.step, words)
        rows = [
            (score.task, *cell, _change(changes[score.task].relative, words))
            if score.task in changes
            else (score.task, *cell, "")
            for score, cell in zip(scores, cells, strict=True)
        ]
        head = (words.domain, *heads, words.change)
        parts += [words.evaluation_note, table(head, rows)]
    if facts.measured:
        scores = [score for _, score in facts.measured]
        forms = [measure.axis.form for measure, _ in facts.measured]
        heads, cells = _columns(scores, forms, facts.step, words)
        rows = [
            (words.measures.get(measure.title, measure.title), score.task, *cell)
            for (measure, score), cell in zip(facts.measured, cells, strict=True)
        ]
        parts.append(table((words.measure, "", *heads), rows))
    if facts.average and parts:
        parts.insert(0, words.average_note)
    return [*parts, *_not_measured(facts, words)]


def _columns(
    scores: Sequence[Score], forms: Sequence[Form], exported: int, words: Words
) -> tuple[list[str], list[tuple[str, str]]]:
    """Returns the heads of the first and last values, and these.

    A head says the step; where there are several, each value does. What wasn't measured at step 0
    isn't called before, nor what wasn't at the exported step after.
    """
    heads, columns = [], []
    for name, other, step, points in (
        (words.before, words.first, 0, [score.first for score in scores]),
        (words.after, words.last, exported, [score.last for score in scores]),
    ):
        steps = {point[0] for point in points if point is not None}
        head = name if steps <= {step} else other
        heads.append(words.dated.format(head, words.at(steps)) if len(steps) == 1 else head)
        columns.append(
            [
                _value(point, form, words, dated=len(steps) > 1)
                for point, form in zip(points, forms, strict=True)
            ]
        )
    return heads, list(zip(*columns, strict=True))


def _value(point: Point | None, form: Form, words: Words, *, dated: bool) -> str:
    if point is None:
        return ""
    step, value = point
    text = form(value) if math.isfinite(value) else words.not_a_number
    return words.dated.format(text, words.at([step])) if dated else text


def _change(relative: float, words: Words) -> str:
    return change_percent(relative) if math.isfinite(relative) else words.not_a_number


def _not_measured(facts: Facts, words: Words) -> list[str]:
    seen = {measure.title for measure, _ in facts.measured}
    missing = [words.measures.get(m.title, m.title) for m in MEASURES if m.title not in seen]
    if not facts.scores:
        missing.insert(0, "bits per byte")
    return [words.none_measured.format(words.listed(missing))] if missing else []


def forgotten(facts: Facts, words: Words) -> list[str]:
    """Returns what got worse; that nothing did only where that is known of every domain."""
    if not facts.changes:
        return [words.unknown]
    worse = [f"{c.task} {change_percent(c.relative)}" for c in facts.changes if c.forgotten][::-1]
    broken = [c.task for c in facts.changes if not c.known]
    late = {c.task: c.first for c in facts.changes if c.first}
    early = [c.last for c in facts.changes if c.last < facts.step]
    parts = [words.forgotten_some.format(words.listed(worse))] if worse else []
    if broken:
        parts.append(words.broken.format(words.listed(broken)))
    if facts.untold:
        parts.append(words.untold.format(words.listed(facts.untold)))
    if facts.run.missing is not None and late:
        name, step = facts.run.missing
        parts.append(words.branched.format(name=name, step=f"{step:,}"))
    if late:
        at, names = words.at(late.values()), words.listed(late)
        parts.append(words.since.format(at=at, names=names))
    elif facts.base is not None and facts.base.through:
        parts.append(words.since_run.format(facts.base.through[0]))
    if not parts:
        parts.append(words.forgotten_none)
    if facts.used:
        used = [f"{task} {percent(part)}" for task, part in facts.used.items()]
        parts.append(words.used.format(words.listed(used)))
    if early:
        parts.append(words.as_of.format(words.at(early), words.at([facts.step])))
    return parts
