# ruff: noqa: E501 (word lists and patterns stay in one piece)
"""What is nobody's though its shape is right: public by the words around it, or a sample of code."""

from __future__ import annotations

import regex

from twjax.corpus.personal import online
from twjax.corpus.personal.patterns import ARTICLE, Found, after, before

_OFFICE = regex.compile(
    r"[\u4e00-\u9fff](?:部|局|署|處|院|會|所|館|校|坊|中心|法院|大學|學院|醫院|診所|公司|政府|飯店|餐廳|旅[社舍館店]|民宿|門市|銀行|商店|書店|出版社"
    r"|工作室|辦公室|工廠|店)|客服|服務(?:電話|專線|台|信箱|時間)|專線|總機|訂[位房購]|預約|免付費|代表號|熱線|申訴|檢舉|[會校所店館院廠]址"
    r"|公司地址|機關地址|營業|地點|集合|展覽|主辦|協辦|報名|平台|窗口|販[賣售]|申請(?!人)|勸募|募[資款]|限量|贊助|[社財]團法人|許可證|地圖|[Mm]aps?(?![a-z])|交通方式"
)
_PERSON = regex.compile(
    r"住(?![宿院民商])|戶籍|家裡|家在|老家|我|他|她|本人|先生|小姐|女士|太太|同學|老師|聯絡人|連絡人|收件|寄件|寄[到給至]|送[到至]|包裹|搬|租"
    r"|被告|原告|被害|告訴人|患者|病患|學生|家長|姓名|媽|爸|阿[公嬤姨]"
)
# Whose a labelled address is: 地址：… alone may be anybody's.
_PERSONS_FIELD = regex.compile(
    r"姓名|戶籍|身[分份]證|[收寄]件|聯絡人|連絡人|承租|出租人|被告|原告|病患|患者|學生|家長|住戶|先生|小姐|女士|本人"
)
_ADDRESSEE = regex.compile(r"先生|小姐|女士|太太|同學|老師|本人|[他她我]")
_ADDRESSEE_BELOW = regex.compile(r"姓名|聯絡人|連絡人|收件人|先生|小姐|女士|本人")
_CLAUSE = regex.compile(r"[\n（(，,。]")
_SENTENCE = regex.compile(r"[。！？!?\n]")
# A form's label; a shop's address may have it too, but then an office word is near.
_LABEL = regex.compile(r"(?:地址|住址|通訊處)[^\u4e00-\u9fff\n]{0,8}$")
# What is said of a house that is sold or of an example: 「…」成交, 如…號.
_DEAL = regex.compile(r"[」』）)]?(?:成交|交易|實價|登錄)")
_EXAMPLE = regex.compile(r"(?:例|譬|比|諸)?如$")
# Extensions are of offices.
_HOME = regex.compile(
    r"住家|住處|家[裡中長]|[我他她娘老嬤媽爸婆公]家|用戶|[收寄]件人|租屋|(?i:(?<![a-z])home)|[家宅]電|住宅|[(（][家宅Hh][)）]"
)
_FAX = regex.compile(r"(?:傳真|(?i:fax))[^0-9\n]{0,8}$")
# Fields of notices and press releases of authorities and companies.
_RECORD = regex.compile(
    r"(?:機關|廠商|單位|公司)(?:名稱|地址|代碼|電話)|[發撰]稿(?:人|單位)|(?:主辦|承辦|執行|聯絡|連絡)單位|(?:新聞|業務|專案) ?[聯連]絡人|承 ?辦 ?人"
    r"|[科股課組處局所]長|技士|科員|組員|議員|服務處|稽核|洽詢|諮詢|訂購|查詢"
)
_OFFICE_LABEL = regex.compile(
    r"(?:機關|廠商|公司|單位|營業|機構|門市|學校|工廠|場地|會場|辦公室)(?:登記|通訊|所在)?[地住]址[^\u4e00-\u9fff\n]{0,8}$"
)
_ORGANISATION = regex.compile(
    r"戶名[:：\s]{0,3}[^\n]{0,24}(?:[局處署院所館]|法人|協會|學會|基金會|公司|政府|專戶|教會|大學|醫院|委員會|聯盟)"
)
# In fenced or marked-up code of a manual, forms are filled with samples.
_SAMPLED = {"birth date", "identity number", "plate", "health card", "passport", "bank account"}
_FENCE = regex.compile("```|~~~")
_TAG = regex.compile(r"<(/?)(?:pre|code)(?=[ >])")
_CODE = 4000
_AROUND = 1500


def is_sample(text: str, found: Found) -> bool:
    """Whether a person's field stands in a block of code of an article or a manual."""
    if found.kind == "IP address":
        # A log may be anybody's, a manual's has headings around.
        if not ARTICLE.search(before(text, found.start, _AROUND)):
            return False
    elif found.kind not in _SAMPLED:
        return False
    left = before(text, found.start, _CODE)
    # Of an odd number of fences the last one opened a block, which is closed behind.
    if len(_FENCE.findall(left)) % 2 and _FENCE.search(after(text, found.end, _CODE)):
        return True
    tags = _TAG.findall(left)
    return bool(tags) and not tags[-1]


def is_public(text: str, found: Found, personal_near: bool = False, listed: bool = False) -> bool:
    """Whether a find is a company's, an authority's or a place's, by the words around it.

    Landlines, LINE ids and accounts with an office's words and no person's; addresses without any
    word of a person's, in a list (`listed`) or in an article, and plates in one, unless
    `personal_near`; mailboxes such as info@…, official LINE accounts, and the hosts of links.
    """
    if online.is_office(found) or online.in_link(text, found):
        return True
    if found.kind == "plate":
        return not personal_near and bool(ARTICLE.search(before(text, found.start, _AROUND)))
    if found.kind == "bank account":
        return bool(
            _ORGANISATION.search(after(text, found.end, 48))
            or _ORGANISATION.search(before(text, found.start, 60))
        )
    if found.kind == "landline" and _is_office_line(text, found):
        return True
    if found.kind not in ("landline", "address", "LINE id") or personal_near:
        return False
    if found.kind == "address":
        return _is_place(text, found, listed)
    near = before(text, found.start, 60)
    office = _last(_OFFICE, near)
    if office is None and found.kind == "landline":
        told = _CLAUSE.split(after(text, found.end, 16), 1)[0]
        return bool(_OFFICE.search(told)) and not _PERSON.search(near)
    return office is not None and not _PERSON.search(near, max(0, office - 4))


def _is_office_line(text: str, found: Found) -> bool:
    """Whether it has an extension, is a fax, or belongs to a notice's field.

    Who answers for an office is named with its number: [單位名稱]…課[聯絡人]王小姐[聯絡電話].
    """
    if _HOME.search(before(text, found.start, 60)):
        return False
    return bool(
        "#" in found.value
        or _FAX.search(before(text, found.start, 16))
        or _RECORD.search(before(text, found.start, 120))
    )


def _is_place(text: str, found: Found, listed: bool) -> bool:
    near, right = before(text, found.start, 40), after(text, found.end, 32)
    if _OFFICE_LABEL.search(near):
        return True
    labelled = _LABEL.search(near)
    if not labelled and (listed or ARTICLE.search(before(text, found.start, _AROUND))):
        return True
    if _DEAL.match(right) or _EXAMPLE.search(near) or text[found.start] == "如":
        return True
    addressee = right.partition("\n")[0]
    if _OFFICE.search(addressee) and not _ADDRESSEE.search(addressee):
        return True
    if labelled:
        wide = before(text, found.start, 90)
        if _PERSONS_FIELD.search(wide) or _PERSONS_FIELD.search(right):
            return False
        return bool(_OFFICE.search(wide) or _OFFICE.search(right))
    office = _last(_OFFICE, near)
    start = max(0, office - 4) if office is not None else 0
    # I and she are of their sentence only.
    person = any(
        one[0] not in "我他她" or not _SENTENCE.search(near, one.end())
        for one in _PERSON.finditer(near, start)
    )
    return not person and (office is not None or not _ADDRESSEE_BELOW.search(right))


def _last(words: regex.Pattern[str], text: str) -> int | None:
    return max((m.start() for m in words.finditer(text)), default=None)
