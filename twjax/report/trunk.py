"""A branch with what its trunk logged before it: the branch's own log begins where it began."""

from __future__ import annotations

import dataclasses
import os
import pathlib
from typing import Any

from twjax.report.evaluations import Series, size_of
from twjax.report.read import Evaluated, RunLog, by_name, read_run, row_columns
from twjax.training.history import handed_on

# Trunks of trunks: further back than this nobody looks.
_FURTHEST = 20


def whole_run(path: str | os.PathLike[str], name: str | None = None) -> RunLog:
    """Reads a run; of a branch also the evaluations, rows and samples of its trunk, from step 0.

    Where the trunk's log isn't there any more, `missing` says so, and the bits per byte of step 0
    are those that the branch's ledger has. Raises ValueError for a folder that is no run directory.
    """
    return _whole(read_run(path, name), _FURTHEST)


def _whole(run: RunLog, furthest: int) -> RunLog:
    branch = next((record for record in run.ledger if record.get("event") == "branch"), None)
    if branch is None or not isinstance(branch.get("from"), str):
        return run
    step = branch.get("step")
    if not isinstance(step, int) or step <= 0:
        return run
    run = dataclasses.replace(run, branched=step)
    found = _trunk(run, branch, furthest)
    if found is None:
        gone = (pathlib.PurePath(branch["from"]).name, step)
        return dataclasses.replace(run, missing=gone, **by_name(_with_baseline(run)))
    trunk, until = found
    counts = [(s, {t: c[i] for t, c in trunk.rows.items()}) for i, s in enumerate(trunk.row_steps)]
    counts = [(s, rows) for s, rows in counts if s <= until]
    counts += [(s, {t: c[i] for t, c in run.rows.items()}) for i, s in enumerate(run.row_steps)]
    tokens = zip(trunk.steps, trunk.columns["tokens"], strict=True)
    own = {sample.step for sample in run.samples}
    samples = [s for s in trunk.samples if s.step <= until and s.step not in own]
    return dataclasses.replace(
        run,
        row_steps=[s for s, _ in counts],
        rows=row_columns([rows for _, rows in counts]),
        samples=samples + run.samples,
        earlier_tokens=(*trunk.earlier_tokens, *((s, n) for s, n in tokens if s <= until)),
        missing=trunk.missing,
        **by_name(_joined(trunk.evaluated, run.evaluated, until)),
    )


def _trunk(run: RunLog, branch: dict[str, Any], furthest: int) -> tuple[RunLog, int] | None:
    """Returns the trunk and the last step at which its log is the branch's past as well.

    The trunk's folder, or the one of its name beside the branch's, for both may have moved. None
    where there is none, or another run is there by now.
    """
    if not furthest:
        return None
    named = pathlib.Path(branch["from"])
    known = branch.get("events")
    for folder in (named, run.path.resolve().parent / named.name):
        try:
            trunk = read_run(folder)
            events = handed_on(trunk.ledger, run.branched)
        except (AttributeError, KeyError, OSError, TypeError, ValueError):
            continue
        if isinstance(known, list) and events[: len(known)] == known:
            # Where it has gone back since then, its log goes on otherwise.
            later = events[len(known) :]
            back = [e["step"] for e in later if e["event"] in ("resume", "roll_back")]
            return _whole(trunk, furthest - 1), min([run.branched, *back])
    return None


def _joined(earlier: Evaluated, own: Evaluated, until: int) -> Evaluated:
    """Returns the evaluations of a trunk until a step and those of its branch."""
    found = {key: dict(points) for key, points in own.items()}
    for key, points in earlier.items():
        kept = {step: record for step, record in points.items() if step <= until}
        here = own.get(key)
        # What was measured on other rows or questions isn't the same measure.
        same = not (here and kept) or _size(here) == _size(kept)
        if kept and same:
            found[key] = kept | (here or {})
    return found


def _size(points: dict[int, dict[str, Any]]) -> int | None:
    return size_of(points[min(points)])


def _with_baseline(run: RunLog) -> Evaluated:
    """Returns the evaluations with the bits per byte of step 0 that a budget's baseline has."""
    found = dict(run.evaluated)
    known = run.history.baseline if isinstance(run.history.baseline, dict) else {}
    for task, bits in known.items():
        key = Series("eval", task)
        if key in found:
            rows = {"kind": "eval", "bits_per_byte": bits, "bytes": _size(found[key])}
            found[key] = {0: rows} | found[key]
    return found
