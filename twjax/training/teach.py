"""The likeliest ids of a run's base at each place of its replay rows, computed once.

What `Distillation.top_k` compares with: the run itself then needs neither the base nor its forward
pass.
"""

from __future__ import annotations

import pathlib
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import multihost_utils

from twjax.config import ConfigError, Loaded, Run
from twjax.data.loader import Readers, evaluation_batches, open_course
from twjax.data.rows import RowReader
from twjax.data.top_logits import Teaching, TopReader, TopReaders, TopWriter, top_dtype
from twjax.models.attention import choose_attention
from twjax.models.network import AnyNetwork
from twjax.models.network import network as declare
from twjax.parallel.mesh import make_mesh
from twjax.parallel.sharding import batch_sharding, replicated
from twjax.progress import Progress, say
from twjax.storage import local_folder
from twjax.training.base import known_ids
from twjax.training.divergence import Comparison, likeliest
from twjax.training.history import History
from twjax.training.loss import pieces, predicted_places, rows
from twjax.training.preflight import check_batch, check_vocabulary
from twjax.training.start import OpenFolder, check_loss, find_start
from twjax.training.step import forward

Teacher = Callable[[Any, dict[str, jax.Array]], tuple[jax.Array, ...]]


def teaching_of(run: Run, record: dict[str, Any]) -> Teaching:
    """Returns whose predictions a run compares with; `record` is its source in the ledger."""
    kept = run.distillation
    assert kept is not None and kept.top_k is not None
    new = record.get("new_rows")
    if new is not None and new["kind"] is not None:
        new = {**new, "seed": run.seed}
    return Teaching(
        directory=record["directory"],
        step=record["step"],
        new_rows=new,
        known=known_ids(run, record),
        top_k=kept.top_k,
        temperature=kept.temperature,
        dtype=run.step.dtype,
    )


def open_tops(run: Run, record: dict[str, Any], readers: Readers, config: str) -> TopReaders:
    """Opens what was written for a run's rows; raises one `ConfigError` with all that is wrong."""
    assert run.distillation is not None
    folder, top_k = _place(run)
    problems: list[str] = []
    tops = TopReaders(top_k, {})
    try:
        teaching_of(run, record).check(folder)
        for length, task, reader in _taught(run, readers):
            try:
                top = TopReader(folder, reader, top_k, config=config)
                tops.readers.setdefault(length, {})[task] = top
            except (OSError, ValueError) as error:
                problems.append(str(error))
    except ValueError as error:
        problems.append(str(error))
    if problems:
        raise ConfigError(" | ".join(problems))
    return tops


def teach(
    loaded: Loaded[Run], *, config_name: str = "CONFIG", open_folder: OpenFolder | None = None
) -> None:
    """Writes `Distillation.logits` of a run's configuration, from where an earlier call stopped.

    Every train row of `Distillation.tasks` is written, at each length that the run reads. Raises
    `ConfigError` for a run without `Distillation.top_k` and for a folder with other predictions.
    """
    run = loaded.value
    if run.distillation is None or run.distillation.top_k is None:
        raise ConfigError(
            f"{config_name}: Run.distillation has no Distillation.top_k, so there is nothing to "
            "write; whole distributions are computed while the run trains."
        )
    folder, top_k = _place(run)
    mesh = make_mesh(run.mesh)
    check_batch(run, mesh)
    readers, _ = open_course(run.data, ((0, run.reading),), steps=run.steps, config=config_name)
    every = [reader for some in readers.values() for reader in some.values()]
    check_vocabulary(run, every)
    vocabulary = every[0].info.vocabulary["sha256"]
    network = declare(run.model)
    source = find_start(run, History(), network, mesh, vocabulary, False, open_folder)
    assert source is not None
    teaching = teaching_of(run, source.record)
    first = jax.process_index() == 0
    if first:
        teaching.claim(folder)
    _together("claimed")
    with jax.set_mesh(mesh):
        params = source.load()
        if source.probe is not None:
            check_loss(run, source.network, params, source, mesh)
        if source.new_rows is not None:
            params = source.new_rows.add(params, network.specs, mesh)
        how = Comparison.of(run.model, teaching.temperature, teaching.known)
        teacher = make_teacher(network, run, mesh, how, top_k)
        for length, task, reader in _taught(run, readers):
            if first:
                size = top_dtype(length, top_k).itemsize * len(reader)
                say(f"{task}: {len(reader):,} rows, {size / 1e9:.2f} GB before compression")
            _write(folder, task, reader, lambda batch: teacher(params, batch), run, mesh, top_k)
    if first:
        say(f"{folder} is whole: twjax train {config_name}")


def _place(run: Run) -> tuple[pathlib.Path, int]:
    kept = run.distillation
    assert kept is not None and kept.top_k is not None and kept.logits is not None
    return local_folder(kept.logits), kept.top_k


def _taught(run: Run, readers: Readers) -> list[tuple[Any, str, RowReader]]:
    assert run.distillation is not None
    return [
        (length, task, some[task])
        for length, some in readers.items()
        for task in run.distillation.tasks
        if task in some
    ]


def make_teacher(
    network: AnyNetwork, run: Run, mesh: jax.sharding.Mesh, how: Comparison, top_k: int
) -> Teacher:
    """Returns a jitted (params, batch) -> ids, log-probabilities, held share and places."""
    kind = choose_attention(run.step.attention, mesh.devices.flat[0].platform)
    chunks = run.step.loss_chunks

    def ask(params: Any, batch: dict[str, jax.Array]) -> tuple[jax.Array, ...]:
        here = forward(network, run, params, batch, kind)
        found = jax.lax.map(
            lambda hidden_BCD: likeliest(hidden_BCD, here.head_DV, how, top_k),
            pieces(here.hidden_BSD, chunks),
        )
        ids_BSK, logs_BSJ = map(rows, found)
        places_BS = predicted_places(here.loss_weights_BS, here.ahead)
        held = jnp.sum((1.0 - jnp.exp(logs_BSJ[..., -1])) * places_BS)
        return ids_BSK, logs_BSJ.astype(jnp.float16), held, jnp.sum(places_BS)

    whole, alone = batch_sharding(mesh), replicated(mesh)
    return jax.jit(ask, out_shardings=(whole, whole, alone, alone))


def _write(
    folder: pathlib.Path,
    task: str,
    reader: RowReader,
    ask: Callable[[dict[str, jax.Array]], tuple[jax.Array, ...]],
    run: Run,
    mesh: jax.sharding.Mesh,
    top_k: int,
) -> None:
    first = jax.process_index() == 0
    size, total = run.data.batch_size, len(reader)
    with TopWriter(folder, reader, top_k) as writer:
        done = writer.done
        if jax.process_count() > 1:
            done = int(multihost_utils.broadcast_one_to_all(np.int64(done)))
        held = places = 0.0
        batches = evaluation_batches(reader, batch_sharding(mesh), size, start=done)
        with Progress(total, task, "rows", initial=done) as progress:
            for ids, logs, here, of in _ahead(map(ask, batches)):
                count = min(size, total - done)
                if first:
                    writer.write(ids[:count], logs[:count])
                done += count
                held, places = held + float(here), places + float(of)
                progress.update(count)
        if first:
            writer.finish()
            if places:
                say(f"{task}: the {top_k} likeliest ids hold {held / places:.2%} of the base's sum")
    _together(f"{task} written")


def _ahead(answers: Iterator[tuple[jax.Array, ...]]) -> Iterator[list[np.ndarray]]:
    """Yields answers in this process's memory, the next one already being computed."""
    waiting: tuple[jax.Array, ...] | None = None
    for answer in answers:
        if waiting is not None:
            yield _fetch(waiting)
        waiting = answer
    if waiting is not None:
        yield _fetch(waiting)


def _fetch(answer: tuple[jax.Array, ...]) -> list[np.ndarray]:
    if jax.process_count() == 1:
        return [np.asarray(x) for x in answer]
    return [np.asarray(multihost_utils.process_allgather(x, tiled=True)) for x in answer]


def _together(what: str) -> None:
    if jax.process_count() > 1:
        multihost_utils.sync_global_devices(f"teach: {what}")
