"""Builds a corpus folder from raw documents, or shows what one holds.

  twjax corpus build configs/corpora/tw_laws.gin
  twjax corpus inspect build/quickstart/corpora/tw_laws

A build continues where an interrupted one stopped, and does nothing when inputs, configuration
and versions are those of the corpus that is there.
"""

from __future__ import annotations

import argparse
import json
import pathlib
from typing import Any

from twjax.cli import options

HELP = "build a corpus from raw documents; inspect one"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    commands = parser.add_subparsers(dest="corpus_command", metavar="build|inspect", required=True)
    build = commands.add_parser("build", help="read, clean and write documents")
    options.add_config(build, "a file below configs/corpora/, or any gin file with a Corpus")
    build.add_argument("--output", metavar="DIR", help="instead of Corpus.output")
    build.add_argument("--workers", type=_positive, metavar="N", help="processes (default: cores)")
    build.add_argument("--fresh", action="store_true", help="start over; reuse nothing")
    inspect = commands.add_parser("inspect", help="print counts, licences and samples")
    inspect.add_argument("folder", metavar="DIR", type=pathlib.Path)
    inspect.add_argument("--samples", type=int, default=3, metavar="N", help="documents to show")


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{number} is not positive")
    return number


def run(args: argparse.Namespace) -> int:
    return _build(args) if args.corpus_command == "build" else _inspect(args)


def _build(args: argparse.Namespace) -> int:
    import dataclasses

    from twjax import config
    from twjax.corpus import pipeline
    from twjax.corpus.convert import ConvertSimplified
    from twjax.corpus.dedup import ExactDedup
    from twjax.corpus.length import MinLength
    from twjax.corpus.normalize import NormalizeText

    steps = (NormalizeText, ConvertSimplified, ExactDedup, MinLength)
    corpus = config.load(pipeline.Corpus, [args.config], args.set, classes=steps).value
    inputs = tuple(name for pattern in corpus.inputs for name in _expand(pattern))
    corpus = dataclasses.replace(corpus, inputs=inputs, output=args.output or corpus.output)
    built = pipeline.build(corpus, locate=_locate, workers=args.workers, fresh=args.fresh)
    if not built.fresh:
        print(f"{built.folder}: up to date ({built.manifest['counts']['documents']:,} documents).")
        return 0
    manifest = built.manifest
    counts = manifest["counts"]
    rejected = sum(counts["rejected"].values())
    print(
        f"{built.folder}: {counts['documents']:,} documents, {counts['bytes'] / 1e6:.2f} MB in "
        f"{len(manifest['shards'])} shards; {rejected:,} rejected; "
        f"{manifest['wall_seconds']:.1f} s, {manifest['megabytes_per_second']:.1f} MB/s."
    )
    for reason, number in counts["rejected"].items():
        print(f"  rejected: {reason}: {number:,}")
    return 0


def _locate(name: str) -> pathlib.Path:
    """Finds an input from the working directory, else beside the configs that ship with twjax."""
    from twjax.config.loader import CONFIG_ROOTS

    path = pathlib.Path(name)
    if path.exists() or path.is_absolute():
        return path
    tail = pathlib.Path(*path.parts[1:]) if path.parts[:1] == ("configs",) else path
    for root in CONFIG_ROOTS:
        if (root / tail).exists():
            return root / tail
    return path


def _expand(pattern: str) -> list[str]:
    """Returns the files that a name with wildcards stands for, in order of their names."""
    import glob

    if not glob.has_magic(pattern) or pathlib.Path(pattern).exists():
        return [pattern]
    found = sorted(glob.glob(pattern, recursive=True))
    if not found:
        raise ValueError(f"Corpus.inputs: nothing matches {pattern}.")
    return found


def _inspect(args: argparse.Namespace) -> int:
    from twjax import storage
    from twjax.corpus.document import corpus_shards

    shards = corpus_shards(args.folder)
    manifest = storage.read_json(args.folder / "manifest.json")
    counts = manifest["counts"]
    print(f"{manifest['name']}  {args.folder}  fingerprint {manifest['fingerprint'][:16]}")
    print(
        f"{counts['documents']:,} documents, {counts['bytes']:,} bytes of text, "
        f"{len(shards)} shards, from {counts['records']:,} records in "
        f"{len(manifest['inputs'])} files\n"
    )
    rows = [("read", counts["records"], counts["documents_in"], _reading_rejects(manifest), "")]
    for step in manifest["steps"]:
        rejected, changed = _pairs(step["rejected"]), _pairs(step["changed"])
        rows.append((step["name"], step["in"], step["out"], rejected, changed))
    _table(("step", "in", "out", "rejected", "changed"), rows)
    print()
    licenses = manifest["licenses"].items()
    _table(
        ("license", "documents", "bytes"), [(k, v["documents"], v["bytes"]) for k, v in licenses]
    )
    print(f"\nlanguages: {_pairs(manifest['languages'])}")
    for line in _samples(shards, counts["documents"], args.samples):
        print(line)
    return 0


def _reading_rejects(manifest: dict[str, Any]) -> str:
    rejected = dict(manifest["counts"]["rejected"])
    for step in manifest["steps"]:
        for reason, number in step["rejected"].items():
            rejected[reason] -= number
    return _pairs({reason: number for reason, number in rejected.items() if number})


def _pairs(counts: dict[str, int]) -> str:
    return ", ".join(f"{name} {number:,}" for name, number in counts.items())


def _table(header: tuple[str, ...], rows: list[tuple[Any, ...]]) -> None:
    texts = [[f"{v:,}" if isinstance(v, int) else str(v) for v in row] for row in (header, *rows)]
    widths = [max(map(len, column)) for column in zip(*texts, strict=True)]
    for row, values in zip(texts, (header, *rows), strict=True):
        cells = [
            text.rjust(width) if isinstance(value, int) else text.ljust(width)
            for text, width, value in zip(row, widths, values, strict=True)
        ]
        print("  ".join(cells).rstrip())


def _samples(shards: list[pathlib.Path], documents: int, number: int) -> list[str]:
    """Returns the beginnings of documents spread evenly over the corpus."""
    from twjax.corpus.document import read_parquet

    number = min(number, documents)
    wanted = {documents * i // number for i in range(number)} if number > 0 else set()
    lines, index = [], 0
    for shard in shards:
        for item in read_parquet(shard):
            if index in wanted:
                beginning = json.dumps(item.text[:100], ensure_ascii=False)
                lines.append(f"\n{item.id}  [{item.lang}, {item.license}]\n  {beginning}")
            index += 1
    return lines
