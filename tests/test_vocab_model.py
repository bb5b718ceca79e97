"""Text comes back exactly, and the bytes of tokens add up to those of the text."""

import gzip
import json
import pathlib
import pickle

import numpy as np
import pytest
import sentencepiece
from hypothesis import example, given, settings
from hypothesis import strategies as st

from twjax.config import Vocabulary
from twjax.corpus import document
from twjax.corpus.document import Document
from twjax.corpus.pipeline import Corpus, build
from twjax.vocab.model import SentencePieceModel
from twjax.vocab.report import measure
from twjax.vocab.tokenizer_load import load_vocabulary
from twjax.vocab.train import lines_of, train

TEXTS = pathlib.Path(__file__).parent.parent / "configs" / "corpora" / "texts"
SYMBOLS = ("\n\n", "<|turn|>", "臺灣 大學")


@pytest.fixture(scope="module")
def corpus(tmp_path_factory) -> pathlib.Path:
    folder = tmp_path_factory.mktemp("corpus")
    for name in ("tw_laws", "en_general", "cn_general"):
        with gzip.open(TEXTS / f"{name}.jsonl.gz", "rt", encoding="utf-8") as file:
            records = [json.loads(line) for line in list(file)[::20]]
        documents = [
            Document(id=r["id"], text=r["text"][:6000], source="s", license="l", lang=r["lang"])
            for r in records
        ]
        document.write_jsonl(folder / f"{name}.jsonl", documents)
    inputs = tuple(str(path) for path in sorted(folder.glob("*.jsonl")))
    return build(Corpus(name="t", inputs=inputs, output=str(folder / "out"), steps=()),
                 workers=1).folder  # fmt: skip


def config(corpus, output, **settings) -> Vocabulary:
    settings = {"size": 1400, "character_coverage": 0.98, "symbols": SYMBOLS, **settings}
    return Vocabulary(inputs=(str(corpus),), output=str(output), **settings)


@pytest.fixture(scope="module", params=["unigram", "bpe"])
def model(request, corpus, tmp_path_factory) -> SentencePieceModel:
    path = tmp_path_factory.mktemp(request.param) / "v.model"
    train(config(corpus, path, kind=request.param))
    return SentencePieceModel(path)


ANY = st.text(st.characters(exclude_categories=["Cs"]))
# What texts are made of, more often than chance has it.
PARTS = [
    "\n", "\n\n", "\t", "  ", "    ", " ", "　", "，", "（Ａ１）", "臺灣", "臺灣 大學", "2026",
    "the ", "Law", "▁", "▅", "\0", "\r\n", "<s>", "</s>", "<0x0A>", "<unk>", "<|turn|>",
    "\U0001f468\u200d\U0001f469", "e\u0301", "𠮷", "\ufeff", "⁇",
]  # fmt: skip
WRITTEN = st.lists(st.sampled_from(PARTS) | ANY, max_size=12).map("".join)


@settings(max_examples=150, deadline=None)
@given(text=ANY | WRITTEN)
@example(text="  第 1 條\n\t「本法」，　依據…\n\n\n   end  ")
@example(text="▁▁ ▁a▁")
def test_round_trip_and_bytes(model, text):
    ids = model.encode(text)
    assert model.decode(ids) == text
    assert int(model.token_bytes()[ids].sum()) == len(text.encode())
    assert model.unk_id not in ids and not set(ids) & {model.pad_id, model.bos_id, model.eos_id}
    stream = model.stream()
    parts = [stream.push(id) for id in ids]
    assert "".join(parts) + stream.end() == text
    # No part holds half a character: each is text that the whole contains.
    assert "\ufffd" in text or not any("\ufffd" in part for part in parts)


def test_real_texts_round_trip_and_agree_with_sentencepiece(model):
    reference = sentencepiece.SentencePieceProcessor(model_file=str(model.path))  # type: ignore
    for path in sorted(TEXTS.glob("*.jsonl.gz")):
        with gzip.open(path, "rt", encoding="utf-8") as file:
            texts = [json.loads(line)["text"][:3000] for line in list(file)[::40]]
        encoded = model.encode_batch(texts, threads=2)
        assert model.decode_batch(encoded) == texts
        for text, ids in zip(texts, encoded, strict=True):
            if "▁" not in text:
                assert ids == reference.encode(text)
                assert reference.decode(ids) == text


@settings(max_examples=50, deadline=None)
@given(data=st.data())
def test_any_ids_decode_alike_at_once_and_in_parts(model, data):
    ids = data.draw(st.lists(st.integers(0, model.vocab_size - 1), max_size=30))
    stream = model.stream()
    assert "".join(map(stream.push, ids)) + stream.end() == model.decode(ids)


def test_ids_and_control_tokens(model):
    assert (model.pad_id, model.eos_id, model.unk_id, model.bos_id) == (0, 1, 2, 3)
    assert model.vocab_size == 1400
    sizes = model.token_bytes()
    assert sizes.dtype == np.int32 and sizes.shape == (1400,)
    assert sizes[:4].tolist() == [0, 0, 0, 0] and sizes[4:].min() >= 1
    assert model.decode([3, *model.encode("a"), 1, 0, 0]) == "a"
    with pytest.raises(ValueError, match="1399"):
        model.decode([1400])
    with pytest.raises(ValueError, match="-1"):
        model.stream().push(-1)


def test_symbols_stay_whole_and_digits_are_split(model):
    for symbol in SYMBOLS:
        assert len(model.encode(symbol)) == 1
        assert len(model.encode(f"甲{symbol}甲")) == 1 + 2 * len(model.encode("甲"))
    assert len(model.encode("20261122")) == 8


def test_a_model_travels_to_another_process(model):
    copy = pickle.loads(pickle.dumps(model))
    assert (copy.sha256, copy.encode("臺灣")) == (model.sha256, model.encode("臺灣"))


def test_training_is_repeatable_and_recorded(corpus, tmp_path):
    first = train(config(corpus, tmp_path / "a.model"))
    second = train(config(corpus, tmp_path / "b.model"))
    assert first.path.read_bytes() == second.path.read_bytes()
    assert first.provenance["sha256"] == SentencePieceModel(first.path).sha256
    assert json.loads((tmp_path / "a.json").read_text(encoding="utf-8")) == first.provenance
    again = train(config(corpus, tmp_path / "a.model"))
    assert not again.fresh and again.provenance == first.provenance
    assert train(config(corpus, tmp_path / "a.model", size=1401)).fresh
    # A model that was changed by hand isn't what the record says.
    (tmp_path / "b.model").write_bytes(b"")
    assert train(config(corpus, tmp_path / "b.model")).fresh


def test_a_sample_of_lines_depends_on_the_seed_only(corpus, tmp_path):
    def made(name, **settings):
        return train(config(corpus, tmp_path / name, max_sentences=1500, **settings))

    one, two, other = made("1.model"), made("2.model"), made("3.model", seed=1)
    assert one.path.read_bytes() == two.path.read_bytes() != other.path.read_bytes()
    assert 1300 < one.provenance["lines_used"] < 1700 < one.provenance["lines"]


@given(ANY | WRITTEN | st.text("字。，a ", min_size=2000, max_size=9000))
def test_lines_for_the_trainer_lose_only_what_it_can_not_read(text):
    lines = list(lines_of(text))
    assert all(0 < len(line.encode()) <= 4192 for line in lines)
    reserved = str.maketrans("", "", "\n\r\0\t▁▅")
    assert "".join(lines) == text.translate(reserved)


def test_folding_is_done_when_asked(corpus, tmp_path):
    # By the name that Hugging Face folders have: its record isn't taken for a tokenizer.
    train(config(corpus, tmp_path / "tokenizer.model", normalization="nmt_nfkc", symbols=()))
    assert not train(
        config(corpus, tmp_path / "tokenizer.model", normalization="nmt_nfkc", symbols=())
    ).fresh
    folding = load_vocabulary(tmp_path)
    assert folding.decode(folding.encode("（Ａ１）")) == "(A1)"


def test_the_report_counts_what_is_there(model, corpus):
    texts = [d.text for d in document.read_corpus(corpus)]
    found = measure(model.path, document.corpus_shards(corpus))
    ids = [id for text in texts for id in model.encode(text)]
    assert (found.documents, found.tokens) == (len(texts), len(ids))
    assert found.bytes == sum(len(text.encode()) for text in texts)
    assert found.characters == sum(map(len, texts))
    single = sum(model.id_to_piece(id).startswith("<0x") for id in ids)
    assert found.byte_tokens == single


def test_errors_say_what_to_do(corpus, tmp_path):
    with pytest.raises(ValueError, match=r"gone\.model.*twjax vocab train"):
        SentencePieceModel(tmp_path / "gone.model")
    (tmp_path / "bad.model").write_bytes(b"no model")
    with pytest.raises(ValueError, match=r"bad\.model.*not a SentencePiece"):
        SentencePieceModel(tmp_path / "bad.model")
    with pytest.raises(ValueError, match=r"nowhere.*twjax corpus build"):
        train(config(tmp_path / "nowhere", tmp_path / "x.model"))
    with pytest.raises(ValueError, match=r"Vocabulary\.size \(500000\)"):
        train(config(corpus, tmp_path / "x.model", size=500_000))
    for symbols in (("",), ("a▁b",), ("a", "a")):
        with pytest.raises(ValueError, match=r"Vocabulary\.symbols"):
            train(config(corpus, tmp_path / "x.model", symbols=symbols))
    assert not list(tmp_path.glob("x.*"))
