"""The command line: help, exit codes, and errors in one line."""

from __future__ import annotations

import pytest

from tests import tiny
from twjax.cli import COMMANDS, main


@pytest.mark.parametrize("command", sorted(COMMANDS))
def test_every_command_explains_itself(command, capsys):
    with pytest.raises(SystemExit) as ended:
        main([command, "--help"])
    assert ended.value.code == 0
    text = capsys.readouterr().out
    assert len(text.splitlines()) > 5 and "--debug" in text


def test_an_error_is_one_line_and_debug_shows_where(capsys):
    assert main(["train", "configs/runs/nothing.gin"]) == 1
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and "No configuration file configs/runs/nothing.gin" in error
    assert main(["train", "configs/runs/nothing.gin", "--debug"]) == 1
    assert "Traceback" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["eval", "/nowhere"], "/nowhere: not a run directory"),
        (["generate", "/nowhere", "--prompt", "x"], "/nowhere: not a run directory"),
        (["generate", "/nowhere", "--tokens", "0"], "--tokens (0) must be at least 1"),
        (["report", "/nowhere"], "/nowhere"),
        (["tasks", "cache", "/nowhere.gin"], "/nowhere.gin"),
        (["corpus", "build", "/nowhere.gin"], "/nowhere.gin"),
        (["vocab", "train", "/nowhere.gin"], "/nowhere.gin"),
        (["plan", "configs/runs/llama3_8b.gin", "--topology", "v5q-128"], "v5q-128"),
    ],
)
def test_what_does_not_exist_is_named(arguments, message, capsys):
    assert main(arguments) == 1
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert "error:" in error and message in error


def test_doctor_finds_this_installation_sound():
    done = tiny.twjax("doctor")
    assert done.returncode == 0, done.stdout
    assert "jax 0." in done.stdout and "devices: 1" in done.stdout


@pytest.mark.slow
def test_a_run_is_scored_and_continued(tmp_path):
    config = tiny.write_config(tmp_path)
    run_dir = tmp_path / "run"
    assert tiny.twjax("train", config, "--run-dir", run_dir).returncode == 0
    scored = tiny.twjax("eval", run_dir, "--task", "b", "--json", tmp_path / "scores.json")
    assert scored.returncode == 0, scored.stderr
    logged = [r for r in tiny.records(run_dir, "eval") if r["task"] == "b"][-1]
    assert f"{logged['bits_per_byte']:.4f}" in scored.stdout
    earlier = tiny.twjax("eval", run_dir, "--step", "5")
    assert (
        earlier.returncode == 1 and "no checkpoint of step 5; has [3, 6, 9, 12]" in earlier.stderr
    )
    info = next(tmp_path.glob("cache/b/validation/*/f0/info.json"))
    info.write_text(info.read_text().replace('"sha256": "0"', '"sha256": "1"'))
    other = tiny.twjax("eval", run_dir, "--task", "b")
    assert other.returncode == 1 and "made with another vocabulary" in other.stderr
