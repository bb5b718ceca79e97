"""The commands that look into a finished corpus: `inspect`, `diff` and `sample`."""

from __future__ import annotations

import argparse
import json
import pathlib
import sys
from collections.abc import Mapping, Sequence
from typing import Any


def add_commands(commands: Any) -> None:
    """Adds the three to the sub-commands of `twjax corpus`."""
    inspect = commands.add_parser(
        "inspect",
        help="print counts and licences; write and open a page with examples",
        description="Prints what each step did and what is in a corpus, and writes inspect.html "
        "with examples of what was kept, dropped and changed, to be searched in a browser.",
    )
    inspect.add_argument("folder", metavar="DIR", type=pathlib.Path)
    inspect.add_argument(
        "--samples",
        type=_count,
        default=12,
        metavar="N",
        help="examples of each (default 12)",
    )
    inspect.add_argument(
        "--html", metavar="FILE", type=pathlib.Path, help="the page (default: DIR/inspect.html)"
    )
    inspect.add_argument("--no-open", action="store_true", help="don't open a browser")
    diff = commands.add_parser(
        "diff",
        help="print what was replaced, with what stands around it",
        description="Prints the edits that steps listed, one a line, the most frequent "
        "replacements first; with --all in the order of the documents.",
    )
    diff.add_argument("folder", metavar="DIR", type=pathlib.Path)
    diff.add_argument("--step", help="only this step's")
    diff.add_argument("--kind", help="only of this kind")
    diff.add_argument("--id", help="only in this document")
    diff.add_argument("--all", action="store_true", help="each edit by itself")
    diff.add_argument("--limit", type=_count, default=40, metavar="N", help="lines (default 40)")
    sample = commands.add_parser(
        "sample",
        help="print documents drawn evenly, as JSON lines",
        description="Draws documents by a hash of their ids, the same ones at every call.",
    )
    sample.add_argument("folder", metavar="DIR", type=pathlib.Path)
    sample.add_argument("--number", "-n", type=_count, default=10, metavar="N")
    which = sample.add_mutually_exclusive_group()
    which.add_argument("--rejected", metavar="REASON", help="of the rejected ones; '' for any")
    which.add_argument(
        "--decision",
        metavar="NAME",
        help="cases of one decision, to judge them: a reason ('near duplicate'), a kind of edit "
        "('convert_simplified phrase'), or a label ('region=mul')",
    )
    sample.add_argument("--seed", type=int, default=0, help="with --decision: draw others")


def _count(text: str) -> int:
    number = int(text)
    if number < 0:
        raise argparse.ArgumentTypeError(f"{number} is negative")
    return number


def run(args: argparse.Namespace) -> int:
    """Runs the one that was asked for."""
    from twjax import storage
    from twjax.corpus.document import corpus_shards

    corpus_shards(args.folder)
    manifest = storage.read_json(args.folder / "manifest.json")
    return {"inspect": _inspect, "diff": _diff, "sample": _sample}[args.corpus_command](
        args, manifest
    )


def _inspect(args: argparse.Namespace, manifest: Mapping[str, Any]) -> int:
    from twjax.report.corpus_page import reading_rejects, write_corpus_page

    counts = manifest["counts"]
    print(f"{manifest['name']}  {args.folder}  fingerprint {manifest['fingerprint'][:16]}")
    print(
        f"{counts['documents']:,} documents, {counts['bytes']:,} bytes of text, "
        f"{len(manifest['shards'])} shards, from {counts['records']:,} records in "
        f"{len(manifest['inputs'])} files\n"
    )
    rejects = _pairs(reading_rejects(manifest))
    rows: list[tuple[Any, ...]] = [
        ("read", counts["records"], counts["documents_in"], rejects, "", "")
    ]
    for step in manifest["steps"]:
        edits = {kind: of["count"] for kind, of in step.get("edits", {}).items()}
        cells = [_pairs(of) for of in (step["rejected"], step["changed"], edits)]
        rows.append((step["name"], step["in"], step["out"], *cells))
    _table(("step", "in", "out", "rejected", "changed", "edits"), rows)
    for title, key in (("license", "licenses"), ("source", "sources")):
        print()
        groups = sorted(manifest[key].items(), key=lambda item: -item[1]["bytes"])
        _table((title, "documents", "bytes"), [(k, v["documents"], v["bytes"]) for k, v in groups])
    print(f"\nlanguages: {_pairs(manifest['languages'])}")
    if manifest.get("regions"):
        print(f"regions: {_pairs(manifest['regions'])}")
    page = args.html or args.folder / "inspect.html"
    write_corpus_page(args.folder, page, args.samples)
    print(f"\n{page}: counts and examples of each decision")
    if not args.no_open and sys.stdout.isatty():
        import webbrowser

        webbrowser.open(page.resolve().as_uri())
    return 0


def _pairs(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{name} {number:,}" for name, number in counts.items() if number)


def _table(header: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    texts = [[f"{v:,}" if isinstance(v, int) else str(v) for v in row] for row in (header, *rows)]
    # What has no end needs no column: long lists would push the rest off the screen.
    widths = [min(60, max(map(len, column))) for column in zip(*texts, strict=True)]
    for row, values in zip(texts, (header, *rows), strict=True):
        cells = [
            text.rjust(width) if isinstance(value, int) else text.ljust(width)
            for text, width, value in zip(row, widths, values, strict=True)
        ]
        print("  ".join(cells).rstrip())


def _diff(args: argparse.Namespace, manifest: Mapping[str, Any]) -> int:
    from twjax.report import corpus_samples

    def wanted(step: str, kind: str) -> bool:
        return args.step in (None, step) and args.kind in (None, kind)

    known = {step["name"]: step.get("edits", {}) for step in manifest["steps"]}
    if args.step is not None and args.step not in known:
        raise ValueError(f"--step {args.step}: {args.folder} was built by {', '.join(known)}.")
    if not args.all and args.id is None:
        lines = [
            (number, f"{step}  {kind}  {before} → {after}")
            for step, kinds in known.items()
            for kind, of in kinds.items()
            if wanted(step, kind)
            for before, after, number in of["frequent"]
        ]
        for number, line in sorted(lines, key=lambda item: -item[0])[: args.limit]:
            print(f"{number:>9,}  {line}")
        total = sum(
            of["count"] for s, kinds in known.items() for k, of in kinds.items() if wanted(s, k)
        )
        print(f"{total:>9,}  edits in all; --all shows each with its document")
        return 0
    columns = ("step", "id", "kind", "start", "before", "after")
    shown = 0
    for row in corpus_samples.rows(corpus_samples.files(args.folder, "changes"), columns):
        if not wanted(row["step"], row["kind"]) or args.id not in (None, row["id"]):
            continue
        if shown == args.limit:
            print(f"… more than {args.limit}; --limit shows further")
            break
        shown += 1
        before, after = (json.dumps(row[k], ensure_ascii=False) for k in ("before", "after"))
        print(f"{row['id']}:{row['start']}  {row['step']}  {row['kind']}  {before} → {after}")
    return 0


def _sample(args: argparse.Namespace, manifest: Mapping[str, Any]) -> int:
    from twjax.report import corpus_samples

    if args.decision is not None:
        rows = corpus_samples.decided(args.folder, args.decision, args.number, args.seed)
    elif args.rejected is None:
        rows = corpus_samples.kept(args.folder, args.number)
    else:
        by_reason = corpus_samples.dropped(args.folder, args.number)
        if args.rejected and args.rejected not in by_reason:
            known = ", ".join(by_reason) or "nothing"
            raise ValueError(f"--rejected {args.rejected}: what was rejected here is {known}.")
        chosen = [args.rejected] if args.rejected else list(by_reason)
        rows = [row for reason in chosen for row in by_reason[reason]][: args.number]
    for row in rows:
        if "meta" in row:
            row["meta"] = dict(row["meta"])
        print(json.dumps(row, ensure_ascii=False))
    return 0
