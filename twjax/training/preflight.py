"""What is checked before a run's first step."""

from __future__ import annotations

import math
import pathlib
from collections.abc import Collection, Iterable
from typing import Any

import jax

from twjax.config import ConfigError, Reading, Run, compare, load
from twjax.config.data import lengths_of
from twjax.config.vocab_size import check_vocab_size
from twjax.data.loader import Readers
from twjax.data.mixture import ORDER
from twjax.data.rows import RowReader
from twjax.models.attention import choose_attention, chunk_unit
from twjax.parallel import low_bits
from twjax.parallel.sharding import batch_shards, seq_shards
from twjax.progress import say
from twjax.storage import read_json_lines
from twjax.training import ledger
from twjax.training.history import flat
from twjax.training.metrics import FILE as METRICS_FILE
from twjax.training.metrics import Key, complete_evaluations
from twjax.training.source import CONFIG_FILE


def is_complete(run: Run, run_dir: pathlib.Path, keys: Collection[Key]) -> bool:
    """Whether the last evaluation is in the log, with a record of each (kind, task) of `keys`."""
    records = read_json_lines(run_dir / METRICS_FILE)
    return not keys or run.steps in complete_evaluations(records, keys)


def check_config(run: Run, run_dir: pathlib.Path, allow_change: bool) -> list[Any]:
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


def fingerprints(run: Run, readers: Readers) -> dict[str, str]:
    """Returns the fingerprint of each task's rows: TASK, or TASK@LENGTH of another length."""
    return {
        reader.info.task + ("" if length == run.data.seq_len else f"@{length}"): (
            reader.info.fingerprint
        )
        for length, some in readers.items()
        for reader in some.values()
    }


def check_reading(
    run: Run, run_dir: pathlib.Path, known: Reading | None, step: int, allow_change: bool
) -> int | None:
    """Returns the step from which a run that goes on at `step` reads other rows than it would have.

    `known` is what its ledger says that it reads. None: nothing changes.
    """
    changed = None if known is None else known.first_difference(run.reading)
    if changed is None:
        return None
    if changed < step and not allow_change:
        raise ConfigError(
            f"{run_dir}: is at step {step}, and with the settings of now it would have read other "
            f"rows from step {changed} on (stages, batch sizes or lengths, or the step of "
            "'decay'). Use another --run-dir, or --allow-change to go on with the new ones from "
            f"step {step}."
        )
    return max(changed, step)


def check_batch(run: Run, mesh: jax.sharding.Mesh) -> None:
    """Every batch must be divisible over the mesh and its microbatches."""
    shards = batch_shards(mesh) * run.step.accumulation
    for start, rows, _ in run.reading.shapes(run.steps):
        if rows % shards:
            field = f"batch_ramp (from step {start})" if start else "batch_size"
            raise ConfigError(
                f"Data.{field} ({rows}) must be a multiple of {shards}: the mesh "
                f"{dict(mesh.shape)} divides rows over {batch_shards(mesh)} devices and "
                f"Step.accumulation is {run.step.accumulation}."
            )
    check_lengths(run, seq_shards(mesh), mesh.devices.flat[0].platform)


def check_lengths(run: Run, context: int, platform: str) -> None:
    """Every row must be divisible over the `context` devices that share it, and over their work."""
    if context == 1:
        return
    unit, why = context, "so many devices share a row"
    if not run.model.encoder_layers:
        chunk = chunk_unit(choose_attention(run.step.attention, platform))
        pieces = run.step.loss_chunks
        unit = math.lcm(context * pieces, 1 if chunk is None else 2 * context * chunk)
        why += f", and each forms its logits in {pieces} pieces (Step.loss_chunks)"
        if chunk is not None:
            why += f" and holds two chunks for attention, of a multiple of {chunk} tokens each"
    for start, _, length in run.reading.shapes(run.steps):
        if any(size % unit for size in lengths_of(length)):
            field = "seq_len_stages" if length != run.data.seq_len else "seq_len"
            nearest = [max(round(size / unit), 1) * unit for size in lengths_of(length)]
            raise ConfigError(
                f"Data.{field} ({length} from step {start} on) must be a multiple of {unit} with "
                f"Mesh.context = {context}: {why}. Take {' and '.join(map(str, nearest))}, or "
                "another Mesh.context."
            )


def check_device(run: Run, device: Any) -> None:
    """A step needs kernels and products that the device has, and to offload memory of its host."""
    choose_attention(run.step.attention, device.platform)
    low_bits.check(run.step.matmul, device)
    kinds = {memory.kind for memory in device.addressable_memories()}
    if run.step.offload and "pinned_host" not in kinds:
        raise ConfigError(
            f"Step.offload ({', '.join(run.step.offload)}): {device.device_kind} reaches "
            f"{', '.join(sorted(kinds))} and no 'pinned_host' memory here. Leave it out, and let "
            "Step.remat compute more again."
        )


def check_vocabulary(run: Run, readers: Iterable[RowReader]) -> None:
    """The model must have a row for every id."""
    for reader in readers:
        made_by = f"the vocabulary that made the rows of {reader.info.task} ({reader.path})"
        try:
            check_vocab_size(run.model.vocab_size, reader.info.vocabulary["size"], made_by)
        except ValueError as error:
            raise ConfigError(str(error)) from error


def check_caches(run_dir: pathlib.Path, caches: dict[str, str], allow_change: bool) -> None:
    """A run that goes on must read the rows that it began with, in the same order."""
    for event in reversed(list(flat(ledger.read(run_dir)))):
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
