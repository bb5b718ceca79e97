"""The page of all commands: what `--help` of each prints, taken from the parsers themselves."""

from __future__ import annotations

import argparse
import functools
from collections.abc import Iterator
from typing import Any

from twjax.cli import build_parser

PAGE = "reference/commands.md"
_WIDTH = 84


def commands(
    parser: argparse.ArgumentParser, words: tuple[str, ...] = ()
) -> Iterator[tuple[tuple[str, ...], argparse.ArgumentParser]]:
    """Yields a parser and those below it, each with the words that lead to it."""
    yield words, parser
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for name, child in action.choices.items():
                yield from commands(child, (*words, name))


def options(parser: argparse.ArgumentParser) -> set[str]:
    """Returns the options that a parser knows, "--set" and the like."""
    return {text for action in parser._actions for text in action.option_strings}


def render() -> str:
    """Returns the page; each command has the anchor "twjax-NAME"."""
    lines = ["# Commands", ""]
    lines += ["What `--help` says. `--debug` shows the full traceback of an error.", ""]
    for words, parser in commands(build_parser()):
        name = " ".join(("twjax", *words))
        level = "##" if len(words) < 2 else "###"
        anchor = name.replace(" ", "-")
        # Else the help is wrapped to the width of the terminal that builds the site.
        formatter: Any = parser.formatter_class
        parser.formatter_class = functools.partial(formatter, width=_WIDTH)
        lines += [f"{level} `{name}` {{ #{anchor} }}", "", "```text"]
        lines += [*parser.format_help().rstrip().split("\n"), "```", ""]
    return "\n".join(lines)
