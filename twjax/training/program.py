"""A training run from its configuration to its last checkpoint: preflight, restore, loop."""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import importlib.metadata
import pathlib
import platform
import time
from collections.abc import Callable, Iterator
from typing import Any, Protocol

import jax

from twjax import __version__
from twjax.config import ConfigError, Loaded, Run, compare, load
from twjax.config.vocab_size import check_vocab_size
from twjax.data.loader import batches, open_mixture
from twjax.data.mixture import ORDER
from twjax.models.attention import choose_attention
from twjax.models.network import AnyNetwork
from twjax.models.network import network as declare
from twjax.models.spec import count_weights
from twjax.parallel.mesh import make_mesh
from twjax.parallel.sharding import batch_sharding, batch_shards
from twjax.progress import say
from twjax.storage import atomic_writer, local_folder, read_json_lines, write_json
from twjax.training import ledger
from twjax.training.checkpoint import Checkpoints, Restored
from twjax.training.loop import train_loop
from twjax.training.metrics import FILE as METRICS_FILE
from twjax.training.metrics import MetricsLog, complete_evaluations
from twjax.training.new_rows import new_rows_of
from twjax.training.optimizer import make_optimizer
from twjax.training.source import CONFIG_FILE, run_schedule
from twjax.training.start import OpenFolder, Start, check_loss, find_start
from twjax.training.state import abstract_state, init_state, state_shardings, with_params
from twjax.training.step import make_train_step


class Watch(Protocol):
    """What a run looks at while it trains; `caches` are the fingerprints of what it reads."""

    caches: dict[str, str]

    def __call__(self, params: Any, step: int) -> list[dict[str, Any]]: ...


# Makes a watch for a run, its network and mesh, and the sha256 of its rows' vocabulary.
MakeWatch = Callable[[Run, AnyNetwork, jax.sharding.Mesh, str], Watch]

PACKAGES = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "grain", "array-record", "numpy")


def train(
    loaded: Loaded[Run],
    run_dir: pathlib.Path,
    make_watch: MakeWatch,
    *,
    allow_change: bool = False,
    config_name: str = "CONFIG",
    open_folder: OpenFolder | None = None,
) -> bool:
    """Trains a run to its end, from its newest checkpoint if it has one.

    `open_folder` opens what "hf:DIR" in `Run.init` names.

    Returns True when the run is finished, False when it was asked to stop; either way the state
    is on disk. Everything that can be wrong is checked before the first step.
    """
    run = loaded.value
    run_dir = local_folder(run_dir)
    with _only_writer(run_dir):
        return _train(loaded, run, run_dir, make_watch, allow_change, config_name, open_folder)


def _train(
    loaded: Loaded[Run],
    run: Run,
    run_dir: pathlib.Path,
    make_watch: MakeWatch,
    allow_change: bool,
    config_name: str,
    open_folder: OpenFolder | None,
) -> bool:
    first = jax.process_index() == 0
    mesh = make_mesh(run.mesh)
    _check_batch(run, mesh)
    choose_attention(run.step.attention, mesh.devices.flat[0].platform)
    network = declare(run.model)
    with Checkpoints(run_dir, run.checkpoint) as checkpoints:
        begun = bool(checkpoints.steps)
        changes = _check_config(run, run_dir, allow_change) if begun else []
        readers, index = open_mixture(
            run.data, batch_size=run.data.batch_size, steps=run.steps, config=config_name
        )
        _check_vocabulary(run, readers)
        vocabulary = next(iter(readers.values())).info.vocabulary["sha256"]
        watch = make_watch(run, network, mesh, vocabulary)
        caches = {task: reader.info.fingerprint for task, reader in readers.items()} | watch.caches
        if begun:
            _check_caches(run_dir, caches, allow_change)
        source = find_start(run, run_dir, network, mesh, vocabulary, begun, open_folder)
        schedule = run_schedule(run, source.rate if source else None)
        optimizer = make_optimizer(
            run.optimizer, schedule, network.specs, new_rows_of(source and source.record)
        )
        step_fn = make_train_step(network, run, optimizer, schedule, mesh)

        with jax.set_mesh(mesh):
            restored = checkpoints.restore_latest(abstract_state(network, optimizer, mesh))
            if restored is None:
                if source:
                    params = source.load()
                    if source.probe is not None:
                        check_loss(run, source.network, params, source, mesh)
                    if source.new_rows is not None:
                        params = source.new_rows.add(params, network.specs, mesh)
                    shardings = state_shardings(network, optimizer, mesh)
                    state = with_params(optimizer, params, shardings)
                else:
                    state = init_state(network, optimizer, mesh, run.seed)
                restored = Restored(state, {"step": 0, "tokens": 0})
            start = restored.meta["step"]
            if start > run.steps:
                raise ConfigError(
                    f"Run.steps ({run.steps}) is less than the {start} steps that {run_dir} has "
                    "done already."
                )
            if start == run.steps and _is_complete(run, run_dir):
                if first:
                    say(f"{run_dir}: all {run.steps} steps are done.")
                    _finish(run_dir, start)
                return True
            if first:
                _describe(run, network, mesh, start, source)
                ledger.append(
                    run_dir,
                    "resume" if start else "start",
                    start,
                    caches=caches,
                    order=ORDER,
                    vocabulary=vocabulary,
                    source=source.record if source else None,
                    changes=[str(change) for change in changes],
                    versions=_versions(),
                )
                if source and not start:
                    source.keep(run_dir)
                _freeze(loaded, run_dir)
            metrics = MetricsLog(
                run_dir,
                step=start,
                tokens=restored.meta["tokens"],
                tasks=run.evaluation.tasks,
                rows=lambda step: index.counts(step * run.data.batch_size),
                write=first,
            )
            try:
                outcome = train_loop(
                    run,
                    restored.state,
                    start=start,
                    step_fn=step_fn,
                    batches=lambda step: batches(
                        readers, index, batch_sharding(mesh), run.data.batch_size, start_step=step
                    ),
                    evaluate=watch,
                    checkpoints=checkpoints,
                    metrics=metrics,
                )
            finally:
                metrics.close()
        step = int(outcome.state.step)
        if first and outcome.stopped:
            ledger.append(run_dir, "stop", step)
            say(f"Asked to stop: step {step} is saved; the same command goes on from there.")
        elif first:
            _finish(run_dir, step)
    return not outcome.stopped


@contextlib.contextmanager
def _only_writer(run_dir: pathlib.Path) -> Iterator[None]:
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


def _finish(run_dir: pathlib.Path, step: int) -> None:
    """Notes the end, once: a kill may have come between the last checkpoint and this note."""
    events = ledger.read(run_dir)
    if not events or (events[-1]["event"], events[-1]["step"]) != ("finish", step):
        ledger.append(run_dir, "finish", step)


def _is_complete(run: Run, run_dir: pathlib.Path) -> bool:
    records = read_json_lines(run_dir / METRICS_FILE)
    return not run.evaluation.tasks or run.steps in complete_evaluations(
        records, run.evaluation.tasks
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
    for change in changes if jax.process_index() == 0 else ():
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
        made_by = f"the vocabulary that made the rows of {task} ({reader.path})"
        try:
            check_vocab_size(run.model.vocab_size, reader.info.vocabulary["size"], made_by)
        except ValueError as error:
            raise ConfigError(str(error)) from error


def _check_caches(run_dir: pathlib.Path, caches: dict[str, str], allow_change: bool) -> None:
    """A run that goes on must read the rows that it began with, in the same order."""
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
        order = event.get("order", 1)
        if order != ORDER and not allow_change:
            raise ConfigError(
                f"{run_dir}: the run began with order {order} of a mixture's rows, and this twjax "
                f"reads them in order {ORDER}. Go on with the version in versions.json, use "
                "another --run-dir, or --allow-change to go on in the new order."
            )
        return


def _describe(
    run: Run, network: AnyNetwork, mesh: jax.sharding.Mesh, start: int, source: Start | None
) -> None:
    sizes = {axis: size for axis, size in mesh.shape.items() if size > 1} or {"devices": 1}
    origin = ""
    if source:
        origin = f", weights from {source.record['directory']} at step {source.record['step']}"
    platform_name = mesh.devices.flat[0].platform
    say(
        f"{count_weights(network.specs):,} parameters on {mesh.size} {platform_name} device(s) "
        f"{sizes}, {run.data.batch_size * sum(run.data.lengths):,} tokens a step; "
        + (f"going on from step {start} of {run.steps}" if start else f"{run.steps} steps{origin}")
    )


def _versions() -> dict[str, Any]:
    return {
        "twjax": __version__,
        "python": platform.python_version(),
        **{name: importlib.metadata.version(name) for name in PACKAGES},
        "platform": jax.devices()[0].platform,
        "device": jax.devices()[0].device_kind,
        "devices": jax.device_count(),
        "processes": jax.process_count(),
    }


def _freeze(loaded: Loaded[Run], run_dir: pathlib.Path) -> None:
    with atomic_writer(run_dir / CONFIG_FILE) as file:
        file.write(loaded.text)
    write_json(
        run_dir / "versions.json", _versions() | {"written": time.strftime("%Y-%m-%dT%H:%M:%S%z")}
    )
