"""Tells Taiwan's wording from the mainland's where characters can't: a table beside a baseline.

    python benchmarks/region.py --data DIR [DIR …] [--json FILE]

Both sides of translated pairs are put in Traditional characters by OpenCC. "s2t": plain s2t, as
converters leave it; Taiwan's own text keeps spellings that s2t doesn't touch (為, 眾), so that
traces of conversion help any model. "folded": every character is replaced by its class of
variants on both sides, so that only words are left. A sentence is one side of a translated pair;
"≥4" are those of four Han characters or more. The baseline is a logistic regression on
character 1- to 3-grams of the software and web pairs (parts that fit), fitted in this run on text
put through the same protocol. Documents of the test parts, and NTREX-128 and FLORES as a whole,
were never fitted by either; by FLORES settings were chosen.
"""

from __future__ import annotations

import argparse
import json
import pathlib
import time

import numpy as np
import regex
from scipy import sparse

from twjax.corpus.conversion import opencc
from twjax.corpus.variety import region, region_fit, region_sources, regionmodel, script

TESTS = {
    "NTREX": "ntrex_news_pairs",
    "FLORES": "flores_pairs",
    "Python": "pydocs_pairs_en_zhTW_zhCN",
    "Mozilla": "mozilla_www_pairs",
    "apps": "mozilla_apps_pairs",
}
_HAN = regex.compile(r"\p{Han}")
PAIRS = ("python", "mozilla", "vim", "rust", "nuget", "react")


def baseline(train: region_sources.Sentences, fold: np.ndarray, s2t: bool):
    """Returns a function from texts to (scores by the root of the length, lengths)."""
    texts = list(map(opencc.converter("s2t"), train.texts)) if s2t else train.texts

    def counts(texts):
        rows, keys, orders = region_fit.grams(texts, fold)
        kept = orders <= 3
        return rows[kept], keys[kept], np.bincount(rows[orders == 1], minlength=len(texts))

    rows, keys, han = counts(texts)
    vocabulary, number = np.unique(keys, return_counts=True)
    vocabulary = vocabulary[number > 1]

    def matrix(rows, keys, han):
        column = np.minimum(np.searchsorted(vocabulary, keys), len(vocabulary) - 1)
        known = vocabulary[column] == keys
        values = (1 / np.sqrt(han[rows[known]])).astype(np.float32)
        return sparse.csr_matrix(
            (values, (rows[known], column[known])), (len(han), len(vocabulary))
        )

    weights = region_fit.logistic(matrix(rows, keys, han), train.taiwan, train.weights, 1.0)

    def score(texts):
        rows, keys, han = counts(texts)
        return matrix(rows, keys, han) @ weights, np.maximum(han, 1)

    return score


def right(said: np.ndarray, true: np.ndarray) -> float:
    """Returns the accuracy in percent."""
    return 100 * float(np.mean(said == true))


def calibration_error(probability, taiwan, bins: int = 10) -> float:
    """Returns the expected calibration error (percent) of the stated side, equal-width bins."""
    confidence = np.maximum(probability, 1 - probability)
    right = (probability > 0.5) == taiwan
    index = np.minimum(((confidence - 0.5) * 2 * bins).astype(int), bins - 1)
    gaps = np.bincount(index, confidence, bins) - np.bincount(index, right, bins)
    return 100 * np.abs(gaps).sum() / len(probability)


def pairs(folders: list[str], file: str, least: int) -> region_sources.Sentences:
    """Returns both sides of a file's pairs as translated, of `least` Han characters or more.

    Of a file that is fitted, the documents of the test parts.
    """
    sources = [s for s in region_sources.SOURCES if s.file == file]
    rows = []
    for record in region_sources.read_records(folders, file):
        names = [(s.group, record["id"].removeprefix(s.prefix)) for s in sources]
        if all(region_sources.part(*name) in region_fit.TEST_PARTS for name in names):
            for pair in record["pairs"]:
                if pair["zh_tw"] and pair["zh_cn"]:
                    rows.append((pair["zh_tw"].replace("\n", " "), True, record["id"]))
                    rows.append((pair["zh_cn"].replace("\n", " "), False, record["id"]))
    rows = [row for row in rows if len(_HAN.findall(row[0])) >= least]
    texts, taiwan, documents = zip(*rows, strict=True)
    ones = np.ones(len(rows))
    return region_sources.Sentences(
        list(texts), np.array(taiwan), ones, np.array(documents), ones, ones
    )


def main() -> None:
    """Prints the tables."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", nargs="+", required=True)
    parser.add_argument("--model", help="a region.npz other than the one that comes with twjax")
    parser.add_argument("--json")
    args = parser.parse_args()
    if args.model:
        with open(args.model, "rb") as file:
            model = regionmodel.read(file)
    else:
        model = regionmodel.load()
    report: dict[str, object] = {}
    sources = [
        s
        for s in region_sources.SOURCES
        if s.group in (*PAIRS, "mozilla-apps") and s.kind != "worded"
    ]
    sentences = region_sources.load(args.data, sources)
    fitting = sentences.parts > region_fit.CALIBRATION_PART
    train = sentences.where(fitting & np.isin(sentences.groups, PAIRS))
    sets = {}
    for name, file in TESTS.items():
        for least in (4, 10):
            sets[f"{name} ≥{least}"] = pairs(args.data, file, least)
    s2t = opencc.converter("s2t")
    han_only = np.arange(65536, dtype=np.uint16) * (model.fold > 0)
    print(f"{'':22}{'baseline':>16}{'model':>17}{'ECE':>16}{'told':>7}{'right':>7}")
    for protocol in ("s2t", "folded"):
        plain = protocol == "s2t"
        rival = baseline(train, han_only if plain else model.fold, plain)
        for name, found in sets.items():
            texts = list(map(s2t, found.texts)) if plain else found.texts
            member, side = region_fit.by_document(found)
            scores, han = rival(texts)
            scores_of = region_fit.total((scores * np.sqrt(han))[:, None], member)[:, 0]
            theirs = right(scores > 0, found.taiwan), right(scores_of > 0, side)
            sums = region_fit.sums(model, texts)
            p = model.probability(sums, traces=plain)
            of = model.probability(region_fit.total(sums, member), traces=plain)
            ours = right(p > 0.5, found.taiwan), right(of > 0.5, side)
            ece = calibration_error(p, found.taiwan), calibration_error(of, side)
            told = np.abs(p - 0.5) >= region.MIN_CONFIDENCE - 0.5
            sure = right((p > 0.5)[told], found.taiwan[told])
            print(
                f"{name:14}{protocol:8}{theirs[0]:8.1f} /{theirs[1]:6.1f}"
                f"{ours[0]:9.1f} /{ours[1]:6.1f}"
                f"{ece[0]:9.1f} /{ece[1]:5.1f}{100 * told.mean():6.0f}%{sure:7.1f}"
                f"   {len(p)} sentences, {len(side)} documents"
            )
            report[f"{protocol}/{name}"] = {
                "baseline": theirs, "model": ours, "ece": ece, "told": told.mean(), "right": sure,
                "sentences": len(p), "documents": len(side),
            }  # fmt: skip
    for file in (
        "tw_laws_zh",
        "tw_transcripts_cc0",
        "taiwan_md_zh",
        "cofacts_replies",
        "pydocs_zhCN",
    ):
        texts = [r["text"] for r in region_sources.read_records(args.data, file)]
        started = time.process_time()
        labels = [verdict.label for verdict, _ in region.judge(texts)]
        speed = sum(len(t.encode()) for t in texts) / 1e6 / (time.process_time() - started)
        counts = {label: labels.count(label) for label in region.LABELS if label in labels}
        fitted = [s for s in region_sources.SOURCES if s.file == file and s.kind == "alone"]
        names = [r["id"] for r in region_sources.read_records(args.data, file)]
        unseen = [
            label
            for name, label in zip(names, labels, strict=True)
            if all(region_sources.part(s.group, name) in region_fit.TEST_PARTS for s in fitted)
        ]
        mainland = sum(label in ("zh-Hant-CN", "zh-Hans") for label in unseen)
        print(f"{file:20} {speed:4.0f} MB/s a core  {counts}")
        print(f"{'':20} of {len(unseen)} never fitted, mainland: {mainland}")
        report[file] = {"mb_s": speed, "labels": counts, "unseen": len(unseen), "cn": mainland}
    good = total = 0
    t2s = opencc.converter("t2s")
    for file in ("tw_laws_zh", "tw_transcripts_cc0", "prc_laws", "tidb_zhCN", "pydocs_zhCN"):
        for record in region_sources.read_records(args.data, file):
            wanted = "traditional" if file.startswith("tw") else "simplified"
            good += script.count(record["text"]).script(0.8) == wanted
            if wanted == "traditional":
                good += script.count(t2s(record["text"])).script(0.8) == "simplified"
                total += 1
            total += 1
    print(f"Simplified against Traditional, {total} documents: {100 * good / total:.2f}%")
    report["script"] = [good, total]
    if args.json:
        pathlib.Path(args.json).write_text(json.dumps(report, indent=1, default=float))


if __name__ == "__main__":
    main()
