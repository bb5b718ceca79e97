"""The weights that a run starts from, found and checked before they are read."""

from __future__ import annotations

import dataclasses
import pathlib
from collections.abc import Callable
from typing import Any

import jax

from twjax.config import ConfigError, Run
from twjax.models.attention import choose_attention
from twjax.models.network import AnyNetwork
from twjax.models.network import network as declare
from twjax.models.probe import probe_loss
from twjax.progress import say
from twjax.training import ledger
from twjax.training.new_rows import NewRows, find_new_rows
from twjax.training.source import Origin, Source

# Opens the folder that "hf:DIR" names.
OpenFolder = Callable[[str], Origin]


@dataclasses.dataclass(frozen=True)
class Start:
    """Where a run's weights come from, as its ledger keeps it.

    `network` is theirs: `new_rows` are those that the run's has more.
    """

    record: dict[str, Any]
    rate: float | None
    network: AnyNetwork
    load: Callable[[], Any]
    new_rows: NewRows | None = None
    keep: Callable[[pathlib.Path], None] = lambda run_dir: None
    probe: dict[str, Any] | None = None


def find_start(
    run: Run,
    run_dir: pathlib.Path,
    network: AnyNetwork,
    mesh: jax.sharding.Mesh,
    vocabulary: str,
    begun: bool,
    open_folder: OpenFolder | None,
) -> Start | None:
    """Finds `Run.init`; a run that has begun keeps the step and rate that it began with."""
    if not run.init:
        return None
    events = [event for event in ledger.read(run_dir) if event.get("source")] if begun else []
    if events:
        record = events[-1]["source"]

        def moved() -> Any:
            raise RuntimeError(f"{run_dir}: its own checkpoint was there a moment ago.")

        return Start(record, record["rate"], network, moved)
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
    if run.schedule.start == "source" and rate is None:
        raise ConfigError(
            f"Schedule.start = 'source': {source.directory} is an imported model and has no final "
            "learning rate; give Schedule.start a number."
        )
    record = {"directory": str(source.directory), "step": source.step, "rate": rate}
    if extension is not None:
        kind = None if new is None else new.kind
        record["new_rows"] = {"first": extension.old_size, "stop": extension.size, "kind": kind}
    return Start(
        record, rate, network, lambda: source.params(network, mesh), new, source.keep, source.probe
    )


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
