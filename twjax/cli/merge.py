"""Makes one model of several Hugging Face folders of the same network, by arithmetic on weights.

  twjax merge average OUT A B C                        # a soup of runs, or of checkpoints of a run
  twjax merge task    OUT BASE A B --weights 0.7 0.3   # BASE + 0.7 (A - BASE) + 0.3 (B - BASE)
  twjax merge ties    OUT BASE A B --density 0.2       # differences trimmed, one sign an element
  twjax merge dare    OUT BASE A B --density 0.5       # differences dropped at random, rescaled
  twjax merge chat    OUT CONTINUED --base BASE --chat CHAT

The last gives a continued model what instruction tuning taught CHAT, without tuning: CONTINUED +
scale (CHAT - BASE). Where CONTINUED has another vocabulary, embedding and output rows stay its own
(name the rows of CHAT's special tokens with --copy-rows), and its tokenizer stays with CHAT's
template; otherwise tokenizer and generation settings are CHAT's.

Runs become such folders by `twjax convert to-hf`. Weights are read and written block by block, in
float32 in between: memory stays below 2 GiB. OUT is laid out as the first folder; twjax_merge.json
in it says what was done.
"""

from __future__ import annotations

import argparse
import dataclasses
import pathlib
from typing import Any

HELP = "make one model of several: soups, task vectors, TIES, DARE, chat vectors"

METHODS = {
    "average": "the weighted mean of models",
    "task": "a base plus weighted differences from it",
    "ties": "task, with small differences trimmed and signs agreed on",
    "dare": "task, with differences dropped at random and the rest scaled up",
    "chat": "a continued model plus what a chat model learnt from the same base",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    commands = parser.add_subparsers(dest="method", metavar="|".join(METHODS), required=True)
    for method, text in METHODS.items():
        command = commands.add_parser(method, help=text, description=f"Writes {text}.")
        command.add_argument("out", metavar="OUT", type=pathlib.Path, help="the folder to make")
        if method == "chat":
            _add_chat(command)
        else:
            if method != "average":
                command.add_argument("base", metavar="BASE", type=pathlib.Path)
            command.add_argument("models", metavar="MODEL", type=pathlib.Path, nargs="+")
            command.add_argument(
                "--weights", type=float, nargs="+", metavar="W",
                help="one for each MODEL (default: 1 each)",
            )  # fmt: skip
        if method in ("ties", "dare"):
            command.add_argument(
                "--density", type=float, default=0.2 if method == "ties" else 0.5,
                help="share of each difference that stays (default: %(default)s)",
            )  # fmt: skip
        if method == "ties":
            command.add_argument(
                "--scale", type=float, default=1.0, help="of the merged difference (default: 1)"
            )
        if method == "dare":
            command.add_argument("--seed", type=int, default=0, help="of what is dropped")
        command.add_argument(
            "--dtype",
            choices=("source", "bfloat16", "float16", "float32"),
            default="source",
            help="of the result's weights (default: as the first folder's)",
        )
        command.add_argument("--force", action="store_true", help="replace OUT if it exists")


def _add_chat(command: argparse.ArgumentParser) -> None:
    command.add_argument("continued", metavar="CONTINUED", type=pathlib.Path)
    command.add_argument("--base", type=pathlib.Path, required=True, help="what both come from")
    command.add_argument("--chat", type=pathlib.Path, required=True, help="BASE tuned to talk")
    command.add_argument(
        "--scale", type=float, default=1.0,
        help="of the chat vector (default: 1); less where answers turn to another language",
    )  # fmt: skip
    command.add_argument(
        "--copy-rows", type=int, nargs="+", default=[], metavar="ID",
        help="ids whose embedding and output rows are CHAT's (Llama 3: 128006 128007 128009)",
    )  # fmt: skip


def run(args: argparse.Namespace) -> int:
    from twjax.huggingface.merging import Models, merge

    weights = _weights(args)
    if args.method == "average":
        paths = args.models
    elif args.method == "chat":
        paths = [args.continued, args.base, args.chat]
    elif args.method == "ties":
        paths = [args.base, *args.models]
    else:
        paths = [args.base, args.base, *args.models]
    options = {
        name: getattr(args, name) for name in ("density", "scale", "seed") if hasattr(args, name)
    }
    with Models(paths, grown=args.method == "chat") as models:
        merge(
            models,
            lambda: _method(args, weights, models),
            args.out,
            record={"method": args.method, "weights": list(weights), **options},
            dtype=args.dtype,
            talks=models.folders[2] if args.method == "chat" else None,
            copied_rows=args.copy_rows if args.method == "chat" else (),
            force=args.force,
        )
        for name in models.skipped:
            print(f"  {name}: as in {models.first.path}, whose vocabulary is another")
    print(f"{args.out}: {METHODS[args.method]}")
    return 0


def _weights(args: argparse.Namespace) -> tuple[float, ...]:
    if args.method == "chat":
        return (args.scale,)
    weights = args.weights or [1.0] * len(args.models)
    if len(weights) != len(args.models):
        raise ValueError(f"--weights has {len(weights)} for {len(args.models)} models.")
    return tuple(weights)


def _method(
    args: argparse.Namespace, weights: tuple[float, ...], models: Any
) -> tuple[Any, dict[str, Any]]:
    """Returns the method, and what it found in the models."""
    from twjax.tuning import merging

    if args.method == "average":
        return merging.Average(weights), {}
    if args.method == "ties":
        # Made first without thresholds: what is wrong with the rest is said before all is read.
        method = merging.Ties(weights, (0.0,) * len(weights), args.scale)
        limits = merging.trim_thresholds(models.scan, len(weights), args.density)
        return dataclasses.replace(method, thresholds=limits), {"thresholds": list(limits)}
    density = args.density if args.method == "dare" else 1.0
    return merging.AddVectors(weights, density, getattr(args, "seed", 0)), {}
