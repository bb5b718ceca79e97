# ruff: noqa: E501
"""Values for sets of templates written without a look at the rules; all invented, all seeded."""

from __future__ import annotations

import random
import string
from collections.abc import Callable

from pii_blind_addresses import address
from pii_blind_addresses import english_address as english_address
from pii_blind_addresses import village_address as village_address
from pii_blind_numerals import HAN as _HAN
from pii_blind_numerals import LETTERS as _AN
from pii_blind_numerals import d, han, pick, wide

Maker = Callable[[random.Random], str]
Template = str | tuple[str, Maker]

# --- phones ---------------------------------------------------------------------------------


def _mobile_digits(r: random.Random) -> str:
    while True:
        n = "09" + r.choice("012356789") + d(r, 7)
        if len(set(n[4:])) > 2:
            return n


def mobile(r: random.Random) -> str:
    n = _mobile_digits(r)
    a, b, c = n[:4], n[4:7], n[7:]
    text = r.choice([
        n, n, n, n, f"{a}-{b}-{c}", f"{a}-{b}-{c}", f"{a}-{b}{c}", f"{a}-{b}{c}", f"{a} {b} {c}", f"{a} {b}{c}",
        f"{n[:2]}-{n[2:6]}-{n[6:]}", f"{a}－{b}－{c}", f"{a}.{b}.{c}", f"({a}){b}{c}", f"({a}) {b}-{c}",
        f"+886{n[1:]}", f"+886-{n[1:4]}-{b}-{c}", f"+886 {n[1:4]} {b} {c}", f"+886 {n[1:]}", f"(+886) {n[1:4]}-{b}-{c}", f"+886-{n[1:4]}{b}{c}",
    ])  # fmt: skip
    return wide(r, text)


def mobile_han(r: random.Random) -> str:
    n = _mobile_digits(r)
    h = "".join("〇" if x == "0" else _HAN[int(x)] for x in n)
    return r.choice([h, f"{h[:4]}-{h[4:]}", f"{h[:4]}－{h[4:7]}－{h[7:]}"])


def mobile_spaced(r: random.Random) -> str:
    return " ".join(_mobile_digits(r))


def mobile_wide(r: random.Random) -> str:
    n = _mobile_digits(r)
    return wide(r, r.choice([n, f"{n[:4]}-{n[4:7]}-{n[7:]}"]), 1)


_AREAS = [
    ("02", 8, "2"), ("02", 8, "2"), ("02", 8, "8"), ("03", 7, "3459"), ("037", 6, "2356"), ("04", 8, "2"), ("04", 7, "78"),
    ("049", 7, "2"), ("05", 7, "2356"), ("06", 7, "2356"), ("07", 7, "3567"), ("08", 7, "78"), ("089", 6, "23"), ("082", 6, "3"),
]  # fmt: skip


def _landline_parts(r: random.Random) -> tuple[str, str, str]:
    area, size, first = r.choice(_AREAS)
    while True:
        local = r.choice(first) + d(r, size - 1)
        if len(set(local)) > 2:
            break
    cut = size - 4 if size > 6 else 3
    return area, local[:cut], local[cut:]


def landline(r: random.Random) -> str:
    area, b, c = _landline_parts(r)
    text = r.choice([
        f"{area}-{b}{c}", f"{area}-{b}{c}", f"{area}-{b}-{c}", f"{area}-{b}-{c}", f"({area}){b}{c}", f"({area}){b}-{c}", f"({area}) {b}{c}", f"({area}) {b}-{c}",
        f"（{area}）{b}{c}", f"（{area}）{b}-{c}", f"{area} {b} {c}", f"{area} {b}{c}", f"{area}－{b}－{c}", f"+886-{area[1:]}-{b}{c}", f"+886 {area[1:]} {b} {c}", f"+886-{area[1:]}-{b}-{c}",
    ])  # fmt: skip
    if r.random() < 0.2:
        text += r.choice(["分機", "#", " #", "轉", " 轉 ", " ext. ", "＃"]) + d(
            r, r.choice([2, 3, 4])
        )
    return wide(r, text)


def landline_compact(r: random.Random) -> str:
    return "".join(_landline_parts(r))


def landline_local(r: random.Random) -> str:
    _, b, c = _landline_parts(r)
    return r.choice([f"{b}-{c}", f"{b}{c}"])


# --- identity, health card, passport -----------------------------------------------------------

_LETTER = dict(zip("ABCDEFGHJKLMNPQRSTUVXYWZIO", range(10, 36), strict=True))


def _checked(head: str, second: str, body: str) -> str:
    for last in "0123456789":
        s = str(_LETTER[second] % 10) if second.isalpha() else second
        digits = f"{_LETTER[head]}{s}{body}{last}"
        if (
            sum(w * int(x) for w, x in zip((1, 9, 8, 7, 6, 5, 4, 3, 2, 1, 1), digits, strict=True))
            % 10
            == 0
        ):
            return head + second + body + last
    raise AssertionError


def identity(r: random.Random) -> str:
    text = _checked(r.choice(string.ascii_uppercase), r.choice("12"), d(r, 7))
    if r.random() < 0.08:
        return text.lower()
    return wide(r, text)


def resident(r: random.Random) -> str:
    return _checked(r.choice(string.ascii_uppercase), r.choice("89"), d(r, 7))


def old_resident(r: random.Random) -> str:
    return _checked(r.choice(string.ascii_uppercase), r.choice("ABCD"), d(r, 7))


def health_card(r: random.Random) -> str:
    n = "0000" + d(r, 8)
    return wide(r, r.choice([n, n, n, f"{n[:4]} {n[4:8]} {n[8:]}", f"{n[:4]}-{n[4:8]}-{n[8:]}"]))


def passport(r: random.Random) -> str:
    return r.choice(
        [
            r.choice("3") + d(r, 8),
            r.choice("3") + d(r, 8),
            "2" + d(r, 8),
            r.choice("BCEKM") + d(r, 8),
            r.choice("EGT") + r.choice("ABCHKZ") + d(r, 7),
        ]
    )


# --- money ------------------------------------------------------------------------------------


def luhn(r: random.Random, head: str, size: int) -> str:
    body = head + d(r, size - len(head) - 1)
    total = sum(
        int(x) if i % 2 else sum(map(int, str(2 * int(x)))) for i, x in enumerate(reversed(body))
    )
    return body + str(-total % 10)


def card(r: random.Random) -> str:
    head = r.choice(
        ["4", "4", "4311", "4579", "51", "53", "5430", "5520", "2231", "3560", "3567", "37"]
    )
    if head == "37":
        n = luhn(r, head, 15)
        return r.choice([n, f"{n[:4]}-{n[4:10]}-{n[10:]}", f"{n[:4]} {n[4:10]} {n[10:]}"])
    n = luhn(r, head, 16)
    return wide(r, r.choice(["", "-", "-", " ", " "]).join(n[i : i + 4] for i in (0, 4, 8, 12)))


def bank(r: random.Random) -> str:
    n = r.choice("0123456789") + d(r, r.choice([8, 9, 10, 10, 11, 12])) + r.choice("123456789")
    return wide(
        r,
        r.choice(
            [
                n,
                n,
                n,
                f"{n[:3]}-{n[3:5]}-{n[5:-1]}-{n[-1]}",
                f"{n[:3]}-{n[3:6]}-{n[6:]}",
                f"{n[:4]}-{n[4:8]}-{n[8:]}",
                f"{n[:4]} {n[4:8]} {n[8:]}",
                f"{n[:5]}-{n[5:]}",
            ]
        ),
    )


def post_account(r: random.Random) -> str:
    """局號 and 帳號 of the post office, seven digits each."""
    return (
        "00"
        + d(r, 4)
        + r.choice("123456789")
        + r.choice(["-", " ", "", " - "])
        + "0"
        + d(r, 5)
        + r.choice("123456789")
    )


def ubn(r: random.Random) -> str:
    while True:
        n = r.choice("12345678") + d(r, 7)
        total = sum(
            sum(map(int, str(int(x) * w))) for x, w in zip(n, (1, 2, 1, 2, 1, 2, 4, 1), strict=True)
        )
        if total % 5 == 0 and n[6] != "7":
            return n


# --- net ----------------------------------------------------------------------------------------


def plain_email(r: random.Random) -> str:
    name = r.choice(
        [
            "ruby",
            "hc.chang",
            "yu_ting",
            "jason-liao",
            "tzuhan",
            "lin.meihua",
            "ken",
            "wei_chih",
            "sandy0",
            "p.y.tsao",
            "allen",
            "chiu",
            "s1071",
            "joycewu",
        ]
    ) + r.choice(["", "", d(r, 2), d(r, 3), d(r, 4)])
    return f"{name}@{r.choice(['gmail.com', 'gmail.com', 'yahoo.com.tw', 'hotmail.com', 'outlook.com', 'icloud.com', 'msa.hinet.net', 'mail.ntust.edu.tw', 'gs.ncku.edu.tw', 'kimo.com', 'proton.me', 'livemail.tw', 'nycu.edu.tw'])}"


def email(r: random.Random) -> str:
    text = plain_email(r)
    if r.random() < 0.05:
        return text.upper()
    name, host = text.split("@")
    return r.choice(["@"] * 15 + ["＠"]).join((name, host))


def hidden_email(r: random.Random) -> str:
    return (
        r.choice(["[at]", "(at)", " at ", " [at] "]).join(plain_email(r).split("@"))
        if r.random() < 0.75
        else plain_email(r).replace("@", " (at) ")
    )


def line_id(r: random.Random) -> str:
    return r.choice([
        lambda: r.choice(["cherry", "wayne", "miko", "joanne", "tiger", "ahong"]) + d(r, r.choice([2, 3, 4, 6])),
        lambda: r.choice(["coco", "tina", "hank", "sean"]) + r.choice("._-") + r.choice(["lin", "tw", "0815", "house", "huang"]),
        lambda: r.choice(["vivianchiu", "bearbear", "xiaomei", "rickywu", "dogdaddy"]),
        lambda: r.choice("cdjnw") + d(r, 6),
        lambda: d(r, 4) + r.choice(["abc", "love", "kk"]),
    ])()  # fmt: skip


def ip4(r: random.Random) -> str:
    return f"{r.choice([1, 27, 36, 39, 42, 49, 59, 60, 61, 101, 106, 111, 114, 115, 118, 122, 123, 125, 140, 175, 180, 210, 211, 218, 219, 220, 223])}.{r.randint(20, 250)}.{r.randint(1, 250)}.{r.randint(2, 254)}"


def ip(r: random.Random) -> str:
    if r.random() < 0.2:
        head = r.choice(["2001:b011:", "2001:b400:", "2402:7500:", "2407:4d00:", "2404:0:"])
        return head + r.choice(
            [
                ":".join(f"{r.randint(16, 65535):x}" for _ in range(5))
                + f":{r.randint(16, 65535):x}",
                f"{r.randint(16, 65535):x}:{r.randint(16, 65535):x}::{r.randint(1, 255):x}",
            ]
        )
    return ip4(r)


_PLATE = "ABCDEFGHJKLMNPQRSTUVWXYZ"


def plate(r: random.Random) -> str:
    n = "0123567893"
    return wide(r, r.choice([
        f"{pick(r, 3, _PLATE)}-{pick(r, 4, n)}", f"{pick(r, 3, _PLATE)}-{pick(r, 4, n)}", f"{pick(r, 3, _PLATE)}-{pick(r, 4, n)}", f"{pick(r, 3, _PLATE)}{pick(r, 4, n)}", f"{pick(r, 3, _PLATE)} {pick(r, 4, n)}",
        f"{pick(r, 4, n)}-{pick(r, 2, _PLATE)}", f"{pick(r, 2, _PLATE)}-{pick(r, 4, n)}", f"{pick(r, 3, _PLATE)}-{pick(r, 3, n)}", f"{pick(r, 3, n)}-{pick(r, 3, _PLATE)}", f"E{pick(r, 2, _PLATE)}-{pick(r, 4, n)}",
    ]))  # fmt: skip


# --- birth date, secret -----------------------------------------------------------------------


def birth(r: random.Random) -> str:
    y, m, day = r.randint(1938, 2012), r.randint(1, 12), r.randint(1, 28)
    t = y - 1911
    return wide(r, r.choice([
        f"民國{t}年{m}月{day}日", f"民國{t}年{m}月{day}日", f"{t}年{m}月{day}日", f"民國 {t} 年 {m:02d} 月 {day:02d} 日", f"{y}年{m}月{day}日", f"{y}年{m:02d}月{day:02d}日", f"{y}/{m:02d}/{day:02d}", f"{y}/{m}/{day}", f"{y}-{m:02d}-{day:02d}", f"{y}.{m}.{day}",
        f"{t}/{m:02d}/{day:02d}", f"{t}.{m:02d}.{day:02d}", f"{t}-{m}-{day}", f"民國{han(t)}年{han(m)}月{han(day)}日", f"西元{y}年{m}月{day}日", f"{y}{m:02d}{day:02d}", f"{y} 年 {m} 月 {day} 日",
    ]), 0.06)  # fmt: skip


def long_birth(r: random.Random) -> str:
    """With the year, month and day spelt out, for where a bare number would be none's."""
    y, m, day = r.randint(1938, 2012), r.randint(1, 12), r.randint(1, 28)
    t = y - 1911
    return r.choice(
        [
            f"民國{t}年{m}月{day}日",
            f"{t}年{m}月{day}日",
            f"{y}年{m}月{day}日",
            f"西元{y}年{m}月{day}日",
            f"民國{han(t)}年{han(m)}月{han(day)}日",
        ]
    )


def compact_birth(r: random.Random) -> str:
    y, m, day = r.randint(1938, 2012), r.randint(1, 12), r.randint(1, 28)
    return r.choice([f"{y - 1911:03d}{m:02d}{day:02d}", f"{y}{m:02d}{day:02d}"])


_MONTHS = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
]


def english_birth(r: random.Random) -> str:
    month, day, y = r.choice(_MONTHS), r.randint(1, 28), r.randint(1938, 2012)
    return r.choice(
        [
            f"{month} {day}, {y}",
            f"{day} {month} {y}",
            f"{month[:3]}. {day}, {y}",
            f"{day}-{month[:3]}-{y}",
            f"{y}-{r.randint(1, 12):02d}-{day:02d}",
            f"{y}/{r.randint(1, 12):02d}/{day:02d}",
        ]
    )


_UP = string.ascii_uppercase + string.digits


def secret(r: random.Random) -> str:
    return r.choice([
        lambda: "AKIA" + pick(r, 16, string.ascii_uppercase + "234567"), lambda: "ghp_" + pick(r, 36), lambda: "github_pat_" + pick(r, 22) + "_" + pick(r, 59), lambda: "AIzaSy" + pick(r, 33),
        lambda: f"xoxb-{d(r, 12)}-{d(r, 13)}-{pick(r, 24)}", lambda: "sk-" + pick(r, 48), lambda: "sk-proj-" + pick(r, 72), lambda: "sk-ant-api03-" + pick(r, 93) + "AA", lambda: "glpat-" + pick(r, 20),
        lambda: "hf_" + pick(r, 34, string.ascii_letters), lambda: "sk_live_" + pick(r, 24), lambda: "npm_" + pick(r, 36), lambda: "SG." + pick(r, 22) + "." + pick(r, 43), lambda: f"{d(r, 10)}:AA{pick(r, 33)}",
        lambda: f"eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.eyJ{pick(r, 60)}.{pick(r, 43)}",
    ])()  # fmt: skip


def webhook(r: random.Random) -> str:
    return f"https://hooks.slack.com/services/T{pick(r, 8, _UP)}/B{pick(r, 10, _UP)}/{pick(r, 24)}"


def private_key(r: random.Random) -> str:
    kind = r.choice(["RSA ", "", "EC ", "OPENSSH "])
    return (
        f"-----BEGIN {kind}PRIVATE KEY-----\n"
        + "\n".join(pick(r, 64, _AN + "+/") for _ in range(4))
        + f"\n-----END {kind}PRIVATE KEY-----"
    )


def aws_secret(r: random.Random) -> str:
    return pick(r, 40, _AN + "+/")


MAKERS: dict[str, Maker] = {
    "mobile": mobile, "landline": landline, "identity number": identity, "health card": health_card, "passport": passport, "card": card, "bank account": bank, "address": address,
    "e-mail": email, "LINE id": line_id, "IP address": ip, "plate": plate, "birth date": birth, "secret": secret, "UBN": ubn,
}  # fmt: skip

# --- drawing ----------------------------------------------------------------------------------


def drawn(
    r: random.Random, kind: str, templates: dict, heads: list[str], tails: list[str]
) -> tuple[str, list[tuple[int, int]]]:
    chosen = r.choice(templates[kind])
    template, make = (chosen, MAKERS[kind]) if isinstance(chosen, str) else chosen
    before, after = template.split("{}")
    head = r.choice(heads) if r.random() < 0.3 else ""
    tail = r.choice(tails) if r.random() < 0.3 else ""
    value, head = make(r), head + before
    return head + value + after + tail, [(len(head), len(head) + len(value))]
