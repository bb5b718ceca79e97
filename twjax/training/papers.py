"""What a run's folder says about the run, and who may write into it."""

from __future__ import annotations

import contextlib
import fcntl
import importlib.metadata
import pathlib
import platform
import time
from collections.abc import Iterator
from typing import Any

import jax

from twjax import __version__
from twjax.config import ConfigError, Loaded, Run
from twjax.models.network import AnyNetwork
from twjax.models.spec import count_weights
from twjax.parallel.tpu import told
from twjax.progress import say
from twjax.storage import atomic_writer, write_json
from twjax.training import ledger
from twjax.training.source import CONFIG_FILE
from twjax.training.start import Start
from twjax.training.trained import Trained

PACKAGES = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "grain", "array-record", "numpy")


@contextlib.contextmanager
def only_writer(run_dir: pathlib.Path) -> Iterator[None]:
    """Keeps a second run out of the directory; the lock goes with the process."""
    if jax.process_index() != 0:
        yield
        return
    run_dir.mkdir(parents=True, exist_ok=True)
    with (run_dir / ".lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ConfigError(
                f"{run_dir}: another process is training this run; stop it first, or use another "
                "--run-dir."
            ) from None
        yield


def finish(run_dir: pathlib.Path, step: int, **details: Any) -> None:
    """Notes the end, once: a kill may have come between the last checkpoint and this note."""
    events = ledger.read(run_dir)
    if not events or (events[-1]["event"], events[-1]["step"]) != ("finish", step):
        ledger.append(run_dir, "finish", step, **details)


def describe(
    run: Run,
    network: AnyNetwork,
    trained: Trained,
    mesh: jax.sharding.Mesh,
    start: int,
    source: Start | None,
) -> None:
    """Says what is trained, on what, from where."""
    sizes = {axis: size for axis, size in mesh.shape.items() if size > 1} or {"devices": 1}
    origin = ""
    if source:
        origin = (
            f", weights from {source.record['directory']} at step {source.record['step']}, "
            f"moments {run.moments}"
        )
    platform_name = mesh.devices.flat[0].platform
    count = count_weights(network.specs)
    part = f" ({trained.size:,} trained)" if trained.size < count else ""
    say(
        f"{count:,} parameters{part} on {mesh.size} {platform_name} device(s) "
        f"{sizes}, {run.data.batch_size * sum(run.data.lengths):,} tokens a step; "
        + (f"going on from step {start} of {run.steps}" if start else f"{run.steps} steps{origin}")
    )
    for line in told(mesh.devices.flat[0], run.step.compiler_options):
        say(line)


def versions() -> dict[str, Any]:
    """Returns what computes the run."""
    return {
        "twjax": __version__,
        "python": platform.python_version(),
        **{name: importlib.metadata.version(name) for name in PACKAGES},
        "platform": jax.devices()[0].platform,
        "device": jax.devices()[0].device_kind,
        "devices": jax.device_count(),
        "processes": jax.process_count(),
    }


def freeze(loaded: Loaded[Run], run_dir: pathlib.Path) -> None:
    """Writes the configuration that the run goes on with, and what computes it."""
    with atomic_writer(run_dir / CONFIG_FILE) as file:
        file.write(loaded.text)
    write_json(
        run_dir / "versions.json", versions() | {"written": time.strftime("%Y-%m-%dT%H:%M:%S%z")}
    )
