"""Adapters: what is learnt beside a frozen matrix, declared from the matrix's own declaration.

A weight W [L, in…, out…] gets A [L, in…, r] and B [L, r, out…] (Hu et al. 2021, "LoRA"), and for
DoRA (Liu et al. 2024) one number an output. They lie beside it in the tree of weights, so that
sharding, checkpoints and averages follow as for any other weight.

While training, a layer computes x·W + scale · (x·A)·B: unlike W + scale · A·B that never needs the
gradient of a whole W, which is a third of the arithmetic and as much memory as the weights.
Everything else takes merged weights, and the network without adapters.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Collection, Mapping
from typing import Any

import jax
import jax.numpy as jnp

from twjax.config.keeping import Adapter
from twjax.models import parts
from twjax.models.low_bits import multiply
from twjax.models.spec import WeightSpec, init_weights, normal, zeros
from twjax.parallel.sharding import weight_shardings

# Behind the weight's name: A, B, and DoRA's length of an output less that of the frozen one.
A, B, LENGTH = "_lora_a", "_lora_b", "_lora_length"
# Added to a layer's weights on the way to its computation: what DoRA multiplies an output by.
GAIN = "_lora_gain"
# Below it the length of an output's weights counts as zero.
_TINY = 1e-30


def is_adapter(name: str) -> bool:
    """Whether a weight of this name is learnt beside another."""
    return name.endswith((A, B, LENGTH))


def is_target(name: str, names: Collection[str]) -> bool:
    """Whether a weight of this name has an adapter among weights of all `names`."""
    return f"{name}{A}" in names


def input_dims(spec: WeightSpec) -> int:
    """Returns how many dims behind the layers' are summed over; 0 where a weight has no adapter.

    A matrix reads or writes the residual stream: the one "embed" dim is its input, or its output.
    """
    axes = spec.axes[1:]
    if not spec.matmul or spec.axes[0] != "layers" or axes.count("embed") != 1:
        return 0
    return 1 if axes[0] == "embed" else len(axes) - 1 if axes[-1] == "embed" else 0


def declare(specs: Any, adapter: Adapter) -> Any:
    """Returns the tree of specs of the adapters of a network with weights `specs`."""
    matrices = {name: spec for name, spec in parts.by_name(specs).items() if input_dims(spec)}
    targets = parts.choose(adapter.targets, matrices, "Adapter.targets")
    some = [name for name, layers in targets.items() if layers is not None]
    if some:
        raise ValueError(
            f"Adapter.targets: {some[0]} would have an adapter in some layers only, but a weight's "
            "layers are stacked: leave the number behind 'layers/' out."
        )
    return parts.nest(
        {spec.name: spec for name in targets for spec in _beside(matrices[name], adapter)}
    )


def _beside(spec: WeightSpec, adapter: Adapter) -> list[WeightSpec]:
    """Returns the specs of one weight's adapter."""
    cut = 1 + input_dims(spec)
    L, rank = spec.shape[0], adapter.rank
    if rank > min(math.prod(spec.shape[1:cut]), math.prod(spec.shape[cut:])):
        raise ValueError(
            f"Adapter.rank ({rank}) is more than {spec.name} {spec.shape} can have; lower it."
        )
    # The variance of the uniform distribution that LoRA's and PEFT's code draws A from.
    std = (3 * math.prod(spec.shape[1:cut])) ** -0.5
    found = {
        A: dataclasses.replace(
            spec,
            shape=(*spec.shape[:cut], rank),
            axes=(*spec.axes[:cut], None),
            init=normal(std),
        ),
        B: dataclasses.replace(
            spec,
            shape=(L, rank, *spec.shape[cut:]),
            axes=("layers", None, *spec.axes[cut:]),
            init=zeros(),
        ),
    }
    if adapter.kind == "dora":
        found[LENGTH] = dataclasses.replace(
            spec,
            shape=(L, *spec.shape[cut:]),
            axes=("layers", *spec.axes[cut:]),
            init=zeros(),
            decay=False,
            matmul=False,
        )
    return [dataclasses.replace(one, name=f"{spec.name}{end}") for end, one in found.items()]


def adapted(network: Any, adapter: Adapter | None) -> Any:
    """Returns the network with adapters among its weights; itself for None."""
    if adapter is None:
        return network
    specs = parts.put(network.specs, declare(network.specs, adapter))
    return dataclasses.replace(network, specs=specs, adapter=adapter)


def begin(network: Any, params: Any, mesh: jax.sharding.Mesh, seed: int) -> Any:
    """Returns the frozen network's `params` and the initial values of `network`'s adapters."""
    if network.adapter is None:
        return params
    own = parts.take(network.specs, set(filter(is_adapter, parts.names_of(network.specs))))
    draw = jax.jit(lambda key: init_weights(own, key), out_shardings=weight_shardings(own, mesh))
    return parts.put(params, draw(jax.random.key(seed)))


def merger(network: Any, mesh: jax.sharding.Mesh) -> Callable[[Any], Any]:
    """Returns what makes of `network`'s weights those of the network without adapters.

    Weights that had no adapter are passed on, not copied.
    """
    if network.adapter is None:
        return lambda params: params
    scale, targets = network.adapter.scale, _targets(network)
    merge = jax.jit(
        lambda w: {name: _merge(w, name, spec, scale) for name, spec in targets.items()},
        out_shardings=weight_shardings(targets, mesh),
    )

    def merged(params: Any) -> Any:
        values = parts.flat(params)
        plain = {name: value for name, value in values.items() if not is_adapter(name)}
        own = values.keys() - plain.keys() | targets.keys()
        return parts.nest(plain | merge({name: values[name] for name in own}))

    return merged


def prepared(network: Any, params: Any, cast: Any) -> Any:
    """Returns the weights `cast` to the compute dtype as layers take them: B scaled, with gains.

    `params` are the float32 values of the same.
    """
    scale, w, ready = network.adapter.scale, parts.flat(params), parts.flat(cast)
    for name, spec in _targets(network).items():
        ready[f"{name}{B}"] = (scale * w[f"{name}{B}"]).astype(ready[f"{name}{B}"].dtype)
        if network.adapter.kind == "dora":
            ready[f"{name}{GAIN}"] = _gain(w, name, spec, scale)
    return parts.nest(ready)


def project(w: Mapping[str, jax.Array], name: str, x: jax.Array, product: str) -> jax.Array:
    """Returns the einsum `product` ("BSD,DNH->BSNH") of x and a layer's weight and its adapter."""
    y = multiply(product, x, w[name])
    if not is_target(name, w):
        return y
    inputs, out = product.split("->")
    read, matrix = inputs.split(",")
    summed = "".join(letter for letter in matrix if letter not in out)
    kept = "".join(letter for letter in read if letter not in summed)
    written = "".join(letter for letter in matrix if letter in out)
    low = jnp.einsum(f"{read},{summed}r->{kept}r", x, w[f"{name}{A}"])
    y = y + jnp.einsum(f"{kept}r,r{written}->{out}", low, w[f"{name}{B}"])
    if f"{name}{GAIN}" not in w:
        return y
    return (y.astype(jnp.float32) * w[f"{name}{GAIN}"]).astype(y.dtype)


def _targets(network: Any) -> dict[str, WeightSpec]:
    specs = parts.by_name(network.specs)
    return {name: spec for name, spec in specs.items() if is_target(name, specs)}


def _letters(spec: WeightSpec) -> tuple[str, str]:
    """Returns the letters of a weight's inputs and outputs in an einsum."""
    cut = input_dims(spec)
    return "abcd"[:cut], "wxyz"[: len(spec.shape) - 1 - cut]


def _merge(w: Mapping[str, jax.Array], name: str, spec: WeightSpec, scale: float) -> jax.Array:
    i, o = _letters(spec)
    added = jnp.einsum(
        f"l{i}r,lr{o}->l{i}{o}", w[f"{name}{A}"], w[f"{name}{B}"], precision="highest"
    )
    whole = w[name] + scale * added
    if f"{name}{LENGTH}" not in w:
        return whole
    gain = _gain(w, name, spec, scale)
    return whole * gain.reshape(gain.shape[0], *[1] * len(i), *gain.shape[1:])


def _gain(w: Mapping[str, jax.Array], name: str, spec: WeightSpec, scale: float) -> jax.Array:
    """Returns DoRA's factor of each output, float32 [L, out…]: wanted length over present length.

    The present length counts as a constant (Liu et al. 2024, §4.3). It follows from the matrices'
    products with each other, so that W + scale · A·B is never formed. With B = 0 it is the frozen
    length to the last bit, and the factor 1.
    """
    i, o = _letters(spec)
    frozen, a, b = (w[key] for key in (name, f"{name}{A}", f"{name}{B}"))

    def dot(product: str, *arrays: jax.Array) -> jax.Array:
        return jnp.einsum(product, *arrays, precision="highest")

    inputs = tuple(range(1, 1 + len(i)))
    square = jnp.sum(jnp.square(frozen), axis=inputs)
    cross = dot(f"lr{o},lr{o}->l{o}", b, dot(f"l{i}r,l{i}{o}->lr{o}", a, frozen))
    own = dot(f"lr{o},lr{o}->l{o}", b, dot(f"l{i}r,l{i}s,ls{o}->lr{o}", a, a, b))
    now = square + 2 * scale * cross + scale**2 * own
    base, now = (jnp.sqrt(jnp.maximum(x, _TINY)) for x in (square, now))
    base, now = map(jax.lax.stop_gradient, (base, now))
    # One and what differs from it: a division need not give one for equal numbers on every device.
    return 1.0 + (base - now + w[f"{name}{LENGTH}"]) / now
