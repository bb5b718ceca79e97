"""What a cleaning step is: a small pure object that any runner can call.

A `Step` sees a batch of documents and decides about each on its own. A `GlobalStep` decides by
all documents, in rounds: runners call `map` on units of documents anywhere, `reduce` once on what
all units recorded, and hand each unit the answer to its share; `decide` applies the last one. Who
computed which unit, and how the documents were cut into units, can't matter.
"""

from __future__ import annotations

import abc
import collections
import dataclasses
import itertools
import os
import pathlib
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, ClassVar, overload

import numpy as np

from twjax.corpus.document import Document, Rejection

BUDGET_BYTES = 1 << 30


@dataclasses.dataclass(frozen=True, slots=True)
class Edit:
    """One replaced stretch that a reader may want to check or take back; never personal data.

    `id` is the document's, `kind` says why in a word or two ("characters", "phrase", "usage"),
    `start` counts code points in the text as the step leaves it: `after` stands there.
    """

    id: str
    kind: str
    start: int
    before: str
    after: str


@dataclasses.dataclass
class Outcome:
    """What a step did with a batch; every document is in `kept` or in `rejected`, in order.

    `changed` counts what was changed in the kept ones, by kind; `edits` are in the order of the
    documents and of their places.
    """

    kept: list[Document]
    rejected: list[Rejection] = dataclasses.field(default_factory=list)
    changed: collections.Counter[str] = dataclasses.field(default_factory=collections.Counter)
    edits: list[Edit] = dataclasses.field(default_factory=list)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Step(abc.ABC):
    """Base of all steps: a frozen dataclass whose fields are its parameters."""

    name: ClassVar[str]

    def parameters(self) -> dict[str, Any]:
        """Returns the fields as plain values, for the manifest."""
        return dataclasses.asdict(self)

    def versions(self) -> dict[str, str]:
        """Returns the versions of libraries and the hashes of tables that decide the outcome."""
        return {}

    @abc.abstractmethod
    def apply(self, batch: Sequence[Document]) -> Outcome:
        """Keeps, changes or rejects each document; the same batch gives the same outcome."""


class Records(Sequence[np.ndarray]):
    """What all units recorded in one round: one structured array a unit, read when it is asked for.

    Arrays that were saved to files are memory-mapped. A document's global number, in the order of
    the inputs, is `starts[unit] + document`. A `reduce` keeps about `budget_bytes` in memory and
    spills the rest.
    """

    def __init__(
        self,
        arrays: Sequence[np.ndarray | str | os.PathLike[str] | None],
        sizes: Sequence[int] | np.ndarray,
        budget_bytes: int = BUDGET_BYTES,
    ):
        """Takes arrays or `.npy` files, None for units without documents, and documents a unit."""
        if len(arrays) != len(sizes):
            raise ValueError(f"{len(arrays)} arrays of records for {len(sizes)} units.")
        self._arrays = arrays
        self.sizes = np.asarray(sizes, np.int64)
        self.starts = np.concatenate([[0], np.cumsum(self.sizes)])[:-1].astype(np.int64)
        self.budget_bytes = budget_bytes
        self._dtype: np.dtype[Any] | None = None

    @property
    def documents(self) -> int:
        """The number of documents of all units."""
        return int(self.sizes.sum())

    @property
    def dtype(self) -> np.dtype[Any]:
        """The type that all units' records have."""
        if self._dtype is None:
            index = next((i for i, a in enumerate(self._arrays) if a is not None), None)
            self._dtype = np.dtype([("document", "<u4")]) if index is None else self[index].dtype
        return self._dtype

    def __len__(self) -> int:
        return len(self._arrays)

    @overload
    def __getitem__(self, index: int) -> np.ndarray: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[np.ndarray]: ...
    def __getitem__(self, index: int | slice) -> np.ndarray | Sequence[np.ndarray]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        array = self._arrays[index]
        if array is None:
            return np.empty(0, self.dtype)
        if isinstance(array, np.ndarray):
            return array
        return load_array(array)

    def requests(self, numbers: np.ndarray, **columns: np.ndarray) -> Iterator[np.ndarray]:
        """Yields one request a unit: rows for the documents of ascending global `numbers`.

        Each has the field "document" and one field a column; a document may have several rows.
        """
        types = [(name, column.dtype, column.shape[1:]) for name, column in columns.items()]
        dtype = np.dtype([("document", "<u4"), *types])
        bounds = np.searchsorted(numbers, np.append(self.starts, self.documents))
        for unit, (low, high) in enumerate(itertools.pairwise(bounds.tolist())):
            request = np.empty(high - low, dtype)
            request["document"] = numbers[low:high] - self.starts[unit]
            for name, column in columns.items():
                request[name] = column[low:high]
            yield request


def load_array(path: str | os.PathLike[str]) -> np.ndarray:
    """Returns a saved array memory-mapped, read-only; an empty one can't be mapped."""
    try:
        return np.load(path, mmap_mode="r")
    except ValueError:
        return np.load(path)


@dataclasses.dataclass(frozen=True, kw_only=True)
class GlobalStep(Step):
    """A step that needs all documents: `rounds` times `map` and `reduce`, then `decide`.

    All arrays are structured, with the field "document" (uint32, the index in the unit,
    ascending); a document may have any number of rows. `map` and `decide` are never called with
    an empty batch.
    """

    rounds: ClassVar[int] = 1

    @abc.abstractmethod
    def map(self, round: int, batch: Sequence[Document], request: np.ndarray | None) -> np.ndarray:
        """Returns the records of one unit; the same type for all units of a round.

        `request` is what `reduce` of the round before asked of this unit, None in round 0.
        """

    @abc.abstractmethod
    def reduce(self, round: int, records: Records, scratch: pathlib.Path) -> Iterable[np.ndarray]:
        """Returns one request a unit, in order; in the last round it is the decision.

        `scratch` is an empty folder of this call's own, for what `records.budget_bytes` can't
        hold.
        """

    @abc.abstractmethod
    def decide(
        self, batch: Sequence[Document], request: np.ndarray, names: Mapping[int, str]
    ) -> Outcome:
        """Applies the decision to one unit.

        If the request has a field "keeper" (int64, a document's global number), `names` gives the
        id of each document that it names.
        """

    def apply(self, batch: Sequence[Document]) -> Outcome:
        """Does all rounds on one batch by itself, as if it were the whole corpus."""
        if not batch:
            return Outcome([])
        request = None
        with tempfile.TemporaryDirectory(prefix="twjax-") as folder:
            for round in range(self.rounds):
                records = Records([self.map(round, batch, request)], [len(batch)])
                scratch = pathlib.Path(folder, str(round))
                scratch.mkdir()
                (request,) = self.reduce(round, records, scratch)
        assert request is not None
        numbers = keepers(request)
        return self.decide(batch, request, {int(n): batch[n].id for n in numbers})


def keepers(request: np.ndarray) -> np.ndarray:
    """Returns the global numbers that a decision names, int64 ascending; none below zero."""
    if request.dtype.names is None or "keeper" not in request.dtype.names:
        return np.empty(0, np.int64)
    numbers = np.unique(request["keeper"])
    return numbers[numbers >= 0]


def drop(
    batch: Sequence[Document], request: np.ndarray, names: Mapping[int, str], reason: str
) -> Outcome:
    """Rejects the documents that a request lists, with the id of the one that stays for each."""
    gone = dict(zip(request["document"].tolist(), request["keeper"].tolist(), strict=True))
    outcome = Outcome([])
    for index, document in enumerate(batch):
        if index in gone:
            outcome.rejected.append(Rejection(document, reason, names[gone[index]]))
        else:
            outcome.kept.append(document)
    return outcome
