"""Postal addresses of Taiwan, from county to house number, in Arabic or Han numerals.

A stretch is an address if it ends in a house number (…號, a floor may follow) and names a county or
a township before the road or village; a road alone needs a lane, a floor, or a word such as 住址.
"""

from __future__ import annotations

import regex

from twjax.corpus.personal.patterns import SPACE, Cue, Found, Recognizer, before, recognizer

NUMERAL = r"(?:[0-9]{1,4}+|[一二三四五六七八九十百千〇○零]{1,7}+)"
_S = rf"{SPACE}{{0,2}}+"
_COUNTY = (
    r"(?:[台臺]北|新北|桃園|[台臺]中|[台臺]南|高雄|基隆|新竹|嘉義|苗栗|彰化|南投|雲林|屏東|宜蘭"
    r"|花蓮|[台臺]東|澎湖|金門|連江)[縣市]?"
)
# Names of villages, roads and places; after a county or township anything Han may be one.
_H = r"[\u4e00-\u9fff--[縣市區鄉鎮路街巷弄號樓鄰第住在到於往從寄送的]]"
_TOWN = (
    r"(?:那瑪夏|三地門|阿里山|太麻里|[東西南北中]"
    r"|[\u4e00-\u9fff--[縣市區在於到至的住是從往由和與及或寄送]]{2})[區鄉鎮市]"
)
_VILLAGE = rf"{_H}{{1,4}}?[里村](?!路)"
_ROAD = rf"{_H}{{1,6}}?(?:路|街|大道)"
_HOUSE = (
    rf"(?P<lane>{_S}{NUMERAL}(?:[\-之]{NUMERAL})?巷)?(?:{_S}{NUMERAL}弄)?(?:{_S}{NUMERAL}衖)?"
    rf"{_S}{NUMERAL}(?:[\-－之]{NUMERAL})?{_S}號"
)
_PARTS = (
    rf"(?P<village>{_S}{_VILLAGE})?(?:{_S}{NUMERAL}鄰)?"
    rf"(?P<road>{_S}{_ROAD}(?:{_S}{NUMERAL}段)?)?(?:{_S}(?P<place>{_H}{{1,4}}?))??"
    rf"{_HOUSE}"
)
_NO_HOUSE = regex.compile(
    r"\s?(?:窗口|出口|入口|月台|投開票所|公車|碼頭|倉庫|候選|選手|球員|高速|公路|省道|國道|縣道|公園|計畫|道路|橋|井|坑|隧道|水門|池|堤|水庫)"
)
HEAD = regex.compile(rf"(?:{_COUNTY}{_S})?(?:{_TOWN})?", regex.VERSION1)
_WHOLE = regex.compile(
    rf"(?P<head>(?:(?P<county>{_COUNTY}){_S})?(?:(?P<town>{_TOWN}))?){_PARTS}$", regex.VERSION1
)
_STARTS = (regex.compile(_COUNTY), regex.compile(_TOWN, regex.VERSION1))
# A road by itself: its name could reach into the words before.
_ALONE = regex.compile(
    rf"(?:^|(?<=[^\u4e00-\u9fff]|[住在到至於往寄]))(?P<county>(?!))?(?P<town>(?!))?(?P<village>(?!))?"
    rf"(?P<road>{_H}{{2,4}}?(?:路|街|大道)(?:{_S}{NUMERAL}段)?){_HOUSE}$",
    regex.VERSION1,
)
_TAIL = regex.compile(
    rf"(?:之{NUMERAL})?(?:{_S}[,，、]?{_S}(?:地下(?:室|{NUMERAL}[樓層])|[Bb]?{NUMERAL}[樓Ff](?![a-z]))(?:[之\-－]{NUMERAL})?)?(?:{_S}(?:[A-Z][0-9]{{0,4}}|[0-9]{{1,4}})室)?"
)
_CUE = Cue(
    r"地址|住址|住所|居所|戶籍地?|通訊處|寄[到至往給]|送[到至]|住在?|家在?|搬[到至]|居[住於]|收件人?|寄件人?|租屋處|租在|老家",
    link=r"[^\u4e00-\u9fff\n\0]{0,6}",
)

# 3F., No. 12, Ln. 5, Sec. 2, Minsheng E. Rd., Da'an Dist., Taipei City
_FLOOR = regex.compile(r"(?<![A-Za-z0-9])B?[0-9]{1,2}F\.?(?:-[0-9]{1,2})?,\s?$")
ENGLISH_REST = (
    r"(?P<rest>(?:,\s?[A-Z][A-Za-z'’\- ]{1,24}?\s"
    r"(?:Dist|District|City|Township|County|Vil|Village)\b\.?){1,3}"
    r"(?:\s?[0-9]{3,6}(?![0-9]))?)"
)
_ENGLISH = (
    r"No\.\s?[0-9]{1,4}(?:-[0-9]{1,3})?,\s?(?:(?:Ln|Lane|Aly|Alley)\.?\s?[0-9]{1,4},\s?){0,2}"
    r"(?:(?:Sec|Section)\.?\s?[0-9]{1,2},\s?)?"
    r"[A-Z][A-Za-z0-9'’.\- ]{1,40}?\s(?:Rd|Road|St|Street|Blvd|Boulevard|Ave|Avenue)\b\.?"
    r"(?:,?\s?(?:Sec|Section)\.?\s?[0-9]{1,2})?" + ENGLISH_REST
)


def recognizers() -> list[Recognizer]:
    """Returns the recognizers of addresses."""
    return [
        recognizer(
            "address",
            rf"號(?<=[縣市區鄉鎮路街道段巷弄里村鄰][^\n\0，。；：、,;]{{0,8}}?{NUMERAL}(?:[\-－之]{NUMERAL})?{SPACE}?號)",
            _address,
        ),
        recognizer("address", _ENGLISH, _english),
    ]


def _english(text: str, match: regex.Match[str]) -> Found | None:
    if "Example " in match[0]:
        return None
    floor = _FLOOR.search(before(text, match.start(), 12))
    start = match.start() - (len(floor[0]) if floor else 0)
    return Found("address", start, match.end(), "".join(text[start : match.end()].split()))


def _address(text: str, match: regex.Match[str]) -> Found | None:
    window = before(text, match.end(), 64)
    whole = _whole(window)
    if whole is None or "範例" in whole[0] or _NO_HOUSE.match(text, match.end()):
        return None
    start = match.end() - len(window) + whole.start()
    tail = _TAIL.match(text, match.end(), min(len(text), match.end() + 24))
    end = tail.end() if tail else match.end()
    if whole["county"] is None and whole["town"] is None:
        precise = whole["lane"] or end > match.end()
        if whole["road"] is None or not (precise or _CUE.stands_before(text, start)):
            return None
    elif not (whole["road"] or whole["village"]) and not (whole["county"] and whole["town"]):
        return None
    return Found("address", start, end, "".join(text[start:end].split()))


def _whole(window: str) -> regex.Match[str] | None:
    """Returns the longest address at the end of the window: from a county, a township or a road."""
    for starts in _STARTS:
        for start in starts.finditer(window):
            whole = _WHOLE.match(window, start.start())
            if whole:
                return whole
    return _ALONE.search(window)
