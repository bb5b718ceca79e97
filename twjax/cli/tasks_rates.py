"""`twjax tasks rates`: weights of a stage that follow from how much text each task has."""

from __future__ import annotations

import argparse


def add_arguments(command: argparse.ArgumentParser) -> None:
    command.add_argument("--task", nargs="+", metavar="NAME", help="only these tasks")
    command.add_argument(
        "--by", choices=("rows", "examples"), default="rows",
        help="what counts: packed rows, so tokens, or examples (default: rows)",
    )  # fmt: skip
    command.add_argument(
        "--temperature", type=float, default=1.0, metavar="T",
        help="1 for proportional weights (default), more for flatter ones: mT5 has 3.33",
    )  # fmt: skip
    command.add_argument(
        "--maximum", type=int, metavar="N", help="count at most N of a task, before T is applied"
    )


def run(args: argparse.Namespace) -> int:
    from twjax import config
    from twjax.data.mixture import rates
    from twjax.data.rows import RowReader

    data = config.load(config.Run, [args.config], args.set).value.data
    tasks = args.task or data.mixture.tasks
    if unknown := sorted(set(tasks) - set(data.mixture.tasks)):
        raise ValueError(
            f"--task {', '.join(unknown)}: the run trains on {', '.join(data.mixture.tasks)}."
        )
    if args.maximum is not None and args.maximum < 1:
        raise ValueError(f"--maximum ({args.maximum}) must be at least 1.")
    sizes = {}
    for task in tasks:
        info = RowReader(
            args.cache or data.cache, task, "train", data.seq_len, config=args.config
        ).info
        sizes[task] = info.rows if args.by == "rows" else info.documents
        if sizes[task] < 1:
            raise ValueError(f"Task {task} has no {args.by} to train on; leave it out with --task.")
    found = rates(sizes, args.temperature, args.maximum)
    total = sum(found.values())
    most = "" if args.maximum is None else f", at most {args.maximum:,} of a task"
    print(f"# In proportion to {args.by}{most}, at temperature {args.temperature:g}.")
    for task, rate in found.items():
        print(f"'{task}': {rate / total:.6g},  # {sizes[task]:,}")
    return 0
