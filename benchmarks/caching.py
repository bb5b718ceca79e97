"""Caching beside seqio's own pipeline on the same corpus: tokens a second, and padding.

    python benchmarks/caching.py [CORPUS] [--vocabulary FILE] [--json FILE]

Ours is all of `twjax tasks cache`: documents read, tokenised, packed best-fit, written and synced
as ArrayRecord. SeqIO's is `task.get_dataset` and `LMFeatureConverter(pack=True)` with its own
SentencePieceVocabulary, iterated to the end, nothing written: once as it is, where documents
longer than a row lose their rest, and once with them split before packing. All three see the
whole corpus, run in turn several times over, and medians are printed. CORPUS is a folder made by
`twjax corpus build`; without one, the laws in the repository are built into a temporary folder,
and so is a vocabulary.
"""

from __future__ import annotations

import os
import pathlib
import shutil
import statistics
import sys
import tempfile
import time
from typing import Any

import prepare

SEQ_LEN = 2_048
NAMES = {
    "twjax": "twjax, rows on disk",
    "seqio": "seqio, long documents cut off",
    "seqio_split": "seqio, long documents split",
}


def main() -> int:
    parser = prepare.arguments(__doc__, "?", SEQ_LEN)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--workers", type=int, default=len(os.sched_getaffinity(0)))
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="twjax-caching-") as scratch:
        folder = pathlib.Path(scratch)
        corpus = args.corpora or prepare.build_corpus("tw_laws", folder)
        vocabulary = args.vocabulary or prepare.train_vocabulary([corpus], folder)
        figures = measure(folder, corpus, vocabulary, args.seq_len, args.runs, args.workers)
    _print(figures)
    prepare.save(figures, args.json)
    return 0


def measure(
    folder: pathlib.Path,
    corpus: pathlib.Path,
    vocabulary: pathlib.Path,
    seq_len: int,
    runs: int,
    workers: int,
) -> dict[str, Any]:
    """Runs both in turn; returns medians and every run's figures."""
    from twjax.data.quiet import quiet_tensorflow

    quiet_tensorflow()
    from twjax.data.sources import CorpusSource

    source = CorpusSource(str(corpus), validation=0.0)
    results: dict[str, list[dict[str, float]]] = {name: [] for name in NAMES}
    cache = folder / "cache"
    for _ in range(runs):
        results["twjax"].append(_ours(cache, source.corpus, vocabulary, seq_len, workers))
        results["seqio"].append(_seqios(source, vocabulary, seq_len, split=False))
        results["seqio_split"].append(_seqios(source, vocabulary, seq_len, split=True))
    return {
        "corpus": str(corpus),
        "documents": source.corpus.documents,
        "seq_len": seq_len,
        "workers": workers,
        "cores": len(os.sched_getaffinity(0)),
        "median": {
            name: {key: statistics.median(run[key] for run in of) for key in of[0]}
            for name, of in results.items()
        },
        "runs": results,
    }


def _ours(
    cache: pathlib.Path, corpus: Any, vocabulary: pathlib.Path, seq_len: int, workers: int
) -> dict[str, float]:
    from twjax.data.cache import build
    from twjax.data.examples import CorpusTask
    from twjax.data.request import Request

    shutil.rmtree(cache, ignore_errors=True)
    start = time.perf_counter()
    task = CorpusTask("benchmark", corpus)
    info = build(Request(task, "train", seq_len, str(vocabulary)), cache, workers=workers).info
    seconds = time.perf_counter() - start
    return _figures(seconds, info.rows, info.tokens, seq_len)


def _seqios(source: Any, vocabulary: pathlib.Path, seq_len: int, split: bool) -> dict[str, float]:
    import seqio
    import tensorflow as tf

    start = time.perf_counter()
    pieces = seqio.SentencePieceVocabulary(str(vocabulary))
    task = seqio.Task(
        "benchmark",
        source=source,
        preprocessors=[
            _targets,
            seqio.preprocessors.tokenize,
            seqio.preprocessors.append_eos,
        ],
        output_features={"targets": seqio.Feature(pieces)},
    )
    lengths = {"targets": seq_len}
    dataset = task.get_dataset(
        lengths, split="train", shuffle=False, trim_output_features=not split
    )
    if split:
        slices: Any = tf.data.Dataset.from_tensor_slices
        dataset = dataset.flat_map(
            lambda example: slices({"targets": _chunks(example["targets"], seq_len)})
        )
    converter = seqio.LMFeatureConverter(pack=True)
    rows = tokens = 0
    for row in converter(dataset, lengths).prefetch(tf.data.AUTOTUNE).as_numpy_iterator():
        rows += 1
        tokens += int((row["decoder_segment_ids"] > 0).sum())
    return _figures(time.perf_counter() - start, rows, tokens, seq_len)


def _targets(dataset: Any) -> Any:
    import tensorflow as tf

    return dataset.map(lambda e: {"targets": e["text"]}, num_parallel_calls=tf.data.AUTOTUNE)


def _chunks(ids: Any, size: int) -> Any:
    import tensorflow as tf

    bounds = tf.concat([tf.range(0, tf.size(ids), size), [tf.size(ids)]], 0)
    return tf.RaggedTensor.from_row_splits(ids, bounds, validate=False)  # pyright: ignore


def _figures(seconds: float, rows: int, tokens: int, seq_len: int) -> dict[str, float]:
    return {
        "seconds": seconds,
        "rows": rows,
        "tokens": tokens,
        "tokens_per_second": tokens / seconds,
        "pad_fraction": 1 - tokens / (rows * seq_len),
    }


def _print(figures: dict[str, Any]) -> None:
    print(
        f"{figures['corpus']}: {figures['documents']:,} documents at {figures['seq_len']:,} tokens "
        f"a row; {figures['cores']} cores, medians of {len(figures['runs']['twjax'])}"
    )
    print(f"{'':<30} {'seconds':>8} {'tokens':>12} {'tokens/s':>11} {'rows':>8} {'padding':>8}")
    for key, name in NAMES.items():
        of = figures["median"][key]
        print(
            f"{name:<30} {of['seconds']:>8.2f} {of['tokens']:>12,.0f} "
            f"{of['tokens_per_second']:>11,.0f} {of['rows']:>8,.0f} {of['pad_fraction']:>8.2%}"
        )


if __name__ == "__main__":
    sys.exit(main())
