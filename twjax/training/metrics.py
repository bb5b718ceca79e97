"""Metrics to `metrics.jsonl` and TensorBoard, read from the devices a step late."""

from __future__ import annotations

import contextlib
import json
import math
import pathlib
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Any

import jax

from twjax.storage import atomic_writer, read_json_lines
from twjax.training.board import Board

FILE = "metrics.jsonl"
# (kind, task): which of an evaluation's records one is.
Key = tuple[str, str]


def set_aside(run_dir: pathlib.Path, step: int, number: int) -> None:
    """Moves what was logged after a step to `metrics-abandoned-<number>.jsonl`.

    Whoever is killed on the way does it again: what was moved stays where it is.
    """
    left = [r for r in read_json_lines(run_dir / FILE) if r["step"] > step]
    aside = run_dir / f"metrics-abandoned-{number}.jsonl"
    if left or not aside.exists():
        _write(aside, left)
    cut(run_dir, step)


def cut(run_dir: pathlib.Path, step: int) -> None:
    """Takes what was logged after a step out of the log."""
    records = read_json_lines(run_dir / FILE)
    kept = [r for r in records if r["step"] <= step]
    if len(kept) < len(records):
        _write(run_dir / FILE, kept)


def _write(path: pathlib.Path, records: Sequence[Mapping[str, Any]]) -> None:
    with atomic_writer(path) as file:
        file.writelines(json.dumps(r, ensure_ascii=False) + "\n" for r in records)


def bad_at_end(run_dir: pathlib.Path, step: int) -> int:
    """Returns how many steps in a row were skipped, the last of them `step`."""
    records = [r for r in read_json_lines(run_dir / FILE) if r["kind"] == "train"]
    skipped = {r["step"] for r in records if r.get("skipped")}
    first = step
    while first in skipped:
        first -= 1
    return step - first


class MetricsLog:
    """Writes one line a training step and one a task of an evaluation.

    Device scalars are queued and fetched together when the next step is already dispatched, so
    that logging never makes a device wait. Only the process with `write` writes files. Opening
    drops what the files hold beyond `step`, and an evaluation at `step` that lacks one of `keys`,
    (kind, task) of the records of a whole one; with `anew` all that they hold. TensorBoard shows
    `settings` as a text. `see` is given each step's record, `seconds` tells where the time went.
    """

    def __init__(
        self,
        run_dir: pathlib.Path,
        *,
        step: int,
        tokens: int,
        keys: Collection[Key] = (),
        rows: Callable[[int], dict[str, int]],
        write: bool = True,
        anew: bool = False,
        settings: Mapping[str, Any] | None = None,
        see: Callable[[Mapping[str, Any]], None] | None = None,
        seconds: Callable[[], dict[str, float]] | None = None,
    ):
        self._write, self._see, self._seconds = write, see, seconds
        self._rows = rows
        self._pending: list[tuple[int, dict[str, jax.Array]]] = []
        self._tokens = tokens
        self._clock: tuple[float, int, int] | None = None
        self._paused = 0.0
        self._path = run_dir / FILE
        logged = [] if anew else read_json_lines(self._path)
        records = [r for r in logged if r["step"] <= step]
        self._evaluated = complete_evaluations(records, keys)
        if write:
            # Only the newest can have been cut off by a kill.
            torn = step not in self._evaluated
            kept = [r for r in records if r["kind"] == "train" or r["step"] < step or not torn]
            _write(self._path, kept)
            self._file = self._path.open("a", encoding="utf-8")
            self._board = Board(run_dir / "tb", step + 1)
            if settings:
                self._board.config(settings)

    @property
    def tokens(self) -> int:
        """Predicted tokens of all flushed steps since the run began."""
        return self._tokens

    def was_evaluated(self, step: int) -> bool:
        """Whether the log already holds an evaluation at this step."""
        return step in self._evaluated

    def evaluations(self, step: int) -> list[dict[str, Any]]:
        """Returns what the log holds of an evaluation, one record a task."""
        records = read_json_lines(self._path)
        return [r for r in records if r["kind"] == "eval" and r["step"] == step]

    def train(self, step: int, metrics: dict[str, jax.Array]) -> None:
        """Queues the metrics of a dispatched step."""
        if self._clock is None:
            self._clock = (time.perf_counter(), step - 1, self._tokens)
        self._pending.append((step, metrics))

    def pause(self, seconds: float) -> None:
        """Leaves time that was not training (an evaluation, a save) out of the throughput."""
        if self._clock is not None:
            self._paused += seconds

    def flush(self, keep: int = 0) -> dict[str, float]:
        """Fetches and writes queued steps, but the newest `keep`; returns the last one's values.

        Raises FloatingPointError at a loss or gradient norm that is not finite and that no step
        has skipped.
        """
        count = len(self._pending) - keep
        if count <= 0:
            return {}
        ready, self._pending = self._pending[:count], self._pending[count:]
        fetched = jax.device_get([metrics for _, metrics in ready])
        record: dict[str, Any] = {}
        for (step, _), values in zip(ready, fetched, strict=True):
            self._tokens += round(float(values["tokens"]))
            record = {
                "kind": "train",
                "step": step,
                **{name: float(value) for name, value in values.items()},
                "tokens": self._tokens,
            }
            if step == ready[-1][0]:
                record |= self._speed(step) | {"rows": self._rows(step)}
            self._line(record)
            if self._see is not None:
                self._see(record)
            finite = math.isfinite(record["loss"]) and math.isfinite(record["grad_norm"])
            if not finite and not record.get("skipped"):
                self._sync()
                raise FloatingPointError(
                    f"step {step}: loss {record['loss']}, gradient norm {record['grad_norm']}; "
                    "the state of this step was not saved. Lower Schedule.peak or "
                    "Optimizer.clip_norm, or look at the data of this step."
                )
        for name in ("loss", "accuracy", "grad_norm", "learning_rate", "tokens_per_second"):
            self._scalar(f"train/{name}", record.get(name), record["step"])
        self._sync()
        return {name: value for name, value in record.items() if isinstance(value, (int, float))}

    def evaluation(self, step: int, records: list[dict[str, Any]]) -> None:
        """Writes one line a task, those of held-out rows last."""
        self._evaluated.add(step)
        for record in sorted(records, key=lambda r: r.get("kind", "eval") == "eval"):
            line = {"kind": "eval", "step": step, "train_tokens": self._tokens, **record}
            self._line(line)
            shown = ["bits_per_byte"] if line["kind"] == "eval" else line
            for name in shown:
                if isinstance(line[name], float):
                    self._scalar(f"{line['kind']}/{line['task']}/{name}", line[name], step)
        self._sync()

    def close(self) -> None:
        """Closes files; queued device values are not fetched."""
        if self._write:
            # An error of writing was raised where it happened; here it would hide another.
            for file in (self._file, self._board):
                with contextlib.suppress(OSError):
                    file.close()

    def _speed(self, step: int) -> dict[str, Any]:
        """Returns what the steps since the last record took, and the time of day (Unix seconds)."""
        assert self._clock is not None
        start, first, tokens = self._clock
        now = time.perf_counter()
        seconds = max(now - start - self._paused, 1e-9)
        paused = self._paused
        self._clock, self._paused = (now, step, self._tokens), 0.0
        spent = {} if self._seconds is None else {"seconds": self._seconds()}
        return {
            "tokens_per_second": (self._tokens - tokens) / seconds,
            "step_seconds": seconds / max(step - first, 1),
            "paused_seconds": paused,
            "time": time.time(),
            **spent,
        }

    def _line(self, record: dict[str, Any]) -> None:
        if self._write:
            # JSON has no NaN; null keeps the line readable for every tool.
            clean = {
                k: None if isinstance(v, float) and not math.isfinite(v) else v
                for k, v in record.items()
            }
            with self._named(self._path):
                self._file.write(json.dumps(clean, ensure_ascii=False) + "\n")

    def _scalar(self, name: str, value: float | None, step: int) -> None:
        if self._write and value is not None and math.isfinite(value):
            with self._named(self._path.with_name("tb")):
                self._board.scalar(name, value, step)

    def _sync(self) -> None:
        if self._write:
            with self._named(self._path):
                self._file.flush()
            with self._named(self._path.with_name("tb")):
                self._board.flush()

    @contextlib.contextmanager
    def _named(self, path: pathlib.Path) -> Iterator[None]:
        """Gives an error of writing the name of the file, which the system leaves out."""
        try:
            yield
        except OSError as error:
            raise OSError(f"{path}: can't be written ({error.strerror or error}).") from error


def complete_evaluations(records: list[dict[str, Any]], keys: Collection[Key]) -> set[int]:
    """Returns the steps of evaluations that have a record of each (kind, task) of `keys`."""
    seen: dict[int, set[Key]] = {}
    for record in records:
        if record["kind"] != "train":
            seen.setdefault(record["step"], set()).add((record["kind"], record["task"]))
    return {step for step, found in seen.items() if found >= set(keys)}
