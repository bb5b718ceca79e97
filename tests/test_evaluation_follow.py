"""`twjax eval --follow`: it keeps up, survives what is deleted, and the trainer never notices."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import threading
import time

import jax
import numpy as np
import pytest

from tests import tiny
from twjax import storage
from twjax.config import Checkpoint, ConfigError
from twjax.evaluation import follow, records
from twjax.evaluation.batching import NotANumber
from twjax.evaluation.records import Records
from twjax.models.network import network as declare
from twjax.parallel.mesh import make_mesh
from twjax.training import ledger
from twjax.training.source import Source

STEPS = tiny.LONG_STEPS


def follower(run_dir, *arguments):
    return subprocess.Popen(
        [sys.executable, "-m", "twjax", "eval", "--follow", run_dir, *map(str, arguments)],
        env=tiny.environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def recorded(run_dir):
    """Returns {(step, task): record} of what was evaluated beside the run; each is there once."""
    records = storage.read_json_lines(run_dir / "evaluations.jsonl")
    found = {(r["step"], r["task"]): r for r in records}
    assert len(found) == len(records)
    return found


def same(mine, logged):
    return {k: v for k, v in mine.items() if k != "seconds"} == {
        k: v for k, v in logged.items() if k != "seconds"
    }


@pytest.mark.slow
def test_a_live_run_is_followed_and_does_not_notice(config, unbroken, tmp_path):
    run_dir = tmp_path / "run"
    # The follower is there first.
    beside = follower(run_dir, "--idle-timeout", 120)
    sets = ["Checkpoint.every = 6", "Checkpoint.keep = 2"]
    arguments = [part for binding in sets for part in ("--set", binding)]
    done = tiny.twjax("train", config, "--run-dir", run_dir, *tiny.LONG, *arguments)
    assert done.returncode == 0, done.stderr
    output, _ = beside.communicate(timeout=120)
    assert beside.returncode == 0, output
    assert tiny.losses(run_dir) == tiny.losses(unbroken[0])
    found = recorded(run_dir)
    logged = {(r["step"], r["task"]): r for r in tiny.records(run_dir, "eval")}
    # The newest ones stay for good, so that they can't have been missed.
    assert {(STEPS, "a"), (STEPS, "b"), (STEPS - 6, "a")} <= found.keys() <= logged.keys()
    for key, record in found.items():
        assert same(record, logged[key]), (record, logged[key])
    assert f"{len(found) // 2} checkpoint(s) evaluated" in output


@pytest.mark.slow
def test_kill_dash_nine_of_the_follower_neither_repeats_nor_loses(config, unbroken, tmp_path):
    run_dir = tmp_path / "run"
    shutil.copytree(unbroken[0], run_dir)
    chance = random.Random(0)
    beside = follower(run_dir, "--rows", 4)
    log = run_dir / "evaluations.jsonl"
    while beside.poll() is None and not storage.read_json_lines(log):
        time.sleep(0.002)
    time.sleep(chance.random() * 0.1)
    beside.kill()
    beside.communicate()
    assert beside.returncode == -signal.SIGKILL
    before = len(storage.read_json_lines(log)) // 2
    with log.open("a") as file:
        file.write('{"kind": "eval", "step": 7, "ta')
    end = follower(run_dir, "--rows", 4)
    output, _ = end.communicate(timeout=120)
    assert end.returncode == 0, output
    steps = follow.steps_on_disk(run_dir)
    assert 0 < before < len(steps)
    assert f"{len(steps) - before} checkpoint(s) evaluated" in output
    assert recorded(run_dir).keys() == {(step, task) for step in steps for task in ("a", "b")}
    # One by hand, of a task that was left out; what is there stays.
    log.write_text("".join(x for x in log.open() if '"task": "b"' not in x))
    one = tiny.twjax("eval", run_dir, "--record", "--rows", 4)
    assert one.returncode == 0, one.stderr
    assert (STEPS, "b") in recorded(run_dir)
    assert f"step {STEPS} has a (eval) already; not recorded again." in one.stderr


@pytest.mark.slow
def test_several_processes_record_what_one_does(unbroken, tmp_path):
    run_dir = tmp_path / "run"
    shutil.copytree(unbroken[0], run_dir)
    command = ["-m", "launch.local", "--hosts", "2", "--", "eval", run_dir, "--record"]
    done = subprocess.run(
        [sys.executable, *map(str, command), "--rows", "4"],
        env=tiny.environment(),
        capture_output=True,
        text=True,
        # A process that waits for one that is gone does so for five minutes.
        timeout=200,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count(f"at step {STEPS}") == 1
    found = recorded(run_dir)
    assert found.keys() == {(STEPS, "a"), (STEPS, "b")}
    logged = {r["task"]: r for r in tiny.records(run_dir, "eval") if r["step"] == STEPS}
    for (_, task), record in found.items():
        assert record["train_tokens"] == logged[task]["train_tokens"] and record["rows"] == 4


@pytest.mark.slow
def test_what_is_read_while_it_is_deleted_is_whole_or_left_out(unbroken, tmp_path):
    run_dir = tmp_path / "run"
    shutil.copytree(unbroken[0], run_dir)
    source, kept = Source.open(run_dir), Source.open(unbroken[0])
    network, mesh = declare(source.run.model), make_mesh(source.run.mesh)
    chance = random.Random(0)
    threads = []

    def delete(step, seconds):
        time.sleep(seconds)
        shutil.rmtree(run_dir / "checkpoints" / str(step), ignore_errors=True)

    with jax.set_mesh(mesh):
        theirs, mine = kept.reader(network, mesh), source.reader(network, mesh)
        read = follow.reading(run_dir, mine)
        # Compiled, and how long it takes.
        began = time.perf_counter()
        read(source.step)
        usual = time.perf_counter() - began

        def hurried(step):
            if chance.random() < 0.8:
                threads.append(
                    threading.Thread(target=delete, args=(step, chance.random() * usual))
                )
                threads[-1].start()
            return read(step)

        def score(params, step):
            equal = jax.tree.map(np.array_equal, params, theirs(step))
            return [{"kind": "pairs", "task": "same", "preferred": all(jax.tree.leaves(equal))}]

        parts = [follow.Part(frozenset({("pairs", "same")}), score)]
        steps = follow.steps_on_disk(run_dir)
        tally = follow.Follower(run_dir, hurried, parts).follow()
    for thread in threads:
        thread.join()
    assert tally.evaluated and tally.gone and not tally.broken
    assert tally.evaluated | tally.gone == steps
    records = storage.read_json_lines(run_dir / "evaluations.jsonl")
    assert {r["step"] for r in records} == tally.evaluated and all(r["preferred"] for r in records)


def fake_run(run_dir, steps):
    """Writes what a follower looks at before it reads weights."""
    run_dir.mkdir(parents=True, exist_ok=True)
    for step in steps:
        add_checkpoint(run_dir, step)
    ledger.append(run_dir, "start", 0)
    return run_dir


def add_checkpoint(run_dir, step):
    folder = run_dir / "checkpoints" / str(step)
    (folder / "state").mkdir(parents=True)
    (folder / "state" / "array").write_text(f"weights of {step}")


@pytest.fixture(autouse=True)
def impatient(monkeypatch):
    monkeypatch.setattr(follow, "POLL_SECONDS", 0.01)


def about(step):
    return {"kind": "eval", "step": step, "train_tokens": 64 * step}


def reader(run_dir):
    def read(step):
        text = (run_dir / "checkpoints" / str(step) / "state" / "array").read_text()
        assert text == f"weights of {step}"
        return {}, about(step)

    return read


def scores(seen):
    def score(params, step):
        seen.append(step)
        return [{"task": "a", "bits_per_byte": 1.0 / step}]

    return [follow.Part(frozenset({("eval", "a")}), score)]


def counts(tally):
    return len(tally.evaluated), len(tally.gone), len(tally.broken)


def test_the_newest_comes_first_and_those_before_it_after(tmp_path):
    run_dir, seen = fake_run(tmp_path / "run", [10, 20, 30]), []
    parts = scores(seen)

    def read(step):
        if step == 20 and 40 not in follow.steps_on_disk(run_dir):
            add_checkpoint(run_dir, 40)
        return reader(run_dir)(step)

    ledger.append(run_dir, "finish", 40)
    tally = follow.Follower(run_dir, read, parts).follow()
    assert seen == [30, 20, 40, 10] and counts(tally) == (4, 0, 0)
    seen.clear()
    # Only what was not evaluated of a step is.
    more = follow.Part(frozenset({("pairs", "p")}), lambda params, step: [
        {"kind": "pairs", "task": "p", "preferred": 0.5}
    ])  # fmt: skip
    tally = follow.Follower(run_dir, read, [*parts, more], every=20).follow()
    assert not seen and len(tally.evaluated) == 2
    records = storage.read_json_lines(run_dir / "evaluations.jsonl")
    assert [r["step"] for r in records if r["kind"] == "pairs"] == [40, 20]


def exam(shots, seen):
    def score(params, step):
        seen.append((step, shots))
        return [{"kind": "choice", "task": "exam", "shots": shots, "accuracy": 0.25}]

    key = ("choice", "exam")
    return [follow.Part(frozenset({key}), score, {key: {"shots": shots}})]


@pytest.mark.parametrize("apart", [False, True])
def test_another_suite_is_evaluated_where_the_log_tells_it_apart(
    apart, tmp_path, monkeypatch, capsys
):
    """What is asked otherwise under the same name is another evaluation, or is said to be none."""

    def key_of(record):
        return record["kind"], record["task"], record.get("shots") if apart else None

    for module in (records, follow):
        monkeypatch.setattr(module, "key_of", key_of)
    run_dir, seen = fake_run(tmp_path / "run", [10, 20]), []
    ledger.append(run_dir, "finish", 20)
    for shots in (0, 0, 5, 5):
        follow.Follower(run_dir, reader(run_dir), exam(shots, seen)).follow()
    said = capsys.readouterr().err
    there = storage.read_json_lines(run_dir / "evaluations.jsonl")
    found = [(r["step"], r["shots"]) for r in there]
    told = "exam (choice) was evaluated with other settings at 2 step(s), and isn't again"
    if apart:
        assert found == seen == [(20, 0), (10, 0), (20, 5), (10, 5)] and told not in said
    else:
        # Once by each follower.
        assert found == seen == [(20, 0), (10, 0)] and said.count(told) == 2
    # A step without any is evaluated, whatever others have.
    add_checkpoint(run_dir, 30)
    follow.Follower(run_dir, reader(run_dir), exam(5, seen)).follow()
    assert seen[len(found) :] == [(30, 5)]


def test_a_record_that_does_not_say_how_it_was_asked_is_not_waited_for(tmp_path):
    run_dir, seen = fake_run(tmp_path / "run", [10]), []
    ledger.append(run_dir, "finish", 10)
    (part,) = scores(seen)
    part = follow.Part(part.keys | {("eval", "b")}, part.score)
    assert follow.Follower(run_dir, reader(run_dir), [part]).follow().evaluated == {10}
    assert seen == [10]


def test_a_checkpoint_that_goes_while_it_is_read_counts_for_nothing(tmp_path, capsys):
    run_dir, seen = fake_run(tmp_path / "run", [10, 20, 30]), []

    def read(step):
        if step == 30:
            # As a reader sees it for which what is missing is zero.
            shutil.rmtree(run_dir / "checkpoints" / "30" / "state")
        elif step == 20:
            shutil.rmtree(run_dir / "checkpoints" / "20")
            raise ValueError("no such checkpoint")
        return {}, about(step)

    ledger.append(run_dir, "finish", 30)
    tally = follow.Follower(run_dir, read, scores(seen)).follow()
    assert seen == [10] and counts(tally) == (1, 2, 0)
    assert "step 30: the checkpoint was deleted" in capsys.readouterr().err


def test_one_that_stays_and_cannot_be_read_is_an_error_of_its_own(tmp_path):
    run_dir, seen = fake_run(tmp_path / "run", [10, 20]), []
    os.remove(run_dir / "checkpoints" / "20" / "state" / "array")
    (run_dir / "checkpoints" / "20" / "other").touch()
    ledger.append(run_dir, "finish", 20)
    tally = follow.Follower(run_dir, reader(run_dir), scores(seen)).follow()
    assert seen == [10] and counts(tally) == (1, 0, 1)


def test_one_that_cannot_be_scored_is_left_and_the_rest_of_it_recorded(tmp_path, capsys):
    run_dir, seen = fake_run(tmp_path / "run", [10, 20, 30]), []

    def score(params, step):
        if step == 20:
            raise NotANumber("exam: the log-likelihoods of question 1 are [nan, nan].")
        return [{"kind": "choice", "task": "exam", "accuracy": 0.5}]

    parts = [follow.Part(frozenset({("choice", "exam")}), score), *scores(seen)]
    ledger.append(run_dir, "finish", 30)
    tally = follow.Follower(run_dir, reader(run_dir), parts).follow()
    assert seen == [30, 20, 10] and (tally.evaluated, tally.broken) == ({10, 30}, {20})
    records = storage.read_json_lines(run_dir / "evaluations.jsonl")
    assert [(r["step"], r["task"]) for r in records] == [
        (30, "exam"), (30, "a"), (20, "a"), (10, "exam"), (10, "a")
    ]  # fmt: skip
    told = capsys.readouterr().err
    assert "step 20: exam: the log-likelihoods of question 1 are [nan, nan]." in told
    assert str(tally) == "2 checkpoint(s) evaluated, 1 not readable or scored"


def test_a_rollback_takes_out_what_was_evaluated_beyond_it(tmp_path):
    run_dir, seen = fake_run(tmp_path / "run", [10, 20]), []
    ledger.append(run_dir, "finish", 20)
    parts = scores(seen)
    follow.Follower(run_dir, reader(run_dir), parts).follow()
    ledger.append(run_dir, "roll_back", 10, look={})
    shutil.rmtree(run_dir / "checkpoints" / "20")
    add_checkpoint(run_dir, 20)
    ledger.append(run_dir, "finish", 20)

    def score(params, step):
        return [{"task": "a", "bits_per_byte": 7.0}]

    again = [follow.Part(parts[0].keys, score)]
    assert follow.Follower(run_dir, reader(run_dir), again).follow().evaluated == {20}
    records = storage.read_json_lines(run_dir / "evaluations.jsonl")
    assert [(r["step"], r["bits_per_byte"]) for r in records] == [(10, 0.1), (20, 7.0)]
    left = storage.read_json_lines(run_dir / "evaluations-abandoned-1.jsonl")
    assert [(r["step"], r["bits_per_byte"]) for r in left] == [(20, 0.05)]

    # One that comes while a checkpoint is evaluated.
    def slow(params, step):
        if step == 30:
            ledger.append(run_dir, "roll_back", 20, look={})
            ledger.append(run_dir, "finish", 20)
            shutil.rmtree(run_dir / "checkpoints" / "30")
        return [{"task": "a", "bits_per_byte": 8.0}]

    add_checkpoint(run_dir, 30)
    tally = follow.Follower(run_dir, reader(run_dir), [follow.Part(parts[0].keys, slow)]).follow()
    assert not tally.evaluated and not any(step == 30 for step in Records(run_dir).done())


def test_a_run_without_an_end_is_left_after_a_while(tmp_path):
    run_dir, seen = fake_run(tmp_path / "run", [10]), []
    tally = follow.Follower(run_dir, reader(run_dir), scores(seen)).follow(idle_timeout=0.05)
    assert tally.evaluated == {10}
    with pytest.raises(TimeoutError, match="no checkpoint within"):
        follow.await_checkpoint(tmp_path / "other", 0.02)


def test_there_is_one_follower_and_the_run_has_its_own_lock(tmp_path):
    with follow.only_follower(tmp_path):
        second = follow.only_follower(tmp_path)
        with pytest.raises(ConfigError, match="another process follows"), second:
            pass
        assert not (tmp_path / ".lock").exists()


def test_writers_beside_each_other_lose_no_record(tmp_path):
    def write(task):
        for step in range(20):
            Records(tmp_path).append([{"kind": "eval", "step": step, "task": task}])

    threads = [threading.Thread(target=write, args=(task,)) for task in ("a", "b", "a")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    lines = (tmp_path / "evaluations.jsonl").read_text().splitlines()
    keys = [(r["step"], r["task"]) for r in map(json.loads, lines)]
    assert sorted(keys) == sorted({(step, task) for step in range(20) for task in ("a", "b")})


def test_what_was_measured_otherwise_is_another_record(tmp_path):
    def choice(**more):
        return {"kind": "choice", "step": 9, "task": "exam", "accuracy": 0.2} | more

    def bits(**more):
        return {"kind": "eval", "step": 9, "task": "a", "bits_per_byte": 1.0} | more

    kept = [
        choice(shots=0, style="letters", wording="zh-TW", items=40),
        choice(shots=5, style="letters", wording="zh-TW", items=40),
        choice(shots=5, style="texts", wording="zh-TW", items=40),
        choice(shots=5, style="texts", wording="zh-TW", items=7),
        bits(bytes=200, rows=4),
        bits(bytes=800, rows=16),
    ]
    for record in [*kept, *kept]:
        Records(tmp_path).append([record])
    Records(tmp_path).append([bits(bytes=200, rows=4, bits_per_byte=2.0)])
    assert storage.read_json_lines(tmp_path / "evaluations.jsonl") == kept


def test_a_follower_measures_on_other_rows_what_was_measured_on_some(tmp_path):
    run_dir, seen = fake_run(tmp_path / "run", [10, 20]), []
    ledger.append(run_dir, "finish", 20)

    def score(size):
        def scored(params, step):
            seen.append((step, size))
            return [{"task": "a", "bits_per_byte": 1.0, "bytes": size}]

        key = "eval", "a"
        return [follow.Part(frozenset({key}), scored, {key: {"bytes": size}})]

    for size in (200, 200, 800):
        follow.Follower(run_dir, reader(run_dir), score(size)).follow()
    assert seen == [(20, 200), (10, 200), (20, 800), (10, 800)]


def test_a_folder_is_a_checkpoint_when_it_has_its_name(tmp_path):
    from twjax.training.checkpoint import Checkpoints

    with Checkpoints(tmp_path, Checkpoint(every=1)):
        assert follow.steps_on_disk(tmp_path) == set()
    (tmp_path / "checkpoints" / "7.orbax-checkpoint-tmp").mkdir()
    (tmp_path / "checkpoints" / "5").mkdir()
    assert follow.steps_on_disk(tmp_path) == {5}
