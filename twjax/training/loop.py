"""The training loop: dispatch, look at what is already done, evaluate, save."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Iterator
from typing import Any

import jax

from twjax.config import Run
from twjax.progress import Progress
from twjax.training.checkpoint import Checkpoints
from twjax.training.faults import StopSignal
from twjax.training.metrics import MetricsLog
from twjax.training.state import TrainState
from twjax.training.step import Batch, Metrics


@dataclasses.dataclass(frozen=True)
class Outcome:
    """How a loop ended: the state, and whether it was asked to stop before the last step."""

    state: TrainState
    stopped: bool


def train_loop(
    run: Run,
    state: TrainState,
    *,
    start: int,
    step_fn: Callable[[TrainState, Batch], tuple[TrainState, Metrics]],
    batches: Callable[[int], Iterator[Batch]],
    evaluate: Callable[[Any, int], list[dict[str, Any]]],
    checkpoints: Checkpoints,
    metrics: MetricsLog,
) -> Outcome:
    """Trains from step `start` to `run.steps`.

    `batches(s)` yields the batches of steps s, s + 1, …; `evaluate(params, step)` returns one
    record a task. Evaluation comes before the save of the same step, and is repeated on resume
    when the log lacks it, so that no restart leaves a gap.
    """
    every, save_every = run.evaluation.every, run.checkpoint.every
    stopped = False

    looks = bool(run.evaluation.tasks or run.evaluation.prompts)

    def look(step: int) -> None:
        if looks:
            metrics.flush()
            began = time.perf_counter()
            metrics.evaluation(step, evaluate(state.params, step))
            metrics.pause(time.perf_counter() - began)

    with StopSignal() as stop, Progress(run.steps, "train", "step", start) as progress:
        if (start % every == 0 or start == run.steps) and not metrics.was_evaluated(start):
            look(start)
        stream = batches(start)
        for step in range(start + 1, run.steps + 1):
            state, values = step_fn(state, next(stream))
            metrics.train(step, values)
            note = ""
            if step % run.log_every == 0 or step == start + 1:
                # The newest step is still running: fetching it would make the device wait.
                last = metrics.flush(keep=1)
                if last:
                    note = f"loss {last['loss']:.3f}  {last['tokens_per_second']:,.0f} tok/s"
            progress.update(1, note)
            stopped = step < run.steps and stop.requested(step)
            # Whoever asked to stop may not wait for an evaluation; resuming makes up for it.
            if (step % every == 0 or step == run.steps) and not stopped:
                look(step)
            if step % save_every == 0 or step == run.steps or stopped:
                metrics.flush()
                began = time.perf_counter()
                checkpoints.save(state, step, {"step": step, "tokens": metrics.tokens})
                metrics.pause(time.perf_counter() - began)
            if stopped:
                break
        checkpoints.wait()
        jax.block_until_ready(state.step)
    return Outcome(state, stopped)
