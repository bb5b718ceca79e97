"""Frequent checkpoints on the hosts themselves, and a lost part of one taken from its peers.

Each process writes the shards of its own devices, once each, into a folder of its machine (a RAM
disk): one file of bytes, an index, and checksums. No process waits for another while it saves.

A state isn't divided over the mesh axes of `REPLICAS`: what the devices at one place of the others
hold, each slice and each data replica has too. A step can be restored when at least one of the
devices of each place belongs to a process that has it. The others get it over the devices' own
links: a sum over the replicas of the bits, of which all but one add zeros, so that every bit comes
out as it was.

Of two processes one may be a step of these checkpoints ahead of the other, never two: before one of
them begins the next, all devices have ended its step, so that all have written the one before the
last. The three newest are kept therefore, and there is one that all have.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import hashlib
import json
import pathlib
import shutil
import socket
import threading
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import NamedSharding, PartitionSpec

from twjax.config import Checkpoint, ConfigError
from twjax.parallel.mesh import AXES
from twjax.progress import say
from twjax.storage import read_json, read_json_lines, sha256_json, write_json
from twjax.training import integrity, ledger
from twjax.training.metrics import FILE as LOG

# The mesh axes over which every state is the same.
REPLICAS = ("slice", "data")
_PLACES = tuple(axis for axis in AXES if axis not in REPLICAS)
_BYTES, _INDEX = "shards.bin", "index.json"
_PARTIAL = ".partial"
# How many stay, the newest one among them.
KEEP = 3
_TEXT = 512
_BOOT = pathlib.Path("/proc/sys/kernel/random/boot_id")
# A word of bits for each size of a value in bytes; sums of the smaller ones are made in 32 bits.
_WORDS = {1: np.uint8, 2: np.uint16, 4: np.uint32}

# A shard's place in its array: (start, stop) of each dim.
Box = tuple[tuple[int, int], ...]


@dataclasses.dataclass(frozen=True)
class _Found:
    """A step that can be restored: which processes have it, and the JSON saved with it."""

    step: int
    meta: dict[str, Any]
    having: np.ndarray


class LocalCheckpoints:
    """The checkpoints of `Checkpoint.local_every` in this process's folder of its machine.

    Without that setting there are none. `look`, `restore` and `begin` are called by all processes
    of a run together.
    """

    def __init__(self, run_dir: pathlib.Path, config: Checkpoint, mesh: jax.sharding.Mesh):
        self._every = config.local_every
        self._run_dir, self._mesh = run_dir.absolute(), mesh
        self._course = ""
        self._writer: threading.Thread | None = None
        self._told = False
        self._found: _Found | None = None
        if config.local_directory is None:
            return
        name = hashlib.sha256(str(self._run_dir).encode()).hexdigest()[:12]
        rank = str(_rank_on_machine())
        self._folder = pathlib.Path(config.local_directory) / f"{run_dir.name}-{name}" / rank
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ConfigError(
                f"Checkpoint.local_directory ({config.local_directory!r}): can't be written on "
                f"{socket.gethostname()} ({error.strerror or error}); name a folder that every "
                "host can make, on a RAM disk such as /dev/shm."
            ) from error
        for path in self._folder.glob(f"*{_PARTIAL}"):
            shutil.rmtree(path)

    @property
    def steps(self) -> list[int]:
        """Steps of this process's own checkpoints, oldest first."""
        if self._every is None:
            return []
        return sorted(int(p.name) for p in self._folder.glob("*") if p.name.isdigit())

    def look(self, least: int) -> list[int]:
        """Finds the newest step from `least` on that the run can go on from; returns it, or [].

        No later than its log: that is written by one process, which may have died before.
        """
        if self._every is None:
            return []
        course = self._now()
        logged = [r["step"] for r in read_json_lines(self._run_dir / LOG) if r["kind"] == "train"]
        upto = int(_gather(np.array(max(logged, default=-1)))[0])
        mine = [step for step in self.steps if least <= step <= upto and course]
        most = int(_gather(np.array(len(mine))).max())
        if not most:
            return []
        padded = np.array([*mine, *[-1] * (most - len(mine))], np.int64)
        for step in sorted(set(_gather(padded).ravel().tolist()) - {-1}, reverse=True):
            index = self._sound(step, course) if step in mine else None
            text = "" if index is None else json.dumps(index["meta"])
            told = _gather_text(text)
            having = np.array([bool(each) for each in told])
            if having[self._owners()].any(axis=0).all():
                self._found = _Found(step, json.loads(next(filter(None, told))), having)
                return [step]
        return []

    def record(self) -> dict[str, Any]:
        """Returns what the ledger keeps: `peers`, the processes that took the state from others."""
        if self._found is None:
            return {}
        return {"local": {"peers": np.flatnonzero(~self._found.having).tolist()}}

    def restore(self, abstract: Any) -> tuple[Any, dict[str, Any]] | None:
        """Reads the step that was found into the shapes, dtypes and shardings of `abstract`.

        Returns it with the JSON saved with it; None where there is none, or of another state.
        """
        if (found := self._found) is None:
            return None
        leaves, treedef = jax.tree_util.tree_flatten_with_path(abstract)
        mine = None
        if found.having[jax.process_index()]:
            mine = _Shards(self._folder / str(found.step))
        known = mine is None or all(mine.has(_name(path), leaf) for path, leaf in leaves)
        if not _gather(np.array(known)).all():
            self._found = None
            return None
        source = np.argmax(found.having[self._owners()], axis=0)
        complete = bool(found.having.all())
        restored = []
        for path, leaf in leaves:
            parts = {
                device: None if mine is None else mine.read(_name(path), _box(index, leaf.shape))
                for device, index in _indices(leaf).items()
            }
            if complete:
                arrays = [jax.device_put(part, device) for device, part in parts.items()]
                restored.append(
                    jax.make_array_from_single_device_arrays(leaf.shape, leaf.sharding, arrays)
                )
            else:
                restored.append(self._shared(leaf, parts, source))
        return jax.tree_util.tree_unflatten(treedef, restored), found.meta

    def begin(self, step: int) -> None:
        """Takes note that the run goes on at a step: what was saved behind it goes."""
        if self._every is not None:
            self._course = self._now()
            self.remove_after(step)

    def due(self, step: int) -> bool:
        """Whether a checkpoint of this step is wanted."""
        return self._every is not None and step % self._every == 0

    def save(self, state: Any, step: int, meta: dict[str, Any]) -> None:
        """Starts a save; returns once this process's shards have been copied off its devices."""
        assert len(json.dumps(meta)) < _TEXT
        self.wait()
        shards: dict[tuple[str, Box], Any] = {}
        for path, leaf in jax.tree_util.tree_leaves_with_path(state):
            for shard in leaf.addressable_shards:
                key = _name(path), _box(shard.index, leaf.shape)
                if key not in shards:
                    shard.data.copy_to_host_async()
                    shards[key] = shard.data
        # On a CPU the host's view of an array is the memory that the next step writes into.
        copy = self._mesh.devices.flat[0].platform == "cpu"
        values = {key: np.array(x) if copy else np.asarray(x) for key, x in shards.items()}
        for old in self.steps[: -(KEEP - 1)]:
            self._drop(old)
        self._writer = threading.Thread(target=self._write, args=(values, step, meta), daemon=True)
        self._writer.start()

    def wait(self) -> None:
        """Returns when nothing is being written."""
        if self._writer is not None:
            self._writer.join()
            self._writer = None

    def remove_after(self, step: int) -> None:
        """Deletes this process's checkpoints of later steps."""
        self.wait()
        for later in [number for number in self.steps if number > step]:
            self._drop(later)

    def remove(self) -> None:
        """Deletes all of this process's checkpoints: the run is finished."""
        if self._every is None:
            return
        self.wait()
        shutil.rmtree(self._folder, ignore_errors=True)
        with contextlib.suppress(OSError):
            self._folder.parent.rmdir()

    def _write(self, values: dict[tuple[str, Box], np.ndarray], step: int, meta: Any) -> None:
        folder = self._folder / f"{step}{_PARTIAL}"
        try:
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir(parents=True)
            entries, offset = [], 0
            with (folder / _BYTES).open("wb") as file:
                for (name, box), value in values.items():
                    data = np.ascontiguousarray(value).reshape(-1).view(np.uint8)
                    file.write(data.data)
                    entries.append([name, box, value.dtype.name, offset, data.size])
                    offset += data.size
            index = {"course": self._course, "meta": meta, "shards": entries}
            write_json(folder / _INDEX, index | self._place())
            integrity.write_sums(folder)
            self._drop(step)
            folder.rename(self._folder / str(step))
        except OSError as error:
            # The run has others, and the next may find room.
            shutil.rmtree(folder, ignore_errors=True)
            if not self._told:
                say(f"{folder.parent}: a local checkpoint could not be saved ({error}).")
            self._told = True

    def _drop(self, step: int) -> None:
        """Deletes one checkpoint; a kill on the way leaves nothing that looks like one."""
        folder = self._folder / str(step)
        if folder.exists():
            gone = folder.with_name(f"{step}.old{_PARTIAL}")
            shutil.rmtree(gone, ignore_errors=True)
            shutil.rmtree(folder.rename(gone), ignore_errors=True)

    def _now(self) -> str:
        """Returns the run's course as its first process sees it."""
        return _gather_text(_course(self._run_dir))[0]

    def _sound(self, step: int, course: str) -> dict[str, Any] | None:
        """Returns the index of a checkpoint of this process that it can use now; says why not."""
        folder = self._folder / str(step)
        try:
            wrong = integrity.differs(folder)
            index = {} if wrong else read_json(folder / _INDEX)
        except (OSError, ValueError) as error:
            wrong, index = str(error), {}
        if wrong:
            say(f"{folder}: a local checkpoint is damaged and isn't used ({wrong}).")
            return None
        here = self._place()
        same = index["course"] == course and index["mesh"] == here["mesh"]
        return index if same and set(index["places"]) >= set(here["places"]) else None

    def _place(self) -> dict[str, Any]:
        """Returns which part of a state this process holds."""
        held = (self._owners() == jax.process_index()).any(axis=0)
        return {
            "mesh": {axis: self._mesh.shape[axis] for axis in _PLACES},
            "places": np.flatnonzero(held).tolist(),
        }

    @property
    def _replicas(self) -> int:
        return int(np.prod([self._mesh.shape[axis] for axis in REPLICAS]))

    def _owners(self) -> np.ndarray:
        """Returns the process of each device, [replicas, places]."""
        owners = [device.process_index for device in self._mesh.devices.flat]
        return np.array(owners).reshape(self._replicas, -1)

    def _shared(self, leaf: Any, parts: dict[Any, np.ndarray | None], source: np.ndarray) -> Any:
        """Returns an array of which each part is taken from the replica that is its source."""
        shape, sharding = leaf.sharding.shard_shape(leaf.shape), leaf.sharding
        word = _WORDS[np.dtype(leaf.dtype).itemsize]
        gives = {
            device: replica == source[place]
            for (replica, place), device in np.ndenumerate(
                np.asarray(self._mesh.devices).reshape(self._replicas, -1)
            )
        }
        bits = []
        for device, part in parts.items():
            words = np.zeros((1, *shape), np.uint32)
            if gives[device]:
                assert part is not None
                words[0] = part.view(word)
            bits.append(jax.device_put(words, device))
        stacked = NamedSharding(self._mesh, PartitionSpec(REPLICAS, *sharding.spec))
        whole = (self._replicas, *leaf.shape)
        array = jax.make_array_from_single_device_arrays(whole, stacked, bits)
        return _sum(np.dtype(leaf.dtype), sharding)(array)


class _Shards:
    """A process's shards of one step, opened to be read."""

    def __init__(self, folder: pathlib.Path):
        size = (folder / _BYTES).stat().st_size
        self._bytes = np.memmap(folder / _BYTES, np.uint8, "r") if size else np.zeros(0, np.uint8)
        self._entries = {
            (name, tuple((start, stop) for start, stop in box)): (np.dtype(dtype), offset, size)
            for name, box, dtype, offset, size in read_json(folder / _INDEX)["shards"]
        }

    def has(self, name: str, leaf: Any) -> bool:
        """Whether all that this process needs of an array is there."""
        boxes = {_box(index, leaf.shape) for index in _indices(leaf).values()}
        entries = [self._entries.get((name, box)) for box in boxes]
        return all(entry is not None and entry[0] == leaf.dtype for entry in entries)

    def read(self, name: str, box: Box) -> np.ndarray:
        dtype, offset, size = self._entries[name, box]
        # Memory of its own: an array on a CPU may be this one.
        data = np.array(self._bytes[offset : offset + size])
        return data.view(dtype).reshape([stop - start for start, stop in box])


@functools.cache
def _sum(dtype: np.dtype, sharding: NamedSharding) -> Any:
    """Returns the function from words, uint32 [replicas, ...], to the values that they sum to."""

    def values(words: jax.Array) -> jax.Array:
        total = jnp.sum(words, axis=0, dtype=jnp.uint32).astype(_WORDS[dtype.itemsize])
        if dtype == np.bool_:
            return total.astype(bool)
        return jax.lax.bitcast_convert_type(total, dtype)

    return jax.jit(values, out_shardings=sharding)


def _indices(leaf: Any) -> dict[Any, tuple[slice, ...]]:
    """Returns the part of an array that each device of this process holds."""
    return leaf.sharding.addressable_devices_indices_map(leaf.shape)


def _box(index: Sequence[slice], shape: Sequence[int]) -> Box:
    bounds = (part.indices(size) for part, size in zip(index, shape, strict=True))
    return tuple((start, stop) for start, stop, _ in bounds)


def _name(path: Any) -> str:
    return jax.tree_util.keystr(path)


def _course(run_dir: pathlib.Path) -> str:
    """Returns what tells a run's beginning and its rollbacks from any other's; "" before it."""
    decisive: list[dict[str, Any]] = []
    for event in ledger.read(run_dir):
        if event["event"] == "start":
            decisive = []
        if event["event"] in ("start", "branch", "roll_back"):
            decisive.append(event)
    return sha256_json(decisive) if decisive else ""


def _gather(value: np.ndarray) -> np.ndarray:
    """Returns a value of each process, [processes, ...]."""
    if jax.process_count() == 1:
        return value[None]
    return np.asarray(multihost_utils.process_allgather(value))


def _gather_text(text: str) -> list[str]:
    """Returns a short text of each process."""
    padded = np.frombuffer(text.encode().ljust(_TEXT, b"\0"), np.uint8).astype(np.int32)
    rows = _gather(padded).astype(np.uint8)
    return [bytes(row).rstrip(b"\0").decode() for row in rows]


def _rank_on_machine() -> int:
    """Returns how many processes of the run with a smaller number are on this machine."""
    boot = _BOOT.read_text() if _BOOT.exists() else ""
    machines = _gather_text(f"{socket.gethostname()} {boot}"[:_TEXT])
    number = jax.process_index()
    return machines[:number].count(machines[number])
