"""Which checkpoints stay when a new one is saved."""

from __future__ import annotations

import math
import pathlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from twjax.config import Checkpoint
from twjax.storage import read_json_lines

# The log of a run (`twjax.training.metrics`).
_LOG = "metrics.jsonl"


class Retention:
    """Orbax's preservation policy by `Checkpoint`, all that it names together.

    The newest `keep` of multiples of `every` stay, those of multiples of `keep_every`, the
    `keep_best` best ones, the newest of all, and for each of `wanted` the newest that it is true
    of: the run may have to go back there. A save for a stop that was asked for takes no other's
    place, so that a run that is stopped often has the same earlier states to go back to as one that
    never is.
    """

    def __init__(self, config: Checkpoint, run_dir: pathlib.Path):
        self._config = config
        # Each says whether a run may have to go back to the checkpoint of a step.
        self.wanted: Sequence[Callable[[int], bool]] = ()
        self._scores: dict[int, float] = {}
        if config.keep_best:
            by_step: dict[int, list[dict[str, Any]]] = {}
            for record in read_json_lines(run_dir / _LOG):
                by_step.setdefault(record["step"], []).append(record)
            for step, records in by_step.items():
                self.evaluated(step, records)

    def evaluated(self, step: int, records: Iterable[Mapping[str, Any]]) -> None:
        """Takes note of an evaluation: one record a task."""
        bits = {r["task"]: r["bits_per_byte"] for r in records if r.get("kind", "eval") == "eval"}
        if self._config.keep_best and bits.keys() >= set(self._config.best_tasks):
            values = [bits[task] for task in self._config.best_tasks]
            # The log has null for what isn't finite.
            if all(value is not None and math.isfinite(value) for value in values):
                self._scores[step] = math.fsum(values) / len(values)

    def forget_after(self, step: int) -> None:
        """Forgets the evaluations of later steps."""
        self._scores = {at: score for at, score in self._scores.items() if at <= step}

    def should_preserve(self, checkpoints: Sequence[Any], *, context: Any = None) -> list[bool]:
        """Returns for each checkpoint, oldest first, whether it stays."""
        config, steps = self._config, [checkpoint.step for checkpoint in checkpoints]
        regular = [step for step in sorted(steps) if step % config.every == 0]
        kept = set(regular[-config.keep :]) | set(steps[-1:])
        # As many as are wanted, where the interval was another one before.
        for step in reversed(steps):
            if len(kept) < config.keep:
                kept.add(step)
        if config.keep_every is not None:
            kept |= {step for step in steps if step % config.keep_every == 0}
        # Of equal ones the earlier.
        scored = sorted((self._scores[s], s) for s in regular if s in self._scores)
        kept |= {step for _, step in scored[: config.keep_best]}
        for wanted in self.wanted:
            kept |= set([step for step in regular if wanted(step)][-1:])
        return [step in kept for step in steps]
