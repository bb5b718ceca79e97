"""Hard-wrapped text back to paragraphs: line breaks that only a column limit made.

Official texts, e-mail and bulletin boards break lines at a fixed display width. Such a break can
be told from an author's: the line is full, what follows on the next line would not have fit, and
it stands where no sentence ends. The width is found for each document by how many such breaks one
width explains; a document whose breaks no width explains is left alone.
"""

from __future__ import annotations

import bisect
import dataclasses
import unicodedata
from collections.abc import Sequence
from typing import ClassVar

import numpy as np
import regex

from twjax.corpus.document import Document
from twjax.corpus.step import Outcome, Step
from twjax.corpus.text import spans
from twjax.corpus.text.columns import (
    CLOSES,
    ENDED,
    ENDS,
    MAX_COLUMNS,
    NO_SPACE_AFTER,
    NO_SPACE_BEFORE,
    OPEN_ENDED,
    Breaks,
    Kind,
    Lines,
    among,
)

_NUMERAL = "一二三四五六七八九十百零〇○"
# What starts a list item, a heading, a row of a table, a quotation or markup.
_MARKER = regex.compile(
    rf"(?P<article>第 {{0,2}}[\d{_NUMERAL}-]+ {{0,2}}(?:條(?:之 ?[\d{_NUMERAL}]+)?|[章節編篇目])"
    rf"(?=[ \u3000]|$))|(?P<number>[（(〔][\d{_NUMERAL}]{{1,3}}[)）〕])"
    rf"|(?P<list>(?:[{_NUMERAL}]{{1,3}}|\d{{1,3}}|[甲乙丙丁戊己庚辛壬癸])[、．])"
    r"|\d{1,3}[)）]|\d{1,3}\.(?!\d)|[A-Za-z][.、)）](?!\w)|[\u2460-\u24ff\u3220-\u3243\u3280-\u3289]"
    r"|[-*+•●○◎◇◆□■▲△▼★☆※→·‧](?=\s|\p{Han})|#{1,6} |[>|＞│┌├└=~_`!\[<]|: |\.\. |[-=*_~]{3,}|\*\*"
    # A speaker, a key with its value, an address.
    r"|\p{Han}{2,4}：(?=[^\s])|[A-Za-z_][\w.-]*: |https?://|www\."
    r"|註 ?[\d一二三四五六七八九十]*[：:]"
)
# After these an indented bracket or number goes on, as in "內政部\n  （85）".
_HANGS = among(Kind.HAN, Kind.PAUSE)
_UNFINISHED = frozenset(_NUMERAL + "0123456789第、，及或與之")
# Of the breaks inside sentences that are near a width or beyond it, those that it must explain.
_MIN_SHARE = 0.6
_MIN_EVIDENCE = 3
_MIN_MORE = 6
_MAX_WIDTHS = 3
# Documents are joined to groups as large as the caches like.
_GROUP_CHARACTERS = 1 << 18


@dataclasses.dataclass(frozen=True, kw_only=True)
class RepairWraps(Step):
    """Joins the lines of paragraphs that were broken at a column, without a space between Han.

    Line breaks stay before list items, headings, quotations and markup, in tables, code, and
    after lines that are not full: verse, lists and dialogue. `min_columns` is the least display
    width that counts as a limit (a Han character has two columns). The widths that were found
    are in meta "wrap_columns", by commas; a document that has it is left alone.
    """

    name: ClassVar[str] = "repair_wraps"

    min_columns: int = 40

    def __post_init__(self) -> None:
        if not 20 <= self.min_columns < MAX_COLUMNS:
            raise ValueError(
                f"RepairWraps.min_columns ({self.min_columns}) must be from 20 to "
                f"{MAX_COLUMNS - 1}; a Han character has two columns."
            )

    def versions(self) -> dict[str, str]:
        return {"unicode": unicodedata.unidata_version, "regex": regex.__version__}

    def apply(self, batch: Sequence[Document]) -> Outcome:
        outcome = Outcome(list(batch))
        todo = [i for i, d in enumerate(batch) if "\n" in d.text and "wrap_columns" not in d.meta]
        start, size = 0, 0
        for stop, index in enumerate(todo, start=1):
            size += len(batch[index].text)
            if size > _GROUP_CHARACTERS or stop == len(todo):
                group = todo[start:stop]
                found = unwrap([batch[i].text for i in group], self.min_columns)
                for i, (text, joins, widths) in zip(group, found, strict=True):
                    if joins:
                        document = batch[i]
                        meta = {**document.meta, "wrap_columns": ",".join(map(str, widths))}
                        outcome.kept[i] = dataclasses.replace(document, text=text, meta=meta)
                        outcome.changed["documents"] += 1
                        outcome.changed["wraps"] += joins
                start, size = stop, 0
        return outcome


def unwrap(texts: Sequence[str], min_columns: int = 40) -> list[tuple[str, int, list[int]]]:
    """Returns for each text the repaired one, how many breaks went, and the widths found."""
    lines = Lines(texts)
    results: list[tuple[str, int, list[int]]] = [(text, 0, []) for text in texts]
    breaks = lines.breaks(min_columns)
    owners = np.searchsorted(lines.begins, lines.start[breaks.line], "right") - 1
    # Only a break inside a sentence shows that there is a width to find.
    todo = np.unique(owners[breaks.inside])
    bounds = np.searchsorted(owners, np.stack([todo, todo + 1], axis=1))
    for index, (low, high) in zip(todo.tolist(), bounds.tolist(), strict=True):
        found = _Repair(lines, index, breaks[low:high], min_columns)
        if found.joins:
            results[index] = (found.text(), len(found.joins), sorted(found.widths))
    return results


class _Repair:
    """Decides about the breaks of one text: `joins` are (last, first) visible characters."""

    def __init__(self, lines: Lines, index: int, breaks: Breaks, min_columns: int):
        self._lines = lines
        self._begin = int(lines.begins[index])
        self._stop = int(lines.begins[index + 1]) - 2
        self._min = min_columns
        self.joins: list[tuple[int, int]] = []
        self.widths: list[int] = []
        inside = breaks[breaks.inside]
        self._find(inside[~self._kept(inside)])
        if self.widths:
            full = np.zeros(len(breaks.line), bool)
            for limit in self.widths:
                full |= breaks.full(limit)
            self._join(breaks[full])

    def _kept(self, breaks: Breaks) -> np.ndarray:
        """Returns which breaks are such as no width could have made."""
        lines, text = self._lines, self._lines.text
        line = breaks.line
        before = lines.points[lines.last[line]]
        # Markdown's headings and its own line breaks.
        kept = (lines.points[lines.start[line]] == ord("#")) | (before == ord("\\"))
        hanging = breaks.hanging & _HANGS[lines.last_kind[line]]
        first, stop = lines.first[line + 1].tolist(), lines.end[line + 1].tolist()
        for place, (start, end) in enumerate(zip(first, stop, strict=True)):
            if match := _MARKER.match(text, start, end):
                if match["number"] or match["article"]:
                    kept[place] |= not hanging[place]
                else:
                    kept[place] |= not (match["list"] and chr(before[place]) in _UNFINISHED)
        return kept

    def _find(self, inside: Breaks) -> None:
        """Finds the widths that explain the breaks inside sentences, the best one first."""
        bare, weight, hanging = inside.bare, inside.weight, inside.hanging
        end = 2 * MAX_COLUMNS
        numbered = inside.width > bare
        # A line that ends with a comma may be an author's, before one that is indented.
        telling = hanging & (self._lines.last_kind[inside.line] != Kind.PAUSE)
        left = np.ones(len(bare), bool)
        low, high = np.searchsorted(self._lines.start, (self._begin, self._stop))
        widest = int(self._lines.width[low:high].max(initial=0))
        for _ in range(_MAX_WIDTHS):
            totals = np.zeros(end + 1)
            for width, mine in ((bare, left), (inside.width, left & numbered)):
                begin = np.minimum(width, end)[mine]
                totals += np.bincount(begin, weight[mine], end + 1)
                beyond = np.minimum(width + inside.need, end)[mine]
                totals -= np.bincount(beyond, weight[mine], end + 1)
            totals = np.cumsum(totals)
            # Of several widths that explain as much the least.
            limit = int(totals.argmax())
            full = left & inside.full(limit)
            near = left & ((bare > 0.6 * limit) & (bare <= 1.5 * limit) | full)
            evidence = int(weight[full].sum())
            share = evidence / max(1, int(weight[near].sum()))
            # That the next line is indented, or no line is longer, says as much as one more break.
            strong = (telling & full).any() or (widest <= limit and np.count_nonzero(full) > 1)
            enough = _MIN_MORE if self.widths else _MIN_EVIDENCE - bool(strong)
            if limit < self._min or evidence < enough or share < _MIN_SHARE:
                return
            self.widths.append(limit)
            left &= ~full

    def _join(self, full: Breaks) -> None:
        """Decides about the full lines, in order."""
        lines, text = self._lines, self._lines.text
        full = full[~self._kept(full)]
        guarded = [
            (a + self._begin, b + self._begin)
            for a, b in spans.protected(text[self._begin : self._stop])
        ]
        ends = [stop for _, stop in guarded]
        separated = self._separated()
        kinds = lines.last_kind[full.line]
        after = lines.kinds[lines.first[full.line + 1]]
        # Before what can't start a line, and after what can't end a sentence.
        sure = OPEN_ENDED[kinds] | (kinds == Kind.OPEN)
        sure |= (after >= Kind.PAUSE) & (after <= Kind.CLOSE)
        head = previous = -2
        for line, last, first, certain in zip(
            full.line.tolist(),
            lines.last[full.line].tolist(),
            lines.first[full.line + 1].tolist(),
            sure.tolist(),
            strict=True,
        ):
            if line != previous + 1:
                head = line
            if ends:
                # Nothing in code, nor at the end of an address that may go on.
                place = bisect.bisect_left(ends, last + 1)
                if place < len(ends) and guarded[place][0] <= last + 1:
                    continue
            if certain or not _ends(text, last) or self._goes_on(line, head, separated):
                self.joins.append((last, first))
                previous = line

    def _separated(self) -> bool:
        """Whether this text's paragraphs have empty lines between them."""
        lines = self._lines
        low, high = np.searchsorted(lines.start, (self._begin, self._stop))
        ended = ENDED[lines.last_kind[low:high]]
        ended &= lines.width[low:high] < 0.8 * max(self.widths)
        blank = lines.blank[low + 1 : high + 1]
        before_blank = np.count_nonzero(ended[: len(blank)] & blank)
        return bool(before_blank > 2 * (np.count_nonzero(ended) - before_blank))

    def _goes_on(self, line: int, head: int, separated: bool) -> bool:
        """Whether a paragraph goes on after a full line that ends a sentence."""
        lines = self._lines
        indent, following = lines.indent[line], lines.indent[line + 1]
        if line != head and indent > lines.indent[head]:
            return bool(following == indent)
        if lines.text.startswith("但", int(lines.first[line + 1])):
            return True
        if line == head and following > indent:
            start, stop = int(lines.first[line]), int(lines.end[line])
            return _MARKER.match(lines.text, start, stop) is not None
        return separated and bool(following == indent)

    def text(self) -> str:
        """Returns the text with the lines joined."""
        text = self._lines.text
        pieces = []
        start = self._begin
        spaced = self._spaces()
        for (last, first), space in zip(self.joins, spaced, strict=True):
            pieces.append(text[start : last + 1])
            if space:
                pieces.append(" ")
            start = first
        pieces.append(text[start : self._stop])
        return "".join(pieces)

    def _spaces(self) -> list[bool]:
        """Says for each join whether a space belongs there."""
        lines = self._lines
        last, first = np.array(self.joins, np.int64).T
        before, after = lines.kinds[last], lines.kinds[first]
        # Columns cut through words and numbers if all lines that end with one have one width.
        words = (before == Kind.WORD) & (after == Kind.WORD)
        number = np.searchsorted(lines.end, last)
        width = lines.bare_widths(number)
        exact = (width[:, None] == np.array(self.widths)).any(1)
        cut = words.any() and np.count_nonzero(words & exact) >= 0.8 * np.count_nonzero(words)
        space = ~NO_SPACE_AFTER[before] & ~NO_SPACE_BEFORE[after]
        wide = lines.columns[last + 1] - lines.columns[last] == 2
        wide |= lines.columns[first + 1] - lines.columns[first] == 2
        space &= ~wide | ((before == Kind.WORD) & (after == Kind.WORD))
        if cut:
            space &= ~(words & exact)
        space &= lines.points[last] != ord("-")
        # Between Han and a word as the text itself does.
        for left, right in ((Kind.HAN, Kind.WORD), (Kind.WORD, Kind.HAN)):
            mixed = (before == left) & (after == right)
            if mixed.any():
                space[mixed] = self._spaced(left, right)
        return space.tolist()

    def _spaced(self, left: Kind, right: Kind) -> bool:
        kinds = self._lines.kinds[self._begin : self._stop]
        points = self._lines.points[self._begin : self._stop]
        together = np.count_nonzero((kinds[:-1] == left) & (kinds[1:] == right))
        apart = (kinds[:-2] == left) & (points[1:-1] == ord(" "))
        return bool(np.count_nonzero(apart & (kinds[2:] == right)) > together)


def _ends(text: str, last: int) -> bool:
    """Whether a closing quote or bracket, or a symbol, has the end of a sentence before it."""
    while last > 0 and text[last] in CLOSES:
        last -= 1
    return text[last] in ENDS
