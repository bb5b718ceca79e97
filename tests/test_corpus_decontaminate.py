"""Evaluation items that documents hold: found however they are set, and named."""

import gzip
import itertools
import json
import pathlib
import re

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from twjax.corpus.document import Document
from twjax.corpus.duplicates.decontaminate import Decontaminate

TEXTS = pathlib.Path(__file__).parent.parent / "configs" / "corpora" / "texts"


def make(texts):
    return [
        Document(id=str(i), text=text, source="s", license="l", lang="zh-TW")
        for i, text in enumerate(texts)
    ]


def laws(count):
    with gzip.open(TEXTS / "tw_laws.jsonl.gz", "rt", encoding="utf-8") as file:
        return [json.loads(line)["text"] for line in itertools.islice(file, count)]


def items(folder, name, records):
    path = folder / name
    lines = "".join(json.dumps(r, ensure_ascii=False) + "\n" for r in records)
    if name.endswith(".gz"):
        path.write_bytes(gzip.compress(lines.encode()))
    elif name.endswith(".parquet"):
        pq.write_table(pa.Table.from_pylist(records), path)
    else:
        path.write_text(lines, encoding="utf-8")
    return str(path)


QUESTION = "下列何者是中央法規標準法所稱之命令？請就各機關依其法定職權發布者選出正確的一項。"


@pytest.mark.parametrize("name", ["set.jsonl", "set.jsonl.gz", "set.parquet"])
def test_decontamination_names_the_item(tmp_path, name):
    options = {"A": "規程與規則", "B": "條例與通則"}
    short = {"id": "q1", "question": "短", "options": options, "source": QUESTION}
    path = items(tmp_path, name, [short, {**short, "id": "q2", "question": QUESTION}])
    wrapped = "\n".join(QUESTION[i : i + 7] for i in range(0, len(QUESTION), 7)).replace("，", ",")
    texts = [laws(1)[0], f"考古題\n{wrapped}\n答案是甲", QUESTION[:20], ""]
    step = Decontaminate(files=(path,))
    outcome = step.apply(make(texts))
    assert [d.id for d in outcome.kept] == ["0", "2", "3"]
    (rejection,) = outcome.rejected
    assert rejection.reason == "holds an evaluation item"
    assert rejection.value == f"{name}:q2 (1.00)"
    labelled = Decontaminate(files=(path,), policy="label", unit="string").apply(make(texts))
    assert [d.meta for d in labelled.kept] == [
        {}, {"contaminated": f"{name}:q2 question (1.00)"}, {}, {}
    ]  # fmt: skip
    assert len(step.versions()[f"sha256 of {path}"]) == 64


def test_items_spread_over_a_long_document_are_not_held(tmp_path):
    sentences = [t[200:240] for t in laws(60)]
    path = tmp_path / "set.txt"
    path.write_text("\n\n" + re.sub(r"\s", "", "".join(sentences[:3])) + "\n", encoding="utf-8")
    step = Decontaminate(files=(str(path),))
    near, far = "".join(sentences), "\n".join(laws(3))  # Each law holds one of the sentences.
    outcome = step.apply(make([near, far, sentences[0]]))
    assert [(r.document.id, r.value) for r in outcome.rejected] == [("0", "set.txt:3 (1.00)")]


def test_wrong_evaluation_sets_are_refused(tmp_path):
    path = items(tmp_path, "set.jsonl", [{"text": "短"}])
    with pytest.raises(ValueError, match="none of 1 items has 13 letters"):
        Decontaminate(files=(path,)).apply(make(["文"]))
    with pytest.raises(ValueError, match="no field 'question'"):
        Decontaminate(files=(path,), fields=("question",)).apply(make(["文"]))
    with pytest.raises(ValueError, match="no file /nowhere"):
        Decontaminate(files=("/nowhere.jsonl",)).versions()
    broken = tmp_path / "broken.jsonl"
    broken.write_text('{"text": "好"}\n{"text"\n', encoding="utf-8")
    with pytest.raises(ValueError, match=r"broken.jsonl:2"):
        Decontaminate(files=(str(broken),)).apply(make(["文"]))
    with pytest.raises(ValueError, match="unknown kind"):
        Decontaminate(files=(items(tmp_path, "set.xlsx", []),)).apply(make(["文"]))


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"files": ()}, "files"),
        ({"ngram": 1}, "ngram"),
        ({"share": 2}, "share"),
        ({"unit": "page"}, "unit"),
        ({"policy": "cut"}, "policy"),
    ],
)
def test_parameters_out_of_range_are_named(fields, field):
    with pytest.raises(ValueError, match=rf"Decontaminate\.{field}"):
        Decontaminate(**{"files": ("x",), **fields})
