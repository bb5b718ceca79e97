"""Every family's kind of tokenizer gives the ids, the text and the BOS that transformers gives."""

from __future__ import annotations

import json
import pickle
import shutil
import subprocess
import sys

import numpy as np
import pytest
import sentencepiece
from hypothesis import example, given, settings
from hypothesis import strategies as st

pytest.importorskip("transformers")
import tokenizer_side
from tokenizer_side import FAMILIES
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from twjax.vocab.model import SentencePieceModel
from twjax.vocab.tokenizer_files import vocabulary_sha256
from twjax.vocab.tokenizer_load import load_vocabulary

# Which families' documents begin with BOS, as their published files have it.
BOS = {"llama2": "<s>", "llama3": "<|begin_of_text|>", "gemma": "<bos>"}
EOS = {"llama3": "<|end_of_text|>", "qwen": "<|endoftext|>", "gpt2": "<|endoftext|>"}
EOS |= {"gemma": "<eos>"}
# What their tokens spell isn't always the text: NFC, NFKC, lower case; ▁ is a space.
LOSSLESS = ("llama3", "gpt2", "bloom")

ANY = st.text(st.characters(exclude_categories=["Cs"]))
PARTS = [
    "\n", "\n\n", "\r\n", "\t", " ", "  ", "    ", "　", "\u00a0", "\u2028", "，", "（Ａ１）",
    "臺灣", "台湾", "2026", "12345678", "the ", " Law", "don't", "I'LL", "def f(x):\n    return x",
    "▁", "▁▁▁", "\0", "𠮷", "𪜶", "ㄅㄆㄇˊˇ", "á̍", "chia̍h-pá", "e\u0301", "\u0301",
    "Å", "각", "\u1100\u1161",
    "\U0001f468\u200d\U0001f469\u200d\U0001f467", "🧋🇹🇼", "\ufeff", "\ufffd", "⁇", "ﷺ", "½", "١٢",
    "<0x0A>", "<table>", "<tool_call>",
]  # fmt: skip
NAMES = ["<s>", "</s>", "<unk>", "<pad>", "<eos>", "<bos>", "<|endoftext|>", "<|im_start|>"]
NAMES += ["<|begin_of_text|>", "<|eot_id|>", "<extra_id_0>", "<start_of_turn>"]
WRITTEN = st.lists(st.sampled_from(PARTS) | ANY, max_size=12).map("".join)
WITH_NAMES = st.lists(st.sampled_from(PARTS + NAMES) | ANY, max_size=12).map("".join)


@pytest.fixture(scope="module", params=FAMILIES)
def family(request) -> str:
    return request.param


@pytest.fixture(scope="module")
def model(family):
    return load_vocabulary(tokenizer_side.folder(family))


@pytest.fixture(scope="module")
def references(family):
    folder = tokenizer_side.folder(family)
    return [kind.from_pretrained(folder) for kind in (AutoTokenizer, PreTrainedTokenizerFast)]


def ids_of(reference, text: str, special: bool) -> list[int]:
    return reference(text, add_special_tokens=False, split_special_tokens=not special).input_ids


def test_real_texts_have_the_ids_of_transformers(model, references):
    texts = tokenizer_side.texts()
    found = model.encode_batch(texts, threads=2)
    assert found == [model.encode(text) for text in texts]
    for reference in references:
        assert found == reference(list(texts), add_special_tokens=False).input_ids
    for ids in found:
        assert model.decode(ids) == references[0].decode(ids, skip_special_tokens=True)


@settings(max_examples=60, deadline=None)
@given(text=ANY | WRITTEN)
@example(text="")
@example(text=" hello  \n\n\n 臺灣 ")
@example(text="".join(PARTS))
def test_any_text_has_the_ids_of_transformers(model, references, text):
    for reference in references:
        assert model.encode(text) == ids_of(reference, text, special=False)
        assert model.encode(text, special=True) == ids_of(reference, text, special=True)


@settings(max_examples=60, deadline=None)
@given(text=WITH_NAMES)
@example(text="".join(NAMES))
@example(text=" ".join(NAMES))
def test_names_of_special_tokens_are_text_unless_asked(family, model, references, text):
    assert model.encode(text, special=True) == ids_of(references[0], text, special=True)
    ids = model.encode(text)
    control = set(references[0].all_special_ids) - {model.unk_id}
    assert not control & set(ids)
    if family in LOSSLESS:
        assert model.decode(ids) == text


@settings(max_examples=40, deadline=None)
@given(text=ANY | WRITTEN)
@example(text="  第 1 條\n\t「本法」，　依據…\n\n\n   end  ")
def test_bytes_add_up_and_streams_never_print_half_a_character(family, model, text):
    ids = model.encode(text)
    count = int(model.token_bytes()[ids].sum())
    if family in (*LOSSLESS, "gemma", "llama2"):
        said = text if family in LOSSLESS else text.replace("▁", " ")
        assert model.decode(ids) == said
        # Llama 2 puts a space in front of each document.
        assert count == len(said.encode()) + (family == "llama2" and bool(text))
    if family == "qwen":
        import unicodedata

        assert model.decode(ids) == unicodedata.normalize("NFC", text)
        assert count == len(model.decode(ids).encode())
    stream = model.stream()
    parts = [stream.push(id) for id in ids]
    assert "".join(parts) + stream.end() == model.decode(ids)
    assert "\ufffd" in text or not any("\ufffd" in part for part in parts)


@settings(max_examples=30, deadline=None)
@given(data=st.data())
def test_any_ids_decode_alike_at_once_and_in_parts(model, data):
    ids = data.draw(st.lists(st.integers(0, model.vocab_size - 1), max_size=20))
    for continued in (False, True):
        stream = model.stream(continued=continued)
        text = "".join(map(stream.push, ids)) + stream.end()
        assert text == model.decode(ids, continued=continued)
    with pytest.raises(ValueError, match=str(model.vocab_size)):
        model.decode([model.vocab_size])


def test_special_ids_and_who_begins_with_bos(family, model, references):
    reference = references[0]
    assert model.vocab_size == len(reference)
    assert model.adds_bos == (family in BOS)
    if family in BOS:
        assert model.id_to_piece(model.bos_id) == BOS[family]
        assert [*model.start, *model.encode("臺灣")] == reference("臺灣").input_ids
    assert model.id_to_piece(model.eos_id) == EOS.get(family, "</s>") == reference.eos_token
    for ours, theirs in (
        (model.pad_id, reference.pad_token_id),
        (model.unk_id, reference.unk_token_id),
    ):
        assert ours == (-1 if theirs is None else theirs)
    assert model.sentinels == (100 if family == "t5" else 0)
    sizes = model.token_bytes()
    assert sizes.dtype == np.int32 and sizes.shape == (model.vocab_size,)
    assert not sizes[reference.all_special_ids].any()


def test_what_continues_a_text_keeps_its_space(family, model):
    if family in ("llama2", "t5"):
        first, more = model.encode("the"), model.encode("of")
        assert model.decode([*first, *more]) == model.decode(first) + model.decode(
            more, continued=True
        )
        assert model.decode(more, continued=True) == " of"


def test_the_hash_is_of_what_decides_ids(family, model, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(tokenizer_side.folder(family), copy)
    content = json.loads((copy / "tokenizer.json").read_text(encoding="utf-8"))
    content |= {"truncation": None, "decoder": content["decoder"]}
    (copy / "tokenizer.json").write_text(json.dumps(content, indent=8, sort_keys=True))
    assert load_vocabulary(copy).sha256 == model.sha256 == vocabulary_sha256(copy)
    assert pickle.loads(pickle.dumps(model)).sha256 == model.sha256
    content["added_tokens"][-1]["lstrip"] ^= True
    (copy / "tokenizer.json").write_text(json.dumps(content))
    assert vocabulary_sha256(copy) != model.sha256


def test_a_folder_with_pieces_alone_has_its_settings(tmp_path):
    shutil.copy(tokenizer_side.folder("llama2") / "tokenizer.model", tmp_path)
    processor = sentencepiece.SentencePieceProcessor(model_file=str(tmp_path / "tokenizer.model"))
    texts = [*tokenizer_side.texts(), " 甲", "▁甲", "</s>"]
    alone = load_vocabulary(tmp_path / "tokenizer.model")
    assert isinstance(alone, SentencePieceModel) and alone.start == (1,)
    assert alone.encode_batch(texts, threads=2) == processor.encode(texts)
    # Pieces and the tokenizer.json made of them agree.
    whole = load_vocabulary(tokenizer_side.folder("llama2"))
    assert alone.encode_batch(texts[:-1]) == whole.encode_batch(texts[:-1])
    assert alone.decode(alone.encode("甲 乙")) == "甲 乙"
    config = {"add_bos_token": False, "pad_token": "<pad>", "eos_token": "</s>"}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(config))
    (tmp_path / "added_tokens.json").write_text(json.dumps({"<pad>": 2500}))
    beside = load_vocabulary(tmp_path)
    assert (beside.start, beside.pad_id, beside.vocab_size) == ((), 2500, 2501)
    assert beside.decode([2500, *beside.encode("甲")]) == "甲"
    assert beside.sha256 == vocabulary_sha256(tmp_path) != alone.sha256
    (tmp_path / "added_tokens.json").write_text(json.dumps({"<tool>": 2500}))
    with pytest.raises(ValueError, match=r"tokenizer\.model: the token '<tool>' \(id 2500\)"):
        load_vocabulary(tmp_path)


def test_tokens_that_only_the_config_names_are_added(tmp_path):
    folder = tmp_path / "qwen"
    shutil.copytree(tokenizer_side.folder("qwen"), folder)
    path = folder / "tokenizer_config.json"
    config = json.loads(path.read_text()) | {"pad_token": "<|new_pad|>"}
    config["extra_special_tokens"] = ["<|one|>", "<tool_call>"]
    path.write_text(json.dumps(config))
    model, reference = load_vocabulary(folder), AutoTokenizer.from_pretrained(folder)
    assert (model.vocab_size, model.pad_id) == (len(reference), reference.pad_token_id)
    for text in ("a<|one|>b<tool_call>", "<|new_pad|>"):
        for special in (False, True):
            assert model.encode(text, special=special) == ids_of(reference, text, special)


def test_a_file_alone_needs_no_config(tmp_path):
    source = tokenizer_side.folder("llama3") / "tokenizer.json"
    shutil.copy(source, tmp_path / "other.json")
    model = load_vocabulary(tmp_path / "other.json")
    assert (model.start, model.id_to_piece(model.eos_id)) == ((2500,), "<|end_of_text|>")
    content = json.loads(source.read_text(encoding="utf-8"))
    for token in content["added_tokens"]:
        token["content"] = token["content"].replace("end_of_text", "fin")
    (tmp_path / "other.json").write_text(json.dumps(content))
    with pytest.raises(ValueError, match=r"other\.json: which token ends a document.*eos_token"):
        load_vocabulary(tmp_path / "other.json")


def test_what_can_not_be_right_is_refused(tmp_path):
    def refused(change, config=None, match=""):
        folder = tmp_path / str(len(list(tmp_path.iterdir())))
        shutil.copytree(tokenizer_side.folder("gemma"), folder)
        path = folder / "tokenizer.json"
        content = json.loads(path.read_text(encoding="utf-8"))
        change(content)
        path.write_text(json.dumps(content))
        settings_path = folder / "tokenizer_config.json"
        told = json.loads(settings_path.read_text()) | (config or {})
        settings_path.write_text(json.dumps(told))
        with pytest.raises(ValueError, match=match) as error:
            load_vocabulary(folder)
        assert "\n" not in str(error.value)

    refused(lambda c: c["model"].update(dropout=0.1), match="BPE dropout makes")
    refused(lambda c: c.update(post_processor=None), {"add_bos_token": True},
            match="puts nothing before a text, but .* add_bos_token=True")  # fmt: skip
    refused(lambda c: c, {"add_bos_token": False}, match="puts <bos> before a text")
    refused(lambda c: c.update(decoder=None), match="BPE model with Replace, Split around it")
    refused(
        lambda c: c,
        {"added_tokens_decoder": {"9999": {"content": "<far>", "special": True}}},
        match="'<far>' the id 9999, but it is",
    )
    with pytest.raises(ValueError, match=r"has no vocabulary; looked for tokenizer\.json"):
        load_vocabulary(tmp_path)
    (tmp_path / "bad.json").write_text("{}")
    with pytest.raises(ValueError, match=r"bad\.json: not a tokenizer\.json"):
        load_vocabulary(tmp_path / "bad.json")
    with pytest.raises(UnicodeEncodeError):
        load_vocabulary(tokenizer_side.folder("gpt2")).encode("\ud800")


def test_the_hash_needs_no_library():
    script = (
        "import sys\nfrom twjax.vocab.tokenizer_files import vocabulary_sha256\n"
        "vocabulary_sha256(sys.argv[1])\n"
        "assert not {'tokenizers', 'sentencepiece', 'transformers'} & set(sys.modules)\n"
    )
    folder = str(tokenizer_side.folder("qwen"))
    subprocess.run([sys.executable, "-c", script, folder], check=True, cwd=tokenizer_side.REPO)
