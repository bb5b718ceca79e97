"""Which Taiwanese pieces a corpus asks for, in the order in which byte-pair encoding finds them."""

from __future__ import annotations

import dataclasses
import itertools
import json
from collections import Counter
from collections.abc import Iterable

import regex

# Signs that European text shares (“ ” ‘ ’ … — ·) are left out: its ids are to stay.
_BOPOMOFO = r"\p{Bopomofo}ˇˊˋ˙"
_MARKS = r"\u3001-\u3003\u3008-\u301f\u2e3a\uff01-\uff0f\uff1a-\uff20\uff3b-\uff40\uff5b-\uff60"
_SEGMENT = regex.compile(rf"[\p{{Han}}]+|[{_BOPOMOFO}]+|[{_MARKS}]|[\uff10-\uff19\uff21-\uff5a]")

# Letters with tone of Pe̍h-ōe-jī and Tâi-lô (Ministry of Education 2006, 臺灣閩南語羅馬字拼音方案):
# tones 2, 3, 5, 6, 7, 8, 9 over the vowels and syllabic m and n, and POJ's o͘ and ⁿ.
_TONES = "\u0301\u0300\u0302\u030c\u0304\u030d\u030b\u0306"
_LATIN = regex.compile(rf"[aeioumnAEIOUMN]\u0358?[{_TONES}]\u0358?|[oO]\u0358|ⁿ")


# Every reader of Bopomofo needs all of it: the letters ㄅ to ㄩ, and the marks of tones.
ALWAYS = "".join(map(chr, range(0x3105, 0x312A))) + "ˇˊˋ˙"


@dataclasses.dataclass(frozen=True)
class Pieces:
    """`characters`, those that are always there first, then by falling frequency.

    `words` are (left, right), each made of pieces before.
    """

    characters: tuple[str, ...]
    words: tuple[tuple[str, str], ...]


def find_pieces(
    texts: Iterable[str], size: int, *, longest: int = 6, least: int = 2, always: str = ""
) -> Pieces:
    """Returns up to `size` words of at most `longest` characters, and all characters.

    Counted are Han, Bopomofo with its tone marks, full-width punctuation, and the letters with
    tone of written Taiwanese; words are of Han or of Bopomofo only. What occurs fewer than
    `least` times is left out, but for Bopomofo and the characters of `always` (letters with the
    marks that follow them are one, behind the marks alone). The order depends on the counts alone.
    """
    from tokenizers import Tokenizer, models, trainers

    segments: Counter[str] = Counter()
    characters: Counter[str] = Counter()
    for text in texts:
        segments.update(_SEGMENT.findall(text))
        characters.update(_LATIN.findall(text))
    for segment, count in segments.items():
        for character in segment:
            characters[character] += count
    wanted = dict.fromkeys([*regex.findall(r"\S\p{M}*", always), *ALWAYS])
    often = sorted(
        (c for c, n in characters.items() if n >= least), key=lambda c: (-characters[c], c)
    )
    # A letter and its mark become one piece of two, so the mark is a piece before.
    known = list(
        dict.fromkeys(
            part
            for character in wanted | dict.fromkeys(often)
            for part in (*(c for c in character if not c.isascii()), character)
        )
    )
    # The trainer counts a segment as often as it comes.
    alphabet = len({c for segment in segments for c in segment})
    backend = Tokenizer(models.BPE())
    trainer = trainers.BpeTrainer(
        vocab_size=alphabet + size,
        min_frequency=least,
        max_token_length=longest,
        limit_alphabet=alphabet,
        show_progress=False,
    )
    repeated = (itertools.repeat(s, n) for s, n in sorted(segments.items()) if len(s) > 1)
    backend.train_from_iterator(itertools.chain.from_iterable(repeated), trainer)
    merges = json.loads(backend.to_str())["model"]["merges"]
    allowed = set(known)
    words = [tuple(m.split(" ")) if isinstance(m, str) else tuple(m) for m in merges]
    words = [(a, b) for a, b in words if allowed.issuperset(a + b)]
    return Pieces(tuple(known), tuple(words))
