"""How well a vocabulary fits a text."""

from __future__ import annotations

import dataclasses
import os
import pathlib
from collections.abc import Sequence

import numpy as np
import pyarrow.parquet as pq

from twjax.progress import track
from twjax.vocab.tokenizer_load import load_vocabulary


@dataclasses.dataclass(frozen=True)
class Fit:
    """Sizes of a text; `byte_tokens` are those that stand for bytes and not whole characters."""

    documents: int
    characters: int
    bytes: int
    tokens: int
    byte_tokens: int


def measure(model: str | pathlib.Path, shards: Sequence[pathlib.Path]) -> Fit:
    """Encodes all texts of Parquet shards and counts."""
    vocabulary = load_vocabulary(model)
    counts = np.zeros(len(dataclasses.fields(Fit)), np.int64)
    for shard in track(shards, len(shards), f"encode {model}", "shards"):
        with pq.ParquetFile(shard) as file:
            for batch in file.iter_batches(batch_size=256, columns=["text"]):
                texts = batch.column(0).to_pylist()
                rows = vocabulary.encode_batch(texts, threads=os.cpu_count() or 1)
                ids = np.fromiter((id for row in rows for id in row), np.int64)
                counts += (
                    len(texts),
                    sum(map(len, texts)),
                    sum(len(text.encode()) for text in texts),
                    len(ids),
                    int(vocabulary.partial[ids].sum()),
                )
    return Fit(*map(int, counts))
