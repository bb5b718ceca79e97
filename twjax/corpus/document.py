"""A document, its Parquet schema, and the files that hold documents."""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import errno
import gzip
import json
import os
import pathlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import zstandard

from twjax import storage

SCHEMA = pa.schema(
    [
        pa.field("id", pa.string(), nullable=False),
        pa.field("text", pa.string(), nullable=False),
        pa.field("source", pa.string(), nullable=False),
        pa.field("license", pa.string(), nullable=False),
        pa.field("lang", pa.string(), nullable=False),
        pa.field("url", pa.string()),
        pa.field("created", pa.timestamp("us", tz="UTC")),
        pa.field("meta", pa.map_(pa.string(), pa.string()), nullable=False),
    ]
)
REJECTED_SCHEMA = SCHEMA.append(pa.field("reason", pa.string(), nullable=False)).append(
    pa.field("value", pa.string(), nullable=False)
)

# Columns of a few values; Parquet ignores those that a table lacks.
_REPEATED = ["source", "license", "lang", "reason", "step", "kind"]
# Small enough that a reader of one group needs little memory, whatever the documents' lengths.
_ROW_GROUP_DOCUMENTS = 1024
_ROW_GROUP_BYTES = 16 << 20


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Document:
    """One text and where it comes from.

    `license` is an SPDX identifier or a named statement, `lang` a BCP-47 tag ("zh-TW", "en",
    "und" where unknown); `meta` holds what else the source said, as strings.
    """

    id: str
    text: str
    source: str
    license: str
    lang: str
    url: str | None = None
    created: datetime.datetime | None = None
    meta: dict[str, str] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True, slots=True)
class Rejection:
    """A document that is left out; `value` is what the rule saw."""

    document: Document
    reason: str
    value: str


class Unusable(ValueError):
    """A record that can't become a document; `reason` is counted, `value` says what was seen."""

    def __init__(self, reason: str, value: str = ""):
        super().__init__(f"{reason}: {value}" if value else reason)
        self.reason, self.value = reason, value


_FIELDS = ("id", "text", "source", "license", "lang", "url", "url_or_path", "created", "meta")


def from_record(record: object, name: str) -> Document:
    """Makes a document of one JSON or Parquet record; `name` ("file:line") stands in for no id.

    `url_or_path` is read as `url`; fields that `Document` lacks go to `meta` as strings. Raises
    `Unusable`.
    """
    if not isinstance(record, Mapping):
        raise Unusable("not an object", type(record).__name__)
    text = record.get("text")
    if text is None or text == "":
        raise Unusable("no text")
    if not isinstance(text, str):
        raise Unusable("text is no string", type(text).__name__)
    meta = {key: value for key, value in record.items() if key not in _FIELDS}
    inner = record.get("meta")
    if isinstance(inner, (Mapping, list, tuple)):
        # Arrow gives a map as a list of pairs.
        pairs = inner.items() if isinstance(inner, Mapping) else inner
        try:
            meta.update({str(key): value for key, value in pairs})
        except (TypeError, ValueError):
            meta["meta"] = inner
    elif inner is not None:
        meta["meta"] = inner
    created = _timestamp(record.get("created"))
    if created is None and record.get("created") is not None:
        meta["created"] = record["created"]
    document = Document(
        id=_string(record.get("id")) or name,
        text=text,
        source=_string(record.get("source")) or name.rpartition(":")[0],
        license=_string(record.get("license")) or "unknown",
        lang=_string(record.get("lang")) or "und",
        url=_string(record.get("url")) or _string(record.get("url_or_path")) or None,
        created=created,
        meta={key: _string(meta[key]) for key in sorted(meta) if meta[key] is not None},
    )
    _check_characters(document)
    return document


def _check_characters(document: Document) -> None:
    """NUL and lone surrogates are legal in JSON strings, but not in text."""
    if "\0" in document.text:
        raise Unusable("NUL character", f"at character {document.text.index(chr(0))}")
    values = (document.text, document.id, document.source, document.license, document.lang)
    for value in (*values, document.url or "", *document.meta, *document.meta.values()):
        try:
            value.encode()
        except UnicodeEncodeError as error:
            raise Unusable("lone surrogate", f"at character {error.start}") from None


def _string(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, str):
        return value
    return json.dumps(value, ensure_ascii=False, sort_keys=True, default=str)


def _timestamp(value: object) -> datetime.datetime | None:
    if isinstance(value, str):
        with contextlib.suppress(ValueError):
            value = datetime.datetime.fromisoformat(value)
    if not isinstance(value, datetime.datetime):
        return None
    if value.tzinfo is None:
        return value.replace(tzinfo=datetime.UTC)
    with contextlib.suppress(OverflowError):
        return value.astimezone(datetime.UTC)
    return None


def to_record(document: Document) -> dict[str, Any]:
    """Returns the JSON record from which `from_record` makes an equal document."""
    record = {field.name: getattr(document, field.name) for field in dataclasses.fields(Document)}
    if document.created is not None:
        record["created"] = document.created.isoformat()
    return {key: value for key, value in record.items() if value not in (None, {})}


def to_table(documents: Sequence[Document]) -> pa.Table:
    """Returns documents as an Arrow table of `SCHEMA`."""
    columns = {name: [getattr(d, name) for d in documents] for name in SCHEMA.names}
    columns["meta"] = [sorted(meta.items()) for meta in columns["meta"]]
    return pa.table(columns, schema=SCHEMA)


def rejected_table(rejections: Sequence[Rejection]) -> pa.Table:
    """Returns rejections as an Arrow table of `REJECTED_SCHEMA`."""
    table = to_table([r.document for r in rejections])
    columns = [*table.columns, [r.reason for r in rejections], [r.value for r in rejections]]
    return pa.table(columns, schema=REJECTED_SCHEMA)


def from_table(table: pa.Table) -> list[Document]:
    """Returns the documents of an Arrow table of `SCHEMA`."""
    columns = [table.column(name).to_pylist() for name in SCHEMA.names]
    return [
        Document(
            id=id, text=text, source=source, license=license, lang=lang, url=url, created=created,
            meta=dict(meta),
        )
        for id, text, source, license, lang, url, created, meta in zip(*columns, strict=True)
    ]  # fmt: skip


def write_table(path: str | os.PathLike[str], table: pa.Table) -> None:
    """Writes an Arrow table as Parquet, atomically; equal tables give equal bytes.

    The bytes also depend on the version of pyarrow, which writes its name into the file.
    """
    table = table.combine_chunks()
    average = max(1, table.nbytes // max(1, table.num_rows))
    group = max(1, min(_ROW_GROUP_DOCUMENTS, _ROW_GROUP_BYTES // average))
    with disk_errors(path), storage.atomic_writer(path, "wb") as file:
        pq.write_table(
            table,
            file,
            row_group_size=group,
            version="2.6",
            compression="zstd",
            compression_level=3,
            use_dictionary=_REPEATED,  # type: ignore[arg-type]
            # Bounds of whole texts would only bloat the footer.
            write_statistics=["id", *_REPEATED],  # type: ignore[arg-type]
        )


def write_parquet(path: str | os.PathLike[str], documents: Sequence[Document]) -> None:
    """Writes documents as one Parquet file, atomically."""
    write_table(path, to_table(documents))


def read_parquet(path: str | os.PathLike[str]) -> Iterator[Document]:
    """Yields the documents of a Parquet file that twjax wrote, a row group in memory at a time."""
    with pq.ParquetFile(path) as file:
        for group in range(file.num_row_groups):
            yield from from_table(file.read_row_group(group, columns=SCHEMA.names))


def write_jsonl(path: str | os.PathLike[str], documents: Iterable[Document]) -> None:
    """Writes documents as JSON lines, atomically; `.gz` and `.zst` names are compressed.

    The bytes depend on the documents only: no time of writing, no file name.
    """
    path = pathlib.Path(path)
    with contextlib.ExitStack() as stack:
        stack.enter_context(disk_errors(path))
        out: Any = stack.enter_context(storage.atomic_writer(path, "wb"))
        if path.suffix == ".gz":
            out = stack.enter_context(
                gzip.GzipFile("", "wb", fileobj=out, compresslevel=9, mtime=0)
            )
        elif path.suffix == ".zst":
            compressor = zstandard.ZstdCompressor(level=9)
            out = stack.enter_context(compressor.stream_writer(out, closefd=False))
        for document in documents:
            line = json.dumps(to_record(document), ensure_ascii=False) + "\n"
            out.write(line.encode())


def corpus_shards(folder: str | os.PathLike[str]) -> list[pathlib.Path]:
    """Returns the shard files of a finished corpus folder, in order."""
    folder = pathlib.Path(folder)
    manifest = folder / "manifest.json"
    if not manifest.is_file():
        raise ValueError(
            f"{folder}: no corpus here (manifest.json is missing); build it with "
            "`twjax corpus build CONFIG`."
        )
    paths = [folder / shard["file"] for shard in storage.read_json(manifest)["shards"]]
    for path in paths:
        if not path.is_file():
            raise ValueError(f"{path}: the manifest names this shard, but it is missing.")
    return paths


def read_corpus(folder: str | os.PathLike[str]) -> Iterator[Document]:
    """Yields all documents of a finished corpus folder, in order."""
    for path in corpus_shards(folder):
        yield from read_parquet(path)


@contextlib.contextmanager
def disk_errors(path: str | os.PathLike[str]) -> Iterator[None]:
    """Turns a full disk into one `OSError` that names the file and says what to do."""
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise
        why = "No space left to write this file; finished parts are kept, free some and run again"
        raise OSError(error.errno, why, str(path)) from error
