"""What the compiler made of a step, kept in a folder of the user's by what was compiled."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import importlib.metadata
import os
import pathlib
import types
import typing
from collections.abc import Mapping
from typing import Any, TypeVar

from twjax import storage
from twjax.planning.topology import Topology
from twjax.progress import say

T = TypeVar("T")

# What changes a compilation from outside of the program.
_ENVIRONMENT = ("LIBTPU_INIT_ARGS", "XLA_FLAGS")


def default_folder() -> pathlib.Path:
    """Returns the user's folder of plans: $TWJAX_CACHE, or twjax in the system's cache folder."""
    if own := os.environ.get("TWJAX_CACHE"):
        return pathlib.Path(own).expanduser() / "plans"
    system = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return pathlib.Path(system).expanduser() / "twjax" / "plans"


def key_of(program: str, topology: Topology, options: Mapping[str, Any], quick: bool) -> str:
    """Returns the hash of all that a plan's figures depend on.

    `program` is the lowered module (StableHLO), `options` the compiler's. The versions of JAX and
    of the compiler count, and the code that reads its output.
    """
    return storage.sha256_json(
        {
            "program": hashlib.sha256(program.encode()).hexdigest(),
            "slices": [topology.chip.name, topology.num_slices, list(topology.shape)],
            "links": [list(topology.wrap), list(topology.host_shape), dict(topology.chip.options)],
            "options": dict(options),
            "quick": quick,
            "environment": {name: os.environ.get(name) for name in _ENVIRONMENT},
            "versions": {name: _version(name) for name in ("jax", "jaxlib", "libtpu")},
            "reader": _own_code(),
        }
    )


class PlanCache:
    """A folder with one JSON file a compilation, named by the hash of what was compiled."""

    def __init__(self, folder: pathlib.Path):
        self.folder = folder

    def load(self, key: str, cls: type[T]) -> T | None:
        """Returns what was kept, or None; a file that can't be read is named and passed over."""
        path = self._path(key)
        if not path.is_file():
            return None
        try:
            kept = storage.read_json(path)
            if kept["key"] != key:
                raise ValueError("it belongs to another compilation")
            return restore(cls, kept["figures"])
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            say(f"{path} is passed over: {error!r}")
            return None

    def save(self, key: str, figures: Any) -> None:
        """Keeps a dataclass; a folder that can't be written to is named, and nothing is kept."""
        path = self._path(key)
        try:
            storage.write_json(path, {"key": key, "figures": dataclasses.asdict(figures)})
        except OSError as error:
            say(f"the plan isn't kept for the next time: {error}")

    def _path(self, key: str) -> pathlib.Path:
        return self.folder / key[:2] / f"{key}.json"


def restore(hint: Any, value: Any) -> Any:
    """Returns the value of a type that JSON made lists and dicts of; raises where it doesn't fit.

    For dataclasses of numbers, strings, tuples, dicts and each other, or None.
    """
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        if value is None:
            return None
        (inner,) = (a for a in arguments if a is not types.NoneType)
        return restore(inner, value)
    if origin is tuple:
        hints = [arguments[0]] * len(value) if arguments[1:] == (Ellipsis,) else list(arguments)
        return tuple(restore(h, v) for h, v in zip(hints, value, strict=True))
    if origin is dict:
        return {restore(arguments[0], k): restore(arguments[1], v) for k, v in value.items()}
    if isinstance(hint, type) and dataclasses.is_dataclass(hint):
        hints = typing.get_type_hints(hint)
        names = {field.name for field in dataclasses.fields(hint)}
        if set(value) != names:
            raise ValueError(f"{hint.__name__}: {sorted(set(value) ^ names)} differ")
        return hint(**{name: restore(hints[name], value[name]) for name in names})
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if not isinstance(value, hint) or (hint is int and isinstance(value, bool)):
        raise ValueError(f"{value!r} is no {hint.__name__}")
    return value


@functools.cache
def _own_code() -> str:
    """Returns the hash of the code that turns the compiler's output into figures."""
    digest = hashlib.sha256()
    for file in sorted(pathlib.Path(__file__).parent.glob("*.py")):
        digest.update(file.name.encode() + b"\0" + file.read_bytes())
    return digest.hexdigest()


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "unknown"
