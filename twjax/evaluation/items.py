"""Multiple-choice questions from files: CSV, JSON or JSON lines, a subject a file or all in one."""

from __future__ import annotations

import csv
import dataclasses
import gzip
import io
import itertools
import json
import pathlib
import re
import string
import unicodedata
import zlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal, NamedTuple

from twjax.config import resolve

LETTERS = string.ascii_uppercase
# What fields are called: TMMLU+, TMLU, MMLU and ARC on the Hugging Face hub, and our own.
_QUESTION = ("question", "Question", "input", "query")
_OPTIONS = ("options", "choices")
_ANSWER = ("answer", "answerKey", "target", "label", "correct_answer")
_SUBJECT = ("subject", "category")
_SUFFIXES = (".csv", ".json", ".jsonl", ".jsonl.gz", ".json.gz", ".csv.gz")
# Of a folder with several splits only what is to be scored is read, or what examples come from.
_SPLITS = ("test", "validation", "valid", "val", "dev", "train")
_SPLIT = re.compile(rf"(?:^|[_-])({'|'.join(_SPLITS)})(?:-\d+-of-\d+)?$", re.IGNORECASE)
# What is scored, in order of preference; "" are files that name no split.
_SCORED = (("test",), ("",), ("validation", "valid", "val"))
# How a file's answers are to be read: each by itself, or all as numbers, or texts, or not at all.
_Reading = Literal["each", "numbers", "texts", "unclear"]


@dataclasses.dataclass(frozen=True)
class Item:
    """A question; `answer` is the place of the right one among the `options`."""

    id: str
    subject: str
    question: str
    options: tuple[str, ...]
    answer: int

    @property
    def content(self) -> tuple[str, frozenset[str]]:
        """What two copies of a question have alike, wherever they stand and in whatever width."""
        return _plain(self.question), frozenset(map(_plain, self.options))


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
    files = _files(place, field, examples) if place.is_dir() else [_File(_found(place, field))]
    for file in files:
        drafts: list[_Draft] = []
        for number, record in _records(file.path, field):
            try:
                drafts.append(_draft(record, f"{file.name}:{number}", file.subject))
            except _Unusable as error:
                unusable[str(error)] += 1
        reading = _reading(drafts, f"{field}: {file.path}")
        for draft in drafts:
            try:
                items.append(draft.item(reading))
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


class _File(NamedTuple):
    """A file of questions; in a folder of several it may be of one split and one subject."""

    path: pathlib.Path
    folder: pathlib.Path | None = None

    @property
    def name(self) -> str:
        """The path below the folder, without endings."""
        path = self.path.relative_to(self.folder) if self.folder else pathlib.Path(self.path.name)
        return str(path).removesuffix(".gz").rpartition(".")[0]

    @property
    def split(self) -> str:
        """What the file's name says, or a folder's above it; "" where none does."""
        *above, stem = pathlib.PurePath(self.name).parts
        if match := _SPLIT.search(stem):
            return match[1].lower()
        return next((name.lower() for name in reversed(above) if name.lower() in _SPLITS), "")

    @property
    def subject(self) -> str:
        """The file's name without its split, or the folder's where nothing is left."""
        if self.folder is None:
            return ""
        *above, stem = pathlib.PurePath(self.name).parts
        # What else folders are called on the Hugging Face hub.
        names = [name for name in above if name.lower() not in (*_SPLITS, "data")]
        return _SPLIT.sub("", stem) or (names[-1] if names else "")


def _files(folder: pathlib.Path, field: str, examples: bool) -> list[_File]:
    paths = sorted(path for path in folder.rglob("*") if path.name.endswith(_SUFFIXES))
    if not paths:
        raise FileNotFoundError(f"{field}: {folder} has no file that ends in {_SUFFIXES}.")
    files = [_File(path, folder) for path in paths]
    found = ([file for file in files if file.split in names] for names in _SCORED)
    scored = next((some for some in found if some), files)
    if examples:
        return [file for file in files if file.split and file not in scored] or files
    return scored


def _records(file: pathlib.Path, field: str) -> Iterator[tuple[int, Mapping[str, Any]]]:
    """Yields (number, record); a line that holds none is an error of the file."""
    try:
        data = file.read_bytes()
        text = (gzip.decompress(data) if file.suffix == ".gz" else data).decode("utf-8-sig")
    except (UnicodeDecodeError, EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise ValueError(f"{field}: {file} is damaged or isn't UTF-8 ({error}).") from error
    name = file.name.removesuffix(".gz")
    if name.endswith(".csv"):
        yield from _rows(text, f"{field}: {file}")
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


def _rows(text: str, where: str) -> Iterator[tuple[int, Mapping[str, Any]]]:
    reader = csv.reader(io.StringIO(text, newline=""))
    try:
        rows = [row for row in reader if any(row)]
    except csv.Error as error:
        raise ValueError(f"{where}:{reader.line_num}: {error}.") from error
    if not rows:
        return
    header = [cell.strip() for cell in rows[0]]
    if not set(header) & set(_QUESTION):
        # MMLU's own files have no header: question, options, answer.
        header = ["question", *LETTERS[: len(rows[0]) - 2], "answer"]
        rows.insert(0, header)
    for number, row in enumerate(rows[1:], start=2):
        yield number, dict(zip(header, row, strict=False))


class _Draft(NamedTuple):
    """A question whose answer is as it was written."""

    id: str
    subject: str
    question: str
    labels: list[str]
    options: list[str]
    written: Any

    @property
    def text(self) -> str:
        """The answer; examinations in Taiwan give letters in full width."""
        return unicodedata.normalize("NFKC", str(self.written)).strip()

    @property
    def typed(self) -> bool:
        """Whether the answer is a number by its type."""
        return isinstance(self.written, int) and not isinstance(self.written, bool)

    @property
    def number(self) -> int | None:
        """The answer as a number, where it is one and no label."""
        if self.typed:
            return self.written
        number = re.fullmatch(r"[0-9]+", self.text)
        return int(self.text) if number and self.text not in self.labels else None

    @property
    def same(self) -> int | None:
        """The place of the only option whose text the answer is."""
        text = str(self.written).strip()
        return self.options.index(text) if self.options.count(text) == 1 else None

    def item(self, reading: _Reading) -> Item:
        """Returns the question; raises _Unusable without exactly one right answer."""
        answer = self._answer(reading)
        return Item(self.id, self.subject, self.question, tuple(self.options), answer)

    def _answer(self, reading: _Reading) -> int:
        if reading == "unclear":
            raise _Unusable("the answer may be a number or an option's text")
        if self.typed or reading == "numbers":
            # A number counts from 0, as on the Hugging Face hub.
            if self.number is not None and 0 <= self.number < len(self.options):
                return self.number
            raise _Unusable("the answer is no option")
        text, upper = self.text, [label.upper() for label in self.labels]
        for known, wanted in ((self.labels, text), (upper, text.upper())):
            if known.count(wanted) == 1:
                return known.index(wanted)
        if self.same is not None:
            return self.same
        # Where a question proves wrong, several answers or all of them are given their marks.
        several = set(text) & set(self.labels)
        both = len(several) > 1 or "給分" in text or "送分" in text
        raise _Unusable("more than one answer" if both else "the answer is no option")


def _reading(drafts: Sequence[_Draft], where: str) -> _Reading:
    """Returns how a file's answers are to be read; CSV has texts alone, and "2" may be either.

    Raises ValueError for numbers that count from 1.
    """
    numbers = [draft.number for draft in drafts]
    if not drafts or None in numbers:
        return "each"
    pairs = [(n, draft) for n, draft in zip(numbers, drafts, strict=True) if n is not None]
    texts = all(not draft.typed and draft.same is not None for draft in drafts)
    if texts:
        places = all(n < len(draft.options) for n, draft in pairs)
        alike = all(n == draft.same for n, draft in pairs)
        return "texts" if alike or not places else "unclear"
    if 0 not in numbers and any(n == len(draft.options) for n, draft in pairs):
        raise ValueError(
            f"{where}: its answers are numbers that seem to count from 1: none is 0, and some are "
            "the number of options. Write them from 0, or as letters."
        )
    return "numbers"


def _draft(record: Mapping[str, Any], place: str, subject: str) -> _Draft:
    question = next((record[name] for name in _QUESTION if record.get(name)), None)
    if not isinstance(question, str) or not question.strip():
        raise _Unusable("no question")
    labels, options = _options(record)
    if len(options) < 2:
        raise _Unusable("fewer than two options")
    if len(options) > len(LETTERS):
        raise _Unusable(f"more than {len(LETTERS)} options")
    if "" in options:
        raise _Unusable("an option without text")
    answer = next((record[name] for name in _ANSWER if record.get(name) not in (None, "")), None)
    if answer is None:
        raise _Unusable("no answer")
    named = (record.get(name) for name in _SUBJECT)
    return _Draft(
        id=str(record.get("id", place)),
        subject=next((str(name) for name in named if name), subject),
        question=question.strip(),
        labels=labels,
        options=options,
        written=answer,
    )


def _options(record: Mapping[str, Any]) -> tuple[list[str], list[str]]:
    """Returns the labels and the texts of a record's options."""
    options = next((record[name] for name in _OPTIONS if record.get(name)), None)
    if options is None:
        columns = itertools.takewhile(record.__contains__, LETTERS)
        texts = [_text(record[letter]) for letter in columns]
        # A question may have fewer options than the file has columns.
        while texts and not texts[-1]:
            texts.pop()
        labels = list(LETTERS[: len(texts)])
    elif isinstance(options, Mapping) and {"text", "label"} <= options.keys():
        labels, texts = list(options["label"]), list(options["text"])
    elif isinstance(options, Mapping):
        labels, texts = list(options), list(options.values())
    elif isinstance(options, Sequence) and not isinstance(options, str):
        labels, texts = list(LETTERS[: len(options)]), list(options)
        labels += [""] * (len(texts) - len(labels))
    else:
        raise _Unusable("options are neither a list nor named")
    if len(labels) != len(texts):
        raise _Unusable("options and their labels differ in number")
    return [_text(label) for label in labels], [_text(text) for text in texts]


def _text(value: Any) -> str:
    return "" if value is None else str(value).strip()


def _plain(text: str) -> str:
    return "".join(unicodedata.normalize("NFKC", text).split())
