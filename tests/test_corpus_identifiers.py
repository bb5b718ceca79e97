# ruff: noqa: E501 (samples stay in one piece)
"""Checksums and shapes of identifiers against published values and independent arithmetic."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from twjax.corpus.personal import identifiers

DIGITS = st.text("0123456789", min_size=7, max_size=7)


@pytest.mark.parametrize(
    "value", ["A123456789", "M162773050", "A800000014", "AA00000009", "F131104093"]
)
def test_published_identity_numbers_pass(value):
    assert identifiers.is_identity_number(value)
    for other in "0123456789":
        assert identifiers.is_identity_number(value[:9] + other) == (other == value[9])


@pytest.mark.parametrize(
    "value", ["A100000000", "A323456789", "a123456789", "A12345678", "1123456789", "AE00000009", "A1２3456789", ""]
)  # fmt: skip
def test_what_is_no_identity_number(value):
    assert not identifiers.is_identity_number(value)


@given(st.sampled_from("ABCDEFGHIJKLMNOPQRSTUVWXYZ"), st.sampled_from("1289ABCD"), DIGITS)
def test_identity_checksum_is_the_weighted_sum_of_eleven_digits(letter, second, body):
    # The Ministry's own order of the letters, written out.
    table = {"A": 10, "B": 11, "C": 12, "D": 13, "E": 14, "F": 15, "G": 16, "H": 17, "I": 34, "J": 18,
             "K": 19, "L": 20, "M": 21, "N": 22, "O": 35, "P": 23, "Q": 24, "R": 25, "S": 26, "T": 27,
             "U": 28, "V": 29, "W": 32, "X": 30, "Y": 31, "Z": 33}  # fmt: skip
    digit = identifiers.identity_check_digit(letter + second + body)
    place = str(table[second])[1] if second.isalpha() else second
    eleven = f"{table[letter]}{place}{body}{digit}"
    weights = (1, 9, 8, 7, 6, 5, 4, 3, 2, 1, 1)
    assert sum(w * int(c) for w, c in zip(weights, eleven, strict=True)) % 10 == 0


# TSMC, Hon Hai, the Ministry of Finance's example whose seventh digit is 7.
@pytest.mark.parametrize("value", ["22099131", "04541302", "10458575", "12345675"])
def test_company_numbers_pass(value):
    assert identifiers.is_company_number(value)


def test_the_share_of_company_numbers_is_that_of_the_rule_of_2023():
    share = sum(identifiers.is_company_number(f"{n * 7919 % 10**8:08d}") for n in range(20000))
    assert 0.20 < share / 20000 < 0.24


@pytest.mark.parametrize(
    "value", ["4111111111111111", "5555555555554444", "378282246310005", "3530111333300000", "6011111111111117", "30569309025904"]
)  # fmt: skip
def test_the_schemes_test_cards_pass_and_neighbours_do_not(value):
    assert identifiers.is_card_number(value)
    wrong = value[:-1] + str((int(value[-1]) + 1) % 10)
    assert not identifiers.is_card_number(wrong)


@given(st.text("0123456789", min_size=1, max_size=20))
def test_luhn_digit_catches_every_single_error(body):
    whole = body + identifiers.luhn_check_digit(body)
    total = sum(
        int(c) if place % 2 == 0 else sum(map(int, str(2 * int(c))))
        for place, c in enumerate(reversed(whole))
    )
    assert total % 10 == 0


def test_cards_need_a_scheme():
    assert not identifiers.is_card_number("9" + "0" * 13 + "19")
    assert not identifiers.is_card_number("0000000000000000")


@pytest.mark.parametrize(
    ("digits", "parts"),
    [("0223456789", ("02", "23456789")), ("037234567", ("037", "234567")), ("0492345678", ("049", "2345678")),
     ("089345678", ("089", "345678")), ("082312345", ("082", "312345")), ("083622345", ("0836", "22345")),
     ("082666789", ("0826", "66789")), ("035712345", ("03", "5712345")), ("047234567", ("04", "7234567")),
     ("0424567890", ("04", "24567890"))],
)  # fmt: skip
def test_area_codes_and_lengths(digits, parts):
    assert identifiers.split_landline(digits) == parts


@pytest.mark.parametrize("digits", ["0223", "0212345678", "0800123456", "0912345678", "0202345678"])
def test_what_is_no_landline(digits):
    assert identifiers.split_landline(digits) is None


def test_mobile_passport_and_health_card_shapes():
    assert identifiers.is_mobile("0912345678")
    assert not identifiers.is_mobile("0990123456")  # personal numbering
    assert not identifiers.is_mobile("0900000000")  # a mask
    assert not identifiers.is_mobile("09123456789")
    assert identifiers.is_passport("312345678") and identifiers.is_passport("B1234567")
    assert not identifiers.is_passport("000345678") and not identifiers.is_passport("12345678")
    assert identifiers.is_health_card("000012345678")
    assert not identifiers.is_health_card("00001234567")
