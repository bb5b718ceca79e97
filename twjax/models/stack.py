"""Layers in one scan, whatever the pattern of their kinds.

Weights are stacked on a leading axis L in the order of the layers. Where kinds repeat with a
period, a step of the scan runs a whole period; layers left over follow the scan.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax

# (kind, activations, the layer's weights, the layer's piece of `extra`) -> (activations, kept)
Layer = Callable[[str, Any, Any, Any], tuple[Any, Any]]


def period(kinds: Sequence[str]) -> int:
    """Returns the least number of layers after which the kinds repeat."""
    count = len(kinds)
    fits = (p for p in range(1, count) if all(kinds[i] == kinds[i % p] for i in range(count)))
    return next(fits, count)


def run_layers(
    layer: Layer,
    kinds: Sequence[str],
    x: Any,
    weights: Any,
    extra: tuple[tuple[Any, ...], tuple[Any, ...]] | None = None,
    *,
    saved: tuple[str, ...] | None = None,
) -> tuple[Any, tuple[tuple[Any, ...], tuple[Any, ...]]]:
    """Runs L layers over activations `x`; returns them and what the layers kept.

    `extra` and what is kept are ordered like the computation: (one tree a place in the period,
    stacked over the periods; one tree a left-over layer). `saved` names what the backward pass
    finds saved of each layer, computing the rest again; None: everything that it needs.
    """
    size = period(kinds)
    blocks, left = divmod(len(kinds), size)
    cut = blocks * size
    stacked, single = ((None,) * size, (None,) * left) if extra is None else extra

    def scanned(x: Any, xs: Any) -> tuple[Any, tuple[Any, ...]]:
        weights, stacked = xs
        kept = []
        for place in range(size):
            one = weights if size == 1 else jax.tree.map(lambda w, p=place: w[p], weights)
            # The scan already keeps XLA from merging the two passes.
            run = _checkpointed(layer, kinds[place], saved, prevent_cse=False)
            x, piece = run(x, one, stacked[place])
            kept.append(piece)
        return x, tuple(kept)

    def periods(w: jax.Array) -> jax.Array:
        if size == 1:
            return w
        return w[:cut].reshape(blocks, size, *w.shape[1:])

    x, kept = jax.lax.scan(scanned, x, (jax.tree.map(periods, weights), stacked))
    rest = []
    for index in range(left):
        one = jax.tree.map(lambda w, i=cut + index: w[i], weights)
        run = _checkpointed(layer, kinds[cut + index], saved, prevent_cse=True)
        x, piece = run(x, one, single[index])
        rest.append(piece)
    return x, (kept, tuple(rest))


def _checkpointed(
    layer: Layer, kind: str, saved: tuple[str, ...] | None, prevent_cse: bool
) -> Callable[[Any, Any, Any], tuple[Any, Any]]:
    def run(x: Any, weights: Any, extra: Any) -> tuple[Any, Any]:
        return layer(kind, x, weights, extra)

    if saved is None:
        return run
    policy = jax.checkpoint_policies.save_only_these_names(*saved)
    return jax.checkpoint(run, policy=policy, prevent_cse=prevent_cse)
