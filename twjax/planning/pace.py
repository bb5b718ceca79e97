"""A step's seconds by arithmetic and bytes alone: which candidates to compile first.

No schedule is known here, so nothing but copies to the host is hidden behind anything else; what a
compilation predicts (`planning.schedule`) takes its place as soon as there is one.
"""

from __future__ import annotations

import math

import jax

from twjax.config import Run
from twjax.models.spec import is_spec
from twjax.planning.flops import model_flops_per_row
from twjax.planning.memory import Estimate, Shapes
from twjax.planning.schedule import HOST_BANDWIDTH, KERNEL_EFFICIENCY
from twjax.planning.topology import Topology

# Of the peak, by the compiler's cycles for matrix products with what is fused to them.
COMPUTE_EFFICIENCY = 0.85
# What the backward pass computes again unless its product is saved: name -> the weights' last part.
PRODUCTS = {
    "query": ("q",),
    "key": ("k",),
    "value": ("v",),
    "out": ("o",),
    "gate": ("gate",),
    "up": ("up",),
}
# Attention's matrix products: forward, and in the fused backward kernel.
_FORWARD, _BACKWARD = 2, 5


def seconds(run: Run, shapes: Shapes, estimate: Estimate, sizes: dict[str, int]) -> float:
    """Returns about how long a step takes on a mesh of these sizes."""
    topology, lengths = shapes.topology, run.data.lengths
    chip, rates = topology.chip, topology.chip.rates
    devices = topology.num_devices
    rows = run.data.batch_size / devices
    tokens = rows * max(lengths)
    peak, hbm = chip.flops / chip.devices, rates.hbm / chip.devices
    specs = jax.tree.leaves(shapes.base.specs, is_leaf=is_spec)
    again = recomputed(run)

    attention = _attention_flops(run) * rows
    products = model_flops_per_row(run.model, shapes.base.specs, lengths) * rows - attention
    repeated = sum(spec.size for spec in specs if spec.name.rpartition("/")[2] in again)
    products += 2 * repeated * tokens
    passes = (_FORWARD * (2 if "attention" in again else 1) + _BACKWARD) / (3 * _FORWARD)
    compute = products / (COMPUTE_EFFICIENCY * peak)
    kernels = attention * passes / (KERNEL_EFFICIENCY * peak)

    micro, tensor = run.step.accumulation, sizes["tensor"]
    weights = 2 * sum(spec.size for spec in specs) / tensor
    # Each microbatch reads the weights forward, again where anything is repeated, and backward.
    reads = 3 if again else 2
    # Master weights and moments are read and written, gradients added to their sum.
    update = 2 * (estimate.parameters + estimate.optimizer) + 3 * estimate.parameters * micro
    moved = (micro * (reads + 1) * weights + update) / hbm
    # What waits in the host's memory goes there and comes back. Taken as half hidden: of two equal
    # candidates the one without such copies, which no prediction is sure of, comes first.
    host = 2 * shapes.host_bytes(run) * chip.devices / HOST_BANDWIDTH
    return (
        max(max(compute, micro * reads * weights / hbm) + kernels, host / 2)
        + host / 2
        + moved * 0.1
        + _links(run, topology, sizes, weights, micro * reads, tokens)
        + _between(run, topology, sizes, weights)
    )


def recomputed(run: Run) -> frozenset[str]:
    """Returns what the backward pass computes again: weights by name, and "attention"."""
    saved = run.step.saved
    if saved is None:
        return frozenset()
    saved = (*saved, *run.step.offload)
    parts = {part for name, own in PRODUCTS.items() if name not in saved for part in own}
    return frozenset(parts | ({"attention"} - set(saved)))


def _attention_flops(run: Run) -> float:
    """The model's arithmetic in attention, of a row."""
    model = run.model
    lengths, targets = run.data.lengths, run.data.lengths[-1]
    seen = model.num_layers * targets**2 / 2
    if len(lengths) > 1:
        seen += model.encoder_layers * lengths[0] ** 2 + model.num_layers * math.prod(lengths)
    elif model.window is not None:
        window = min(model.window, targets)
        local = sum(kind == "local" for kind in model.layer_kinds)
        seen -= local * (targets - window) ** 2 / 2
    return 12 * model.num_heads * model.head_dim * seen


def _links(
    run: Run,
    topology: Topology,
    sizes: dict[str, int],
    weights: float,
    gathers: int,
    tokens: float,
) -> float:
    """Seconds on a slice's own links: weights gathered, gradients summed, activations summed."""
    axes = sum(size > 1 for size in topology.shape)
    lanes = axes + sum(topology.wrap[: len(topology.shape)])
    within = topology.num_devices / topology.num_slices
    link = topology.chip.rates.link / topology.chip.devices

    def bandwidth(size: int) -> float:
        # A smaller group has fewer of the axes.
        part = math.log(size) / math.log(within) if within > 1 else 1.0
        return link * max(1.0, lanes * part)

    total = 0.0
    if sizes["fsdp"] > 1:
        scattered = 2 * weights * run.step.accumulation
        total += (gathers * weights + scattered) / bandwidth(sizes["fsdp"])
    if sizes["data"] > 1:
        total += 4 * weights / sizes["fsdp"] / bandwidth(sizes["data"])
    width = 2 * tokens * sizes["tensor"] * run.model.embed_dim
    layers = run.model.num_layers + run.model.encoder_layers
    if sizes["tensor"] > 1:
        passes = 6 if recomputed(run) else 4
        total += passes * 2 * width * layers / bandwidth(sizes["tensor"])
    if sizes["context"] > 1:
        keys = 2 * run.model.num_kv_heads / (run.model.num_heads * sizes["tensor"])
        total += 3 * keys * sizes["context"] * width * layers / bandwidth(sizes["context"])
    return total


def _between(run: Run, topology: Topology, sizes: dict[str, int], weights: float) -> float:
    """Seconds on the network between slices: each device's part of the float32 gradients."""
    if topology.num_slices == 1:
        return 0.0
    share = 2 * (topology.num_slices - 1) / topology.num_slices
    dcn = topology.chip.rates.dcn / topology.chip.devices
    return 2 * weights / (sizes["fsdp"] * sizes["context"]) * share / dcn
