"""Input files in pieces that workers parse; what can't be read is quarantined with its place.

A piece depends on the file's bytes only, never on who reads it: a run of whole lines of a JSON
Lines file (decompressed by the reader, parsed by the worker), or one row group of a Parquet file.
"""

from __future__ import annotations

import dataclasses
import json
import pathlib
import zlib
from collections.abc import Iterator

import pyarrow as pa
import pyarrow.parquet as pq
import zstandard

from twjax.corpus.document import Document, Rejection, Unusable, from_record

PIECE_BYTES = 4 << 20
_READ_BYTES = 64 << 10
# A broken line may be a broken file of gigabytes; its beginning is enough to find it.
_QUARANTINE_CHARACTERS = 20_000


@dataclasses.dataclass(frozen=True)
class Piece:
    """A part of an input file: `data` lines from `first_line` (1 is the first), or a row group.

    `damage` says why the file ends behind this piece, when it ends too early; `consumed` is how
    many bytes of the file it took, for progress.
    """

    name: str
    path: str
    first_line: int = 1
    data: bytes | None = None
    row_group: int = 0
    damage: str | None = None
    consumed: int = 0


def check_format(path: pathlib.Path) -> None:
    """Raises for a file name that `pieces` doesn't read."""
    if _kind(path) is None:
        raise ValueError(
            f"{path}: unknown kind of file; inputs are .jsonl, .jsonl.gz, .jsonl.zst or .parquet."
        )


def _kind(path: pathlib.Path) -> str | None:
    suffixes = [suffix for suffix in path.suffixes if suffix not in (".gz", ".zst")]
    kind = suffixes[-1] if suffixes else ""
    if kind in (".jsonl", ".ndjson"):
        return "lines"
    return "parquet" if path.suffix == ".parquet" else None


def pieces(name: str, path: pathlib.Path, piece_bytes: int) -> Iterator[Piece]:
    """Cuts a file into pieces of about `piece_bytes` text; `name` is what records say of it."""
    if _kind(path) == "parquet":
        yield from _row_groups(name, path)
        return
    first, parts, size = 1, [], 0
    damage = None
    position = start = 0
    stream = _decompressed(path)
    while True:
        try:
            block, position = next(stream, (b"", path.stat().st_size))
        except (EOFError, zlib.error, zstandard.ZstdError) as error:
            damage, block = str(error), b""
        if block:
            parts.append(block)
            size += len(block)
            if size < piece_bytes or b"\n" not in block:
                continue
        data = b"".join(parts)
        # Only the last piece may end within a line.
        cut = data.rfind(b"\n") + 1 if block else len(data)
        if cut or damage:
            yield Piece(
                name, str(path), first, data[:cut], damage=damage, consumed=position - start
            )
            start = position
        if not block:
            return
        first += data.count(b"\n", 0, cut)
        parts, size = [data[cut:]], len(data) - cut


def _row_groups(name: str, path: pathlib.Path) -> Iterator[Piece]:
    try:
        with pq.ParquetFile(path) as file:
            count = file.num_row_groups
        consumed = path.stat().st_size // max(1, count)
    except pa.ArrowInvalid as error:
        # The footer is gone: there is nothing to read, and that must be seen in the counts.
        yield Piece(name, str(path), data=b"", damage=f"not a Parquet file ({error})")
        return
    for group in range(count):
        yield Piece(name, str(path), row_group=group, consumed=consumed)


def _decompressed(path: pathlib.Path) -> Iterator[tuple[bytes, int]]:
    """Yields (bytes, position in the file); raises EOFError when the last stream has no end."""

    def start():
        if path.suffix == ".gz":
            return zlib.decompressobj(wbits=zlib.MAX_WBITS | 16)
        return zstandard.ZstdDecompressor().decompressobj()

    with path.open("rb") as file:
        if path.suffix not in (".gz", ".zst"):
            while block := file.read(_READ_BYTES * 16):
                yield block, file.tell()
            return
        stream, fresh = start(), True
        while block := file.read(_READ_BYTES):
            while block:
                if stream.eof:
                    # gzip and zstd files may be several streams end to end; zeros pad tapes.
                    block = block.lstrip(b"\0") if path.suffix == ".gz" else block
                    if not block:
                        break
                    stream, fresh = start(), True
                data = stream.decompress(block)
                fresh = False
                if data:
                    yield data, file.tell()
                block = stream.unused_data if stream.eof else b""
        if not stream.eof and not fresh:
            raise EOFError("the compressed stream ends before its end-of-stream mark")
        if fresh and file.tell() == 0:
            raise EOFError("the file is empty: it has not even a header")


def read(piece: Piece) -> tuple[list[Document], list[Rejection]]:
    """Parses a piece; every line that isn't blank is either a document or a rejection."""
    documents: list[Document] = []
    rejections: list[Rejection] = []
    if piece.data is None:
        _read_row_group(piece, documents, rejections)
        return documents, rejections
    lines = piece.data.split(b"\n")
    for number, line in enumerate(lines, start=piece.first_line):
        if not line.strip():
            continue
        place = f"{piece.name}:{number}"
        try:
            documents.append(from_record(_parse(line), place))
        except Unusable as error:
            text = line.decode(errors="replace")
            rejections.append(_quarantined(piece, place, text, error.reason, error.value))
    if piece.damage is not None:
        number = piece.first_line + piece.data.count(b"\n")
        place = f"{piece.name}:{number}"
        rejections.append(_quarantined(piece, place, "", "damaged file", piece.damage))
    return documents, rejections


def _parse(line: bytes) -> object:
    if b"\0" in line:
        raise Unusable("NUL bytes", f"at byte {line.index(0)}")
    try:
        return json.loads(line.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        raise Unusable("not UTF-8", f"{error.reason} at byte {error.start}") from None
    except (ValueError, RecursionError) as error:
        raise Unusable("not JSON", str(error)) from None


def _read_row_group(piece: Piece, documents: list[Document], rejections: list[Rejection]) -> None:
    try:
        with pq.ParquetFile(piece.path) as file:
            first = sum(file.metadata.row_group(i).num_rows for i in range(piece.row_group)) + 1
            records = file.read_row_group(piece.row_group).to_pylist()
    except (pa.ArrowInvalid, OSError, UnicodeDecodeError) as error:
        place = f"{piece.name}:group {piece.row_group}"
        rejections.append(_quarantined(piece, place, "", "damaged file", str(error)))
        return
    for number, record in enumerate(records, start=first):
        place = f"{piece.name}:{number}"
        try:
            documents.append(from_record(record, place))
        except Unusable as error:
            text = json.dumps(record, ensure_ascii=True, default=str)
            rejections.append(_quarantined(piece, place, text, error.reason, error.value))


def _quarantined(piece: Piece, place: str, text: str, reason: str, value: str) -> Rejection:
    file, _, line = place.rpartition(":")
    document = Document(
        id=place,
        text=text[:_QUARANTINE_CHARACTERS],
        source=piece.name,
        license="unknown",
        lang="und",
        meta={"file": file, "line": line},
    )
    return Rejection(document, reason, value)
