"""How long a collective keeps a slice's links, or the network between slices, busy."""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Sequence
from typing import Any

import numpy as np

from twjax.planning.hlo_text import Instruction
from twjax.planning.topology import Topology

# Bytes that pass each of the links used, of a byte of the whole buffer: an all-reduce scatters and
# gathers it; of what every device sends to every other only a quarter crosses the busiest link.
_PASSES = {"all-reduce": 2.0, "all-to-all": 0.25, "ragged-all-to-all": 0.25}
# Of a chip's part of the network between slices. Measured by others: an all-reduce between two
# v6e slices reaches 198 of a host's 400 Gbit/s, between four tpu7x slices 110
# (https://github.com/elbertwang/google_support, dcn/).
DCN_EFFICIENCY = 0.5


@dataclasses.dataclass(frozen=True)
class Links:
    """The links of one device of a slice. `coords` are its devices' places, in the mesh's order."""

    topology: Topology
    coords: tuple[tuple[int, ...], ...]

    @classmethod
    def of(cls, topology: Topology, devices: Sequence[Any] | None = None) -> Links:
        """Returns the links under a mesh's flat devices; without them, in the order of places."""
        if devices is None:
            places = np.ndindex(*topology.shape)
            return cls(topology, tuple(p for p in places for _ in range(topology.chip.devices)))
        first = [d for d in devices if _slice(d) == _slice(devices[0])]
        return cls(topology, tuple(tuple(d.coords) for d in first))

    @property
    def bandwidth(self) -> float:
        """Bytes a second of one link in one direction, for one of the devices of its chip."""
        return self.topology.chip.rates.link / self.topology.chip.devices

    def seconds(self, kind: str, size: float, instruction: Instruction) -> float:
        """Returns the seconds of a collective with a whole buffer of `size` bytes in a slice."""
        lanes = 1 if kind == "collective-permute" else self.lanes(instruction)
        return size * _PASSES.get(kind, 1.0) / (self.bandwidth * lanes)

    def seconds_across(self, kind: str, size: float) -> float:
        """Returns the seconds of what a device exchanges with other slices.

        Each slice sends the others' parts and, for an all-reduce, the sums of its own.
        """
        slices = self.topology.num_slices
        dcn = DCN_EFFICIENCY * self.topology.chip.rates.dcn / self.topology.chip.devices
        share = (slices - 1) / slices
        return size * share * (2.0 if kind == "all-reduce" else 1.0) / dcn

    def lanes(self, instruction: Instruction) -> int:
        """Returns how many links, one direction each, a device's group keeps busy at once.

        One along each axis of the torus on which the group extends; two where it goes all the way
        round a ring.
        """
        group = replica_group(instruction.attributes)
        known = group is not None and max(group) < len(self.coords)
        places = [self.coords[i] for i in group] if group and known else list(self.coords)
        lanes = 0
        for axis, size in enumerate(self.topology.shape):
            extent = len({place[axis] for place in places})
            if extent > 1:
                lanes += 2 if extent == size and self.topology.wrap[axis] else 1
        return max(lanes, 1)


def replica_group(attributes: str) -> list[int] | None:
    """Returns the first group of devices in any of HLO's notations; None if it is all devices."""
    if listed := re.search(r"replica_groups=\{\{([\d,]+)\}", attributes):
        return [int(i) for i in listed[1].split(",")]
    if iota := re.search(
        r"replica_groups=\[(\d+),(\d+)\]<=\[([\d,]+)\](?:T\(([\d,]+)\))?", attributes
    ):
        return _iota(iota[3], iota[4]).reshape(int(iota[1]), int(iota[2]))[0].tolist()
    if meshed := re.search(r"replica_groups=mesh\[([^\]]*)\]\s*\{([^}]*)\}", attributes):
        sizes = {name: int(size) for name, size in re.findall(r"'(\w+)'=(\d+)", meshed[1])}
        dims, kept = [], []
        chosen = re.findall(r"'(\w+)'(?::\((\d+)\)(\d+))?", meshed[2])
        for name, size in sizes.items():
            # An axis may be cut: what is left of the part that is used, the part, the rest.
            part = next(((p or "1", s or str(size)) for n, p, s in chosen if n == name), ("1", "1"))
            before, used = int(part[0]), int(part[1])
            dims += [before, used, size // (before * used)]
            kept += [False, True, False]
        ids = np.arange(math.prod(dims)).reshape(dims)
        return ids[tuple(slice(None) if k else 0 for k in kept)].ravel().tolist()
    return None


def _iota(dims: str, order: str | None) -> np.ndarray:
    sizes = [int(d) for d in dims.split(",")]
    ids = np.arange(math.prod(sizes)).reshape(sizes)
    return ids.transpose([int(d) for d in order.split(",")]) if order else ids


def _slice(device: Any) -> int:
    """Returns which slice a device is of; JAX gives it only where there are several."""
    return getattr(device, "slice_index", 0)
