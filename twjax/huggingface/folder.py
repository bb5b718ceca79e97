"""A Hugging Face folder opened for reading: checked whole, then read weight by weight, in boxes."""

from __future__ import annotations

import concurrent.futures
import dataclasses
import math
import os
import pathlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import numpy as np

from twjax.config import Model
from twjax.huggingface.mapping import Binding, Piece, bind, unflatten
from twjax.huggingface.registry import family_of
from twjax.huggingface.tensors import Reader
from twjax.huggingface.transforms import Slices, copy_into
from twjax.models.network import network
from twjax.parallel.sharding import weight_sharding
from twjax.progress import Progress, say
from twjax.storage import read_json
from twjax.training.checkpoint import Pieces

CONFIG = "config.json"
# What is read and turned at once, by each of the threads. The C library keeps blocks below
# 32 MiB for the next one; larger ones would be cleared by the kernel each time.
BLOCK_BYTES = 16 << 20
THREADS = min(16, max(4, os.cpu_count() or 1))

# A box of one of our weights (padded, stacked) and the memory that is to hold it.
Target = tuple[Slices, np.ndarray]


@dataclasses.dataclass(frozen=True)
class HubFolder:
    """What a folder holds, and as which network; `names` are its tensors by our tables' names."""

    path: pathlib.Path
    config: dict[str, Any]
    model: Model
    binding: Binding
    reader: Reader
    names: dict[str, str]

    @classmethod
    def open(cls, path: str | os.PathLike[str]) -> HubFolder:
        """Opens a folder; raises one error that names whatever keeps it from being read right."""
        path = pathlib.Path(path)
        if not (path / CONFIG).is_file():
            kind = "no such folder" if not path.is_dir() else f"not a model folder (no {CONFIG})"
            raise FileNotFoundError(f"{path}: {kind}.")
        config = read_json(path / CONFIG)
        if not isinstance(config, dict):
            raise ValueError(f"{path / CONFIG}: is not a JSON object.")
        reader = Reader(path)
        folder = cls._bound(path, config, reader)
        differing = folder._differing_alias()
        if differing is None:
            return folder
        name, first = (folder.names[piece.tensor] for piece in differing)
        if folder.binding.family.own_output and differing[0].tensor == "lm_head.weight":
            say(f"{path}: {name} differs from {first}: not tied, whatever {CONFIG} says.")
            return cls._bound(path, config | {"tie_word_embeddings": False}, reader)
        raise ValueError(
            f"{path}: {name} differs from {first}, but {CONFIG} says that they are tied; set "
            "tie_word_embeddings to false there if both are meant."
        )

    @classmethod
    def _bound(cls, path: pathlib.Path, config: dict[str, Any], reader: Reader) -> HubFolder:
        family = family_of(config, str(path / CONFIG))
        try:
            model = family.read_config(config)
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from None
        binding = bind(family, model, network(model).specs)
        names = binding.resolve(reader.tensors, str(path))
        reader.check_dtypes(names.values())
        folder = cls(path, config, model, binding, reader, names)
        folder._check_shapes()
        return folder

    def __enter__(self) -> HubFolder:
        return self

    def __exit__(self, *exc: object) -> None:
        self.reader.__exit__(*exc)

    def padded_like(self, net: Any) -> HubFolder:
        """Returns the folder bound to a network that may pad the vocabulary to another multiple."""
        return dataclasses.replace(
            self, model=net.config, binding=bind(self.binding.family, net.config, net.specs)
        )

    @property
    def ignored(self) -> list[str]:
        """Tensors that carry no weights."""
        used = set(self.names.values())
        return [name for name in self.reader.tensors if name not in used]

    def dtype(self, weight: str) -> np.dtype:
        """Returns the dtype that holds all of a weight's tensors exactly."""
        dtypes = {self.reader.dtype(self.names[p.tensor]) for p in self.binding.pieces[weight]}
        return dtypes.pop() if len(dtypes) == 1 else np.dtype(np.float32)

    def pieces(self, weight: str, read: Callable[[int], None] = lambda count: None) -> Pieces:
        """Returns a weight, padded and stacked, to be made piece by piece in its own dtype.

        `read` is told the bytes of each piece that has been made.
        """
        spec, dtype = self.binding.specs[weight], self.dtype(weight)

        def make(box: Slices) -> np.ndarray:
            buffer = np.empty([part.stop - part.start for part in box], dtype)
            for task in self._tasks(weight, [(box, buffer)]):
                task()
            read(buffer.nbytes)
            return buffer

        return Pieces(spec.shape, dtype, piece_shape(self.binding, weight, dtype), make)

    def load(self, mesh: jax.sharding.Mesh, dtype: Any = np.float32) -> Any:
        """Returns the tree of parameters in `dtype`, sharded for `mesh`.

        Each process reads what its own devices hold, and no more than one weight is in the
        host's memory beside the arrays.
        """
        sizes = {n: s.size * np.dtype(dtype).itemsize for n, s in self.binding.specs.items()}
        values = {}
        with (
            Progress(sum(sizes.values()), f"read {self.path.name}", "B") as progress,
            concurrent.futures.ThreadPoolExecutor(THREADS) as pool,
        ):
            for weight, spec in self.binding.specs.items():
                sharding = weight_sharding(spec, mesh)
                places = sharding.addressable_devices_indices_map(spec.shape).values()
                keys = {_key(box or (), spec.shape) for box in places}
                targets: dict[Any, Target] = {
                    key: (
                        tuple(slice(*part) for part in key),
                        np.empty([stop - start for start, stop in key], dtype),
                    )
                    for key in keys
                }
                tasks = self._tasks(weight, list(targets.values()))
                for done in [pool.submit(task) for task in tasks]:
                    done.result()
                values[weight] = jax.make_array_from_callback(
                    spec.shape,
                    sharding,
                    # Bound now: JAX may call it after the loop has gone on.
                    lambda box, t=targets, s=spec.shape: t[_key(box or (), s)][1],
                )
                progress.update(sizes[weight], weight)
        return unflatten(values)

    def _tasks(self, weight: str, targets: Sequence[Target]) -> Iterator[Callable[[], None]]:
        """Yields functions that together fill all targets, each from one block of one tensor."""
        for piece in self.binding.pieces[weight]:
            inner = list(_within_layer(piece, targets))
            if not inner:
                continue
            for box, buffer in inner:
                _clear_padding(piece, box, buffer)
            bounds = tuple(
                slice(min(b[axis].start for b, _ in inner),
                      min(size, max(b[axis].stop for b, _ in inner)))
                for axis, size in enumerate(piece.sizes)
            )  # fmt: skip
            if any(part.stop <= part.start for part in bounds):
                continue
            itemsize = self.reader.dtype(self.names[piece.tensor]).itemsize
            for block in blocks(piece, bounds, itemsize):
                yield lambda piece=piece, block=block, inner=inner: self._fill(piece, block, inner)

    def _fill(self, piece: Piece, block: Slices, targets: Sequence[Target]) -> None:
        box = piece.layout.box(piece.sizes, block, piece.part)
        raw = self.reader.read(self.names[piece.tensor], box)
        self.reader.check_finite(self.names[piece.tensor], raw)
        values = piece.layout.read(raw, piece.sizes, block, piece.part)
        for place, buffer in targets:
            common = tuple(
                slice(max(a.start, b.start), min(a.stop, b.stop))
                for a, b in zip(place, block, strict=True)
            )
            if any(part.stop <= part.start for part in common):
                continue
            source = values[_shifted(common, block)]
            target = buffer[_shifted(common, place)]
            if target.dtype != source.dtype:
                plain = np.empty(source.shape, source.dtype)
                copy_into(plain, source)
                target[...] = plain.astype(target.dtype)
            else:
                copy_into(target, source)

    def _check_shapes(self) -> None:
        problems = []
        pieces = [p for found in self.binding.pieces.values() for p in found]
        for piece in [*pieces, *self.binding.aliases]:
            name = self.names.get(piece.tensor)
            if name is None:
                continue
            shape = self.reader.tensors[name].shape
            if shape != piece.shape and (line := f"{name} {shape} instead of {piece.shape}"):
                problems.append(line)
        if problems:
            problems = list(dict.fromkeys(problems))
            raise ValueError(
                f"{self.path}: {len(problems)} tensors have other shapes than {CONFIG} says: "
                f"{', '.join(problems[:6])}{' …' if len(problems) > 6 else ''}."
            )

    def _differing_alias(self) -> tuple[Piece, Piece] | None:
        """Returns a second copy of a tied weight that isn't equal, and the first; None: all are."""
        for alias in self.binding.aliases:
            name = self.names.get(alias.tensor)
            if name is None:
                continue
            first = self.binding.pieces[alias.weight][0]
            for block in blocks(alias, tuple(slice(0, size) for size in alias.sizes), 4):
                one, other = (
                    p.layout.read(
                        self.reader.read(
                            self.names[p.tensor], p.layout.box(p.sizes, block, p.part)
                        ),
                        p.sizes, block, p.part,
                    )
                    for p in (alias, first)
                )  # fmt: skip
                if not np.array_equal(one, other):
                    return alias, first
        return None


def piece_shape(binding: Binding, weight: str, dtype: np.dtype) -> tuple[int, ...]:
    """Returns the shape in which a weight is stored: one layer, and a block of its rows."""
    piece, spec = binding.pieces[weight][0], binding.specs[weight]
    one = spec.shape if piece.layer is None else spec.shape[1:]
    axis = piece.layout.split_axis
    row = math.prod(one) // one[axis] * dtype.itemsize
    rows = max(1, min(one[axis], BLOCK_BYTES // row))
    # Equal pieces rather than full ones and a rest.
    rows = -(-one[axis] // -(-one[axis] // rows))
    shape = (*one[:axis], rows, *one[axis + 1 :])
    return shape if piece.layer is None else (1, *shape)


def blocks(
    piece: Piece, box: Slices, itemsize: int, chunk: Sequence[int] | None = None
) -> Iterator[Slices]:
    """Cuts a box of one layer's weight into blocks whose rows lie together in their tensor.

    `chunk` is the shape in which our weight is stored: where such chunks are of a block's kind
    and size, each is a block.
    """
    axis = piece.layout.split_axis
    row = math.prod(piece.sizes) // piece.sizes[axis] * itemsize
    step = max(1, BLOCK_BYTES // row)
    if chunk is not None:
        rows = chunk[axis - len(piece.sizes)]
        whole_rows = math.prod(chunk) // rows * itemsize == row
        if whole_rows and step // 2 < rows <= 2 * step:
            step = rows
    for first in range(box[axis].start, box[axis].stop, step):
        part = slice(first, min(first + step, box[axis].stop))
        yield (*box[:axis], part, *box[axis + 1 :])


def _within_layer(piece: Piece, targets: Sequence[Target]) -> Iterator[Target]:
    """Yields the parts of targets that one piece's layer is in, without the leading axis."""
    for box, buffer in targets:
        if piece.layer is None:
            yield box, buffer
        elif box[0].start <= piece.layer < box[0].stop:
            yield box[1:], buffer[piece.layer - box[0].start]


def _clear_padding(piece: Piece, box: Slices, buffer: np.ndarray) -> None:
    """Sets to zero what lies beyond the true size of the vocabulary."""
    for axis, (part, size) in enumerate(zip(box, piece.sizes, strict=True)):
        if part.stop > size:
            rest = slice(max(0, size - part.start), None)
            buffer[(slice(None),) * axis + (rest,)] = 0


def _shifted(box: Slices, origin: Slices) -> Slices:
    return tuple(
        slice(a.start - b.start, a.stop - b.start) for a, b in zip(box, origin, strict=True)
    )


def _key(box: Slices, shape: Sequence[int]) -> tuple[tuple[int, int], ...]:
    return tuple(part.indices(size)[:2] for part, size in zip(box, shape, strict=True))
