"""Files that are whole or absent: atomic writes, content hashes, JSON lines."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import pathlib
import re
import tempfile
from collections.abc import Iterator
from typing import IO, Any


def local_folder(path: str | os.PathLike[str]) -> pathlib.Path:
    """Returns a folder of this machine; refuses a URL, which would become a folder named so."""
    if re.match(r"[a-z][a-z0-9+.-]+:/", str(path)):
        raise ValueError(
            f"{path}: remote folders can't be written directly; mount the bucket (gcsfuse) and "
            "name the mounted folder."
        )
    return pathlib.Path(path)


@contextlib.contextmanager
def atomic_writer(path: str | os.PathLike[str], mode: str = "w") -> Iterator[IO[Any]]:
    """Opens a temporary file beside `path` that replaces it only when the block ends well.

    Text is UTF-8 with `\\n` line ends. A crash or a full disk leaves the old file as it was.
    """
    path = pathlib.Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    binary = "b" in mode
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".tmp")
    try:
        # mkstemp makes private files; outputs follow the user's umask like any other file.
        umask = os.umask(0)
        os.umask(umask)
        os.fchmod(descriptor, 0o666 & ~umask)
        with os.fdopen(
            descriptor,
            mode,
            encoding=None if binary else "utf-8",
            newline=None if binary else "\n",
        ) as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(name, path)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(name)
        raise


def sync(path: str | os.PathLike[str]) -> None:
    """Returns when a file's bytes, or a folder's names, are on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def is_locked(path: str | os.PathLike[str]) -> bool | None:
    """Whether a process of this machine holds a lock (flock) on a file, without touching the lock.

    None where the system doesn't tell.
    """
    try:
        number = os.stat(path).st_ino
        held = pathlib.Path("/proc/locks").read_text(encoding="ascii").splitlines()
    except FileNotFoundError as error:
        return None if error.filename == "/proc/locks" else False
    except OSError:
        return None
    # "1: FLOCK  ADVISORY  WRITE 4711 08:01:131075 0 EOF"; a waiting one has "->".
    fields = [line.split() for line in held if " FLOCK " in line and "->" not in line]
    return any(f[5].rpartition(":")[2] == str(number) for f in fields if len(f) > 5)


def write_json(path: str | os.PathLike[str], value: Any) -> None:
    """Writes `value` as readable, key-ordered-as-given JSON, atomically."""
    with atomic_writer(path) as file:
        json.dump(value, file, ensure_ascii=False, indent=2)
        file.write("\n")


def read_json(path: str | os.PathLike[str]) -> Any:
    """Reads one JSON file; the error of a broken one names the file."""
    try:
        return json.loads(pathlib.Path(path).read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path}: not valid JSON ({error}).") from error


def read_json_lines(path: str | os.PathLike[str]) -> list[dict[str, Any]]:
    """Reads a JSON-lines log; a torn last line (the writer was killed) is left out."""
    path = pathlib.Path(path)
    if not path.exists():
        return []
    records: list[dict[str, Any]] = []
    text = path.read_text(encoding="utf-8", errors="replace").rstrip("\n")
    # Not splitlines(): JSON strings may hold U+2028 and other line ends of Unicode.
    lines = text.split("\n") if text else []
    for number, line in enumerate(lines, start=1):
        try:
            records.append(json.loads(line))
        except ValueError as error:
            if number == len(lines):
                break
            raise ValueError(f"{path}:{number}: not valid JSON ({error}).") from error
    return records


def sha256_file(path: str | os.PathLike[str]) -> str:
    """Returns the hex SHA-256 of a file's bytes."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sha256_json(value: Any) -> str:
    """Returns the hex SHA-256 of a JSON value, whatever the order of its keys."""
    text = json.dumps(value, ensure_ascii=False, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()
