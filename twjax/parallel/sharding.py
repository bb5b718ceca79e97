"""The one table from logical axes to mesh axes, and every sharding derived from it."""

from __future__ import annotations

import math
from typing import Any

import jax
from jax.experimental.layout import Layout, with_layout_constraint
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from twjax.models.spec import WeightSpec, is_spec

# Logical axis -> mesh axes. Networks name only the left side. Devices that share a row's positions
# share the weights as well, as those of other rows do.
RULES: dict[str, tuple[str, ...]] = {
    "batch": ("slice", "data", "fsdp"),
    "seq": ("context",),
    "embed": ("fsdp", "context"),
    "heads": ("tensor",),
    "kv": ("tensor",),
    "mlp": ("tensor",),
    "vocab": ("tensor",),
    "layers": (),
}


def activation_spec(*axes: str | None) -> PartitionSpec:
    """Returns the partition of an array whose dims have these logical axes (None: whole)."""
    return PartitionSpec(
        *(None if axis is None else _mesh_axes(axis, "activation") for axis in axes)
    )


def constrain(x: jax.Array, *axes: str | None) -> jax.Array:
    """Pins an activation's sharding under `jax.set_mesh`; without a mesh it returns `x`."""
    mesh = current_mesh()
    if mesh is None:
        return x
    spec = activation_spec(*axes)
    _check(f"activation {axes}", x.shape, axes, dict(mesh.shape))
    return jax.lax.with_sharding_constraint(x, spec)


def row_major(x: jax.Array) -> jax.Array:
    """Pins the order of an array's dims in a device's memory: the last one is contiguous.

    The compiler gives an array the order in which a product makes it, though it is then copied into
    the other one at each later use.
    """
    return with_layout_constraint(x, Layout(tuple(range(x.ndim))))


def current_mesh() -> Any:
    """Returns the mesh set by `jax.set_mesh`, or None."""
    mesh = jax.sharding.get_abstract_mesh()
    return None if mesh.empty else mesh


def weight_shardings(specs: Any, mesh: Mesh) -> Any:
    """Returns the tree of `NamedSharding`s of a tree of weight specs.

    Raises ValueError that names weight, dim, size and axis when a dim can't be divided.
    """
    return jax.tree.map(lambda spec: weight_sharding(spec, mesh), specs, is_leaf=is_spec)


def weight_sharding(spec: WeightSpec, mesh: Mesh) -> NamedSharding:
    """Returns one weight's sharding."""
    owner = f"weight {spec.name}"
    _check(owner, spec.shape, spec.axes, dict(mesh.shape))
    partition = [
        # Axes behind the first are named where they divide anything: one sharding, one spelling.
        axes and tuple(a for a in axes if a == axes[0] or mesh.shape[a] > 1)
        for axes in (None if a is None else _mesh_axes(a, owner) for a in spec.axes)
    ]
    return NamedSharding(mesh, PartitionSpec(*partition))


def batch_sharding(mesh: Mesh) -> NamedSharding:
    """Returns the sharding of a batch's arrays [batch, seq]."""
    return NamedSharding(mesh, activation_spec("batch", "seq"))


def rows_sharding(mesh: Mesh) -> NamedSharding:
    """Returns the sharding of numbers of a batch's rows [batch]."""
    return NamedSharding(mesh, activation_spec("batch"))


def batch_shards(mesh: Mesh) -> int:
    """Returns into how many parts the rows of a batch are divided."""
    return math.prod(mesh.shape[axis] for axis in RULES["batch"])


def seq_shards(mesh: Mesh) -> int:
    """Returns into how many parts each row of a batch is divided."""
    return math.prod(mesh.shape[axis] for axis in RULES["seq"])


def seq_parts(length: int) -> int:
    """Returns over how many devices so many positions of each row are divided under `set_mesh`.

    1 where rows are whole, or this many can't be divided.
    """
    mesh = current_mesh()
    parts = 1 if mesh is None else seq_shards(mesh)
    return 1 if length % parts else parts


def seq_axis(length: int) -> str | None:
    """Returns the logical axis of so many positions; None where every device has them all."""
    return None if seq_parts(length) == 1 else "seq"


def replicated(mesh: Mesh) -> NamedSharding:
    """Returns the sharding of a value that every device holds whole."""
    return NamedSharding(mesh, PartitionSpec())


def _mesh_axes(axis: str, owner: str) -> tuple[str, ...] | None:
    if axis not in RULES:
        raise ValueError(
            f"{owner}: unknown logical axis {axis!r}; parallel/sharding.py knows {sorted(RULES)}."
        )
    return RULES[axis] or None


def _check(
    owner: str, shape: tuple[int, ...], axes: tuple[str | None, ...], sizes: dict[str, int]
) -> None:
    used: dict[str, int] = {}
    for dim, (size, axis) in enumerate(zip(shape, axes, strict=True)):
        for mesh_axis in () if axis is None else _mesh_axes(axis, owner) or ():
            if mesh_axis in used and sizes[mesh_axis] > 1:
                raise ValueError(
                    f"{owner}: dims {used[mesh_axis]} and {dim} are both on mesh axis "
                    f"{mesh_axis!r}; change one rule in parallel/sharding.py."
                )
            used[mesh_axis] = dim
        parts = 1
        for mesh_axis in () if axis is None else RULES[axis]:
            parts *= sizes[mesh_axis]
        if size % parts:
            raise ValueError(
                f"{owner}: dim {dim} ({axis}) of size {size} can't be divided over "
                f"{parts} devices of mesh axes {RULES[axis or '']}; change the mesh or the size."
            )
