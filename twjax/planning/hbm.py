"""What an instruction moves between HBM and the core, by the shapes and memory spaces in HLO."""

from __future__ import annotations

import re

from twjax.planning.hlo_module import Module
from twjax.planning.hlo_text import Instruction, shape_bytes

# Memory spaces in a layout: the core's own memory, and the host's.
CORE_MEMORY, HOST_MEMORY = "S(1)", "S(5)"
_ARRAY = re.compile(r"\b[a-z]+\d*(?:e\d\w*)?\[[\d,]*\](?:\{[^}]*\})?")
_SLICES = ("dynamic-slice", "gather", "slice")


def hbm_bytes(instruction: Instruction, names: dict[str, Instruction], module: Module) -> float:
    """Returns the bytes that an instruction reads and writes outside the core's memory.

    Of an operand that is only sliced the slices are read; an update in place moves the update.
    """
    called = module.computations.get(instruction.attribute("calls") or "", {})
    parameters = {int(i.arguments): i for i in called.values() if i.opcode == "parameter"}
    total, kept = 0.0, set()
    for inner in called.values():
        if inner.opcode == "dynamic-update-slice" and len(inner.operands) > 1:
            kept.add(_source(inner.operands[0], called))
            if inner.operands[1] in called:
                total += 2 * shape_bytes(called[inner.operands[1]].shape)
                # The result below is the whole target.
                written = CORE_MEMORY not in instruction.shape
                total -= shape_bytes(inner.shape) if written else 0.0
    for number, operand in enumerate(instruction.operands):
        if operand not in names or CORE_MEMORY in names[operand].shape:
            continue
        parameter = parameters.get(number)
        users = [i for i in called.values() if parameter and parameter.name in i.operands]
        if parameter is not None and parameter.name in kept:
            continue
        if users and all(user.opcode in _SLICES for user in users):
            total += sum(shape_bytes(user.shape) for user in users)
        else:
            total += shape_bytes(names[operand].shape)
    for array in _ARRAY.findall(instruction.shape):
        total += 0.0 if CORE_MEMORY in array else shape_bytes(array)
    return max(total, 0.0)


def _source(name: str, called: dict[str, Instruction]) -> str:
    while name in called and called[name].opcode in ("bitcast", "copy") and called[name].operands:
        name = called[name].operands[0]
    return name
