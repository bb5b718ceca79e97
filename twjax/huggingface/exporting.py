"""A checkpoint becomes a Hugging Face folder: its weights, and the files that came with them."""

from __future__ import annotations

import concurrent.futures
import dataclasses
import json
import math
import pathlib
import threading
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from twjax import __version__
from twjax.config import Model
from twjax.huggingface import carry
from twjax.huggingface.carry import Carried
from twjax.huggingface.folder import CONFIG, THREADS, blocks
from twjax.huggingface.mapping import Binding, Piece, bind
from twjax.huggingface.output import whole_folder
from twjax.huggingface.registry import family_for, family_of
from twjax.huggingface.tensors import DTYPES, INDEX, SINGLE, ShardWriter, make_header
from twjax.huggingface.transforms import Slices
from twjax.models.network import network
from twjax.progress import Progress, say
from twjax.storage import read_json, sha256_file, write_json
from twjax.training.checkpoint import StoredArray

EXPORT_FILE = "twjax_export.json"
SHARD_BYTES = 5_000_000_000
# A file takes one writer at a time: more would wait for it, and make no blocks meanwhile.
WRITERS = 2


@dataclasses.dataclass(frozen=True)
class Plan:
    """What will be written: each file's header, and which of the binding's pieces each tensor is.

    `changes` says in a line each what differs from the original folder.
    """

    binding: Binding
    headers: dict[str, bytes]
    pieces: dict[str, tuple[Piece, ...]]
    extras: dict[str, bytes]
    config: dict[str, Any]
    index: dict[str, Any] | None
    changes: list[str]

    @property
    def total_bytes(self) -> int:
        return sum(
            entry["data_offsets"][1] - entry["data_offsets"][0]
            for header in self.headers.values()
            for entry in _entries(header).values()
        )


def export(
    arrays: Mapping[str, StoredArray],
    model: Model,
    out: pathlib.Path,
    *,
    carried: Carried | None,
    source: dict[str, Any],
    dtype: str = "source",
    tokenizer: pathlib.Path | None = None,
    family: str | None = None,
    shard_bytes: int = SHARD_BYTES,
    max_positions: int | None = None,
    card: Callable[[pathlib.Path], list[str]] | None = None,
    check: Any = None,
    force: bool = False,
) -> dict[str, Any]:
    """Writes a folder that transformers reads; returns what `twjax_export.json` records.

    With `carried` (what came with the original) files are cut as they were, other files are
    copied, and only what had to change differs. `dtype` is "source", or one for all tensors.
    `tokenizer` is a folder whose tokenizer files replace the original's. `max_positions` goes
    into a new config.json. Rows of vocabulary padding are left out. `card` writes what tells about
    the model into the folder, and returns what it wrote, a line each.
    """
    plan = make_plan(
        arrays, model, carried, dtype, family, shard_bytes, max_positions=max_positions
    )
    with whole_folder(out, force=force, needs=plan.total_bytes) as partial:
        changes = list(plan.changes)
        changes += _write_files(partial, plan, carried, tokenizer)
        if card is not None:
            changes += card(partial)
        writers = {n: ShardWriter(partial / n, header) for n, header in plan.headers.items()}
        try:
            _write_tensors(arrays, plan, writers)
            for writer in writers.values():
                writer.finish()
        finally:
            for writer in writers.values():
                writer.close()
        record = {
            "twjax": __version__,
            "source": source,
            "family": plan.binding.family.name,
            "vocab_size": model.vocab_size,
            "padded_vocab_size": model.padded_vocab_size,
            "tensors": sum(len(_entries(h)) for h in plan.headers.values()),
            "bytes": plan.total_bytes,
            "changes": changes,
            "files": {
                str(f.relative_to(partial)): sha256_file(f)
                for f in sorted(partial.rglob("*"))
                if f.is_file() and f.suffix != ".safetensors"
            },
        }
        write_json(partial / EXPORT_FILE, record)
        if check is not None:
            check(partial)
    say(f"{out}: {len(plan.headers)} file(s), {plan.total_bytes / 1e9:.2f} GB of weights")
    for change in changes:
        say(f"  {change}")
    return record


def make_plan(
    arrays: Mapping[str, StoredArray],
    model: Model,
    carried: Carried | None,
    dtype: str = "source",
    family: str | None = None,
    shard_bytes: int = SHARD_BYTES,
    *,
    max_positions: int | None = None,
) -> Plan:
    """Decides all that will be written, and refuses what can't be, before anything is."""
    carried_config = original = None if carried is None else carried.config
    if original is not None and family in (None, family_of(original).name):
        chosen = family_of(original)
    else:
        chosen, original, carried = family_for(model, family), None, None
    binding = bind(chosen, model, network(model).specs)
    _check_arrays(arrays, binding)
    config = chosen.write_config(model, original)
    changes: list[str] = []
    if original is None:
        if max_positions:
            config.setdefault("max_position_embeddings", max_positions)
        why = "there is no original" if carried_config is None else "the original's is another"
        changes.append(f"{CONFIG}: written anew for family {chosen.name}: {why}")
    if carried is None or original is None:
        target = DTYPES["F32"] if dtype == "source" else np.dtype(_numpy(dtype))
        config["torch_dtype"] = target.name
        headers, pieces = _new_layout(binding, target, shard_bytes)
        index = _index(headers, None) if len(headers) > 1 else None
        return Plan(binding, headers, pieces, {}, config, index, changes)
    extras = carried.extras()
    tensors = {n: e for header in carried.headers.values() for n, e in _entries(header).items()}
    names = binding.resolve(tensors, str(carried.root))
    groups = binding.tensors() | {alias.tensor: (alias,) for alias in binding.aliases}
    pieces = {actual: groups[name] for name, actual in names.items()}
    headers = {}
    recast: dict[tuple[str, str], list[str]] = {}
    for file, header in carried.headers.items():
        entries, same = {}, True
        for name, entry in _entries(header).items():
            if name in extras:
                entries[name] = (entry["dtype"], entry["shape"], len(extras[name]))
                continue
            shape, kept = pieces[name][0].shape, entry["dtype"]
            wanted = kept if dtype == "source" else _name(dtype)
            if list(shape) != entry["shape"]:
                changes.append(f"{name}: shape {entry['shape']} became {list(shape)}")
                same = False
            if wanted != kept:
                recast.setdefault((kept, wanted), []).append(name)
                same = False
            size = math.prod(shape) * DTYPES[wanted].itemsize
            entries[name] = (wanted, list(shape), size)
        metadata = json.loads(header).get("__metadata__")
        headers[file] = header if same else make_header(entries, metadata)
    for (kept, wanted), found in recast.items():
        changes.append(f"{len(found)} tensors: dtype {kept} became {wanted}")
    if recast:
        key = "torch_dtype" if "torch_dtype" in config else "dtype"
        config[key] = np.dtype(_numpy(dtype)).name
    changes += [
        f"{CONFIG}: {key} was {original.get(key)!r}, is {config.get(key)!r}"
        for key in sorted(original.keys() | config.keys())
        if original.get(key) != config.get(key)
    ]
    path = carried.folder / INDEX
    index = _index(headers, read_json(path)) if path.is_file() else None
    return Plan(binding, headers, pieces, extras, config, index, changes)


def _write_tensors(
    arrays: Mapping[str, StoredArray], plan: Plan, writers: dict[str, ShardWriter]
) -> None:
    work = []
    for file, header in plan.headers.items():
        for name, entry in _entries(header).items():
            if name in plan.extras:
                writers[file].write_raw(name, plan.extras[name])
                continue
            group = plan.pieces[name]
            target = DTYPES[entry["dtype"]]
            whole = tuple(slice(0, size) for size in group[0].sizes)
            chunk = arrays[group[0].weight].chunk
            for block in blocks(group[0], whole, target.itemsize, chunk):
                work.append((writers[file], name, group, block, target))

    # A buffer that waits to be written, or is being made, holds one.
    slots = threading.BoundedSemaphore(2 * THREADS)

    def make(
        writer: ShardWriter, name: str, group: tuple[Piece, ...], block: Slices, target: np.dtype
    ) -> list[concurrent.futures.Future[int]]:
        # Parts of a fused tensor that share rows are put together before they are written.
        boxes = [piece.layout.box(piece.sizes, block, piece.part) for piece in group]
        found = []
        for rows in dict.fromkeys((box[0].start, box[0].stop) for box in boxes):
            slots.acquire()
            try:
                shape = (rows[1] - rows[0], *group[0].shape[1:])
                buffer = np.empty(shape, target)
                for piece, box in zip(group, boxes, strict=True):
                    if (box[0].start, box[0].stop) == rows:
                        values = _values(arrays, piece, block, name, target)
                        place = buffer[(slice(None), *box[1:])]
                        piece.layout.write(place, values, piece.sizes, block, piece.part)
                found.append(putters.submit(put, writer, name, rows[0], buffer))
            except BaseException:
                slots.release()
                raise
        return found

    def put(writer: ShardWriter, name: str, first_row: int, buffer: np.ndarray) -> int:
        try:
            writer.write(name, first_row, buffer)
        finally:
            slots.release()
        return buffer.nbytes

    with (
        Progress(plan.total_bytes, "convert", "B") as progress,
        concurrent.futures.ThreadPoolExecutor(WRITERS) as putters,
        concurrent.futures.ThreadPoolExecutor(THREADS) as makers,
    ):
        running = [makers.submit(make, *item) for item in work]
        try:
            for task in concurrent.futures.as_completed(running):
                for written in task.result():
                    progress.update(written.result())
        except BaseException:
            makers.shutdown(cancel_futures=True)
            raise


def _values(
    arrays: Mapping[str, StoredArray], piece: Piece, block: Slices, name: str, target: np.dtype
) -> np.ndarray:
    box = block if piece.layer is None else (slice(piece.layer, piece.layer + 1), *block)
    values = arrays[piece.weight].read(box)
    values = values if piece.layer is None else values[0]
    if values.dtype == target:
        return values
    with np.errstate(over="ignore"):
        cast = values.astype(target)
    if target == np.float16 and not np.isfinite(cast).all() and np.isfinite(values).all():
        raise ValueError(
            f"{name}: has values beyond float16's 65504; export in bfloat16 or float32 (--dtype)."
        )
    return cast


def _write_files(
    folder: pathlib.Path, plan: Plan, carried: Carried | None, tokenizer: pathlib.Path | None
) -> list[str]:
    """Writes all but the weights; returns what changed in the tokenizer's files."""
    changes = []
    if carried is not None:
        for name in carry.carried_files(carried.folder):
            carry.copy_file(carried.folder / name, folder / name)
    if carried is None or plan.config != carried.config:
        write_json(folder / CONFIG, plan.config)
    if plan.index is not None:
        old = None if carried is None else carried.folder / INDEX
        if old is not None and plan.index == read_json(old):
            carry.copy_file(old, folder / INDEX)
        else:
            write_json(folder / INDEX, plan.index)
    if tokenizer is not None:
        for name in carry.TOKENIZER:
            (folder / name).unlink(missing_ok=True)
        new = [name for name in carry.TOKENIZER if (tokenizer / name).is_file()]
        if not new:
            raise FileNotFoundError(f"{tokenizer}: no tokenizer files ({carry.TOKENIZER[0]} …).")
        for name in new:
            carry.copy_file(tokenizer / name, folder / name)
        changes.append(f"tokenizer: {', '.join(new)} from {tokenizer}")
    return changes


def _check_arrays(arrays: Mapping[str, StoredArray], binding: Binding) -> None:
    wrong = [
        f"{name} {arrays[name].shape if name in arrays else 'missing'} instead of {spec.shape}"
        for name, spec in binding.specs.items()
        if name not in arrays or arrays[name].shape != spec.shape
    ]
    wrong += [f"{name} unknown" for name in arrays if name not in binding.specs]
    if wrong:
        raise ValueError(f"the checkpoint is not of this model: {', '.join(wrong[:8])}.")


def _new_layout(
    binding: Binding, dtype: np.dtype, shard_bytes: int
) -> tuple[dict[str, bytes], dict[str, tuple[Piece, ...]]]:
    """Cuts all tensors into files of up to `shard_bytes`, in the order of the tables' layers."""
    groups = binding.tensors()
    files: list[dict[str, Any]] = [{}]
    used = 0
    for name, group in sorted(groups.items(), key=lambda item: item[1][0].layer or 0):
        size = math.prod(group[0].shape) * dtype.itemsize
        if used and used + size > shard_bytes:
            files.append({})
            used = 0
        files[-1][name] = (_name(dtype.name), list(group[0].shape), size)
        used += size
    count = len(files)
    names = [f"model-{number:05}-of-{count:05}.safetensors" for number in range(1, count + 1)]
    names = [SINGLE] if count == 1 else names
    headers = {
        name: make_header(file, {"format": "pt"}) for name, file in zip(names, files, strict=True)
    }
    return headers, groups


def _index(headers: Mapping[str, bytes], original: dict[str, Any] | None) -> dict[str, Any]:
    """Returns the index of files with these headers; the original one if it still holds."""
    entries = {name: (file, e) for file, h in headers.items() for name, e in _entries(h).items()}
    total = sum(e["data_offsets"][1] - e["data_offsets"][0] for _, e in entries.values())
    if original is not None:
        # Files and names are the original's; only sizes can have changed.
        stated = original.get("metadata", {})
        changed = "total_size" in stated and stated["total_size"] != total
        return original | {"metadata": stated | {"total_size": total}} if changed else original
    places = {name: file for name, (file, _) in sorted(entries.items())}
    return {"metadata": {"total_size": total}, "weight_map": places}


def _entries(header: bytes) -> dict[str, Any]:
    entries = json.loads(header)
    entries.pop("__metadata__", None)
    return entries


def _numpy(dtype: str) -> np.dtype:
    for known in DTYPES.values():
        if known.name == dtype:
            return known
    raise ValueError(f"dtype {dtype!r} is none of {[d.name for d in DTYPES.values()]}.")


def _name(dtype: str) -> str:
    return next(name for name, known in DTYPES.items() if known == _numpy(dtype))
