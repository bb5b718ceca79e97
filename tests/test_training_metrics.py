"""What a log keeps when a run goes on."""

from __future__ import annotations

import json
import pathlib
import time
from typing import Any

import jax.numpy as jnp
import pytest

from twjax.training.metrics import FILE, MetricsLog, set_aside


@pytest.fixture
def logged(tmp_path) -> pathlib.Path:
    """Evaluations of a and b at steps 0, 10 and 20, the last without b; steps up to 22."""
    records: list[dict[str, Any]] = [
        {"kind": "eval", "step": step, "task": task, "bits_per_byte": 2.0}
        for step in (0, 10, 20)
        for task in ("a", "b")
    ]
    records = records[:-1] + [{"kind": "train", "step": step, "loss": 1.0} for step in (5, 20, 22)]
    (tmp_path / FILE).write_text("".join(json.dumps(r) + "\n" for r in records))
    return tmp_path


def kept(folder: pathlib.Path, step: int, tasks: tuple[str, ...], **options: Any):
    keys = {("eval", task) for task in tasks}
    log = MetricsLog(folder, step=step, tokens=0, keys=keys, rows=lambda _: {}, **options)
    log.close()
    records = [json.loads(line) for line in (folder / FILE).read_text().splitlines()]
    evaluated = [(r["step"], r["task"]) for r in records if r["kind"] == "eval"]
    return log, evaluated, [r["step"] for r in records if r["kind"] == "train"]


def test_an_evaluation_that_was_cut_off_goes_and_later_steps_with_it(logged):
    log, evaluated, steps = kept(logged, 20, ("a", "b"))
    assert evaluated == [(0, "a"), (0, "b"), (10, "a"), (10, "b")] and steps == [5, 20]
    assert log.was_evaluated(10) and not log.was_evaluated(20)


def test_another_task_to_evaluate_takes_no_earlier_evaluation_away(logged):
    log, evaluated, _ = kept(logged, 20, ("a", "b", "c"))
    assert evaluated == [(0, "a"), (0, "b"), (10, "a"), (10, "b")]
    # At the step where the run goes on, the new task is missing.
    assert not log.was_evaluated(20)


def test_a_log_that_begins_anew_holds_nothing(logged):
    log, evaluated, steps = kept(logged, 0, ("a", "b"), anew=True)
    assert not evaluated and not steps and not log.was_evaluated(0)


def test_an_evaluation_without_held_out_rows_is_whole_when_all_else_is_there(tmp_path):
    keys = {("choice", "exam"), ("pairs", "exam"), ("writing", "samples")}
    whole = [
        {"kind": kind, "step": step, "task": task}
        for step in (0, 10)
        for kind, task in sorted(keys)
    ]

    def opened(records):
        (tmp_path / FILE).write_text("".join(json.dumps(r) + "\n" for r in records))
        log = MetricsLog(tmp_path, step=10, tokens=0, keys=keys, rows=lambda _: {})
        log.close()
        left = [json.loads(line) for line in (tmp_path / FILE).read_text().splitlines()]
        return log, left

    log, left = opened(whole)
    assert log.was_evaluated(10) and left == whole
    # A kill in its middle: it is done again as a whole.
    step = {"kind": "train", "step": 10, "loss": 1.0}
    for lost in range(3):
        cut = [step, *(r for n, r in enumerate(whole) if n != 3 + lost)]
        log, left = opened(cut)
        assert not log.was_evaluated(10) and log.was_evaluated(0)
        assert left == [step, *whole[:3]]


def test_the_time_of_pauses_is_kept_apart(tmp_path):
    log = MetricsLog(tmp_path, step=0, tokens=0, rows=lambda _: {})
    values = {name: jnp.float32(1) for name in ("loss", "grad_norm", "tokens")}
    began = time.time()
    log.train(1, values)
    log.train(2, values)
    log.flush(keep=1)
    log.pause(3.0)
    log.pause(0.5)
    log.flush()
    log.train(3, values)
    log.flush()
    log.close()
    records = [json.loads(line) for line in (tmp_path / FILE).read_text().splitlines()]
    assert [r["paused_seconds"] for r in records] == [0.0, 3.5, 0.0]
    times = [began, *(r["time"] for r in records), time.time()]
    assert times == sorted(times)


def test_what_is_set_aside_leaves_the_log_and_stays_aside_when_it_is_done_again(logged):
    before = (logged / FILE).read_text().splitlines()
    for _ in range(2):
        set_aside(logged, 10, 1)
        aside = (logged / "metrics-abandoned-1.jsonl").read_text().splitlines()
        assert aside == [line for line in before if json.loads(line)["step"] > 10]
        kept = (logged / FILE).read_text().splitlines()
        assert kept == [line for line in before if json.loads(line)["step"] <= 10]
