"""The token ids of a task's examples, shard by shard, as files that packing reads.

A task is what seqio says it is. Where it is exactly a corpus under `language_model`, its examples
are made without TensorFlow, several times faster; a test holds the two ways equal.
"""

from __future__ import annotations

import dataclasses
import functools
import importlib
import inspect
import itertools
import json
import os
import pathlib
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from twjax.data.contamination import Finding, Removal
from twjax.data.documents import Corpus
from twjax.data.quiet import quiet_tensorflow
from twjax.data.source_hash import source_sha256
from twjax.data.spelt import Speller
from twjax.vocab.tokenizer import Tokenizer
from twjax.vocab.tokenizer_load import load_vocabulary

_LANGUAGE_MODEL = "twjax.data.preprocessors.language_model"
_BATCH = 256
# Text that keeps a process busy for longer than it takes to start.
_WORKER_BYTES = 16 << 20


@dataclasses.dataclass(frozen=True)
class Encoded:
    """The n examples of one source shard: `tokens` int32 on disk, `lengths` int64 [n, 2].

    An example is its inputs (none under `language_model`), then its targets. `text_bytes` int64
    [n] counts the UTF-8 bytes that the ids stand for. `held` are examples to leave out: their
    numbers, the evaluation item that each holds most of, and their text.
    """

    tokens: pathlib.Path
    lengths: np.ndarray
    text_bytes: np.ndarray
    held: tuple[tuple[int, Finding, str], ...] = ()


class Spill:
    """Writes the examples of one shard to a file as they come."""

    def __init__(self, path: pathlib.Path, token_bytes: np.ndarray):
        self._path, self._token_bytes = path, token_bytes
        self._lengths = [np.zeros((0, 2), np.int64)]
        self._text_bytes = [np.zeros(0, np.int64)]
        self._held: list[tuple[int, Finding, str]] = []
        self._count = 0

    def __enter__(self) -> Spill:
        self._file = open(self._path, "wb")
        return self

    def __exit__(self, *exc: object) -> None:
        self._file.close()

    def add(
        self,
        tokens: np.ndarray,
        lengths: np.ndarray,
        held: Sequence[tuple[int, Finding, str]] = (),
    ) -> None:
        """Appends examples: their ids one after the other, int [n, 2], and which of them to leave.

        `held` counts from the first of these examples.
        """
        self._held += [(self._count + number, finding, text) for number, finding, text in held]
        self._count += len(lengths)
        self._file.write(np.ascontiguousarray(tokens, "<i4").data)
        self._lengths.append(np.asarray(lengths, np.int64))
        until = np.concatenate([[0], np.cumsum(self._token_bytes[tokens], dtype=np.int64)])
        self._text_bytes.append(np.diff(until[np.cumsum(self._lengths[-1].sum(axis=1))], prepend=0))

    def encoded(self) -> Encoded:
        self._file.flush()
        lengths, text_bytes = np.concatenate(self._lengths), np.concatenate(self._text_bytes)
        return Encoded(self._path, lengths, text_bytes, tuple(self._held))


@dataclasses.dataclass(frozen=True)
class Job:
    """One source shard to encode; what a worker process gets."""

    task: CorpusTask | RegisteredTask
    split: str
    shard: int
    vocabulary: str
    sequence_length: Mapping[str, int]
    output: pathlib.Path
    removal: Removal | None = None


def encode(job: Job, tick: Callable[[int], None] = lambda documents: None) -> Encoded:
    """Encodes one shard; `tick` is told of examples done."""
    model = load_model(job.vocabulary)
    token_bytes = task_token_bytes(model, job.task.extra_ids)
    removal = job.removal
    speller = Speller(model, len(token_bytes) - model.vocab_size) if removal else None
    with Spill(job.output, token_bytes) as spill:
        for tokens, lengths in job.task.examples(job):
            held = removal.held(speller, tokens, lengths.sum(axis=1)) if removal and speller else ()
            spill.add(tokens, lengths, held)
            tick(len(lengths))
        return spill.encoded()


@dataclasses.dataclass(frozen=True)
class CorpusTask:
    """A corpus directory under `language_model`: needs neither seqio nor TensorFlow."""

    name: str
    corpus: Corpus
    extra_ids: int = 0
    features: tuple[str, ...] = ("targets",)

    @property
    def splits(self) -> tuple[str, ...]:
        return self.corpus.splits

    @property
    def source(self) -> str:
        return self.corpus.directory

    def shards(self, split: str) -> int:
        return len(self.corpus.shards)

    @property
    def most_workers(self) -> int:
        """More processes than this would cost more time than they save."""
        return 1 + sum(shard["bytes"] for shard in self.corpus.manifest["shards"]) // _WORKER_BYTES

    def ingredients(self, split: str) -> dict[str, Any]:
        step = {
            "name": _LANGUAGE_MODEL,
            "arguments": {},
            "source_sha256": source_sha256(_LANGUAGE_MODEL),
        }
        return {"source": self.corpus.fingerprint(split), "preprocessors": [step]}

    def targets_length(self, inputs_length: int) -> int:
        return inputs_length

    def left_out(self, split: str) -> list[dict[str, Any]]:
        return []

    def examples(self, job: Job) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Yields what `language_model` makes of the shard: BOS (if any), pieces, EOS of each."""
        model = load_model(job.vocabulary)
        begins = len(model.start)
        for batch in self.corpus.batches(job.shard, job.split, ["text"], _BATCH):
            ids = model.encode_batch(batch.column("text").to_pylist())
            lengths = np.fromiter(map(len, ids), np.int64, len(ids)) + begins + 1
            ends = np.cumsum(lengths)
            tokens = np.empty(ends[-1], np.int32)
            special = np.zeros(ends[-1], bool)
            special[ends - 1] = True
            tokens[ends - 1] = model.eos_id
            if begins:
                special[ends - lengths] = True
                tokens[ends - lengths] = model.bos_id
            flat = itertools.chain.from_iterable(ids)
            tokens[~special] = np.fromiter(flat, np.int32, ends[-1] - (begins + 1) * len(ids))
            yield tokens, np.stack([np.zeros_like(lengths), lengths], axis=1)


@dataclasses.dataclass(frozen=True)
class RegisteredTask:
    """A task of seqio's registry; `imports` are the modules that register it."""

    name: str
    imports: tuple[str, ...] = ()

    @property
    def _task(self) -> Any:
        return _registered(self.name, self.imports)

    @property
    def features(self) -> tuple[str, ...]:
        return tuple(sorted(self._task.output_features))

    @property
    def splits(self) -> tuple[str, ...]:
        return tuple(self._task.splits)

    @property
    def source(self) -> str:
        return repr(self._task.source)

    @property
    def extra_ids(self) -> int:
        return max(f.vocabulary.extra_ids for f in self._task.output_features.values())

    def shards(self, split: str) -> int:
        return len(self._task.source.list_shards(split))

    @property
    def most_workers(self) -> int:
        return sys.maxsize

    def ingredients(self, split: str) -> dict[str, Any]:
        from twjax.data.sources import Fingerprinted

        source = self._task.source
        if not isinstance(source, Fingerprinted):
            raise ValueError(
                f"Task {self.name}: its source {type(source).__name__} can't say what its examples "
                "depend on; use CorpusSource or TfdsSource, or give it fingerprint(split)."
            )
        return {
            "source": source.fingerprint(split),
            "preprocessors": [_describe(self.name, p) for p in _steps(self._task)],
        }

    def left_out(self, split: str) -> list[dict[str, Any]]:
        """Returns the records that the source can't use, each with its `reason`."""
        source = self._task.source
        return source.left_out(split) if hasattr(source, "left_out") else []

    def targets_length(self, inputs_length: int) -> int:
        """Length of the targets that go with inputs of that length."""
        from twjax.data import preprocessors

        for step in _steps(self._task):
            function, arguments = _unwrap(step)
            if function is preprocessors.span_corruption:
                names = ("noise_density", "mean_span_length")
                chosen = {name: arguments[name] for name in names if name in arguments}
                return preprocessors.span_corruption_lengths(inputs_length, **chosen)[1]
        return inputs_length

    def examples(self, job: Job) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Yields what the seqio task gives, untrimmed and in the order of its source."""
        import seqio
        import tensorflow as tf

        from twjax.data.vocabulary import PieceVocabulary, with_vocabulary

        task = with_vocabulary(self._task, PieceVocabulary(job.vocabulary))
        count = self.shards(job.split)
        dataset = task.get_dataset(
            sequence_length=dict(job.sequence_length),
            split=job.split,
            shuffle=False,
            seed=0,
            shard_info=seqio.ShardInfo(job.shard, count) if count > 1 else None,
            trim_output_features=False,
            try_in_mem_cache=False,
        )

        def joined(example: Any) -> Any:
            # Inputs come before targets; "inputs" sorts first.
            parts = [tf.cast(example[name], tf.int32) for name in self.features]
            sizes = [tf.size(part) for part in parts]
            return tf.concat(parts, 0), tf.stack([0] * (2 - len(sizes)) + sizes)

        dataset = dataset.map(joined, num_parallel_calls=tf.data.AUTOTUNE)
        for tokens, lengths in dataset.ragged_batch(_BATCH).prefetch(2):
            lengths = lengths.to_tensor() if isinstance(lengths, tf.RaggedTensor) else lengths
            yield tokens.values.numpy(), lengths.numpy()


Task = CorpusTask | RegisteredTask


def find_task(name: str, corpora: Mapping[str, Corpus], imports: Sequence[str] = ()) -> Task:
    """Returns the task of that name: a corpus, or one that `imports` register with seqio.

    A registered task that is nothing but a corpus under `language_model` is returned as such.
    """
    if name in corpora:
        return CorpusTask(name, corpora[name])
    task = RegisteredTask(name, tuple(imports))
    declared = _registered(name, task.imports)
    from twjax.data.preprocessors import language_model
    from twjax.data.sources import CorpusSource
    from twjax.data.vocabulary import UnboundVocabulary

    if unknown := set(declared.output_features) - {"inputs", "targets"}:
        raise ValueError(
            f"Task {name} has output features {sorted(unknown)}; rows hold inputs and targets."
        )
    targets = declared.output_features["targets"]
    plain = (
        type(declared.source) is CorpusSource
        and list(declared.preprocessors) == [language_model]
        and list(declared.output_features) == ["targets"]
        and isinstance(targets.vocabulary, UnboundVocabulary)
        and targets.add_eos
    )
    return CorpusTask(name, declared.source.corpus, task.extra_ids) if plain else task


def registered_tasks(imports: Sequence[str]) -> list[RegisteredTask]:
    """Returns all tasks that seqio's registry has after these imports."""
    names = _names(tuple(imports)) if imports else []
    return [RegisteredTask(name, tuple(imports)) for name in names]


@functools.lru_cache(maxsize=8)
def load_model(path: str | os.PathLike[str]) -> Tokenizer:
    """Returns a vocabulary, checked to have the EOS that rows end documents with."""
    model = load_vocabulary(path)
    if model.eos_id < 0:
        raise ValueError(f"{path}: has no EOS, so nothing would mark where a document ends.")
    return model


def more_ids(model: Tokenizer, extra_ids: int) -> int:
    """Returns how many ids a task's sentinels need behind those of the vocabulary.

    None where it has sentinels of its own (T5's <extra_id_0>): they are what there is then,
    however many the task is declared with.
    """
    return 0 if model.sentinels else extra_ids


def task_token_bytes(model: Tokenizer, extra_ids: int) -> np.ndarray:
    """Returns int32 [vocabulary with sentinels]: UTF-8 bytes of each id, 0 for sentinels."""
    added = more_ids(model, extra_ids)
    return np.concatenate([model.token_bytes(), np.zeros(added, np.int32)])


@functools.lru_cache(maxsize=64)
def _registered(name: str, imports: tuple[str, ...]) -> Any:
    names = _names(imports)
    if name not in names:
        raise ValueError(
            f"No task {name}: it is neither in Data.corpora nor registered by an import line of "
            f"the configuration (registered: {', '.join(names) or 'none'})."
        )
    import seqio

    return seqio.TaskRegistry.get(name)


def _names(imports: tuple[str, ...]) -> list[str]:
    quiet_tensorflow()
    import seqio

    for module in imports:
        try:
            importlib.import_module(module)
        except ImportError as error:
            raise ValueError(f"import {module}: {error}.") from error
    return sorted(seqio.TaskRegistry.names())


def _steps(task: Any) -> list[Any]:
    import seqio

    steps = task.preprocessors
    return [step for step in steps if not isinstance(step, seqio.CacheDatasetPlaceholder)]


def _unwrap(step: Any) -> tuple[Any, dict[str, Any]]:
    """Returns the function of a preprocessor and the arguments bound to it, by name."""
    bound: dict[str, Any] = {}
    while isinstance(step, functools.partial):
        if step.args:
            raise ValueError(
                f"Preprocessor {step.func.__name__}: bind its arguments by name, so that the "
                "cache can state them."
            )
        bound = step.keywords | bound
        step = step.func
    return step, bound


def _describe(task: str, step: Any) -> dict[str, Any]:
    """Returns what a preprocessor is: name, arguments, hash of its code, library versions."""
    function, arguments = _unwrap(step)
    if not inspect.isfunction(function):
        raise ValueError(f"Task {task}: preprocessor {step!r} must be a named function.")
    name = f"{function.__module__}.{function.__qualname__}"
    try:
        arguments = json.loads(json.dumps(arguments))
    except TypeError as error:
        raise ValueError(
            f"Task {task}: arguments of {name} must be plain values ({error})."
        ) from error
    described = {"name": name, "arguments": arguments, "source_sha256": source_sha256(name)}
    if versions := getattr(function, "versions", None):
        described["versions"] = versions()
    return described
