"""A process that runs SeqIO's evaluator for one that may not import SeqIO or TensorFlow."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from typing import Any, Self

# Settings of the asking process that the other one must not follow: it computes on the CPU, alone.
_ALONE = {"JAX_PLATFORMS": "cpu", "CUDA_VISIBLE_DEVICES": "", "TF_CPP_MIN_LOG_LEVEL": "3"}


class TaskProcess:
    """Starts `twjax.data.task_evaluation` and ends it; a context manager.

    `examples`, then `metrics` of what was generated for them; then the next task. Errors of the
    other process are ValueErrors with its message. It ends with this one, however this one ends.
    """

    def __enter__(self) -> Self:
        self._errors = tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace")
        self._process = subprocess.Popen(
            [sys.executable, "-m", "twjax.data.task_evaluation"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
            encoding="utf-8",
            env={**os.environ, **_ALONE},
        )
        return self

    def __exit__(self, *exc: object) -> None:
        assert self._process.stdin is not None
        # It ends when its standard input does.
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.close()
        self._process.wait()
        assert self._process.stdout is not None
        self._process.stdout.close()
        self._errors.close()

    @property
    def pid(self) -> int:
        return self._process.pid

    def examples(
        self,
        task: str,
        *,
        split: str,
        vocabulary: str,
        imports: Sequence[str],
        sequence_length: dict[str, int],
        count: int | None,
    ) -> tuple[list[dict[str, Any]], int]:
        """Returns the first `count` examples of a task (None: all), in the evaluator's order.

        Each has inputs and targets (ids), prompt and answer (text). The number is of those whose
        inputs were longer than `sequence_length` and lost their end.
        """
        order = {
            "task": task,
            "split": split,
            "vocabulary": os.path.abspath(vocabulary),
            "imports": list(imports),
            "sequence_length": sequence_length,
            "examples": count,
        }
        reply = self._ask(order)
        return reply["examples"], reply["cut_short"]

    def metrics(self, predictions: Sequence[Sequence[int]]) -> tuple[dict[str, Any], list[str]]:
        """Returns the metrics of the ids generated for each example, and these as text."""
        reply = self._ask({"predictions": [list(map(int, ids)) for ids in predictions]})
        return reply["metrics"], reply["outputs"]

    def _ask(self, message: dict[str, Any]) -> dict[str, Any]:
        assert self._process.stdin is not None and self._process.stdout is not None
        try:
            self._process.stdin.write(json.dumps(message) + "\n")
            self._process.stdin.flush()
            line = self._process.stdout.readline()
        except BrokenPipeError:
            line = ""
        if not line:
            raise RuntimeError(
                f"the process of SeqIO's evaluator ended (exit status {self._process.wait()}): "
                f"{self._last_words()}"
            )
        reply = json.loads(line)
        if "error" in reply:
            raise ValueError(reply["error"])
        return reply

    def _last_words(self) -> str:
        self._errors.seek(0)
        lines = [line.strip() for line in self._errors if line.strip()]
        return lines[-1] if lines else "it said nothing"
