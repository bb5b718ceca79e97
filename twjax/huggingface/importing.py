"""A Hugging Face folder becomes an imported model: an Orbax checkpoint of step 0 and its files."""

from __future__ import annotations

import dataclasses
import pathlib
import time
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from twjax import __version__
from twjax.config import Mesh, Model
from twjax.huggingface import carry
from twjax.huggingface.folder import HubFolder
from twjax.huggingface.mapping import unflatten
from twjax.huggingface.output import whole_folder
from twjax.huggingface.probe import probe_tokens, tokenizer_of
from twjax.models.network import network
from twjax.models.probe import probe_loss
from twjax.models.spec import abstract_weights, count_weights
from twjax.parallel.mesh import make_mesh
from twjax.parallel.sharding import weight_shardings
from twjax.progress import Progress, say
from twjax.storage import atomic_writer, read_json, write_json
from twjax.training.checkpoint import IMPORT_FILE, MODEL_FILE, Checkpoints, write_pieces

# The float32 weights, and room for activations and what reading them needs.
_PROBE_FACTOR = 1.3


def import_folder(
    folder: pathlib.Path,
    out: pathlib.Path,
    *,
    probe: bool = True,
    check: Callable[[HubFolder, Any, Any], None] | None = None,
    force: bool = False,
) -> dict[str, Any]:
    """Converts a folder; returns what was recorded. `out` appears when all of it is there.

    `check` gets the folder, the network and the parameters as they were written, and raises if
    they are wrong. Weights keep their dtype. With `probe` the loss on fixed tokens is recorded,
    which needs the network in memory; where it doesn't fit the record says so.
    """
    with HubFolder.open(folder) as hub:
        weights = {name: hub.pieces(name) for name in hub.binding.specs}
        needs = sum(int(np.prod(p.shape)) * p.dtype.itemsize for p in weights.values())
        say(
            f"{folder}: {hub.binding.family.name}, {count_weights_of(hub):,} parameters in "
            f"{len(hub.reader.tensors)} tensors of {len(hub.reader.shards)} file(s)"
        )
        with whole_folder(out, force=force, needs=needs) as partial:
            carry.keep(hub, partial)
            with atomic_writer(partial / MODEL_FILE) as file:
                file.write(model_gin(hub.model))
            tokenizer = tokenizer_of(hub.path, hub.model)
            record: dict[str, Any] = {
                "twjax": __version__,
                "source": str(pathlib.Path(folder).resolve()),
                "family": hub.binding.family.name,
                "parameters": count_weights_of(hub),
                "vocab_size": hub.model.vocab_size,
                "padded_vocab_size": hub.model.padded_vocab_size,
                "dtypes": {name: pieces.dtype.name for name, pieces in weights.items()},
                "vocabulary": None if tokenizer is None else tokenizer.sha256,
                "probe": None,
                "created": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
            }
            with Progress(needs, "convert", "B") as progress:
                told = {
                    name: hub.pieces(name, lambda count, name=name: progress.update(count, name))
                    for name in hub.binding.specs
                }
                write_pieces(partial, unflatten(told), {"step": 0, "tokens": 0})
            if probe or check is not None:
                record["probe"] = _verify(hub, partial, tokenizer, probe, check)
            write_json(partial / IMPORT_FILE, record)
    return record


def _verify(
    hub: HubFolder, folder: pathlib.Path, tokenizer: Any, probe: bool, check: Any
) -> dict[str, Any] | None:
    """Reads back what was written; records the probe's loss and lets `check` look."""
    needs = int(sum(spec.size for spec in hub.binding.specs.values()) * 4 * _PROBE_FACTOR)
    if check is None and needs > (free := free_memory()):
        say(
            f"no probe: the network needs {needs / 1e9:.1f} GB in float32 and {free / 1e9:.1f} GB "
            "are free. A run from this model can't check that its loss is the same; convert on a "
            "larger machine for that."
        )
        return None
    net, mesh = network(hub.model), make_mesh(Mesh())
    params = load_params(folder, 0, net, mesh)
    if check is not None:
        check(hub, net, params)
    if not probe:
        return None
    tokens = probe_tokens(tokenizer, hub.model)
    loss = probe_loss(net, params, tokens, mesh)
    if not np.isfinite(loss):
        raise ValueError(f"{hub.path}: the network's loss on fixed tokens is {loss}.")
    return {"tokens": tokens, "loss": loss}


def load_params(folder: pathlib.Path, step: int, net: Any, mesh: jax.sharding.Mesh) -> Any:
    """Reads a checkpoint's parameters in float32, sharded for `mesh`."""
    abstract = jax.tree.map(
        lambda leaf, sharding: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding),
        abstract_weights(net.specs),
        weight_shardings(net.specs, mesh),
    )
    with Checkpoints(folder) as checkpoints:
        return checkpoints.params(abstract, step)


def read_record(folder: pathlib.Path) -> dict[str, Any]:
    """Returns what was recorded when a model was imported."""
    return read_json(folder / IMPORT_FILE)


def count_weights_of(hub: HubFolder) -> int:
    """Returns the number of parameters without padding."""
    padding = hub.model.padded_vocab_size - hub.model.vocab_size
    rows = sum(
        spec.size // hub.model.padded_vocab_size
        for spec in hub.binding.specs.values()
        if "vocab" in spec.axes
    )
    return count_weights(network(hub.model).specs) - padding * rows


def model_gin(model: Model) -> str:
    """Returns the gin file of a `Model`: what differs from the defaults."""
    lines: list[str] = []
    _bind(model, lines)
    return "# Written by twjax convert; a run includes it.\n" + "\n".join(lines) + "\n"


def _bind(config: Any, lines: list[str]) -> None:
    name = type(config).__name__
    nested = []
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        if field.default is not dataclasses.MISSING and value == field.default:
            continue
        if dataclasses.is_dataclass(value):
            lines.append(f"{name}.{field.name} = @{type(value).__name__}()")
            nested.append(value)
        else:
            lines.append(f"{name}.{field.name} = {value!r}")
    for value in nested:
        _bind(value, lines)


def free_memory() -> int:
    """Returns the bytes that JAX's default devices together have room for, roughly."""
    limits = [(device.memory_stats() or {}).get("bytes_limit", 0) for device in jax.devices()]
    if all(limits):
        return sum(limits)
    for line in pathlib.Path("/proc/meminfo").read_text().splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * 1024
    return 0
