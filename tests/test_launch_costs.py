"""What costs money: nothing that was asked for is forgotten, taken over, or asked for unasked."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import time

import pytest

from launch import request, workers
from tests import standin_gcloud
from tests.launch_side import (  # noqa: F401
    SPOT,
    begin,
    launch,
    stand_in_cloud,
    verbs,
    wait_until,
    write_program,
)

LEFT = "delete: python -m launch.tpu_vm delete tw"


def test_a_creation_that_may_have_come_through_is_remembered(cloud, capsys):
    standin_gcloud.change(cloud, errors=[["queued-resources create", "503 UNAVAILABLE"]] * 5)
    assert launch("create", "tw", *SPOT, "--poll", 0.1) == 1
    said = capsys.readouterr().err
    assert LEFT in said and "$7.37 an hour" in said
    # What is refused for good is not.
    standin_gcloud.change(cloud, errors=[["queued-resources create", "Quota exhausted"]])
    assert launch("create", "other", *SPOT, "--poll", 0.1) == 1
    assert "delete:" not in capsys.readouterr().err
    assert request.Store("tw").exists() and not request.Store("other").exists()


def test_what_others_have_asked_for_is_left_alone(cloud, tmp_path, capsys):
    assert launch("create", "tw", *SPOT, "--no-wait", "--state", tmp_path / "others") == 0
    wheel = write_program(tmp_path)
    for words in (["create", "tw", *SPOT], ["watch", "tw", *SPOT, "--wheel", wheel, "--", "x"]):
        assert launch(*words) == 1
        assert "not asked for from here" in capsys.readouterr().err
        assert launch("delete", "tw") == 1
    assert standin_gcloud.state(cloud, "tw") not in ("ABSENT", "DELETING")
    assert "queued-resources delete" not in verbs(cloud) and "tpu-vm ssh" not in verbs(cloud)


@pytest.mark.parametrize("how", ["delete", "gcloud"])
def test_what_is_deleted_while_it_is_watched_is_not_asked_for_again(cloud, tmp_path, how):
    standin_gcloud.change(cloud, waiting=600)
    watch = begin(
        "watch", "tw", *SPOT, "--wheel", write_program(tmp_path), "--poll", 0.1, "--", "x"
    )
    try:
        wait_until(lambda: sum("describe" in call for call in standin_gcloud.calls(cloud)) > 1)
        if how == "delete":
            assert launch("delete", "tw", "--poll", 2) == 0
        else:
            words = ["compute", "tpus", "queued-resources", "delete", "tw", "--force"]
            where = [f"--zone={standin_gcloud.ZONE}", "--project=p"]
            subprocess.run(["gcloud", *words, *where], check=True)
        said, _ = watch.communicate(timeout=60)
    finally:
        watch.kill()
    assert watch.returncode == 1 and "deleted while it was watched" in said, said
    assert verbs(cloud).count("queued-resources create") == 1
    assert standin_gcloud.state(cloud, "tw") == "ABSENT"


def test_another_topology_is_not_ignored(cloud, tmp_path, capsys):
    refused = ["queued-resources create", "Quota exhausted"]
    standin_gcloud.change(cloud, errors=[refused] * 2)
    run = ["--wheel", write_program(tmp_path), "--", "x"]
    # Nothing was had yet: what is asked for next counts.
    for topology in ("v4-8", "v4-16"):
        words = [word if word != "v4-16" else topology for word in SPOT]
        assert launch("watch", "tw", *words, *run) == 1
    asked = [call[5] for call in standin_gcloud.calls(cloud) if call[3] == "create"]
    assert asked == ["--accelerator-type=v4-8", "--accelerator-type=v4-16"]
    assert launch("create", "tw", *SPOT, "--no-wait") == 0
    capsys.readouterr()
    for words in (["--topology", "v4-8", *SPOT[2:]], SPOT[:-1], ["--zone", "mars-1-a"]):
        assert launch("watch", "tw", *words, *run) == 1
        assert "--accelerator-type=v4-16" in capsys.readouterr().err


def test_a_file_that_is_missing_is_told_before_anything_is_asked_for(
    cloud, tmp_path, monkeypatch, capsys
):
    (tmp_path / "run.gin").touch()
    monkeypatch.chdir(tmp_path)
    words = ["watch", "tw", *SPOT, "--wheel", write_program(tmp_path), "--dry-run"]
    assert launch(*words, "--copy", "rum.gin", "--", "train", "run.gin") == 1
    assert "rum.gin: no such file" in capsys.readouterr().err
    assert launch(*words, "--copy", "run.gin", "--", "train", "run.gin") == 0
    # A watcher in another folder copies the same file.
    said = capsys.readouterr().out
    assert f"{tmp_path / 'run.gin'} tw:" in said
    # All that is asked is printed, its machines' states too.
    assert "tpu-vm describe tw" in said
    assert not standin_gcloud.calls(cloud)


def test_an_unknown_state_is_waited_for_and_a_closed_terminal_says_what_costs(cloud, tmp_path):
    standin_gcloud.change(cloud, provisioned="UPGRADING", waiting=0, provisioning=0)
    watch = begin("watch", "tw", *SPOT, "--wheel", write_program(tmp_path), "--poll", 60, "--", "x")
    try:
        lines = iter(watch.stdout or ())
        assert any("UPGRADING" in line for line in lines)
        time.sleep(2)
        looks = sum("describe" in call for call in standin_gcloud.calls(cloud))
        watch.send_signal(signal.SIGHUP)
        said = "".join(lines)
        assert watch.wait(60) == 130
    finally:
        watch.kill()
    assert looks <= 3
    assert LEFT in said and "$7.37 an hour" in said


def test_waiting_outlasts_what_passes(cloud, capsys):
    passing = ["queued-resources describe", "503 UNAVAILABLE"]
    standin_gcloud.change(cloud, errors=[passing] * 6)
    assert launch("create", "tw", *SPOT, "--poll", 0.05) == 0
    assert "tw: ACTIVE" in capsys.readouterr().out


def test_an_end_says_what_goes_on_costing(cloud, tmp_path, capsys):
    assert launch("create", "tw", *SPOT, "--no-wait") == 0
    assert "delete:" not in capsys.readouterr().out
    wheel = write_program(tmp_path)
    standin_gcloud.change(cloud, errors=[["*", "You do not have an active account selected."]])
    assert launch("watch", "tw", "--wheel", wheel, "--", "x") == 1
    assert LEFT in capsys.readouterr().err
    request.Store("tw").note("finished", finished=True)
    assert launch("watch", "tw", "--wheel", wheel, "--dry-run") == 0
    assert "delete:" not in capsys.readouterr().out
    assert launch("watch", "tw", "--wheel", wheel) == 0
    assert LEFT in capsys.readouterr().out
    standin_gcloud.change(cloud, errors=[["queued-resources delete", "FAILED_PRECONDITION: busy"]])
    assert launch("delete", "tw") == 1
    assert "may be there still" in capsys.readouterr().err
    assert launch("delete", "tw", "--poll", 0.1) == 0
    assert "v4-16 in us-central2-b, $7.37 an hour" in capsys.readouterr().out


def test_a_command_that_has_ended_runs_again(cloud, tmp_path, capsys):
    asked = request.Request(name="tw", project="p", zone=standin_gcloud.ZONE, topology="v4-16")
    done = request.Progress(command=("doctor",), attempt=3, created=1, finished=True)
    request.Store("tw").write(asked, done)
    for words in (["--", "doctor"], []):
        assert launch("run", "tw", "--wheel", write_program(tmp_path), "--dry-run", *words) == 0
        assert "start tw 4 -- doctor" in capsys.readouterr().out


def test_the_file_is_for_the_users_eyes(cloud, tmp_path):
    folder = tmp_path / "shared"
    folder.mkdir(mode=0o755)
    assert launch("create", "tw", *SPOT, "--no-wait", "--state", folder) == 0
    assert stat.S_IMODE((folder / "tw.json").stat().st_mode) == 0o600


@pytest.fixture(name="worker")
def a_worker(tmp_path):
    """A function that runs the bootstrap as a worker does, in whose folder attempt 0 of tw runs."""
    home = tmp_path / "home"
    job, tools = home / "jobs" / "tw", tmp_path / "tools"
    for folder in (job, tools, home / "env" / "bin"):
        folder.mkdir(parents=True)
    for name in ("python3", "python3.11", "python3.12", "python3.13"):
        (tools / name).write_text("#!/bin/sh\nexit 1\n")
    (tools / "sleep").write_text("#!/bin/sh\nexit 0\n")
    for tool in (*tools.iterdir(), home / "env" / "bin" / "twjax"):
        tool.touch()
        tool.chmod(0o755)
    running = subprocess.Popen(["/bin/sleep", "600"], start_new_session=True)
    boot = subprocess.run(
        ["cat", "/proc/sys/kernel/random/boot_id"], capture_output=True, text=True, check=False
    ).stdout
    values = {"attempt": "0\n", "pid": f"{running.pid}\n", "boot": boot, "log": "a\nb"}
    for name, text in values.items():
        (job / name).write_text(text)
    (home / "installed").write_text("one\n")

    def run(*words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["bash", str(workers.SCRIPT), *words],
            env={
                "PATH": f"{tools}:{os.environ['PATH']}",
                "HOME": str(tmp_path),
                "TWJAX_HOME": str(home),
                "TPU_WORKER_ID": "1",
            },
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    yield run, home, running
    running.kill()
    running.wait()


def test_what_runs_keeps_what_it_was_started_with(worker):
    run, home, running = worker
    done = run("prepare", "two", "./twjax-2-py3-none-any.whl", "", "tw", "0")
    assert done.returncode == 0 and "stays as it is" in done.stderr
    assert (home / "installed").read_text() == "one\n" and (home / "env/bin/twjax").exists()
    # Another attempt has what was asked for; here nothing can be installed.
    done = run("prepare", "two", "twjax @ git+https://token:x@host.invalid/twjax@v1", "", "tw", "1")
    assert done.returncode == 1 and not (home / "env").exists()
    assert "git+https://***@host.invalid/twjax@v1" in done.stderr and "token" not in done.stderr
    assert running.poll() is None


def test_a_number_of_before_the_reboot_is_nobodys(worker):
    run, home, running = worker
    (home / "jobs/tw/boot").write_text("another\n")
    assert run("follow", "tw", "0", "0", "").stdout.splitlines() == [
        "[0.1+0] 1:a",
        "[0.1+0] 2:b",
        "[0.1]! lost: it left no exit code",
    ]
    assert "lost" in run("state", "tw", "0").stdout
    assert run("stop", "tw", "KILL").returncode == 0
    time.sleep(0.2)
    assert running.poll() is None
