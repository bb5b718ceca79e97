"""Start-up of one process of a run: which devices to use, and how processes find each other."""

from __future__ import annotations

import contextlib
import glob
import importlib.util
import os
import pathlib
import sys

from twjax.parallel.compiled import keep_compiled

COORDINATOR = "TWJAX_COORDINATOR"
NUM_PROCESSES = "TWJAX_NUM_PROCESSES"
PROCESS_ID = "TWJAX_PROCESS_ID"
# The exit code of a run that was asked to stop before its end; 0 without it.
STOP_CODE = "TWJAX_STOP_CODE"


def initialize() -> None:
    """Prepares JAX for this process; call it before anything touches a device.

    With `TWJAX_COORDINATOR` (host:port), `TWJAX_NUM_PROCESSES` and `TWJAX_PROCESS_ID` the
    process joins that group. On a TPU VM of a pod JAX finds the others by itself. Anything else
    is a single process. What is compiled is kept for the next process.
    """
    _skip_absent_tpu()
    import jax

    keep_compiled()

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
    elif _has_tpu():
        # A pod's processes find each other by the metadata server, on one host there is nobody
        # to find: JAX says so by these errors.
        with contextlib.suppress(ValueError, RuntimeError):
            jax.distributed.initialize()


def stop_code() -> int:
    """Returns what a run that was asked to stop exits with, as whoever starts it again wants it."""
    text = os.environ.get(STOP_CODE, "0")
    if not text.isdigit() or int(text) > 255:
        raise ValueError(f"{STOP_CODE} ({text!r}) must be an exit code, 0 to 255.")
    return int(text)


def leave_group(code: int) -> None:
    """Ends this process at once when it belongs to a group of several; else returns.

    An ordinary exit would wait for the others, who wait in a collective for this one. Without
    it they notice within the coordination service's time-out and end too.
    """
    jax = sys.modules.get("jax")
    if jax is not None and jax.distributed.is_initialized() and jax.process_count() > 1:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _skip_absent_tpu() -> None:
    """Keeps JAX from asking an installed libtpu for TPUs that this machine doesn't have."""
    has_libtpu = importlib.util.find_spec("libtpu") is not None
    if has_libtpu and not _has_tpu() and "JAX_PLATFORMS" not in os.environ:
        has_gpu = bool(glob.glob("/dev/nvidia[0-9]*"))
        os.environ["JAX_PLATFORMS"] = "cuda,cpu" if has_gpu else "cpu"


def _has_tpu() -> bool:
    """Whether a PCI device of Google's (vendor 1ae0) that is a TPU's driver's is there."""
    if glob.glob("/dev/accel[0-9]*"):
        return True
    vendors = glob.glob("/sys/bus/pci/devices/*/vendor") if glob.glob("/dev/vfio/[0-9]*") else []
    return any(pathlib.Path(vendor).read_text().strip() == "0x1ae0" for vendor in vendors)
