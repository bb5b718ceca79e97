"""How well vocabularies fit texts: how many tokens they take, and what they can't write whole."""

from __future__ import annotations

import dataclasses
import os
import pathlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import pyarrow.parquet as pq

from twjax.progress import track
from twjax.vocab.scripts import SCRIPTS, count_units
from twjax.vocab.tokenizer import Tokenizer
from twjax.vocab.tokenizer_load import load_vocabulary

# BCP-47 tags of Taiwan's languages in documents: Mandarin, Taigi, Hakka.
TAIWAN = ("zh-TW", "nan-TW", "hak-TW", "nan", "hak")


@dataclasses.dataclass(frozen=True)
class Fit:
    """Sizes of a text; `byte_tokens` are those that stand for bytes and not whole characters."""

    documents: int = 0
    characters: int = 0
    bytes: int = 0
    tokens: int = 0
    byte_tokens: int = 0

    def __add__(self, other: Fit) -> Fit:
        return Fit(*(a + b for a, b in zip(_values(self), _values(other), strict=True)))

    @property
    def tokens_per_character(self) -> float:
        return self.tokens / max(1, self.characters)

    @property
    def tokens_per_byte(self) -> float:
        return self.tokens / max(1, self.bytes)

    @property
    def byte_share(self) -> float:
        return self.byte_tokens / max(1, self.tokens)


@dataclasses.dataclass(frozen=True)
class Coverage:
    """Characters of a script that occur, and those that a vocabulary has an id for.

    `seen` and `seen_whole` count occurrences, `distinct` and `distinct_whole` characters;
    `missing` are the most frequent ones without an id.
    """

    seen: int
    seen_whole: int
    distinct: int
    distinct_whole: int
    missing: tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class Survey:
    """`fits[vocabulary][domain]`, `taiwan[vocabulary]`, `coverage[vocabulary][script]`.

    `taiwan` is of all documents, of whatever domain, in one of Taiwan's languages.
    """

    fits: dict[str, dict[str, Fit]]
    taiwan: dict[str, Fit]
    coverage: dict[str, dict[str, Coverage]]


def measure(model: str | pathlib.Path, shards: Sequence[pathlib.Path]) -> Fit:
    """Encodes all texts of Parquet shards and counts."""
    found = survey({str(model): load_vocabulary(model)}, {"": shards})
    return found.fits[str(model)][""]


def survey(
    vocabularies: Mapping[str, Tokenizer], domains: Mapping[str, Sequence[pathlib.Path]]
) -> Survey:
    """Encodes all texts of each domain's Parquet shards with each vocabulary, in one reading."""
    fits = {name: dict.fromkeys(domains, Fit()) for name in vocabularies}
    taiwan = dict.fromkeys(vocabularies, Fit())
    units: dict[str, Counter[str]] = {script: Counter() for script in SCRIPTS}
    work = [(domain, shard) for domain, shards in domains.items() for shard in shards]
    for domain, shard in track(work, len(work), "encode", "shards"):
        for texts, langs in _batches(shard):
            for script, counts in count_units(texts).items():
                units[script].update(counts)
            here = np.array([lang in TAIWAN for lang in langs])
            for name, vocabulary in vocabularies.items():
                sizes = _sizes(vocabulary, texts)
                fits[name][domain] += _fit(sizes)
                taiwan[name] += _fit(sizes[here])
    coverage = {name: _coverage(vocabulary, units) for name, vocabulary in vocabularies.items()}
    return Survey(fits, taiwan, coverage)


def _batches(shard: pathlib.Path) -> Iterator[tuple[list[str], list[str]]]:
    with pq.ParquetFile(shard) as file:
        for batch in file.iter_batches(batch_size=256, columns=["text", "lang"]):
            yield batch.column(0).to_pylist(), batch.column(1).to_pylist()


def _sizes(vocabulary: Tokenizer, texts: Sequence[str]) -> np.ndarray:
    """Returns int64 [texts, 5]: the numbers of a `Fit` for each text."""
    rows = vocabulary.encode_batch(texts, threads=os.cpu_count() or 1)
    partial = vocabulary.partial
    sizes = np.ones((len(texts), 5), np.int64)
    for number, (text, row) in enumerate(zip(texts, rows, strict=True)):
        sizes[number, 1:] = len(text), len(text.encode()), len(row), partial[row].sum()
    return sizes


def _fit(sizes: np.ndarray) -> Fit:
    return Fit(*map(int, sizes.sum(axis=0)))


def _values(fit: Fit) -> tuple[int, ...]:
    return dataclasses.astuple(fit)


def _coverage(vocabulary: Tokenizer, units: Mapping[str, Counter[str]]) -> dict[str, Coverage]:
    partial = vocabulary.partial
    whole = {data for id, data in enumerate(vocabulary.bytes_of_ids) if data and not partial[id]}
    found = {}
    for script, counts in units.items():
        has = {unit for unit in counts if unit.encode() in whole}
        missing = [unit for unit, _ in counts.most_common() if unit not in has]
        found[script] = Coverage(
            counts.total(),
            sum(counts[unit] for unit in has),
            len(counts),
            len(has),
            tuple(missing[:12]),
        )
    return found
