"""Which checkpoints stay, and weights alone at milestones."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest

from tests import tiny
from tests.keeping_side import arrays_of
from twjax.config import Checkpoint, ConfigError
from twjax.training import branch
from twjax.training.checkpoint import FOLDER, WEIGHTS, Checkpoints
from twjax.training.integrity import Trust, compare
from twjax.training.retention import Retention
from twjax.training.source import Source

# Evaluated and saved at each step; the newest stays, the sixth and the best, and weights of two.
KEPT = [
    part
    for binding in (
        "Run.steps = 10",
        "Evaluation.every = 1",
        "Checkpoint.every = 1",
        "Checkpoint.keep = 1",
        "Checkpoint.keep_every = 6",
        "Checkpoint.keep_best = 1",
        "Checkpoint.best_tasks = ('a', 'b')",
        "Checkpoint.export_every = 5",
        "Optimizer.ema = 0.5",
        # The first step is the best, by far: each is ruinous, and larger than the one before.
        "Schedule.kind = 'constant'",
        "Schedule.warmup_steps = 9",
        "Schedule.peak = 30.0",
    )
    for part in ("--set", binding)
]


def left_of(retention: Retention, steps: list[int]) -> list[int]:
    """Returns what stays of checkpoints that are saved one after another."""
    there: list[int] = []
    for step in steps:
        there.append(step)
        kept = retention.should_preserve([SimpleNamespace(step=step) for step in there])
        there = [step for step, stays in zip(there, kept, strict=True) if stays]
    return there


def scored(config: Checkpoint, folder, scores: dict[int, dict[str, float | None]]) -> Retention:
    retention = Retention(config, folder)
    for step, bits in scores.items():
        records = [{"task": task, "bits_per_byte": value} for task, value in bits.items()]
        retention.evaluated(step, [*records, {"kind": "choice", "task": "c", "accuracy": 1.0}])
    return retention


def test_multiples_stay_for_ever(tmp_path):
    steps = list(range(10, 110, 10))
    retention = Retention(Checkpoint(every=10, keep=2, keep_every=40), tmp_path)
    assert left_of(retention, steps) == [40, 80, 90, 100]
    # One that was asked for is nobody's multiple.
    assert left_of(retention, [40, 45, 50]) == [40, 50]


def test_the_best_by_the_mean_of_named_tasks_stay(tmp_path):
    config = Checkpoint(every=1, keep=1, keep_best=2, best_tasks=("a", "b"))
    scores = {
        1: {"a": 3.0, "b": 3.0, "c": 0.0},
        2: {"a": 1.0, "b": 2.0},
        3: {"a": 2.0, "b": 1.0},
        4: {"a": 0.5, "b": 0.6},
        5: {"a": 0.1},
        6: {"a": None, "b": 0.1},
        7: {"a": float("nan"), "b": 0.1},
        8: {"a": 9.0, "b": 9.0},
    }
    retention = scored(config, tmp_path, scores)
    # Of equal ones the earlier; of a task that isn't there, or isn't finite, nothing is known.
    assert left_of(retention, [1, 2, 3, 4, 5, 6, 7, 8]) == [2, 4, 8]
    retention.forget_after(3)
    assert left_of(retention, [1, 2, 3, 4, 5]) == [2, 3, 5]


def test_evaluations_of_before_are_read_from_the_log(tmp_path):
    config = Checkpoint(every=1, keep=1, keep_best=1, best_tasks=("a",))
    lines = [
        {"kind": "train", "step": 2, "loss": 1.0},
        {"kind": "eval", "step": 2, "task": "a", "bits_per_byte": 1.0},
        {"kind": "eval", "step": 3, "task": "a", "bits_per_byte": 2.0},
    ]
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert left_of(Retention(config, tmp_path), [2, 3, 4]) == [2, 4]


def test_what_a_rollback_may_need_stays(tmp_path):
    retention = Retention(Checkpoint(every=5, keep=1), tmp_path)
    retention.wanted = [lambda step: step <= 12]
    assert left_of(retention, [5, 10, 11, 15, 20, 25]) == [10, 25]
    # Who needs one of them and who needs another don't take each other's place.
    retention.wanted = [lambda step: step <= 6, lambda step: step <= 17]
    assert left_of(retention, [5, 10, 11, 15, 20, 25]) == [5, 15, 25]


@pytest.fixture(scope="module")
def run(config, tmp_path_factory):
    """A run that keeps by all rules at once, and what it has kept."""
    run_dir = tmp_path_factory.mktemp("kept") / "run"
    done = tiny.twjax("train", config, "--run-dir", run_dir, *KEPT)
    assert done.returncode == 0, done.stderr
    return run_dir


def numbered(folder) -> set[int]:
    return {int(path.name) for path in folder.iterdir() if path.name.isdigit()}


def best(run_dir) -> int:
    bits: dict[int, float] = {}
    for record in tiny.records(run_dir, "eval"):
        bits[record["step"]] = bits.get(record["step"], 0) + record["bits_per_byte"]
    return min((step for step in bits if step), key=lambda step: bits[step])


def test_a_run_keeps_by_all_rules_at_once(run):
    assert best(run) not in (6, 10)
    assert numbered(run / FOLDER) == {best(run), 6, 10}
    assert numbered(run / WEIGHTS) == {5, 10}
    for folder in [*(run / FOLDER).glob("[0-9]*"), *(run / WEIGHTS).glob("[0-9]*")]:
        assert compare(folder).trust is Trust.WHOLE


def check_last_weights(run_dir, elsewhere) -> None:
    """The weights alone of step 10 are those of its checkpoint, its average too."""
    for average in (False, True):
        whole = arrays_of(run_dir, 10, average)
        kept = (run_dir / FOLDER / "10").rename(elsewhere)
        alone = arrays_of(run_dir, 10, average)
        kept.rename(run_dir / FOLDER / "10")
        assert alone.keys() == whole.keys()
        for name in whole:
            np.testing.assert_array_equal(alone[name], whole[name], err_msg=name)


def test_weights_alone_are_those_of_the_checkpoint(run, tmp_path):
    check_last_weights(run, tmp_path / "10")
    with Checkpoints(run) as checkpoints:
        assert checkpoints.milestones == [5, 10]
        assert checkpoints.meta(5)["step"] == 5


def test_weights_alone_begin_other_runs_but_no_branch(run, config, tmp_path):
    step = 5
    assert Source.open(run, step).has_state is False
    assert Source.open(run).step == 10
    with pytest.raises(FileNotFoundError, match=r"no checkpoint of step 7; has .*, and the wei"):
        Source.open(run, 7)
    short = ["--set", "Run.steps = 1", "--set", "Schedule.warmup_steps = 0"]
    short += ["--set", f"Run.init = 'run:{run}@{step}'"]
    done = tiny.twjax("train", config, "--run-dir", tmp_path / "new", *short)
    assert done.returncode == 0, done.stderr
    first = [r for r in tiny.records(tmp_path / "new", "eval") if r["step"] == 0]
    there = [r for r in tiny.records(run, "eval") if r["step"] == step]
    for a, b in zip(first, there, strict=True):
        assert a["task"] == b["task"]
        assert a["bits_per_byte"] == pytest.approx(b["bits_per_byte"], rel=1e-6)
    with pytest.raises(ConfigError, match="of this step the weights alone are kept"):
        branch.begin(f"{run}@{step}", Source.open(run).run, tmp_path / "branch", False)
    assert not (tmp_path / "branch").exists()


@pytest.mark.slow
def test_a_run_that_goes_on_earlier_writes_its_weights_again(run, config, tmp_path):
    again = tmp_path / "run"
    shutil.copytree(run, again)
    shutil.rmtree(again / FOLDER / "10")
    largest = max((again / WEIGHTS / "10").rglob("*"), key=lambda path: path.stat().st_size)
    largest.write_bytes(b"")
    done = tiny.twjax("train", config, "--run-dir", again, *KEPT)
    assert done.returncode == 0, done.stderr
    assert numbered(again / FOLDER) == numbered(run / FOLDER)
    assert numbered(again / WEIGHTS) == {5, 10}
    assert compare(again / WEIGHTS / "10").trust is Trust.WHOLE


@pytest.mark.slow
def test_weights_that_a_kill_came_before_are_written_when_the_run_goes_on(run, config, tmp_path):
    again = tmp_path / "run"
    shutil.copytree(run, again)
    # As after a kill when the checkpoint had its name and the weights had none yet.
    shutil.rmtree(again / WEIGHTS / "10")
    done = tiny.twjax("train", config, "--run-dir", again, *KEPT)
    assert done.returncode == 0 and "all 10 steps are done" in done.stderr, done.stderr
    assert numbered(again / WEIGHTS) == {5, 10}
    assert compare(again / WEIGHTS / "10").trust is Trust.WHOLE
    check_last_weights(again, tmp_path / "10")


def test_a_rollback_removes_the_weights_of_later_steps(run, tmp_path):
    again = tmp_path / "run"
    shutil.copytree(run, again)
    with Checkpoints(again, Checkpoint(every=1)) as checkpoints:
        checkpoints.remove_after(6)
        assert max(checkpoints.steps) == 6
    assert numbered(again / WEIGHTS) == {5}


@pytest.mark.slow
def test_several_hosts_keep_what_one_keeps(config, tmp_path):
    run_dir = tmp_path / "run"
    hosts = [sys.executable, "-m", "launch.local", "--hosts", "2", "--devices-per-host", "1", "--"]
    done = subprocess.run(
        [*hosts, "train", config, "--run-dir", run_dir, *KEPT],
        env=tiny.environment(),
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert numbered(run_dir / FOLDER) == {best(run_dir), 6, 10}
    assert numbered(run_dir / WEIGHTS) == {5, 10}
    check_last_weights(run_dir, tmp_path / "10")
    for folder in [*(run_dir / FOLDER).glob("[0-9]*"), *(run_dir / WEIGHTS).glob("[0-9]*")]:
        assert compare(folder).trust is Trust.WHOLE
