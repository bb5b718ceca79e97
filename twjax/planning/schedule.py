"""The seconds that one step takes, from the compiled module's schedule."""

from __future__ import annotations

import dataclasses


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


@dataclasses.dataclass(frozen=True)
class Prediction:
    """A step's seconds on one device, by what they go to; the parts add up to `seconds`.

    `compute` is matrix products and what is fused with them, `kernels` attention's Pallas kernels.
    The others are waited for with nothing to compute: `exposed` for the slice's own links (ICI),
    `exposed_dcn` for the network between slices, `host` for the host's memory, `prefetch` for
    copies between HBM and the core's memory.
    `source` says where `compute` is from: "cycles" are the compiler's own, "roofline" is the more
    of arithmetic and HBM traffic, for a program that was scheduled but has no code yet.
    """

    seconds: float
    compute: float
    kernels: float
    exposed: float
    exposed_dcn: float
    host: float
    prefetch: float
    source: str
    traffic: tuple[Traffic, ...]
