"""The model card of an export: facts are the run's, and what is not recorded is said to be so."""

from __future__ import annotations

import json
import re

import pytest
import yaml

from tests.report_side import LICENSES, TASKS, WITH_REPLAY, bits, make_run, make_steered
from twjax.report.card_facts import gather
from twjax.report.model_card import card, write_cards
from twjax.report.origin import front_matter

CACHED = "/root/.cache/huggingface/hub/models--meta--Llama-3.2-1B/snapshots/4e20de36"


@pytest.fixture
def run(tmp_path):
    """A steered run that began with a model of the hub's cache, whose card came along."""
    run = make_steered(tmp_path / "run")
    base = tmp_path / "base"
    base.mkdir()
    (base / "twjax_import.json").write_text(json.dumps({"source": CACHED}))
    (run / "hf").mkdir()
    (run / "hf" / "config.json").write_text(json.dumps({"_name_or_path": "someone/else"}))
    (run / "hf" / "README.md").write_text("---\nlicense: llama3.2\ntags: [a]\n---\n# Base\n")
    return run


def parts(text):
    """Returns a card's metadata and its sections by heading."""
    _, metadata, body = text.split("---\n", 2)
    sections = re.split(r"^## (.+)$", body, flags=re.M)
    return yaml.safe_load(metadata), dict(zip(sections[1::2], sections[2::2], strict=True))


def table(section):
    """Returns the rows of a section's first table."""
    lines = [line for line in section.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines[2:]]


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


def test_what_is_not_recorded_is_not_invented(tmp_path):
    run = make_run(tmp_path / "run")
    metadata, sections = parts(card(gather(run, "m", 600, average=False), "en"))
    assert metadata["license"] == "unknown" and "base_model" not in metadata
    assert "language" not in metadata
    assert table(sections["Data"])[0][1:5] == ["not recorded"] * 4
    assert "Multiple choice" in sections["Evaluation"].split("Not measured")[1]
    assert "not recorded" in sections["Base model"]


def test_a_run_from_random_weights_says_so(run):
    text = (run / "config.gin").read_text()
    (run / "config.gin").write_text(re.sub(r"Run.init = .*\n", "", text))
    told = card(gather(run, "m", 600, average=False), "en")
    assert "trained from random weights" in told and "## Base model" not in told


def test_runs_in_between_are_named_without_their_folders(tmp_path):
    first = make_steered(tmp_path / "base")
    text = (first / "config.gin").read_text()
    (first / "config.gin").write_text(re.sub(r"Run.init = .*\n", "", text))
    second = make_steered(tmp_path / "second")
    told = card(gather(second, "m", 600, average=False), "en")
    assert "m is base, trained further" in told and str(tmp_path) not in told
    third = make_steered(tmp_path / "third")
    text = (third / "config.gin").read_text()
    (third / "config.gin").write_text(text.replace(f"run:{first}", f"run:{second}@600"))
    told = card(gather(third, "m", 600, average=False), "en")
    assert "m is base, trained further" in told
    assert "texts are not listed here: second." in told


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


def test_a_field_is_found_only_in_front():
    assert front_matter("---\nlicense: mit\n---\n", "license") == "mit"
    assert front_matter("# A\n---\nlicense: mit\n---\n", "license") == ""
    assert front_matter("license: mit\n", "license") == ""
    assert front_matter("---\nlanguage:\n- zh\nlicense:\n---\n", "license") == ""
