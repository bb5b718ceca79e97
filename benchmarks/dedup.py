"""Near de-duplication: recall and precision against brute force, speed beside datatrove, memory.

    python benchmarks/dedup.py --data DIR [--part quality speed memory] [--json FILE]
        [--datatrove-python PYTHON]

`quality`: 5,000 real documents and generated near copies, all pairs compared by brute force on
Python's own strings. `speed`: CPU seconds from texts to clusters, on the same laws in the same run,
for our two rounds and for datatrove's four MinHash stages (of which the last writes what is kept)
with the settings of FineWeb-2 for Chinese; datatrove runs in an environment of its own
(datatrove[io] 0.10.1, spacy, jieba), whose interpreter is PYTHON. Imports aren't counted, nor is
what a run of datatrove takes with one document. `memory`: the
peak of resident memory on 2 million short documents, and what 50 million take. DIR holds the real
data (tw_laws_zh.jsonl.gz, …).
"""

from __future__ import annotations

import argparse
import json
import pathlib
import subprocess
import sys
import tempfile
import time
from typing import Any

import numpy as np

THRESHOLD = 0.8


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=pathlib.Path, required=True)
    parser.add_argument("--part", nargs="+", default=["quality", "speed", "memory"])
    parser.add_argument("--documents", type=int, default=5_000, help="for quality")
    parser.add_argument("--bands", type=int, nargs="+", default=[14])
    parser.add_argument("--rows", type=int, nargs="+", default=[8])
    parser.add_argument("--laws", type=int, default=1_500, help="for speed")
    parser.add_argument("--datatrove-python", help="without it only our own speed is measured")
    parser.add_argument("--synthetic", type=int, default=2_000_000, help="documents, for memory")
    parser.add_argument("--budget-mib", type=int, default=256, help="for memory")
    parser.add_argument("--json", type=pathlib.Path, help="write the figures there as well")
    args = parser.parse_args()
    figures: dict[str, Any] = {}
    if "quality" in args.part:
        figures["quality"] = quality(args)
    if "speed" in args.part:
        figures["speed"] = speed(args)
    if "memory" in args.part:
        figures["memory"] = memory(args)
    if args.json:
        text = json.dumps(figures, indent=2, ensure_ascii=False)
        args.json.write_text(text + "\n", encoding="utf-8")
    return 0


def _documents(texts: list[str]) -> list[Any]:
    from twjax.corpus.document import Document

    return [
        Document(id=str(i), text=text, source="s", license="unknown", lang="zh-TW")
        for i, text in enumerate(texts)
    ]


def quality(args: argparse.Namespace) -> list[dict[str, Any]]:
    """Compares clusters with those of all truly similar pairs."""
    import near_copies

    from twjax.corpus.duplicates.clusters import Clusters
    from twjax.corpus.duplicates.near import NearDedup

    texts, kinds = near_copies.documents(args.data, args.documents, seed=1)
    start = time.process_time()
    pairs = np.array([*near_copies.similar_pairs(texts, 0.5)])
    print(f"brute force: {time.process_time() - start:.0f} CPU-s, {len(pairs):,} pairs ≥ 0.5")
    true = pairs[pairs[:, 2] >= THRESHOLD]
    ends = true[:, :2].astype(np.int64).T
    truth = Clusters(np.zeros(len(texts), np.int64))
    truth.join(*ends)
    clusters = truth.roots(np.arange(len(texts)))
    similar = {(int(i), int(j)) for i, j, _ in true}
    close = true[:, 2] < 0.85
    found = []
    for bands, rows in zip(args.bands, args.rows, strict=True):
        step = NearDedup(bands=bands, rows=rows, threshold=THRESHOLD)
        keeper = _keepers(step, texts)
        same = keeper[ends[0]] == keeper[ends[1]]
        figure: dict[str, Any] = {
            "bands": bands,
            "rows": rows,
            "similar pairs": len(true),
            "recall of pairs": float(same.mean()),
            "recall of pairs by their bands alone": float(_by_bands(step, texts, ends).mean()),
            "pairs of 0.80–0.85": int(close.sum()),
            "recall of pairs of 0.80–0.85": float(same[close].mean()),
            **_drops(keeper, clusters, clusters, similar),
        }
        for kind in sorted(set(kinds)):
            of = np.array([k == kind for k in kinds])
            mine = of[ends[0]] | of[ends[1]]
            figure[f"recall of pairs with {kind}"] = float(same[mine].mean())
        print(f"\n{len(texts):,} documents, {bands} bands × {rows}, similarity ≥ {THRESHOLD}")
        _print(figure)
        found.append(figure)
    step = NearDedup(bands=args.bands[0], rows=args.rows[0], threshold=THRESHOLD, linkage="kept")
    figure = _drops(_keepers(step, texts), _greedy(len(texts), similar), clusters, similar)
    print('\nlinkage "kept"')
    _print(figure)
    return [*found, figure]


def _print(figure: dict[str, Any]) -> None:
    for name, value in figure.items():
        print(f"  {name:<42} " + (f"{value:.4f}" if isinstance(value, float) else f"{value:,}"))


def _keepers(step: Any, texts: list[str]) -> np.ndarray:
    """Returns int64 [texts]: which text stays for each."""
    keeper = np.arange(len(texts))
    for rejection in step.apply(_documents(texts)).rejected:
        keeper[int(rejection.document.id)] = int(rejection.value)
    return keeper


def _greedy(count: int, similar: set[tuple[int, int]]) -> np.ndarray:
    """Returns which text stays for each if one goes only for one that stays."""
    neighbours: dict[int, list[int]] = {}
    for i, j in sorted(similar):
        neighbours.setdefault(j, []).append(i)
    keeper = np.arange(count)
    for j in range(count):
        keeper[j] = next((i for i in neighbours.get(j, ()) if keeper[i] == i), j)
    return keeper


def _drops(
    keeper: np.ndarray, expected: np.ndarray, clusters: np.ndarray, similar: set[tuple[int, int]]
) -> dict[str, Any]:
    """Compares what goes with what should go."""
    gone, should = keeper != np.arange(len(keeper)), expected != np.arange(len(keeper))
    pairs = [(min(i, k), max(i, k)) for i, k in enumerate(keeper.tolist()) if i != k]
    return {
        "dropped": int(gone.sum()),
        "recall of drops": float((gone & should).sum() / should.sum()),
        "precision of drops": float((gone & should).sum() / gone.sum()),
        "in the true cluster of the kept one": float((clusters == clusters[keeper])[gone].mean()),
        "itself similar to the kept one": float(np.mean([pair in similar for pair in pairs])),
    }


def _by_bands(step: Any, texts: list[str], ends: np.ndarray) -> np.ndarray:
    """Returns whether each pair shares a key, or all letters."""
    records = step.map(0, _documents(texts), None)
    place = np.full(len(texts), -1)
    place[records["document"]] = np.arange(len(records))
    one, other = records[place[ends[0]]], records[place[ends[1]]]
    sized = (one["size"] > 0) & (other["size"] > 0)
    return (one["keys"] == other["keys"]).any(axis=1) & sized | (one["whole"] == other["whole"])


def speed(args: argparse.Namespace) -> dict[str, Any]:
    """Measures CPU seconds from texts to clusters, ours and datatrove's in turn."""
    import near_copies

    texts = near_copies.read(args.data, "tw_laws_zh", args.laws)
    size = sum(len(text.encode()) for text in texts) / 1e6
    ours = [_our_seconds(texts) for _ in range(3)]
    figures: dict[str, Any] = {"documents": len(texts), "megabytes": size}
    best = min(ours, key=lambda each: sum(each.values()))
    figures["twjax"] = best
    total = sum(best.values())
    print(f"\n{len(texts):,} laws, {size:.1f} MB; CPU seconds on one core")
    print(f"  twjax      {total:8.2f}   {_parts(best)}; {_rates(len(texts), size, total)}")
    if args.datatrove_python:
        fixed = their_seconds(args.datatrove_python, texts[:1])
        theirs = their_seconds(args.datatrove_python, texts)
        theirs = {name: theirs[name] - fixed[name] for name in theirs}
        figures["datatrove"], figures["datatrove, start-up left out"] = theirs, fixed
        peer = sum(theirs.values())
        again = _our_seconds(texts)
        figures["twjax, behind datatrove"] = again
        print(f"  datatrove  {peer:8.2f}   {_parts(theirs)}; {_rates(len(texts), size, peer)}")
        print(f"             {sum(fixed.values()):8.2f}   left out: its start-up (one document)")
        print(f"  twjax      {sum(again.values()):8.2f}   again, behind datatrove")
        figures["ratio"] = peer / max(total, sum(again.values()))
        print(f"  twjax is {figures['ratio']:.0f} × as fast, by the slower of its runs")
    return figures


def their_seconds(python: str, texts: list[str]) -> dict[str, float]:
    """Returns CPU seconds by stage of datatrove."""
    with tempfile.TemporaryDirectory(prefix="twjax-dedup-") as folder:
        path = pathlib.Path(folder, "in")
        path.mkdir()
        lines = [json.dumps({"text": t, "id": str(i)}) + "\n" for i, t in enumerate(texts)]
        (path / "laws.jsonl").write_text("".join(lines), encoding="utf-8")
        script = pathlib.Path(__file__).with_name("dedup_datatrove.py")
        done = subprocess.run([python, str(script), folder], capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"datatrove failed: {done.stderr[-2000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def _rates(documents: int, size: float, seconds: float) -> str:
    return f"{documents / seconds:,.1f} documents/s, {size / seconds:.2f} MB/s"


def _parts(seconds: dict[str, float]) -> str:
    return ", ".join(f"{name} {value:.2f}" for name, value in seconds.items())


def _our_seconds(texts: list[str]) -> dict[str, float]:
    """Returns CPU seconds by stage; units of 250 documents, as a build has them."""
    from twjax.corpus.duplicates import shingles
    from twjax.corpus.duplicates.near import NearDedup
    from twjax.corpus.step import Records, keepers

    shingles.letters()  # Made once a process.
    step, documents = NearDedup(), _documents(texts)
    units = [documents[i : i + 250] for i in range(0, len(documents), 250)]
    request: list[Any] = [None] * len(units)
    seconds: dict[str, float] = {}
    names = ("signatures", "candidates", "n-grams of candidates", "similarity and clusters")
    with tempfile.TemporaryDirectory(prefix="twjax-dedup-") as folder:
        for round in range(2):
            start = time.process_time()
            mapped = [step.map(round, u, r) for u, r in zip(units, request, strict=True)]
            middle = time.process_time()
            scratch = pathlib.Path(folder, str(round))
            scratch.mkdir()
            request = list(step.reduce(round, Records(mapped, [len(u) for u in units]), scratch))
            seconds[names[2 * round]] = middle - start
            seconds[names[2 * round + 1]] = time.process_time() - middle
    start = time.process_time()
    for unit, decision in zip(units, request, strict=True):
        step.decide(unit, decision, {int(n): str(n) for n in keepers(decision)})
    seconds["drop"] = time.process_time() - start
    return seconds


def memory(args: argparse.Namespace) -> dict[str, Any]:
    """Measures the peak of resident memory on synthetic documents, in a process of its own."""
    script = pathlib.Path(__file__).with_name("dedup_memory.py")
    command = [sys.executable, str(script), str(args.synthetic), str(args.budget_mib)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    figures = json.loads(done.stdout.splitlines()[-1])
    print(f"\n{args.synthetic:,} synthetic documents, budget {args.budget_mib} MiB")
    for name, value in figures.items():
        print(f"  {name:<48} " + (f"{value:,.1f}" if isinstance(value, float) else f"{value:,}"))
    return figures


if __name__ == "__main__":
    sys.exit(main())
