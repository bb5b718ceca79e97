"""Whether a text is written in Simplified or Traditional characters, by counting characters.

The tables come from OpenCC's own conversions, character by character, less the forms that are
standard on the other side: OpenCC's Traditional standard prefers 祕, 牀 and 羣, and would call the
秘, 床 and 群 of every Taiwan law Simplified. Taiwan's standard is taken to be Big5's level 1 (the
5,401 characters of the Ministry of Education's list of common characters), the mainland's GB 2312.
"""

from __future__ import annotations

import dataclasses
import functools
from typing import Literal

import numpy as np

from twjax.corpus.conversion import opencc

Script = Literal["simplified", "traditional", "mixed", "japanese", "undecided"]

_HAN_BLOCKS = ((0x3400, 0x4DC0), (0x4E00, 0xA000), (0x20000, 0x323B0))
_KANA = ((0x3041, 0x3097), (0x30A1, 0x30FB), (0xFF66, 0xFF9E))
_OTHER, _SHARED, _SIMPLIFIED, _TRADITIONAL, _KANA_CLASS = range(5)

# Fewer tell-tale characters than this say nothing: 恒 and 会 occur in names and quotations.
_MIN_CHARACTERS = 3
# Shinjitai such as 国, 会 and 学 look Simplified; running Japanese text is a third kana or more,
# and Chinese text that names a Japanese thing has well under 2%.
_MAX_KANA = 0.02


@dataclasses.dataclass(frozen=True)
class Counts:
    """Numbers of characters by class; `han` includes the simplified and traditional ones."""

    han: int
    simplified: int
    traditional: int
    kana: int

    @property
    def simplified_share(self) -> float:
        """Simplified characters among those that only one script has, 0 if there are none."""
        return self.simplified / max(1, self.simplified + self.traditional)

    def script(self, threshold: float) -> Script:
        """Judges by the share: simplified from `threshold`, traditional up to 1 - `threshold`."""
        if self.kana > _MAX_KANA * (self.han + self.kana):
            return "japanese"
        if self.simplified + self.traditional < _MIN_CHARACTERS:
            return "undecided"
        if self.simplified_share >= threshold:
            return "simplified"
        return "traditional" if self.simplified_share <= 1 - threshold else "mixed"


def count(text: str) -> Counts:
    """Counts the characters of a text by class."""
    points = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), np.uint32)
    classes = np.bincount(table()[points], minlength=5)
    simplified, traditional = int(classes[_SIMPLIFIED]), int(classes[_TRADITIONAL])
    han = int(classes[_SHARED]) + simplified + traditional
    return Counts(han, simplified, traditional, int(classes[_KANA_CLASS]))


@functools.cache
def table() -> np.ndarray:
    """Returns uint8 [0x110000], the class of every code point; built once in about 0.4 s."""
    classes = np.zeros(0x110000, np.uint8)
    to_traditional, to_simplified = opencc.converter("s2t"), opencc.converter("t2s")
    for start, stop in _HAN_BLOCKS:
        classes[start:stop] = _SHARED
        for point in range(start, stop):
            character = chr(point)
            if to_traditional(character) != character and not _in_big5_level_1(character):
                classes[point] = _SIMPLIFIED
            elif to_simplified(character) != character and not _in_gb2312(character):
                classes[point] = _TRADITIONAL
    for start, stop in _KANA:
        classes[start:stop] = _KANA_CLASS
    return classes


def _in_big5_level_1(character: str) -> bool:
    try:
        return b"\xa4\x40" <= character.encode("big5") <= b"\xc6\x7e"
    except UnicodeEncodeError:
        return False


def _in_gb2312(character: str) -> bool:
    try:
        return bool(character.encode("gb2312"))
    except UnicodeEncodeError:
        return False
