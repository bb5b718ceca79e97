"""A folder that is whole or absent: written beside its place, renamed when all of it is there."""

from __future__ import annotations

import contextlib
import fcntl
import os
import pathlib
import shutil
from collections.abc import Iterator

from twjax import storage


@contextlib.contextmanager
def whole_folder(
    path: str | os.PathLike[str], *, force: bool = False, needs: int = 0
) -> Iterator[pathlib.Path]:
    """Yields an empty folder beside `path` that becomes `path` when the block ends well.

    A killed process leaves `.NAME.partial`, which the next one clears away. `needs` is the number
    of bytes that will be written: too little room is an error before anything is. An existing
    `path` is refused, or with `force` replaced at the end.
    """
    path = pathlib.Path(path).absolute()
    if path.exists() and not force:
        raise FileExistsError(f"{path} exists; name another folder, or replace it with --force.")
    if path.exists() and not path.is_dir():
        raise FileExistsError(f"{path} is a file, not a folder.")
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.parent / f".{path.name}.partial"
    partial.mkdir(exist_ok=True)
    # The lock is the folder's own: it goes with the process that holds it.
    lock = os.open(partial, os.O_RDONLY)
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise FileExistsError(f"{path}: another process is writing it.") from None
        for item in partial.iterdir():
            shutil.rmtree(item) if item.is_dir() and not item.is_symlink() else item.unlink()
        free = shutil.disk_usage(path.parent).free
        if needs > free:
            partial.rmdir()
            raise OSError(
                f"{path.parent}: {needs / 1e9:.2f} GB are needed and {free / 1e9:.2f} GB are free."
            )
        try:
            yield partial
        except BaseException:
            shutil.rmtree(partial, ignore_errors=True)
            raise
        old = path.parent / f".{path.name}.old"
        if path.exists():
            shutil.rmtree(old, ignore_errors=True)
            path.rename(old)
        partial.rename(path)
        shutil.rmtree(old, ignore_errors=True)
        storage.sync(path.parent)
    finally:
        os.close(lock)
