"""Layers in one scan, whatever the pattern of their kinds.

Weights are stacked on a leading axis L in the order of the layers. Where kinds repeat with a
period, a step of the scan runs a whole period; layers left over follow the scan.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax
from jax.ad_checkpoint import checkpoint_name

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
    offloaded: tuple[str, ...] = (),
) -> tuple[Any, tuple[tuple[Any, ...], tuple[Any, ...]]]:
    """Runs L layers over activations `x`; returns them and what the layers kept.

    `extra` and what is kept are ordered like the computation: (one tree a place in the period,
    stacked over the periods; one tree a left-over layer). `saved` names what the backward pass
    finds saved of each layer, computing the rest again; None: everything that it needs.
    `offloaded` names what it finds in the host's memory instead (`checkpointed`).
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
            run = _one(layer, kinds[place], saved, offloaded, prevent_cse=False)
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
        run = _one(layer, kinds[cut + index], saved, offloaded, prevent_cse=True)
        x, piece = run(x, one, single[index])
        rest.append(piece)
    return x, (kept, tuple(rest))


def checkpointed(
    layer: Callable[..., Any],
    saved: tuple[str, ...] | None,
    offloaded: tuple[str, ...],
    *,
    prevent_cse: bool,
) -> Callable[..., Any]:
    """Returns a layer whose backward pass finds only these of its values, and computes the rest.

    `saved` stay on the device, but for those that are `offloaded`: these wait in the host's memory.
    "input" is the layer's first argument, which else is always kept on the device. With `saved`
    None all is kept there.
    """
    if saved is None:
        return layer
    if not offloaded:
        policy = jax.checkpoint_policies.save_only_these_names(*saved)
        return jax.checkpoint(layer, policy=policy, prevent_cse=prevent_cse)

    def named(x: Any, *rest: Any) -> Any:
        return layer(checkpoint_name(x, "input"), *rest)

    policy = jax.checkpoint_policies.save_and_offload_only_these_names(
        names_which_can_be_saved=[name for name in saved if name not in offloaded],
        names_which_can_be_offloaded=list(offloaded),
        offload_src="device",
        offload_dst="pinned_host",
    )
    return jax.checkpoint(
        named if "input" in offloaded else layer, policy=policy, prevent_cse=prevent_cse
    )


def _one(
    layer: Layer,
    kind: str,
    saved: tuple[str, ...] | None,
    offloaded: tuple[str, ...],
    *,
    prevent_cse: bool,
) -> Callable[[Any, Any, Any], tuple[Any, Any]]:
    def run(x: Any, weights: Any, extra: Any) -> tuple[Any, Any]:
        return layer(kind, x, weights, extra)

    return checkpointed(run, saved, offloaded, prevent_cse=prevent_cse)
