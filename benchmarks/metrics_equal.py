"""BLEU and chrF beside sacreBLEU, on real texts of which one side is damaged.

    pip install sacrebleu==2.6.0    # in an environment of its own
    PYTHONPATH=. python benchmarks/metrics_equal.py --data DIR

DIR holds the parallel `.jsonl.gz` files. Predictions are answers with every seventh unit left out
and two units swapped now and then (words of English, characters of Chinese), answers of the next
example, and for Chinese the text of China beside that of Taiwan; with one answer and with two.
Printed are the largest differences, in points of 100, over sets of 1, 10 and 200 examples: of
BLEU, of BLEU as sacreBLEU computes it for Chinese, and of chrF. A last line has the same for
sentences with what sacreBLEU's `zh` takes for Chinese and isn't, or the other way round.
"""

from __future__ import annotations

import argparse
import gzip
import importlib
import json
import pathlib
from collections.abc import Iterator, Sequence
from typing import Any

from twjax.data.translation_metrics import bleu, bleu_sacrebleu_zh, chrf

FILES = ("mozilla_www_pairs", "ntrex_news_pairs", "pydocs_pairs_en_zhTW_zhCN", "vim_po_pairs")
SIZES = (1, 10, 200)
# Curly quotation marks, dashes and dots; Han of Extension B and of U+9FBC and later; Bopomofo.
TRAPS = (
    "他說“今天—明天…”都可以，“真的”。",
    "𠮷野家在𡻕月樓，遮的人𠢕𨑨迌足濟。",
    "鿍鿎鿏是元素鿔的舊字。",
    "ㄅㄆㄇ，ㆠㆣ；１２．５％ 和 3.5-4.0。",
)


def pairs_of(path: pathlib.Path, side: str) -> list[tuple[str, str]]:
    """Returns texts of one side, and for Taiwan's Chinese the same of China (else again)."""
    found = []
    with gzip.open(path, "rt", encoding="utf-8") as file:
        for line in file:
            record = json.loads(line)
            for pair in record.get("pairs", [record]):
                text = pair.get(side) or ""
                other = pair.get("zh_cn") if side == "zh_tw" else text
                if text.strip() and other and "\n" not in text + other:
                    found.append((text, other))
    return found[:400]


def damaged(text: str, number: int, by_words: bool) -> str:
    units = text.split(" ") if by_words else list(text)
    units = [u for place, u in enumerate(units) if (place + number) % 7]
    if number % 3 == 0 and len(units) > 3:
        units[1], units[2] = units[2], units[1]
    return (" " if by_words else "").join(units)


def sets(
    pairs: Sequence[tuple[str, str]], side: str
) -> Iterator[tuple[list[list[str]], list[str]]]:
    """Yields (answers of each example, predictions)."""
    systems = [
        [damaged(text, number, side == "en") for number, (text, _) in enumerate(pairs)],
        [pairs[(number + 1) % len(pairs)][0] for number in range(len(pairs))],
    ]
    if side == "zh_tw":
        systems.append([other for _, other in pairs])
    for size in SIZES:
        for first in range(0, len(pairs) - size, max(size, len(pairs) // 8)):
            part = slice(first, first + size)
            for system in systems:
                yield [[text] for text, _ in pairs[part]], system[part]
                yield [[text, damaged(text, 1, False)] for text, _ in pairs[part]], system[part]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=pathlib.Path, required=True)
    args = parser.parse_args()
    theirs = importlib.import_module("sacrebleu.metrics")
    version = importlib.import_module("sacrebleu").__version__
    print(f"sacreBLEU {version}; largest difference in points")
    print(f"{'':34} {'sets':>5} {'BLEU':>9} {'mean':>9} {'as theirs':>9} {'chrF':>9}")
    for name in FILES:
        # Theirs for languages with spaces, and for Chinese.
        for side, tokenizer in (("en", "13a"), ("zh_tw", "zh")):
            found = list(sets(pairs_of(args.data / f"{name}.jsonl.gz", side), side))
            compare(theirs, f"{name}, {side}, {tokenizer}", tokenizer, found)
    traps = [
        ([[text] for text in TRAPS], [damaged(text, number, False) for text in TRAPS])
        for number in range(7)
    ]
    compare(theirs, "traps, zh", "zh", traps)


def compare(
    theirs: Any,
    name: str,
    tokenizer: str,
    found: Sequence[tuple[list[list[str]], list[str]]],
) -> None:
    """Prints a line: how far our scores of some sets are from theirs."""
    apart: list[tuple[float, float, float]] = []
    for answers, said in found:
        references = [list(column) for column in zip(*answers, strict=True)]
        by_bleu = theirs.BLEU(tokenize=tokenizer).corpus_score(said, references).score
        by_chrf = theirs.CHRF().corpus_score(said, references).score
        same = bleu_sacrebleu_zh(answers, said)["bleu_sacrebleu_zh"]
        apart.append(
            (
                abs(bleu(answers, said)["bleu"] - by_bleu),
                abs(same - by_bleu) if tokenizer == "zh" else 0.0,
                abs(chrf(answers, said)["chrf"] - by_chrf),
            )
        )
    ours, same, other = zip(*apart, strict=True)
    print(
        f"{name:34} {len(apart):>5} {max(ours):>9.2g} {sum(ours) / len(apart):>9.2g} "
        f"{max(same):>9.2g} {max(other):>9.2g}",
        flush=True,
    )


if __name__ == "__main__":
    main()
