"""Compiled programs, kept on disk: a second start of the same run doesn't compile again."""

from __future__ import annotations

import contextlib
import hashlib
import os
import pathlib
import platform
import zlib
from typing import Any

VARIABLE = "JAX_COMPILATION_CACHE_DIR"

# Programs that took less to compile are compiled again.
LEAST_SECONDS = 0.1

# Beyond this the programs written first go.
MOST_BYTES = 10 * 2**30

# JAX's programs end in this; what is newer than the other file hasn't been looked at.
_SUFFIX, _LOOKED = "-cache", "looked"

_ZSTD = b"\x28\xb5\x2f\xfd"


def keep_compiled() -> pathlib.Path | None:
    """Has JAX keep what it compiles in this user's cache folder, for all processes; returns it.

    `JAX_COMPILATION_CACHE_DIR` names another folder; empty, or where there is no folder to write
    to, nothing is kept (None).
    """
    import jax

    named = os.environ.get(VARIABLE)
    if named is not None:
        if not named:
            jax.config.update("jax_enable_compilation_cache", False)
        return pathlib.Path(named) if named else None
    try:
        folder = _folder()
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except (OSError, RuntimeError):
        # No home, or one that can't be written to.
        return None
    if not os.access(folder, os.W_OK):
        return None
    drop_torn(folder)
    prune(folder, MOST_BYTES)
    jax.config.update("jax_compilation_cache_dir", str(folder))
    if "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS" not in os.environ:
        jax.config.update("jax_persistent_cache_min_compile_time_secs", LEAST_SECONDS)
    return folder


def drop_torn(folder: pathlib.Path) -> None:
    """Removes programs of which a process that was killed has written only a part.

    JAX would compile such a one again at each start, and never replace it. Each is looked at once.
    """
    looked = folder / _LOOKED
    with contextlib.suppress(OSError):
        # A clock may be behind another one.
        since = looked.stat().st_mtime - 60 if looked.exists() else 0.0
        looked.touch()
        for path in folder.glob(f"*{_SUFFIX}"):
            # Another process may be doing the same.
            with contextlib.suppress(FileNotFoundError):
                if path.stat().st_mtime >= since and not _whole(path):
                    path.unlink()


def _whole(path: pathlib.Path) -> bool:
    """Whether a compressed file has its end."""
    with path.open("rb") as file:
        zstd = file.read(4) == _ZSTD
        file.seek(0)
        try:
            reader: Any = zlib.decompressobj()
            if zstd:
                import zstandard

                reader = zstandard.ZstdDecompressor().decompressobj()
            while not reader.eof and (piece := file.read(1 << 20)):
                reader.decompress(piece)
            return reader.eof
        except ImportError:
            # Written by another installation.
            return True
        except Exception:
            # Each library has errors of its own.
            return False


def prune(folder: pathlib.Path, most: int) -> None:
    """Removes the oldest files of a folder until the rest has at most so many bytes."""
    files = []
    for path in folder.iterdir():
        # Another process may be doing the same.
        with contextlib.suppress(OSError):
            stat = path.stat()
            files.append((stat.st_mtime, stat.st_size, path))
    total = sum(size for _, size, _ in files)
    for _, size, path in sorted(files):
        if total <= most:
            return
        with contextlib.suppress(OSError):
            path.unlink()
        total -= size


def _folder() -> pathlib.Path:
    """Returns the folder for this kind of machine.

    A program for a CPU uses what that CPU has, and homes are shared between machines.
    """
    base = os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache"
    machine = platform.machine()
    with contextlib.suppress(OSError):
        text = pathlib.Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
        machine += "".join(sorted({line for line in text.splitlines() if "flags" in line}))
    return (
        pathlib.Path(base)
        / "twjax"
        / "compiled"
        / hashlib.sha256(machine.encode()).hexdigest()[:12]
    )
