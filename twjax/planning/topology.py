"""TPU slices by the names that Google Cloud gives them, described without any hardware."""

from __future__ import annotations

import dataclasses
import difflib
import importlib.util
import itertools
import math
import os
import re
from typing import Any

from twjax.config import ConfigError

GIB = 2**30


@dataclasses.dataclass(frozen=True)
class Rates:
    """What a step's seconds are predicted with, of one chip.

    `hertz` is the core's clock, in which the compiler counts cycles: v5e's is in its log; the
    others' are assumed, as that with which four matrix units a core (of 256 x 256 from v6e on,
    128 x 128 before) make the peak. The rest are bytes a second. `hbm` is Cloud's. `link` is one
    ICI link in one direction: Cloud's total of all links and both directions divided by them, less
    a tenth. `dcn` is the chip's part of the network between slices, in one direction, Cloud's: v5e
    6.4 Tbit for a pod of 256, v5p 50, v6e and tpu7x 100 Gbit a chip; v4's isn't published, and
    v5e's is taken.
    """

    hertz: float
    hbm: float
    link: float
    dcn: float


RATES = {
    "v4": Rates(1.05e9, 1200e9, 45e9, 25e9 / 8),
    "v5e": Rates(1.5e9, 819e9, 45e9, 25e9 / 8),
    "v5p": Rates(1.75e9, 2765e9, 90e9, 50e9 / 8),
    "v6e": Rates(1.75e9, 1640e9, 90e9, 100e9 / 8),
    "tpu7x": Rates(2.2e9, 7380e9, 90e9, 100e9 / 8),
}


@dataclasses.dataclass(frozen=True)
class Chip:
    """One TPU generation.

    `unit` is what the number in a slice's name counts, in units a chip: TensorCores (2) or chips
    (1). `devices` is what JAX sees of a chip. `max_chips` is a whole pod. `usable_bytes` is the
    HBM that a program may plan with, a device: what the compiler itself names when a program is
    too large (libtpu 0.0.50; 0.0.42 differs by 0.01 GiB). `hbm_bytes` and `flops` (bfloat16, a
    second) of a chip are Cloud's: docs.cloud.google.com/tpu/docs/{v4,v5e,v5p,v6e,tpu7x}. `kinds`
    are the names (`device_kind`) that JAX has for its devices.
    """

    name: str
    dims: int
    unit: int
    devices: int
    max_chips: int
    hbm_bytes: float
    usable_bytes: float
    flops: float
    kinds: tuple[str, ...]
    options: tuple[tuple[str, str], ...] = ()

    @property
    def rates(self) -> Rates:
        """The chip's clock and bandwidths."""
        return RATES[self.name]


# Both cores of a v4 chip form one device, as they do on Cloud's machines.
_MEGACORE = (("chip_config_name", "megacore"),)
CHIPS = {
    chip.name: chip
    for chip in (
        Chip("v4", 3, 2, 1, 4096, 32 * GIB, 30.75 * GIB, 275e12, ("TPU v4",), _MEGACORE),
        Chip("v5e", 2, 1, 1, 256, 16 * GIB, 15.75 * GIB, 197e12, ("TPU v5 lite", "TPU v5e")),
        Chip("v5p", 3, 2, 1, 8960, 95 * GIB, 95.73 * GIB, 459e12, ("TPU v5", "TPU v5p")),
        Chip("v6e", 2, 1, 1, 256, 32 * GIB, 31.24 * GIB, 918e12, ("TPU v6 lite", "TPU v6e")),
        # Two devices a chip, each with half of its memory: tpu7x-128 is 64 chips.
        Chip("tpu7x", 3, 2, 2, 9216, 192 * GIB, 94.74 * GIB, 2307e12, ("TPU7x",)),
    )
}
ALIASES = {"v5litepod": "v5e"}

# Slices smaller than one 4 x 4 x 4 cube; larger ones are boxes of cubes.
_SMALL_3D = {4: (2, 2, 1), 8: (2, 2, 2), 16: (2, 2, 4), 32: (2, 4, 4)}
_SHAPES_2D = {
    1: (1, 1),
    4: (2, 2),
    8: (2, 4),
    16: (4, 4),
    32: (4, 8),
    64: (8, 8),
    128: (8, 16),
    256: (16, 16),
}
_NAME = re.compile(r"(?:(?P<slices>[1-9]\d*)x)?(?P<kind>v5litepod|v\d[a-z]?|tpu7x)-(?P<size>\d+)")


@dataclasses.dataclass(frozen=True)
class Topology:
    """`num_slices` equal slices of `shape` chips each."""

    name: str
    chip: Chip
    num_slices: int
    shape: tuple[int, ...]

    @property
    def num_chips(self) -> int:
        return self.num_slices * math.prod(self.shape)

    @property
    def num_devices(self) -> int:
        return self.num_chips * self.chip.devices

    @property
    def num_hosts(self) -> int:
        """Virtual machines, which is the number of processes of a run."""
        return self.num_chips // math.prod(self.host_shape)

    @property
    def host_shape(self) -> tuple[int, int, int]:
        """Chips of one virtual machine: 4, or a whole 2-D slice of up to 8."""
        if self.chip.dims == 2 and math.prod(self.shape) <= 8:
            return (self.shape[0], self.shape[1], 1)
        return (min(self.shape[0], 2), min(self.shape[1], 2), 1)

    @property
    def wrap(self) -> tuple[bool, bool, bool]:
        """Which dims close to a ring: all of a slice of whole cubes; 16 chips of a 2-D slice.

        The compiler assumes open ends unless told, and then turns the gathers of sharded weights
        into all-reduces.
        """
        if self.chip.dims == 3:
            cubes = all(size % 4 == 0 for size in self.shape)
            return (cubes, cubes, cubes)
        return (self.shape[0] == 16, self.shape[1] == 16, False)

    def devices(self) -> list[Any]:
        """Returns the compile-only JAX devices.

        Raises ValueError when libtpu, the compiler, isn't installed.
        """
        require_compiler()
        from jax.experimental import topologies

        options: dict[str, Any] = dict(self.chip.options)
        if self.num_slices > 1:
            options["num_slices"] = self.num_slices
        description = topologies.get_topology_desc(
            f"{self.chip.name}:{'x'.join(map(str, self.shape))}",
            "tpu",
            chips_per_host_bounds=self.host_shape,
            wrap=self.wrap,
            **options,
        )
        devices = list(description.devices)
        assert len(devices) == self.num_devices, (self.name, len(devices))
        return devices


def parse_topology(name: str) -> Topology:
    """Returns the slice or slices that a name of Google Cloud stands for.

    `v5p-128` counts TensorCores, two a chip, as `v4` and `tpu7x` do; `v5e-16` (also
    `v5litepod-16`) and `v6e-16` count chips; `2xv5e-256` is two slices. Raises `ConfigError` with
    the nearest valid names.
    """
    match = _NAME.fullmatch(name.strip().lower())
    kind = ALIASES.get(match["kind"], match["kind"]) if match else ""
    if match is None or kind not in CHIPS:
        raise ConfigError(f"--topology {name!r} is no TPU type. {_suggest(name)}")
    chip, size = CHIPS[kind], int(match["size"])
    shape = None if size % chip.unit else _shape(chip, size // chip.unit)
    if shape is None:
        raise ConfigError(
            f"--topology {name!r}: there is no {kind} slice of {size} "
            f"{'TensorCores' if chip.unit == 2 else 'chips'}. {_suggest(name, chip, size)}"
        )
    return Topology(name, chip, int(match["slices"] or 1), shape)


def peak_flops(device_kind: str) -> float | None:
    """Returns the bfloat16 FLOPs a second of one device as JAX names it; None if it is unknown."""
    for chip in CHIPS.values():
        if device_kind in chip.kinds:
            return chip.flops / chip.devices
    return None


def set_environment() -> None:
    """Lets libtpu compile without a TPU; to be called before JAX is imported."""
    os.environ["JAX_PLATFORMS"] = "cpu"
    # Otherwise libtpu asks Cloud's metadata server for the TPU, and takes a lock on it.
    os.environ["TPU_SKIP_MDS_QUERY"] = "1"
    os.environ["ALLOW_MULTIPLE_LIBTPU_LOAD"] = "1"
    # What it would ask for: it warns on stderr where these are missing, and uses none of them.
    os.environ.setdefault("TPU_ACCELERATOR_TYPE", "v5litepod-1")
    os.environ.setdefault("TPU_WORKER_HOSTNAMES", "localhost")
    os.environ.setdefault("TPU_WORKER_ID", "0")


def require_compiler() -> None:
    """Raises `ConfigError` where libtpu isn't installed."""
    if importlib.util.find_spec("libtpu") is None:
        raise ConfigError(
            "libtpu, the TPU compiler, is not installed; it needs no TPU: "
            "pip install 'twjax[plan]'."
        )


def _shape(chip: Chip, chips: int) -> tuple[int, ...] | None:
    """Returns the default shape of a slice: the most cubic box of cubes."""
    if chips > chip.max_chips:
        return None
    if chip.dims == 2:
        return _SHAPES_2D.get(chips)
    if chips in _SMALL_3D:
        return _SMALL_3D[chips]
    if chips == 1 and chip.name == "tpu7x":
        return (1, 1, 1)
    if chips % 64 or not chips:
        return None
    cubes = chips // 64
    sides = [side for side in range(1, cubes + 1) if cubes % side == 0]
    boxes = [
        (a, b, cubes // (a * b))
        for a, b in itertools.combinations_with_replacement(sides, 2)
        if cubes % (a * b) == 0 and b <= cubes // (a * b)
    ]
    a, b, c = min(boxes, key=sum)
    return (4 * a, 4 * b, 4 * c)


def _suggest(name: str, chip: Chip | None = None, size: int = 0) -> str:
    """Returns a sentence with the valid names nearest to a wrong one."""
    parts = re.match(r"(?:([1-9]\d*)x)?([a-z]*\d*[a-z]*)", name.strip().lower())
    prefix = f"{parts[1]}x" if parts and parts[1] else ""
    if chip is None:
        kinds = [*CHIPS, *ALIASES]
        close = difflib.get_close_matches(parts[2] if parts else "", kinds, n=1, cutoff=0.5)
        if not close:
            return "Valid names look like v4-8, v5e-16, v5p-128, v6e-64, tpu7x-128, 2xv5e-256."
        chip = CHIPS[ALIASES.get(close[0], close[0])]
        number = re.search(r"(\d+)$", name)
        size = int(number[1]) if number else 0
    sizes = [n * chip.unit for n in range(1, chip.max_chips + 1) if _shape(chip, n)]
    if size in sizes:
        return f"Did you mean {prefix}{chip.name}-{size}?"
    nearest = sorted(sorted(sizes, key=lambda s: abs(s - size))[:3])
    return f"The nearest are {', '.join(f'{prefix}{chip.name}-{s}' for s in nearest)}."
