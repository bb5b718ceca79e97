"""Wordings and readers of labelled records: what they make of real and of odd ones."""

from __future__ import annotations

import json
import pathlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from twjax.data import readers
from twjax.data.templates import Template, choose, field_names, fill, render

SAMPLES = pathlib.Path(__file__).resolve().parent / "data" / "supervised"


def sample(name):
    lines = (SAMPLES / name).read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines]


def test_a_field_is_filled_in_as_it_is():
    fields = {"question": "什麼是 {answer}？", "answer": "甲"}
    assert fill("問：{question} {{{answer}}}", fields) == "問：什麼是 {answer}？ {甲}"
    assert field_names("問：{question} {{{answer}}}") == ("question", "answer")


@given(values=st.dictionaries(st.sampled_from("abc"), st.text(), min_size=3), text=st.text())
def test_filling_equals_format_wherever_that_works(values, text):
    template = "{a}" + text.replace("{", "{{").replace("}", "}}") + "{c}{b}"
    assert fill(template, values) == template.format(**values)


@pytest.mark.parametrize("text", ["{", "}", "甲{}乙", "{甲"])
def test_a_lone_brace_is_said(text):
    with pytest.raises(ValueError, match=r"names no field; write \{\{ and \}\}"):
        field_names(text)
    with pytest.raises(ValueError, match="there is no field '乙'; the examples have 甲"):
        fill("{乙}", {"甲": ""})


def test_solved_examples_come_first_in_the_same_wording():
    template = Template("問：{q}\n答：", "{a}", 2, "例子。\n\n")
    shots = [{"q": "一", "a": "1"}, {"q": "二", "a": "2"}, {"q": "三", "a": "3"}]
    inputs, targets = render(template, {"q": "四", "a": "4"}, shots)
    assert inputs == "例子。\n\n問：一\n答：1\n\n問：二\n答：2\n\n問：四\n答："
    assert targets == "4"
    assert render(template, {"q": "四", "a": "4"}) == ("問：四\n答：", "4")


def test_wordings_are_drawn_evenly_and_for_good():
    templates = [Template(str(n), "") for n in range(5)]
    drawn = [choose(templates, f"example-{n}").inputs for n in range(2000)]
    assert drawn == [choose(templates, f"example-{n}").inputs for n in range(2000)]
    # Standard deviation 18.
    assert all(abs(drawn.count(str(n)) - 400) < 80 for n in range(5))
    assert drawn != [choose(templates, f"example-{n}", seed=1).inputs for n in range(2000)]


def test_pairs_of_real_documentation():
    records = sample("pydocs_pairs.jsonl")
    for record in records:
        record["pairs"] = [p for p in record["pairs"] if "\n" not in p["en"] + p["zh_tw"]]
    found = [e for r in records for e in readers.translations(r, "en", "zh_tw")]
    wanted = [
        (p["en"].strip(), p["zh_tw"].strip())
        for r in records
        for p in r["pairs"]
        if p["zh_tw"] and p["zh_tw"] != p["en"]
    ]
    assert [(e.fields["source"], e.fields["target"]) for e in found] == wanted
    assert len({e.id for e in found}) == len(found) > 60
    assert all(e.answers == (e.fields["target"],) for e in found)
    back = [e for r in records for e in readers.translations(r, "zh_tw", "en")]
    assert [(e.fields["target"], e.fields["source"]) for e in back] == wanted


def test_what_is_no_pair_is_left_out():
    pairs = [
        {"en": "One", "zh_tw": ""},
        {"en": "Two", "zh_tw": "Two"},
        {"en": "C", "zh_tw": "C 語言"},
        {"en": "Long" * 99, "zh_tw": "長"},
        {"en": "A\r\n  B", "zh_tw": "甲的\r\n乙。\r\n丙"},
    ]
    found = list(readers.translations({"id": "x", "pairs": pairs}, longest=100))
    assert [(e.id, e.fields["target"]) for e in found] == [
        ("x#2", "C 語言"),
        ("x#4", "甲的乙。\n丙"),
    ]
    assert found[1].fields["source"] == "A\nB"
    flat = {"id": "y", "zh_cn": "软件", "zh_tw": "軟體"}
    (one,) = readers.translations(flat, "zh_cn", "zh_tw")
    assert (one.fields["source"], one.fields["target"]) == ("软件", "軟體")


def test_laws_of_different_dates_are_left_out():
    records = sample("laws_pairs.jsonl")
    same = [r["meta"]["zh_date"] == r["meta"]["en_date"] for r in records]
    assert same == [True, True, False]
    counts = [len(list(readers.translations(r, same_dates=True))) for r in records]
    assert counts == [3, 3, 0]
    wrapped = "依行政院經濟建設委員會（以下簡稱本會）組織條例第十九條規定訂定之。"
    (first, *_) = readers.translations(records[1], same_dates=True)
    assert first.fields["target"] == f"本規則{wrapped}"


def test_questions_in_the_form_of_drcd():
    record = {"id": "1-1", "title": "臺灣", "text": " 臺北在臺灣北部。 ", "qas": []}
    answers = [{"id": "1", "text": "臺灣北部", "answer_start": 4}, {"id": "2", "text": "北部"}]
    record["qas"] = [
        {"id": "1-1-1", "question": "臺北在哪裡？", "answers": [*answers, answers[0]]},
        {"id": "1-1-2", "question": "高雄在哪裡？", "answers": [{"id": "1", "text": "南部"}]},
    ]
    (found,) = readers.questions(record)
    assert found.id == "1-1-1" and found.answers == ("臺灣北部", "北部")
    assert found.fields["context"] == "臺北在臺灣北部。" and found.fields["answer"] == "臺灣北部"


def test_real_examination_questions():
    records = sample("civil_exam.jsonl")
    found = [e for r in records for e in readers.choices(r)]
    # Some letters are full-width; questions with several right answers are no examples.
    single = [r for r in records if r["answer"] in [*"ABCDＡＢＣＤ"]]
    assert [e.id for e in found] == [r["id"] for r in single] and 10 < len(found) < len(records)
    assert {e.answers[0] for e in found} == set("BCD")
    first = found[0].fields
    assert first["answer"] == "C" and first["options"].count("\n") == 3
    assert f"(C) {first['answer_text']}" in first["options"].split("\n")


def test_names_of_a_sentence():
    record = {
        "id": "s",
        "text": "王 小明住臺北，王 小明愛臺北。",
        "tokens": ["王", "小明", "住", "臺北", "，", "王", "小明", "愛", "臺北", "。"],
        "ner": ["B-PER", "I-PER", "O", "B-LOC", "O", "B-PER", "I-PER", "O", "B-LOC", "O"],
    }
    (found,) = readers.entities(record)
    assert found.fields == {"text": record["text"], "entities": "人名：王 小明\n地名：臺北"}
    # Where the text was changed since, the tokens are the sentence.
    (other,) = readers.entities(record | {"text": "別的"})
    assert other.fields["text"] == "王小明住臺北，王小明愛臺北。"
    (none,) = readers.entities(record | {"ner": ["O"] * 10})
    assert none.answers == ("無",)
    with pytest.raises(ValueError, match="Record s: tag I-LOC follows no B-LOC"):
        list(readers.entities(record | {"ner": ["B-PER", "I-LOC", *["O"] * 8]}))


def test_headlines_dont_give_the_answer_away():
    text = "# 題目\n\n> 摘要句\n\n本文提到題目。\n第一段" + "文" * 50 + "。\n第二段" + "字" * 60
    record = {"id": "a", "title": "題目", "summary": "摘要句", "text": text}
    (found,) = readers.headlines(record, "summary")
    assert "題目" not in found.fields["text"] and "摘要句" not in found.fields["text"]
    assert found.answers == ("摘要句",) and found.fields["text"].startswith("第一段")
    assert not list(readers.headlines(record | {"title": ""}))
    (cut,) = readers.headlines(record, longest=100, shortest=10)
    assert "第二段" not in cut.fields["text"]


def test_real_taigi_words():
    records = sample("taigi_words.jsonl")
    found = {e.fields["han"]: e.fields["reading"] for r in records for e in readers.romanised(r)}
    assert found["一人一个樣"] == "tsi̍t-lâng tsi̍t-ê iūnn"
    # 語錄 has two readings.
    assert "語錄" not in found and found["誦"] == "siōng" and len(found) == 34


def test_sentences_of_dictionaries():
    taigi = {"id": "t", "詞目": "花", "釋義": [{"釋義": "植物。"}]}
    entry = {"例句": "我咧沃花。", "例句標音": "Guá leh ak-hue. ", "華語翻譯": "我在澆花。"}
    taigi["釋義"].append({"例句": [entry, {"例句": "開花", "華語翻譯": ""}]})
    (found,) = readers.taigi_sentences(taigi, answer="taigi")
    assert found.id == "t#1.0" and found.answers == ("我咧沃花。",)
    assert found.fields["mandarin"] == "我在澆花。" and found.fields["reading"] == "Guá leh ak-hue."
    meaning = "1.吃。例：𠊎食飯咧。（我吃飯了。）\n2.喝。例：食茶。例：佢{[f3d1]}食酒。（他喝酒。）"
    (hakka,) = readers.hakka_sentences({"id": "h", "詞目": "食", "釋義": meaning})
    assert (hakka.fields["hakka"], hakka.fields["mandarin"]) == ("𠊎食飯咧。", "我吃飯了。")


def test_wordings_fit_their_readers():
    from tasks import wordings

    pairs = {"source", "target"}
    known = {
        "EN_TO_TW": pairs,
        "TW_TO_EN": pairs,
        "CN_TO_TW": pairs,
        "QUESTIONS": {"context", "question", "answer", "title"},
        "CHOICES": {"question", "subject", "options", "letters", "answer", "answer_text"},
        "ENTITIES": {"text", "entities"},
        "TITLES": {"text", "title"},
        "SUMMARIES": {"text", "summary"},
        "TAIGI_READINGS": {"han", "reading"},
        "TAIGI_HAN": {"han", "reading"},
    }
    moe = {name for name in vars(wordings) if "_TO_" in name and name not in known}
    known |= {name: set(name.lower().split("_to_")) for name in moe}
    assert known.keys() == {name for name in vars(wordings) if name.isupper()}
    for name, fields in known.items():
        templates = getattr(wordings, name)
        assert len(set(templates)) == len(templates) >= 4
        assert any(t.shots for t in templates) and any(not t.shots for t in templates)
        for template in templates:
            (answer,) = field_names(template.targets)
            asked = field_names(template.inputs)
            # What is asked for isn't in the question.
            assert answer in fields and set(asked) <= fields - {answer}, (name, template)
