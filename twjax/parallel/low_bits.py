"""Which devices multiply numbers of eight bits, and how fast that is beside bfloat16."""

from __future__ import annotations

import importlib.util
from typing import Any

# By JAX's names of devices, whatever follows them: int8 at twice the rate of bfloat16
# (docs.cloud.google.com/tpu/docs/{v5e,v5p,v6e}), fp8 at twice (.../tpu7x; NVIDIA's H100 and H200
# data sheets).
DEVICES: dict[str, tuple[str, ...]] = {
    "int8": ("TPU v5", "TPU v6", "NVIDIA H100", "NVIDIA H200"),
    "fp8": ("TPU7x", "NVIDIA H100", "NVIDIA H200"),
}


def check(kind: str | None, device: Any) -> None:
    """Raises ValueError where products of this kind gain nothing, or qwix isn't installed.

    A CPU computes them too, slower than others, so that a run can be tried.
    """
    if kind is None:
        return
    if importlib.util.find_spec("qwix") is None:
        raise ValueError(f"Step.matmul ({kind!r}) needs qwix: pip install 'twjax[quantized]'.")
    if device.platform != "cpu" and not device.device_kind.startswith(DEVICES[kind]):
        raise ValueError(
            f"Step.matmul ({kind!r}): {device.device_kind} has no such products; those that do are "
            f"{', '.join(DEVICES[kind])}. Leave it out."
        )
