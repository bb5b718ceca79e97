"""Arguments that several subcommands share."""

from __future__ import annotations

import argparse


def add_config(parser: argparse.ArgumentParser, help: str) -> None:
    """Adds CONFIG and `--set`, the one way to name and change a configuration."""
    parser.add_argument("config", metavar="CONFIG", help=help)
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="BINDING",
        help="override one setting, e.g. --set 'Schedule.peak = 1e-4'; may be repeated",
    )


def add_weights(parser: argparse.ArgumentParser) -> None:
    """Adds `--weights`, the choice between a checkpoint's weights and their average."""
    parser.add_argument(
        "--weights",
        choices=("last", "ema"),
        default="last",
        help="of the checkpoint: its weights (default), or the average that Optimizer.ema keeps",
    )
