"""What a run is: frozen dataclasses, one concern each, checked when they are made.

A `Run` states every nested part; parts have no default, so that a file which forgets one fails
instead of training with something nobody chose.
"""

from __future__ import annotations

import dataclasses
from typing import Literal

from twjax.config import reading as reading_
from twjax.config.budget import Budget
from twjax.config.checks import refuse_idle, require
from twjax.config.data import Data, lengths_of
from twjax.config.data import Mixture as Mixture
from twjax.config.faults import Faults
from twjax.config.keeping import Adapter, Distillation
from twjax.config.model import Model
from twjax.config.model import RopeScaling as RopeScaling
from twjax.config.optimization import Optimizer, Schedule
from twjax.config.screening import Screening as Screening
from twjax.config.suite import Suite
from twjax.config.tracking import Tracking


@dataclasses.dataclass(frozen=True, kw_only=True)
class Mesh:
    """Devices by named axis; one axis may be -1 and takes what the others leave.

    `slice` is mapped to the data-centre network between TPU slices, all others to the
    interconnect within one. `slice`, `data` and `fsdp` divide the rows of a batch, `context` the
    positions of each row, `tensor` heads and widths; weights are divided over `fsdp` and `context`,
    and over `tensor`. With `context` a row needs a multiple of twice as many tokens, and of 256
    times as many on TPUs (`docs/performance.md`).
    """

    slice: int = 1
    data: int = 1
    fsdp: int = -1
    context: int = 1
    tensor: int = 1

    def __post_init__(self) -> None:
        sizes = dataclasses.asdict(self)
        require(
            list(sizes.values()).count(-1) <= 1,
            f"Mesh: only one axis may be -1 (fill), got {sizes}.",
        )
        for name, size in sizes.items():
            require(
                size >= 1 or size == -1,
                f"Mesh.{name} ({size}) must be at least 1, or -1 for all devices that are left.",
            )


# What of a layer can be saved for the backward pass: the inputs of attention, its output with the
# softmax's statistics, its projection, and the products of the MLP.
SAVEABLE = ("query", "key", "value", "attention", "out", "gate", "up", "down")
# What can wait in the host's memory instead: these, and what a layer begins with.
OFFLOADABLE = ("input", *SAVEABLE)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Step:
    """How one step is computed: precision, memory and kernels; not what is learnt.

    `accumulation` splits the batch into that many microbatches. `remat` names what the backward
    pass recomputes: nothing, all but the projections ("dots"), or whole layers ("full"); a tuple
    names what it finds saved (of `SAVEABLE`). What `offload` names (of `OFFLOADABLE`: those, and
    what a layer begins with) it finds as well, but in the memory of the device's host.
    `matmul` is what the layers' matrix products are computed in, where the device has it; None:
    in `dtype`. `loss_chunks` is the number of pieces of the sequence over which logits are formed.
    `compiler_options` are added to those that twjax gives a TPU's or GPU's compiler
    (`twjax.parallel`); None takes one of them away. `self_test` compares gradients of a small
    network by these kernels and options with float32's before the first step; None: on a TPU and on
    a GPU.

    `attention` is "splash" (TPU), "pallas" (GPU), "chunked" (anywhere, in tiles, without an array
    of all positions by all) or "reference" (with one); "auto" is the device's own kernel, and the
    reference on a CPU. Where the GPU kernel doesn't take what it is given (float32, heads other
    than 32, 64, 128 or 256 wide, rows that aren't a multiple of 128), attention is chunked.
    """

    dtype: Literal["bfloat16", "float32"] = "bfloat16"
    accumulation: int = 1
    remat: Literal["none", "dots", "full"] | tuple[str, ...] = "full"
    offload: tuple[str, ...] = ()
    matmul: Literal["int8", "fp8"] | None = None
    attention: Literal["auto", "reference", "chunked", "splash", "pallas"] = "auto"
    loss_chunks: int = 8
    z_loss: float = 0.0
    compiler_options: dict[str, bool | int | str | None] = dataclasses.field(default_factory=dict)
    self_test: bool | None = None

    def __post_init__(self) -> None:
        unknown = sorted(set(self.saved or ()) - set(SAVEABLE))
        require(not unknown, f"Step.remat names {unknown}; what can be saved is {SAVEABLE}.")
        unknown = sorted(set(self.offload) - set(OFFLOADABLE))
        require(not unknown, f"Step.offload names {unknown}; what can be is {OFFLOADABLE}.")
        require(
            not self.offload or self.remat != "none",
            f"Step.offload ({self.offload}) needs Step.remat other than 'none': what isn't named "
            "is computed again; 'dots' keeps the other products on the device.",
        )
        for name in ("accumulation", "loss_chunks"):
            value = getattr(self, name)
            require(value >= 1, f"Step.{name} ({value}) must be at least 1.")
        require(self.z_loss >= 0, f"Step.z_loss ({self.z_loss}) must not be negative.")

    @property
    def saved(self) -> tuple[str, ...] | None:
        """What the backward pass finds saved of each layer; None: everything it needs."""
        if isinstance(self.remat, tuple):
            return self.remat
        return {"none": None, "dots": SAVEABLE, "full": ()}[self.remat]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """A checkpoint every `every` steps and at the end; the newest `keep` stay.

    One that is saved because the run is asked to stop is beside these, until there is a newer one.
    Those of multiples of `keep_every` stay for ever, and the `keep_best` ones with the least mean
    bits per byte of `best_tasks`. Every `export_every` steps the weights alone, with their average
    where there is one, are written beside the checkpoints, and stay.

    Every `local_every` steps each host also keeps its own part of the state in `local_directory` of
    its machine, a RAM disk: after a failure the run goes on from there, and what a host has lost
    comes from another slice or data replica.
    """

    every: int
    keep: int = 3
    keep_every: int | None = None
    keep_best: int = 0
    best_tasks: tuple[str, ...] = ()
    export_every: int | None = None
    local_every: int | None = None
    local_directory: str | None = None

    def __post_init__(self) -> None:
        for name in ("every", "keep"):
            value = getattr(self, name)
            require(value >= 1, f"Checkpoint.{name} ({value}) must be at least 1.")
        for name in ("keep_every", "export_every"):
            value = getattr(self, name)
            require(
                value is None or (value >= 1 and value % self.every == 0),
                f"Checkpoint.{name} ({value}) must be a multiple of Checkpoint.every "
                f"({self.every}): there are no other checkpoints.",
            )
        require(
            self.keep_best >= 0, f"Checkpoint.keep_best ({self.keep_best}) must not be negative."
        )
        require(
            (self.keep_best > 0) == (len(self.best_tasks) > 0),
            f"Checkpoint.keep_best ({self.keep_best}) and Checkpoint.best_tasks "
            f"({', '.join(self.best_tasks) or 'none'}) need each other: how many stay, and by the "
            "bits per byte of which tasks.",
        )
        require(
            len(set(self.best_tasks)) == len(self.best_tasks),
            "Checkpoint.best_tasks names a task twice.",
        )
        require(
            (self.local_every is None) == (self.local_directory is None),
            f"Checkpoint.local_every ({self.local_every}) and Checkpoint.local_directory "
            f"({self.local_directory!r}) need each other: how often, and in which folder of each "
            "host.",
        )
        require(
            self.local_every is None or 1 <= self.local_every < self.every,
            f"Checkpoint.local_every ({self.local_every}) must be at least 1 and less than "
            f"Checkpoint.every ({self.every}).",
        )
        require(
            self.local_directory is None or self.local_directory.startswith("/"),
            f"Checkpoint.local_directory ({self.local_directory!r}) must be an absolute path of "
            "each host, such as '/dev/shm/twjax'.",
        )

    def check(self, evaluation: Evaluation) -> None:
        """Raises ValueError where the best checkpoints can't be known from the evaluations."""
        if not self.keep_best:
            return
        missing = sorted(set(self.best_tasks) - set(evaluation.tasks))
        require(
            not missing,
            f"Checkpoint.best_tasks: {', '.join(missing)} isn't scored by Evaluation.tasks "
            f"({', '.join(evaluation.tasks) or 'none'}); add it there.",
        )
        require(
            self.every % evaluation.every == 0,
            f"Checkpoint.every ({self.every}) must be a multiple of Evaluation.every "
            f"({evaluation.every}) where Checkpoint.keep_best is set: only a checkpoint that was "
            "evaluated can be the best.",
        )


@dataclasses.dataclass(frozen=True, kw_only=True)
class Evaluation:
    """Held-out bits-per-byte by task every `every` steps, at step 0 and at the end.

    `rows` bounds how many rows of a task are read (None: all); `prompts` are continued by
    `sample_tokens` tokens at each evaluation. `suite` is what else is looked at then.
    """

    tasks: tuple[str, ...]
    every: int
    split: str = "validation"
    rows: int | None = 256
    prompts: tuple[str, ...] = ()
    sample_tokens: int = 64
    temperature: float = 0.0
    suite: Suite | None = None

    def __post_init__(self) -> None:
        require(self.every >= 1, f"Evaluation.every ({self.every}) must be at least 1.")
        require(
            self.rows is None or self.rows >= 1,
            f"Evaluation.rows ({self.rows}) must be at least 1, or None for all.",
        )
        require(
            self.sample_tokens >= 1,
            f"Evaluation.sample_tokens ({self.sample_tokens}) must be at least 1.",
        )
        require(
            self.temperature >= 0,
            f"Evaluation.temperature ({self.temperature}) must not be negative.",
        )


_FAULTS = Faults()


@dataclasses.dataclass(frozen=True, kw_only=True)
class Run:
    """Everything a training run is.

    `init` is None (random weights); "run:DIR" or "run:DIR@STEP", the weights of another run's
    checkpoint or of an imported model; or "hf:DIR", a Hugging Face folder's. The step is 0.
    `moments` says whether the optimiser starts afresh or with the moments of the run that `init`
    names, whose `Optimizer` must be the same. Where a conversion recorded the loss on fixed tokens,
    the run is refused when its own differs by more than `init_tolerance` nats per token.

    `budget` bounds what may be forgotten; None doesn't look at it. With `adapter` only adapters
    beside the weights are trained; with `distillation` predictions are kept close to those at the
    start. `tracking` names where the log is shown beside the run's own folder; `faults` says what
    is done about steps that go wrong.

    Where `Data.vocabulary` is one that `twjax vocab extend` made of the source's, the weights get
    a row for each new id, in the embedding and in an untied output matrix each from its own old
    rows: `new_rows` "mean" takes the mean of the rows of the old ids that the piece was written
    with before, in the embedding stretched to their mean length; "gaussian" draws from the normal
    distribution of all old rows; "zero" is noise of a hundredth of their size.
    """

    steps: int
    model: Model
    data: Data
    mesh: Mesh
    optimizer: Optimizer
    schedule: Schedule
    step: Step
    checkpoint: Checkpoint
    evaluation: Evaluation
    init: str | None = None
    init_tolerance: float = 0.05
    new_rows: Literal["mean", "gaussian", "zero"] = "mean"
    moments: Literal["fresh", "kept"] = "fresh"
    budget: Budget | None = None
    adapter: Adapter | None = None
    distillation: Distillation | None = None
    tracking: Tracking | None = None
    faults: Faults = _FAULTS
    seed: int = 0
    log_every: int = 10

    def __post_init__(self) -> None:
        require(self.steps >= 1, f"Run.steps ({self.steps}) must be at least 1.")
        require(self.log_every >= 1, f"Run.log_every ({self.log_every}) must be at least 1.")
        shapes = self.reading.shapes(self.steps)
        for start, rows, _ in shapes:
            require(
                rows % self.step.accumulation == 0,
                f"Data.{'batch_ramp' if start else 'batch_size'} ({rows} from step {start} on) "
                f"must be a multiple of Step.accumulation ({self.step.accumulation}).",
            )
        both, row = self.model.encoder_layers > 0, self.data.seq_len
        require(
            isinstance(row, tuple) == both,
            f"Data.seq_len ({row}) with Model.encoder_layers ({self.model.encoder_layers}): an "
            "encoder-decoder's rows have two lengths (inputs, targets), a decoder's one.",
        )
        require(
            not both or self.step.attention in ("auto", "reference"),
            f"Step.attention = {self.step.attention!r}: the kernel has no learned biases; an "
            "encoder-decoder needs 'auto' or 'reference'.",
        )
        positions = self.model.max_positions
        for start, _, length in shapes:
            field = "seq_len_stages" if start else "seq_len"
            predicted = lengths_of(length)[-1]
            require(
                predicted % self.step.loss_chunks == 0,
                f"Data.{field} ({length}) must be a multiple of Step.loss_chunks "
                f"({self.step.loss_chunks}){' in its targets' if both else ''}.",
            )
            require(
                positions is None or predicted <= positions,
                f"Data.{field} ({length}) is more than Model.max_positions ({positions}), "
                "the number of learned positions.",
            )
        require(
            self.init is None or self.init.startswith(("run:", "hf:")),
            f"Run.init ({self.init!r}) must be None, 'run:DIR', 'run:DIR@STEP' or 'hf:DIR'.",
        )
        require(
            self.init_tolerance > 0,
            f"Run.init_tolerance ({self.init_tolerance}) must be positive.",
        )
        refuse_idle(self, ("new_rows",), self.init is not None, "a run that starts from Run.init")
        require(
            self.moments == "fresh" or (self.init or "").startswith("run:"),
            f"Run.moments ({self.moments!r}) needs a run in Run.init ({self.init!r}).",
        )
        self.checkpoint.check(self.evaluation)
        if self.budget is not None and self.budget.mode != "off":
            self.budget.check(self.data.mixture.stages, self.evaluation.tasks)
            require(
                self.budget.mode != "steer"
                or self.budget.beyond != "roll_back"
                or self.checkpoint.every % self.evaluation.every == 0,
                f"Checkpoint.every ({self.checkpoint.every}) must be a multiple of "
                f"Evaluation.every ({self.evaluation.every}) where Budget.beyond is 'roll_back': "
                "a run goes back to a checkpoint that was evaluated.",
            )
        if self.adapter is not None:
            self.adapter.check(self)
        if self.distillation is not None:
            self.distillation.check(self)
        early = self.optimizer.new_rows_steps
        require(
            early == 0 or self.init is not None,
            f"Optimizer.new_rows_steps ({early}) does nothing here: without Run.init no rows are "
            "old.",
        )
        require(
            early <= self.steps,
            f"Optimizer.new_rows_steps ({early}) is more than Run.steps ({self.steps}).",
        )
        require(
            self.init is not None
            or (self.schedule.start != "source" and self.schedule.rewarm is None),
            "Schedule.start = 'source' and Schedule.rewarm need Run.init: without a source there "
            "is no final rate.",
        )
        require(
            self.schedule.warmup_steps <= self.steps,
            f"Schedule.warmup_steps ({self.schedule.warmup_steps}) is more than Run.steps "
            f"({self.steps}).",
        )

    @property
    def reading(self) -> reading_.Reading:
        """What is read at each step, "decay" being a number."""
        decay = self.steps - self.schedule.decay_steps(self.steps)
        return reading_.Reading.of(self.data, decay if self.schedule.decays else None)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Vocabulary:
    """A SentencePiece vocabulary to train.

    `inputs` are corpus folders (all their shards are read). `symbols` are kept whole wherever
    they occur. `normalization` is SentencePiece's rule name: "identity" leaves full-width forms
    alone; "nmt_nfkc" folds them.
    """

    inputs: tuple[str, ...]
    output: str
    size: int
    kind: Literal["unigram", "bpe"] = "unigram"
    symbols: tuple[str, ...] = ()
    normalization: Literal["identity", "nfkc", "nmt_nfkc", "nfkc_cf"] = "identity"
    character_coverage: float = 0.9995
    split_digits: bool = True
    max_sentences: int = 2_000_000
    seed: int = 0

    def __post_init__(self) -> None:
        require(len(self.inputs) > 0, "Vocabulary.inputs is empty; name at least one corpus.")
        require(
            self.size >= 300,
            f"Vocabulary.size ({self.size}) must be at least 300: byte fallback alone takes 256.",
        )
        require(
            0.9 <= self.character_coverage <= 1,
            f"Vocabulary.character_coverage ({self.character_coverage}) must be in [0.9, 1].",
        )
