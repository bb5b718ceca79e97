"""Checksums and shapes of the numbers that name a person, a company, a card or a line in Taiwan.

Values come without separators, in ASCII, letters in capitals. Sources: national identity number
and Resident Certificate number, Ministry of the Interior (letters stand for 10–35; the number of
2021 has 8 or 9 in second place and the same checksum, the one before has a letter A–D and is valid
until 2031); Uniform Number of companies, Ministry of Finance, Fiscal Information Agency (the sum
is to be divisible by 5 since 2023-04-01, by 10 before); payment cards, ISO/IEC 7812-1 annex B.
"""

from __future__ import annotations

# A10 B11 … as the Ministry of the Interior numbers them: I, O, W and Z came late.
_LETTERS = dict(zip("ABCDEFGHJKLMNPQRSTUVXYWZIO", range(10, 36), strict=True))
_ID_WEIGHTS = (8, 7, 6, 5, 4, 3, 2, 1)
_UBN_WEIGHTS = (1, 2, 1, 2, 1, 2, 4, 1)

# Area code: lengths of the local number by its first digit ("" for any). Numbering plan of the
# National Communications Commission as in libphonenumber's metadata for TW (Apache-2.0).
_AREAS: dict[str, dict[str, tuple[int, ...]]] = {
    "02": {"": (8,)},
    "03": {"": (7,)},
    "037": {"": (6,)},
    "04": {"2": (8,), "3": (8,), "7": (7,), "8": (7,), "": (7, 8)},
    "049": {"": (7,)},
    "05": {"": (7,)},
    "06": {"": (7,)},
    "07": {"": (7,)},
    "070": {"": (8,)},
    "08": {"": (7,)},
    "082": {"": (6,)},
    "0826": {"": (5,)},
    "0836": {"": (5,)},
    "089": {"": (6,)},
}
AREA_CODES = tuple(sorted(_AREAS, key=len, reverse=True))


def identity_check_digit(body: str) -> str:
    """Returns the tenth character for the nine before it: a letter, then a digit or A–D."""
    letter = _LETTERS[body[0]]
    second = _LETTERS[body[1]] % 10 if body[1].isalpha() else int(body[1])
    total = letter // 10 + letter % 10 * 9 + second * _ID_WEIGHTS[0]
    total += sum(w * int(c) for w, c in zip(_ID_WEIGHTS[1:], body[2:], strict=True))
    return str(-total % 10)


def is_identity_number(value: str) -> bool:
    """Whether this is a national identity number or a Resident Certificate number, new or old."""
    if len(value) != 10 or value[0] not in _LETTERS or value[1] not in "1289ABCD":
        return False
    digits = value[2:]
    return digits.isascii() and digits.isdigit() and identity_check_digit(value[:9]) == value[9]


def is_company_number(value: str) -> bool:
    """Whether this is a Uniform Number (統一編號) by the rule of 2023; 22% of all 8 digits are."""
    if len(value) != 8 or not (value.isascii() and value.isdigit()):
        return False
    products = (w * int(c) for w, c in zip(_UBN_WEIGHTS, value, strict=True))
    total = sum(p // 10 + p % 10 for p in products)
    # 7 × 4 = 28, whose digit sum 10 may again be added up, to 1.
    return total % 5 == 0 or (value[6] == "7" and (total + 1) % 5 == 0)


def luhn_check_digit(body: str) -> str:
    """Returns the digit that completes `body` to a number of ISO/IEC 7812-1, annex B."""
    total = 0
    for place, digit in enumerate(map(int, reversed(body))):
        doubled = digit * 2 if place % 2 == 0 else digit
        total += doubled // 10 + doubled % 10
    return str(-total % 10)


def is_card_number(value: str) -> bool:
    """Whether this is a payment card: length and prefix of a scheme, and the Luhn digit.

    Visa, Mastercard, JCB, American Express, UnionPay, Discover and Diners Club, by the issuers'
    published ranges.
    """
    if not (value.isascii() and value.isdigit()) or not 14 <= len(value) <= 19:
        return False
    two, four, size = int(value[:2]), int(value[:4]), len(value)
    scheme = (
        (value[0] == "4" and size == 16)
        or (size == 16 and (51 <= two <= 55 or 2221 <= four <= 2720 or 3528 <= four <= 3589))
        or (size == 15 and two in (34, 37))
        or (size >= 16 and two == 62)
        or (size == 16 and (four == 6011 or two == 65 or 6440 <= four <= 6499))
        or (size == 14 and (two in (36, 38, 39) or 3000 <= four <= 3059))
    )
    return scheme and luhn_check_digit(value[:-1]) == value[-1] and len(set(value)) > 1


def is_health_card(value: str) -> bool:
    """Whether this has the shape of a National Health Insurance card number: 12 digits.

    It has no published checksum; only a cue tells it from other numbers.
    """
    return len(value) == 12 and value.isascii() and value.isdigit()


def is_passport(value: str) -> bool:
    """Whether this has the shape of a passport number: 9 digits, or 1–2 letters and 6–8 digits.

    Nine digits without a checksum are Taiwan's, those of chip passports begin with 3 (Microsoft
    Purview, "Taiwan passport number"); the others are of foreigners. "000…" is left out: it is what
    stand-ins begin with.
    """
    letters = value.rstrip("0123456789")
    digits = value[len(letters) :]
    if not value.isascii() or digits.startswith("000"):
        return False
    if not letters:
        return len(digits) == 9
    return letters.isalpha() and len(letters) <= 2 and 6 <= len(digits) <= 8


def is_mobile(value: str) -> bool:
    """Whether this is a mobile number of Taiwan, 0900–0989, or a personal one, 0991–0999.

    0990–0999 are for personal numbering (libphonenumber's metadata for TW), of which 0990 is left
    to stand-ins; six zeros are a mask.
    """
    if len(value) != 10 or not (value.isascii() and value.isdigit()):
        return False
    return value.startswith("09") and value[2:4] != "90" and value[4:] != "000000"


def is_landline(area: str, local: str) -> bool:
    """Whether `local` is a subscriber's number in the area: its length, and 2–9 in first place.

    0 and 1 begin prefixes and service numbers, never a subscriber's.
    """
    by_first = _AREAS.get(area)
    if by_first is None or not local or local[0] in "01" or len(set(local)) == 1:
        return False
    return len(local) in by_first.get(local[0], by_first[""])


def split_landline(digits: str) -> tuple[str, str] | None:
    """Returns area code and local number of a number that is written in one piece."""
    for area in AREA_CODES:
        if digits.startswith(area) and is_landline(area, digits[len(area) :]):
            return area, digits[len(area) :]
    return None
