"""What a run reads: cached rows, and the mixture that orders them."""

from __future__ import annotations

import dataclasses
import itertools
import math

from twjax.config.checks import require


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
