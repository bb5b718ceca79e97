"""Objectives: what they make of a document, what of it is random, and that nothing is lost."""

from __future__ import annotations

import functools
from typing import Any

import data_side
import numpy as np
import pytest

EOS, BOS = 1, 3


@pytest.fixture(scope="module")
def vocabulary():
    from twjax.data.vocabulary import PieceVocabulary

    return PieceVocabulary(data_side.vocabulary(), extra_ids=256)


def documents(texts, names=None):
    import tensorflow as tf

    names = names or [f"doc-{n}" for n in range(len(texts))]
    return tf.data.Dataset.from_tensor_slices({"id": list(names), "text": list(texts)})


def apply(step, texts, vocabulary, sequence_length=None, names=None, **arguments):
    """Runs one objective; returns its examples as lists of ids."""
    import inspect

    import seqio

    given: dict[str, Any] = {
        "output_features": {n: seqio.Feature(vocabulary) for n in ("inputs", "targets")}
    }
    if "sequence_length" in inspect.signature(step).parameters:
        given["sequence_length"] = sequence_length
    found = step(documents(texts, names), **given, **arguments)
    return [
        {k: v.tolist() for k, v in example.items() if k in ("inputs", "targets")}
        for example in found.as_numpy_iterator()
    ]


def whole(vocabulary, text):
    return [BOS, *vocabulary.encode(text), EOS]


def test_language_model_is_the_document_between_bos_and_eos(vocabulary):
    from twjax.data.preprocessors import language_model

    texts = (*data_side.texts()[:5], *data_side.ODD_TEXTS)
    found = apply(language_model, texts, vocabulary)
    assert [e["targets"] for e in found] == [whole(vocabulary, text) for text in texts]


def test_prefix_lm_pieces_give_the_document_back(vocabulary):
    from twjax.data.preprocessors import prefix_lm

    texts = (*data_side.texts()[:20], *data_side.ODD_TEXTS)
    found = apply(prefix_lm, texts, vocabulary, {"inputs": 64, "targets": 64})
    joined = [token for e in found for token in e["inputs"] + e["targets"]]
    assert joined == [token for text in texts for token in whole(vocabulary, text)]
    for example in found:
        assert 2 <= len(example["inputs"] + example["targets"]) <= 64
        assert example["inputs"] and example["targets"]


def test_prefix_lm_cuts_anywhere(vocabulary):
    from twjax.data.preprocessors import prefix_lm

    text = data_side.texts()[5][:40]
    names = [str(n) for n in range(600)]
    found = apply(prefix_lm, [text] * 600, vocabulary, names=names)
    cuts = np.array([len(example["inputs"]) for example in found])
    size = len(whole(vocabulary, text))
    assert set(cuts.tolist()) == set(range(1, size))
    # Uniform over 1 … size - 1: mean size / 2, within four standard errors.
    assert abs(cuts.mean() - size / 2) < 4 * (size - 1) / np.sqrt(12 * 600)


def restore(example, vocabulary):
    """Puts the spans of the targets back where their sentinels stand in the inputs."""
    first = vocabulary.vocab_size - vocabulary.extra_ids
    spans: dict[int, list[int]] = {}
    for token in example["targets"][:-1]:
        if token >= first:
            spans[token] = []
        else:
            spans[next(reversed(spans))].append(token)
    tokens = []
    for token in example["inputs"][:-1]:
        tokens += spans.pop(token) if token >= first else [token]
    assert not spans
    return tokens


def test_span_corruption_can_be_undone(vocabulary):
    from twjax.data.preprocessors import span_corruption

    texts = (*data_side.texts()[:20], *data_side.ODD_TEXTS)
    found = apply(span_corruption, texts, vocabulary, {"inputs": 64, "targets": 64})
    assert all(e["inputs"][-1] == e["targets"][-1] == EOS for e in found)
    assert all(len(e["inputs"]) <= 64 for e in found)
    restored = [token for e in found for token in restore(e, vocabulary)]
    assert restored == [token for text in texts for token in vocabulary.encode(text)]


def test_sentinels_are_unique_and_count_down_from_the_end(vocabulary):
    from twjax.data.preprocessors import span_corruption

    found = apply(span_corruption, [data_side.texts()[30]], vocabulary, {"inputs": 128})
    for example in found:
        for side in example.values():
            sentinels = [t for t in side if t >= vocabulary.vocab_size - 256]
            last = vocabulary.vocab_size - 1
            assert sentinels == list(range(last, last - len(sentinels), -1))


@pytest.mark.parametrize(
    ("inputs", "raw", "targets"),
    [(512, 568, 114), (1024, 1137, 229), (2048, 2274, 456), (4096, 4550, 910)],
)
def test_lengths_are_those_of_t5_and_pieces_have_them(vocabulary, inputs, raw, targets):
    from twjax.data.preprocessors import span_corruption, span_corruption_lengths

    assert span_corruption_lengths(inputs) == (raw, targets)
    # Digits are split, so this text has exactly one token a character.
    text = "7" * raw
    assert len(vocabulary.encode(text)) == raw
    found = apply(span_corruption, [text], vocabulary, {"inputs": inputs})
    assert [(len(e["inputs"]), len(e["targets"])) for e in found] == [(inputs, targets)]


def test_noise_density_and_span_lengths(vocabulary):
    from twjax.data.preprocessors import span_corruption

    texts = ["\n".join(data_side.texts()[20:40])] * 40
    names = [str(n) for n in range(40)]
    found = apply(span_corruption, texts, vocabulary, {"inputs": 512}, names=names)
    first = vocabulary.vocab_size - 256
    noise = sum(t < first for e in found for t in e["targets"][:-1])
    spans = sum(t >= first for e in found for t in e["targets"])
    kept = sum(t < first for e in found for t in e["inputs"][:-1])
    assert noise / (noise + kept) == pytest.approx(0.15, abs=0.003)
    assert noise / spans == pytest.approx(3.0, abs=0.1)
    # Noise may fall anywhere: over many documents every place of a piece is hit equally often.
    hits = np.zeros(568)
    pieces = 0
    for example in found:
        tokens = len(restore(example, vocabulary))
        if tokens != 568:
            continue
        pieces += 1
        at = 0
        queue = list(example["targets"][1:-1])
        for token in example["inputs"][:-1]:
            if token < first:
                at += 1
                continue
            while queue and queue[0] < first:
                hits[at] += 1
                at += 1
                queue.pop(0)
            queue = queue[1:]
    thirds = hits.reshape(4, 142).mean(axis=1) / pieces
    assert thirds == pytest.approx(0.15, abs=0.03)


def test_all_ways_of_cutting_are_equally_likely():
    import tensorflow as tf

    from twjax.data.preprocessors import _parts

    counts: dict[tuple[int, ...], int] = {}
    for seed in range(600):
        parts = tuple(_parts(tf.constant(5), tf.constant(3), tf.constant([7, seed])).numpy())
        counts[parts] = counts.get(parts, 0) + 1
    # 5 = a + b + c has 6 solutions; 100 of each expected, standard deviation 9.
    assert len(counts) == 6
    assert all(60 < count < 140 for count in counts.values())


@pytest.mark.parametrize("name", ["prefix_lm", "span_corruption"])
def test_chance_depends_on_the_document_and_the_seed_alone(vocabulary, name):
    from twjax.data import preprocessors

    step = getattr(preprocessors, name)
    texts, length = list(data_side.texts()[10:16]), {"inputs": 64, "targets": 64}
    names = [f"n{i}" for i in range(6)]
    run = functools.partial(apply, step, vocabulary=vocabulary, sequence_length=length)
    together = run(texts, names=names)
    shards = [run(texts[half], names=names[half]) for half in (slice(0, 2), slice(2, 6))]
    assert together == shards[0] + shards[1]
    assert run(texts, names=names, seed=1) != together
    assert run(texts, names=[f"m{i}" for i in range(6)]) != together


def test_objectives_say_what_is_missing(vocabulary):
    from twjax.data.preprocessors import prefix_lm, span_corruption

    with pytest.raises(ValueError, match=r"no field 'url'.*\['id', 'text'\].*key="):
        apply(prefix_lm, ["甲"], vocabulary, key="url")
    with pytest.raises(ValueError, match="needs sequence_length"):
        apply(span_corruption, ["甲"], vocabulary)
    with pytest.raises(ValueError, match=r"8192 tokens needs 455 sentinels; there are 256"):
        apply(span_corruption, ["甲"], vocabulary, {"inputs": 8192})


def test_wiki40b_markers_become_line_ends():
    from twjax.data.preprocessors import clean_wiki40b

    text = (
        "\n_START_ARTICLE_\n玉山\n_START_PARAGRAPH_\n臺灣最高峰。_NEWLINE_標高 3,952 公尺。"
        "\n_START_SECTION_\n登山\n_START_PARAGRAPH_\n需申請。"
    )
    (found,) = clean_wiki40b(documents([text])).as_numpy_iterator()
    assert found["text"].decode() == ("玉山\n\n臺灣最高峰。\n標高 3,952 公尺。\n\n登山\n\n需申請。")
    assert found["id"] == b"doc-0"


def test_simplified_documents_become_taiwans_and_others_stay():
    from twjax.data.preprocessors import to_taiwan

    texts = ["这个软件的内存占用很高，请联系网络管理员。", "檔案與文件是兩回事。", "Plain English."]
    found = [e["text"].decode() for e in to_taiwan(documents(texts)).as_numpy_iterator()]
    assert found[0] == "這個軟體的記憶體佔用很高，請聯絡網路管理員。"
    assert found[1:] == texts[1:]
