"""Shows tasks and packs them into the cached rows that training reads.

twjax tasks list CONFIG                     # tasks of a run, and which are cached
twjax tasks cache CONFIG --workers 8        # every split that the run reads
twjax tasks show CONFIG tw_laws -n 2        # decoded rows; what isn't predicted is marked
twjax tasks rates CONFIG --temperature 3.3  # weights for Mixture.stages from what is cached
twjax tasks contamination CONFIG            # evaluation items that the training rows hold
"""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING, Any

from twjax.cli import options, tasks_contamination, tasks_rates

if TYPE_CHECKING:
    from twjax.data.cache import Built
    from twjax.data.request import Request

HELP = "list tasks, show their rows, pack them into cached rows, weigh them"

_DIM, _GREEN, _BOLD, _END = "\033[2m", "\033[32m", "\033[1m", "\033[0m"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    commands = parser.add_subparsers(
        dest="tasks_command", metavar="list|show|cache|rates|contamination", required=True
    )
    listing = commands.add_parser("list", help="tasks of a run, and which are cached")
    show = commands.add_parser("show", help="print decoded rows of a cached task")
    cache = commands.add_parser("cache", help="pack the tasks of a run into rows")
    rates = commands.add_parser("rates", help="weights of a stage from the sizes of cached tasks")
    contamination = commands.add_parser(
        "contamination", help="look for evaluation items in the rows that a run trains on"
    )
    for command in (listing, show, cache, rates, contamination):
        options.add_config(command, "a gin file with a Run")
        command.add_argument("--cache", metavar="DIR", help="instead of Data.cache")
    for command in (listing, show, cache):
        command.add_argument(
            "--rows",
            choices=("decoder", "encoder_decoder"),
            help="inputs and targets in one segment, or apart (default: as Data.seq_len says)",
        )
    show.add_argument("task", metavar="TASK")
    show.add_argument("-n", type=int, default=2, metavar="ROWS", help="rows to print (default 2)")
    show.add_argument("--split", help="default: the one that the run reads, train first")
    cache.add_argument("--split", help="only this split")
    cache.add_argument("--task", nargs="+", metavar="NAME", help="only these tasks")
    cache.add_argument(
        "--workers", type=int, metavar="N", help="processes (default: as many as cores)"
    )
    tasks_rates.add_arguments(rates)
    tasks_contamination.add_arguments(contamination)


def run(args: argparse.Namespace) -> int:
    commands = {"list": _list, "show": _show, "cache": _cache, "rates": tasks_rates.run}
    commands["contamination"] = tasks_contamination.run
    return commands[args.tasks_command](args)


def _requests(args: argparse.Namespace) -> tuple[list[Request], str, Any]:
    """Returns the rows that the run reads, the cache folder, and the loaded configuration."""
    import dataclasses

    from twjax import config
    from twjax.data.request import requests

    loaded = config.load(config.Run, [args.config], args.set)
    found = [
        dataclasses.replace(request, row_format=args.rows) if args.rows else request
        for request in requests(loaded.value, loaded.imports)
    ]
    return found, args.cache or loaded.value.data.cache, loaded


def _cache(args: argparse.Namespace) -> int:
    from twjax.corpus.running.pool import Pool, default_workers
    from twjax.data import cache

    workers = default_workers() if args.workers is None else args.workers
    if workers < 1:
        raise ValueError(f"--workers ({workers}) must be at least 1.")
    requests, folder, loaded = _requests(args)
    names = {request.task.name for request in requests}
    if unknown := set(args.task or ()) - names:
        raise ValueError(
            f"--task {', '.join(sorted(unknown))}: the run reads {', '.join(sorted(names))}."
        )
    if args.split is not None and args.split not in (splits := {r.split for r in requests}):
        raise ValueError(f"--split {args.split}: the run reads {', '.join(sorted(splits))}.")
    chosen = [
        request
        for request in requests
        if (not args.task or request.task.name in args.task) and args.split in (None, request.split)
    ]
    with Pool(workers) as pool:
        for request in chosen:
            _report(cache.build(request, folder, pool=pool))
    screening = loaded.value.data.screening
    trained = {request.task.name for request in chosen if request.split == "train"}
    reported = screening is not None and screening.policy == "report" and not args.rows
    if screening is not None and reported and trained:
        found = tasks_contamination.search(
            loaded.value, folder, sorted(trained), screening.items, held_out=False
        )
        tasks_contamination.show(found)
    return 0


def _report(built: Built) -> None:
    info = built.info
    print(
        f"{info.task} {info.split}: {'cached' if built.fresh else 'up to date'}; "
        f"{info.rows:,} rows, {info.tokens:,} tokens, {info.pad_fraction:.2%} padding, "
        f"{info.documents:,} examples, {info.tokens_per_byte:.3f} tokens/byte"
        + (f", {built.left_out:,} left out" if built.left_out else "")
        + (f" ({info.without['examples']:,} hold an evaluation item)" if info.without else ""),
        flush=True,
    )


def _list(args: argparse.Namespace) -> int:
    from twjax.data import cache, examples

    requests, folder, loaded = _requests(args)
    lines: list[tuple[str, ...]] = [
        ("task", "split", "cached", "rows", "tokens", "padding", "source")
    ]
    for request in requests:
        try:
            info, state = cache.find(request, folder), "no"
        except FileNotFoundError as error:
            info, state = None, f"not yet possible: {error}"
        cells = [state, "–", "–", "–"]
        if info is not None:
            cells = ["yes", f"{info.rows:,}", f"{info.tokens:,}", f"{info.pad_fraction:.2%}"]
        lines.append((request.task.name, request.split, *cells, request.task.source))
    known = {request.task.name for request in requests}
    for task in examples.registered_tasks(loaded.imports):
        if task.name not in known:
            splits = ",".join(task.splits)
            lines.append((task.name, splits, "not read", "–", "–", "–", task.source))
    _print_table(lines)
    return 0


def _print_table(lines: list[tuple[str, ...]]) -> None:
    widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]))]
    for line in lines:
        print("  ".join(cell.ljust(w) for cell, w in zip(line, widths, strict=True)).rstrip())


def _show(args: argparse.Namespace) -> int:
    from twjax.data.examples import load_model
    from twjax.data.rows import RowReader

    requests, folder, loaded = _requests(args)
    fitting = [r for r in requests if r.task.name == args.task and args.split in (None, r.split)]
    if not fitting:
        known = ", ".join(sorted({f"{r.task.name} ({r.split})" for r in requests}))
        wanted = f"{args.task} ({args.split})" if args.split else args.task
        raise ValueError(f"{wanted} is not read by this run; it reads {known}.")
    request = fitting[0]
    reader = RowReader(folder, args.task, request.split, request.row_length, config=args.config)
    reader.verify(loaded.value.data.vocabulary)
    model = load_model(loaded.value.data.vocabulary)
    colours = sys.stdout.isatty()
    if not colours:
        print("⟦…⟧: not predicted")
    count = min(args.n, len(reader))
    rows = reader.read(range(count))
    for row in range(count):
        values = {name: array[row] for name, array in rows.items()}
        print(_bold(f"── {args.task} {request.split}, row {row} of {len(reader):,}", colours))
        ids = values.get("tokens", values.get("targets"))
        owners = values.get("segment_ids", values.get("targets_segment_ids"))
        assert ids is not None and owners is not None
        for segment in range(1, int(owners.max(initial=0)) + 1):
            mine = owners == segment
            weights = values["loss_weights"][mine]
            head = f"─ segment {segment}: {mine.sum():,} tokens, {weights.sum():,} predicted"
            print(_bold(head, colours))
            if "inputs" in values:
                given = values["inputs"][values["inputs_segment_ids"] == segment]
                print(_text(model, given, given * 0, colours))
            print(_text(model, ids[mine], weights, colours))
        print(_bold(f"─ padding: {(owners == 0).sum():,} tokens", colours))
    return 0


def _bold(text: str, colours: bool) -> str:
    return f"{_BOLD}{text}{_END}" if colours else text


def _text(model: Any, ids: Any, weights: Any, colours: bool) -> str:
    """Returns the text of one segment, runs without loss marked, control ids spelt out."""
    import itertools

    parts = []
    pairs = zip(ids.tolist(), weights.tolist(), strict=True)
    for predicted, run_ in itertools.groupby(pairs, key=lambda pair: bool(pair[1])):
        text = _decode(model, [token for token, _ in run_])
        if colours:
            parts.append(f"{_GREEN if predicted else _DIM}{text}{_END}")
        else:
            parts.append(text if predicted else f"⟦{text}⟧")
    return "".join(parts)


def _decode(model: Any, ids: list[int]) -> str:
    import itertools

    def special(token: int) -> str:
        if token >= model.vocab_size:
            return f"<sentinel {token}>"
        return model.id_to_piece(token) if token in (model.bos_id, model.eos_id) else ""

    parts = []
    for name, run_ in itertools.groupby(ids, key=special):
        run_ids = list(run_)
        parts.append(name * len(run_ids) if name else model.decode(run_ids))
    return "".join(parts)
