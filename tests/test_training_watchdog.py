"""A process in which no step ends says where it hangs and exits to be started again."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import pytest

from tests import faulty, tiny
from twjax import storage
from twjax.training.watchdog import EXIT_CODE

# A run's own loop, with batches of which one never comes.
HANGING = """
import sys, time
from twjax.training import program
from twjax.cli import main

batches = program.batches

def late(*arguments, **options):
    for number, batch in enumerate(batches(*arguments, **options)):
        if number == 4:
            time.sleep({seconds})
        yield batch

program.batches = late
sys.exit(main(sys.argv[1:]))
"""
# A restore after a rollback, and an end, that take longer than a step may.
RESTORING = """
import sys, time
from twjax.cli import main
from twjax.training.checkpoint import Checkpoints

def slow(method):
    return lambda *arguments: (time.sleep(10), method(*arguments))[1]

Checkpoints.restore, Checkpoints.__exit__ = map(slow, (Checkpoints.restore, Checkpoints.__exit__))
sys.exit(main(sys.argv[1:]))
"""
SHORT = ["--set", "Run.faults = @Faults()", "--set", "Faults.timeout = 2.0"]


def hanging(config, run_dir, seconds, *arguments):
    return subprocess.run(
        [sys.executable, "-c", HANGING.format(seconds=seconds), "train", config, "--run-dir",
         run_dir, *SHORT, *arguments],
        env=tiny.environment(),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )  # fmt: skip


@pytest.mark.slow
def test_a_step_that_never_ends_is_given_up_with_all_stacks(config, tmp_path):
    run_dir = tmp_path / "run"
    began = time.monotonic()
    done = hanging(config, run_dir, 600)
    assert done.returncode == EXIT_CODE == 75, done.stderr
    assert time.monotonic() - began < 90
    [stacks] = run_dir.glob("hang-*.txt")
    text = stacks.read_text()
    for said in (text, done.stderr):
        assert "a step: no step has ended for 2 seconds (Faults.timeout), after 4 steps" in said
        # The thread that hangs, where it does, and one of the others.
        assert "in late" in said and "in train_loop" in said and said.count("Thread 0x") > 1
    assert f"exiting to be started again; the stacks are in {stacks}" in done.stderr
    # The same command goes on from the newest checkpoint.
    again = tiny.twjax("train", config, "--run-dir", run_dir, *SHORT)
    assert again.returncode == 0, again.stderr
    whole = tmp_path / "whole"
    assert tiny.twjax("train", config, "--run-dir", whole, *SHORT).returncode == 0
    assert tiny.losses(run_dir) == tiny.losses(whole)


@pytest.mark.slow
def test_a_step_that_comes_in_time_and_a_process_that_is_stopped_are_not(config, tmp_path):
    # A single wait is within the limit, as is any time at all without one.
    assert hanging(config, tmp_path / "short", 1.0).returncode == 0
    never = ["--set", "Faults.timeout = None"]
    assert hanging(config, tmp_path / "never", 4.0, *never).returncode == 0
    run_dir = tmp_path / "stopped"
    process = subprocess.Popen(
        [sys.executable, "-m", "twjax", "train", config, "--run-dir", run_dir, *tiny.LONG, *SHORT],
        env=tiny.environment(),
        stderr=subprocess.DEVNULL,
        text=True,
    )
    tiny.wait_for_step(run_dir, 10, process)
    process.send_signal(signal.SIGSTOP)
    time.sleep(5)
    process.send_signal(signal.SIGCONT)
    assert process.wait(120) == 0
    assert not list(run_dir.glob("hang-*"))


@pytest.mark.slow
def test_a_rollback_and_the_end_may_take_as_long_as_a_pause(tmp_path):
    path = faulty.write_config(tmp_path)
    few = ("Run.steps = 13", "Faults.timeout = 5.0")
    done = subprocess.run(
        [sys.executable, "-c", RESTORING, *faulty.command(path, tmp_path / "run", few)],
        env=tiny.environment(),
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "rolling back to step 6" in done.stderr
    assert storage.read_json_lines(tmp_path / "run" / "ledger.jsonl")[-1]["event"] == "finish"


@pytest.mark.slow
def test_the_others_give_up_a_host_that_is_stopped(config, tmp_path):
    run_dir = tmp_path / "run"
    limits = ["--set", "Run.faults = @Faults()", "--set", "Faults.timeout = 5.0"]
    launched = subprocess.Popen(
        [sys.executable, "-m", "launch.local", "--hosts", "2", "--", "train", config, "--run-dir",
         run_dir, *tiny.LONG, *limits],
        env=tiny.environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )  # fmt: skip
    tiny.wait_for_step(run_dir, 20, launched)
    second = host(launched.pid, 1)
    os.kill(second, signal.SIGSTOP)
    output, _ = launched.communicate(timeout=120)
    assert launched.returncode == EXIT_CODE, output
    assert "[host 0] twjax train: a step: no step has ended for 5 seconds" in output
    assert [path.name[-9:] for path in run_dir.glob("hang-*")] == ["host0.txt"]
    assert storage.read_json_lines(run_dir / "ledger.jsonl")[-1]["event"] == "start"


def host(launcher, number):
    """The process id of a host that a launcher has started."""
    for child in map(int, subprocess.check_output(["pgrep", "-P", str(launcher)]).split()):
        with open(f"/proc/{child}/environ", "rb") as file:
            if f"TWJAX_PROCESS_ID={number}".encode() in file.read().split(b"\0"):
                return child
    raise AssertionError(f"no host {number}")
