# ruff: noqa: E501 (word lists stay in one piece)
"""Personal data in tables: what a column holds is said once, in its heading.

A heading row is a line of short cells between commas, semicolons, tabs or bars, one of which names
a kind; the rows are the lines below with as many cells. A cell of such a column is read behind its
kind's own label, so that all rules for labelled values hold for it. A number in a column of other
numbers (sku, ticket_id) is nobody's.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import regex

_CELL = r"[^\n\0,;\t|]{1,20}"
_HEADINGS = regex.compile(rf"\|?{_CELL}(?:[,;\t|]{_CELL}){{1,15}}+\|?[ \t]*\r?\n")
_RULE = regex.compile(r"[\s|:\-+]*")
# The label under which the cells of a column are read.
_LABELS = (
    ("identity number", "身分證字號：", r"身[分份]證(?:字號|號碼?|統一編號)?|national_?id|id_?(?:no|number)|idno"),
    ("health card", "健保卡號：", r"健保(?:IC)?卡(?:卡?號)?|nhi_?(?:card|no)?(?:_?no)?"),
    ("passport", "護照號碼：", r"護照(?:號碼?)?|passport(?:_?(?:no|number))?"),
    ("birth date", "出生日期：", r"生日|出生(?:年月日|日期?)|birth_?(?:day|date)|date_?of_?birth|dob"),
    ("card", "信用卡卡號：", r"信用卡(?:卡?號)?|(?:credit_?)?card_?(?:no|number)|pan"),
    ("bank account", "銀行帳號：", r"(?:銀行|匯款|薪轉|入帳)?帳[號戶]|(?:bank_?)?acc(?:oun)?t(?:_?(?:no|number))?"),
    ("mobile", "手機：", r"(?:行動|連絡|聯絡)?電話|手機(?:號碼)?|mobile|cell|(?:tele)?phone(?:_?(?:no|number))?|tel"),
    ("landline", "電話：", r"(?:連絡|聯絡|住家|公司)?電話|市話|(?:office_?|home_?)?(?:tele)?phone(?:_?(?:no|number))?|tel|fax"),
    ("LINE id", "LINE ID：", r"line(?:_?id|帳號)?|賴"),
    ("plate", "車牌號碼：", r"車[牌號](?:號碼?)?|(?:license_?)?plate(?:_?(?:no|number))?"),
    ("IP address", "IP：", r"(?:來源|登入)?ip(?:_?addr(?:ess)?|位址)?|remote_?addr"),
)  # fmt: skip
_KINDS = tuple((kind, label, regex.compile(f"(?i){words}")) for kind, label, words in _LABELS)
_OTHER = regex.compile(
    r"(?i)(?:[a-z]+_?)?(?:sku|code|qty|barcode|serial|ticket|order|invoice|product|item|transaction|case|batch)(?:_?(?:id|no|num|number|code))?"
    r"|uid|pid|id|seq|(?:訂單|商品|產品|貨品|發票|序列|流水|單據|案件|批次|會員|交易)?(?:編號|單號|序號|條碼|貨號|料號|號碼)"
)
_DELIMITERS = regex.compile(r"[,;\t|]")
_IS_DELIMITER, _IS_BREAK = np.zeros(0x7D, bool), np.zeros(0x7D, bool)
_IS_DELIMITER[[ord(c) for c in ",;\t|"]] = True
_IS_BREAK[[ord(c) for c in "\n\0"]] = True
_MAX_LINE = 2000


class Cell(NamedTuple):
    """A cell [start, end) with the label its kind is read behind; of kind "" it is nobody's."""

    kind: str
    label: str
    start: int
    end: int


def _candidates(codes: np.ndarray) -> Iterator[int]:
    """Yields where lines begin that are short, have delimiters and as many as the line below."""
    # Of Chinese text little is ASCII.
    ascii_places = np.flatnonzero(codes < codes.dtype.type(0x7D))
    chars = codes[ascii_places].astype(np.uint8)
    places = ascii_places[_IS_DELIMITER[chars]]
    if not len(places):
        return
    breaks = ascii_places[_IS_BREAK[chars]]
    counts = np.bincount(np.searchsorted(breaks, places), minlength=len(breaks) + 1)
    starts = np.append(0, breaks + 1)
    sizes = np.append(breaks, len(codes)) - starts
    short = (counts[:-1] > 0) & (sizes[:-1] <= 21 * (counts[:-1] + 1))
    yield from starts[:-1][short & (np.abs(np.diff(counts)) <= 1) & (counts[1:] > 0)].tolist()


def cells(text: str, codes: np.ndarray) -> Iterator[Cell]:
    """Yields the cells of the columns whose heading names a kind, or names other numbers.

    `codes` are the code points of the text.
    """
    done = 0
    for start in _candidates(codes):
        found = _HEADINGS.match(text, start) if start >= done else None
        if found is None:
            continue
        heads = found[0].rstrip()
        delimiter = _DELIMITERS.search(heads.lstrip("|"))
        if delimiter is None:
            continue
        names = [name.strip().replace(" ", "_") for name in heads.split(delimiter[0])]
        columns: list[tuple[int, str, str]] = []
        for index, name in enumerate(names):
            columns += [(index, k, label) for k, label, words in _KINDS if words.fullmatch(name)]
            if _OTHER.fullmatch(name):
                columns.append((index, "", ""))
        if not columns:
            continue
        place = found.end()
        while place < len(text):
            end = text.find("\n", place, place + _MAX_LINE)
            end = len(text) if end < 0 else end
            stop = text.find("\0", place, end)
            line = text[place : end if stop < 0 else stop]
            row = line.rstrip().split(delimiter[0])
            if len(row) < 2 or abs(len(row) - len(names)) > 1 or len(line) > _MAX_LINE:
                break
            if not _RULE.fullmatch(line):
                yield from _row(row, columns, place)
            if stop >= 0:
                break
            place = end + 1
        done = place


def _row(row: list[str], columns: list[tuple[int, str, str]], place: int) -> Iterator[Cell]:
    starts = [place]
    for cell in row:
        starts.append(starts[-1] + len(cell) + 1)
    for index, kind, label in columns:
        if index < len(row) and row[index].strip(" \"'"):
            cell = row[index]
            left = len(cell) - len(cell.lstrip(" \"'"))
            yield Cell(kind, label, starts[index] + left, starts[index] + len(cell.rstrip(" \"'")))
