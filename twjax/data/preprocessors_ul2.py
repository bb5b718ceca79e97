"""UL2's mixture of denoisers: span corruption of seven kinds, each announced by its mode."""

# TensorFlow's stubs and seqio's registry of types are wrong about these.
# pyright: reportInvalidTypeForm=false, reportReturnType=false
# pyright: reportArgumentType=false, reportAttributeAccessIssue=false

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from twjax.data.chance import Chance
from twjax.data.preprocessors import Example, Features


class Denoiser(NamedTuple):
    """How a piece is corrupted: spans of `mean` tokens on average that cover `density` of it.

    A `mean` of 0 is the sequential denoiser: the last `density` of a piece is predicted from what
    comes before. `share` is how many pieces get this one, relative to the others.
    """

    mode: str
    density: float
    mean: float
    share: float = 1.0


# Tay et al. 2022, "UL2: Unifying Language Learning Paradigms", table 1: R (regular), S
# (sequential, a quarter of the piece), X (extreme); modes as in the released 20B model.
UL2 = (
    Denoiser("[NLU]", 0.15, 3.0),
    Denoiser("[NLU]", 0.15, 8.0),
    Denoiser("[S2S]", 0.25, 0.0),
    Denoiser("[NLG]", 0.5, 3.0),
    Denoiser("[NLG]", 0.5, 8.0),
    Denoiser("[NLG]", 0.15, 64.0),
    Denoiser("[NLG]", 0.5, 64.0),
)


class Room(NamedTuple):
    """How long a piece may get: tokens of both sides, and of both together (0: no bound)."""

    inputs: int
    targets: int
    together: int
    sentinels: int


class Marks(NamedTuple):
    """Ids that aren't text: the highest sentinel, EOS, and the ids of each denoiser's mode."""

    last_sentinel: int
    eos: int
    modes: tuple[tuple[int, ...], ...]


def ul2(
    dataset: tf.data.Dataset,
    output_features: Features,
    sequence_length: Mapping[str, int] | None,
    field: str = "text",
    key: str = "id",
    seed: int = 0,
    denoisers: Sequence[Sequence[Any]] = UL2,
    shared_row: bool = True,
) -> tf.data.Dataset:
    """Corrupts each piece of a document by one of `denoisers`, drawn by their shares.

    `inputs` begin with the pieces of the denoiser's mode ("" for none). Spans become sentinels and
    both sides end in EOS, as in `span_corruption`; under a sequential denoiser `targets` are the
    end of the piece as it is, with EOS only where the document ends. A piece is as long as leaves
    room for both sides: in the one row that a decoder reads (`shared_row`), or in a row for each,
    of `sequence_length`; and as there are sentinels for.
    """
    if sequence_length is None or not {"inputs", "targets"} <= set(sequence_length):
        raise ValueError("ul2 needs sequence_length of inputs and targets to know its pieces.")
    vocabulary = output_features["targets"].vocabulary
    kinds = tuple(Denoiser(*denoiser) for denoiser in denoisers)
    both = min(sequence_length["inputs"], sequence_length["targets"]) if shared_row else 0
    room = Room(sequence_length["inputs"], sequence_length["targets"], both, vocabulary.extra_ids)
    marks = Marks(
        vocabulary.vocab_size - 1,
        vocabulary.eos_id,
        tuple(tuple(vocabulary.encode(kind.mode)) if kind.mode else () for kind in kinds),
    )
    for kind, mode in zip(kinds, marks.modes, strict=True):
        longest(kind, len(mode), room)

    def corrupt(name: bytes, ids: np.ndarray) -> tuple[np.ndarray, ...]:
        found = list(pieces(ids, Chance(name, seed, "ul2"), kinds, room, marks))
        sides = zip(*found, strict=True) if found else ((), ())
        return tuple(array for side in sides for array in _flat(side))

    def document(example: Example) -> Example:
        if key not in example:
            raise ValueError(
                f"Examples have no field {key!r} to seed random choices with; they have "
                f"{sorted(example)}. Name one with functools.partial(…, key=…)."
            )
        ids = tf.cast(vocabulary.encode_tf(example[field]), tf.int32)
        name = example[key] if example[key].dtype == tf.string else tf.as_string(example[key])
        flat = tf.numpy_function(corrupt, [name, ids], [tf.int32, tf.int64] * 2)
        for array in flat:
            array.set_shape([None])
        return {
            side: tf.RaggedTensor.from_row_splits(*flat[at : at + 2], validate=False)
            for side, at in (("inputs", 0), ("targets", 2))
        }

    return dataset.map(document, num_parallel_calls=tf.data.AUTOTUNE).unbatch()


def pieces(
    ids: np.ndarray, chance: Chance, denoisers: Sequence[Denoiser], room: Room, marks: Marks
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yields (inputs, targets) of a document's pieces, int32 each."""
    shares = np.array([denoiser.share for denoiser in denoisers])
    at = 0
    while at < len(ids):
        which = chance.choice(shares)
        denoiser, mode = denoisers[which], marks.modes[which]
        until = min(len(ids), at + longest(denoiser, len(mode), room))
        # A rest of one token would have nothing to be predicted from.
        if len(ids) - until == 1 and until - at > 2:
            until -= 1
        end = [marks.eos] if until == len(ids) else []
        yield _corrupt(ids[at:until], denoiser, mode, chance, room, marks, end)
        at = until


def _corrupt(
    ids: np.ndarray,
    denoiser: Denoiser,
    mode: tuple[int, ...],
    chance: Chance,
    room: Room,
    marks: Marks,
    end: list[int],
) -> tuple[np.ndarray, np.ndarray]:
    noise, spans = _noise(len(ids), denoiser)
    eos = [marks.eos]
    if not denoiser.mean:
        cut = len(ids) - noise
        # In a shared row the continuation follows its context directly.
        between = [] if room.together else eos
        return _join(mode, ids[:cut], between), _join(ids[cut:], end)
    if not noise:
        return _join(mode, ids, eos), _join(eos)
    lengths = np.stack([chance.parts(len(ids) - noise, spans), chance.parts(noise, spans)], 1)
    part = np.repeat(np.arange(2 * spans), lengths.ravel())
    hidden = part % 2 == 1
    starts = hidden & np.diff(part, prepend=0).astype(bool)
    sentinels = marks.last_sentinel + 1 - np.cumsum(starts)
    # Each side keeps its own tokens; where a span starts, its sentinel goes first.
    both = np.stack([sentinels, ids], axis=1)
    inputs = both[np.stack([starts, ~hidden], axis=1)]
    return _join(mode, inputs, eos), _join(both[np.stack([starts, hidden], axis=1)], eos)


@functools.lru_cache(maxsize=256)
def longest(denoiser: Denoiser, mode_length: int, room: Room) -> int:
    """Returns how many tokens a piece has at most; ValueError where not even two fit."""

    def fits(size: int) -> bool:
        noise, spans = _noise(size, denoiser)
        marked = spans + 1 if denoiser.mean else 1
        inputs, targets = mode_length + size - noise + marked, noise + marked
        if not denoiser.mean:
            inputs -= 1 if room.together else 0
            spans = 0
        return (
            inputs <= room.inputs
            and targets <= room.targets
            and (not room.together or inputs + targets <= room.together)
            and spans <= room.sentinels
        )

    if not fits(2):
        raise ValueError(
            f"ul2: {denoiser} has no room in inputs of {room.inputs} and targets of {room.targets} "
            f"tokens with {room.sentinels} sentinels; give the task extra_ids, or lengthen "
            "Data.seq_len."
        )
    size = 2
    while fits(size + 1):
        size += 1
    return size


def _noise(size: int, denoiser: Denoiser) -> tuple[int, int]:
    """Returns (tokens to predict, spans) of a piece of `size` tokens; one token has none."""
    if size < 2:
        return 0, 0
    noise = min(max(round(size * denoiser.density), 1), size - 1)
    if not denoiser.mean:
        return noise, 1
    return noise, min(max(round(noise / denoiser.mean), 1), noise, size - noise)


def _join(*parts: Any) -> np.ndarray:
    return np.concatenate([np.asarray(part, np.int32) for part in parts])


def _flat(rows: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Returns the rows one after the other, int32, and where each begins and the last ends."""
    splits = np.cumsum([0, *map(len, rows)], dtype=np.int64)
    return _join(np.zeros(0, np.int32), *rows), splits
