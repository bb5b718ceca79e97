"""Prepared TensorFlow Datasets, as records: `tfds:wiki40b/zh-tw:3.0.0#train`.

The place names the dataset, its configuration and version as TFDS does ("NAME/CONFIG:VERSION", the
newest version if none is said), and behind # a split, also a part of one ("train[:10%]"). The data
lies below $TFDS_DATA_DIR, TFDS's own default, or what "?data_dir=DIR" behind the split says. Only
files that are there are read: nothing is downloaded, and no dataset's code is run.

What was prepared as array_record is read without TensorFlow; for other formats the process that
reads imports it.
"""

from __future__ import annotations

import functools
import os
import string
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from twjax.corpus.document import Unusable

PREFIX = "tfds:"
_QUERY = "?data_dir="
_PACKAGES = {
    "tensorflow_datasets": "tensorflow-datasets",
    "array_record": "array_record",
    "tensorflow": "tensorflow",
}


class Split(NamedTuple):
    """A split of a prepared dataset: TFDS's builder for it, and the split's name."""

    builder: Any
    name: str

    @property
    def info(self) -> Any:
        """TFDS's description of the split."""
        return self.builder.info.splits[self.name]

    @property
    def random_access(self) -> bool:
        """Whether examples can be read without TensorFlow."""
        return self.builder.info.file_format.value == "array_record"


def is_dataset(place: object) -> bool:
    """Says whether a place names a dataset and not files."""
    return isinstance(place, str) and place.startswith(PREFIX)


def short(place: str) -> str:
    """Returns the place without the folder, for the names of records."""
    return place.split(_QUERY)[0]


def check(place: str, text: str) -> None:
    """Raises ValueError for a dataset that isn't here, or lacks a field that `text` names."""
    split = find(place)
    features = split.builder.info.features
    known = list(features.keys()) if hasattr(features, "keys") else []
    names = [text]
    if "{" in text:
        names = [name for _, name, _, _ in string.Formatter().parse(text) if name is not None]
    missing = [name for name in names if name not in known]
    if missing:
        raise ValueError(
            f"{short(place)}: no field {missing[0]!r}; set Source.text to one of its fields, "
            f"{', '.join(known) or 'of which it has none'}."
        )


@functools.lru_cache(maxsize=16)
def find(place: str) -> Split:
    """Returns the split that a place names; raises ValueError for one that isn't here."""
    named, _, folder = place.removeprefix(PREFIX).partition(_QUERY)
    name, _, split = named.partition("#")
    if not name or not split:
        raise ValueError(f"{place}: it must read {PREFIX}NAME/CONFIG:VERSION#SPLIT.")
    try:
        from tensorflow_datasets.core import read_only_builder, registered
    except ImportError as error:
        raise _lacking(place, error) from error
    folder = folder or os.environ.get("TFDS_DATA_DIR", "")
    try:
        builder = read_only_builder.builder_from_files(name, data_dir=folder or None)
    except registered.DatasetNotFoundError as error:
        raise ValueError(
            f"{place}: not prepared in {folder or '~/tensorflow_datasets'}; run `tfds build {name} "
            "--file_format=array_record`, or name the folder in TFDS_DATA_DIR."
        ) from error
    try:
        builder.info.splits[split]
    except (KeyError, ValueError) as error:
        known = ", ".join(sorted(builder.info.splits))
        raise ValueError(f"{place}: no split {split!r}; there are {known or 'none'}.") from error
    return Split(builder, split)


def files(place: str) -> list[str]:
    """Returns the files that a split's examples depend on, in order."""
    split = find(place)
    folder = split.builder.data_path
    about = [folder / name for name in ("dataset_info.json", "features.json")]
    shards = dict.fromkeys(part.filename for part in split.info.file_instructions)
    return [str(path) for path in (*about, *shards)]


def ranges(place: str, size: int, piece_bytes: int) -> list[tuple[int, int]]:
    """Returns runs (start, stop) of the split's examples, of about `piece_bytes` of files."""
    number = find(place).info.num_examples
    step = max(1, number * piece_bytes // max(1, size))
    return [(start, min(number, start + step)) for start in range(0, number, step)]


def records(place: str, start: int, stop: int) -> Iterator[dict[str, object]]:
    """Yields the examples from `start` up to `stop`: their texts, numbers, and lists of these.

    Raises `Unusable` for files that can't be read.
    """
    split = find(place)
    read = _random_access if split.random_access else _tensorflow
    try:
        for example in read(split, start, stop):
            if not isinstance(example, Mapping):
                example = {"value": example}
            values = {str(name): _plain(value) for name, value in example.items()}
            yield {name: value for name, value in values.items() if value is not None}
    except ImportError as error:
        raise _lacking(place, error) from error
    except Exception as error:
        # Each format has its own kinds of errors for a damaged file.
        why = " ".join(str(error).split())[:200]
        raise Unusable("damaged file", f"{type(error).__name__}: {why}") from error


def _random_access(split: Split, start: int, stop: int) -> Iterator[Any]:
    source = split.builder.as_data_source(split=split.name)
    yield from source.__getitems__(range(start, stop)) if start < stop else ()


def _tensorflow(split: Split, start: int, stop: int) -> Iterator[Any]:
    import tensorflow as tf

    formats: dict[str, Any] = {"tfrecord": tf.data.TFRecordDataset}
    form = split.builder.info.file_format.value
    if form not in formats:
        raise Unusable("unknown format", f"{form}; prepare it as array_record")
    decode = split.builder.info.features.deserialize_example
    at = 0
    for part in split.info.file_instructions:
        low, high = max(start - at, 0), min(stop - at, part.take)
        at += part.take
        if low < high:
            rows = formats[form](part.filename).skip(part.skip + low).take(high - low)
            yield from rows.map(decode).as_numpy_iterator()


def _plain(value: Any) -> object:
    """Returns what JSON could hold; None for arrays of more dimensions, as images are."""
    if hasattr(value, "ndim"):
        if value.ndim > 1:
            return None
        value = value.tolist()
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    if isinstance(value, Mapping):
        return {str(name): _plain(inner) for name, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(inner) for inner in value]
    return value if isinstance(value, (str, int, float)) else None


def _lacking(place: str, error: ImportError) -> ValueError:
    name = (error.name or "").partition(".")[0]
    package = _PACKAGES.get(name, name or "tensorflow-datasets")
    return ValueError(f"{short(place)}: reading it needs {package}; `pip install {package}`.")
