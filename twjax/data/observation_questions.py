"""What can be asked of an observation, with the answers that are right.

A question is only asked where the record has the answer; both contexts that wordings can show (the
record as it is, and the first document wording) hold it.
"""

from __future__ import annotations

import datetime
from collections.abc import Iterator, Mapping
from typing import NamedTuple

from twjax.data.chance import Chance
from twjax.data.observation_terms import term
from twjax.data.observation_text import (
    clock,
    count_labels,
    date,
    length,
    plain,
    roc_date,
)
from twjax.data.observations import Observation

# Everything that `questions` asks, and what wordings of a question may name besides.
KINDS = (
    "date",
    "roc_date",
    "clock",
    "duration",
    "place",
    "platform",
    "sensor",
    "calibration",
    "resolution",
    "classes",
    "count",
    "total",
    "begin",
    "source",
    "licence",
)
NAMES = ("kind", "counter", "class", "class_counter")


class Question(NamedTuple):
    """What is asked: its kind, what its wording may name, the right answers, best first."""

    kind: str
    names: dict[str, str]
    answers: tuple[str, ...]


def questions(observation: Observation, have: Mapping[str, str]) -> Iterator[Question]:
    """Yields what can be asked, in the order of `KINDS`; `have` are the observation's fields."""
    names = {"kind": have["kind"], "counter": have["counter"], "class": "", "class_counter": ""}

    def ask(kind: str, *answers: str) -> Question:
        return Question(kind, names, tuple(dict.fromkeys(answers)))

    if observation.start:
        start = observation.start
        yield ask("date", f"西元{date(start)}", date(start))
        yield ask("roc_date", roc_date(start))
        local = start.astimezone(datetime.timezone(datetime.timedelta(hours=8)))
        yield ask("clock", clock(start), f"{local.hour}時{local.minute}分{local.second}秒")
        if observation.end and observation.end > start:
            seconds = (observation.end - start).total_seconds()
            yield ask("duration", length(seconds), f"{plain(seconds)}秒")
    if observation.place:
        shown = have["place"].partition("（")[0]
        yield ask("place", shown, shown.removesuffix("附近"))
    for kind in ("platform", "sensor", "calibration", "resolution"):
        if kind in have:
            yield ask(kind, have[kind])
    if observation.labels:
        counts = count_labels(observation)
        yield ask("classes", have["classes"])
        (word, counter), count = list(counts.items())[
            Chance(observation.id, 0, "class").below(len(counts))
        ]
        asked = names | {"class": word, "class_counter": counter}
        yield Question("count", asked, (f"{count}{counter}", str(count)))
        yield ask("total", f"{have['total']}筆", have["total"])
        first = observation.labels[0]
        if first.begin is not None and first.end is not None:
            asked = names | {"class": term(first.name).word}
            yield Question("begin", asked, (f"第{plain(first.begin)}秒", f"{plain(first.begin)}秒"))
    for kind in ("source", "licence"):
        if kind in have:
            yield ask(kind, have[kind])
