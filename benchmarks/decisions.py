"""Draws cases of decisions that a build counts but doesn't list, for someone to read.

  python benchmarks/decisions.py terms build/corpora/public_texts --number 100
  python benchmarks/decisions.py joins data/tw_laws_zh.jsonl.gz --number 100

"terms" are the mainland words of a finished corpus, in context, with what `Usage` would say
instead; "joins" are the line breaks that `RepairWraps` takes out of a file of JSON lines. What a
build lists (rejections, edits, labels) is drawn by `twjax corpus sample DIR --decision NAME`.
"""

from __future__ import annotations

import argparse
import gzip
import json
import pathlib
import random
from collections.abc import Iterator

from twjax.corpus.document import read_corpus
from twjax.corpus.text.normalize import NormalizeText
from twjax.corpus.text.wraps import unwrap
from twjax.corpus.variety import usage

_AROUND = 16
# Few of each document, so that one can't fill the sample.
_EACH = 5


def terms(folder: pathlib.Path, chance: random.Random) -> Iterator[str]:
    """Yields mainland words in context, a few of each document that `Usage` found any in."""
    lexicon = usage.load()
    for document in read_corpus(folder):
        if document.meta.get("usage_terms"):
            (found,) = lexicon.find([document.text])
            if "converted" in document.meta:
                found = [one for one in found if not one.term.keep]
            for one in chance.sample(found, min(_EACH, len(found))):
                left = document.text[max(0, one.start - _AROUND) : one.start]
                right = document.text[one.stop : one.stop + _AROUND]
                yield f"{document.id}\t{left}【{one.word}→{one.term.taiwan}】{right}"


def joins(path: pathlib.Path, chance: random.Random) -> Iterator[str]:
    """Yields line breaks that were taken out (⏎), a few of each document."""
    with gzip.open(path, "rt", encoding="utf-8") as file:
        for line in file:
            record = json.loads(line)
            text = NormalizeText().normalize(record["text"])[0]
            ((repaired, _, _),) = unwrap([text])
            places = list(_taken(text, repaired))
            for start, stop in chance.sample(places, min(_EACH, len(places))):
                left, right = text[max(0, start - 2 * _AROUND) : start], text[stop:]
                yield f"{record['id']}\t{left}⏎{right[: 2 * _AROUND]}"


def _taken(before: str, after: str) -> Iterator[tuple[int, int]]:
    """Yields the stretches of white space with a line break that `after` lacks."""
    at = place = 0
    while place < len(before):
        if not before[place].isspace():
            while after[at].isspace():
                at += 1
            at += 1
            place += 1
            continue
        start = place
        while place < len(before) and before[place].isspace():
            place += 1
        gap = at
        while gap < len(after) and after[gap].isspace():
            gap += 1
        if "\n" in before[start:place] and "\n" not in after[at:gap]:
            yield start, place
        at = gap


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("decision", choices=("terms", "joins"))
    parser.add_argument("path", type=pathlib.Path, help="a corpus folder, or a .jsonl.gz file")
    parser.add_argument("--number", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    chance = random.Random(args.seed)
    cases = list({"terms": terms, "joins": joins}[args.decision](args.path, chance))
    for number, case in enumerate(chance.sample(cases, min(args.number, len(cases))), 1):
        print(number, case.replace("\n", "⏎"))
    print(f"of {len(cases):,} cases")


if __name__ == "__main__":
    main()
