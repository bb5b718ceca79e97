"""Matrix products of a layer in eight bits.

Both factors are rounded to eight bits, each row of what is summed over with a scale of its own
(its largest number), and multiplied as such; sums and scales are 32 bits wide. So is the gradient
of the activations; that of the weights, a sum over all tokens, stays in the computation's dtype
(Wortsman et al. 2023, "Stable and low-precision training", §2.2). fp8 has more digits forward
(e4m3) than in gradients (e5m2; Micikevicius et al. 2022).
"""

from __future__ import annotations

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp

# Kind -> what values and what gradients are rounded to.
TYPES = {"int8": (jnp.int8, jnp.int8), "fp8": (jnp.float8_e4m3fn, jnp.float8_e5m2)}


@functools.partial(jax.tree_util.register_dataclass, data_fields=["value"], meta_fields=["kind"])
@dataclasses.dataclass(frozen=True)
class LowBits:
    """A weight whose products are computed in eight bits of this kind."""

    value: jax.Array
    kind: str


def multiply(product: str, x: jax.Array, weight: jax.Array | LowBits) -> jax.Array:
    """Returns the einsum `product` ("BSD,DNH->BSNH") of activations and a layer's weight."""
    if not isinstance(weight, LowBits):
        return jnp.einsum(product, x, weight)
    inputs, out = product.split("->")
    read, matrix = inputs.split(",")
    summed = sum(letter not in out for letter in matrix)
    kept = len(read) - summed
    if (read[kept:], out) != (matrix[:summed], read[:kept] + matrix[summed:]):
        raise ValueError(f"{product}: the summed dims must be x's last and the weight's first.")
    return _product(x, weight.value, summed, weight.kind)


@functools.partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def _product(x: jax.Array, w: jax.Array, summed: int, kind: str) -> jax.Array:
    """Returns x·w over x's last and w's first `summed` dims."""
    kept = x.ndim - summed
    values, _ = TYPES[kind]
    left = _rounded(x, values, range(kept))
    right = _rounded(w, values, range(summed, w.ndim))
    return _dot(left, right, range(kept, x.ndim), range(summed), x.dtype)


def _forward(x: jax.Array, w: jax.Array, summed: int, kind: str) -> tuple[jax.Array, Any]:
    return _product(x, w, summed, kind), (x, w)


def _backward(summed: int, kind: str, saved: Any, slope: jax.Array) -> tuple[jax.Array, jax.Array]:
    x, w = saved
    kept = x.ndim - summed
    values, gradients = TYPES[kind]
    left = _rounded(slope, gradients, range(kept))
    right = _rounded(w, values, range(summed))
    d_x = _dot(left, right, range(kept, slope.ndim), range(summed, w.ndim), x.dtype)
    d_w = jnp.tensordot(x, slope, axes=(tuple(range(kept)), tuple(range(kept))))
    return d_x, d_w.astype(w.dtype)


_product.defvjp(_forward, _backward)


def _rounded(x: jax.Array, dtype: Any, own: range) -> Any:
    """Rounds to eight bits, with a scale for each place in the dims `own`."""
    import qwix  # pyright: ignore[reportMissingImports]

    return qwix.quantize(x.astype(jnp.float32), dtype, channelwise_axes=tuple(own))


def _dot(left: Any, right: Any, of_left: range, of_right: range, dtype: Any) -> jax.Array:
    import qwix  # pyright: ignore[reportMissingImports]

    dims = ((tuple(of_left), tuple(of_right)), ((), ()))
    return qwix.dot_general(left, right, dims).astype(dtype)
