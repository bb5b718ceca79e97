"""Multiple choice: sets in every form that is around, prompts, and which answer is chosen."""

from __future__ import annotations

import dataclasses
import gzip
import json
import math

import numpy as np
import pytest

from tests import tokenizer_side
from twjax.evaluation.batching import NotANumber
from twjax.evaluation.choice import Choice, Form, text_request
from twjax.evaluation.items import Item, Items, read_items
from twjax.evaluation.scoring import Scored
from twjax.vocab.tokenizer_load import load_vocabulary

EXAM = "configs/evaluations/civil_exam.jsonl.gz"
WANTED = Item("x", "地理", "臺灣最高的山是？", ("玉山", "雪山", "阿里山"), 0)


def written(path, text: str):
    path.parent.mkdir(parents=True, exist_ok=True)
    data = text.encode()
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
    return path


HEAD = {"id": "x", "subject": "地理", "question": "臺灣最高的山是？"}
FORMS = {
    "ours.jsonl": {**HEAD, "options": {"A": "玉山", "B": "雪山", "C": "阿里山"}, "answer": "A"},
    "ours.jsonl.gz": {**HEAD, "options": ["玉山", "雪山", "阿里山"], "answer": "a"},
    "mmlu.jsonl": {**HEAD, "choices": ["玉山", "雪山", "阿里山"], "answer": 0},
    "tmlu.json": {**HEAD, "A": "玉山", "B": "雪山", "C": "阿里山", "D": "", "answer": "A"},
    "arc.json": {
        **HEAD,
        "choices": {"text": ["玉山", "雪山", "阿里山"], "label": ["1", "2", "3"]},
        "answerKey": "1",
    },
    "wide.jsonl": {**HEAD, "choices": ["玉山", "雪山", "阿里山"], "answer": "Ａ "},
    "text.jsonl": {**HEAD, "choices": ["玉山", "雪山", "阿里山"], "answer": "玉山"},
}


@pytest.mark.parametrize("name", sorted(FORMS))
def test_one_question_in_every_form(tmp_path, name):
    record = json.dumps(FORMS[name], ensure_ascii=False)
    text = f"[{record}]" if ".json" in name and ".jsonl" not in name else f"{record}\n\n"
    found = read_items(written(tmp_path / name, text), "Suite.choice of x")
    assert found == Items((WANTED,), {})


def test_a_folder_has_a_file_a_subject_and_its_examples_apart(tmp_path):
    rows = '臺灣最高的山是？,玉山,雪山,"阿里,山",A\n'
    written(tmp_path / "geography_test.csv", "question,A,B,C,answer\n" + rows)
    written(tmp_path / "geography_train.csv", "question,A,B,C,answer\n二,玉山,雪山,三,B\n")
    # MMLU's own files have no header.
    written(tmp_path / "law_test.csv", rows * 2)
    found = read_items(tmp_path, "Suite.choice of x").items
    assert [item.subject for item in found] == ["geography", "law", "law"]
    assert {item.options for item in found} == {("玉山", "雪山", "阿里,山")}
    (example,) = read_items(tmp_path, "Suite.examples of x", examples=True).items
    assert (example.subject, example.answer) == ("geography", 1)


LAYOUTS = {
    "a folder a subject": ("{subject}/test.csv", "{subject}/dev.csv"),
    "a folder a split": ("test/{subject}.csv", "dev/{subject}.csv"),
    "shards of the hub": (
        "{subject}/data/test-00000-of-00001.csv",
        "{subject}/data/train-00000-of-00001.csv",
    ),
    "shards by name": ("data/{subject}-test-00000-of-00002.csv", "data/{subject}_dev.csv"),
    "tests without answers": ("val/{subject}_val.csv", "dev/{subject}_dev.csv"),
}


@pytest.mark.parametrize("layout", sorted(LAYOUTS))
def test_a_folders_splits_are_known_by_file_or_folder(tmp_path, layout):
    for part, name in zip(("asked", "shown"), LAYOUTS[layout], strict=True):
        for subject in ("law", "math"):
            rows = "".join(f"{part} {subject} {n},一,二,A\n" for n in range(2))
            path = tmp_path / name.format(subject=subject)
            written(path, "question,A,B,answer\n" + rows)
    if layout == "tests without answers":
        written(tmp_path / "test/.keep", "")
    scored = read_items(tmp_path, "Suite.choice of x")
    examples = read_items(tmp_path, "Suite.examples of x", examples=True)
    for part, found in (("asked", scored), ("shown", examples)):
        expected = [(s, f"{part} {s} {n}") for s in ("law", "math") for n in range(2)]
        assert [(item.subject, item.question) for item in found.items] == expected
    assert len({item.id for item in scored.items}) == 4


def test_files_of_one_subject_have_none(tmp_path):
    written(tmp_path / "test.csv", "一題,甲,乙,A\n")
    written(tmp_path / "dev.csv", "二題,甲,乙,A\n")
    (item,) = read_items(tmp_path, "Suite.choice of x").items
    assert (item.subject, item.question) == ("", "一題")


def answers_of(path, rows: list[str]) -> list[int]:
    text = "question,A,B,C,answer\n" + "".join(f"第{n}題,{r}\n" for n, r in enumerate(rows))
    return [item.answer for item in read_items(written(path, text), "Suite.choice of x").items]


def test_a_csv_files_numbers_count_from_0_or_are_texts(tmp_path):
    path = tmp_path / "x.csv"
    assert answers_of(path, ["甲,乙,丙,0", "甲,乙,丙,２", "甲,乙,丙,1"]) == [0, 2, 1]
    # Some numbers are options' texts, but not all.
    assert answers_of(path, ["1,2,3,2", "甲,乙,丙,0"]) == [2, 0]
    # These can only be texts, or mean the same.
    assert answers_of(path, ["10,20,30,20", "7,8,9,7"]) == [1, 0]
    assert answers_of(path, ["0,1,2,2", "0,1,2,1"]) == [2, 1]
    # By themselves they may be either.
    with pytest.raises(ValueError, match="may be a number or an option's text: 2"):
        answers_of(path, ["1,2,3,2", "1,2,3,1"])
    with pytest.raises(ValueError, match=r"x.csv: its answers .* seem to count from 1"):
        answers_of(path, ["甲,乙,丙,1", "甲,乙,丙,3"])
    # Letters say how the others are meant.
    assert answers_of(path, ["甲,乙,丙,A", "甲,2,3,3"]) == [0, 2]


def test_what_is_no_question_is_counted_by_reason(tmp_path):
    good = FORMS["ours.jsonl"]
    bad = [
        {**good, "answer": "A,C"},
        {**good, "answer": "AB"},
        {**good, "answer": "第42題答Ａ或Ｃ者均給分。"},
        {**good, "answer": "D"},
        {**good, "answer": ""},
        {**good, "answer": 3},
        {**good, "options": ["一"]},
        {**good, "options": "玉山"},
        {**good, "question": " "},
        {**good, "options": ["玉山", "", "雪山"]},
        {**good, "options": {"A": "玉山", "B": None}},
        {**good, "options": {"text": ["玉山", "雪山"], "label": ["A"]}},
        {"question": "一", "A": " ", "B": "玉山", "C": "雪山", "answer": "B"},
    ]
    lines = [json.dumps(record, ensure_ascii=False) for record in [good, *bad]]
    found = read_items(written(tmp_path / "x.jsonl", "\n".join(lines)), "Suite.choice of x")
    assert len(found.items) == 1
    assert found.unusable == {
        "more than one answer": 3,
        "the answer is no option": 2,
        "no answer": 1,
        "fewer than two options": 1,
        "options are neither a list nor named": 1,
        "options and their labels differ in number": 1,
        "an option without text": 3,
        "no question": 1,
    }


def test_files_that_are_no_sets_are_refused_by_name(tmp_path):
    for name, text, told in (
        ("a.jsonl", '{"question": 1}\n[1]\n', r"Suite.choice of x: .*a\.jsonl:2: .* is no object"),
        ("b.jsonl", '{"question": "一"\n', r"b\.jsonl:1: "),
        ("c.json", '{"a": 1}', r"c\.json:1: it is no list of questions"),
        ("d.csv", "question,answer\n一,A\n", r"d\.csv has no question .*fewer than two options: 1"),
        ("e.jsonl", "", r"e\.jsonl has no question that can be used \(it is empty\)"),
    ):
        with pytest.raises(ValueError, match=told):
            read_items(written(tmp_path / name, text), "Suite.choice of x")
    broken = tmp_path / "f.jsonl.gz"
    broken.write_bytes(gzip.compress(b'{"question": "a"}' * 99)[:30])
    with pytest.raises(ValueError, match=r"f\.jsonl\.gz is damaged"):
        read_items(broken, "Suite.choice of x")
    data = bytearray(gzip.compress(json.dumps(FORMS["mmlu.jsonl"]).encode() * 50))
    data[40:60] = bytes(20)
    broken.write_bytes(data)
    with pytest.raises(ValueError, match=r"Suite.choice of x: .*f\.jsonl\.gz is damaged"):
        read_items(broken, "Suite.choice of x")
    long = written(tmp_path / "g.csv", "question,A,B,answer\n一,甲,乙,A\n" + "字" * 140_000)
    with pytest.raises(ValueError, match=r"Suite.choice of x: .*g\.csv:3: field larger than"):
        read_items(long, "Suite.choice of x")
    with pytest.raises(FileNotFoundError, match=r"Suite.choice of x: no file or folder .*none"):
        read_items(tmp_path / "none.csv", "Suite.choice of x")
    (tmp_path / "empty").mkdir()
    with pytest.raises(FileNotFoundError, match="has no file that ends in"):
        read_items(tmp_path / "empty", "Suite.choice of x")


def test_the_exam_that_comes_along():
    found = read_items(EXAM, "Suite.choice of exam")
    assert len(found.items) == 1833 and found.unusable == {"more than one answer": 24}
    assert all(len(set(item.options)) == len(item.options) for item in found.items[:200])
    assert len({item.id for item in found.items}) == len(found.items)
    # As configs/evaluations/README.md says.
    assert len({(item.subject, item.content) for item in found.items}) == 1727


def test_prompts():
    asked = Form("letters", "zh-TW").ask(WANTED, [])
    assert asked == (
        "以下是關於地理的單選題，請選出正確的答案。\n\n題目：臺灣最高的山是？\nA. 玉山\nB. 雪山\n"
        "C. 阿里山\n答案：",
        ("A", "B", "C"),
    )
    prompt, answers = Form("texts", "en").ask(WANTED, [WANTED])
    assert prompt == (
        "Question: 臺灣最高的山是？\nAnswer: 玉山\n\nQuestion: 臺灣最高的山是？\nAnswer:"
    )
    assert answers == (" 玉山", " 雪山", " 阿里山")


@pytest.mark.parametrize("family", ["llama3", "qwen", "gemma", "llama2"])
def test_a_request_has_the_ids_of_the_whole_text(family):
    model = load_vocabulary(tokenizer_side.folder(family))
    for context, continuation in (
        ("題目：臺灣最高的山是？\n答案：", "玉山"),
        ("Question: who?\nAnswer:", " the prime minister"),
        ("", "玉山"),
        ("中華", "民國"),
        ("end", "ing"),
    ):
        request = text_request(model, context, continuation, both=False)
        whole = [*model.start, *model.encode(context + continuation)]
        given = request.context + request.continuation
        assert list(given) == whole or (given[0] == model.eos_id and list(given[1:]) == whole)
        assert request.context and request.continuation
        # What is scored stands for the continuation, and at most the end of the context.
        said = b"".join(model.bytes_of_ids[id] for id in request.continuation).decode()
        assert said.lstrip().endswith(continuation.lstrip())


def prepared(items: list[Item], **settings) -> Choice:
    model = load_vocabulary(tokenizer_side.folder("llama3"))
    form = Form(settings.pop("style", "letters"), "zh-TW")
    return Choice.prepare("set", Items(tuple(items), {"no answer": 2}), model, form, **settings)


def some_items(count: int, subjects: int = 2) -> list[Item]:
    draw = np.random.default_rng(0)
    return [
        Item(
            str(n),
            f"科目{n % subjects}",
            f"第{n}題",
            tuple(f"選項{k}" * (k + 1) for k in range(2 + n % 3)),
            int(draw.integers(2 + n % 3)),
        )
        for n in range(count)
    ]


def test_accuracy_over_questions_subjects_and_characters():
    items = some_items(30, subjects=4)
    choice = prepared(items, style="texts")
    draw = np.random.default_rng(1)
    logs = [[-20 * draw.random() for _ in item.options] for item in items]
    scores = [Scored(log, False) for some in logs for log in some]
    record = choice.record(scores)
    right = [max(range(len(x)), key=x.__getitem__) == i.answer
             for x, i in zip(logs, items, strict=True)]  # fmt: skip
    normed = []
    for some, item in zip(logs, items, strict=True):
        per = [log / len(text) for log, text in zip(some, item.options, strict=True)]
        normed.append(per.index(max(per)) == item.answer)
    assert record["items"] == 30 and record["unusable"] == {"no answer": 2}
    assert record["accuracy"] == pytest.approx(sum(right) / 30)
    assert record["accuracy_norm"] == pytest.approx(sum(normed) / 30)
    by = {s: [r for r, i in zip(right, items, strict=True) if i.subject == s] for s in
          sorted({i.subject for i in items})}  # fmt: skip
    assert record["subjects"] == {s: [sum(x), len(x)] for s, x in by.items()}
    assert record["accuracy_macro"] == pytest.approx(np.mean([np.mean(x) for x in by.values()]))
    assert record["stderr"] == pytest.approx(np.std(right, ddof=1) / math.sqrt(30))
    assert record["chance"] == pytest.approx(np.mean([1 / len(i.options) for i in items]))


def test_examples_come_from_the_subject_and_are_not_asked():
    items = some_items(12, subjects=3)
    choice = prepared(items, shots=2)
    assert [item.id for item in choice.items] == ["6", "7", "8", "9", "10", "11"]
    model = load_vocabulary(tokenizer_side.folder("llama3"))
    for item, requests in zip(choice.items, choice.requests, strict=True):
        text = model.decode(requests[0].context)
        shown = [i for i in items if i.subject == item.subject][:2]
        for example in shown:
            answer = "ABCD"[example.answer]
            assert f"{example.question}\n" in text and f"答案：{answer}\n\n" in text
        assert text.endswith("答案：") and text.count("題目：") == 3
    others = prepared(items, shots=2, examples=Items(tuple(some_items(9, 3)), {}), limit=5)
    assert [item.id for item in others.items] == ["0", "2", "4", "7", "9"]
    with pytest.raises(ValueError, match=r"Suite.shots of set \(3\): subject '科目0' has 2"):
        prepared(items, shots=3, examples=Items(tuple(some_items(8, 3)[:5]), {}))
    with pytest.raises(ValueError, match="no question is left"):
        prepared(items, shots=4)


def prompts(choice: Choice) -> list[str]:
    model = load_vocabulary(tokenizer_side.folder("llama3"))
    return [model.decode(requests[0].context) for requests in choice.requests]


def test_no_question_stands_behind_itself():
    items = some_items(12, subjects=3)
    # The set's own file as examples: all are asked, and each behind two others of its subject.
    choice = prepared(items, shots=2, examples=Items(tuple(items), {}))
    assert choice.items == tuple(items) and choice.fewer == 0
    for item, text in zip(choice.items, prompts(choice), strict=True):
        assert text.count(f"題目：{item.question}\n") == 1 and text.count("題目：") == 3
    # Another file may have it in another order and width, and then there is one fewer.
    first = items[0]
    copy = dataclasses.replace(
        first, id="c", question="第 ０ 題", options=first.options[::-1], answer=0
    )
    assert copy.content == first.content and copy.content != items[3].content
    others = [copy, *(i for i in some_items(12, subjects=3)[6:10])]
    choice = prepared(items, shots=2, examples=Items(tuple(others), {}), limit=1)
    (text,) = prompts(choice)
    assert "第 ０ 題" not in text and text.count("題目：") == 3
    choice = prepared(items[:1], shots=1, examples=Items((copy,), {}))
    assert prompts(choice)[0].count("題目：") == 1 and choice.fewer == 1
    assert choice.record([Scored(-1.0, False)] * 2)["fewer_shots"] == 1
    # Copies within a set.
    again = [dataclasses.replace(item, id=f"again {item.id}") for item in items]
    choice = prepared([*items, *again], shots=2)
    assert [item.id for item in choice.items[-12:]] == [item.id for item in again]
    for item, text in zip(choice.items, prompts(choice), strict=True):
        assert text.count(f"題目：{item.question}\n") == 1 and text.count("題目：") == 3


def test_no_subject_drops_out_unheard():
    items = [*some_items(4, subjects=1), dataclasses.replace(some_items(1)[0], subject="法律")]
    with pytest.raises(ValueError, match="a subject no question is left of '法律'; lower"):
        prepared(items, shots=1)
    with pytest.raises(ValueError, match="set: none of its 5 questions fits into 8 ids; raise"):
        prepared(items, most=8)


def test_what_is_not_a_number_is_no_answer():
    choice = prepared(some_items(2))
    scores = [Scored(-1.0, False)] * 4 + [Scored(math.nan, False)]
    with pytest.raises(NotANumber, match=r"set: the log-likelihoods of question 1 are .*nan"):
        choice.record(scores)


def test_where_examples_do_not_fit_there_are_fewer():
    items = some_items(12, subjects=1)
    sizes = [len(r[0].context) + 1 for r in prepared(items, shots=2).requests]
    choice = prepared(items, shots=2, most=max(sizes) - 5)
    texts = [load_vocabulary(tokenizer_side.folder("llama3")).decode(r[0].context)
             for r in choice.requests]  # fmt: skip
    assert {text.count("題目：") for text in texts} == {2, 3}
    assert choice.fewer == sum(text.count("題目：") == 2 for text in texts)
    choice = prepared(items, most=min(len(r[0].context) for r in prepared(items).requests) + 3)
    lost = choice.unusable.pop(next(r for r in choice.unusable if r.startswith("longer than")))
    assert 0 < lost == 12 - len(choice.items)
