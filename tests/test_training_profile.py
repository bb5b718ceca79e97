"""Traces of a real run's steps: what is written, read back and printed."""

from __future__ import annotations

import re
import signal
import subprocess
import sys

import pytest
from jax.profiler import ProfileData

from tests import tiny
from twjax.config.profile import Steps
from twjax.training.profiling import newest, operations, own_times

SHORT = ("--set", "Evaluation.tasks = ()", "--set", "Checkpoint.every = 4")


def marked(path) -> list[int]:
    """Returns the steps that a trace has marks of."""
    steps = set()
    for plane in ProfileData.from_file(str(path)).planes:
        for line in plane.lines:
            steps |= {dict(event.stats)["step_num"] for event in line.events
                      if event.name == "train"}  # fmt: skip
    return sorted(steps)


@pytest.fixture(scope="module")
def traced(config, tmp_path_factory):
    """A run of two devices that traced steps 5 to 7."""
    run_dir = tmp_path_factory.mktemp("traced") / "run"
    done = tiny.twjax(
        "train", config, "--run-dir", run_dir, *SHORT, "--profile", "5:7", devices=2
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return run_dir, done.stderr


def test_the_trace_has_these_steps_and_their_operations(traced):
    run_dir, _ = traced
    path = newest(run_dir / "profile")
    assert marked(path) == [5, 6, 7]
    found, devices = operations(path)
    assert devices == 2 and sum("dot" in op.name or "fusion" in op.name for op in found) > 5
    assert [op.seconds for op in found] == sorted((op.seconds for op in found), reverse=True)
    # The layers run in a loop, whose own time is not theirs.
    (loop, *_) = (op for op in found if op.name.startswith("while"))
    assert loop.seconds < sum(op.seconds for op in found) / 2
    assert all(op.count % 3 == 0 for op in found[:3])


def test_the_run_prints_the_slowest(traced):
    run_dir, said = traced
    (head,) = re.findall(r"profile: steps 5 to 7 in (\S+); a step's ([\d.]+) ms of a device:", said)
    assert head[0].startswith(str(run_dir / "profile")) and float(head[1]) > 0
    rows = re.findall(r"^ +([\d.]+) ms +([\d.]+)% +[\d.]+ ×  (\S+)$", said, re.MULTILINE)
    slowest, _ = operations(newest(run_dir / "profile"))
    assert [row[2] for row in rows] == [op.name for op in slowest[:15]]
    shares = [float(row[1]) for row in rows]
    assert shares == sorted(shares, reverse=True) and 5 < sum(shares) <= 100.1


@pytest.mark.slow
def test_a_trace_changes_no_loss(traced, config, tmp_path):
    done = tiny.twjax("train", config, "--run-dir", tmp_path / "run", *SHORT, devices=2)
    assert done.returncode == 0 and "profile" not in done.stderr
    assert tiny.losses(tmp_path / "run") == tiny.losses(traced[0])


@pytest.mark.slow
def test_a_run_that_resumes_traces_what_is_left(config, tmp_path):
    run_dir = tmp_path / "run"
    words = ["train", config, "--run-dir", run_dir, *SHORT]
    assert tiny.twjax(*words, "--set", "Run.steps = 8").returncode == 0
    done = tiny.twjax(*words, "--allow-change", "--profile", "7:10")
    assert done.returncode == 0, done.stderr
    assert "tracing begins with step 9" in done.stderr
    assert marked(newest(run_dir / "profile")) == [9, 10]
    assert "steps 9 to 10" in done.stderr
    words += ["--set", "Run.steps = 13", "--allow-change", "--profile", "7:10"]
    done = tiny.twjax(*words)
    assert done.returncode == 0, done.stderr
    assert "nothing of steps 7 to 10 is traced" in done.stderr and "ms of a" not in done.stderr


@pytest.mark.slow
def test_a_run_that_is_asked_to_stop_keeps_what_it_traced(config, tmp_path):
    run_dir = tmp_path / "run"
    words = ["train", str(config), "--run-dir", str(run_dir), *tiny.LONG]
    words += ["--set", "Run.steps = 100_000", "--profile", "3:100000"]
    process = subprocess.Popen(
        [sys.executable, "-m", "twjax", *words], env=tiny.environment(), text=True,
        stderr=subprocess.PIPE,
    )  # fmt: skip
    tiny.wait_for_step(run_dir, 5, process)
    process.send_signal(signal.SIGTERM)
    said = process.communicate(timeout=120)[1]
    assert process.returncode == 0, said
    assert "ms of a device:" in said
    assert marked(newest(run_dir / "profile"))[:3] == [3, 4, 5]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("13:10", "the last step comes before the first"),
        ("10:13", r"ends with step 12 \(Run\.steps\)"),
        ("0:3", "first step of a run is 1"),
        ("a:b", "as numbers, as in 10:13"),
        ("1.5:3", "as numbers"),
        ("-1:3", "as numbers"),
        (":3", "as numbers"),
        ("3:", "as numbers"),
        ("3:4:5", "as numbers"),
        ("²:3", "as numbers"),
    ],
)
def test_wrong_steps_are_refused_with_the_reason(text, words):
    with pytest.raises(ValueError, match=f"--profile {re.escape(text)}: .*{words}"):
        Steps.parse(text, 12)


def test_steps_are_refused_before_anything_is_made(config, tmp_path):
    done = tiny.twjax("train", config, "--run-dir", tmp_path / "run", "--profile", "9:99")
    assert done.returncode == 1 and "the run ends with step 12" in done.stderr
    assert not (tmp_path / "run").exists()


def test_one_step_alone():
    assert Steps.parse("3", 12) == Steps(3, 3) == Steps.parse("3:3", 12)
    assert 3 in Steps(3, 4) and 5 not in Steps(3, 4)


def test_own_time_is_what_others_leave():
    events = [
        (0.0, 10.0, "loop"),
        (1.0, 4.0, "a"),
        (2.0, 1.0, "b"),
        (5.0, 2.0, "a"),
        (20.0, 1, "c"),
    ]
    found = sorted(own_times(events))
    assert found == [("a", 2.0), ("a", 3.0), ("b", 1.0), ("c", 1), ("loop", 4.0)]
