"""Names of TPU slices: what they stand for, and what a mistyped one answers."""

import importlib.util
import math

import pytest

from twjax.config import ConfigError
from twjax.planning import topology
from twjax.planning.topology import CHIPS, GIB, parse_topology, peak_flops

# Name, chips, devices, hosts, shape, rings; shapes and counts from Cloud's documentation of each
# generation (docs.cloud.google.com/tpu/docs/v4, v5e, v5p, v6e, tpu7x).
SLICES = [
    ("v4-8", 4, 4, 1, (2, 2, 1), (False, False, False)),
    ("v4-32", 16, 16, 4, (2, 2, 4), (False, False, False)),
    ("v4-128", 64, 64, 16, (4, 4, 4), (True, True, True)),
    ("v5e-1", 1, 1, 1, (1, 1), (False, False, False)),
    ("v5e-8", 8, 8, 1, (2, 4), (False, False, False)),
    ("v5e-16", 16, 16, 4, (4, 4), (False, False, False)),
    ("v5litepod-16", 16, 16, 4, (4, 4), (False, False, False)),
    ("v5e-128", 128, 128, 32, (8, 16), (False, True, False)),
    ("v5e-256", 256, 256, 64, (16, 16), (True, True, False)),
    ("v5p-8", 4, 4, 1, (2, 2, 1), (False, False, False)),
    ("v5p-64", 32, 32, 8, (2, 4, 4), (False, False, False)),
    ("v5p-128", 64, 64, 16, (4, 4, 4), (True, True, True)),
    ("v5p-384", 192, 192, 48, (4, 4, 12), (True, True, True)),
    ("v5p-768", 384, 384, 96, (4, 8, 12), (True, True, True)),
    ("v5p-12288", 6144, 6144, 1536, (16, 16, 24), (True, True, True)),
    ("v6e-4", 4, 4, 1, (2, 2), (False, False, False)),
    ("v6e-64", 64, 64, 16, (8, 8), (False, False, False)),
    ("tpu7x-2", 1, 2, 1, (1, 1, 1), (False, False, False)),
    ("tpu7x-8", 4, 8, 1, (2, 2, 1), (False, False, False)),
    ("tpu7x-128", 64, 128, 16, (4, 4, 4), (True, True, True)),
    ("2xv5e-256", 512, 512, 128, (16, 16), (True, True, False)),
    ("4xv5p-128", 256, 256, 64, (4, 4, 4), (True, True, True)),
]


@pytest.mark.parametrize(("name", "chips", "devices", "hosts", "shape", "wrap"), SLICES)
def test_names_of_slices(name, chips, devices, hosts, shape, wrap):
    slice_ = parse_topology(name)
    assert (slice_.num_chips, slice_.num_devices, slice_.num_hosts) == (chips, devices, hosts)
    assert (slice_.shape, slice_.wrap) == (shape, wrap)
    assert math.prod(slice_.shape) * slice_.num_slices == chips


@pytest.mark.parametrize(
    ("name", "answer"),
    [
        ("v5p-100", "no v5p slice of 100 TensorCores. The nearest are v5p-32, v5p-64, v5p-128."),
        ("v5p-7", "The nearest are v5p-8, v5p-16, v5p-32."),
        ("v5e-17", "no v5e slice of 17 chips. The nearest are v5e-4, v5e-8, v5e-16."),
        ("v5e-512", "The nearest are v5e-64, v5e-128, v5e-256."),
        ("v5pp-128", "Did you mean v5p-128?"),
        ("v5lite-16", "Did you mean v5e-16?"),
        ("v7x-128", "Did you mean tpu7x-128?"),
        ("3xv6-4", "Did you mean 3xv6e-4?"),
        ("2xv5e-15", "The nearest are 2xv5e-4, 2xv5e-8, 2xv5e-16."),
        ("h100", "Valid names look like v4-8, v5e-16, v5p-128, v6e-64, tpu7x-128, 2xv5e-256."),
        ("", "Valid names look like"),
    ],
)
def test_a_wrong_name_is_answered_in_one_line(name, answer):
    with pytest.raises(ConfigError) as error:
        parse_topology(name)
    assert answer in str(error.value)
    assert repr(name) in str(error.value)
    assert "\n" not in str(error.value)


def test_a_device_has_no_more_memory_than_its_chip():
    for chip in CHIPS.values():
        # Cloud rounds v5p's 96 GiB to 95 usable ones; the compiler plans with 95.73.
        assert 0.9 < chip.usable_bytes * chip.devices / chip.hbm_bytes < 1.01, chip.name
        assert chip.usable_bytes > 15 * GIB


def test_without_the_compiler_the_error_says_what_to_install(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"pip install 'twjax\[plan\]'"):
        topology.require_compiler()


@pytest.mark.parametrize(
    "name", ["v4-16", "v5e-1", "v5e-8", "v5p-128", "tpu7x-2", "tpu7x-8", "2xv6e-16"]
)
def test_libtpu_describes_the_same_devices(name):
    pytest.importorskip("libtpu")
    topology.set_environment()
    slice_ = parse_topology(name)
    devices = slice_.devices()
    assert len(devices) == slice_.num_devices
    assert len({d.process_index for d in devices}) == slice_.num_hosts
    assert len({getattr(d, "slice_index", 0) for d in devices}) == slice_.num_slices
    extent = [1 + max(d.coords[i] for d in devices) for i in range(3)]
    assert extent[: len(slice_.shape)] == list(slice_.shape)
    assert peak_flops(devices[0].device_kind) == slice_.chip.flops / slice_.chip.devices
