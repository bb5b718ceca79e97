"""The report's figures against plain counting, and its page in a browser."""

from __future__ import annotations

import json
import shutil
import unicodedata

import data_side
import numpy as np
import pytest
import sentencepiece

from tests import browser, hub
from twjax.cli import main
from twjax.vocab.model import SentencePieceModel
from twjax.vocab.rows import NO_ID, row_counts
from twjax.vocab.scripts import BYTES, CONTROL, KINDS, SPACE, count_units, kinds_of, script_of

ODD = "佇𠊎ㄅˊ，ひカAé食a\u0301 ō o͘ ⁿ 3３ ｱ한⼀ \n😀"


def test_every_character_has_the_script_that_unicode_gives_it():
    texts = [*data_side.texts(count=20), ODD]
    found = count_units(texts)
    assert sum(c.total() * 1 for c in found.values()) == sum(
        not c.isspace() and not (unicodedata.combining(c) and i and t[i - 1] in "aeo")
        for t in texts
        for i, c in enumerate(t)
    )
    for script, prefix in {
        "Han": ("CJK UNIFIED", "CJK COMPAT", "KANGXI", "IDEOGRAPHIC NUMBER"),
        "Han, extensions": ("CJK UNIFIED",),
        "Bopomofo": ("BOPOMOFO", "CARON", "MODIFIER LETTER", "DOT ABOVE"),
        "kana": ("HIRAGANA", "KATAKANA", "HALFWIDTH KATAKANA"),
        "Latin": ("LATIN",),
        "Hangul": ("HANGUL",),
    }.items():
        assert found[script]
        assert all(unicodedata.name(unit[0]).startswith(prefix) for unit in found[script]), script
    assert set(found["Taigi and Hakka letters"]) == {"é", "a\u0301", "ō", "o͘", "ⁿ"}
    assert set(found["Han, extensions"]) == {"𠊎"}
    assert {"，", "３"} <= set(found["full-width punctuation"])
    assert set(found["digits"]) >= {"3"} and found["other"]["😀"] == 1


@pytest.mark.parametrize(
    ("text", "script"),
    [(" the", "Latin"), ("3月", "Han"), ("「台", "full-width punctuation"), ("...", "other"),
     ("12", "digits"), ("  ", None), ("", None)],
)  # fmt: skip
def test_the_first_letter_decides_for_a_piece(text, script):
    assert script_of(text) == script


def test_kinds_tell_bytes_and_control_from_text():
    vocabulary = SentencePieceModel(data_side.vocabulary())
    kinds = [KINDS[kind] for kind in kinds_of(vocabulary)]
    processor = sentencepiece.SentencePieceProcessor(model_file=data_side.vocabulary())
    for id, kind in enumerate(kinds):
        assert (kind == BYTES) == processor.is_byte(id)
        assert (kind == CONTROL) == (processor.is_control(id) or processor.is_unknown(id))
        assert (kind == SPACE) == (set(processor.id_to_piece(id)) == {"▁"})


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_rows_that_look_untrained_are_counted(dtype):
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(400, 24)).astype(dtype)
    kinds = np.array([KINDS.index("Han")] * 200 + [KINDS.index("Latin")] * 180)
    rows[3] *= dtype(1e-3)
    rows[[10, 11, 250]] = rows[12]
    rows[390:] = 0
    rows[391] = -0.0
    found = row_counts((rows[a : a + 64] for a in range(0, 400, 64)), kinds)
    assert set(found) == {"Han", "Latin", NO_ID}
    assert (found["Han"].rows, found["Han"].near_zero, found["Han"].duplicates) == (200, 1, 3)
    assert (found["Latin"].near_zero, found["Latin"].duplicates) == (0, 1)
    assert (found[NO_ID].rows, found[NO_ID].near_zero, found[NO_ID].duplicates) == (20, 10, 10)
    lengths = np.linalg.norm(rows[:200].astype(np.float64), axis=1)
    assert found["Han"].length == pytest.approx(np.median(lengths))


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Two vocabularies, two corpora, and a model of the first vocabulary's."""
    folder = tmp_path_factory.mktemp("report")
    data_side.make_corpus(folder / "laws", data_side.texts())
    data_side.make_corpus(folder / "odd", [ODD, *data_side.ODD_TEXTS], shards=1)
    model = hub.tensors(vocab=700)
    model["model.embed_tokens.weight"][650:653] = 0.5
    hub.write(folder / "model", model, vocab_size=700)
    shutil.copy(data_side.vocabulary(), folder / "model" / "tokenizer.model")
    done = main([
        "vocab", "report", data_side.vocabulary(), str(folder / "laws"),
        data_side.vocabulary(800), str(folder / "odd"), "--model", str(folder / "model"),
        "--json", str(folder / "report.json"), "--html", str(folder / "report.html"),
    ])  # fmt: skip
    assert done == 0
    return folder


def test_the_figures_are_those_of_plain_counting(place):
    report = json.loads((place / "report.json").read_text())
    paths = {name: of["path"] for name, of in report["vocabularies"].items()}
    assert len(paths) == 2 and len(set(paths)) == 2
    for name, path in paths.items():
        processor = sentencepiece.SentencePieceProcessor(model_file=path)
        ids = [id for text in data_side.texts() for id in SentencePieceModel(path).encode(text)]
        fit, text = report["fits"][name]["laws"], "".join(data_side.texts())
        assert fit["documents"] == len(data_side.texts())
        assert (fit["characters"], fit["bytes"]) == (len(text), len(text.encode()))
        assert fit["tokens"] == len(ids)
        assert fit["byte_tokens"] == sum(processor.is_byte(id) for id in ids)
        assert fit["tokens_per_character"] == pytest.approx(len(ids) / len(text))
        whole = {
            processor.id_to_piece(id).replace("▁", " ")
            for id in range(processor.vocab_size())
            if not processor.is_byte(id)
        }
        han = report["coverage"][name]["Han, extensions"]
        assert (han["seen"], han["seen_whole"]) == (2, 2 * ("𠊎" in whole) * ("𠮷" in whole))
        assert set(han["missing"]) == {"𠊎", "𠮷"} - whole
    first, second = report["taiwan"].values()
    speeds = [speed["tokens"] for speed in report["speed_up"].values()]
    assert speeds == [1.0, pytest.approx(first["tokens"] / second["tokens"])]
    rows = report["rows"]["model"]
    assert set(rows) == {"embedding", "head"}
    assert sum(of["rows"] for of in rows["embedding"].values()) == 700
    assert sum(of["duplicates"] for of in rows["embedding"].values()) == 3
    assert sum(of["duplicates"] for of in rows["head"].values()) == 0


def test_a_larger_output_matrix_costs_time(place):
    """6 a weight: embed 16, 800 rows against 700; the rest of the network weighs the same."""
    report = json.loads((place / "report.json").read_text())
    _, speed = report["speed_up"].values()
    layer = 16 * 32 * 2 + 16 * 16 * 2 + 3 * 16 * 32
    one, other = (2 * layer + 16 * ids + 2 * 4 * 8 * 2048 / 2 * 2 for ids in (700, 800))
    assert speed["time"] == pytest.approx(speed["tokens"] * one / other, rel=1e-6)


@browser.needed
def test_the_page_opens_without_a_network(place, tmp_path):
    page = browser.dump(place / "report.html", tmp_path / "user")
    for text in ("Tokens per character", "Bopomofo", "near zero", "times as fast"):
        assert text in page


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["{laws}"], "no vocabulary is named"),
        (["{model}"], "no corpus is named"),
        (["{laws}", "{model}", "--model", "{laws}"], "is no run, no imported model"),
        (["{laws}", "/nowhere.model"], "/nowhere.model"),
    ],
)
def test_what_is_missing_is_said(place, capsys, arguments, message):
    filled = [a.format(laws=place / "laws", model=place / "model") for a in arguments]
    assert main(["vocab", "report", *filled]) == 1
    said = capsys.readouterr().err
    assert message in said and len(said.strip().splitlines()) == 1, said
