"""HLO text as computations of instructions, without what analyses don't ask for."""

from __future__ import annotations

import dataclasses
import functools
import math
import re

_BITS = {"pred": 8, "token": 0} | {
    f"{kind}{bits}": bits for kind in ("s", "u") for bits in (2, 4, 8, 16, 32, 64)
}
_BITS |= {"bf16": 16, "f16": 16, "f32": 32, "f64": 64, "c64": 64, "c128": 128}
_ARRAY = re.compile(r"\b([a-z]+\d*(?:e\d\w*)?)\[([\d,]*)\]")
_HEADER = re.compile(r"^(ENTRY )?%?([\w.\-]+) \(.*\{$")
_INSTRUCTION = re.compile(r"^\s+(?:ROOT )?%[\w.\-]+ = ")


@dataclasses.dataclass(frozen=True)
class Instruction:
    """`shape` and `attributes` are HLO text; `operands` are names in the same computation."""

    name: str
    opcode: str
    shape: str
    operands: tuple[str, ...]
    arguments: str
    attributes: str
    root: bool

    def attribute(self, key: str) -> str | None:
        match = re.search(rf"\b{key}=%?([\w.\-]+)", self.attributes)
        return match[1] if match else None

    @functools.cached_property
    def element(self) -> int:
        """The index of a get-tuple-element."""
        return int(self.attribute("index") or 0)


def arrays(shape: str) -> list[tuple[str, tuple[int, ...]]]:
    """Returns (dtype, dims) of each array in an HLO shape; a tuple has several."""
    return [
        (dtype, tuple(int(d) for d in dims.split(",") if d))
        for dtype, dims in _ARRAY.findall(shape)
    ]


def shape_bytes(shape: str) -> float:
    """Returns the bytes of an HLO shape's arrays, without the padding of layouts."""
    total = 0.0
    for dtype, dims in arrays(shape):
        bits = 8 if dtype.startswith("f8") else _BITS.get(dtype, 0)
        total += math.prod(dims) * bits / 8
    return total


def operand_bytes(instruction: Instruction, names: dict[str, Instruction]) -> float:
    """Returns the bytes of an instruction's operands; `%name#2` is one element of a tuple."""
    total = 0.0
    for name, element in re.findall(r"%([\w.\-]+)(?:#(\d+))?", instruction.arguments):
        if name in names:
            shape = names[name].shape
            parts = _ARRAY.findall(shape) if element else []
            dtype, dims = parts[int(element)] if element and int(element) < len(parts) else ("", "")
            total += shape_bytes(f"{dtype}[{dims}]" if dtype else shape)
    return total


def parse(text: str) -> tuple[dict[str, dict[str, Instruction]], str]:
    """Returns a module's computations by name, and the entry's name ("" if there is none)."""
    computations: dict[str, dict[str, Instruction]] = {}
    entry, current, pending = "", None, ""

    def finish() -> None:
        nonlocal pending
        if pending and current is not None:
            instruction = _instruction(pending)
            computations[current][instruction.name] = instruction
        pending = ""

    for line in text.splitlines():
        if current is None:
            if header := _HEADER.match(line):
                current = header[2]
                computations[current] = {}
                entry = current if header[1] else entry
        elif line == "}" and pending.count("{") == pending.count("}"):
            finish()
            current = None
        elif _INSTRUCTION.match(line):
            finish()
            pending = line
        else:
            # An attribute that holds line breaks: the metadata of a Pallas kernel.
            pending += line
    return computations, entry


def _instruction(line: str) -> Instruction:
    match = re.match(r"\s+(ROOT )?%([\w.\-]+) = ", line)
    assert match is not None
    rest = line[match.end() :]
    end = _closing(rest, 0) + 1 if rest.startswith("(") else rest.index(" ")
    shape, rest = rest[:end], rest[end:].lstrip()
    start = rest.index("(")
    end = _closing(rest, start)
    arguments = rest[start + 1 : end]
    return Instruction(
        name=match[2],
        opcode=rest[:start],
        shape=shape,
        operands=tuple(re.findall(r"%([\w.\-]+)", arguments)),
        arguments=arguments,
        attributes=rest[end + 1 :],
        root=match[1] is not None,
    )


def _closing(text: str, start: int) -> int:
    depth = 0
    for match in re.compile(r"[()]").finditer(text, start):
        depth += 1 if match[0] == "(" else -1
        if depth == 0:
            return match.start()
    raise ValueError(f"HLO text with an open parenthesis: {text[:80]!r}")


def root(instructions: dict[str, Instruction]) -> Instruction:
    """Returns the instruction whose value a computation gives back."""
    return next(i for i in instructions.values() if i.root)


def callees(instruction: Instruction) -> list[str]:
    """Returns the computations that an instruction runs, not the scalar functions of reductions."""
    opcode, attributes = instruction.opcode, instruction.attributes
    if opcode in ("fusion", "async-start"):
        return [c for c in [instruction.attribute("calls")] if c]
    if opcode == "call":
        return [c for c in [instruction.attribute("to_apply")] if c]
    if opcode == "while":
        return [c for c in [instruction.attribute("body")] if c]
    if opcode in ("conditional", "custom-call"):
        lists = re.findall(r"(?:branch|called)_computations=\{([^}]*)\}", attributes)
        branches = re.findall(r"(?:true|false)_computation=%?([\w.\-]+)", attributes)
        return branches + [c.strip().lstrip("%") for text in lists for c in text.split(",")]
    return []
