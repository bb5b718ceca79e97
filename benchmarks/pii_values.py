# ruff: noqa: E501 (rows stay in one piece)
"""Values for the measurement of personal-data detection, in the writings people use; all seeded.

They are made by code of their own, apart from the checks in `twjax.corpus.personal.identifiers`.
"""

from __future__ import annotations

import random
import string
from collections.abc import Callable

Maker = Callable[[random.Random], str]

_ROADS = [
    "中山",
    "中正",
    "民生",
    "和平東",
    "忠孝東",
    "復興",
    "文化",
    "建國北",
    "光復南",
    "自由",
    "五福",
    "成功",
    "大同",
    "信義",
    "林森北",
    "三民",
    "公園",
    "環河西",
    "永吉",
    "福州",
    "羅斯福",
    "八德",
]
TOWNS = {
    "臺北市": "大安區 信義區 萬華區 北投區", "台北市": "中山區 內湖區 文山區", "新北市": "板橋區 三重區 新店區 淡水區", "桃園市": "中壢區 平鎮區",
    "臺中市": "西屯區 北區 大里區", "台南市": "東區 永康區 安平區", "高雄市": "左營區 鳳山區 三民區", "新竹縣": "竹北市 湖口鄉",
    "彰化縣": "員林市 鹿港鎮", "雲林縣": "斗六市 虎尾鎮", "屏東縣": "屏東市 潮州鎮", "宜蘭縣": "羅東鎮 礁溪鄉", "花蓮縣": "吉安鄉 花蓮市",
    "臺東縣": "臺東市", "南投縣": "埔里鎮 草屯鎮", "苗栗縣": "頭份市", "嘉義市": "西區 東區", "澎湖縣": "馬公市", "金門縣": "金城鎮",
}  # fmt: skip
_VILLAGES = ["富世", "明昌", "中興", "永安", "仁愛", "大同", "新民", "忠義", "福德", "三和"]


def digits(r: random.Random, n: int) -> str:
    return "".join(r.choice("0123456789") for _ in range(n))


def pick(r: random.Random, n: int, letters: str = string.ascii_letters + string.digits) -> str:
    """Returns `n` characters out of `letters`."""
    return "".join(r.choice(letters) for _ in range(n))


def wide(r: random.Random, text: str, share: float = 0.12) -> str:
    """Writes a number in full width now and then."""
    if r.random() > share:
        return text
    return "".join(chr(ord(c) + 0xFEE0) if c.isascii() and c != " " else c for c in text)


def mobile(r: random.Random) -> str:
    n = "09" + r.choice("012345678") + digits(r, 7)
    while n[4:] == "000000":
        n = "09" + r.choice("012345678") + digits(r, 7)
    style = r.randrange(10)
    a, b, c = n[:4], n[4:7], n[7:]
    forms = [
        n,
        n,
        f"{a}-{b}-{c}",
        f"{a}-{b}{c}",
        f"{a} {b} {c}",
        f"+886-{n[1:4]}-{b}-{c}",
        f"+886{n[1:]}",
        f"+886 {n[1:4]} {b} {c}",
        f"{a}.{b}.{c}",
        f"({a}){b}-{c}",
    ]
    return wide(r, forms[style])


def landline(r: random.Random) -> str:
    area, size, first = r.choice([
        ("02", 8, "28"), ("02", 8, "67"), ("03", 7, "345"), ("037", 6, "23"), ("04", 8, "2"), ("04", 7, "78"), ("049", 7, "2"), ("05", 7, "256"),
        ("06", 7, "25"), ("07", 7, "3578"), ("08", 7, "78"), ("089", 6, "23"), ("082", 6, "3"), ("0826", 5, "6"), ("0836", 5, "2"),
    ])  # fmt: skip
    local = r.choice(first) + digits(r, size - 1)
    while len(set(local)) == 1:
        local = r.choice(first) + digits(r, size - 1)
    cut = size - 4 if size > 6 else (3 if size == 6 else size)
    split = f"{local[:cut]}-{local[cut:]}" if cut < size else local
    forms = [
        f"{area}-{local}",
        f"({area}){local}",
        f"({area}) {split}",
        f"{area}-{split}",
        f"（{area}）{split}",
        f"+886-{area[1:]}-{split}",
        f"+886 {area[1:]} {local}",
    ]
    text = r.choice(forms)
    if r.random() < 0.25:
        text += r.choice(["轉", "分機", "#", " ext. ", " 分機 "]) + digits(r, r.choice([2, 3, 4]))
    return wide(r, text, 0.1)


def identity(r: random.Random) -> str:
    values = dict(zip("ABCDEFGHJKLMNPQRSTUVXYWZIO", range(10, 36), strict=True))
    kind = r.random()
    head = r.choice(string.ascii_uppercase)
    second = r.choice("12") if kind < 0.7 else r.choice("89") if kind < 0.9 else r.choice("ABCD")
    body = digits(r, 7)
    for last in "0123456789":
        number = f"{values[head]}{values[second] % 10 if second.isalpha() else second}{body}{last}"
        if (
            sum(w * int(d) for w, d in zip((1, 9, 8, 7, 6, 5, 4, 3, 2, 1, 1), number, strict=True))
            % 10
            == 0
        ):
            return wide(r, head + second + body + last)
    raise AssertionError


def luhn(r: random.Random, head: str, size: int) -> str:
    while True:
        number = head + digits(r, size - len(head))
        total = sum(
            int(d) if i % 2 == 0 else sum(map(int, str(2 * int(d))))
            for i, d in enumerate(reversed(number))
        )
        if total % 10 == 0:
            return number


def card(r: random.Random) -> str:
    head, size = r.choice(
        [
            ("4", 16),
            ("4", 16),
            ("52", 16),
            ("55", 16),
            ("3540", 16),
            ("2300", 16),
            ("37", 15),
            ("6222", 16),
        ]
    )
    n = luhn(r, head, size)
    if size == 15:
        return r.choice([n, f"{n[:4]} {n[4:10]} {n[10:]}"])
    return wide(
        r,
        r.choice(
            [
                n,
                "-".join(n[i : i + 4] for i in (0, 4, 8, 12)),
                " ".join(n[i : i + 4] for i in (0, 4, 8, 12)),
            ]
        ),
    )


def bank(r: random.Random) -> str:
    n = r.choice("123456789") + digits(r, r.choice([10, 11, 12, 13]))
    forms = [
        n,
        n,
        f"{n[:3]}-{n[3:5]}-{n[5:]}",
        f"{n[:4]}-{n[4:8]}-{n[8:]}",
        f"{n[:4]} {n[4:8]} {n[8:]}",
    ]
    return wide(r, r.choice(forms))


_HAN = "〇一二三四五六七八九"


def han(n: int) -> str:
    if n < 10:
        return _HAN[n]
    if n < 100:
        return (_HAN[n // 10] if n >= 20 else "") + "十" + (_HAN[n % 10] if n % 10 else "")
    rest = n % 100
    return (
        _HAN[n // 100]
        + "百"
        + (
            ""
            if not rest
            else (
                "零" + _HAN[rest]
                if rest < 10
                else _HAN[rest // 10] + "十" + (_HAN[rest % 10] if rest % 10 else "")
            )
        )
    )


def address(r: random.Random) -> str:
    county = r.choice(list(TOWNS))
    town = r.choice(TOWNS[county].split())
    num = (lambda n: str(n)) if r.random() < 0.75 else han
    text = county + town if r.random() < 0.85 else county if r.random() < 0.5 else town
    if r.random() < 0.2:
        text += r.choice(_VILLAGES) + ("里" if town[-1] in "區市鎮" else "村")
        if r.random() < 0.4:
            text += num(r.randint(1, 25)) + "鄰"
    text += r.choice(_ROADS) + r.choice(["路", "路", "街"])
    if r.random() < 0.4:
        text += r.choice(["一", "二", "三", "四", "2", "3"]) + "段"
    if r.random() < 0.4:
        text += num(r.randint(1, 480)) + "巷"
        if r.random() < 0.5:
            text += num(r.randint(1, 60)) + "弄"
    text += (
        num(r.randint(1, 560)) + (f"之{num(r.randint(1, 9))}" if r.random() < 0.1 else "") + "號"
    )
    if r.random() < 0.5:
        text += (
            num(r.randint(2, 18)) + "樓" + (f"之{num(r.randint(1, 9))}" if r.random() < 0.3 else "")
        )
    return wide(r, text, 0.08)


def email(r: random.Random) -> str:
    local = r.choice(
        ["wang", "amy.chen", "lin_yt", "hsiao-wei", "kevin", "mei", "t.c.lee", "chang88"]
    ) + r.choice(["", str(r.randint(1, 9999))])
    host = r.choice(
        [
            "gmail.com",
            "yahoo.com.tw",
            "hotmail.com",
            "ntu.edu.tw",
            "mail.ncku.edu.tw",
            "seed.net.tw",
            "ms12.hinet.net",
            "pchome.com.tw",
            "outlook.com",
        ]
    )
    return wide(r, f"{local}@{host}", 0) if r.random() > 0.05 else f"{local}@{host}".upper()


def line_id(r: random.Random) -> str:
    return (
        r.choice(["happy", "amy.", "tw_", "jason", "mei-", "a", "kitty", "luckygo"])
        + r.choice(["", "love", "_tw"])
        + str(r.randint(10, 99999))
    )


def ip(r: random.Random) -> str:
    if r.random() < 0.15:
        return f"2001:b0{r.randint(10, 99)}:{r.randint(1, 9999):x}:{r.randint(1, 65535):x}::{r.randint(1, 65535):x}"
    return f"{r.choice([1, 36, 59, 61, 111, 114, 118, 122, 140, 163, 180, 203, 211, 220])}.{r.randint(40, 250)}.{r.randint(20, 250)}.{r.randint(1, 254)}".replace(
        "203.0.113", "203.69.113"
    )


def plate(r: random.Random) -> str:
    letters = "ABCDEFGHJKLMNPQRSTUVWXYZ"
    pick = lambda n, s=letters: "".join(r.choice(s) for _ in range(n))  # noqa: E731
    forms = [f"{pick(3)}-{pick(4, '01235678')}"] * 4 + [
        f"{pick(2)}-{digits(r, 4)}",
        f"{digits(r, 4)}-{pick(2)}",
        f"{pick(3)}-{digits(r, 3)}",
    ]
    return wide(r, r.choice(forms), 0.08)


def birth(r: random.Random) -> str:
    y, m, d = r.randint(1935, 2015), r.randint(1, 12), r.randint(1, 28)
    t = y - 1911
    return wide(r, r.choice([
        f"民國{t}年{m}月{d}日", f"民國 {t} 年 {m} 月 {d} 日", f"{y}年{m}月{d}日", f"{y}/{m:02d}/{d:02d}", f"{y}-{m:02d}-{d:02d}", f"{t}/{m}/{d}",
        f"{t}.{m:02d}.{d:02d}", f"民國{han(t)}年{han(m)}月{han(d)}日", f"西元{y}年{m}月{d}日", f"{y}{m:02d}{d:02d}",
    ]), 0.08)  # fmt: skip


def english_birth(r: random.Random) -> str:
    return f"{r.randint(1935, 2015)}-{r.randint(1, 12):02d}-{r.randint(1, 28):02d}"


def secret(r: random.Random) -> str:
    an = string.ascii_letters + string.digits
    pick = lambda n, s=an: "".join(r.choice(s) for _ in range(n))  # noqa: E731
    return r.choice([
        lambda: "AKIA" + pick(16, string.ascii_uppercase + "234567"), lambda: "ghp_" + pick(36), lambda: "github_pat_" + pick(22) + "_" + pick(59),
        lambda: "AIza" + pick(35), lambda: f"xoxb-{digits(r, 12)}-{digits(r, 12)}-{pick(24)}", lambda: "sk-" + pick(48), lambda: "sk-proj-" + pick(60),
        lambda: f"eyJ{pick(33)}.eyJ{pick(60)}.{pick(43)}", lambda: "glpat-" + pick(20), lambda: "hf_" + pick(34), lambda: "sk_live_" + pick(24),
        lambda: f"{digits(r, 10)}:AA{pick(33)}", lambda: "SG." + pick(22) + "." + pick(43),
        lambda: "-----BEGIN RSA PRIVATE KEY-----\n" + "\n".join(pick(64) for _ in range(3)) + "\n-----END RSA PRIVATE KEY-----",
    ])()  # fmt: skip


MAKERS: dict[str, Maker] = {
    "mobile": mobile, "landline": landline, "identity number": identity,
    "health card": lambda r: wide(r, r.choice([(n := "0000" + digits(r, 8)), f"{n[:4]} {n[4:8]} {n[8:]}", f"{n[:4]}-{n[4:8]}-{n[8:]}"])),
    "passport": lambda r: r.choice([r.choice("23") + digits(r, 8), r.choice("BCEKM") + digits(r, 8), r.choice("BEN") + r.choice("ABC") + digits(r, 7)]),
    "card": card, "bank account": bank, "address": address, "e-mail": email, "LINE id": line_id, "IP address": ip, "plate": plate,
    "birth date": birth, "secret": secret,
}  # fmt: skip
