"""The seqio vocabulary: the same ids in Python and in a graph, sentinels, and placeholders."""

from __future__ import annotations

import pickle
import shutil

import data_side
import pytest
import sentencepiece
from hypothesis import given, settings
from hypothesis import strategies as st


@pytest.fixture(scope="module")
def vocabulary():
    from twjax.data.vocabulary import PieceVocabulary

    return PieceVocabulary(data_side.vocabulary(), extra_ids=4)


def test_ids_are_those_of_sentencepiece_and_the_graph_agrees(vocabulary):
    import tensorflow as tf

    processor = sentencepiece.SentencePieceProcessor(model_file=data_side.vocabulary())
    for text in (*data_side.texts()[:20], *data_side.ODD_TEXTS):
        ids = vocabulary.encode(text)
        if "▁" not in text:
            assert ids == processor.encode(text)
        assert vocabulary.encode_tf(tf.constant(text)).numpy().tolist() == ids
        assert vocabulary.decode(ids) == text
        assert vocabulary.decode_tf(tf.constant(ids)).numpy().decode() == text


def test_a_vector_of_strings_becomes_ragged_ids(vocabulary):
    import tensorflow as tf

    texts = ["一▁二", "", "甲乙丙"]
    ids = vocabulary.encode_tf(tf.constant(texts))
    assert ids.to_list() == [list(vocabulary.encode(text)) for text in texts]


def test_graphs_can_share_one_vocabulary(vocabulary):
    import tensorflow as tf

    for _ in range(2):
        dataset = tf.data.Dataset.from_tensor_slices(["甲", "乙丙"]).map(vocabulary.encode_tf)
        found = [ids.tolist() for ids in dataset.as_numpy_iterator()]
        assert found == [list(vocabulary.encode(text)) for text in ("甲", "乙丙")]


@settings(max_examples=50, deadline=None)
@given(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=30))
def test_decoding_gives_the_text_back(text):
    from twjax.data.vocabulary import PieceVocabulary

    vocabulary = PieceVocabulary(data_side.vocabulary())
    assert vocabulary.decode(vocabulary.encode(text)) == text


def test_special_ids_and_sentinels(vocabulary):
    size = sentencepiece.SentencePieceProcessor(model_file=data_side.vocabulary()).vocab_size()
    ids = (vocabulary.pad_id, vocabulary.eos_id, vocabulary.unk_id, vocabulary.bos_id)
    assert ids == (0, 1, 2, 3)
    assert vocabulary.vocab_size == size + 4
    text = vocabulary.encode("甲")
    line = [*text, size + 3, *text, size + 2, 1, *text]
    assert vocabulary.decode(line) == "甲<extra_id_0>甲<extra_id_1>"


def test_equality_is_by_content_and_sentinels_and_survives_pickling(vocabulary, tmp_path):
    from twjax.data.vocabulary import PieceVocabulary

    copy = tmp_path / "copy.model"
    shutil.copy(data_side.vocabulary(), copy)
    assert PieceVocabulary(copy, extra_ids=4) == vocabulary
    assert PieceVocabulary(copy) != vocabulary
    assert pickle.loads(pickle.dumps(vocabulary)) == vocabulary


def test_models_without_an_end_of_documents_are_refused(tmp_path):
    from twjax.data.vocabulary import PieceVocabulary

    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(["一二三四五六七八九十"] * 20),
        model_prefix=str(tmp_path / "other"),
        vocab_size=20,
        hard_vocab_limit=False,
        eos_id=-1,
        minloglevel=2,
    )
    with pytest.raises(ValueError, match=r"other.model: has no EOS"):
        _ = PieceVocabulary(tmp_path / "other.model").eos_id
    with pytest.raises(ValueError, match=r"absent.model: no such vocabulary"):
        _ = PieceVocabulary(tmp_path / "absent.model").eos_id


def test_an_unbound_vocabulary_fails_with_one_clear_line():
    from twjax.data.vocabulary import UnboundVocabulary

    unbound = UnboundVocabulary(extra_ids=3)
    assert unbound.extra_ids == 3
    uses = [
        lambda: unbound.encode("甲"),
        lambda: unbound.decode([4]),
        lambda: unbound.encode_tf("甲"),
        lambda: unbound.vocab_size,
        lambda: unbound.bos_id,
        lambda: unbound.eos_id,
    ]
    for use in uses:
        with pytest.raises(
            ValueError, match=r"declared without a vocabulary.*tasks cache"
        ) as error:
            use()
        assert "\n" not in str(error.value)


def test_binding_leaves_the_declared_task_as_it_is(vocabulary, tmp_path):
    import seqio

    from twjax.data.sources import CorpusSource
    from twjax.data.vocabulary import (
        PieceVocabulary,
        UnboundVocabulary,
        features,
        with_vocabulary,
    )

    declared = seqio.Task(
        "unregistered",
        source=CorpusSource(str(tmp_path / "absent")),
        output_features=features("inputs", "targets", extra_ids=9),
        preprocessors=[len],
        postprocess_fn=str,
        metric_fns=[],
    )
    bound = with_vocabulary(declared, PieceVocabulary(data_side.vocabulary()))
    assert {f.vocabulary for f in bound.output_features.values()} == {
        PieceVocabulary(data_side.vocabulary(), extra_ids=9)
    }
    assert bound.source is declared.source
    assert list(bound.preprocessors) == [len]
    assert bound.postprocessor is str
    assert "unregistered" not in seqio.TaskRegistry.names()
    assert isinstance(declared.output_features["targets"].vocabulary, UnboundVocabulary)

    other = tmp_path / "other.model"
    shutil.copy(data_side.vocabulary(720), other)
    with pytest.raises(ValueError, match="is bound to"):
        with_vocabulary(bound, PieceVocabulary(other))
