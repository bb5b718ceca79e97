"""Which files are read how: kinds of files, and what a configuration says about them."""

from __future__ import annotations

import dataclasses
import functools
import os
import pathlib
import string
from collections.abc import Mapping
from typing import Literal

from twjax.corpus.document import Unusable
from twjax.corpus.sources import bitext, streams, tfds, warc

Kind = Literal[
    "jsonl", "parquet", "text", "html", "markdown", "akoma", "warc", "po", "tmx", "csv", "tsv",
    "tfds",
]  # fmt: skip

SUFFIXES: Mapping[str, Kind] = {
    ".jsonl": "jsonl", ".ndjson": "jsonl", ".parquet": "parquet", ".txt": "text", ".text": "text",
    ".html": "html", ".htm": "html", ".shtml": "html", ".xhtml": "html", ".md": "markdown",
    ".markdown": "markdown", ".warc": "warc", ".po": "po", ".pot": "po", ".tmx": "tmx",
    ".csv": "csv", ".tsv": "tsv", ".tab": "tsv", ".an.xml": "akoma", ".akn": "akoma",
}  # fmt: skip
_CUTTERS: Mapping[Kind, streams.Cutter] = {
    "jsonl": streams.line_ends, "tsv": streams.line_ends, "csv": streams.row_ends,
    "tmx": streams.unit_ends, "warc": warc.record_ends,
}  # fmt: skip


@dataclasses.dataclass(frozen=True, kw_only=True)
class Source:
    """Inputs and what is known about them.

    `path` is a file, a folder (all files below it, in order of their names), a name with wildcards,
    a URL of fsspec, or a dataset of TFDS (see `tfds`). `kind` overrides what file names say (""
    takes names). `source`, `license`, `lang` and `url` stand in where a record has none; `encoding`
    is the charset that was declared, a prior for detection. `text` names the field of records that
    holds the text, or is a template of several ("{question}\\n{answer}"). Records with a list
    `pairs` of objects of texts by language, or with such texts as fields if `sides` are given,
    become bitext (see `bitext`).

    `unit` says whether a text or bitext file is a document ("file") or each of its lines or units
    is ("unit"); `units` groups so many bitext units into a document (0: all). `sides` are the
    languages or columns of bitext, in the order of the document. `extraction` is how boilerplate
    leaves pages (see `markup`). `bad` says whether input that can't be read is put into quarantine
    and counted, or ends the build.
    """

    path: str = ""
    kind: str = ""
    source: str = ""
    license: str = ""
    lang: str = ""
    url: str = ""
    encoding: str = ""
    text: str = "text"
    unit: Literal["file", "unit"] = "file"
    units: int = 0
    sides: tuple[str, ...] = ()
    extraction: Literal["frame", "main", "all"] = "frame"
    bad: Literal["quarantine", "stop"] = "quarantine"

    def __post_init__(self) -> None:
        allowed = {
            "kind": ("", *dict.fromkeys(SUFFIXES.values())), "unit": ("file", "unit"),
            "extraction": ("frame", "main", "all"), "bad": ("quarantine", "stop"),
        }  # fmt: skip
        for field, values in allowed.items():
            value = getattr(self, field)
            if value not in values:
                choices = ", ".join(repr(v) for v in values)
                raise ValueError(f"Source.{field} ({value!r}) must be one of {choices}.")
        if self.units < 0:
            raise ValueError(f"Source.units ({self.units}) must not be negative.")
        if len(self.sides) == 1:
            raise ValueError(f"Source.sides ({self.sides[0]!r}) names one side; bitext has two.")
        if "{" in self.text:
            _fields(self.text)
        object.__setattr__(self, "sides", tuple(self.sides))


def kind_of(path: str | os.PathLike[str], source: Source) -> Kind | None:
    """Returns how a file is read; None for a name that says nothing."""
    if tfds.is_dataset(path):
        return "tfds"
    if source.kind:
        return source.kind  # type: ignore[return-value]
    name = pathlib.PurePosixPath(str(path).split("::")[0])
    if name.suffix.lower() in streams.COMPRESSIONS:
        name = name.with_suffix("")
    if len(name.suffixes) > 1 and (kind := SUFFIXES.get("".join(name.suffixes[-2:]).lower())):
        return kind
    return SUFFIXES.get(name.suffix.lower())


def cutter(kind: Kind, source: Source) -> streams.Cutter:
    """Returns where files of a kind may be cut."""
    if kind == "text" and source.unit == "unit":
        return streams.line_ends
    return _CUTTERS.get(kind, streams.whole)


def record_text(record: Mapping[str, object], source: Source) -> dict[str, object]:
    """Returns a record with its text under "text", and what the source knows where it lacks it.

    Raises `Unusable` for a record without the fields that the text is made of.
    """
    made: dict[str, object] = dict(record)
    if "{" in source.text:
        fields = _fields(source.text)
        missing = [name for name in fields if not isinstance(record.get(name), (str, int, float))]
        if missing:
            raise Unusable("no text", f"no {', '.join(missing)}")
        made["text"] = source.text.format_map({name: record[name] for name in fields})
    elif source.text != "text":
        made["text"] = made.pop(source.text, None)
    elif not made.get("text") and ("pairs" in record or source.sides):
        # A record without pairs may be one itself, a field a language.
        units = bitext.from_pairs(made.pop("pairs", [record]))
        sides = tuple(bitext.tag(side) for side in source.sides) or bitext.languages(units)
        composed = bitext.compose(units, sides)
        if composed is None:
            raise Unusable("no text", f"no unit has {' and '.join(sides) or 'any language'}")
        made["text"], meta = composed
        made |= meta
    for field in ("source", "license", "lang", "url"):
        if not made.get(field) and getattr(source, field):
            made[field] = getattr(source, field)
    if made.get("url_or_path") and not record.get("url"):
        made.pop("url", None)
    return made


@functools.lru_cache(maxsize=64)
def _fields(template: str) -> tuple[str, ...]:
    names = [name for _, name, _, _ in string.Formatter().parse(template) if name is not None]
    if not all(name.isidentifier() for name in names):
        raise ValueError(f"Source.text ({template!r}) has a field without a plain name.")
    return tuple(dict.fromkeys(names))
