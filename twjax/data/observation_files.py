"""Files of annotations as streams of records: lines, and the lists of large JSON documents.

What can't be read is a `BadField` whose `where` is the line.
"""

from __future__ import annotations

import codecs
import gzip
import json
import pathlib
import re
import zlib
from collections.abc import Iterator
from typing import Any, BinaryIO, NoReturn

from twjax.data.observations import BadField

# A longer line or record is left out unread.
RECORD_BYTES = 16 << 20
NO_LIST = "no list of that name"
_CHUNK = 1 << 16
_SPACE = re.compile(r"[ \t\r\n]*")


def opened(path: pathlib.Path) -> BinaryIO:
    """Opens a file, decompressed if its name ends in .gz."""
    return gzip.open(path, "rb") if path.name.endswith(".gz") else open(path, "rb")  # pyright: ignore


def lines(path: pathlib.Path) -> Iterator[tuple[int, bytes]]:
    """Yields numbers and lines, without line ends and byte order mark; empty ones are passed by.

    One that is too long is yielded cut off, longer than `RECORD_BYTES` still.
    """
    number = 0
    try:
        with opened(path) as file:
            while line := file.readline(RECORD_BYTES + 1):
                number += 1
                rest = line
                while len(rest) > RECORD_BYTES and not rest.endswith(b"\n"):
                    rest = file.readline(RECORD_BYTES + 1)
                if number == 1:
                    line = line.removeprefix(codecs.BOM_UTF8)
                if line.strip():
                    yield number, line.rstrip(b"\r\n") if len(line) <= RECORD_BYTES else line
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise BadField("damaged file", "", str(error), f"behind line {number}") from None


def decoded(line: bytes, where: str = "") -> str:
    """Returns a line as text; only UTF-8 is read."""
    if len(line) > RECORD_BYTES:
        raise BadField("record too long", "", f"more than {RECORD_BYTES} bytes", where)
    try:
        return line.decode("utf-8")
    except UnicodeDecodeError as error:
        begin = line[max(0, error.start - 8) : error.start + 8]
        raise BadField("not UTF-8", "", f"{begin!r} at byte {error.start}", where) from None


def parsed(line: bytes) -> Any:
    """Returns a line of JSON; NaN and the infinities, which JSON doesn't have, are refused."""
    try:
        return _DECODER.decode(decoded(line))
    except json.JSONDecodeError as error:
        raise BadField("not JSON", "", str(error)) from None
    except BadField:
        raise
    except (ValueError, RecursionError) as error:
        # Integers of thousands of digits, lists in a thousand lists.
        raise BadField("not JSON", "", str(error)) from None


def elements(path: pathlib.Path, name: str) -> Iterator[tuple[str, Any]]:
    """Yields the elements of the list `name` of a JSON object, each with its line, one in memory.

    The object is read to its end, so that a truncated file is noticed.
    """
    with opened(path) as file:
        reader = _Reader(file)
        reader.expect("{")
        found = False
        while reader.next() != "}":
            key = reader.value()
            reader.expect(":")
            if key == name and reader.next() == "[":
                found = True
                reader.expect("[")
                while reader.next() != "]":
                    where = f"line {reader.line}"
                    yield where, reader.value()
                    if reader.next() != "]":
                        reader.expect(",")
                reader.expect("]")
            else:
                reader.value()
            if reader.next() != "}":
                reader.expect(",")
        if not found:
            raise BadField(NO_LIST, name, "", "file")


def _no_number(name: str) -> NoReturn:
    raise BadField("not a finite number", "", name)


_DECODER = json.JSONDecoder(parse_constant=_no_number)


class _Reader:
    """JSON from a stream of bytes, token by token; `line` is where the next one begins."""

    def __init__(self, file: BinaryIO):
        self._file, self._decoder = file, codecs.getincrementaldecoder("utf-8-sig")()
        self._text, self._at, self._ended = "", 0, False
        self.line = 1

    def next(self) -> str:
        """Returns the character behind white space; "" at the end of the file."""
        while True:
            self._pass(_SPACE.match(self._text, self._at).end())  # pyright: ignore
            if self._at < len(self._text) or not self._more():
                return self._text[self._at : self._at + 1]

    def expect(self, character: str) -> None:
        if self.next() != character:
            self._fail(f"{character!r} expected, found {self.next()!r}")
        self._pass(self._at + 1)

    def value(self) -> Any:
        """Returns the JSON value that begins here."""
        self.next()
        while True:
            try:
                found, end = _DECODER.raw_decode(self._text, self._at)
                # A number may go on in what isn't read yet.
                if end == len(self._text) and not self._ended:
                    self._more()
                    continue
                self._pass(end)
                return found
            except json.JSONDecodeError as error:
                size = len(self._text) - self._at
                if size > RECORD_BYTES:
                    self._fail(f"no end of a value in {RECORD_BYTES} characters, or {error.msg}")
                # Twice as much each time, so that long values don't take the square of their size.
                if not self._more(max(_CHUNK, size)):
                    self._fail(error.msg)
            except BadField as error:
                error.where = f"behind line {self.line}"
                raise
            except (ValueError, RecursionError) as error:
                self._fail(str(error))

    def _pass(self, end: int) -> None:
        self.line += self._text.count("\n", self._at, end)
        self._at = end

    def _more(self, size: int = _CHUNK) -> bool:
        """Reads on; False at the end of the file."""
        if self._ended:
            return False
        try:
            data = self._file.read(size)
            text = self._decoder.decode(data, final=not data)
        except UnicodeDecodeError as error:
            value = f"byte {error.object[error.start]:#x}"
            raise BadField("not UTF-8", "", value, f"behind line {self.line}") from None
        except (EOFError, gzip.BadGzipFile, zlib.error) as error:
            raise BadField("damaged file", "", str(error), f"behind line {self.line}") from None
        self._ended = not data
        self._text, self._at = self._text[self._at :] + text, 0
        return not self._ended

    def _fail(self, why: str) -> NoReturn:
        raise BadField("not JSON", "", why, f"line {self.line}") from None
