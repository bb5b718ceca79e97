"""Devices in a mesh of named axes, laid out along the hardware's links."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from jax.experimental import mesh_utils
from jax.sharding import AxisType

from twjax.config import Mesh

AXES = ("slice", "data", "fsdp", "context", "tensor")


def axis_sizes(config: Mesh, num_devices: int) -> dict[str, int]:
    """Returns the size of each axis for this many devices; -1 takes what is left.

    Raises ValueError when the product is another number of devices.
    """
    sizes = {axis: getattr(config, axis) for axis in AXES}
    known = math.prod(size for size in sizes.values() if size != -1)
    if -1 in sizes.values() and num_devices % known == 0:
        sizes = {a: num_devices // known if s == -1 else s for a, s in sizes.items()}
    if math.prod(sizes.values()) != num_devices:
        raise ValueError(
            f"Mesh {sizes} needs {'a multiple of ' if -1 in sizes.values() else ''}{known} "
            f"devices, but there are {num_devices}; change Mesh or the number of devices."
        )
    return sizes


def mesh_here(config: Mesh) -> jax.sharding.Mesh:
    """Returns the mesh of a run's configuration, or the plainest one where it doesn't fit.

    For commands that read a run on other devices than it was trained on.
    """
    try:
        axis_sizes(config, jax.device_count())
    except ValueError:
        config = Mesh()
    return make_mesh(config)


def make_mesh(config: Mesh, devices: Sequence[Any] | None = None) -> jax.sharding.Mesh:
    """Returns a mesh over `devices` (default: all), axes in the order of `AXES`.

    Inner axes get the fastest links; `slice` maps to TPU slices where devices belong to any, and
    to equal groups of consecutive devices elsewhere.
    """
    devices = list(jax.devices() if devices is None else devices)
    sizes = axis_sizes(config, len(devices))
    shape = tuple(sizes[axis] for axis in AXES)
    slices = {getattr(device, "slice_index", None) for device in devices}
    if len(slices) > 1:
        if len(slices) != sizes["slice"]:
            raise ValueError(
                f"Mesh.slice ({sizes['slice']}) must be the number of TPU slices ({len(slices)})."
            )
        array = mesh_utils.create_hybrid_device_mesh(
            (1, *shape[1:]), (shape[0], 1, 1, 1, 1), devices, allow_split_physical_axes=True
        )
    elif devices[0].platform == "tpu":
        array = mesh_utils.create_device_mesh(shape, devices, allow_split_physical_axes=True)
    else:
        array = np.asarray(devices).reshape(shape)
    # JAX's default axis type is Explicit; the networks here rely on the partitioner.
    return jax.sharding.Mesh(array, AXES, axis_types=(AxisType.Auto,) * len(AXES))
