"""Token shares of a mixture: seqio's beside ours, of the same two corpora, over a stream of rows.

    python benchmarks/mixing.py [CORPUS CORPUS] [--vocabulary FILE] [--share 0.7] [--json FILE]

SeqIO samples examples at the given rates (`seqio.get_mixture_or_task(...).get_dataset`) and
`LMFeatureConverter(pack=True)` packs what comes; so the share of tokens follows the lengths of the
documents. Ours hands out rows of one corpus each. Printed are the shares of the first corpus over
the whole stream and the window of rows that is farthest from the target. The corpora are
folders made by `twjax corpus build`; without any, Taiwan's laws and general English are built into
a temporary folder, and so is a vocabulary.
"""

from __future__ import annotations

import functools
import os
import pathlib
import sys
import tempfile
import time
from typing import Any

import numpy as np
import prepare

os.environ.setdefault("JAX_PLATFORMS", "cpu")

SEQ_LEN = 1_024
ROWS = 4_096
WINDOW = 256


def main() -> int:
    parser = prepare.arguments(__doc__, "*", SEQ_LEN)
    parser.add_argument("--share", type=float, default=0.7, help="of the first corpus")
    parser.add_argument("--rows", type=int, default=ROWS)
    args = parser.parse_args()
    if len(args.corpora) not in (0, 2):
        parser.error("give two corpora, or none")

    from twjax.data.quiet import quiet_tensorflow

    quiet_tensorflow()
    with tempfile.TemporaryDirectory(prefix="twjax-mixing-") as scratch:
        folder = pathlib.Path(scratch)
        corpora = args.corpora or [
            prepare.build_corpus(n, folder) for n in ("tw_laws", "en_general")
        ]
        vocabulary = args.vocabulary or prepare.train_vocabulary(corpora, folder)
        readers = [
            prepare.cache_rows(name, corpus, vocabulary, args.seq_len, folder / "cache")
            for name, corpus in zip("ab", corpora, strict=True)
        ]
        streams = {
            "seqio": _seqios(corpora, vocabulary, args.share, args.rows, args.seq_len),
            "twjax": _ours(readers, args.share, args.rows),
        }
    lengths = [reader.info.tokens / reader.info.documents for reader in readers]
    print(
        f"{corpora[0].name} ({lengths[0]:,.0f} tokens a document) and {corpora[1].name} "
        f"({lengths[1]:,.0f}), {args.rows:,} rows of {args.seq_len:,}, windows of {WINDOW} rows"
    )
    print(f"{'share of ' + corpora[0].name:<24} {'target':>8} {'stream':>8} {'worst window':>13}")
    figures = {}
    for name, tokens in streams.items():
        windows = tokens.reshape(-1, WINDOW, 2).sum(axis=1)
        shares = windows[:, 0] / windows.sum(axis=1)
        worst = shares[np.abs(shares - args.share).argmax()]
        whole = tokens[:, 0].sum() / tokens.sum()
        figures[name] = {"target": args.share, "stream": whole, "worst_window": worst}
        print(f"{name:<24} {args.share:>8.2%} {whole:>8.2%} {worst:>13.2%}")
    figures["lookup_ms"] = _lookup_ms()
    print(
        "finding a batch of 1,024 rows among 20 tasks: "
        + ", ".join(f"{ms:.1f} ms at step {step}" for step, ms in figures["lookup_ms"].items())
    )
    prepare.save(figures, args.json)
    return 0


def _ours(readers: list[Any], share: float, rows: int) -> np.ndarray:
    """Returns int64 [rows, 2]: real tokens of each task in each row."""
    from twjax.data.mixture import MixtureIndex

    stages = [(0, {"a": share, "b": 1 - share})]
    sizes = {name: len(reader) for name, reader in zip("ab", readers, strict=True)}
    index = MixtureIndex(stages, sizes, block_rows=WINDOW)
    task, row = index.lookup(np.arange(rows))
    tokens = np.zeros((rows, 2), np.int64)
    for number, reader in enumerate(readers):
        here = np.flatnonzero(task == number)
        for part in np.array_split(here, max(1, len(here) // 512)):
            tokens[part, number] = (reader.read(row[part])["segment_ids"] > 0).sum(axis=1)
    return tokens


def _seqios(
    corpora: list[pathlib.Path], vocabulary: pathlib.Path, share: float, rows: int, seq_len: int
) -> np.ndarray:
    """Returns int64 [rows, 2]: real tokens of each task in each packed row."""
    import seqio

    from twjax.data.sources import CorpusSource, add_task

    pieces = seqio.SentencePieceVocabulary(str(vocabulary))
    for number, corpus in enumerate(corpora):
        add_task(
            f"mixing_{number}",
            source=CorpusSource(str(corpus), validation=0.0),
            preprocessors=[
                _targets,
                seqio.preprocessors.tokenize,
                seqio.preprocessors.append_eos,
                # Ids beyond the vocabulary say whose a token is once rows are packed.
                functools.partial(_shift, by=number * pieces.vocab_size),
            ],
            output_features={"targets": seqio.Feature(pieces)},
        )
    seqio.MixtureRegistry.add("mixing", [("mixing_0", share), ("mixing_1", 1 - share)])
    lengths = {"targets": seq_len}
    dataset = seqio.get_mixture_or_task("mixing").get_dataset(
        lengths, split="train", shuffle=True, seed=0, num_epochs=None
    )
    packed = seqio.LMFeatureConverter(pack=True)(dataset, lengths)
    tokens = np.zeros((rows, 2), np.int64)
    for number, row in enumerate(packed.take(rows).as_numpy_iterator()):
        real = row["decoder_segment_ids"] > 0
        second = row["decoder_target_tokens"] >= pieces.vocab_size
        tokens[number] = (real & ~second).sum(), (real & second).sum()
    return tokens


def _targets(dataset: Any) -> Any:
    import tensorflow as tf

    return dataset.map(lambda e: {"targets": e["text"]}, num_parallel_calls=tf.data.AUTOTUNE)


def _shift(dataset: Any, by: int) -> Any:
    return dataset.map(lambda example: {"targets": example["targets"] + by})


def _lookup_ms() -> dict[int, float]:
    from twjax.data.mixture import MixtureIndex

    names = [f"t{number}" for number in range(20)]
    weights = {name: number + 1.0 for number, name in enumerate(names)}
    stages = [(1_024_000 * stage, weights) for stage in range(5)]
    index = MixtureIndex(stages, dict.fromkeys(names, 10**7))
    found = {}
    for step in (0, 10**9):
        times = []
        for _ in range(5):
            begin = time.perf_counter()
            index.lookup(step * 1_024 + np.arange(1_024))
            times.append(time.perf_counter() - begin)
        found[step] = 1e3 * float(np.median(times))
    return found


if __name__ == "__main__":
    sys.exit(main())
