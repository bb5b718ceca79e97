"""Workers of a stand-in cloud: a command on all of them, its log, and losses that it survives."""

from __future__ import annotations

import json
import os
import pathlib
import shutil
import signal
import time

import numpy as np
import pytest

from tests import standin_gcloud, tiny
from tests.launch_side import (  # noqa: F401
    PROGRAM,
    SPOT,
    begin,
    launch,
    stand_in_cloud,
    verbs,
    wait_until,
    write_program,
    write_wheel,
)
from twjax.storage import read_json_lines


@pytest.mark.slow
def test_a_run_says_each_worker_and_runs_no_word_as_a_command(cloud, tmp_path, capsys):
    assert launch("create", "tw", *SPOT, "--poll", 0.1) == 0
    wheel, mark = write_program(tmp_path), tmp_path / "mark"
    setup = "echo set up >> ~/setup-log"
    evil = f"$(touch {mark}) ; touch {mark} ' \" `touch {mark}` é"
    words = ["run", "tw", "--wheel", wheel, "--setup", setup, "--env", f"ODD={evil}", "--poll", 0.5]
    assert launch(*words, "--", "environment", "ODD", "x", evil) == 0
    said = capsys.readouterr().out.splitlines()
    for worker in range(2):
        assert f"[0.{worker}] says {worker} environment ODD x {evil}" in said
        assert f"[0.{worker}] value {evil!r}" in said
        assert f"[0.{worker}] ended: exit code 0" in said
    assert not mark.exists()
    # A second command: what is installed stays, and nothing is set up twice.
    assert launch(*words[:4], "--poll", 0.5, "--", "exit", "3") == 3
    said = capsys.readouterr().out
    assert "[0.1] ended: exit code 3" in said
    for home in cloud.glob("homes/*"):
        assert (home / "setup-log").read_text() == "set up\n"
    assert launch("status", "tw") == 0
    assert "[0.0] attempt 1 ended: exit code 3" in capsys.readouterr().out


@pytest.mark.slow
def test_a_worker_that_fails_ends_the_others(cloud, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("launch.workers.GRACE_SECONDS", 0.5)
    assert launch("create", "tw", *SPOT, "--poll", 0.1) == 0
    bad = "if os.environ['TWJAX_PROCESS_ID'] == '1':\n    sys.exit(7)\ntime.sleep(900)\n"
    program = f"{PROGRAM}\n{bad}"
    began = time.monotonic()
    wheel = write_program(tmp_path, program)
    assert launch("run", "tw", "--wheel", wheel, "--poll", 0.2, "--", "x", "y") == 7
    assert time.monotonic() - began < 300
    assert "[0.1] ended: exit code 7" in capsys.readouterr().out


@pytest.mark.slow
def test_watch_has_a_lost_resource_again_and_goes_on_with_the_same_command(cloud, tmp_path):
    wheel, end = write_program(tmp_path), tmp_path / "end"
    watch = begin("watch", "tw", *SPOT, "--wheel", wheel, "--poll", 0.3, "--", "until", end)
    try:
        jobs = "homes/tw-w-0-*/twjax-launch/jobs/tw/log"
        wait_until(lambda: any("says" in path.read_text() for path in cloud.glob(jobs)))
        standin_gcloud.preempt(cloud, "tw")
        wait_until(lambda: not list(cloud.glob(jobs)))
        wait_until(lambda: any("says" in path.read_text() for path in cloud.glob(jobs)))
        end.touch()
        said, _ = watch.communicate(timeout=240)
    finally:
        watch.kill()
    assert watch.returncode == 0, said
    assert "tw is lost (SUSPENDED)" in said and "[0.0] says 0 until" in said
    # Started once before the loss and once after it, with the same words.
    started = [
        word for call in standin_gcloud.calls(cloud) for word in call if " start tw " in word
    ]
    words = [word.partition(" -- ")[2] for word in started]
    assert len(started) == 2 and words[0] == words[1] == f"until {end}"
    assert said.count("[0.1] ended: exit code 0") == 1
    asked = [verb for verb in verbs(cloud) if verb.startswith("queued")]
    assert asked == [f"queued-resources {v}" for v in ("create", "delete", "create")]
    # It is over, also for one that looks later.
    assert launch("watch", "tw") == 0


@pytest.mark.slow
def test_another_machine_goes_on_where_the_first_was_interrupted(cloud, tmp_path, monkeypatch):
    wheel, end = write_program(tmp_path), tmp_path / "end"
    words = ["watch", "tw", *SPOT, "--wheel", wheel, "--poll", 0.3, "--", "until", end]
    first = begin(*words, start_new_session=True)
    job = "homes/tw-w-0-*/twjax-launch/jobs/tw"
    try:
        wait_until(lambda: any("says" in path.read_text() for path in cloud.glob(f"{job}/log")))
        first.send_signal(signal.SIGINT)
        said, _ = first.communicate(timeout=240)
    finally:
        first.kill()
    assert first.returncode == 130
    assert "tw is left as it is" in said and "python -m launch.tpu_vm delete tw" in said
    assert standin_gcloud.state(cloud, "tw") == "ACTIVE"
    other = tmp_path / "other"
    shutil.copytree(tmp_path / "state", other)
    second = begin("watch", "tw", "--state", other, "--poll", 0.3)
    try:
        wait_until(lambda: "follow" in str(standin_gcloud.calls(cloud)[-1]))
        # The log goes to the end of what is there, and a signal to stop reaches all workers.
        assert launch("stop", "tw", "--state", other) == 0
        said, _ = second.communicate(timeout=240)
    finally:
        second.kill()
    assert second.returncode == 0, said
    # It was the same process all the time.
    for worker in range(2):
        assert said.count(f"[0.{worker}] says {worker} until") == 1
        ending = f"[0.{worker}] ended: exit code 0 after it was asked to stop by the user"
        assert f"[0.{worker}] saved" in said and ending in said


@pytest.mark.slow
def test_a_broken_connection_loses_and_repeats_no_line(cloud, tmp_path):
    steps = 60
    program = f"import time\nfor n in range({steps}):\n    print('step', n, flush=True)\n"
    program += "    time.sleep(0.1)\n"
    wheel = write_program(tmp_path, program)
    assert launch("create", "tw", *SPOT, "--poll", 0.1) == 0
    run = begin("run", "tw", "--wheel", wheel, "--poll", 0.5, "--", "x")
    try:
        lines = []
        for line in run.stdout or ():
            lines.append(line.rstrip())
            if line.rstrip() in ("[0.0] step 10", "[0.1] step 30"):
                _break_connections(cloud)
        run.wait(240)
    finally:
        run.kill()
    assert run.returncode == 0, lines
    assert lines.count("connection lost; again in 1 s") >= 1
    for worker in range(2):
        own = [line for line in lines if line.startswith(f"[0.{worker}] step")]
        assert own == [f"[0.{worker}] step {n}" for n in range(steps)]


def _break_connections(cloud: pathlib.Path, gclouds: bool = True) -> None:
    """Ends the workers' sides of what follows a log, and before them the gcloud processes."""
    marks = (("cmdline", str(cloud), gclouds), ("environ", f"HOME={cloud}", True))
    for place, mark, wanted in marks:
        for status in pathlib.Path("/proc").glob("[0-9]*"):
            try:
                words, where = (status / "cmdline").read_bytes(), (status / place).read_bytes()
            except OSError:
                continue
            if wanted and b"follow" in words and mark.encode() in where:
                os.kill(int(status.name), signal.SIGKILL)


@pytest.mark.slow
def test_a_command_that_gcloud_repeats_repeats_no_line(cloud, tmp_path):
    # The end has no line end; a progress bar is one line.
    program = """
import sys, time
for n in range(60):
    print("step", n, flush=True)
    time.sleep(0.1)
print("10%\\r20%\\r30%\\r", flush=True)
print("the end", end="", flush=True)
"""
    wheel, lines = write_program(tmp_path, program), []
    assert launch("create", "tw", *SPOT, "--poll", 0.1) == 0
    run = begin("run", "tw", "--wheel", wheel, "--poll", 0.5, "--", "x")
    try:
        for line in run.stdout or ():
            lines.append(line.rstrip("\n"))
            if line.rstrip() in ("[0.0] step 10", "[0.1] step 30"):
                _break_connections(cloud, gclouds=False)
        run.wait(240)
    finally:
        run.kill()
    assert run.returncode == 0, lines
    assert sum("Retrying: SSH command error" in line for line in lines) >= 2
    for worker in range(2):
        own = [line.partition("] ")[2] for line in lines if line.startswith(f"[0.{worker}]")]
        steps = [f"step {n}" for n in range(60)]
        assert own == [*steps, "30%", "the end", "ended: exit code 0"]


@pytest.mark.slow
def test_machines_that_stop_the_command_have_not_finished_it(cloud, tmp_path):
    wheel, end = write_program(tmp_path), tmp_path / "end"
    watch = begin("watch", "tw", *SPOT, "--wheel", wheel, "--poll", 0.3, "--", "until", end)
    log = "homes/tw-w-0-*/twjax-launch/jobs/tw/log"
    try:
        wait_until(lambda: any("says" in path.read_text() for path in cloud.glob(log)))
        # All end with code 0, as a machine that shuts down lets them.
        for path in cloud.glob("homes/*/twjax-launch/jobs/tw/pid"):
            os.kill(int(path.read_text()), signal.SIGTERM)
        wait_until(lambda: any("saved" in path.read_text() for path in cloud.glob(log)))
        end.touch()
        said, _ = watch.communicate(timeout=240)
    finally:
        watch.kill()
    assert watch.returncode == 0, said
    assert "[0.0] ended: exit code 0 after it was asked to stop by the machine" in said
    assert said.count("[0.0] says") == 2 and "[0.0] done" in said


@pytest.mark.slow
def test_a_preempted_run_is_had_again_and_resumes_to_the_same_losses(cloud, tmp_path):
    config, run_dir = tiny.write_config(tmp_path), tmp_path / "runs" / "broken"
    bindings = ("Run.steps = 36", "Run.log_every = 1", "Checkpoint.every = 7")
    longer = [part for binding in bindings for part in ("--set", binding)]
    tiny.twjax_pair("train", config, "--run-dir", tmp_path / "unbroken", *longer)
    lines: list[str] = []
    watch = begin(
        *("watch", "tw", *SPOT, "--wheel", write_wheel(tmp_path), "--poll", 0.5, "--delete", "--"),
        *("train", config, "--run-dir", run_dir, *longer),
    )
    try:
        wait_until(lambda: _last_step(run_dir) >= 17, 600)
        standin_gcloud.preempt(cloud, "tw")
        lines = watch.communicate(timeout=600)[0].splitlines()
    finally:
        watch.kill()
    assert watch.returncode == 0, lines
    assert sum("is lost (SUSPENDED)" in line for line in lines) == 1
    for worker in range(2):
        assert sum(f"[0.{worker}] ended: exit code 0" in line for line in lines) == 1
    assert standin_gcloud.state(cloud, "tw") == "ABSENT" and not list(cloud.glob("homes/*"))
    events = read_json_lines(run_dir / "ledger.jsonl")
    assert [event["event"] for event in events] == ["start", "resume", "finish"]
    assert events[1]["step"] in (14, 21, 28)
    ours, unbroken = tiny.losses(run_dir), tiny.losses(tmp_path / "unbroken")
    assert list(ours) == list(unbroken) == list(range(1, 37))
    # Two processes sum in another order each time, from the first steps on.
    np.testing.assert_allclose(list(ours.values()), list(unbroken.values()), rtol=1e-5)


def _last_step(run_dir: pathlib.Path) -> int:
    return max((r["step"] for r in read_json_lines(run_dir / "metrics.jsonl")), default=0)


@pytest.mark.slow
def test_a_watcher_without_a_network_for_a_while_loses_nothing(cloud, tmp_path):
    wheel, end = write_program(tmp_path), tmp_path / "end"
    watch = begin("watch", "tw", *SPOT, "--wheel", wheel, "--poll", 0.1, "--", "until", end)
    log = "homes/tw-w-0-*/twjax-launch/jobs/tw/log"
    try:
        wait_until(lambda: any("says" in path.read_text() for path in cloud.glob(log)))
        # More failures than one call is repeated.
        broken = ["*", "HTTPError 503: UNAVAILABLE: Network is unreachable"]
        standin_gcloud.change(cloud, errors=[broken] * 12)
        _break_connections(cloud)
        wait_until(lambda: not json.loads((cloud / "plan.json").read_text())["errors"])
        end.touch()
        said, _ = watch.communicate(timeout=240)
    finally:
        watch.kill()
    assert watch.returncode == 0, said
    assert said.count("[0.0] says") == said.count("[0.0] done") == 1
    assert verbs(cloud).count("queued-resources create") == 1
