"""Ways to compute a run's step on slices: mesh, rows at a time, and what is saved."""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Iterator, Sequence
from typing import Any, Literal

from twjax.config import Mesh, Run
from twjax.parallel.mesh import AXES, axis_sizes
from twjax.parallel.sharding import RULES
from twjax.planning import pace
from twjax.planning.compile import check, heaviest
from twjax.planning.compile import shapes as shapes_of
from twjax.planning.memory import MARGIN, Estimate, Shapes
from twjax.planning.topology import Topology

Remat = str | tuple[str, ...]
Batch = Literal["keep", "free"]

# What a layer's backward pass may find saved, from little to much.
_ATTENTION = ("query", "key", "value", "attention")
REMATS: tuple[Remat, ...] = (
    "full",
    ("attention",),
    _ATTENTION,
    (*_ATTENTION, "gate"),
    (*_ATTENTION, "gate", "up"),
    "dots",
    "none",
)
# What waits in the host's memory, beside what is saved on the device.
OFFLOADS: tuple[tuple[Remat, tuple[str, ...]], ...] = (
    ("full", ("input",)),
    (("attention",), ("input",)),
    (_ATTENTION, ("input",)),
    ("full", ("input", *_ATTENTION)),
)
_TENSOR = (1, 2, 4, 8)
_CONTEXT = (1, 2, 4, 8, 16)
_MOST_MICROBATCHES = 64
# Less memory is worth this much more time, as far as the order goes.
_SLOWER = 1.5


@dataclasses.dataclass(frozen=True)
class Point:
    """What a search chooses of a run; the mesh's sizes are in the order of its axes."""

    mesh: tuple[int, ...]
    batch_size: int
    accumulation: int
    remat: Remat
    offload: tuple[str, ...] = ()

    @classmethod
    def of(cls, run: Run, num_devices: int) -> Point:
        """Returns what a run has chosen itself; a mesh for other devices stays as it is stated."""
        try:
            sizes = axis_sizes(run.mesh, num_devices)
        except ValueError:
            sizes = dataclasses.asdict(run.mesh)
        return cls(
            tuple(sizes[axis] for axis in AXES),
            run.data.batch_size,
            run.step.accumulation,
            run.step.remat,
            run.step.offload,
        )

    @property
    def sizes(self) -> dict[str, int]:
        return dict(zip(AXES, self.mesh, strict=True))

    @property
    def rows(self) -> float:
        """Rows of a device at a time."""
        parts = math.prod(self.sizes[axis] for axis in RULES["batch"])
        return self.batch_size / parts / self.accumulation

    def apply(self, run: Run) -> Run:
        """Returns the run computed this way; raises ValueError where it can't be."""
        chosen: dict[str, Any] = {"remat": self.remat, "offload": self.offload}
        step = dataclasses.replace(run.step, accumulation=self.accumulation, **chosen)
        data = dataclasses.replace(run.data, batch_size=self.batch_size)
        return dataclasses.replace(run, mesh=Mesh(**self.sizes), step=step, data=data)

    def bindings(self, run: Run, num_devices: int) -> list[str]:
        """Returns the gin bindings by which this differs from what the run says.

        An axis of the run's mesh that fills (-1) goes on filling.
        """
        own = Point.of(run, num_devices)
        found = []
        if self.mesh != own.mesh:
            for axis, size in self.sizes.items():
                stated = getattr(run.mesh, axis)
                if stated not in (size, -1):
                    found.append(f"Mesh.{axis} = {size}")
        for field, mine, theirs in (
            ("Data.batch_size", self.batch_size, run.data.batch_size),
            ("Step.accumulation", self.accumulation, run.step.accumulation),
            ("Step.remat", self.remat, run.step.remat),
            ("Step.offload", self.offload, run.step.offload),
        ):
            if mine != theirs:
                found.append(f"{field} = {mine!r}")
        return found

    def describe(self) -> str:
        """Returns the point in a few words."""
        axes = " ".join(f"{axis} {size}" for axis, size in self.sizes.items() if size > 1)
        micro = f" x {self.accumulation}" if self.accumulation > 1 else ""
        return f"{axes or 'one device'}; {self.rows:g} rows{micro}; save {self.saved_words()}"

    def saved_words(self) -> str:
        """Returns what the backward pass finds saved, and what of it at the host."""
        if isinstance(self.remat, str):
            words = {"full": "nothing", "dots": "dots", "none": "all"}[self.remat]
        else:
            words = "+".join(self.remat) or "nothing"
        return f"{words}, host {'+'.join(self.offload)}" if self.offload else words


@dataclasses.dataclass(frozen=True)
class Candidate:
    """A point with what is expected of it before it is compiled."""

    point: Point
    memory: Estimate
    seconds: float
    tokens: int

    @property
    def seconds_per_token(self) -> float:
        return self.seconds / self.tokens


@dataclasses.dataclass(frozen=True)
class Considered:
    """All candidates in the order in which to compile them; `too_large` are those pruned.

    `indivisible` is how many combinations the devices or the configuration don't allow.
    """

    ordered: tuple[Candidate, ...]
    too_large: tuple[Candidate, ...]
    indivisible: int


def consider(
    run: Run, topology: Topology, *, batch: Batch = "keep", usable: float | None = None
) -> Considered:
    """Returns what there is to compile for a run on slices, best first by the estimates.

    `usable` bounds a device's memory (default: all of it). What the memory model finds larger by
    more than its margin is pruned.
    """
    limit = topology.chip.usable_bytes if usable is None else usable
    shapes = Shapes(run, topology)
    kept: list[Candidate] = []
    large: list[Candidate] = []
    indivisible = 0
    for point in points(run, topology, batch):
        candidate = _estimated(point, run, shapes)
        if candidate is None:
            indivisible += 1
        elif candidate.memory.total > limit * (1 + MARGIN):
            large.append(candidate)
        else:
            kept.append(candidate)
    own = Point.of(run, topology.num_devices)
    # What the run says itself is what the others are compared with.
    first = [candidate for candidate in kept if candidate.point == own]
    others = [candidate for candidate in kept if candidate.point != own]
    return Considered((*first, *ordered(others)), tuple(large), indivisible)


def _estimated(point: Point, run: Run, shapes: Shapes) -> Candidate | None:
    try:
        chosen = point.apply(run)
        for shape in shapes_of(chosen):
            check(shape, shapes.topology)
        fullest = heaviest(chosen)
        memory = shapes.estimate(fullest)
    except ValueError:
        return None
    tokens = fullest.data.batch_size * sum(fullest.data.lengths)
    return Candidate(point, memory, pace.seconds(fullest, shapes, memory, point.sizes), tokens)


def points(run: Run, topology: Topology, batch: Batch) -> Iterator[Point]:
    """Yields what can be combined, the run's own choice first, each once."""
    own = Point.of(run, topology.num_devices)
    seen = {own}
    yield own
    kept = [(remat, ()) for remat in REMATS]
    ways = dict.fromkeys([*kept, *OFFLOADS, (own.remat, own.offload)])
    if not run.model.gated:
        ways = dict.fromkeys(way for way in ways if "gate" not in way[0])
    for mesh in meshes(own, topology):
        parts = math.prod(size for axis, size in zip(AXES, mesh, strict=True)
                          if axis in RULES["batch"])  # fmt: skip
        for (rows, micro), way in itertools.product(_batches(own, parts, batch), ways):
            point = Point(mesh, rows, micro, *way)
            if point not in seen:
                seen.add(point)
                yield point


def meshes(own: Point, topology: Topology) -> Iterator[tuple[int, ...]]:
    """Yields sizes of the axes; rows are cut over `context` only where whole ones are too few."""
    devices = topology.num_devices // topology.num_slices
    for tensor, context in itertools.product(_TENSOR, _CONTEXT):
        if devices % (tensor * context):
            continue
        left = devices // (tensor * context)
        few = own.batch_size < topology.num_devices // tensor
        if context > 1 and not few and own.sizes["context"] == 1:
            continue
        for fsdp in (size for size in range(1, left + 1) if left % size == 0):
            yield (topology.num_slices, left // fsdp, fsdp, context, tensor)


def _batches(own: Point, parts: int, batch: Batch) -> Iterator[tuple[int, int]]:
    """Yields (rows of a step, microbatches)."""
    micros = [2**power for power in range(_MOST_MICROBATCHES.bit_length())]
    if batch == "keep":
        for micro in dict.fromkeys([own.accumulation, *micros]):
            if micro <= _MOST_MICROBATCHES or micro == own.accumulation:
                yield own.batch_size, micro
    else:
        for rows in micros:
            yield rows * parts, 1


def ordered(candidates: Sequence[Candidate]) -> list[Candidate]:
    """Orders candidates: first those that none beats in both time and memory, fastest first.

    Among equally fast ones the smaller comes first; much slower ones wait with the others.
    """

    def key(candidate: Candidate) -> tuple[float, float]:
        return candidate.seconds_per_token, candidate.memory.total

    by_time = sorted(candidates, key=key)
    front, least = [], math.inf
    for candidate in by_time:
        slowest = _SLOWER * by_time[0].seconds_per_token
        if candidate.memory.total < least and candidate.seconds_per_token <= slowest:
            front.append(candidate)
            least = candidate.memory.total
    first = set(map(id, front))
    return front + [candidate for candidate in by_time if id(candidate) not in first]
