"""`twjax plan --search`: the fastest step that fits, found within a time limit."""

from __future__ import annotations

import argparse
import time
from typing import Any

DEFAULT_MINUTES, DEFAULT_EACH = 20.0, 10.0


def add_search(parser: argparse.ArgumentParser) -> None:
    """Adds `--search` and what only counts with it."""
    group = parser.add_argument_group(
        "search",
        "Instead of the configuration's own step: which mesh, rows at a time (Step.accumulation) "
        "and Step.remat are fastest and fit. Candidates that a memory model finds too large "
        "are left out, the others compiled in the order of an estimate, each in a process of its "
        "own. Exit code: 0 if anything fits, 2 if nothing does.",
    )
    group.add_argument("--search", action="store_true", help="search, with the tokens of a step")
    group.add_argument(
        "--minutes", type=float, help=f"end after this long (default: {DEFAULT_MINUTES:g})"
    )
    group.add_argument(
        "--each-minutes",
        type=float,
        metavar="MINUTES",
        help=f"the most that one compilation may take (default: {DEFAULT_EACH:g})",
    )
    group.add_argument(
        "--most", type=int, metavar="N", help="compile at most N candidates (default: any number)"
    )
    group.add_argument(
        "--batch",
        choices=("keep", "free"),
        help="keep (default): a step has the configuration's rows, all at once or in microbatches, "
        "so that the run learns the same; free: any number of rows, compared by tokens a second",
    )
    group.add_argument(
        "--within",
        type=float,
        metavar="GIB",
        help="use at most this much of a device's memory (default: all that is usable)",
    )
    group.add_argument(
        "--write",
        metavar="FILE.gin",
        help="write the fastest that fits: a file that includes CONFIG and sets what differs",
    )


def check_search(args: argparse.Namespace) -> None:
    """Raises `ConfigError` for options that don't go together, and for wrong ones."""
    from twjax.config import ConfigError

    only = ("minutes", "each_minutes", "most", "batch", "within", "write")
    for name in only if not args.search else ():
        if getattr(args, name) is not None:
            raise ConfigError(f"--{name.replace('_', '-')} needs --search.")
    for name in ("minutes", "each_minutes", "most", "within"):
        value = getattr(args, name)
        if value is not None and not value > 0:
            raise ConfigError(f"--{name.replace('_', '-')} ({value:g}) must be positive.")
    if args.write is not None and not args.write.endswith(".gin"):
        raise ConfigError(f"--write {args.write}: the file's name must end in .gin.")


def run_search(args: argparse.Namespace, topology: Any, loaded: Any, cache: Any) -> int:
    """Searches, prints and writes what was asked for."""
    begin = time.monotonic()
    from twjax.config import ConfigError
    from twjax.planning.candidates import consider
    from twjax.planning.chosen import write_chosen
    from twjax.planning.search import Worker, search
    from twjax.planning.search_table import found_dict, render_found
    from twjax.planning.topology import GIB
    from twjax.progress import say
    from twjax.report.search_page import write_search_page
    from twjax.storage import write_json

    batch = args.batch or "keep"
    if batch == "free" and loaded.data.batch_ramp:
        raise ConfigError(
            "--batch free: the run's batch grows (Data.batch_ramp), so its rows are no free choice."
        )
    usable = topology.chip.usable_bytes
    if args.within is not None:
        usable = min(usable, args.within * GIB)
    considered = consider(loaded, topology, batch=batch, usable=usable)
    say(
        f"{len(considered.ordered):,} candidates for {topology.name}; "
        f"{len(considered.too_large):,} more are too large by the memory model"
    )
    worker = Worker(
        config=args.config,
        bindings=tuple(args.set),
        run=loaded,
        num_devices=topology.num_devices,
        topology=args.topology,
        quick=args.quick,
        cache=None if cache is None else cache.folder,
    )
    found = search(
        considered,
        worker,
        seconds=60 * (args.minutes or DEFAULT_MINUTES) - (time.monotonic() - begin),
        each=60 * (args.each_minutes or DEFAULT_EACH),
        usable=usable,
        most=args.most,
        tell=say,
    )
    print(render_found(found, loaded, topology, args.config))
    if args.json:
        write_json(args.json, found_dict(found, loaded, topology))
    if args.html:
        write_search_page(found, loaded, topology, args.config, args.html)
    if found.best is None:
        return 2
    if args.write:
        write_chosen(args.write, found.best, args.config, args.set, topology)
        print(f"\n{args.write}: {found.best.candidate.point.describe()}")
    return 0
