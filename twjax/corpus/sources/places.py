"""Where inputs are: files and folders here, or behind any URL that fsspec opens.

A place is a local path, a URL with "://" (`s3://bucket/x.jsonl`, `zip://*.txt::/data/a.zip`), or a
dataset of TFDS (`tfds:NAME#SPLIT`).
"""

from __future__ import annotations

import contextlib
import glob
import hashlib
import os
import pathlib
from collections.abc import Iterator
from typing import Any, BinaryIO

from twjax import storage
from twjax.corpus.sources import tfds

_BLOCK = 1 << 20


def is_url(place: str | os.PathLike[str]) -> bool:
    """Says whether a place is no local path."""
    return isinstance(place, str) and ("://" in place or tfds.is_dataset(place))


def expand(pattern: str) -> list[str]:
    """Returns the places that a name with wildcards stands for, in order; one without is itself."""
    if tfds.is_dataset(pattern):
        return [pattern]
    if is_url(pattern):
        if not glob.has_magic(pattern.split("::")[0]):
            return [pattern]
        with _named(pattern):
            found = _matching(pattern)
    elif not glob.has_magic(pattern) or os.path.exists(pattern):
        return [pattern]
    else:
        found = sorted(glob.glob(pattern, recursive=True))
    if not found:
        raise ValueError(f"Corpus.inputs: nothing matches {pattern}.")
    return found


def _matching(pattern: str) -> list[str]:
    """Returns the URLs that match; the chain behind `::` stays as it is."""
    file_system, path = _open(pattern)
    head, *chain = pattern.split("::")
    protocol = head.split("://")[0]
    found = sorted(file_system.glob(path))
    bare = (file_system._strip_protocol(name) for name in found)
    return ["::".join([f"{protocol}://{name.lstrip('/')}" if chain else
                       file_system.unstrip_protocol(name), *chain])
            for name in bare]  # fmt: skip


def members(place: str | os.PathLike[str]) -> list[tuple[str, str]] | None:
    """Returns (name below it, place) of the files in a folder, in order; None for a file.

    Hidden files, and those in hidden folders, are left out. Raises ValueError where nothing is.
    """
    if tfds.is_dataset(place):
        return None
    if not is_url(place):
        path = pathlib.Path(place)
        if path.is_file():
            return None
        if not path.is_dir():
            raise ValueError(f"Corpus.inputs: no file {place}; check the path.")
        names = sorted(
            file.relative_to(path).as_posix() for file in path.rglob("*") if file.is_file()
        )
        return [(name, str(path / name)) for name in names if not _hidden(name)]
    with _named(place):
        file_system, path = _open(place)
        if file_system.isfile(path):
            return None
        if not file_system.exists(path):
            raise ValueError(f"Corpus.inputs: no file {place}; check the URL.")
        root = file_system._strip_protocol(path).rstrip("/")
        head, *chain = str(place).split("::")
        found = []
        for file in sorted(file_system.find(path)):
            name = file_system._strip_protocol(file)[len(root) :].lstrip("/")
            if not _hidden(name):
                found.append((name, "::".join([f"{head.rstrip('/')}/{name}", *chain])))
        return found


def _hidden(name: str) -> bool:
    return any(part.startswith(".") for part in name.split("/"))


@contextlib.contextmanager
def opened(place: str | os.PathLike[str]) -> Iterator[BinaryIO]:
    """Opens a place for reading bytes."""
    if not is_url(place):
        with open(place, "rb") as file:
            yield file
        return
    with _named(place):
        file_system, path = _open(place)
        remote: Any = file_system.open(path, "rb")
    with remote:
        yield remote


def size(place: str | os.PathLike[str]) -> int:
    """Returns the bytes of a file, or of all files in a folder or dataset."""
    if tfds.is_dataset(place):
        return sum(map(size, tfds.files(str(place))))
    inside = members(place)
    if inside is not None:
        return sum(size(file) for _, file in inside)
    if not is_url(place):
        return os.path.getsize(place)
    with _named(place):
        file_system, path = _open(place)
        known = file_system.size(path)
    if known is not None:
        return int(known)
    with opened(place) as file:
        return sum(len(block) for block in iter(lambda: file.read(_BLOCK), b""))


def sha256(place: str | os.PathLike[str]) -> str:
    """Returns the hash of a file, or of the names and hashes of a folder's or dataset's files."""
    if tfds.is_dataset(place):
        return storage.sha256_json(
            {os.path.basename(file): sha256(file) for file in tfds.files(str(place))}
        )
    inside = members(place)
    if inside is not None:
        return storage.sha256_json({name: sha256(file) for name, file in inside})
    digest = hashlib.sha256()
    with opened(place) as file:
        while block := file.read(_BLOCK):
            digest.update(block)
    return digest.hexdigest()


def _open(place: str | os.PathLike[str]) -> tuple[Any, str]:
    import fsspec

    file_system, path = fsspec.core.url_to_fs(str(place))
    return file_system, path


@contextlib.contextmanager
def _named(place: str | os.PathLike[str]) -> Iterator[None]:
    """Names the place in what fsspec's many file systems raise."""
    try:
        yield
    except ImportError as error:
        message = f"{place}: fsspec needs another package for this URL ({error})."
        raise ValueError(message) from error
    except ValueError as error:
        if str(place) in str(error):
            raise
        raise ValueError(f"{place}: {error}") from error
