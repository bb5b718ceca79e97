"""Which script a character or a piece of a vocabulary is written in."""

from __future__ import annotations

import functools
import unicodedata
from collections import Counter
from collections.abc import Iterable

import numpy as np
import regex

from twjax.vocab.tokenizer import Tokenizer

# Tones 2, 3, 5, 6, 7, 8, 9 of Tâi-lô and Pe̍h-ōe-jī and the tones of Hakka's Pha̍k-fa-sṳ and
# romanisation (Ministry of Education 2006 and 2012), with POJ's dot above right.
_TONES = "\u0301\u0300\u0302\u030c\u0304\u030d\u030b\u0306\u0358\u0324"
_BASES = "aeioumnAEIOUMN"
_PAIRS = [unicodedata.normalize("NFC", base + mark) for base in _BASES for mark in _TONES]
_COMPOSED = "".join(pair for pair in sorted(_PAIRS) if len(pair) == 1)
_RARE_HAN = r"\u3400-\u4dbf\U00020000-\U000323af"
# The first that matches decides. A letter and its marks are one unit.
_UNITS = {
    "Taigi and Hakka letters": rf"\p{{Latin}}[{_TONES}]+|[{_COMPOSED}][{_TONES}]*|ⁿ",
    "Han, extensions": rf"[{_RARE_HAN}]",
    "Han": r"\p{Han}",
    "Bopomofo": r"[\p{Bopomofo}ˇˊˋ˙]",
    "kana": r"[\p{Hiragana}\p{Katakana}ー]",
    "full-width punctuation": r"[\u3000-\u303f\ufe30-\ufe4f\uff00-\uff60\uffe0-\uffe6]",
    "Hangul": r"\p{Hangul}",
    "Latin": r"\p{Latin}",
    "digits": r"\p{N}",
    "other": r"[^\s]",
}
SCRIPTS = tuple(_UNITS)
# What ids of a vocabulary may be beside text in a script.
BYTES, CONTROL, SPACE = "bytes, parts of characters", "control", "spaces"
KINDS = (*SCRIPTS, SPACE, BYTES, CONTROL)


@functools.cache
def _pattern() -> regex.Pattern:
    return regex.compile("|".join(f"(?P<g{n}>{unit})" for n, unit in enumerate(_UNITS.values())))


def count_units(texts: Iterable[str]) -> dict[str, Counter[str]]:
    """Returns how often each character of each script occurs; spaces are left out.

    A Latin letter with the marks behind it counts as one.
    """
    marked = regex.compile(rf"\p{{Latin}}[{_TONES}]+")
    single, joined = Counter[str](), Counter[str]()
    for text in texts:
        # Counting characters runs in C; only what marks join needs the pattern.
        single.update(text)
        joined.update(marked.findall(text))
    for unit, count in joined.items():
        for character in unit:
            single[character] -= count
    found: dict[str, Counter[str]] = {script: Counter() for script in SCRIPTS}
    for unit, count in (single + joined).items():
        if script := script_of(unit):
            found[script][unit] += count
    return found


def script_of(text: str) -> str | None:
    """Returns the script of the first letter in a text, else of its first character.

    Digits and signs don't decide where a letter follows. None for spaces alone.
    """
    found = [SCRIPTS[int(m.lastgroup[1:])] for m in _pattern().finditer(text) if m.lastgroup]
    letters = [script for script in found if script not in ("digits", "other")]
    return next(iter([*letters, *found]), None)


def kinds_of(tokenizer: Tokenizer) -> np.ndarray:
    """Returns int8 [ids]: the place in `KINDS` of what each id stands for."""
    kinds = np.empty(tokenizer.vocab_size, np.int8)
    partial = tokenizer.partial
    for id, data in enumerate(tokenizer.bytes_of_ids):
        if not data:
            kind = CONTROL
        elif partial[id]:
            kind = BYTES
        else:
            kind = script_of(data.decode(errors="replace")) or SPACE
        kinds[id] = KINDS.index(kind)
    return kinds
