"""A corpus directory as the data side sees it: its shards, its split, what they depend on.

No TensorFlow here: the caching workers and the seqio source read documents through this module.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import math
import pathlib
from collections.abc import Iterator, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from twjax import storage

SPLITS = ("train", "validation")
VALIDATION = 0.02
# From this many documents on, a split is never left without one.
SMALLEST_SPLIT_CORPUS = 20

_KEY = b"twjax.data.documents/1"
_RANGE = 1 << 64
# With 64 expected documents, the chance that the split is empty is e**-64: no need to look.
_SURE = 64


@dataclasses.dataclass(frozen=True)
class Corpus:
    """A folder made by `twjax corpus build`, split by a keyed hash of the document id.

    `validation` is the share of documents held out; 1.0 holds out all of them. The split of a
    document doesn't depend on the others, but for corpora so small that it would leave a split
    empty: from 20 documents on, the one with the lowest (highest) hash is then held out (kept).
    Making this object reads nothing.
    """

    directory: str
    validation: float = VALIDATION

    def __post_init__(self) -> None:
        if not 0 <= self.validation <= 1:
            raise ValueError(
                f"Corpus {self.directory}: validation ({self.validation}) is a share: 0 to 1."
            )

    @property
    def splits(self) -> tuple[str, ...]:
        """The splits that have documents."""
        if self.validation == 0:
            return SPLITS[:1]
        return SPLITS[1:] if self.validation == 1 else SPLITS

    @functools.cached_property
    def manifest(self) -> dict[str, Any]:
        path = pathlib.Path(self.directory) / "manifest.json"
        if not path.is_file():
            raise FileNotFoundError(
                f"{path}: no such corpus; make it with `twjax corpus build`, or correct the folder "
                "in Data.corpora."
            )
        manifest = storage.read_json(path)
        if missing := [key for key in ("fingerprint", "shards") if key not in manifest]:
            raise ValueError(f"{path}: has no {missing[0]!r}; build the corpus again.")
        return manifest

    @property
    def documents(self) -> int:
        """Documents of all splits."""
        return sum(shard["documents"] for shard in self.manifest["shards"])

    @property
    def shards(self) -> tuple[pathlib.Path, ...]:
        root = pathlib.Path(self.directory)
        names = [pathlib.PurePath(shard["file"]) for shard in self.manifest["shards"]]
        return tuple(root / ("" if len(n.parts) > 1 else "shards") / n for n in names)

    def fingerprint(self, split: str) -> dict[str, Any]:
        """Returns what the documents of a split depend on; only the manifest is read."""
        self._check(split)
        return {
            "kind": "corpus",
            "fingerprint": self.manifest["fingerprint"],
            "split": split,
            "validation": self.validation,
            "rule": hashlib.sha256(_KEY).hexdigest(),
        }

    @functools.cached_property
    def limit(self) -> int:
        """Ids that hash below this number are validation."""
        limit = math.floor(self.validation * _RANGE)
        count = self.documents
        expected = count * min(self.validation, 1 - self.validation)
        if count < SMALLEST_SPLIT_CORPUS or expected == 0 or expected >= _SURE:
            return limit
        lowest, highest = _RANGE, 0
        for shard in range(len(self.shards)):
            for batch in self._read(shard, ["id"]):
                hashes = [_hash(name) for name in batch.column("id").to_pylist()]
                lowest, highest = min(lowest, *hashes), max(highest, *hashes)
        return min(max(limit, lowest + 1), highest)

    def batches(
        self, shard: int, split: str, columns: Sequence[str], size: int = 256
    ) -> Iterator[pa.RecordBatch]:
        """Yields the split's documents of one shard, in order, as record batches of `columns`.

        A shard that isn't the one the manifest describes is refused.
        """
        self._check(split)
        path, entry = self.shards[shard], self.manifest["shards"][shard]
        if not path.is_file():
            raise FileNotFoundError(f"{path}: this shard is missing; build the corpus again.")
        if storage.sha256_file(path) != entry["sha256"]:
            raise ValueError(
                f"{path}: its sha256 isn't the manifest's: damaged, or changed after "
                "`twjax corpus build`; build the corpus again."
            )
        return self._split(
            self._read(shard, list({"id": None} | dict.fromkeys(columns)), size), split
        )

    def _split(self, batches: Iterator[pa.RecordBatch], split: str) -> Iterator[pa.RecordBatch]:
        held_out = split == "validation"
        limit = self.limit
        for batch in batches:
            names = batch.column("id").to_pylist()
            mask = [(_hash(name) < limit) == held_out for name in names]
            if any(mask):
                yield batch.filter(pa.array(mask))

    def _read(self, shard: int, columns: list[str], size: int = 4096) -> Iterator[pa.RecordBatch]:
        path = self.shards[shard]
        try:
            with pq.ParquetFile(path) as file:
                yield from file.iter_batches(size, columns=columns)
        except pa.ArrowInvalid as error:
            raise ValueError(f"{path}: not a readable Parquet file ({error}).") from error

    def _check(self, split: str) -> None:
        if split not in self.splits:
            raise ValueError(
                f"Corpus {self.directory} with validation={self.validation} has no split {split!r};"
                f" it has {', '.join(self.splits)}."
            )


def _hash(name: str) -> int:
    digest = hashlib.blake2b(name.encode(), digest_size=8, key=_KEY).digest()
    return int.from_bytes(digest, "little")
