"""Localisation measures on texts of which it is known where they are from.

    python benchmarks/localisation.py --data DIR [--json FILE]

"mainland": documents that `judge` calls the mainland's, as they are and with their characters alone
converted by OpenCC's s2t; "pieces" are the same texts in pieces of 200 characters, as long as what
a model is asked to write. "Taiwan": rates and shares of Taiwan's documents, and what the corpus
room's step `Usage` says of the same documents. "Japanese": how much of articles in it is taken for
running Japanese, and how many texts are wrongly counted or flagged. "pairs": how often a character
model (trigrams, Witten-Bell smoothing) prefers Taiwan's side, fitted on texts of Taiwan or on the
mainland's in Traditional characters, which come with twjax; it shows that the pairs tell the two
apart.
"""

from __future__ import annotations

import argparse
import collections
import gzip
import json
import math
import pathlib
import re
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from twjax.corpus.conversion import opencc
from twjax.corpus.document import Document
from twjax.corpus.variety import script
from twjax.corpus.variety.usage import Usage
from twjax.evaluation import pairs
from twjax.evaluation.localisation import KANA, KANA_SHARE, judge, measure, simplified

ROOT = pathlib.Path(__file__).resolve().parent.parent
MAINLAND = (
    "pydocs_zhCN", "rustbook_zhCN", "react_zhCN", "nuget_zhCN", "vue_zhCN", "tidb_zhCN",
)  # fmt: skip
TAIWAN = (
    "tw_laws_zh", "tw_transcripts_cc0", "taiwan_md_zh", "moztw_cc0_zhTW", "drcd_dev",
    "pydocs_zhTW", "rustbook_zhTW", "nuget_zhTW", "react_zhTW", "cofacts_replies",
)  # fmt: skip
JAPANESE = "taiwan_md_other_langs.jsonl.gz"
# Han characters and kana of the shortest sentence.
LEAST_SENTENCE = 8
PIECE = 200
# A piece with fewer Han characters is code.
LEAST_HAN = 50


class Scored(NamedTuple):
    """What a scorer returns."""

    log_likelihood: float
    greedy: bool = False


def read(path: pathlib.Path) -> list[tuple[str, str]]:
    """Returns (id, text) of the records of a file that have a text."""
    with gzip.open(path, "rt", encoding="utf-8") as file:
        records = map(json.loads, file)
        return [(r["id"], r["text"]) for r in records if r.get("text")]


def pieces(texts: Sequence[str]) -> list[str]:
    """Returns pieces of `PIECE` characters with `LEAST_HAN` Han characters or more."""
    cut = [text[i : i + PIECE] for text in texts for i in range(0, len(text), PIECE)]
    return [piece for piece in cut if script.count(piece).han >= LEAST_HAN]


def mainland(data: pathlib.Path) -> Iterator[dict[str, object]]:
    """Yields a row for each source of the mainland."""
    convert = opencc.converter("s2t")
    for name in MAINLAND:
        rows = read(data / f"{name}.jsonl.gz")
        texts = [text for _, text in rows]
        small = pieces(texts)
        said = judge(texts)
        missed = [
            f"{id} ({script.count(text).han} Han)"
            for (id, text), verdict in zip(rows, said, strict=True)
            if not verdict
        ]
        yield {
            "source": name,
            "documents": len(texts),
            "flagged": share(said),
            "converted": share(judge(list(map(convert, texts)))),
            "pieces": len(small),
            "pieces flagged": share(judge(small)),
            "pieces converted": share(judge(list(map(convert, small)))),
            "not flagged": missed,
        }


def taiwan(data: pathlib.Path) -> Iterator[dict[str, object]]:
    """Yields a row for each source of Taiwan."""
    for name in TAIWAN:
        rows = read(data / f"{name}.jsonl.gz")
        texts = [text for _, text in rows]
        found = measure(texts).record(0, name)
        documents = [
            Document(id=id, text=text, source=name, license="", lang="zh-TW") for id, text in rows
        ]
        outcome = Usage().apply(documents)
        characters = collections.Counter(
            c for text in texts if simplified(text) for c in text if simplified(c)
        )
        small = pieces(texts)
        yield {
            "source": name,
            **{key: value for key, value in found.items() if key not in ("kind", "step", "task")},
            "flagged": share(judge(texts)),
            "pieces flagged": share(judge(small)),
            "room flagged": outcome.changed["flagged"] / len(texts),
            "room with words": outcome.changed["with mainland words"] / len(texts),
            "simplified characters": dict(characters.most_common(20)),
        }


def japanese(data: pathlib.Path) -> Iterator[dict[str, object]]:
    """Yields a row for articles in Japanese, for their pieces and for their sentences."""
    with gzip.open(data / JAPANESE, "rt", encoding="utf-8") as file:
        texts = [r["text"] for r in map(json.loads, file) if r["lang"] == "ja"]
    sentences = [s for text in texts for s in re.split(r"(?<=[。！？])|\n", text)]
    for name, some in (("articles", texts), ("pieces", pieces(texts)), ("sentences", sentences)):
        counts = [(text, script.count(text)) for text in some]
        # Without kana nothing tells a heading from one in Chinese.
        kept = [(t, c) for t, c in counts if c.kana and c.han + c.kana >= LEAST_SENTENCE]
        running = sum(c.kana >= KANA and c.kana >= KANA_SHARE * (c.han + c.kana) for _, c in kept)
        yield {
            "texts": name,
            "with kana": len(kept),
            "running": running / len(kept),
            "with Simplified": sum(simplified(text) > 0 for text, _ in kept),
            "flagged by script": judge([text for text, _ in kept]).count("script"),
        }


def share(verdicts: Sequence[str]) -> float:
    """Returns the share of texts that are the mainland's."""
    return (len(verdicts) - verdicts.count("")) / max(1, len(verdicts))


class Trigrams:
    """A character model with Witten-Bell smoothing (Chen & Goodman 1999, section 2.4)."""

    def __init__(self, texts: Sequence[str]):
        self._counts: list[collections.Counter[str]] = [collections.Counter() for _ in range(3)]
        for text in texts:
            padded = "\n\n" + text
            for order, counts in enumerate(self._counts, start=1):
                counts.update(padded[i - order : i] for i in range(2 + 1, len(padded) + 1))
        self._totals = [collections.Counter() for _ in range(3)]
        self._kinds = [collections.Counter() for _ in range(3)]
        for counts, totals, kinds in zip(self._counts, self._totals, self._kinds, strict=True):
            for gram, number in counts.items():
                totals[gram[:-1]] += number
                kinds[gram[:-1]] += 1

    def score(self, text: str, behind: str = "") -> float:
        """Returns the log-likelihood of a text behind another, nats."""
        padded = "\n\n" + behind + text
        places = range(len(padded) - len(text), len(padded))
        return sum(math.log(self._probability(padded[i - 2 : i + 1])) for i in places)

    def _probability(self, gram: str) -> float:
        value = 1 / 0x110000
        for order in range(3):
            part = gram[2 - order :]
            context, kinds = part[:-1], self._kinds[order][part[:-1]]
            if kinds:
                total = self._totals[order][context]
                value = (self._counts[order][part] + kinds * value) / (total + kinds)
        return value


def preferences() -> Iterator[dict[str, object]]:
    """Yields what each character model prefers of the files that come with twjax."""
    convert = opencc.converter("s2t")

    def texts(*names: str) -> list[str]:
        folder = ROOT / "configs/corpora/texts"
        return [t for name in names for _, t in read(folder / f"{name}.jsonl.gz")]

    ours = texts("tw_laws", "tw_transcripts", "tw_articles")
    theirs = texts("cn_general")
    sides = {"Taiwan": ours, "mainland": theirs, "mainland, s2t": list(map(convert, theirs))}
    size = min(sum(map(len, side)) for side in sides.values())
    for name, side in sides.items():
        rest, part = size, []
        # Every tenth document first, so that all of a file's subjects are in.
        for text in (side[i] for start in range(10) for i in range(start, len(side), 10)):
            part.append(text[:rest])
            rest -= len(part[-1])
            if not rest:
                break
        model = Trigrams(part)
        row: dict[str, object] = {"fitted on": name, "characters": size}
        for file in ("terms", "scripts"):
            found = pairs.read_pairs(ROOT / f"configs/evaluations/{file}.jsonl")
            scores = [
                Scored(model.score(text)) for pair in found for text in (pair.taiwan, pair.mainland)
            ]
            row[file] = pairs.pairs_record(found, scores, 0, file)["preferred"]  # type: ignore[arg-type]
        probes = pairs.read_probes(ROOT / "configs/evaluations/identity.jsonl")
        scores = [
            Scored(model.score(end, probe.prompt))
            for probe in probes
            for end in (*probe.right, *probe.wrong)
        ]
        row["identity"] = pairs.probes_record(probes, scores, 0, "identity")["right"]  # type: ignore[arg-type]
        yield row


def shown(row: dict[str, object]) -> str:
    """Returns a row as a line."""
    cells = []
    for key, value in row.items():
        text = f"{value:.4g}" if isinstance(value, float) else str(value)
        cells.append(f"{key} {text}")
    return "  ".join(cells)


def main() -> None:
    """Prints the tables."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", type=pathlib.Path, required=True)
    parser.add_argument("--json", type=pathlib.Path)
    args = parser.parse_args()
    report: dict[str, list[dict[str, object]]] = {}
    for title, rows in (
        ("mainland", mainland(args.data)),
        ("Taiwan", taiwan(args.data)),
        ("Japanese", japanese(args.data)),
        ("pairs", preferences()),
    ):
        print(title, flush=True)
        for row in rows:
            report.setdefault(title, []).append(row)
            print(f"  {shown(row)}", flush=True)
    if args.json:
        args.json.write_text(json.dumps(report, ensure_ascii=False, indent=1))


if __name__ == "__main__":
    main()
