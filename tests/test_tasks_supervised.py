"""Supervised tasks: readers, wordings, sources of records, and the rows that they become."""

from __future__ import annotations

import functools
import gzip
import json
import pathlib
import subprocess
import sys
import textwrap

import data_side
import numpy as np
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
    assert {e.answers[0] for e in found} == set("ABCD")
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


PAIRS = functools.partial(readers.translations, source="en", target="zh_tw")


@pytest.fixture(scope="module")
def records_source():
    """The class; importing it loads TensorFlow."""
    from twjax.data.records import RecordSource

    return RecordSource


def test_records_stay_together_and_each_is_in_one_split(records_source):
    source = records_source(str(SAMPLES / "pydocs_pairs.jsonl"), PAIRS, validation=0.3)
    owners = {s: {e.id.rpartition("#")[0] for e in source.examples(s)} for s in source.splits}
    everything = {r["id"] for r in sample("pydocs_pairs.jsonl")}
    assert owners["train"] | owners["validation"] == everything
    assert not owners["train"] & owners["validation"] and len(owners["validation"]) >= 2
    held_out = records_source(str(SAMPLES / "pydocs_pairs.jsonl"), PAIRS, validation=1.0)
    assert held_out.splits == ("validation",) or list(held_out.splits) == ["validation"]
    with pytest.raises(ValueError, match="have no split 'train'; they have validation"):
        held_out.fingerprint("train")


def test_all_forms_of_a_file_give_the_same(records_source, tmp_path):
    import pyarrow as pa
    import pyarrow.parquet as pq

    records = sample("pydocs_pairs.jsonl")
    text = "".join(json.dumps(record) + "\n\n" for record in records)
    (tmp_path / "a.jsonl").write_text(text)
    with gzip.open(tmp_path / "b.jsonl.gz", "wt") as file:
        file.write(text)
    pq.write_table(pa.Table.from_pylist(records), tmp_path / "c.parquet")
    found = [
        list(records_source(str(tmp_path / name), PAIRS).examples("train"))
        for name in ("a.jsonl", "b.jsonl.gz", "c.parquet")
    ]
    assert found[0] == found[1] == found[2] and len(found[0]) > 50
    whole = records_source(str(tmp_path), PAIRS)
    assert len(whole.list_shards("train")) == 3
    assert list(whole.examples("train")) == found[0] * 3


def test_a_changed_file_or_reader_is_another_fingerprint(records_source, tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_text('{"id": "x", "en": "a", "zh_tw": "甲"}\n')
    source = records_source(str(path), PAIRS)
    first = source.fingerprint("train")
    assert json.loads(json.dumps(first)) == first and source.fingerprint("train") == first
    other = functools.partial(PAIRS, longest=10)
    assert records_source(str(path), other).fingerprint("train") != first
    path.write_text('{"id": "x", "en": "b", "zh_tw": "乙"}\n')
    assert source.fingerprint("train") != first


def test_bad_files_are_one_clear_line(records_source, tmp_path, monkeypatch):
    def reading(text, name="bad.jsonl"):
        (tmp_path / name).write_bytes(text)
        return list(records_source(str(tmp_path / name), PAIRS, 0.0).examples("train"))

    with pytest.raises(ValueError, match=r"bad.jsonl, line 2: not JSON"):
        reading(b'{"id": "x", "pairs": []}\n{"id": ')
    with pytest.raises(ValueError, match=r"line 1: a record is a JSON object, not list"):
        reading(b"[]\n")
    with pytest.raises(ValueError, match=r"record 1 has no id"):
        reading(b'{"en": "a"}\n')
    with pytest.raises(ValueError, match=r"record x isn't what translations reads \(Attribute"):
        reading(b'{"id": "x", "pairs": ["a"]}\n')
    with pytest.raises(ValueError, match=r"damaged"):
        reading(gzip.compress(b'{"id": "x", "pairs": []}\n' * 9)[:-9], "bad.jsonl.gz")
    with pytest.raises(ValueError, match=r"not a readable Parquet file"):
        reading(b"PAR1", "bad.parquet")
    with pytest.raises(ValueError, match=r"records are \.jsonl, "):
        reading(b"", "bad.csv")
    monkeypatch.setenv("TWJAX_RECORDS_DIR", str(tmp_path / "elsewhere"))
    with pytest.raises(FileNotFoundError, match=r"elsewhere/a.jsonl: no file .*TWJAX_RECORDS_DIR"):
        records_source("a.jsonl", PAIRS).list_shards("train")
    with pytest.raises(ValueError, match=r"is a share: 0 to 1"):
        records_source("a.jsonl", PAIRS, 2.0)


@pytest.fixture
def registered():
    """Registers tasks for one test, and takes them out again."""
    import seqio

    from twjax.data.preprocessors_supervised import add_records

    before = set(seqio.TaskRegistry.names())
    yield add_records
    for name in set(seqio.TaskRegistry.names()) - before:
        seqio.TaskRegistry.remove(name)


WORDINGS = (
    Template("翻譯：{source}\n", "{target}"),
    Template("英：{source}\n中：", "{target}", 2),
)


def test_registering_twice(registered):
    first = registered("tw_again", "/nowhere/a", PAIRS, WORDINGS, [])
    assert registered("tw_again", "/nowhere/a", PAIRS, WORDINGS, []) is first
    for path, templates in (("/nowhere/b", WORDINGS), ("/nowhere/a", WORDINGS[:1])):
        with pytest.raises(ValueError, match=r"tw_again is registered already.*another name"):
            registered("tw_again", path, PAIRS, templates, [])
    with pytest.raises(ValueError, match="at least one template"):
        registered("tw_none", "/nowhere/a", PAIRS, (), [])
    with pytest.raises(ValueError, match="names no field"):
        registered("tw_brace", "/nowhere/a", PAIRS, [Template("{", "")], [])


def bound(registered, name="tw_words", path="pydocs_pairs.jsonl"):
    from twjax.data.vocabulary import PieceVocabulary, with_vocabulary

    task = registered(name, str(SAMPLES / path), PAIRS, WORDINGS, [], 0.3)
    return with_vocabulary(task, PieceVocabulary(data_side.vocabulary()))


def test_examples_are_worded_by_their_id(registered):
    task = bound(registered)
    vocabulary = task.output_features["targets"].vocabulary
    lengths = {"inputs": 512, "targets": 512}
    found = list(task.get_dataset(lengths, "train", shuffle=False).as_numpy_iterator())
    labelled = list(task.source.examples("train"))
    assert len(found) == len(labelled) > 30
    shown = 0
    for example, given_fields in zip(found, labelled, strict=True):
        template = choose(WORDINGS, given_fields.id)
        inputs = example["inputs_pretokenized"].decode()
        assert inputs.endswith(render(template, given_fields.fields)[0])
        # Solved examples are of other records.
        owner = given_fields.id.rpartition("#")[0]
        own = [e.fields["source"] for e in labelled if e.id.startswith(f"{owner}#")]
        solved = inputs.split("\n\n")[:-1]
        shown += len(solved)
        assert not any(f"英：{text}\n" in shot + "\n" for shot in solved for text in own)
        assert example["inputs"].tolist() == [3, *vocabulary.encode(inputs)]
        answer = given_fields.fields["target"]
        assert example["targets"].tolist() == [*vocabulary.encode(answer), 1]
        assert [a.decode() for a in example["answers"]] == [answer]
    assert shown > 20


def test_solved_examples_give_way_to_the_question(registered):
    task = bound(registered)
    long, short = (
        list(task.get_dataset({"inputs": n, "targets": n}, "train", shuffle=False, **KEEP))
        for n in (4096, 100)
    )
    fewer = 0
    for a, b in zip(long, short, strict=True):
        more, less = (e["inputs_pretokenized"].numpy().decode().split("\n\n") for e in (a, b))
        assert more[-1] == less[-1]
        assert len(less) == 1 or len(b["inputs"]) + len(b["targets"]) <= 100
        fewer += len(less) < len(more)
    assert fewer > 5


KEEP = {"trim_output_features": False}


@pytest.mark.parametrize(("row_format", "targets"), [("decoder", None), ("encoder_decoder", 128)])
def test_rows_have_the_loss_on_answers_alone(registered, tmp_path, row_format, targets):
    from twjax.data import cache, rows
    from twjax.data.examples import find_task

    task = bound(registered, "tw_rows")
    vocabulary = task.output_features["targets"].vocabulary
    request = cache.Request(
        find_task("tw_rows", {}), "train", 256, data_side.vocabulary(), row_format, targets
    )
    built = cache.build(request, tmp_path)
    assert not cache.build(request, tmp_path).fresh
    reader = rows.RowReader(tmp_path, "tw_rows", "train", request.row_length)
    found = reader.read(range(len(reader)))
    side = "tokens" if row_format == "decoder" else "targets"
    owner = "segment_ids" if row_format == "decoder" else "targets_segment_ids"
    answers = []
    for row in range(len(reader)):
        for segment in range(1, found[owner][row].max() + 1):
            mask = (found[owner][row] == segment) & (found["loss_weights"][row] == 1)
            answers.append(vocabulary.decode(found[side][row][mask].tolist()))
            assert found[side][row][mask][-1] == 1
    wanted = [e.fields["target"] for e in task.source.examples("train")]
    assert built.info.documents + built.left_out == len(wanted)
    assert len(answers) == built.info.documents >= 0.9 * len(wanted)
    assert set(answers) <= set(wanted)


def test_all_right_answers_reach_the_metrics(registered, tmp_path):
    """As seqio's evaluator calls them: the postprocessor on both sides, then the metrics."""
    from twjax.data.text_metrics import character_f1, exact_match
    from twjax.data.vocabulary import PieceVocabulary, with_vocabulary

    record = {"id": "1", "title": "臺灣", "text": "臺北在臺灣北部。"}
    answers = [{"id": "1", "text": "臺灣北部"}, {"id": "2", "text": "北部"}]
    record["qas"] = [{"id": "1-1", "question": "臺北在哪裡？", "answers": answers}]
    (tmp_path / "qa.jsonl").write_text(json.dumps(record))
    templates, path = [Template("{context}{question}", "{answer}")], str(tmp_path / "qa.jsonl")
    metrics = [exact_match, character_f1]
    declared = registered("tw_qa", path, readers.questions, templates, metrics, 1.0)
    task = with_vocabulary(declared, PieceVocabulary(data_side.vocabulary()))
    lengths = {"inputs": 128, "targets": 128}
    (example,) = task.get_dataset(lengths, "validation", shuffle=False).as_numpy_iterator()
    text = example["targets_pretokenized"].decode()
    target = task.postprocess_fn(text, example=example, is_target=True)
    prediction = task.postprocess_fn("北部！", example=example, is_target=False)
    assert target == ["臺灣北部", "北部"] and prediction == "北部！"
    scores = [metric([target], [prediction]) for metric in task.predict_metric_fns]
    assert scores == [{"exact_match": 100.0}, {"character_f1": 100.0}]


def test_declared_tasks_read_nothing_and_keep_benchmarks_out_of_training():
    program = """
        import sys
        import seqio
        import twjax.data.preprocessors_supervised, twjax.data.translation_metrics
        seen = []
        def watch(event, arguments):
            if event == "open" and not str(arguments[0]).endswith((".py", ".pyc")):
                seen.append(f"open {arguments[0]}")
        sys.addaudithook(watch)
        import tasks.supervised
        assert not seen, seen
        benchmarks = ("drcd", "ntrex", "exam", "_moe_")
        named = {n: seqio.TaskRegistry.get(n) for n in seqio.TaskRegistry.names()}
        assert len(named) == 25, len(named)
        for name, task in named.items():
            only = any(part in name for part in benchmarks)
            assert list(task.splits) == (["validation"] if only else ["train", "validation"]), name
            assert (name in tasks.supervised.TRAINING) != only, name
            assert len(task.preprocessors[0].keywords["templates"]) >= 4
            assert task.metric_fns
        # Fields that every wording names are there.
        mixture = seqio.MixtureRegistry.get("tw_supervised")
        assert sorted(t.name for t in mixture.tasks) == sorted(tasks.supervised.TRAINING)
    """
    subprocess.run([sys.executable, "-c", textwrap.dedent(program)], check=True, cwd=data_side.REPO)


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


def test_arrays_are_int32(registered):
    task = bound(registered, "tw_types")
    lengths = {"inputs": 512, "targets": 512}
    example = next(iter(task.get_dataset(lengths, "validation", shuffle=False)))
    assert example["inputs"].numpy().dtype == example["targets"].numpy().dtype == np.int32
