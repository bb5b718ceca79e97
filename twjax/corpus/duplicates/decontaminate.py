"""Documents that hold evaluation items."""

from __future__ import annotations

import dataclasses
import functools
import unicodedata
from collections.abc import Sequence
from typing import ClassVar, Literal

from twjax import storage
from twjax.corpus.conversion import opencc
from twjax.corpus.document import Document, Rejection
from twjax.corpus.duplicates import shingles
from twjax.corpus.duplicates.index import Index, Item
from twjax.corpus.duplicates.items import existing, read_strings
from twjax.corpus.step import Outcome, Step


@dataclasses.dataclass(frozen=True, kw_only=True)
class Decontaminate(Step):
    """Rejects or labels documents that hold an item of an evaluation set.

    `files` are JSON (lines, or one list), CSV, text with one item a line (also .gz, .zst), or
    Parquet. An item is a record (`unit` "record") or each of its strings ("string"): those in the
    fields `fields`, or all, at any depth, but what tells where the record is from. A document holds
    an item if it has at least the share `share` of the item's different n-grams of `ngram` letters,
    and ten or all of them, within a stretch twice as long as the item (`index`: neither line breaks
    nor width nor punctuation nor the script of Chinese matter). Items without an n-gram are in
    ordinary language too; they aren't looked for. 13 as in GPT-3 (Brown et al. 2020, appendix C),
    there words, any one of which counted. A law that an examination quotes at length holds the item
    as well: name the questions alone in `fields`, or choose `policy` "label", to keep it.

    `policy` "label" keeps the document and writes the item to `meta["contaminated"]`. An item is
    named by file, id or line, and field, with the share of it that was found.
    """

    name: ClassVar[str] = "decontaminate"

    files: tuple[str, ...]
    fields: tuple[str, ...] = ()
    unit: Literal["record", "string"] = "record"
    ngram: int = 13
    share: float = 0.5
    policy: Literal["drop", "label"] = "drop"

    def __post_init__(self) -> None:
        if not self.files:
            raise ValueError("Decontaminate.files is empty; name at least one evaluation set.")
        if self.ngram < 2:
            raise ValueError(f"Decontaminate.ngram ({self.ngram}) must be at least 2.")
        if not 0 < self.share <= 1:
            raise ValueError(f"Decontaminate.share ({self.share}) must be in (0, 1].")
        if self.unit not in ("record", "string"):
            raise ValueError(f"Decontaminate.unit ({self.unit!r}) must be 'record' or 'string'.")
        if self.policy not in ("drop", "label"):
            raise ValueError(f"Decontaminate.policy ({self.policy!r}) must be 'drop' or 'label'.")

    def versions(self) -> dict[str, str]:
        hashes = {f"sha256 of {name}": storage.sha256_file(existing(name)) for name in self.files}
        versions = {"unicode": unicodedata.unidata_version, "opencc": opencc.version()}
        return {**versions, **hashes}

    def apply(self, batch: Sequence[Document]) -> Outcome:
        index, names = _index(self.files, self.fields, self.unit, self.ngram)
        outcome = Outcome([])
        for first, texts in shingles.groups([d.text for d in batch]):
            found = _best(index, names, texts, self.share)
            for number, document in enumerate(batch[first : first + len(texts)]):
                if number not in found:
                    outcome.kept.append(document)
                elif self.policy == "drop":
                    rejection = Rejection(document, "holds an evaluation item", found[number])
                    outcome.rejected.append(rejection)
                else:
                    meta = {**document.meta, "contaminated": found[number]}
                    outcome.kept.append(dataclasses.replace(document, meta=meta))
                    outcome.changed["contaminated"] += 1
        return outcome


@functools.lru_cache(maxsize=4)
def _index(
    files: tuple[str, ...], fields: tuple[str, ...], unit: str, ngram: int
) -> tuple[Index, list[str]]:
    found = [item for name in files for item in read_strings(name, fields, unit == "record")]
    index = Index([Item(name, (tuple(texts),)) for name, texts in found], ngram)
    return index, [name for name, _ in found]


def _best(index: Index, names: Sequence[str], texts: Sequence[str], share: float) -> dict[int, str]:
    """Returns the item that each text holds most of, if it is at least `share` of it."""
    best: dict[int, tuple[float, str]] = {}
    for match in index.search(texts, share):
        if match.text not in best or match.share > best[match.text][0]:
            name = f"{names[match.item]} ({match.share:.2f})"
            best[match.text] = match.share, name
    return {text: name for text, (_, name) in best.items()}
