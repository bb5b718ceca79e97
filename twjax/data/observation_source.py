"""Annotation files as a seqio source: each record worded, or asked about, in Taiwan's words."""

from __future__ import annotations

import collections
import dataclasses
import functools
import json
import os
import pathlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from twjax import storage
from twjax.corpus import licensing
from twjax.data.chance import Chance
from twjax.data.documents import VALIDATION
from twjax.data.observation_forms import FORMS, observations
from twjax.data.observation_places import Area, areas, guarded
from twjax.data.observation_questions import Question, questions
from twjax.data.observation_stated import Stated
from twjax.data.observation_text import fields
from twjax.data.observations import BadField, Observation, Rejected
from twjax.data.readers import Labelled
from twjax.data.records import FOLDER, RecordSource, share
from twjax.data.source_hash import source_sha256
from twjax.data.templates import field_names, fill
from twjax.progress import say

COLLECTION = "collection.json"

# A wording of a document: clauses, each left out where the record hasn't all that it names.
Document = tuple[str, ...]
Questions = Mapping[str, Sequence[str]]

# Files of one image each can be a hundred thousand: this many shards read them by turns.
_SHARDS = 16


class ObservationSource(RecordSource):
    """Records of a folder of annotation files, or of one file, of one of the forms in `FORMS`.

    Without `asked` an example is a record in one of the wordings `documents`, in its field `text`.
    With it, there are up to `each` questions about a record, drawn by its id: the fields are
    `record`, `description` (its first wording), `question` and `answer`, and there are solved
    examples. `stated` is what the form doesn't say; the folder's `collection.json` goes before it.
    `places` is a file of sensitive places, `licences` one of rows before those of the corpus
    room's table; only licences that are allowed are read. Relative paths begin at
    $TWJAX_RECORDS_DIR. Records stay together by their `group`; those that the form calls anything
    but training are validation.
    """

    def __init__(
        self,
        path: str,
        form: str,
        documents: Sequence[Document],
        asked: Questions | None = None,
        *,
        validation: float = VALIDATION,
        shots: int = 0,
        each: int = 3,
        stated: Stated | None = None,
        places: str = "",
        licences: str = "",
    ):
        if form not in FORMS:
            raise ValueError(
                f"Observations {path}: no form {form!r}; there are {', '.join(FORMS)}."
            )
        super().__init__(path, _unused, validation, shots)
        self.form, self.stated = form, stated or Stated()
        self.documents, self.asked, self.each = tuple(documents), asked, each
        self.places, self.licences = places, licences

    @property
    def identity(self) -> tuple[Any, ...]:
        """All that the source was made with."""
        made = (self.path, self.form, self.documents, self.asked, self.validation, self.shots)
        return (*made, self.each, self.stated, self.places, self.licences)

    @property
    def suffixes(self) -> tuple[str, ...]:
        return tuple(end + gz for end in FORMS[self.form].suffixes for gz in ("", ".gz"))

    @property
    def files(self) -> tuple[pathlib.Path, ...]:
        found = tuple(path for path in super().files if path.name != COLLECTION)
        if not found:
            raise FileNotFoundError(f"{self.path}: nothing but {COLLECTION} here.")
        return found

    def list_shards(self, split: str) -> Sequence[str]:
        return super().list_shards(split)[:_SHARDS]

    def fingerprint(self, split: str) -> dict[str, Any]:
        """Returns what a split's examples depend on, the policies and the code included."""
        found = super().fingerprint(split)
        name = f"{__name__}.{type(self).__name__}"
        extra = [_at(self.places), _at(self.licences), self._collection()]
        found["reader"] = {
            "name": name,
            "source_sha256": source_sha256(name),
            "form": self.form,
            "stated": dataclasses.asdict(self.stated),
            "documents": self.documents,
            "asked": {kind: list(words) for kind, words in (self.asked or {}).items()},
            "each": self.each,
            "beside": [storage.sha256_file(path) if path else "" for path in extra],
        }
        return json.loads(json.dumps(found))

    def left_out(self, split: str) -> list[dict[str, object]]:
        """Returns the records that can't or mustn't be used, each with its reason and place."""
        self._check(split)
        found: list[dict[str, object]] = []
        blurred: collections.Counter[str] = collections.Counter()
        for path in self.files:
            for record, area in self._records(path, split):
                if isinstance(record, Rejected):
                    found.append(record._asdict())
                elif area:
                    blurred[area] += 1
        for area, count in blurred.items():
            say(f"{self.path} ({split}): {count:,} places blurred by {area}")
        return found

    def _examples(self, path: pathlib.Path, split: str) -> Iterator[tuple[str, Labelled]]:
        for record, _ in self._records(path, split):
            if isinstance(record, Observation):
                for example in self._worded(record):
                    yield record.group or record.id, example

    def _records(
        self, path: pathlib.Path, split: str
    ) -> Iterator[tuple[Observation | Rejected, str]]:
        """Yields a split's records as they may be given on, and the areas that blurred them."""
        stated, guard, rules = self._settings()
        for where, record in observations(path, self.form, stated):
            area = ""
            # What can't be read has no id: it belongs to the split that its place hashes to.
            group, own = f"{path.name} {where}", ""
            if isinstance(record, Observation):
                group, own = record.group or record.id, record.split
                try:
                    _licensed(record, rules)
                    record, area = guarded(record, guard)
                except BadField as error:
                    record = Rejected(error.reason, str(path), where, error.field, error.value)
            held_out = (self.validation > 0 and bool(own)) or share(group) < self.validation
            if own and not self.validation:
                record = Rejected("held out by its form", str(path), where, "split", own)
            if held_out == (split == "validation"):
                yield record, area

    def _worded(self, record: Observation) -> Iterator[Labelled]:
        have = fields(record)
        if self.asked is None:
            at = Chance(record.id, 0, "document").below(len(self.documents))
            document = _document(self.documents[at], have)
            yield Labelled(record.id, {"text": document}, (document,))
            return
        possible = [asked for asked in questions(record, have) if asked.kind in self.asked]
        ranks = Chance(record.id, 0, "questions").words(len(possible)).argsort(kind="stable")
        context = {"record": have["record"], "description": _document(self.documents[0], have)}
        for rank in sorted(ranks[: self.each].tolist()):
            yield self._question(record, possible[rank], context)

    def _question(self, record: Observation, asked: Question, context: dict[str, str]) -> Labelled:
        name = f"{record.id}#{asked.kind}"
        assert self.asked is not None
        wordings = self.asked[asked.kind]
        question = fill(wordings[Chance(name, 0, "question").below(len(wordings))], asked.names)
        return Labelled(
            name, context | {"question": question, "answer": asked.answers[0]}, asked.answers
        )

    def _collection(self) -> pathlib.Path | None:
        path = pathlib.Path(os.environ.get(FOLDER, "")) / self.path
        path = (path if path.is_dir() else path.parent) / COLLECTION
        return path if path.is_file() else None

    def _settings(self) -> tuple[Stated, tuple[Area, ...], list[licensing.Rule]]:
        stated = self.stated
        if path := self._collection():
            try:
                given = json.loads(path.read_text(encoding="utf-8-sig"))
                known = {field.name for field in dataclasses.fields(Stated)}
                if not isinstance(given, dict) or set(given) - known:
                    names = ", ".join(sorted(known))
                    raise ValueError(f"a JSON object with some of {names}; saw {given!r}"[:400])
                stated = dataclasses.replace(stated, **given)
            except ValueError as error:
                raise ValueError(f"{path}: {error}.") from None
        places, licences = _at(self.places), _at(self.licences)
        tables = [path for path in (licences, licensing.DEFAULT) if path]
        rules = [rule for path in tables for rule in licensing.parse(path, path.read_bytes())]
        return stated, areas(places) if places else (), rules

    def __repr__(self) -> str:
        what = "documents" if self.asked is None else "questions"
        extra = [f"{name}={value!r}" for name, value in
                 (("places", self.places), ("licences", self.licences)) if value]  # fmt: skip
        return (
            f"ObservationSource({', '.join([repr(self.path), repr(self.form), what, *extra])}, "
            f"validation={self.validation}, shots={self.shots})"
        )


def _licensed(record: Observation, rules: Sequence[licensing.Rule]) -> None:
    if not record.licence:
        raise BadField("licence missing", "license", "")
    verdict = licensing.judge(record.licence, record.source, rules)
    if verdict.decision != "allow":
        reason = {
            "unknown": "licence unknown",
            "refuse": "licence refused",
            "verbatim": "licence forbids changes",
            "flag": "licence to be reviewed",
        }[verdict.decision]
        raise BadField(reason, "license", f"{record.licence}: {verdict.why}")


def _document(clauses: Document, have: Mapping[str, str]) -> str:
    kept = [clause for clause in clauses if _names(clause) <= have.keys()]
    return "".join(fill(clause, have) for clause in kept).strip()


@functools.cache
def _names(clause: str) -> frozenset[str]:
    return frozenset(field_names(clause))


def _at(path: str) -> pathlib.Path | None:
    return pathlib.Path(os.environ.get(FOLDER, "")) / path if path else None


def _unused(record: Mapping[str, Any]) -> Iterator[Labelled]:
    """Takes the place of `RecordSource`'s reader of JSON records."""
    raise NotImplementedError
