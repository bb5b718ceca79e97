"""Labelled files as a seqio source: JSON lines or Parquet, read by one of `twjax.data.readers`."""

# TensorFlow's stubs and seqio's registry of types are wrong about these.
# pyright: reportInvalidTypeForm=false, reportReturnType=false
# pyright: reportArgumentType=false

from __future__ import annotations

import functools
import gzip
import hashlib
import heapq
import json
import os
import pathlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import seqio
import tensorflow as tf

from twjax import storage
from twjax.data.chance import Chance
from twjax.data.documents import SPLITS, VALIDATION
from twjax.data.readers import Labelled
from twjax.data.source_hash import source_sha256

Reader = Callable[..., Iterator[Labelled]]

# Where relative paths of declared tasks begin.
FOLDER = "TWJAX_RECORDS_DIR"
SUFFIXES = (".jsonl", ".jsonl.gz", ".parquet")

_KEY = b"twjax.data.records/1"
_POOL = 256


class RecordSource(seqio.DataSource):
    """Examples of a file of records, or of a folder of such files; each file is a source shard.

    A record goes to validation by a keyed hash of its id, so that its examples stay together:
    `validation` is the share; 1.0 is for what may only be evaluated on. Examples are scalar
    strings `id`, `fields` (a JSON object) and `shots` (a JSON list of the fields of `shots` solved
    examples), and a vector of strings, `answers`. Solved examples are of the records for training
    (of all where there are none), never of the example's own record. A relative path begins at
    $TWJAX_RECORDS_DIR; making a source reads nothing.
    """

    def __init__(self, path: str, reader: Reader, validation: float = VALIDATION, shots: int = 0):
        if not 0 <= validation <= 1:
            raise ValueError(f"Records {path}: validation ({validation}) is a share: 0 to 1.")
        self.path, self.reader = path, reader
        self.validation, self.shots = validation, shots
        names = SPLITS[:1] if not validation else SPLITS[1:] if validation == 1 else SPLITS
        super().__init__(splits=names, caching_permitted=False)

    @property
    def supports_arbitrary_sharding(self) -> bool:
        return False

    @property
    def suffixes(self) -> tuple[str, ...]:
        """How the names of files end that are read."""
        return SUFFIXES

    @property
    def files(self) -> tuple[pathlib.Path, ...]:
        """The files there are, in order of their names; OSError if there is none."""
        path = pathlib.Path(os.environ.get(FOLDER, "")) / self.path
        if path.is_dir():
            found = tuple(sorted(p for p in path.iterdir() if p.name.endswith(self.suffixes)))
            if found:
                return found
        elif path.is_file():
            if path.name.endswith(self.suffixes):
                return (path,)
            raise ValueError(f"{path}: records are {', '.join(self.suffixes)} files.")
        hint = "" if pathlib.Path(self.path).is_absolute() else f"; ${FOLDER} is where it begins"
        raise FileNotFoundError(
            f"{path}: no file of records here ({', '.join(self.suffixes)}){hint}."
        )

    def fingerprint(self, split: str) -> dict[str, Any]:
        """Returns what a split's examples depend on: the files, the reader, the split's rule."""
        self._check(split)
        function, arguments = _unwrap(self.reader)
        name = f"{function.__module__}.{function.__qualname__}"
        return {
            "kind": "records",
            "files": [_sha256(str(path), path.stat().st_mtime_ns) for path in self.files],
            "reader": {
                "name": name,
                "arguments": arguments,
                "source_sha256": source_sha256(name),
            },
            "split": split,
            "validation": self.validation,
            "shots": self.shots,
            "rule": hashlib.sha256(_KEY).hexdigest(),
        }

    def list_shards(self, split: str) -> Sequence[str]:
        return [str(path) for path in self.files]

    def get_dataset(  # pyright: ignore[reportIncompatibleMethodOverride]
        self,
        split: str = "train",
        shuffle: bool = True,
        seed: int | None = None,
        shard_info: seqio.ShardInfo | None = None,
        *,
        sequence_length: Mapping[str, int] | None = None,
        use_cached: bool = False,
        num_epochs: int | None = 1,
    ) -> tf.data.Dataset:
        """Returns the examples of a split, in order unless `shuffle` (which shuffles files)."""
        self._check(split)
        files = list(self.files)
        if shard_info:
            files = files[shard_info.index :: shard_info.num_shards]
        pool = self._pool() if self.shots else []

        def read(path: bytes) -> Iterator[dict[str, Any]]:
            for record, example in self._examples(pathlib.Path(os.fsdecode(path)), split):
                yield {
                    "id": example.id,
                    "fields": json.dumps(example.fields, ensure_ascii=False),
                    "shots": json.dumps(self._solved(record, example, pool), ensure_ascii=False),
                    "answers": list(example.answers),
                }

        text = tf.TensorSpec([], tf.string)
        signature = {name: text for name in ("id", "fields", "shots")}
        signature["answers"] = tf.TensorSpec([None], tf.string)
        order = tf.data.Dataset.from_tensor_slices([os.fsencode(path) for path in files])
        if shuffle:
            order = order.shuffle(max(1, len(files)), seed=seed)
        return order.flat_map(
            lambda path: tf.data.Dataset.from_generator(
                read, args=(path,), output_signature=signature
            )
        )

    def examples(self, split: str) -> Iterator[Labelled]:
        """Yields the examples of a split, without TensorFlow."""
        self._check(split)
        for path in self.files:
            for _, example in self._examples(path, split):
                yield example

    def _examples(self, path: pathlib.Path, split: str) -> Iterator[tuple[str, Labelled]]:
        held_out = split == "validation"
        for number, record in enumerate(read_records(path), 1):
            name = record.get("id")
            if not isinstance(name, str):
                raise ValueError(f"{path}: record {number} has no id, or one that isn't a string.")
            if (share(name) < self.validation) != held_out:
                continue
            try:
                for example in self.reader(record):
                    yield name, example
            except (KeyError, TypeError, AttributeError) as error:
                reader = _unwrap(self.reader)[0].__name__
                raise ValueError(
                    f"{path}: record {name} isn't what {reader} reads "
                    f"({type(error).__name__}: {error})."
                ) from error

    def _pool(self) -> list[tuple[str, dict[str, str]]]:
        """Returns the examples with the lowest hashes, for few-shot prompts."""
        split = self.splits[0]
        found = (pair for path in self.files for pair in self._examples(path, split))
        chosen = heapq.nsmallest(_POOL, found, key=lambda pair: share(f"pool/{pair[1].id}"))
        return [(record, example.fields) for record, example in chosen]

    def _solved(
        self, record: str, example: Labelled, pool: Sequence[tuple[str, dict[str, str]]]
    ) -> list[dict[str, str]]:
        others = [fields for owner, fields in pool if owner != record]
        ranks = Chance(example.id, 0, "shots").words(len(others)).argsort(kind="stable")
        return [others[rank] for rank in ranks[: self.shots].tolist()]

    def _check(self, split: str) -> None:
        if split not in self.splits:
            raise ValueError(
                f"Records {self.path} with validation={self.validation} have no split {split!r}; "
                f"they have {', '.join(self.splits)}."
            )

    def __repr__(self) -> str:
        function, arguments = _unwrap(self.reader)
        options = "".join(f", {name}={value!r}" for name, value in arguments.items())
        return (
            f"RecordSource({self.path!r}, {function.__name__}{options}, "
            f"validation={self.validation}, shots={self.shots})"
        )


def read_records(path: pathlib.Path) -> Iterator[dict[str, Any]]:
    """Yields the records of a file; ValueError names the line that isn't a JSON object."""
    if path.name.endswith(".parquet"):
        try:
            with pq.ParquetFile(path) as file:
                for batch in file.iter_batches():
                    yield from batch.to_pylist()
        except pa.ArrowInvalid as error:
            raise ValueError(f"{path}: not a readable Parquet file ({error}).") from error
        return
    try:
        with gzip.open(path) if path.name.endswith(".gz") else open(path, "rb") as file:
            for number, line in enumerate(file, 1):
                if line.strip():
                    yield _record(line, f"{path}, line {number}")
    except (EOFError, gzip.BadGzipFile) as error:
        raise ValueError(f"{path}: damaged ({error}).") from error


def _record(line: bytes, place: str) -> dict[str, Any]:
    try:
        record = json.loads(line)
    except ValueError as error:
        raise ValueError(f"{place}: not JSON ({error}).") from error
    if not isinstance(record, dict):
        raise ValueError(f"{place}: a record is a JSON object, not {type(record).__name__}.")
    return record


def _unwrap(reader: Any) -> tuple[Any, dict[str, Any]]:
    arguments: dict[str, Any] = {}
    while isinstance(reader, functools.partial):
        if reader.args:
            raise ValueError(f"Reader {reader.func.__name__}: bind its arguments by name.")
        arguments = reader.keywords | arguments
        reader = reader.func
    return reader, arguments


def share(name: str) -> float:
    """Returns a number in [0, 1) for an id: below `validation`, it is held out."""
    digest = hashlib.blake2b(name.encode(), digest_size=8, key=_KEY).digest()
    return int.from_bytes(digest, "little") / 2**64


@functools.lru_cache(maxsize=256)
def _sha256(path: str, changed: int) -> str:
    return storage.sha256_file(path)
