"""What a ledger says of a run, and how a budget goes on from it after a kill."""

from __future__ import annotations

import dataclasses
import pathlib
from typing import Any

import pytest

from twjax.config import Budget, ConfigError
from twjax.config.reading import Reading
from twjax.data.course import Course
from twjax.storage import read_json_lines
from twjax.training import ledger
from twjax.training.history import History, handed_on
from twjax.training.steering import Steering

BUDGET = Budget(allowed={"en": 0.1}, replay={"en": "b"}, beyond="roll_back", patience=1)
READING = Reading(
    stages=((0, {"a": 0.9, "b": 0.1}),),
    batches=((0, 10),),
    lengths=((0, 16),),
    seed=0,
    max_epochs=None,
    block_rows=10,
)
PLENTY = {16: {"a": 10**6, "b": 10**6}}


def steering(
    run_dir: pathlib.Path,
    start: int,
    budget: Budget = BUDGET,
    *,
    reading: Reading = READING,
    sizes: dict[Any, dict[str, int]] | None = None,
    steps: int | None = None,
) -> Steering:
    def reopen(history: History) -> Course:
        return Course([(0, reading)], sizes or PLENTY, turns=history.turns, steps=steps)

    return Steering(budget, run_dir, History.of(run_dir), start, reopen, write=True)


def evaluated(bits: float) -> list[dict[str, Any]]:
    return [{"task": "en", "bits_per_byte": bits}, {"task": "a", "bits_per_byte": 1.0}]


def forgetting(run_dir: pathlib.Path, budget: Budget = BUDGET) -> Steering:
    """A run that is far beyond its budget; at step 50 replay is at its most."""
    run_dir.mkdir()
    here = steering(run_dir, 0, budget)
    for step, bits in ((0, 2.0), (10, 2.05), (20, 3.0), (30, 3.0), (40, 3.0), (50, 3.0)):
        look = here.answer(step, evaluated(bits))
        if look.action in ("roll_back", "stop", "lower_rate"):
            break
    assert look.step == 50 and look.action == budget.beyond
    return here


def actions(run_dir: pathlib.Path) -> list[tuple[str, int, str | None]]:
    events = read_json_lines(run_dir / "ledger.jsonl")
    return [(e["event"], e["step"], e.get("action")) for e in events]


def test_a_rollback_counts_when_the_run_goes_back_not_when_it_is_wanted(tmp_path):
    """As after a kill between the two: the same answer comes again."""
    budget = dataclasses.replace(BUDGET, rollbacks=1)
    first = forgetting(tmp_path / "run", budget)
    assert first.history.rollbacks == 0
    again = steering(tmp_path / "run", 40, budget)
    assert not again.has_answered(50) and again.due(40) is None
    look = again.answer(50, evaluated(3.0))
    assert look.action == "roll_back"
    # The same answer isn't written twice.
    assert [e for e in actions(tmp_path / "run") if e[1] == 50] == [("budget", 50, "roll_back")]
    assert again.roll_back(look, [10, 20, 30]) == 10
    assert again.history.rollbacks == 1 and again.history.rolling_back == 10
    known = History.of(tmp_path / "run")
    assert (known.rollbacks, known.rolling_back) == (1, 10)
    assert known.turns == again.history.turns and known.turns[-1].step == 10
    # A branch from before it has the same number left; one from later on none.
    events = ledger.read(tmp_path / "run")
    assert History().after(handed_on(events, 20)).rollbacks == 1
    assert History().after(handed_on(events, 5)).rollbacks == 0


def test_a_rollback_that_a_kill_prevented_is_still_due(tmp_path):
    """The state of its step was saved, as when the run was asked to stop there."""
    forgetting(tmp_path / "run")
    again = steering(tmp_path / "run", 50)
    look = again.due(50)
    assert look is not None and look.action == "roll_back"
    assert again.roll_back(look, [10, 40]) == 10
    assert again.due(10) is None and again.due(50) is None


def test_a_rollback_goes_to_a_sound_checkpoint_or_nowhere(tmp_path, capsys):
    forgetting(tmp_path / "run")
    again = steering(tmp_path / "run", 50)
    look = again.due(50)
    assert look is not None
    before = actions(tmp_path / "run")
    assert again.roll_back(look, [0, 10, 40], lambda step: step == 40) is None
    assert "no checkpoint before step 50 was within the budget: going on" in capsys.readouterr().err
    assert actions(tmp_path / "run") == before
    assert again.roll_back(look, [0, 10, 40], lambda step: step != 10) == 0


def test_another_budget_lets_a_stopped_run_go_on_also_after_a_kill(tmp_path):
    run_dir = tmp_path / "run"
    stop = dataclasses.replace(BUDGET, beyond="stop")
    forgetting(run_dir, stop)
    with pytest.raises(ConfigError, match="at step 50 en had used 1000%"):
        steering(run_dir, 50, stop)
    wider = dataclasses.replace(stop, allowed={"en": 5.0})
    # Settings that don't matter change nothing.
    ledger.append(run_dir, "resume", 50, changes=["- run.log_every = 1\n+ run.log_every = 2"])
    with pytest.raises(ConfigError, match="at step 50"):
        steering(run_dir, 50, wider)
    ledger.append(run_dir, "resume", 50, changes=["- budget.allowed = {'en': 0.1}\n+ more"])
    for _ in range(2):
        # A kill before the new answer leaves it to be given.
        here = steering(run_dir, 50, wider)
        assert not here.has_answered(50)
    look = here.answer(50, evaluated(3.0))
    assert look.action == "steer" and look.used == {"en": 0.2}
    assert steering(run_dir, 50, wider).has_answered(50)


def test_a_stage_that_would_run_dry_keeps_its_shares(tmp_path, capsys):
    # From step 50 on b alone is read: what is read of it before is missing there.
    stages = ((0, {"a": 0.9, "b": 0.1}), (50, {"b": 1.0}))
    reading = dataclasses.replace(READING, stages=stages, max_epochs={"b": 1})
    sizes = {16: {"a": 10**6, "b": 560}}
    (tmp_path / "run").mkdir()
    here = steering(tmp_path / "run", 0, reading=reading, sizes=sizes, steps=100)
    here.answer(0, evaluated(2.0))
    look = here.answer(10, evaluated(2.5))
    assert (look.action, look.shares) == ("hold", {"b": 0.1})
    said = capsys.readouterr().err
    assert "budget: step 10: no rows for replay b " in said
    assert "Mixture.max_epochs: no task of the stage from step 50 on has rows left" in said
    assert here.history.turns == [] and here.course.counts(100)["b"] == 550
    assert steering(tmp_path / "run", 10, reading=reading, sizes=sizes, steps=100).has_answered(10)


def test_a_lower_rate_alone_turns_no_share(tmp_path):
    budget = dataclasses.replace(BUDGET, beyond="lower_rate", most=0.1)
    (tmp_path / "run").mkdir()
    here = steering(tmp_path / "run", 0, budget)
    for step, bits in ((0, 2.0), (10, 3.0), (20, 3.0)):
        look = here.answer(step, evaluated(bits))
    assert look.action == "lower_rate" and look.shares == {"b": 0.1}
    assert here.history.turns == [] and here.history.rates == [(10, 0.5), (20, 0.25)]
