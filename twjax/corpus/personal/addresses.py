# ruff: noqa: E501 (word lists and patterns stay in one piece)
"""Postal addresses of Taiwan, from county to house number, in Arabic or Han numerals.

A stretch is an address if it ends in a house number (…號, a floor and a room may follow) and names
a county or a township before the road or village; a road alone needs a lane, a floor, or a word
such as 住 or 寄 near. The parts and their order are those of house plates (縣市, 鄉鎮市區, 村里, 鄰,
路街段, 巷, 弄, 號, 樓); the English order is the reverse, as Chunghwa Post romanises addresses.
"""

from __future__ import annotations

import regex

from twjax.corpus.personal.patterns import SPACE, Found, Recognizer, after, before, recognizer

NUMERAL = r"(?:[0-9]{1,4}+|[一二三四五六七八九十百千〇○零]{1,7}+)"
_S = rf"{SPACE}{{0,2}}+"
_COUNTY = (
    r"(?:[台臺]北|新北|桃園|[台臺]中|[台臺]南|高雄|基隆|新竹|嘉義|苗栗|彰化|南投|雲林|屏東|宜蘭"
    r"|花蓮|[台臺]東|澎湖|金門|連江)[縣市]?"
)
_ZIP = rf"(?:[(（\[]?[0-9]{{3}}(?:[0-9]{{2,3}})?[)）\]]?{_S})?"
# Names of villages and places; after a county or township anything Han may be one.
_H = r"[\u4e00-\u9fff--[縣市區鄉鎮路街巷弄號樓鄰第住在到於往從寄送的]]"
# Roads may be named for any of these: 市府路, 鎮前街, 區運路, 鄉城路.
_R = r"[\u4e00-\u9fff--[縣路街巷弄號樓鄰第住在到於往從寄送的]]"
_TOWN = (
    r"(?:那瑪夏|三地門|阿里山|太麻里|新市|[中永]和|和[美平]|[東西南北中]"
    r"|[\u4e00-\u9fff--[縣市區在於到至的住是從往由和與及或寄送]]{2})[區鄉鎮市]"
)
_VILLAGE = rf"{_H}{{1,4}}?[里村](?!路|街)"
_ROAD = rf"(?:{_R}{{1,7}}?(?:路|街|大道)(?!口)|{_H}{{1,3}}?(?:新村|社區|部落))"
_SECTION = rf"(?:{_S}{NUMERAL}{_S}段)?"
_LANE = rf"(?P<lane>{_S}{NUMERAL}(?:[\-－之]{NUMERAL})?{_S}巷|{_S}{_H}{{1,4}}?巷)?"
_HOUSE = (
    rf"{_LANE}(?:{_S}{NUMERAL}(?:[\-－之]{NUMERAL})?{_S}弄)?(?:{_S}{NUMERAL}{_S}衖)?"
    rf"{_S}(?:臨|附)?{NUMERAL}(?:{_S}[\-－之~～、]{_S}{NUMERAL}){{0,2}}{_S}號"
)
_PARTS = (
    rf"(?P<village>{_S}{_VILLAGE})?(?:{_S}{NUMERAL}{_S}鄰)?"
    rf"(?P<road>{_S}{_ROAD}{_SECTION})?(?:{_S}(?P<place>{_H}{{1,4}}?))??"
    rf"{_HOUSE}"
)
_NO_HOUSE = regex.compile(
    r"\s?(?:窗口|出口|出入口|入口|月台|投開票所|公車|站牌|碼頭|倉庫|候選|選手|球員|高速|公路|省道|國道|縣道|公園|計畫|道路|橋|井|坑|隧道|水門|池|堤|水庫|路燈|電桿|公告|令|函|判決)"
)
HEAD = regex.compile(rf"{_ZIP}(?:{_COUNTY}{_S}{_ZIP})?(?:{_TOWN})?", regex.VERSION1)
_WHOLE = regex.compile(
    rf"(?P<head>(?:(?P<county>{_COUNTY}){_S}{_ZIP})?(?:(?P<town>{_TOWN})(?:{_S}{_ZIP}))?){_PARTS}$",
    regex.VERSION1,
)
_STARTS = (regex.compile(_COUNTY), regex.compile(_TOWN, regex.VERSION1))
# A road by itself: its name could reach into the words before.
_ALONE = regex.compile(
    rf"(?:^|(?<=[^\u4e00-\u9fff]|[住在到至於往寄送是為址家回去來給位租搬從]))(?P<county>(?!))?(?P<town>(?!))?(?P<village>(?!))?"
    rf"(?P<road>(?:(?![是為址我他她們租搬給]){_R}){{1,6}}?(?:路|街|大道)(?!口){_SECTION}){_HOUSE}$",
    regex.VERSION1,
)
_FLOOR_NUMBER = rf"(?:[\-－之]{_S}{NUMERAL})?"
_TAIL = regex.compile(
    rf"(?:{_S}之{_S}{NUMERAL}|[\-－]{NUMERAL}(?![0-9樓Ff]))?"
    rf"(?:{_S}[,，、(（]?{_S}(?:地下{_S}(?:室|{NUMERAL}{_S}[樓層])|[Bb]?{NUMERAL}{_S}(?:[樓層]|[Ff](?![a-z])\.?)|[Bb][1-9](?![0-9A-Za-z])|頂樓|頂加){_FLOOR_NUMBER})?"
    rf"(?:{_S}[,，、]?{_S}(?:[A-Za-z][\-]?[0-9]{{0,4}}|[0-9]{{1,4}})\s?[室房])?"
)
_CUE = regex.compile(
    r"(?:地址|住址|住所|居所|戶籍|通訊處|[寄送]|住|家|搬|居[住於]|收件|租|老家|門牌|[Aa]ddress|ADD|[Tt]o[:：])[^0-9。！？\n\0]{0,8}$"
)
_CUE_AFTER = regex.compile(
    r"[\s，,（(]{0,2}(?:收|我家|住|租|的(?:房子|套房|公寓|家)|[\u4e00-\u9fff]{1,4}(?:先生|小姐|女士|太太|同學)?\s?(?:收|啟))"
)

# 3F., No. 12, Ln. 5, Sec. 2, Minsheng E. Rd., Da'an Dist., Taipei City
_FLOOR = regex.compile(
    r"(?<![A-Za-z0-9])(?:(?:Rm|Room)\.?\s?[0-9A-Z\-]{1,5},\s?)?(?:B?[0-9]{1,2}F\.?(?:-[0-9]{1,2})?,?\s?)?$"
)
_CITIES = r"(?:New\s)?(?:Taipei|Taoyuan|Taichung|Tainan|Kaohsiung|Keelung|Hsinchu|Chiayi|Miaoli|Changhua|Nantou|Yunlin|Pingtung|Yilan|Hualien|Taitung|Penghu|Kinmen)"
ENGLISH_REST = (
    rf"(?P<rest>(?:,\s?[A-Z][A-Za-z'’\- ]{{1,24}}?\s(?:Dist|District|City|Township|County|Vil|Village)\b\.?|,?\s{_CITIES}\b(?:\sCity|\sCounty)?){{1,4}}"
    r"(?:,?\s?[0-9]{3,6}(?![0-9]))?(?:,?\s?Taiwan)?(?:,?\s?\(?R\.?\s?O\.?\s?C\.?\)?)?)"
)
_WAY = r"(?:Rd|Road|St|Street|Blvd|Boulevard|Ave|Avenue)\b\.?"
_ENGLISH = (
    r"N[oO]\.?\s?[0-9]{1,4}(?:-[0-9]{1,3})?,?\s?(?:(?:Ln|Lane|Aly|Alley)\.?\s?[0-9]{1,4},?\s?){0,2}"
    r"(?:(?:Sec|Section)\.?\s?[0-9]{1,2},?\s?)?"
    rf"[A-Z0-9][A-Za-z0-9'’.\- ]{{1,40}}?\s{_WAY}"
    r"(?:,?\s?(?:Sec|Section)\.?\s?[0-9]{1,2})?" + ENGLISH_REST
)


def recognizers() -> list[Recognizer]:
    """Returns the recognizers of addresses."""
    return [
        recognizer(
            "address",
            rf"號(?<=[縣市區鄉鎮路街道段巷弄里村鄰社落][^\n\0，。；：,;]{{0,12}}?{NUMERAL}{SPACE}{{0,2}}號)",
            _address,
        ),
        recognizer("address", _ENGLISH, _english),
    ]


def _english(text: str, match: regex.Match[str]) -> Found | None:
    if "Example " in match[0] or before(text, match.start(), 1).isalpha():
        return None
    floor = _FLOOR.search(before(text, match.start(), 22))
    start = match.start() - (len(floor[0]) if floor else 0)
    return Found("address", start, match.end(), "".join(text[start : match.end()].split()))


def _address(text: str, match: regex.Match[str]) -> Found | None:
    window = before(text, match.end(), 72)
    whole = _whole(window)
    if whole is None or "範例" in whole[0] or _NO_HOUSE.match(text, match.end()):
        return None
    start = match.end() - len(window) + whole.start()
    tail = _TAIL.match(text, match.end(), min(len(text), match.end() + 28))
    end = tail.end() if tail else match.end()
    if text[match.end() : end].strip(" ,，、(（\u3000\u00a0") == "":
        end = match.end()
    if whole["county"] is None and whole["town"] is None:
        precise = whole["lane"] or end > match.end()
        if whole["road"] is None:
            return None
        if not (
            precise
            or _CUE.search(before(text, start, 20))
            or _CUE_AFTER.match(after(text, end, 12))
        ):
            return None
    elif not (whole["road"] or whole["village"] or whole["lane"]) and not (
        whole["county"] and whole["town"]
    ):
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
