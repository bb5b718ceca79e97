"""Dates of birth: dates of either calendar beside words that say so.

What forms say (生日：, 出生年月日：, DOB:), what records say (民國75年3月5日生), and what somebody
says of themselves or their family (我是1990年5月20日出生的). Dates in biographies
(生於1956年8月31日) are public and are left, unless the first person is near. Nobody born before
1905 is alive.
"""

from __future__ import annotations

import regex

from twjax.corpus.personal.patterns import SPACE, Found, Recognizer, after, before, recognizer

_D, _H = r"[0-9]", "[〇○零一二三四五六七八九十廿卅元百]"
_ERA = rf"(?:(?:(?:中華)?民國|民(?={SPACE}?[0-9])|西元|公元){SPACE}?)?"
_DIGITS = rf"{_D}{{2,4}}{SPACE}?年{SPACE}?{_D}{{1,2}}{SPACE}?月{SPACE}?{_D}{{1,2}}{SPACE}?[日號]"
_HAN = rf"{_H}{{1,7}}年{_H}{{1,3}}月{_H}{{1,4}}[日號]"
_MARKED = rf"{_D}{{2,4}}(?P<s>[./\-－．／]){_D}{{1,2}}(?P=s){_D}{{1,2}}(?![0-9])"
_PLAIN = rf"(?:19|20){_D}{{6}}(?![0-9])|[01]?{_D}{{6}}(?![0-9])"
_ENGLISH = rf"{_D}{{1,2}}/{_D}{{1,2}}/{_D}{{4}}(?![0-9])"
_MONTH = (
    r"(?:Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sept?|Oct|Nov|Dec)"
    r"(?:uary|ruary|ch|il|e|y|ust|ember|tember|ober)?"
)
MONTH = regex.compile(_MONTH)
_IN_WORDS = (
    rf"(?:{_MONTH}\.?{SPACE}{_D}{{1,2}}(?:st|nd|rd|th)?,?{SPACE}{_D}{{4}}"
    rf"|{_D}{{1,2}}(?:st|nd|rd|th)?[ \-]{_MONTH}\.?,?[ \-]{_D}{{4}})(?![0-9])"
)
_WRITTEN = rf"(?P<n>{_ERA}(?:{_DIGITS}|{_HAN}|{_MARKED}|{_ENGLISH}|{_PLAIN}|{_IN_WORDS}))"
# Without a group for the separator: these are also read backwards.
_SHORT = (
    rf"(?:{_D}{{2,4}}(?:/{_D}{{1,2}}/|\.{_D}{{1,2}}\.|-{_D}{{1,2}}-|－{_D}{{1,2}}－){_D}{{1,2}}"
    rf"|(?:19|20){_D}{{6}}|[01]?{_D}{{6}})"
)
_AFTER_DATE = ("出生", "生，", "生,", "生）", r"生\)")
_SEX = regex.compile(r"生\s?[，,、]\s?[男女]性?(?![\u4e00-\u9fff])")
# 生日(民國)： 75/3/5, "birthday": "1986-03-05".
_LINK = (
    r"(?:年月日|日期|日|時間)?[\"'」』\])）*]{0,2}(?:\s{0,3}[（(][^()（）\n\0]{1,12}[)）])?\s{0,4}"
    r"(?:是在|是|為|:|：|=|＝|\|){0,2}\s{0,4}[\"'「『(（*]{0,2}"
)
_BIOGRAPHY = regex.compile("出生(?:日期)?(?:於|在)?[ （(]?[0-9〇○零一二三四五六七八九]{4}\\s?年")
_FAMILY = regex.compile(
    r"(?:我|本人|敝人|咱|家父|家母|兒子|女兒|老公|老婆|先生|太太|媽媽|爸爸|被告|原告|聲請人|被繼承人|病患|患者|個案|申請人|當事人|學生|考生|被保險人|要保人|會員|旅客)[^。！？\n\0]{0,24}$"
)
_ROC = regex.compile(r"^(?:中華)?民國?")
_CALENDAR = regex.compile(r"^(?:(?:中華)?民國|西元|公元)")
_MONTHS = (
    *("Jan", "Feb", "Mar", "Apr", "May", "Jun"),
    *("Jul", "Aug", "Sep", "Oct", "Nov", "Dec"),
)
_NUMBER = regex.compile(rf"{_D}+|{_H}+")


def recognizers() -> list[Recognizer]:
    """Returns the recognizers of dates of birth."""
    spoken = rf"(?P<n>{_ERA}(?:{_DIGITS}|{_HAN}))"

    def short(word: str) -> str:
        return rf"(?<=(?<![0-9./\-－])(?P<n>{_ERA}{_SHORT}){word})"

    return [
        recognizer("birth date", rf"生日{_LINK}{_WRITTEN}", _labelled),
        recognizer("birth date", rf"出生{_LINK}{_WRITTEN}", _labelled),
        recognizer("birth date", rf"(?<![A-Za-z])DOB{_LINK}{_WRITTEN}", _labelled),
        recognizer("birth date", rf"irth(?:day|date|_date)?{_LINK}{_WRITTEN}", _labelled),
        recognizer("birth date", rf"生於{SPACE}?{spoken}", _told),
        recognizer("birth date", rf"生於{SPACE}?(?P<n>{_ERA}{_SHORT})(?![0-9])", _told),
        recognizer("birth date", rf"I (?:was|am) born (?:on )?{_WRITTEN}", _labelled),
        *(recognizer("birth date", word + short(word), _told) for word in _AFTER_DATE),
        recognizer("birth date", rf"日(?:出生|生(?![效產活長成]))(?<={spoken}(?:出生|生))", _told),
    ]


def _date(written: str) -> tuple[int, int, int] | None:
    """Returns year of our era, month and day; None for dates that aren't or can't be a birth."""
    numbers = _NUMBER.findall(_CALENDAR.sub("", written))
    month_name = MONTH.search(written)
    if month_name and len(numbers) == 2:
        numbers = [numbers[1], str(_MONTHS.index(month_name[0][:3]) + 1), numbers[0]]
    if len(numbers) == 1 and len(numbers[0]) in (6, 7, 8):
        numbers = [numbers[0][:-4], numbers[0][-4:-2], numbers[0][-2:]]
    if len(numbers) != 3:
        return None
    if len(numbers[2]) == 4 and numbers[2].isascii():
        numbers = [numbers[2], numbers[0], numbers[1]]
    year, month, day = (int(n) if n[0].isascii() else han_number(n) for n in numbers)
    if year < 200:
        year += 1911
    # A 30th of February is what surrogates have.
    if not (1905 <= year < 2100 and 1 <= month <= 12 and 1 <= day <= 31) or (month, day) == (2, 30):
        return None
    return year, month, day


def han_number(written: str) -> int:
    """Returns the number below 10,000 that Han numerals say: 七十五, 一〇二, 一九八六, 元."""
    values = {c: i for i, c in enumerate("〇一二三四五六七八九")} | {"零": 0, "○": 0, "元": 1}
    if not set(written) & set("十廿卅百"):
        return int("".join(str(values.get(c, 0)) for c in written))
    total, unit = 0, 0
    for char in written:
        if char in "十百":
            total, unit = total + max(unit, 1) * (10 if char == "十" else 100), 0
        elif char in "廿卅":
            total, unit = total + (20 if char == "廿" else 30), 0
        else:
            unit = values.get(char, 0)
    return total + unit


def _labelled(text: str, match: regex.Match[str]) -> Found | None:
    date = _date(match["n"])
    if date is None:
        return None
    # 出生日期1958年10月29日 is a biography's, 出生日期：1958年10月29日 a form's.
    biography = _BIOGRAPHY.match(match[0]) and not _ROC.match(match["n"])
    if biography and not _FAMILY.search(before(text, match.start(), 40)):
        return None
    return Found("birth date", *match.span("n"), "{}-{}-{}".format(*date))


def _told(text: str, match: regex.Match[str]) -> Found | None:
    found = _labelled(text, match)
    if found is None:
        return None
    of_record = _ROC.match(match["n"]) and match[0].startswith("日")
    # 王小明，1999年1月13日生，男
    of_record = of_record or _SEX.match(after(text, found.end, 6))
    near = before(text, min(match.start(), found.start), 40)
    return found if of_record or _FAMILY.search(near) else None
