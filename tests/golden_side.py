"""Checkpoints that an earlier version has written, and what their values are.

Each is a folder of a run (its configuration and one checkpoint) in an archive of a few KB under
tests/golden/. They are never written anew: what they show is that they can still be read. A new
one, of a later format say, is made by

  JAX_PLATFORMS=cpu python -m tests.golden_side NAME

where NAME is in `CASES`. "adamw-no-checksums" was made so at commit be65f33, whose checkpoints had
no checksums, and the others when checkpoints got them.
"""

from __future__ import annotations

import pathlib
import sys
import tarfile
import tempfile
import zlib
from typing import Any

import jax
import numpy as np

from tests import tiny
from twjax import config
from twjax.config import Checkpoint, Mesh, Run
from twjax.models import adapters
from twjax.models.network import network as declare
from twjax.parallel.mesh import make_mesh
from twjax.training.checkpoint import Checkpoints
from twjax.training.optimizer import make_optimizer
from twjax.training.papers import freeze
from twjax.training.state import TrainState, abstract_state
from twjax.training.trained import Trained

FOLDER = pathlib.Path(__file__).resolve().parent / "golden"
STEP, META = 2, {"step": 2, "tokens": 34}
_SMALL = (
    "Model.num_layers = 1",
    "Model.vocab_size = 16",
    "Model.embed_dim = 8",
    "Model.head_dim = 4",
    "Model.num_heads = 2",
    "Model.num_kv_heads = 1",
    "Model.mlp_dim = 8",
)
_LORA = (
    "Run.init = 'run:elsewhere'",
    "Run.adapter = @Adapter()",
    "Adapter.rank = 2",
    "Adapter.alpha = 4.0",
    "Adapter.targets = ('layers/*',)",
)
# Settings beside those of a small decoder with AdamW.
CASES: dict[str, tuple[str, ...]] = {
    "adamw-no-checksums": (),
    "adamw": (),
    "ema": ("Optimizer.ema = 0.9",),
    "lora": _LORA,
}


def abstract(run: Run) -> TrainState:
    """Returns the shapes of the state of a run as this version has them."""
    network = adapters.adapted(declare(run.model), run.adapter)
    trained = Trained.of(run, network.specs)
    optimizer = make_optimizer(run.optimizer, lambda _: 0.1, trained.specs)
    return abstract_state(network, optimizer, make_mesh(Mesh(fsdp=1), jax.devices()[:1]), trained)


def values(state: TrainState) -> TrainState:
    """Returns the values of a golden state, which follow from the names in it alone."""

    def fill(path: Any, leaf: jax.ShapeDtypeStruct) -> np.ndarray:
        start = zlib.crc32(jax.tree_util.keystr(path).encode()) % 97
        count = int(np.prod(leaf.shape))
        # A prime beyond the sizes: a few values, and no row or column like the next one.
        found = (np.arange(start, start + count) % 61).reshape(leaf.shape)
        return (found / 64 if leaf.dtype == np.float32 else found).astype(leaf.dtype)

    return jax.tree_util.tree_map_with_path(fill, state)


def unpack(name: str, folder: pathlib.Path) -> pathlib.Path:
    """Unpacks a golden run; returns its folder."""
    with tarfile.open(FOLDER / f"{name}.tar.xz") as archive:
        archive.extractall(folder, filter="data")
    return folder / name


def make(name: str) -> None:
    """Writes a golden run with this version."""
    with tempfile.TemporaryDirectory() as temporary:
        run_dir = pathlib.Path(temporary) / name
        run_dir.mkdir()
        path = pathlib.Path(temporary) / "run.gin"
        path.write_text(tiny.CONFIG.format(cache="none"))
        loaded = config.load(Run, [path], [*_SMALL, *CASES[name]])
        shapes = abstract(loaded.value)
        state = jax.tree.map(
            lambda leaf, shape: jax.device_put(leaf, shape.sharding), values(shapes), shapes
        )
        with Checkpoints(run_dir, Checkpoint(every=1)) as checkpoints:
            checkpoints.save(state, STEP, META)
        freeze(loaded, run_dir)
        FOLDER.mkdir(exist_ok=True)
        with tarfile.open(FOLDER / f"{name}.tar.xz", "w:xz", preset=9) as archive:
            archive.add(run_dir, name)


if __name__ == "__main__":
    make(sys.argv[1])
