# ruff: noqa: E501 (rows stay in one piece)
"""Values of the wide set for the measurement of personal-data detection; all invented, all seeded."""

from __future__ import annotations

import calendar
import random
import string

import pii_fourth
import pii_values
from pii_values import Maker, han
from pii_values import digits as _d
from pii_values import pick as _pick

_LETTERS = string.ascii_letters + string.digits
_PLATE_LETTERS = "ABCDEFGHJKLMNPQRSTUVWXYZ"
_MONTHS = calendar.month_name[1:]


def _wide(r: random.Random, text: str, share: float = 0.07) -> str:
    if r.random() > share:
        return text
    return "".join(chr(ord(c) + 0xFEE0) if c.isascii() and c != " " else c for c in text)


def _mobile(r: random.Random) -> str:
    n = "09" + r.choice("012345678") + _d(r, 6) + r.choice("123456789")
    a, b, c = n[:4], n[4:7], n[7:]
    return _wide(r, r.choice([
        n, n, n, f"{a}-{b}-{c}", f"{a}-{b}{c}", f"{a} {b} {c}", f"{a} {b}{c}", f"{a}.{b}.{c}", f"{a}—{b}—{c}", f"({a}){b}{c}", f"{a} - {b} - {c}",
        f"{n[:2]}-{n[2:]}", f"{n[:2]} {n[2:6]} {n[6:]}", f"{a}-{n[4:6]}-{n[6:]}", f"{n[:5]}-{n[5:]}", f"+886 {n[1:4]} {b} {c}", f"+886{n[1:]}", f"+886-{n[1:4]}-{b}{c}",
        f"+886 (0){n[1:4]}-{b}-{c}", f"(+886) {n[1:4]} {b} {c}", f"886-{n[1:]}", f"00886 {n[1:4]} {b} {c}", f"+886 9 {n[2:6]} {n[6:]}", f"+886.{n[1:4]}.{b}.{c}",
    ]))  # fmt: skip


def _landline(r: random.Random) -> str:
    text = pii_fourth.MAKERS["landline"](r)
    if (
        text.isascii()
        and r.random() < 0.2
        and not text.startswith(("+", "8"))
        and text[-4:].isdigit()
    ):
        tail = r.choice(
            [" 分機：{}", "，分機{}", "（分機{}）", " 轉 {}", "(#{})", " EXT {}", " x{}", "-#{}"]
        )
        return (
            text + tail.format(r.randint(10, 9999))
            if "分" not in text
            and "#" not in text
            and "轉" not in text
            and "ext" not in text
            and "*" not in text
            else text
        )
    return text


def bare_landline(r: random.Random) -> str:
    area = r.choice(["02", "04", "07", "03", "06"])
    local = r.choice("2") + _d(r, 7 if area in ("02", "04") else 6)
    return r.choice(
        [
            area + local,
            f"{area} {local}",
            f"{area} {local[:-4]} {local[-4:]}",
            f"{area}.{local[:-4]}.{local[-4:]}",
            f"{area}/{local}",
        ]
    )


def local_landline(r: random.Random) -> str:
    n = r.choice("23678") + _d(r, 7)
    return r.choice([f"{n[:4]}-{n[4:]}", f"{n[:3]}-{n[3:7]}", n, f"{n[:4]} {n[4:]}"])


def _identity(r: random.Random) -> str:
    n = pii_values.identity(r)
    if not n.isascii():
        return n
    return r.choice(
        [
            n,
            n,
            n,
            n,
            n.lower(),
            f"{n[0]} {n[1:]}",
            f"{n[0]}-{n[1:]}",
            f"{n[:4]} {n[4:7]} {n[7:]}",
            f"{n[:4]}-{n[4:7]}-{n[7:]}",
        ]
    )


def sure_identity(r: random.Random) -> str:
    return pii_values.identity(r)


def _health(r: random.Random) -> str:
    n = r.choice(["0000", "0000", "0001", "9100", "30"])
    n += _d(r, 12 - len(n))
    return _wide(
        r,
        r.choice(
            [
                n,
                n,
                n,
                f"{n[:4]}-{n[4:8]}-{n[8:]}",
                f"{n[:4]} {n[4:8]} {n[8:]}",
                f"{n[:4]}－{n[4:8]}－{n[8:]}",
                f"{n[:6]} {n[6:]}",
                f"{n[:3]} {n[3:6]} {n[6:9]} {n[9:]}",
            ]
        ),
    )


def _passport(r: random.Random) -> str:
    return _wide(
        r,
        r.choice(
            [
                r.choice("123") + _d(r, 8),
                r.choice("3") + _d(r, 8),
                r.choice("BCEKMNX") + _d(r, 8),
                r.choice(["TR", "EA", "AB"]) + _d(r, 7),
            ]
        ),
    )


def _card(r: random.Random) -> str:
    n = pii_values.luhn(r, r.choice(["4", "4", "51", "55", "2221", "3528", "3567", "6250"]), 16)
    if r.random() < 0.15:
        n = pii_values.luhn(r, r.choice(["34", "37"]), 15)
        return r.choice([n, f"{n[:4]}-{n[4:10]}-{n[10:]}", f"{n[:4]} {n[4:10]} {n[10:]}"])
    return _wide(
        r,
        r.choice(["", "", "-", " ", "－", ".", "  ", " - ", "—"]).join(
            n[i : i + 4] for i in (0, 4, 8, 12)
        ),
    )


def _bank(r: random.Random) -> str:
    n = _d(r, r.choice([10, 11, 12, 12, 13, 14]))
    n = r.choice("0123456789") + n[1:-1] + r.choice("12345678")
    n = n if not n.startswith(("09", "9990")) else "1" + n[1:]
    return _wide(
        r,
        r.choice(
            [
                n,
                n,
                n,
                f"{n[:3]}-{n[3:]}",
                f"{n[:4]}-{n[4:6]}-{n[6:]}",
                f"{n[:3]}-{n[3:5]}-{n[5:-1]}-{n[-1]}",
                f"{n[:4]} {n[4:8]} {n[8:]}",
                f"{n[:5]}-{n[5:]}",
            ]
        ),
    )


_ROADS = ["市府", "市民", "鎮前", "新生南", "中華", "大墩十一", "民族一", "七賢二", "三多四", "明誠", "敦化北", "北門", "東門", "站前", "府前", "裕農", "崇德", "逢甲", "永康", "臨沂", "景美", "安和", "成功湖", "科學園", "環中東", "五權西", "精誠九", "九如一", "大學十", "後站", "工業", "海安", "鄉城", "重新", "集美", "文中三", "介壽", "龍江"]  # fmt: skip
_OTHER_TOWNS = {"新北市": "三峽區 鶯歌區 中和區 永和區 林口區 汐止區", "臺北市": "松山區 士林區 南港區", "桃園市": "八德區 龜山區 蘆竹區", "臺中市": "南屯區 豐原區 太平區 東勢區", "高雄市": "前鎮區 苓雅區 楠梓區 那瑪夏區", "臺南市": "中西區 新營區 麻豆區", "新竹市": "東區 香山區", "基隆市": "仁愛區 七堵區", "嘉義縣": "阿里山鄉 民雄鄉 太保市", "屏東縣": "三地門鄉 東港鎮", "臺東縣": "太麻里鄉 成功鎮 池上鄉", "南投縣": "信義鄉 魚池鄉 竹山鎮", "宜蘭縣": "員山鄉 頭城鎮", "苗栗縣": "竹南鎮 三義鄉", "彰化縣": "和美鎮 北斗鎮", "雲林縣": "西螺鎮 土庫鎮"}  # fmt: skip


def _house(r: random.Random) -> str:
    n = str if r.random() < 0.8 else han
    s = r.choice(["", "", "", " "])
    out = ""
    if r.random() < 0.45:
        out += n(r.randint(2, 480)) + s + "巷" + s
        if r.random() < 0.4:
            out += n(r.randint(1, 60)) + s + "弄" + s
    k = n(r.randint(1, 600))
    out += r.choice([f"{k}{s}號"] * 6 + [f"{k}號之{n(3)}", f"{k}之{n(5)}號", f"{k}-1號", f"{k} 號"])
    f = n(r.randint(2, 25))
    if r.random() < 0.55 and "號之" not in out:
        out += s + r.choice(
            [
                f"{f}樓",
                f"{f}樓之{n(3)}",
                f"{f}F",
                f"{f}F-2",
                f"{f}樓-1",
                f"{f}樓B室",
                f"，{f}樓",
                "B1",
                "地下一樓",
                f"{f}樓503室",
                f"{f}樓之{n(12)}",
            ]
        )
    return out


def _address(r: random.Random) -> str:
    county = r.choice(list(_OTHER_TOWNS))
    town = r.choice(_OTHER_TOWNS[county].split())
    if r.random() < 0.3:
        county = county.replace("臺", "台")
    s = r.choice(["", "", "", "", " "])
    text = r.choice(
        [county + s + town] * 7 + [town, county[:2] + town, county[:2] + s + town[:-1] + town[-1]]
    )
    if r.random() < 0.2:
        text += (
            s
            + r.choice(["中山", "福安", "大湖", "龍門", "神木", "文里", "三和"])
            + ("里" if town[-1] in "區市" else "村")
        )
        text += f"{r.randint(1, 30)}鄰" if r.random() < 0.6 else ""
        if r.random() < 0.25:
            return _wide(r, text + f"{r.randint(1, 300)}號", 0.05)
    text += s + r.choice(_ROADS) + r.choice(["路", "路", "街"])
    if r.random() < 0.35:
        text += s + r.choice(["一段", "二段", "三段", "1段", "2段", "四段", "5 段"])
    return _wide(r, text + s + _house(r), 0.05)


def road_only(r: random.Random) -> str:
    road = r.choice(_ROADS) + r.choice(["路", "街"]) + r.choice(["", "", "一段", "3段"])
    return road + _house(r)


def english_address(r: random.Random) -> str:
    a = r.randint(1, 400)
    lane = r.choice(
        [
            "",
            "",
            f"Ln. {r.randint(2, 300)}, ",
            f"Lane {r.randint(2, 300)}, ",
            f"Aly. 6, Ln. {r.randint(2, 99)}, ",
            f"Alley 3, Lane {r.randint(2, 99)}, ",
        ]
    )
    road = r.choice(
        [
            "Zhongxiao E. Rd.",
            "Sec. 4, Ren'ai Rd.",
            "Minzu 1st Road",
            "Dadun 11th St.",
            "Section 2, Chang'an East Road",
            "Wuquan W. Rd",
            "Shimin Blvd.",
            "Roosevelt Road, Section 3",
            "Jhongjheng Rd.",
        ]
    )
    place = r.choice(
        [
            "Songshan Dist., Taipei City 105, Taiwan (R.O.C.)",
            "Zhonghe District, New Taipei City 235",
            "Nantun Dist., Taichung City 408, Taiwan",
            "Lingya Dist., Kaohsiung City, Taiwan, R.O.C.",
            "East Dist., Hsinchu City 300",
            "Zhubei City, Hsinchu County 302, Taiwan",
            "Taipei 106, Taiwan",
            "Puli Township, Nantou County 545",
        ]
    )
    floor = r.choice(
        [
            "",
            "",
            f"{r.randint(2, 20)}F., ",
            f"{r.randint(2, 20)}F, ",
            f"{r.randint(2, 20)}F.-3, ",
            "Rm. 502, 5F., ",
        ]
    )
    return (
        f"{floor}No. {a}, {lane}{road}, {place}"
        if r.random() < 0.8
        else f"{floor}No.{a}, {lane}{road}, {place}"
    )


def _email(r: random.Random) -> str:
    name = r.choice(
        ["pinyu.huang", "jerry-tsai", "c_l_chen", "ashley.wu", "meow", "tzuyu", "r09921", "dr.lee"]
    ) + r.choice(["", _d(r, 2), _d(r, 4)])
    host = r.choice(
        [
            "gmail.com",
            "gmail.com",
            "yahoo.com.tw",
            "hotmail.com",
            "outlook.com",
            "icloud.com",
            "ntu.edu.tw",
            "gs.ncku.edu.tw",
            "ms45.hinet.net",
            "protonmail.com",
            "kimo.com.tw",
        ]
    )
    at = r.choice(
        ["@"] * 12 + ["＠", " @ ", "(at)", "[at]", " at ", "{at}", " [AT] ", "（小老鼠）", "(@)"]
    )
    if at != "@" and r.random() < 0.4:
        host = host.replace(".", r.choice(["(dot)", "[dot]", " dot ", "．"]))
    return name + at + host


def plain_email(r: random.Random) -> str:
    return f"{_pick(r, 6, string.ascii_lowercase)}{_d(r, 3)}@{r.choice(['gmail.com', 'yahoo.com.tw', 'ntnu.edu.tw'])}"


def _line(r: random.Random) -> str:
    return r.choice([
        lambda: r.choice(["amber", "howard", "nini", "bear"]) + _d(r, r.choice([2, 4, 6])), lambda: r.choice(["lisa", "ken", "wei"]) + r.choice("._-") + r.choice(["lin", "0520", "tw", "wang"]), lambda: _pick(r, 2, string.ascii_lowercase) + _d(r, 6),
        lambda: r.choice(["chenchen", "hsiaomei", "ilovetaipei", "littlefish"]), lambda: r.choice(["Amy", "Jack"]) + _d(r, 4), lambda: _d(r, 4) + r.choice(["abc", "joy"]), lambda: "@" + _d(r, 3) + _pick(r, 5, string.ascii_lowercase),
    ])()  # fmt: skip


def sure_line(r: random.Random) -> str:
    return r.choice(["ruby", "tim", "oscar"]) + r.choice(["", "_", "."]) + _d(r, r.choice([3, 5]))


def _ip(r: random.Random) -> str:
    return pii_fourth.MAKERS["IP address"](r)


def _plate(r: random.Random) -> str:
    a, n = _PLATE_LETTERS, "0123456789"
    k = r.randrange(13)
    return _wide(r, [
        f"{_pick(r, 3, a)}-{_pick(r, 4, n)}", f"{_pick(r, 3, a)}-{_pick(r, 4, n)}", f"{_pick(r, 3, a)}-{_pick(r, 4, n)}", f"{_pick(r, 3, a)}{_pick(r, 4, n)}", f"{_pick(r, 3, a)} {_pick(r, 4, n)}", f"{_pick(r, 2, a)}-{_pick(r, 4, n)}", f"{_pick(r, 4, n)}-{_pick(r, 2, a)}", f"{_pick(r, 3, a)}-{_pick(r, 3, n)}",
        f"{_pick(r, 3, n)}-{_pick(r, 3, a)}", f"E{_pick(r, 2, a)}-{_pick(r, 4, n)}", f"{r.choice(a)}{r.choice('23456789')}-{_pick(r, 4, n)}", f"{_pick(r, 4, n)}-{r.choice(a)}{r.choice('23456789')}", f"{_pick(r, 3, a)}－{_pick(r, 4, n)}",
    ][k])  # fmt: skip


def _birth(r: random.Random) -> str:
    y, m, d = r.randint(1942, 2018), r.randint(1, 12), r.randint(1, 28)
    t = y - 1911
    return _wide(r, r.choice([
        f"民國{t}年{m}月{d}日", f"民國{t}年{m}月{d}日", f"{t}年{m}月{d}日", f"民國 {t} 年 {m} 月 {d} 日", f"民國{t}年{m:02d}月{d:02d}日", f"{y}年{m}月{d}日", f"西元{y}年{m}月{d}日", f"{y} 年 {m} 月 {d} 日", f"{y}/{m:02d}/{d:02d}", f"{y}/{m}/{d}", f"{y}-{m:02d}-{d:02d}", f"{y}.{m:02d}.{d:02d}", f"{y}.{m}.{d}",
        f"{t}/{m}/{d}", f"{t}/{m:02d}/{d:02d}", f"{t}.{m}.{d}", f"{t}.{m:02d}.{d:02d}", f"{t}-{m}-{d}", f"{han(t)}年{han(m)}月{han(d)}日", f"民國{han(t)}年{han(m)}月{han(d)}日", f"{t:03d}{m:02d}{d:02d}", f"{y}{m:02d}{d:02d}", f"民國{t}.{m}.{d}", f"{t}年{m}月{d}號", f"民國{t}/{m:02d}/{d:02d}", f"{y}．{m:02d}．{d:02d}", f"{t}年次{m}月{d}日",
    ]), 0.05)  # fmt: skip


def written_birth(r: random.Random) -> str:
    y, m, d = r.randint(1942, 2018), r.randint(1, 12), r.randint(1, 28)
    t = y - 1911
    return r.choice(
        [
            f"民國{t}年{m}月{d}日",
            f"{t}年{m}月{d}日",
            f"{y}年{m}月{d}日",
            f"{y} 年 {m} 月 {d} 日",
            f"民國{han(t)}年{han(m)}月{han(d)}日",
            f"{y}/{m}/{d}",
        ]
    )


def english_birth(r: random.Random) -> str:
    month, d, y, m = r.choice(_MONTHS), r.randint(1, 28), r.randint(1942, 2018), r.randint(1, 12)
    return r.choice(
        [
            f"{month} {d}, {y}",
            f"{d} {month} {y}",
            f"{month[:3]}. {d}, {y}",
            f"{d}-{month[:3]}-{y}",
            f"{y}-{m:02d}-{d:02d}",
            f"{d:02d}/{m:02d}/{y}",
            f"{month} {d}th, {y}",
            f"{m}/{d}/{y}",
            f"{y}/{m}/{d}",
            f"{d} {month[:3]} {y}",
            f"{month[:3].upper()} {d} {y}",
        ]
    )


def _secret(r: random.Random) -> str:
    hexa = "0123456789abcdef"
    return r.choice([
        lambda: pii_fourth.MAKERS["secret"](r), lambda: pii_values.secret(r), lambda: "sk-ant-api03-" + _pick(r, 95), lambda: "xapp-1-A" + _pick(r, 10, string.ascii_uppercase) + "-" + _d(r, 13) + "-" + _pick(r, 64, hexa), lambda: "SK" + _pick(r, 32, hexa), lambda: "key-" + _pick(r, 32, hexa),
        lambda: _pick(r, 32, hexa) + "-us" + _d(r, 2), lambda: "EAAG" + _pick(r, 120), lambda: "ntn_" + _pick(r, 46), lambda: "secret_" + _pick(r, 43), lambda: "lin_api_" + _pick(r, 40), lambda: "dapi" + _pick(r, 32, hexa), lambda: "figd_" + _pick(r, 43), lambda: "hvs." + _pick(r, 90), lambda: "sq0atp-" + _pick(r, 22),
        lambda: "r8_" + _pick(r, 37), lambda: "dckr_pat_" + _pick(r, 27), lambda: "sbp_" + _pick(r, 40, hexa), lambda: "PMAK-" + _pick(r, 24, hexa) + "-" + _pick(r, 34, hexa), lambda: f"MTA{_pick(r, 23)}.G{_pick(r, 5)}.{_pick(r, 38)}", lambda: "ATATT3xFfGF0" + _pick(r, 172), lambda: "glsa_" + _pick(r, 32) + "_" + _pick(r, 8, hexa), lambda: "pplx-" + _pick(r, 48), lambda: "xai-" + _pick(r, 80), lambda: "rubygems_" + _pick(r, 48, hexa),
    ])()  # fmt: skip


def named_secret(r: random.Random) -> str:
    return r.choice(
        [
            lambda: _pick(r, 32, "0123456789abcdef"),
            lambda: _pick(r, 40),
            lambda: _pick(r, 24),
            lambda: _pick(r, 64, "0123456789abcdef"),
        ]
    )()


MAKERS: dict[str, Maker] = pii_values.MAKERS | {
    "mobile": _mobile, "landline": _landline, "identity number": _identity, "health card": _health, "passport": _passport, "card": _card, "bank account": _bank, "address": _address,
    "e-mail": _email, "LINE id": _line, "IP address": _ip, "plate": _plate, "birth date": _birth, "secret": _secret,
}  # fmt: skip
