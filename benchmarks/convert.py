"""How close conversions of Simplified text come to what translators in Taiwan wrote.

Reads texts that exist in both usages, converts the mainland's side, and prints for each source and
conversion chrF2 against Taiwan's side, the terms that are right where OpenCC's s2twp errs, and the
speed. Rows of the overlay were chosen on documents of "fit" only: half of the Python
documentation, of Mozilla's pages and of NuGet's, by hash. "test" is the other half of these, and
all of Vim, React, the Rust book and NTREX.
"""

from __future__ import annotations

import argparse
import collections
import difflib
import gzip
import json
import pathlib
import re
import time
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import xxhash

from twjax.corpus.conversion import opencc, overlay, taiwan

Pairs = list[tuple[str, str]]
Convert = Callable[[str], str]

_FITTED = ("pydocs", "mozilla", "nuget")
_HAN = re.compile("[一-鿿]")
_ORDER, _BETA = 6, 2


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=pathlib.Path, required=True, help="folder of the pairs")
    parser.add_argument("--part", choices=("fit", "test"), default="test")
    parser.add_argument("--terms", type=pathlib.Path, help="lines of FROM<tab>TO|TO|…, to count")
    parser.add_argument("--errors", type=int, default=0, help="print the most frequent errors")
    parser.add_argument("--json", type=pathlib.Path, help="write the figures here")
    arguments = parser.parse_args()

    documents = [d for d in load(arguments.data) if d[3] == arguments.part]
    converted = {name: [apply(f, d[2]) for d in documents] for name, f in candidates().items()}
    figures: dict[str, object] = {"chrF": chrf_table(documents, converted)}
    figures["touched"] = touched(documents, converted, arguments.errors)
    figures["recurring"] = recurring(documents, converted)
    if arguments.terms:
        figures["listed"] = listed(documents, converted, arguments.terms, arguments.errors)
    figures["speed"] = speed(documents)
    for name, table in figures.items():
        print(f"\n{name}")
        for row, values in table.items():  # type: ignore[attr-defined]
            print(f"  {row:26}", values)
    if arguments.json:
        arguments.json.write_text(json.dumps(figures, ensure_ascii=False, indent=1))


def candidates() -> dict[str, Convert]:
    """Returns the conversions to compare, by name."""
    table = overlay.load()

    def ours(text: str) -> str:
        return taiwan.convert(text, [(0, len(text))], overlay=table).text

    def by_character(text: str) -> str:
        return taiwan.characters(text)

    plain = {name: opencc.converter(name) for name in ("s2t", "s2tw", "s2twp")}
    return plain | {"s2tw, Taiwan's forms": by_character, "s2tw and overlay": ours}


def apply(convert: Convert, pairs: Pairs) -> list[str]:
    """Converts the mainland's sides as one document, as they were written."""
    joined = "\n\u2028\n".join(cn for cn, _ in pairs)
    return convert(joined).split("\n\u2028\n")


def load(folder: pathlib.Path) -> Iterator[tuple[str, str, Pairs, str]]:
    """Yields (source, document, pairs of mainland and Taiwan text, "fit" or "test")."""
    for source, pairs_by_document in _sources(folder):
        for document, pairs in pairs_by_document:
            even = xxhash.xxh3_64_intdigest(document.encode()) % 2 == 0
            yield source, document, pairs, "fit" if source in _FITTED and even else "test"


def _sources(folder: pathlib.Path) -> Iterator[tuple[str, list[tuple[str, Pairs]]]]:
    for source, name in (
        ("pydocs", "pydocs_pairs_en_zhTW_zhCN"),
        ("mozilla", "mozilla_www_pairs"),
        ("ntrex", "ntrex_news_pairs"),
    ):
        documents = []
        for record in _records(folder, name):
            pairs = [(p["zh_cn"], p["zh_tw"]) for p in record["pairs"]]
            pairs = [(cn, tw) for cn, tw in pairs if cn and tw]
            if pairs:
                documents.append((record["id"], pairs))
        yield source, documents
    messages = [(r["zh_cn"], r["zh_tw"]) for r in _records(folder, "vim_po_pairs")]
    messages = [(cn, tw) for cn, tw in messages if cn and tw]
    yield "vim", [(f"vim-{i}", messages[i : i + 50]) for i in range(0, len(messages), 50)]
    for source in ("nuget", "react", "rustbook"):
        mainland = {r["key"]: r["text"] for r in _records(folder, f"{source}_zhCN")}
        documents = []
        for record in _records(folder, f"{source}_zhTW"):
            if record["key"] in mainland:
                pairs = aligned(mainland[record["key"]], record["text"])
                if pairs:
                    documents.append((f"{source}:{record['key']}", pairs))
        yield source, documents


def _records(folder: pathlib.Path, name: str) -> Iterator[dict]:
    with gzip.open(folder / f"{name}.jsonl.gz", "rt", encoding="utf-8") as file:
        for line in file:
            yield json.loads(line)


def aligned(mainland: str, taiwanese: str, least: float = 0.3) -> Pairs:
    """Pairs lines of two translations, in order, by the pairs of characters that they share.

    Lines without Han are left out; two lines match from a Dice coefficient of `least` on, the
    mainland's one converted by s2tw.
    """
    a = [line for line in mainland.split("\n") if _HAN.search(line)]
    b = [line for line in taiwanese.split("\n") if _HAN.search(line)]
    grams_a = [_bigrams(opencc.converter("s2tw")(line)) for line in a]
    grams_b = [_bigrams(line) for line in b]
    dice = [[2 * len(x & y) / max(1, len(x) + len(y)) for y in grams_b] for x in grams_a]
    best = np.zeros((len(a) + 1, len(b) + 1))
    for i in range(len(a) - 1, -1, -1):
        for j in range(len(b) - 1, -1, -1):
            best[i, j] = max(best[i + 1, j], best[i, j + 1])
            if dice[i][j] > least:
                best[i, j] = max(best[i, j], best[i + 1, j + 1] + dice[i][j])
    pairs: Pairs = []
    i = j = 0
    while i < len(a) and j < len(b):
        if dice[i][j] > least and np.isclose(best[i, j], best[i + 1, j + 1] + dice[i][j]):
            pairs.append((a[i], b[j]))
            i, j = i + 1, j + 1
        elif best[i, j] == best[i + 1, j]:
            i += 1
        else:
            j += 1
    return pairs


def _bigrams(line: str) -> set[str]:
    line = "".join(line.split())
    return {line[i : i + 2] for i in range(len(line) - 1)}


def chrf(hypotheses: Sequence[str], references: Sequence[str]) -> float:
    """chrF2 in percent (Popović 2015, "chrF: character n-gram F-score", section 2).

    Character 1- to 6-grams without spaces, counted over the corpus; the mean precision and the
    mean recall over the lengths make the F-score with β = 2.
    """
    matches, guessed, wanted = np.zeros(_ORDER), np.zeros(_ORDER), np.zeros(_ORDER)
    for hypothesis, reference in zip(hypotheses, references, strict=True):
        h, r = "".join(hypothesis.split()), "".join(reference.split())
        for n in range(1, _ORDER + 1):
            a = collections.Counter(h[i : i + n] for i in range(len(h) - n + 1))
            b = collections.Counter(r[i : i + n] for i in range(len(r) - n + 1))
            matches[n - 1] += (a & b).total()
            guessed[n - 1] += a.total()
            wanted[n - 1] += b.total()
    precision, recall = (matches / guessed).mean(), (matches / wanted).mean()
    return float(100 * (1 + _BETA**2) * precision * recall / (_BETA**2 * precision + recall))


def chrf_table(documents, converted) -> dict[str, dict[str, float]]:
    """chrF2 by source and conversion."""
    table: dict[str, dict[str, float]] = {}
    for source in dict.fromkeys(d[0] for d in documents):
        chosen = [i for i, d in enumerate(documents) if d[0] == source]
        references = [tw for i in chosen for _, tw in documents[i][2]]
        table[source] = {
            name: round(chrf([line for i in chosen for line in lines[i]], references), 2)
            for name, lines in converted.items()
        }
    return table


def touched(documents, converted, errors: int = 0) -> dict[str, dict[str, int]]:
    """Counts stretches where s2twp and the overlay differ, by which of them the reference has."""
    table: dict[str, collections.Counter[str]] = {}
    worse: collections.Counter[tuple[str, str]] = collections.Counter()
    for number, (source, _, pairs, _) in enumerate(documents):
        counts = table.setdefault(source, collections.Counter())
        for line, (_, reference) in enumerate(pairs):
            s2twp = converted["s2twp"][number][line].replace("臺", "台")
            ours = converted["s2tw and overlay"][number][line].replace("臺", "台")
            reference = reference.replace("臺", "台")
            matcher = difflib.SequenceMatcher(None, s2twp, ours, autojunk=False)
            for tag, a, b, c, d in matcher.get_opcodes():
                if tag == "equal":
                    continue
                # A neighbour on each side makes a word of single characters.
                x, y = s2twp[max(0, a - 1) : b + 1], ours[max(0, c - 1) : d + 1]
                theirs, own = x in reference, y in reference
                verdict = "both" if theirs and own else "neither"
                if theirs != own:
                    verdict = "s2twp right" if theirs else "ours right"
                    worse[x, y] += theirs
                counts[verdict] += 1
    if errors:
        print("ours wrong:", *(f"{x}/{y}:{n}" for (x, y), n in worse.most_common(errors) if n))
    return _with_total(table)


def recurring(documents, converted, least: int = 3) -> dict[str, dict[str, int]]:
    """Counts words that the reference has otherwise than s2twp, the same in `least` documents.

    No list decides what a term is: it is a short stretch between equal characters on both sides.
    """
    seen: collections.defaultdict[tuple[str, str], set[int]] = collections.defaultdict(set)
    places = []
    for number, (_, _, pairs, _) in enumerate(documents):
        for line, (_, reference) in enumerate(pairs):
            for x, y in _swaps(converted["s2twp"][number][line], reference):
                seen[x, y].add(number)
                places.append((number, line, x, y))
    table: dict[str, collections.Counter[str]] = {}
    for number, line, x, y in places:
        if len(seen[x, y]) >= least:
            counts = table.setdefault(documents[number][0], collections.Counter())
            counts["s2twp errs"] += 1
            ours = converted["s2tw and overlay"][number][line]
            reference = documents[number][2][line][1]
            counts["ours right"] += (x, y) not in _swaps(ours, reference) and y in ours
    return _with_total(table)


def _swaps(text: str, reference: str) -> list[tuple[str, str]]:
    if max(len(text), len(reference)) > 600:
        return []
    text, reference = text.replace("臺", "台"), reference.replace("臺", "台")
    codes = difflib.SequenceMatcher(None, text, reference, autojunk=False).get_opcodes()
    found = []
    for (before, *_), (tag, a, b, c, d), (after, *_) in zip(
        codes, codes[1:], codes[2:], strict=False
    ):
        if tag == "replace" and before == after == "equal" and b - a <= 4 and d - c <= 5:
            x, y = text[a - 1 : b], reference[c - 1 : d]
            if all(map(_HAN.match, x + y)):
                found.append((x, y))
    return found


def listed(documents, converted, path: pathlib.Path, errors: int = 0) -> dict[str, dict[str, int]]:
    """Counts terms of a list where the reference has one of its forms and s2twp has another."""
    terms = dict(line.rstrip("\n").split("\t") for line in path.open(encoding="utf-8"))
    forms = {term: value.replace("臺", "台").split("|") for term, value in terms.items()}
    table: dict[str, collections.Counter[str]] = {}
    missed: collections.Counter[tuple[str, str]] = collections.Counter()
    for number, (source, _, pairs, _) in enumerate(documents):
        counts = table.setdefault(source, collections.Counter())
        for line, (mainland, reference) in enumerate(pairs):
            reference = reference.replace("臺", "台")
            s2twp = converted["s2twp"][number][line].replace("臺", "台")
            ours = converted["s2tw and overlay"][number][line].replace("臺", "台")
            for term, known in forms.items():
                if term not in mainland:
                    continue
                for form in known:
                    want = min(mainland.count(term), reference.count(form))
                    theirs, own = min(want, s2twp.count(form)), min(want, ours.count(form))
                    counts["s2twp errs"] += want - theirs
                    counts["ours right"] += max(0, own - theirs)
                    counts["only s2twp right"] += max(0, theirs - own)
                    missed[term, form] += want - own
    if errors:
        print("missed:", *(f"{x}/{y}:{n}" for (x, y), n in missed.most_common(errors) if n))
    return _with_total(table)


def _with_total(table: dict[str, collections.Counter[str]]) -> dict[str, dict[str, int]]:
    total = sum(table.values(), collections.Counter())
    return {name: dict(sorted(counts.items())) for name, counts in (table | {"all": total}).items()}


def speed(documents) -> dict[str, str]:
    """MB of UTF-8 in a CPU-second, the best of three."""
    texts = ["\n".join(cn for cn, _ in pairs) for _, _, pairs, _ in documents]
    size = sum(len(text.encode()) for text in texts) / 1e6
    table = {}
    for name, convert in candidates().items():
        seconds = []
        for _ in range(3):
            start = time.process_time()
            for text in texts:
                convert(text)
            seconds.append(time.process_time() - start)
        table[name] = f"{size / min(seconds):.1f} MB/s"
    return table


if __name__ == "__main__":
    main()
