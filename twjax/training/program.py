"""A training run from its configuration to its last checkpoint: preflight, restore, loop."""

from __future__ import annotations

import dataclasses
import pathlib
from collections.abc import Sequence
from typing import Any

import jax
import optax
from jax.experimental import multihost_utils

from twjax.config import ConfigError, Loaded, Run, compare, flatten
from twjax.data.course import Course
from twjax.data.loader import Readers, batches, open_course
from twjax.data.mixture import ORDER
from twjax.models import adapters
from twjax.models.attention import Kind
from twjax.models.network import network as declare
from twjax.parallel.mesh import make_mesh
from twjax.parallel.sharding import batch_sharding
from twjax.progress import say
from twjax.storage import local_folder
from twjax.training import branch, ledger
from twjax.training.anchors import Anchors
from twjax.training.bad_steps import BadSteps
from twjax.training.base import FrozenBase, Taught, base_of
from twjax.training.budget import Look
from twjax.training.checkpoint import Checkpoints, Restored
from twjax.training.emergency import LocalCheckpoints
from twjax.training.goodput import Clock
from twjax.training.guard import guarded
from twjax.training.history import History
from twjax.training.loop import Answer, Back, Halt, Outcome, StepFn, Way, train_loop
from twjax.training.metrics import MetricsLog, bad_at_end, cut, set_aside
from twjax.training.new_rows import new_rows_of
from twjax.training.optimizer import make_optimizer
from twjax.training.papers import describe, finish, freeze, only_writer, versions
from twjax.training.preflight import (
    check_batch,
    check_caches,
    check_config,
    check_device,
    check_reading,
    check_vocabulary,
    fingerprints,
    is_complete,
)
from twjax.training.profiling import Profile
from twjax.training.schedule import Rate, scaled
from twjax.training.self_test import self_test
from twjax.training.senders import Senders
from twjax.training.source import Source, run_schedule
from twjax.training.start import OpenFolder, find_start, first_state
from twjax.training.state import TrainState, abstract_state
from twjax.training.steering import Steering
from twjax.training.step import make_train_step
from twjax.training.teach import open_tops
from twjax.training.trained import Trained
from twjax.training.watchdog import Watchdog
from twjax.training.watched import MakeWatch


def train(
    loaded: Loaded[Run],
    run_dir: pathlib.Path,
    make_watch: MakeWatch,
    *,
    allow_change: bool = False,
    config_name: str = "CONFIG",
    open_folder: OpenFolder | None = None,
    branch_from: str | None = None,
    profile: Profile | None = None,
    attends: Kind | None = None,
) -> bool:
    """Trains a run to its end, from its newest checkpoint if it has one.

    `open_folder` opens what "hf:DIR" in `Run.init` names. `branch_from` ("RUN@STEP") begins a run
    with the whole state of another one's checkpoint, at its step. `profile` traces some steps.
    `attends` computes attention instead of what `Step.attention` chooses.

    Returns True when the run is finished, False when it was asked to stop; either way the state
    is on disk. Everything that can be wrong is checked before the first step.
    """
    run_dir = local_folder(run_dir)
    with (
        only_writer(run_dir),
        Watchdog(loaded.value.faults, run_dir) as watchdog,
        Checkpoints(run_dir, loaded.value.checkpoint) as checkpoints,
    ):
        if branch_from is not None:
            branch.begin(branch_from, loaded.value, run_dir, allow_change)
        program = _Program(loaded, run_dir, checkpoints, make_watch, allow_change, config_name)
        program.clock = Clock(watchdog, profile)
        program.attends = attends
        program.prepare(open_folder)
        self_test(program.run, program.mesh, attends)
        with jax.set_mesh(program.mesh), program.senders:
            return program.run_to_end()


class _Program:
    """A run between its configuration and its last checkpoint."""

    def __init__(
        self,
        loaded: Loaded[Run],
        run_dir: pathlib.Path,
        checkpoints: Checkpoints,
        make_watch: MakeWatch,
        allow_change: bool,
        config_name: str,
    ):
        self.loaded, self.run, self.run_dir = loaded, loaded.value, run_dir
        self.checkpoints, self.config_name = checkpoints, config_name
        self.make_watch, self.allow_change = make_watch, allow_change
        self.first = jax.process_index() == 0
        self.senders = Senders(run_dir, self.run.tracking if self.first else None)
        self.mesh = make_mesh(self.run.mesh)
        self.local = LocalCheckpoints(run_dir, self.run.checkpoint, self.mesh)
        self.changes: list[Any] = []
        self.clock = Clock()
        self.attends: Kind | None = None

    def prepare(self, open_folder: OpenFolder | None) -> None:
        """Opens and checks everything that the run needs, before any device work."""
        run, run_dir, mesh = self.run, self.run_dir, self.mesh
        check_batch(run, mesh)
        check_device(run, jax.local_devices()[0])
        self.network = declare(run.model)
        self.history = History.of(run_dir)
        if jax.process_count() > 1:
            # Nobody writes before all have read.
            multihost_utils.sync_global_devices("history")
        self._finish_rollback()
        steps = self.checkpoints.steps
        steps += self.local.look(steps[-1] if steps else 1)
        trunk = self.history.branch
        begun = bool(steps) or trunk is not None
        step = steps[-1] if steps else trunk["step"] if trunk else 0
        if steps:
            self.changes = check_config(run, run_dir, self.allow_change)
        elif trunk is not None:
            self.changes = compare(Source.open(trunk["from"], step).run, run)
        else:
            # What was tried before without a checkpoint decides nothing.
            self.history = History()
        self.history = self.history.reconsidered(step, [change.path for change in self.changes])
        self.anew = not begun
        known = self.history.readings[-1][1] if self.history.readings else None
        self.changed = check_reading(run, run_dir, known, step, self.allow_change)
        self.readings = self.history.read_as(run.reading, self.changed)
        self.readers, self.course = self._open(self.history.until(step))
        every = [reader for some in self.readers.values() for reader in some.values()]
        check_vocabulary(run, every)
        self.vocabulary = every[0].info.vocabulary["sha256"]
        self.watch = self.make_watch(run, self.network, mesh, self.vocabulary)
        self.caches = self.watch.caches | fingerprints(run, self.readers)
        if begun:
            check_caches(run_dir, self.caches, self.allow_change)
        self.source = find_start(
            run, self.history, self.network, mesh, self.vocabulary, begun, open_folder
        )
        self.learner = adapters.adapted(self.network, run.adapter)
        self.trained = Trained.of(run, self.learner.specs)
        merged = adapters.merger(self.learner, mesh)
        self.evaluate = lambda params, step: self.watch(merged(params), step)
        record = self.source.record if self.source else None
        self.base = base_of(run, self.network, self.trained, mesh, record)
        self.tops = None
        if isinstance(self.base, Taught) and record is not None:
            self.tops = open_tops(run, record, self.readers, self.config_name)
        self.open_folder = open_folder

    def run_to_end(self) -> bool:
        """Trains, and goes back where the budget says so; returns whether the run is finished."""
        abstract = abstract_state(self.learner, self._optimizer(()), self.mesh, self.trained)
        restored = self._restore(abstract) or self._first(abstract)
        self.checkpoints.make_up(restored)
        start = restored.meta["step"]
        run, run_dir = self.run, self.run_dir
        if start > run.steps:
            raise ConfigError(
                f"Run.steps ({run.steps}) is less than the {start} steps that {run_dir} has "
                "done already."
            )
        if start == run.steps and is_complete(run, run_dir, self.watch.keys):
            if self.first:
                say(f"{run_dir}: all {run.steps} steps are done.")
                finish(run_dir, start)
            self.local.remove()
            return True
        if self.first:
            self.clock.take_up(run_dir, start)
            describe(run, self.learner, self.trained, self.mesh, start, self.source)
            self._note(start)
        if jax.process_count() > 1:
            # All see what the first one keeps with the run.
            multihost_utils.sync_global_devices("noted")
        if isinstance(self.base, FrozenBase) and self.source is not None:
            params = None if start else restored.state.params
            record, opened = self.source.record, self.open_folder
            self.kept = self.base.begin(run, params, record, self.vocabulary, opened)
        self._save_missing(restored)
        while True:
            outcome = self._go(restored)
            back = outcome.back
            if back is None:
                break
            # Memory for two states may not be there.
            del outcome, restored
            self._finish_rollback()
            if self.first:
                self.clock.back_to(run_dir, back)
            restored = self._restore(abstract, back) or self._first(abstract)
        step = int(outcome.state.step)
        if self.first and outcome.stopped:
            ledger.append(run_dir, "stop", step, goodput=self.clock.record())
            say(f"Asked to stop: step {step} is saved; the same command goes on from there.")
        elif self.first:
            finish(run_dir, step, goodput=self.clock.record())
        if not outcome.stopped:
            self.local.remove()
        return not outcome.stopped

    def _restore(self, abstract: TrainState, step: int | None = None) -> Restored | None:
        """Reads a step's checkpoint, or the newest one of the run's hosts or its folder, if any."""
        with self.clock.spend("restoring"):
            if step is not None:
                kept = step in self.checkpoints.steps
                return self.checkpoints.restore(abstract, step) if kept else None
            if (local := self.local.restore(abstract)) is not None:
                return Restored(*local)
            return self.checkpoints.restore_latest(abstract)

    def _save_missing(self, restored: Restored) -> None:
        """Saves what the run's hosts had kept of a step whose checkpoint a kill cut off."""
        step = restored.meta["step"]
        regular = step % self.run.checkpoint.every == 0
        if self.local.record() and regular and step not in self.checkpoints.settled():
            self.checkpoints.save(restored.state, step, restored.meta)

    def _course(self, history: History) -> Course:
        return self._open(history)[1]

    def _open(self, history: History) -> tuple[Readers, Course]:
        return open_course(
            self.run.data,
            self.readings,
            history.turns,
            history.jumps,
            steps=self.run.steps,
            config=self.config_name,
        )

    def _optimizer(self, changes: Sequence[tuple[int, float]]) -> optax.GradientTransformation:
        optimizer = make_optimizer(
            self.run.optimizer,
            self._schedule(changes),
            self.trained.specs,
            new_rows_of(self.source and self.source.record),
        )
        return guarded(optimizer, self.run.faults)

    def _step_fn(self, changes: Sequence[tuple[int, float]]) -> StepFn:
        optimizer, rate = self._optimizer(changes), self._schedule(changes)
        parts = (self.mesh, self.trained, self.base, self.attends)
        step = make_train_step(self.learner, self.run, optimizer, rate, *parts)
        if not isinstance(self.base, FrozenBase):
            return step
        return lambda state, batch: step(state, batch, self.kept)

    def _schedule(self, changes: Sequence[tuple[int, float]]) -> Rate:
        rate = self.source.rate if self.source else None
        return scaled(run_schedule(self.run, rate), changes)

    def _first(self, abstract: TrainState) -> Restored:
        """Returns what a run begins with: its own first state, or its trunk's checkpoint."""
        trunk = self.history.branch
        if trunk is None:
            optimizer = self._optimizer(())
            state = first_state(
                self.run, self.source, abstract, self.learner, optimizer, self.trained
            )
            return Restored(state, {"step": 0, "tokens": 0})
        with Checkpoints(pathlib.Path(trunk["from"])) as others:
            return others.restore(abstract, trunk["step"])

    def _note(self, start: int) -> None:
        """Writes into the ledger how the run starts or goes on.

        Whoever reads the ledger finds no step in the log that the run trains again.
        """
        cut(self.run_dir, -1 if self.anew else start)
        details: dict[str, Any] = {}
        if not self.history.readings:
            details = {"reading": self.run.reading.record(), "reading_from": 0}
        elif self.changed is not None:
            details = {"reading": self.run.reading.record(), "reading_from": self.changed}
        details |= self.local.record()
        ledger.append(
            self.run_dir,
            "resume" if start else "start",
            start,
            caches=self.caches,
            order=ORDER,
            vocabulary=self.vocabulary,
            source=self.source.record if self.source else None,
            changes=[str(change) for change in self.changes],
            goodput=self.clock.record(),
            versions=versions(),
            **details,
        )
        if self.source and not start:
            self.source.keep(self.run_dir)
        freeze(self.loaded, self.run_dir)

    def _finish_rollback(self) -> None:
        """Removes the checkpoints of what a rollback has left, and sets its metrics aside."""
        to = self.history.rolling_back
        if to is not None:
            if self.first:
                set_aside(self.run_dir, to, self.history.rollbacks)
            self.checkpoints.remove_after(to)
            self.local.remove_after(to)
            if self.first:
                # After the log: it is a rollback's last word that nothing of it is left there.
                ledger.append(self.run_dir, "rolled_back", to)
            self.history = dataclasses.replace(self.history, rolling_back=None)

    def _go(self, restored: Restored) -> Outcome:
        """Trains from a state until the end, a stop or a rollback."""
        run, start = self.run, restored.meta["step"]
        history = self.history.until(start)
        steering = None
        if run.budget is not None and run.budget.mode != "off":
            steering = Steering(
                run.budget, self.run_dir, self.history, start, self._course, write=self.first
            )
        course = steering.course if steering else self._course(history)
        streak = bad_at_end(self.run_dir, start)
        bad = BadSteps(run.faults, self.run_dir, history, start, streak, write=self.first)
        wanted = [bad.needs]
        if steering and run.budget and run.budget.beyond == "roll_back":
            wanted.append(steering.within)
        self.checkpoints.keep_newest(*wanted)
        metrics = MetricsLog(
            self.run_dir,
            step=start,
            tokens=restored.meta["tokens"],
            keys=self.watch.keys,
            rows=lambda step: (steering.course if steering else course).counts(step),
            write=self.first,
            anew=self.anew,
            settings=flatten(run),
            see=bad.see,
            seconds=self.clock.seconds,
        )
        self.anew = False
        self.local.begin(start)
        self.senders.start()

        def way(step_fn: StepFn | None = None) -> Way:
            now = steering.course if steering else course
            changes = (steering.history if steering else history).rates
            sharding = batch_sharding(self.mesh)
            marked = run.distillation.tasks if run.distillation else ()
            return Way(
                step_fn or self._step_fn(changes),
                lambda step: batches(
                    self.readers, now, sharding, step, marked=marked, tops=self.tops
                ),
            )

        anchors = Anchors(self.checkpoints, run.checkpoint.every, self.history.branch, self.source)

        def retreat() -> Back | None:
            if bad.due is None:
                return None
            had = steering.history if steering else self.history
            now = steering.course if steering else course
            # It waits for saves, and compares what was saved.
            with self.clock.spend("saving"):
                steps = anchors.before(bad.due[0] - 1)
                self.history = bad.roll_back(steps, had, now, self._course, anchors.is_sound)
            assert self.history.rolling_back is not None
            return Back(self.history.rolling_back)

        def back_from(look: Look) -> Back | None:
            assert steering is not None
            # With no checkpoint yet, a run resumed here would begin anew too.
            back = steering.roll_back(look, anchors.kept() or [anchors.first], anchors.is_sound)
            if back is None:
                return None
            # Not read from the ledger: another process writes it.
            self.history = steering.history
            return Back(back)

        def answer(step: int, records: list[dict[str, Any]]) -> Answer:
            nonlocal current
            # The trunk of a branch has answered to the step at which it begins.
            if steering is None or steering.has_answered(step):
                return None
            before, rates = steering.course, steering.history.rates
            look = steering.answer(step, records)
            if look.action == "stop":
                return Halt(steering.stopped(look))
            if look.action == "roll_back" and (back := back_from(look)):
                return back
            if steering.history.rates != rates:
                current = way()
            elif steering.course is not before:
                current = way(current.step_fn)
            else:
                return None
            return current

        current = way()
        try:
            late: Answer = retreat()
            if late is None and steering and (due := steering.due(start)):
                late = back_from(due)
            elif late is None and metrics.was_evaluated(start):
                # A kill came between the evaluation and the answer to it.
                late = answer(start, metrics.evaluations(start))
            if isinstance(late, Halt):
                raise late.error
            if isinstance(late, Back):
                return Outcome(restored.state, False, late.step)
            return train_loop(
                run,
                restored.state,
                start=start,
                way=current,
                evaluate=self.evaluate,
                answer=answer,
                checkpoints=self.checkpoints,
                local=self.local,
                metrics=metrics,
                retreat=retreat,
                clock=self.clock,
            )
        finally:
            metrics.close()
            if self.clock.watchdog is not None:
                # No step follows for now: a restore, or the end.
                self.clock.watchdog.begin()
