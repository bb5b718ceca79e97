"""The seconds that one step takes, by the compiled module's schedule.

The module's instructions are walked in the order in which the core runs them, loops times their
trip counts. What is computed moves the core's clock; a transfer that the schedule starts early
moves that of its link, and the core waits at its end for what is left. The compiler gives no time
for transfers and Pallas kernels: those are counted in bytes and FLOPs, at the rates of
`planning.topology` and the assumptions below.
"""

from __future__ import annotations

import collections
import dataclasses
import re
from typing import Any

from twjax.planning import hlo
from twjax.planning.hbm import HOST_MEMORY, hbm_bytes
from twjax.planning.hlo_module import Module
from twjax.planning.hlo_text import Instruction, arrays, callees, shape_bytes
from twjax.planning.links import Links

# Without the compiler's cycles: the shares of the peak and of HBM's bandwidth that are reached.
MATMUL_EFFICIENCY, HBM_EFFICIENCY = 0.95, 0.85
# Of the peak, in attention's kernels, for which the compiler has no cycles.
KERNEL_EFFICIENCY = 0.5
# Bytes a second between a chip and its host's memory, in one direction; not published.
HOST_BANDWIDTH = 16e9

# What a step's links carry beside collectives.
HOST_COPY, PREFETCH = "host-copy", "prefetch"

_COMPUTING = (
    *("fusion", "convolution", "dot", "copy", "convert", "broadcast", "reduce", "transpose"),
    *("add", "dynamic-slice", "dynamic-update-slice", "scatter", "gather", "select", "multiply"),
)
_COPY_STARTS = (
    *("copy-start", "slice-start", "dynamic-slice-start", "dynamic-update-slice-start"),
    "async-start",
)


@dataclasses.dataclass(frozen=True)
class Traffic:
    """One kind of transfer in one step of one device.

    `bytes` is the whole buffer that is gathered, reduced or sent. `seconds` is how long the links
    are busy with it, `exposed` how long the core waits for it; the rest is hidden.
    """

    kind: str
    across_slices: bool
    count: int
    bytes: float
    seconds: float
    exposed: float

    @property
    def hidden(self) -> float:
        """The share of its time in which the core computes."""
        return 1 - self.exposed / self.seconds if self.seconds else 1.0


@dataclasses.dataclass(frozen=True)
class Prediction:
    """A step's seconds on one device, by what they go to; the parts add up to `seconds`.

    `compute` is matrix products with what is fused to them (`matmul`) and all other operations,
    which HBM or the vector unit bounds; `kernels` are attention's Pallas kernels.
    The others are waited for with nothing to compute: `exposed` for the slice's own links (ICI),
    `exposed_dcn` for the network between slices, `host` for the host's memory, `prefetch` for
    copies between HBM and the core's memory.
    `source` says where `compute` is from: "cycles" are the compiler's own, "roofline" is the more
    of arithmetic and HBM traffic, for a program that was scheduled but has no code yet. `untimed`
    are Pallas kernels of which nothing is known, that count as nothing.
    """

    seconds: float
    compute: float
    matmul: float
    kernels: float
    exposed: float
    exposed_dcn: float
    host: float
    prefetch: float
    source: str
    traffic: tuple[Traffic, ...]
    untimed: tuple[str, ...] = ()

    @property
    def other(self) -> float:
        """The part of `compute` without matrix products."""
        return self.compute - self.matmul


def predict(module: Module | str, links: Links) -> Prediction:
    """Predicts a step from a module that is scheduled for a device with these links."""
    module = Module(module) if isinstance(module, str) else module
    source = "cycles" if _has_cycles(module) else "roofline"
    walk = _Walk(module, links, source)
    cost = walk.cost(module.entry)
    traffic = tuple(
        Traffic(*key, flow.count, flow.bytes, flow.seconds, flow.exposed)
        for key, flow in sorted(cost.flows.items())
    )

    def waited(chosen: bool, across: bool = False) -> float:
        return sum(
            t.exposed
            for t in traffic
            if (t.kind not in (HOST_COPY, PREFETCH)) == chosen and t.across_slices == across
        )

    host = sum(t.exposed for t in traffic if t.kind == HOST_COPY)
    return Prediction(
        seconds=cost.seconds,
        compute=cost.compute,
        matmul=cost.matmul,
        kernels=cost.kernels,
        exposed=waited(True),
        exposed_dcn=waited(True, across=True),
        host=host,
        prefetch=waited(False) - host,
        source=source,
        traffic=traffic,
        untimed=tuple(walk.untimed),
    )


def _has_cycles(module: Module) -> bool:
    """Whether code was generated: before, only some instructions have the compiler's cycles."""
    fusions = [
        _cycles(instruction) > 0
        for name, instructions in module.computations.items()
        if name == module.entry or name in module.bodies
        for instruction in instructions.values()
        if instruction.opcode == "fusion"
    ]
    return sum(fusions) > len(fusions) / 2


def _cycles(instruction: Instruction) -> float:
    match = re.search(r'"estimated_cycles":"(\d+)"', instruction.attributes)
    return float(match[1]) if match else 0.0


@dataclasses.dataclass
class _Flow:
    count: int = 0
    bytes: float = 0.0
    seconds: float = 0.0
    exposed: float = 0.0

    def add(self, other: _Flow, times: int) -> None:
        for field in dataclasses.fields(self):
            total = getattr(self, field.name) + times * getattr(other, field.name)
            setattr(self, field.name, total)


_Key = tuple[str, bool]


@dataclasses.dataclass
class _Cost:
    """Totals of one run of a computation; `seconds` is the core's clock at its end."""

    seconds: float = 0.0
    compute: float = 0.0
    matmul: float = 0.0
    kernels: float = 0.0
    flows: dict[_Key, _Flow] = dataclasses.field(
        default_factory=lambda: collections.defaultdict(_Flow)
    )

    def add(self, other: _Cost, times: int) -> None:
        for name in ("seconds", "compute", "matmul", "kernels"):
            setattr(self, name, getattr(self, name) + times * getattr(other, name))
        for key, flow in other.flows.items():
            self.flows[key].add(flow, times)

    def wait(self, key: _Key, seconds: float) -> None:
        self.seconds += seconds
        self.flows[key].exposed += seconds


@dataclasses.dataclass(frozen=True)
class _Transfer:
    """What an instruction sends: `line` is the resource that transfers take one after another."""

    key: _Key
    line: str
    bytes: float
    seconds: float


class _Walk:
    def __init__(self, module: Module, links: Links, source: str):
        self._module, self._links, self._source = module, links, source
        self._chip = links.topology.chip
        self._memory: dict[str, _Cost] = {}
        self.untimed: dict[str, None] = {}

    def cost(self, name: str) -> _Cost:
        """Returns what one run of a computation costs."""
        if name not in self._memory:
            self._memory[name] = self._run(name)
        return self._memory[name]

    def _run(self, name: str) -> _Cost:
        cost = _Cost()
        names = self._module.computations[name]
        free: dict[str, float] = collections.defaultdict(float)
        # What is on its way, by the instruction that started it: its kind and when it arrives.
        sent: dict[str, tuple[_Key, float]] = {}
        for instruction in names.values():
            if self._control(name, instruction, cost):
                continue
            starts, transfers = self._transfers(instruction, names)
            for transfer in transfers:
                flow = cost.flows[transfer.key]
                flow.add(_Flow(1, transfer.bytes, transfer.seconds), 1)
                if starts:
                    free[transfer.line] = max(cost.seconds, free[transfer.line]) + transfer.seconds
                    sent[_label(instruction)] = (transfer.key, free[transfer.line])
                else:
                    cost.wait(transfer.key, transfer.seconds)
            if self._ends(instruction) and (started := _started(instruction, names, sent)):
                key, arrival = sent.pop(started)
                cost.wait(key, max(arrival - cost.seconds, 0.0))
            self._compute(instruction, names, cost)
        return cost

    def _control(self, name: str, instruction: Instruction, cost: _Cost) -> bool:
        """Adds loops, calls and the longest branch; whether the instruction was one of these."""
        if instruction.opcode == "while":
            trips = self._module.trips(name, instruction)
            cost.add(self.cost(instruction.attribute("body") or ""), trips)
        elif instruction.opcode in ("call", "conditional"):
            branches = [self.cost(c) for c in callees(instruction)]
            if branches:
                cost.add(max(branches, key=lambda branch: branch.seconds), 1)
        else:
            return False
        return True

    def _compute(
        self, instruction: Instruction, names: dict[str, Instruction], cost: _Cost
    ) -> None:
        if 'custom_call_target="tpu_custom_call"' in instruction.attributes:
            flops = hlo.kernel_flops(instruction, names, self._module)
            if not flops:
                self.untimed[instruction.name] = None
            seconds = flops / (self._peak * KERNEL_EFFICIENCY)
            cost.kernels += seconds
            cost.seconds += seconds
        cycles = _cycles(instruction) if self._source == "cycles" else 0.0
        if not cycles and (self._source == "cycles" or instruction.opcode not in _COMPUTING):
            return
        flops = hlo.matmul_flops(instruction, names)
        for inner, scope in self._module.contents(instruction):
            flops += hlo.matmul_flops(inner, scope)
        arithmetic = flops / (self._peak * MATMUL_EFFICIENCY)
        moved = hbm_bytes(instruction, names, self._module)
        memory = moved / (self._chip.rates.hbm / self._chip.devices * HBM_EFFICIENCY)
        seconds = cycles / self._chip.rates.hertz or max(arithmetic, memory)
        cost.compute += seconds
        cost.seconds += seconds
        if flops:
            cost.matmul += seconds

    @property
    def _peak(self) -> float:
        return self._chip.flops / self._chip.devices

    def _transfers(
        self, instruction: Instruction, names: dict[str, Instruction]
    ) -> tuple[bool, list[_Transfer]]:
        """Returns what an instruction sends, and whether it goes on while others compute."""
        opcode, holder = instruction.opcode, instruction
        if opcode == "async-start" and not instruction.operands:
            # A SparseCore's program is loaded; its update brings what it works on.
            return False, []
        if opcode == "async-update":
            holder = names[instruction.operands[0]]
        nested = list(self._module.contents(holder))
        inside = tuple(inner for inner, _ in nested)
        starts = (
            opcode in ("async-start", "async-update", "send")
            or opcode.endswith("-start")
            or any("AsyncCollectiveStart" in inner.attributes for inner in inside)
        )
        collectives = [
            self._collective(inner, scope, key)
            for inner, scope in [*nested, (instruction, names)]
            if (key := hlo.collective(inner, inside if inner is not instruction else ()))
        ]
        if collectives:
            return starts, collectives
        shapes = instruction.shape, *(inner.shape for inner in inside)
        to_host = any(HOST_MEMORY in shape for shape in shapes)
        if opcode in _COPY_STARTS:
            sizes = [shape_bytes(f"{d}[{','.join(map(str, n))}]") for d, n in arrays(shapes[0])]
            return True, [self._copy(min(sizes[:2], default=0.0), to_host)]
        from_host = any(HOST_MEMORY in names[o].shape for o in instruction.operands if o in names)
        if opcode == "copy" and to_host != from_host:
            return False, [self._copy(shape_bytes(instruction.shape), True)]
        return False, []

    def _collective(
        self, instruction: Instruction, names: dict[str, Instruction], key: _Key
    ) -> _Transfer:
        kind, across = key
        size = hlo.payload(instruction, names)
        if across:
            return _Transfer(key, "dcn", size, self._links.seconds_across(kind, size))
        line = "ici"
        if kind == "collective-permute":
            # A ring's two directions are links of their own.
            pair = re.search(
                r"source_target_pairs=\{(?:\{\d+,\d+\},)?\{(\d+),(\d+)\}", instruction.attributes
            )
            line += "+" if pair and int(pair[2]) > int(pair[1]) else "-"
        return _Transfer(key, line, size, self._links.seconds(kind, size, instruction))

    def _copy(self, size: float, host: bool) -> _Transfer:
        if host:
            bandwidth = HOST_BANDWIDTH / self._chip.devices
            return _Transfer((HOST_COPY, False), "host", size, size / bandwidth)
        bandwidth = self._chip.rates.hbm / self._chip.devices
        return _Transfer((PREFETCH, False), "hbm", size, size / bandwidth)

    def _ends(self, instruction: Instruction) -> bool:
        """Whether the core waits here for what was started."""
        return instruction.opcode.endswith("-done") or (
            instruction.opcode == "fusion"
            and any(
                "AsyncCollectiveDone" in inner.attributes
                for inner, _ in self._module.contents(instruction)
            )
        )


def _label(instruction: Instruction) -> str:
    """Returns under what the end of a transfer is found: its name, or what send and recv share."""
    if instruction.opcode not in ("send", "recv"):
        return instruction.name
    rendezvous = re.search(r'_xla_host_transfer_rendezvous="([^"]*)"', instruction.attributes)
    return rendezvous[1] if rendezvous else instruction.operands[-1]


def _started(
    instruction: Instruction, names: dict[str, Instruction], sent: dict[str, Any]
) -> str | None:
    """Returns the name under which what an instruction waits for was sent."""
    for operand in instruction.operands:
        if operand in names and names[operand].opcode == "recv":
            operand = _label(names[operand])
        while operand in names and operand not in sent:
            source = names[operand]
            if source.opcode not in ("get-tuple-element", "bitcast") or not source.operands:
                break
            operand = source.operands[0]
        if operand in sent:
            return operand
    return None
