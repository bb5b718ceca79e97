"""Checkpoints of earlier versions are restored with their values."""

from __future__ import annotations

import jax
import numpy as np
import pytest

from tests import golden_side, keeping_side
from tests.golden_side import META, STEP
from twjax import config
from twjax.config import Checkpoint, Run
from twjax.models import parts
from twjax.models.network import network as declare
from twjax.models.spec import abstract_weights
from twjax.training.checkpoint import FOLDER, Checkpoints
from twjax.training.integrity import Trust, compare
from twjax.training.source import CONFIG_FILE, Source


@pytest.fixture(params=sorted(golden_side.CASES))
def golden(request, tmp_path):
    """A golden run's folder, its configuration, its state's shapes and values."""
    folder = golden_side.unpack(request.param, tmp_path)
    run = config.load(Run, [folder / CONFIG_FILE]).value
    shapes = golden_side.abstract(run)
    return folder, run, shapes, golden_side.values(shapes)


def test_the_whole_state_is_restored(golden, capsys):
    folder, _, shapes, values = golden
    old = folder.name.endswith("no-checksums")
    kind = Trust.UNVERIFIED if old else Trust.WHOLE
    assert compare(folder / FOLDER / str(STEP)).trust is kind
    with Checkpoints(folder, Checkpoint(every=1)) as checkpoints:
        restored = checkpoints.restore_latest(shapes)
    assert restored is not None and restored.meta == META
    jax.tree.map(np.testing.assert_array_equal, jax.device_get(restored.state), values)
    assert ("couldn't be verified" in capsys.readouterr().err) == old


def test_the_weights_are_read_by_name(golden):
    folder, run, _, values = golden
    for average in (False, True) if run.optimizer.ema else (False,):
        found = keeping_side.arrays_of(folder, STEP, average=average)
        wanted = values.average if average else values.params
        leaves = jax.tree_util.tree_leaves_with_path(wanted)
        named = {"/".join(str(key.key) for key in path): leaf for path, leaf in leaves}
        assert found.keys() == named.keys()
        for name, leaf in named.items():
            np.testing.assert_array_equal(found[name], leaf, err_msg=name)


def test_a_run_is_opened_as_a_source(golden):
    folder, run, _, values = golden
    source = Source.open(folder)
    assert (source.step, source.run) == (STEP, run)
    embedding = values.params["embedding"]
    with source.arrays() as arrays:
        # Adapters are merged.
        assert set(arrays) == parts.names_of(abstract_weights(declare(run.model).specs))
        read = arrays["embedding"].read(tuple(slice(0, n) for n in embedding.shape))
    np.testing.assert_array_equal(read, embedding)


def test_golden_checkpoints_are_small():
    files = list(golden_side.FOLDER.iterdir())
    assert {path.name for path in files} == {f"{name}.tar.xz" for name in golden_side.CASES}
    assert sum(path.stat().st_size for path in files) < 60_000
