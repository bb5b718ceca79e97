"""Evaluation sets read as items that texts may hold, whatever the form of the file.

A set is JSON lines, one JSON list or object, CSV or TSV, text with one item a line (all of them
also .gz, .zst), or Parquet.
"""

from __future__ import annotations

import csv
import dataclasses
import gzip
import io
import itertools
import json
import pathlib
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import zstandard

from twjax import storage
from twjax.corpus.duplicates.index import Item, weights

# What a record says about itself is no part of the item.
_PROVENANCE = ("id", "source", "license", "lang", "url", "url_or_path", "created", "meta")
_QUESTION = ("question", "problem", "query", "input", "題目", "問題", "試題")
_OPTIONS = ("options", "choices", "選項")
_LETTER = re.compile(r"(?:選項|option[ _]?)?\(?([A-J])\)?", re.IGNORECASE)
_OTHER_SPLIT = re.compile(r"[_-](val|validation|dev|train)$")
# A question, and any other string of a record, stands alone if it weighs so much (`weights`):
# "Which of the following is true?" is no item.
_QUESTION_ALONE, _ALONE = 13, 22
_LINES, _WHOLE, _TABLES = (".jsonl", ".ndjson", ".txt"), (".json",), (".csv", ".tsv")


def read_set(name: str) -> list[Item]:
    """Returns the items of a set, each a record, named by file and id or number.

    Of a folder all files are read but those of other splits (`_dev`, `_val`, `_train`).

    A record with a question and its options (a mapping, a list, {"text": …, "label": …}, or
    columns A, B, …) has these forms: the question; the question with its options behind it; the
    same with the options' letters. Of any other record each string is a form that says as much as
    22 Han characters, or if there is none, all its strings together. A probe (`prompt`, and a list
    `right`) has the prompt with each right answer.
    """
    folder = pathlib.Path(name)
    if folder.is_dir():
        # Several files below may have one name: with the way to each, no two items have.
        found = [
            dataclasses.replace(
                item, name=f"{path.relative_to(folder)}{item.name.removeprefix(path.name)}"
            )
            for path in _inside(folder)
            for item in read_set(str(path))
        ]
        if not found:
            raise ValueError(f"{name}: this folder has no evaluation set.")
        return found
    path = existing(name)
    found = []
    for number, record in records(path):
        if isinstance(record, str):
            found.append(Item(f"{path.name}:{number}", ((record,),)))
            continue
        label = f"{path.name}:{_mapping(path, number, record).get('id') or number}"
        found.append(Item(label, tuple((form,) for form in forms(record))))
    if not found:
        raise ValueError(f"{path}: holds no items.")
    return found


def set_sha256(name: str) -> str:
    """Returns what tells a set's files from others: of a folder, names and bytes of what is read.

    ValueError if there is no such file.
    """
    folder = pathlib.Path(name)
    if not folder.is_dir():
        return storage.sha256_file(existing(name))
    files = {path.relative_to(folder).as_posix(): path for path in _inside(folder)}
    return storage.sha256_json({path: storage.sha256_file(file) for path, file in files.items()})


def forms(record: Mapping[str, Any]) -> list[str]:
    """Returns the texts of which each is the record's item."""
    keys = {str(key).strip().lower(): key for key in record}
    question = next((record[keys[name]] for name in _QUESTION if name in keys), None)
    options = _options(record, keys)
    if isinstance(question, str) and options:
        lettered = "\n".join(f"({name}) {text}" for name, text in options)
        plain = "\n".join(text for _, text in options)
        passages = [record[keys[name]] for name in ("passage", "context") if name in keys]
        alone = [question] if weights([question])[0] >= _QUESTION_ALONE else []
        alone += _alone([text for text in passages if isinstance(text, str)])
        return [*alone, f"{question}\n{plain}", f"{question}\n{lettered}"]
    if isinstance(record.get("prompt"), str) and isinstance(record.get("right"), list):
        return [f"{record['prompt']}{answer}" for answer in record["right"]]
    strings = [text for _, text in _strings(record, "") if text.strip()]
    return _alone(strings) or ["\n".join(strings)]


def _inside(folder: pathlib.Path) -> list[pathlib.Path]:
    """Returns the files of a set that is a folder, at any depth."""
    known = (*_LINES, *_WHOLE, *_TABLES, ".parquet")
    files = [p for p in sorted(folder.rglob("*")) if p.is_file() and _kind(p) in known]
    return [p for p in files if not _OTHER_SPLIT.search(p.name.partition(".")[0])] or files


def _kind(path: pathlib.Path) -> str:
    return next((s for s in reversed(path.suffixes) if s not in (".gz", ".zst")), "")


def _alone(strings: Sequence[str]) -> list[str]:
    """Returns the strings that say enough to be looked for alone."""
    says = weights(strings).tolist()
    return [text for text, weight in zip(strings, says, strict=True) if weight >= _ALONE]


def _options(record: Mapping[str, Any], keys: Mapping[str, str]) -> list[tuple[str, str]]:
    """Returns (letter, text) of the options of a record, none if it has none."""
    given = next((record[keys[name]] for name in _OPTIONS if name in keys), None)
    if isinstance(given, Mapping) and isinstance(given.get("text"), Sequence):
        given = given["text"]
    if isinstance(given, Mapping):
        return [(str(name), str(text)) for name, text in given.items() if text is not None]
    if isinstance(given, Sequence) and not isinstance(given, str):
        texts = [str(text["text"] if isinstance(text, Mapping) else text) for text in given]
        return [(chr(ord("A") + place), text) for place, text in enumerate(texts)]
    matches = [(_LETTER.fullmatch(name), record[key]) for name, key in keys.items()]
    return [(m[1].upper(), str(t)) for m, t in matches if m and t is not None and str(t).strip()]


def read_strings(
    name: str, fields: Sequence[str] = (), whole: bool = True
) -> Iterator[tuple[str, list[str]]]:
    """Yields (file:id, strings) for each record, or (file:id field, [string]) for each string."""
    path = existing(name)
    for number, record in records(path):
        if isinstance(record, str):
            yield f"{path.name}:{number}", [record]
            continue
        if missing := [f for f in fields if f not in _mapping(path, number, record)]:
            raise ValueError(
                f"{path}:{number}: no field {missing[0]!r}; Decontaminate.fields must name fields "
                f"of each record, which has {', '.join(map(str, record))}."
            )
        label = f"{path.name}:{_mapping(path, number, record).get('id') or number}"
        wanted = fields or [key for key in record if key not in _PROVENANCE]
        strings = list(_strings({key: record[key] for key in wanted}, ""))
        if whole:
            yield label, [text for _, text in strings]
        else:
            yield from ((f"{label} {place}", [text]) for place, text in strings)


def _mapping(path: pathlib.Path, number: int, record: Any) -> Mapping[str, Any]:
    if not isinstance(record, Mapping):
        raise ValueError(f"{path}:{number}: an item must be an object, not {record!r:.40}.")
    return record


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


def records(path: pathlib.Path) -> Iterator[tuple[int, Any]]:
    """Yields (number from 1, record or line)."""
    kind = _kind(path)
    if kind == ".parquet":
        import pyarrow.parquet as pq

        with pq.ParquetFile(path) as file:
            rows = (row for batch in file.iter_batches() for row in batch.to_pylist())
            yield from enumerate(rows, 1)
        return
    if kind not in (*_LINES, *_WHOLE, *_TABLES):
        raise ValueError(
            f"{path}: unknown kind of file; evaluation sets are "
            f"{', '.join((*_LINES, *_WHOLE, *_TABLES))} (also .gz, .zst) or .parquet."
        )
    with open(path, "rb") as raw:
        stream: Any = raw
        if path.suffix == ".gz":
            stream = gzip.GzipFile(fileobj=raw)
        elif path.suffix == ".zst":
            stream = zstandard.ZstdDecompressor().stream_reader(raw, read_across_frames=True)
        buffered = io.BufferedReader(stream)
        if kind in _LINES:
            yield from _lines(path, buffered, kind)
            return
        try:
            text = buffered.read().decode("utf-8-sig")
            rows = _listed(json.loads(text)) if kind in _WHOLE else _table(text, kind)
        except (ValueError, csv.Error) as error:
            raise ValueError(f"{path}: not readable ({error}).") from error
        yield from enumerate(rows, 1)


def _lines(path: pathlib.Path, stream: io.BufferedReader, kind: str) -> Iterator[tuple[int, Any]]:
    for number, line in enumerate(stream, 1):
        try:
            text = line.decode("utf-8-sig")
            if text.strip():
                yield number, json.loads(text) if kind != ".txt" else text.strip()
        except ValueError as error:
            raise ValueError(f"{path}:{number}: not readable ({error}).") from error


def _listed(value: Any) -> list[Any]:
    """Returns the records of a JSON file: a list, or the lists that an object has, or itself."""
    if isinstance(value, list):
        return value
    if not isinstance(value, dict):
        raise ValueError(f"a list or an object is expected, not {type(value).__name__}")
    lists = [inner for inner in value.values() if isinstance(inner, list)]
    return list(itertools.chain.from_iterable(lists)) or [value]


def _table(text: str, kind: str) -> list[dict[str, Any]]:
    """Returns the records of a table; one without names of columns is MMLU's: question, A, B, …."""
    rows = list(
        csv.reader(io.StringIO(text, newline=""), delimiter="\t" if kind == ".tsv" else ",")
    )
    rows = [row for row in rows if any(cell.strip() for cell in row)]
    if not rows:
        return []
    last = rows[0][-1].strip()
    if len(rows[0]) >= 4 and len(last) == 1 and "A" <= last <= "J":
        letters = [chr(ord("A") + place) for place in range(len(rows[0]) - 2)]
        return [dict(zip(["question", *letters, "answer"], row, strict=False)) for row in rows]
    names, *rest = rows
    return [dict(zip(names, row, strict=False)) for row in rest]


def existing(name: str) -> pathlib.Path:
    """Returns the path of an evaluation set; ValueError if there is no such file."""
    path = pathlib.Path(name)
    if not path.is_file():
        raise ValueError(f"Evaluation items: no file {name}; check the path.")
    return path
