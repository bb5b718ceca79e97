# ruff: noqa: E501 (word lists and patterns stay in one piece)
"""Licence plates: their shapes beside words of vehicles, drivers and offences.

Shapes: three letters and four digits since 2012 (no I, no O), and the older ones still in use, two
letters and four digits, four and two, three and three, a letter and a digit in place of two
letters; electric motorcycles begin with E since 2018 (Directorate General of Highways, as reported
by the Central News Agency on 2017-12-15); electric two-wheelers have two letters and five digits.
The words decide, for models and flights have the same shapes.
"""

from __future__ import annotations

import regex

from twjax.corpus.personal.patterns import (
    DASH,
    SPACE,
    THINGS,
    Found,
    Nearest,
    Recognizer,
    after,
    before,
    joins_word,
    recognizer,
)  # fmt: skip

_MAKES = (
    r"賓士|寶馬|奧迪|豐田|本田|日產|裕隆|福特|三菱|馬自達|特斯拉|凌志|現代汽車|光陽|三陽|山葉|睿能|電動車"
    r"|(?i:benz|bmw|audi|toyota|honda|nissan|ford|mazda|tesla|lexus|altis|yaris|gogoro|kymco|sym|yamaha|uber)"
)
# 車 alone, but not of 火車, 車站, 車用, 煞車油, …
_VEHICLE = r"(?<![行列火班纜電公煞剎風水單吊砂叉推腳踏])車(?![用充油站票次庫展廠床燈架間體款型道程流資記紀])"
# Words for the plate itself, and words for what happens around vehicles.
_PLATES = (
    r"[車號]牌(?:號碼?)?|牌照(?:號碼?)?|車號|車籍|牌號|掛牌|領牌|懸掛|行照"
    r"|(?i:(?<![a-z])(?:number\s)?plate(?:[\s_]?(?:no|number)\b\.?)?|licen[sc]e(?=\s(?:plate|no|number))|(?<![a-z])(?:lpr|anpr)(?![a-z])|(?:car|vehicle)[\s_]?(?:no|number)\b\.?)"
)
_TRAFFIC = rf"{_VEHICLE}|駕駛人?|騎乘|騎的?|我開的?|開的是|停車|肇事|肇逃|逃逸|撞到?|失竊|可疑|檢舉|違規|違停|併排|臨停|目擊|{_MAKES}"
_OTHERS = (
    THINGS
    + r"|型號|機型|型|規格|標準|零件|濾網|充電器?|車充|顯示卡|主機板|螢幕|相機|耳機|筆電|飛機|客機|班機|航班|航機"
    r"|輪胎|機油|電池|列車|火車|電車|公車|車次|車站|代碼|代號|電桿|電線桿|晶片|處理器|疫苗|認證|期貨|課程|檔名|[記紀]錄器(?!拍|錄)|配件|導航|安全帽|火星塞|皮帶|避震器?|排氣管|引擎|碟盤|雨刷|燈泡|濾[網芯心]|座椅|機油|大燈|喇叭|支架|吸塵器"
)
_BEFORE = Nearest(f"{_PLATES}|{_TRAFFIC}|被", _OTHERS, 28)
# Without a dash a shape means less: the word stands close by.
_CLOSE_BEFORE = Nearest(f"{_PLATES}|{_TRAFFIC}", _OTHERS, 12)
# Standards, faults and money have the shapes of plates: RFC 2109, CVE-2024, NU3008, TWD 3200. Only
# a word for plates makes one of them.
_NAMED = Nearest(_PLATES, _OTHERS, 20)
_SERIES = regex.compile(
    r"RFC|ISO|IEC|IEEE|ITU|ANSI|ECMA|CNS|DIN|JIS|ASTM|CVE|CWE|PEP|JEP|JSR|BIP|EIP|ERR|ERC|UTF|SHA|MD|GB|KB|MB|USB|RTX|GTX|TWD|NTD|USD|EUR|JPY|CNY|HKD|GBP|RMB"
)
_FAULT = regex.compile(r"錯誤|警告|代碼|標準|規範|協定|(?i:error|warning|code|standard|exception)")
_OFFENCES = r"闖紅燈|違[停規]|(?:已?遭|被)檢舉|肇[事逃]|逼車|併排|逆向|超速|擋[到住]|按喇叭|拒載|切車道|酒駕|亂停|占用|撞"
_AFTER = regex.compile(
    rf"[^0-9A-Za-z\n\0。]{{0,10}}?(?:{_OFFENCES}|[這那][台輛部](?:{_MAKES})|車主|駕駛|司機|機車|汽車|轎車|客車|貨車|休旅車|跑車|廂型車|{_VEHICLE})"
)
# Of goods: ABC-1234 開箱, RTX-4090 特價.
_GOODS_AFTER = regex.compile(
    r"\s?(?:開箱|評測|上市|開賣|特價|現貨|缺貨|規格|版本|型|系列|新品|補貨|降價|說明書|驅動|晶片|滑鼠|螢幕|相機|耳機|航班|班機)"
)
_TIGHT_AFTER = regex.compile(
    rf"\s?[這那][台輛部](?:{_MAKES}|{_VEHICLE})|\s?[號的]?(?:車主|駕駛人?|主人)|\s?(?:{_OFFENCES})|[^0-9A-Za-z\n\0。]{{0,4}}(?:機車|轎車|休旅車|跑車|[客貨]車|[台輛部]{_VEHICLE})"
)
_WRITTEN_WITH_DASH = regex.compile(DASH)


def recognizers() -> list[Recognizer]:
    """Returns the recognizer of plates."""
    gap = rf"(?:{SPACE}?{DASH}{SPACE}?|{SPACE})?"
    dash = rf"(?:{SPACE}?{DASH}{SPACE}?)"
    shapes = (
        rf"[A-Z](?:[A-Z]{{2}}{gap}[0-9]{{3,4}}|[A-Z]{gap}[0-9]{{4,5}}|[0-9]{dash}[0-9]{{4}})"
        rf"|[0-9](?:[0-9]{{2,3}}{dash}[A-Z]{{2,3}}|[0-9]{{3}}(?:{dash}[A-Z][0-9]|[A-Z]{{2}}))"
    )
    return [
        recognizer("plate", rf"(?:{shapes})(?![0-9A-Za-z])", _plate, "plates"),
        *(
            recognizer(
                "plate",
                rf"{word}[^0-9A-Za-z\n\0]{{1,6}}+(?P<n>[a-z]{{2,3}}{dash}[0-9]{{3,4}}|[0-9]{{3,4}}{dash}[a-z]{{2,3}})(?![0-9A-Za-z])",
                _small_plate,
            )
            for word in ("車牌", "車號")
        ),
    ]


def _plate(text: str, match: regex.Match[str]) -> Found | None:
    start, end = match.span()
    written = match[0]
    letters = "".join(c for c in written if c.isalpha())
    # Current plates have neither I nor O; surrogates have nothing else.
    if joins_word(text, start) or not letters.strip("IO"):
        return None
    right = after(text, end, 20)
    # ABC-1234-5 and ABC-1234.jpg are something else's.
    if len(right) > 1 and right[0] in "-.－" and right[1].isalnum() and right[1].isascii():
        return None
    dashed = _WRITTEN_WITH_DASH.search(written)
    other = _FAULT.search(before(text, start, 8)) or (not dashed and _SERIES.fullmatch(letters))
    if other and not _NAMED.says(text, start):
        return None
    named = _BEFORE.says(text, start)
    if named is False or _GOODS_AFTER.match(right):
        return None
    if named and not dashed:
        named = _CLOSE_BEFORE.says(text, start) or _NAMED.says(text, start)
    if not named and not (_AFTER if dashed else _TIGHT_AFTER).match(right):
        return None
    return Found("plate", start, end, "".join(c for c in written if c.isalnum()))


def _small_plate(text: str, match: regex.Match[str]) -> Found | None:
    start, end = match.span("n")
    if _BEFORE.says(text, start) is not True:
        return None
    return Found("plate", start, end, "".join(c for c in match["n"].upper() if c.isalnum()))
