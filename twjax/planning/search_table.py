"""What a search found, as text for people and as JSON for programs."""

from __future__ import annotations

import collections
import dataclasses
from collections.abc import Sequence
from typing import Any

from twjax.config import Run
from twjax.planning.candidates import Candidate, Point
from twjax.planning.memory import MARGIN
from twjax.planning.search import Found, Outcome
from twjax.planning.table import as_dict
from twjax.planning.topology import GIB, Topology

# Lines of what was pruned and of what wasn't reached that are printed; JSON has them all.
_SHOWN = 5
_FAILED = 20
COLUMNS = ("", "step s", "tokens/s", "MFU", "GiB", "mesh", "rows", "micro", "saved")


def render_found(found: Found, run: Run, topology: Topology, name: str) -> str:
    """Returns the tables that `twjax plan --search` prints."""
    blocks = [
        [
            f"{name} on {topology.name}: {_counted(found)}, in {found.seconds / 60:.1f} min",
        ],
        _fitting(found, run, topology),
        _failed(found),
        _pruned(found),
        _untried(found),
    ]
    return "\n\n".join("\n".join(block) for block in blocks if block)


def cells(outcome: Outcome, found: Found, own: Point) -> tuple[str, ...]:
    """Returns the columns of one that fits."""
    plan, point = outcome.plan, outcome.candidate.point
    assert plan is not None
    mark = "*" if outcome in found.front else ""
    if point == own:
        mark += "="
    axes = " ".join(f"{axis} {size}" for axis, size in point.sizes.items() if size > 1)
    step = "" if plan.prediction is None else f"{plan.prediction.seconds:.3f}"
    speed = "" if plan.tokens_per_second is None else f"{plan.tokens_per_second:,.0f}"
    mfu = "" if plan.mfu is None else f"{plan.mfu:.1%}"
    return (
        mark,
        step,
        speed,
        mfu,
        f"{plan.memory.total / GIB:.2f}",
        axes or "one device",
        f"{point.rows:g}",
        str(point.accumulation),
        point.saved_words(),
    )


def reasons(found: Found) -> dict[str, int]:
    """Returns how many points each fate had."""
    counts = collections.Counter(outcome.state for outcome in found.outcomes)
    pruned = len(found.considered.too_large)
    return {
        "fit": counts["fits"],
        "compiled or known, and too large": counts["too large"],
        "refused by the compiler": counts["failed"],
        "ended for their time": counts["out of time"],
        "not tried": counts["not tried"],
        "pruned by the memory model": pruned,
        "can't be divided so": found.considered.indivisible,
    }


def _counted(found: Found) -> str:
    told = [f"{count:,} {fate}" for fate, count in reasons(found).items() if count]
    return ", ".join(told)


def _fitting(found: Found, run: Run, topology: Topology) -> list[str]:
    if not found.fitting:
        limit = f"{found.usable / GIB:.2f} GiB"
        return [f"Nothing that was compiled fits {limit}; more --minutes may find something."]
    own = Point.of(run, topology.num_devices)
    rows = [COLUMNS, *(cells(outcome, found, own) for outcome in found.fitting)]
    lines = _aligned(rows)
    notes = ["* nothing else is better in both time and memory; the others are beaten in both"]
    if any("=" in row[0] for row in rows[1:]):
        notes.append("= what the configuration says")
    notes.append("rows: a device's at a time; micro: microbatches of a step (Step.accumulation)")
    return [*lines, *(f"  {note}" for note in notes)]


def _aligned(rows: Sequence[tuple[str, ...]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    numbers = {1, 2, 3, 4, 6, 7}
    return [
        "  ".join(
            cell.rjust(width) if place in numbers else cell.ljust(width)
            for place, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]


def _failed(found: Found) -> list[str]:
    lines = [
        f"  {outcome.candidate.point.describe()}: {outcome.why}"
        for outcome in found.outcomes
        if outcome.state in ("too large", "failed", "out of time")
    ]
    if not lines:
        return []
    more = len(lines) - _FAILED
    rest = [f"  and {more:,} more, in --json"] if more > 0 else []
    return ["compiled without a step that fits", *lines[:_FAILED], *rest]


def _pruned(found: Found) -> list[str]:
    large = found.considered.too_large
    if not large:
        return []
    head = (
        f"not compiled, because the memory model finds more than {1 + MARGIN:.0%} of "
        f"{found.usable / GIB:.2f} GiB: {len(large):,}"
    )
    nearest = sorted(large, key=lambda candidate: candidate.memory.total)
    return [head, *_some(nearest)]


def _untried(found: Found) -> list[str]:
    left = [outcome.candidate for outcome in found.outcomes if outcome.state == "not tried"]
    if not left:
        return []
    return [f"not compiled when the search ended: {len(left):,}; next were", *_some(left)]


def _some(candidates: Sequence[Candidate]) -> list[str]:
    lines = [
        f"  {candidate.point.describe()}: about {candidate.seconds:.3g} s, "
        f"{candidate.memory.total / GIB:.1f} GiB"
        for candidate in candidates[:_SHOWN]
    ]
    more = len(candidates) - _SHOWN
    return [*lines, f"  and {more:,} more"] if more > 0 else lines


def found_dict(found: Found, run: Run, topology: Topology) -> dict[str, Any]:
    """Returns everything that a search knows; bytes and seconds unrounded."""
    front = found.front

    def one(candidate: Candidate) -> dict[str, Any]:
        point = candidate.point
        return {
            "mesh": point.sizes,
            "batch_size": point.batch_size,
            "accumulation": point.accumulation,
            "remat": point.remat,
            "offload": point.offload,
            "bindings": point.bindings(run, topology.num_devices),
            "expected_seconds": candidate.seconds,
            "expected_bytes": dataclasses.asdict(candidate.memory)
            | {"total": candidate.memory.total},
        }

    return {
        "topology": topology.name,
        "usable_bytes": found.usable,
        "seconds": found.seconds,
        "counts": reasons(found),
        "outcomes": [
            one(outcome.candidate)
            | {
                "state": outcome.state,
                "why": outcome.why,
                "best": outcome == found.best,
                "front": outcome in front,
                "wall_seconds": outcome.wall_seconds,
                "plan": None if outcome.plan is None else as_dict(outcome.plan),
            }
            for outcome in found.outcomes
        ],
        "too_large": [one(candidate) for candidate in found.considered.too_large],
    }
