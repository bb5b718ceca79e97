"""Input files in pieces that workers parse; what can't be read is quarantined with its place.

A piece depends on the file's bytes only, never on who reads it: a run of whole records of a file
(decompressed by the reader, parsed by the worker), rows of a Parquet file, or several small files
of a folder.
"""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Iterator

import pyarrow as pa
import pyarrow.parquet as pq

from twjax.corpus.document import Document, Rejection, Unusable, from_record
from twjax.corpus.sources import formats, places, records, streams, tfds
from twjax.corpus.sources.formats import Source

PIECE_BYTES = 4 << 20
# Rows are read so many bytes at a time: row groups of other writers may be gigabytes.
_ROW_BYTES = 64 << 20
_ROWS = 1024
_MEMBERS = 1000
# A broken line may be a broken file of gigabytes; its beginning is enough to find it.
_QUARANTINE_CHARACTERS = 20_000
_ANY = Source()


@dataclasses.dataclass(frozen=True)
class Piece:
    """A part of an input: `data` from line (or record) `first_line`, rows of a row group, or files.

    `rows` (start, stop) are those of `row_group`, or examples of a dataset; None means all of it.
    `members` are pieces of a folder's files. `header` is the first line of a table. `damage` says
    why the file ends behind this piece, when it ends too early, `refused` (reason, value) why
    something in it isn't read;
    `consumed` is how many bytes of the file it took, for progress.
    """

    name: str
    path: str
    first_line: int = 1
    data: bytes | None = None
    row_group: int = 0
    damage: str | None = None
    consumed: int = 0
    kind: formats.Kind = "jsonl"
    source: Source = _ANY
    header: bytes = b""
    rows: tuple[int, int] | None = None
    refused: tuple[str, str] | None = None
    members: tuple[Piece, ...] = ()


def check_format(path: str | os.PathLike[str], source: Source = _ANY) -> None:
    """Raises for a file name that `pieces` doesn't read; folders are fine."""
    if tfds.is_dataset(path):
        tfds.check(str(path), source.text)
        return
    if formats.kind_of(path, source) is None and places.members(path) is None:
        raise ValueError(
            f"{path}: unknown kind of file; inputs are {', '.join(formats.SUFFIXES)}, these with "
            f"{', '.join(streams.COMPRESSIONS)}, or set Source.kind."
        )


def pieces(
    name: str, path: str | os.PathLike[str], piece_bytes: int, source: Source = _ANY
) -> Iterator[Piece]:
    """Cuts a file or folder into pieces of about `piece_bytes`; records call it `name`."""
    inside = places.members(path)
    if inside is None:
        yield from _file(name, path, piece_bytes, source)
        return
    group: list[Piece] = []
    size = 0
    for below, place in inside:
        for piece in _file(f"{name.rstrip('/')}/{below}", place, piece_bytes, source):
            group.append(piece)
            size += len(piece.data) if piece.data is not None else piece_bytes
            if size >= piece_bytes or len(group) >= _MEMBERS:
                yield _grouped(name, path, group)
                group, size = [], 0
    if group:
        yield _grouped(name, path, group)


def _grouped(name: str, path: str | os.PathLike[str], group: list[Piece]) -> Piece:
    consumed = sum(piece.consumed for piece in group)
    return Piece(name, str(path), data=b"", consumed=consumed, members=tuple(group))


def _file(
    name: str, path: str | os.PathLike[str], piece_bytes: int, source: Source
) -> Iterator[Piece]:
    kind = formats.kind_of(path, source)
    if kind is None:
        refused = ("unknown kind of file", os.path.basename(str(path)))
        size = places.size(path)
        yield Piece(name, str(path), data=b"", refused=refused, consumed=size, source=source)
        return
    base = Piece(name, str(path), kind=kind, source=source)
    if kind == "tfds":
        yield from _examples(base, str(path), piece_bytes)
        return
    if kind == "parquet":
        yield from _row_groups(base, path)
        return
    wide = kind not in ("warc", "text", "html", "markdown", "akoma", "po") or source.unit == "unit"
    header = b""
    size = 0
    cutter = formats.cutter(kind, source)
    for part in streams.parts(path, cutter, piece_bytes, wide and kind != "warc"):
        size += part.consumed
        damage, refused = part.damage, None
        if not size and damage is None:
            damage = "the file is empty"
        if part.long:
            refused = ("record too long", f"{part.long} bytes; read are {streams.RECORD_BYTES}")
        yield dataclasses.replace(
            base, first_line=part.before + 1, data=part.data, damage=damage, refused=refused,
            consumed=part.consumed, header=header,
        )  # fmt: skip
        if kind in ("csv", "tsv") and not part.before:
            header = part.data[: part.data.find(b"\n") + 1]


def _examples(base: Piece, path: str, piece_bytes: int) -> Iterator[Piece]:
    size = places.size(path)
    name = tfds.short(base.name)
    runs = tfds.ranges(path, size, piece_bytes)
    for index, (start, stop) in enumerate(runs):
        share = size // len(runs) + (index < size % len(runs))
        yield dataclasses.replace(
            base, name=name, row_group=index, first_line=start + 1, rows=(start, stop),
            consumed=share,
        )  # fmt: skip
    if not runs:
        yield dataclasses.replace(base, name=name, data=b"", damage="the split is empty")


def _row_groups(base: Piece, path: str | os.PathLike[str]) -> Iterator[Piece]:
    try:
        with places.opened(path) as file, pq.ParquetFile(file) as table:
            groups = [
                (group.num_rows, group.total_byte_size)
                for group in map(table.metadata.row_group, range(table.num_row_groups))
            ]
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        # The footer is gone: there is nothing to read, and that must be seen in the counts.
        damage = f"not a Parquet file ({error})"
        yield dataclasses.replace(base, data=b"", damage=damage, consumed=places.size(path))
        return
    if not groups:
        yield dataclasses.replace(base, data=b"", consumed=places.size(path))
        return
    rest, first = places.size(path), 1
    for index, (number, size) in enumerate(groups):
        step = max(1, number // max(1, -(-size // _ROW_BYTES)))
        share = places.size(path) // max(1, len(groups))
        for start in range(0, max(number, 1), step):
            consumed = share if start == 0 else 0
            rest -= consumed
            rows = (start, min(number, start + step)) if step < number else None
            yield dataclasses.replace(
                base, row_group=index, first_line=first + start, rows=rows, consumed=consumed
            )
        first += number


def read(piece: Piece) -> tuple[list[Document], list[Rejection]]:
    """Parses a piece; every record that isn't blank is either a document or a rejection.

    Raises ValueError for the first rejection if the source says to stop at bad input.
    """
    documents: list[Document] = []
    rejections: list[Rejection] = []
    for member in piece.members or (piece,):
        _read(member, documents, rejections)
    return documents, rejections


def _read(piece: Piece, documents: list[Document], rejections: list[Rejection]) -> None:
    before = len(rejections)
    if piece.data is None:
        found = _dataset(piece) if piece.kind == "tfds" else _rows(piece)
    elif piece.refused is not None:
        found = iter([records.Found(piece.first_line, Unusable(*piece.refused), piece.data)])
    elif not piece.data and (piece.damage or piece.members == ()):
        found = iter(())
    else:
        place = records.Place(piece.name, piece.first_line, piece.source, piece.header)
        found = records.read(piece.kind, piece.data, place)
    for item in found:
        line = f"group {piece.row_group}" if item.line < 0 else str(item.line)
        try:
            if isinstance(item.record, Unusable):
                raise item.record
            documents.append(_document(item.record, f"{piece.name}:{line}", piece.source))
        except Unusable as error:
            rejections.append(_quarantined(piece, line, item.raw, error.reason, error.value))
    if piece.damage is not None:
        line = str(piece.first_line + (piece.data or b"").count(b"\n"))
        rejections.append(_quarantined(piece, line, b"", "damaged file", piece.damage))
    if piece.source.bad == "stop" and len(rejections) > before:
        bad = rejections[before]
        raise ValueError(
            f"{bad.document.id}: {bad.reason} ({bad.value}); mend the file, or set Source.bad to "
            '"quarantine" to build without what is broken.'
        )


def _document(record: object, place: str, source: Source) -> Document:
    if isinstance(record, dict):
        record = formats.record_text(record, source)
    return from_record(record, place)


def _dataset(piece: Piece) -> Iterator[records.Found]:
    """Yields the examples of a piece of a dataset."""
    start, stop = piece.rows or (0, 0)
    number = piece.first_line
    try:
        for record in tfds.records(piece.path, start, stop):
            raw = "" if record.get(piece.source.text) else json.dumps(record, default=str)
            yield records.Found(number, record, raw)
            number += 1
    except Unusable as error:
        yield records.Found(-1, error)


def _rows(piece: Piece) -> Iterator[records.Found]:
    """Yields the rows of a piece of a Parquet file; line -1 stands for a group that is broken."""
    number = piece.first_line
    try:
        with places.opened(piece.path) as file, pq.ParquetFile(file) as table:
            start, stop = piece.rows or (0, table.metadata.row_group(piece.row_group).num_rows)
            at = 0
            for batch in table.iter_batches(_ROWS, row_groups=[piece.row_group]):
                low, high = max(start - at, 0), min(stop - at, len(batch))
                at += len(batch)
                if low >= high:
                    if at >= stop:
                        break
                    continue
                for record in batch.slice(low, high - low).to_pylist():
                    raw = "" if record.get("text") else json.dumps(record, default=str)
                    yield records.Found(number, record, raw)
                    number += 1
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        yield records.Found(-1, Unusable("damaged file", str(error)))


def _quarantined(piece: Piece, line: str, raw: bytes | str, reason: str, value: str) -> Rejection:
    text = raw[: 4 * _QUARANTINE_CHARACTERS]
    if isinstance(text, bytes):
        text = text.decode(errors="replace")
    text = text.encode(errors="replace").decode()[:_QUARANTINE_CHARACTERS]
    document = Document(
        id=f"{piece.name}:{line}",
        text=text,
        source=piece.source.source or piece.name,
        license=piece.source.license or "unknown",
        lang="und",
        meta={"file": piece.name, "line": line},
    )
    return Rejection(document, reason, value)
