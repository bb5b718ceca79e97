"""An extended tokenizer keeps every old id, loads in transformers, and says Taiwan in less."""

from __future__ import annotations

import gzip
import json
import shutil
import unicodedata

import data_side
import pytest
import sentencepiece

pytest.importorskip("transformers")
import tokenizer_side
from transformers import AutoTokenizer

from twjax.cli import main
from twjax.config.extension import RECORD, Extension
from twjax.vocab.extend import extend
from twjax.vocab.extend_pieces import ALWAYS, find_pieces
from twjax.vocab.tokenizer_load import load_vocabulary

SIZE = 300
TAIWAN = ("佇兮囝ㄅㄆˊ，食飯囉！Chia̍h-pá-bōe? á-m̄-sī o͘ ⁿ 𠊎係客家人。" * 8, *data_side.texts())
with gzip.open(tokenizer_side.TEXTS / "en_general.jsonl.gz", "rt", encoding="utf-8") as file:
    ENGLISH = [json.loads(line)["text"][:4000] for line in list(file)[:20]]
# Neither Han, nor Bopomofo, nor full-width: nothing of it may change.
OLD = [
    *ENGLISH,
    "안녕하세요 ㄱㄴ",
    "ひらがな カタカナ",
    "naïve café — “x” … 😀",
    "   \n\n\t x = [1, 2]",
]


@pytest.fixture(scope="module", params=["llama2 pieces", "unigram", "llama3", "qwen", "gemma"])
def made(request, tmp_path_factory):
    """Returns (base, extended folder or file, what `extend` returned)."""
    output = tmp_path_factory.mktemp("extended")
    if request.param == "llama2 pieces":
        base = tokenizer_side.folder("llama2") / "tokenizer.model"
    elif request.param == "unigram":
        base = tmp_path_factory.mktemp("unigram") / "u.model"
        shutil.copy(tokenizer_side.folder("t5") / "spiece.model", base)
    else:
        base = tokenizer_side.folder(request.param)
    extended = extend(base, TAIWAN, SIZE, output)
    return base, output if base.is_dir() else output / base.name, extended


def test_old_ids_stay_and_old_text_keeps_them(made):
    base, place, extended = made
    old, new = load_vocabulary(base), load_vocabulary(place)
    assert (old.vocab_size, new.vocab_size) == (extended.old_size, extended.old_size + SIZE)
    for id in range(old.vocab_size):
        assert old.id_to_piece(id) == new.id_to_piece(id)
    assert (old.bos_id, old.eos_id, old.adds_bos) == (new.bos_id, new.eos_id, new.adds_bos)
    assert old.encode_batch(OLD) == new.encode_batch(OLD)


def test_taiwan_takes_fewer_ids_and_says_the_same(made):
    base, place, _ = made
    old, new = load_vocabulary(base), load_vocabulary(place)
    before, after = old.encode_batch(TAIWAN), new.encode_batch(TAIWAN)
    assert sum(map(len, after)) < 0.9 * sum(map(len, before))
    if "unigram" not in str(place) and place.name != "u.model":
        assert new.decode_batch(after) == old.decode_batch(before)
    assert sum(id >= old.vocab_size for row in after for id in row) > 0.05 * sum(map(len, after))


def test_each_new_id_has_the_old_ids_of_its_bytes(made):
    base, place, extended = made
    old, new = load_vocabulary(base), load_vocabulary(place)
    assert Extension.find(place) == extended and extended.path.name == RECORD
    assert new.sha256 in extended.made.values() and old.sha256 in extended.base.values()
    assert extended.size == new.vocab_size
    assert len(extended.parts) == SIZE
    for number, parts in enumerate(extended.parts):
        data = new.bytes_of_ids[old.vocab_size + number]
        assert parts and max(parts) < old.vocab_size
        if old.unk_id not in parts:
            assert b"".join(old.bytes_of_ids[id] for id in parts) == data


def test_transformers_and_sentencepiece_give_the_same_ids(made):
    _, place, _ = made
    new = load_vocabulary(place)
    texts = [*TAIWAN, *OLD]
    if place.is_dir():
        reference = AutoTokenizer.from_pretrained(place)
        assert new.encode_batch(texts) == reference(texts, add_special_tokens=False).input_ids
        assert len(reference) == new.vocab_size
    else:
        processor = sentencepiece.SentencePieceProcessor(model_file=str(place))
        assert new.encode_batch(texts) == processor.encode(texts)


def test_pieces_are_of_one_script_and_in_the_order_of_use():
    pieces = find_pieces(TAIWAN, 200)
    assert {"𠊎", "ㄅ", "ˊ", "，", "！", "a\u030d", "o\u0358", "ⁿ"} <= set(pieces.characters)
    text = "".join(TAIWAN)
    assert pieces.characters[: len(ALWAYS)] == tuple(ALWAYS)
    found = [c for c in pieces.characters[len(ALWAYS) :] if not unicodedata.combining(c[0])]
    counts = [text.count(character) for character in found]
    assert counts == sorted(counts, reverse=True)
    known = set(pieces.characters)
    for left, right in pieces.words:
        assert {left, right} <= known and len(left + right) <= 6
        assert "，" not in left + right
        known.add(left + right)
    assert find_pieces(TAIWAN, 200) == pieces
    assert find_pieces([*TAIWAN][::-1], 200) == pieces


def test_the_command_writes_what_report_reads(tmp_path, capsys):
    corpus = data_side.make_corpus(tmp_path / "corpus", data_side.texts(), shards=1)
    base = tokenizer_side.folder("llama3")
    output = tmp_path / "out"
    command = ["vocab", "extend", str(base), corpus, "--size", "100", "--output", str(output)]
    assert main(command) == 0
    assert "2,511 old ids and 100 new ones" in capsys.readouterr().out
    assert main(["vocab", "report", str(output), corpus]) == 0
    assert (output / "tokenizer_config.json").is_file()
    assert main([*command[:5], "0", *command[6:]]) == 1
    assert "--size (0)" in capsys.readouterr().err
