"""Harmful content by lexicon with context: a label first, a drop by policy."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Sequence
from typing import ClassVar, Literal

import numpy as np

from twjax.corpus import codepoints
from twjax.corpus.codepoints import View
from twjax.corpus.document import Document, Rejection
from twjax.corpus.quality import phrases
from twjax.corpus.step import Outcome, Step

CATEGORIES = ("sexual", "violent", "gambling", "scam")
_TABLE = "harm.tsv"
_CAP = 3
_SPAN = 200
# A report of a crime quotes about as many of its words as it has words of its own.
_CONTEXT = 2.0


@dataclasses.dataclass(frozen=True, kw_only=True)
class Harm(Step):
    """Labels documents dense with a category's phrases, and drops those of the categories `drop`.

    A category's score is the sum of its phrases' weights in `tables/harm.tsv` (or the file
    `table`), each phrase counted three times at most, less twice the weights of phrases of
    statutes, courts, medicine, news and prevention, to 200 tokens or to the document if that is
    shorter. It is labelled from `threshold` on where at least `different` phrases occur.
    `meta["harm"]` lists the categories as "gambling=12.5", the highest first, separated by "; ";
    documents without any have no such key. The reason of a rejection is "harmful: " and the
    highest category, its value the score and the phrases.
    """

    name: ClassVar[str] = "harm"

    policy: Literal["label", "drop"] = "label"
    drop: tuple[str, ...] = CATEGORIES
    threshold: float = 5.0
    different: int = 3
    table: str = ""

    def __post_init__(self) -> None:
        wrong = [category for category in self.drop if category not in CATEGORIES]
        if wrong:
            known = ", ".join(CATEGORIES)
            raise ValueError(f"Harm.drop: no category {wrong[0]!r}; there are {known}.")
        if self.threshold <= 0 or self.different < 1:
            raise ValueError(
                f"Harm.threshold ({self.threshold}) and Harm.different ({self.different}) must be "
                "positive."
            )

    def versions(self) -> dict[str, str]:
        return {"harm": phrases.sha256(_TABLE, self.table)}

    def apply(self, batch: Sequence[Document]) -> Outcome:
        known = phrases.load(_TABLE, self.table)
        outcome = Outcome([])
        for start, texts in codepoints.groups(batch):
            totals, scores = self._score(known, View(texts))
            for offset, found in enumerate(scores):
                document = batch[start + offset]
                self._decide(known, document, totals[offset], found, outcome)
        return outcome

    def _score(
        self, known: phrases.Phrases, view: View
    ) -> tuple[np.ndarray, list[dict[str, float]]]:
        totals = known.totals(known.find(view), len(view), _CAP)
        weighed = totals * known.weights
        spans = np.maximum(np.diff(view.tokens.starts) / _SPAN, 1)
        context = weighed[:, known.of("context")].sum(1)
        scores: list[dict[str, float]] = [{} for _ in range(len(view))]
        for category in CATEGORIES:
            of = known.of(category)
            score = (weighed[:, of].sum(1) - _CONTEXT * context) / spans
            enough = np.count_nonzero(totals[:, of], axis=1) >= self.different
            for index in np.flatnonzero((score >= self.threshold) & enough):
                scores[index][category] = float(score[index])
        return totals, scores

    def _decide(
        self,
        known: phrases.Phrases,
        document: Document,
        totals: np.ndarray,
        scores: dict[str, float],
        outcome: Outcome,
    ) -> None:
        if not scores:
            outcome.kept.append(document)
            return
        ranked = sorted(scores, key=lambda category: (-scores[category], category))
        label = "; ".join(f"{category}={scores[category]:.3g}" for category in ranked)
        labelled = dataclasses.replace(document, meta={**document.meta, "harm": label})
        bad = next((category for category in ranked if category in self.drop), None)
        if self.policy == "drop" and bad is not None:
            seen = np.flatnonzero((totals > 0) & known.of(bad))
            words = "、".join(known.phrases[i] for i in seen)
            reason, value = f"harmful: {bad}", f"{scores[bad]:.3g} ({words})"
            outcome.rejected.append(Rejection(labelled, reason, value))
        else:
            outcome.kept.append(labelled)
            outcome.changed.update(Counter(f"labelled {category}" for category in ranked))
