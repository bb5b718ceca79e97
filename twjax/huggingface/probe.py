"""Sentences that a conversion is checked on, written for this, and their fixed tokens."""

from __future__ import annotations

import pathlib

import numpy as np

from twjax.config import Model
from twjax.models.probe import LENGTH, ROWS
from twjax.vocab.tokenizer import Tokenizer
from twjax.vocab.tokenizer_load import load_vocabulary

SENTENCES: dict[str, tuple[str, ...]] = {
    "zh-TW": (
        "早上搭捷運上班的時候，我習慣先在車站旁邊的早餐店買一份蛋餅和一杯溫豆漿。",
        "這個網站的使用者介面剛改版，滑鼠移到按鈕上面就會顯示說明文字。",
        "颱風過境之後，山區的道路需要好幾天才能搶通，居民都要先準備足夠的飲用水。",
    ),
    "zh-CN": (
        "早上坐地铁上班的时候，我习惯先在车站旁边的早餐店买一份煎饼和一杯热豆浆。",
        "这个网站的用户界面刚刚更新，鼠标移到按钮上面就会显示说明文字。",
        "台风过后，山区的道路需要好几天才能恢复通行，居民都要提前准备足够的饮用水。",
    ),
    "en": (
        "On the way to work I usually stop at the small shop beside the station for breakfast.",
        "The new interface shows a short explanation whenever the pointer rests on a button.",
        "After the storm it took several days before the mountain roads could be used again.",
    ),
    "code": (
        "def mean(values):\n    total = 0.0\n    for value in values:\n        total += value\n"
        "    return total / max(1, len(values))\n",
        'SELECT city, COUNT(*) AS shops FROM stations WHERE line = "red" GROUP BY city;\n',
    ),
}


def tokenizer_of(folder: pathlib.Path, model: Model) -> Tokenizer | None:
    """Opens a folder's tokenizer; None when it has none, or one of more ids than the model."""
    try:
        tokenizer = load_vocabulary(folder)
    except (OSError, ValueError):
        return None
    return tokenizer if tokenizer.vocab_size <= model.vocab_size else None


def probe_tokens(tokenizer: Tokenizer | None, model: Model) -> list[list[int]]:
    """Returns rows of fixed tokens: of the sentences, or without a tokenizer of spread ids."""
    if tokenizer is None:
        return [list(row) for row in _spread(model, ROWS * LENGTH).reshape(ROWS, LENGTH).tolist()]
    rows = []
    for kinds in (("zh-TW", "zh-CN"), ("en", "code")):
        text = "\n".join(sentence for kind in kinds for sentence in SENTENCES[kind])
        ids = [*tokenizer.start, *tokenizer.encode(text)]
        # A tokenizer that is good at a language needs fewer tokens than a row has.
        rows.append(np.resize(ids, LENGTH).tolist())
    return rows


def sentence_tokens(tokenizer: Tokenizer | None, model: Model) -> dict[str, list[list[int]]]:
    """Returns the tokens of each sentence, by kind."""
    if tokenizer is not None:
        return {
            kind: [[*tokenizer.start, *tokenizer.encode(text)] for text in texts]
            for kind, texts in SENTENCES.items()
        }
    spread = _spread(model, 256).tolist()
    return {
        kind: [[spread[(code * 31 + place) % 256] for place, code in enumerate(text.encode()[:96])]
               for text in texts]
        for kind, texts in SENTENCES.items()
    }  # fmt: skip


def _spread(model: Model, count: int) -> np.ndarray:
    """Returns ids spread over the vocabulary, the same ones wherever they are asked for."""
    # Knuth's multiplicative hash (TAOCP 6.4).
    numbers = np.arange(1, count + 1, dtype=np.uint64) * np.uint64(2654435761)
    return ((numbers % np.uint64(1 << 32)) % np.uint64(model.vocab_size)).astype(np.int64)
