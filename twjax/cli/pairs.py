"""Makes minimal pairs of your own texts, and checks files of pairs and probes.

  twjax pairs build build/corpora/tw_news --without build/corpora/tw_web --output build/pairs
  twjax pairs check configs/evaluations/*.jsonl

A pair is one real sentence of Taiwan and the same sentence with one word of the mainland, or in
Simplified characters; a probe is the beginning of a sentence with right and wrong ends.
`Suite.pairs` and `Suite.probes` name the files that a run is evaluated on. docs/localisation.md
says what the figures mean.
"""

from __future__ import annotations

import argparse
import pathlib

HELP = "make minimal pairs of Taiwan's texts; check files of pairs and probes"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    commands = parser.add_subparsers(dest="pairs_command", metavar="build|check", required=True)
    build = commands.add_parser(
        "build",
        help="make pairs of sentences in which a word, or the script, is the mainland's",
        description="Reads corpus folders, or any files that a corpus is built from. Texts in "
        "zh-TW, and parallel ones with a side in zh-TW, make pairs; where there is a side in "
        "zh-CN, it must have the mainland's word. Writes terms.jsonl and scripts.jsonl.",
    )
    build.add_argument("texts", metavar="PATH", nargs="+", help="a corpus folder or a file")
    build.add_argument(
        "--output", metavar="DIR", type=pathlib.Path, required=True, help="where to write the two"
    )
    build.add_argument(
        "--without", metavar="PATH", nargs="+", default=[],
        help="texts that models train on: their documents and sentences make no pairs",
    )  # fmt: skip
    build.add_argument(
        "--most", type=_count, default=3, metavar="N", help="pairs of one word (default: 3)"
    )
    build.add_argument(
        "--scripts", type=_count, default=200, metavar="N",
        help="pairs that differ in script (default: 200)",
    )  # fmt: skip
    check = commands.add_parser(
        "check",
        help="read files of pairs and probes and count what is in them",
        description="Ends with an error that names file, line and field if something is wrong.",
    )
    check.add_argument("files", metavar="FILE", nargs="+", type=pathlib.Path)


def _count(text: str) -> int:
    number = int(text)
    if number < 0:
        raise argparse.ArgumentTypeError(f"{number} is negative")
    return number


def run(args: argparse.Namespace) -> int:
    return _build(args) if args.pairs_command == "build" else _check(args)


def _build(args: argparse.Namespace) -> int:
    from collections import Counter

    from twjax import storage
    from twjax.evaluation import minimal_pairs
    from twjax.evaluation.pairs import write_pairs
    from twjax.progress import track

    output = storage.local_folder(args.output)

    def passages(paths: list[str], label: str, left_out: Counter[str], every: bool):
        documents = track(minimal_pairs.read(paths, left_out), None, label, "document")
        return minimal_pairs.passages(documents, left_out, every_language=every)

    left_out, unread = Counter[str](), Counter[str]()
    built = minimal_pairs.build(
        passages(args.texts, "read texts", left_out, False),
        without=passages(args.without, "read what to do without", unread, True),
        most=args.most,
        scripts=args.scripts,
    )
    left_out += built.left_out
    if not built.pairs:
        raise ValueError(
            f"{', '.join(args.texts)}: no sentence makes a pair; texts must have lang zh-TW. "
            f"Left out: {_listed(left_out)}."
        )
    for kind, name in (("term", "terms.jsonl"), ("script", "scripts.jsonl")):
        pairs = [pair for pair in built.pairs if pair.kind == kind]
        write_pairs(output / name, pairs)
        words = f" of {len({pair.term for pair in pairs})} words" if kind == "term" else ""
        print(f"{output / name}: {len(pairs)} pairs{words}")
    of = Counter((pair.source.partition(" ")[0], pair.license) for pair in built.pairs)
    for (source, license), number in of.most_common():
        print(f"  {number:>6,}  {source}  {license}")
    print(f"left out: {_listed(left_out)}")
    if unread:
        print(f"of --without: {_listed(unread)}")
    return 0


def _listed(counts: dict[str, int]) -> str:
    return ", ".join(f"{reason} {number:,}" for reason, number in sorted(counts.items()))


def _check(args: argparse.Namespace) -> int:
    from collections import Counter

    from twjax.evaluation import pairs

    for path in args.files:
        if pairs.holds_probes(path):
            probes = pairs.read_probes(path)
            groups = Counter(probe.group for probe in probes)
            languages = Counter(probe.lang for probe in probes)
            print(f"{path}: {len(probes)} probes ({_listed(languages)})")
            print(f"  {_listed(groups)}")
        else:
            found = pairs.read_pairs(path)
            kinds = Counter(pair.kind for pair in found)
            words = len({pair.term for pair in found if pair.term})
            print(f"{path}: {len(found)} pairs ({_listed(kinds)}), {words} words")
    return 0
