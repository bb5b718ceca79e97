"""Documents that hold evaluation items."""

from __future__ import annotations

import dataclasses
import functools
import gzip
import io
import itertools
import json
import math
import pathlib
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar, Literal

import numpy as np
import zstandard

from twjax import storage
from twjax.corpus import codepoints
from twjax.corpus.document import Document, Rejection
from twjax.corpus.duplicates import shingles
from twjax.corpus.step import Outcome, Step

# An item needs so many of its n-grams in a document, or all if it has fewer.
_LEAST = 10
# What a record says about itself is no part of the item.
_PROVENANCE = ("id", "source", "license", "lang", "url", "url_or_path", "created", "meta")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Decontaminate(Step):
    """Rejects or labels documents that hold an item of an evaluation set.

    `files` are JSON lines (also .gz, .zst), Parquet, or text with one item a line. An item is a
    record (`unit` "record") or each of its strings ("string"): those in the fields `fields`, or
    all, at any depth, but what tells where the record is from. A document holds an item if it has
    at least the share `share` of the item's different n-grams of `ngram` letters, and ten or all
    of them, within a stretch twice as long as the item (`shingles.letters`: neither line breaks
    nor width nor punctuation matter). Items without an n-gram are in ordinary language too; they
    aren't looked for. 13 as in GPT-3 (Brown et al. 2020, appendix C), there words, any one of
    which counted. A law that an examination quotes at length holds the item as well: name the
    questions alone in `fields`, or choose `policy` "label", to keep it.

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
        hashes = {f"sha256 of {name}": storage.sha256_file(_file(name)) for name in self.files}
        return {"unicode": unicodedata.unidata_version, **hashes}

    def apply(self, batch: Sequence[Document]) -> Outcome:
        index = _index(self.files, self.fields, self.unit, self.ngram)
        outcome = Outcome([])
        for first, texts in shingles.groups([d.text for d in batch]):
            found = index.search(texts, self.share)
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
def _index(files: tuple[str, ...], fields: tuple[str, ...], unit: str, ngram: int) -> Index:
    items = [item for name in files for item in read_items(name, fields, unit == "record")]
    return Index(items, ngram)


class Index:
    """Which items have an n-gram: `items` are (name, texts)."""

    def __init__(self, items: Sequence[tuple[str, Sequence[str]]], ngram: int):
        self._ngram = ngram
        self._names = [name for name, _ in items]
        own = np.repeat(np.arange(len(items)), [len(texts) for _, texts in items])
        grams, owners = [np.empty(0, np.uint64)], [np.empty(0, np.int64)]
        sizes = [np.empty(0, np.int64)]
        strings = [text for _, texts in items for text in texts]
        for first, part in shingles.groups(strings):
            hashes, of = self._grams(part)
            sizes.append(np.diff(shingles.fold(part)[1]))
            grams.append(hashes)
            owners.append(own[first + of])
        hashes, owner = np.concatenate(grams), np.concatenate(owners)
        # Each n-gram once an item.
        order = np.lexsort((owner, hashes))
        hashes, owner = hashes[order], owner[order]
        new = np.ones(len(order), bool)
        new[1:] = (hashes[1:] != hashes[:-1]) | (owner[1:] != owner[:-1])
        hashes, self._owners = hashes[new], owner[new]
        if not len(hashes):
            raise ValueError(
                f"Decontaminate.files: none of {len(items)} items has {ngram} letters; check "
                "Decontaminate.fields and the files."
            )
        self._letters = np.bincount(own, np.concatenate(sizes), len(items))
        self._sizes = np.bincount(self._owners, minlength=len(items))
        self._hashes, begins = np.unique(hashes, return_index=True)
        self._begins = np.append(begins, len(hashes))
        # Most n-grams of most documents are in no item; a small table tells so without a search.
        self._bits = max(16, len(self._hashes).bit_length() + 4)
        self._seen = np.zeros(1 << self._bits, bool)
        self._seen[self._slots(self._hashes)] = True

    def _slots(self, hashes: np.ndarray) -> np.ndarray:
        return hashes >> np.uint64(64 - self._bits)

    def _grams(self, texts: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
        """Returns the hash of each n-gram and the index of its text."""
        letters, starts = shingles.fold(texts)
        hashes = codepoints.scramble(shingles.windows(letters, self._ngram, np.uint64))
        inside = shingles.inside(starts, self._ngram, len(hashes))
        of = np.repeat(np.arange(len(texts)), np.maximum(np.diff(starts) - self._ngram + 1, 0))
        return hashes[inside], of

    def search(self, texts: Sequence[str], share: float) -> dict[int, str]:
        """Returns the item that each text holds most of, if it is at least `share` of it."""
        hashes, of = self._grams(texts)
        places = np.flatnonzero(self._seen[self._slots(hashes)])
        at = np.searchsorted(self._hashes, hashes[places])
        at[at == len(self._hashes)] = 0
        hit = self._hashes[at] == hashes[places]
        at, places = at[hit], places[hit]
        # Each place once an item that has its n-gram, in the order of texts, items, places.
        begins, counts = self._begins[at], np.diff(self._begins)[at]
        within = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
        items = self._owners[np.repeat(begins, counts) + within]
        at, places = np.repeat(at, counts), np.repeat(places, counts)
        order = np.lexsort((places, items, of[places]))
        at, places, items = at[order], places[order], items[order]
        keys = of[places] * np.int64(len(self._names)) + items
        bounds = np.append(np.flatnonzero(np.diff(keys, prepend=-1)), len(keys)).tolist()
        best: dict[int, tuple[float, str]] = {}
        for low, high in itertools.pairwise(bounds):
            text, item = int(of[places[low]]), int(items[low])
            needed = max(math.ceil(share * self._sizes[item]), min(_LEAST, self._sizes[item]))
            if high - low < needed:
                continue
            spans = places[low + needed - 1 : high] - places[low : high - needed + 1]
            found = len(np.unique(at[low:high]))
            if found < needed or spans.min() > 2 * self._letters[item]:
                continue
            part = found / float(self._sizes[item])
            if text not in best or part > best[text][0]:
                best[text] = part, f"{self._names[item]} ({part:.2f})"
        return {text: name for text, (_, name) in best.items()}


def read_items(
    name: str, fields: Sequence[str] = (), whole: bool = True
) -> Iterator[tuple[str, list[str]]]:
    """Yields (file:id, strings) for each record, or (file:id field, [string]) for each string."""
    path = _file(name)
    for number, record in _records(path):
        if isinstance(record, str):
            yield f"{path.name}:{number}", [record]
            continue
        if not isinstance(record, Mapping):
            raise ValueError(f"{path}:{number}: an item must be an object, not {record!r:.40}.")
        if missing := [field for field in fields if field not in record]:
            raise ValueError(
                f"{path}:{number}: no field {missing[0]!r}; Decontaminate.fields must name fields "
                f"of each record, which has {', '.join(map(str, record))}."
            )
        label = f"{path.name}:{record.get('id') or number}"
        wanted = fields or [key for key in record if key not in _PROVENANCE]
        strings = list(_strings({key: record[key] for key in wanted}, ""))
        if whole:
            yield label, [text for _, text in strings]
        else:
            yield from ((f"{label} {place}", [text]) for place, text in strings)


def _strings(value: Any, place: str) -> Iterator[tuple[str, str]]:
    """Yields each string below a JSON value with the way to it."""
    if isinstance(value, str):
        yield place, value
    elif isinstance(value, Mapping):
        for key, inner in value.items():
            if key not in _PROVENANCE:
                yield from _strings(inner, f"{place}.{key}" if place else str(key))
    elif isinstance(value, (list, tuple)):
        for index, inner in enumerate(value):
            yield from _strings(inner, f"{place}[{index}]")


def _records(path: pathlib.Path) -> Iterator[tuple[int, Any]]:
    """Yields (number from 1, record or line)."""
    kind = next((s for s in reversed(path.suffixes) if s not in (".gz", ".zst")), "")
    if kind == ".parquet":
        import pyarrow.parquet as pq

        with pq.ParquetFile(path) as file:
            rows = (row for batch in file.iter_batches() for row in batch.to_pylist())
            yield from enumerate(rows, 1)
        return
    if kind not in (".jsonl", ".ndjson", ".txt"):
        raise ValueError(
            f"{path}: unknown kind of file; evaluation sets are .jsonl, .txt (also .gz, .zst) or "
            ".parquet."
        )
    with open(path, "rb") as raw:
        stream: Any = raw
        if path.suffix == ".gz":
            stream = gzip.GzipFile(fileobj=raw)
        elif path.suffix == ".zst":
            stream = zstandard.ZstdDecompressor().stream_reader(raw, read_across_frames=True)
        for number, line in enumerate(io.BufferedReader(stream), 1):
            try:
                text = line.decode()
                if text.strip():
                    yield number, json.loads(text) if kind != ".txt" else text.strip()
            except ValueError as error:
                raise ValueError(f"{path}:{number}: not readable ({error}).") from error


def _file(name: str) -> pathlib.Path:
    path = pathlib.Path(name)
    if not path.is_file():
        raise ValueError(f"Decontaminate.files: no file {name}; check the path.")
    return path
