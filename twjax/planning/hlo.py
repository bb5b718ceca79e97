"""What an optimised HLO module does in one run: matrix products and collectives.

XLA's own cost analysis counts the body of a loop once and a Pallas kernel as nothing, so the
text of the module is walked here, loops times their trip counts. The text comes from
`compiled.as_text()` or from a file of `--xla_dump_to`.
"""

from __future__ import annotations

import collections
import dataclasses
import functools
import math
import re

import numpy as np

from twjax.planning.hlo_module import Module
from twjax.planning.hlo_text import Instruction, arrays, operand_bytes, shape_bytes

COLLECTIVES = (
    "all-gather",
    "reduce-scatter",
    "all-reduce",
    "all-to-all",
    "ragged-all-to-all",
    "collective-permute",
)


@dataclasses.dataclass(frozen=True)
class Collective:
    """One kind of collective in one run of the module, on one device.

    `bytes` is the whole buffer that is gathered, reduced or sent, not what passes one link.
    `across_slices` is whether it goes to other TPU slices, over the data-centre network.
    """

    kind: str
    across_slices: bool
    count: int
    bytes: float


@dataclasses.dataclass(frozen=True)
class Work:
    """What one run of the module executes on one device.

    `matmul_flops` counts two operations a multiply-add in dots and convolutions; `kernel_flops`
    those of splash attention's Pallas kernels, the causal half. `unknown_loops` are loops whose
    trip count the text doesn't tell; they count once.
    """

    matmul_flops: float
    kernel_flops: float
    collectives: tuple[Collective, ...]
    unknown_loops: tuple[str, ...]

    @property
    def flops(self) -> float:
        return self.matmul_flops + self.kernel_flops


def analyse(module: Module | str) -> Work:
    """Walks a module, or its text, from its entry."""
    module = Module(module) if isinstance(module, str) else module
    matmul = kernel = 0.0
    counts: dict[tuple[str, bool], int] = collections.defaultdict(int)
    sizes: dict[tuple[str, bool], float] = collections.defaultdict(float)
    for computation, instruction, times, fusion in module.walk(module.entry, 1, ()):
        names = module.computations[computation]
        matmul += times * matmul_flops(instruction, names)
        kernel += times * kernel_flops(instruction, names, module)
        key = collective(instruction, fusion)
        if key is not None and times:
            counts[key] += times
            sizes[key] += times * payload(instruction, names)
    found = tuple(Collective(*key, counts[key], sizes[key]) for key in sorted(counts))
    return Work(matmul, kernel, found, tuple(module.unknown_loops))


def kernel_flops(instruction: Instruction, names: dict[str, Instruction], module: Module) -> float:
    """Returns the FLOPs of splash attention's kernels, half of the S x S square each product.

    Forward: q·k and p·v. Backward for dk and dv: both scores again, dp, dv, dk, and dq where it is
    fused in; the separate dq kernel makes scores, dp and dq.
    """
    match = re.match(r"splash_m[hq]a_(fwd|dkv|dq)", instruction.name)
    if instruction.opcode != "custom-call" or match is None:
        return 0.0
    matmuls = {"fwd": 2, "dkv": 4 if module.separate_dq else 5, "dq": 3}[match[1]]
    floats = [
        dims
        for operand in instruction.operands
        if operand in names
        for dtype, dims in arrays(names[operand].shape)[:1]
        if dtype in ("bf16", "f32") and len(dims) >= 3
    ]
    if len(floats) < 2:
        return 0.0
    query, key = floats[0], floats[1]
    return matmuls * 2.0 * math.prod(query) * key[-2] / 2


def collective(
    instruction: Instruction, fusion: tuple[Instruction, ...]
) -> tuple[str, bool] | None:
    """Returns the kind of the collective that begins here, and whether it leaves the slice."""
    attributes = instruction.attributes
    if instruction.opcode == "send":
        # A program of several slices is compiled for one; what crosses goes through the host.
        crossing = re.search(r'_xla_megascale_transfer_type="(\w+)"', attributes)
        return (crossing[1].lower().replace("_", "-"), True) if crossing else None
    kind = instruction.opcode.removesuffix("-start")
    if kind not in COLLECTIVES or not _starts(instruction, fusion):
        return None
    if kind == "all-reduce" and any(i.opcode == "dynamic-slice" for i in fusion):
        # How the TPU compiler writes a reduce-scatter.
        kind = "reduce-scatter"
    return kind, False


def _starts(instruction: Instruction, fusion: tuple[Instruction, ...]) -> bool:
    """Whether this is where a collective begins, not a later part of the same one.

    The TPU compiler spreads an asynchronous collective over fusions: one that starts it, ones
    that compute while it runs, and one that ends it; each holds a copy of the instruction.
    """
    calls = " ".join(i.attributes for i in fusion if i.opcode == "custom-call")
    if "AsyncCollectiveStart" in calls:
        return True
    if "AsyncCollectiveDone" in calls:
        return False
    return "async_collective_fusion_config" not in instruction.attributes


def payload(instruction: Instruction, names: dict[str, Instruction]) -> float:
    """Returns the bytes of the whole buffer that a collective gathers, reduces or sends."""
    inputs = operand_bytes(instruction, names)
    if instruction.opcode.startswith(("collective-permute", "send")):
        return inputs
    output = shape_bytes(instruction.shape)
    if instruction.opcode == "all-gather-start":
        # The start of a gather returns its operands beside the result.
        output -= inputs
    return max(inputs, output)


def matmul_flops(instruction: Instruction, names: dict[str, Instruction]) -> float:
    """Returns the FLOPs of a dot or convolution, 0 for anything else."""
    if instruction.opcode not in ("dot", "convolution"):
        return 0.0
    operands = [names[o].shape for o in instruction.operands[:2] if o in names]
    if len(operands) < 2:
        return 0.0
    (_, left), (_, right), (_, out) = (arrays(s)[0] for s in (*operands, instruction.shape))
    if instruction.opcode == "dot":
        match = re.search(r"lhs_contracting_dims=\{([\d,]*)\}", instruction.attributes)
        dims = [int(d) for d in match[1].split(",") if d] if match else []
        return 2.0 * math.prod(out) * math.prod(left[d] for d in dims)
    # The TPU compiler writes every dot as a convolution.
    labels = re.search(r"dim_labels=(\w+)_(\w+)->(\w+)", instruction.attributes)
    if labels is None:
        return 0.0
    window = dict(re.findall(r"(\w+)=([\dx_\-]+)", _window(instruction.attributes)))
    flops = 2.0 * out[labels[3].index("b")] * out[labels[3].index("f")]
    flops *= right[labels[2].index("i")]
    for d in range(len(left) - 2):
        flops *= _valid_taps(
            left[labels[1].index(str(d))],
            right[labels[2].index(str(d))],
            out[labels[3].index(str(d))],
            pad=int(window["pad"].split("x")[d].split("_")[0]) if "pad" in window else 0,
            stride=int(window["stride"].split("x")[d]) if "stride" in window else 1,
            dilate_left=int(window["lhs_dilate"].split("x")[d]) if "lhs_dilate" in window else 1,
            dilate_right=int(window["rhs_dilate"].split("x")[d]) if "rhs_dilate" in window else 1,
        )
    return flops


def _window(attributes: str) -> str:
    match = re.search(r"window=\{([^}]*)\}", attributes)
    return match[1] if match else ""


@functools.cache
def _valid_taps(
    size: int,
    kernel: int,
    out: int,
    *,
    pad: int,
    stride: int,
    dilate_left: int,
    dilate_right: int,
) -> int:
    """Counts pairs (output, kernel position) that meet an input, not padding or a hole.

    A dot over a batch dim becomes a convolution of which most taps fall outside.
    """
    outputs = np.arange(out)[:, None] * stride - pad
    position = outputs + np.arange(kernel)[None, :] * dilate_right
    inside = (position >= 0) & (position <= (size - 1) * dilate_left)
    return int((inside & (position % dilate_left == 0)).sum())
