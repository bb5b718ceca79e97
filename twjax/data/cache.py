"""Tasks become packed rows on disk.

task → token ids of each source shard (in parallel) → one packing plan → rows → a folder that
appears whole. What comes out doesn't depend on the number of workers.
"""

from __future__ import annotations

import collections
import contextlib
import dataclasses
import errno
import os
import pathlib
import secrets
import shutil
import socket
from collections.abc import Iterator, Sequence

import numpy as np

from twjax import storage
from twjax.corpus.running.pool import Pool
from twjax.data import packing
from twjax.data.examples import Encoded, Job, encode, load_model, task_token_bytes
from twjax.data.request import Request
from twjax.data.rows import Info, RowWriter, SeqLen, cache_dir, set_current
from twjax.progress import Progress, say

# Examples that are packed together before rows are written; whole shards, at least this many.
GROUP = packing.WINDOW
_ROWS_AT_ONCE = 512


@dataclasses.dataclass(frozen=True)
class Built:
    """Rows on disk; `fresh` is False when they were up to date already."""

    info: Info
    path: pathlib.Path
    fresh: bool
    left_out: int = 0


def find(request: Request, cache: str | os.PathLike[str]) -> Info | None:
    """Returns what the rows' `info.json` says if they are there, whole and up to date."""
    place = (cache, request.task.name, request.split, request.row_length)
    return _finished(cache_dir(*place) / storage.sha256_json(request.ingredients()))


def build(
    request: Request,
    cache: str | os.PathLike[str],
    *,
    workers: int = 1,
    pool: Pool | None = None,
) -> Built:
    """Makes the rows, or finds them up to date (from the manifest, without reading documents).

    `pool` has the processes to use instead of `workers` new ones: what they loaded for one task
    serves the next.
    Examples in which nothing is predicted, or which don't fit a row and may not be cut, those that
    hold an evaluation item (with their text), and records that the source can't use, are left out,
    counted, and listed in `left_out-<fingerprint>.jsonl` beside the rows' folder.
    """
    ingredients = request.ingredients()
    fingerprint = storage.sha256_json(ingredients)
    place = (cache, request.task.name, request.split, request.row_length)
    folder = cache_dir(*place)
    path = folder / fingerprint
    if (info := _finished(path)) is not None:
        set_current(*place, fingerprint)
        return Built(info, path, False)
    if path.exists():
        say(f"{path}: damaged; caching {request.task.name} ({request.split}) again")
        shutil.rmtree(path)
    model = load_model(request.vocabulary)
    token_bytes = task_token_bytes(model, request.task.extra_ids)
    with (
        RowWriter(
            *place, fingerprint, row_format=request.row_format, token_bytes=token_bytes
        ) as writer,
        _scratch(folder) as scratch,
        _full_disk_explained(request, folder),
        Pool(workers) as own,
    ):
        packer = _Packer(request, writer)
        for encoded in _encoded(request, scratch, pool or own):
            packer.add(encoded)
        packer.flush()
        packer.left_out += request.task.left_out(request.split)
        if packer.left_out:
            _record(folder / f"left_out-{fingerprint}.jsonl", packer.left_out)
        info = writer.finish(
            documents=packer.documents,
            text_bytes=packer.text_bytes,
            vocabulary={
                "sha256": model.sha256,
                "size": len(token_bytes),
                "path": request.vocabulary,
            },
            ingredients=ingredients,
            without=packer.without,
        )
    return Built(info, path, True, len(packer.left_out))


def _finished(path: pathlib.Path) -> Info | None:
    """Returns what a folder of rows says if its files are there at full length."""
    if not (path / "info.json").is_file():
        return None
    info = Info.load(path / "info.json")
    files = [(path / entry["file"], entry["bytes"]) for entry in info.files]
    whole = all(file.is_file() and file.stat().st_size == size for file, size in files)
    return info if whole and (path / "token_bytes.npy").is_file() else None


@contextlib.contextmanager
def _scratch(folder: pathlib.Path) -> Iterator[pathlib.Path]:
    """A folder for token ids; named so that the next `RowWriter` clears it if we are killed."""
    path = folder / f".tmp-{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(4)}"
    path.mkdir()
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


@contextlib.contextmanager
def _full_disk_explained(request: Request, folder: pathlib.Path) -> Iterator[None]:
    """Says so when the disk is full: ArrayRecord's own errors don't.

    It has to look before what was written is removed again.
    """
    try:
        yield
    except (OSError, RuntimeError) as error:
        known = isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)
        if not known and shutil.disk_usage(folder).free >= 1 << 20:
            raise
        raise OSError(
            errno.ENOSPC,
            f"No space left on device while caching {request.task.name} ({request.split}); what "
            "was begun is removed. Make room (about 14 bytes a token) and run again",
            str(folder),
        ) from error


def _encoded(request: Request, scratch: pathlib.Path, pool: Pool) -> Iterator[Encoded]:
    """Yields the shards' examples in the order of the shards, whoever is done first."""
    count = request.task.shards(request.split)
    jobs = [
        Job(
            request.task,
            request.split,
            shard,
            request.vocabulary,
            request.sequence_length,
            scratch / f"{shard:05d}.tokens",
            request.removal,
        )
        for shard in range(count)
    ]
    name = f"{request.task.name} {request.split}: tokens"
    if min(pool.workers, count, request.task.most_workers) == 1:
        with Progress(None, name, "examples") as progress:
            for job in jobs:
                yield encode(job, progress.update)
        return
    waiting: dict[int, Encoded] = {}
    due = 0
    with Progress(count, name, "shards") as progress:
        for job, encoded in pool.map(encode, jobs):
            progress.update()
            waiting[job.shard] = encoded
            while due in waiting:
                yield waiting.pop(due)
                due += 1


class _Packer:
    """Collects shards until they are worth packing, then writes their rows."""

    def __init__(self, request: Request, writer: RowWriter):
        self._request, self._writer = request, writer
        self._shards: list[Encoded] = []
        self._count = self._seen = 0
        self.documents = self.text_bytes = 0
        self.left_out: list[dict[str, object]] = []
        self._held: collections.Counter[str] = collections.Counter()

    @property
    def without(self) -> dict[str, object] | None:
        """What was removed, by set, where items are looked for; None where they aren't."""
        if self._request.removal is None:
            return None
        counts = self._request.removal.screen.counts
        return {
            "examples": self._held.total(),
            "sets": {
                name: {"items": n, "examples": self._held[name]} for name, n in counts.items()
            },
        }

    def add(self, encoded: Encoded) -> None:
        self._shards.append(encoded)
        self._count += len(encoded.lengths)
        if self._count >= GROUP:
            self.flush()

    def flush(self) -> None:
        """Packs what was collected and frees its files."""
        shards, self._shards, self._count = self._shards, [], 0
        if not shards:
            return
        lengths = np.concatenate([shard.lengths for shard in shards])
        begins = np.concatenate([_begins(shard.lengths.sum(axis=1)) for shard in shards])
        owner = np.repeat(np.arange(len(shards)), [len(shard.lengths) for shard in shards])
        keep = self._usable(lengths)
        self._remove(shards, keep)
        self._seen += len(lengths)
        self.documents += int(keep.sum())
        self.text_bytes += int(np.concatenate([s.text_bytes for s in shards])[keep].sum())
        lengths, begins, owner = lengths[keep], begins[keep], owner[keep]
        row_length = self._request.row_length
        if isinstance(row_length, int):
            plan = packing.plan_decoder(lengths.sum(axis=1), row_length)
        else:
            plan = packing.plan_encoder_decoder(lengths[:, 0], lengths[:, 1], row_length)
        files = [
            np.memmap(shard.tokens, "<i4", "r") if len(shard.lengths) else np.zeros(0, np.int32)
            for shard in shards
        ]
        name = f"{self._request.task.name} {self._request.split}: rows"
        with Progress(plan.rows, name, "rows") as progress:
            for low in range(0, plan.rows, _ROWS_AT_ONCE):
                high = min(plan.rows, low + _ROWS_AT_ONCE)
                pieces = slice(*np.searchsorted(plan.row, [low, high]))
                example = plan.example[pieces]
                self._writer.write(
                    _fill(
                        row_length,
                        high - low,
                        plan.row[pieces] - low,
                        plan.segment[pieces],
                        plan.offset[pieces],
                        plan.length[pieces],
                        np.where(plan.start[pieces] > 0, 0, lengths[example, 0]),
                        [
                            files[o][b : b + n]
                            for o, b, n in zip(
                                owner[example].tolist(),
                                (begins[example] + plan.start[pieces]).tolist(),
                                plan.length[pieces].tolist(),
                                strict=True,
                            )
                        ],
                    )
                )
                progress.update(high - low)
        del files
        for shard in shards:
            shard.tokens.unlink(missing_ok=True)

    def _usable(self, lengths: np.ndarray) -> np.ndarray:
        """Returns bool [n]: which examples can stand in rows; the others are noted."""
        row_length = self._request.row_length
        if isinstance(row_length, int):
            # Without inputs, nothing comes before the first target; only such text may be cut.
            alone = lengths[:, 0] == 0
            too_short = lengths[:, 1] - alone < 1
            too_long = (lengths.sum(axis=1) > row_length) & ~alone
        else:
            too_short = lengths[:, 1] < 1
            too_long = (lengths > row_length).any(axis=1)
        for reason, mask in (("nothing to predict", too_short), ("longer than a row", too_long)):
            for index in np.flatnonzero(mask).tolist():
                inputs, targets = lengths[index].tolist()
                self.left_out.append(
                    {
                        "reason": reason,
                        "example": self._seen + index,
                        "inputs": inputs,
                        "targets": targets,
                    }
                )
        return ~(too_short | too_long)

    def _remove(self, shards: Sequence[Encoded], keep: np.ndarray) -> None:
        """Takes out of `keep` bool [n] what holds an evaluation item, and notes it."""
        first = 0
        for shard in shards:
            for number, finding, text in shard.held:
                if keep[first + number]:
                    keep[first + number] = False
                    self._held[finding.set] += 1
                    self.left_out.append(
                        {
                            "reason": "holds an evaluation item",
                            "example": self._seen + first + number,
                            **finding.entry(),
                            "text": text,
                        }
                    )
            first += len(shard.lengths)


def _fill(
    row_length: SeqLen,
    count: int,
    rows: np.ndarray,
    segments: np.ndarray,
    offsets: np.ndarray,
    lengths: np.ndarray,
    inputs: np.ndarray,
    tokens: Sequence[np.ndarray],
) -> dict[str, np.ndarray]:
    """Returns the arrays of `count` rows from pieces, each with its ids and number of inputs."""
    pieces = zip(
        rows.tolist(),
        segments.tolist(),
        offsets.tolist(),
        lengths.tolist(),
        inputs.tolist(),
        tokens,
        strict=True,
    )
    if isinstance(row_length, int):
        ids = np.zeros((count, row_length), np.int32)
        owners, weights = np.zeros_like(ids), np.zeros(ids.shape, np.uint8)
        for row, segment, (at,), length, given, values in pieces:
            ids[row, at : at + length] = values
            owners[row, at : at + length] = segment
            # The first token of a segment is predicted from nothing.
            weights[row, at + max(1, given) : at + length] = 1
        return {"tokens": ids, "segment_ids": owners, "loss_weights": weights}
    sides = {
        name: np.zeros((count, size), np.int32)
        for name, size in zip(("inputs", "targets"), row_length, strict=True)
    }
    owners = {name: np.zeros_like(side) for name, side in sides.items()}
    for row, segment, at, _, given, values in pieces:
        parts = {"inputs": values[:given], "targets": values[given:]}
        for (name, part), begin in zip(parts.items(), at, strict=True):
            sides[name][row, begin : begin + len(part)] = part
            owners[name][row, begin : begin + len(part)] = segment
    return {
        **sides,
        **{f"{name}_segment_ids": owner for name, owner in owners.items()},
        # The decoder starts from a start token, so it predicts the first target too.
        "loss_weights": (owners["targets"] > 0).astype(np.uint8),
    }


def _begins(lengths: np.ndarray) -> np.ndarray:
    return np.cumsum(lengths) - lengths


def _record(path: pathlib.Path, entries: Sequence[dict[str, object]]) -> None:
    import json

    with storage.atomic_writer(path) as file:
        for entry in entries:
            file.write(json.dumps(entry, ensure_ascii=False) + "\n")
    reasons = collections.Counter(str(entry["reason"]) for entry in entries).most_common()
    counts = ", ".join(f"{count:,} {reason}" for reason, count in reasons)
    say(f"{len(entries)} examples were left out ({counts}); {path} lists them")
