"""Chain letters, adverts and search-engine bait, by the phrases that give them away."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from typing import ClassVar

import numpy as np

from twjax.corpus.codepoints import Class, View
from twjax.corpus.document import Document
from twjax.corpus.quality import phrases
from twjax.corpus.quality.limits import Limits, Measured, complete

_TABLE = "adverts.tsv"
# One phrase speaks at most this often, so that one word can't convict a document.
_CAP = 2
# A document of so many tokens may have one strong phrase (weight 3) and no more; a longer one
# must have them in proportion.
_SPAN = 500
_RULES = {"max_chain": "chain letter", "max_advert": "advert", "max_seo": "search-engine bait"}
# How much talk about such messages counts against the suspicion.
_CONTEXT = 1.0


@dataclasses.dataclass(frozen=True, kw_only=True)
class Adverts(Limits):
    """Rejects documents dense with the phrases of `tables/adverts.tsv`, or of the file `table`.

    A category's figure is the sum of its phrases' weights, each phrase counted twice at most,
    less the weights of "context" phrases (a report, a rule, a fact check), to 500 tokens or to the
    document if that is shorter. Emphasis in symbols (★, ➤, emoji) adds to it: two for a share of
    5% and more. With the policy "label", `meta["adverts"]`.
    """

    name: ClassVar[str] = "adverts"
    label: ClassVar[str] = "adverts"
    rules = _RULES
    presets = {  # noqa: RUF012
        name: complete(_RULES, limits)
        for name, limits in (
            ("web", {"max_chain": 2.9, "max_advert": 4.9, "max_seo": 5.9}),
            ("law", {"max_chain": 8, "max_advert": 12, "max_seo": 12}),
            ("speech", {"max_chain": 5, "max_advert": 8, "max_seo": 8}),
            ("qa", {"max_chain": 2.9, "max_advert": 4.9, "max_seo": 5.9}),
            ("manual", {"max_chain": 5, "max_advert": 8, "max_seo": 8}),
        )
    }

    table: str = ""
    max_chain: float | None = None
    max_advert: float | None = None
    max_seo: float | None = None

    def versions(self) -> dict[str, str]:
        return {**super().versions(), "adverts": phrases.sha256(_TABLE, self.table)}

    def measure(
        self, view: View, batch: Sequence[Document], wanted: np.ndarray
    ) -> Iterator[Measured]:
        known = phrases.load(_TABLE, self.table)
        hits = known.find(view)
        totals = known.totals(hits, len(view), _CAP) * known.weights
        symbols = view.counts[:, [Class.SYMBOL, Class.BROKEN]].sum(1)
        visible = view.counts.sum(1) - view.counts[:, [Class.SPACE, Class.NEWLINE]].sum(1)
        emphasis = np.where(symbols > 0.05 * visible, 2, 0)
        spans = np.maximum(np.diff(view.tokens.starts) / _SPAN, 1)
        context = totals[:, known.of("context")].sum(1)
        figures = {}
        for rule in _RULES:
            score = totals[:, known.of(rule.removeprefix("max_"))].sum(1)
            sure = score - _CONTEXT * context + np.where(score > 0, emphasis, 0)
            figures[rule] = np.maximum(sure, 0) / spans
        yield figures
