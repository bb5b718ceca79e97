"""`twjax corpus train-classifier`: a model of quality from good and bad documents."""

from __future__ import annotations

import argparse
import pathlib
from collections.abc import Iterator


def add_train_classifier(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Adds the command to the subcommands of `twjax corpus`."""
    parser = subparsers.add_parser(
        "train-classifier",
        help="fit a quality model on good and bad documents",
        description="Fits a linear model that tells documents like --good from those like --bad, "
        "for the step QualityClassifier. Figures are of documents that weren't fitted.",
    )
    for side in ("good", "bad"):
        parser.add_argument(
            f"--{side}", nargs="+", required=True, type=pathlib.Path, metavar="FILE",
            help=f"{side} documents: corpus folders, or files that a corpus can read",
        )  # fmt: skip
    parser.add_argument("--output", required=True, type=pathlib.Path, metavar="FILE")
    parser.add_argument("--limit", type=int, default=50_000, help="documents a side at most")
    parser.add_argument("--bits", type=int, default=18, help="2^bits weights (default: 18)")
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--rate", type=float, default=0.5, help="AdaGrad's learning rate")
    parser.add_argument("--seed", type=int, default=0)


def run_train_classifier(args: argparse.Namespace) -> int:
    """Trains, writes the model and prints its figures."""
    from twjax import storage
    from twjax.corpus.quality import classifier

    good, bad = (_texts(paths, args.limit) for paths in (args.good, args.bad))
    model = classifier.train(
        good, bad, bits=args.bits, epochs=args.epochs, rate=args.rate, seed=args.seed, say=print
    )
    args.output.parent.mkdir(parents=True, exist_ok=True)
    model.save(args.output)
    about = model.about
    print(
        f"{args.output}: {args.output.stat().st_size:,} bytes, from {about['good']:,} good and "
        f"{about['bad']:,} bad documents; on {about['held_out']:,} others AUC {about['auc']:.4f}, "
        f"accuracy {about['accuracy']:.2%}, calibration error {about['calibration_error']:.2%}."
    )
    print(f"QualityClassifier.model = '{args.output}'")
    print(f"QualityClassifier.sha256 = '{storage.sha256_file(args.output)}'")
    return 0


def _texts(paths: list[pathlib.Path], limit: int) -> list[str]:
    """Reads texts evenly spread over all files, at most `limit`."""
    texts = [text for path in paths for text in _read(path)]
    if len(texts) <= limit:
        return texts
    return [texts[len(texts) * i // limit] for i in range(limit)]


def _read(path: pathlib.Path) -> Iterator[str]:
    from twjax.corpus import document
    from twjax.corpus.sources import reading

    if path.is_dir():
        yield from (item.text for item in document.read_corpus(path))
        return
    if not path.is_file():
        raise ValueError(f"{path}: no such file or corpus folder.")
    reading.check_format(path)
    for piece in reading.pieces(str(path), path, reading.PIECE_BYTES):
        documents, _ = reading.read(piece)
        yield from (item.text for item in documents)
