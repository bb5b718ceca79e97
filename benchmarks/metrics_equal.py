"""BLEU and chrF beside sacreBLEU, on real texts of which one side is damaged.

    pip install sacrebleu==2.6.0    # in an environment of its own
    PYTHONPATH=. python benchmarks/metrics_equal.py --data DIR

DIR holds the parallel `.jsonl.gz` files. Predictions are answers with every seventh unit left out
and two units swapped now and then (words of English, characters of Chinese), answers of the next
example, and for Chinese the text of China beside that of Taiwan; with one answer and with two.
Printed are the largest differences, in points of 100, over sets of 1, 10 and 200 examples.
"""

from __future__ import annotations

import argparse
import gzip
import importlib
import json
import pathlib
from collections.abc import Iterator, Sequence

from twjax.data.translation_metrics import bleu, chrf

FILES = ("mozilla_www_pairs", "ntrex_news_pairs", "pydocs_pairs_en_zhTW_zhCN", "vim_po_pairs")
SIZES = (1, 10, 200)


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
    print(f"{'':34} {'sets':>5} {'BLEU':>9} {'mean':>9} {'chrF':>9}")
    for name in FILES:
        # Theirs for languages with spaces, and for Chinese.
        for side, tokenizer in (("en", "13a"), ("zh_tw", "zh")):
            apart: list[tuple[float, float]] = []
            for answers, said in sets(pairs_of(args.data / f"{name}.jsonl.gz", side), side):
                references = [list(column) for column in zip(*answers, strict=True)]
                scores = (
                    theirs.BLEU(tokenize=tokenizer).corpus_score(said, references).score,
                    theirs.CHRF().corpus_score(said, references).score,
                )
                ours = bleu(answers, said)["bleu"], chrf(answers, said)["chrf"]
                apart.append((abs(ours[0] - scores[0]), abs(ours[1] - scores[1])))
            by_bleu, by_chrf = zip(*apart, strict=True)
            print(
                f"{f'{name}, {side}, {tokenizer}':34} {len(apart):>5} {max(by_bleu):>9.2g} "
                f"{sum(by_bleu) / len(apart):>9.2g} {max(by_chrf):>9.2g}",
                flush=True,
            )


if __name__ == "__main__":
    main()
