"""What a run is: frozen dataclasses, one concern each, checked when they are made.

A `Run` states every nested part; parts have no default, so that a file which forgets one fails
instead of training with something nobody chose.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
from typing import Literal

from twjax.config.checks import refuse_idle, require, require_at_least
from twjax.config.model import Model
from twjax.config.model import RopeScaling as RopeScaling


@dataclasses.dataclass(frozen=True, kw_only=True)
class Mesh:
    """Devices by named axis; one axis may be -1 and takes what the others leave.

    `slice` is mapped to the data-centre network between TPU slices, all others to the
    interconnect within one.
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


@dataclasses.dataclass(frozen=True, kw_only=True)
class Mixture:
    """Which tasks the run reads, in which shares of tokens, from which step on.

    `stages` is ((first step, {task: weight}), ...); the first begins at step 0. Weights of a
    stage are relative. `max_epochs` caps how often a task's rows may be read, one number for
    all tasks or a number a task; None never caps. `block_rows` is the number of rows over which
    shares are exact to within one row, doubled in a stage whose rarest task has less than a row in
    it.
    """

    stages: tuple[tuple[int, dict[str, float]], ...]
    seed: int = 0
    max_epochs: float | dict[str, float] | None = None
    block_rows: int = 256

    def __post_init__(self) -> None:
        require(len(self.stages) > 0, "Mixture.stages is empty; give ((0, {task: weight}),).")
        require(self.block_rows >= 1, f"Mixture.block_rows ({self.block_rows}) must be positive.")
        first = self.stages[0][0]
        require(first == 0, f"Mixture.stages: the first stage starts at step {first}, not at 0.")
        starts = [start for start, _ in self.stages]
        require(
            all(a < b for a, b in itertools.pairwise(starts)),
            f"Mixture.stages: first steps {starts} must increase.",
        )
        for start, weights in self.stages:
            for task, weight in weights.items():
                require(
                    math.isfinite(weight) and weight >= 0,
                    f"Mixture.stages: weight of {task} from step {start} on ({weight}) must be "
                    "finite and not negative.",
                )
            require(
                sum(weights.values()) > 0,
                f"Mixture.stages: the weights from step {start} on sum to 0 ({weights}); at least "
                "one task needs a positive weight.",
            )
        caps = self.max_epochs
        for task, cap in caps.items() if isinstance(caps, dict) else [("all tasks", caps)]:
            require(
                cap is None or cap > 0,
                f"Mixture.max_epochs of {task} ({cap}) must be positive.",
            )

    @property
    def tasks(self) -> tuple[str, ...]:
        """Names of all tasks that any stage gives a positive weight, sorted."""
        return tuple(sorted({t for _, w in self.stages for t, weight in w.items() if weight > 0}))


@dataclasses.dataclass(frozen=True, kw_only=True)
class Data:
    """Cached rows and how a step's batch is drawn from them.

    `cache` is the folder that `twjax tasks cache` fills. `vocabulary` made the rows: a
    SentencePiece model, a `tokenizer.json`, or a folder that has one of them (a Hugging Face
    folder, or what `twjax vocab extend` writes). `corpora` names folders made by `twjax corpus
    build` that become tasks; `validation` is the share of each one's documents that is held out,
    and all documents of those in `held_out` are for evaluation only. `batch_size` counts rows of
    `seq_len` tokens over all devices; an encoder-decoder's `seq_len` is (inputs, targets).
    """

    cache: str
    vocabulary: str
    mixture: Mixture
    seq_len: int | tuple[int, int]
    batch_size: int
    corpora: dict[str, str] = dataclasses.field(default_factory=dict)
    validation: float = 0.02
    held_out: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        require(min(self.lengths) >= 2, f"Data.seq_len ({self.seq_len}) must be at least 2.")
        require(self.batch_size >= 1, f"Data.batch_size ({self.batch_size}) must be positive.")
        require(
            0 <= self.validation < 1,
            f"Data.validation ({self.validation}) is a share of documents: 0 to below 1.",
        )
        for name in self.held_out:
            require(
                name not in self.mixture.tasks,
                f"Data.held_out: {name} is for evaluation only, but a stage of Mixture.stages "
                "trains on it.",
            )

    @property
    def lengths(self) -> tuple[int, ...]:
        """Tokens a row; the last number is of those that are predicted."""
        return (self.seq_len,) if isinstance(self.seq_len, int) else self.seq_len


@dataclasses.dataclass(frozen=True, kw_only=True)
class Schedule:
    """Learning rate by step: linear warm-up from `start` to `peak`, then `kind`.

    `start` is a rate, or "source": the rate at which the run named in `Run.init` ended
    (re-warm-up). `final` is the last rate as a share of `peak`. `wsd` holds `peak` and decays
    over the last `decay_fraction` of the run by `decay`; `rsqrt` is
    peak * sqrt(warmup_steps / step) with at least `rsqrt_offset` steps under the root.
    """

    kind: Literal["cosine", "linear", "rsqrt", "constant", "wsd"]
    peak: float
    warmup_steps: int = 0
    start: float | Literal["source"] = 0.0
    final: float = 0.1
    decay_fraction: float = 0.1
    decay: Literal["linear", "exp", "1-sqrt"] = "1-sqrt"
    rsqrt_offset: int = 10_000

    def __post_init__(self) -> None:
        require(
            math.isfinite(self.peak) and self.peak > 0,
            f"Schedule.peak ({self.peak}) must be positive and finite.",
        )
        refuse_idle(self, ("decay", "decay_fraction"), self.kind == "wsd", "kind 'wsd'")
        refuse_idle(self, ("rsqrt_offset",), self.kind == "rsqrt", "kind 'rsqrt'")
        refuse_idle(
            self, ("final",), self.kind not in ("constant", "rsqrt"), "a kind that decays to it"
        )
        require(
            self.warmup_steps >= 0,
            f"Schedule.warmup_steps ({self.warmup_steps}) must not be negative.",
        )
        require(0 <= self.final <= 1, f"Schedule.final ({self.final}) is a share: 0 to 1.")
        require(
            0 < self.decay_fraction <= 1,
            f"Schedule.decay_fraction ({self.decay_fraction}) is a share: above 0, up to 1.",
        )
        require(
            self.kind != "wsd" or self.decay != "exp" or self.final > 0,
            "Schedule.final must be positive when a wsd schedule decays by 'exp'.",
        )
        require(
            self.rsqrt_offset >= 1,
            f"Schedule.rsqrt_offset ({self.rsqrt_offset}) must be at least 1.",
        )
        if not isinstance(self.start, str):
            require(self.start >= 0, f"Schedule.start ({self.start}) must not be negative.")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Optimizer:
    """AdamW or Adafactor. Weight decay is decoupled and spares norms and biases.

    `clip_norm` bounds the global gradient norm; None turns it off. For the first `new_rows_steps`
    steps only the rows of the ids that `twjax vocab extend` added are trained, in the embedding
    and in the output matrix: all else stays bit for bit what it was.
    """

    name: Literal["adamw", "adafactor"] = "adamw"
    b1: float = 0.9
    b2: float = 0.95
    eps: float = 1e-8
    weight_decay: float = 0.1
    clip_norm: float | None = 1.0
    new_rows_steps: int = 0

    def __post_init__(self) -> None:
        require_at_least(self, 0, "new_rows_steps")
        refuse_idle(self, ("b1", "b2", "eps"), self.name == "adamw", "name 'adamw'")
        for name in ("b1", "b2"):
            value = getattr(self, name)
            require(0 <= value < 1, f"Optimizer.{name} ({value}) must be in [0, 1).")
        require(self.eps > 0, f"Optimizer.eps ({self.eps}) must be positive.")
        require(
            self.weight_decay >= 0,
            f"Optimizer.weight_decay ({self.weight_decay}) must not be negative.",
        )
        require(
            self.clip_norm is None or self.clip_norm > 0,
            f"Optimizer.clip_norm ({self.clip_norm}) must be positive, or None.",
        )


@dataclasses.dataclass(frozen=True, kw_only=True)
class Step:
    """How one step is computed: precision, memory and kernels; not what is learnt.

    `accumulation` splits the batch into that many microbatches. `remat` names what the backward
    pass recomputes: nothing, all but the projections ("dots"), or whole layers ("full").
    `loss_chunks` is the number of pieces of the sequence over which logits are formed.
    """

    dtype: Literal["bfloat16", "float32"] = "bfloat16"
    accumulation: int = 1
    remat: Literal["none", "dots", "full"] = "full"
    attention: Literal["auto", "reference", "splash"] = "auto"
    loss_chunks: int = 8
    z_loss: float = 0.0

    def __post_init__(self) -> None:
        for name in ("accumulation", "loss_chunks"):
            value = getattr(self, name)
            require(value >= 1, f"Step.{name} ({value}) must be at least 1.")
        require(self.z_loss >= 0, f"Step.z_loss ({self.z_loss}) must not be negative.")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """A checkpoint every `every` steps and at the end; the newest `keep` stay."""

    every: int
    keep: int = 3

    def __post_init__(self) -> None:
        for name in ("every", "keep"):
            value = getattr(self, name)
            require(value >= 1, f"Checkpoint.{name} ({value}) must be at least 1.")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Evaluation:
    """Held-out bits-per-byte by task every `every` steps, at step 0 and at the end.

    `rows` bounds how many rows of a task are read (None: all); `prompts` are continued by
    `sample_tokens` tokens at each evaluation.
    """

    tasks: tuple[str, ...]
    every: int
    split: str = "validation"
    rows: int | None = 256
    prompts: tuple[str, ...] = ()
    sample_tokens: int = 64
    temperature: float = 0.0

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


@dataclasses.dataclass(frozen=True, kw_only=True)
class Run:
    """Everything a training run is.

    `init` is None (random weights); "run:DIR" or "run:DIR@STEP", the weights of another run's
    checkpoint or of an imported model; or "hf:DIR", a Hugging Face folder's. The optimiser's
    state is fresh and the step 0. Where a conversion recorded the loss on fixed tokens, the run
    is refused when its own differs by more than `init_tolerance` nats per token.

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
    seed: int = 0
    log_every: int = 10

    def __post_init__(self) -> None:
        require(self.steps >= 1, f"Run.steps ({self.steps}) must be at least 1.")
        require(self.log_every >= 1, f"Run.log_every ({self.log_every}) must be at least 1.")
        require(
            self.data.batch_size % self.step.accumulation == 0,
            f"Data.batch_size ({self.data.batch_size}) must be a multiple of Step.accumulation "
            f"({self.step.accumulation}).",
        )
        both, row = self.model.encoder_layers > 0, self.data.seq_len
        require(
            isinstance(row, tuple) == both,
            f"Data.seq_len ({row}) with Model.encoder_layers ({self.model.encoder_layers}): an "
            "encoder-decoder's rows have two lengths (inputs, targets), a decoder's one.",
        )
        require(
            not both or self.step.attention != "splash",
            "Step.attention = 'splash': the kernel has no learned biases; an encoder-decoder needs "
            "'auto' or 'reference'.",
        )
        predicted = self.data.lengths[-1]
        require(
            predicted % self.step.loss_chunks == 0,
            f"Data.seq_len ({row}) must be a multiple of Step.loss_chunks "
            f"({self.step.loss_chunks}){' in its targets' if both else ''}.",
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
        positions = self.model.max_positions
        require(
            positions is None or predicted <= positions,
            f"Data.seq_len ({row}) is more than Model.max_positions ({positions}), "
            "the number of learned positions.",
        )
        require(
            self.schedule.start != "source" or self.init is not None,
            "Schedule.start = 'source' needs Run.init: without a source there is no final rate.",
        )
        require(
            self.schedule.warmup_steps <= self.steps,
            f"Schedule.warmup_steps ({self.schedule.warmup_steps}) is more than Run.steps "
            f"({self.steps}).",
        )


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
