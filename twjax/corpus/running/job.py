"""What a runner is given, and what it gives back."""

from __future__ import annotations

import dataclasses
import pathlib
from collections.abc import Mapping
from typing import Any

from twjax.corpus.running.tally import Tally
from twjax.corpus.running.units import Stage
from twjax.corpus.sources.formats import Source


@dataclasses.dataclass(frozen=True)
class Input:
    """One input: its configured name, where it is, how many bytes it has, how it is read."""

    name: str
    path: pathlib.Path | str
    bytes: int
    source: Source


@dataclasses.dataclass(frozen=True)
class Job:
    """One build: its inputs, its stages, its work folder.

    About `piece_bytes` of the inputs make a unit, `shard_bytes` of text an output file;
    `budget_bytes` is what a reduction may hold.
    """

    name: str
    folder: pathlib.Path
    inputs: tuple[Input, ...]
    stages: tuple[Stage, ...]
    piece_bytes: int
    shard_bytes: int
    budget_bytes: int


@dataclasses.dataclass(frozen=True)
class Done:
    """A finished build: its sums, its files by kind as `parts.Join` reports them.

    The files lie in `corpus/` of the work folder. `bytes_done` are the bytes of text that this
    run read itself: a resumed build doesn't count what was there. `runner` says who did it.
    """

    tally: Tally
    joined: Mapping[str, list[dict[str, Any]]]
    bytes_done: int
    runner: Mapping[str, Any]
