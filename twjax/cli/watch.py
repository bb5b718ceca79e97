"""Shows runs in the terminal while they train: loss, bits per byte by domain, speed, time left,
the budget and the last decisions. It only reads their files, on this machine or a mounted folder.

Ctrl-C leaves. Where the output is no terminal, it is one snapshot.

  twjax watch runs/taiwan
  twjax watch --once runs/taiwan runs/other > status.txt
  ssh tpu-vm -t twjax watch runs/taiwan --wait
"""

from __future__ import annotations

import argparse
import pathlib
import shutil
import sys

HELP = "show runs in the terminal while they train"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("runs", metavar="RUN", nargs="+", type=pathlib.Path, help="a run directory")
    parser.add_argument("--once", action="store_true", help="print one snapshot and end")
    parser.add_argument(
        "--wait", action="store_true", help="wait for run directories that don't exist yet"
    )
    parser.add_argument(
        "--every", type=float, default=2.0, metavar="SECONDS", help="how often to look (default: 2)"
    )


def run(args: argparse.Namespace) -> int:
    from twjax.report import terminal
    from twjax.report.live import Live

    once = args.once or not sys.stdout.isatty()
    for path in args.runs:
        if not path.is_dir() and not args.wait:
            raise ValueError(f"{path}: no such run directory; --wait waits for it.")
    runs = [Live(path) for path in args.runs]
    if once:
        terminal.await_folders(args.runs, args.every)
        for live in runs:
            live.update()
    else:
        try:
            terminal.watch(runs, args.every)
        except KeyboardInterrupt:
            return 0
    print(terminal.snapshot(runs, shutil.get_terminal_size().columns))
    return 0
