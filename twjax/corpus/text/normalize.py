"""One spelling for the same text: line ends, invisible characters, widths, quotation marks.

NFKC is never applied: it makes ASCII of the punctuation that Chinese is written with.
"""

from __future__ import annotations

import dataclasses
import re
import unicodedata
from collections.abc import Callable, Sequence
from typing import ClassVar, Literal

import regex

from twjax.corpus.document import Document
from twjax.corpus.step import Outcome, Step
from twjax.corpus.text import spans

# The Unicode Standard, section 5.8 (newline guidelines): what other systems end a line with.
_LINE_END = regex.compile("[\r\v\f\x85\u2028\u2029]")
# C0 and C1 controls but tab and line feed; interlinear annotation marks and noncharacters.
_CONTROL = regex.compile(
    "[\0-\x08\x0e-\x1f\x7f-\x84\x86-\x9f\ufff9-\ufffb\ufdd0-\ufdef\ufffe\uffff]"
)
# Unicode, section 23.2 (layout controls): soft hyphen, zero-width space, word joiner and its old
# form, the BOM, direction marks, embeddings, overrides and isolates, invisible operators.
_ZERO_WIDTH = regex.compile("[\xad\u061c\u180e\u200b\u200e\u200f\u202a-\u202e\u2060-\u206f\ufeff]")
# Any of the above: most texts have none, and one look is cheaper than three.
_UNUSUAL = re.compile(
    "[\0-\x08\x0b-\x1f\x7f-\x9f\xad\u061c\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufdd0-\ufdef"
    "\ufeff\ufff9-\ufffb\ufffe\uffff]"
)
# Joiners shape emoji and Indic, Arabic or Mongolian script; beside Han they are only noise.
_HAN = "\u2e80-\u2fdf\u3005\u3007\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U000323af"
_JOINER = regex.compile(f"(?<=[{_HAN}])[\u200c\u200d]+|[\u200c\u200d]+(?=[{_HAN}])")
# Unicode, section 23.5: private use, where systems keep characters of their own (Big5's 造字).
_PRIVATE = regex.compile("[\ue000-\uf8ff\U000f0000-\U000ffffd\U00100000-\U0010fffd]")
_COMPATIBILITY = regex.compile("[\uf900-\ufaff\U0002f800-\U0002fa1f]")
# Unicode Standard Annex #11: full-width forms of letters and digits, half-width forms of kana.
# Full-width punctuation is what Chinese is written with and stays in any case.
_FULL_WIDTH = regex.compile("[０-９Ａ-Ｚａ-ｚ]+")
_TO_HALF = {p: p - 0xFEE0 for r in ("０９", "Ａｚ") for p in range(ord(r[0]), ord(r[1]) + 1)}
_IDEOGRAPHIC_SPACE = regex.compile("\u3000+")
_HALF_WIDTH_KANA = regex.compile("[\uff66-\uff9f]+")

# What Han punctuation may follow or precede: Han, and the marks that are written between them.
_LEFT = f"[{_HAN}」』）》〉】〕]"
_RIGHT = f"[{_HAN}「『（《〈【〔]"
_BRACKETS = regex.compile(
    rf"(?:(?<=[{_HAN}」』）》，、。；：！？])[ ]?|(?P<indent>^[ \t]*))"
    rf"\((?P<in>[^()\n{_HAN}]*+[{_HAN}][^()\n]*+)\)"
    rf"(?:[ ]?(?=[{_HAN}「『（《，、。；：！？])|[ \t]*$|(?=[,;:!?]))",
    regex.MULTILINE,
)
_POINT = regex.compile(
    rf"(?<={_LEFT})(?:[,;:?!]+[ ]?(?={_RIGHT})|[,;:?!]+(?=[」』）》]|[ \t]*$))", regex.M
)
_DOTS = regex.compile(rf"(?<=[{_HAN}])\.{{3,}}|(?<=[{_HAN}])。{{3,}}")
_TO_FULL = str.maketrans(",;:?!", "，；：？！")
# A line of a table: drawn, between bars, or with tabs or three spaces inside.
_COLUMNS = regex.compile(r"[\u2500-\u258f]|\|.*\||[^\s][^\n\S]{3,}[^\s]|[^\s]\t[^\n\S]*[^\s]")
_DOUBLE = regex.compile(r"(?<=[^\s])[ \u00a0]{2}(?=[^\s])")
_TRAILING = regex.compile(r"(?<![ \t\u00a0\u3000])[ \t\u00a0\u3000]++(?=\n|\Z)")
_EMPTY_LINES = regex.compile(r"\n{4,}")
# White space within a line.
_SPACES = " \t\xa0\u3000"
# Stands for a guarded stretch; a noncharacter, which no text has once controls are removed.
_GUARD = "\ufdd0"
_CURLY = regex.compile("[“”「」『』]|(?<![A-Za-z])[‘’]|[‘’](?![A-Za-z])")
_CORNERS = (("「", "」"), ("『", "』"))
_ANY_HAN = regex.compile(f"[{_HAN}]")


@dataclasses.dataclass(frozen=True, kw_only=True)
class NormalizeText(Step):
    """Makes line ends LF, removes invisible characters and composes the rest (NFC, UAX #15).

    The rest is policy, and "keep" changes nothing:
    `width` "fold" makes full-width letters, digits and the ideographic space ASCII, and
    half-width kana full-width; punctuation such as ，（）：； is never folded.
    `punctuation` "full" makes , : ; ? ! between Han full-width, at the end of a line after Han
    too; round brackets if what is in them has Han and Han, its punctuation or the line's edge is
    on both sides; and three or more periods after Han ……. Numbers and Latin words keep theirs.
    `quotes` "corner" makes “ ” ‘ ’ 「」, and 『』 inside others, in lines of Traditional Chinese
    text where all quotation marks are balanced.
    `spaces` "collapse" makes two spaces inside a line one, removes those that end it, and leaves
    two empty lines of more; longer gaps are columns and stay.
    `compatibility` "fold" lets NFC make unified ideographs of compatibility ideographs (U+F900
    and U+2F800 blocks), which loses a variant of the same character; "keep" leaves them.

    Code, addresses and paths (`spans.protected`) and the lines of tables keep widths,
    punctuation, quotes and spaces. Private-use characters stay; their number is in meta
    "private_use". Applying the step twice changes nothing more.
    """

    name: ClassVar[str] = "normalize_text"

    width: Literal["keep", "fold"] = "keep"
    punctuation: Literal["keep", "full"] = "keep"
    quotes: Literal["keep", "corner"] = "keep"
    spaces: Literal["keep", "collapse"] = "keep"
    compatibility: Literal["fold", "keep"] = "fold"

    def versions(self) -> dict[str, str]:
        versions = {"unicode": unicodedata.unidata_version, "regex": regex.__version__}
        if self.quotes == "corner":
            from twjax.corpus.conversion import opencc

            versions["opencc"] = opencc.version()
        return versions

    def apply(self, batch: Sequence[Document]) -> Outcome:
        outcome = Outcome([])
        for document in batch:
            text, counts = self.normalize(document.text)
            outcome.changed.update(counts)
            if text != document.text:
                outcome.changed["documents"] += 1
                document = dataclasses.replace(document, text=text)
            if private := _count(_PRIVATE, text):
                meta = {**document.meta, "private_use": str(private)}
                document = dataclasses.replace(document, meta=meta)
            outcome.kept.append(document)
        return outcome

    def normalize(self, text: str) -> tuple[str, dict[str, int]]:
        """Returns the text and how many characters of each kind were changed."""
        work = _Work(text)
        work.invisible()
        # Composing may put a Han character where a look-alike stood: before what looks for Han.
        work.compose(fold=self.compatibility == "fold")
        if self._keeps():
            return work.text, work.counts
        guarded = work.guard()
        if not work.text.isascii():
            if self.width == "fold":
                work.fold()
            if self.quotes == "corner":
                work.quote()
        if self.spaces == "collapse":
            work.collapse()
        if self.punctuation == "full" and not work.text.isascii():
            work.punctuate()
        if guarded:
            pieces = work.text.split(_GUARD)
            work.text = "".join(a + b for a, b in zip(pieces, [*guarded, ""], strict=True))
        return work.text, work.counts

    def _keeps(self) -> bool:
        return {self.width, self.punctuation, self.quotes, self.spaces} == {"keep"}


class _Work:
    """A text on its way, and what was changed in it."""

    def __init__(self, text: str):
        self.text = text
        self.counts: dict[str, int] = {}

    def replace(
        self, kind: str, pattern: regex.Pattern[str], by: str | Callable[[regex.Match[str]], str]
    ) -> None:
        self.text, number = pattern.subn(by, self.text)
        self._count(kind, number)

    def _count(self, kind: str, number: int) -> None:
        if number:
            self.counts[kind] = self.counts.get(kind, 0) + number

    def _in_prose(
        self,
        kind: str,
        pattern: regex.Pattern[str],
        by: str | Callable[[regex.Match[str]], str],
        each: bool = False,
    ) -> bool:
        """Replaces what matches outside tables; counts characters if `each`, else matches."""
        number = 0
        pieces: list[str] = []
        text, done = self.text, 0
        end, table = -1, False
        for match in pattern.finditer(text):
            start, stop = match.span()
            if start > end:
                end, table = self._line(start)
            if table:
                continue
            pieces += (text[done:start], by if isinstance(by, str) else by(match))
            done = stop
            number += stop - start if each else 1
        if number:
            self.text = "".join((*pieces, text[done:]))
            self._count(kind, number)
        return number > 0

    def _line(self, place: int) -> tuple[int, bool]:
        """Returns where the line of a place ends, and whether it is one of a table."""
        start, end = self.text.rfind("\n", 0, place) + 1, self.text.find("\n", place)
        end = len(self.text) if end < 0 else end
        return end, _COLUMNS.search(self.text, start, end) is not None

    def guard(self) -> list[str]:
        """Takes code, addresses and paths out of the text, a sign for each, and returns them."""
        found = spans.protected(self.text)
        if not found:
            return []
        starts = [0, *(stop for _, stop in found)]
        stops = [*(start for start, _ in found), len(self.text)]
        guarded = [self.text[start:stop] for start, stop in found]
        self.text = _GUARD.join(self.text[a:b] for a, b in zip(starts, stops, strict=True))
        return guarded

    def invisible(self) -> None:
        self._count("line ends", self.text.count("\r\n"))
        self.text = self.text.replace("\r\n", "\n")
        if _UNUSUAL.search(self.text):
            self.replace("line ends", _LINE_END, "\n")
            self.replace("controls", _CONTROL, "")
            self.replace("zero width", _ZERO_WIDTH, "")

    def compose(self, fold: bool) -> None:
        text = self.text
        if not unicodedata.is_normalized("NFC", text):
            if fold:
                self._count("compatibility ideographs", _count(_COMPATIBILITY, text))
                text = unicodedata.normalize("NFC", text)
            else:
                kept = _COMPATIBILITY.findall(text)
                parts = (unicodedata.normalize("NFC", p) for p in _COMPATIBILITY.split(text))
                text = "".join(a + b for a, b in zip(parts, [*kept, ""], strict=True))
            if text != self.text:
                self.counts["composed documents"] = 1
                self.text = text
        if "\u200c" in text or "\u200d" in text:
            self.replace("joiners", _JOINER, "")

    def fold(self) -> None:
        half = lambda m: m[0].translate(_TO_HALF)  # noqa: E731
        kana = lambda m: unicodedata.normalize("NFKC", m[0])  # noqa: E731
        self._in_prose("full-width forms", _FULL_WIDTH, half, each=True)
        if "\u3000" in self.text:
            spaces = lambda m: " " * len(m[0])  # noqa: E731
            self._in_prose("ideographic spaces", _IDEOGRAPHIC_SPACE, spaces, each=True)
        self._in_prose("half-width kana", _HALF_WIDTH_KANA, kana)
        # A letter that was full-width doesn't compose with the mark after it, now it does.
        self.compose(fold=False)

    def collapse(self) -> None:
        text = self.text
        if "  " in text or "\xa0" in text:
            self._in_prose("spaces", _DOUBLE, " ")
        if any(f"{space}\n" in text for space in _SPACES) or text[-1:] in tuple(_SPACES):
            self.replace("spaces", _TRAILING, "")
        if "\n\n\n\n" in self.text:
            self.replace("empty lines", _EMPTY_LINES, "\n\n\n")

    def punctuate(self) -> None:
        # A mark made full-width may be what the next one stands beside.
        again = True
        while again:
            again = self._in_prose("brackets", _BRACKETS, _full_brackets)
            again |= self._in_prose("punctuation", _POINT, _full_point)
            again |= self._in_prose("ellipses", _DOTS, "……")

    def quote(self) -> None:
        text = self.text
        if "“" not in text and "”" not in text and "‘" not in text:
            return
        from twjax.corpus.variety import script

        if script.count(text).script(0.8) != "traditional":
            return
        edits: list[tuple[int, str]] = []
        start = 0
        while start <= len(text):
            stop = text.find("\n", start)
            stop = len(text) if stop < 0 else stop
            edits += self._quotes(start, stop)
            start = stop + 1
        if edits:
            characters = list(text)
            for place, mark in edits:
                characters[place] = mark
            self.text = "".join(characters)
            self._count("quotation marks", len(edits))

    def _quotes(self, start: int, stop: int) -> list[tuple[int, str]]:
        """Returns the marks to change in a line, none if they are not balanced."""
        text = self.text
        if not any(text.find(mark, start, stop) >= 0 for mark in "“”‘’"):
            return []
        pairs = {"”": "“", "’": "‘", "」": "「", "』": "『"}
        stack: list[int] = []
        edits: list[tuple[int, str]] = []
        for match in _CURLY.finditer(text, start, stop):
            place, mark = match.start(), match[0]
            if mark not in pairs:
                stack.append(place)
                continue
            if not stack or text[stack[-1]] != pairs[mark]:
                return []
            opened = stack.pop()
            if mark in "”’" and _ANY_HAN.search(text, opened, place):
                left, right = _CORNERS[len(stack) % 2]
                edits += ((opened, left), (place, right))
        return [] if stack or self._line(start)[1] else edits


def _count(pattern: regex.Pattern[str], text: str) -> int:
    return 0 if text.isascii() else len(pattern.findall(text))


def _full_brackets(match: regex.Match[str]) -> str:
    return f"{match['indent'] or ''}（{match['in'].strip(' ')}）"


def _full_point(match: regex.Match[str]) -> str:
    return match[0].rstrip(" ").translate(_TO_FULL)
