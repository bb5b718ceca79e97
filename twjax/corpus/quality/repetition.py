"""Documents that repeat themselves: Gopher's rules with lengths that fit Chinese.

G is Rae et al. 2021, "Scaling Language Models", Table A1; FW2 FineWeb-2's `cmn_Hani.yml`, whose
limits replace G's. Both count words. A Chinese word has 1.6 characters (jieba on Taiwan's laws
and transcripts), so where tokens are characters, an n-gram of n words is one of 1.6 n tokens:
with n characters in place of n words, 72% of Taiwan's laws would go.
"""

from __future__ import annotations

import dataclasses
import functools
import re
from collections.abc import Iterator, Sequence
from typing import ClassVar

import numpy as np

from twjax.corpus.codepoints import Class, Tokens, View
from twjax.corpus.document import Document
from twjax.corpus.quality import ngrams
from twjax.corpus.quality.limits import Limits, Measured, complete

# Lengths in words and in characters; the limits are named by the words.
_TOP = {2: 3, 3: 5, 4: 6}
_DUPLICATE = {5: 8, 6: 10, 7: 11, 8: 13, 9: 14, 10: 16}
_RULES = {
    "max_duplicate_lines": "duplicate lines",  # G: 0.3 of lines; FW2: 0.287.
    "max_duplicate_line_characters": "characters in duplicate lines",  # G: 0.2; FW: 0.01; FW2: 0.1.
    "max_duplicate_paragraphs": "duplicate paragraphs",  # G: 0.3 of paragraphs; FW2: off.
    "max_duplicate_paragraph_characters": "characters in duplicate paragraphs",  # G: 0.2.
    **{f"max_top_{n}gram": f"most frequent {n}-gram" for n in _TOP},
    **{f"max_duplicate_{n}grams": f"duplicate {n}-grams" for n in _DUPLICATE},
}
_WEB = {
    "max_duplicate_lines": 0.287,
    "max_duplicate_line_characters": 0.2,
    "max_duplicate_paragraphs": 0.3,
    "max_duplicate_paragraph_characters": 0.2,
    "max_top_2gram": 0.256,  # FW2; G: 0.20.
    "max_top_3gram": 0.201,  # FW2; G: 0.18.
    "max_top_4gram": 0.171,  # FW2; G: 0.16.
    "max_duplicate_5grams": 0.198,  # FW2; G: 0.15.
    "max_duplicate_6grams": 0.182,  # FW2; G: 0.14.
    "max_duplicate_7grams": 0.167,  # FW2; G: 0.13.
    "max_duplicate_8grams": 0.154,  # FW2; G: 0.12.
    "max_duplicate_9grams": 0.14,  # FW2; G: 0.11.
    "max_duplicate_10grams": 0.127,  # FW2; G: 0.10.
}
# What 99.7% of Taiwan's laws stay under: their articles share formulas.
_FORMULAIC = {
    **_WEB,
    "max_duplicate_lines": 0.4,
    "max_duplicate_line_characters": 0.3,
    "max_duplicate_paragraphs": 0.45,
    "max_duplicate_5grams": 0.66,
    "max_duplicate_6grams": 0.61,
    "max_duplicate_7grams": 0.57,
    "max_duplicate_8grams": 0.53,
    "max_duplicate_9grams": 0.5,
    "max_duplicate_10grams": 0.48,
}
# Lines of code and tags around examples repeat.
_MANUAL = {**_FORMULAIC, "max_duplicate_lines": 0.6, "max_duplicate_paragraphs": 0.6}
# Whoever listens says 對 or 是 again and again.
_SPEECH = {**_WEB, "max_duplicate_lines": 0.5}
# A message of three sentences names its subject in each of them.
_QA = {
    **_WEB,
    "max_duplicate_5grams": 0.3,
    "max_duplicate_6grams": 0.28,
    "max_duplicate_7grams": 0.26,
    "max_duplicate_8grams": 0.24,
    "max_duplicate_9grams": 0.22,
    "max_duplicate_10grams": 0.2,
}
_PARAGRAPHS = re.compile(r"\n\s*\n")
_CODE = re.compile(r"^[ \t]*(```+|~~~+)[^\n]*\n.*?^[ \t]*\1[ \t]*$", re.M | re.S)
_WORD = re.compile(r"\w")
# In a message of two sentences, a name that is said twice is a fifth of the text.
_TIMES = 4


@dataclasses.dataclass(frozen=True, kw_only=True)
class Repetition(Limits):
    """Rejects documents that repeat lines, paragraphs or n-grams; unset limits are the preset's.

    Presets as `QualityRules` has them. Lines and paragraphs are compared without white space
    around them; fenced code and those without a letter or digit don't count. The most frequent
    n-gram must occur four times. With the policy "label", `meta["repetition"]`.
    """

    name: ClassVar[str] = "repetition"
    label: ClassVar[str] = "repetition"
    rules = _RULES
    presets = {  # noqa: RUF012
        name: complete(_RULES, limits)
        for name, limits in (
            ("web", _WEB),
            ("law", _FORMULAIC),
            ("speech", _SPEECH),
            ("qa", _QA),
            ("manual", _MANUAL),
        )
    }

    max_duplicate_lines: float | None = None
    max_duplicate_line_characters: float | None = None
    max_duplicate_paragraphs: float | None = None
    max_duplicate_paragraph_characters: float | None = None
    max_top_2gram: float | None = None
    max_top_3gram: float | None = None
    max_top_4gram: float | None = None
    max_duplicate_5grams: float | None = None
    max_duplicate_6grams: float | None = None
    max_duplicate_7grams: float | None = None
    max_duplicate_8grams: float | None = None
    max_duplicate_9grams: float | None = None
    max_duplicate_10grams: float | None = None

    def measure(
        self, view: View, batch: Sequence[Document], wanted: np.ndarray
    ) -> Iterator[Measured]:
        texts = [_CODE.sub("", d.text) if "```" in d.text or "~~~" in d.text else d.text
                 for d in batch]  # fmt: skip
        lines = np.array([_duplicates(text.split("\n")) for text in texts])
        yield {
            "max_duplicate_lines": lines[:, 0],
            "max_duplicate_line_characters": lines[:, 1],
        }
        paragraphs = np.array([_duplicates(_PARAGRAPHS.split(text)) for text in texts])
        yield {
            "max_duplicate_paragraphs": paragraphs[:, 0],
            "max_duplicate_paragraph_characters": paragraphs[:, 1],
        }
        limits = [self.limits(preset) for preset in {self.preset_of(d.source) for d in batch}]
        units = view.counts[:, : Class.KANA + 1].sum(1)
        characters = units >= 0.3 * np.diff(view.tokens.starts)
        for measure, lengths, rules in (
            (_TOP_SHARES, _TOP, [r for r in _RULES if r.startswith("max_top")]),
            (ngrams.duplicate_shares, _DUPLICATE, [r for r in _RULES if r.endswith("grams")]),
        ):
            # Below the least limit the figure itself makes no difference.
            floor = min(of[rule] for of in limits for rule in rules)
            figures = np.full((len(rules), len(batch)), np.nan)
            for chosen, ns in (
                (characters & wanted, [*lengths.values()]),
                (~characters & wanted, [*lengths]),
            ):
                if chosen.any():
                    figures[:, chosen] = measure(_select(view.tokens, chosen), ns, floor)
            yield dict(zip(rules, figures, strict=True))


_TOP_SHARES = functools.partial(ngrams.top_shares, times=_TIMES)


def _select(tokens: Tokens, chosen: np.ndarray) -> Tokens:
    """Returns the tokens of some of the texts."""
    if chosen.all():
        return tokens
    sizes = np.diff(tokens.starts)
    mask = np.repeat(chosen, sizes)
    starts = np.concatenate(([0], np.cumsum(sizes[chosen])))
    return Tokens(tokens.values[mask], tokens.lengths[mask], starts)


def _duplicates(parts: list[str]) -> tuple[float, float]:
    """Returns the share of parts that occurred before, and their share of characters."""
    parts = [stripped for part in parts if (stripped := part.strip())]
    different = set(parts)
    if len(different) == len(parts):
        return 0.0, 0.0
    # Only now, since most texts repeat no part: a bracket or a rule says nothing.
    parts = [part for part in parts if _WORD.search(part)]
    if not parts:
        return 0.0, 0.0
    different = set(parts)
    size = sum(map(len, parts))
    repeated = size - sum(map(len, different))
    return 1 - len(different) / len(parts), repeated / size
