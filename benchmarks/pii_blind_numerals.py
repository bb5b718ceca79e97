"""Random digits, letters and Han numerals for the sets written without a look at the rules."""

from __future__ import annotations

import random
import string

LETTERS = string.ascii_letters + string.digits
HAN = "零一二三四五六七八九"


def d(r: random.Random, n: int) -> str:
    return "".join(r.choice("0123456789") for _ in range(n))


def pick(r: random.Random, n: int, letters: str = LETTERS) -> str:
    return "".join(r.choice(letters) for _ in range(n))


def wide(r: random.Random, text: str, share: float = 0.07) -> str:
    if r.random() > share:
        return text
    return "".join(chr(ord(c) + 0xFEE0) if c.isascii() and c != " " else c for c in text)


def han(n: int) -> str:
    """A number below 1000 in Han numerals."""
    if n < 10:
        return HAN[n]
    if n < 100:
        return (HAN[n // 10] if n >= 20 else "") + "十" + (HAN[n % 10] if n % 10 else "")
    rest = n % 100
    text = HAN[n // 100] + "百"
    if not rest:
        return text
    if rest < 10:
        return text + "零" + HAN[rest]
    return text + HAN[rest // 10] + "十" + (HAN[rest % 10] if rest % 10 else "")
