"""Values of hard negatives for the sets written without a look at the rules; all seeded."""

from __future__ import annotations

import random
import string
import uuid

from pii_blind_numerals import d, pick
from pii_blind_values import Maker, luhn


def num(low: int, high: int) -> Maker:
    return lambda r: str(r.randint(low, high))


def comma(low: int, high: int) -> Maker:
    return lambda r: f"{r.randint(low, high):,}"


def digits(n: int, head: str = "") -> Maker:
    return lambda r: head + d(r, n)


def one(*texts: str) -> Maker:
    return lambda r: r.choice(texts)


def hexa(n: int) -> Maker:
    return lambda r: pick(r, n, "0123456789abcdef")


def pattern(text: str) -> Maker:
    """`9` a digit, `A` a letter; after `\\` as it is."""

    def make(r: random.Random) -> str:
        out, literal = "", False
        for c in text:
            if literal:
                out, literal = out + c, False
            elif c == "\\":
                literal = True
            else:
                out += (
                    r.choice("0123456789")
                    if c == "9"
                    else r.choice(string.ascii_uppercase)
                    if c == "A"
                    else c
                )
        return out

    return make


def guid(r: random.Random) -> str:
    return str(uuid.UUID(int=r.getrandbits(128), version=4))


def date(r: random.Random) -> str:
    y, m, day = r.randint(1996, 2025), r.randint(1, 12), r.randint(1, 28)
    return r.choice(
        [
            f"{y}年{m}月{day}日",
            f"{y}/{m:02d}/{day:02d}",
            f"{y}-{m:02d}-{day:02d}",
            f"{y}.{m:02d}.{day:02d}",
        ]
    )


def roc(r: random.Random) -> str:
    t, m, day = r.randint(80, 114), r.randint(1, 12), r.randint(1, 28)
    return r.choice(
        [
            f"民國{t}年{m}月{day}日",
            f"{t}年{m}月{day}日",
            f"{t}/{m:02d}/{day:02d}",
            f"{t}.{m:02d}.{day:02d}",
        ]
    )


def document(r: random.Random) -> str:
    return r.choice(["090", "091", "092", "095", "098", "102", "107", "110", "112", "114"]) + d(
        r, 7
    )


def isbn13(r: random.Random) -> str:
    head = r.choice(["978957", "978986", "978626"]) + d(r, 6)
    last = str(-sum(int(x) * (3 if i % 2 else 1) for i, x in enumerate(head)) % 10)
    n = head + last
    return r.choice(
        [
            n,
            f"{n[:3]}-{n[3:6]}-{n[6:9]}-{n[9:12]}-{n[12]}",
            f"{n[:3]}-{n[3:6]}-{n[6:10]}-{n[10:12]}-{n[12]}",
        ]
    )


def imei(r: random.Random) -> str:
    return luhn(r, r.choice(["35", "86"]), 15)


def private_ip(r: random.Random) -> str:
    return r.choice(
        [
            f"192.168.{r.randint(0, 254)}.{r.randint(1, 254)}",
            f"10.{r.randint(0, 254)}.{r.randint(0, 254)}.{r.randint(1, 254)}",
            f"172.{r.randint(16, 31)}.{r.randint(0, 254)}.{r.randint(1, 254)}",
        ]
    )
