"""Checksums of a checkpoint's files: written before it is committed, compared before it is read.

The checksum file lies in the checkpoint and is made by one process, when all have written and
before the folder gets its name: no checkpoint of this version is ever without one, whenever a run
is killed. It holds each file's size and the SHA-256 of each 64 MiB of it, and a sum of its own.
What Orbax writes as it commits (`COMMIT`, `MARKER`) holds no values and has no checksum; the first
says that there is a checksum file, so that a lost one is told from a checkpoint of an older
version, which never had any.

Cost: SHA-256 runs at 2.0 GB/s a core with the instructions of x86, so that a disk usually bounds a
comparison; 0.88 GB/s were measured on two busy cores (`benchmarks/checkpoint.py`).
Several processes share a comparison: each reads its part of the bytes.
"""

from __future__ import annotations

import concurrent.futures
import dataclasses
import enum
import errno
import hashlib
import os
import pathlib
from collections.abc import Iterable
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils

from twjax.progress import Progress
from twjax.storage import read_json, sha256_json, write_json

FILE = "checksums.json"
# Orbax's: the times of a commit with what was promised of it, and an empty word that it was made.
COMMIT, MARKER = "_CHECKPOINT_METADATA", "commit_success.txt"
# What a commit says of itself.
PROMISE = {"checksums": FILE}

# What is summed up in one piece: large files are read by several threads.
PART_BYTES = 64 << 20
_CHUNK_BYTES = 1 << 20
# Beside a step that runs, and before a run that waits for nothing else.
_WRITERS = min(4, os.cpu_count() or 1)
_READERS = min(16, os.cpu_count() or 1)
# From here on a comparison takes seconds, and says how far it got.
_SHOWN_BYTES = 8 << 30


class Trust(enum.IntEnum):
    """What is known of a checkpoint's bytes; the more, the worse."""

    WHOLE = 0
    # Of a version that wrote no checksums.
    UNVERIFIED = 1
    # The checksum file or the commit's own is lost or damaged: nothing is known of the values.
    UNSURE = 2
    DAMAGED = 3
    # Whatever it is: no access, no more files to be opened, a mount that is away.
    UNREADABLE = 4


@dataclasses.dataclass(frozen=True)
class Verdict:
    """What a comparison has found, and why it isn't WHOLE."""

    trust: Trust
    reason: str = ""


@dataclasses.dataclass(frozen=True)
class _Part:
    path: pathlib.Path
    start: int
    size: int

    def sha256(self) -> str:
        """Returns the hex SHA-256 of this part of a file."""
        digest, left = hashlib.sha256(), self.size
        buffer = memoryview(bytearray(min(_CHUNK_BYTES, max(self.size, 1))))
        with self.path.open("rb", buffering=0) as file:
            file.seek(self.start)
            while left and (count := file.readinto(buffer[: min(left, len(buffer))])):
                digest.update(buffer[:count])
                left -= count
        if left:
            raise ValueError(f"{self.path}: ended {left:,} bytes too early.")
        return digest.hexdigest()


def _parts(path: pathlib.Path, size: int) -> list[_Part]:
    return [
        _Part(path, start, min(PART_BYTES, size - start)) for start in range(0, size, PART_BYTES)
    ]


def write_sums(folder: pathlib.Path) -> None:
    """Writes the checksum file of a checkpoint that is about to be committed."""
    sizes = {
        str(path.relative_to(folder)): path.stat().st_size
        for path in sorted(folder.rglob("*"))
        if path.is_file() and str(path.relative_to(folder)) not in (FILE, COMMIT, MARKER)
    }
    with concurrent.futures.ThreadPoolExecutor(_WRITERS) as pool:
        running = {
            name: [pool.submit(part.sha256) for part in _parts(folder / name, size)]
            for name, size in sizes.items()
        }
        files = {
            name: {"bytes": sizes[name], "sha256": [task.result() for task in tasks]}
            for name, tasks in running.items()
        }
    found: dict[str, Any] = {"version": 1, "part_bytes": PART_BYTES, "files": files}
    write_json(folder / FILE, found | {"sha256": sha256_json(found)})


def compare(folder: pathlib.Path) -> Verdict:
    """Compares a checkpoint's files with its checksums; every process of a run must call it.

    All of them get the worst of what each has found. Raises OSError where files can't be read for
    another reason than their damage.
    """
    mine = None
    try:
        found = _compare(folder, jax.process_index(), jax.process_count())
    except OSError as error:
        lost = isinstance(error, FileNotFoundError) or error.errno == errno.EIO
        mine = None if lost else error
        trust = Trust.DAMAGED if lost else Trust.UNREADABLE
        found = Verdict(trust, " ".join(str(error).split()))
    except ValueError as error:
        found = Verdict(Trust.DAMAGED, " ".join(str(error).split()))
    found = _worst(found)
    if found.trust is Trust.UNREADABLE:
        raise mine or OSError(f"{folder}: another process can't read it: {found.reason}")
    return found


def _compare(folder: pathlib.Path, process: int, processes: int) -> Verdict:
    promised = _promise(folder)
    if not (folder / FILE).is_file():
        if promised is None:
            return Verdict(Trust.UNSURE, f"{COMMIT} is missing or damaged, {FILE} missing")
        if promised == PROMISE:
            return Verdict(Trust.UNSURE, f"{FILE} is missing")
        return Verdict(Trust.UNVERIFIED, "it was saved by a version that wrote no checksums")
    files = _read_sums(folder)
    if files is None:
        return Verdict(Trust.UNSURE, f"{FILE} is damaged")
    parts = _expected(folder, files)
    if isinstance(parts, str):
        return Verdict(Trust.DAMAGED, parts)
    if wrong := _differing(parts[process::processes], sum(f["bytes"] for f in files.values())):
        return Verdict(Trust.DAMAGED, wrong)
    if promised != PROMISE or not (folder / MARKER).is_file():
        damaged = COMMIT if promised != PROMISE else MARKER
        return Verdict(Trust.UNSURE, f"the mark of its commit ({damaged}) is missing or damaged")
    return Verdict(Trust.WHOLE)


def differs(folder: pathlib.Path) -> str:
    """Returns what is wrong with the files of a folder of this process alone; "" where nothing is.

    Raises OSError where they can't be read.
    """
    files = _read_sums(folder)
    if files is None:
        return f"{FILE} is damaged"
    parts = _expected(folder, files)
    return parts if isinstance(parts, str) else _differing(parts, 0)


def _expected(
    folder: pathlib.Path, files: dict[str, dict[str, Any]]
) -> list[tuple[str, _Part, str]] | str:
    """Returns the parts of a folder's files with their sums, or what is wrong with the files."""
    parts: list[tuple[str, _Part, str]] = []
    for name, known in files.items():
        path = folder / name
        if not path.is_file():
            return f"{name} is missing"
        if (size := path.stat().st_size) != known["bytes"]:
            return f"{name}: {size:,} bytes instead of {known['bytes']:,}"
        parts += [
            (name, part, sha256)
            for part, sha256 in zip(_parts(path, size), known["sha256"], strict=True)
        ]
    return parts


def _differing(parts: Iterable[tuple[str, _Part, str]], total: int) -> str:
    """Returns what is wrong with the first part that differs; "" when all are as they were."""
    parts = list(parts)
    shown = total >= _SHOWN_BYTES and jax.process_index() == 0
    mine = sum(part.size for _, part, _ in parts)
    with concurrent.futures.ThreadPoolExecutor(_READERS) as pool:
        sums = pool.map(lambda item: item[1].sha256(), parts)
        progress = Progress(mine >> 20, "checking the checkpoint", "MiB") if shown else None
        for (name, part, known), found in zip(parts, sums, strict=True):
            if found != known:
                pool.shutdown(wait=False, cancel_futures=True)
                return f"{name}: other bytes from {part.start:,} on than were saved"
            if progress is not None:
                progress.update(part.size >> 20)
        if progress is not None:
            progress.__exit__()
    return ""


def _promise(folder: pathlib.Path) -> dict[str, Any] | None:
    """Returns what a commit says of itself ({} in older versions); None where it is no more."""
    try:
        return read_json(folder / COMMIT).get("custom_metadata") or {}
    except (FileNotFoundError, ValueError, AttributeError):
        return None


def _read_sums(folder: pathlib.Path) -> dict[str, dict[str, Any]] | None:
    """Returns {file: its size and sums}; None where the checksum file isn't as it was written."""
    try:
        found = read_json(folder / FILE)
        own = found.pop("sha256")
        sound = sha256_json(found) == own and found["part_bytes"] == PART_BYTES
        return found["files"] if sound else None
    except (ValueError, KeyError, AttributeError, TypeError):
        return None


_REASON_BYTES = 400


def _worst(verdict: Verdict) -> Verdict:
    """Returns the worst verdict of all processes, and the reason of the first one with it."""
    if jax.process_count() == 1:
        return verdict
    text = verdict.reason.encode()[:_REASON_BYTES].ljust(_REASON_BYTES, b"\0")
    mine = np.concatenate([[verdict.trust], np.frombuffer(text, np.uint8)]).astype(np.int32)
    everywhere = np.asarray(multihost_utils.process_allgather(mine))
    worst = everywhere[np.argmax(everywhere[:, 0])]
    reason = bytes(worst[1:].astype(np.uint8)).rstrip(b"\0").decode(errors="ignore")
    return Verdict(Trust(int(worst[0])), reason)
