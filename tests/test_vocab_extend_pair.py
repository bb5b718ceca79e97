"""Folders with both forms of one vocabulary are extended in both, and every reader agrees."""

from __future__ import annotations

import json
import shutil

import pytest
import sentencepiece

pytest.importorskip("transformers")
import tokenizer_side
from transformers import AutoTokenizer, LlamaTokenizer
from transformers.tokenization_utils_sentencepiece import SentencePieceBackend

from tests.test_vocab_extend import OLD, SIZE, TAIWAN
from twjax.config.extension import Extension
from twjax.vocab.extend import extend
from twjax.vocab.tokenizer_load import load_vocabulary

TEXTS = [*TAIWAN, *OLD]


def copy(family, folder):
    shutil.copytree(tokenizer_side.folder(family), folder)
    return folder


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    """Returns a Llama-2-like folder with a token added behind its pieces, and it extended."""
    base = copy("llama2", tmp_path_factory.mktemp("pair") / "base")
    for name in ("tokenizer.json", "tokenizer_config.json"):
        content = json.loads((base / name).read_text())
        token = {"content": "<pad>", "lstrip": False, "rstrip": False, "normalized": False}
        token |= {"single_word": False, "special": True}
        if name == "tokenizer.json":
            content["added_tokens"].append({"id": tokenizer_side.SIZE, **token})
        else:
            content |= {"pad_token": "<pad>"}
        (base / name).write_text(json.dumps(content))
    return base, extend(base, TAIWAN, SIZE, base.parent / "extended")


def test_both_files_get_the_same_ids(pair):
    base, extension = pair
    folder = extension.path.parent
    assert Extension.find(folder) == extension
    assert set(extension.made) == {"tokenizer.json", "tokenizer.model"} == set(extension.base)
    assert extension.old_size == tokenizer_side.SIZE + 1 == load_vocabulary(base).vocab_size
    one, other = (load_vocabulary(folder / name) for name in extension.made)
    for id in range(extension.size):
        assert one.id_to_piece(id) == other.id_to_piece(id)
    assert one.id_to_piece(extension.old_size - 1) == "<pad>"
    assert one.encode_batch(TEXTS) == other.encode_batch(TEXTS)
    old = load_vocabulary(base)
    assert old.encode_batch(OLD) == one.encode_batch(OLD)


def test_transformers_reads_either_file_alike(pair, tmp_path):
    _, extension = pair
    folder = extension.path.parent
    expected = load_vocabulary(folder).encode_batch(TEXTS)
    fast = AutoTokenizer.from_pretrained(folder)
    assert fast(TEXTS, add_special_tokens=False).input_ids == expected
    assert len(fast) == extension.size and fast.pad_token_id == extension.old_size - 1
    # Without tokenizer.json transformers makes one of the SentencePiece model …
    shutil.copy(folder / "tokenizer.model", tmp_path)
    made = LlamaTokenizer.from_pretrained(tmp_path)
    # … which knows no run of line ends at a text's beginning, whatever the vocabulary.
    assert made(list(TAIWAN), add_special_tokens=False).input_ids == expected[: len(TAIWAN)]
    # … and its slow tokenizers run SentencePiece itself.
    slow = SentencePieceBackend(vocab_file=str(tmp_path / "tokenizer.model"), legacy=True)
    processor = sentencepiece.SentencePieceProcessor(model_file=str(tmp_path / "tokenizer.model"))
    assert processor.encode(TEXTS) == expected
    assert [slow.encode(text, add_special_tokens=False) for text in TAIWAN] == expected[
        : len(TAIWAN)
    ]


def test_a_unigram_pair_is_extended_alike(tmp_path):
    base = copy("t5", tmp_path / "t5")
    content = json.loads((base / "tokenizer.json").read_text())
    # As XLM-R or ALBERT have it: no sentinels behind the pieces.
    content["added_tokens"] = [t for t in content["added_tokens"] if "extra_id" not in t["content"]]
    content["model"]["vocab"] = content["model"]["vocab"][: tokenizer_side.SIZE]
    (base / "tokenizer.json").write_text(json.dumps(content))
    settings = json.loads((base / "tokenizer_config.json").read_text())
    settings = {k: v for k, v in settings.items() if "extra" not in k and k != "additional_special"}
    settings.pop("added_tokens_decoder", None)
    (base / "tokenizer_config.json").write_text(json.dumps(settings))
    extension = extend(base, TAIWAN, SIZE, tmp_path / "out")
    one, other = (load_vocabulary(tmp_path / "out" / name) for name in extension.made)
    assert one.encode_batch(TAIWAN) == other.encode_batch(TAIWAN)
    taken = sum(id >= extension.old_size for row in one.encode_batch(TAIWAN) for id in row)
    assert taken > 100


def test_what_can_not_be_extended_is_refused(pair, tmp_path):
    base, extension = pair
    with pytest.raises(ValueError, match="100 sentinels"):
        extend(tokenizer_side.folder("t5"), TAIWAN, SIZE, tmp_path / "t5")
    other = copy("llama2", tmp_path / "other")
    shutil.copy(tokenizer_side.folder("gemma") / "tokenizer.model", other)
    with pytest.raises(ValueError, match=r"name .* ids differently"):
        extend(other, TAIWAN, SIZE, tmp_path / "out")
    with pytest.raises(FileExistsError, match="the base itself"):
        extend(base, TAIWAN, SIZE, base)
    with pytest.raises(FileExistsError, match="another tokenizer"):
        extend(base, TAIWAN, SIZE, other)
    assert not (tmp_path / "out").exists()
    # What was made here may be made again.
    assert extend(base, TAIWAN, SIZE, extension.path.parent) == extension


def test_a_spoilt_record_is_refused(tmp_path):
    (tmp_path / "vocab_extension.json").write_text('{"base": {}, "made": {}, "old_size": 3}')
    with pytest.raises(ValueError, match=r"vocab_extension.json: not a record .*KeyError: 'new'"):
        Extension.find(tmp_path)
    record = {"base": {}, "made": {}, "old_size": 3, "new": ["台"], "parts": [[1, 3]]}
    (tmp_path / "vocab_extension.json").write_text(json.dumps(record))
    with pytest.raises(ValueError, match="1 of them empty or not below 3"):
        Extension.find(tmp_path / "tokenizer.json")
    assert Extension.find(tmp_path.parent) is None


def test_chosen_characters_get_a_piece_though_no_text_has_them(tmp_path):
    base = tokenizer_side.folder("llama3")
    extension = extend(base, ["台灣" * 3], 200, tmp_path / "out", characters="𫟹 𠢕\nm\u0304")
    new = load_vocabulary(tmp_path / "out")
    # Llama 3 never joins a letter and its mark, so only the mark gets a piece.
    for text in ("𫟹", "𠢕", "\u0304", "ˋ", "台灣"):
        assert len(new.encode(text)) == 1, text
    # The first bytes of ㄩ are Korean ㄱ's too, whose ids are to stay.
    assert len(new.encode("ㄩ")) == 3
    assert new.encode("m\u0304") == [new.encode("m")[0], new.encode("\u0304")[0]]
    assert extension.size < extension.old_size + 200
