"""Tokenizers as seqio vocabularies, and a placeholder for tasks declared without one."""

# TensorFlow's stubs and seqio's registry of types are wrong about these.
# pyright: reportInvalidTypeForm=false, reportReturnType=false
# pyright: reportArgumentType=false, reportAttributeAccessIssue=false, reportCallIssue=false

from __future__ import annotations

import functools
import os
import pathlib
from collections.abc import Iterable
from typing import Any, NoReturn

import numpy as np
import seqio
import tensorflow as tf

from twjax.data.examples import load_model, more_ids
from twjax.vocab.tokenizer import Tokenizer


class PieceVocabulary(seqio.Vocabulary):
    """A SentencePiece model or `tokenizer.json`: the same ids in Python and in a TensorFlow graph.

    Sentinel k of `extra_ids` is `vocab_size - 1 - k` and is written `<extra_id_k>`. They follow
    the vocabulary's ids, unless it ends with sentinels of its own (T5), which are used then. The
    file is read at first use, not before.
    """

    def __init__(self, path: str | os.PathLike[str], extra_ids: int = 0):
        super().__init__(extra_ids=extra_ids)
        self._path = pathlib.Path(path)

    @functools.cached_property
    def model(self) -> Tokenizer:
        """The vocabulary, checked to have an EOS."""
        return load_model(self._path)

    @property
    def extra_ids(self) -> int:
        """The number of sentinels: the vocabulary's own where it has some, of those asked for."""
        own = self.model.sentinels
        return min(own, self._extra_ids) if own else self._extra_ids

    @property
    def sha256(self) -> str:
        return self.model.sha256

    @property
    def adds_bos(self) -> bool:
        """Whether a document begins with BOS."""
        return self.model.adds_bos

    @property
    def bos_id(self) -> int:
        return self.model.bos_id

    @property
    def eos_id(self) -> int:
        return self.model.eos_id

    @property
    def unk_id(self) -> int:
        return self.model.unk_id

    @property
    def _base_vocab_size(self) -> int:
        return self.model.vocab_size + more_ids(self.model, self.extra_ids) - self.extra_ids

    def with_extra_ids(self, extra_ids: int) -> PieceVocabulary:
        """Returns this model with (at least) that many sentinels behind its pieces."""
        return self if extra_ids <= self._extra_ids else PieceVocabulary(self._path, extra_ids)

    def decode(self, ids: Iterable[int]) -> str:
        """Returns the text up to the first EOS; sentinels are written `<extra_id_k>`."""
        parts: list[str] = []
        run: list[int] = []
        for token in map(int, ids):
            if token >= self._base_vocab_size:
                text = self.model.decode(run, continued=bool(parts))
                parts += [text, f"<extra_id_{self.vocab_size - 1 - token}>"]
                run = []
            elif token == self.eos_id:
                break
            else:
                run.append(token)
        return "".join([*parts, self.model.decode(run, continued=bool(parts))])

    def _encode(self, s: str) -> list[int]:
        return self.model.encode(s)

    def _decode(self, ids: list[int]) -> str:
        return self.model.decode(ids)

    def _encode_tf(self, s: tf.Tensor) -> tf.Tensor:
        """Encodes a scalar to int32 [n], a vector of strings to a ragged [strings, (n)].

        The model itself is called from the graph: TensorFlow Text has an older SentencePiece
        inside, which breaks ties between equally likely pieces differently (runs of one
        character, as in tables of box-drawing lines).
        """
        s = tf.convert_to_tensor(s)
        if s.shape.rank == 0:
            ids = tf.numpy_function(self._encode_bytes, [s], tf.int32)
            return tf.ensure_shape(ids, [None])
        ids, lengths = tf.numpy_function(self._encode_vector, [s], (tf.int32, tf.int64))
        return tf.RaggedTensor.from_row_lengths(
            tf.ensure_shape(ids, [None]), tf.ensure_shape(lengths, s.shape)
        )

    def _encode_bytes(self, text: Any) -> np.ndarray:
        # A scalar comes as bytes from a graph and as an array outside of one.
        text = text if isinstance(text, bytes) else text.item()
        return np.array(self.model.encode(text.decode()), np.int32)

    def _encode_vector(self, texts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        rows = [self._encode_bytes(text) for text in texts]
        ids = np.concatenate([np.zeros(0, np.int32), *rows])
        return ids, np.array([len(row) for row in rows], np.int64)

    def _decode_tf(self, ids: tf.Tensor) -> tf.Tensor:
        def text(row: np.ndarray) -> bytes:
            return self.decode(row.tolist()).encode()

        if len(ids.shape) == 1:
            return tf.ensure_shape(tf.numpy_function(text, [ids], tf.string), [])
        return tf.map_fn(self._decode_tf, ids, fn_output_signature=tf.string)

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, PieceVocabulary)
            and self.extra_ids == other.extra_ids
            and (self._path == other._path or self.sha256 == other.sha256)
        )

    def __hash__(self) -> int:
        return hash((self.sha256, self.extra_ids))

    def __repr__(self) -> str:
        return f"PieceVocabulary({str(self._path)!r}, extra_ids={self._extra_ids})"

    def __getstate__(self) -> dict[str, Any]:
        return {"_path": self._path, "_extra_ids": self._extra_ids}


class UnboundVocabulary(seqio.Vocabulary):
    """What a task is declared with: no file is named, and any use fails with one clear line.

    `extra_ids` is the number of sentinels that the task's objective needs.
    """

    def _unbound(self, *_: Any) -> NoReturn:
        raise ValueError(
            "This task is declared without a vocabulary: bind one with "
            "twjax.data.vocabulary.with_vocabulary(task, PieceVocabulary(path)), or cache the task "
            "with `twjax tasks cache CONFIG`."
        )

    bos_id = eos_id = unk_id = _base_vocab_size = property(_unbound)  # type: ignore[assignment]
    _encode = _decode = _encode_tf = _decode_tf = _unbound  # type: ignore[assignment]

    def __eq__(self, other: object) -> bool:
        return isinstance(other, UnboundVocabulary) and self.extra_ids == other.extra_ids

    def __hash__(self) -> int:
        return hash((type(self), self.extra_ids))

    def __repr__(self) -> str:
        return f"UnboundVocabulary(extra_ids={self.extra_ids})"


def features(*names: str, extra_ids: int = 0) -> dict[str, seqio.Feature]:
    """Returns output features for a declaration, on one placeholder vocabulary."""
    vocabulary = UnboundVocabulary(extra_ids)
    return {name: seqio.Feature(vocabulary) for name in names}


def with_vocabulary(task: seqio.Task, vocabulary: PieceVocabulary) -> seqio.Task:
    """Returns an unregistered task like `task`, its placeholders replaced by `vocabulary`.

    The bound vocabulary gets as many sentinels as the placeholder asked for. A task that is
    already bound to another vocabulary is refused.
    """
    bound = {}
    for name, feature in task.output_features.items():
        declared = feature.vocabulary
        if isinstance(declared, UnboundVocabulary):
            declared = vocabulary.with_extra_ids(declared.extra_ids)
        elif declared != vocabulary.with_extra_ids(declared.extra_ids):
            raise ValueError(
                f"Task {task.name} feature {name} is bound to {declared!r}, not to {vocabulary!r}; "
                "declare it with twjax.data.vocabulary.features()."
            )
        bound[name] = seqio.Feature(
            vocabulary=declared,
            add_eos=feature.add_eos,
            required=feature.required,
            dtype=feature.dtype,
            rank=feature.rank,
        )
    return task.replace(output_features=bound)
