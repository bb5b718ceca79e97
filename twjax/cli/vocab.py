"""Trains a SentencePiece vocabulary from corpora, extends somebody's, or measures one on them.

twjax vocab train configs/corpora/quickstart_vocab.gin
twjax vocab extend meta-llama/Llama-2-7b build/corpora/tw_laws --size 8000 --output build/extended
twjax vocab report build/quickstart/vocab/tw.model build/quickstart/corpora/*
"""

from __future__ import annotations

import argparse
import pathlib

from twjax.cli import options

HELP = "train a vocabulary from corpora; extend one; report tokens per character"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    commands = parser.add_subparsers(
        dest="vocab_command", metavar="train|extend|report", required=True
    )
    train = commands.add_parser("train", help="train a SentencePiece model")
    options.add_config(train, "a gin file with a Vocabulary")
    train.add_argument("--output", metavar="FILE", help="instead of Vocabulary.output")
    train.add_argument("--fresh", action="store_true", help="train even if it is up to date")
    extend = commands.add_parser("extend", help="add Taiwanese pieces; old ids stay")
    extend.add_argument(
        "base", metavar="BASE", help="a SentencePiece model, tokenizer.json, or Hugging Face folder"
    )
    extend.add_argument("corpora", metavar="CORPUS", type=pathlib.Path, nargs="+")
    extend.add_argument("--size", type=int, required=True, help="new pieces")
    extend.add_argument("--output", metavar="DIR", required=True)
    report = commands.add_parser("report", help="tokens per character and byte, by corpus")
    report.add_argument("model", metavar="MODEL", type=pathlib.Path)
    report.add_argument("corpora", metavar="CORPUS", type=pathlib.Path, nargs="+")


def run(args: argparse.Namespace) -> int:
    return {"train": _train, "extend": _extend, "report": _report}[args.vocab_command](args)


def _train(args: argparse.Namespace) -> int:
    import dataclasses

    from twjax import config
    from twjax.vocab.train import train

    vocabulary = config.load(config.Vocabulary, [args.config], args.set).value
    if args.output:
        vocabulary = dataclasses.replace(vocabulary, output=args.output)
    trained = train(vocabulary, fresh=args.fresh)
    known = trained.provenance
    if not trained.fresh:
        print(f"{trained.path}: up to date ({vocabulary.size:,} pieces).")
        return 0
    print(
        f"{trained.path}: {vocabulary.size:,} pieces from {known['lines_used']:,} lines, "
        f"{known['bytes_used'] / 1e6:.1f} MB; {known['wall_seconds']:.1f} s."
    )
    return 0


def _extend(args: argparse.Namespace) -> int:
    from twjax.corpus.document import read_corpus
    from twjax.vocab.extend import extend

    texts = (document.text for corpus in args.corpora for document in read_corpus(corpus))
    made = extend(args.base, texts, args.size, args.output)
    print(f"{made.folder}: {made.old_size:,} old ids and {len(made.parts):,} new ones.")
    return 0


def _report(args: argparse.Namespace) -> int:
    from twjax.corpus.document import corpus_shards
    from twjax.vocab.report import measure

    print(f"{'corpus':<20} {'documents':>9} {'bytes':>13} {'tokens':>12} "
          f"{'bytes/token':>11} {'tokens/char':>11} {'byte pieces':>11}")  # fmt: skip
    for corpus in args.corpora:
        found = measure(args.model, corpus_shards(corpus))
        print(
            f"{corpus.resolve().name:<20} {found.documents:>9,} {found.bytes:>13,} "
            f"{found.tokens:>12,} {found.bytes / max(1, found.tokens):>11.3f} "
            f"{found.tokens / max(1, found.characters):>11.3f} "
            f"{found.byte_tokens / max(1, found.tokens):>11.2%}"
        )
    return 0
