"""Which model a run began with, by its card: what was recorded of it, and nothing guessed."""

from __future__ import annotations

import json
import pathlib
import re
import shutil

import pytest

from tests.card_side import CACHED, make_continued, parts, table
from tests.report_side import TASKS, make_run, make_steered, records
from twjax import storage
from twjax.report.card_facts import gather
from twjax.report.model_card import card
from twjax.report.origin import front_matter, hub_id_of


@pytest.fixture
def run(tmp_path):
    return make_continued(tmp_path)


def test_a_base_model_is_named_by_what_it_was_imported_from(run, tmp_path):
    record = {"source": "/models/Llama-3-Taiwan-8B-Instruct"}
    (tmp_path / "base" / "twjax_import.json").write_text(json.dumps(record))
    (run / "hf" / "config.json").write_text('{"_name_or_path": "outputs/checkpoint-500"}')
    text = card(gather(run, "m", 600, average=False), "en")
    metadata, sections = parts(text)
    assert "base_model" not in metadata and "checkpoint-500" not in text
    assert "m is Llama-3-Taiwan-8B-Instruct, trained further" in text
    assert table(sections["Base model"])[0] == ["model", "Llama-3-Taiwan-8B-Instruct"]
    # Its user may know better than the folder.
    stated = gather(run, "m", 600, average=False, base_model="yentinglin/Llama-3-Taiwan-8B")
    assert parts(card(stated, "en"))[0]["base_model"] == "yentinglin/Llama-3-Taiwan-8B"


@pytest.mark.parametrize(
    ("folder", "hub_id"),
    [
        (CACHED, "meta/Llama-3.2-1B"),
        ("/cache/models--gpt2/snapshots/abc", "gpt2"),
        ("/cache/models--meta--Llama-3.2-1B/refs", ""),
        ("/data/models--a--b--c--d/snapshots/abc", ""),
        ("outputs/checkpoint-500", ""),
        ("meta/Llama-3.2-1B", ""),
    ],
)
def test_an_id_on_the_hub_is_that_of_its_cache(folder, hub_id):
    assert hub_id_of(pathlib.Path(folder)) == hub_id


def test_a_folder_of_the_hubs_cache_needs_no_import(run, tmp_path):
    cached = tmp_path / "models--meta--Tiny" / "snapshots" / "abc"
    cached.mkdir(parents=True)
    (tmp_path / "tiny").symlink_to(cached)
    text = (run / "config.gin").read_text()
    for folder in (cached, tmp_path / "tiny"):
        init = re.sub(r"Run.init = .*", f"Run.init = 'hf:{folder}'", text)
        (run / "config.gin").write_text(init)
        base = gather(run, "m", 600, average=False).base
        assert base is not None and base.hub_id == "meta/Tiny"


def test_which_licence_other_is_goes_along(run):
    named = "license: other\nlicense_name: llama3\nlicense_link: LICENSE\n"
    (run / "hf" / "README.md").write_text(f"---\n{named}---\n# Base\n")
    metadata, sections = parts(card(gather(run, "m", 600, average=False), "en"))
    assert metadata["license"] == "other"
    assert (metadata["license_name"], metadata["license_link"]) == ("llama3", "LICENSE")
    assert ["licence", "other (llama3, LICENSE)"] in table(sections["Base model"])
    # Of a folder that was merged of several models it is one's of them.
    (run / "hf" / "twjax_merge.json").write_text("{}")
    metadata, _ = parts(card(gather(run, "m", 600, average=False), "en"))
    assert metadata["license"] == "unknown" and "license_name" not in metadata


def export_record(run, name):
    """Returns what an export of a run records, as a file would have it."""
    lineage = gather(run, name, 600, average=False).lineage()
    return {"source": {"lineage": json.loads(json.dumps(lineage))}, "files": {}}


def test_an_export_that_was_trained_further_tells_of_what_it_had_read(run, tmp_path):
    second = make_steered(tmp_path / "second")
    shutil.copytree(run / "hf", second / "hf")
    (tmp_path / "base" / "twjax_import.json").write_text('{"source": "/exports/tw-1"}')
    record = export_record(run, "tw-1")
    # The folder's own name and place were those of the first model.
    assert record["source"]["lineage"]["base"]["name"] == "tw-1"
    (tmp_path / "base" / "twjax_import.json").write_text(json.dumps({"source": CACHED}))
    record = export_record(run, "tw-1")
    (second / "hf" / "twjax_export.json").write_text(json.dumps(record))
    (tmp_path / "base" / "twjax_import.json").write_text('{"source": "/exports/tw-1"}')
    manifest = second / "corpora" / "tw_laws" / "manifest.json"
    manifest.write_text(manifest.read_text().replace("OGDL-Taiwan-1.0", "CC-BY-4.0"))
    for language, data, origin in (
        ("en", "Data", "tw-1 itself is meta/Llama-3.2-1B, trained further with twjax"),
        ("zh-TW", "資料來源", "tw-1 本身是以 meta/Llama-3.2-1B 為基礎"),
    ):
        metadata, sections = parts(card(gather(second, "tw-2", 600, average=False), language))
        assert "base_model" not in metadata and metadata["license"] == "llama3.2"
        assert origin in card(gather(second, "tw-2", 600, average=False), language)
        own, earlier = sections[data].split("tw-1", 1)
        assert "CC-BY-4.0" in own and "OGDL-Taiwan-1.0" not in own
        rows = {row[0]: row for row in table(earlier)}
        assert rows["tw_laws"][1] == "OGDL-Taiwan-1.0" and rows["tw_laws"][3] == "597"
        first = records(run, "metrics")[-5]["rows"]
        assert {task: row[5] for task, row in rows.items()} == {
            task: f"{count:,}" for task, count in first.items()
        }
    # The next one tells of both.
    record = export_record(second, "tw-2")
    third = make_steered(tmp_path / "third")
    shutil.copytree(second / "hf", third / "hf")
    (third / "hf" / "twjax_export.json").write_text(json.dumps(record))
    (tmp_path / "base" / "twjax_import.json").write_text('{"source": "/exports/tw-2"}')
    found = gather(third, "tw-3", 600, average=False)
    assert [earlier.name for earlier in found.runs] == ["tw-1", "tw-2"]
    assert "tw-2 itself is meta/Llama-3.2-1B" in card(found, "en")
    # Weights that were merged with others are not those of the export.
    (third / "hf" / "twjax_merge.json").write_text("{}")
    merged = gather(third, "tw-3", 600, average=False)
    assert merged.runs == () and "itself" not in card(merged, "en")
    # They are where it was exported after that.
    merge = storage.sha256_file(third / "hf" / "twjax_merge.json")
    later = record | {"files": {"twjax_merge.json": merge}}
    (third / "hf" / "twjax_export.json").write_text(json.dumps(later))
    assert len(gather(third, "tw-3", 600, average=False).runs) == 2


@pytest.mark.parametrize(
    "record", ["[]", "{}", '{"source": {"lineage": null}}', '{"source": {"lineage": {"base": 3}}}']
)
def test_an_export_that_records_nothing_is_said_to(run, record):
    (run / "hf" / "twjax_export.json").write_text(record)
    text = card(gather(run, "m", 600, average=False), "en")
    assert "was written by twjax; what it was trained on is not recorded" in text


def test_what_was_kept_is_counted_from_the_run_before_if_there_was_one(tmp_path):
    make_run(tmp_path / "first", ratios=dict.fromkeys(TASKS, 0.9))
    second = make_steered(tmp_path / "second", ratios=dict.fromkeys(TASKS, 0.9))
    text = (second / "config.gin").read_text()
    (tmp_path / "first" / "config.gin").write_text(text)
    (second / "config.gin").write_text(
        text.replace(f"run:{tmp_path / 'base'}", f"run:{tmp_path / 'first'}")
    )
    _, sections = parts(card(gather(second, "m", 600, average=False), "en"))
    assert sections["What was forgotten"].strip().startswith("Compared with the end of first:")


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


def test_a_field_is_found_only_in_front():
    assert front_matter("---\nlicense: mit\n---\n", "license") == "mit"
    assert front_matter("# A\n---\nlicense: mit\n---\n", "license") == ""
    assert front_matter("license: mit\n", "license") == ""
    assert front_matter("---\nlanguage:\n- zh\nlicense:\n---\n", "license") == ""
