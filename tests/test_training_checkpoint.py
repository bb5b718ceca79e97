"""Checkpoints: any mesh to any other, and what happens when one can't be read."""

from __future__ import annotations

import pathlib
import shutil

import jax
import numpy as np
import pytest

from tests import tiny
from twjax import config
from twjax.config import Checkpoint, Mesh, Run
from twjax.models.decoder import Network
from twjax.parallel.mesh import make_mesh
from twjax.training.checkpoint import BROKEN, FOLDER, Checkpoints
from twjax.training.optimizer import make_optimizer
from twjax.training.state import abstract_state, init_state


@pytest.fixture(scope="module")
def parts(tmp_path_factory):
    path = tmp_path_factory.mktemp("checkpoint") / "run.gin"
    path.write_text(tiny.CONFIG.format(cache="none"))
    run = config.load(Run, [path]).value
    network = Network.create(run.model)
    return network, make_optimizer(run.optimizer, lambda _: 0.1, network.specs)


def make(parts, devices: int, seed: int = 0):
    mesh = make_mesh(Mesh(fsdp=devices), jax.devices()[:devices])
    return init_state(*parts, mesh, seed), abstract_state(*parts, mesh)


def equal(a, b):
    jax.tree.map(lambda x, y: np.testing.assert_array_equal(np.asarray(x), np.asarray(y)), a, b)


@pytest.mark.parametrize(
    ("writers", "readers"), [(8, 1), pytest.param(1, 8, marks=pytest.mark.slow), (4, 2)]
)
def test_a_state_is_restored_on_another_number_of_devices(parts, tmp_path, writers, readers):
    state, _ = make(parts, writers)
    _, abstract = make(parts, readers)
    with Checkpoints(tmp_path, Checkpoint(every=1)) as checkpoints:
        checkpoints.save(state, 5, {"step": 5, "tokens": 123})
        checkpoints.wait()
        restored = checkpoints.restore_latest(abstract)
    assert restored is not None
    assert restored.meta == {"step": 5, "tokens": 123}
    equal(restored.state, state)
    wanted = jax.tree.map(lambda x: x.sharding, abstract)
    assert jax.tree.map(lambda x: x.sharding, restored.state) == wanted


def test_the_newest_readable_checkpoint_is_used_and_the_broken_one_kept(parts, tmp_path, capsys):
    old, abstract = make(parts, 1, seed=1)
    with Checkpoints(tmp_path, Checkpoint(every=1)) as checkpoints:
        checkpoints.save(old, 1, {"step": 1, "tokens": 1})
        checkpoints.save(make(parts, 1, seed=2)[0], 2, {"step": 2, "tokens": 2})
    data = sorted((tmp_path / FOLDER / "2" / "state").rglob("d/*"))
    for path in data:
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with Checkpoints(tmp_path, Checkpoint(every=1)) as checkpoints:
        restored = checkpoints.restore_latest(abstract)
        assert restored is not None and restored.meta["step"] == 1
        equal(restored.state, old)
        assert checkpoints.steps == [1]
        # The step can be saved again.
        checkpoints.save(old, 2, {"step": 2, "tokens": 2})
        checkpoints.wait()
        assert checkpoints.steps == [1, 2]
    assert len(list((tmp_path / BROKEN).iterdir())) == 1
    assert "moved to" in capsys.readouterr().err


def test_another_model_is_an_error_not_a_fresh_start(parts, tmp_path):
    with Checkpoints(tmp_path, Checkpoint(every=1)) as checkpoints:
        checkpoints.save(make(parts, 1)[0], 1, {"step": 1, "tokens": 1})
    network, optimizer = parts
    import dataclasses

    wider = Network.create(dataclasses.replace(network.config, mlp_dim=64))
    abstract = abstract_state(wider, optimizer, make_mesh(Mesh(fsdp=1), jax.devices()[:1]))
    with (
        Checkpoints(tmp_path, Checkpoint(every=1)) as checkpoints,
        pytest.raises(ValueError, match="no checkpoint can be restored"),
    ):
        checkpoints.restore_latest(abstract)
    assert (tmp_path / FOLDER / "1").is_dir()


def test_an_empty_folder_and_a_half_written_one_restore_nothing(parts, tmp_path):
    state, abstract = make(parts, 1)
    with Checkpoints(tmp_path, Checkpoint(every=1)) as checkpoints:
        assert checkpoints.restore_latest(abstract) is None
        checkpoints.save(state, 1, {"step": 1, "tokens": 1})
    whole: pathlib.Path = tmp_path / FOLDER / "1"
    shutil.move(whole, tmp_path / FOLDER / "1.orbax-checkpoint-tmp")
    with Checkpoints(tmp_path, Checkpoint(every=1)) as checkpoints:
        assert checkpoints.restore_latest(abstract) is None


def test_only_the_newest_are_kept(parts, tmp_path):
    state, _ = make(parts, 1)
    with Checkpoints(tmp_path, Checkpoint(every=1, keep=2)) as checkpoints:
        for step in (1, 2, 3, 4):
            checkpoints.save(state, step, {"step": step, "tokens": step})
        checkpoints.wait()
        assert checkpoints.steps == [3, 4]


def test_a_save_on_request_takes_no_others_place(parts, tmp_path):
    """Saved at 7 and 11 because the run was asked to stop; every 5 steps by itself."""
    state, _ = make(parts, 1)
    seen = []
    with Checkpoints(tmp_path, Checkpoint(every=5, keep=2)) as checkpoints:
        for step in (5, 7, 10, 11, 15, 16, 20):
            checkpoints.save(state, step, {"step": step, "tokens": step})
            seen.append(checkpoints.settled())
    assert seen == [[5], [5, 7], [5, 10], [5, 10, 11], [10, 15], [10, 15, 16], [15, 20]]
    # With another interval the old ones stay until there are as many new ones.
    with Checkpoints(tmp_path, Checkpoint(every=6, keep=2)) as checkpoints:
        for step, left in ((24, [20, 24]), (30, [24, 30])):
            checkpoints.save(state, step, {"step": step, "tokens": step})
            assert checkpoints.settled() == left
