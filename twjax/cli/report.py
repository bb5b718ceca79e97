"""Writes one self-contained HTML page about a run, or about several side by side.

The page opens in any browser without a network. For several runs the comparison comes first.
"""

from __future__ import annotations

import argparse
import os

HELP = "write the HTML report of one or several runs"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("runs", metavar="RUN", nargs="+", help="a run directory")
    parser.add_argument(
        "--output",
        metavar="FILE",
        help="where to write (default: RUN/report.html for one run, ./report.html for several)",
    )
    parser.add_argument("--title", default="", help="heading of the page")
    parser.add_argument(
        "--learnt",
        default="",
        metavar="TASK,…",
        help="domains that were to be learnt (default: those named tw_…)",
    )
    parser.add_argument(
        "--protected",
        default="",
        metavar="TASK,…",
        help="domains that were to be kept (default: those of a budget, else all others)",
    )


def run(args: argparse.Namespace) -> int:
    from twjax.progress import say
    from twjax.report import Roles, write_report

    single = len(args.runs) == 1
    output = args.output or (os.path.join(args.runs[0], "report.html") if single else "report.html")
    roles = Roles(learnt=_tasks(args.learnt), protected=_tasks(args.protected))
    path = write_report(args.runs, output, title=args.title, roles=roles)
    say(f"Report: {path} ({path.stat().st_size / 1e6:.1f} MB)")
    return 0


def _tasks(text: str) -> tuple[str, ...]:
    return tuple(task.strip() for task in text.split(",") if task.strip())
