"""Multiple choice: sets in every form that is around, prompts, and which answer is chosen."""

from __future__ import annotations

import gzip
import json
import math

import numpy as np
import pytest

from tests import tokenizer_side
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


def test_where_examples_do_not_fit_there_are_fewer():
    items = some_items(12, subjects=1)
    sizes = [len(r[0].context) + 1 for r in prepared(items, shots=2).requests]
    choice = prepared(items, shots=2, most=max(sizes) - 5)
    texts = [load_vocabulary(tokenizer_side.folder("llama3")).decode(r[0].context)
             for r in choice.requests]  # fmt: skip
    assert {text.count("題目：") for text in texts} == {2, 3}
    choice = prepared(items, most=min(len(r[0].context) for r in prepared(items).requests) + 3)
    lost = choice.unusable.pop(next(r for r in choice.unusable if r.startswith("longer than")))
    assert 0 < lost == 12 - len(choice.items)
