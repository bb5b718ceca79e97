"""What a GPU's compiler is given, and that it knows the names."""

from __future__ import annotations

import types

import jax
import jax.numpy as jnp
import pytest

from twjax.parallel import gpu, tpu


def device(kind):
    return types.SimpleNamespace(platform="gpu", device_kind=kind)


def test_only_what_devices_send_each_other_is_tuned():
    assert gpu.options("NVIDIA H200", 1) == {}
    assert gpu.options("NVIDIA H200", 8) == gpu.SEVERAL
    assert gpu.options("NVIDIA GPU of tomorrow", 8) == {}


def test_a_run_adds_and_takes_away():
    # Eight devices, as all tests have.
    scheduler = "xla_gpu_enable_latency_hiding_scheduler"
    given = tpu.compiler_options(device("NVIDIA H100 80GB HBM3"), {})
    assert given == gpu.SEVERAL
    asked = {scheduler: None, "xla_gpu_enable_triton_gemm": False}
    found = tpu.compiler_options(device("NVIDIA H100 80GB HBM3"), asked)
    assert scheduler not in found and found["xla_gpu_enable_triton_gemm"] is False
    (line,) = tpu.told(device("NVIDIA H200"), {})
    assert "xla_gpu_enable_latency_hiding_scheduler=True" in line


def test_this_jax_knows_every_name():
    """The compilers share the options' names: one that is gone would fail every step."""
    compiled = jax.jit(lambda x: x + 1, compiler_options=dict(gpu.SEVERAL))
    assert compiled(jnp.ones(())) == 2
    with pytest.raises(jax.errors.JaxRuntimeError, match="No such compile option"):
        jax.jit(lambda x: x + 1, compiler_options={"xla_gpu_no_such": True})(jnp.ones(()))
