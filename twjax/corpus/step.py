"""What a cleaning step is: a small pure object that any runner can call.

A `Step` sees a batch of documents and decides about each on its own. A `GlobalStep` decides by
all documents: runners call `keys` on batches anywhere, bring the keys together in the order of
the inputs, and `resolve` them once; who computed which batch can't matter.
"""

from __future__ import annotations

import abc
import collections
import dataclasses
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np

from twjax.corpus.document import Document, Rejection


@dataclasses.dataclass
class Outcome:
    """What a step did with a batch; every document is in `kept` or in `rejected`, in order.

    `changed` counts what was changed in the kept ones, by kind.
    """

    kept: list[Document]
    rejected: list[Rejection] = dataclasses.field(default_factory=list)
    changed: collections.Counter[str] = dataclasses.field(default_factory=collections.Counter)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Step(abc.ABC):
    """Base of all steps: a frozen dataclass whose fields are its parameters."""

    name: ClassVar[str]

    def parameters(self) -> dict[str, Any]:
        """Returns the fields as plain values, for the manifest."""
        return dataclasses.asdict(self)

    def versions(self) -> dict[str, str]:
        """Returns the versions of libraries and tables that decide what comes out."""
        return {}

    @abc.abstractmethod
    def apply(self, batch: Sequence[Document]) -> Outcome:
        """Keeps, changes or rejects each document; the same batch gives the same outcome."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class GlobalStep(Step):
    """A step that needs all documents: keys a batch, then one decision over all keys."""

    reason: ClassVar[str]

    @abc.abstractmethod
    def keys(self, batch: Sequence[Document]) -> np.ndarray:
        """Returns one key a document: an array [documents, …] of fixed trailing shape and dtype."""

    @abc.abstractmethod
    def resolve(self, keys: np.ndarray) -> np.ndarray:
        """Returns int64 [documents]: the index of the document that stands for each one.

        `keys` are in the order of the inputs. A kept document stands for itself.
        """

    def apply(self, batch: Sequence[Document]) -> Outcome:
        """Resolves one batch by itself, as if it were the whole corpus."""
        if not batch:
            return Outcome([])
        outcome = Outcome([])
        for index, stands in enumerate(self.resolve(self.keys(batch))):
            if stands == index:
                outcome.kept.append(batch[index])
            else:
                rejection = Rejection(batch[index], self.reason, batch[stands].id)
                outcome.rejected.append(rejection)
        return outcome
