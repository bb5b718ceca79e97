"""A plan as text for people and as JSON for programs."""

from __future__ import annotations

import dataclasses
import importlib.metadata
import math
from typing import Any

from twjax.config import Run
from twjax.parallel.sharding import RULES
from twjax.planning.compile import Plan
from twjax.planning.topology import GIB

BAR_WIDTH = 40


def render(plan: Plan, run: Run, name: str) -> str:
    """Returns the table that `twjax plan` prints."""
    blocks = [_header(plan, run, name), _memory(plan), _work(plan, run), _collectives(plan)]
    return "\n\n".join("\n".join(block) for block in blocks if block)


def as_dict(plan: Plan) -> dict[str, Any]:
    """Returns all figures of a plan; bytes and FLOPs unrounded."""
    topology, memory = plan.topology, plan.memory
    return {
        "topology": {
            "name": topology.name,
            "chip": topology.chip.name,
            "slices": topology.num_slices,
            "shape": topology.shape,
            "chips": topology.num_chips,
            "devices": topology.num_devices,
            "hosts": topology.num_hosts,
            "hbm_bytes_per_chip": topology.chip.hbm_bytes,
            "peak_flops_per_chip": topology.chip.flops,
        },
        "mesh": plan.mesh,
        "parameters": plan.num_parameters,
        "tokens": plan.tokens,
        "fits": memory.fits,
        "memory_bytes": {
            field.name: getattr(memory, field.name)
            for field in dataclasses.fields(memory)
            if field.name != "fits"
        }
        | {"total": memory.total},
        "model_flops": plan.model_flops,
        "model_flops_per_token": plan.flops_per_token,
        "seconds_at_peak": plan.seconds_at_peak,
        "device_work": None if plan.work is None else dataclasses.asdict(plan.work),
        "compile_seconds": plan.compile_seconds,
        "versions": {package: _version(package) for package in ("jax", "libtpu")},
    }


def _header(plan: Plan, run: Run, name: str) -> list[str]:
    topology = plan.topology
    slices = f"{topology.num_slices} slices of " if topology.num_slices > 1 else ""
    shape = "x".join(map(str, topology.shape))
    devices = "" if topology.chip.devices == 1 else f", {topology.num_devices} devices"
    rows = run.data.batch_size // math.prod(plan.mesh[axis] for axis in RULES["batch"])
    mesh = " x ".join(f"{axis} {size}" for axis, size in plan.mesh.items() if size > 1)
    row = " + ".join(f"{length:,}" for length in run.data.lengths)
    return [
        f"{name} on {topology.name}",
        f"  chips        {topology.num_chips} ({slices}{shape}){devices}, "
        f"{topology.num_hosts} hosts",
        f"  mesh         {mesh or 'one device'}",
        f"  parameters   {plan.num_parameters:,}",
        f"  batch        {run.data.batch_size:,} rows of {row} = {plan.tokens:,} "
        f"tokens a step; {rows:,} a device",
        f"  compiled in  {plan.compile_seconds:.0f} s by libtpu {_version('libtpu')}, "
        f"jax {_version('jax')}",
    ]


def _memory(plan: Plan) -> list[str]:
    memory = plan.memory
    lines = ["memory of one device                  GiB"]
    for label, size in (
        ("parameters", memory.parameters),
        ("optimizer", memory.optimizer),
        ("batch", memory.batch),
        ("layout padding", memory.layout),
        ("temporaries", memory.temporaries),
        ("outputs", memory.outputs),
        ("program", memory.program),
    ):
        lines.append(f"  {label:26}{size / GIB:13.3f}")
    lines.append(f"  {'total':26}{memory.total / GIB:13.3f} of {memory.usable / GIB:.2f} usable")
    share = memory.total / memory.usable
    filled = min(round(share * BAR_WIDTH), BAR_WIDTH)
    lines.append(f"  [{'#' * filled}{'.' * (BAR_WIDTH - filled)}] {share:.0%}")
    if memory.fits:
        spare = (memory.usable - memory.total) / GIB
        lines.append(f"  It fits, with {spare:.2f} GiB to spare.")
    else:
        lines.append(
            f"  It does not fit: {(memory.total - memory.usable) / GIB:.2f} GiB too much. More "
            "devices, fewer rows a device, Step.remat = 'full', a larger Step.accumulation or "
            "Step.loss_chunks need less."
        )
    return lines


def _work(plan: Plan, run: Run) -> list[str]:
    device = plan.model_flops / plan.topology.num_devices

    def line(label: str, flops: float, note: str = "") -> str:
        return f"  {label:26}{_flops(flops):>19}{'   ' if note else ''}{note}"

    # What a token attends to, on average, as `planning.flops` counts it.
    seen = "attention counted causal"
    if run.model.encoder_layers:
        seen = "attention: to all inputs, and causal among targets"
    lines = [
        "arithmetic of one step",
        line(
            "model, all devices",
            plan.model_flops,
            f"{_flops(plan.flops_per_token)} a token; {seen}",
        ),
        line(
            "model, one device",
            device,
            f"at least {plan.seconds_at_peak:.3g} s at the chip's bfloat16 peak",
        ),
    ]
    if plan.work is not None:
        work = plan.work
        lines += [
            line(
                "executed, one device",
                work.flops,
                f"{work.flops / device:.2f} x the model's; recomputation is in it",
            ),
            line("  matrix products", work.matmul_flops),
            line("  attention kernels", work.kernel_flops),
        ]
        if work.unknown_loops:
            lines.append(f"  loops counted once: {', '.join(work.unknown_loops)}")
    return lines


def _flops(value: float) -> str:
    units = ("FLOP", "kFLOP", "MFLOP", "GFLOP", "TFLOP", "PFLOP", "EFLOP")
    power = 0
    while value >= 999.5 and power + 1 < len(units):
        value, power = value / 1000, power + 1
    return f"{value:.3g} {units[power]}"


def _collectives(plan: Plan) -> list[str]:
    if plan.work is None:
        return []
    lines = ["collectives of one device and step     count          GiB"]
    for collective in plan.work.collectives:
        network = "   between slices" if collective.across_slices else ""
        lines.append(
            f"  {collective.kind:26}{collective.count:15,}{collective.bytes / GIB:13.3f}{network}"
        )
    if not plan.work.collectives:
        lines.append("  none")
    return lines


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "unknown"
