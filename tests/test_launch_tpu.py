"""TPU VMs through a stand-in gcloud: what is asked for, said, repeated, and gone on with."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import pathlib
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable

import pytest

from launch import gcloud, request, tpu_vm
from tests import standin_gcloud, tiny

SPOT = ["--topology", "v4-16", "--zone", standin_gcloud.ZONE, "--project", "p", "--spot"]
# A program in the place of twjax: it says its worker's number and its words.
PROGRAM = """
import os, pathlib, signal, sys, time
print("says", os.environ.get("TWJAX_PROCESS_ID", "0"), *sys.argv[1:], flush=True)
for kind, value in zip(sys.argv[1::2], sys.argv[2::2]):
    if kind == "exit":
        sys.exit(int(value))
    if kind == "sleep":
        time.sleep(float(value))
    if kind == "until":
        ends = []
        signal.signal(signal.SIGTERM, lambda *about: ends.append(1))
        while not pathlib.Path(value).exists() and not ends:
            time.sleep(0.05)
        print("saved" if ends else "done", flush=True)
    if kind == "environment":
        print("value", repr(os.environ.get(value)), flush=True)
"""


def write_wheel(folder: pathlib.Path, packages: dict[str, str] | None = None) -> pathlib.Path:
    """Writes a wheel of this repository, or of these modules; its `twjax` runs `twjax.cli:main`."""
    files = {
        f"{path.relative_to(tiny.REPO)}": path.read_bytes()
        for package in ("twjax", "tasks", "launch")
        for path in sorted((tiny.REPO / package).rglob("*"))
        if path.is_file() and "__pycache__" not in path.parts
    }
    if packages is not None:
        files = {name: text.encode() for name, text in packages.items()}
    info = "twjax-0.1.dist-info"
    files |= {
        f"{info}/METADATA": b"Metadata-Version: 2.1\nName: twjax\nVersion: 0.1\n",
        f"{info}/WHEEL": b"Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        f"{info}/entry_points.txt": b"[console_scripts]\ntwjax = twjax.cli:main\n",
    }
    record = "".join(
        f"{name},sha256={base64.urlsafe_b64encode(hashlib.sha256(data).digest()).decode()[:-1]},"
        f"{len(data)}\n"
        for name, data in files.items()
    )
    path = folder / "twjax-0.1-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as wheel:
        for name, data in {**files, f"{info}/RECORD": f"{record}{info}/RECORD,,\n"}.items():
            wheel.writestr(name, data)
    return path


def write_program(folder: pathlib.Path, program: str = PROGRAM) -> pathlib.Path:
    """Writes a wheel whose `twjax` is a small program."""
    body = "".join(f"    {line}\n" for line in program.splitlines())
    modules = {"twjax/__init__.py": "", "twjax/cli.py": f"def main():\n{body}"}
    return write_wheel(folder, modules)


@pytest.fixture
def cloud(tmp_path, monkeypatch):
    """A stand-in cloud on PATH, and an empty folder of states."""
    folder = tmp_path / "cloud"
    standin_gcloud.install(folder)
    monkeypatch.setenv("PATH", f"{folder / 'bin'}:{os.environ['PATH']}")
    monkeypatch.setenv(request.FOLDER, str(tmp_path / "state"))
    yield folder
    for home in folder.glob("homes/*"):
        standin_gcloud.kill([str(home)])


def launch(*words: object) -> int:
    """Runs a subcommand in this process."""
    old = signal.getsignal(signal.SIGTERM)
    try:
        return tpu_vm.main([str(word) for word in words])
    finally:
        signal.signal(signal.SIGTERM, old)


def begin(*words: object, **streams) -> subprocess.Popen[str]:
    """Starts a subcommand in a process of its own."""
    return subprocess.Popen(
        [sys.executable, "-m", "launch.tpu_vm", *map(str, words)],
        env={**os.environ, "PYTHONPATH": str(tiny.REPO)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        **streams,
    )


def wait_until(holds: Callable[[], object], seconds: float = 60.0) -> None:
    until = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < until, "did not come about"
        time.sleep(0.05)


def verbs(folder: pathlib.Path) -> list[str]:
    """Returns what was asked of the cloud, in order, without looks."""
    words = [" ".join(call[2:4]) for call in standin_gcloud.calls(folder)]
    return [verb for verb in words if "describe" not in verb]


def test_create_says_what_it_costs_and_waits(cloud, capsys):
    assert launch("create", "tw", *SPOT, "--poll", 0.1) == 0
    said = capsys.readouterr().out
    assert "8 chips at $0.92 a chip-hour" in said and "$7.37 an hour" in said
    states = re.findall(r"tw: (\w+)", said)
    assert states[-1] == "ACTIVE" and states[0] in ("WAITING_FOR_RESOURCES", "PROVISIONING")
    (call,) = [c for c in standin_gcloud.calls(cloud) if c[3] == "create"]
    assert {"--accelerator-type=v4-16", "--runtime-version=tpu-ubuntu2204-base"} <= set(call)
    assert {"--node-id=tw", "--spot", "--async"} <= set(call)
    assert launch("status", "tw") == 0
    assert "tw: READY" in capsys.readouterr().out
    assert launch("delete", "tw", "--poll", 0.1) == 0
    assert standin_gcloud.state(cloud, "tw") == "ABSENT"
    assert launch("status", "tw") == 1
    assert "isn't known here" in capsys.readouterr().err


def test_several_slices_are_one_request_with_a_node_each(cloud):
    assert launch("create", "tw", "--topology", "v5e-4", "--node-count", 2, "--zone",
                  standin_gcloud.ZONE, "--project", "p", "--reserved", "--poll", 0.1) == 0  # fmt: skip
    (call,) = [c for c in standin_gcloud.calls(cloud) if c[3] == "create"]
    assert {"--accelerator-type=v5litepod-4", "--node-count=2", "--node-prefix=tw"} <= set(call)
    assert "--reserved" in call and not any(word.startswith("--node-id") for word in call)


def test_what_is_wrong_is_one_line_with_advice(cloud, monkeypatch, capsys):
    cases = [
        ("ERROR: (gcloud) You do not currently have an active account selected.", "gcloud auth"),
        ('{"code": 8, "message": "Quota \'TPUV4s\' exhausted. Limit 0"}', "Quotas"),
        ("PERMISSION_DENIED: Cloud TPU API has not been used in project 1", "services enable"),
        ('There is no more capacity in the zone "x"; [EID: 0xba]', "another zone"),
    ]
    for text, advice in cases:
        standin_gcloud.change(cloud, errors=[["queued-resources create", text]])
        assert launch("create", "tw", *SPOT, "--poll", 0.1) == 1
        said = capsys.readouterr().err
        assert said.count("\n") == 1 and advice in said and "EID" not in said
    assert launch("create", "tw", "--topology", "v4-32", *SPOT[2:]) == 1
    assert "accelerator-types list" in capsys.readouterr().err
    assert launch("create", "tw", *SPOT[:3], "mars-1-a", *SPOT[4:]) == 1
    assert "zone may not exist" in capsys.readouterr().err
    assert launch("create", "tw", "--topology", "tpu7x-8", *SPOT[2:]) == 1
    assert "launch.gke" in capsys.readouterr().err
    for name in ("; rm -rf ~", "-x", "Tw", "../tw"):
        assert launch("status", f"./{name}" if name[0] == "-" else name) == 1
        assert "a letter" in capsys.readouterr().err
    monkeypatch.setenv("PATH", "/nonexistent")
    assert launch("create", "tw", *SPOT) == 1
    assert "cloud.google.com/sdk/docs/install" in capsys.readouterr().err


def test_what_may_pass_is_tried_again(cloud, capsys):
    passing = "HTTPError 503: The service is currently unavailable. UNAVAILABLE"
    standin_gcloud.change(cloud, errors=[["queued-resources create", passing]] * 2)
    assert launch("create", "tw", *SPOT, "--poll", 0.1) == 0
    assert capsys.readouterr().out.count("again in") == 2
    assert verbs(cloud).count("queued-resources create") == 3


def test_a_usage_error_is_not_tried_again():
    printed = "ERROR: (gcloud.x) unrecognized arguments: --y\nUsage: gcloud [--internal]\n timeout"
    error = gcloud.explain(printed, ("queued-resources", "create"))
    assert (error.kind, str(error)) == ("other", "unrecognized arguments: --y")


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
    bad = "if os.environ['TWJAX_PROCESS_ID'] == '1':\n    sys.exit(7)\ntime.sleep(60)\n"
    program = f"{PROGRAM}\n{bad}"
    began = time.monotonic()
    wheel = write_program(tmp_path, program)
    assert launch("run", "tw", "--wheel", wheel, "--poll", 0.2, "--", "x", "y") == 7
    assert time.monotonic() - began < 45
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
        said, _ = watch.communicate(timeout=60)
    finally:
        watch.kill()
    assert watch.returncode == 0, said
    assert "tw is lost (SUSPENDED)" in said and said.count("[0.0] says 0 until") == 2
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
        said, _ = first.communicate(timeout=30)
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
        said, _ = second.communicate(timeout=60)
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
        run.wait(30)
    finally:
        run.kill()
    assert run.returncode == 0, lines
    assert lines.count("connection lost; again in 1 s") >= 1
    for worker in range(2):
        own = [line for line in lines if line.startswith(f"[0.{worker}] step")]
        assert own == [f"[0.{worker}] step {n}" for n in range(steps)]


def _break_connections(cloud: pathlib.Path) -> None:
    """Ends the gcloud processes that follow a log."""
    for status in pathlib.Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = status.read_bytes()
        except OSError:
            continue
        if str(cloud).encode() in words and b"follow" in words:
            os.kill(int(status.parent.name), signal.SIGKILL)
    for status in pathlib.Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = status.read_bytes()
            home = (status.parent / "environ").read_bytes()
        except OSError:
            continue
        if b"follow" in words and str(cloud).encode() in home:
            os.kill(int(status.parent.name), signal.SIGKILL)


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
        said, _ = watch.communicate(timeout=60)
    finally:
        watch.kill()
    assert watch.returncode == 0, said
    assert "[0.0] ended: exit code 0 after it was asked to stop by the machine" in said
    assert said.count("[0.0] says") == 2 and "[0.0] done" in said


def test_watch_gives_up_where_waiting_does_not_help(cloud, tmp_path, capsys):
    wheel = write_program(tmp_path)
    words = ["watch", "tw", *SPOT, "--wheel", wheel, "--poll", 0.1, "--", "x", "y"]
    standin_gcloud.change(cloud, errors=[["*", "You do not have an active account selected."]])
    assert launch(*words) == 1
    assert "gcloud auth login" in capsys.readouterr().err
    # Capacity comes and goes, and a request that failed is deleted and made again.
    standin_gcloud.change(cloud, provisioned="FAILED")
    full = ["queued-resources create", 'There is no more capacity in the zone "x"']
    standin_gcloud.change(cloud, errors=[full])
    assert launch(*words[:2], "--recreations", 1, *words[7:]) == 1
    said = capsys.readouterr()
    assert "no more capacity" in said.out and "lost again (FAILED)" in said.err
    assert verbs(cloud)[-3:] == [f"queued-resources {v}" for v in ("create", "delete", "create")]


def dry_commands(text: str) -> list[list[str]]:
    return [shlex.split(line) for line in text.splitlines() if line.startswith("gcloud ")]


def every_command(tmp_path, capsys) -> list[list[str]]:
    """Returns what a dry run of all subcommands prints, for one slice and for several."""
    wheel = write_program(tmp_path)
    found = []
    for topology in ("v4-16", "2xv5e-4"):
        way = ["--topology", topology, *SPOT[2:], "--dry-run"]
        assert launch("create", "tw", *way) == 0
        assert launch("watch", "tw", *way, "--wheel", wheel, "--", "train", "x; y") == 0
    store = request.Store("tw")
    asked = request.Request(name="tw", project="p", zone=standin_gcloud.ZONE, topology="v4-16")
    store.write(asked, request.Progress(command=("train", "x"), attempt=2))
    before = store.path.read_bytes()
    for words in (("status",), ("logs",), ("stop",), ("delete",), ("run", "--wheel", str(wheel))):
        assert launch(words[0], "tw", *words[1:], "--dry-run") == 0
    assert launch("list", "--zone", standin_gcloud.ZONE, "--project", "p", "--dry-run") == 0
    assert store.path.read_bytes() == before
    found += dry_commands(capsys.readouterr().out)
    kinds = {" ".join(words[3:5]) for words in found}
    assert kinds == {" ".join(kind) for kind in standin_gcloud.GRAMMAR}
    return found


def test_a_dry_run_prints_what_would_be_run_and_runs_nothing(cloud, tmp_path, capsys):
    commands = every_command(tmp_path, capsys)
    assert not standin_gcloud.calls(cloud)
    for words in commands:
        standin_gcloud._parse(words[1:])


REAL = next(
    (p for p in ("/usr/bin/gcloud", "/snap/bin/gcloud") if pathlib.Path(p).exists()), None
) or shutil.which("gcloud")


@pytest.mark.slow
@pytest.mark.skipif(REAL is None, reason="no gcloud is installed")
def test_a_real_gcloud_knows_these_commands(cloud, tmp_path, capsys):
    # Without a login it reads the command and stops there: 2 is its exit code for a wrong one.
    own = {
        **os.environ,
        "CLOUDSDK_CONFIG": str(tmp_path / "sdk"),
        "CLOUDSDK_CORE_DISABLE_PROMPTS": "1",
    }
    by_kind = {
        (*words[3:5], "--node-count=2" in words): words for words in every_command(tmp_path, capsys)
    }
    wrong = ["gcloud", "compute", "tpus", "queued-resources", "describe", "tw", "--bogus"]
    for words in (*by_kind.values(), wrong):
        done = subprocess.run(
            [str(REAL), *words[1:]], env=own, capture_output=True, text=True, check=False
        )
        if words is wrong:
            assert done.returncode == 2 and "unrecognized" in done.stderr
        else:
            assert done.returncode == 1 and "active account" in done.stderr, (words, done.stderr)


def test_the_file_of_a_request_is_all_there_is(cloud, tmp_path):
    wheel = write_program(tmp_path)
    assert launch("create", "tw", *SPOT, "--price", 1.5, "--no-wait", "--poll", 0.1) == 0
    stored = json.loads((tmp_path / "state" / "tw.json").read_text())
    assert stored["request"]["price"] == 1.5 and stored["progress"]["created"] == 1
    assert request.Store("tw").read()[0].cost_line().startswith("cost: 8 chips at $1.50")
    held = request.Store("tw")
    held.hold()
    assert launch("run", "tw", "--wheel", wheel, "--", "x") == 1
