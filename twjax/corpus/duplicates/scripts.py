"""Letters for which the Simplified and the Traditional form of a character are one.

Which forms are one follows from OpenCC's conversions of single characters between the mainland's,
Taiwan's, Hong Kong's and its own standard, in both directions and closed under chains, and from
the characters that it chooses in words alone: 发, 發 and 髮 are one letter, and so are 台, 臺, 檯
and 颱. That is coarser than any conversion, so a text and what OpenCC makes of its characters have
the same letters; texts in which words were exchanged don't.
"""

from __future__ import annotations

import functools

import numpy as np

from twjax.corpus.conversion import opencc
from twjax.corpus.duplicates import shingles

CONVERSIONS = ("t2s", "s2t", "t2tw", "tw2t", "t2hk", "hk2t")
# In words of several characters OpenCC 1.4 also exchanges these (借口 → 藉口, 計畫 → 计划).
IN_WORDS = (
    "沈沉 借藉 复覆 背揹 链鍊 了瞭 坏坯 夫伕 苏甦 熏薰 坐座 里哩 枪鎗 画划 象像 具俱 仿彷 "
    "戚鏚 浚濬 仇讎 拿拏 焰燄 藤籐 只祇 穗繐 宁甯 豆荳 果菓 堤隄 琅瑯 檗蘗 澄澂 呆待 锄耡 "
    "筱篠 斤觔 耇耈 斫斲"
)
_HAN = ((0x3400, 0x4DC0), (0x4E00, 0xA000), (0xF900, 0xFB00), (0x20000, 0x323B0))


@functools.cache
def letters() -> np.ndarray:
    """Returns uint32 [0x110000]: `shingles.letters`, the scripts folded; built in about 0.6 s."""
    table = shingles.letters().copy()
    for character, first in forms().items():
        table[ord(character)] = shingles.letters()[ord(first)]
    return table


@functools.cache
def forms() -> dict[str, str]:
    """Returns the first character, by code point, of each one's forms, where it has others."""
    characters = [chr(point) for start, stop in _HAN for point in range(start, stop)]
    parents = {character: character for character in characters}

    def first(character: str) -> str:
        while parents[character] != character:
            character = parents[character]
        return character

    pairs = [(one, other) for one, other in IN_WORDS.split()]
    # A line each: no word of several characters is among them.
    lines = "\n".join(characters)
    for conversion in CONVERSIONS:
        converted = opencc.converter(conversion)(lines).split("\n")
        pairs += zip(characters, converted, strict=True)
    for one, other in pairs:
        if other in parents and one != other:
            low, high = sorted((first(one), first(other)))
            parents[high] = low
    return {c: low for c in characters if (low := first(c)) != c}
