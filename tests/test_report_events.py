"""What is told of a run's way: decisions that stand, and those that a rollback has undone."""

from __future__ import annotations

import re

import pytest

from tests.report_side import Page, make_steered, records, write_records
from twjax.report import write_report
from twjax.report.decisions import taken_back, telling
from twjax.report.events import happened, marks
from twjax.report.read import read_run

STRAY = {"en_web": 0.55, "zh_cn_web": 0.05}


@pytest.fixture
def run(tmp_path):
    """A steered run that had gone on to step 400 with much more replay, and came back to 200."""
    run = make_steered(tmp_path / "run")
    events = records(run, "ledger")
    looks = [e for e in events if e["event"] == "budget"]
    at = events.index(next(e for e in looks if e["step"] == 300))
    left = [e | {"shares": STRAY} for e in looks if e["step"] in (300, 400)]
    look = next(e for e in looks if e["step"] == 300) | {"step": 200, "action": "steer"}
    back = [
        {"event": "roll_back", "step": 200, "time": "", "look": look},
        {"event": "rolled_back", "step": 200, "time": ""},
    ]
    write_records(run, "ledger", [*events[:at], *left, *back, *events[at:]])
    return run


def test_what_a_rollback_undid_is_no_mark_and_stands_before_it(run, tmp_path):
    events = happened(read_run(run))
    place = next(i for i, event in enumerate(events) if event.sign == "back")
    undone = [i for i, event in enumerate(events) if event.undone]
    assert undone == list(range(undone[0], place))
    # The look at its own step has been replaced as well; a stop before the rollback is over.
    assert [events[i].step for i in undone] == [200, 300, 300, 300, 400]
    # All others are in order.
    steps = [event.step for event in events if not event.undone]
    assert steps == sorted(steps)
    drawn = marks(events, float)
    assert not any("55.0%" in mark.text for mark in drawn)
    assert [mark.x for mark in drawn if mark.sign == "back"] == [200]
    assert "resume" not in {mark.sign for mark in drawn}
    page = Page(write_report([run], tmp_path / "r.html"))
    way = page.source.split("What happened on the way")[1].split("</ul>")[0]
    shown = re.findall(r'<li class="soft"><b>step (\d+)</b> \(undone\)', way)
    assert [int(step) for step in shown] == [200, 300, 300, 300, 400]


def test_a_decision_is_told_against_the_look_that_holds(run):
    told = {}
    for record, text, _ in telling(records(run, "ledger")):
        told.setdefault(record["step"], []).append(text)
    # Left from 8.1% at step 200; made again from the rollback's 7.3%.
    assert "replay en_web 8.1% → 55.0%" in told[300][2]
    assert "55.0%" not in told[300][3] and told[300][3].endswith(
        "replay en_web 7.3%, zh_cn_web 4.3%"
    )
    assert "replay en_web 7.3% → 6.6%" in told[400][1]


def test_what_a_resume_does_again_is_told_once(tmp_path):
    run = make_steered(tmp_path / "run")
    events = records(run, "ledger")
    # Killed after step 400's evaluation, back at the checkpoint of step 300.
    at = next(i for i, e in enumerate(events) if e["event"] == "budget" and e["step"] == 500)
    again = [e for e in events if e["event"] == "budget" and e["step"] == 400]
    resume = {"event": "resume", "step": 300, "time": ""}
    write_records(run, "ledger", [*events[:at], resume, *again, *events[at:]])
    found = [e for e in happened(read_run(run)) if e.step == 400 and "replay" in e.text]
    assert [event.undone for event in found] == [True, False]
    assert found[0].text == found[1].text
    assert sum(mark.x == 400 and mark.sign == "less" for mark in marks(found, float)) == 1


def test_a_resume_says_whose_memory_the_state_came_from():
    def told(**details) -> str:
        record = {"event": "resume", "step": 3, "time": "", **details}
        [(_, text, sign)] = telling([record])
        assert sign == "resume"
        return text

    assert told() == "the run goes on"
    assert told(local={"peers": []}) == "the run goes on from what its hosts kept"
    assert told(local={"peers": [1, 3]}).endswith("hosts kept (host 1, 3 from the others)")
    assert told(local="?") == "the run goes on"


def test_what_was_taken_back_stays_so():
    def event(kind, step):
        return {"event": kind, "step": step}

    ledger = [
        event("start", 0),
        event("budget", 10),
        event("budget", 20),
        event("roll_back", 10),
        event("budget", 20),
        event("stop", 25),
        event("roll_back", 5),
        event("budget", 10),
        {"event": "budget", "step": None},
        event("budget", 10),
    ]
    # By place: the first rollback took back two looks, the second it, a look and a stop.
    assert taken_back(ledger) == {1: 3, 2: 3, 3: 6, 4: 6, 5: 6, 7: 9}
