"""A checkpoint is trusted when its commit and its checksums agree; else the one before is used."""

from __future__ import annotations

import json
import os
import pathlib
import resource
import shutil
import signal
import subprocess
import sys
import time

import jax
import numpy as np
import pytest

from tests import tiny
from twjax import config
from twjax.config import Checkpoint, Mesh, Run
from twjax.models.decoder import Network
from twjax.parallel.mesh import make_mesh
from twjax.training import integrity
from twjax.training.anchors import Anchors
from twjax.training.checkpoint import BROKEN, FOLDER, Checkpoints, Pieces, write_pieces
from twjax.training.integrity import COMMIT, FILE, MARKER, Trust, compare
from twjax.training.optimizer import make_optimizer
from twjax.training.state import abstract_state, init_state

EVERY_STEP = Checkpoint(every=1)


@pytest.fixture(scope="module")
def parts(tmp_path_factory):
    """The state that is saved, and what it is restored into."""
    path = tmp_path_factory.mktemp("integrity") / "run.gin"
    path.write_text(tiny.CONFIG.format(cache="none"))
    run = config.load(Run, [path]).value
    network = Network.create(run.model)
    optimizer = make_optimizer(run.optimizer, lambda _: 0.1, network.specs)
    mesh = make_mesh(Mesh(fsdp=1), jax.devices()[:1])
    states = {seed: init_state(network, optimizer, mesh, seed) for seed in (1, 2)}
    return states, abstract_state(network, optimizer, mesh)


@pytest.fixture(scope="module")
def saved(parts, tmp_path_factory):
    """A run with the checkpoints of steps 1 and 2."""
    run_dir = tmp_path_factory.mktemp("saved")
    with Checkpoints(run_dir, EVERY_STEP) as checkpoints:
        for step, state in parts[0].items():
            checkpoints.save(state, step, {"step": step, "tokens": step})
    return run_dir


@pytest.fixture
def run_dir(saved, tmp_path):
    return pathlib.Path(shutil.copytree(saved, tmp_path / "run"))


def equal(a, b):
    jax.tree.map(lambda x, y: np.testing.assert_array_equal(np.asarray(x), np.asarray(y)), a, b)


def flip(path: pathlib.Path, at: float = 0.5) -> None:
    """Changes one bit in the middle of a file."""
    data = bytearray(path.read_bytes())
    data[int(at * (len(data) - 1))] ^= 1
    path.write_bytes(data)


def largest(folder: pathlib.Path) -> pathlib.Path:
    """Returns the file that holds the values: the largest of the data files."""
    return max((folder / "state").rglob("d/*"), key=lambda path: path.stat().st_size)


def latest(run_dir, abstract):
    with Checkpoints(run_dir, EVERY_STEP) as checkpoints:
        return checkpoints.restore_latest(abstract)


def test_every_file_of_a_checkpoint_has_its_checksum(saved):
    for step in (1, 2):
        folder = saved / FOLDER / str(step)
        there = {str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file()}
        listed = json.loads((folder / FILE).read_text())["files"]
        assert listed.keys() == there - {FILE, COMMIT, MARKER}
        assert all(known["bytes"] == (folder / n).stat().st_size for n, known in listed.items())
        assert sorted(folder.rglob(FILE)) == [folder / FILE]
        assert compare(folder).trust is Trust.WHOLE


def test_a_step_that_takes_the_state_over_changes_nothing_of_its_save(parts, tmp_path):
    state, abstract = parts[0][1], parts[1]
    wanted = jax.tree.map(lambda leaf: np.array(leaf, copy=True), state)
    over = jax.jit(lambda tree: jax.tree.map(lambda x: x * 0 + 7, tree), donate_argnums=0)
    given = jax.tree.map(lambda leaf: leaf.copy(), state)
    with Checkpoints(tmp_path, Checkpoint(every=1, export_every=1)) as checkpoints:
        checkpoints.save(given, 1, {"step": 1, "tokens": 1})
        jax.block_until_ready(over(given))
        checkpoints.wait()
        restored = checkpoints.restore_latest(abstract)
    assert restored is not None
    equal(restored.state, wanted)
    shutil.rmtree(tmp_path / FOLDER)
    with Checkpoints(tmp_path) as checkpoints:
        equal(checkpoints.params(abstract.params, 1), wanted.params)


def damage_flip(folder):
    flip(largest(folder))


def damage_truncate(folder):
    path = largest(folder)
    os.truncate(path, path.stat().st_size - 1)


def damage_delete(folder):
    largest(folder).unlink()


def damage_meta(folder):
    path = folder / "meta" / "metadata"
    path.write_text(path.read_text().replace('"tokens": 2', '"tokens": 3'))


def damage_sums(folder):
    flip(folder / FILE)


def damage_no_sums(folder):
    (folder / FILE).unlink()


def damage_commit(folder):
    (folder / COMMIT).write_text("{}")


def damage_neither(folder):
    (folder / COMMIT).unlink()
    (folder / FILE).unlink()


def damage_no_mark(folder):
    (folder / MARKER).unlink()


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (damage_flip, "other bytes from 0 on than were saved"),
        (damage_truncate, "bytes instead of"),
        (damage_delete, "is missing"),
        (damage_meta, "meta/metadata: other bytes"),
        (damage_sums, f"{FILE} is damaged"),
        (damage_no_sums, f"{FILE} is missing"),
        (damage_commit, f"({COMMIT}) is missing or damaged"),
        (damage_neither, f"{COMMIT} is missing or damaged, {FILE} missing"),
        (damage_no_mark, f"({MARKER}) is missing or damaged"),
    ],
)
def test_of_a_damaged_checkpoint_the_one_before_is_used(parts, run_dir, capsys, damage, reason):
    damage(run_dir / FOLDER / "2")
    restored = latest(run_dir, parts[1])
    assert restored is not None and restored.meta == {"step": 1, "tokens": 1}
    equal(restored.state, parts[0][1])
    said = capsys.readouterr().err
    assert "Checkpoint of step 2 can't be read: moved to" in said and reason in said
    assert [path.name[:2] for path in (run_dir / BROKEN).iterdir()] == ["2-"]
    assert [path.name for path in (run_dir / FOLDER).iterdir()] == ["1"]


def test_a_bit_anywhere_in_the_checksum_file_is_noticed(saved, tmp_path):
    folder = tmp_path / "1"
    shutil.copytree(saved / FOLDER / "1", folder)
    whole = (folder / FILE).read_bytes()
    for at in range(0, len(whole), 97):
        (folder / FILE).write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
        # A space between two values may become another one: that says the same.
        same = whole[at : at + 1].isspace()
        assert compare(folder).trust is Trust.UNSURE or same, at


def test_a_large_file_is_compared_in_parts(tmp_path, monkeypatch):
    monkeypatch.setattr(integrity, "PART_BYTES", 1000)
    (tmp_path / "data").write_bytes(os.urandom(2500))
    (tmp_path / "empty").touch()
    (tmp_path / COMMIT).write_text(json.dumps({"custom_metadata": integrity.PROMISE}))
    (tmp_path / MARKER).touch()
    integrity.write_sums(tmp_path)
    assert len(json.loads((tmp_path / FILE).read_text())["files"]["data"]["sha256"]) == 3
    assert compare(tmp_path).trust is Trust.WHOLE
    flip(tmp_path / "data", 0.9)
    assert "data: other bytes from 2,000 on" in compare(tmp_path).reason


def test_damaged_values_are_never_used(parts, run_dir):
    for step in (1, 2):
        flip(largest(run_dir / FOLDER / str(step)))
    with pytest.raises(ValueError, match=r"no checkpoint can be restored: .*/2: .*other bytes"):
        latest(run_dir, parts[1])
    assert sorted(path.name for path in (run_dir / FOLDER).iterdir()) == ["1", "2"]
    params = parts[1].params
    with Checkpoints(run_dir) as checkpoints:
        for read in (
            lambda: checkpoints.restore(parts[1], 2),
            lambda: checkpoints.params(params, 2),
            lambda: checkpoints.arrays(2),
        ):
            with pytest.raises(ValueError, match="/2: the checkpoint is damaged: state/"):
                read()


def test_what_cannot_be_opened_now_is_not_taken_for_damaged(parts, run_dir):
    with Checkpoints(run_dir, EVERY_STEP) as checkpoints:
        limits = resource.getrlimit(resource.RLIMIT_NOFILE)
        free = os.dup(0)
        os.close(free)
        resource.setrlimit(resource.RLIMIT_NOFILE, (free, limits[1]))
        try:
            with pytest.raises(OSError, match="Too many open files"):
                compare(run_dir / FOLDER / "2")
            with pytest.raises(OSError, match="Too many open files"):
                checkpoints.params(parts[1].params, 2)
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, limits)
        restored = checkpoints.restore_latest(parts[1])
    assert restored is not None and restored.meta["step"] == 2
    assert not (run_dir / BROKEN).exists()


def test_a_run_can_go_back_to_what_is_there_as_it_was_saved(run_dir, tmp_path, capsys):
    with Checkpoints(run_dir, EVERY_STEP) as checkpoints:
        anchors = Anchors(checkpoints, 1, None, None)
        assert [anchors.is_sound(step) for step in (0, 1, 2)] == [True] * 3
        flip(largest(run_dir / FOLDER / "2"))
        assert [anchors.is_sound(step) for step in (1, 2)] == [True, False]
        assert f"{FOLDER}/2: isn't gone back to: state/" in capsys.readouterr().err
        # The first state of a branch is one of its trunk's.
        for trunk, sound in ((run_dir, True), (tmp_path / "gone", False)):
            branch = {"from": str(trunk), "step": 1}
            with Checkpoints(tmp_path / "branch", EVERY_STEP) as own:
                assert Anchors(own, 1, branch, None).is_sound(1) is sound
        checkpoints.remove_after(1)
        assert not checkpoints.is_sound(2)


def test_the_first_state_is_gone_back_to_where_no_other_is_nearer(parts, tmp_path):
    with Checkpoints(tmp_path, Checkpoint(every=2, keep=2)) as checkpoints:
        anchors = Anchors(checkpoints, 2, None, None)
        assert anchors.before(1) == [0]
        for step in (2, 3, 4):
            checkpoints.save(parts[0][1], step, {"step": step, "tokens": 0})
        # One for a stop that was asked for is left out.
        assert anchors.kept() == [2, 4]
        assert anchors.before(3) == [2, 4] and anchors.before(2) == [0, 2, 4]
        for step in (6, 8):
            checkpoints.save(parts[0][1], step, {"step": step, "tokens": 0})
        assert anchors.before(9) == [6, 8] and anchors.before(2) == [0, 6, 8]


def test_a_lost_checksum_file_is_borne_where_there_is_nothing_else(parts, run_dir, capsys):
    (run_dir / FOLDER / "1" / FILE).unlink()
    flip(largest(run_dir / FOLDER / "2"))
    restored = latest(run_dir, parts[1])
    assert restored is not None and restored.meta["step"] == 1
    equal(restored.state, parts[0][1])
    said = capsys.readouterr().err
    assert f"/1: used, but it couldn't be verified: {FILE} is missing." in said
    assert "Checkpoint of step 2 can't be read" in said


def test_a_checkpoint_of_an_older_version_is_used_and_said_so(parts, run_dir, capsys):
    folder = run_dir / FOLDER / "2"
    (folder / FILE).unlink()
    told = json.loads((folder / COMMIT).read_text())
    (folder / COMMIT).write_text(json.dumps(told | {"custom_metadata": {}}))
    restored = latest(run_dir, parts[1])
    assert restored is not None and restored.meta["step"] == 2
    said = capsys.readouterr().err
    assert "/2: used, but it couldn't be verified: it was saved by a version that" in said


def test_an_imported_model_has_checksums(tmp_path):
    values = np.arange(12, dtype=np.float32).reshape(3, 4)
    pieces = Pieces(values.shape, values.dtype, (2, 4), lambda box: values[box])
    write_pieces(tmp_path, {"w": pieces}, {"step": 0, "tokens": 0})
    assert compare(tmp_path / FOLDER / "0").trust is Trust.WHOLE
    with Checkpoints(tmp_path) as checkpoints:
        read = checkpoints.arrays(0)["w"].read((slice(0, 3), slice(0, 4)))
    np.testing.assert_array_equal(read, values)
    flip(tmp_path / FOLDER / "0" / "state" / "params.w" / "1.0")
    with (
        Checkpoints(tmp_path) as checkpoints,
        pytest.raises(ValueError, match=r"params.w/1.0: other bytes"),
    ):
        checkpoints.arrays(0)


KILLED = """
import os, pathlib, signal, sys, threading
import jax, jax.numpy as jnp
from twjax.config import Checkpoint
from twjax.training import integrity
from twjax.training.anchors import Anchors
from twjax.training.checkpoint import Checkpoints
from twjax.training.state import TrainState

moment, folder = sys.argv[1], pathlib.Path(sys.argv[2])
state = TrainState(jnp.int32(0), {"w": jnp.ones((64, 64))}, {"m": jnp.ones((64, 64))})

def die(*_):
    os.kill(os.getpid(), signal.SIGKILL)

with Checkpoints(folder, Checkpoint(every=1)) as checkpoints:
    checkpoints.save(state, 1, {"step": 1, "tokens": 1})
    checkpoints.wait()
    write, write_json = integrity.write_sums, integrity.write_json
    if moment == "before the sums":
        integrity.write_sums = die
    elif moment == "while they are written":
        integrity.write_json = die
    elif moment == "before the name":
        integrity.write_sums = lambda path: (write(path), die())
    checkpoints.save(state, 2, {"step": 2, "tokens": 2})
    checkpoints.wait()
"""


@pytest.mark.parametrize("moment", ["before the sums", "while they are written", "before the name"])
def test_a_kill_between_the_data_and_the_commit_leaves_what_was_there(parts, tmp_path, moment):
    done = subprocess.run(
        [sys.executable, "-c", KILLED, moment, str(tmp_path)],
        env=tiny.environment(),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == -signal.SIGKILL, done.stderr
    names = {path.name for path in (tmp_path / FOLDER).iterdir() if path.is_dir()}
    assert "1" in names and "2" not in names and len(names) == 2
    with Checkpoints(tmp_path, EVERY_STEP) as checkpoints:
        assert checkpoints.steps == [1]
        checkpoints.save(parts[0][2], 2, {"step": 2, "tokens": 2})
    assert {path.name for path in (tmp_path / FOLDER).iterdir()} == {"1", "2"}
    assert all(compare(tmp_path / FOLDER / name).trust is Trust.WHOLE for name in ("1", "2"))


@pytest.mark.slow
def test_a_run_killed_in_its_saves_goes_on_from_whole_checkpoints(config, unbroken, tmp_path):
    run_dir = tmp_path / "run"
    arguments = ["train", str(config), "--run-dir", str(run_dir), *tiny.LONG]
    arguments += ["--set", "Checkpoint.every = 1", "--set", "Checkpoint.keep = 100"]
    rng = np.random.default_rng(0)
    for _ in range(4):
        process = subprocess.Popen(
            [sys.executable, "-m", "twjax", *arguments],
            env=tiny.environment(),
            stderr=subprocess.PIPE,
            text=True,
        )
        before = len(list((run_dir / FOLDER).glob("*"))) if run_dir.exists() else 0
        while process.poll() is None:
            if len(list((run_dir / FOLDER).glob("*"))) >= before + 5:
                time.sleep(rng.uniform(0, 0.1))
                process.kill()
                break
            time.sleep(0.002)
        assert "can't be read" not in process.communicate(timeout=60)[1]
        for folder in (run_dir / FOLDER).iterdir():
            assert not folder.name.isdigit() or compare(folder).trust is Trust.WHOLE
    done = tiny.twjax(*arguments)
    assert done.returncode == 0, done.stderr
    assert tiny.losses(run_dir) == tiny.losses(unbroken[0])
    assert not (run_dir / BROKEN).exists()


@pytest.mark.slow
def test_several_hosts_share_a_comparison_and_leave_a_changed_byte(config, unbroken, tmp_path):
    run_dir, last = tmp_path / "run", tiny.LONG_STEPS
    shutil.copytree(unbroken[0], run_dir)
    flip(largest(run_dir / FOLDER / str(last)))
    more = ["--set", f"Run.steps = {last + 2}"]
    done = subprocess.run(
        [
            *[sys.executable, "-m", "launch.local", "--hosts", "2", "--devices-per-host", "1"],
            *["--", "train", config, "--run-dir", run_dir, *tiny.LONG, *more],
        ],
        env=tiny.environment(),
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count(f"Checkpoint of step {last} can't be read") == 1
    assert "other bytes from 0 on than were saved" in done.stdout
    assert len(list((run_dir / BROKEN).iterdir())) == 1
    ours, alone = tiny.losses(run_dir), tiny.losses(unbroken[0])
    assert list(ours) == list(range(1, last + 3))
    np.testing.assert_allclose([ours[s] for s in alone], list(alone.values()), rtol=1e-4)
    # Both have written the last one, and one of them its checksums.
    assert compare(run_dir / FOLDER / str(last + 2)).trust is Trust.WHOLE
