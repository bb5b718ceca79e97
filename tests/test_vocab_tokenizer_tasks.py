"""A Hugging Face tokenizer on the whole way: graphs, sentinels, cached rows, commands, prompts."""

from __future__ import annotations

import re

import data_side
import numpy as np
import pytest
import tiny

pytest.importorskip("transformers")
import tokenizer_side
from transformers import AutoTokenizer

from twjax.cli import main
from twjax.config.vocab_size import check_vocab_size
from twjax.vocab.tokenizer_load import load_vocabulary

TEXTS = [text[:1500] for text in data_side.texts()[:12]]


@pytest.mark.parametrize("family", ["llama3", "qwen", "gemma", "t5"])
def test_a_graph_gives_the_same_ids(family):
    import tensorflow as tf

    from twjax.data.vocabulary import PieceVocabulary

    folder = tokenizer_side.folder(family)
    vocabulary, reference = PieceVocabulary(folder), AutoTokenizer.from_pretrained(folder)
    texts = [*TEXTS[:3], *data_side.ODD_TEXTS]
    wanted = reference(texts, add_special_tokens=False, split_special_tokens=True).input_ids
    assert vocabulary.encode_tf(tf.constant(texts)).to_list() == wanted
    assert vocabulary.encode(texts[0]) == wanted[0]
    assert vocabulary.vocab_size == len(reference)
    assert vocabulary.decode([*vocabulary.encode("臺灣"), vocabulary.eos_id, 9]) == "臺灣"


def test_sentinels_of_the_vocabulary_are_used():
    from twjax.data.vocabulary import PieceVocabulary

    folder = tokenizer_side.folder("t5")
    vocabulary, reference = PieceVocabulary(folder, 50), AutoTokenizer.from_pretrained(folder)
    assert vocabulary.vocab_size == len(reference) == 2600
    first, second = reference.convert_tokens_to_ids(["<extra_id_0>", "<extra_id_1>"])
    assert (first, second) == (vocabulary.vocab_size - 1, vocabulary.vocab_size - 2)
    ids = [*vocabulary.encode("第"), first, *vocabulary.encode("法"), second]
    assert vocabulary.decode(ids) == "第<extra_id_0> 法<extra_id_1>"
    # A task that may need more is declared with more: its objective counts what it does need.
    wide = PieceVocabulary(folder, 256)
    assert (wide.vocab_size, wide.extra_ids) == (2600, 100)
    assert wide.decode(ids) == vocabulary.decode(ids) and wide.decode([2400, 1]) != ""
    assert "extra_id" not in wide.decode([2400])
    assert not needed_sentinels(wide, 1700)
    assert "sentinels; there are 100" in needed_sentinels(wide, 1900)
    # Others get theirs behind their ids.
    qwen = PieceVocabulary(tokenizer_side.folder("qwen"), 50)
    assert qwen.vocab_size == load_vocabulary(tokenizer_side.folder("qwen")).vocab_size + 50


def needed_sentinels(vocabulary, length: int) -> str:
    """Returns what span corruption says to pieces of a length, "" when it takes them."""
    import seqio
    import tensorflow as tf

    from twjax.data.preprocessors import span_corruption

    features = {name: seqio.Feature(vocabulary) for name in ("inputs", "targets")}
    rows = tf.data.Dataset.from_tensors({"text": "臺灣", "id": "1"})
    try:
        span_corruption(rows, features, {"inputs": length})
    except ValueError as error:
        return str(error)
    return ""


@pytest.mark.parametrize("family", ["llama3", "qwen", "gemma", "llama2"])
def test_cached_rows_hold_what_transformers_gives(family, tmp_path):
    from twjax.data.cache import build
    from twjax.data.documents import Corpus
    from twjax.data.examples import CorpusTask
    from twjax.data.request import Request
    from twjax.data.rows import RowReader

    folder = tokenizer_side.folder(family)
    corpus = Corpus(data_side.make_corpus(tmp_path / "corpus", TEXTS, shards=1), 0.0)
    request = Request(CorpusTask("laws", corpus), "train", 4096, str(folder))
    built = build(request, tmp_path / "cache")
    reader = RowReader(tmp_path / "cache", "laws", "train", 4096)
    reader.verify()
    rows = reader.read(range(len(reader)))
    documents = set()
    for tokens, owners in zip(rows["tokens"], rows["segment_ids"], strict=True):
        for segment in range(1, int(owners.max()) + 1):
            documents.add(tuple(tokens[owners == segment].tolist()))
    reference = AutoTokenizer.from_pretrained(folder)
    begins = family != "qwen"
    wanted = reference(TEXTS, add_special_tokens=begins, split_special_tokens=True).input_ids
    assert documents == {(*ids, reference.eos_token_id) for ids in wanted}
    assert all((document[0] == reference.bos_token_id) == begins for document in documents)
    # A space in front of each document is all that is counted beside the texts.
    spaces = len(TEXTS) if family == "llama2" else 0
    assert built.info.text_bytes == sum(len(text.encode()) for text in TEXTS) + spaces
    assert built.info.vocabulary["size"] == len(reference)
    assert not build(request, tmp_path / "cache").fresh

    # Another vocabulary is another cache, and its rows aren't taken for these.
    other = tokenizer_side.folder("gpt2")
    assert Request(request.task, "train", 4096, str(other)).ingredients() != request.ingredients()
    with pytest.raises(ValueError, match="another vocabulary than"):
        reader.verify(other)


def test_objectives_begin_documents_as_the_vocabulary_does():
    import seqio
    import tensorflow as tf

    from twjax.data.preprocessors import language_model, prefix_lm
    from twjax.data.vocabulary import PieceVocabulary

    for family, begins in (("qwen", False), ("gemma", True)):
        vocabulary = PieceVocabulary(tokenizer_side.folder(family))
        features = {name: seqio.Feature(vocabulary) for name in ("inputs", "targets")}
        dataset = tf.data.Dataset.from_tensor_slices({"text": ["甲乙"], "id": ["1"]})
        (found,) = language_model(dataset, features).as_numpy_iterator()
        ids = [*vocabulary.model.start, *vocabulary.encode("甲乙"), vocabulary.eos_id]
        assert found["targets"].tolist() == ids
        assert (ids[0] == vocabulary.bos_id) == begins
        (cut,) = prefix_lm(dataset, features).as_numpy_iterator()
        assert np.concatenate([cut["inputs"], cut["targets"]]).tolist() == ids


def test_models_may_have_more_rows_than_ids_never_fewer():
    check_vocab_size(151_936, 151_669, "Qwen3")
    check_vocab_size(96, 96, "ours")
    with pytest.raises(ValueError, match=r"Model.vocab_size \(95\) is less than the 96 ids of it"):
        check_vocab_size(95, 96, "it")


@pytest.mark.slow
def test_commands_take_a_folder_as_they_take_a_model(tmp_path, capsys):
    """Rows are cached, shown, trained on with more rows than ids, and prompts continued."""
    folder = tokenizer_side.folder("qwen")
    corpus = data_side.make_corpus(tmp_path / "a", TEXTS, shards=1)
    text = tiny.CONFIG.format(cache=tmp_path / "cache")
    for name, value in (
        ("Data.vocabulary", f"'{folder}'"),
        ("Mixture.stages", "((0, {'a': 1.0}),)"),
        ("Model.vocab_size", "2560"),
        ("Run.steps", "2"),
        ("Evaluation.tasks", "('a',)"),
    ):
        text = re.sub(rf"{re.escape(name)} = .*", f"{name} = {value}", text)
    text += f"Data.corpora = {{'a': '{corpus}'}}\nData.validation = 0.5\n"
    text += "Evaluation.prompts = ('中華民國', '')\n"
    config = tmp_path / "run.gin"
    config.write_text(text)
    assert main(["tasks", "cache", str(config), "--workers", "1"]) == 0
    assert main(["tasks", "show", str(config), "a", "-n", "30"]) == 0
    told = capsys.readouterr().out
    assert "<|endoftext|>" in told and "中華民國" in told
    assert main(["vocab", "report", str(folder), corpus]) == 0
    run = tmp_path / "run"
    done = tiny.twjax("train", config, "--run-dir", run)
    assert done.returncode == 0, done.stderr
    assert list((run / "samples").iterdir())
    done = tiny.twjax("generate", run, "--prompt", "臺灣", "--tokens", "4")
    assert done.returncode == 0 and done.stdout.startswith("臺灣"), done.stderr
    done = tiny.twjax("train", config, "--run-dir", tmp_path / "no", "--set",
                      "Model.vocab_size = 2505")  # fmt: skip
    assert done.returncode == 1 and "less than the 2506 ids" in done.stderr
