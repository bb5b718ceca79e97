"""The model card of an export: facts are the run's, and what is not recorded is said to be so."""

from __future__ import annotations

import json

import pytest

from tests.card_side import make_continued, parts, table
from tests.report_side import (
    LICENSES,
    TASKS,
    WITH_REPLAY,
    Page,
    bits,
    make_run,
    records,
    write_records,
)
from twjax.report import write_report
from twjax.report.card_facts import gather
from twjax.report.model_card import card, write_cards


@pytest.fixture
def run(tmp_path):
    return make_continued(tmp_path)


def test_the_metadata_is_what_the_hub_reads(run):
    metadata, _ = parts(card(gather(run, "tw-1b", 600, average=False), "en"))
    assert metadata == {
        "language": ["zh", "en"],
        "license": "llama3.2",
        "base_model": "meta/Llama-3.2-1B",
        "datasets": ["en_web", "tw_laws", "tw_transcripts", "zh_cn_web"],
        "library_name": "transformers",
        "pipeline_tag": "text-generation",
        "tags": ["twjax", "continual-pretraining"],
    }


@pytest.mark.parametrize(
    ("language", "data", "evaluation", "unknown"),
    [("en", "Data", "Evaluation", "not recorded"), ("zh-TW", "資料來源", "評測", "未記錄")],
)
def test_its_numbers_are_those_of_the_logs(run, language, data, evaluation, unknown):
    _, sections = parts(card(gather(run, "tw-1b", 600, average=False), language))
    read = {row[0]: row for row in table(sections[data])}
    train = [json.loads(x) for x in (run / "metrics.jsonl").read_text().splitlines()]
    last = [r for r in train if r["kind"] == "train"][-1]
    assert {task: row[5] for task, row in read.items()} == {
        task: f"{rows:,}" for task, rows in last["rows"].items()
    }
    for task, licenses in LICENSES.items():
        named = {part.rsplit(" (", 1)[0] for part in read[task][1].split("<br>")}
        assert (named if len(licenses) > 1 else {read[task][1]}) == set(licenses)
        assert read[task][3] == f"{sum(licenses.values()):,}"
    assert read["zh_cn_web"][1:5] == [unknown] * 4
    scores = {row[0]: row[1:3] for row in table(sections[evaluation])}
    heads = {"en": ["before (step 0)", "after (step 600)"]}
    heads["zh-TW"] = ["之前（第 0 步）", "之後（第 600 步）"]
    assert all(head in sections[evaluation] for head in heads[language])
    for task in TASKS:
        assert scores[task] == [f"{TASKS[task]:.3f}", f"{bits(task, 1, WITH_REPLAY, 1):.3f}"]
    assert f"{last['tokens']:,}" in "".join(sections.values())
    assert "47.0%" in sections[evaluation] and "82.0%" in sections[evaluation]


def test_a_checkpoint_before_the_end_has_the_evaluations_until_then(run):
    _, sections = parts(card(gather(run, "tw-1b", 300, average=True), "en"))
    scores = {row[0]: row[2] for row in table(sections["Evaluation"])}
    assert scores["tw_laws"] == f"{bits('tw_laws', 0.5, WITH_REPLAY, 1):.3f}"
    assert "an average over steps" in sections["Evaluation"]
    rows = {row[0]: row[1] for row in table(sections["Training"])}
    assert rows["steps"] == "300" and rows["forgetting budget"].startswith("steer: en_web 0.1")
    assert "en_web +" in sections["What was forgotten"]


@pytest.mark.parametrize("language", ["en", "zh-TW"])
def test_a_number_of_another_step_is_not_called_after(run, language):
    words = {
        "en": ("Evaluation", "What was forgotten", "last measured (step 300)", "after"),
        "zh-TW": ("評測", "遺忘了什麼", "最近一次評測（第 300 步）", "之後"),
    }[language]
    _, sections = parts(card(gather(run, "m", 350, average=False), language))
    scores = {row[0]: row[2] for row in table(sections[words[0]])}
    assert scores["tw_laws"] == f"{bits('tw_laws', 0.5, WITH_REPLAY, 1):.3f}"
    assert sections[words[0]].count(words[2]) == 2 and words[3] not in sections[words[0]]
    said = {"en": "These are of step 300; the exported step 350 was not evaluated."}
    said["zh-TW"] = "以上是到第 300 步為止的結果；匯出的第 350 步沒有評測。"
    assert said[language] in sections[words[1]]
    # At the exported step nothing has to be said.
    _, sections = parts(card(gather(run, "m", 300, average=False), language))
    assert words[2] not in sections[words[0]] and said[language] not in sections[words[1]]
    assert {"en": "after (step 300)", "zh-TW": "之後（第 300 步）"}[language] in sections[words[0]]


def test_a_batch_that_came_after_the_exported_step_is_not_told(run):
    for step, batch in ((300, "16"), (310, "16 → 32")):
        _, sections = parts(card(gather(run, "m", step, average=False), "en"))
        assert {row[0]: row[1] for row in table(sections["Training"])}["batch"] == batch


def test_what_was_measured_once_has_no_before(run):
    beside = [r for r in records(run, "evaluations") if r["step"] == 600]
    write_records(run, "evaluations", beside)
    own = [r for r in records(run, "metrics") if r.get("task") != "en_web" or r["step"] == 600]
    write_records(run, "metrics", own)
    _, sections = parts(card(gather(run, "m", 600, average=False), "en"))
    assert "| wording |  | 82.0% |" in sections["Evaluation"]
    assert "| en_web |  | 1.938 |  |" in sections["Evaluation"]
    assert (
        "Evaluated only once, so that no change can be told: en_web"
        in (sections["What was forgotten"])
    )
    assert "got worse" not in sections["What was forgotten"]
    # And one that was measured at several steps says which with each value.
    write_records(run, "evaluations", [*beside, beside[0] | {"step": 200, "accuracy": 0.3}])
    _, sections = parts(card(gather(run, "m", 600, average=False), "en"))
    assert "| tmmlu | 30.0% | 47.0% |" in sections["Evaluation"]
    assert "first measured (step 200)" in sections["Evaluation"]
    other = beside[1] | {"step": 100, "accuracy": 0.25}
    write_records(run, "evaluations", [*beside, beside[0] | {"step": 200}, other])
    _, sections = parts(card(gather(run, "m", 600, average=False), "en"))
    assert "| civil_exam | 25.0% (step 100) | 36.0% |" in sections["Evaluation"]


def test_what_is_no_number_was_not_kept(run):
    lines = records(run, "metrics")
    for line in lines:
        if line.get("task") in ("en_web", "zh_cn_web") and line["step"] == 600:
            line["bits_per_byte"] = None
    write_records(run, "metrics", lines)
    for language, heading, claim, said in (
        ("en", "What was forgotten", "got worse", "The evaluation gave no number: "),
        ("zh-TW", "遺忘了什麼", "沒有變差", "評測結果不是數值："),
    ):
        text = card(gather(run, "m", 600, average=False), language)
        _, sections = parts(text)
        assert claim not in sections[heading] and said in sections[heading]
        # Nor is it told what of an allowance an earlier evaluation had used.
        assert "38%" not in sections[heading]
    none = {"en": "not a number", "zh-TW": "不是數值"}[language]
    assert f"| en_web | 1.900 | {none} | {none} |" in text


def test_that_nothing_got_worse_is_said_where_it_is_known(tmp_path):
    run = make_run(tmp_path / "run", ratios=dict.fromkeys(TASKS, 0.9))
    text = card(gather(run, "m", 600, average=False), "en")
    assert "## What was forgotten\n\nNo evaluated domain got worse.\n\n" in text


def rows_of(run, task, source):
    """Writes what is left of a task's rows: their `info.json`; returns their fingerprint."""
    folder = run / "cache" / task / "train" / "512" / f"rows{task}"
    folder.mkdir(parents=True)
    info = {"ingredients": {"source": {"kind": "corpus", "fingerprint": source}}}
    (folder / "info.json").write_text(json.dumps(info))
    return folder.name


def test_a_corpus_that_was_built_anew_is_not_what_was_read(run):
    caches = {task: rows_of(run, task, "0123456789abcdef") for task in ("tw_laws", "en_web")}
    caches |= {"tw_transcripts": "gone"}
    events = records(run, "ledger")
    write_records(run, "ledger", [events[0] | {"caches": caches}, *events[1:]])
    for language, data, rebuilt, unchecked in (
        ("en", "Data", "rebuilt since; not recorded", "built anew after they were read: "),
        ("zh-TW", "資料來源", "之後重新建置過，未記錄", "讀取之後是否重新建置過，未記錄："),
    ):
        _, sections = parts(card(gather(run, "m", 600, average=False), language))
        assert rebuilt not in sections[data]
        # What isn't there can't be compared.
        assert f"{unchecked}tw_transcripts" in sections[data]
        manifest = run / "corpora" / "tw_laws" / "manifest.json"
        kept = manifest.read_text()
        manifest.write_text(
            kept.replace("0123456789abcdef", "f" * 16).replace("OGDL", "XYZ").replace("zh-TW", "ja")
        )
        text = card(gather(run, "m", 600, average=False), language)
        metadata, sections = parts(text)
        row = next(row for row in table(sections[data]) if row[0] == "tw_laws")
        assert row[1] == rebuilt and "XYZ" not in text
        assert len(set(row[2:5])) == 1 and "597" not in row
        assert row[5] == f"{records(run, 'metrics')[-5]['rows']['tw_laws']:,}"
        # The languages of today's manifest are none of it, either.
        assert metadata["language"] == ["zh", "en"]
        page = Page(write_report([run], run / "r.html"))
        table_text = page.source.split("Data and licences")[1].split("</table>")[0]
        laws = table_text.split('"row">tw_laws</th>')[1].split("</tr>")[0]
        assert "not recorded: rebuilt since it was read" in laws and "XYZ" not in laws
        assert "597" not in laws and "CC-BY-SA-4.0" in table_text
        said = page.source.split("Data and licences")[1]
        assert "Not recorded whether built anew since: tw_transcripts." in said
        manifest.write_text(kept)


def test_what_is_not_recorded_is_not_invented(tmp_path):
    run = make_run(tmp_path / "run")
    metadata, sections = parts(card(gather(run, "m", 600, average=False), "en"))
    assert metadata["license"] == "unknown" and "base_model" not in metadata
    assert "language" not in metadata
    assert table(sections["Data"])[0][1:5] == ["not recorded"] * 4
    assert "Multiple choice" in sections["Evaluation"].split("Not measured")[1]
    assert "not recorded" in sections["Base model"]


def test_somebody_elses_readme_stays(run, tmp_path):
    def facts(name):
        return gather(run, name, 600, average=False)

    out = tmp_path / "out"
    out.mkdir()
    said = write_cards(facts("m"), out)
    assert said == ["README.md, README.zh-TW.md: the model card"]
    own = (out / "README.md").read_text("utf-8")
    assert "AutoTokenizer" not in own and "has no tokenizer" in own
    # A card of ours is written anew.
    assert write_cards(facts("n"), out) == said
    assert (out / "README.md").read_text("utf-8") == own.replace("# m\n", "# n\n").replace(
        "m is ", "n is "
    ).replace('"m"', '"n"')
    (out / "tokenizer.json").write_text("{}")
    write_cards(facts("n"), out)
    assert "has no tokenizer" not in (out / "README.md").read_text("utf-8")
    (out / "README.md").write_text("# Somebody's\n")
    assert "MODEL_CARD.md, MODEL_CARD.zh-TW.md" in write_cards(facts("m"), out)[0]
    assert (out / "README.md").read_text() == "# Somebody's\n"
    linked = (out / "MODEL_CARD.md").read_text("utf-8")
    assert "(MODEL_CARD.zh-TW.md)" in linked
    (out / "MODEL_CARD.md").write_bytes(b"\xff\xfe not text")
    with pytest.raises(FileExistsError, match=r"MODEL_CARD\.md"):
        write_cards(facts("m"), out)


def test_text_of_others_breaks_neither_tables_nor_metadata(run):
    bad = 'a | b\n---\n"c": [d'
    manifest = {"licenses": {bad: {"documents": 1, "bytes": 2}}, "languages": {bad: 1}}
    (run / "corpora" / "tw_laws" / "manifest.json").write_text(json.dumps(manifest))
    (run / "hf" / "README.md").write_text('---\nlicense: "x: [y"\n---\n')
    metadata, sections = parts(card(gather(run, "m", 600, average=False), "en"))
    assert metadata["license"] == "x: [y" and metadata["library_name"] == "transformers"
    row = next(row for row in table(sections["Data"]) if row[0] == "tw_laws")
    assert row[1] == 'a \\| b --- "c": [d' and len(row) == 8
