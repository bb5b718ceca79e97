"""Where a run's weights come from: `run:DIR` or `run:DIR@STEP`, a run or an imported model.

An imported model is what `twjax convert from-hf` writes: a checkpoint of step 0, its `Model` and
what came with it. It has no run of its own: whatever reads one as a run gets plain settings.
"""

from __future__ import annotations

import contextlib
import dataclasses
import pathlib
import shutil
from collections.abc import Callable, Iterator
from typing import Any, Literal, Protocol

import jax

from twjax import config
from twjax.config import Model, Run, compare, load
from twjax.models import adapters
from twjax.models.spec import abstract_weights
from twjax.parallel.sharding import weight_shardings
from twjax.storage import local_folder, read_json
from twjax.training import ledger
from twjax.training.checkpoint import FOLDER, IMPORT_FILE, MODEL_FILE, Checkpoints, StoredArray
from twjax.training.history import History
from twjax.training.merged import merged_arrays
from twjax.training.schedule import Rate, make_schedule, scaled
from twjax.training.trained import Trained

CONFIG_FILE = "config.gin"
# Of a checkpoint: its weights, or the average that `Optimizer.ema` keeps of them.
Weights = Literal["last", "ema"]
# What came with an imported model (`twjax.huggingface.carry`): runs that start from it keep it.
CARRIED = ("hf", "hf_layout.json", "hf_extras.safetensors")
# What a config.json calls the number of positions.
_LENGTHS = ("max_position_embeddings", "seq_length")


class Origin(Protocol):
    """Where `Run.init` says that the weights come from.

    `model` describes its network, `vocabulary` is the sha256 of what made its ids, where that is
    known. `probe` is the loss that a conversion recorded on fixed tokens ({"tokens", "loss"}), or
    None.
    """

    directory: pathlib.Path
    step: int

    @property
    def model(self) -> Model: ...
    @property
    def vocabulary(self) -> str | None: ...
    @property
    def probe(self) -> dict[str, Any] | None: ...
    def rate(self) -> float | None: ...
    def check_model(self, run: Run) -> None: ...
    def check_vocabulary(self, sha256: str) -> None: ...
    def params(self, network: Any, mesh: jax.sharding.Mesh) -> Any: ...
    def keep(self, run_dir: pathlib.Path) -> None: ...


@dataclasses.dataclass(frozen=True)
class Source:
    """A run's or an imported model's directory, and the step of the checkpoint to take."""

    directory: pathlib.Path
    run: Run
    step: int

    @classmethod
    def open(cls, directory: str | pathlib.Path, step: int | None = None) -> Source:
        """Finds a run's checkpoint (the newest one without `step`) and its frozen config.

        `step` may also be one of which the run has kept the weights alone.
        """
        directory = local_folder(directory)
        imported = (directory / IMPORT_FILE).is_file()
        if not imported and not (directory / CONFIG_FILE).is_file():
            raise FileNotFoundError(
                f"{directory}: not a run directory (no {CONFIG_FILE}), nor an imported model (no "
                f"{IMPORT_FILE})."
            )
        with Checkpoints(directory) as checkpoints:
            steps, weights = checkpoints.steps, checkpoints.milestones
        if not steps and step not in weights:
            raise FileNotFoundError(f"{directory}: the run has no complete checkpoint yet.")
        if step is not None and step not in {*steps, *weights}:
            alone = f", and the weights alone of {weights}" if weights else ""
            raise FileNotFoundError(
                f"{directory}: no checkpoint of step {step}; has {steps}{alone}."
            )
        if imported:
            model, original = load(Model, [directory / MODEL_FILE]).value, directory / "hf"
            run = plain_run(model, str(original), length=_length_of(original))
        else:
            run = load(Run, [directory / CONFIG_FILE]).value
        return cls(directory, run, steps[-1] if step is None else step)

    @classmethod
    def parse(cls, text: str) -> Source:
        """Opens "run:DIR" or "run:DIR@STEP"."""
        directory, mark, step = text.removeprefix("run:").rpartition("@")
        if not mark or not step.isdigit():
            # No step: an @ belongs to the path.
            return cls.open(text.removeprefix("run:"))
        return cls.open(directory, int(step))

    @property
    def model(self) -> Model:
        return self.run.model

    @property
    def has_state(self) -> bool:
        """Whether there is the whole state of the step, not its weights alone."""
        return (self.directory / FOLDER / str(self.step)).is_dir()

    @property
    def imported(self) -> dict[str, Any] | None:
        """What was recorded when the model was imported; None for a run."""
        path = self.directory / IMPORT_FILE
        return read_json(path) if path.is_file() else None

    @property
    def probe(self) -> dict[str, Any] | None:
        """The loss on fixed tokens that the conversion recorded; None for a run."""
        return None if self.imported is None else self.imported["probe"]

    def rate(self) -> float | None:
        """Returns the learning rate of the last step before the checkpoint; None for a model."""
        if self.imported is not None:
            return None
        # What it started from may be gone; the ledger has kept its rate.
        history = History.of(self.directory).until(self.step)
        source = None if history.source is None else history.source["rate"]
        rate = scaled(run_schedule(self.run, source), history.rates)
        return float(rate(max(self.step - 1, 0)))

    def check_model(self, run: Run) -> None:
        """Raises ValueError when `run` describes another network than this source has."""
        # Initial values are no part of what an imported model computes.
        free = ("init_std",) if self.imported is not None else ()
        changes = [c for c in compare(self.run.model, run.model) if c.path not in free]
        if changes:
            listing = "; ".join(f"Model.{c.path} {c.old!r} there, {c.new!r} here" for c in changes)
            raise ValueError(f"Run.init: the model of {self.directory} differs: {listing}.")

    @property
    def vocabulary(self) -> str | None:
        """The sha256 of the vocabulary that the weights were trained with, if it is known."""
        if self.imported is not None:
            return self.imported["vocabulary"]
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

    def params(self, network: Any, mesh: jax.sharding.Mesh, weights: Weights = "last") -> Any:
        """Reads the parameters in float32, sharded for `mesh`: the last step's, or their average.

        A run's adapters are merged into them. Raises ValueError where an average is asked for and
        the run keeps none.
        """
        return self.reader(network, mesh, weights)(self.step)

    def reader(
        self, network: Any, mesh: jax.sharding.Mesh, weights: Weights = "last"
    ) -> Callable[[int], Any]:
        """Returns what reads `params` of the checkpoint of any step; compiled once."""
        network = adapters.adapted(network, self.run.adapter)
        abstract = jax.tree.map(
            lambda leaf, sharding: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding),
            abstract_weights(network.specs),
            weight_shardings(network.specs, mesh),
        )
        average = None
        if weights == "ema":
            self.require_average()
            average = Trained.of(self.run, network.specs).take(abstract)
        merged = adapters.merger(network, mesh)

        def read(step: int) -> Any:
            with Checkpoints(self.directory) as checkpoints:
                params = checkpoints.params(abstract, step, average)
            return merged(params)

        return read

    @contextlib.contextmanager
    def arrays(self, weights: Weights = "last") -> Iterator[dict[str, StoredArray]]:
        """Opens the parameters by name, as `params` would give them, without reading their values.

        They can be read until the context ends.
        """
        if weights == "ema":
            self.require_average()
        with Checkpoints(self.directory) as checkpoints:
            arrays = checkpoints.arrays(self.step, average=weights == "ema")
            adapter = self.run.adapter
            yield arrays if adapter is None else merged_arrays(arrays, adapter, self.model)

    def require_average(self) -> None:
        """Raises ValueError unless the run keeps an average of its weights."""
        if self.imported is not None or self.run.optimizer.ema is None:
            raise ValueError(
                f"{self.directory}: there are no weights 'ema' here: no average was kept "
                "(Optimizer.ema). Leave --weights out."
            )

    def keep(self, run_dir: pathlib.Path) -> None:
        """Keeps what came with an imported model in a run that starts from it."""
        for name in CARRIED:
            item = self.directory / name
            if item.is_dir():
                shutil.copytree(item, run_dir / name, dirs_exist_ok=True)
            elif item.is_file():
                shutil.copyfile(item, run_dir / name)


def _length_of(folder: pathlib.Path) -> int | None:
    """Returns the length of rows that an original's config.json says that the model is made for."""
    path = folder / "config.json"
    values = read_json(path) if path.is_file() else {}
    parts = (values, values.get("text_config") or {})
    lengths = [part.get(name) for part in parts for name in _LENGTHS]
    return next((length for length in lengths if isinstance(length, int) and length > 1), None)


def plain_run(model: Model, vocabulary: str, *, length: int | None = None) -> Run:
    """Returns the run that stands for an imported model where settings of one are asked for.

    `length` is that of the rows that it is made for, where that is known.
    """
    return Run(
        steps=1,
        model=model,
        data=config.Data(
            cache="",
            vocabulary=vocabulary,
            mixture=config.Mixture(stages=((0, {"none": 1.0}),)),
            seq_len=(512, 512) if model.encoder_layers else model.max_positions or length or 2048,
            batch_size=1,
        ),
        mesh=config.Mesh(),
        optimizer=config.Optimizer(),
        schedule=config.Schedule(kind="constant", peak=1e-5),
        step=config.Step(dtype="float32", loss_chunks=1),
        checkpoint=config.Checkpoint(every=1),
        evaluation=config.Evaluation(tasks=(), every=1),
    )


def run_schedule(run: Run, source: float | None) -> Rate:
    """Returns the run's learning rate by step; `source` is the rate that its source ended with."""
    schedule = run.schedule
    start = source if isinstance(schedule.start, str) else schedule.start
    peak = schedule.peak
    if schedule.rewarm is not None and source is not None:
        peak = schedule.rewarm * source
    assert start is not None and peak is not None
    return make_schedule(schedule, run.steps, start, peak)
