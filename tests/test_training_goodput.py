"""Where a run's time went: every second since its first start has a cause."""

from __future__ import annotations

import json
import random
import subprocess
import sys
import time

import pytest

from tests import faulty, tiny
from tests.report_side import Page
from twjax import storage
from twjax.report import write_report
from twjax.report.read import read_run
from twjax.report.speed import causes
from twjax.training import ledger
from twjax.training.goodput import CAUSES, Clock


def of(**seconds):
    return dict.fromkeys(CAUSES, 0.0) | seconds


def log(run_dir, *records, name="metrics.jsonl"):
    (run_dir / name).write_text("".join(json.dumps(record) + "\n" for record in records))


def record(step, at, **seconds):
    return {"kind": "train", "step": step, "time": at, "seconds": of(**seconds)}


def test_one_cause_at_a_time_and_no_second_without_one():
    clock = Clock()
    before, began = clock.seconds(), time.monotonic()
    with clock.spend("stepping"):
        time.sleep(0.05)
        with clock.spend("reading"):
            time.sleep(0.1)
        with pytest.raises(KeyError), clock.spend("evaluating"):
            raise KeyError
        time.sleep(0.05)
    passed, after = time.monotonic() - began, clock.seconds()
    gone = {cause: after[cause] - before[cause] for cause in CAUSES}
    assert gone["reading"] == pytest.approx(0.1, abs=0.05)
    assert gone["stepping"] == pytest.approx(0.1, abs=0.05)
    assert sum(gone.values()) == pytest.approx(passed, abs=0.02)
    # Counted from the start of the process, not of the clock.
    assert before["starting"] > 0.1


def test_what_is_done_again_is_lost_and_what_no_process_did_is_down(tmp_path):
    now = time.time()
    early = record(10, now - 5000, stepping=80, compiling=9, evaluating=5, starting=7)
    late = record(14, now - 4000, stepping=100, compiling=9, evaluating=15, saving=2, starting=7)
    log(tmp_path, early, {"kind": "eval", "step": 10, "task": "a"}, late)
    clock = Clock()
    began = clock.seconds()["starting"]
    clock.take_up(tmp_path, 10)
    found = clock.seconds()
    assert found["stepping"] == 80 and found["evaluating"] == 5 and found["saving"] == 0
    assert found["lost"] == 20 + 10 + 2 and found["compiling"] == 9
    assert found["down"] == pytest.approx(4000 - began, abs=2)
    assert sum(found.values()) == pytest.approx(80 + 9 + 15 + 22 + 7 + 4000, abs=2)
    # A log that was cut when the run was taken up: the ledger has what was known then.
    log(tmp_path, early)
    ledger.append(tmp_path, "resume", 10, goodput=clock.record())
    again = Clock()
    again.take_up(tmp_path, 10)
    assert again.seconds()["lost"] == pytest.approx(found["lost"])
    assert again.seconds()["down"] == pytest.approx(found["down"], abs=2)
    # A rollback loses the same way; what is before its step stays. One to the first state has none.
    log(tmp_path, record(20, now - 10, stepping=130), name="metrics-abandoned-1.jsonl")
    back = Clock()
    with back.spend("stepping"):
        time.sleep(0.02)
    back.back_to(tmp_path, 0)
    assert back.seconds()["stepping"] == 0 and back.seconds()["lost"] >= 0.02


def test_a_report_tells_the_causes(tmp_path):
    run = tmp_path / "run"
    run.mkdir()
    now = time.time()
    values = {"loss": 2.0, "grad_norm": 1.0, "learning_rate": 0.1, "tokens": 100}
    records = [
        record(step, now + step, stepping=step * 60.0, reading=step * 1.0, down=3600.0) | values
        for step in range(1, 11)
    ]
    log(run, *records)
    ledger.append(run, "start", 0)
    ended = {"seconds": of(stepping=600.0, reading=10.0, down=3600.0, saving=30.0), "time": now}
    ledger.append(run, "finish", 10, goodput=ended)
    shares = causes(read_run(run))
    assert [step for step, _ in shares] == [*range(1, 11), 10]
    assert shares[-1][1]["stepping"] == pytest.approx(600 / 4240)
    page = Page(write_report([run], tmp_path / "r.html"))
    drawn = page.charts()["Goodput: share of the time since the start"]
    assert [line["n"] for line in drawn] == ["stepping", "reading", "saving", "down"]
    assert "Of 70.7 min: down 60.0 min, stepping 10.0 min, saving 30.0 s, reading 10.0 s." in (
        page.text
    )
    assert f"<b>{600 / 4240:.0%}</b>goodput" in page.source


@pytest.mark.slow
def test_the_causes_of_a_killed_run_add_up_to_its_time(tmp_path):
    config = faulty.write_config(tmp_path)
    run_dir = tmp_path / "run"
    began = time.time()
    chance = random.Random(2)
    for step in (5, 14):
        process = subprocess.Popen(
            [sys.executable, "-m", "twjax", *faulty.command(config, run_dir)],
            env=tiny.environment(),
            stderr=subprocess.DEVNULL,
            text=True,
        )
        tiny.wait_for_step(run_dir, step, process)
        process.kill()
        process.wait()
        time.sleep(chance.random() * 2)
    faulty.train(config, run_dir)
    whole = time.time() - began
    end = storage.read_json_lines(run_dir / "ledger.jsonl")[-1]["goodput"]["seconds"]
    assert sum(end.values()) == pytest.approx(whole, abs=8) and sum(end.values()) < whole
    # All but the first process's beginning, which the log has only from its first line on.
    logged = [r["seconds"] for r in tiny.records(run_dir, "train") if "seconds" in r]
    totals = [sum(seconds.values()) for seconds in logged]
    assert totals == sorted(totals) and all(min(seconds.values()) >= 0 for seconds in logged)
    # Two rollbacks, kills between checkpoints, three processes.
    assert end["lost"] > 0 and end["down"] > 0 and end["starting"] > end["stepping"]
    assert all(end[cause] > 0 for cause in CAUSES)
