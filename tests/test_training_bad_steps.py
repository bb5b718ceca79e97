"""Many bad steps in a row lead back to a checkpoint and on behind their rows, kills or not."""

from __future__ import annotations

import dataclasses
import json
import os
import random
import subprocess
import sys
import time
from types import SimpleNamespace

import numpy as np
import pytest

from tests import faulty, tiny
from tests.test_training_history import READING
from twjax import storage
from twjax.config import Checkpoint, Faults
from twjax.config.data import SeqLen
from twjax.data.course import Course, Jump, Turn
from twjax.training.bad_steps import BadSteps
from twjax.training.checkpoint import FOLDER
from twjax.training.history import History, handed_on
from twjax.training.retention import Retention

FAULTS = Faults(in_a_row=3, rollbacks=2)
PLENTY: dict[SeqLen, dict[str, int]] = {16: {"a": 10**6, "b": 10**6}}
FEW: dict[SeqLen, dict[str, int]] = {16: {"a": 90, "b": 90}}


def read(course, first, end):
    """The rows [(task, row)] that steps from `first` to before `end` read, in their order."""
    found = []
    for step in range(first, end):
        task, row = course.lookup(step, np.arange(course.shape(step)[1]))
        found += [(course.tasks[t], int(r)) for t, r in zip(task, row, strict=True)]
    return found


def test_a_jump_reads_what_would_have_been_read_later():
    reading = dataclasses.replace(READING, stages=((0, {"a": 0.9, "b": 0.1}), (40, {"b": 1.0})))
    turns = [Turn(step=5, shares={"b": 0.3})]
    course = Course([(0, reading)], PLENTY, turns=turns)
    jump = Jump(step=20, until=33, read=course.read_until(33))
    assert Jump.parse(20, json.loads(json.dumps(jump.record()))) == jump
    jumped = Course([(0, reading)], PLENTY, turns=turns, jumps=[jump])
    assert read(jumped, 0, 20) == read(course, 0, 20)
    left, after = read(course, 20, 33), read(jumped, 20, 60)
    assert not set(left) & set(after) and not set(read(course, 0, 20)) & set(after)
    assert len(set(after)) == len(after)
    # No task's row is left out but those: the next ones in its order come first.
    later = {row for task, row in read(course, 33, 40) if task == "a"}
    assert {row for task, row in read(jumped, 20, 27) if task == "a"} <= later | {
        row for task, row in read(Course([(0, reading)], PLENTY, turns=turns), 33, 40)
    }
    # Stages and shares go by the step.
    assert jumped.shares(39) == course.shares(39) and jumped.shares(40) == {"b": 1.0}
    counts = jumped.counts(30)
    assert sum(counts.values()) == 10 * (30 + 33 - 20)


def test_a_turn_before_a_jump_that_is_known_leaves_it_where_it_is():
    # As after a kill at a time when the newest checkpoint is from before both.
    course = Course([(0, READING)], PLENTY)
    jump = Jump(step=10, until=15, read=course.read_until(15))
    turn = Turn(step=7, shares={"b": 0.3})
    again = Course([(0, READING)], PLENTY, jumps=[jump]).turned(turn)
    known = Course([(0, READING)], PLENTY, turns=[turn], jumps=[jump])
    assert read(again, 0, 30) == read(known, 0, 30)
    assert again.counts(10) != course.counts(10) and sum(again.counts(12).values()) == 170


def history(*events):
    return History().after(events)


def event(kind, step, **details):
    return {"event": kind, "step": step, **details}


def skip(until, count=0):
    return {"until": until, "read": [[16, {"a": [count, []]}]]}


def test_what_a_rollback_for_bad_steps_leaves_of_a_history():
    look = {"used": {"b": 0.5}, "shares": {"b": 0.2}, "action": "steer", "rate": 1.0, "beyond": 0}
    decided = [event("budget", step, **look) for step in (0, 10, 20)]
    begin = [event("start", 0), event("baseline", 0, bits={"b": 2.0}), *decided]
    bad = [event("bad_step", step) for step in (4, 14, 21)]
    once = history(*begin, *bad, event("roll_back", 10, skip=skip(21)))
    assert list(once.looks) == [0, 10] and once.bad_steps == (4,)
    assert (once.rollbacks, once.bad_rollbacks, once.rolling_back) == (1, 1, 10)
    assert [(jump.step, jump.until) for jump in once.jumps] == [(10, 21)]
    # One to an earlier step takes the place of what was left out behind it; others stay.
    again = once.after([event("rolled_back", 10), event("roll_back", 5, skip=skip(17))])
    assert [(jump.step, jump.until) for jump in again.jumps] == [(5, 17)]
    later = once.after([event("roll_back", 15, skip=skip(19))])
    assert [jump.step for jump in later.jumps] == [10, 15]
    # A budget's own takes back what followed its step, and is counted for itself.
    back = later.after([event("roll_back", 10, look=look | {"step": 10})])
    assert [jump.step for jump in back.jumps] == [10]
    assert (back.rollbacks, back.bad_rollbacks) == (3, 2)
    # A branch goes on from all of it.
    ledger = [*begin, event("roll_back", 10, skip=skip(21)), event("rolled_back", 10)]
    branch = History().after([event("branch", 12, events=handed_on(ledger, 12)) | {"from": "x"}])
    assert [jump.step for jump in branch.jumps] == [10]
    assert (
        not History().after([event("branch", 9, events=handed_on(ledger, 9)) | {"from": "x"}]).jumps
    )


def bad_steps(tmp_path, start=0, streak=0, now=None, faults=FAULTS):
    return BadSteps(faults, tmp_path, now or History(), start, streak, write=True)


def see(bad, *skipped, first=1):
    for step, value in enumerate(skipped, start=first):
        bad.see({"step": step, "loss": np.nan, "grad_norm": 1.0, "skipped": float(value)})


def test_the_last_checkpoint_before_a_good_step_is_gone_back_to(tmp_path):
    course = Course([(0, READING)], PLENTY)
    reopened = []

    def back(bad, kept, now=None):
        def reopen(after):
            reopened.append(after)
            return Course([(0, READING)], PLENTY, jumps=after.jumps)

        return bad.roll_back(kept, now or History(), course, reopen)

    bad = bad_steps(tmp_path)
    see(bad, 0, 1, 1, 0, 1, 1)
    assert bad.due is None
    see(bad, 1, 1, first=7)
    assert bad.due == (5, 7)
    # Behind the one of step 4 no step was good.
    after = back(bad, [0, 2, 4, 6])
    assert after.rolling_back == 2 and after.jumps[0].until == 7
    assert after.jumps[0].read == course.read_until(7)
    ledger = storage.read_json_lines(tmp_path / "ledger.jsonl")
    assert [e["step"] for e in ledger if e["event"] == "bad_step"] == [2, 3, 5, 6, 7, 8]
    told = History().after(ledger)
    assert told == dataclasses.replace(after, bad_steps=(2,)) and reopened == [after]
    # Resumed behind some of them, it is the same; what the ledger has isn't counted again.
    again = bad_steps(tmp_path, 6, 2, now=History(bad_steps=(5, 6, 7)))
    see(again, 1, first=7)
    assert again.due == (5, 7)
    assert bad_steps(tmp_path, 9, 5).due == (5, 7)
    assert len(storage.read_json_lines(tmp_path / "ledger.jsonl")) == len(ledger)
    # No such checkpoint, no rollback left, no rows left.
    with pytest.raises(FloatingPointError, match="no checkpoint behind which a step was good"):
        back(again, [4, 6])
    spent = bad_steps(tmp_path, 9, 5, now=History(bad_rollbacks=2))
    with pytest.raises(FloatingPointError, match=r"after 2 rollbacks of at most 2\. The newest"):
        back(spent, [0, 2])
    dry = Course([(0, dataclasses.replace(READING, max_epochs=1))], FEW)
    with pytest.raises(FloatingPointError, match=r"and no rows are left: Mixture\.max_epochs"):
        bad_steps(tmp_path, 9, 5).roll_back(
            [0, 2],
            History(),
            dry,
            lambda after: Course(
                [(0, dataclasses.replace(READING, max_epochs=1))],
                FEW,
                jumps=after.jumps,
                steps=16,
            ),
        )
    assert len(storage.read_json_lines(tmp_path / "ledger.jsonl")) == len(ledger)


def test_what_a_rollback_goes_back_to_stays_however_few_are_kept(tmp_path):
    bad = bad_steps(tmp_path, faults=Faults(in_a_row=9))
    retention = Retention(Checkpoint(every=2, keep=2), tmp_path)
    retention.wanted = [bad.needs]
    there: list[int] = []
    for step in range(1, 15):
        see(bad, step > 6, first=step)
        if step % 2 == 0:
            there.append(step)
            kept = retention.should_preserve([SimpleNamespace(step=at) for at in there])
            there = [at for at, stays in zip(there, kept, strict=True) if stays]
            # Behind the one of step 6 no step was good.
            assert (
                there
                == [[2], [2, 4], [4, 6], [4, 6, 8], [4, 8, 10], [4, 10, 12], [4, 12, 14]][
                    step // 2 - 1
                ]
            )
    see(bad, 0, first=15)
    assert not any(bad.needs(at) for at in there)


def test_a_checkpoint_that_is_not_sound_is_passed_over_before_anything_is_decided(tmp_path):
    course = Course([(0, READING)], PLENTY)
    bad, asked = bad_steps(tmp_path, 9, 3), []

    def back(sound):
        def is_sound(step):
            asked.append(step)
            return step in sound

        return bad.roll_back([0, 2, 4, 6], History(), course, lambda _: course, is_sound)

    # Only those are looked at that could be taken, the newest first.
    assert back({0, 2, 6}).rolling_back == 2 and asked == [4, 2]
    written = (tmp_path / "ledger.jsonl").read_text()
    with pytest.raises(FloatingPointError, match="no checkpoint behind which a step was good"):
        back({6})
    assert (tmp_path / "ledger.jsonl").read_text() == written


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    return faulty.write_config(tmp_path_factory.mktemp("faulty"))


@pytest.fixture(scope="module")
def unbroken(config, tmp_path_factory):
    run_dir = tmp_path_factory.mktemp("unbroken") / "run"
    return run_dir, faulty.train(config, run_dir)


def decided(run_dir):
    """What the ledger has of bad steps, without what was tried again after a kill."""
    now = History.of(run_dir)
    back = [(e["step"], e["skip"]) for e in faulty.events(run_dir, "roll_back")]
    return now.bad_steps, now.jumps, back


@pytest.mark.slow
def test_a_run_goes_back_twice_and_leaves_the_rows_out(unbroken):
    run_dir, said = unbroken
    assert "steps 9 to 11 were bad: rolling back to step 6" in said
    assert "steps 18 to 20 were bad: rolling back to step 15" in said
    back = faulty.events(run_dir, "roll_back")
    assert [(e["step"], e["skip"]["until"]) for e in back] == [(6, 11), (15, 20)]
    logged = tiny.records(run_dir, "train")
    assert [r["step"] for r in logged] == list(range(1, faulty.STEPS + 1))
    assert [r["step"] for r in logged if r["skipped"]] == [4, 21]
    assert History.of(run_dir).bad_steps == (4, 21)
    # The bad ones' losses are no numbers, and no other's.
    assert [r["step"] for r in logged if r["loss"] is None] == [4, 21]
    aside = [storage.read_json_lines(run_dir / f"metrics-abandoned-{n}.jsonl") for n in (1, 2)]
    trained = [[r["step"] for r in records if r["kind"] == "train"] for records in aside]
    assert trained == [list(range(7, 12)), list(range(16, 21))]
    evaluations = [r for r in tiny.records(run_dir, "eval") if r["task"] == "b"]
    assert [r["step"] for r in evaluations] == [0, 6, 12, 18, 24, 30]
    assert all(r["bits_per_byte"] < 100 for r in evaluations)


@pytest.mark.slow
def test_checkpoints_of_bad_steps_take_no_place_of_a_good_one(tmp_path):
    path = faulty.write_config(tmp_path, poisoned=False)
    faulty.poison(path, range(8, 18))
    limits = ("Faults.in_a_row = 10", "Checkpoint.keep = 2", "Run.steps = 20")
    said = faulty.train(path, tmp_path / "run", *limits)
    assert "steps 9 to 18 were bad: rolling back to step 6" in said
    assert [r["step"] for r in tiny.records(tmp_path / "run", "train")] == list(range(1, 21))


@pytest.mark.slow
def test_a_damaged_checkpoint_is_not_gone_back_to(config, unbroken, tmp_path):
    run_dir = tmp_path / "run"
    faulty.train(config, run_dir, "Faults.rollbacks = 0", code=1)
    assert sorted(int(path.name) for path in (run_dir / FOLDER).iterdir()) == [3, 6, 9]
    largest = max((run_dir / FOLDER / "6").rglob("*"), key=lambda path: path.stat().st_size)
    os.truncate(largest, 9)
    said = faulty.train(config, run_dir, "Run.steps = 14")
    assert f"{FOLDER}/6: isn't gone back to: " in said
    assert "steps 9 to 11 were bad: rolling back to step 3" in said
    assert [r["step"] for r in tiny.records(run_dir, "train")] == list(range(1, 15))


@pytest.mark.slow
def test_a_resumed_run_goes_back_to_the_weights_that_it_began_with(tmp_path):
    path = faulty.write_config(tmp_path, poisoned=False)
    faulty.poison(path, range(3, 6))
    few = ("Run.steps = 8",)
    faulty.train(path, tmp_path / "whole", *few)
    resumed = tmp_path / "resumed"
    faulty.train(path, resumed, *few, "Faults.rollbacks = 0", code=1)
    away = (tmp_path / "source").rename(tmp_path / "away")
    # The rollback isn't begun where it can't be ended.
    said = faulty.train(path, resumed, *few, code=1)
    assert "step 0: isn't gone back to: " in said and "no checkpoint behind which" in said
    assert [path.name for path in (resumed / FOLDER).iterdir()] == ["3"]
    away.rename(tmp_path / "source")
    said = faulty.train(path, resumed, *few)
    assert "steps 4 to 6 were bad: rolling back to step 0" in said
    assert tiny.losses(resumed) == tiny.losses(tmp_path / "whole")


@pytest.mark.slow
def test_kills_and_stops_change_nothing_of_a_run_with_bad_steps(config, unbroken, tmp_path):
    chance = random.Random(4)
    run_dir = tmp_path / "run"
    seldom = ["Run.log_every = 7"]
    ends = []
    for number in range(6):
        process = subprocess.Popen(
            [sys.executable, "-m", "twjax", *faulty.command(config, run_dir, seldom)],
            env=tiny.environment(),
            stderr=subprocess.DEVNULL,
            text=True,
        )
        # Some at a decision, where the ledger and the checkpoints must not part.
        before = len(faulty.events(run_dir, "roll_back")) if run_dir.exists() else 0
        while process.poll() is None and number % 2:
            if len(faulty.events(run_dir, "roll_back")) > before:
                break
        logged = storage.read_json_lines(run_dir / "metrics.jsonl")
        reached = max((r["step"] for r in logged), default=0)
        if not number % 2:
            tiny.wait_for_step(run_dir, reached + chance.randint(1, 5), process)
        time.sleep(chance.random() * 0.05)
        process.send_signal(15 if number == 2 else 9)
        ends.append(process.wait())
    faulty.train(config, run_dir, *seldom)
    assert ends.count(-9) >= 2
    assert tiny.losses(run_dir) == tiny.losses(unbroken[0])
    assert decided(run_dir) == decided(unbroken[0])
    rows = [tiny.records(d, "train")[-1]["rows"] for d in (run_dir, unbroken[0])]
    assert rows[0] == rows[1]


@pytest.mark.slow
def test_after_the_last_rollback_the_run_ends_and_goes_on_with_more(config, unbroken, tmp_path):
    run_dir = tmp_path / "run"
    said = faulty.train(config, run_dir, "Faults.rollbacks = 1", code=1)
    assert "steps 18 to 20 were all bad" in said
    assert "after 1 rollbacks of at most 1" in said.strip().splitlines()[-1]
    # The newest checkpoint was saved while steps were bad; the same ones lead back from there.
    faulty.train(config, run_dir)
    assert tiny.losses(run_dir) == tiny.losses(unbroken[0])
    assert decided(run_dir) == decided(unbroken[0])


@pytest.mark.slow
def test_two_hosts_go_back_to_the_same_places_as_one(config, unbroken, tmp_path):
    run_dir = tmp_path / "pair"
    tiny.twjax_pair(*faulty.command(config, run_dir))
    assert decided(run_dir) == decided(unbroken[0])
    ours, theirs = tiny.losses(run_dir), tiny.losses(unbroken[0])
    assert list(ours) == list(theirs)
    good = [step for step in ours if step not in (4, 21)]
    close = [[losses[step] for step in good] for losses in (ours, theirs)]
    np.testing.assert_allclose(*close, rtol=1e-3)
