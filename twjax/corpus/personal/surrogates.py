"""Stand-ins for personal data: of the same kind and in the same writing, but nobody's.

A stand-in depends on the seed, the document's id, the kind, and how many values of the kind came
before, never on the value: nothing of it can be computed back, and two documents can't be linked
by it. Equal values of a document get equal stand-ins, others different ones (as far as the numbers
reserved go). Each kind has something that a real value can't have, by which `find` knows a
stand-in and leaves it:

========================  ==========================================================================
identity number           the check digit is wrong
mobile                    0990–, which the numbering plan keeps for personal numbering, not mobiles
landline                  the area code stays, the local number begins with 0
card                      the first digit stays, the Luhn digit is wrong
company number            the check digit is wrong
e-mail                    example.com (RFC 2606)
IP address                192.0.2.0/24, 198.51.100.0/24, 203.0.113.0/24 (RFC 5737),
                          2001:db8::/32 (RFC 3849)
plate                     letters I and O, which plates of today don't have
birth date                30 February of another year
passport                  begins with 000
health card, bank account begin with 9990 (by convention of this file)
address                   county and township stay; road or village 範例 or Example, other numbers
LINE id                   begins with "example-" (by convention of this file)
secret                    its prefix stays, the rest contains EXAMPLE
name                      甲○○, 乙○○, …, as courts of Taiwan write
========================  ==========================================================================
"""

from __future__ import annotations

import dataclasses
import hashlib
import ipaddress
from collections.abc import Callable

import regex

from twjax.corpus.personal import identifiers, patterns
from twjax.corpus.personal.addresses import ENGLISH_REST, HEAD, NUMERAL
from twjax.corpus.personal.births import MONTH

_LETTERS = "abcdefghijklmnopqrstuvwxyz"
_HAN_DIGITS = "〇一二三四五六七八九"
_CALENDAR = regex.compile(r"(?:中華)?民國|西元|公元|國曆")
_STEMS = "甲乙丙丁戊己庚辛壬癸"
_SPACED = regex.compile("(?<![0-9])[0-9] [0-9](?![0-9])")
_NUMBER = regex.compile(r"[0-9]+|[〇○零一二三四五六七八九十廿卅元百]+")
_COUNTED = regex.compile(
    rf"(?P<n>{NUMERAL})(?P<unit>\s?[段巷弄衖號樓鄰室Ff]|(?=[\-－之]))|(?<=[\-－之])(?P<m>{NUMERAL})"
)
_ROAD = regex.compile(r"^.*?(?P<unit>路|街|大道)(?=\s*(?:[0-9一二三四五六七八九十百]|$))")
_ENGLISH_REST = regex.compile(ENGLISH_REST + "$")
_VILLAGE = regex.compile(r"^(?P<zip>[\s]*)[\u4e00-\u9fff]{1,5}(?P<unit>[里村])")


def fold(text: str) -> str:
    """Returns the text with ASCII letters and digits; offsets stay."""
    return patterns.fold(text)[0]


@dataclasses.dataclass(frozen=True)
class Draw:
    """Numbers for the stand-in of the `ordinal`-th value of a kind in a document."""

    seed: int
    document: str
    kind: str
    ordinal: int

    def number(self, size: int, what: str = "") -> int:
        """Returns a number below `size`; those of the first `size` ordinals differ."""
        name = f"{self.seed}\0{self.document}\0{self.kind}\0{what}".encode("utf-8", "surrogatepass")
        start = int.from_bytes(hashlib.blake2b(name, digest_size=16).digest())
        # A step that shares no factor with a power of 10, 2 or 26, or with 762.
        return (start + self.ordinal * 7_368_787) % size

    def digits(self, count: int, what: str = "") -> str:
        """Returns `count` digits."""
        return str(self.number(10**count, what)).zfill(count)

    def letters(self, count: int, what: str = "") -> str:
        """Returns `count` small letters."""
        number, out = self.number(26**count, what), []
        for _ in range(count):
            number, place = divmod(number, 26)
            out.append(_LETTERS[place])
        return "".join(out)


def surrogate(kind: str, written: str, draw: Draw) -> str:
    """Returns the stand-in for what was `written`, in its writing: width, separators, numerals."""
    return _MAKERS[kind](written, draw)


def refill(written: str, digits: str) -> str:
    """Puts other digits where the digits are, each in the writing of the one it replaces."""
    supply = iter(digits)
    zero = next((c for c in written if c in "零○◯"), "〇")
    out = []
    for char in written:
        if "0" <= char <= "9":
            out.append(next(supply))
        elif "０" <= char <= "９":
            out.append(chr(ord(next(supply)) + 0xFEE0))
        elif char in "〇零○◯一二三四五六七八九":
            digit = next(supply)
            out.append(zero if digit == "0" else _HAN_DIGITS[int(digit)])
        else:
            out.append(char)
    return "".join(out)


def _digits(written: str) -> str:
    return "".join(c for c in fold(written) if "0" <= c <= "9")


def _identity(written: str, draw: Draw) -> str:
    plain = fold(written)
    letter = "ABCDEFGHJKMNOPQTUVWXZI"[draw.number(22, "letter")]
    second = next(c for c in plain[1:] if c.isalnum()).upper()
    kind = next(kinds for kinds in ("12", "89", "ABCD") if second in kinds)
    body = letter + kind[draw.number(len(kind), "second")] + draw.digits(7)
    wrong = (int(identifiers.identity_check_digit(body)) + 5) % 10
    supply = iter(f"{body}{wrong}")
    out = "".join(next(supply) if c.isalnum() else c for c in plain)
    return _as_wide(written, out if plain[0].isupper() else out.lower())


def _as_wide(model: str, text: str) -> str:
    """Returns `text`, full-width where `model` is, character by character."""
    return "".join(
        chr(ord(c) + 0xFEE0) if c.isascii() and c.isalnum() and "！" <= m <= "～" else c
        for m, c in zip(model, text, strict=True)
    )


def _mobile(written: str, draw: Draw) -> str:
    old = _digits(written)
    lead = old[: len(old) - 8]
    return refill(written, f"{lead}90{draw.digits(6)}")


def _landline(written: str, draw: Draw) -> str:
    plain = fold(written)
    extension = regex.search(r"[#＃*＊轉分內eExX]", plain)
    main = plain[: extension.start()] if extension else plain
    digits, rest = _digits(main), len(_digits(plain)) - len(_digits(main))
    lead = ""
    if digits.startswith(("886", "00886")) and len(digits) > 9:
        lead, digits = digits[: digits.index("886") + 3], digits[digits.index("886") + 3 :]
    zero = digits.startswith("0")
    groups = regex.findall("[0-9]+", main)
    area = _area(groups, "0" + digits.removeprefix("0"), bool(lead))
    if lead or zero:
        lead += digits[: len(area) - (0 if zero else 1)]
        digits = digits[len(area) - (0 if zero else 1) :]
    return refill(written, f"{lead}0{draw.digits(len(digits) - 1)}{draw.digits(rest, 'ext')}")


def _area(groups: list[str], digits: str, abroad: bool) -> str:
    """Returns the area code: the group it stands in, or what the numbering plan says."""
    for group in groups:
        if abroad and group in ("886", "00886", "0"):
            continue
        area = "0" + group.removeprefix("0")
        if area in identifiers.AREA_CODES:
            return area
        break
    split = identifiers.split_landline(digits)
    return split[0] if split else digits[:2]


def _card(written: str, draw: Draw) -> str:
    old = _digits(written)
    body = old[0] + draw.digits(len(old) - 2)
    return refill(written, f"{body}{(int(identifiers.luhn_check_digit(body)) + 5) % 10}")


def _company(written: str, draw: Draw) -> str:
    body = draw.digits(7)
    last = next(d for d in "3816049275" if not identifiers.is_company_number(body + d))
    return refill(written, body + last)


def _beginning_with(head: str) -> Callable[[str, Draw], str]:
    def make(written: str, draw: Draw) -> str:
        count = len(_digits(written))
        return refill(written, (head + draw.digits(max(1, count - len(head))))[:count])

    return make


def _email(written: str, draw: Draw) -> str:
    return f"{draw.letters(8)}@example.com"


def _line(written: str, draw: Draw) -> str:
    return f"{'@' if written[0] in '@＠' else ''}example-{draw.letters(6)}"


def _ip(written: str, draw: Draw) -> str:
    if ":" in written:
        number = draw.number(1 << 64)
        return str(ipaddress.IPv6Address((0x20010DB8 << 96) | number | 1 << 48))
    net, host = divmod(draw.number(762), 254)
    return f"{('192.0.2', '198.51.100', '203.0.113')[net]}.{host + 1}"


def _plate(written: str, draw: Draw) -> str:
    count = sum(c.isalpha() for c in written)
    bits = draw.number(1 << count, "letters")
    supply = iter("IO"[bits >> place & 1] for place in range(count))
    lettered = "".join(_as_wide(c, next(supply)) if c.isalpha() else c for c in written)
    return refill(lettered, draw.digits(len(_digits(written))))


def _birth(written: str, draw: Draw) -> str:
    year = 1930 + draw.number(80)
    plain = fold(written)
    named = MONTH.search(plain)
    if named:
        plain = MONTH.sub("February" if len(named[0]) > 3 else "Feb", plain)
        plain = regex.sub("(?<![0-9])[0-9]{1,2}(?:st|nd|rd|th)?(?![0-9])", "30", plain)
        return regex.sub("[0-9]{4}", str(year), plain)
    era = _CALENDAR.match(plain)
    if _SPACED.search(plain):
        # 0 7 5 0 3 0 5, 7 5 年 0 3 月 0 5 日.
        parts = regex.findall(r"[0-9](?: ?[0-9])*", plain)
        sizes = [len(_digits(part)) for part in parts]
        count = sizes[0] if len(sizes) == 3 else sum(sizes) - 4
        written_year = str(year if count == 4 else year - 1911).zfill(count)[-count:]
        rest = "0230" if len(sizes) != 3 else "2".zfill(sizes[1]) + "30"[: sizes[2]]
        return refill(written, written_year + rest)
    numbers = list(_NUMBER.finditer(plain, era.end() if era else 0))
    if len(numbers) == 1:
        old = numbers[0][0]
        value = (
            f"{year}0230"
            if len(old) == 8
            else f"{year - 1911:02d}0230".zfill(len(old))[-len(old) :]
        )
        return refill(written, value)
    if len(numbers) == 2:
        order = [2, 30]
    elif len(numbers[2][0]) == 4 and numbers[2][0].isascii():
        order = [2, 30, year]
    else:
        order = [year, 2, 30]
    out, end = [], 0
    for found, number in zip(numbers, order, strict=True):
        old = found[0]
        if number == year and not (len(old) == 4 and (old.isascii() or old[0] in "一二")):
            number = year - 1911
        out.append(written[end : found.start()])
        out.append(_like(written[found.start() : found.end()], number))
        end = found.end()
    return "".join([*out, written[end:]])


def _like(old: str, number: int) -> str:
    """Writes a number in the numerals of `old`: full-width, zero-filled, 七十五 or 一〇二."""
    plain = fold(old)
    if not plain.isascii():
        if number >= 1000 or not (set(plain) & set("十廿卅百") or len(plain) == 1):
            return "".join(_HAN_DIGITS[int(d)] for d in str(number))
        return _in_han(number)
    digits = str(number).zfill(len(plain)) if plain[0] == "0" else str(number)
    return "".join(chr(ord(d) + 0xFEE0) for d in digits) if old != plain else digits


def _in_han(number: int) -> str:
    hundreds, tens, ones = number // 100, number // 10 % 10, number % 10
    out = _HAN_DIGITS[hundreds] + "百" if hundreds else ""
    if tens:
        out += (_HAN_DIGITS[tens] if tens > 1 or hundreds else "") + "十"
    elif hundreds and ones:
        out += "零"
    return out + (_HAN_DIGITS[ones] if ones else "")


def _address(written: str, draw: Draw) -> str:
    english = _ENGLISH_REST.search(fold(written))
    if english:
        return f"No. {1 + draw.number(300)}, Example Rd.{english['rest']}"
    head = HEAD.match(fold(written))
    cut = head.end() if head else 0
    rest = written[cut:]
    village = _VILLAGE.match(rest)
    road = _ROAD.match(rest)
    name = "範例" + (road["unit"] if road else "里" if village else "路")
    tail = rest[road.end() :] if road else rest[village.end() :] if village else rest
    first = _COUNTED.search(fold(tail))
    tail = tail[first.start() :] if first else "1號"
    plain, out, end = fold(tail), [], 0
    for place, found in enumerate(_COUNTED.finditer(plain)):
        group = "n" if found["n"] else "m"
        unit = (found["unit"] or "").strip()
        size = 5 if unit in ("段", "樓", "F", "f") else 300 if unit == "號" else 90
        number = 1 + draw.number(size, f"{unit}{place}")
        out += [
            tail[end : found.start(group)],
            _like(tail[found.start(group) : found.end(group)], number),
        ]
        end = found.end(group)
    return written[:cut] + name + "".join([*out, tail[end:]])


def _secret(written: str, draw: Draw) -> str:
    if "\n" in written:
        return f"\nEXAMPLE{draw.letters(16).upper()}\n"
    body = f"EXAMPLE{draw.letters(8).upper()}"
    return body + "EXAMPLE"[: max(0, len(written) - len(body))]


def _name(written: str, draw: Draw) -> str:
    turn, stem = divmod(draw.ordinal, len(_STEMS))
    return f"{_STEMS[stem]}○○{turn + 1 if turn else ''}"


_MAKERS: dict[str, Callable[[str, Draw], str]] = {
    "identity number": _identity,
    "mobile": _mobile,
    "landline": _landline,
    "card": _card,
    "company number": _company,
    "e-mail": _email,
    "IP address": _ip,
    "plate": _plate,
    "birth date": _birth,
    "passport": _beginning_with("000"),
    "health card": _beginning_with("9990"),
    "bank account": _beginning_with("9990"),
    "address": _address,
    "LINE id": _line,
    "secret": _secret,
    "name": _name,
}
