"""Compiles the run's training step for a TPU slice, on this machine, without a TPU.

Prints what one device's memory holds, what fills it and whether that fits; the arithmetic of a
step; its predicted seconds by what they go to, with MFU, tokens a second, what bounds it, and how
far to trust that; what devices send each other and how much of it is hidden; and the whole run's
tokens, days and cost. Where the run's rows are cached, also how often each task is read and what
that is worth. Nothing is measured: no TPU is needed. Exit code: 0 if it fits, 2 if it doesn't, 1
for an error.
"""

from __future__ import annotations

import argparse
import contextlib
import threading
import time
from collections.abc import Iterator

from twjax.cli.options import add_config
from twjax.cli.plan_search import add_search, check_search, run_search

HELP = "compile a run for a TPU slice ahead of time: does it fit, how fast is it, what does it cost"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_config(parser, "the run's gin file")
    parser.add_argument(
        "--topology",
        required=True,
        metavar="NAME",
        help="Cloud's name of the slice: v4-8, v5e-16, v5p-128 (64 chips), v6e-64, tpu7x-128 (64 "
        "chips), 2xv5e-256 (two slices)",
    )
    parser.add_argument(
        "--quick",
        action="store_true",
        help="compile with the least effort, in about half the time; memory comes out a little "
        "higher than it will be",
    )
    parser.add_argument(
        "--price",
        type=float,
        metavar="USD",
        help="what a chip-hour costs you; without it the lowest list prices, on demand and spot, "
        "of planning/prices.py",
    )
    parser.add_argument("--json", metavar="FILE", help="also write all figures to FILE")
    parser.add_argument("--html", metavar="FILE", help="also write a page with plots to FILE")
    parser.add_argument(
        "--no-cache",
        action="store_true",
        help="compile again what was compiled before: plans are kept in $TWJAX_CACHE, or in "
        "twjax/ in your cache folder, by the hash of the program, slices, options and versions",
    )
    add_search(parser)


def run(args: argparse.Namespace) -> int:
    from twjax.config import ConfigError
    from twjax.planning.topology import parse_topology, require_compiler, set_environment

    if args.price is not None and not 0 <= args.price < 1e6:
        raise ConfigError(f"--price {args.price}: dollars a chip-hour.")
    check_search(args)
    set_environment()
    topology = parse_topology(args.topology)
    require_compiler()

    from twjax import config
    from twjax.planning.cache import PlanCache, default_folder
    from twjax.planning.compile import check, heaviest, plan, shapes
    from twjax.planning.data import plan_data
    from twjax.planning.table import as_dict, render
    from twjax.planning.whole import whole_run
    from twjax.progress import say
    from twjax.report.plan_page import write_plan_page
    from twjax.storage import write_json

    cache = None if args.no_cache else PlanCache(default_folder())
    loaded = config.load(config.Run, [args.config], args.set).value
    if args.search:
        return run_search(args, topology, loaded, cache)
    for shape in shapes(loaded):
        check(shape, topology)
    lines, figures = plan_data(loaded, args.config)
    print("\n".join(lines), end="\n\n", flush=True)
    say(
        f"compiling for {topology.num_chips} x {topology.chip.name}, usually 1 to 4 minutes, "
        "more on a busy machine"
    )
    with _heartbeat():
        result = plan(loaded, topology, quick=args.quick, cache=cache, tell=say)
    whole = whole_run(loaded, result, args.price)
    print(render(result, heaviest(loaded), args.config, whole))
    if args.json:
        write_json(args.json, as_dict(result, whole) | {"data": figures})
    if args.html:
        write_plan_page(result, args.config, args.html)
    return 0 if result.memory.fits else 2


@contextlib.contextmanager
def _heartbeat(seconds: float = 30.0) -> Iterator[None]:
    """Says that the compiler still works: it reports no progress of its own."""
    from twjax.progress import say

    done, begin = threading.Event(), time.monotonic()

    def beat() -> None:
        while not done.wait(seconds):
            say(f"still compiling, {time.monotonic() - begin:.0f} s")

    thread = threading.Thread(target=beat, daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()
