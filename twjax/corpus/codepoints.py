"""Many texts as one array of code points, their classes, lines and tokens.

Rules that count characters, lines or words of a text work on this view: one pass of NumPy for a
whole group of documents, never a loop over characters. A token is a Han character, a kana or a
Bopomofo letter, or else a run of letters and digits: the unit that needs no dictionary and that
re-wrapping can't change.
"""

from __future__ import annotations

import dataclasses
import functools
import re
import unicodedata
from collections.abc import Iterator, Sequence
from enum import IntEnum

import numpy as np

from twjax.corpus.document import Document


class Class(IntEnum):
    """What a character counts as. Han, then the other unit tokens, then letters are in a row."""

    HAN = 0
    FUNCTION = 1  # Han that grammar needs: 的, 是, 在 …
    RARE = 2  # Han that is in neither standard's list of common characters.
    KANA = 3  # and Bopomofo: written without spaces as well
    LETTER = 4
    ASCII = 5
    LATIN_1 = 6  # Letters U+0080–00FF: common in French, and in UTF-8 that was read as Latin-1.
    DIGIT = 7
    SPACE = 8
    NEWLINE = 9
    END = 10  # Ends a sentence.
    STOP = 11  # May end one, or a part of one: . ； ：
    CLOSER = 12  # May follow what ends a sentence.
    ELLIPSIS = 13
    HASH = 14
    BRACE = 15
    PUNCTUATION = 16
    SYMBOL = 17
    SYMBOL_1 = 18  # Symbols U+0080–00BF, the other half of misread UTF-8.
    BROKEN = 19  # Replacement, private-use, control and unassigned characters.


CLASSES = len(Class)
# The most frequent grammatical characters of Chinese, spoken, written and legal; 22 stop words of
# FineWeb-2's cmn_Hani.yml, less the nouns among them (年 月 日 中 人), in both scripts, and the
# particles of Taiwan's statutes and of Cantonese and Taigi.
_FUNCTION = (
    "的是在了於于為为有被和他她它與与後后也而由我你這这那就不都以之及或得應应者所其將"
    "将並并對对會会要可但因把跟嘛啊吧呢嗎吗著着過过到說说個个嘅係咁佢毋佮伊ê"
)
_CLOSERS = "」』”’\"'）)】》〉］]"
_LINK = re.compile(r"(?:https?://|www\.)[!-~]+")
# A group is as large as the caches like; one document may exceed it.
_GROUP_CHARACTERS = 1 << 18


@functools.cache
def table() -> np.ndarray:
    """Returns uint8 [0x110000], the `Class` of every code point; built once in about 0.3 s."""
    classes = np.full(0x110000, Class.BROKEN, np.uint8)
    for point in range(0x32400):
        classes[point] = _classify(chr(point))
    for point in (*range(0xFE00, 0xFE10), *range(0xE0000, 0xE01F0)):  # Variation selectors, tags.
        classes[point] = Class.SYMBOL
    for characters, kind in (
        (_FUNCTION, Class.FUNCTION),
        ("。！？!?｡‼⁇⁈⁉", Class.END),
        (".．；;：", Class.STOP),
        (_CLOSERS, Class.CLOSER),
        ("…⋯", Class.ELLIPSIS),
        ("#＃", Class.HASH),
        ("{}", Class.BRACE),
        ("\ufffd", Class.BROKEN),
        ("\r\t", Class.SPACE),
        ("\n\v\f\x85\u2028\u2029", Class.NEWLINE),
        ("\u200b\u200c\u200d\u2060\ufeff\xad", Class.SPACE),
    ):
        classes[[ord(c) for c in characters]] = kind
    return classes


def _classify(character: str) -> Class:
    point, category = ord(character), unicodedata.category(character)
    if (
        0x4E00 <= point < 0xA000
        or 0x3400 <= point < 0x4DC0
        or 0xF900 <= point < 0xFB00
        or point >= 0x20000
        or character in "〇々"
    ):
        if category == "Cn":
            return Class.BROKEN
        return Class.HAN if _common(character) else Class.RARE
    if 0x3041 <= point < 0x3130 and category[0] in "LM":
        return Class.KANA
    if category[0] in "LM":
        if point < 0x100:
            return Class.LATIN_1 if point >= 0x80 else Class.ASCII
        return Class.LETTER
    if category[0] == "N":
        return Class.DIGIT
    if category[0] == "Z":
        return Class.SPACE
    if category[0] == "C":
        return Class.SYMBOL if category == "Cf" else Class.BROKEN
    if 0x80 <= point < 0xC0:
        return Class.SYMBOL_1
    return Class.PUNCTUATION if category[0] == "P" else Class.SYMBOL


def _common(character: str) -> bool:
    """Whether it is in Big5's level 1, of the Ministry's common characters, or GB 2312's."""
    for encoding, low, high in (("big5", b"\xa4\x40", b"\xc6\x7e"), ("gb2312", b"\xb0", b"\xd8")):
        try:
            if low <= character.encode(encoding) <= high:
                return True
        except UnicodeEncodeError:
            continue
    return character in "〇々"


def groups(batch: Sequence[Document]) -> Iterator[tuple[int, list[str]]]:
    """Yields (index of the first document, texts) for stretches of a batch of bounded size."""
    start, size = 0, 0
    for index, document in enumerate(batch):
        if size and size + len(document.text) > _GROUP_CHARACTERS:
            yield start, [d.text for d in batch[start:index]]
            start, size = index, 0
        size += len(document.text)
    if start < len(batch):
        yield start, [d.text for d in batch[start:]]


@dataclasses.dataclass(frozen=True)
class Tokens:
    """The tokens of several texts; `starts` [texts + 1] says where each text's begin.

    `values` uint64 identify a token (a code point, or the hash of a run), `lengths` are in
    characters.
    """

    values: np.ndarray
    lengths: np.ndarray
    starts: np.ndarray


@dataclasses.dataclass(frozen=True)
class Lines:
    """The lines of several texts that aren't blank; `texts` says whose each is.

    `first` and `last` are where the first and the last visible character stand, `visible` is how
    many there are.
    """

    texts: np.ndarray
    first: np.ndarray
    last: np.ndarray
    visible: np.ndarray


class View:
    """Texts joined by line breaks: `points` uint32, `classes` uint8, `starts` [texts + 1].

    Web addresses count as white space, lest their letters and percents pass for text; `links`
    int64 [texts] is how many characters they have.
    """

    def __init__(self, texts: Sequence[str]):
        joined = "\n".join((*texts, ""))
        self.points = np.frombuffer(joined.encode("utf-32-le", "surrogatepass"), np.uint32)
        self.classes = table()[self.points]
        sizes = np.fromiter(map(len, texts), np.int64, len(texts))
        self.starts = np.concatenate(([0], np.cumsum(sizes + 1)))
        self.links = np.zeros(len(sizes), np.int64)
        if "http" in joined or "www." in joined:
            for link in _LINK.finditer(joined):
                start, stop = link.span()
                self.classes[start:stop] = Class.SPACE
                self.links[np.searchsorted(self.starts, start, "right") - 1] += stop - start

    def __len__(self) -> int:
        return len(self.starts) - 1

    @functools.cached_property
    def counts(self) -> np.ndarray:
        """int64 [texts, classes]: characters by class."""
        counts = np.empty((len(self), CLASSES), np.int64)
        for row, start, stop in zip(counts, self.starts, self.starts[1:] - 1, strict=False):
            row[:] = np.bincount(self.classes[start:stop], minlength=CLASSES)
        return counts

    @functools.cached_property
    def lines(self) -> Lines:
        breaks = np.flatnonzero(self.classes == Class.NEWLINE)
        visible = np.flatnonzero((self.classes != Class.SPACE) & (self.classes != Class.NEWLINE))
        ends = np.searchsorted(visible, breaks)
        begins = np.concatenate(([0], ends[:-1]))
        full = ends > begins
        begins, ends = begins[full], ends[full]
        first = visible[begins]
        texts = np.searchsorted(self.starts, first, "right") - 1
        return Lines(texts, first, visible[ends - 1], ends - begins)

    @functools.cached_property
    def tokens(self) -> Tokens:
        units = self.classes <= Class.KANA
        runs = (self.classes >= Class.LETTER) & (self.classes <= Class.DIGIT)
        begins = runs.copy()
        begins[1:] &= ~runs[:-1]
        at = np.flatnonzero(units | begins)
        values = self.points[at].astype(np.uint64)
        lengths = np.ones(len(at), np.int64)
        letters = np.flatnonzero(runs)
        if len(letters):
            starts = np.flatnonzero(begins)
            first = np.searchsorted(letters, starts)
            sizes = np.diff(np.append(first, len(letters)))
            place = np.arange(len(letters)) - np.repeat(first, sizes)
            hashes = np.add.reduceat(
                scramble(self.points[letters] + (place.astype(np.uint64) << np.uint64(32))), first
            )
            slots = np.searchsorted(at, starts)
            # The high bit keeps runs apart from single characters.
            values[slots] = hashes | np.uint64(1 << 63)
            lengths[slots] = sizes
        return Tokens(values, lengths, np.searchsorted(at, self.starts))

    def sums(self, mask: np.ndarray) -> np.ndarray:
        """Returns int64 [texts]: how many characters of each text `mask` marks."""
        counts = [
            np.count_nonzero(mask[a:b]) for a, b in zip(self.starts, self.starts[1:], strict=False)
        ]
        return np.array(counts, np.int64)


def scramble(values: np.ndarray) -> np.ndarray:
    """Mixes uint64 so that all bits depend on all (the finalizer of MurmurHash3)."""
    values = values.astype(np.uint64)
    values ^= values >> np.uint64(33)
    values *= np.uint64(0xFF51AFD7ED558CCD)
    values ^= values >> np.uint64(33)
    values *= np.uint64(0xC4CEB9FE1A85EC53)
    values ^= values >> np.uint64(33)
    return values
