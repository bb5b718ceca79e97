"""Runs whose rows several devices share: the same losses, from the same checkpoints."""

from __future__ import annotations

import shutil

import numpy as np
import pytest

from tests import tiny

CONTEXT = ["--set", "Mesh.context = 2", "--set", "Mesh.fsdp = 2"]


@pytest.mark.slow
def test_a_run_goes_on_whether_its_rows_are_shared_or_not(tmp_path):
    """Alone, shared, then alone again: restored from step 6, then from step 9."""
    config = tiny.write_config(tmp_path)
    alone, moved = tmp_path / "alone", tmp_path / "moved"

    def train(run_dir, *arguments, devices):
        arguments = ("--set", "Run.log_every = 1", *arguments)
        done = tiny.twjax("train", config, "--run-dir", run_dir, *arguments, devices=devices)
        assert done.returncode == 0, done.stderr
        return done.stderr

    train(alone, devices=1)
    shared = tmp_path / "shared"
    train(shared, *CONTEXT, devices=4)

    def back_to(run_dir, step):
        for folder in (run_dir / "checkpoints").iterdir():
            if folder.name.isdigit() and int(folder.name) > step:
                shutil.rmtree(folder)

    shutil.copytree(alone, moved)
    back_to(moved, 6)
    assert "step 6" in train(moved, *CONTEXT, devices=4)
    back_to(moved, 9)
    assert "step 9" in train(moved, devices=1)
    expected = np.array([tiny.losses(alone)[step] for step in range(1, 13)])
    for run_dir in (shared, moved):
        found = tiny.losses(run_dir)
        np.testing.assert_allclose([found[step] for step in range(1, 13)], expected, rtol=1e-4)
    held = [tiny.records(run_dir, "eval") for run_dir in (alone, shared, moved)]
    for records in held[1:]:
        for a, b in zip(records[-2:], held[0][-2:], strict=True):
            assert a["task"] == b["task"] and a["tokens"] == b["tokens"]
            np.testing.assert_allclose(a["loss"], b["loss"], rtol=1e-4)
