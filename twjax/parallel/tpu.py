"""What each TPU generation's compiler and kernels are given.

Figures that decided are in docs/performance.md, each with the compilation that it comes from.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax

from twjax.parallel import gpu

OptionValue = bool | int | str


@dataclasses.dataclass(frozen=True)
class Tiles:
    """Rows of splash attention's tiles, each at most the sequence.

    `forward` is both sides of the forward pass. In the backward pass a tile of `queries` meets one
    of `keys`, of which `compute` at a time are multiplied. The gradient of the queries is summed
    over the tiles of keys in memory, in the computation's dtype: one tile of all keys needs no sum.
    """

    forward: int = 1024
    queries: int = 1024
    keys: int = 1024
    compute: int = 1024


# Without a larger limit of the core's own memory.
SMALL_TILES = Tiles()


@dataclasses.dataclass(frozen=True)
class Tuning:
    """How a training step is compiled for one generation."""

    options: Mapping[str, OptionValue] = dataclasses.field(default_factory=dict)
    tiles: Tiles = SMALL_TILES


def _vmem(kib: int) -> dict[str, OptionValue]:
    """Lets one operation use that much of a core's own memory (16 MiB otherwise)."""
    return {"xla_tpu_scoped_vmem_limit_kib": kib}


# A product of a sharded weight is otherwise cut into a loop that sends a piece while it multiplies
# another; each piece is then too small for the matrix unit.
_WHOLE_PRODUCTS: dict[str, OptionValue] = {
    "xla_jf_spmd_threshold_for_windowed_einsum_mib": 1_000_000
}
_LARGE = Tiles(forward=2048, queries=1024, keys=8192, compute=1024)

# JAX's name of a device -> what it is given. Other generations get the compiler's own choices.
TUNINGS: dict[str, Tuning] = {
    "TPU v5 lite": Tuning(_vmem(65_536) | _WHOLE_PRODUCTS, _LARGE),
    "TPU v5": Tuning(_vmem(49_152) | _WHOLE_PRODUCTS, _LARGE),
    "TPU v6 lite": Tuning(_vmem(98_304) | _WHOLE_PRODUCTS, _LARGE),
}
TUNINGS |= {"TPU v5e": TUNINGS["TPU v5 lite"], "TPU v5p": TUNINGS["TPU v5"]}
TUNINGS |= {"TPU v6e": TUNINGS["TPU v6 lite"]}

_JAX, _XLA = "https://github.com/jax-ml/jax/issues/", "https://github.com/openxla/xla/issues/"
_AXLEARN = "https://github.com/apple/axlearn/blob/34aed43c/axlearn/common/compiler_options.py"


@dataclasses.dataclass(frozen=True)
class Danger:
    """Options that gave wrong numbers somewhere: never chosen here, and said when a run asks.

    All of `options` must be on, on one of the device `kinds` (none: on any TPU).
    """

    options: tuple[str, ...]
    what: str
    source: str
    kinds: tuple[str, ...] = ()


DANGERS = (
    Danger(
        (
            "xla_tpu_enable_async_collective_fusion",
            "xla_tpu_overlap_compute_collective_tc",
        ),
        "gave NaN without a word (v6e-16, Ulysses and splash attention)",
        f"{_JAX}38741",
        ("TPU v6 lite", "TPU v6e"),
    ),
    Danger(
        ("xla_tpu_enable_sparse_core_collective_offload_all_reduce",),
        "gave other losses (v6e, JAX 0.6.2; tpu7x, JAX 0.8.3)",
        _AXLEARN,
        ("TPU v6 lite", "TPU v6e", "TPU7x"),
    ),
    Danger(
        ("xla_tpu_enable_sparse_core_collective_offload_reduce_scatter",),
        "gave abnormal losses in fine-tuning (tpu7x, JAX 0.8.3)",
        _AXLEARN,
        ("TPU7x",),
    ),
    Danger(
        ("xla_tpu_enable_async_collective_fusion_fuse_all_gather",),
        "may give wrong results or hang, as libtpu 0.0.52 itself says, but on v5e",
        "libtpu 0.0.52's own error",
        ("TPU v5", "TPU v5p", "TPU v6 lite", "TPU v6e", "TPU7x", "TPU v4"),
    ),
)


def tuning(device: Any) -> Tuning:
    """Returns what a step on this device is given: nothing but on a known TPU."""
    return TUNINGS.get(device.device_kind, Tuning()) if device.platform == "tpu" else Tuning()


def compiler_options(
    device: Any, asked: Mapping[str, OptionValue | None]
) -> dict[str, OptionValue]:
    """Returns a step's compiler options: the generation's, then those asked for (None: not this).

    A CPU has none.
    """
    if device.platform == "gpu":
        options = {**gpu.options(device.device_kind, jax.device_count()), **asked}
    elif device.platform == "tpu":
        options = {**tuning(device).options, **asked}
    else:
        return {}
    return {name: value for name, value in options.items() if value is not None}


def dangers(device_kind: str, options: Mapping[str, OptionValue]) -> list[Danger]:
    """Returns what is known against a set of options on a TPU; a GPU knows none of their names."""
    on = {name for name, value in options.items() if value not in (False, "false", 0)}
    return [
        danger
        for danger in DANGERS
        if set(danger.options) <= on and (not danger.kinds or device_kind in danger.kinds)
    ]


def told(device: Any, asked: Mapping[str, OptionValue | None]) -> list[str]:
    """Returns what a run says of its compiler options: a line for all, and one a danger."""
    options = compiler_options(device, asked)
    if not options:
        return []
    listed = ", ".join(f"{name}={value}" for name, value in sorted(options.items()))
    return [f"compiler options: {listed}"] + [
        f"warning: {' with '.join(danger.options)} {danger.what}: {danger.source}. "
        "Step.compiler_options asks for it."
        for danger in dangers(device.device_kind, options)
    ]
