"""Names of private persons, found beside words that say so (姓名：, 被告, …先生).

Off by default: a name alone is no identifier, and most names in public text are of public figures,
which the caller can also list. Surnames: the hundred most frequent by the Ministry of the
Interior's count of 1956 (台灣百大姓氏, checked against a published copy), others common today, and
compound ones; current counts are in the ministry's 全國姓名統計分析, published every two years.
"""

from __future__ import annotations

import regex

from twjax.corpus.personal.patterns import Found, Recognizer, recognizer

_SURNAME = (
    "(?:歐陽|張簡|范姜|司馬|上官|諸葛|司徒|東方|[陳林黃張李王吳劉蔡楊許鄭謝洪郭邱曾廖賴徐周葉蘇莊呂江何羅高蕭潘簡朱鍾彭游詹胡施沈余盧梁趙顏柯翁魏孫戴范方宋鄧杜侯傅曹薛丁卓"
    "馬阮董唐温溫藍蔣石古紀姚連馮歐程湯田康姜汪白鄒尤巫鐘黎涂龔嚴韓袁金童陸夏柳邵錢伍倪駱譚甘熊任秦顧毛章史官萬俞雷粘饒闕凌崔塗凃])"
)
_ROLE = (
    "被告人?|原告|告訴人|被害人|證人|聲請人|上訴人|相對人|抗告人|再審原告|法定代理人|訴訟代理人|選任辯護人|聯絡人"
    "|收件人|寄件人|戶名|患者|病患|立書人|立約人|申請人|委託人|受託人|承租人|出租人|債務人|債權人|要保人|被保險人|家長|學生姓名|姓名"
)
_TITLE = "先生|小姐|女士|太太|同學"
_END = r"(?=[\s，、。；：:,（()）\"'」]|先生|小姐|女士|君|[0-9]|於|因|與|及|之|持|向|在|犯|涉|$)"
# The word a name's second half must not be.
_NOT_NAMES = regex.compile("(?:老|大|小|先|女|某|氏|姓|醫|教|總|主|經|董)$")


def recognizers() -> list[Recognizer]:
    """Returns the recognizers of names; slower than the others."""
    given = r"[\u4e00-\u9fff]{1,2}"
    return [
        recognizer(
            "name", rf"(?:{_ROLE})[ \u3000]?[:：]?[ \u3000]?(?P<n>{_SURNAME}{given}?){_END}", _name
        ),
        recognizer("name", rf"(?P<n>{_SURNAME}[\u4e00-\u9fff]{{2}})(?={_TITLE})", _name),
    ]


def _name(text: str, match: regex.Match[str]) -> Found | None:
    name = match["n"]
    if _NOT_NAMES.search(name) or "○" in name:
        return None
    return Found("name", *match.span("n"), name)
