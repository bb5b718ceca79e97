"""A model's embedding and output matrix, read alone: a run's, an imported model's or a folder's."""

from __future__ import annotations

import dataclasses
import pathlib
from collections.abc import Iterator

import numpy as np

from twjax.config import Model
from twjax.huggingface.folder import CONFIG, HubFolder
from twjax.huggingface.probe import tokenizer_of
from twjax.training.checkpoint import Checkpoints, Pieces, StoredArray
from twjax.training.source import CONFIG_FILE, IMPORT_FILE, Source
from twjax.vocab.rows import RowCounts, row_counts
from twjax.vocab.scripts import kinds_of
from twjax.vocab.tokenizer import Tokenizer

# Values read at once.
_BLOCK = 1 << 24


@dataclasses.dataclass(frozen=True)
class ModelRows:
    """Rows by script of each matrix with a row for each id ("embedding", "head" if untied)."""

    model: Model
    matrices: dict[str, dict[str, RowCounts]]


def model_rows(folder: str | pathlib.Path, vocabulary: Tokenizer | None = None) -> ModelRows:
    """Counts a model's rows by script; nothing else of it is read.

    `vocabulary` is the one that its ids are of, if it isn't the model's own.
    """
    folder = pathlib.Path(folder)
    if (folder / CONFIG_FILE).is_file() or (folder / IMPORT_FILE).is_file():
        source = Source.open(folder)
        model = source.run.model
        vocabulary = vocabulary or _own(folder, source.run.data.vocabulary, model)
        with Checkpoints(folder) as checkpoints:
            arrays = checkpoints.arrays(source.step)
            found = {name: arrays[name] for name in ("embedding", "head") if name in arrays}
            return ModelRows(model, _count(found, model, vocabulary))
    if not (folder / CONFIG).is_file():
        raise FileNotFoundError(
            f"--model {folder}: is no run, no imported model and no Hugging Face folder (no "
            f"{CONFIG_FILE}, {IMPORT_FILE} or {CONFIG})."
        )
    with HubFolder.open(folder) as hub:
        vocabulary = vocabulary or _own(folder, str(folder), hub.model)
        names = [name for name in ("embedding", "head") if name in hub.binding.specs]
        found = {name: hub.pieces(name) for name in names}
        return ModelRows(hub.model, _count(found, hub.model, vocabulary))


def _own(folder: pathlib.Path, path: str, model: Model) -> Tokenizer:
    found = tokenizer_of(pathlib.Path(path), model)
    if found is None:
        raise ValueError(
            f"--model {folder}: its vocabulary ({path}) isn't there, can't be read, or has more "
            f"ids than the model's {model.vocab_size} rows."
        )
    return found


def _count(
    arrays: dict[str, StoredArray] | dict[str, Pieces], model: Model, vocabulary: Tokenizer
) -> dict[str, dict[str, RowCounts]]:
    kinds = kinds_of(vocabulary)
    return {
        name: row_counts(_blocks(array, name == "head", model.vocab_size), kinds)
        for name, array in arrays.items()
    }


def _blocks(array: StoredArray | Pieces, turned: bool, rows: int) -> Iterator[np.ndarray]:
    """Yields the rows in order; the output matrix is stored with rows as columns."""
    width = array.shape[0 if turned else 1]
    step = max(1, _BLOCK // width)
    for first in range(0, rows, step):
        part = slice(first, min(first + step, rows))
        whole = slice(0, width)
        block = array.read((whole, part) if turned else (part, whole))
        yield block.T if turned else block
