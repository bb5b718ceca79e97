"""Whether training text holds what the run is judged by."""

from __future__ import annotations

import dataclasses
from typing import Literal

from twjax.config.checks import require, require_at_least


@dataclasses.dataclass(frozen=True, kw_only=True)
class Screening:
    """Training text is looked through for evaluation items.

    `items` is {name of a set: file or folder}: JSON, JSON lines, CSV, TSV, Parquet, or text with an
    item a line. Text holds an item if it has `share` of its n-grams of `ngram` letters, in letters
    that punctuation, width, white space and script don't change. `policy` "report" makes `twjax
    tasks cache` say what the cached rows hold; "remove" leaves the examples (documents) of training
    splits that hold an item out of the rows, and lists them beside.
    """

    items: dict[str, str]
    policy: Literal["report", "remove"] = "report"
    share: float = 0.5
    ngram: int = 13

    def __post_init__(self) -> None:
        require(len(self.items) > 0, "Screening.items is empty; give {name of a set: file}.")
        require(0 < self.share <= 1, f"Screening.share ({self.share}) must be in (0, 1].")
        require_at_least(self, 2, "ngram")
