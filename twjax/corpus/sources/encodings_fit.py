"""Makes `tables/charsets.npz` and `tables/encodings.npz`, which tell and decode old encodings.

  python -m twjax.corpus.sources.encodings_fit --data DIR --big5 index-big5.txt --uao uao250-b2u.txt

`--data` holds JSON lines of Traditional, Simplified and Japanese text; only counts of characters
are kept. `--big5` is the index of WHATWG's Encoding Standard (github.com/whatwg/encoding, BSD-3),
`--uao` the table of Unicode-at-on 2.50 (github.com/moztw/www.moztw.org, docs/big5/table). CNS 11643
comes from the C library's `iconv`. Correspondences of codes are facts; no text is copied.
"""

from __future__ import annotations

import argparse
import gzip
import json
import pathlib
import subprocess
import unicodedata
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np

from twjax.corpus.sources.charsets import TABLES
from twjax.corpus.sources.encodings import MODELS, UNITS

_TRADITIONAL = ("tw_laws_zh", "tw_transcripts_cc0", "tw_wiselike_qa_cc0", "moztw_cc0_zhTW",
                "pydocs_zhTW", "cofacts_replies")  # fmt: skip
_SIMPLIFIED = ("pydocs_zhCN", "rustbook_zhCN", "vue_zhCN", "react_zhCN", "tidb_zhCN")
_JAPANESE = ("taiwan_md_other_langs",)
# Of each file, so that no source drowns the others.
_CHARACTERS = 2_000_000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=pathlib.Path, required=True)
    parser.add_argument("--big5", type=pathlib.Path, required=True)
    parser.add_argument("--uao", type=pathlib.Path, required=True)
    arguments = parser.parse_args()
    np.savez_compressed(
        TABLES,
        big5=_pairs(_whatwg(arguments.big5)),
        uao=_pairs(_uao(arguments.uao, arguments.big5)),
        euc_tw=_pairs(_cns()),
    )
    models: dict[str, Any] = dict(_models(arguments.data))
    np.savez_compressed(TABLES.with_name("encodings.npz"), **models)


def _pairs(table: dict[int, int]) -> np.ndarray:
    return np.asarray(sorted(table.items()), np.uint32)


def _whatwg(path: pathlib.Path) -> dict[int, int]:
    table = {}
    for line in path.read_text(encoding="utf-8").splitlines():
        if line and not line.startswith("#"):
            pointer, point = line.split()[:2]
            lead, trail = divmod(int(pointer), 157)
            table[(lead + 0x81) << 8 | trail + (0x40 if trail < 0x3F else 0x62)] = int(point, 16)
    table[0xF9FE] = ord("▓")
    return table


def _uao(path: pathlib.Path, big5: pathlib.Path) -> dict[int, int]:
    whatwg, table = _whatwg(big5), {}
    for line in path.read_text(encoding="utf-8").splitlines():
        if line and not line.startswith("#"):
            code, point = (int(field, 16) for field in line.split()[:2])
            # Some codes have only a private character; the other table knows some of them.
            private = 0xE000 <= point < 0xF900
            if code > 0xFF and not private:
                table[code] = point
            elif code in whatwg:
                table[code] = whatwg[code]
    return table


def _cns() -> dict[int, int]:
    table = {}
    for plane in (1, 2, 3):
        shift = b"" if plane == 1 else bytes([0x8E, 0xA0 + plane])
        cells = [bytes([row, cell]) for row in range(0xA1, 0xFF) for cell in range(0xA1, 0xFF)]
        done = subprocess.run(
            ["iconv", "-c", "-f", "EUC-TW", "-t", "UTF-8"],
            input=b"".join(shift + cell + b"\n" for cell in cells), capture_output=True,
        )  # fmt: skip
        for cell, character in zip(cells, done.stdout.decode().split("\n"), strict=False):
            if character:
                table[(plane - 1) << 16 | int.from_bytes(cell, "big")] = ord(character)
    return table


def _models(folder: pathlib.Path) -> dict[str, np.ndarray]:
    """Returns uint8 [65536] a model: bits that a character costs, in units of 1/UNITS."""
    import opencc

    to_simplified = opencc.OpenCC("tw2s")  # pyright: ignore[reportAttributeAccessIssue]
    traditional = [text for name in _TRADITIONAL for text in _texts(folder, name)]
    # The public Simplified texts are about software; those of the other side are about all else.
    simplified = [text for name in _SIMPLIFIED for text in _texts(folder, name)]
    simplified += [to_simplified.convert(text) for text in traditional]
    japanese = [text for name in _JAPANESE for text in _texts(folder, name, "ja")]
    level_one = [bytes([a, b]) for a in range(0xA1, 0xFF) for b in (*range(0x40, 0x7F),
                 *range(0xA1, 0xFF))]  # fmt: skip
    big5 = _decodable((c for c in level_one if b"\xa4\x40" <= c < b"\xc6\x7f"), "cp950")
    gb = _decodable((c for c in level_one if b"\xb0\xa1" <= c < b"\xd8\xa1"), "gb2312")
    jis = _decodable((c for c in level_one if b"\xa4\xa1" <= c < b"\xcf\xd4"), "euc_jp")
    made = {
        "traditional": _cost(traditional, big5, bulletin_boards=True),
        "simplified": _cost(simplified, gb),
        "japanese": _cost(japanese, jis),
        "other": _cost([], ""),
    }
    assert tuple(made) == MODELS
    return made


def _decodable(codes: Iterable[bytes], codec: str) -> str:
    text = "".join(code.decode(codec, "ignore") for code in codes)
    return "".join(character for character in text if not character.isascii())


def _texts(folder: pathlib.Path, name: str, lang: str = "") -> Iterator[str]:
    left = _CHARACTERS
    with gzip.open(next(folder.glob(f"{name}.jsonl*")), "rt", encoding="utf-8") as file:
        for line in file:
            record = json.loads(line)
            text = record.get("text", "")[:left]
            if text and record["lang"].startswith(lang):
                left -= len(text)
                yield text
            if not left:
                return


def _cost(texts: list[str], common: str, bulletin_boards: bool = False) -> np.ndarray:
    counts = np.zeros(1 << 16)
    for text in texts:
        points = np.frombuffer(text.encode("utf-32-le"), np.uint32)
        counts += np.bincount(points[points < 1 << 16], minlength=1 << 16)
    counts[:0x80] = 0
    # A text of the domain never seen still uses the common characters.
    counts[[ord(c) for c in common if ord(c) < 1 << 16]] += max(1.0, counts.sum() * 2e-6)
    # Ten of all characters are left for what no text showed.
    share = counts / max(1.0, counts.sum())
    seen = share > 0
    cost = np.full(1 << 16, 31.0)
    cost[seen] = np.minimum(-np.log2(share[seen]), 21.0)
    for point in np.flatnonzero(~seen):
        cost[point] = _unseen(int(point), bool(texts))
    # Boxes and blocks draw the screens of bulletin boards, which the texts of the fit lack.
    cost[0x2500:0x2600] = 8.0 if bulletin_boards else 10.0
    return np.minimum(np.round(cost * UNITS), 255).astype(np.uint8)


def _unseen(point: int, trained: bool) -> float:
    """Bits for a character that no text of the fit had; the untrained model knows scripts only."""
    if point < 0x80:
        return _ascii(chr(point))
    if 0x4E00 <= point < 0xA000:
        return 22.0
    if 0x3400 <= point < 0x4DC0:
        return 25.0
    if 0x3041 <= point < 0x3100:
        return 13.0
    if 0x3105 <= point < 0x3130:
        return 14.0
    if 0xAC00 <= point < 0xD7A4:
        return 22.0 if trained else 11.5
    if 0xC0 <= point < 0x180:
        return 16.0 if trained else 8.0
    if 0x2010 <= point < 0x2030 and not trained:
        return 8.0
    category = unicodedata.category(chr(point))
    if category in ("Co", "Cn", "Cs", "Cc"):
        return 31.0
    return 16.0 if category[0] in "PSZN" or point >= 0xFF00 else 20.0


def _ascii(character: str) -> float:
    if character in "\n ":
        return 3.5
    if character.isalnum() or character in "\t\r":
        return 5.0
    return 7.0 if character.isprintable() else 25.0


if __name__ == "__main__":
    main()
