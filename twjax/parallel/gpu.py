"""What a GPU's compiler is given.

The names are those that JAX 0.10.2 to 0.12.0 know; what one of them no longer knows (the switches
of single pipelined collectives) is not here, since an unknown option fails the compilation.
"""

from __future__ import annotations

from collections.abc import Mapping

# MaxText e591f30c, configs/gpu/a3/llama_2_7b/1vm.sh: FSDP over the eight H100 of a host. NVIDIA's
# own images of JAX set the first one alone
# (https://docs.nvidia.com/jax-toolbox/environment-variables). All are about what devices send each
# other: a single one is compiled by the compiler's own choices.
_MIB = 2**20
SEVERAL: Mapping[str, bool | int | str] = {
    "xla_gpu_enable_latency_hiding_scheduler": True,
    "xla_gpu_all_gather_combine_threshold_bytes": 128 * _MIB,
    "xla_gpu_all_reduce_combine_threshold_bytes": 128 * _MIB,
    "xla_gpu_reduce_scatter_combine_threshold_bytes": 64 * _MIB,
}

# As JAX names them; the figures above are of these. Others get the compiler's own choices.
KINDS = ("A100", "H100", "H200")


def options(device_kind: str, devices: int) -> dict[str, bool | int | str]:
    """Returns what a step over this many devices of a kind ("NVIDIA H200") is compiled with."""
    known = any(kind in device_kind for kind in KINDS)
    return dict(SEVERAL) if known and devices > 1 else {}
