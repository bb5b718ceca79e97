"""Fill-in-the-middle: a stretch of the document moves to its end, behind what surrounds it."""

# TensorFlow's stubs and seqio's registry of types are wrong about these.
# pyright: reportInvalidTypeForm=false, reportReturnType=false
# pyright: reportArgumentType=false, reportAttributeAccessIssue=false

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import seqio
import tensorflow as tf

from twjax.data.chance import Chance
from twjax.data.preprocessors import Example, Features


def fill_in_the_middle(
    dataset: tf.data.Dataset,
    output_features: Features,
    field: str = "text",
    key: str = "id",
    seed: int = 0,
    rate: float = 0.5,
    spm: float = 0.5,
    sentinels: Sequence[int | str] = (0, 1, 2),
) -> tf.data.Dataset:
    """Turns `rate` of the documents into prefix, suffix and middle; the others stay as they are.

    Bavarian et al. 2022, "Efficient Training of Language Models to Fill in the Middle", section 3:
    two places, uniform over the document's characters, cut it in three, and each part is encoded
    on its own. Written is `PRE prefix SUF suffix MID middle` (PSM), or for a share of `spm`
    `PRE SUF suffix MID prefix middle` (SPM, in the variant that serves to train both orders at
    once), between BOS, if the vocabulary has it, and EOS. All tokens are predicted. Documents
    longer than a row are cut by packing, as in the paper's document-level variant.

    `sentinels` are PRE, SUF and MID: numbers of `<extra_id_k>` or names of the vocabulary's own
    tokens, such as "<|fim_prefix|>".
    """
    if not (0 <= rate <= 1 and 0 <= spm <= 1):
        raise ValueError(f"fill_in_the_middle: rate ({rate}) and spm ({spm}) are shares: 0 to 1.")
    feature = output_features["targets"]
    vocabulary = feature.vocabulary
    marks = sentinel_ids(vocabulary, sentinels)
    begin = [vocabulary.bos_id] if getattr(vocabulary, "adds_bos", True) else []
    end = [vocabulary.eos_id] if feature.add_eos else []

    def encode(name: bytes, text: bytes) -> np.ndarray:
        chance = Chance(name, seed, "fill_in_the_middle")
        ids = rearranged(text.decode(), chance, vocabulary.encode, marks, rate, spm)
        return np.array([*begin, *ids, *end], np.int32)

    def document(example: Example) -> Example:
        if key not in example:
            raise ValueError(
                f"Examples have no field {key!r} to seed random choices with; they have "
                f"{sorted(example)}. Name one with functools.partial(…, key=…)."
            )
        name = example[key] if example[key].dtype == tf.string else tf.as_string(example[key])
        ids = tf.numpy_function(encode, [name, example[field]], tf.int32)
        return example | {"targets": tf.ensure_shape(ids, [None])}

    return dataset.map(document, num_parallel_calls=tf.data.AUTOTUNE)


def rearranged(
    text: str,
    chance: Chance,
    encode: Callable[[str], Sequence[int]],
    marks: tuple[int, int, int],
    rate: float,
    spm: float,
) -> list[int]:
    """Returns a document's ids without BOS and EOS, in the order that chance gives it."""
    if chance.uniform() >= rate:
        return list(encode(text))
    begin, end = sorted((chance.below(len(text) + 1), chance.below(len(text) + 1)))
    prefix, middle, suffix = (
        list(encode(part)) for part in (text[:begin], text[begin:end], text[end:])
    )
    pre, suf, mid = marks
    if chance.uniform() < spm:
        return [pre, suf, *suffix, mid, *prefix, *middle]
    return [pre, *prefix, suf, *suffix, mid, *middle]


def sentinel_ids(
    vocabulary: seqio.Vocabulary, sentinels: Sequence[int | str]
) -> tuple[int, int, int]:
    """Returns the ids of PRE, SUF and MID; ValueError where the vocabulary lacks one."""
    found = []
    for sentinel in sentinels:
        if isinstance(sentinel, str):
            model = vocabulary.model
            ids = [id for id in range(model.vocab_size) if model.id_to_piece(id) == sentinel]
            if not ids:
                raise ValueError(
                    f"fill_in_the_middle: the vocabulary has no token {sentinel!r}; name tokens "
                    "that it has, or numbers of <extra_id_k>."
                )
            found.append(ids[0])
        elif 0 <= sentinel < vocabulary.extra_ids:
            found.append(vocabulary.vocab_size - 1 - sentinel)
        else:
            raise ValueError(
                f"fill_in_the_middle: there is no <extra_id_{sentinel}>; the vocabulary has "
                f"{vocabulary.extra_ids} (the task's extra_ids, or its own)."
            )
    if len(set(found)) != 3:
        raise ValueError(f"fill_in_the_middle: sentinels {list(sentinels)} must be three ids.")
    return found[0], found[1], found[2]
