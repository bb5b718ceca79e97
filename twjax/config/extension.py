"""The record beside an extended vocabulary: which ids are new, and which old ids they stand for.

`twjax vocab extend` writes it; a run that starts from weights of the base reads it.
"""

from __future__ import annotations

import dataclasses
import os
import pathlib
from typing import Any

from twjax import storage

RECORD = "vocab_extension.json"


@dataclasses.dataclass(frozen=True)
class Extension:
    """New ids `old_size` to `size` - 1; `parts[i]` are the old ids of the text of the i-th of them.

    `base` and `made` are the hashes (`Tokenizer.sha256`) of the vocabulary before and after, by
    the file that is read (`tokenizer.json`, `tokenizer.model`).
    """

    path: pathlib.Path
    base: dict[str, str]
    made: dict[str, str]
    old_size: int
    names: tuple[str, ...]
    parts: tuple[tuple[int, ...], ...]

    @property
    def size(self) -> int:
        """How many ids there are, the old ones among them."""
        return self.old_size + len(self.parts)

    @classmethod
    def find(cls, vocabulary: str | os.PathLike[str]) -> Extension | None:
        """Reads the record of a vocabulary's folder, or beside its file; None without one."""
        place = pathlib.Path(vocabulary)
        path = (place if place.is_dir() else place.parent) / RECORD
        if not path.is_file():
            return None
        record = storage.read_json(path)
        try:
            found = cls(
                path,
                dict(record["base"]),
                dict(record["made"]),
                int(record["old_size"]),
                tuple(record["new"]),
                tuple(tuple(map(int, ids)) for ids in record["parts"]),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(
                f"{path}: not a record of `twjax vocab extend` ({type(error).__name__}: {error}); "
                "extend the vocabulary again."
            ) from error
        found._check()
        return found

    def _check(self) -> None:
        wrong = [
            number
            for number, ids in enumerate(self.parts)
            if not ids or min(ids) < 0 or max(ids) >= self.old_size
        ]
        if wrong or len(self.names) != len(self.parts):
            raise ValueError(
                f"{self.path}: {len(self.names)} new pieces have {len(self.parts)} lists of old "
                f"ids, {len(wrong)} of them empty or not below {self.old_size}; extend the "
                "vocabulary again."
            )

    def write(self) -> None:
        """Writes the record to its path, whole or not at all."""
        record: dict[str, Any] = {
            "base": self.base,
            "made": self.made,
            "old_size": self.old_size,
            "new": self.names,
            "parts": self.parts,
        }
        storage.write_json(self.path, record)
