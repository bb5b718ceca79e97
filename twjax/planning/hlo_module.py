"""An HLO module as a program: loops with their trip counts, fusions with what they hold."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator

from twjax.planning.hlo_text import Instruction, callees, parse, root


class Module:
    """A module's computations, and how often each of its instructions runs.

    `unknown_loops` are loops met so far whose trip count the text doesn't tell.
    """

    def __init__(self, text: str):
        self.computations, self.entry = parse(text)
        if not self.entry:
            raise ValueError("The HLO text has no ENTRY computation; was the file cut off?")
        self._callers = {
            body: (name, instruction)
            for name, instructions in self.computations.items()
            for instruction in instructions.values()
            if instruction.opcode == "while"
            for body in (instruction.attribute("body"), instruction.attribute("condition"))
            if body
        }
        # Splash attention's backward pass is one kernel for dk, dv and dq, or two.
        self.separate_dq = re.search(r"%splash\w*_dq", text) is not None
        self.unknown_loops: list[str] = []

    def walk(
        self, name: str, times: int, fusion: tuple[Instruction, ...]
    ) -> Iterator[tuple[str, Instruction, int, tuple[Instruction, ...]]]:
        """Yields each executed instruction with how often, and the fusion that it is part of."""
        for instruction in self.computations[name].values():
            yield name, instruction, times, fusion
            inner, factor = fusion, 1
            if instruction.opcode == "while":
                factor, inner = self.trips(name, instruction), ()
            elif instruction.opcode == "fusion" and not fusion:
                inner = tuple(held for held, _ in self.contents(instruction))
            for callee in callees(instruction):
                if callee in self.computations:
                    yield from self.walk(callee, times * factor, inner)

    def contents(
        self, instruction: Instruction
    ) -> Iterator[tuple[Instruction, dict[str, Instruction]]]:
        """Yields what an instruction's computations hold, at any depth, each with its siblings."""
        for callee in callees(instruction):
            names = self.computations.get(callee, {})
            for inner in names.values():
                yield inner, names
                yield from self.contents(inner)

    @property
    def bodies(self) -> set[str]:
        """The computations that loops repeat."""
        return {loop.attribute("body") or "" for _, loop in self._callers.values()}

    def trips(self, computation: str, loop: Instruction) -> int:
        """Returns a loop's trip count: from XLA's note, or from its counter, bound and step."""
        if known := re.search(r'"known_trip_count":\{"n":"(\d+)"', loop.attributes):
            return int(known[1])
        condition = self.computations[loop.attribute("condition") or ""]
        compare = root(condition)
        sides = list(compare.operands)
        if compare.opcode == "fusion":
            inner = self.computations[compare.attribute("calls") or ""]
            compare = root(inner)
            # A fused parameter stands for the fusion's operand of that number.
            sides = [
                sides[int(inner[s].arguments)] if inner[s].opcode == "parameter" else s
                for s in compare.operands
            ]
        for counter, bound in (sides, sides[::-1]) if compare.opcode == "compare" else ():
            if counter not in condition or condition[counter].opcode != "get-tuple-element":
                continue
            element = condition[counter].element
            start = self._element(computation, loop.operands[0], element)
            end = self._constant(loop.attribute("condition") or "", bound)
            step = self._step(loop.attribute("body") or "", element)
            if start is None or end is None or not step:
                continue
            inclusive = compare.attribute("direction") in ("LE", "GE")
            return max(0, math.ceil((end - start + (step if inclusive else 0)) / step))
        if loop.name not in self.unknown_loops:
            self.unknown_loops.append(loop.name)
        return 1

    def _step(self, body: str, element: int) -> int | None:
        names = self.computations[body]
        following = names.get(root(names).operands[element])
        while following is not None and following.opcode in ("copy", "bitcast"):
            following = names.get(following.operands[0])
        if following is None or following.opcode not in ("add", "fusion"):
            return None
        # The counter plus a constant, written out or as a fusion of just that.
        scopes = [(body, following)]
        if following.opcode == "fusion":
            callee = following.attribute("calls") or ""
            scopes.insert(0, (callee, root(self.computations[callee])))
        for scope, instruction in scopes:
            for operand in instruction.operands:
                value = self._constant(scope, operand)
                if value is not None:
                    return value
        return None

    def _constant(self, computation: str, name: str, depth: int = 0) -> int | None:
        """Follows a scalar to the integer constant that it is, through tuples and loops."""
        instruction = self.computations[computation].get(name)
        if instruction is None or depth > 16:
            return None
        if instruction.opcode == "constant":
            literal = instruction.arguments.strip()
            return int(literal) if re.fullmatch(r"-?\d+", literal) else None
        if instruction.opcode in ("copy", "bitcast", "convert", "copy-start", "copy-done"):
            return self._constant(computation, instruction.operands[0], depth + 1)
        if instruction.opcode == "get-tuple-element":
            return self._element(
                computation, instruction.operands[0], instruction.element, depth + 1
            )
        return None

    def _element(self, computation: str, name: str, element: int, depth: int = 0) -> int | None:
        instruction = self.computations[computation].get(name)
        if instruction is None or depth > 16:
            return None
        if instruction.opcode == "tuple":
            return self._constant(computation, instruction.operands[element], depth + 1)
        if instruction.opcode == "while" and self._unchanged(instruction, element):
            return self._element(computation, instruction.operands[0], element, depth + 1)
        if instruction.opcode == "parameter" and computation in self._callers:
            caller, loop = self._callers[computation]
            if self._unchanged(loop, element):
                return self._element(caller, loop.operands[0], element, depth + 1)
        return None

    def _unchanged(self, loop: Instruction, element: int) -> bool:
        """Whether a loop hands an element of its state on as it came."""
        body = self.computations[loop.attribute("body") or ""]
        following = body.get(root(body).operands[element])
        while following is not None and following.opcode in ("copy", "bitcast"):
            following = body.get(following.operands[0])
        return (
            following is not None
            and following.opcode == "get-tuple-element"
            and following.element == element
            and body[following.operands[0]].opcode == "parameter"
        )
