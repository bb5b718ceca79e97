"""What the backward pass finds in the host's memory instead of the device's changes no number."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests import keeping_side, tiny
from twjax.config import Mesh, Model, Run, Step, load
from twjax.models.network import network as declare
from twjax.models.spec import init_weights

NAMES = ("input", "query", "attention", "gate")


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Run:
    path = tmp_path_factory.mktemp("tiny") / "tiny.gin"
    path.write_text(tiny.CONFIG.format(cache="none"))
    return load(Run, [path], ["Step.remat = ('query', 'key', 'gate')"]).value


def test_steps_are_the_same_numbers(run):
    offloaded = dataclasses.replace(run, step=dataclasses.replace(run.step, offload=NAMES))
    # The same is computed again: only where it is kept is other.
    saved = (*run.step.remat, "attention")
    kept = dataclasses.replace(run, step=dataclasses.replace(run.step, remat=saved))
    states, seen = keeping_side.train(offloaded, Mesh(fsdp=2), 2, 3)
    expected, losses = keeping_side.train(kept, Mesh(fsdp=2), 2, 3)
    assert seen == losses
    jax.tree.map(np.testing.assert_array_equal, states[-1].params, expected[-1].params)


MODELS = {
    "decoder": {},
    # Layers in periods, and one that is left over.
    "mixed": {"num_layers": 5, "window": 4, "window_pattern": ("local", "global")},
    "encoder_decoder": {"positions": "relative", "encoder_layers": 2, "num_kv_heads": 4},
}


@pytest.mark.parametrize("model", MODELS)
def test_what_is_named_goes_to_the_host_and_comes_back(run, model):
    config = dataclasses.replace(run.model, **MODELS[model])
    network = declare(config)
    ids = jnp.ones((1, 8), jnp.int32)
    both = config.encoder_layers > 0
    rows = (ids, ids, ids, ids) if both else (ids, ids)
    params = init_weights(network.specs, jax.random.key(0))

    def moves(*offload: str) -> int:
        step = Step(remat="full", offload=offload)

        def loss(params):
            hidden = network.hidden(
                params,
                *rows,
                dtype=jnp.float32,
                kind="reference",
                saved=step.saved,
                offloaded=step.offload,
            )
            return jnp.sum(hidden)

        return str(jax.make_jaxpr(jax.grad(loss))(params)).count("(MemorySpace.Host,)")

    def sites(config: Model) -> int:
        """Returns how often a layer's computation is written in the program."""
        return 2 if both else 3 if config.window else 1

    assert moves() == 0
    assert moves("gate") == moves("input") == sites(config)
    assert moves("gate", "input", "up") == 3 * sites(config)
