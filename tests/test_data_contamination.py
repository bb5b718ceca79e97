"""Evaluation items in what a run trains on: found in rows, removed where rows are made."""

from __future__ import annotations

import dataclasses
import json
import pathlib
import re

import data_side
import numpy as np
import pytest
import tiny
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny import CONFIG

from twjax import config as configuration
from twjax import storage
from twjax.cli import main
from twjax.cli.tasks_contamination import configured
from twjax.corpus.conversion import opencc
from twjax.data import cache, rows
from twjax.data.contamination import Removal, search_rows
from twjax.data.examples import find_task, load_model
from twjax.data.loader import open_course
from twjax.data.request import Request
from twjax.data.spelt import Speller, restored

EXAM = pathlib.Path(__file__).parent / "data" / "supervised" / "civil_exam.jsonl"
RECORDS = [json.loads(line) for line in EXAM.read_text(encoding="utf-8").splitlines()]


def question(number):
    record = RECORDS[number]
    return "\n".join([record["question"], *(f"({k}) {v}" for k, v in record["options"].items())])


WAYS = (
    ("none", lambda text: text),
    ("script", lambda text: opencc.converter("t2s")(text)),
    ("width or case", lambda text: text.replace("(", "（").replace(")", "）").replace("，", ",")),
    ("punctuation", lambda text: text.replace("，", "、").replace("？", "?!")),
    ("white space", lambda text: "\r\n".join(text[i : i + 11] for i in range(0, len(text), 11))),
)


@pytest.fixture(scope="module")
def planted():
    """Documents of which every third has a question of its own: its change by the document."""
    documents = list(data_side.texts()[:48])
    changes = {}
    for number in range(len(RECORDS)):
        change, way = WAYS[number % len(WAYS)]
        place = 3 * number
        text = documents[place]
        middle = len(text) // 2
        documents[place] = f"{text[:middle]}\n{way(question(number))}\n{text[middle:]}"
        changes[RECORDS[number]["id"]] = change
    return documents, changes


@pytest.fixture
def config(tmp_path, planted):
    """A run on planted documents and clean ones, with one held-out document that is trained on."""
    documents, _ = planted
    data_side.make_corpus(tmp_path / "a", documents)
    data_side.make_corpus(tmp_path / "clean", data_side.texts("tw_articles", 12), shards=1)
    data_side.make_corpus(tmp_path / "judge", [documents[1], *data_side.texts("tw_drcd", 6)])
    text = CONFIG.format(cache=tmp_path / "cache")
    for pattern, value in (
        ("Data.vocabulary", repr(data_side.vocabulary())),
        ("Mixture.stages", "((0, {'a': 0.5, 'clean': 0.5}),)"),
        ("Data.seq_len", "256"),
        ("Evaluation.tasks", "('judge',)"),
    ):
        text = re.sub(rf"{pattern} = .*", lambda _, p=pattern, v=value: f"{p} = {v}", text)
    folders = {name: str(tmp_path / name) for name in ("a", "clean", "judge")}
    text += f"Data.corpora = {folders!r}\nData.held_out = ('judge',)\nData.validation = 0.0\n"
    path = tmp_path / "run.gin"
    path.write_text(text)
    return path


REMOVE = ("Data.screening = @Screening()", f"Screening.items = {{'exam': {str(EXAM)!r}}}",
          "Screening.policy = 'remove'")  # fmt: skip


def bindings(*texts):
    return [part for text in texts for part in ("--set", text)]


def report(config, *arguments):
    path = config.parent / "report.json"
    assert main(["tasks", "contamination", str(config), "--json", str(path), *arguments]) == 0
    return json.loads(path.read_text(encoding="utf-8"))


def test_planted_questions_are_found_in_rows(config, planted, capsys):
    _, changes = planted
    assert main(["tasks", "cache", str(config), "--workers", "1"]) == 0
    capsys.readouterr()
    found = report(config, "--items", f"exam={EXAM}", "--examples", "99")
    assert found["sets"]["exam"] == {"items": 16, "too_short": 0}
    exam = found["tasks"]["a"]["sets"]["exam"]
    assert exam["items"] == 16 and exam["rows"] >= 14
    # Cut through a question, its larger part tells less of what was changed.
    by = {c: list(changes.values()).count(c) for c in dict.fromkeys(changes.values())}
    assert sum(exam["by_change"].values()) == 16 and set(exam["by_change"]) <= set(by)
    assert exam["by_change"]["script"] == by["script"]
    # The clean corpus has none; what is held out as well as trained on is told.
    assert found["tasks"]["clean"] == {
        "rows": len(reader(config, "clean")), "rows_that_hold": 0, "sets": {}
    }  # fmt: skip
    judged = found["tasks"]["a"]["sets"]["held out of judge"]
    assert judged["items"] >= 1 and judged["examples"][0]["item"].startswith("judge row ")
    out = capsys.readouterr().out
    assert "items found" in out and "civil_exam.jsonl:twexam-" in out
    shown = [line for line in out.splitlines() if line.startswith("a row ")]
    assert len(shown) == 5 + len(judged["examples"])

    only = report(config, "--items", str(EXAM), "--no-held-out", "--task", "clean")
    assert list(only["sets"]) == ["civil_exam"] and list(only["tasks"]) == ["clean"]


def reader(config, task, cache="cache"):
    return rows.RowReader(config.parent / cache, task, "train", 256)


def test_removal_is_another_cache_that_says_what_is_gone(config, planted, tmp_path, capsys):
    documents, changes = planted
    command = ["tasks", "cache", str(config), "--workers", "1"]
    assert main(command) == 0
    before = reader(config, "a").info
    assert before.without is None
    # A run that asks for removal doesn't train on rows from which nothing was removed.
    loaded = configuration.load(configuration.Run, [config], REMOVE).value
    with pytest.raises(ValueError, match=r"weren't removed from the rows of task a.*tasks cache"):
        open_course(loaded.data)
    assert main([*command, *bindings(*REMOVE)]) == 0
    assert "(16 hold an evaluation item)" in capsys.readouterr().out
    info = reader(config, "a").info
    assert info.fingerprint != before.fingerprint
    assert info.without == {"examples": 16, "sets": {"exam": {"items": 16, "examples": 16}}}
    assert info.documents == before.documents - 16
    gone = sum(len(documents[3 * number].encode()) for number in range(16))
    assert info.text_bytes == before.text_bytes - gone
    (listed,) = (tmp_path / "cache" / "a" / "train" / "256").glob(f"left_out-{info.fingerprint}*")
    entries = [json.loads(line) for line in listed.read_text(encoding="utf-8").splitlines()]
    assert {entry["text"] for entry in entries} == {documents[3 * n] for n in range(16)}
    assert {e["item"].partition(":")[2]: e["change"] for e in entries} == changes
    assert all(entry["reason"] == "holds an evaluation item" for entry in entries)
    # What is held out isn't touched, and other tasks lose nothing.
    assert rows.RowReader(tmp_path / "cache", "judge", "validation", 256).info.without is None
    assert reader(config, "clean").info.without["examples"] == 0
    open_course(loaded.data)
    left = report(config, "--items", f"exam={EXAM}", "--no-held-out")
    assert all(task["sets"] == {} for task in left["tasks"].values())

    # The same again is up to date; other items, or another share, are other rows.
    assert main([*command, *bindings(*REMOVE)]) == 0
    assert "cached;" not in capsys.readouterr().out
    fewer = tmp_path / "fewer.jsonl"
    fewer.write_text(json.dumps(RECORDS[0]), encoding="utf-8")
    other = [*REMOVE, f"Screening.items = {{'exam': {str(fewer)!r}}}"]
    assert main([*command, *bindings(*other), "--task", "a"]) == 0
    assert reader(config, "a").info.without["examples"] == 1
    assert reader(config, "a").info.fingerprint != info.fingerprint
    # Back without screening, the old rows are there still.
    assert main([*command, "--task", "a"]) == 0
    assert reader(config, "a").info.fingerprint == before.fingerprint


def screened(config, *changes):
    return configuration.load(configuration.Run, [config], [*REMOVE, *changes]).value.data


def test_rows_that_were_screened_otherwise_are_refused(config, tmp_path):
    first, second = (tmp_path / f"{name}.jsonl" for name in ("first", "second"))
    first.write_text(json.dumps(RECORDS[0]), encoding="utf-8")
    second.write_text(json.dumps(RECORDS[1]), encoding="utf-8")
    one = f"Screening.items = {{'first': {str(first)!r}}}"
    both = f"Screening.items = {{'first': {str(first)!r}, 'second': {str(second)!r}}}"
    command = ["tasks", "cache", str(config), "--workers", "1"]
    assert main([*command, *bindings(*REMOVE, one)]) == 0
    open_course(screened(config, one))
    for changes, told in (
        ([both], "items of second weren't looked for"),
        ([one, "Screening.share = 0.3"], "Screening.share was 0.5, not 0.3"),
        ([one, "Screening.ngram = 15"], "Screening.ngram was 13, not 15"),
        (
            [f"Screening.items = {{'second': {str(second)!r}}}"],
            "items of second weren't looked for; items of first were left out, too",
        ),
    ):
        with pytest.raises(ValueError, match=r"weren't removed from the rows of task") as error:
            open_course(screened(config, *changes))
        lines = str(error.value).split(" | ")
        assert [re.findall(r"task (\w+),", line) for line in lines] == [["a"], ["clean"]]
        assert all(f"({told}); run: twjax tasks cache" in line for line in lines)
    assert main([*command, *bindings(*REMOVE, both)]) == 0
    open_course(screened(config, both))
    # A machine that only trains may lack the files; where they are, they are those of then.
    second.rename(tmp_path / "gone.jsonl")
    open_course(screened(config, both))
    second.write_text(json.dumps(RECORDS[2]), encoding="utf-8")
    with pytest.raises(ValueError, match=rf"{second} \(second\) had other items"):
        open_course(screened(config, both))


def test_a_folder_is_a_set_wherever_one_is_named(config, tmp_path, capsys):
    for name, part in (("law", RECORDS[:6]), ("civics", RECORDS[6:])):
        (tmp_path / "exam" / name).mkdir(parents=True)
        lines = [json.dumps({k: v for k, v in r.items() if k != "id"}) for r in part]
        (tmp_path / "exam" / name / "test.jsonl").write_text("\n".join(lines), encoding="utf-8")
    folder = f"Screening.items = {{'exam': {str(tmp_path / 'exam')!r}}}"
    command = ["tasks", "cache", str(config), "--workers", "1"]
    assert main([*command, *bindings(*REMOVE, folder)]) == 0
    assert "(16 hold an evaluation item)" in capsys.readouterr().out
    info = reader(config, "a").info
    # Items of files that have one name are told apart.
    assert info.without == {"examples": 16, "sets": {"exam": {"items": 16, "examples": 16}}}
    open_course(screened(config, folder))
    # What isn't read decides nothing; what is read does.
    (tmp_path / "exam" / "README.md").write_text("about")
    assert main([*command, *bindings(*REMOVE, folder)]) == 0
    assert "cached;" not in capsys.readouterr().out
    (tmp_path / "exam" / "law" / "test.jsonl").rename(tmp_path / "exam" / "law" / "late.jsonl")
    with pytest.raises(ValueError, match=r"exam \(exam\) had other items"):
        open_course(screened(config, folder))


def test_sets_of_one_name_are_all_looked_for(config, tmp_path):
    terms, own = tiny.REPO / "configs/evaluations/terms.jsonl", tmp_path / "own.jsonl"
    own.write_text(json.dumps(RECORDS[0]), encoding="utf-8")

    def found(*settings):
        run = configuration.load(configuration.Run, [config], list(settings)).value
        return configured(run)

    suite = ("Evaluation.suite = @Suite()", f"Suite.choice = {{'taiwan': {str(EXAM)!r}}}")
    named = (*suite, f"Suite.pairs = {{'taiwan': {str(terms)!r}, 'terms': {str(terms)!r}}}")
    both = {"choice taiwan": str(EXAM), "pairs taiwan": str(terms), "terms": str(terms)}
    assert found(*named) == both
    asked = ("Data.screening = @Screening()", f"Screening.items = {{'taiwan': {str(own)!r}}}")
    assert found(*named, *asked) == {**both, "screening taiwan": str(own)}
    # One file of one name is one set, wherever it is named.
    again = (asked[0], f"Screening.items = {{'taiwan': '{EXAM.parent}/../supervised/{EXAM.name}'}}")
    assert list(found(*suite, *again)) == ["taiwan"]
    clash = f"Screening.items = {{'taiwan': {str(own)!r}, 'pairs taiwan': {str(own)!r}}}"
    with pytest.raises(ValueError, match="two sets are called pairs taiwan; give one of them"):
        found(*named, asked[0], clash)


def test_workers_remove_the_same(config, tmp_path):
    for workers in (1, 2):
        arguments = ["--workers", str(workers), "--cache", str(tmp_path / f"w{workers}")]
        assert (
            main(["tasks", "cache", str(config), "--task", "a", *arguments, *bindings(*REMOVE)])
            == 0
        )
    one, two = (reader(config, "a", f"w{workers}") for workers in (1, 2))
    assert one.info.files == two.info.files and one.info.without == two.info.without
    assert one.info.fingerprint == two.info.fingerprint


def test_caching_reports_what_it_is_asked_to_look_for(config, capsys):
    asked = bindings(*REMOVE[:2])
    assert main(["tasks", "cache", str(config), "--workers", "1", *asked]) == 0
    out = capsys.readouterr().out
    assert re.search(r"exam +16 +a +\d+ +16 ", out) and re.search(r"exam +16 +clean +\d+ +0 ", out)
    assert reader(config, "a").info.without is None


def test_mistakes_are_one_line(config, capsys):
    cases = [
        (["--task", "absent"], "--task absent: the run trains on a, clean."),
        (["--share", "2"], "--share (2.0) must be in (0, 1]."),
        (["--items", "/nowhere.jsonl", "--no-held-out"], "no cached rows of task a, split train"),
        (["--no-held-out"], "nothing to look for"),
        (["--items", "x=a.json", "--items", "x=b.json"], "two sets are called x"),
        ([*bindings("Data.screening = @Screening()", "Screening.items = {}")], "Screening.items"),
        ([*bindings(*REMOVE[:2], "Screening.share = 0.0")], "Screening.share (0.0)"),
    ]
    for arguments, message in cases:
        assert main(["tasks", "contamination", str(config), *arguments]) == 1
        errors = capsys.readouterr().err.splitlines()
        assert len(errors) == 1 and message in errors[0], errors


@pytest.mark.parametrize("row_format", ["decoder", "encoder_decoder"])
def test_hidden_spans_hide_no_question(tmp_path, planted, row_format):
    """Rows of span corruption: 15 % of each piece stands behind sentinels elsewhere in the row."""
    import seqio

    from twjax.data.preprocessors import span_corruption
    from twjax.data.sources import add_corpus
    from twjax.data.vocabulary import features

    corpus = data_side.make_corpus(tmp_path / "a", planted[0])
    sides = features("inputs", "targets", extra_ids=100)
    add_corpus("planted_spans", corpus, [span_corruption], 0.0, sides)
    try:
        task = find_task("planted_spans", {})
        request = Request(task, "train", 512, data_side.vocabulary(), row_format)
        cache.build(request, tmp_path / "cache")
        removal = Removal((("exam", str(EXAM)),), 0.5, 13)
        left = dataclasses.replace(request, removal=removal)
        without = cache.build(left, tmp_path / "cache").info.without
    finally:
        seqio.TaskRegistry.remove("planted_spans")
    model = load_model(data_side.vocabulary())
    built = rows.RowReader(tmp_path / "cache", "planted_spans", "train", request.row_length)
    assert built.info.without == without and without["examples"] >= 16
    for fingerprint in (request.ingredients(), left.ingredients()):
        folder = built.path.parent / storage.sha256_json(fingerprint)
        rows.set_current(
            tmp_path / "cache", "planted_spans", "train", request.row_length, folder.name
        )
        reader = rows.RowReader(tmp_path / "cache", "planted_spans", "train", request.row_length)
        speller = Speller(model, reader.info.vocabulary["size"] - model.vocab_size)
        held = [f for _, some in search_rows(reader, speller, removal.screen) for _, f in some]
        found = {finding.item for finding in held}
        assert len(found) == (16 if fingerprint == request.ingredients() else 0)


@settings(max_examples=80, deadline=None)
@given(data=st.data(), length=st.integers(1, 40))
def test_spans_come_back_to_their_sentinels(data, length):
    """T5's objective (Raffel et al. 2020, figure 2) undone: sentinels count down from the top."""
    ids = data.draw(st.lists(st.integers(0, 99), min_size=length, max_size=length))
    noise = data.draw(st.lists(st.booleans(), min_size=length, max_size=length))
    inputs, targets, sentinel = [], [], 200
    for place, hidden in enumerate(noise):
        if hidden and (place == 0 or not noise[place - 1]):
            sentinel -= 1
            inputs.append(sentinel)
            targets.append(sentinel)
        (targets if hidden else inputs).append(ids[place])
    # One more closes the targets.
    assert restored([*inputs, *targets], 150) == ids
    assert restored([*inputs, *targets, sentinel - 1], 150) == ids
    plain = [id for id in inputs if id < 150]
    assert restored(inputs, 150) == plain


@settings(max_examples=30, deadline=None)
@given(st.lists(st.lists(st.integers(0, 699), max_size=12), min_size=1, max_size=6))
def test_many_texts_are_spelt_as_one_by_one(rows_of_ids):
    model = load_model(data_side.vocabulary())
    ids = np.array([id for row in rows_of_ids for id in row], np.int64)
    found = Speller(model).texts(ids, np.array([len(row) for row in rows_of_ids]))
    assert found == [model.decode(row, continued=True) for row in rows_of_ids]
