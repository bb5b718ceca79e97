"""How personal data is looked for: text with one width, quick patterns, and what stands around.

Each kind has patterns of its own, which begin with something rare so that `regex` skips most of
the text, and a check in Python that few stretches reach. One big alternation would be 70 times
slower. All repetitions are bounded or possessive: no text makes them take more than linear time.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Literal, NamedTuple

import numpy as np
import regex

# Stands between the documents of one scan. No pattern matches it, no context reaches past it.
BREAK = "\0"

# What people put between the digits of one number.
SEPARATOR = r"[ \u00a0\u3000\-－‐-―−.．()（）・]"
SPACE = r"[ \u00a0\u3000]"
DASH = r"[\-－‐-―−]"


class Found(NamedTuple):
    """One stretch [start, end) of personal data; `value` tells equal ones apart from others."""

    kind: str
    start: int
    end: int
    value: str


Where = Literal["text", "numbers", "tokens", "plates"]
Check = Callable[[str, "regex.Match[str]"], Found | None]


@dataclasses.dataclass(frozen=True)
class Recognizer:
    """A quick pattern and the check that makes a find of a match, or nothing.

    A text without `needs`, a piece of every match, isn't read at all.
    Patterns for `where` other than "text" read only the text around such places (see `windows`).
    """

    kind: str
    pattern: regex.Pattern[str]
    check: Check
    where: Where
    needs: str = ""


def recognizer(
    kind: str, pattern: str, check: Check, where: Where = "text", needs: str = ""
) -> Recognizer:
    """Compiles the pattern; `regex.VERSION1` gives set operations and full lookbehind."""
    return Recognizer(kind, regex.compile(pattern, regex.VERSION1), check, where, needs)


def codes_of(text: str) -> np.ndarray:
    """Returns the code points in an array of their own: uint8 (ASCII), uint16 or uint32."""
    if text.isascii():
        return np.frombuffer(text.encode("ascii"), np.uint8).copy()
    narrow = text.encode("utf-16-le", "surrogatepass")
    if len(narrow) == 2 * len(text):
        return np.frombuffer(narrow, "<u2").copy()
    return np.frombuffer(text.encode("utf-32-le", "surrogatepass"), "<u4").copy()


# 〇九一二－三四五－六七八: numerals read one by one, no units among them.
_HAN_VALUES = {c: i for i, c in enumerate("〇一二三四五六七八九")} | {"零": 0, "○": 0, "◯": 0}
_HAN_NUMBER = regex.compile(
    rf"[{''.join(_HAN_VALUES)}](?:{SEPARATOR}{{0,3}}+[{''.join(_HAN_VALUES)}]){{5,}}+"
)
_HAN_DIGIT = np.zeros(0x10000, bool)
_HAN_DIGIT[[ord(c) for c in _HAN_VALUES]] = True
_SEPARATORS = np.zeros(0x10000, bool)
_SEPARATORS[[ord(c) for c in " \u00a0\u3000-－‐‑‒–—―−.．()（）・"]] = True


def _han_numbers(text: str, codes: np.ndarray) -> list[tuple[int, str]]:
    """Returns places and numerals of numbers of 6 Han digits or more, of which 3 differ."""
    low = codes if codes.itemsize == 2 else np.minimum(codes, 0xFFFF)
    places = np.flatnonzero(_HAN_DIGIT[low])
    if len(places) < 6:
        return []
    gap = np.diff(places)
    joined = (gap == 1) | ((gap <= 4) & _SEPARATORS[low[places[:-1] + 1]])
    edges = np.flatnonzero(np.diff(joined, prepend=False, append=False))
    firsts, lasts = edges[::2], edges[1::2]
    found: list[tuple[int, str]] = []
    for start in places[firsts[lasts - firsts >= 5]].tolist():
        match = _HAN_NUMBER.match(text, start)
        if match is None:
            continue
        # 陳○○○○○○ hides a name.
        if len({_HAN_VALUES.get(c) for c in match[0]} - {None, 0}) >= 3:
            found += [(start + i, c) for i, c in enumerate(match[0]) if c in _HAN_VALUES]
    return found


def fold(text: str) -> tuple[str, np.ndarray]:
    """Returns the text with full-width letters, digits, ＠ and ． as ASCII, and its code points.

    Numbers in Han digits become ASCII too. Every offset stays. The punctuation of Chinese text
    stays too: patterns know both widths.
    """
    codes = codes_of(text)
    if codes.itemsize == 1:
        return text, codes
    kind = codes.dtype.type
    wide = (codes - kind(0xFF20)) < 0x3B
    wide |= (codes - kind(0xFF10)) < 10
    wide |= codes == 0xFF0E
    han = _han_numbers(text, codes)
    if not han and not wide.any():
        return text, codes
    codes[wide] -= kind(0xFEE0)
    for place, char in han:
        codes[place] = 48 + _HAN_VALUES[char]
    codec = "utf-16-le" if codes.itemsize == 2 else "utf-32-le"
    return codes.tobytes().decode(codec, "surrogatepass"), codes


def digits_of(text: str) -> str:
    """Returns the ASCII digits in the text."""
    return "".join(c for c in text if "0" <= c <= "9")


def before(text: str, start: int, size: int) -> str:
    """Returns up to `size` characters before `start`, of the same document."""
    return text[max(0, start - size) : start].rpartition(BREAK)[2]


def after(text: str, end: int, size: int) -> str:
    """Returns up to `size` characters from `end` on, of the same document."""
    return text[end : end + size].partition(BREAK)[0]


# What a form remarks on a field: 電話（日）：, 生日(7碼或8碼)：.
REMARK = (
    r"(?:\s?[(（\[【〔](?![0-9\s\-+]{0,12}[)）\]】〕])[^()（）\[\]【】〔〕\n\0]{1,24}[)）\]】〕])"
)
# Between a cue and its value: 電話是：「…」, "phone": "…", 電話\n…, 電話（日）請撥…
_LINK = (
    rf"(?:號碼|[號码碼])?{REMARK}?"
    r"[\"'」』】\])）]{0,2}\s{0,4}(?:已?[改換更][成為]|就?是|為|如[下右]|請[洽撥打]|洽詢?|詢問|搜尋|(?<=\s)(?i:is|as)(?=[\s:]))?"
    r"\s{0,2}(?:[:：=＝→|/]|->)?\s{0,4}"
    r"[\"'「『【\[(（#＃]{0,2}"
)


class Cue:
    """One of some words right before a value, up to colons and quotes between them."""

    def __init__(self, words: str, gap: str = "", link: str = _LINK):
        # Backwards from the value: a search forwards would try every place of the context.
        self._pattern = regex.compile(f"(?r)(?:{words}){gap}{link}", regex.VERSION1)

    def stands_before(self, text: str, start: int) -> bool:
        """Whether one of the words leads to the value at `start`."""
        return self._pattern.match(before(text, start, 60)) is not None


# Nouns before numbers that aren't a person's, whatever their digits look like.
THINGS = (
    r"第|(?<![數文大])字第?|字號|文號|案號|單號|編號|序號|流水號|條碼|料號|型號|批號|貨號|學號|書號|票號|發票|追蹤碼?"
    r"|識別碼|產品碼|金額|總[計額價]|版本|病歷號?|保單|訂單|購物|合約|契約|收據|憑證|報單|市值|營收|預算"
    r"|統編|會員號|工號|核准|許可證|地號|建號|股票|餘額|價格|數量|人次|准考證號?|索書|專利|商標|公告"
)
NOT_PERSONAL = Cue(
    rf"第(?:[0-9\s、,，及與和~～\-至]{{0,48}})|{THINGS}|代碼|代號|統一編號|證號|(?<![的新舊個支組換打])號碼"
    r"|(?<![A-Za-z])(?i:i\s?s\s?b\s?n|issn|ean|upc|sku|s/n|sn|no\.?|ref\.?|order|invoice|ticket|case|id|uid|pid"
    r"|code|key|hash|seq|serial|token|timestamp|time|ts|version|ver\.?|v|build|commit|rev|zip|amount"
    r"|price|total|count|values|sum|size|offset|lot|batch|model|part|doi|pmid|arxiv|tracking)"
    r"(?:[_ -]?(?i:id|no|num|number|code|key|hash))?\.?"
    r"|(?<=[A-Za-z0-9]_)(?i:id|no|num|sn|seq|code|key|ts|time|hash|ref)"
    r"|[$＄€£¥#＃№]"
)
# A noun governs a number over a few words, a colon and a space: 訂單已成立 09…, 編號欄位：09….
_SAME_CLAUSE = regex.compile(
    r"[^，,。；;、！？!?\n\0（）()\]】〕:：\s]{0,6}+\s{0,2}(?:[^\s\u3400-\u9fff]{1,3}\s?)?"
)
_SENTENCE_ENDS = regex.compile(r"[。！!；]")
_ENDS_IN_REMARK = regex.compile(rf"(?r){REMARK}\s?[:：]?\s{{0,2}}", regex.VERSION1)
# An answer goes on with what was asked for: 請報卡號。我：…, 「卡號？」「好。」「…」.
_ANSWER = regex.compile(
    r"[^。！!；]*+[。！!；][」』”\"]?\s{0,2}(?:[^\s，,。；;：:、]{1,8}\s?[:：]\s?)?[「『“\"]?\s?"
)


class Nearest:
    """Whether words for a kind of value, or words for other things, stand nearest before it.

    Of two that end in the same place the first group's wins: 身分證字號 over 字號. Words for the
    kind reach over `reach` characters up to the end of a sentence, the others over a clause.
    """

    def __init__(self, yes: str, no: str = THINGS, reach: int = 32):
        self._pattern = regex.compile(f"(?r)(?:(?P<yes>{yes})|(?P<no>{no}))", regex.VERSION1)
        self._reach = reach

    def says(self, text: str, start: int) -> bool | None:
        """Returns True or False for the nearest group of words, None where neither governs."""
        left = before(text, start, self._reach)
        end = len(left)
        # The words nearest may be another number's: 公告：洽阿源 09…
        for _ in range(3):
            found = self._pattern.search(left, 0, end)
            if found is None:
                return None
            gap = left[found.end() :]
            remark = found["no"] is not None and _ENDS_IN_REMARK.match(left)
            if remark and remark.start() < found.start():
                # 卡號（右下12位數字，非條碼）: what a field remarks says nothing against it.
                cue = self._pattern.match(left, 0, remark.start())
                if cue and cue["no"] is None:
                    return True
            if found["no"] is None:
                return True if not _SENTENCE_ENDS.search(gap) or _ANSWER.fullmatch(gap) else None
            if _SAME_CLAUSE.fullmatch(gap):
                return False
            end = found.start()
        return None


# What an article is made of, and a message or a record is not: notes, headings, links.
ARTICLE = regex.compile(
    r"\[\^[^\]\n]{1,24}\]|(?m:^[ \t]{0,3}#{1,4} \S)|\*\*[^*\n]{1,60}\*\*|(?i:wikipedia)"
    r"|(?i:baike\.baidu)|\]\(https?:|==[ ]?[^=\n]{1,30}[ ]?==|<h[1-4]|<ref"
)
# What manuals write to show a form or to test one.
SAMPLE = Cue(r"格式(?:為|是|如|:|：)?|範例|測試用?(?:信用)?卡號?|(?i:test\scard(?:\snumber)?)")
# And after them.
NOT_PERSONAL_AFTER = regex.compile(
    r"[^\S\n]{0,2}千?(?:(?:[、及與和~～\-]\s?[0-9]{6,12}\s?){0,4}(?:號(?!碼|，|。)|令|函)"
    r"|(?:美|日|港|歐|韓|英|澳|人民|新?[臺台])?[元圓幣金]|股|張|件|筆|噸|公[里斤尺噸頃]|人|次|%|％|萬|億|年|位元)"
)
# Inside a URL, a path or an assignment, digits name a thing.
_IN_URL = regex.compile(r"(?://|[A-Za-z0-9_\-.]/|[?&%=])[^\s\u3400-\u9fff，。；：]*+$")


def follows_ordinal(text: str, start: int) -> bool:
    """Whether 第 or 字 stands before, as in the numbers of laws: a quick way to say no."""
    return text[max(0, start - 4) : start].rstrip().endswith(("第", "字"))


def in_address_of_page(text: str, start: int) -> bool:
    """Whether the position is inside a URL or a path."""
    near = before(text, start, 80)
    found = _IN_URL.search(near)
    return found is not None


def joins_word(text: str, start: int) -> bool:
    """Whether the letters, digits or version before the position run on into it."""
    left = before(text, start, 2)
    if not left or not left[-1].isascii() or before(text, start, 3).lower() == "no.":
        return False
    return left[-1].isalnum() or left[-1] == "_" or (left[-1] in "-." and left[:1].isalnum())


def is_numbered_thing(text: str, start: int, end: int) -> bool:
    """Whether the words around say that a number is of a document, an order, a price, …"""
    return bool(
        NOT_PERSONAL.stands_before(text, start) or NOT_PERSONAL_AFTER.match(after(text, end, 60))
    )
