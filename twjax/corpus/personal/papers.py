# ruff: noqa: E501 (word lists and patterns stay in one piece)
"""Numbers on a person's or a company's papers.

Identity numbers have a checksum and need no cue. Health cards and passports have none: words for
them stand within a few dozen characters before or right after, and no word for another thing
(單號, 電話, …) stands nearer. Shapes: the 12 digits that are printed on a health card; passports,
see `identifiers.is_passport`.
"""

from __future__ import annotations

import regex

from twjax.corpus.personal import identifiers
from twjax.corpus.personal.patterns import (
    DASH,
    SAMPLE,
    SPACE,
    THINGS,
    Check,
    Found,
    Nearest,
    Recognizer,
    after,
    before,
    digits_of,
    follows_ordinal,
    in_address_of_page,
    is_numbered_thing,
    joins_word,
    recognizer,
)  # fmt: skip

# What English puts behind the name of a paper.
_NO = r"(?:[\s_]?(?:[Nn]o|NO|[Nn]umber|NUMBER|[Nn]um)\.?|\s?#)?"
_IDENTITY = Nearest(
    r"身[分份]?證[^0-9。\n\0]{0,12}(?:字號|號碼)|身[分份]?證(?:明文件|統一編號?|字號|號碼|編號)?|居留證?(?:統一證)?號?|國民身[分份]證統一編號|證件(?:號碼?|字號)?|(?<![可照許格書員生學考保書輛])證號"
    r"|統一證號?|統號|身[分份](?:字號|證號)"
    r"|身[分份]證(?:統一?編|後補|影本)?[(（][^()（）\n\0]{1,12}[)）]|身[分份]證統編"
    rf"|(?<![A-Za-z_\-])(?<![A-Za-z] )ID{_NO}|(?<![A-Za-z_\-])id(?=[,\t\n:：])|(?i:id\s?card{_NO}|(?<![a-z])id[_ ]?(?:number|no)\.?|(?<![a-z])arc{_NO})"
    rf"|(?i:(?<![a-z])(?:taiwan(?:ese)?|r\.?o\.?c\.?|national|personal|citizen|identity|identification|residen(?:t|ce|cy))\s(?:id|identity|identification|certificate|permit|card|number)(?:\s(?:card|certificate|permit))?{_NO})"
)
# Of nine digits, or eight after a second letter.
_IDENTITY_GROUPS = {
    *((9,), (8,), (1, 8), (3, 3, 3), (2, 3, 3), (1, 4, 4), (4, 4), (5, 4), (4, 5), (3, 6), (6, 3)),
    *((2, 7), (1, 2, 3, 3), (2, 4, 3), (3, 2, 4), (3, 4, 2), (2, 3, 4), (1,) * 9, (1,) * 8),
}
_HAN_BEFORE = regex.compile(r"[\u3001-\u303f\u4e00-\u9fff（：，]\s?$")
_OTHER_NUMBERS = (
    THINGS
    + r"|電話|手機|行動|門號|傳真|帳號|帳戶|代碼|代號|統一編號|電號|水號|規費|費用|工本費|信用卡|訂位|機票"
)
_HEALTH_WORD = regex.compile(r"健保|健康保險|IC\s?卡|(?i:nhi|health\s(?:insurance\s)?(?:card|id))")
_HEALTH = Nearest(
    r"健保(?:IC)?\s?卡|健保|健康保險(?:IC)?卡?|(?i:ic)\s?卡|卡片?[號碼]|號碼|12\s?碼|12\s?位|十二碼|(?i:nhi|card)",
    _OTHER_NUMBERS,
    60,
)
_HEALTH_SHAPE = regex.compile(
    r"(?<![0-9])[0-9](?:[ \u00a0\u3000\-－‐-―.]{0,3}+[0-9]){11}(?![ \-.]?[0-9])(?![A-Za-z])"
)
_PASSPORT_SHAPE = regex.compile(
    r"(?<![0-9A-Za-z])(?:[A-Z]{0,2}+[0-9]{6,9}+|(?:[A-Z]{1,2}(?:[ \-][0-9]{6,8}+|(?: [0-9]){6,8}+))|[0-9](?: [0-9]){8}+|[0-9]{3}([ \-])[0-9]{3}\1[0-9]{3})(?![0-9A-Za-z])"
)
_HEALTH_AFTER = regex.compile(r"[^0-9\n\0。]{0,8}健(?:保|康保險)IC?卡|[^0-9\n\0。]{0,8}健保卡")
_PASSPORT_WORD = regex.compile(r"護照|(?i:passport)|旅券")
_PASSPORT = Nearest(
    r"護照(?:號碼?|編號|字號|第)?|(?i:passport(?:\s?no|\s?number)?)|(?<![編案文單序])號碼?|旅券|(?i:(?<![a-z])(?:pp|ppt)?\s?no)",
    _OTHER_NUMBERS
    + r"|(?<!護照)(?:案號|文號|編號)|身[分份]證(?:字號)?|居留證(?:號碼)?|健保卡?號?|生日|出生|簽證號碼?|日期|效期|年限|條例|(?:電話|手機|訂位|機票|帳|班機|學|房|統編)(?:號碼?|編號)",
    48,
)
_PASSPORT_AFTER = regex.compile(r"[^0-9\n\0。]{0,6}(?:護照|(?i:passport))")


def recognizers() -> list[Recognizer]:
    """Returns the recognizers of the kinds of this file."""
    end = "(?![0-9A-Za-z])"
    # Spaces and dashes stand where people group: after the letter, after three or four.
    sep = rf"(?:{SPACE}|{DASH})?"
    return [
        recognizer(
            "identity number",
            rf"[A-Za-z]{sep}[1289A-Da-d](?:{sep}[0-9]){{8}}{end}",
            _identity,
            "numbers",
        ),
        *(
            recognizer("health card", word, _beside_health_word, "numbers")
            for word in ("健保", "健康保險", "NHI", "nhi", "IC卡", "ealth")
        ),
        *(
            recognizer("passport", word, _beside_passport_word, "numbers")
            for word in ("護照", "assport", "ASSPORT", "旅券")
        ),
        *(
            recognizer(
                "company number",
                cue + r"[^0-9\n\0]{0,8}+(?P<n>[0-9]{8}+)(?![0-9])",
                _company,
                "numbers",
            )
            for cue in ("統編", "統一編號")
        ),
    ]


def _identity(text: str, match: regex.Match[str]) -> Found | None:
    start, end = match.span()
    value = "".join(c for c in match[0].upper() if c.isalnum())
    if not identifiers.is_identity_number(value) or joins_word(text, start):
        return None
    # A1 2345 6789, A123-456-789; S2 2025-12-16 is something else.
    groups = tuple(len(g) for g in regex.findall("[0-9]+", match[0]))
    if SAMPLE.stands_before(text, start) or groups not in _IDENTITY_GROUPS:
        return None
    named = _IDENTITY.says(text, start)
    # Small letters count within Chinese only: elsewhere they are names of files and users.
    plain = match[0][0].isupper() or _HAN_BEFORE.search(before(text, start, 2))
    if named is False or (
        not named
        # A0 0000044 of a dump: what is grouped is named, or follows Chinese.
        and (
            not plain
            or (len(match[0]) > 10 and not _HAN_BEFORE.search(before(text, start, 2)))
            or in_address_of_page(text, start)
            or is_numbered_thing(text, start, end)
        )
    ):
        return None
    return Found("identity number", start, end, value)


def _beside(
    text: str, match: regex.Match[str], shape: regex.Pattern[str], check: Check, reach: int
) -> Found | None:
    """Returns the first number after the word that passes the check, or else one right before."""
    left = before(text, match.start(), 28)
    right = after(text, match.end(), reach)
    begin, end = match.start() - len(left), match.end() + len(right)
    for places in ((match.end(), end), (begin, match.start())):
        for candidate in shape.finditer(text, *places):
            found = check(text, candidate)
            if found:
                return found
    return None


def _beside_health_word(text: str, match: regex.Match[str]) -> Found | None:
    return _beside(text, match, _HEALTH_SHAPE, _health_card, 72)


def _beside_passport_word(text: str, match: regex.Match[str]) -> Found | None:
    return _beside(text, match, _PASSPORT_SHAPE, _passport, 60)


def _health_card(text: str, match: regex.Match[str]) -> Found | None:
    start, end = match.span()
    value = digits_of(match[0])
    # 9990… is what surrogates are made of.
    if value.startswith("9990") or joins_word(text, start) or before(text, start, 1) in ("+", "＋"):
        return None
    named = _HEALTH.says(text, start)
    if named is False:
        return None
    if not (named and _HEALTH_WORD.search(before(text, start, 60))) and not _HEALTH_AFTER.match(
        after(text, end, 20)
    ):
        return None
    return Found("health card", start, end, value)


def _passport(text: str, match: regex.Match[str]) -> Found | None:
    start, end = match.span()
    value = match[0].replace(" ", "").replace("-", "")
    if not identifiers.is_passport(value):
        return None
    beside = _PASSPORT_WORD.search(before(text, start, 48))
    if not beside and not _PASSPORT_AFTER.match(after(text, end, 16)):
        return None
    named = _PASSPORT.says(text, start)
    if named is False or (beside and not named) or joins_word(text, start):
        return None
    if not beside and follows_ordinal(text, start):
        return None
    return Found("passport", start, end, value)


def _company(text: str, match: regex.Match[str]) -> Found | None:
    if not identifiers.is_company_number(match["n"]):
        return None
    return Found("company number", *match.span("n"), match["n"])
