"""What reports and cards say of branches: the whole way since step 0, or where it begins."""

from __future__ import annotations

import dataclasses
import math
import shutil

import pytest

from tests import report_side
from tests.report_side import (
    TASKS,
    Page,
    make_branch,
    make_steered,
    records,
    write_records,
)
from twjax.report import write_report
from twjax.report.card_facts import gather
from twjax.report.events import happened, marks
from twjax.report.model_card import card
from twjax.report.provenance import consumed
from twjax.report.read import read_run
from twjax.report.speed import goodput, utilization
from twjax.report.summary import compare, headline
from twjax.report.trunk import whole_run


def bits(task, share, ratios, start):
    """English is forgotten by half at first, and a little of it comes back after step 300."""
    if task == "en_web":
        lost = 0.5 * math.sin(min(1, share / 0.5) * math.pi / 2)
        return TASKS[task] * (1 + lost - (0.05 if share > 0.5 else 0))
    return TASKS[task] * (1 - 0.3 * share)


@pytest.fixture
def trunk(tmp_path, monkeypatch):
    monkeypatch.setattr(report_side, "bits", bits)
    return make_steered(tmp_path / "trunk")


@pytest.fixture
def branch(trunk, tmp_path):
    return make_branch(trunk, tmp_path / "branch")


def section(text, heading):
    return text.split(f"## {heading}\n\n")[1].split("\n\n## ")[0]


def test_what_a_branch_forgot_is_counted_from_the_beginning_of_its_trunk(trunk, branch):
    run = whole_run(branch)
    assert min(read_run(branch).bits_per_byte["en_web"]) == 300
    assert run.bits_per_byte == read_run(trunk).bits_per_byte
    told = headline(compare([run]), run)
    assert "rose in 1 of 4 domains, en_web (1.900 → 2.755, +45.0%)" in told
    assert "After 600 steps and 7.34 M tokens" in told and "not recorded" not in told
    text = card(gather(branch, "m", 600, average=False), "en")
    forgotten = section(text, "What was forgotten")
    assert forgotten.startswith("Worse than before: en_web +45.0%.")
    assert "| en_web | 1.900 | 2.755 | +45.0% |" in text and "before (step 0)" in text
    # Beside it, what `twjax eval` has measured of the trunk.
    assert (
        "| Taiwan's wording preferred | wording | 42.0% (step 0) | 62.0% (step 300) |" in text
        or ("| wording | 42.0% | 62.0% |" in text and "last measured (step 300)" in text)
    )
    page = Page(write_report([branch], branch / "r.html"))
    assert "A branch of trunk from step 300. Evaluations, rows and samples until then" in page.text
    drawn = {s["n"]: s for s in page.charts()["Bits-per-byte by domain"]}
    assert len(drawn["en_web"]["v"]) == 7 and drawn["en_web"]["v"][0] == "1.900"
    assert (
        drawn["en_web"]["t"][1]
        == Page(write_report([trunk], trunk / "r.html")).charts()["Bits-per-byte by domain"][0][
            "t"
        ][1]
    )


def test_what_a_branch_read_is_what_its_trunk_read_and_its_own(trunk, branch):
    ours, theirs = consumed(whole_run(branch)), consumed(read_run(trunk))
    assert ours == theirs
    assert consumed(whole_run(branch), until=200) == consumed(read_run(trunk), until=200)
    # What was trained is a log of its own.
    run = whole_run(branch)
    assert run.steps[0] == 310 and run.tokens_at(200) == read_run(trunk).tokens_at(200)
    training, _ = goodput(run)
    assert len(training) == len(utilization(run)) == len(run.steps)
    # Without the log, the stages' shares are still those of each step; the lengths were the same.
    shutil.rmtree(trunk)
    alone = consumed(whole_run(branch))
    assert {task: of.rows for task, of in alone.items()} == {t: o.rows for t, o in theirs.items()}
    for task, of in alone.items():
        assert of.planned == pytest.approx(theirs[task].planned, abs=2e-3)
        assert of.tokens == theirs[task].tokens


def test_stages_and_lengths_of_a_trunk_without_a_log_are_those_of_its_ledger(trunk, tmp_path):
    events = records(trunk, "ledger")
    events[0]["reading"]["lengths"] = [[0, 256], [250, 512]]
    events[0]["reading"]["stages"] = [[0, {"tw_laws": 1.0}], [100, {"tw_laws": 0.5, "en_web": 0.5}]]
    events[0]["reading"]["batches"] = [[0, 16], [100, 32]]
    write_records(trunk, "ledger", events)
    branch = make_branch(trunk, tmp_path / "branch")
    shutil.rmtree(trunk)
    run = whole_run(branch)
    read = consumed(run, until=320)
    # 100 batches of 16 rows of the laws alone, then 32 in halves; the log begins with step 310.
    first, then = (sum(of.rows for of in consumed(run, step).values()) for step in (310, 320))
    before = 0.5 * 210 * 32 / (100 * 16 + 210 * 32) * first
    assert read["en_web"].planned == pytest.approx((before + 0.5 * (then - first)) / then)
    assert read["tw_laws"].tokens is None
    assert "not recorded" in section(card(gather(branch, "m", 600, average=False), "en"), "Data")


def test_a_branch_of_a_branch_has_the_logs_of_both(trunk, branch, tmp_path):
    second = make_branch(trunk, tmp_path / "second", at=500)
    events = records(second, "ledger")
    events[0]["from"] = str(branch)
    events[0]["events"] = report_side.handed_on(records(branch, "ledger"), 500)
    write_records(second, "ledger", events)
    run = whole_run(second)
    assert run.steps[0] == 510
    assert run.bits_per_byte == read_run(trunk).bits_per_byte
    assert consumed(run) == consumed(read_run(trunk))
    # Of the first trunk only the ledgers are left: its baseline is that of protected domains.
    shutil.rmtree(trunk)
    run = whole_run(second)
    assert run.missing == ("trunk", 300)
    assert list(run.bits_per_byte["en_web"]) == [0, 300, 400, 500, 600]
    assert list(run.bits_per_byte["tw_laws"]) == [300, 400, 500, 600]


def test_a_trunk_that_was_moved_is_found_beside_its_branch(trunk, branch, tmp_path):
    before = whole_run(branch).bits_per_byte
    (tmp_path / "elsewhere").mkdir()
    for run in (trunk, branch):
        run.rename(tmp_path / "elsewhere" / run.name)
    run = whole_run(tmp_path / "elsewhere" / "branch")
    assert run.missing is None and run.bits_per_byte == before


@pytest.mark.parametrize("how", ["gone", "another"])
def test_without_its_trunk_nothing_is_said_to_have_been_kept(trunk, branch, how):
    shutil.rmtree(trunk)
    if how == "another":
        # A run that reads in another order lies there by now.
        make_steered(trunk)
        events = records(trunk, "ledger")
        events[0]["reading"]["seed"] = 7
        write_records(trunk, "ledger", events)
    # No domain got worse since the branch began: only the baseline knows of English.
    run = whole_run(branch)
    assert run.missing == ("trunk", 300)
    assert run.bits_per_byte["en_web"][0] == 1.9 and 0 not in run.bits_per_byte["tw_laws"]
    text = card(gather(branch, "m", 600, average=False), "en")
    forgotten = section(text, "What was forgotten")
    assert forgotten.startswith("Worse than before: en_web +45.0%.")
    assert "branched off from trunk at step 300" in forgotten
    since = "Only since step 300, and what was forgotten before that is not recorded here: "
    assert f"{since}tw_laws, tw_transcripts." in forgotten
    assert "got worse" not in forgotten
    assert "1.900 (step 0)" in text and "(step 300)" in text and "first measured" in text
    told = headline(compare([run]), run)
    assert "For tw_laws, tw_transcripts, before is step 300" in told
    # Without a baseline nothing at all is known of step 0.
    events = records(branch, "ledger")
    events[0]["events"] = [e for e in events[0]["events"] if e["event"] != "baseline"]
    write_records(branch, "ledger", events)
    for language, claim in (("en", "No evaluated domain got worse"), ("zh-TW", "都沒有變差")):
        text = card(gather(branch, "m", 600, average=False), language)
        assert claim not in text
        head = {"en": "first measured (step 300)", "zh-TW": "最早一次評測（第 300 步）"}[language]
        assert head in text and "step 0)" not in text and "第 0 步" not in text
    told = headline(compare([whole_run(branch)]), whole_run(branch))
    assert "Before is step 300: what was earlier is not recorded here." in told
    page = Page(write_report([branch], branch / "r.html"))
    assert "The log of trunk until step 300 is not there" in page.text


def test_a_trunk_that_went_back_since_then_is_the_past_only_until_there(trunk, branch):
    look = next(e for e in records(trunk, "ledger") if e["event"] == "budget" and e["step"] == 200)
    events = records(trunk, "ledger")
    events += [{"event": "roll_back", "step": 200, "time": "", "look": look}]
    write_records(trunk, "ledger", [*events, {"event": "rolled_back", "step": 200, "time": ""}])
    run = whole_run(branch)
    assert list(run.bits_per_byte["en_web"]) == [0, 100, 200, 300, 400, 500, 600]
    assert [step for step in run.row_steps if 180 < step < 320] == [190, 200, 310]
    assert run.missing is None


def test_what_was_measured_on_other_rows_or_questions_is_not_joined(trunk, branch):
    other = {"en_web": {"bytes": 7}, "civil_exam": {"items": 7}}
    beside = [r for r in records(trunk, "evaluations") if r["step"] >= 300]
    for name, lines in (("metrics", records(branch, "metrics")), ("evaluations", beside)):
        write_records(branch, name, [r | other.get(r.get("task"), {}) for r in lines])
    run = whole_run(branch)
    assert min(run.bits_per_byte["en_web"]) == 300 and min(run.bits_per_byte["tw_laws"]) == 0
    exams = run.results["choice"]
    assert min(exams["civil_exam"]) == 300 and min(exams["tmmlu"]) == 0


def test_the_first_start_of_a_branch_is_no_stop_and_its_trunks_decisions_are_told(trunk, branch):
    events = happened(whole_run(branch))
    at = [(event.text, event.sign) for event in events if event.step == 300]
    assert ("the run branches off from " + str(trunk), None) in at
    assert ("the branch begins, on 4 × cpu, with other settings: schedule.kind", None) in at
    assert "resume" not in {mark.sign for mark in marks(events, float)}
    # The first decision of its own is told against the last one of the trunk.
    looks = {e["step"]: e["shares"]["en_web"] for e in records(trunk, "ledger")
             if e["event"] == "budget"}  # fmt: skip
    told = next(e.text for e in events if e.step == 400 and "replay" in e.text)
    assert f"replay en_web {looks[300]:.1%} → {looks[400]:.1%}" in told
    # That it was stopped later on is one.
    stopped = [*records(branch, "ledger"), {"event": "resume", "step": 600, "time": "x"}]
    write_records(branch, "ledger", stopped)
    assert [m.x for m in marks(happened(whole_run(branch)), float) if m.sign == "resume"] == [600]


def test_runs_and_their_branches_are_compared_over_the_whole_way(trunk, branch, tmp_path):
    gone = make_branch(trunk, tmp_path / "gone")
    events = records(gone, "ledger")
    events[0]["from"] = "/nowhere/at all"
    write_records(gone, "ledger", events)
    found = compare([whole_run(run) for run in (trunk, branch, gone)])
    gains = [found.gain(run) for run in found.runs]
    assert gains[0] == gains[1] != gains[2]
    page = Page(write_report([trunk, branch, gone], tmp_path / "r.html"))
    assert "gone is measured from step 300 on" in page.text
    assert page.text.count("from step 300") >= 3
    assert "branch is measured" not in page.text


def test_a_ledger_that_says_nothing_sound_of_a_trunk_changes_nothing(trunk, branch):
    own = read_run(branch)
    for broken in ({"from": 3}, {"step": "x"}, {"step": -4}):
        events = records(branch, "ledger")
        write_records(branch, "ledger", [events[0] | broken, *events[1:]])
        run = whole_run(branch)
        assert run == dataclasses.replace(own, ledger=run.ledger)
        write_records(branch, "ledger", events)
