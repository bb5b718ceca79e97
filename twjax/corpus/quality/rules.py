"""Documents that aren't running text: the rules of `measures`, with limits calibrated by domain."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from typing import ClassVar

import numpy as np

from twjax.corpus.codepoints import View
from twjax.corpus.document import Document
from twjax.corpus.quality import measures, phrases
from twjax.corpus.quality.limits import Limits, Measured, complete

# Where a published limit fits Chinese in `measures`' units, it is taken over, and its source is
# named there; the others are set so that at most 1% of a domain's good text breaks them.
_WEB = {
    "max_broken": 0.005,
    "max_latin_1": 0.25,  # Tâi-lô reaches 0.14.
    "max_rare_han": 0.1,  # Good text stays under 0.06, misread text has 0.2.
    "min_tokens": 50,
    "max_tokens": 160_000,
    "min_token_length": 3,
    "max_token_length": 10,
    "max_run": 1_000,
    "max_symbols": 0.1,
    "min_letters": 0.6,  # Chinese has a punctuation mark to 8 characters.
    "max_digits": 0.2,
    "max_links": 0.6,  # References of articles reach 0.56.
    "max_braces": 0.01,
    "min_stop_words": 2,
    "min_function": 0.04,  # Articles have 0.07 or more, speech 0.15, lists of keywords under 0.03.
    "min_sentences": 3,
    "max_bullet_lines": 0.9,
    "max_ellipsis_lines": 0.3,
    "min_punctuated_lines": 0.106,
    "max_short_lines": 0.67,
    "max_line_breaks": 0.19,
    "max_boilerplate": 0.25,
    "max_filler": 0.001,
}
# Statutes are lists and forms; short ones have one sentence, and some are tables of figures.
_LAW = {
    "max_broken": 0.005,
    "max_latin_1": 0.25,
    "max_rare_han": 0.1,
    "min_tokens": 30,
    "max_run": 1_000,
    "max_symbols": 0.1,
    "min_letters": 0.4,
    "max_digits": 0.3,
    "max_links": 0.6,
    "max_braces": 0.01,
    "min_stop_words": 1,
    "max_ellipsis_lines": 0.3,
    "min_punctuated_lines": 0.01,
    "max_short_lines": 0.8,
    "max_line_breaks": 0.25,  # Short items in two languages.
    "max_boilerplate": 0.25,
    "max_filler": 0.001,
}
_SPEECH = {**_WEB, "max_tokens": 1_000_000, "max_symbols": 0.15, "min_function": 0.1}
# Questions and answers are short; an answer may be a sentence and a list of links, or a sentence
# of news with its date and figures and hardly a grammatical word.
_QA = {
    **_WEB,
    "min_tokens": 10,
    "max_digits": 0.25,
    "max_links": 0.9,
    "min_stop_words": 1,
    "min_function": 0.02,
    "min_sentences": 1,
    "max_ellipsis_lines": 1.0,  # Most have one line.
    "min_punctuated_lines": 0.0,
    "max_line_breaks": 0.25,
}
# Documentation is code, tables and lists as much as sentences.
_MANUAL = {
    **_WEB,
    "min_letters": 0.45,
    "max_symbols": 0.15,
    "max_braces": 0.05,
    "min_sentences": 2,
    "max_bullet_lines": 0.95,
    "min_punctuated_lines": 0.02,
    "max_line_breaks": 0.4,
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class QualityRules(Limits):
    """Rejects documents that break a rule of `measures.RULES`; unset limits are the preset's.

    Presets: "web" (articles and pages), "law", "speech" (transcripts), "qa" (questions and
    answers), "manual" (technical documentation). With the policy "label", `meta["quality"]`.
    """

    name: ClassVar[str] = "quality_rules"
    label: ClassVar[str] = "quality"
    rules = measures.RULES
    presets = {  # noqa: RUF012
        name: complete(measures.RULES, limits)
        for name, limits in (
            ("web", _WEB),
            ("law", _LAW),
            ("speech", _SPEECH),
            ("qa", _QA),
            ("manual", _MANUAL),
        )
    }

    max_broken: float | None = None
    max_latin_1: float | None = None
    max_rare_han: float | None = None
    min_tokens: float | None = None
    max_tokens: float | None = None
    min_token_length: float | None = None
    max_token_length: float | None = None
    max_run: float | None = None
    max_symbols: float | None = None
    min_letters: float | None = None
    max_digits: float | None = None
    max_links: float | None = None
    max_braces: float | None = None
    min_stop_words: float | None = None
    min_function: float | None = None
    min_sentences: float | None = None
    min_long_lines: float | None = None
    max_bullet_lines: float | None = None
    max_ellipsis_lines: float | None = None
    min_punctuated_lines: float | None = None
    max_short_lines: float | None = None
    max_line_breaks: float | None = None
    max_boilerplate: float | None = None
    max_filler: float | None = None

    def versions(self) -> dict[str, str]:
        return {**super().versions(), "boilerplate": phrases.sha256("boilerplate.tsv")}

    def measure(
        self, view: View, batch: Sequence[Document], wanted: np.ndarray
    ) -> Iterator[Measured]:
        texts, langs = [d.text for d in batch], [d.lang for d in batch]
        yield measures.metrics(view, texts, langs)
