"""Which rows are wanted: a task's split at a length, with a vocabulary; and those of a run."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from twjax.config import Run
from twjax.data import packing
from twjax.data.contamination import Removal
from twjax.data.documents import Corpus
from twjax.data.examples import Task, find_task, load_model
from twjax.data.rows import RowFormat, SeqLen


@dataclasses.dataclass(frozen=True)
class Request:
    """The rows that are wanted: a task's split, packed to `seq_len` tokens with a vocabulary.

    "decoder" rows hold inputs and targets in one segment with the loss on the targets;
    "encoder_decoder" rows keep them apart, and `seq_len` is the length of the inputs. Their
    targets have `targets_len`, or as many tokens as the task makes of such inputs. Examples that
    hold an item of `removal` aren't wanted.
    """

    task: Task
    split: str
    seq_len: int
    vocabulary: str
    row_format: RowFormat = "decoder"
    targets_len: int | None = None
    removal: Removal | None = None

    def __post_init__(self) -> None:
        if self.row_format == "decoder":
            return
        if "inputs" not in self.task.features:
            raise ValueError(
                f"Task {self.task.name} has no inputs for the encoder; give it a preprocessor that "
                "makes some (`span_corruption`, `prefix_lm`)."
            )
        wanted = self.task.targets_length(self.seq_len)
        # Where targets can be as long as inputs, those that don't fit are left out one by one.
        if wanted < self.seq_len and (self.targets_len or wanted) < wanted:
            raise ValueError(
                f"Data.seq_len: task {self.task.name} makes targets of up to {wanted} tokens from "
                f"{self.seq_len} inputs, more than the {self.targets_len} that there is room for."
            )

    @property
    def row_length(self) -> SeqLen:
        """Tokens a row, as `twjax.data.rows` names folders by it."""
        if self.row_format == "decoder":
            return self.seq_len
        return self.seq_len, self.targets_len or self.task.targets_length(self.seq_len)

    @property
    def sequence_length(self) -> dict[str, int]:
        """What the preprocessors are told of the room for each feature."""
        if "inputs" not in self.task.features:
            return {"targets": self.seq_len}
        if self.row_format == "encoder_decoder":
            assert isinstance(self.row_length, tuple)
            inputs, targets = self.row_length
        elif self.task.targets_length(self.seq_len) == self.seq_len:
            # Inputs and targets share the tokens of a piece.
            inputs = targets = self.seq_len
        else:
            inputs, high = 1, self.seq_len
            while inputs < high:
                middle = (inputs + high + 1) // 2
                fits = middle + self.task.targets_length(middle) <= self.seq_len
                inputs, high = (middle, high) if fits else (inputs, middle - 1)
            targets = self.task.targets_length(inputs)
        return {"inputs": inputs, "targets": targets}

    def ingredients(self) -> dict[str, object]:
        """Everything that decides what the rows are; no data is read to find out."""
        model = load_model(self.vocabulary)
        length = self.row_length
        return {
            **self.task.ingredients(self.split),
            "vocabulary": {"sha256": model.sha256, "extra_ids": self.task.extra_ids},
            "seq_len": length if isinstance(length, int) else list(length),
            "row_format": self.row_format,
            "packing": packing.VERSION,
            **({"without": self.removal.ingredients()} if self.removal else {}),
        }


def requests(run: Run, imports: Sequence[str] = ()) -> list[Request]:
    """Returns the rows that a run reads: its mixture's train split, its evaluation's split.

    Items of `Data.screening` are removed from training splits, if it says so. `imports` are the
    modules of the configuration's import lines; they are loaded only when a task is not among
    `Data.corpora`.
    """
    data = run.data
    corpora = {
        name: Corpus(folder, 1.0 if name in data.held_out else data.validation)
        for name, folder in data.corpora.items()
    }
    wanted = [(name, "train") for name in data.mixture.tasks]
    wanted += [(name, run.evaluation.split) for name in run.evaluation.tasks]
    found = []
    for name, split in dict.fromkeys(wanted):
        task = find_task(name, corpora, imports)
        if split not in task.splits:
            raise ValueError(
                f"Task {name} has no split {split!r}; it has {', '.join(task.splits)}."
            )
        removal = Removal.of(data.screening) if split == "train" else None
        # Held-out rows have one length all along.
        for length in data.seq_lens if split == "train" else (data.seq_len,):
            if isinstance(length, int):
                request = Request(task, split, length, data.vocabulary, removal=removal)
            else:
                inputs, targets = length
                request = Request(
                    task, split, inputs, data.vocabulary, "encoder_decoder", targets, removal
                )
            found.append(request)
    return found
