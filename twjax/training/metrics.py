"""Metrics to `metrics.jsonl` and TensorBoard, read from the devices a step late."""

from __future__ import annotations

import json
import math
import pathlib
import time
from collections.abc import Callable
from typing import Any

import jax
import tensorboardX

from twjax.storage import atomic_writer, read_json_lines

FILE = "metrics.jsonl"


class MetricsLog:
    """Writes one line a training step and one a task of an evaluation.

    Device scalars are queued and fetched together when the next step is already dispatched, so
    that logging never makes a device wait. Only the process with `write` writes files.
    """

    def __init__(
        self,
        run_dir: pathlib.Path,
        *,
        step: int,
        tokens: int,
        rows: Callable[[int], dict[str, int]],
        write: bool = True,
    ):
        self._write = write
        self._rows = rows
        self._pending: list[tuple[int, dict[str, jax.Array]]] = []
        self._tokens = tokens
        self._evaluated: set[int] = set()
        self._clock: tuple[float, int, int] | None = None
        self._paused = 0.0
        path = run_dir / FILE
        if path.exists():
            self._evaluated = {
                record["step"]
                for record in read_json_lines(path)
                if record["kind"] == "eval" and record["step"] <= step
            }
        if write:
            _truncate(path, step)
            self._file = path.open("a", encoding="utf-8")
            # Points after the restored step are written again, with the same values.
            self._board = tensorboardX.SummaryWriter(str(run_dir / "tb"), purge_step=step + 1)

    @property
    def tokens(self) -> int:
        """Predicted tokens of all flushed steps since the run began."""
        return self._tokens

    def was_evaluated(self, step: int) -> bool:
        """Whether the log already holds an evaluation at this step."""
        return step in self._evaluated

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

        Raises FloatingPointError at a loss or gradient norm that is not finite.
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
            if not (math.isfinite(record["loss"]) and math.isfinite(record["grad_norm"])):
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
        """Writes one line a task."""
        self._evaluated.add(step)
        for record in records:
            self._line({"kind": "eval", "step": step, "train_tokens": self._tokens, **record})
            self._scalar(f"eval/{record['task']}/bits_per_byte", record["bits_per_byte"], step)
        self._sync()

    def close(self) -> None:
        """Flushes files; queued device values are not fetched."""
        if self._write:
            self._sync()
            self._file.close()
            self._board.close()

    def _speed(self, step: int) -> dict[str, float]:
        assert self._clock is not None
        start, first, tokens = self._clock
        now = time.perf_counter()
        seconds = max(now - start - self._paused, 1e-9)
        self._clock, self._paused = (now, step, self._tokens), 0.0
        return {
            "tokens_per_second": (self._tokens - tokens) / seconds,
            "step_seconds": seconds / max(step - first, 1),
        }

    def _line(self, record: dict[str, Any]) -> None:
        if self._write:
            # JSON has no NaN; null keeps the line readable for every tool.
            clean = {
                k: None if isinstance(v, float) and not math.isfinite(v) else v
                for k, v in record.items()
            }
            self._file.write(json.dumps(clean, ensure_ascii=False) + "\n")

    def _scalar(self, name: str, value: float | None, step: int) -> None:
        if self._write and value is not None:
            self._board.add_scalar(name, value, step)

    def _sync(self) -> None:
        if self._write:
            self._file.flush()
            self._board.flush()


def _truncate(path: pathlib.Path, step: int) -> None:
    """Drops lines past the restored step and a torn last line; they are written again."""
    if not path.exists():
        return
    records = [record for record in read_json_lines(path) if record["step"] <= step]
    with atomic_writer(path) as file:
        file.writelines(json.dumps(record, ensure_ascii=False) + "\n" for record in records)
