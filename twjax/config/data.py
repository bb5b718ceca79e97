"""What a run reads: cached rows, and the mixture that orders them."""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Sequence
from typing import Literal

from twjax.config.checks import require
from twjax.config.screening import Screening

# A step, or the one at which the learning rate begins its last decay.
When = int | Literal["decay"]
SeqLen = int | tuple[int, int]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Mixture:
    """Which tasks the run reads, in which shares of tokens, from which step on.

    `stages` is ((first step, {task: weight}), ...); the first begins at step 0, and "decay" is the
    step at which the learning rate begins its last decay. Weights of a stage are relative.
    `max_epochs` caps how often a task's rows may be read, one number for all tasks or a number a
    task; None never caps. Up to 4 times, reading again is worth nearly as much as new text
    (Muennighoff et al. 2023, §5). `block_rows` is the number of rows over which shares are exact to
    within one row, doubled in a stage whose rarest task has less than a row in it.
    """

    stages: tuple[tuple[When, dict[str, float]], ...]
    seed: int = 0
    max_epochs: float | dict[str, float] | None = 4.0
    block_rows: int = 256

    def __post_init__(self) -> None:
        require(len(self.stages) > 0, "Mixture.stages is empty; give ((0, {task: weight}),).")
        require(self.block_rows >= 1, f"Mixture.block_rows ({self.block_rows}) must be positive.")
        first = self.stages[0][0]
        require(first == 0, f"Mixture.stages: the first stage starts at step {first}, not at 0.")
        require_increasing("Mixture.stages", [start for start, _ in self.stages])
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
    and all documents of those in `held_out` are for evaluation only.

    `batch_size` counts rows of `seq_len` tokens over all devices; an encoder-decoder's `seq_len` is
    (inputs, targets). `batch_ramp` is ((step, rows), ...): from that step on a batch has that many
    rows. `seq_len_stages` is ((step, seq_len), ...): from that step on rows have that length; they
    are other rows, whose order starts anew, but epochs that were read count. Held-out rows are
    always of `seq_len`. `screening` looks for evaluation items in what is trained on.
    """

    cache: str
    vocabulary: str
    mixture: Mixture
    seq_len: SeqLen
    batch_size: int
    batch_ramp: tuple[tuple[When, int], ...] = ()
    seq_len_stages: tuple[tuple[When, SeqLen], ...] = ()
    corpora: dict[str, str] = dataclasses.field(default_factory=dict)
    validation: float = 0.02
    held_out: tuple[str, ...] = ()
    screening: Screening | None = None

    def __post_init__(self) -> None:
        for field, start, length in (
            ("seq_len", 0, self.seq_len),
            *(("seq_len_stages", *stage) for stage in self.seq_len_stages),
        ):
            require(
                min(lengths_of(length)) >= 2,
                f"Data.{field} ({length} from step {start} on) must be at least 2.",
            )
            require(
                isinstance(length, int) == isinstance(self.seq_len, int),
                f"Data.{field}: {length} from step {start} on and Data.seq_len ({self.seq_len}) "
                "must both be one length, or both (inputs, targets).",
            )
        for field, start, rows in (
            ("batch_size", 0, self.batch_size),
            *(("batch_ramp", *stage) for stage in self.batch_ramp),
        ):
            require(rows >= 1, f"Data.{field} ({rows} from step {start} on) must be positive.")
        for field in ("batch_ramp", "seq_len_stages"):
            starts = [0, *(start for start, _ in getattr(self, field))]
            require_increasing(f"Data.{field}", starts)
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
        """Tokens a row at first; the last number is of those that are predicted."""
        return lengths_of(self.seq_len)

    @property
    def longest(self) -> int:
        """Tokens of the longest rows that training reads, of inputs or targets."""
        return max(max(lengths_of(length)) for length in self.seq_lens)

    @property
    def seq_lens(self) -> tuple[SeqLen, ...]:
        """All lengths of rows that training reads."""
        return tuple(dict.fromkeys((self.seq_len, *(length for _, length in self.seq_len_stages))))


def lengths_of(seq_len: SeqLen) -> tuple[int, ...]:
    """Returns the length of a row, or of its inputs and targets."""
    return (seq_len,) if isinstance(seq_len, int) else seq_len


def require_increasing(field: str, starts: Sequence[When]) -> None:
    """Raises ValueError unless first steps increase; "decay" may only be the last."""
    numbers = [start for start in starts if start != "decay"]
    require(
        all(a < b for a, b in itertools.pairwise(numbers)) and "decay" not in starts[:-1],
        f"{field}: first steps {list(starts)} must increase.",
    )
