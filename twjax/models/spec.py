"""What a weight is, declared once: shape, logical axes, initialiser, decay.

Modules hold `nnx.Param`s without values. Everything else that is known of a weight (its initial
value, sharding, decay mask, parameter count, checkpoint template) is derived from the
declaration by mapping over the tree of `WeightSpec`s.
"""

from __future__ import annotations

import dataclasses
import hashlib
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

Initializer = Callable[[jax.Array, tuple[int, ...], Any], jax.Array]


def normal(std: float) -> Initializer:
    """Returns an initialiser that draws from N(0, std²)."""
    return lambda key, shape, dtype: std * jax.random.normal(key, shape, dtype)


def ones() -> Initializer:
    """Returns an initialiser of ones, for norm scales."""
    return lambda key, shape, dtype: jnp.ones(shape, dtype)


def zeros() -> Initializer:
    """Returns an initialiser of zeros, for biases and norm scales stored as an offset from 1."""
    return lambda key, shape, dtype: jnp.zeros(shape, dtype)


@dataclasses.dataclass(frozen=True)
class WeightSpec:
    """One weight: `name` is its path ("layers/q"), `axes` one logical axis (or None) a dim.

    `decay` says whether weight decay applies; `matmul` whether the weight enters a matrix
    product and is cast to the compute dtype (norm scales stay float32).
    """

    name: str
    shape: tuple[int, ...]
    axes: tuple[str | None, ...]
    init: Initializer
    decay: bool
    matmul: bool

    @property
    def size(self) -> int:
        return math.prod(self.shape)


def weight(
    shape: tuple[int, ...],
    axes: tuple[str | None, ...],
    init: Initializer,
    *,
    decay: bool = True,
    matmul: bool = True,
) -> nnx.Param:
    """Declares a float32 weight; the returned parameter holds a shape, no value."""
    if len(shape) != len(axes):
        raise ValueError(f"weight of shape {shape} needs {len(shape)} logical axes, got {axes}.")
    value = jax.ShapeDtypeStruct(shape, jnp.float32)
    return nnx.Param(value, logical_axes=axes, initializer=init, decay=decay, matmul=matmul)


def weight_specs(module: nnx.Module) -> Any:
    """Returns the tree (nested dicts) of `WeightSpec`s of a module's weights."""

    def spec(path: tuple[Any, ...], param: nnx.Variable) -> WeightSpec:
        meta = param.get_metadata()
        return WeightSpec(
            name="/".join(str(getattr(key, "key", key)) for key in path),
            shape=tuple(param.get_value().shape),
            axes=meta["logical_axes"],
            init=meta["initializer"],
            decay=meta["decay"],
            matmul=meta["matmul"],
        )

    state = nnx.state(module, nnx.Param)
    return nnx.to_pure_dict(
        jax.tree_util.tree_map_with_path(spec, state, is_leaf=_is_variable),
    )


def _is_variable(leaf: Any) -> bool:
    return isinstance(leaf, nnx.Variable)


def is_spec(leaf: Any) -> bool:
    """Tells `jax.tree.map` where a tree of specs ends."""
    return isinstance(leaf, WeightSpec)


def abstract_weights(specs: Any) -> Any:
    """Returns the tree of float32 `jax.ShapeDtypeStruct`s that a tree of specs describes."""
    return jax.tree.map(
        lambda spec: jax.ShapeDtypeStruct(spec.shape, jnp.float32), specs, is_leaf=is_spec
    )


def init_weights(specs: Any, key: jax.Array) -> Any:
    """Draws every weight from a key of its own, derived from its name.

    Adding or renaming one weight leaves the others' initial values as they were.
    """

    def draw(spec: WeightSpec) -> jax.Array:
        tag = int.from_bytes(hashlib.sha256(spec.name.encode()).digest()[:4], "little")
        return spec.init(jax.random.fold_in(key, tag), spec.shape, jnp.float32)

    return jax.tree.map(draw, specs, is_leaf=is_spec)


def count_weights(specs: Any) -> int:
    """Returns the number of parameters."""
    return sum(spec.size for spec in jax.tree.leaves(specs, is_leaf=is_spec))
