"""Tokens a second of the cached-row loader beside seqio's own pipeline, on the same corpus.

    python benchmarks/loader.py [CORPUS] [--vocabulary FILE] [--json FILE]

Ours is `twjax.data.loader.batches`, rows in the mixture's order put on a device. SeqIO's is
`task.get_dataset` with its own SentencePieceVocabulary, `LMFeatureConverter(pack=True)` and
batching, unshuffled (a shuffle buffer would only slow it), iterated as NumPy. Both run over the
corpus EPOCHS times, start-up included, in turn, several times over; medians are printed. Tokens
are real ones, not padding. CORPUS is a folder made by `twjax corpus build`; without one the laws
in the repository are built into a temporary folder, and so is a vocabulary.
"""

from __future__ import annotations

import itertools
import os
import pathlib
import statistics
import sys
import tempfile
import time
from typing import Any

import numpy as np
import prepare

os.environ.setdefault("JAX_PLATFORMS", "cpu")

SEQ_LEN = 2_048
BATCH = 16


def main() -> int:
    parser = prepare.arguments(__doc__, "?", SEQ_LEN)
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--runs", type=int, default=3)
    args = parser.parse_args()

    from twjax.data.quiet import quiet_tensorflow

    quiet_tensorflow()
    with tempfile.TemporaryDirectory(prefix="twjax-loader-") as scratch:
        folder = pathlib.Path(scratch)
        corpus = args.corpora or prepare.build_corpus("tw_laws", folder)
        vocabulary = args.vocabulary or prepare.train_vocabulary([corpus], folder)
        prepare.cache_rows("benchmark", corpus, vocabulary, args.seq_len, folder / "cache")
        task = _task(corpus, vocabulary)
        runs: dict[str, list[dict[str, float]]] = {"twjax": [], "seqio": []}
        for _ in range(args.runs):
            runs["twjax"].append(_ours(folder / "cache", args.seq_len, args.epochs))
            runs["seqio"].append(_seqios(task, args.seq_len, args.epochs))
    median = {
        name: {key: statistics.median(run[key] for run in of) for key in of[0]}
        for name, of in runs.items()
    }
    print(
        f"{args.seq_len:,} tokens a row, {BATCH} rows a batch, {args.epochs} epochs; "
        f"{len(os.sched_getaffinity(0))} cores, medians of {args.runs}"
    )
    print(f"{'':<8} {'seconds':>8} {'first batch':>12} {'tokens':>12} {'tokens/s':>13}")
    for name, of in median.items():
        print(
            f"{name:<8} {of['seconds']:>8.3f} {of['first']:>10.3f} s {of['tokens']:>12,.0f} "
            f"{of['tokens_per_second']:>13,.0f}"
        )
    ratio = median["twjax"]["tokens_per_second"] / median["seqio"]["tokens_per_second"]
    print(f"twjax reads {ratio:.1f} x as many tokens a second")
    prepare.save({"median": median, "runs": runs, "ratio": ratio}, args.json)
    return 0


def _ours(cache: pathlib.Path, seq_len: int, epochs: int) -> dict[str, float]:
    import jax
    from jax.sharding import AxisType, NamedSharding, PartitionSpec

    from twjax.config.data import Data, Mixture
    from twjax.data.loader import batches, open_course

    mesh = jax.make_mesh((1,), ("data",), axis_types=(AxisType.Auto,), devices=jax.devices()[:1])
    sharding = NamedSharding(mesh, PartitionSpec("data"))
    start = time.perf_counter()
    data = Data(
        cache=str(cache),
        vocabulary="",
        mixture=Mixture(stages=((0, {"benchmark": 1.0}),), max_epochs=None),
        seq_len=seq_len,
        batch_size=BATCH,
    )
    readers, course = open_course(data)
    steps = epochs * len(readers[seq_len]["benchmark"]) // BATCH
    stream = batches(readers, course, sharding)
    found = itertools.islice(stream, steps)
    return _count(start, ((jax.block_until_ready(b), b["segment_ids"])[1] for b in found))


def _seqios(task: Any, seq_len: int, epochs: int) -> dict[str, float]:
    import seqio
    import tensorflow as tf

    start = time.perf_counter()
    lengths = {"targets": seq_len}
    dataset = task.get_dataset(lengths, split="train", shuffle=False, num_epochs=epochs)
    rows = seqio.LMFeatureConverter(pack=True)(dataset, lengths)
    stream = rows.batch(BATCH).prefetch(tf.data.AUTOTUNE).as_numpy_iterator()
    return _count(start, (batch["decoder_segment_ids"] for batch in stream))


def _count(start: float, batches: Any) -> dict[str, float]:
    """Iterates to the end; `start` is when opening began."""
    tokens, first = 0, 0.0
    for segment_ids in batches:
        first = first or time.perf_counter() - start
        tokens += int((np.asarray(segment_ids) > 0).sum())
    seconds = time.perf_counter() - start
    return {
        "seconds": seconds,
        "first": first,
        "tokens": tokens,
        "tokens_per_second": tokens / seconds,
    }


def _task(corpus: pathlib.Path, vocabulary: pathlib.Path) -> Any:
    import seqio

    from twjax.data.sources import CorpusSource

    return seqio.Task(
        "benchmark",
        source=CorpusSource(str(corpus), validation=0.0),
        preprocessors=[
            _targets,
            seqio.preprocessors.tokenize,
            seqio.preprocessors.append_eos,
        ],
        output_features={"targets": seqio.Feature(seqio.SentencePieceVocabulary(str(vocabulary)))},
    )


def _targets(dataset: Any) -> Any:
    import tensorflow as tf

    return dataset.map(lambda e: {"targets": e["text"]}, num_parallel_calls=tf.data.AUTOTUNE)


if __name__ == "__main__":
    sys.exit(main())
