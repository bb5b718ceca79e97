"""Evaluation items in texts: forms of files, letters of both scripts, cuts, and nothing else."""

from __future__ import annotations

import csv
import gzip
import itertools
import json
import pathlib
import unicodedata

import data_side
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from twjax.corpus.conversion import opencc
from twjax.corpus.duplicates import items, scripts, shingles
from twjax.corpus.duplicates.index import Index, Item

EXAM = pathlib.Path(__file__).parent / "data" / "supervised" / "civil_exam.jsonl"


def records():
    return [json.loads(line) for line in EXAM.read_text(encoding="utf-8").splitlines()]


def embedded(name, count):
    path = data_side.REPO / "configs" / "corpora" / "texts" / f"{name}.jsonl.gz"
    with gzip.open(path, "rt", encoding="utf-8") as file:
        return [json.loads(line)["text"] for line in itertools.islice(file, count)]


@pytest.mark.parametrize(
    ("conversion", "name"),
    [
        ("t2s", "tw_laws"), ("tw2s", "tw_articles"), ("t2hk", "tw_articles"), ("t2tw", "tw_laws"),
        ("s2t", "cn_general"), ("s2tw", "cn_general"), ("s2hk", "cn_general"),
    ],
)  # fmt: skip
def test_a_text_and_its_conversion_have_the_same_letters(conversion, name):
    texts = [text[:3000] for text in embedded(name, 40)]
    converted = [opencc.converter(conversion)(text) for text in texts]
    assert converted != texts
    table = scripts.letters()
    assert np.array_equal(shingles.fold(texts, table)[0], shingles.fold(converted, table)[0])
    # Without the table they differ.
    assert not np.array_equal(shingles.fold(texts)[0], shingles.fold(converted)[0])


def test_folding_keeps_most_characters_apart():
    sizes = {}
    for first in scripts.forms().values():
        sizes[first] = sizes.get(first, 1) + 1
    assert 3000 < len(sizes) < 6000 and max(sizes.values()) <= 12
    apart = "天地玄黃宇宙洪荒日月盈昃辰宿列張"
    assert len({scripts.forms().get(character, character) for character in apart}) == len(apart)


@pytest.fixture(scope="module")
def index():
    return Index(items.read_set(str(EXAM)), 13)


def wide(text):
    return "".join(chr(ord(c) + 0xFEE0) if "!" <= c <= "~" else c for c in text)


CHANGES = {
    "punctuation": lambda text: "".join(
        "…" if unicodedata.category(c)[0] == "P" else c for c in text
    ),
    "width": wide,
    "case": str.swapcase,
    "script": lambda text: opencc.converter("t2s")(text),
    "lines": lambda text: "\r\n  ".join(text[at : at + 9] for at in range(0, len(text), 9)),
    "spaces": lambda text: "\u3000".join(text),
}


@settings(max_examples=60, deadline=None)
@given(
    number=st.integers(0, 15),
    changes=st.permutations(sorted(CHANGES)).flatmap(
        lambda names: st.integers(0, len(names)).map(lambda count: names[:count])
    ),
    letters=st.booleans(),
    place=st.integers(0, 2000),
)
def test_an_item_is_found_however_it_is_set(index, number, changes, letters, place):
    record = records()[number]
    options = (f"({k}) {v}" if letters else v for k, v in record["options"].items())
    text = "\n".join([record["question"], *options])
    for change in changes:
        text = CHANGES[change](text)
    host = embedded("tw_transcripts", 1)[0][:2000]
    (match,) = index.search([host[:place] + text + host[place:]], 0.5)
    assert match.item == number and match.share == 1.0
    # The stretch is the item: no letter of the host is in it.
    assert place <= match.start < match.stop <= place + len(text)


def test_other_text_holds_no_item(index):
    for name in ("tw_laws", "tw_articles", "tw_transcripts", "en_general", "cn_general"):
        assert index.search(embedded(name, 100), 0.5) == []


@settings(max_examples=40, deadline=None)
@given(number=st.integers(0, 15), cut=st.floats(0.05, 0.95))
def test_a_cut_hides_no_item(index, number, cut):
    form = items.forms(records()[number])[2]
    host = embedded("tw_transcripts", 1)[0][:600]
    text = host[:300] + form + host[300:]
    at = 300 + round(cut * len(form))
    sides = np.array([[False, True], [True, False]])
    found = index.search([text[:at], text[at:]], 0.5, sides)
    assert number in {match.item for match in found}
    # Where nothing was cut, the same half isn't the item.
    short = index.search([form[: len(form) // 4]], 1.0)
    assert all(not match.cut for match in short)


def test_every_form_of_a_file_has_the_same_items(tmp_path):
    rows = [
        {"id": r["id"], "question": r["question"], **r["options"], "answer": r["answer"]}
        for r in records()
    ]
    lists = [{**r, "choices": {"text": list(r["options"].values())}} for r in records()]
    for record in lists:
        del record["options"]
    (tmp_path / "set.json").write_text(json.dumps(records()), encoding="utf-8")
    (tmp_path / "split.json").write_text(json.dumps({"test": lists, "version": "1"}))
    with gzip.open(tmp_path / "set.jsonl.gz", "wt", encoding="utf-8") as file:
        file.writelines(json.dumps(r) + "\r\n" for r in records())
    pq.write_table(pa.Table.from_pylist(lists), tmp_path / "set.parquet")
    for name, delimiter, header in (
        ("a.csv", ",", True),
        ("b.tsv", "\t", True),
        ("c.csv", ",", False),
    ):
        with open(tmp_path / name, "w", encoding="utf-8-sig", newline="") as file:
            kept = [{k: v for k, v in row.items() if header or k != "id"} for row in rows]
            writer = csv.DictWriter(file, kept[0], delimiter=delimiter)
            if header:
                writer.writeheader()
            writer.writerows(kept)
    wanted = [item.forms for item in items.read_set(str(EXAM))]
    assert len(wanted) == 16 and all(len(forms) == 3 for forms in wanted)
    found = {p.name: items.read_set(str(p)) for p in tmp_path.iterdir()}
    assert len(found) == 7
    for name, read in found.items():
        assert [item.forms for item in read] == wanted, name
    assert (
        found["a.csv"][0].name == f"a.csv:{rows[0]['id']}" and found["c.csv"][1].name == "c.csv:2"
    )


def test_pairs_and_short_probes(tmp_path):
    pair = {"tw": "請從網路下載這套軟體並且安裝到你的電腦裡面使用", "cn": "請從網絡下載這套軟件"}
    probe = {"question": "我國國慶日是？", "answers": ["十月十日"]}
    path = tmp_path / "probes.jsonl"
    path.write_text("\n".join(json.dumps(r) for r in (pair, probe, {"text": "甲"})))
    read = items.read_set(str(path))
    # A long string stands alone; short ones only together; shorter ones can't be told from others.
    assert read[0].forms == ((pair["tw"],),)
    assert read[1].forms == (("我國國慶日是？\n十月十日",),)
    both = Index(read, 10)
    assert both.too_short == [2]
    texts = [f"教學：{pair['tw']}。", "問：我國國慶日是？答：十月十日。", "我國國慶日是十月十日"]
    assert [(m.text, m.item) for m in both.search(texts, 1.0)] == [(0, 0), (2, 1)]


def test_files_that_are_no_sets_are_one_line(tmp_path):
    (tmp_path / "empty.json").write_text("[]")
    (tmp_path / "torn.json").write_text('[{"question"')
    (tmp_path / "number.json").write_text("3")
    (tmp_path / "numbers.json").write_text("[3]")
    for name, message in (
        ("empty.json", "holds no items"),
        ("torn.json", "torn.json: not readable"),
        ("number.json", "a list or an object is expected, not int"),
        ("numbers.json", "numbers.json:1: an item must be an object, not 3"),
        ("none.json", "no file .*none.json"),
    ):
        with pytest.raises(ValueError, match=message):
            items.read_set(str(tmp_path / name))


def test_a_form_of_several_strings_is_held_by_its_n_grams():
    long = "各機關依其法定職權或基於法律授權訂定之命令應視其性質分別下達或發布"
    other = "法律得定名為法律條例或通則並應以法律定之者不得以命令定之"
    index = Index([Item("both", ((long, other),))], 13)
    (match,) = index.search([f"{other}。中間。{long}"], 1.0)
    assert match.share == 1.0
    assert index.search([long], 0.7) == [] and len(index.search([long], 0.5)) == 1
