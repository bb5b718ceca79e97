"""Numbers of payment cards and bank accounts."""

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
    follows_ordinal,
    in_address_of_page,
    is_numbered_thing,
    recognizer,
)  # fmt: skip

_GROUP = regex.compile("[0-9]++")
_CARD_GROUPS = {
    *((14,), (15,), (16,), (17,), (18,), (19,), (4, 4, 4, 4), (4, 6, 5)),
    *((4, 6, 4), (4, 4, 4, 4, 3)),
    (6, 10), (6, 13),
}  # fmt: skip
_CARD_CUE = regex.compile(
    r"(?:信用卡|卡號|簽帳|金融卡|刷卡|(?i:visa|master(?:card)?|jcb|amex|card))[^0-9\n\0]{0,12}$"
)
_BANK = (
    r"銀行|郵局|郵政|匯款|匯[入到至給]|轉帳|轉[入到至給]|存款|存入|存摺|存簿|帳戶|戶名|戶頭"
    r"|金融卡|分行|農會|漁會|信用合作社|合庫|一銀|華銀|彰銀|中信|中國信託|國泰世華|玉山|台新"
    r"|富邦|入帳|退款|撥款|薪轉|薪資|捐款|劃撥"
)
_BANK_NEAR = regex.compile(rf"{_BANK}|(?<![A-Za-z])(?i:atm|bank)")
_ACCOUNT_CUE = Cue(
    r"帳號|帳戶|戶頭|存簿|(?<![A-Za-z])(?i:account|acct|a/c)(?:\s?(?i:no|number))?\.?",
    r"(?:號碼|後|[一二三1-3])?\s?(?:[:：]\s?)?(?:[(（]?[0-9]{3}[)）]?\s?[\-－ ]?)?",
)
# 匯到玉山銀行(808) 0123-…, the account itself without the word for it.
_BANK_RIGHT_BEFORE = Cue(
    r"(?:(?:轉帳?|匯款?|存款?)[到至入給]|銀行|郵局|農會|漁會|信用合作社|分行|中信|合庫|中國信託|國泰世華|玉山|台新|富邦)(?:代[碼號])?",
    r"[^0-9\n\0]{0,10}(?:[(（]?[0-9]{3}[)）]?[^0-9\n\0]{0,6})?",
    link="",
)
# 訂金請轉 0123-…，銀行代碼808: the bank comes after.
_TRANSFER_CUE = Cue(r"(?:請|再|先|直接|可以?)(?:轉帳?|匯款?)", link="[:：]?\\s?")


def recognizers() -> list[Recognizer]:
    """Returns the recognizers of payment cards and bank accounts."""
    more = r"(?:[\-－‐-―− \u00a0\u3000]?[0-9])"
    spaced = rf"(?:(?:{SPACE}?{DASH}{SPACE}?|{SPACE})?[0-9])"
    link = r"\s?[:：]?\s?"
    return [
        recognizer("card", rf"[2-6]{spaced}{{13,18}}(?![0-9])", _card, "numbers"),
        recognizer("bank account", rf"[0-9]{more}{{9,16}}(?![0-9])", _account, "numbers"),
        recognizer(
            "bank account",
            rf"局號{link}(?P<n>[0-9]{{6}}{DASH}?[0-9][^0-9\n\0]{{0,4}}帳號{link}[0-9]{{6}}{DASH}?[0-9])(?![0-9])",
            _post_account,
            "numbers",
        ),
    ]


def _joined(text: str, start: int, end: int) -> bool:
    left, right = before(text, start, 2), after(text, end, 2)
    if left and left[-1].isascii() and (left[-1].isalnum() or left[-1] == "_"):
        return True
    if len(left) > 1 and left[-1] in ".-" and left[-2].isascii() and left[-2].isalnum():
        return True
    if right and right[0].isascii() and (right[0].isalnum() or right[0] == "_"):
        return True
    return len(right) > 1 and right[0] in ".-" and right[1].isascii() and right[1].isalnum()


def _card(text: str, match: regex.Match[str]) -> Found | None:
    groups = list(_GROUP.finditer(text, *match.span()))
    start = match.start()
    if before(text, start, 1).isdigit() or SAMPLE.stands_before(text, start):
        return None
    for count in range(min(len(groups), 5), 0, -1):
        value = "".join(g[0] for g in groups[:count])
        sizes = tuple(len(g[0]) for g in groups[:count])
        if sizes not in _CARD_GROUPS or not identifiers.is_card_number(value):
            continue
        end = groups[count - 1].end()
        if not _CARD_CUE.search(before(text, start, 40)) and (
            _joined(text, start, end)
            or in_address_of_page(text, start)
            or is_numbered_thing(text, start, end)
        ):
            return None
        return Found("card", start, end, value)
    return None


def _account(text: str, match: regex.Match[str]) -> Found | None:
    start, end = match.span()
    if follows_ordinal(text, start):
        return None
    value = digits_of(match[0])
    # 9990… is what surrogates are made of.
    if value.startswith("9990") or len(set(value)) == 1 or _joined(text, start, end):
        return None
    left = before(text, start, 80)
    named = _ACCOUNT_CUE.stands_before(text, start) and (
        _BANK_NEAR.search(left) or _BANK_NEAR.search(after(text, end, 40))
    )
    bank_after = (
        _TRANSFER_CUE.stands_before(text, start)
        and _BANK_NEAR.search(after(text, end, 24))
        and not identifiers.is_mobile(value)
    )
    if not (named or bank_after) and (
        not _BANK_RIGHT_BEFORE.stands_before(text, start) or is_numbered_thing(text, start, end)
    ):
        return None
    return Found("bank account", start, end, value)


def _post_account(text: str, match: regex.Match[str]) -> Found | None:
    value = digits_of(match["n"])
    return None if value.startswith("9990") else Found("bank account", *match.span("n"), value)
