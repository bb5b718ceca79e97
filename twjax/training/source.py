"""Finished or running runs as a source of weights: `run:DIR` or `run:DIR@STEP`."""

from __future__ import annotations

import dataclasses
import pathlib
from typing import Any

import jax

from twjax.config import Run, compare, load
from twjax.models.decoder import Network
from twjax.storage import local_folder
from twjax.training import ledger
from twjax.training.checkpoint import Checkpoints
from twjax.training.optimizer import make_optimizer
from twjax.training.schedule import Rate, make_schedule
from twjax.training.state import abstract_state

CONFIG_FILE = "config.gin"


@dataclasses.dataclass(frozen=True)
class Source:
    """A run directory and the step of the checkpoint to take."""

    directory: pathlib.Path
    run: Run
    step: int

    @classmethod
    def open(cls, directory: str | pathlib.Path, step: int | None = None) -> Source:
        """Finds a run's checkpoint (the newest one without `step`) and its frozen config."""
        directory = local_folder(directory)
        config = directory / CONFIG_FILE
        if not config.is_file():
            raise FileNotFoundError(f"{directory}: not a run directory (no {CONFIG_FILE}).")
        with Checkpoints(directory) as checkpoints:
            steps = checkpoints.steps
        if not steps:
            raise FileNotFoundError(f"{directory}: the run has no complete checkpoint yet.")
        if step is not None and step not in steps:
            raise FileNotFoundError(f"{directory}: no checkpoint of step {step}; has {steps}.")
        return cls(directory, load(Run, [config]).value, steps[-1] if step is None else step)

    @classmethod
    def parse(cls, text: str) -> Source:
        """Opens "run:DIR" or "run:DIR@STEP"."""
        directory, mark, step = text.removeprefix("run:").rpartition("@")
        if not mark or not step.isdigit():
            # No step: an @ belongs to the path.
            return cls.open(text.removeprefix("run:"))
        return cls.open(directory, int(step))

    def rate(self) -> float:
        """Returns the learning rate of the last step before the checkpoint."""
        start = None
        if self.run.schedule.start == "source":
            assert self.run.init is not None
            start = Source.parse(self.run.init).rate()
        schedule = run_schedule(self.run, start)
        return float(schedule(max(self.step - 1, 0)))

    def check_model(self, run: Run) -> None:
        """Raises ValueError when `run` describes another network than this source has."""
        changes = compare(self.run.model, run.model)
        if changes:
            listing = "; ".join(f"Model.{c.path} {c.old!r} there, {c.new!r} here" for c in changes)
            raise ValueError(f"Run.init: the model of {self.directory} differs: {listing}.")

    @property
    def vocabulary(self) -> str | None:
        """The sha256 of the vocabulary that the run was trained with, if its ledger says so."""
        known = [e["vocabulary"] for e in ledger.read(self.directory) if e.get("vocabulary")]
        return known[-1] if known else None

    def check_vocabulary(self, sha256: str) -> None:
        """Raises ValueError when the run was trained with another vocabulary."""
        known = self.vocabulary
        if known not in (None, sha256):
            raise ValueError(
                f"{self.directory} was trained with another vocabulary (sha256 {known[:12]}…) "
                f"than the one given ({sha256[:12]}…): its token ids mean other text. Use the "
                "vocabulary that it was trained with, and rows cached with it."
            )

    def params(self, network: Network, mesh: jax.sharding.Mesh) -> Any:
        """Reads the parameters, sharded for `mesh`."""
        optimizer = make_optimizer(
            self.run.optimizer, run_schedule(self.run, start=0.0), network.specs
        )
        with Checkpoints(self.directory) as checkpoints:
            abstract = abstract_state(network, optimizer, mesh)
            return checkpoints.restore(abstract, self.step).state.params


def run_schedule(run: Run, start: float | None) -> Rate:
    """Returns the run's learning rate by step; `start` is the source's rate when one is asked."""
    first = run.schedule.start if not isinstance(run.schedule.start, str) else start
    assert first is not None
    return make_schedule(run.schedule, run.steps, first)
