"""Documents with near copies of known kinds, and all similar pairs of them by brute force."""

from __future__ import annotations

import collections
import gzip
import json
import pathlib
import random
import re
import unicodedata
from collections.abc import Callable, Iterator

import numpy as np

_NO_LETTER = re.compile(r"[\W_]+")
_FOOTERS = (
    "\n資料來源：全國法規資料庫\n本網站內容僅供參考，正式法規以政府公報所載為準。\n",
    "\n\n版權所有　轉載請註明出處\n聯絡信箱請見首頁｜回上一頁｜列印本頁｜轉寄友人\n",
    "\n\nCopyright © 2024. All rights reserved. 本站最佳瀏覽解析度為 1024×768\n",
)


def read(folder: pathlib.Path, name: str, limit: int | None = None) -> list[str]:
    """Returns the texts of one file of the real data."""
    texts = []
    with gzip.open(folder / f"{name}.jsonl.gz", "rt", encoding="utf-8") as file:
        for line in file:
            if text := json.loads(line).get("text"):
                texts.append(text)
            if limit is not None and len(texts) >= limit:
                break
    return texts


def documents(folder: pathlib.Path, count: int, seed: int) -> tuple[list[str], list[str]]:
    """Returns texts and the kind of each: half real ("laws", "replies", "pages"), half copies."""
    chance = random.Random(seed)
    real = count // 2
    sources = [
        *(("laws", text) for text in read(folder, "tw_laws_zh", real * 7 // 10)),
        # Replies and release pages are full of real templates.
        *(("replies", text) for text in read(folder, "cofacts_replies", real * 2 // 10)),
        *(("pages", _plain(text)) for text in read(folder, "moztw_site_html")),
    ][:real]
    made = []
    for number in range(count - len(sources)):
        kind = list(COPIES)[number % len(COPIES)]
        made.append((kind, COPIES[kind](chance.choice(sources)[1], chance)))
    mixed = sources + made
    chance.shuffle(mixed)
    return [text for _, text in mixed], [kind for kind, _ in mixed]


def _plain(html: str) -> str:
    return re.sub(r"<[^>]*>|<(script|style).*?</\1>", "", html, flags=re.DOTALL)


def _edit(text: str, chance: random.Random) -> str:
    """Replaces, drops or doubles 0.2 to 4 % of the characters."""
    rate, pool = chance.uniform(0.002, 0.04), text or "中"
    letters = []
    for letter in text:
        if chance.random() >= rate:
            letters.append(letter)
        else:
            letters.append(chance.choice(("", letter * 2, chance.choice(pool))))
    return "".join(letters)


def _truncate(text: str, chance: random.Random) -> str:
    return text[: int(len(text) * chance.uniform(0.75, 0.98))]


def _frame(text: str, chance: random.Random) -> str:
    title = f"{chance.choice('甲乙丙丁')}站第 {chance.randrange(10_000)} 號　"
    title += f"列印時間 {chance.random()}\n"
    return title + text + chance.choice(_FOOTERS)


def _rewrap(text: str, chance: random.Random) -> str:
    flat, width = re.sub(r"\s+", "", text), chance.randint(18, 60)
    return "\r\n".join(flat[at : at + width] for at in range(0, len(flat), width))


def _width(text: str, chance: random.Random) -> str:
    if chance.random() < 0.5:
        return unicodedata.normalize("NFKC", text)
    return "".join(chr(ord(c) + 0xFEE0) if "!" <= c <= "~" else c for c in text)


def _all(text: str, chance: random.Random) -> str:
    return _rewrap(_width(_frame(_truncate(_edit(text, chance), chance), chance), chance), chance)


COPIES: dict[str, Callable[[str, random.Random], str]] = {
    "edited": _edit, "truncated": _truncate, "framed": _frame, "re-wrapped": _rewrap,
    "width": _width, "all at once": _all,
}  # fmt: skip


def grams(text: str, length: int = 5) -> set[str]:
    """Returns the n-grams of letters, by Python's own means: an independent reference."""
    plain = unicodedata.normalize("NFKC", text).lower()
    letters = _NO_LETTER.sub("", plain)
    return {letters[i : i + length] for i in range(len(letters) - length + 1)}


def similar_pairs(texts: list[str], least: float) -> Iterator[tuple[int, int, float]]:
    """Yields (i, j, Jaccard similarity) of all pairs that reach `least`, comparing all with all."""
    numbers: dict[str, int] = collections.defaultdict(lambda: len(numbers))
    sets = [np.fromiter((numbers[g] for g in grams(text)), np.int64) for text in texts]
    sizes = np.array([len(s) for s in sets])
    order = np.argsort(sizes, kind="stable")
    order = order[sizes[order] > 0]
    flat = np.concatenate([sets[i] for i in order])
    starts = np.concatenate([[0], np.cumsum(sizes[order])])
    member = np.zeros(len(numbers), bool)
    for place, index in enumerate(order.tolist()):
        # Sets that are larger by more than that can't be similar enough.
        stop = int(np.searchsorted(sizes[order], sizes[index] / least, "right"))
        if stop == place + 1:
            continue
        member[sets[index]] = True
        low, high = starts[place + 1], starts[stop]
        both = np.add.reduceat(member[flat[low:high]], starts[place + 1 : stop] - low, dtype=int)
        member[sets[index]] = False
        others = order[place + 1 : stop]
        scores = both / (sizes[index] + sizes[others] - both)
        for other, score in zip(others[scores >= least], scores[scores >= least], strict=True):
            yield min(index, int(other)), max(index, int(other)), float(score)
