"""Ids that several documents have."""

from __future__ import annotations

import dataclasses
import pathlib
from collections.abc import Iterable, Mapping, Sequence
from typing import ClassVar, Literal

import numpy as np

from twjax.corpus.document import Document, Rejection
from twjax.corpus.duplicates import spill
from twjax.corpus.duplicates.dedup import hashed
from twjax.corpus.step import GlobalStep, Outcome, Records


@dataclasses.dataclass(frozen=True, kw_only=True)
class UniqueIds(GlobalStep):
    """Gives each document an id of its own: the first one of several keeps theirs.

    The others are renamed to "<id>~<place>", the place being that in the order of all documents
    (`policy` "rename", `meta["id"]` keeps the old id), or rejected with the reason "duplicate id"
    ("drop"). Edits, rejections and excerpts name documents by their ids, so this comes first; steps
    that make several documents of one (`SplitDocuments`) number them.
    """

    name: ClassVar[str] = "unique_ids"

    policy: Literal["rename", "drop"] = "rename"

    def __post_init__(self) -> None:
        if self.policy not in ("rename", "drop"):
            raise ValueError(f"UniqueIds.policy ({self.policy!r}) must be 'rename' or 'drop'.")

    def map(self, round: int, batch: Sequence[Document], request: np.ndarray | None) -> np.ndarray:
        """Returns the halves of the hash of each document's id."""
        return hashed([document.id.encode() for document in batch])

    def reduce(self, round: int, records: Records, scratch: pathlib.Path) -> Iterable[np.ndarray]:
        """Yields the documents whose ids are taken: their place, and whose id it is."""
        budget = records.budget_bytes // 3
        with (
            spill.Sorter(scratch, "ids", 3, budget) as ids,
            spill.Sorter(scratch, "taken", 3, budget) as taken,
        ):
            for start, unit in spill.numbered(records):
                ids.add(unit["high"], unit["low"], unit["document"] + start)
            for rows, first in spill.leaders(ids.blocks(), 2):
                later = rows[:, 2] != first[:, 2]
                taken.add(rows[later, 2], rows[later, 2], first[later, 2])
            fields = [("place", "<i8"), ("keeper", "<i8")]
            yield from spill.requests(taken.blocks(), records, fields)

    def decide(
        self, batch: Sequence[Document], request: np.ndarray, names: Mapping[int, str]
    ) -> Outcome:
        places = dict(zip(request["document"].tolist(), request["place"].tolist(), strict=True))
        outcome = Outcome([])
        for index, document in enumerate(batch):
            place = places.get(index)
            if place is None:
                outcome.kept.append(document)
            elif self.policy == "drop":
                outcome.rejected.append(Rejection(document, "duplicate id", document.id))
            else:
                meta = {**document.meta, "id": document.id}
                renamed = dataclasses.replace(document, id=f"{document.id}~{place}", meta=meta)
                outcome.kept.append(renamed)
                outcome.changed["renamed"] += 1
        return outcome
