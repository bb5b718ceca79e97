"""The `twjax` command: one thin subcommand a file, imported only when it is called.

A subcommand module has `HELP` (one line), `add_arguments(parser)` and `run(args) -> int`, and
imports nothing but the standard library until `run`: `--help` answers at once.
"""

from __future__ import annotations

import argparse
import importlib
import os
import sys
import traceback
from collections.abc import Sequence

from twjax import __version__
from twjax.parallel import distributed

COMMANDS = {
    "quickstart": "twjax.cli.quickstart",
    "corpus": "twjax.cli.corpus",
    "vocab": "twjax.cli.vocab",
    "tasks": "twjax.cli.tasks",
    "convert": "twjax.cli.convert",
    "merge": "twjax.cli.merge",
    "plan": "twjax.cli.plan",
    "teach": "twjax.cli.teach",
    "train": "twjax.cli.train",
    "eval": "twjax.cli.evaluate",
    "harness": "twjax.cli.harness",
    "generate": "twjax.cli.generate",
    "watch": "twjax.cli.watch",
    "track": "twjax.cli.track",
    "pairs": "twjax.cli.pairs",
    "sweep": "twjax.cli.sweep",
    "report": "twjax.cli.report",
    "doctor": "twjax.cli.doctor",
}


def build_parser() -> argparse.ArgumentParser:
    """Returns the parser of all subcommands."""
    parser = argparse.ArgumentParser(
        prog="twjax",
        description="Turns an open language model into one that speaks Taiwan's Traditional "
        "Chinese: corpus, vocabulary, cached rows, training, evaluation, report.",
    )
    parser.add_argument("--version", action="version", version=f"twjax {__version__}")
    subparsers = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for name, path in COMMANDS.items():
        module = importlib.import_module(path)
        subparser = subparsers.add_parser(name, help=module.HELP, description=module.__doc__)
        subparser.formatter_class = argparse.RawDescriptionHelpFormatter
        module.add_arguments(subparser)
        subparser.add_argument(
            "--debug", action="store_true", help="show the full traceback of an error"
        )
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one subcommand; returns 0 only if all of it was done."""
    parser = build_parser()
    words = list(sys.argv[1:] if arguments is None else arguments)
    # Taken out first, so that it may stand anywhere, also behind a command of a command.
    debug = "--debug" in words
    args = parser.parse_args([word for word in words if word != "--debug"])
    try:
        return importlib.import_module(COMMANDS[args.command]).run(args)
    except KeyboardInterrupt:
        print(f"twjax {args.command}: interrupted.", file=sys.stderr)
        return 130
    except BrokenPipeError:
        # The reader of our output (head, less) has left; there is nobody to tell.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except Exception as error:
        if debug:
            traceback.print_exc()
        else:
            print(f"twjax {args.command}: error: {_one_line(error)}", file=sys.stderr)
        distributed.leave_group(1)
        return 1


def _one_line(error: Exception) -> str:
    text = " ".join(str(error).split())
    if isinstance(error, OSError) and error.strerror:
        return f"{error.strerror}: {error.filename}" if error.filename else error.strerror
    if isinstance(error, (ValueError, OSError, RuntimeError, ArithmeticError)) and text:
        return text
    # Anything else is unexpected here: its type helps whoever reads the report.
    return f"{type(error).__name__}: {text or 'no message'} (--debug shows where)"
