"""Start-up of one process of a run: which devices to use, and how processes find each other."""

from __future__ import annotations

import glob
import importlib.util
import os

COORDINATOR = "TWJAX_COORDINATOR"
NUM_PROCESSES = "TWJAX_NUM_PROCESSES"
PROCESS_ID = "TWJAX_PROCESS_ID"


def initialize() -> None:
    """Prepares JAX for this process; call it before anything touches a device.

    With `TWJAX_COORDINATOR` (host:port), `TWJAX_NUM_PROCESSES` and `TWJAX_PROCESS_ID` the
    process joins that group. On a TPU VM of a pod JAX finds the others by itself. Anything else
    is a single process.
    """
    _skip_absent_tpu()
    import jax

    coordinator = os.environ.get(COORDINATOR)
    if coordinator:
        numbers = {}
        for name in (NUM_PROCESSES, PROCESS_ID):
            text = os.environ.get(name, "")
            if not text.isdigit():
                raise ValueError(f"{COORDINATOR} is set, so {name} ({text!r}) must be a number.")
            numbers[name] = int(text)
        jax.distributed.initialize(
            coordinator_address=coordinator,
            num_processes=numbers[NUM_PROCESSES],
            process_id=numbers[PROCESS_ID],
        )
    elif _on_tpu_pod():
        jax.distributed.initialize()


def _skip_absent_tpu() -> None:
    """Keeps JAX from asking an installed libtpu for TPUs that this machine doesn't have."""
    has_libtpu = importlib.util.find_spec("libtpu") is not None
    if has_libtpu and not _has_tpu() and "JAX_PLATFORMS" not in os.environ:
        has_gpu = bool(glob.glob("/dev/nvidia[0-9]*"))
        os.environ["JAX_PLATFORMS"] = "cuda,cpu" if has_gpu else "cpu"


def _has_tpu() -> bool:
    return bool(glob.glob("/dev/accel[0-9]*") or glob.glob("/dev/vfio/[0-9]*"))


def _on_tpu_pod() -> bool:
    hosts = os.environ.get("TPU_WORKER_HOSTNAMES", "")
    return _has_tpu() and ("," in hosts or "MEGASCALE_COORDINATOR_ADDRESS" in os.environ)
