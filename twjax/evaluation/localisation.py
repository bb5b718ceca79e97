"""How much of the mainland's writing is in texts: Simplified characters and mainland words.

Rates are to 1,000 Han characters, and shares of texts that have at least one. Words are those of
`twjax.corpus.variety.usage`, characters those of `twjax.corpus.variety.script`, so that a model's
text and a corpus are held to one measure.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from typing import Any, Literal

import regex

from twjax.corpus.variety import script, usage

Mainland = Literal["script", "words", ""]

# What Taiwan writes with characters that are Simplified elsewhere: 公厘 and 無厘頭, 街庄 and 客庄,
# the surname 涂, 恒 in names and for 恆; peptides (胜肽), whose second character is a private one
# in the laws' files; and words in which an old or a Japanese form is the usual one.
_OURS = regex.compile(
    "[厘庄涂恒]|胜(?=肽|[\ue000-\uf8ff])|拮据|洒掃|碍子|揭橥|叱咤|株式会社|有限会社|弁当"
)
# Running Japanese has so many kana and such a share of them: 97% of the sentences and 98% of the
# pieces of 200 characters of articles in it do (`benchmarks/localisation.py`).
KANA, KANA_SHARE = 3, 0.15
# The mainland's writing from half of the characters that only one script has.
_HALF = 0.5
_RULE = usage.Usage()


@dataclasses.dataclass(frozen=True, slots=True)
class Writing:
    """Counts of texts; sums of them are the counts of all their texts.

    `han`, `simplified` and `mainland` are characters, Simplified characters and occurrences of
    mainland words; `with_simplified` and `with_mainland` are texts that have at least one.
    """

    texts: int = 0
    han: int = 0
    simplified: int = 0
    with_simplified: int = 0
    mainland: int = 0
    with_mainland: int = 0

    def __add__(self, other: Writing) -> Writing:
        mine, theirs = dataclasses.astuple(self), dataclasses.astuple(other)
        return Writing(*(a + b for a, b in zip(mine, theirs, strict=True)))

    def record(self, step: int, task: str) -> dict[str, Any]:
        """Returns the "writing" record of these texts; rates of no Han character are 0."""
        return {
            "kind": "writing",
            "step": step,
            "task": task,
            "texts": self.texts,
            "han": self.han,
            "simplified_per_1000": 1000 * self.simplified / max(1, self.han),
            "texts_with_simplified": self.with_simplified / max(1, self.texts),
            "mainland_per_1000": 1000 * self.mainland / max(1, self.han),
            "texts_with_mainland": self.with_mainland / max(1, self.texts),
        }


def measure(texts: Sequence[str]) -> Writing:
    """Returns the counts of texts.

    Characters of a text in Japanese are not counted as Simplified, nor those of Japanese names and
    titles in other text. Mainland words are counted in
    either script, each as often as it occurs.
    """
    total = Writing()
    for _, writing, _ in _each(texts):
        total += writing
    return total


def judge(texts: Sequence[str]) -> list[Mainland]:
    """Says of each text whether it is the mainland's writing, and by what; "" if it isn't.

    "script": at least half of the characters that only one script has are Simplified, of three or
    more. "words": the corpus room's step `Usage`, as it comes, flags the text.
    """
    verdicts: list[Mainland] = []
    for counts, _, words in _each(texts):
        if counts.script(_HALF) == "simplified":
            verdicts.append("script")
        else:
            verdicts.append("words" if _RULE.flags(words, counts.han) else "")
    return verdicts


def simplified(text: str) -> int:
    """Returns how many characters of a text only Simplified Chinese has, but for Taiwan's own."""
    return _simplified(text, _count(text))


def _simplified(text: str, counts: script.Counts) -> int:
    if counts.simplified == 0 or counts.script(_HALF) == "japanese":
        return 0
    ours = "".join(match.group() for match in _OURS.finditer(text))
    return counts.simplified - script.count(ours).simplified


def _count(text: str) -> script.Counts:
    """Counts characters; kana only of a text in Japanese, whose script they decide."""
    counts = script.count(text)
    if counts.script(_HALF) != "japanese" or _is_japanese(text, counts):
        return counts
    return dataclasses.replace(counts, kana=0)


def _is_japanese(text: str, counts: script.Counts) -> bool:
    """Whether nothing in a text with kana is the mainland's: it runs in Japanese, or names it."""
    if counts.kana >= KANA and counts.kana >= KANA_SHARE * (counts.han + counts.kana):
        return True
    # 国 and 学 are Japanese as well; 这 and 们, which its standard lacks, are not.
    shared = text.encode("shift_jis", "ignore").decode("shift_jis")
    return script.count(shared).simplified == counts.simplified


def _each(texts: Sequence[str]) -> Iterator[tuple[script.Counts, Writing, list[usage.Found]]]:
    for text, words in zip(texts, usage.load().find(texts), strict=True):
        counts = _count(text)
        leaks = _simplified(text, counts)
        writing = Writing(
            texts=1,
            han=counts.han,
            simplified=leaks,
            with_simplified=int(leaks > 0),
            mainland=len(words),
            with_mainland=int(len(words) > 0),
        )
        yield counts, writing, words
