"""Multiple-choice questions from files: CSV, JSON or JSON lines, a subject a file or all in one."""

from __future__ import annotations

import csv
import dataclasses
import gzip
import io
import json
import pathlib
import re
import string
import unicodedata
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from twjax.config import resolve

LETTERS = string.ascii_uppercase
# What fields are called: TMMLU+, TMLU, MMLU and ARC on the Hugging Face hub, and our own.
_QUESTION = ("question", "Question", "input", "query")
_OPTIONS = ("options", "choices")
_ANSWER = ("answer", "answerKey", "target", "label", "correct_answer")
_SUBJECT = ("subject", "category")
_SUFFIXES = (".csv", ".json", ".jsonl", ".jsonl.gz", ".json.gz", ".csv.gz")
# Of a folder with several splits only what is to be scored is read, or what examples come from.
_SCORED = re.compile(r"[_-]test$")
_SPLIT = re.compile(r"[_-](test|val|validation|dev|train)$")


@dataclasses.dataclass(frozen=True)
class Item:
    """A question; `answer` is the place of the right one among the `options`."""

    id: str
    subject: str
    question: str
    options: tuple[str, ...]
    answer: int


@dataclasses.dataclass(frozen=True)
class Items:
    """The questions of a set in their order, and how many can't be used, by reason."""

    items: tuple[Item, ...]
    unusable: dict[str, int]

    def spread(self, limit: int | None) -> Items:
        """Returns at most `limit` questions, evenly spaced."""
        count = len(self.items)
        if limit is None or limit >= count:
            return self
        return Items(tuple(self.items[i * count // limit] for i in range(limit)), self.unusable)


def read_items(path: str | pathlib.Path, field: str, *, examples: bool = False) -> Items:
    """Reads a set of questions; `field` is the setting that names it.

    `examples` takes a folder's development or training files instead of its test files. A question
    without exactly one right answer can't be used. Raises ValueError where a file can't be read as
    a set, or no question can be used.
    """
    items: list[Item] = []
    unusable: Counter[str] = Counter()
    place = pathlib.Path(path)
    files = _files(place, field, examples) if place.is_dir() else [_found(place, field)]
    for file in files:
        subject = _SPLIT.sub("", _stem(file)) if place.is_dir() else ""
        for number, record in _records(file, field):
            try:
                items.append(_item(record, f"{_stem(file)}:{number}", subject))
            except _Unusable as error:
                unusable[str(error)] += 1
    if not items:
        reasons = ", ".join(f"{reason}: {count}" for reason, count in unusable.items())
        raise ValueError(
            f"{field}: {path} has no question that can be used ({reasons or 'it is empty'}). A "
            "question needs the fields question, options (or A, B, C, …) and answer."
        )
    return Items(tuple(items), dict(unusable))


class _Unusable(Exception):
    """Why a record is no question."""


def _found(path: pathlib.Path, field: str) -> pathlib.Path:
    try:
        return resolve(path)
    except ValueError:
        raise FileNotFoundError(f"{field}: no file or folder {path}.") from None


def _stem(file: pathlib.Path) -> str:
    return file.name.removesuffix(".gz").rpartition(".")[0]


def _files(folder: pathlib.Path, field: str, examples: bool) -> list[pathlib.Path]:
    files = sorted(f for f in folder.rglob("*") if f.name.endswith(_SUFFIXES))
    if not files:
        raise FileNotFoundError(f"{field}: {folder} has no file that ends in {_SUFFIXES}.")
    scored = [f for f in files if _SCORED.search(_stem(f))]
    others = [f for f in files if _SPLIT.search(_stem(f)) and f not in scored]
    if examples:
        return others or files
    return scored or [f for f in files if f not in others] or files


def _records(file: pathlib.Path, field: str) -> Iterator[tuple[int, Mapping[str, Any]]]:
    """Yields (number, record); a line that holds none is an error of the file."""
    try:
        data = file.read_bytes()
        text = (gzip.decompress(data) if file.suffix == ".gz" else data).decode("utf-8-sig")
    except (UnicodeDecodeError, EOFError, gzip.BadGzipFile) as error:
        raise ValueError(f"{field}: {file} is damaged or isn't UTF-8 ({error}).") from error
    name = file.name.removesuffix(".gz")
    if name.endswith(".csv"):
        yield from _rows(text)
        return
    number = 1
    try:
        if name.endswith(".json"):
            whole = json.loads(text)
            whole = whole.get("data", whole) if isinstance(whole, dict) else whole
            if not isinstance(whole, list):
                raise ValueError("it is no list of questions")
            records: Any = enumerate(whole, start=1)
        else:
            lines = enumerate(text.split("\n"), start=1)
            records = ((n, line) for n, line in lines if line.strip())
        for number, record in records:
            if isinstance(record, str):
                record = json.loads(record)
            if not isinstance(record, dict):
                raise ValueError(f"{str(record)[:60]!r} is no object")
            yield number, record
    except ValueError as error:
        raise ValueError(f"{field}: {file}:{number}: {error}.") from error


def _rows(text: str) -> Iterator[tuple[int, Mapping[str, Any]]]:
    rows = [row for row in csv.reader(io.StringIO(text, newline="")) if any(row)]
    if not rows:
        return
    header = [cell.strip() for cell in rows[0]]
    if not set(header) & set(_QUESTION):
        # MMLU's own files have no header: question, options, answer.
        header = ["question", *LETTERS[: len(rows[0]) - 2], "answer"]
        rows.insert(0, header)
    for number, row in enumerate(rows[1:], start=2):
        yield number, dict(zip(header, row, strict=False))


def _item(record: Mapping[str, Any], place: str, subject: str) -> Item:
    question = next((record[name] for name in _QUESTION if record.get(name)), None)
    if not isinstance(question, str) or not question.strip():
        raise _Unusable("no question")
    labels, options = _options(record)
    if len(options) < 2:
        raise _Unusable("fewer than two options")
    if len(options) > len(LETTERS):
        raise _Unusable(f"more than {len(LETTERS)} options")
    named = (record.get(name) for name in _SUBJECT)
    return Item(
        id=str(record.get("id", place)),
        subject=next((str(name) for name in named if name), subject),
        question=question.strip(),
        options=tuple(options),
        answer=_answer(record, labels, options),
    )


def _options(record: Mapping[str, Any]) -> tuple[list[str], list[str]]:
    """Returns the labels and the texts of a record's options."""
    options = next((record[name] for name in _OPTIONS if record.get(name)), None)
    if options is None:
        pairs = [(c, record[c]) for c in LETTERS if record.get(c) not in (None, "")]
    elif isinstance(options, Mapping) and {"text", "label"} <= options.keys():
        pairs = list(zip(options["label"], options["text"], strict=True))
    elif isinstance(options, Mapping):
        pairs = list(options.items())
    elif isinstance(options, Sequence) and not isinstance(options, str):
        pairs = list(zip(LETTERS, options, strict=False))
    else:
        raise _Unusable("options are neither a list nor named")
    return [str(label).strip() for label, _ in pairs], [str(text).strip() for _, text in pairs]


def _answer(record: Mapping[str, Any], labels: Sequence[str], options: Sequence[str]) -> int:
    answer = next((record[name] for name in _ANSWER if record.get(name) not in (None, "")), None)
    if answer is None:
        raise _Unusable("no answer")
    if isinstance(answer, int) and not isinstance(answer, bool):
        # A number counts from 0, as on the Hugging Face hub.
        if 0 <= answer < len(options):
            return answer
        raise _Unusable("the answer is no option")
    # Examinations in Taiwan give letters in full width.
    text = unicodedata.normalize("NFKC", str(answer)).strip()
    for known, wanted in (
        (labels, text),
        ([label.upper() for label in labels], text.upper()),
        (options, str(answer).strip()),
    ):
        if list(known).count(wanted) == 1:
            return list(known).index(wanted)
    # Where a question proves wrong, several answers or all of them are given their marks.
    several = set(text) & set(labels)
    both = len(several) > 1 or "給分" in text or "送分" in text
    raise _Unusable("more than one answer" if both else "the answer is no option")
