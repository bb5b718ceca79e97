"""Runs that start from somebody's weights, and give them back.

Commands run in this process, which has eight devices: starting one takes longer than they do.
"""

from __future__ import annotations

import json

import numpy as np
import pytest

from tests import hub, tiny
from twjax.cli import main

SHORT = ["Run.steps = 4", "Run.log_every = 1", "Evaluation.every = 4", "Checkpoint.every = 4"]
SHORT += ["Schedule.warmup_steps = 1"]
SHORT = [part for binding in SHORT for part in ("--set", binding)]


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    return tiny.write_config(tmp_path_factory.mktemp("run"))


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    return hub.write(tmp_path_factory.mktemp("hub") / "original", hub.tensors("bfloat16"), 3)


@pytest.fixture(scope="module")
def model(original):
    assert twjax("convert", "from-hf", original, original.parent / "model") == 0
    return original.parent / "model"


def twjax(*arguments):
    return main([str(argument) for argument in arguments])


def train(config, run_dir, init, *extra):
    arguments = ["--set", f"Run.init = '{init}'", *SHORT, *extra]
    return twjax("train", config, "--run-dir", run_dir, *arguments)


@pytest.fixture(scope="module")
def direct(config, original, tmp_path_factory):
    run_dir = tmp_path_factory.mktemp("direct") / "run"
    assert train(config, run_dir, f"hf:{original}") == 0
    return run_dir


def test_a_folder_and_what_was_made_from_it_start_the_same_run(
    config, direct, model, tmp_path, capsys
):
    assert train(config, tmp_path / "run", f"run:{model}", "--set", "Mesh.tensor = 2") == 0
    assert "loss on fixed tokens" in capsys.readouterr().err
    a, b = tiny.losses(direct), tiny.losses(tmp_path / "run")
    assert list(a) == list(b) == [1, 2, 3, 4]
    np.testing.assert_allclose([a[s] for s in a], [b[s] for s in b], rtol=2e-5)


@pytest.mark.slow
def test_two_processes_read_their_own_slices(config, direct, original, tmp_path):
    arguments = ["train", config, "--run-dir", tmp_path / "pair", "--set"]
    arguments += [f"Run.init = 'hf:{original}'", *SHORT, "--set", "Mesh.tensor = 2"]
    tiny.twjax_pair(*arguments)
    a, b = tiny.losses(direct), tiny.losses(tmp_path / "pair")
    np.testing.assert_allclose([a[s] for s in a], [b[s] for s in b], rtol=2e-5)


def test_a_trained_run_goes_back_with_all_that_came_along(direct, original, tmp_path):
    assert twjax("convert", "to-hf", direct, tmp_path / "out", "--no-card") == 0
    before, after = hub.contents(original), hub.contents(tmp_path / "out")
    record = json.loads(after.pop("twjax_export.json"))
    assert record["source"]["step"] == 4 and record["changes"] == []
    weights = {name for name in before if name.endswith(".safetensors")}
    assert {n: b for n, b in after.items() if n not in weights} == {
        n: b for n, b in before.items() if n not in weights
    }
    for name in weights:
        assert len(after[name]) == len(before[name]) and after[name] != before[name]
    # What was given back can be taken again.
    assert twjax("convert", "from-hf", tmp_path / "out", tmp_path / "again") == 0


def test_an_export_of_a_run_has_a_model_card_and_nothing_else_more(direct, original, tmp_path):
    assert twjax("convert", "to-hf", direct, tmp_path / "out") == 0
    assert twjax("convert", "to-hf", direct, tmp_path / "plain", "--no-card") == 0
    cards, plain = hub.contents(tmp_path / "out"), hub.contents(tmp_path / "plain")
    record = json.loads(cards.pop("twjax_export.json"))
    assert record["changes"] == ["README.md, README.zh-TW.md: the model card"]
    assert "README.md" in record["files"] and plain.pop("twjax_export.json")
    told = {name: cards.pop(name).decode() for name in ("README.md", "README.zh-TW.md")}
    assert cards == plain
    assert (
        "out is original, trained further on the texts below with twjax: 4 steps"
        in (told["README.md"])
    )
    last = [r for r in tiny.records(direct, "eval") if r["task"] == "a"][-1]
    assert f"{last['bits_per_byte']:.3f}" in told["README.zh-TW.md"]
    # A model that was only imported has nothing of its own to tell.
    assert "README" not in str(list(hub.contents(original)))


def test_an_export_that_is_trained_further_tells_of_both_runs(config, direct, tmp_path, capsys):
    first, second = tmp_path / "first", tmp_path / "second"
    assert twjax("convert", "to-hf", direct, first, "--base-model", "org/Tiny-1B") == 0
    assert 'base_model: "org/Tiny-1B"' in (first / "README.md").read_text()
    assert train(config, tmp_path / "run", f"hf:{first}") == 0
    assert twjax("convert", "to-hf", tmp_path / "run", second) == 0
    told = (second / "README.md").read_text("utf-8")
    assert "base_model" not in told
    assert "second is first, trained further on the texts below with twjax: 4 steps" in told
    assert "first itself is org/Tiny-1B, trained further with twjax" in told
    rows = tiny.records(direct, "train")[-1]["rows"]
    assert f"| {rows['a']:,} |" in told.split("Read before that, by first, in 4 steps")[1]
    # The card that came along is of other weights: without one of its own there is none.
    assert twjax("convert", "to-hf", tmp_path / "run", tmp_path / "plain", "--no-card") == 0
    assert not list((tmp_path / "plain").glob("*.md"))
    record = json.loads((tmp_path / "plain" / "twjax_export.json").read_text())
    assert record["changes"] == ["README.md, README.zh-TW.md: left out, the model card of the base"]
    assert [run["name"] for run in record["source"]["lineage"]["runs"]] == ["first", "plain"]
    # Weights that are only handed on keep it, with what is recorded of them.
    assert twjax("convert", "from-hf", first, tmp_path / "model", "--no-probe") == 0
    assert twjax("convert", "to-hf", tmp_path / "model", tmp_path / "again") == 0
    assert (tmp_path / "again" / "README.md").read_bytes() == (first / "README.md").read_bytes()
    records = [
        json.loads((folder / "twjax_export.json").read_text())["source"]["lineage"]
        for folder in (first, tmp_path / "again")
    ]
    assert records[0] == records[1] and records[0]["base"]["hub_id"] == "org/Tiny-1B"
    capsys.readouterr()
    assert twjax("convert", "to-hf", direct, tmp_path / "no", "--base-model", "/models/x") == 1
    assert "ORGANIZATION/NAME" in capsys.readouterr().err and not (tmp_path / "no").exists()


def test_a_model_is_scored_on_the_data_of_a_configuration(config, direct, model, capsys):
    scored = model.parent / "scores.json"
    assert twjax("eval", model, "--config", config, "--json", scored) == 0
    scores = json.loads(scored.read_text())["scores"]
    first = [record for record in tiny.records(direct, "eval") if record["step"] == 0]
    assert {s["task"] for s in scores} == {"a", "b"}
    for score, record in zip(scores, first, strict=True):
        np.testing.assert_allclose(score["bits_per_byte"], record["bits_per_byte"], rtol=1e-5)
    capsys.readouterr()
    assert twjax("eval", model) == 1 and "--config" in capsys.readouterr().err


def test_a_loss_that_moved_is_refused(config, model, tmp_path, capsys):
    record = model / "twjax_import.json"
    fields = json.loads(record.read_text())
    spoilt = fields | {"probe": fields["probe"] | {"loss": fields["probe"]["loss"] - 0.1}}
    record.write_text(json.dumps(spoilt))
    try:
        assert train(config, tmp_path / "run", f"run:{model}") == 1
        error = capsys.readouterr().err
        assert "Run.init_tolerance (0.05)" in error, error
        wide = ("--set", "Run.init_tolerance = 0.2")
        assert train(config, tmp_path / "run", f"run:{model}", *wide) == 0
    finally:
        record.write_text(json.dumps(fields))


@pytest.mark.parametrize(
    "binding, message",
    [
        ("Model.norm_eps = 1e-6", "Model.norm_eps 1e-05 there, 1e-06 here"),
        ("Schedule.start = 'source'", "has no final learning rate"),
    ],
)
@pytest.mark.parametrize("kind", ["hf", "run"])
def test_another_network_or_rate_is_refused(
    config, original, model, tmp_path, capsys, kind, binding, message
):
    init = f"hf:{original}" if kind == "hf" else f"run:{model}"
    capsys.readouterr()
    assert train(config, tmp_path / "run", init, "--set", binding) == 1
    error = capsys.readouterr().err
    assert message in error and "Traceback" not in error
    assert len(error.strip().splitlines()) == 1, error
