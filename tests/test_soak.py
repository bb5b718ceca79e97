"""The soak of faults, in short: one of each kind."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests import tiny
from twjax import storage


@pytest.mark.slow
def test_a_run_of_two_hosts_under_faults_equals_the_one_left_alone(tmp_path):
    report = tmp_path / "soak.json"
    done = subprocess.run(
        [sys.executable, "benchmarks/soak.py", "--faults", "8", "--steps", "66", "--seed", "3",
         "--json", report],
        env=tiny.environment(),
        cwd=tiny.REPO,
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    found = storage.read_json(report)
    assert found["equal"] and not found["problems"] and found["finished"]
    # One of each kind.
    assert found["faults"] == 8 and set(found["by kind"].values()) == {1}
    assert found["steps lost beyond the newest whole checkpoint"] == 0
    assert found["rollbacks"] >= 2 and found["bad steps in the end"] >= 2
    assert found["of these with some of it from a peer"] >= 1
