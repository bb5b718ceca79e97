"""Products of eight bits: near the ones they stand for, forward and backward, and in training."""

from __future__ import annotations

import dataclasses
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests import keeping_side, tiny
from twjax.config import Mesh, Run, load
from twjax.config.keeping import Adapter
from twjax.models import low_bits
from twjax.models.adapters import adapted
from twjax.models.low_bits import LowBits
from twjax.models.network import network as declare
from twjax.models.spec import init_weights
from twjax.parallel import low_bits as devices
from twjax.planning import compile as planning
from twjax.planning.topology import parse_topology, set_environment

pytest.importorskip("qwix")

# The largest relative errors (of a whole array) that rounding explains: a step of int8 is 1/127 of
# a row's largest number, about 3 deviations; e4m3 keeps 3 bits behind the first one, e5m2 two.
FORWARD = {"int8": 0.02, "fp8": 0.05}
BACKWARD = {"int8": 0.02, "fp8": 0.08}
PRODUCTS = {
    "BSD,DNH->BSNH": ((2, 16, 64), (64, 4, 32)),
    "BSNH,NHD->BSD": ((2, 16, 4, 32), (4, 32, 64)),
    "BSD,DF->BSF": ((2, 16, 64), (64, 96)),
}


def error(found, expected):
    return float(jnp.linalg.norm(found - expected) / jnp.linalg.norm(expected))


@pytest.mark.parametrize("kind", low_bits.TYPES)
@pytest.mark.parametrize("product", PRODUCTS)
def test_products_and_gradients_are_near(product, kind):
    """Rows of very different sizes are each as near."""
    keys = jax.random.split(jax.random.key(0), 3)
    x, w = (jax.random.normal(key, s) for key, s in zip(keys, PRODUCTS[product], strict=False))
    x = x * jnp.asarray([1e-3, 1e3]).reshape(2, *[1] * (x.ndim - 1))
    slope = jax.random.normal(keys[2], jnp.einsum(product, x, w).shape)
    exact, exact_vjp = jax.vjp(lambda x, w: jnp.einsum(product, x, w), x, w)
    found, found_vjp = jax.vjp(lambda x, w: low_bits.multiply(product, x, LowBits(w, kind)), x, w)
    (exact_dx, exact_dw), (dx, dw) = exact_vjp(slope), found_vjp(slope)
    for row in range(2):
        assert 1e-4 < error(found[row], exact[row]) < FORWARD[kind]
        assert 1e-4 < error(dx[row], exact_dx[row]) < BACKWARD[kind]
    np.testing.assert_allclose(dw, exact_dw, rtol=1e-4, atol=1e-2)


def test_what_is_summed_must_be_where_the_rounding_expects_it():
    x = jnp.ones((2, 3))
    with pytest.raises(ValueError, match="DB,DF->BF"):
        low_bits.multiply("DB,DF->BF", x.T, LowBits(jnp.ones((3, 4)), "int8"))


def tiny_run(tmp_path, *bindings) -> Run:
    path = tmp_path / "tiny.gin"
    path.write_text(tiny.CONFIG.format(cache="none"))
    return load(Run, [path], bindings).value


@pytest.mark.parametrize("other", ["encoder_decoder", "adapter"])
def test_every_network_takes_it(tmp_path, other):
    """What is near the network's own activations, and isn't them."""
    model, adapter = tiny_run(tmp_path).model, None
    rows = (jnp.arange(16).reshape(2, 8), jnp.ones((2, 8), jnp.int32))
    if other == "adapter":
        adapter = Adapter(rank=2, alpha=4.0, targets=("layers/q", "layers/down"))
    else:
        changed = {"positions": "relative", "encoder_layers": 2, "num_kv_heads": 4}
        model, rows = dataclasses.replace(model, **changed), rows * 2
    network = adapted(declare(model), adapter)
    params = init_weights(network.specs, jax.random.key(0))

    def hidden(network):
        return network.hidden(params, *rows, dtype=jnp.float32, kind="reference", saved=())

    near = error(hidden(dataclasses.replace(network, matmul="int8")), hidden(network))
    assert 1e-4 < near < 0.05


@pytest.mark.slow
@pytest.mark.parametrize("kind", low_bits.TYPES)
def test_training_falls_as_far(tmp_path, kind):
    steps = 20
    plain = tiny_run(tmp_path, "Step.dtype = 'bfloat16'", f"Run.steps = {steps}")
    low = dataclasses.replace(plain, step=dataclasses.replace(plain.step, matmul=kind))
    before = keeping_side.train(plain, Mesh(fsdp=2), 2, steps)[1]
    after = keeping_side.train(low, Mesh(fsdp=2), 2, steps)[1]
    fallen = before[0]["loss"] - before[-1]["loss"]
    assert fallen > 0.3
    assert after != before
    for a, b in zip(after, before, strict=True):
        assert a["loss"] == pytest.approx(b["loss"], abs=0.1 * fallen)


@pytest.mark.slow
@pytest.mark.parametrize("topology", ["v5e-4", "v6e-4"])
def test_a_tpu_multiplies_in_eight_bits(topology):
    set_environment()
    bindings = ("Data.batch_size = 4", "Step.matmul = 'int8'", "Step.remat = 'full'")
    run = load(Run, ["runs/quickstart_base.gin"], bindings).value
    text = planning.compile_step(run, parse_topology(topology)).text
    assert text is not None
    fusions = [line for line in text.splitlines() if " convolution(" in line]
    low = [line for line in fusions if " s32[" in line.split(" convolution(")[0]]
    # q, k, v, o, gate, up and down, forward and backward.
    assert len(low) >= 14


def test_a_device_without_such_products_is_refused(tmp_path):
    def device(kind, platform="tpu"):
        return types.SimpleNamespace(platform=platform, device_kind=kind)

    devices.check("int8", device("TPU v6 lite"))
    devices.check("fp8", device("NVIDIA H200", "gpu"))
    devices.check("fp8", device("cpu", "cpu"))
    devices.check(None, device("TPU v4"))
    with pytest.raises(ValueError, match=r"Step\.matmul \('fp8'\): TPU v6 lite has no such"):
        devices.check("fp8", device("TPU v6 lite"))
    with pytest.raises(ValueError, match=r"Step\.matmul \('int8'\): TPU v4 has no such"):
        devices.check("int8", device("TPU v4"))
    with pytest.raises(ValueError, match=r"Step\.matmul"):
        tiny_run(tmp_path, "Step.matmul = 'int4'")
