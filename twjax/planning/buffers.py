"""What fills a step's temporaries, by the compiler's buffer assignment."""

from __future__ import annotations

import collections
import dataclasses
import re

from twjax.planning.hlo_module import Module
from twjax.planning.hlo_text import Instruction

_VALUE = re.compile(r"value: <\d+ ([^\s{]+)\S* @\d+> \(size=(\d+),offset=(\d+)\): (\w+\[[\d,]*\])")


@dataclasses.dataclass(frozen=True)
class Buffer:
    """Temporaries of one shape from one place in the step: `count` of them, `bytes` altogether."""

    maker: str
    shape: str
    count: int
    bytes: float


def largest(assignment: str, module: Module, top: int = 8) -> tuple[Buffer, ...]:
    """Returns the largest temporaries in HBM that don't share memory, largest first.

    `assignment` is the text of XLA's buffer-assignment file. Where several values take turns in
    the same memory, the largest stands for them.
    """
    blocks = re.split(r"\nallocation \d+: ", assignment)
    # Other memory spaces than HBM have a colour.
    blocks = [b for b in blocks if re.match(r"size \d+, page \d+, preallocated-temp", b)]
    if not blocks:
        return ()
    program = max(blocks, key=lambda block: int(re.match(r"size (\d+)", block)[1]))  # type: ignore
    instructions = {i.name: i for names in module.computations.values() for i in names.values()}
    values = sorted(
        (
            (int(size), int(offset), name, shape)
            for name, size, offset, shape in _VALUE.findall(program)
        ),
        key=lambda value: (-value[0], value[1], not _maker(instructions.get(value[2]))),
    )
    taken: list[tuple[int, int]] = []
    found: dict[tuple[str, str], list[float]] = collections.defaultdict(list)
    for size, offset, name, shape in values:
        if any(offset < end and begin < offset + size for begin, end in taken):
            continue
        taken.append((offset, offset + size))
        maker = _maker(instructions.get(name)) or re.sub(r"[.\d]+$", "", name)
        found[maker, shape].append(size)
    buffers = [Buffer(*key, len(sizes), sum(sizes)) for key, sizes in found.items()]
    return tuple(sorted(buffers, key=lambda buffer: -buffer.bytes)[:top])


def _maker(instruction: Instruction | None) -> str:
    """Says which part of the step an instruction belongs to, "" where the compiler doesn't."""
    match = re.search(r'op_name="([^"]*)"', instruction.attributes) if instruction else None
    if instruction is None or match is None or "/" not in match[1]:
        return ""
    path = match[1].split("/")
    products = [part for part in path if "->" in part]
    what = products[-1] if products else path[-1]
    backward = "transpose(" in match[1]
    phase = "backward" if backward else "forward" if "jvp(" in match[1] else "update"
    stacks = "dynamic-update-slice" in instruction.name or path[-1] == "dynamic_update_slice"
    if stacks and "while" in path and not backward:
        what = f"kept of each layer: {what}" if products else "kept of each layer"
    return f"{phase}, {what}"
