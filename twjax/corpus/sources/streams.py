"""Files as streams of bytes, and the cuts between whole records in them; memory is bounded."""

from __future__ import annotations

import bz2
import codecs
import dataclasses
import os
import pathlib
import zlib
from collections.abc import Callable, Generator, Iterator
from typing import Any, BinaryIO

import numpy as np
import zstandard

from twjax.corpus.sources import places

# A record longer than this is quarantined unread.
RECORD_BYTES = 32 << 20
_READ_BYTES = 64 << 10
_KEPT_OF_LONG = 64 << 10
# Enough to see a byte order mark, or the zeros of two-byte text.
_WIDE = (
    (codecs.BOM_UTF32_LE, "utf-32-le"), (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"), (codecs.BOM_UTF16_BE, "utf-16-be"),
)  # fmt: skip


class Damaged(Exception):
    """A compressed file that is broken or ends too early."""


@dataclasses.dataclass(frozen=True, slots=True)
class Part:
    """Whole records in a row: `data`, behind `before` lines or records of the file.

    `consumed` bytes of the file were read for it. `damage` says why nothing follows, when the
    file ends too early; `long` is the number of bytes of one record that is too long to be read,
    of which `data` has the beginning.
    """

    data: bytes
    before: int
    consumed: int
    damage: str | None = None
    long: int = 0


Cutter = Callable[[bytes, bool], tuple[int, int]]
"""Says where the last whole record of a buffer ends, and how many lines or records lie before;
(buffer, whether the file ends behind it) → (bytes, number)."""


def line_ends(data: bytes, last: bool) -> tuple[int, int]:
    """A `Cutter` at line ends."""
    cut = len(data) if last else data.rfind(b"\n") + 1
    return cut, data.count(b"\n", 0, cut)


def row_ends(data: bytes, last: bool) -> tuple[int, int]:
    """A `Cutter` at those line ends of a CSV file that aren't inside quotes."""
    if last:
        return len(data), data.count(b"\n")
    codes = np.frombuffer(data, np.uint8)
    # Within a record the number of quotes is even, doubled ones included.
    inside = np.bitwise_xor.accumulate(codes == 0x22)
    ends = np.flatnonzero((codes == 0x0A) & ~inside)
    if len(ends):
        cut = int(ends[-1]) + 1
    else:
        # A quote that nothing closes must not swallow the rest of the file.
        cut = data.rfind(b"\n") + 1 if len(data) > RECORD_BYTES // 4 else 0
    return cut, data.count(b"\n", 0, cut)


def unit_ends(data: bytes, last: bool) -> tuple[int, int]:
    """A `Cutter` behind the translation units of a TMX file."""
    cut = len(data) if last else data.rfind(b"</tu>") + len(b"</tu>")
    if cut < len(b"</tu>") and not last:
        return 0, 0
    return cut, data.count(b"\n", 0, cut)


def whole(data: bytes, last: bool) -> tuple[int, int]:
    """A `Cutter` that takes a file as one record."""
    return (len(data), 1) if last else (0, 0)


def parts(
    path: str | os.PathLike[str], cutter: Cutter, part_bytes: int, wide: bool = True
) -> Iterator[Part]:
    """Cuts a file, decompressed by its name, into parts of about `part_bytes`.

    The cuts depend on the bytes alone. `wide` turns text that begins as UTF-16 or UTF-32 into
    UTF-8 first, since its line ends can't be found otherwise.
    """
    total = places.size(path)
    blocks = _blocks(path)
    if wide:
        blocks = _narrow(blocks)
    buffer: list[bytes] = []
    size = before = start = position = 0
    wanted, sent, damage = part_bytes, False, None
    while True:
        try:
            block, position = next(blocks, (b"", total))
        except Damaged as error:
            block, damage = b"", str(error)
        if block:
            buffer.append(block)
            size += len(block)
            if size < wanted:
                continue
        data = b"".join(buffer)
        cut, number = cutter(data, not block)
        if not cut and size > RECORD_BYTES:
            long = yield from _skip(
                data, blocks, before, position - start, None if cutter is whole else b"\n"
            )
            before, start = before + 1, position
            buffer, size, wanted, sent = ([long] if long else []), len(long), part_bytes, True
            continue
        if cut or damage or not (block or sent):
            yield Part(data[:cut], before, position - start, damage)
            start, sent = position, True
        if not block:
            return
        before += number
        buffer, size = [data[cut:]], len(data) - cut
        # Looking for an end again and again in a long record would take its square in time.
        wanted = part_bytes if cut else 2 * size


def _skip(
    data: bytes,
    blocks: Iterator[tuple[bytes, int]],
    before: int,
    consumed: int,
    end_mark: bytes | None,
) -> Generator[Part, None, bytes]:
    """Passes over a record that is too long, up to `end_mark`; returns what follows."""
    long, head, rest = len(data), data[:_KEPT_OF_LONG], b""
    damage = None
    del data
    try:
        for block, _ in blocks:
            end = block.find(end_mark) + 1 if end_mark else 0
            if end:
                long, rest = long + end, block[end:]
                break
            long += len(block)
    except Damaged as error:
        damage = str(error)
    yield Part(head, before, consumed, damage, long)
    return rest


def _narrow(blocks: Iterator[tuple[bytes, int]]) -> Iterator[tuple[bytes, int]]:
    """Turns wide text into UTF-8; what can't be turned is invalid there, for its line to tell."""
    first = next(blocks, None)
    if first is None:
        return
    head = first[0]
    label = next((name for mark, name in _WIDE if head.startswith(mark)), None)
    if label is None and b"\0" in head[:64]:
        even, odd = head[0:256:2].count(0), head[1:256:2].count(0)
        if max(even, odd) > 4 * min(even, odd) + 1 and max(even, odd) * 4 > len(head[:256]):
            label = "utf-16-be" if even > odd else "utf-16-le"
    if label is None:
        yield first
        yield from blocks
        return
    decoder = codecs.getincrementaldecoder(label)("surrogatepass" if "16" in label else "replace")
    block, position = first
    for mark, name in _WIDE:
        if name == label:
            block = block.removeprefix(mark)
    while True:
        try:
            text = decoder.decode(block)
        except UnicodeDecodeError:
            text = ""
            yield b"\xff", position
        if text:
            yield text.encode("utf-8", "surrogatepass"), position
        following = next(blocks, None)
        if following is None:
            if decoder.getstate()[0]:
                yield b"\xff", position
            return
        block, position = following


def _blocks(path: str | os.PathLike[str]) -> Iterator[tuple[bytes, int]]:
    """Yields (bytes, position in the file); raises `Damaged`."""
    suffix = pathlib.PurePosixPath(str(path).split("::")[0]).suffix.lower()
    with places.opened(path) as file:
        start = _STREAMS.get(suffix)
        if start is None:
            position = 0
            while block := file.read(_READ_BYTES * 16):
                position += len(block)
                yield block, position
            return
        yield from _decompressed(file, start, suffix)


_STREAMS: dict[str, Callable[[], Any]] = {
    ".gz": lambda: zlib.decompressobj(wbits=zlib.MAX_WBITS | 16),
    ".zst": lambda: zstandard.ZstdDecompressor().decompressobj(),
    ".bz2": bz2.BZ2Decompressor,
}
COMPRESSIONS = tuple(_STREAMS)


def _decompressed(
    file: BinaryIO, start: Callable[[], Any], suffix: str
) -> Iterator[tuple[bytes, int]]:
    stream, fresh, position = start(), True, 0
    while block := file.read(_READ_BYTES):
        position += len(block)
        while block:
            if stream.eof:
                # Compressed files may be several streams end to end; zeros pad gzip on tapes.
                block = block.lstrip(b"\0") if suffix == ".gz" else block
                if not block:
                    break
                stream, fresh = start(), True
            try:
                data = stream.decompress(block)
            except (zlib.error, zstandard.ZstdError, OSError, EOFError) as error:
                raise Damaged(str(error)) from None
            fresh = False
            if data:
                yield data, position
            block = stream.unused_data if stream.eof else b""
    if not stream.eof and not fresh:
        raise Damaged("the compressed stream ends before its end-of-stream mark")
    if fresh and position == 0:
        raise Damaged("the file is empty: it has not even a header")
