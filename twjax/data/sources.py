"""Where tasks read: corpus directories and TensorFlow Datasets, with what each depends on."""

# TensorFlow's stubs and seqio's registry of types are wrong about these.
# pyright: reportInvalidTypeForm=false, reportReturnType=false
# pyright: reportArgumentType=false

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

import numpy as np
import seqio
import tensorflow as tf

from twjax.data.documents import VALIDATION, Corpus
from twjax.data.preprocessors import language_model
from twjax.data.vocabulary import features

COLUMNS = ("id", "text", "source", "license", "lang", "url")


@runtime_checkable
class Fingerprinted(Protocol):
    """A source that can say what a split's examples depend on, without reading them."""

    def fingerprint(self, split: str) -> dict[str, Any]: ...


class CorpusSource(seqio.DataSource):
    """Documents of a folder made by `twjax corpus build`; each Parquet shard is a source shard.

    Examples are scalar strings: id, text, source, license, lang, url ("" where there is none).
    """

    def __init__(self, directory: str, validation: float = VALIDATION):
        self.corpus = Corpus(directory, validation)
        super().__init__(splits=self.corpus.splits, caching_permitted=False)

    @property
    def supports_arbitrary_sharding(self) -> bool:
        return False

    def fingerprint(self, split: str) -> dict[str, Any]:
        return self.corpus.fingerprint(split)

    def list_shards(self, split: str) -> Sequence[str]:
        return [str(path) for path in self.corpus.shards]

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
        """Returns the documents of a split, in order unless `shuffle` (which shuffles shards)."""
        shards = list(range(len(self.corpus.shards)))
        if shard_info:
            shards = shards[shard_info.index :: shard_info.num_shards]
        signature = {name: tf.TensorSpec([None], tf.string) for name in COLUMNS}

        def read(shard: np.int64) -> Iterator[dict[str, list[str]]]:
            for batch in self.corpus.batches(int(shard), split, COLUMNS):
                yield {c: [v or "" for v in batch.column(c).to_pylist()] for c in COLUMNS}

        def documents(shard: tf.Tensor) -> tf.data.Dataset:
            return tf.data.Dataset.from_generator(
                read, args=(shard,), output_signature=signature
            ).unbatch()

        order = tf.data.Dataset.from_tensor_slices(np.array(shards, np.int64))
        if shuffle:
            order = order.shuffle(max(1, len(shards)), seed=seed)
        return order.flat_map(documents)

    def __repr__(self) -> str:
        return f"CorpusSource({self.corpus.directory!r}, validation={self.corpus.validation})"


class TfdsSource(seqio.TfdsDataSource):
    """A TensorFlow Dataset of a stated version; nothing is looked up before it is read."""

    def __init__(self, name: str, splits: Mapping[str, str]):
        """`name` is "dataset/config:version"; `splits` maps ours to those of the dataset."""
        if ":" not in name:
            raise ValueError(f"TFDS name {name!r} must state its version, as in wiki40b/en:1.3.0.")
        super().__init__(tfds_name=name, splits=dict(splits))
        self.name = name
        self.split_map = dict(splits)

    def fingerprint(self, split: str) -> dict[str, Any]:
        name, _, version = self.name.partition(":")
        if split not in self.split_map:
            known = ", ".join(self.split_map)
            raise ValueError(f"TFDS {self.name} has no split {split!r} here; it has {known}.")
        return {"kind": "tfds", "name": name, "version": version, "split": self.split_map[split]}

    def list_shards(self, split: str) -> Sequence[str]:
        """Returns the file names of a split; the dataset must have been prepared."""
        try:
            return super().list_shards(split)
        except (KeyError, ValueError) as error:
            builder = self.tfds_dataset.builder
            if builder.info.splits:
                raise
            raise ValueError(
                f"TFDS {self.name} isn't prepared in {builder.data_dir}; run `tfds build "
                f"{self.name.partition(':')[0]}`, or set TFDS_DATA_DIR to where it is."
            ) from error

    def __repr__(self) -> str:
        return f"TfdsSource({self.name!r}, {self.split_map})"


def add_task(
    name: str,
    source: seqio.DataSource,
    preprocessors: Sequence[Callable[..., tf.data.Dataset]],
    output_features: Mapping[str, seqio.Feature],
) -> seqio.Task:
    """Registers a task without metrics: its rows are judged by their likelihood."""
    return seqio.TaskRegistry.add(
        name,
        source=source,
        preprocessors=list(preprocessors),
        output_features=dict(output_features),
        metric_fns=[],
    )


def add_corpus(
    name: str,
    directory: str,
    preprocessors: Sequence[Callable[..., tf.data.Dataset]] = (language_model,),
    validation: float = VALIDATION,
    output_features: Mapping[str, seqio.Feature] | None = None,
) -> seqio.Task:
    """Registers the corpus in `directory` as a task; nothing is read, so it needn't exist yet.

    Objectives with inputs and targets give their `output_features`. Registering the same again
    returns the task there is; the same name for something else is an error.
    """
    source = CorpusSource(directory, validation)
    declared = dict(output_features or features("targets"))
    if name in seqio.TaskRegistry.names():
        task = seqio.TaskRegistry.get(name)
        same = (
            isinstance(task.source, CorpusSource)
            and task.source.corpus == source.corpus
            and list(task.preprocessors) == list(preprocessors)
            and dict(task.output_features) == declared
        )
        if not same:
            raise ValueError(
                f"Task {name} is registered already, with {task.source!r}; give the corpus "
                f"{directory} another name in Data.corpora."
            )
        return task
    return add_task(name, source, preprocessors, declared)
