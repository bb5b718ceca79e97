"""safetensors files: read by slices, written in place; the layout of one kept for writing it again.

Reading is by `pread` into fresh memory where rows are whole, so that a file is never mapped as a
whole, and through a mapping only where a slice cuts through rows. Format: 8 bytes of header
length, little-endian; a JSON header; the tensors' bytes without gaps
(https://huggingface.co/docs/safetensors).
"""

from __future__ import annotations

import dataclasses
import json
import math
import mmap
import os
import pathlib
import threading
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import ml_dtypes
import numpy as np
import safetensors

from twjax.huggingface.transforms import Slices
from twjax.storage import read_json

INDEX = "model.safetensors.index.json"
SINGLE = "model.safetensors"

DTYPES: dict[str, np.dtype] = {
    "BF16": np.dtype(ml_dtypes.bfloat16),
    "F16": np.dtype(np.float16),
    "F32": np.dtype(np.float32),
}
NAMES = {dtype: name for name, dtype in DTYPES.items()}
# The bits of infinity; larger ones, without the sign, are those of NaN.
_INFINITY = {"BF16": 0x7F80, "F16": 0x7C00, "F32": 0x7F80_0000}
# Values that are looked at together: they stay in the cache.
_LOOKED_AT = 1 << 16
# A longer header than the format allows is damage.
_MAX_HEADER = 100_000_000


@dataclasses.dataclass(frozen=True)
class Stored:
    """Where one tensor lies: bytes `start` to `stop` of `file`, counted from its first byte."""

    file: str
    dtype: str
    shape: tuple[int, ...]
    start: int
    stop: int


@dataclasses.dataclass(frozen=True)
class Shard:
    """One file: its header as it stands there, and the tensors in it, in header order."""

    name: str
    header: bytes
    tensors: dict[str, Stored]


class Reader:
    """All tensors of a folder, whether in one file or in shards with an index.

    Everything about names, sizes and places is checked when it is made; `bytes_read` counts what
    has been asked for since.
    """

    def __init__(self, folder: str | os.PathLike[str]):
        self._folder = pathlib.Path(folder)
        self.index = None
        if (self._folder / INDEX).is_file():
            self.index = read_json(self._folder / INDEX)
            names = _index_files(self._folder, self.index)
        elif (self._folder / SINGLE).is_file():
            names = [SINGLE]
        else:
            raise FileNotFoundError(_no_weights(self._folder))
        self.shards = {name: read_header(self._folder / name) for name in names}
        self.tensors: dict[str, Stored] = {}
        for shard in self.shards.values():
            for name, stored in shard.tensors.items():
                if name in self.tensors:
                    raise ValueError(
                        f"{self._folder}: {name} is both in {self.tensors[name].file} and in "
                        f"{shard.name}."
                    )
                self.tensors[name] = stored
        if self.index is not None:
            self._check_index(self.index["weight_map"])
        self.bytes_read = 0
        self._lock = threading.Lock()
        self._files: dict[str, tuple[int, mmap.mmap]] = {}

    def __enter__(self) -> Reader:
        return self

    def __exit__(self, *exc: object) -> None:
        for descriptor, mapping in self._files.values():
            mapping.close()
            os.close(descriptor)
        self._files.clear()

    def dtype(self, name: str) -> np.dtype:
        return DTYPES[self.tensors[name].dtype]

    def raw(self, name: str) -> bytes:
        """Returns a tensor's bytes, of whatever dtype it is."""
        stored = self.tensors[name]
        with (self._folder / stored.file).open("rb") as file:
            file.seek(stored.start)
            return file.read(stored.stop - stored.start)

    def check_dtypes(self, names: Iterable[str]) -> None:
        """Raises ValueError for a tensor of a dtype that weights can't have here."""
        for name in names:
            stored = self.tensors[name]
            if stored.dtype not in DTYPES:
                raise ValueError(
                    f"{self._folder / stored.file}: {name} has dtype {stored.dtype}, which is not "
                    f"implemented; take the checkpoint in {', '.join(sorted(DTYPES))}."
                )

    @property
    def total_bytes(self) -> int:
        return sum(stored.stop - stored.start for stored in self.tensors.values())

    def read(self, name: str, box: Slices | None = None) -> np.ndarray:
        """Returns a tensor, or a box of it; only what the box needs is read."""
        stored = self.tensors[name]
        box = tuple(slice(0, size) for size in stored.shape) if box is None else box
        sizes = tuple(part.stop - part.start for part in box)
        if any(part.stop > size for part, size in zip(box, stored.shape, strict=True)):
            raise IndexError(
                f"{self._folder / stored.file}: {name} of shape {stored.shape} has no box {box}."
            )
        dtype = DTYPES[stored.dtype]
        with self._lock:
            self.bytes_read += math.prod(sizes) * dtype.itemsize
        descriptor, mapping = self._open(stored.file)
        if sizes[1:] == stored.shape[1:]:
            row = math.prod(stored.shape[1:]) * dtype.itemsize
            first = box[0].start * row if box else 0
            found = np.empty(sizes, dtype)
            _read_exactly(descriptor, found, stored.start + first, self._folder / stored.file, name)
            return found
        count = math.prod(stored.shape)
        whole = np.frombuffer(mapping, dtype, count, stored.start).reshape(stored.shape)
        return np.ascontiguousarray(whole[box])

    def check_finite(self, name: str, values: np.ndarray) -> None:
        """Raises ValueError when some of a tensor's values are NaN or infinite."""
        stored = self.tensors[name]
        bits = values.reshape(-1).view(f"u{values.itemsize}")
        unsigned = bits.dtype.type(np.iinfo(bits.dtype).max >> 1)
        for first in range(0, bits.size, _LOOKED_AT):
            if (bits[first : first + _LOOKED_AT] & unsigned).max() >= _INFINITY[stored.dtype]:
                raise ValueError(
                    f"{self._folder / stored.file}: {name} has values that are NaN or infinite; "
                    "such weights compute nothing: take the checkpoint from where it is whole."
                )

    def _open(self, file: str) -> tuple[int, mmap.mmap]:
        with self._lock:
            if file not in self._files:
                descriptor = os.open(self._folder / file, os.O_RDONLY)
                mapping = mmap.mmap(descriptor, 0, prot=mmap.PROT_READ)
                self._files[file] = descriptor, mapping
            return self._files[file]

    def _check_index(self, stated: dict[str, str]) -> None:
        path = self._folder / INDEX
        wrong = [n for n, f in stated.items() if n in self.tensors and self.tensors[n].file != f]
        gone = [name for name in stated if name not in self.tensors]
        extra = [name for name in self.tensors if name not in stated]
        for names, what in (
            (gone, "lists tensors that are in no shard"),
            (extra, "doesn't list tensors that are in a shard"),
            (wrong, "names another shard than the one that holds"),
        ):
            if names:
                raise ValueError(f"{path}: {what}: {_few(names)}.")


def read_header(path: pathlib.Path) -> Shard:
    """Reads and checks one file's header; raises ValueError that names the file and the fault."""
    size = path.stat().st_size
    with path.open("rb") as file:
        start = file.read(8)
        length = int.from_bytes(start, "little")
        if len(start) < 8 or length > _MAX_HEADER:
            raise ValueError(f"{path}: not a safetensors file (its first 8 bytes are no length).")
        header = file.read(length)
    if len(header) < length:
        raise ValueError(
            f"{path}: truncated: {size:,} bytes, but its header alone has {length:,}; fetch the "
            "file again."
        )
    try:
        entries: dict[str, Any] = json.loads(header)
        entries.pop("__metadata__", None)
        tensors = {
            name: Stored(
                path.name,
                entry["dtype"],
                tuple(entry["shape"]),
                *(8 + length + offset for offset in entry["data_offsets"]),
            )
            for name, entry in entries.items()
        }
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{path}: its safetensors header can't be read ({error}).") from None
    end = max((stored.stop for stored in tensors.values()), default=8 + length)
    if end > size:
        raise ValueError(
            f"{path}: truncated: {size:,} bytes instead of {end:,}; fetch the file again."
        )
    try:
        # The format's own library has the last word on gaps, overlaps and sizes.
        with safetensors.safe_open(path, framework="numpy"):
            pass
    except Exception as error:
        raise ValueError(f"{path}: its safetensors header is wrong ({error}).") from None
    return Shard(path.name, header, tensors)


def make_header(
    tensors: Mapping[str, tuple[str, Sequence[int], int]],
    metadata: Mapping[str, str] | None = None,
) -> bytes:
    """Returns the header of a file of tensors (the format's dtype, shape, bytes), in this order."""
    entries: dict[str, Any] = {} if metadata is None else {"__metadata__": dict(metadata)}
    end = 0
    for name, (dtype, shape, size) in tensors.items():
        start, end = end, end + size
        entries[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [start, end]}
    text = json.dumps(entries, ensure_ascii=False, separators=(",", ":")).encode()
    # Tensors begin at a multiple of 8 bytes.
    return text + b" " * (-len(text) % 8)


class ShardWriter:
    """Writes one file's tensors in any order and from any thread, each byte once.

    `finish` makes sure that all bytes are on the disk.
    """

    def __init__(self, path: pathlib.Path, header: bytes):
        self._path = path
        self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o666)
        start = len(header).to_bytes(8, "little") + header
        entries = json.loads(header)
        entries.pop("__metadata__", None)
        self._tensors = {
            name: (len(start) + entry["data_offsets"][0], entry) for name, entry in entries.items()
        }
        places = [entry["data_offsets"] for _, entry in self._tensors.values()]
        self._left = sum(stop - start for start, stop in places)
        self._lock = threading.Lock()
        os.pwrite(self._file, start, 0)

    def write(self, name: str, first_row: int, values: np.ndarray) -> None:
        """Writes whole rows of a tensor, from `first_row` on; `values` has its dtype."""
        start, entry = self._tensors[name]
        assert NAMES[values.dtype] == entry["dtype"]
        assert list(values.shape[1:]) == entry["shape"][1:]
        row = math.prod(entry["shape"][1:]) * values.dtype.itemsize
        data = np.ascontiguousarray(values).reshape(-1).view(np.uint8)
        self._put(data.data, start + first_row * row)

    def write_raw(self, name: str, data: bytes) -> None:
        """Writes a whole tensor from its bytes."""
        self._put(memoryview(data), self._tensors[name][0])

    def _put(self, data: memoryview, place: int) -> None:
        with self._lock:
            self._left -= len(data)
        while data:
            try:
                done = os.pwrite(self._file, data, place)
            except OSError as error:
                raise OSError(error.errno, error.strerror, str(self._path)) from None
            if hasattr(os, "posix_fadvise"):
                # Linux begins to bring these bytes to the disk, and waits for nothing.
                os.posix_fadvise(self._file, place, done, os.POSIX_FADV_DONTNEED)
            data, place = data[done:], place + done

    def finish(self) -> None:
        assert self._left == 0, f"{self._path}: {self._left} bytes were not written"
        os.fsync(self._file)
        self.close()

    def close(self) -> None:
        if self._file >= 0:
            os.close(self._file)
            self._file = -1


def _read_exactly(
    descriptor: int, into: np.ndarray, place: int, path: pathlib.Path, name: str
) -> None:
    data = into.reshape(-1).view(np.uint8).data
    while data:
        done = os.preadv(descriptor, [data], place)
        if done == 0:
            raise ValueError(f"{path}: ends within {name}; fetch the file again.")
        data, place = data[done:], place + done


def _index_files(folder: pathlib.Path, index: Any) -> list[str]:
    path = folder / INDEX
    stated = index.get("weight_map") if isinstance(index, dict) else None
    if not isinstance(stated, dict) or not stated:
        raise ValueError(f"{path}: has no weight_map.")
    names = sorted(set(stated.values()))
    if bad := [n for n in names if not isinstance(n, str) or pathlib.PurePath(n).name != n]:
        raise ValueError(f"{path}: names files outside its folder: {_few(bad)}.")
    if gone := [name for name in names if not (folder / name).is_file()]:
        raise FileNotFoundError(
            f"{folder}: {len(gone)} of {len(names)} shards missing: {_few(gone)}."
        )
    return names


def _no_weights(folder: pathlib.Path) -> str:
    others = sorted(f.name for f in folder.glob("*") if f.suffix in (".bin", ".pt", ".pth", ".h5"))
    if not folder.is_dir():
        return f"{folder}: no such folder."
    hint = ""
    if others:
        hint = (
            f"; {_few(others)} can't be read safely: save them as safetensors with "
            "transformers' save_pretrained"
        )
    return f"{folder}: neither {SINGLE} nor {INDEX}{hint}."


def _few(names: Sequence[Any], count: int = 8) -> str:
    more = f" and {len(names) - count} more" if len(names) > count else ""
    return ", ".join(map(str, names[:count])) + more
