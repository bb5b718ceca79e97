"""Numbers on a person's or a company's papers, and licence plates."""

from __future__ import annotations

import regex

from twjax.corpus.personal import identifiers
from twjax.corpus.personal.patterns import (
    DASH,
    SAMPLE,
    SPACE,
    Cue,
    Found,
    Recognizer,
    after,
    before,
    digits_of,
    in_address_of_page,
    is_numbered_thing,
    recognizer,
)  # fmt: skip

_IDENTITY_CUE = Cue(
    r"(?:身[分份]?證|居留證?|國民身[分份]證|證件|統一證|統號)(?:明文件|統一編|字|編)?"
    r"|(?:(?<![A-Za-z_\-])(?<![A-Za-z] )ID"
    r"|(?i:national\sid|id\s?card|identity\s(?:card|number)|(?<![a-z])arc))"
    r"(?:\s?(?i:card|no|number))?\.?",
    r"(?:號碼|號)?\s?(?:\([^()\n\0]{1,12}\)|（[^（）\n\0]{1,12}）)?",
)
_PASSPORT_LINK = (
    r"(?:號碼|編號|字號|號)?[^0-9A-Za-z\n\0]{0,6}+(?:(?i:no|number|is)\b\.?[^0-9A-Za-z\n\0]{0,3}+)?"
)
_PLATE_BEFORE = Cue(
    r"車牌|車號|(?:違規|檢舉|肇事|失竊|可疑)車輛?|車輛(?=[:：])|牌照|牌號|掛牌|懸掛|(?<![列火班電纜])車|車子|(?i:plate|license)",
    r"(?:號碼|號)?(?:\s?(?i:no|number)\.?)?(?:（[^（）\n\0]{1,6}）)?",
)
_OFFENCES = ("闖紅燈", "違停", "肇事", "肇逃", "逼車")
_OWNER = regex.compile(r"[號的]?(?:車主|駕駛人?)|\s?(?:闖紅燈|肇逃|逼車|違停|併排)")
_PLATE_AFTER = regex.compile(
    r"[」』]?(?:號|的|之|這[台輛部]|那[台輛部]|\s){0,3}(?:[黑白銀紅灰藍綠黃][色]?)?(?:之|的)?"
    r"(?:自用|營業|租賃|普通|輕型|重型|大型|計程|自小|營小|機車|汽車|轎車|小客|小貨|大貨|貨車|休旅車|車主|駕駛|違規"
    rf"|{'|'.join(_OFFENCES)})"
)


def recognizers() -> list[Recognizer]:
    """Returns the recognizers of the kinds of this file."""
    end, gap = "(?![0-9A-Za-z])", r"[\-－‐-―− \u00a0\u3000]"
    passport = rf"{_PASSPORT_LINK}(?P<n>[A-Z]{{0,2}}+[0-9]{{6,9}}+){end}"
    dash = rf"{SPACE}?{DASH}{SPACE}?"
    plate = (
        rf"(?:[A-Z]{{3}}(?:{dash})?[0-9]{{3,4}}|[A-Z]{{2}}(?:{dash})?[0-9]{{4}}|[A-Z][0-9]{dash}[0-9]{{4}}"
        rf"|[0-9]{{3,4}}{dash}[A-Z]{{2,3}}|[0-9]{{4}}{dash}[A-Z][0-9]){end}"
    )
    lead, trail = r"[^0-9A-Za-z\n\0]{0,10}+", r"[^0-9A-Za-z\n\0。，]{0,8}"
    return [
        recognizer(
            "identity number", rf"[A-Z]{SPACE}?[1289A-D][0-9]{{8}}+{end}", _identity, "numbers"
        ),
        recognizer("identity number", rf"[a-z][1289a-d][0-9]{{8}}+{end}", _identity, "numbers"),
        *(
            recognizer(
                "health card",
                rf"{cue}[^0-9\0]{{0,16}}+(?:(?<=[（(])[^()（）\n\0]{{1,8}}[)）][^0-9\0]{{0,8}}+)?(?P<n>[0-9](?:{gap}?[0-9]){{11}}+)(?![0-9])",
                _health_card,
                "numbers",
            )
            for cue in ("健保", "健康保險卡", "NHI")
        ),
        recognizer("passport", rf"護照{passport}", _passport, "numbers"),
        recognizer("passport", rf"assport{passport}", _passport, "numbers"),
        recognizer("passport", rf"ASSPORT{passport}", _passport, "numbers"),
        *(
            recognizer(
                "company number",
                cue + r"[^0-9\n\0]{0,8}+(?P<n>[0-9]{8}+)(?![0-9])",
                _company,
                "numbers",
            )
            for cue in ("統編", "統一編號")
        ),
        recognizer("plate", rf"牌{lead}(?P<n>{plate})", _plate),
        *(
            recognizer(
                "plate", word + rf"(?<=(?<![0-9A-Za-z])(?P<n>{plate}){SPACE}?{word})", _plate
            )
            for word in _OFFENCES
        ),
        recognizer(
            "plate",
            rf"車(?:{lead}(?P<n>{plate})|(?<=(?<![0-9A-Za-z])(?P<n>{plate}){trail}車))",
            _plate,
        ),
    ]


def _joined_to_word(text: str, start: int) -> bool:
    left = before(text, start, 2)
    if not left or not left[-1].isascii():
        return False
    return left[-1].isalnum() or left[-1] == "_" or (left[-1] in "-." and left[:1].isalnum())


def _identity(text: str, match: regex.Match[str]) -> Found | None:
    start, end = match.span()
    value = "".join(c for c in match[0].upper() if c.isalnum())
    if not identifiers.is_identity_number(value) or _joined_to_word(text, start):
        return None
    if SAMPLE.stands_before(text, start):
        return None
    if not _IDENTITY_CUE.stands_before(text, start) and (
        match[0][0].islower()
        or in_address_of_page(text, start)
        or is_numbered_thing(text, start, end)
    ):
        return None
    return Found("identity number", start, end, value)


def _health_card(text: str, match: regex.Match[str]) -> Found | None:
    value = digits_of(match["n"])
    # 9990… is what surrogates are made of.
    if value.startswith("9990") or not identifiers.is_health_card(value):
        return None
    return Found("health card", *match.span("n"), value)


def _passport(text: str, match: regex.Match[str]) -> Found | None:
    if not identifiers.is_passport(match["n"]):
        return None
    return Found("passport", *match.span("n"), match["n"])


def _company(text: str, match: regex.Match[str]) -> Found | None:
    if not identifiers.is_company_number(match["n"]):
        return None
    return Found("company number", *match.span("n"), match["n"])


def _plate(text: str, match: regex.Match[str]) -> Found | None:
    start, end = match.span("n")
    written = match["n"]
    if _joined_to_word(text, start):
        return None
    letters = "".join(c for c in written if c.isalpha())
    # Current plates have neither I nor O; surrogates have nothing else.
    if not letters.strip("IO"):
        return None
    named = _PLATE_BEFORE.stands_before(text, start)
    right = after(text, end, 24)
    if not named and not (_OWNER.match(right) if written.isalnum() else _PLATE_AFTER.match(right)):
        return None
    return Found("plate", start, end, "".join(c for c in written if c.isalnum()))
