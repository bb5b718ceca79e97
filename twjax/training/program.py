"""A training run from its configuration to its last checkpoint: preflight, restore, loop."""

from __future__ import annotations

import importlib.metadata
import pathlib
import platform
import time
from collections.abc import Callable
from typing import Any

import jax

from twjax import __version__
from twjax.config import ConfigError, Loaded, Run, compare, load
from twjax.data.loader import batches, open_mixture
from twjax.models.decoder import Network
from twjax.models.spec import count_weights
from twjax.parallel.mesh import make_mesh
from twjax.parallel.sharding import batch_sharding, batch_shards
from twjax.progress import say
from twjax.storage import atomic_writer, read_json_lines, write_json
from twjax.training import ledger
from twjax.training.checkpoint import Checkpoints, Restored
from twjax.training.loop import train_loop
from twjax.training.metrics import FILE as METRICS_FILE
from twjax.training.metrics import MetricsLog
from twjax.training.optimizer import make_optimizer
from twjax.training.source import CONFIG_FILE, Source, run_schedule
from twjax.training.state import abstract_state, init_state, state_shardings, with_params
from twjax.training.step import make_train_step

Evaluate = Callable[[Any, int], list[dict[str, Any]]]
MakeEvaluate = Callable[[Run, Network, jax.sharding.Mesh], Evaluate]

PACKAGES = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "grain", "array-record", "numpy")


def train(
    loaded: Loaded[Run],
    run_dir: pathlib.Path,
    make_evaluate: MakeEvaluate,
    *,
    allow_change: bool = False,
    config_name: str = "CONFIG",
) -> bool:
    """Trains a run to its end, from its newest checkpoint if it has one.

    Returns True when the run is finished, False when it was asked to stop; either way the state
    is on disk. Everything that can be wrong is checked before the first step.
    """
    run = loaded.value
    first = jax.process_index() == 0
    changes = _check_config(run, run_dir, allow_change)
    mesh = make_mesh(run.mesh)
    _check_batch(run, mesh)
    readers, index = open_mixture(
        run.data, batch_size=run.data.batch_size, steps=run.steps, config=config_name
    )
    _check_vocabulary(run, readers)
    fingerprints = {task: reader.info.fingerprint for task, reader in readers.items()}
    _check_caches(run_dir, fingerprints, allow_change)
    vocabulary = next(iter(readers.values())).info.vocabulary["sha256"]
    source = Source.parse(run.init) if run.init else None
    if source:
        source.check_model(run)
        source.check_vocabulary(vocabulary)
    schedule = run_schedule(run, source.rate() if source else None)
    network = Network.create(run.model)
    optimizer = make_optimizer(run.optimizer, schedule, network.specs)

    with jax.set_mesh(mesh), Checkpoints(run_dir, run.checkpoint) as checkpoints:
        abstract = abstract_state(network, optimizer, mesh)
        restored = checkpoints.restore_latest(abstract)
        if restored is None:
            if source:
                shardings = state_shardings(network, optimizer, mesh)
                state = with_params(optimizer, source.params(network, mesh), shardings)
            else:
                state = init_state(network, optimizer, mesh, run.seed)
            restored = Restored(state, {"step": 0, "tokens": 0})
        start = restored.meta["step"]
        if start >= run.steps and _is_complete(run, run_dir):
            say(f"{run_dir}: all {run.steps} steps are done.")
            return True
        if first:
            _describe(run, network, mesh, start, source)
            _freeze(loaded, run_dir)
            ledger.append(
                run_dir,
                "resume" if start else "start",
                start,
                caches=fingerprints,
                vocabulary=vocabulary,
                changes=[str(change) for change in changes],
            )
        metrics = MetricsLog(
            run_dir,
            step=start,
            tokens=restored.meta["tokens"],
            rows=lambda step: index.counts(step * run.data.batch_size),
            write=first,
        )
        try:
            outcome = train_loop(
                run,
                restored.state,
                start=start,
                step_fn=make_train_step(network, run, optimizer, schedule, mesh),
                batches=lambda step: batches(
                    readers, index, batch_sharding(mesh), run.data.batch_size, start_step=step
                ),
                evaluate=make_evaluate(run, network, mesh),
                checkpoints=checkpoints,
                metrics=metrics,
            )
        finally:
            metrics.close()
        step = int(outcome.state.step)
        if first:
            ledger.append(run_dir, "stop" if outcome.stopped else "finish", step)
            if outcome.stopped:
                say(f"Asked to stop: step {step} is saved; the same command goes on from there.")
    return not outcome.stopped


def _is_complete(run: Run, run_dir: pathlib.Path) -> bool:
    return not run.evaluation.tasks or any(
        record["kind"] == "eval" and record["step"] == run.steps
        for record in read_json_lines(run_dir / METRICS_FILE)
    )


def _check_config(run: Run, run_dir: pathlib.Path, allow_change: bool) -> list[Any]:
    """Compares with the frozen configuration of a run that goes on; returns what differs."""
    frozen = run_dir / CONFIG_FILE
    if not frozen.exists():
        return []
    changes = compare(load(Run, [frozen]).value, run)
    fixed = [change for change in changes if change.fixed]
    if fixed and not allow_change:
        raise ConfigError(
            f"{frozen}: this run was started with other settings that decide its data or its "
            f"shapes: {'; '.join(f'{c.path} {c.old!r} -> {c.new!r}' for c in fixed)}. Use another "
            "--run-dir, or --allow-change to go on with the new ones."
        )
    for change in changes:
        say(f"changed since the run began:\n{change}")
    return changes


def _check_batch(run: Run, mesh: jax.sharding.Mesh) -> None:
    shards = batch_shards(mesh) * run.step.accumulation
    if run.data.batch_size % shards:
        raise ConfigError(
            f"Data.batch_size ({run.data.batch_size}) must be a multiple of {shards}: the mesh "
            f"{dict(mesh.shape)} divides rows over {batch_shards(mesh)} devices and "
            f"Step.accumulation is {run.step.accumulation}."
        )


def _check_vocabulary(run: Run, readers: dict[str, Any]) -> None:
    for task, reader in readers.items():
        size = reader.info.vocabulary["size"]
        if size != run.model.vocab_size:
            raise ConfigError(
                f"Model.vocab_size ({run.model.vocab_size}) is not the {size} ids of the "
                f"vocabulary that made the rows of {task} ({reader.path}); set it to {size}."
            )


def _check_caches(run_dir: pathlib.Path, caches: dict[str, str], allow_change: bool) -> None:
    """A run that goes on must read the rows that it began with."""
    for event in reversed(ledger.read(run_dir)):
        before = event.get("caches")
        if before is None:
            continue
        changed = sorted(t for t in before.keys() & caches.keys() if before[t] != caches[t])
        if changed and not allow_change:
            raise ConfigError(
                f"{run_dir}: the cached rows of {', '.join(changed)} are not those that the run "
                "began with (another fingerprint). Restore them, use another --run-dir, or "
                "--allow-change to go on with the new rows."
            )
        return


def _describe(
    run: Run, network: Network, mesh: jax.sharding.Mesh, start: int, source: Source | None
) -> None:
    sizes = {axis: size for axis, size in mesh.shape.items() if size > 1} or {"devices": 1}
    origin = f", weights from {source.directory} at step {source.step}" if source else ""
    platform_name = mesh.devices.flat[0].platform
    say(
        f"{count_weights(network.specs):,} parameters on {mesh.size} {platform_name} device(s) "
        f"{sizes}, {run.data.batch_size * run.data.seq_len:,} tokens a step; "
        + (f"going on from step {start} of {run.steps}" if start else f"{run.steps} steps{origin}")
    )


def _freeze(loaded: Loaded[Run], run_dir: pathlib.Path) -> None:
    with atomic_writer(run_dir / CONFIG_FILE) as file:
        file.write(loaded.text)
    write_json(
        run_dir / "versions.json",
        {
            "twjax": __version__,
            "python": platform.python_version(),
            **{name: importlib.metadata.version(name) for name in PACKAGES},
            "platform": jax.devices()[0].platform,
            "device": jax.devices()[0].device_kind,
            "devices": jax.device_count(),
            "processes": jax.process_count(),
            "written": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        },
    )
