"""`twjax tasks contamination`: evaluation items in the rows that a run trains on."""

from __future__ import annotations

import argparse
import collections
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

_SHOWN = 40


def add_arguments(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--items", action="append", metavar="[NAME=]FILE",
        help="an evaluation set: JSON, JSON lines, CSV, TSV, Parquet, or text with an item a line; "
        "may be repeated (default: Screening.items, and the files of the evaluation's suite)",
    )  # fmt: skip
    command.add_argument("--task", nargs="+", metavar="NAME", help="only rows of these tasks")
    command.add_argument(
        "--no-held-out", action="store_true",
        help="leave out the held-out rows of Evaluation.tasks, which are looked for as well",
    )  # fmt: skip
    command.add_argument(
        "--share", type=float, metavar="S",
        help="share of an item's n-grams that a row must hold (default: Screening.share)",
    )  # fmt: skip
    command.add_argument(
        "--examples", type=int, default=3, metavar="N", help="to print of a set (default: 3)"
    )
    command.add_argument("--json", type=pathlib.Path, help="also write the report to this file")


def run(args: argparse.Namespace) -> int:
    from twjax import config, storage

    loaded = config.load(config.Run, [args.config], args.set)
    data = loaded.value.data
    if unknown := sorted(set(args.task or ()) - set(data.mixture.tasks)):
        raise ValueError(
            f"--task {', '.join(unknown)}: the run trains on {', '.join(data.mixture.tasks)}."
        )
    if args.share is not None and not 0 < args.share <= 1:
        raise ValueError(f"--share ({args.share}) must be in (0, 1].")
    if args.examples < 0:
        raise ValueError(f"--examples ({args.examples}) must not be negative.")
    files = _files(args.items) if args.items else configured(loaded.value)
    if not files and args.no_held_out:
        raise ValueError("nothing to look for: name files with --items, or in Screening.items.")
    found = search(
        loaded.value,
        args.cache or data.cache,
        args.task or list(data.mixture.tasks),
        files,
        held_out=not args.no_held_out,
        share=args.share,
        config_name=args.config,
    )
    show(found, args.examples)
    if args.json:
        storage.write_json(args.json, {"config": args.config, **found})
    return 0


def _files(arguments: Sequence[str]) -> dict[str, str]:
    """Returns {set: file} of "NAME=FILE" and "FILE"."""
    files: dict[str, str] = {}
    for argument in arguments:
        name, mark, file = argument.partition("=")
        if not mark:
            name, file = pathlib.Path(argument).name.partition(".")[0], argument
        if name in files:
            raise ValueError(f"--items: two sets are called {name}; write NAME=FILE.")
        files[name] = file
    return files


def configured(run: Any) -> dict[str, str]:
    """Returns {set: file} of what the configuration evaluates on.

    Sets of several kinds may have one name; they are told apart by the kind.
    """
    from twjax.config import resolve

    suite, screening = run.evaluation.suite, run.data.screening
    kinds = () if suite is None else ("choice", "pairs", "probes")
    named = [
        (kind, name, file if pathlib.Path(file).exists() else str(resolve(file)))
        for kind in kinds
        for name, file in getattr(suite, kind).items()
    ]
    named += [("screening", *pair) for pair in (screening.items.items() if screening else ())]
    files_of: dict[str, set[pathlib.Path]] = collections.defaultdict(set)
    for _, name, file in named:
        files_of[name].add(pathlib.Path(file).resolve())
    files: dict[str, str] = {}
    for kind, name, file in named:
        told = name if len(files_of[name]) == 1 else f"{kind} {name}"
        known = files.setdefault(told, file)
        if pathlib.Path(known).resolve() != pathlib.Path(file).resolve():
            raise ValueError(f"two sets are called {told}; give one of them another name.")
    return files


def search(
    run: Any,
    cache: str,
    tasks: Sequence[str],
    files: Mapping[str, str],
    *,
    held_out: bool,
    share: float | None = None,
    config_name: str = "CONFIG",
) -> dict[str, Any]:
    """Returns {sets: {set: {items, too_short}}, tasks: {task: what its rows hold}}."""
    from twjax.config import Screening
    from twjax.corpus.duplicates.items import read_set
    from twjax.data import contamination
    from twjax.data.examples import load_model
    from twjax.data.rows import RowReader
    from twjax.data.spelt import Speller
    from twjax.progress import Progress

    data, evaluation = run.data, run.evaluation
    model = load_model(data.vocabulary)

    def opened(task: str, split: str) -> tuple[RowReader, Speller]:
        reader = RowReader(cache, task, split, data.seq_len, config=config_name)
        reader.verify(data.vocabulary)
        return reader, Speller(model, reader.info.vocabulary["size"] - model.vocab_size)

    readers = {task: opened(task, "train") for task in tasks}
    sets = {name: read_set(file) for name, file in files.items()}
    for task in evaluation.tasks if held_out else ():
        reader, speller = opened(task, evaluation.split)
        sets[f"held out of {task}"] = contamination.held_out_items(reader, speller, evaluation.rows)
    chosen = data.screening or Screening(items={"none": ""})
    screen = contamination.Screen(sets, share or chosen.share, chosen.ngram)
    results = {}
    for task, (reader, speller) in readers.items():
        tally = contamination.Tally(task, len(reader))
        with Progress(len(reader), f"{task}: looking for items", "rows") as progress:
            for count, found in contamination.search_rows(reader, speller, screen):
                for row, finding in found:
                    tally.add(row, finding)
                progress.update(count)
        results[task] = tally.result()
    return {
        "share": share or chosen.share,
        "ngram": chosen.ngram,
        "sets": {
            name: {"items": count, "too_short": screen.too_short[name]}
            for name, count in screen.counts.items()
        },
        "tasks": results,
    }


def show(found: Mapping[str, Any], examples: int = 3) -> None:
    """Prints the report: a table of sets and tasks, then some of what was found.

    Tasks that hold nothing of a set share a line.
    """
    lines = [("set", "items", "task", "rows", "items found", "rows that hold one", "found by")]
    for name, about in found["sets"].items():
        items = f"{about['items']:,}"
        if about["too_short"]:
            items += f" ({about['too_short']:,} too short)"
        holding = [(t, r) for t, r in found["tasks"].items() if name in r["sets"]]
        for task, result in holding:
            one = result["sets"][name]
            by = ", ".join(f"{change} {count:,}" for change, count in one["by_change"].items())
            cells = (f"{result['rows']:,}", f"{one['items']:,}", f"{one['rows']:,}", by)
            lines.append((name, items, task, *cells))
        if len(holding) < len(found["tasks"]):
            others = [t for t in found["tasks"].items() if t not in holding]
            rows = sum(result["rows"] for _, result in others)
            which = others[0][0] if len(others) == 1 else f"{len(others)} tasks"
            lines.append((name, items, which, f"{rows:,}", "0", "0", "–"))
    widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]))]
    for line in lines:
        print("  ".join(cell.ljust(w) for cell, w in zip(line, widths, strict=True)).rstrip())
    for task, result in found["tasks"].items():
        for name, one in result["sets"].items():
            for example in one["examples"][:examples]:
                text = " ".join(example["stretch"].split())
                short = text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"
                print(
                    f"{task} row {example['row']}: {example['item']} ({name}, "
                    f"{example['share']:.0%}, changed: {example['change']}): {short}"
                )
