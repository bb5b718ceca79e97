"""Trains a vocabulary, adds pieces for Taiwan to somebody's, or shows how well some fit.

twjax vocab train configs/corpora/quickstart_vocab.gin
twjax vocab extend Llama-2-7b build/corpora/tw_laws --size 8000 --output build/extended
twjax vocab report Llama-2-7b build/extended build/corpora/* --html build/vocabularies.html
"""

from __future__ import annotations

import argparse
import pathlib
from typing import Any

from twjax.cli import options

HELP = "train a vocabulary from corpora; extend one; report how well some fit"

# For the cost of attention, which hardly depends on the vocabulary.
_SEQ_LEN = 2048

_EXTEND = """\
Adds pieces that the corpora ask for behind those of a tokenizer: Han characters and words,
Bopomofo, full-width punctuation, letters with tone of written Taigi. Every old id keeps its
meaning, and text without the new pieces keeps its ids.

BASE is a Hugging Face folder (all its tokenizer files come along, and tokenizer.json and
tokenizer.model are extended alike), or one SentencePiece model or tokenizer.json. CORPUS is a
folder made by `twjax corpus build`.

What to do with the result: cache rows and train with Data.vocabulary = 'DIR', and start from the
weights that BASE belongs to (Run.init); they get a row for each new id. docs/vocabulary.md has the
whole way.
"""

_REPORT = """\
Encodes corpora with each vocabulary and shows, by domain (a corpus is one): tokens per character
and per byte, and which share of the tokens are mere bytes; by script: which characters have an id
of their own; on texts in Taiwan's languages: how much shorter each vocabulary makes them than the
first one.

PATH is a vocabulary (a SentencePiece model, a tokenizer.json, or a folder with one) or a corpus
(a folder made by `twjax corpus build`); which is which is seen from the files. With --model the
embedding is read, and nothing else of the model: rows that are nearly zero or the same as another,
which a run is better started without.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    commands = parser.add_subparsers(
        dest="vocab_command", metavar="train|extend|report", required=True
    )
    train = commands.add_parser("train", help="train a SentencePiece model")
    options.add_config(train, "a gin file with a Vocabulary")
    train.add_argument("--output", metavar="FILE", help="instead of Vocabulary.output")
    train.add_argument("--fresh", action="store_true", help="train even if it is up to date")
    raw = argparse.RawDescriptionHelpFormatter
    extend = commands.add_parser(
        "extend",
        help="add pieces for Taiwan to a tokenizer; old ids stay",
        description=_EXTEND,
        formatter_class=raw,
    )
    extend.add_argument("base", metavar="BASE", help="the tokenizer to extend; it isn't changed")
    extend.add_argument(
        "corpora", metavar="CORPUS", type=pathlib.Path, nargs="+", help="texts to find pieces in"
    )
    extend.add_argument(
        "--size", type=int, required=True, metavar="N",
        help="new pieces at most; 8000 to 30000 is usual",
    )  # fmt: skip
    extend.add_argument("--output", metavar="DIR", required=True, help="the folder to make")
    extend.add_argument(
        "--characters", metavar="FILE", type=pathlib.Path,
        help="text whose characters all get a piece, however rare (Hakka and Taigi Han …)",
    )  # fmt: skip
    report = commands.add_parser(
        "report",
        help="tokens per character by domain, coverage by script, untrained rows",
        description=_REPORT,
        formatter_class=raw,
    )
    report.add_argument(
        "paths", metavar="PATH", type=pathlib.Path, nargs="+", help="vocabularies and corpora"
    )
    report.add_argument(
        "--model", metavar="DIR", type=pathlib.Path, action="append", default=[],
        help="look at the rows of a run, imported model or Hugging Face folder; may be repeated",
    )  # fmt: skip
    report.add_argument("--json", metavar="FILE", type=pathlib.Path, help="write all figures")
    report.add_argument(
        "--html", metavar="FILE", type=pathlib.Path, help="write a page with charts"
    )


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
    from twjax.corpus.document import corpus_shards, read_corpus
    from twjax.vocab.extend import extend
    from twjax.vocab.extend_pieces import ALWAYS
    from twjax.vocab.tokenizer_load import load_vocabulary

    for corpus in args.corpora:
        corpus_shards(corpus)
    characters = args.characters.read_text(encoding="utf-8") if args.characters else ""
    texts = (document.text for corpus in args.corpora for document in read_corpus(corpus))
    made = extend(args.base, texts, args.size, args.output, characters=characters)
    new = len(made.parts)
    print(f"{args.output}: {made.old_size:,} old ids and {new:,} new ones.")
    if new < args.size:
        print(f"  the corpora hold no more pieces that occur twice ({args.size:,} were asked for)")
    # A lone file may have a name that a folder isn't searched for.
    place = pathlib.Path(args.output)
    place = place if pathlib.Path(args.base).is_dir() else place / next(iter(made.made))
    asked = dict.fromkeys((*ALWAYS, *"".join(characters.split())))
    whole = set(load_vocabulary(place).bytes_of_ids)
    if left := "".join(c for c in asked if c.encode() not in whole):
        print(
            f"  {len(left)} characters got no id of their own ({left[:12]}): their bytes begin "
            "other scripts too, or the tokenizer normalizes them"
        )
    print(
        f"  to train with it:  Data.vocabulary = '{place}'  and  Model.vocab_size = {made.size}"
        "  (or the base's number of rows, if that is more)"
    )
    return 0


def _report(args: argparse.Namespace) -> int:
    from twjax.models.network import network
    from twjax.planning.flops import model_flops_per_token
    from twjax.report.embedding import model_rows
    from twjax.report.vocabulary import as_values, notes, tables, write_page
    from twjax.storage import write_json
    from twjax.vocab.report import survey
    from twjax.vocab.tokenizer_load import load_vocabulary

    corpora = [path for path in args.paths if _is_corpus(path)]
    vocabularies = [path for path in args.paths if path not in corpora]
    if not vocabularies or not corpora:
        lacks, other = ("vocabulary", "corpora") if not vocabularies else ("corpus", "vocabularies")
        raise ValueError(
            f"{args.paths[0]}: no {lacks} is named, only {other}; a corpus is a folder with a "
            "manifest.json, as `twjax corpus build` writes it."
        )
    from twjax.corpus.document import corpus_shards

    loaded = _named(vocabularies, {path: load_vocabulary(path) for path in vocabularies})
    domains = _named(corpora, {path: corpus_shards(path) for path in corpora})
    rows = _named(args.model, {path: model_rows(path) for path in args.model})

    def cost(model: Any) -> float:
        return model_flops_per_token(model, network(model).specs, _SEQ_LEN)

    report = as_values(loaded, survey(loaded, domains), rows, cost)
    for heading, lines in tables(report):
        print(f"\n{heading}")
        _print(lines)
    print()
    for note in notes(report):
        print(note)
    if args.json:
        write_json(args.json, report)
    if args.html:
        write_page(report, args.html)
        print(f"{args.html}: the page")
    return 0


def _print(lines: list[tuple[str, ...]]) -> None:
    """Prints columns, those of numbers aligned at their ends."""
    columns = list(zip(*lines, strict=True))
    widths = [max(map(len, column)) for column in columns]
    right = [all(cell[:1].isdigit() or cell in ("", "–") for cell in column[1:])
             for column in columns]  # fmt: skip
    for line in lines:
        cells = [
            cell.rjust(width) if end else cell.ljust(width)
            for cell, width, end in zip(line, widths, right, strict=True)
        ]
        print("  ".join(cells).rstrip())


def _is_corpus(path: pathlib.Path) -> bool:
    return (path / "manifest.json").is_file()


def _named(paths: list[pathlib.Path], values: dict[pathlib.Path, Any]) -> dict[str, Any]:
    """Returns values by the paths' last parts, as many as tell them apart."""
    whole = {path: path.resolve().parts for path in paths}
    for depth in range(1, max(map(len, whole.values()), default=1) + 1):
        names = {path: "/".join(parts[-depth:]) for path, parts in whole.items()}
        if len(set(names.values())) == len(values):
            break
    return {names[path]: value for path, value in values.items()} if paths else {}
