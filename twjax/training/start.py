"""The weights that a run starts from, found and checked before they are read."""

from __future__ import annotations

import dataclasses
import functools
import pathlib
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

from twjax.config import ConfigError, Run, compare
from twjax.models import adapters
from twjax.models.attention import choose_attention
from twjax.models.network import AnyNetwork
from twjax.models.network import network as declare
from twjax.models.probe import probe_loss
from twjax.progress import say
from twjax.training.checkpoint import Checkpoints
from twjax.training.history import History
from twjax.training.new_rows import NewRows, find_new_rows
from twjax.training.source import Origin, Source
from twjax.training.state import TrainState, init_state, state_shardings, with_params
from twjax.training.trained import Trained

# Opens the folder that "hf:DIR" names.
OpenFolder = Callable[[str], Origin]


@dataclasses.dataclass(frozen=True)
class Start:
    """Where a run's weights come from, as its ledger keeps it.

    `network` is theirs: `new_rows` are those that the run's has more. `keep_moments` reads a whole
    state for step 0, given its shapes. `is_there` says whether both can still be read.
    """

    record: dict[str, Any]
    rate: float | None
    network: AnyNetwork
    load: Callable[[], Any]
    keep_moments: Callable[[TrainState], TrainState]
    new_rows: NewRows | None = None
    keep: Callable[[pathlib.Path], None] = lambda run_dir: None
    probe: dict[str, Any] | None = None
    is_there: Callable[[], bool] = lambda: True


def find_start(
    run: Run,
    history: History,
    network: AnyNetwork,
    mesh: jax.sharding.Mesh,
    vocabulary: str,
    begun: bool,
    open_folder: OpenFolder | None,
) -> Start | None:
    """Finds `Run.init`; a run that has begun keeps the step and rate that it began with."""
    if not run.init:
        return None
    if begun and history.source is not None:
        record = dict(history.source)
        if run.init.startswith("run:"):
            run = dataclasses.replace(run, init=f"run:{record['directory']}@{record['step']}")
        return _begun(
            record,
            network,
            mesh,
            lambda: find_start(run, history, network, mesh, vocabulary, False, open_folder),
        )
    if run.init.startswith("hf:"):
        if open_folder is None:
            raise ConfigError(f"Run.init ({run.init!r}): nothing here opens Hugging Face folders.")
        source = open_folder(run.init)
    else:
        source = Source.parse(run.init)
    extension, new = find_new_rows(
        run, vocabulary, str(source.directory), source.model, source.vocabulary
    )
    if new is None:
        source.check_vocabulary(vocabulary)
    else:
        # What the run starts from has only the old rows.
        old = dataclasses.replace(run.model, vocab_size=new.old_rows)
        run, network = dataclasses.replace(run, model=old), declare(old)
    source.check_model(run)
    rate = source.rate()
    wanted = {"start = 'source'": run.schedule.start == "source"}
    wanted[f"rewarm = {run.schedule.rewarm}"] = run.schedule.rewarm is not None
    for setting, needed in wanted.items():
        if needed and rate is None:
            raise ConfigError(
                f"Schedule.{setting}: {source.directory} is an imported model and has no final "
                "learning rate; give Schedule.start and Schedule.peak as numbers."
            )
    record = {"directory": str(source.directory), "step": source.step, "rate": rate}
    if extension is not None:
        kind = None if new is None else new.kind
        record["new_rows"] = {"first": extension.old_size, "stop": extension.size, "kind": kind}
    if run.moments == "kept":
        _check_moments(run, source, new)
    return Start(
        record=record,
        rate=rate,
        network=network,
        load=lambda: source.params(network, mesh),
        keep_moments=lambda abstract: _with_moments(source, abstract),
        new_rows=new,
        keep=source.keep,
        probe=source.probe,
    )


def _begun(
    record: dict[str, Any],
    network: AnyNetwork,
    mesh: jax.sharding.Mesh,
    find: Callable[[], Start | None],
) -> Start:
    """Returns the start of a run that has begun: it is looked for when the run goes back there."""

    @functools.cache
    def found() -> Start:
        start = find()
        assert start is not None
        return start

    def load() -> Any:
        params, new = found().load(), found().new_rows
        return params if new is None else new.add(params, network.specs, mesh)

    def is_there() -> bool:
        try:
            found()
        except (OSError, ValueError) as error:
            if jax.process_index() == 0:
                say(f"step 0: isn't gone back to: {error}")
            return False
        return True

    def moments(abstract: TrainState) -> TrainState:
        return found().keep_moments(abstract)

    return Start(record, record["rate"], network, load, moments, is_there=is_there)


def _check_moments(run: Run, source: Origin | Source, new: NewRows | None) -> None:
    if not isinstance(source, Source) or source.imported is not None:
        raise ConfigError(
            f"Run.moments = 'kept': {source.directory} is an imported model and has no moments; "
            "leave it out."
        )
    changes = compare(source.run.optimizer, run.optimizer)
    if source.run.adapter is not None:
        raise ConfigError(
            f"Run.moments = 'kept': {source.directory} has moments of its adapters alone; leave it "
            "out, and the run begins with its merged weights."
        )
    spikes = [(f.spike, f.window) for f in (source.run.faults, run.faults)]
    if spikes[0] != spikes[1]:
        raise ConfigError(
            f"Run.moments = 'kept': the norms of {source.directory} are for other Faults.spike and "
            f"Faults.window, {spikes[0]} there and {spikes[1]} here. Use the same, or 'fresh'."
        )
    if changes or new is not None or run.optimizer.new_rows_steps:
        listing = "; ".join(f"{c.path} {c.old!r} there, {c.new!r} here" for c in changes)
        raise ConfigError(
            f"Run.moments = 'kept': the moments of {source.directory} are of another Optimizer "
            f"({listing or 'rows of the vocabulary are new here'}). Use the same, or 'fresh'."
        )


def _with_moments(source: Origin | Source, abstract: TrainState) -> TrainState:
    """Reads a run's state, as it is before step 1 of another run: only the moments count on."""
    with Checkpoints(source.directory) as checkpoints:
        state = checkpoints.restore(abstract, source.step).state

    def restarted(node: Any) -> Any:
        if isinstance(node, optax.ScaleByScheduleState):
            return node._replace(count=jnp.zeros_like(node.count))
        return node

    moments = jax.tree.map(
        restarted,
        state.optimizer,
        is_leaf=lambda node: isinstance(node, optax.ScaleByScheduleState),
    )
    return dataclasses.replace(state, step=jnp.zeros_like(state.step), optimizer=moments)


def check_loss(run: Run, network: Any, params: Any, source: Start, mesh: jax.sharding.Mesh) -> None:
    """An imported model must predict fixed tokens as well as it did when it was converted."""
    assert source.probe is not None
    kind = choose_attention(run.step.attention, mesh.devices.flat[0].platform)
    loss = probe_loss(
        network, params, source.probe["tokens"], mesh, dtype=run.step.dtype, kind=kind
    )
    moved = loss - source.probe["loss"]
    if not abs(moved) <= run.init_tolerance:
        raise ConfigError(
            f"{source.record['directory']}: its loss on fixed tokens was "
            f"{source.probe['loss']:.4f} when it was converted and is {loss:.4f} in this run, "
            f"which is further than Run.init_tolerance ({run.init_tolerance}) allows: the weights "
            "or the network aren't those that were converted. Try Step.dtype = 'float32' and "
            "Step.attention = 'reference' to see whether precision is the reason."
        )
    if jax.process_index() == 0:
        say(f"loss on fixed tokens {loss:.4f}, at conversion {source.probe['loss']:.4f}")


def first_state(
    run: Run,
    source: Start | None,
    abstract: TrainState,
    learner: AnyNetwork,
    optimizer: optax.GradientTransformation,
    trained: Trained,
) -> TrainState:
    """Returns the state before step 1 of a run that begins.

    `learner` is the run's network with its adapters.
    """
    mesh = abstract.step.sharding.mesh
    if source is None:
        return init_state(declare(run.model), optimizer, mesh, run.seed, trained)
    if run.moments == "kept":
        return source.keep_moments(abstract)
    params = source.load()
    if source.probe is not None:
        check_loss(run, source.network, params, source, mesh)
    if source.new_rows is not None:
        params = source.new_rows.add(params, declare(run.model).specs, mesh)
    params = adapters.begin(learner, params, mesh, run.seed)
    shardings = state_shardings(learner, optimizer, mesh, trained)
    return with_params(optimizer, params, shardings, trained)
