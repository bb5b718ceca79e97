"""RUN/evaluations.jsonl: what was evaluated beside a run, in the shapes of its metrics.jsonl."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import pathlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from twjax.storage import atomic_writer, read_json_lines
from twjax.training import ledger

FILE = "evaluations.jsonl"
# Of each kind of evaluation: what counts the items that it was measured on.
SIZES = {
    "eval": "bytes",
    "choice": "items",
    "pairs": "pairs",
    "probes": "probes",
    "writing": "texts",
    "generation": "examples",
}


class Key(NamedTuple):
    """What was measured: records of one step with one key are the same measurement.

    `shots` examples stand before a multiple-choice question, in a `style` and a `wording`. `size`
    counts what was measured on, in the unit of `SIZES`: other rows of a task are another measure.
    """

    kind: str
    task: str
    shots: int = 0
    style: str = ""
    wording: str = ""
    size: int | None = None


def key_of(record: Mapping[str, Any]) -> Key:
    """Returns what a record measures, whatever is in it."""
    kind = str(record.get("kind"))
    task = str(record.get("task", "(unnamed)"))
    size = _number(record.get(SIZES.get(kind, "")))
    if kind != "choice":
        return Key(kind, task, size=size)
    style, wording = (str(record.get(name, "")) for name in ("style", "wording"))
    return Key(kind, task, _number(record.get("shots")) or 0, style, wording, size)


def _number(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None


class Records:
    """The records of a run, appended by any number of processes, each append whole or not at all.

    A rollback of the run takes the records of later steps out of the file, into
    `evaluations-abandoned-<number>.jsonl`, as it does with those of the training log.
    """

    def __init__(self, run_dir: pathlib.Path):
        self._run_dir, self._path = run_dir, run_dir / FILE

    def done(self) -> dict[int, set[Key]]:
        """Returns what has been evaluated, by step."""
        found: dict[int, set[Key]] = {}
        for record in read_json_lines(self._path):
            found.setdefault(record["step"], set()).add(key_of(record))
        return found

    def rollbacks(self) -> list[int]:
        """Returns the steps that the run has gone back to, in order."""
        return rollbacks(ledger.read(self._run_dir))

    def leave_abandoned(self) -> None:
        """Takes out what was evaluated beyond a step that the run has gone back to since then."""
        for aside, step in not_set_aside(self._run_dir, self.rollbacks()):
            with self._alone():
                records = read_json_lines(self._path)
                left = [record for record in records if record["step"] > step]
                # In this order: a kill in between leaves records in both, and none is lost.
                _write(aside, left)
                if left:
                    _write(self._path, [r for r in records if r["step"] <= step])

    def append(
        self, records: Sequence[dict[str, Any]], wanted: Callable[[], bool] = lambda: True
    ) -> bool:
        """Adds records, on disk when this returns; leaves out those that are there already.

        Those are of the same step and `Key`. Adds nothing and returns False where `wanted` says so
        when no one else writes any more.
        """
        with self._alone():
            if not wanted():
                return False
            if self._path.exists() and not self._path.read_bytes().endswith(b"\n"):
                # A kill in mid-write left a line without its end: it goes, the whole ones stay.
                _write(self._path, read_json_lines(self._path))
            done = self.done()
            lines = "".join(
                json.dumps(record, ensure_ascii=False) + "\n"
                for record in records
                if key_of(record) not in done.get(record["step"], ())
            )
            with self._path.open("ab") as file:
                file.write(lines.encode())
                file.flush()
                os.fsync(file.fileno())
        return True

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        with (self._run_dir / ".evaluations.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield


def rollbacks(events: Iterable[dict[str, Any]]) -> list[int]:
    """Returns the steps that a ledger's run has gone back to, in order."""
    return [event["step"] for event in events if event.get("event") == "roll_back"]


def not_set_aside(run_dir: pathlib.Path, back: Sequence[int]) -> list[tuple[pathlib.Path, int]]:
    """Returns the rollbacks, of all in order, whose later records are still in the file.

    Each is the file where they belong and the step. Nobody sets them aside before the next
    evaluation beside the run.
    """
    asides = [run_dir / f"evaluations-abandoned-{n}.jsonl" for n in range(1, len(back) + 1)]
    return [(aside, step) for aside, step in zip(asides, back, strict=True) if not aside.exists()]


def _write(path: pathlib.Path, records: Sequence[dict[str, Any]]) -> None:
    with atomic_writer(path) as file:
        file.writelines(json.dumps(record, ensure_ascii=False) + "\n" for record in records)
