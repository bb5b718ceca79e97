"""Runs spread over several hosts: they agree with one, stop together and fail together."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from tests import tiny
from twjax import storage

STEPS, LONG = tiny.LONG_STEPS, tiny.LONG
TWO_HOSTS = [sys.executable, "-m", "launch.local", "--hosts", "2", "--devices-per-host", "1", "--"]


@pytest.mark.slow
def test_two_processes_agree_with_one_and_their_checkpoint_restores_on_one(config, tmp_path):
    short = ["--set", "Run.steps = 20", "--set", "Run.log_every = 1"]
    pair = tmp_path / "pair"
    tiny.twjax_pair("train", config, "--run-dir", pair, *short)
    alone = tmp_path / "alone"
    assert tiny.twjax("train", config, "--run-dir", alone, *short).returncode == 0
    a, b = tiny.losses(pair), tiny.losses(alone)
    assert list(a) == list(b) == list(range(1, 21))
    np.testing.assert_allclose(list(a.values()), list(b.values()), rtol=1e-4)
    more = ["--set", "Run.steps = 23", "--set", "Run.log_every = 1"]
    for run_dir in (pair, alone):
        done = tiny.twjax("train", config, "--run-dir", run_dir, *more)
        assert done.returncode == 0, done.stderr
    a, b = tiny.losses(pair), tiny.losses(alone)
    np.testing.assert_allclose(list(a.values()), list(b.values()), rtol=1e-4)
    # A branch begins on both at once.
    branches = {run_dir: tmp_path / f"{run_dir.name}-branch" for run_dir in (pair, alone)}
    options = {run_dir: ["--branch-from", f"{run_dir}@18", *more] for run_dir in branches}
    tiny.twjax_pair("train", config, "--run-dir", branches[pair], *options[pair])
    done = tiny.twjax("train", config, "--run-dir", branches[alone], *options[alone])
    assert done.returncode == 0, done.stderr
    a, b = (tiny.losses(branch) for branch in branches.values())
    assert list(a) == list(b) == list(range(19, 24))
    np.testing.assert_allclose(list(a.values()), list(b.values()), rtol=1e-4)


@pytest.mark.slow
def test_one_failing_host_ends_the_group_with_its_error(config, tmp_path):
    run_dir = tmp_path / "run"
    run_dir.mkdir()
    (run_dir / "ledger.jsonl").mkdir()
    began = time.monotonic()
    done = subprocess.run(
        [*TWO_HOSTS, "train", config, "--run-dir", run_dir],
        env=tiny.environment(),
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    assert done.returncode == 1
    assert "[host 0] twjax train: error: " in done.stdout and "ledger.jsonl" in done.stdout
    # JAX's own barrier at exit would hold both for five minutes.
    assert time.monotonic() - began < 200


@pytest.mark.slow
def test_several_local_hosts_train_one_run(config, unbroken, tmp_path):
    run_dir = tmp_path / "run"
    process = subprocess.Popen(
        [*TWO_HOSTS, "train", config, "--run-dir", run_dir, *LONG],
        env=tiny.environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    tiny.wait_for_step(run_dir, 20, process)
    process.send_signal(signal.SIGINT)
    output, _ = process.communicate(timeout=120)
    assert process.returncode == 0, output
    assert "Asked to stop" in output
    stopped = storage.read_json_lines(run_dir / "ledger.jsonl")[-1]
    assert stopped["event"] == "stop" and stopped["step"] >= 20
    ours, alone = tiny.losses(run_dir), tiny.losses(unbroken[0])
    np.testing.assert_allclose([ours[s] for s in ours], [alone[s] for s in ours], rtol=1e-4)


@pytest.mark.slow
def test_several_hosts_agree_to_leave_a_broken_checkpoint(config, unbroken, tmp_path):
    run_dir = tmp_path / "run"
    shutil.copytree(unbroken[0], run_dir)
    for path in (run_dir / "checkpoints" / str(STEPS) / "state").rglob("d/*"):
        os.truncate(path, path.stat().st_size // 2)
    more = ["--set", f"Run.steps = {STEPS + 2}"]
    done = subprocess.run(
        [*TWO_HOSTS, "train", config, "--run-dir", run_dir, *LONG, *more],
        env=tiny.environment(),
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"Checkpoint of step {STEPS} can't be read" in done.stdout
    assert done.stdout.count("can't be read") == 1
    assert len(list((run_dir / "checkpoints-broken").iterdir())) == 1
    ours, alone = tiny.losses(run_dir), tiny.losses(unbroken[0])
    assert list(ours) == list(range(1, STEPS + 3))
    np.testing.assert_allclose([ours[s] for s in alone], list(alone.values()), rtol=1e-4)


# A host whose own writing fails while the other's save waits for it.
ONE_FAILS = """
import pathlib, resource, sys
from twjax.parallel import distributed
distributed.initialize()
import jax, jax.numpy as jnp
from twjax.config import Checkpoint, Mesh
from twjax.parallel.mesh import make_mesh
from twjax.parallel.sharding import replicated
from twjax.training.checkpoint import Checkpoints
from twjax.training.state import TrainState

mesh = make_mesh(Mesh(fsdp=2))
rows = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("fsdp"))
zeros = lambda shape, sharding: jax.jit(lambda: jnp.zeros(shape), out_shardings=sharding)()
state = TrainState(zeros((), replicated(mesh)), {"w": zeros((256, 256), rows)}, {})
try:
    with Checkpoints(pathlib.Path(sys.argv[1]), Checkpoint(every=1)) as checkpoints:
        if jax.process_index() == 1:
            resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100))
        checkpoints.save(state, 1, {"step": 1, "tokens": 0})
        if jax.process_index() == 0:
            raise OSError("no room for the log")
        checkpoints.save(state, 2, {"step": 2, "tokens": 0})
except Exception as error:
    print(f"ends: {error}", flush=True)
    distributed.leave_group(1)
"""


@pytest.mark.slow
def test_hosts_that_fail_in_different_places_dont_wait_for_each_other(tmp_path):
    launched = (
        "import sys; from launch import local\n"
        "environments = local.environments(2, 1)\n"
        "sys.exit(local.together([sys.executable, '-c', *sys.argv[1:]], environments))"
    )
    done = subprocess.run(
        [sys.executable, "-c", launched, ONE_FAILS, tmp_path],
        env=tiny.environment(),
        cwd=tiny.REPO,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 1, done.stdout + done.stderr
    assert "[host 0] ends: no room for the log" in done.stdout
