"""Documents that are too short to learn from."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import ClassVar

from twjax.corpus.document import Document, Rejection
from twjax.corpus.step import Outcome, Step


@dataclasses.dataclass(frozen=True, kw_only=True)
class MinLength(Step):
    """Rejects documents of fewer than `characters` characters, white space not counted."""

    name: ClassVar[str] = "min_length"

    characters: int

    def __post_init__(self) -> None:
        if self.characters < 1:
            raise ValueError(f"MinLength.characters ({self.characters}) must be at least 1.")

    def apply(self, batch: Sequence[Document]) -> Outcome:
        outcome = Outcome([])
        for document in batch:
            length = sum(map(len, document.text.split()))
            if length >= self.characters:
                outcome.kept.append(document)
            else:
                outcome.rejected.append(Rejection(document, "too short", str(length)))
        return outcome
