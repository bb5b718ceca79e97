"""Runs whose course changes on the way: budgets, ramps, lengths, branches, moments kept."""

from __future__ import annotations

import json
import random
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from tests import changing, tiny
from tests.changing import STEPS, command, decided, events, train
from tests.tracking_side import Desk, logged
from twjax import storage
from twjax.report.provenance import consumed
from twjax.report.read import read_run
from twjax.report.sending import points
from twjax.report.trunk import whole_run

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    return changing.write_config(tmp_path_factory.mktemp("run"))


@pytest.fixture(scope="module")
def unbroken(config, tmp_path_factory):
    run_dir = tmp_path_factory.mktemp("unbroken") / "run"
    return run_dir, train(config, run_dir)


def start(config, run_dir, *bindings, options=()):
    return subprocess.Popen(
        [
            sys.executable,
            "-m",
            "twjax",
            *map(str, command(config, run_dir, *bindings, options=options)),
        ],
        env=tiny.environment(),
        stderr=subprocess.DEVNULL,
        text=True,
    )


def test_a_budget_turns_the_shares_and_the_ledger_says_so(unbroken):
    run_dir, output = unbroken
    looks = events(run_dir, "budget")
    assert [look["step"] for look in looks] == list(range(0, STEPS + 1, 10))
    of_b = [record for record in tiny.records(run_dir, "eval") if record["task"] == "b"]
    scores = {record["step"]: record["bits_per_byte"] for record in of_b}
    [baseline] = events(run_dir, "baseline")
    assert baseline["bits"] == {"b": scores[0]}
    for look in looks:
        assert look["used"]["b"] == pytest.approx((scores[look["step"]] - scores[0]) / 0.02, 1e-4)
    assert "budget: step 10: b " in output and "of the budget; replay b " in output
    # What was read follows the shares: rows of b between two looks.
    rows = {r["step"]: r["rows"] for r in tiny.records(run_dir, "train")}
    turned = False
    for look in looks[1:-2]:
        first, last = look["step"], look["step"] + 10
        had = {task: rows[last][task] - rows[first][task] for task in ("a", "b")}
        share = had["b"] / sum(had.values())
        assert abs(share - look["shares"]["b"]) * sum(had.values()) < 4
        turned |= look["action"] == "steer"
    assert turned
    tokens = {r["step"]: r["tokens"] for r in tiny.records(run_dir, "train")}
    # The batch doubles after step 20, the rows after step 45.
    for step, factor in ((20, 2), (45, 2)):
        before, after = tokens[step] - tokens[step - 1], tokens[step + 1] - tokens[step]
        assert after / before == pytest.approx(factor, rel=0.1)


def test_kills_change_nothing_of_a_steered_run(config, unbroken, tmp_path):
    run_dir = tmp_path / "run"
    chance = random.Random(1)
    kills = 0
    for _ in range(3):
        process = start(config, run_dir)
        logged = storage.read_json_lines(run_dir / "metrics.jsonl")
        target = max((r["step"] for r in logged), default=0) + chance.randint(8, 25)
        while process.poll() is None:
            now = storage.read_json_lines(run_dir / "metrics.jsonl") if run_dir.exists() else []
            if any(record["step"] >= target for record in now):
                break
            time.sleep(0.002)
        process.kill()
        process.wait()
        kills += process.returncode == -signal.SIGKILL
    train(config, run_dir)
    assert kills >= 2
    assert tiny.losses(run_dir) == tiny.losses(unbroken[0])
    # Decisions that were made again are the same; only a start without a checkpoint repeats them.
    assert decided(run_dir) == decided(unbroken[0])
    began = [n for n, event in enumerate(events(run_dir)) if event["event"] == "start"][-1]
    assert [e["step"] for e in events(run_dir)[began:] if e["event"] == "budget"] == sorted(
        step for event, step in decided(unbroken[0]) if event == "budget"
    )
    rows = [tiny.records(d, "train")[-1]["rows"] for d in (run_dir, unbroken[0])]
    assert rows[0] == rows[1]


def test_a_branch_repeats_the_trunk_until_it_decays(config, unbroken, tmp_path):
    trunk = unbroken[0]
    branch = tmp_path / "branch"
    options = ("--branch-from", f"{trunk}@35", "--decay", "15")
    output = train(config, branch, options=options)
    ours, theirs = tiny.losses(branch), tiny.losses(trunk)
    assert list(ours) == list(range(36, 51))
    # The trunk still holds its rate; from step 36 on the branch decays over 15 steps, and reads
    # what belongs to 'decay'.
    rates = {r["step"]: r["learning_rate"] for r in tiny.records(branch, "train")}
    assert rates[36] == pytest.approx(1e-2) and rates[50] == pytest.approx(1e-3)
    # With the trunk's own settings all is the trunk's, with its stages, lengths and decisions.
    same = tmp_path / "same"
    train(config, same, options=("--branch-from", f"{trunk}@35"))
    assert tiny.losses(same) == {s: loss for s, loss in theirs.items() if s > 35}
    later = {key: value for key, value in decided(trunk).items() if key[1] > 35}
    assert decided(same) == later
    # Reports have the whole way, though its own log begins with step 36.
    whole, there = whole_run(same), read_run(trunk)
    assert whole.bits_per_byte == there.bits_per_byte and set(there.bits_per_byte["b"]) > {0}
    assert whole.rows == there.rows and whole.row_steps == there.row_steps
    assert consumed(whole) == consumed(there)
    # It goes on without the option, and from another place only elsewhere.
    assert "all 50 steps are done" in train(
        config, branch, "Run.steps = 50", f"Schedule.decay_fraction = {15 / 50}"
    )
    refused = train(config, branch, options=("--branch-from", f"{trunk}@28"), code=1)
    assert f"{branch}: branches off from {trunk}@35, not from" in refused
    assert "going on from step 35" in output


def test_a_branch_from_a_step_that_was_answered_to_answers_no_second_time(config, tmp_path):
    trunk, branch = tmp_path / "trunk", tmp_path / "branch"
    often = ("Run.steps = 40", "Checkpoint.every = 10", "Data.seq_len_stages = ()",
             "Schedule.kind = 'constant'", "Schedule.decay_fraction = 0.1",
             "Mixture.stages = ((0, {'a': 0.95, 'b': 0.05}),)")  # fmt: skip
    train(config, trunk, *often)
    at = next(e["step"] for e in events(trunk, "budget") if e["action"] == "steer")
    assert at < 30
    (trunk / "hf_layout.json").write_text('{"kept": true}')
    option = ("--branch-from", f"{trunk}@{at}")
    # In two parts: what a branch goes on with is what it began with.
    process = start(config, branch, *often, options=option)
    tiny.wait_for_step(branch, at + 2, process)
    process.send_signal(signal.SIGTERM)
    assert process.wait() == 0
    train(config, branch, *often)
    assert events(branch, "stop") and len(events(branch, "resume")) == 2
    later = {s: loss for s, loss in tiny.losses(trunk).items() if s > at}
    assert tiny.losses(branch) == later
    assert decided(branch) == {key: x for key, x in decided(trunk).items() if key[1] > at}
    # The evaluation itself is there, and what came with an imported model.
    assert at in {record["step"] for record in tiny.records(branch, "eval")}
    assert (branch / "hf_layout.json").read_text() == '{"kept": true}'


def test_a_start_anew_measures_its_own_baseline(config, tmp_path):
    """What an attempt without a checkpoint left is of other weights."""
    run_dir = tmp_path / "run"
    short = ("Run.steps = 3", "Data.seq_len_stages = ()", "Schedule.decay_fraction = 0.3",
             "Schedule.warmup_steps = 0", "Run.seed = 5")  # fmt: skip
    run_dir.mkdir()
    left = [{"kind": "eval", "step": 0, "task": task, "bits_per_byte": 9.0} for task in "ab"]
    (run_dir / "metrics.jsonl").write_text("".join(json.dumps(r) + "\n" for r in left))
    (run_dir / "ledger.jsonl").write_text('{"event": "start", "step": 0}\n')
    train(config, run_dir, *short)
    scores = {r["task"]: r["bits_per_byte"] for r in tiny.records(run_dir, "eval")
              if r["step"] == 0}  # fmt: skip
    assert events(run_dir, "baseline")[-1]["bits"] == {"b": scores["b"]}
    assert scores["b"] < 9.0 and len(tiny.records(run_dir, "eval")) == 4


@pytest.mark.parametrize(
    ("bindings", "options", "message"),
    [
        (("Data.batch_size = 4",), (), "data.batch_size 8 there, 4 here"),
        (("Run.steps = 35",), (), "Run.steps (35) must be more than the 35 steps"),
        (("Mixture.stages = ((0, {'a': 0.5, 'b': 0.5}),)",), (), "other rows from step 0 on"),
        ((), ("--decay", "0"), "--decay 0: is a number of steps after"),
    ],
)  # fmt: skip
def test_branches_that_cannot_be_are_refused(
    config, unbroken, tmp_path, bindings, options, message
):
    trunk = ("--branch-from", f"{unbroken[0]}@35", *options)
    refused = train(config, tmp_path / "branch", *bindings, options=trunk, code=1)
    assert message in refused and len(refused.strip().splitlines()) == 1


def test_a_decay_that_moves_is_refused_only_where_it_has_begun(config, unbroken, tmp_path):
    longer = ("Run.steps = 100",)
    late = tmp_path / "late"
    # Decay began at step 60 of 80: 75 of 100 would have been later.
    train(config, late, options=("--branch-from", f"{unbroken[0]}@70"))
    assert tiny.losses(late) == {s: x for s, x in tiny.losses(unbroken[0]).items() if s > 70}
    assert "other rows from step 60 on" in train(config, late, *longer, code=1)
    early = tmp_path / "early"
    train(config, early, *longer, options=("--branch-from", f"{unbroken[0]}@56"))
    assert tiny.losses(early)[60] == tiny.losses(unbroken[0])[60]
    readings = [e for e in events(early, "resume") if e.get("reading")]
    assert [reading["reading_from"] for reading in readings] == [60]


def test_moments_are_kept_or_fresh_as_the_configuration_says(config, tmp_path):
    plain = (
        "Budget.mode = 'off'",
        "Run.steps = 3",
        "Schedule.warmup_steps = 0",
        "Schedule.decay_fraction = 0.1",
        "Mixture.stages = ((0, {'b': 1.0}),)",
        "Data.seq_len_stages = ()",
        "Data.batch_ramp = ()",
        "Evaluation.tasks = ()",
    )
    norms = {}
    for kind in ("fresh", "kept"):
        train(config, tmp_path / kind, *plain, f"Run.moments = '{kind}'")
        norms[kind] = tiny.losses(tmp_path / kind)
    # The same weights and rows at first; then another step was taken.
    assert norms["fresh"][1] == norms["kept"][1]
    assert norms["fresh"][2] != norms["kept"][2]
    rates = [r["learning_rate"] for r in tiny.records(tmp_path / "kept", "train")]
    assert rates[0] == pytest.approx(1e-2)
    other = (*plain, "Run.moments = 'kept'", "Optimizer.b1 = 0.8")
    refused = train(config, tmp_path / "other", *other, code=1)
    assert "b1 0.9 there, 0.8 here" in refused


HOPELESS = ("Budget.allowed = {'b': 1e-4}", "Budget.most = 0.06", "Budget.patience = 1",
            "Run.steps = 60", "Mixture.stages = ((0, {'a': 0.95, 'b': 0.05}),)")  # fmt: skip


def test_a_budget_that_cannot_be_kept_stops_the_run_with_its_state_saved(config, tmp_path):
    run_dir = tmp_path / "run"
    stop = (*HOPELESS, "Budget.beyond = 'stop'")
    said = train(config, run_dir, *stop, code=1)
    last = events(run_dir, "budget")[-1]
    assert last["action"] == "stop"
    assert f"at step {last['step']} b had used" in said and "The state is saved" in said
    assert (run_dir / "checkpoints" / str(last["step"])).is_dir()
    again = train(config, run_dir, *stop, code=1)
    assert f"at step {last['step']} b had used" in again
    # As if a kill had come between the evaluation and the answer to it.
    ledger = run_dir / "ledger.jsonl"
    lines = ledger.read_text().splitlines(keepends=True)
    answered = next(n for n, line in enumerate(lines) if '"action": "stop"' in line)
    ledger.write_text("".join(lines[:answered]))
    again = train(config, run_dir, *stop, code=1)
    assert f"at step {last['step']} b had used" in again
    assert decided(run_dir)["budget", last["step"]]["action"] == "stop"
    # Another budget lets it go on, and what follows needs no permission any more.
    wider = (*stop, "Budget.allowed = {'b': 50.0}")
    assert "--allow-change" in train(config, run_dir, *wider, code=1)
    more = (*wider, f"Run.steps = {last['step'] + 2}", "Schedule.decay_fraction = 0.02")
    train(config, run_dir, *more, options=("--allow-change",))
    assert decided(run_dir)["budget", last["step"]]["action"] != "stop"
    assert "steps are done" in train(config, run_dir, *more)


def test_a_rollback_goes_on_from_a_checkpoint_within_the_budget(config, tmp_path):
    run_dir = tmp_path / "run"
    bindings = (
        *HOPELESS,
        "Budget.allowed = {'b': 0.3}",
        "Budget.beyond = 'roll_back'",
        "Budget.rollbacks = 1",
        "Budget.least = 0.01",
        "Budget.most = 0.2",
        "Checkpoint.every = 5",
        # The one to go back to stays beside the newest.
        "Checkpoint.keep = 1",
        "Evaluation.every = 5",
        "Schedule.peak = 3e-2",
        "Schedule.warmup_steps = 40",
        "Mixture.stages = ((0, {'a': 0.98, 'b': 0.02}),)",
    )
    desk = Desk(run_dir)
    with desk.following():
        said = train(config, run_dir, *bindings)
    back = events(run_dir, "roll_back", "rolled_back")
    assert [event["event"] for event in back] == ["roll_back", "rolled_back"]
    to = back[0]["step"]
    assert f"to step {to}; replay b 20.0%" in said
    steps = [r["step"] for r in tiny.records(run_dir, "train")]
    assert steps == list(range(1, 61))
    assert events(run_dir)[-1]["event"] == "finish"
    looks = [json.dumps(look["shares"]) for look in events(run_dir, "budget")]
    assert len(looks) > 60 // 5 + 1
    # What was left is still there to be read.
    left = storage.read_json_lines(run_dir / "metrics-abandoned-1.jsonl")
    until = next(e["step"] for e in events(run_dir, "budget") if e["action"] == "roll_back")
    assert [r["step"] for r in left if r["kind"] == "train"] == list(range(to + 1, until + 1))
    assert {r["step"] for r in left if r["kind"] == "eval"} == set(range(to + 5, until + 1, 5))
    # A tracker that follows has both ways, each in a run of its own.
    assert len(desk.runs) == 2
    assert desk.measured(1) == {key: [value] for key, value in logged(run_dir).items()}
    for record in left:
        for name, value in points(record):
            assert desk.measured(0)[name, record["step"]] == [value]


def test_a_rollback_before_the_first_checkpoint_begins_anew(config, tmp_path):
    bindings = (
        *HOPELESS,
        "Budget.allowed = {'b': 0.3}",
        "Budget.beyond = 'roll_back'",
        "Budget.rollbacks = 1",
        "Budget.most = 0.2",
        "Run.steps = 30",
        "Checkpoint.every = 100",
        "Evaluation.every = 5",
        "Schedule.peak = 3e-2",
        "Schedule.warmup_steps = 5",
    )
    run_dir = tmp_path / "run"
    said = train(config, run_dir, *bindings)
    back = events(run_dir, "roll_back", "rolled_back")
    assert [(event["event"], event["step"]) for event in back] == [
        ("roll_back", 0),
        ("rolled_back", 0),
    ]
    assert "to step 0; replay b 20.0%" in said
    records = tiny.records(run_dir, "train")
    assert [r["step"] for r in records] == list(range(1, 31))
    # The rows of the first steps are those of the new shares, from the first weights.
    assert records[-1]["rows"]["b"] >= 0.19 * sum(records[-1]["rows"].values())
    left = storage.read_json_lines(run_dir / "metrics-abandoned-1.jsonl")
    assert next(r for r in left if r["kind"] == "train")["loss"] != records[0]["loss"]
    again = [r for r in tiny.records(run_dir, "eval") if r["step"] == 0]
    assert [r["task"] for r in again] == ["a", "b"]


def test_observing_reads_what_a_run_without_a_budget_reads(config, tmp_path):
    short = ("Run.steps = 25", "Schedule.decay_fraction = 0.1", "Data.seq_len_stages = ()",
             "Mixture.stages = ((0, {'a': 0.95, 'b': 0.05}),)")  # fmt: skip
    train(config, tmp_path / "watched", *short, "Budget.mode = 'observe'")
    train(config, tmp_path / "plain", *short, "Budget.mode = 'off'")
    assert tiny.losses(tmp_path / "watched") == tiny.losses(tmp_path / "plain")
    assert [e["action"] for e in events(tmp_path / "watched", "budget")] == ["observe"] * 4
    late = train(config, tmp_path / "plain", *short, "Run.steps = 30", "Mixture.seed = 0",
                 options=("--allow-change",), code=1)  # fmt: skip
    assert "Run.budget has no baseline, as the run began without it and is at step 25" in late


def test_two_processes_steer_as_one_does(config, tmp_path):
    bindings = ("Run.steps = 40", "Data.seq_len_stages = ()", "Budget.allowed = {'b': 0.3}",
                "Budget.beyond = 'roll_back'", "Budget.patience = 1", "Budget.most = 0.2",
                "Budget.rollbacks = 1", "Checkpoint.every = 5", "Evaluation.every = 5",
                "Schedule.peak = 3e-2", "Schedule.warmup_steps = 39", "Evaluation.rows = 16",
                "Mixture.stages = ((0, {'a': 0.98, 'b': 0.02}),)")  # fmt: skip
    pair, alone = tmp_path / "pair", tmp_path / "alone"
    tiny.twjax_pair(*command(config, pair, *bindings))
    train(config, alone, *bindings)
    kinds = ("budget", "roll_back", "rolled_back")
    ours, theirs = events(pair, *kinds), events(alone, *kinds)
    assert [(e["event"], e["step"]) for e in ours] == [(e["event"], e["step"]) for e in theirs]
    assert "roll_back" in {e["event"] for e in ours}
    for one, two in zip(ours, theirs, strict=True):
        if one["event"] == "budget":
            assert one["action"] == two["action"]
            assert one["shares"]["b"] == pytest.approx(two["shares"]["b"], abs=2e-4)
    a, b = tiny.losses(pair), tiny.losses(alone)
    np.testing.assert_allclose(list(a.values()), list(b.values()), rtol=1e-3)
