"""A plan as text for people and as JSON for programs."""

from __future__ import annotations

import dataclasses
import importlib.metadata
import math
import textwrap
from typing import Any

from twjax.config import Run
from twjax.parallel.sharding import RULES
from twjax.planning.compile import Plan
from twjax.planning.schedule import PREFETCH, Prediction
from twjax.planning.topology import GIB
from twjax.planning.verdict import trust, verdict
from twjax.planning.whole import Whole

BAR_WIDTH = 40
# What a temporary must take of all of them, and a part of a step of its time, to be shown.
SHOWN, SHOWN_SECONDS = 0.03, 0.0005


def render(plan: Plan, run: Run, name: str, whole: Whole | None = None) -> str:
    """Returns the table that `twjax plan` prints; `run` has the shape that was compiled only."""
    blocks = [_header(plan, run, name), _memory(plan), _work(plan, run), _step(plan)]
    blocks += [_collectives(plan), _whole(whole) if whole is not None else []]
    return "\n\n".join("\n".join(block) for block in blocks if block)


def as_dict(plan: Plan, whole: Whole | None = None) -> dict[str, Any]:
    """Returns all figures of a plan; bytes, FLOPs and seconds unrounded."""
    topology, memory = plan.topology, plan.memory
    judged = verdict(plan)
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
        "largest_temporaries": [dataclasses.asdict(buffer) for buffer in plan.largest],
        "device_work": None if plan.work is None else dataclasses.asdict(plan.work),
        "prediction": None if plan.prediction is None else dataclasses.asdict(plan.prediction),
        "mfu": plan.mfu,
        "tokens_per_second": plan.tokens_per_second,
        "verdict": None if judged is None else dataclasses.asdict(judged),
        "trust": trust(plan),
        "run": None if whole is None else _whole_dict(whole),
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
    return lines + _largest(plan)


def _largest(plan: Plan) -> list[str]:
    """Returns the temporaries that matter, by what makes them."""
    share = SHOWN * plan.memory.temporaries
    shown = [buffer for buffer in plan.largest if buffer.bytes >= share]
    lines = ["  largest temporaries"] if shown else []
    for buffer in shown:
        count = f"{buffer.count} x " if buffer.count > 1 else ""
        lines.append(f"{buffer.bytes / GIB:18.3f}  {count + buffer.shape:30}  {buffer.maker}")
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


def _step(plan: Plan) -> list[str]:
    prediction, judged = plan.prediction, verdict(plan)
    if prediction is None or judged is None:
        return []
    assert plan.mfu is not None and plan.tokens_per_second is not None
    products = ""
    if plan.work is not None and prediction.matmul:
        peak = plan.topology.chip.flops / plan.topology.chip.devices
        products = f"   at {plan.work.matmul_flops / peak / prediction.matmul:.0%} of the peak"
    scale, unit = _unit(prediction)
    lines = [
        f"{'one step, predicted':28}{unit:>13}    share",
        *(
            f"  {label:26}{seconds * scale:13.4f}{seconds / prediction.seconds:9.1%}{note}"
            for label, seconds, note in (
                ("matrix products", prediction.matmul, products),
                ("other operations", prediction.other, ""),
                ("attention kernels", prediction.kernels, ""),
                ("waiting for the slice", prediction.exposed, "   links between chips (ICI)"),
                ("waiting for other slices", prediction.exposed_dcn, "   data-centre network"),
                ("waiting for the host", prediction.host, "   its memory"),
                ("waiting for HBM", prediction.prefetch, "   copies made ahead"),
            )
            if seconds >= SHOWN_SECONDS * prediction.seconds
        ),
        f"  {'total':26}{prediction.seconds * scale:13.4f}",
        f"  MFU {plan.mfu:.1%}; {plan.tokens_per_second:,.0f} tokens a second, "
        f"{plan.tokens_per_second / plan.topology.num_chips:,.0f} a chip",
        f"  {_BOUND[judged.bound]} bounds it, {judged.shares[judged.bound]:.0%} of the step.",
    ]
    return lines + [f"  {line}" for text in (judged.advice, *trust(plan)) for line in _fold(text)]


_BOUND = {
    "matrix unit": "The matrix unit",
    "HBM": "HBM (or the vector unit)",
    "attention": "Attention",
    "ICI": "The network of the slice (ICI)",
    "DCN": "The network between slices (DCN)",
    "host": "The host's memory",
}


def _unit(prediction: Prediction) -> tuple[float, str]:
    """Returns what a second is in the unit that suits a step, and its name."""
    return (1.0, "s") if prediction.seconds >= 0.1 else (1000.0, "ms")


def _fold(text: str) -> list[str]:
    return textwrap.wrap(text, 96, subsequent_indent="  ")


def _collectives(plan: Plan) -> list[str]:
    prediction = plan.prediction
    if prediction is None:
        return []
    scale, unit = _unit(prediction)
    lines = [f"sent by one device in a step           count          GiB{unit:>9}   hidden"]
    for traffic in prediction.traffic:
        if traffic.kind == PREFETCH:
            continue
        network = "   between slices" if traffic.across_slices else ""
        lines.append(
            f"  {traffic.kind:26}{traffic.count:15,}{traffic.bytes / GIB:13.3f}"
            f"{traffic.seconds * scale:9.4f}{traffic.hidden:9.0%}{network}"
        )
    if len(lines) == 1:
        lines.append("  nothing")
    return lines


def _whole(whole: Whole) -> list[str]:
    lines = [f"the run: {whole.steps:,} steps, {whole.tokens:,} tokens"]
    if whole.hours is None:
        return lines
    lines.append(
        f"  {_time(whole.hours)} of steps at that speed; start-up, evaluation, checkpoints and "
        "pauses not counted"
    )
    for cost in whole.costs:
        dollars = cost.of(whole.hours)
        amount = f"{dollars:,.2f}" if dollars < 1000 else f"{dollars:,.0f}"
        text = f"${amount} for {cost.chips:,} chips at ${cost.chip_hour:,.2f} a chip-hour"
        lines += [f"  {line}" for line in _fold(f"{text}: {cost.origin}")]
    if not whole.costs:
        lines.append("  no price of this type is known here; give yours: --price USD")
    return lines


def _time(hours: float) -> str:
    if hours >= 48:
        return f"{hours / 24:,.1f} days"
    if hours >= 2:
        return f"{hours:.1f} hours"
    return f"{hours * 60:.1f} minutes" if hours >= 1 / 30 else f"{hours * 3600:.1f} seconds"


def _whole_dict(whole: Whole) -> dict[str, Any]:
    hours = whole.hours
    return {
        "steps": whole.steps,
        "tokens": whole.tokens,
        "seconds": whole.seconds,
        "days": whole.days,
        "costs": [
            dataclasses.asdict(cost) | {"dollars": None if hours is None else cost.of(hours)}
            for cost in whole.costs
        ],
    }


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "unknown"
