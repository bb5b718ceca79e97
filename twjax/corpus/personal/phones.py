# ruff: noqa: E501 (word lists and patterns stay in one piece)
"""Telephone numbers of Taiwan in the ways people write them, by the numbering plan and context."""

from __future__ import annotations

import regex

from twjax.corpus.personal import identifiers
from twjax.corpus.personal.patterns import (
    DASH,
    SEPARATOR,
    SPACE,
    THINGS,
    Cue,
    Found,
    Nearest,
    Recognizer,
    after,
    before,
    digits_of,
    follows_ordinal,
    in_address_of_page,
    is_numbered_thing,
    recognizer,
)  # fmt: skip

_PHONE_WORDS = (
    r"電話|[家公宅住來回去]電|代表號|總機|手機|行動|門號|連絡|聯絡|聯繫|聯絡人|專線|傳真|撥打?|打給我?|打到|打|來電|致電|洽詢?|簡訊|市話|住家|公司|夜間|日間|簡訊至"
    r"|(?<![A-Za-z])(?i:(?:to|from|recipient|caller|callee)(?==)|msisdn|tel|telephone|phone|phone_?number|mobile|cell|cellphone|call|fax|contact|whatsapp|sms"
    r"|line|m|t|p|h)\.?|(?i:(?<=[a-z0-9]_)(?:tel|phone|mobile|cell|fax))|(?<=[a-z])(?:Phone|Mobile|Tel|Number)"
)
_PHONE_CUE = Cue(_PHONE_WORDS, r"(?:\s?[(（][A-Za-z\u4e00-\u9fff]{1,8}[)）]|[一二三1-3]|[人者])?")
# The same words a few more away; a noun for another number may stand nearer.
_PHONE = Nearest(
    r"電話|代表號|總機|手機|行動|門號|[連聯]絡|聯繫|專線|傳真|撥|打|來電|致電|洽|簡訊|市話|住家|日間|夜間|辦公室|研究室|管理室|警衛室?|櫃[台檯]|先生|小姐|女士|老師|主任|[(（][公宅家日夜OoHh][)）]"
    r"|(?<![A-Za-z])(?i:tel|telephone|phone|mobile|cell|call|fax|contact|whatsapp|office|home)",
    THINGS + r"|代碼|代號|統一編號|帳號|座標|經緯|比[分數]|得分|時間|日期",
    28,
)
_PHONE_AFTER = regex.compile(
    r"[0-9][0-9 .\-()]{6,14}[^0-9\n。]{0,8}(?:來電|打[來給電]|回電|致電|洽|聯絡|電話|分機)"
)
# A stronger sign is asked of numbers without area code.
_TELEPHONE = Cue(
    r"電話|市話|傳真|專線|住家|室話|[家宅]電|(?<![A-Za-z])(?i:tel|fax)\.?",
    r"(?:\s?\([A-Za-z]{1,8}\))?",
)
# 電話 300 000 支, 專線 200-500 分鐘.
_COUNTED = regex.compile(
    r"\s?[多餘]?(?:[支線戶通次分部門人元台個年月日歲坪]|[,，.][0-9]|[~～–—:/])"
)
_EXTENSION = regex.compile(
    rf"(?:{SPACE}{{0,2}}+[,，(（]?(?:{DASH}?[#＃]|[*＊](?=[0-9]{{2}})|轉分機|分機|轉|內線|(?i:ext\.?|extension|x))(?:號碼?)?{SPACE}{{0,2}}+[:：.]?{SPACE}?[0-9]{{1,6}}+"
    rf"(?:[)）](?<=[(（].{{0,16}}))?)(?![0-9])"
)
# Spaces alone are between many figures: 永昌五金行 049 2431574, 陳大姐 02 2345 6789, 02 2345 6789 找小林.
_SOMEBODYS = regex.compile(
    r"(?:[\u4e00-\u9fff](?:[行店館坊屋廠社莊園堂房鋪舖攤司家部]|餐廳|小吃|診所|公司|工作室|企業|商號|民宿|旅社|市場|[姐姊哥嫂伯叔姨嬸媽爸婆公嬤])"
    r"|先生|小姐|女士|太太|老師|師傅|師父|老闆娘?|店長|阿[\u4e00-\u9fff])[\s:：]{1,2}$"
)
_SOMEBODY_AFTER = regex.compile(
    r"[\s（(，,]{0,2}(?:老闆|店長|先生|小姐|女士|太太|老師|師傅|主任|經理|請?[找洽]|阿[\u4e00-\u9fff]|分機|轉|[#＃])|[\s（(，,]{1,2}[\u4e00-\u9fff]{1,3}(?:先生|小姐|女士|太太|老師|師傅|[姐姊哥嫂伯叔姨嬸])"
)
# Within a sentence a number written in full is one, among figures it may not be.
_IN_PROSE_BEFORE = regex.compile(r"(?:[\u4e00-\u9fff][，：:、（(「]?|[，：、（「])\s?$")
_IN_PROSE_AFTER = regex.compile(r"\s?[，、。！）」\u4e00-\u9fff]")
_CALL = regex.compile(r"(?<![A-Za-z0-9_])[a-z_][A-Za-z0-9_]*+$")
_GROUP = regex.compile("[0-9]++")
_MOBILE_GROUPS = {
    (10,), (4, 3, 3), (4, 6), (2, 4, 4), (3, 3, 4), (4, 2, 4), (4, 2, 2, 2), (4, 4, 2), (2, 8),
    (3, 7),
    (7, 3), (4, 1, 5), (2, 2, 3, 3), (5, 5), (3, 4, 3), (5, 2, 3), (5, 3, 2), (2, 3, 5), (2, 3, 2, 3), (2, 2, 2, 2, 2),
}  # fmt: skip
_LOCAL_GROUPS = {
    *((8,), (4, 4), (7,), (3, 4), (4, 3), (6,), (3, 3), (2, 4), (2, 2, 2), (5,), (2, 3), (1, 4)),
    *((1, 3, 4), (2, 2, 4), (2, 3, 3), (3, 2, 3)),
}


def recognizers() -> list[Recognizer]:
    """Returns the recognizers of mobile numbers and landlines."""
    gap = rf"(?:{SEPARATOR}{{0,3}}+[0-9])"
    one = rf"{SEPARATOR}{{1,3}}+"
    return [
        recognizer("mobile", rf"09{gap}{{8}}+(?![0-9])", _mobile, "numbers"),
        recognizer(
            "mobile",
            rf"09[0-9]{{2}}[/／_][0-9]{{3}}(?:{DASH}|[/／_])?[0-9]{{3}}(?![0-9/／])",
            _mobile,
            "numbers",
        ),
        # Digits one by one: 0 9 1 2 3 4 5 6 7 8.
        recognizer("mobile", rf"0{one}9(?:{one}[0-9]){{8}}(?![0-9])", _spaced, "numbers"),
        recognizer("landline", rf"0{one}[2-8](?:{one}[0-9]){{7,8}}(?![0-9])", _spaced, "numbers"),
        recognizer("mobile", rf"886{gap}{{9,10}}(?![0-9])", _mobile_abroad, "numbers"),
        recognizer("landline", rf"0[2-8]{gap}{{6,10}}(?![0-9])", _landline, "numbers"),
        recognizer(
            "landline",
            r"0[2-8][0-9]{0,2}+ ?[/／] ?[2-9][0-9]{2,3}[\- ]?[0-9]{3,4}(?![0-9/])",
            _landline,
            "numbers",
        ),
        recognizer("landline", rf"886{gap}{{7,11}}(?![0-9])", _landline_abroad, "numbers"),
        recognizer(
            "landline",
            rf"[2-9](?:[0-9]{{2,3}}+(?:{DASH}|{SPACE})[0-9]{{4}}+|[0-9]{{6,7}}+|(?: [0-9]){{6,7}}+)(?![0-9\-])",
            _landline_without_area,
            "numbers",
        ),
        # Of six digits, as in Miaoli, Taitung and on the islands.
        recognizer(
            "landline",
            rf"[2-9](?:[0-9]{{2}}+(?:{DASH}|{SPACE})[0-9]{{3}}+|[0-9]{{5}}+)(?![0-9\-])",
            _landline_without_area,
            "numbers",
        ),
    ]


def _opened(text: str, start: int, end: int) -> int:
    """Returns where a number begins whose plus, or bracket closed within it, stands before."""
    while start and text[start - 1] in "(（+＋":
        start -= 1
    closed = len(regex.findall("[)）]", text[start:end]))
    while text[start] in "(（" and len(regex.findall("[(（]", text[start:end])) > closed:
        start += 1
    return start


def _stands_alone(text: str, start: int, end: int) -> bool:
    """Whether no letter, digit or decimal point belongs to the number, and no URL is around it."""
    left, right = before(text, start, 14), after(text, end, 2)
    if _PHONE_CUE.stands_before(text, start):
        alone = True
    elif left and left[-1].isascii() and (left[-1].isalnum() or left[-1] == "_"):
        return False
    else:
        alone = not in_address_of_page(text, start)
    if len(left) > 1 and left[-2].isascii() and left[-2].isalnum():
        # 3.0912…, a-0912…, 05:04.9695…; a[0912…].
        if left[-1] in ".-－" or (left[-1] == ":" and left[-2].isdigit()):
            return False
        if left[-1] == "(" and _CALL.search(left[:-1]):
            return False
        if left[-1] == "[" and not _PHONE_CUE.stands_before(text, start):
            return False
    if right and right[0].isascii() and (right[0].isalnum() or right[0] == "_"):
        return False
    return alone and not (
        len(right) > 1 and right[0] in ".-_" and right[1].isascii() and right[1].isalnum()
    )


def _is_called(text: str, start: int, end: int) -> bool:
    """Whether words of telephones lead to the number, or somebody's name stands beside it."""
    if _PHONE_CUE.stands_before(text, start):
        return True
    said = _PHONE.says(text, start)
    if said is not None:
        return said
    return bool(
        _PHONE_AFTER.match(after(text, start, 40))
        or _SOMEBODYS.search(before(text, start, 8))
        or _SOMEBODY_AFTER.match(after(text, end, 12))
    )


def _in_prose(text: str, start: int, end: int) -> bool:
    """Whether Chinese text runs on around the number, and counts or numbers nothing with it."""
    return bool(
        _IN_PROSE_BEFORE.search(before(text, start, 4))
        and _IN_PROSE_AFTER.match(after(text, end, 2))
        and not is_numbered_thing(text, start, end)
        and not _COUNTED.match(text, end)
    )


def _is_phone(text: str, start: int, end: int) -> bool:
    if not _stands_alone(text, start, end):
        return False
    if _PHONE_CUE.stands_before(text, start):
        return True
    return _PHONE.says(text, start) is not False and not is_numbered_thing(text, start, end)


def _mobile(text: str, match: regex.Match[str]) -> Found | None:
    if follows_ordinal(text, match.start()):
        return None
    groups = _GROUP.findall(match[0])
    value = "".join(groups)
    if not identifiers.is_mobile(value) or tuple(map(len, groups)) not in _MOBILE_GROUPS:
        return None
    start, end = _opened(text, match.start(), match.end()), match.end()
    if "." in match[0] and len(groups) == 2:
        return None
    return Found("mobile", start, end, value) if _is_phone(text, start, end) else None


def _spaced(text: str, match: regex.Match[str]) -> Found | None:
    start, end = _opened(text, *match.span()), match.end()
    value = digits_of(match[0])
    mobile = identifiers.is_mobile(value)
    if not (mobile or identifiers.split_landline(value)):
        return None
    if not (_is_called(text, start, end) or (mobile and _in_prose(text, start, end))):
        return None
    if mobile:
        return Found("mobile", start, end, value) if _is_phone(text, start, end) else None
    return _with_extension(text, start, end, value)


def _country_start(text: str, start: int, end: int) -> int | None:
    """Returns where +886, (886) or 00886 begins, None if digits stand before it."""
    if text[max(0, start - 2) : start] in ("00", "００"):
        start -= 2
    start = _opened(text, start, end)
    return None if start and text[start - 1].isascii() and text[start - 1].isalnum() else start


def _mobile_abroad(text: str, match: regex.Match[str]) -> Found | None:
    national = digits_of(match[0])[3:].removeprefix("0")
    start = _country_start(text, *match.span())
    if start is None or not identifiers.is_mobile("0" + national):
        return None
    if not regex.search("[+＋]", text[start : match.start()]) and not _is_phone(
        text, start, match.end()
    ):
        return None
    return Found("mobile", start, match.end(), "0" + national)


def _local(groups: list[regex.Match[str]], area: str) -> tuple[str, int] | None:
    """Returns a local number made of the first groups, and its end."""
    for count in range(1, min(3, len(groups)) + 1):
        local = "".join(g[0] for g in groups[:count])
        sizes = tuple(len(g[0]) for g in groups[:count])
        if sizes in _LOCAL_GROUPS and identifiers.is_landline(area, local):
            return local, groups[count - 1].end()
    return None


def _landline(text: str, match: regex.Match[str]) -> Found | None:
    if follows_ordinal(text, match.start()):
        return None
    groups = list(_GROUP.finditer(text, match.start(), match.end()))
    start, area = _opened(text, *match.span()), groups[0][0]
    if area in identifiers.AREA_CODES:
        found = _local(groups[1:], area)
        if found is None:
            return None
        local, end = found
        # 02 2345 6789 in a row of figures; 1.02 2345678.
        between = text[groups[0].end() : groups[1].start()]
        if between.strip(" ./\u3000\u00a0") == "" and not (
            _is_called(text, start, end) or (between == " " and _in_prose(text, start, end))
        ):
            return None
    else:
        both = identifiers.split_landline(area)
        if both is None and len(groups) > 1:
            # 0223-456789 isn't written, 02234-5678 and 0223456-789 neither; 037123-456 is.
            return None
        if both is None or not _is_called(text, start, groups[0].end()):
            return None
        (area, local), end = both, groups[0].end()
    return _with_extension(text, start, end, area + local)


def _landline_abroad(text: str, match: regex.Match[str]) -> Found | None:
    start = _country_start(text, *match.span())
    groups = list(_GROUP.finditer(text, match.start() + 3, match.end()))
    if start is None or not groups:
        return None
    if groups[0][0] == "0":
        groups = groups[1:]
    area = "0" + groups[0][0].removeprefix("0")
    if area in identifiers.AREA_CODES and len(groups) > 1:
        found = _local(groups[1:], area)
        if found is None:
            return None
        local, end = found
    else:
        both = identifiers.split_landline(area)
        if both is None:
            return None
        (area, local), end = both, groups[0].end()
    # 886-2-2345-6789 shows what it is, 886223456789 doesn't.
    plus = regex.search("[+＋]", text[start : match.start()])
    if not plus and len(groups) < 2 and not _is_called(text, start, end):
        return None
    return _with_extension(text, start, end, area + local)


def _landline_without_area(text: str, match: regex.Match[str]) -> Found | None:
    if not _TELEPHONE.stands_before(text, match.start()):
        return None
    if sum("0" <= c <= "9" for c in match[0]) == 6 and _COUNTED.match(text, match.end()):
        return None
    return _with_extension(text, match.start(), match.end(), digits_of(match[0]))


def _with_extension(text: str, start: int, end: int, value: str) -> Found | None:
    extension = _EXTENSION.match(text, end, min(len(text), end + 20))
    stop = extension.end() if extension else end
    if not _is_phone(text, start, stop):
        return None
    return Found(
        "landline", start, stop, value + (f"#{digits_of(extension[0])}" if extension else "")
    )
