"""What a TPU's compiler is given, what a run adds, and what is known against it."""

from __future__ import annotations

import types

import jax
import pytest

from tests import tiny
from twjax.config import Run, load
from twjax.parallel import tpu
from twjax.training.preflight import check_device

VMEM = "xla_tpu_scoped_vmem_limit_kib"


def device(kind, platform="tpu"):
    return types.SimpleNamespace(platform=platform, device_kind=kind)


def test_a_run_adds_to_what_its_generation_gets_and_takes_away():
    given = tpu.compiler_options(device("TPU v5p"), {})
    assert given[VMEM] == 49_152
    asked = tpu.compiler_options(device("TPU v5p"), {VMEM: 65_536, "xla_other": True})
    assert asked == given | {VMEM: 65_536, "xla_other": True}
    assert VMEM not in tpu.compiler_options(device("TPU v5p"), {VMEM: None})
    assert tpu.compiler_options(device("TPU of tomorrow"), {"xla_other": 1}) == {"xla_other": 1}
    # No other compiler knows them.
    assert tpu.compiler_options(device("cpu", "cpu"), {"xla_other": 1}) == {}


@pytest.mark.parametrize("kind", [*tpu.TUNINGS, "TPU v4", "TPU7x"])
def test_nothing_that_was_ever_wrong_is_on_by_default(kind):
    assert not tpu.dangers(kind, tpu.compiler_options(device(kind), {}))


def test_a_combination_that_was_wrong_is_named_where_it_was():
    fused = {"xla_tpu_enable_async_collective_fusion": True}
    both = fused | {"xla_tpu_overlap_compute_collective_tc": "true"}
    assert not tpu.dangers("TPU v6 lite", fused)
    (found,) = tpu.dangers("TPU v6 lite", both)
    options, warning = tpu.told(device("TPU v6 lite"), both)
    assert "xla_tpu_overlap_compute_collective_tc=true" in options and f"{VMEM}=98304" in options
    assert found.source in warning and "NaN" in warning
    assert tpu.told(device("cpu", "cpu"), both) == []
    assert "NaN" in found.what and found.source.endswith("/38741")
    assert not tpu.dangers("TPU v5 lite", both)
    assert not tpu.dangers("TPU v6 lite", both | {"xla_tpu_overlap_compute_collective_tc": False})


def test_what_can_not_be_saved_is_refused_with_what_can(tmp_path):
    path = tiny.write_config(tmp_path)
    good = load(Run, [path], ["Step.remat = ('attention', 'gate')"]).value
    assert good.step.saved == ("attention", "gate")
    with pytest.raises(ValueError, match=r"Step\.remat names \['gat'\].*'gate'"):
        load(Run, [path], ["Step.remat = ('gat',)"])


def test_what_can_not_be_offloaded_is_refused_with_what_can(tmp_path):
    path = tiny.write_config(tmp_path)
    good = load(Run, [path], ["Step.offload = ('input', 'gate')"]).value
    assert good.step.offload == ("input", "gate")
    with pytest.raises(ValueError, match=r"Step\.offload names \['inputs'\].*'input'"):
        load(Run, [path], ["Step.offload = ('inputs',)"])
    with pytest.raises(ValueError, match=r"Step\.offload .*other than 'none'"):
        load(Run, [path], ["Step.offload = ('gate',)", "Step.remat = 'none'"])


def test_a_device_without_the_hosts_memory_is_told_so(tmp_path):
    run = load(Run, [tiny.write_config(tmp_path)], ["Step.offload = ('gate',)"]).value
    one = types.SimpleNamespace(kind="device")
    lacks = types.SimpleNamespace(
        platform="tpu", device_kind="TPU v9", addressable_memories=lambda: [one]
    )
    with pytest.raises(ValueError, match=r"Step\.offload \(gate\): TPU v9 reaches device and no"):
        check_device(run, lacks)
    check_device(run, jax.devices()[0])
