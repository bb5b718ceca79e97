"""Runs that start from a base with an extended vocabulary: begun, resumed, refused."""

from __future__ import annotations

import json
import pathlib
import shutil

import numpy as np
import pytest

from tests import hub, tiny
from tests.test_vocab_extend_rows import NEW, OLD, record
from twjax import config
from twjax.cli import main
from twjax.config.extension import RECORD
from twjax.data.rows import RowWriter
from twjax.training.checkpoint import Checkpoints


def cache(folder: pathlib.Path, sha256: str, vocab: int) -> None:
    """Writes the tiny run's rows as a vocabulary with more ids would have made them."""
    for number, task in enumerate(("a", "b")):
        for split, count in (("train", 60 + 7 * number), ("validation", 11)):
            values = tiny.rows(np.random.default_rng([number, split == "train"]), count)
            if vocab > OLD:
                values["tokens"] = (values["tokens"] * 7) % vocab
            token_bytes = np.arange(vocab, dtype=np.int32) % 4
            with RowWriter(folder, task, split, tiny.SEQ, "f", token_bytes=token_bytes) as writer:
                writer.write(values)
                writer.finish(
                    documents=count,
                    text_bytes=100 * count,
                    vocabulary={"sha256": sha256, "size": vocab, "path": "none"},
                    ingredients={},
                )


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A base run of 6 steps, and what continues it with an extended vocabulary."""
    folder = tmp_path_factory.mktemp("place")
    cache(folder / "old", "0", OLD)
    cache(folder / "new", "1", OLD + NEW)
    (folder / "extended").mkdir()
    record(folder / "extended")
    short = ["Run.steps = 6", "Evaluation.every = 6", "Checkpoint.every = 2", "Run.log_every = 1"]
    (folder / "run.gin").write_text(
        tiny.CONFIG.format(cache=folder / "old") + "\n".join(short) + "\nMesh.tensor = 2\n"
    )
    assert main(["train", str(folder / "run.gin"), "--run-dir", str(folder / "base")]) == 0
    return folder


def command(place, run_dir, *bindings, init=None):
    settings = [f"Run.init = '{init or f'run:{place}/base'}'", f"Data.cache = '{place}/new'"]
    settings += [
        f"Data.vocabulary = '{place}/extended/none.model'",
        f"Model.vocab_size = {OLD + NEW}",
    ]
    settings += ["Optimizer.new_rows_steps = 3", *bindings]
    sets = [part for binding in settings for part in ("--set", binding)]
    return ["train", str(place / "run.gin"), "--run-dir", str(run_dir), *sets]


def params_of(run_dir: pathlib.Path, step: int):
    with Checkpoints(run_dir) as checkpoints:
        return {
            name: array.read(tuple(slice(0, n) for n in array.shape))
            for name, array in checkpoints.arrays(step).items()
        }


@pytest.fixture(scope="module")
def continued(place):
    assert main(command(place, place / "more")) == 0
    return place / "more"


@pytest.mark.slow
def test_a_run_trains_its_new_rows_first(place, continued):
    base, early, late = (
        params_of(place / "base", 6),
        params_of(continued, 2),
        params_of(continued, 6),
    )
    assert base.keys() == early.keys() == late.keys()
    for name in base.keys() - {"embedding", "head"}:
        np.testing.assert_array_equal(early[name], base[name])
        assert (late[name] != base[name]).any()
    for name in ("embedding", "head"):
        first, then, last = (x[name].T if name == "head" else x[name] for x in (base, early, late))
        np.testing.assert_array_equal(then[:OLD], first[:OLD])
        assert np.abs(last[:OLD] - first[:OLD]).max() > 1e-4
        assert np.linalg.norm(then[OLD : OLD + NEW], axis=1).min() > 0.01
        assert not then[OLD + NEW :].any()
    event = json.loads((continued / "ledger.jsonl").read_text().splitlines()[0])
    assert event["source"]["new_rows"] == {"first": OLD, "stop": OLD + NEW, "kind": "mean"}


@pytest.mark.slow
@pytest.mark.parametrize("kept", [2, 4])
def test_resuming_gives_the_same_bits_and_draws_no_rows_again(place, continued, tmp_path, kept):
    run_dir = tmp_path / "again"
    shutil.copytree(continued, run_dir)
    for folder in (run_dir / "checkpoints").iterdir():
        if folder.name.isdigit() and int(folder.name) > kept:
            shutil.rmtree(folder)
    # Neither the base nor the record is needed any more.
    hidden = place / "extended" / RECORD
    content = hidden.read_text()
    hidden.unlink()
    (place / "base").rename(place / "away")
    try:
        assert main(command(place, run_dir)) == 0
    finally:
        hidden.write_text(content)
        (place / "away").rename(place / "base")
    one, other = params_of(continued, 6), params_of(run_dir, 6)
    for name, values in one.items():
        np.testing.assert_array_equal(values, other[name])


@pytest.mark.slow
def test_a_run_from_an_extended_run_adds_nothing(place, continued, tmp_path, capsys):
    more = command(place, tmp_path / "next", "Run.steps = 4", init=f"run:{continued}")
    assert main(more) == 0
    base, early = params_of(continued, 6), params_of(tmp_path / "next", 2)
    np.testing.assert_array_equal(base["layers/q"], early["layers/q"])
    np.testing.assert_array_equal(base["embedding"][:OLD], early["embedding"][:OLD])
    assert (base["embedding"][OLD : OLD + NEW] != early["embedding"][OLD : OLD + NEW]).any()


@pytest.mark.slow
def test_two_processes_make_the_same_rows(place, continued, tmp_path):
    tiny.twjax_pair(*command(place, tmp_path / "pair"))
    one, other = params_of(continued, 2), params_of(tmp_path / "pair", 2)
    for name, values in one.items():
        np.testing.assert_allclose(values, other[name], atol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["hf", "run"])
def test_a_published_model_gets_its_rows(place, tmp_path, kind):
    original = hub.write(tmp_path / "hub", hub.tensors("bfloat16"), 2)
    init = f"hf:{original}"
    if kind == "run":
        assert main(["convert", "from-hf", str(original), str(tmp_path / "model")]) == 0
        init = f"run:{tmp_path}/model"
    more = command(place, tmp_path / "run", "Run.new_rows = 'mean'", init=init)
    assert main(more) == 0
    theirs, early = hub.tensors("bfloat16"), params_of(tmp_path / "run", 2)
    table = theirs["model.embed_tokens.weight"].astype(np.float32)
    np.testing.assert_array_equal(early["embedding"][:OLD], table)
    np.testing.assert_array_equal(
        early["head"].T[:OLD], theirs["lm_head.weight"].astype(np.float32)
    )
    assert main(["convert", "to-hf", str(tmp_path / "run"), str(tmp_path / "out")]) == 0
    exported = json.loads((tmp_path / "out" / "twjax_export.json").read_text())
    assert f"config.json: vocab_size was {OLD}, is {OLD + NEW}" in exported["changes"]
    assert any(
        "embed_tokens.weight: shape [96, 16] became [136, 16]" in c for c in exported["changes"]
    )


@pytest.mark.parametrize(
    ("bindings", "message"),
    [
        (["Model.vocab_size = 200"], "Model.vocab_size (200) must be 136"),
        (["Data.vocabulary = 'none'"], "Optimizer.new_rows_steps (3) does nothing here"),
        (["Data.vocabulary = 'none'", "Optimizer.new_rows_steps = 0", "Run.new_rows = 'zero'"],
         "Run.new_rows ('zero') does nothing here"),
        (["Data.vocabulary = 'none'", "Optimizer.new_rows_steps = 0"], "another vocabulary"),
        (["Run.init = None"], "Optimizer.new_rows_steps (3) does nothing here"),
        (["Run.init = None", "Optimizer.new_rows_steps = 0", "Run.new_rows = 'zero'"],
         "Run.new_rows ('zero') does nothing here"),
        (["Optimizer.new_rows_steps = 7"], "(7) is more than Run.steps (6)"),
        (["Model.norm_eps = 1e-6"], "Model.norm_eps"),
    ],
)  # fmt: skip
def test_settings_that_do_not_fit_are_refused(place, tmp_path, capsys, bindings, message):
    assert main(command(place, tmp_path / "run", *bindings)) == 1
    assert message in (said := capsys.readouterr().err)
    assert len(said.strip().splitlines()) == 1, said


def test_an_extension_of_another_vocabulary_is_refused(place, tmp_path, capsys):
    (tmp_path / "other").mkdir()
    record(tmp_path / "other", base="2")
    binding = f"Data.vocabulary = '{tmp_path}/other/none.model'"
    assert main(command(place, tmp_path / "run", binding)) == 1
    assert "was extended from another vocabulary" in capsys.readouterr().err


def test_older_runs_still_load(place):
    text = (place / "base" / "config.gin").read_text()
    without = "\n".join(line for line in text.splitlines() if "new_rows" not in line)
    old = tmp = place / "old.gin"
    tmp.write_text(without)
    run = config.load(config.Run, [old]).value
    assert (run.new_rows, run.optimizer.new_rows_steps) == ("mean", 0)
