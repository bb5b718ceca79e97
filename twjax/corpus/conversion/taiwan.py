"""A Simplified text becomes Taiwan's and, if need be, what it was again.

OpenCC's s2tw gives one character for one. So a stretch of the Simplified text and what becomes of
it have the same place, until the overlay's phrases are put in.
"""

from __future__ import annotations

import dataclasses
import functools
import re
from collections.abc import Callable, Iterable, Sequence

import numpy as np

from twjax.corpus.conversion import opencc
from twjax.corpus.conversion.overlay import Overlay

# OpenCC's s2tw follows the Ministry of Education's list where Taiwan's writers don't. Counted in
# 3.5 M characters of articles, 12 M of speech and 16 M of statutes: 公布 5,063 to 50 公佈, 污 5,408
# to 82 汙, 濕 583 to 32 溼; in the articles 台灣 16,309 to 881 臺灣.
_PREFERRED = {"佈": "布", "汙": "污", "溼": "濕", "嶽": "岳", "歎": "嘆"}
_HAN = (*range(0x3400, 0x4DC0), *range(0x4E00, 0xA000), *range(0x20000, 0x2A6E0))

# Stands for what isn't to be read: no rule and no conversion knows it.
_MASK = "\ufffc"
_VISIBLE = re.compile(f"[^{_MASK}]+")

Span = tuple[int, int]


@dataclasses.dataclass(frozen=True, slots=True)
class Replacement:
    """A stretch of the converted text: `after` stands at `start` where `before` stood.

    It is a `phrase` of the overlay, or else characters whose way back isn't the usual one.
    """

    start: int
    before: str
    after: str
    phrase: bool


@dataclasses.dataclass(frozen=True, slots=True)
class Conversion:
    """A converted text and what it takes to go back.

    `spans` are the converted stretches, in the converted text; `characters` is how many were
    changed one for one; `computing` whether the rules of that field held.
    """

    text: str
    spans: list[Span]
    replacements: list[Replacement]
    characters: int
    computing: bool


def convert(
    text: str,
    spans: Sequence[Span],
    kept: Iterable[Span] = (),
    overlay: Overlay | None = None,
    config: str = "s2tw",
    tai: str = "台",
) -> Conversion:
    """Converts the stretches `spans` of a text, but none of `kept`; 臺 is written as `tai`.

    Stretches are (start, stop) in code points; `spans` are in order and apart. Without an overlay
    the conversion is OpenCC's own; the stretches of lines that its words make longer or shorter
    are replacements.
    """
    source = points(text)
    inside = np.zeros(len(source), bool)
    for start, stop in spans:
        inside[start:stop] = True
    shown = inside.copy()
    for start, stop in kept:
        shown[start:stop] = False
    masked = string(np.where(shown, source, ord(_MASK)))
    computing = False
    if overlay:
        matches, computing = overlay.matches(masked, text)
        stretches = [(match.start, match.stop, match.rule.to) for match in matches]
    else:
        stretches = _outgrown(masked, config)
    base = np.where(shown, _characters(masked, config, tai if overlay else None), source)

    changed = source != base
    odd = inside & (_simplified()[base] != source)
    for start, stop, _ in stretches:
        changed[start:stop] = odd[start:stop] = False
    stops = np.array([stop for _, stop, _ in stretches], np.int64)
    shifts = np.cumsum([0, *(len(after) - (stop - start) for start, stop, after in stretches)])

    def moved(place: int) -> int:
        return place + int(shifts[np.searchsorted(stops, place, "right")])

    plain = string(base)
    pieces: list[str] = []
    replacements: list[Replacement] = []
    at = 0
    for (start, stop, after), shift in zip(stretches, shifts.tolist(), strict=False):
        before = text[start:stop]
        pieces += (plain[at:start], after)
        at = stop
        if by_character(before, after):
            changed[start:stop] = source[start:stop] != points(after)
        else:
            replacements.append(Replacement(start + shift, before, after, True))
    pieces.append(plain[at:])
    for start, stop in _runs(odd):
        replacements.append(Replacement(moved(start), text[start:stop], plain[start:stop], False))
    replacements.sort(key=lambda replacement: replacement.start)
    return Conversion(
        text="".join(pieces),
        spans=[(moved(start), moved(stop)) for start, stop in spans],
        replacements=replacements,
        characters=int(np.count_nonzero(changed)),
        computing=computing,
    )


def back(text: str, spans: Sequence[Span], replacements: Iterable[Replacement]) -> str:
    """Returns the text of which `convert` made this one.

    Raises ValueError if a replacement isn't where it should be.
    """
    out = points(text).copy()
    for start, stop in spans:
        out[start:stop] = _simplified()[out[start:stop]]
    plain = string(out)
    pieces: list[str] = []
    at = 0
    for one in sorted(replacements, key=lambda replacement: replacement.start):
        stop = one.start + len(one.after)
        if one.start < at or text[one.start : stop] != one.after:
            found = text[one.start : stop]
            raise ValueError(
                f"{found!r} stands at character {one.start} where the edit has {one.after!r}; give "
                "the edits of this very text."
            )
        pieces += (plain[at : one.start], one.before)
        at = stop
    return "".join([*pieces, plain[at:]])


def characters(text: str, config: str = "s2tw", tai: str = "台") -> str:
    """Returns `text` in Traditional characters, one code point for one; 臺 is written as `tai`."""
    return string(_characters(text, config, tai))


def _characters(text: str, config: str, tai: str | None) -> np.ndarray:
    convert = opencc.converter(config)
    out = convert(text)
    if len(out) != len(text):
        out = "".join(_same_length(convert, line) for line in text.splitlines(keepends=True))
    return _preferred(tai)[points(out)] if config == "s2tw" and tai else points(out)


@functools.lru_cache(1 << 14)
def by_character(simplified: str, taiwanese: str) -> bool:
    """Whether the usual Simplified forms of a phrase's characters make it what it was."""
    back = string(_simplified()[points(taiwanese)])
    return back == simplified


def points(text: str) -> np.ndarray:
    """Returns uint32 [len(text)], the code points."""
    return np.frombuffer(text.encode("utf-32-le", "surrogatepass"), np.uint32)


def string(points: np.ndarray) -> str:
    """Returns the text of code points."""
    return points.astype(np.uint32, copy=False).tobytes().decode("utf-32-le", "surrogatepass")


def _outgrown(masked: str, config: str) -> list[tuple[int, int, str]]:
    """Returns the stretches of lines that OpenCC's own words make longer or shorter."""
    convert = opencc.converter(config)
    if len(convert(masked)) == len(masked):
        return []
    found = []
    at = 0
    for line in masked.split("\n"):
        for visible in _VISIBLE.finditer(line):
            after = convert(visible[0])
            if len(after) != len(visible[0]):
                found.append((at + visible.start(), at + visible.end(), after))
        at += len(line) + 1
    return found


def _same_length(convert: Callable[[str], str], line: str) -> str:
    out = convert(line)
    if len(out) == len(line):
        return out
    return "".join(one if len(one := convert(c)) == 1 else c for c in line)


@functools.cache
def _preferred(tai: str) -> np.ndarray:
    table = np.arange(0x110000, dtype=np.uint32)
    for character, form in (_PREFERRED | {"臺": tai}).items():
        table[ord(character)] = ord(form)
    return table


@functools.cache
def _simplified() -> np.ndarray:
    """Returns uint32 [0x110000], of each character the Simplified one that it usually stands for.

    Lines keep the characters apart, so that no phrase is seen in their sequence.
    """
    table = np.arange(0x110000, dtype=np.uint32)
    han = "\n".join(map(chr, _HAN))
    simplified = points(opencc.converter("tw2s")(han))
    if len(simplified) == len(han):
        table[points(han)] = simplified
    return table


def _runs(flags: np.ndarray) -> list[Span]:
    edges = np.flatnonzero(np.diff(flags, prepend=False, append=False))
    return list(zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True))
