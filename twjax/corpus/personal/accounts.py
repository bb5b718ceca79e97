# ruff: noqa: E501 (word lists and patterns stay in one piece)
"""Numbers of payment cards and bank accounts."""

from __future__ import annotations

import regex

from twjax.corpus.personal import identifiers
from twjax.corpus.personal.patterns import (
    DASH,
    NOT_PERSONAL_AFTER,
    REMARK,
    SAMPLE,
    SPACE,
    THINGS,
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

_GROUP = regex.compile("[0-9]++")
_CARD_GROUPS = {
    *((14,), (15,), (16,), (17,), (18,), (19,), (4, 4, 4, 4), (4, 6, 5)),
    *((4, 6, 4), (4, 4, 4, 4, 3)),
    (6, 10), (6, 13), (1,) * 15, (1,) * 16,
}  # fmt: skip
_CARD = Nearest(
    r"信用卡(?:卡?號碼?)?|[正副附]卡|卡片|卡號|簽帳|金融卡|刷卡?|持卡人?|聯名卡|這張卡|我的卡|扣[款繳]|付款"
    r"|(?<![A-Za-z])(?i:visa|master\s?card|jcb|amex|american\sexpress|unionpay|(?:credit\s|debit\s)?card(?:[\s_]?(?:no|number|num))?|pan)",
    THINGS
    + r"|銷帳編號|代碼|代號|電話|帳號|儲值卡|會員卡|悠遊卡|一卡通|序號|繳款|條碼|(?i:tracking|order|invoice|imei)",
    40,
)
_BANK_NAMES = (
    r"銀行|郵局|郵政|中華郵政|分行|農會|漁會|信用合作社|合庫|一銀|華銀|彰銀|土銀|臺銀|台銀|中信|中國信託|國泰世華|國泰|玉山|台新|富邦|兆豐|永豐"
    r"|元大|聯邦|遠東|凱基|新光|渣打|匯豐|星展|花旗|上海商銀|王道|樂天|將來|陽信|板信|三信|京城|安泰|日盛|台中商銀|高雄銀|銀(?=的?[帳戶存]|\s?[(（]?[0-9]{3}[)）]?|代[碼號])|(?<![A-Za-z])(?i:bank)"
)
_NOT_A_BANKS = (
    r"(?<!遊戲|論壇|會員|使用者|登入|網站|信箱|[Ll][Ii][Nn][Ee]|FB|IG|臉書)(?<!遊戲的|論壇的)"
)
_ACCOUNT = rf"{_NOT_A_BANKS}(?:帳[號戶]|賬[號戶])(?:號碼)?|戶頭|存摺|存簿|(?<![A-Za-z])(?i:account|acct|a/c)(?:\s?(?i:no|number))?"
_TRANSFER = r"匯款|匯[入到至給]|請匯|轉帳|轉[入到至給]|請轉|存款|存入|入帳|退款|撥款|薪轉|薪資|捐款|劃撥|戶名|受款|ATM"
_BANK = Nearest(
    rf"{_ACCOUNT}|{_BANK_NAMES}|{_TRANSFER}|(?:銀行)?代[碼號]|[(（]?(?<![0-9])[0-9]{{3}}[)）]",
    THINGS
    + r"|編號|電話|手機|門號|統一編號|身[分份]證(?:字號)?|卡號|信用卡|[0-9千萬]元(?!\s?[至到入匯])|手續費|放款|存款餘額|資本|水號|電號|條碼|手機號碼|匯率|(?:遊戲|論壇|會員|使用者|登入|網站|信箱)的?帳號",
    44,
)
_BANK_NEAR = regex.compile(
    rf"{_BANK_NAMES}|{_TRANSFER}|存摺|存簿|儲[戶金蓄]|行庫|通儲|通提|提款|警示帳|人頭|(?<![A-Za-z])(?i:atm|ach|swift|iban|remit(?:tance)?|(?:wire\s)?transfer|deposit|payee|beneficiary)"
)
_ACCOUNT_NEAR = regex.compile(
    rf"(?:{_ACCOUNT})(?:{REMARK}|[(（][0-9]{{3}}[)）])?[^0-9\n\0。，]{{0,10}}(?:[(（]?[0-9]{{3}}[)）]?[^0-9\n\0]{{0,4}})?$"
)
# 帳戶 and 存摺 are a bank's, 帳號 may be anybody's.
_OWN = regex.compile(r"(?:帳戶|戶頭|存摺|存簿)[^0-9。\n\0]{0,10}$")
_NO_BANK = regex.compile(r"論壇|遊戲|登入|密碼|(?<![A-Za-z])(?i:login|password|game|user)")
_ACCOUNT_AFTER = regex.compile(r"\s?號?[之的]?\s?(?:帳[戶號]|戶頭)")
_TOLL_FREE = regex.compile(r"080[09][\- ]?[0-9]{3}[\- ]?[0-9]{3}$")
_TESTS = regex.compile(r"[^0-9\n\0]{0,12}(?:測試|範例|(?i:test))")


def recognizers() -> list[Recognizer]:
    """Returns the recognizers of payment cards and bank accounts."""
    more = r"(?:(?: ?[\-－‐-―−] ?|[ \u00a0\u3000])?[0-9])"
    spaced = r"(?:[ \u00a0\u3000\-－‐-―−._]{0,3}+[0-9])"
    link = r"\s?[:：]?\s?"
    return [
        recognizer("card", rf"[2-6]{spaced}{{13,18}}+(?![0-9])", _card, "numbers"),
        recognizer("bank account", rf"[0-9]{more}{{9,16}}(?![0-9])", _account, "numbers"),
        recognizer(
            "bank account",
            rf"局號(?:[及和與、/／&＋+]?\s?帳號)?{REMARK}?{link}(?P<n>[0-9]{{6}}{DASH}?[0-9](?:[^0-9\n\0]{{0,4}}帳號{REMARK}?{link}|{SPACE}?[\-－‐-―−/／、,，]?{SPACE}?)[0-9]{{6}}{DASH}?[0-9])(?![0-9])",
            _post_account,
            "numbers",
        ),
    ]


def _joined(text: str, start: int, end: int) -> bool:
    left, right = before(text, start, 2), after(text, end, 2)
    # +886-2-… is a telephone's.
    if left and left[-1].isascii() and (left[-1].isalnum() or left[-1] in "_+"):
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
    for count in (*range(min(len(groups), 16), 14, -1), *range(min(len(groups), 5), 0, -1)):
        value = "".join(g[0] for g in groups[:count])
        sizes = tuple(len(g[0]) for g in groups[:count])
        if sizes not in _CARD_GROUPS or not identifiers.is_card_number(value):
            continue
        end = groups[count - 1].end()
        named = _CARD.says(text, start)
        if named is False or _TESTS.match(after(text, end, 20)):
            return None
        if not named and (
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
    if in_address_of_page(text, start) and not _ACCOUNT_NEAR.search(before(text, start, 24)):
        return None
    if _TOLL_FREE.match(match[0]):
        return None
    named = _BANK.says(text, start)
    if not named:
        return None
    if NOT_PERSONAL_AFTER.match(after(text, end, 20)) and not _ACCOUNT_AFTER.match(text, end):
        return None
    left, right = before(text, start, 60), after(text, end, 40)
    near = bool(_BANK_NEAR.search(left) or _BANK_NEAR.search(right))
    direct = bool(_ACCOUNT_NEAR.search(left))
    # An account may have a mobile's digits, if it isn't grouped like one.
    if identifiers.is_mobile(value) and not (direct and near and match[0].isdigit()):
        return None
    if direct:
        # 帳號 alone may be of a forum; banks' have 11 digits or more.
        # With the bank's three digits before: 050-….
        sure = near or (
            (10 if _OWN.search(left) else 11) <= len(value) <= 14
            and not _NO_BANK.search(left + right[:12])
        )
    else:
        # A card's number after 捐款 or 扣款 is a card's.
        if len(value) in (15, 16) and identifiers.is_card_number(value):
            return None
        # 02-8590-6604 of somebody at a bank.
        split = identifiers.split_landline(value)
        phone = split is not None and _GROUP.findall(match[0])[0] == split[0]
        sure = near and not phone
    return Found("bank account", start, end, value) if sure else None


def _post_account(text: str, match: regex.Match[str]) -> Found | None:
    value = digits_of(match["n"])
    return None if value.startswith("9990") else Found("bank account", *match.span("n"), value)
