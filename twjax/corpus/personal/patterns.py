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


Where = Literal["text", "numbers", "tokens"]
Check = Callable[[str, "regex.Match[str]"], Found | None]


@dataclasses.dataclass(frozen=True)
class Recognizer:
    """A quick pattern and the check that makes a find of a match, or nothing.

    Patterns for `where` "numbers" or "tokens" read only the text around those (see `windows`).
    """

    kind: str
    pattern: regex.Pattern[str]
    check: Check
    where: Where


def recognizer(kind: str, pattern: str, check: Check, where: Where = "text") -> Recognizer:
    """Compiles the pattern; `regex.VERSION1` gives set operations and full lookbehind."""
    return Recognizer(kind, regex.compile(pattern, regex.VERSION1), check, where)


def codes_of(text: str) -> np.ndarray:
    """Returns the code points in an array of their own: uint8 (ASCII), uint16 or uint32."""
    if text.isascii():
        return np.frombuffer(text.encode("ascii"), np.uint8).copy()
    narrow = text.encode("utf-16-le", "surrogatepass")
    if len(narrow) == 2 * len(text):
        return np.frombuffer(narrow, "<u2").copy()
    return np.frombuffer(text.encode("utf-32-le", "surrogatepass"), "<u4").copy()


def fold(text: str) -> tuple[str, np.ndarray]:
    """Returns the text with full-width letters, digits, ＠ and ． as ASCII, and its code points.

    Every offset stays. The punctuation of Chinese text stays too: patterns know both widths.
    """
    codes = codes_of(text)
    if codes.itemsize == 1:
        return text, codes
    kind = codes.dtype.type
    wide = (codes - kind(0xFF20)) < 0x3B
    wide |= (codes - kind(0xFF10)) < 10
    wide |= codes == 0xFF0E
    if not wide.any():
        return text, codes
    codes[wide] -= kind(0xFEE0)
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


# Between a cue and its value: 電話是：「…」, "phone": "…", 電話\n…
_LINK = (
    r"(?:號碼|[號码碼])?[\"'」』】\])）]{0,2}\s{0,4}(?:是|為|:|：|=|＝|->|→|\||/)?\s{0,4}"
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


# Words before numbers that aren't a person's, whatever their digits look like.
NOT_PERSONAL = Cue(
    r"第(?:[0-9\s、,，及與和~～\-至]{0,48})|字第?|字號|文號|案號|單號|編號|序號|流水號|條碼|料號"
    r"|型號|批號|貨號|學號|書號|代碼|代號|票號|發票|發票號碼|追蹤碼?|識別碼|產品碼|金額|總[計額價]|版本"
    r"|病歷|保單|訂單|購物|合約|契約|收據|憑證|報單|市值|營收|預算|(?<![的新舊個支組換打])號碼"
    r"|統編|統一編號|會員號|工號|核准|許可證|證號|地號|建號|股票|餘額|價格|數量|人次"
    r"|(?<![A-Za-z])(?i:i\s?s\s?b\s?n|issn|ean|upc|sku|s/n|sn|no\.?|ref\.?|order|invoice|ticket|case|id|uid|pid"
    r"|code|key|hash|seq|serial|token|timestamp|time|ts|version|ver\.?|v|build|commit|rev|zip|amount"
    r"|price|total|count|values|sum|size|offset|lot|batch|model|part|doi|pmid|arxiv|tracking)"
    r"(?:[_ -]?(?i:id|no|num|number|code|key|hash))?\.?"
    r"|(?<=[A-Za-z0-9]_)(?i:id|no|num|sn|seq|code|key|ts|time|hash|ref)"
    r"|[$＄€£¥#＃№]"
)
# What manuals write to show a form or to test one.
SAMPLE = Cue(r"格式(?:為|是|如|:|：)?|範例|測試用?(?:信用)?卡號?|(?i:test\scard(?:\snumber)?)")
# And after them.
NOT_PERSONAL_AFTER = regex.compile(
    r"\s{0,2}(?:(?:[、及與和~～\-]\s?[0-9]{6,12}\s?){0,4}(?:號(?!碼|，|。)|令|函)"
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


def is_numbered_thing(text: str, start: int, end: int) -> bool:
    """Whether the words around say that a number is of a document, an order, a price, …"""
    return bool(
        NOT_PERSONAL.stands_before(text, start) or NOT_PERSONAL_AFTER.match(after(text, end, 60))
    )
