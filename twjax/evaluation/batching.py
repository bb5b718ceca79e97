"""Which rows answer requests for likelihoods, and what of them is read only once.

All of it is decided on the host, from ids alone.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

# What rows share must have as many tokens to be worth a cache of its own.
LEAST_PREFIX = 8


class Request(NamedTuple):
    """What ln P(continuation | context) is asked for; both are ids, and neither is empty.

    A decoder reads one after the other; an encoder-decoder reads the context with its encoder.
    """

    context: tuple[int, ...]
    continuation: tuple[int, ...]


class NotANumber(ValueError):
    """A log-likelihood that isn't a number: the weights, or what they compute, have diverged.

    `records` are those of an evaluation with NaN for the figures that there aren't.
    """

    def __init__(self, message: str, records: Sequence[dict[str, Any]] = ()):
        super().__init__(message)
        self.records = list(records)


@dataclasses.dataclass
class Row:
    """One row of ids, and what is asked behind them.

    `asked` numbers the questions (place, id): what is the probability of `id` behind the token at
    `place`? (An encoder-decoder's decoder reads its targets shifted: of the target at `place`.)
    `context` is what its encoder reads. `requests` has the numbers of a request's questions.
    """

    ids: tuple[int, ...]
    context: tuple[int, ...] = ()
    asked: dict[tuple[int, int], int] = dataclasses.field(default_factory=dict)
    requests: list[tuple[int, list[int]]] = dataclasses.field(default_factory=list)

    @property
    def first(self) -> int:
        """The first place that is asked about."""
        return min(place for place, _ in self.asked)


class Family(NamedTuple):
    """Rows whose first `prefix` ids are alike; nothing is asked about those."""

    prefix: int
    rows: list[Row]


def rows_of(requests: Sequence[Request], *, both: bool) -> list[Row]:
    """Returns the different rows that answer the requests; `both` for an encoder-decoder.

    Requests that differ in their last id alone, such as the letters of an answer, share a row.
    """
    rows: dict[tuple[tuple[int, ...], tuple[int, ...]], Row] = {}
    count = itertools.count()
    for number, (context, continuation) in enumerate(requests):
        read = tuple(continuation[:-1])
        # What a decoder's last target is, it never reads.
        ids, apart = ((*read, 0), tuple(context)) if both else ((*context, *read), ())
        row = rows.setdefault((apart, ids), Row(ids, apart))
        first = 0 if both else len(context) - 1
        questions = [(first + i, id) for i, id in enumerate(continuation)]
        for question in questions:
            if question not in row.asked:
                row.asked[question] = next(count)
        row.requests.append((number, [row.asked[question] for question in questions]))
    return list(rows.values())


def families(rows: Sequence[Row]) -> tuple[list[Row], list[Family]]:
    """Returns the rows to read alone, and those to read behind what they begin with alike.

    Among all ways to cut the sorted rows into families it takes the one with the fewest tokens to
    read: a family's prefix once, and what follows it in each row.
    """
    rows = sorted(rows, key=lambda row: row.ids)
    # Where two neighbours part, at most; what is asked about belongs behind the prefix.
    pairs = itertools.pairwise(rows)
    alike = [min(_common(a.ids, b.ids), a.first, b.first) for a, b in pairs]
    alone: list[Row] = []
    shared: list[Family] = []
    todo = [_cheapest(alike, [len(row.ids) for row in rows])] if rows else []
    while todo:
        node = todo.pop()
        if node.together:
            shared.append(Family(node.prefix, rows[node.first : node.last + 1]))
        elif node.parts:
            todo.extend(node.parts)
        else:
            alone.append(rows[node.first])
    return alone, shared


@dataclasses.dataclass
class _Node:
    """Rows `first` to `last` that begin with `prefix` ids alike, and how to read them cheapest."""

    prefix: int
    first: int
    last: int
    tokens: int
    parts: list[_Node] = dataclasses.field(default_factory=list)
    cost: int = 0
    together: bool = False


def _cheapest(alike: list[int], sizes: list[int]) -> _Node:
    """Returns the tree of what sorted rows have alike, each node with its cheaper way decided.

    One pass with a stack builds it (Abouelhoda et al. 2004, §4.1: lcp-intervals).
    """
    stack = [_Node(0, 0, 0, 0)]
    for number, size in enumerate(sizes):
        _close(stack, alike[number - 1] if number else 0)
        stack.append(_Node(size, number, number, size, cost=size))
    _close(stack, 0)
    return _decided(stack[0])


def _close(stack: list[_Node], depth: int) -> None:
    """Takes what reaches deeper than `depth` off the stack, into a node of that depth."""
    while stack[-1].prefix > depth:
        child = _decided(stack.pop())
        if stack[-1].prefix < depth:
            stack.append(_Node(depth, child.first, child.last, 0))
        _adopt(stack[-1], child)


def _adopt(node: _Node, child: _Node) -> None:
    node.parts.append(child)
    node.first, node.last = min(node.first, child.first), max(node.last, child.last)
    node.tokens += child.tokens


def _decided(node: _Node) -> _Node:
    if node.parts:
        apart = sum(part.cost for part in node.parts)
        count = node.last - node.first + 1
        together = node.prefix + node.tokens - count * node.prefix
        node.together = node.prefix >= LEAST_PREFIX and together < apart
        node.cost = together if node.together else apart
    return node


def _common(a: Sequence[int], b: Sequence[int]) -> int:
    """Returns how many ids two rows begin with alike."""
    size = min(len(a), len(b))
    differ = np.nonzero(np.asarray(a[:size]) != np.asarray(b[:size]))[0]
    return int(differ[0]) if len(differ) else size


def room(size: int, least: int = 16, multiple: int = 1) -> int:
    """Returns the first of 16, 20, 24, 28, 32, 40, 48, 56, 64, 80, … that is not below `size`.

    Every shape is compiled: of these there are few, and they leave little empty. `least` is the
    first one, and sets how fine the others are. Each is raised to a multiple of `multiple`.
    """
    step = max(1, least // 4)
    while step * 8 < size:
        step *= 2
    size = max(least, -(-size // step) * step)
    return -(-size // multiple) * multiple


def padded(rows: Sequence[Sequence[int]], columns: int, count: int) -> np.ndarray:
    """Returns int32 [count, columns] with each row at the left; the rest is 0."""
    array = np.zeros((count, columns), np.int32)
    for number, row in enumerate(rows):
        array[number, : len(row)] = row
    return array
