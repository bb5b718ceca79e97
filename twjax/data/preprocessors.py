"""What a task does to a document on its way to token ids: objectives and text clean-up.

Each is a seqio preprocessor: it takes a `tf.data.Dataset` and returns one. Random choices depend
on the document and a seed alone, never on the order of examples or on how they are sharded.
"""

# TensorFlow's stubs and seqio's registry of types are wrong about these.
# pyright: reportInvalidTypeForm=false, reportReturnType=false
# pyright: reportArgumentType=false, reportAttributeAccessIssue=false

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import seqio
import tensorflow as tf

Example = dict[str, Any]
Features = Mapping[str, seqio.Feature]


def language_model(
    dataset: tf.data.Dataset, output_features: Features, field: str = "text"
) -> tf.data.Dataset:
    """Turns `field` into `targets`: BOS (if the vocabulary has it), the text's pieces, EOS.

    Next-token prediction over whole documents (Radford et al. 2019, "Language Models are
    Unsupervised Multitask Learners", section 2). Documents aren't cut here; packing does that.
    """

    def encode(example: Example) -> Example:
        return example | {"targets": _encode(example[field], output_features["targets"])}

    return dataset.map(encode, num_parallel_calls=tf.data.AUTOTUNE)


def prefix_lm(
    dataset: tf.data.Dataset,
    output_features: Features,
    sequence_length: Mapping[str, int] | None = None,
    field: str = "text",
    key: str = "id",
    seed: int = 0,
) -> tf.data.Dataset:
    """Cuts a document at a random point: what stands before is `inputs`, the rest `targets`.

    Prefix language modelling (Raffel et al. 2020, "Exploring the Limits of Transfer Learning",
    section 3.3.1, table 3). Documents longer than the shorter side of `sequence_length` become
    several pieces, each cut uniformly at random; BOS and EOS stand at the document's ends.
    """
    longest = min(sequence_length.values()) if sequence_length else None

    def pieces(example: Example) -> Example:
        ids = _encode(example[field], output_features["targets"])
        return _pieces(ids, longest, _seed(example, key, seed))

    def cut(piece: Example) -> Example:
        ids = piece["ids"]
        # A piece of one token is all inputs.
        end = tf.maximum(2, tf.size(ids))
        at = tf.random.stateless_uniform([], _piece_seed(piece), 1, end, tf.int32)
        return {"inputs": ids[:at], "targets": ids[at:]}

    return (
        dataset.map(pieces, num_parallel_calls=tf.data.AUTOTUNE)
        .unbatch()
        .map(cut, num_parallel_calls=tf.data.AUTOTUNE)
    )


def span_corruption(
    dataset: tf.data.Dataset,
    output_features: Features,
    sequence_length: Mapping[str, int] | None,
    field: str = "text",
    key: str = "id",
    seed: int = 0,
    noise_density: float = 0.15,
    mean_span_length: float = 3.0,
) -> tf.data.Dataset:
    """Replaces random spans of `inputs` by sentinels; `targets` are the spans behind theirs.

    Raffel et al. 2020, section 3.3.4 and table 11 for the density of 0.15 and the mean span of 3
    tokens. Both sides end in EOS. A document becomes pieces as long as `span_corruption_lengths`
    allows for `sequence_length["inputs"]`, and a rest. Sentinel k, the k-th of a piece, has the
    id `vocab_size - 1 - k`.
    """
    if sequence_length is None or "inputs" not in sequence_length:
        raise ValueError("span_corruption needs sequence_length['inputs'] to know its pieces.")
    vocabulary = output_features["targets"].vocabulary
    longest, _ = span_corruption_lengths(sequence_length["inputs"], noise_density, mean_span_length)
    _, most = _noise(longest, noise_density, mean_span_length)
    if most > vocabulary.extra_ids:
        raise ValueError(
            f"span_corruption with inputs of {sequence_length['inputs']} tokens needs {most} "
            f"sentinels; there are {vocabulary.extra_ids} (the task's extra_ids, or those of its "
            "vocabulary): shorten Data.seq_len."
        )

    def pieces(example: Example) -> Example:
        ids = tf.cast(vocabulary.encode_tf(example[field]), tf.int32)
        return _pieces(ids, longest, _seed(example, key, seed))

    def corrupt(piece: Example) -> Example:
        ids = piece["ids"]
        noise, starts = _spans(tf.size(ids), _piece_seed(piece), noise_density, mean_span_length)
        eos = tf.constant([vocabulary.eos_id], tf.int32)
        sentinels = vocabulary.vocab_size - tf.cumsum(tf.cast(starts, tf.int32))
        # Each side keeps its own tokens; where a span starts, its sentinel goes first.
        both = tf.stack([sentinels, ids], axis=1)
        inputs = tf.boolean_mask(both, tf.stack([starts, ~noise], axis=1))
        targets = tf.boolean_mask(both, tf.stack([starts, noise], axis=1))
        return {
            "inputs": tf.concat([inputs, eos], 0),
            "targets": tf.concat([targets, eos], 0),
        }

    return (
        dataset.map(pieces, num_parallel_calls=tf.data.AUTOTUNE)
        .unbatch()
        .map(corrupt, num_parallel_calls=tf.data.AUTOTUNE)
    )


def span_corruption_lengths(
    inputs_length: int, noise_density: float = 0.15, mean_span_length: float = 3.0
) -> tuple[int, int]:
    """Returns (raw tokens, targets) of the longest piece whose corrupted inputs still fit.

    Sentinels and the EOS of each side are counted: 512 → (568, 114), 1024 → (1137, 229), as in
    the configurations of T5 (Raffel et al. 2020) and umT5 (Chung et al. 2023).
    """

    def sides(raw: int) -> tuple[int, int]:
        noise, spans = _noise(raw, noise_density, mean_span_length)
        return raw - noise + spans + 1, noise + spans + 1

    if sides(2)[0] > inputs_length:
        raise ValueError(f"span_corruption: inputs of {inputs_length} tokens hold nothing.")
    raw = 2
    while sides(raw + 1)[0] <= inputs_length:
        raw += 1
    return raw, sides(raw)[1]


def clean_wiki40b(dataset: tf.data.Dataset, field: str = "text") -> tf.data.Dataset:
    """Turns the structure markers of Wiki-40B into line ends.

    Title, sections and paragraphs are marked by `_START_ARTICLE_`, `_START_SECTION_`,
    `_START_PARAGRAPH_` and `_NEWLINE_` (Guo et al. 2020, "Wiki-40B", section 3). A blank line
    comes before each section and each block of paragraphs; paragraphs are lines.
    """

    def clean(example: Example) -> Example:
        text = tf.strings.regex_replace(example[field], r"\s*_START_ARTICLE_\s*", "")
        text = tf.strings.regex_replace(text, r"\s*_START_SECTION_\s*", "\n\n")
        text = tf.strings.regex_replace(text, r"\s*_START_PARAGRAPH_\s*", "\n\n")
        text = tf.strings.regex_replace(text, r"\s*_NEWLINE_\s*", "\n")
        return example | {field: tf.strings.strip(text)}

    return dataset.map(clean, num_parallel_calls=tf.data.AUTOTUNE)


def to_taiwan(
    dataset: tf.data.Dataset, field: str = "text", config: str = "s2tw", threshold: float = 0.8
) -> tf.data.Dataset:
    """Converts documents in Simplified characters to Taiwan's usage; others stay as they are.

    The step `ConvertSimplified` of `twjax.corpus`, with OpenCC's `config` and Taiwan's words.
    """
    from twjax.corpus.conversion.convert import ConvertSimplified
    from twjax.corpus.document import Document

    step = ConvertSimplified(config=config, threshold=threshold)

    def convert(texts: Any) -> Any:
        documents = [
            Document(id=str(i), text=text.decode(), source="", license="", lang="zh")
            for i, text in enumerate(texts)
        ]
        return np.array([d.text.encode() for d in step.apply(documents).kept], object)

    def batch(examples: Example) -> Example:
        converted = tf.numpy_function(convert, [examples[field]], tf.string)
        return examples | {field: tf.ensure_shape(converted, [None])}

    return dataset.batch(64).map(batch, num_parallel_calls=2).unbatch()


def _opencc_version() -> dict[str, str]:
    from twjax.corpus.conversion.convert import ConvertSimplified

    return ConvertSimplified().versions()


# Libraries that decide what comes out are part of a cache's fingerprint.
to_taiwan.versions = _opencc_version  # type: ignore[attr-defined]


def _encode(text: tf.Tensor, feature: seqio.Feature) -> tf.Tensor:
    """Returns int32 [n]: BOS if the vocabulary has it, pieces, and EOS if the feature has one."""
    vocabulary = feature.vocabulary
    # Vocabularies of seqio itself don't say it.
    adds_bos = getattr(vocabulary, "adds_bos", True)
    parts = [tf.constant([vocabulary.bos_id], tf.int32)] if adds_bos else []
    parts.append(tf.cast(vocabulary.encode_tf(text), tf.int32))
    if feature.add_eos:
        parts.append(tf.constant([vocabulary.eos_id], tf.int32))
    return tf.concat(parts, 0)


def _seed(example: Example, key: str, seed: int) -> tf.Tensor:
    """Returns int32 [2], a stateless seed of the document's own."""
    if key not in example:
        raise ValueError(
            f"Examples have no field {key!r} to seed random choices with; they have "
            f"{sorted(example)}. Name one with functools.partial(…, key=…)."
        )
    hashed = tf.strings.to_hash_bucket_strong(example[key], 2**31 - 1, key=[seed, 0x7477])
    return tf.stack([tf.constant(seed, tf.int32), tf.cast(hashed, tf.int32)])


def _pieces(ids: tf.Tensor, longest: int | None, seed: tf.Tensor) -> Example:
    """Cuts ids [n] into pieces of `longest` tokens and a rest, numbered from 0.

    The rest has at least two tokens, so that one can be predicted from the other.
    """
    size = tf.size(ids)
    limit = tf.maximum(1, size) if longest is None else tf.constant(longest)
    count = tf.maximum(1, -(-size // limit))
    bounds = tf.minimum(tf.range(count + 1) * limit, size)
    single = (count > 1) & (size - (count - 1) * limit == 1)
    bounds -= tf.one_hot(count - 1, count + 1, dtype=tf.int32) * tf.cast(single, tf.int32)
    return {
        "ids": tf.RaggedTensor.from_row_splits(ids, bounds, validate=False),
        "number": tf.range(count),
        "seed": tf.repeat(seed[None], count, axis=0),
    }


def _piece_seed(piece: Example) -> tf.Tensor:
    return tf.random.fold_in(piece["seed"], piece["number"])


def _noise(size: int, density: float, mean: float) -> tuple[int, int]:
    """Returns (noise tokens, spans) of a piece of `size` tokens."""
    if size < 2:
        return 0, 0
    noise = min(max(round(size * density), 1), size - 1)
    return noise, min(max(round(noise / mean), 1), noise, size - noise)


def _spans(size: tf.Tensor, seed: tf.Tensor, density: float, mean: float) -> tuple[Any, Any]:
    """Returns bool [size] twice: which tokens are noise, and which of them start a span.

    Noise and the rest are each cut into as many parts, all ways of cutting being equally likely;
    the parts alternate, the rest first. A piece of one token has no noise.
    """

    def spread() -> tuple[tf.Tensor, tf.Tensor]:
        noise = tf.cast(tf.round(tf.cast(size, tf.float64) * density), tf.int32)
        noise = tf.minimum(tf.maximum(noise, 1), size - 1)
        spans = tf.cast(tf.round(tf.cast(noise, tf.float64) / mean), tf.int32)
        spans = tf.minimum(tf.maximum(spans, 1), tf.minimum(noise, size - noise))
        kept = _parts(size - noise, spans, tf.random.fold_in(seed, 0))
        left_out = _parts(noise, spans, tf.random.fold_in(seed, 1))
        lengths = tf.reshape(tf.stack([kept, left_out], axis=1), [-1])
        part = tf.repeat(tf.range(2 * spans), lengths)
        is_noise = part % 2 == 1
        first = tf.concat([[True], part[1:] != part[:-1]], 0)
        return is_noise, is_noise & first

    nothing = tf.zeros([size], tf.bool)
    return tf.cond(size < 2, lambda: (nothing, nothing), spread)


def _parts(total: tf.Tensor, count: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
    """Returns int32 [count] positive numbers that sum to `total`, uniform over all such."""
    order = tf.argsort(tf.random.stateless_uniform([total - 1], seed), stable=True)
    cuts = tf.sort(order[: count - 1]) + 1
    edges = tf.concat([[0], cuts, [total]], 0)
    return edges[1:] - edges[:-1]
