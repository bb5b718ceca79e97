"""Byte-exact decoders for what Python's codecs lack: Big5 as Taiwan wrote it, EUC-TW, ANSI escapes.

All run on whole arrays: in a run of bytes 0x81-0xFE every other byte, from the first, leads a
character, whatever its trail is, so no loop over characters is needed.
"""

from __future__ import annotations

import functools
import pathlib
import re

import numpy as np

TABLES = pathlib.Path(__file__).parent.with_name("tables") / "charsets.npz"

# Control sequences of ECMA-48 (5.4), and the macros ESC * x of PTT, which stand for user data.
_ESCAPE = re.compile(rb"\x1b\[[0-?]*[ -/]*[@-~]|\x1b\*[A-Za-z]")
_UNDEFINED = 0xFFFD
# Four codes of HKSCS-2008 stand for a letter and a combining mark (Encoding Standard, 12.1).
_PAIRS = {0x8862: "Ê\u0304", 0x8864: "Ê\u030c", 0x88A3: "ê\u0304", 0x88A5: "ê\u030c"}
_FIRST_PAIR = 0x10F000


def strip_escapes(data: bytes) -> tuple[bytes, int]:
    """Removes terminal escapes, also those inside a double-byte character; returns their number."""
    return _ESCAPE.subn(b"", data) if b"\x1b" in data else (data, 0)


@functools.cache
def _tables() -> dict[str, np.ndarray]:
    with np.load(TABLES) as file:
        tables = {name: file[name] for name in ("big5", "uao", "euc_tw")}
    # Stored as [code, code point] pairs, used as arrays over all codes.
    for name, pairs in tables.items():
        table = np.full(3 << 16 if name == "euc_tw" else 1 << 16, _UNDEFINED, np.uint32)
        table[pairs[:, 0]] = pairs[:, 1]
        tables[name] = table
    for number, code in enumerate(_PAIRS):
        tables["big5"][code] = _FIRST_PAIR + number
    return tables


def decode_big5(data: bytes, uao: bool = False) -> str:
    """Decodes Big5; what has no character becomes U+FFFD, one a broken or unknown character.

    The table is the index of WHATWG's Encoding Standard (Big5 with the ETEN extensions and
    HKSCS-2008), but 0xF9FE is the block ▓ of ETEN and CP950. `uao` reads the extension areas by
    Unicode-at-on 2.50, as PTT does.
    """
    codes = np.frombuffer(data, np.uint8)
    lead = _leads(codes, 0x81)
    positions = np.flatnonzero(lead)
    trails = codes[positions + 1].astype(np.uint32)
    found = _tables()["uao" if uao else "big5"][codes[positions].astype(np.uint32) << 8 | trails]
    # An ASCII byte behind a broken lead is a character of its own.
    alone = (found == _UNDEFINED) & (trails < 0x80)
    text = _join(codes, positions, found, alone)
    if not uao:
        for number, pair in enumerate(_PAIRS.values()):
            text = text.replace(chr(_FIRST_PAIR + number), pair)
    return text


def decode_euc_tw(data: bytes) -> str:
    """Decodes EUC-TW, planes 1 to 3 of CNS 11643; what has no character becomes U+FFFD."""
    codes = np.frombuffer(data, np.uint8)
    table = _tables()["euc_tw"]
    # Four bytes 0x8E 0xA2 row cell name a plane; blank the first two, then pairs are left.
    planes = np.zeros(len(codes) + 1, np.uint32)
    blank = np.zeros(len(codes), bool)
    shifts = np.flatnonzero(codes == 0x8E)
    shifts = shifts[shifts + 3 < len(codes)]
    shifts = shifts[(codes[shifts + 1] >= 0xA1) & (codes[shifts + 1] <= 0xB0)]
    planes[shifts + 2] = codes[shifts + 1] - 0xA1
    blank[shifts] = blank[shifts + 1] = True
    lead = _leads(np.where(blank, 0, codes), 0xA1)
    positions = np.flatnonzero(lead)
    trails = codes[positions + 1].astype(np.uint32)
    plane = planes[positions]
    pair = codes[positions].astype(np.uint32) << 8 | trails
    found = np.where(plane < 3, table[np.minimum(plane, 2) << 16 | pair], _UNDEFINED)
    alone = (found == _UNDEFINED) & (trails < 0x80)
    return _join(codes, positions, found, alone, blank)


def _leads(codes: np.ndarray, low: int) -> np.ndarray:
    """Returns bool [bytes]: every other byte from the first of each run of bytes low-0xFE."""
    high = (codes >= low) & (codes <= 0xFE)
    index = np.arange(len(codes))
    begins = np.where(high & ~np.concatenate(([False], high[:-1])), index, 0)
    lead = high & ((index - np.maximum.accumulate(begins)) % 2 == 0)
    if len(lead):
        # A lead at the very end has no trail.
        lead[-1] = False
    return lead


def _join(
    codes: np.ndarray,
    positions: np.ndarray,
    found: np.ndarray,
    alone: np.ndarray,
    blank: np.ndarray | None = None,
) -> str:
    points = codes.astype(np.uint32)
    points[points >= 0x80] = _UNDEFINED
    points[positions] = found
    keep = np.ones(len(codes), bool)
    if blank is not None:
        keep &= ~blank
    keep[positions[~alone] + 1] = False
    return points[keep].astype("<u4").tobytes().decode("utf-32-le")
