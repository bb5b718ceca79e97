"""The training loop: dispatch, look at what is already done, evaluate, save."""

from __future__ import annotations

import contextlib
import dataclasses
import time
from collections.abc import Callable, Generator, Iterator
from typing import Any

import jax

from twjax.config import Run
from twjax.progress import Progress
from twjax.training.checkpoint import Checkpoints
from twjax.training.emergency import LocalCheckpoints
from twjax.training.faults import StopSignal
from twjax.training.goodput import Clock
from twjax.training.metrics import MetricsLog
from twjax.training.state import TrainState
from twjax.training.step import Batch, Metrics

StepFn = Callable[[TrainState, Batch], tuple[TrainState, Metrics]]


@dataclasses.dataclass(frozen=True)
class Way:
    """How a run goes on: its step, and `batches(s)`, which yields those of steps s, s + 1, …"""

    step_fn: StepFn
    batches: Callable[[int], Generator[Batch]]


@dataclasses.dataclass(frozen=True)
class Back:
    """The run goes on from the checkpoint of an earlier step."""

    step: int


@dataclasses.dataclass(frozen=True)
class Halt:
    """The run ends here with an error, when its state is saved."""

    error: Exception


# What follows from an evaluation; None: nothing changes.
Answer = Way | Back | Halt | None


@dataclasses.dataclass(frozen=True)
class Outcome:
    """How a loop ended: the state, whether before the last step, and where to go back to."""

    state: TrainState
    stopped: bool
    back: int | None = None


def train_loop(
    run: Run,
    state: TrainState,
    *,
    start: int,
    way: Way,
    evaluate: Callable[[Any, int], list[dict[str, Any]]],
    answer: Callable[[int, list[dict[str, Any]]], Answer],
    checkpoints: Checkpoints,
    local: LocalCheckpoints | None = None,
    metrics: MetricsLog,
    retreat: Callable[[], Back | None] = lambda: None,
    clock: Clock | None = None,
) -> Outcome:
    """Trains from step `start` to `run.steps`.

    `evaluate(params, step)` returns one record a task, and `answer(step, records)` what follows;
    `retreat()` says whether the steps in `metrics` lead back. `clock` counts where the time goes.
    Evaluation comes before the save of the same step, and is repeated on resume when the log lacks
    it, so that no restart leaves a gap.
    """
    every, save_every = run.evaluation.every, run.checkpoint.every
    stopped, halt = False, None
    clock = clock or Clock()
    compiled: set[Any] = set()

    def take(step: int) -> None:
        nonlocal state
        with clock.spend("reading"):
            batch = next(stream)
        shape = (way.step_fn, tuple(rows.shape for rows in batch.values()))
        cause = "stepping" if shape in compiled else "compiling"
        with clock.profile.step(step, state), clock.spend(cause):
            state, values = way.step_fn(state, batch)
        compiled.add(shape)
        if clock.profile.ends(step):
            with paused():
                clock.profile.finish(values)
        if clock.watchdog is not None:
            clock.watchdog.dispatched(values["loss"])
        metrics.train(step, values)

    @contextlib.contextmanager
    def paused() -> Iterator[None]:
        began = time.perf_counter()
        with clock.spend("saving"):
            yield
        metrics.pause(time.perf_counter() - began)

    def save(step: int, to: Checkpoints | LocalCheckpoints) -> None:
        with paused():
            to.save(state, step, {"step": step, "tokens": metrics.tokens})

    def left(back: Back) -> Outcome:
        clock.profile.finish(state)
        with clock.spend("saving"):
            checkpoints.wait()
        return Outcome(state, False, back.step)

    watched = run.evaluation
    looks = bool(watched.tasks or watched.prompts or watched.suite is not None)

    def look(step: int) -> Answer:
        if not looks:
            return None
        metrics.flush()
        # What is left isn't evaluated.
        if back := retreat():
            return back
        began = time.perf_counter()
        with clock.spend("evaluating"):
            records = evaluate(state.params, step)
            metrics.evaluation(step, records)
            checkpoints.evaluated(step, records)
            answered = answer(step, records)
        metrics.pause(time.perf_counter() - began)
        return answered

    clock.profile.begin(start)
    if clock.watchdog is not None:
        clock.watchdog.begin()
    going = clock.spend("stepping")
    with going, StopSignal() as stop, Progress(run.steps, "train", "step", start) as progress:
        if (start % every == 0 or start == run.steps) and not metrics.was_evaluated(start):
            answered = look(start)
            if isinstance(answered, Way):
                way = answered
            elif isinstance(answered, Halt):
                raise answered.error
            elif isinstance(answered, Back):
                return Outcome(state, False, answered.step)
        stream = way.batches(start)
        for step in range(start + 1, run.steps + 1):
            take(step)
            note = ""
            if step % run.log_every == 0 or step == start + 1:
                # The newest step is still running: fetching it would make the device wait.
                last = metrics.flush(keep=1)
                if back := retreat():
                    return left(back)
                if last:
                    note = f"loss {last['loss']:.3f}  {last['tokens_per_second']:,.0f} tok/s"
            progress.update(1, note)
            stopped = step < run.steps and stop.requested(step)
            # Whoever asked to stop may not wait for an evaluation; resuming makes up for it.
            if (step % every == 0 or step == run.steps) and not stopped:
                answered = look(step)
                if isinstance(answered, Back):
                    return left(answered)
                if isinstance(answered, Halt):
                    halt = answered
                elif isinstance(answered, Way) and step < run.steps:
                    # What was read ahead belongs to the way before.
                    stream.close()
                    way, stream = answered, answered.batches(step)
            ends = step == run.steps or stopped or halt is not None
            near = local if local is not None and local.due(step) and not ends else None
            if near is not None or step % save_every == 0 or ends:
                metrics.flush()
                # Whoever asked to stop may not wait either: resuming goes back then.
                if not stopped and (back := retreat()):
                    return left(back)
            if near is not None:
                save(step, near)
            if step % save_every == 0 or ends:
                save(step, checkpoints)
            if stopped or halt:
                break
        # Asked to stop in the middle of them.
        clock.profile.finish(state)
        with clock.spend("saving"):
            checkpoints.wait()
        jax.block_until_ready(state.step)
    if halt:
        raise halt.error
    return Outcome(state, stopped)
