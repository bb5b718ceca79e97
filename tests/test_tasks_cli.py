"""`twjax tasks`: caches what a run reads, lists it, shows it; mistakes are one line."""

from __future__ import annotations

import re

import data_side
import pytest
from tiny import CONFIG

from twjax.cli import main
from twjax.data import rows


@pytest.fixture
def config(tmp_path):
    """A run on two corpora, one of them for evaluation only."""
    texts = data_side.texts()
    data_side.make_corpus(tmp_path / "a", texts[:40])
    data_side.make_corpus(tmp_path / "b", texts[40:], shards=1)
    text = CONFIG.format(cache=tmp_path / "cache")
    text = re.sub(r"Data.vocabulary = .*", f"Data.vocabulary = '{data_side.vocabulary()}'", text)
    text = re.sub(r"Mixture.stages = .*", "Mixture.stages = ((0, {'a': 1.0}),)", text)
    text += f"Data.corpora = {{'a': '{tmp_path / 'a'}', 'b': '{tmp_path / 'b'}'}}\n"
    path = tmp_path / "run.gin"
    path.write_text(text + "Data.held_out = ('b',)\n")
    return path


def test_cache_list_show(config, tmp_path, capsys):
    assert main(["tasks", "list", str(config)]) == 0
    assert capsys.readouterr().out.count(" no ") == 3
    assert main(["tasks", "cache", str(config), "--workers", "1"]) == 0
    first = capsys.readouterr().out.splitlines()
    assert [line.partition(";")[0] for line in first] == [
        "a train: cached",
        "a validation: cached",
        "b validation: cached",
    ]
    assert main(["tasks", "cache", str(config)]) == 0
    assert capsys.readouterr().out == "\n".join(first).replace(": cached", ": up to date") + "\n"
    assert rows.RowReader(tmp_path / "cache", "b", "validation", 32).info.documents == 20

    assert main(["tasks", "list", str(config)]) == 0
    listed = capsys.readouterr().out
    info = rows.RowReader(tmp_path / "cache", "a", "train", 32).info
    assert f"{info.rows:,}" in listed and listed.count(" yes ") == 3

    assert main(["tasks", "show", str(config), "b", "-n", "1000"]) == 0
    shown = capsys.readouterr().out
    # Marks, heads and line breaks between segments aside, the documents are there.
    assert shown.count("</s>") == shown.count("⟦<s>⟧") == 20
    shortest = data_side.texts()[40].splitlines()[-1]
    assert shortest[-10:] in shown


def test_choosing_tasks_and_splits(config, tmp_path, capsys):
    cache = str(tmp_path / "elsewhere")
    arguments = ["tasks", "cache", str(config), "--cache", cache, "--split", "validation"]
    assert main([*arguments, "--task", "a"]) == 0
    assert capsys.readouterr().out.startswith("a validation: cached")
    assert len(list((tmp_path / "elsewhere").rglob("info.json"))) == 1


def test_mistakes_are_one_line(config, capsys):
    cases = [
        (["cache", "--task", "absent"], "--task absent: the run reads a, b."),
        (["cache", "--split", "test"], "--split test: the run reads train, validation."),
        (["cache", "--workers", "0"], "--workers (0) must be at least 1."),
        (["cache", "--set", "Data.corpora = {'a': '/nowhere', 'b': '/nowhere'}"], "/nowhere"),
        (["cache", "--set", "Data.vocabulary = '/nowhere.model'"], "/nowhere.model: no such"),
        (["show", "absent"], "absent is not read by this run; it reads a (train)"),
        (["show", "a"], "no cached rows of task a, split train"),
    ]
    for (command, *rest), message in cases:
        assert main(["tasks", command, str(config), *rest]) == 1
        errors = capsys.readouterr().err.splitlines()
        assert len(errors) == 1 and message in errors[0], errors
