"""Where the shares of a mixture change, and how many rows each task has had by then.

A mixture is first followed as if rows could be divided: `plan` cuts the stream into stretches of
constant shares. `settle` then rounds what each task has had at every cut to a whole number.

Rounding each cut alone isn't enough: a task that gets nothing until the next cut keeps its count,
one that gets less than a row may not lose any, and what tasks that pause have too much or too
little, the others have to bear. So the rows that a cut divides are placed: each on one side of the
cuts it spans, in a stretch that reads its task, as many in a stretch as it has room for. The
divided rows are themselves such a placement in fractions, and where one exists in fractions, one
in whole rows does (matchings of bipartite graphs; Birkhoff 1946, Hoffman and Kruskal 1956).
"""

from __future__ import annotations

import collections
import dataclasses
import itertools
import math
from collections.abc import Mapping, Sequence
from fractions import Fraction

Rows = dict[str, Fraction]
# A share below this is less than a row in 10^8, which no run reads.
MIN_SHARE = Fraction(1, 10**8)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Stretch:
    """A part of the stream in which the same tasks have the same shares.

    `start` is its first row; `length` None means that it never ends. `shares` are positive and sum
    to 1. `had` and `will_have` are the exact rows of every task at both ends, `will_have` None
    without an end. Where a task's cap falls inside a row, that row is the last of the stretch.
    """

    start: int
    length: int | None
    shares: Rows
    had: Rows
    will_have: Rows | None


def plan(
    stages: Sequence[tuple[int, Rows]], caps: Mapping[str, int]
) -> tuple[list[Stretch], int | None]:
    """Cuts the stream at stages and where tasks reach their caps.

    `stages` are (first row, relative weights), `caps` the most rows that a task may have. Returns
    the stretches and the row at which no task of a stage has rows left, or None.
    """
    row, found = 0, []
    had = dict.fromkeys(sorted({task for _, weights in stages for task in weights}), Fraction(0))
    ends = [start for start, _ in stages[1:]]
    for (_, weights), end in zip(stages, [*ends, None], strict=True):
        while end is None or row < end:
            shares = _active(weights, had, caps)
            if not shares:
                return found, row
            lasts = [(caps[task] - had[task]) / shares[task] for task in shares if task in caps]
            if end is None and not lasts:
                last = Stretch(start=row, length=None, shares=shares, had=had, will_have=None)
                return [*found, last], None
            length = min([math.ceil(last) for last in lasts] + ([] if end is None else [end - row]))
            after = _spend(weights, had, caps, length)
            if after is None:
                # All tasks are spent within the last row.
                length -= 1
                after = _spend(weights, had, caps, length)
                if not length or after is None:
                    return found, row
            found.append(Stretch(start=row, length=length, shares=shares, had=had, will_have=after))
            row, had = row + length, after
    return found, row


def _active(weights: Rows, had: Rows, caps: Mapping[str, int]) -> Rows:
    some = {
        task: weight
        for task, weight in weights.items()
        if weight > 0 and (task not in caps or had[task] < caps[task])
    }
    total = sum(some.values())
    return {task: weight / total for task, weight in some.items()}


def _spend(weights: Rows, had: Rows, caps: Mapping[str, int], rows: int) -> Rows | None:
    """Returns what tasks have `rows` later, or None if all are spent before."""
    had, left = dict(had), Fraction(rows)
    while left > 0:
        shares = _active(weights, had, caps)
        if not shares:
            return None
        lasts = [(caps[task] - had[task]) / shares[task] for task in shares if task in caps]
        now = min([left, *lasts])
        for task, share in shares.items():
            had[task] += share * now
        left -= now
    return had


def settle(stretches: Sequence[Stretch], blocks: Sequence[int]) -> list[dict[str, int]]:
    """Returns whole rows of each task at the start of each stretch, and at the end if there is one.

    Each is the exact number rounded up or down, they sum to the row, and none shrinks. In a
    stretch of two or more of its `blocks` the tasks that pause have, all together, their exact sum
    rounded up or down as well, so the others can stay within a row of their shares.
    """
    points: list[Rows] = []
    cuts: list[int] = []
    for stretch, block in zip(stretches, blocks, strict=True):
        cuts.append(len(points))
        points.append(stretch.had)
        if stretch.length is None or stretch.length >= 2 * block:
            points.append(_gathered(stretch))
    if stretches and stretches[-1].will_have is not None:
        cuts.append(len(points))
        points.append(stretches[-1].will_have)
    placed = _place(points)
    counts = []
    for cut in cuts:
        # Slot i lies between points i and i + 1.
        counts.append(
            {
                task: math.floor(rows)
                + (rows.denominator > 1 and placed[task, math.ceil(rows)] < cut)
                for task, rows in points[cut].items()
            }
        )
    return counts


def _gathered(stretch: Stretch) -> Rows:
    """Returns rows that may stand for a moment inside a long stretch: whole, but for one task.

    At such a moment the tasks that pause hold the only other fractions.
    """
    main = max(stretch.shares, key=lambda task: stretch.shares[task])
    rows = dict(stretch.had)
    for task in stretch.shares:
        if task != main:
            rows[task] = Fraction(math.ceil(rows[task]))
    total = sum(rows.values())
    rows[main] += math.ceil(total) - total
    return rows


def _place(points: Sequence[Rows]) -> dict[tuple[str, int], int]:
    """Returns the slot of each row that a point divides: (task, which of its rows) → slot.

    Slot i lies between points i and i + 1; the last is all that follows the last point.
    """
    room = [0] * len(points)
    choices: dict[tuple[str, int], list[int]] = {}
    for slot, (before, after) in enumerate(itertools.pairwise(points)):
        room[slot] = int(sum(after.values()) - sum(before.values()))
        for task, rows in before.items():
            if after[task] > rows:
                room[slot] -= max(0, math.floor(after[task]) - math.ceil(rows))
                divided = {math.ceil(end) for end in (rows, after[task]) if end.denominator > 1}
                for number in sorted(divided):
                    choices.setdefault((task, number), []).append(slot)
    for task, rows in points[-1].items():
        if rows.denominator > 1:
            choices[task, math.ceil(rows)].append(len(points) - 1)
    room[-1] = len(choices) - sum(room)
    return _match(choices, room)


def _match(
    choices: Mapping[tuple[str, int], Sequence[int]], room: Sequence[int]
) -> dict[tuple[str, int], int]:
    """Gives each item one of its slots and each slot as many as it has room for.

    Augmenting paths, shortest first, in a fixed order: the same on every machine.
    """
    placed: dict[tuple[str, int], int] = {}
    held: list[dict[tuple[str, int], None]] = [{} for _ in room]
    for item in choices:
        came: dict[int, tuple[str, int]] = {}
        queue = collections.deque([item])
        free = None
        while queue and free is None:
            mover = queue.popleft()
            for slot in choices[mover]:
                if slot not in came:
                    came[slot] = mover
                    if len(held[slot]) < room[slot]:
                        free = slot
                        break
                    queue.extend(held[slot])
        assert free is not None, "fractions of rows have a placement, so whole rows have one"
        while free is not None:
            mover, old = came[free], placed.get(came[free])
            if old is not None:
                del held[old][mover]
            placed[mover], held[free][mover] = free, None
            free = old
    return placed
