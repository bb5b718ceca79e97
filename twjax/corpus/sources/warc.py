"""WARC files: cutting them at records, and the pages in them.

Records are found by their own headers (ISO 28500:2017, 4), so that one broken record costs only
itself; fastwarc reads what is inside one.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator

from twjax.corpus.document import Unusable

_VERSION = b"WARC/"
_NEXT = re.compile(rb"(?<=\n)WARC/\d")
_LENGTH = re.compile(rb"^content-length:[ \t]*(\d+)[ \t]*\r?$", re.I | re.M)
_TYPE = re.compile(rb"^warc-type:[ \t]*(\S+)", re.I | re.M)
_HEADER_BYTES = 64 << 10
PAGE_TYPES = ("text/html", "application/xhtml+xml", "text/plain")


@dataclasses.dataclass(frozen=True, slots=True)
class Page:
    """One answer of a web server: its body and what was said about it."""

    body: bytes
    url: str
    date: str
    content_type: str
    charset: str | None


def record_ends(data: bytes, last: bool) -> tuple[int, int]:
    """A cutter (see `streams`) behind whole records."""
    cut = number = 0
    for _, end, _ in _records(data, last):
        cut, number = end, number + 1
    return cut, number


def records(data: bytes) -> Iterator[tuple[bytes, str | None]]:
    """Yields (record, what is broken about it) of whole records; garbage between them is one."""
    for start, end, broken in _records(data, True):
        yield data[start:end], broken


def _records(data: bytes, last: bool) -> Iterator[tuple[int, int, str | None]]:
    position = 0
    while position < len(data):
        blank = position
        while data[position : position + 2] == b"\r\n":
            position += 2
        if position == len(data):
            return
        end = _end(data, position)
        if end is not None and end <= len(data):
            yield position, end, None
            position = end
            continue
        if end is not None and not last:
            return
        # Neither a header nor room for the body: the next header is where sense begins again.
        following = _NEXT.search(data, position + 1)
        if following is None and not last:
            # A header or its mark may lie across the end.
            head = data[position : position + _HEADER_BYTES]
            if head.startswith(_VERSION[: len(head)]) and len(head) < _HEADER_BYTES:
                return
            if len(data) - position < _HEADER_BYTES:
                return
            keep = len(data) - len(_VERSION) - 1
            yield blank, keep, "no record header"
            return
        stop = following.start() if following else len(data)
        yield position, stop, "no record header" if end is None else "the record is cut"
        position = stop


def _end(data: bytes, start: int) -> int | None:
    """Returns where the record at `start` should end; None if no header is there."""
    if not data.startswith(_VERSION, start):
        return None
    body = data.find(b"\r\n\r\n", start, start + _HEADER_BYTES)
    if body < 0:
        return None
    length = _LENGTH.search(data, start, body + 2)
    if length is None:
        return None
    return body + 4 + int(length[1]) + 4


def page(record: bytes) -> Page | None:
    """Returns the page of a record; None if the record is of another kind than "response".

    Raises `Unusable` for answers that are no page, or can't be read.
    """
    from fastwarc.warc import WarcRecord

    kind = _TYPE.search(record, 0, _HEADER_BYTES)
    if kind is None or kind[1].lower() != b"response":
        return None
    try:
        parsed = WarcRecord.from_bytes(record)
        parsed.parse_http(auto_decode="all")
        headers = dict(parsed.headers)
        status = parsed.http_headers.status_code if parsed.http_headers else None
        content_type = (parsed.http_content_type or "").lower()
        charset, date = parsed.http_charset, str(headers.get("WARC-Date", ""))
        if status != 200:
            raise Unusable("HTTP status", str(status))
        if content_type not in PAGE_TYPES:
            raise Unusable("not a page", content_type or "no content type")
        body = parsed.reader.read()
    except Unusable:
        raise
    except Exception as error:
        # What the library raises for broken records isn't stated; it must not end the build.
        raise Unusable("broken WARC record", f"{type(error).__name__}: {error}") from None
    url = str(headers.get("WARC-Target-URI", "")).strip("<>")
    return Page(body, url, date, content_type, charset)
