"""Records in the bytes of a piece, by kind of file: where each begins, and what it says.

A reader yields `Found` for everything that a file holds, in order, broken or not; it raises
nothing for any bytes.
"""

from __future__ import annotations

import csv
import dataclasses
import itertools
import json
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from twjax.corpus.document import Unusable
from twjax.corpus.sources import bitext, encodings, formats, markup, speeches, warc
from twjax.corpus.sources.formats import Source

_PO_CHARSET = re.compile(rb"charset=([\w.:-]{2,40})", re.I)


@dataclasses.dataclass(frozen=True, slots=True)
class Found:
    """A record, or why there is none, at a line (or number) of a file; `raw` is what was there."""

    line: int
    record: object
    raw: bytes | str = b""


@dataclasses.dataclass(frozen=True, slots=True)
class Place:
    """Where bytes come from: the file's name, the first line, a table's header, what is known."""

    name: str
    first_line: int
    source: Source
    header: bytes = b""


def read(kind: formats.Kind, data: bytes, place: Place) -> Iterator[Found]:
    """Yields what the bytes of a piece hold."""
    yield from _READERS[kind](data, place)


def _json_lines(data: bytes, place: Place) -> Iterator[Found]:
    found = _parsed_lines(data, place)
    if place.source.sides and place.source.units:
        found = _grouped(found, place.source.units)
    yield from found


def _grouped(found: Iterator[Found], number: int) -> Iterator[Found]:
    """Makes one record with `pairs` of so many that follow each other and are units themselves.

    They have the same licence and source, and the first one's line and URL.
    """

    def origin(item: Found) -> tuple[object, object] | None:
        record = item.record
        if not isinstance(record, dict) or record.get("text") or "pairs" in record:
            return None
        return record.get("license"), record.get("source")

    for key, items in itertools.groupby(found, origin):
        if key is None:
            yield from items
            continue
        while group := list(itertools.islice(items, number)):
            records: list[Any] = [item.record for item in group]
            record = {k: v for k, v in records[0].items() if k in _OF_A_GROUP}
            raw = b"\n".join(item.raw for item in group if isinstance(item.raw, bytes))
            yield Found(group[0].line, {**record, "pairs": records}, raw)


_OF_A_GROUP = ("source", "license", "url", "url_or_path")


def _parsed_lines(data: bytes, place: Place) -> Iterator[Found]:
    for number, line in enumerate(data.split(b"\n"), start=place.first_line):
        if line.strip():
            try:
                yield Found(number, _parse(line), line)
            except Unusable as error:
                yield Found(number, error, line)


def _parse(line: bytes) -> object:
    if b"\0" in line:
        raise Unusable("NUL bytes", f"at byte {line.index(0)}")
    try:
        return json.loads(line.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        raise Unusable("not UTF-8", f"{error.reason} at byte {error.start}") from None
    except (ValueError, RecursionError) as error:
        raise Unusable("not JSON", str(error)) from None


def _text(data: bytes, place: Place) -> Iterator[Found]:
    if place.source.unit == "file":
        yield _whole(data, place, lambda: _plain(data, place.source.encoding))
        return
    try:
        decoded = encodings.decode(data, place.source.encoding)
        lines, meta = decoded.text.split("\n"), decoded.meta()
    except Unusable:
        # One stretch of other bytes doesn't make all lines unreadable.
        yield from _single_lines(data, place)
        return
    for number, line in enumerate(lines, start=place.first_line):
        if line.strip():
            yield Found(number, {"text": line.rstrip("\r"), "meta": meta}, line)


def _single_lines(data: bytes, place: Place) -> Iterator[Found]:
    for number, line in enumerate(data.split(b"\n"), start=place.first_line):
        if line.strip():
            try:
                decoded = encodings.decode(line, place.source.encoding)
                record: object = {"text": decoded.text.rstrip("\r"), "meta": decoded.meta()}
            except Unusable as error:
                record = error
            yield Found(number, record, line)


def _whole(data: bytes, place: Place, make: Callable[[], Mapping[str, Any]]) -> Found:
    try:
        return Found(place.first_line, {"id": place.name, **make()}, data)
    except Unusable as error:
        return Found(place.first_line, error, data)


def _plain(data: bytes, declared: str) -> Mapping[str, Any]:
    decoded = encodings.decode(data, declared)
    return {"text": decoded.text.replace("\r\n", "\n"), "meta": decoded.meta()}


def _markdown(data: bytes, place: Place) -> Iterator[Found]:
    def make() -> Mapping[str, Any]:
        plain = _plain(data, place.source.encoding)
        head, body = markup.front_matter(plain["text"])
        lang = head.get("lang") or head.get("language") or ""
        return {
            "text": body.strip("\n"), "created": head.get("date"), "url": head.get("canonical"),
            "lang": bitext.tag(lang) if lang else None, "meta": {**plain["meta"], **head},
        }  # fmt: skip

    yield _whole(data, place, make)


def _html(data: bytes, place: Place) -> Iterator[Found]:
    yield _whole(data, place, lambda: _page(data, place.source.encoding, place.source))


def _page(data: bytes, declared: str | None, source: Source) -> dict[str, Any]:
    decoded = encodings.decode(data, declared or markup.declared_charset(data))
    page = markup.page(decoded.text, source.extraction)
    meta = {**decoded.meta(), **page.meta()}
    record = {"text": page.text, "url": page.url or None, "created": page.date or None}
    return {**record, "lang": bitext.tag(page.lang) if page.lang else None, "meta": meta}


def _akoma(data: bytes, place: Place) -> Iterator[Found]:
    def make() -> Mapping[str, Any]:
        decoded = encodings.decode(data, place.source.encoding or markup.declared_charset(data))
        record = speeches.transcript(decoded.text)
        return {**record, "meta": {**decoded.meta(), **record["meta"]}}

    yield _whole(data, place, make)


def _warc(data: bytes, place: Place) -> Iterator[Found]:
    for number, (raw, broken) in enumerate(warc.records(data), start=place.first_line):
        try:
            if broken:
                raise Unusable("broken WARC record", broken)
            answer = warc.page(raw)
            if answer is None:
                continue
            if answer.content_type == "text/plain":
                record = dict(_plain(answer.body, answer.charset or ""))
            else:
                record = _page(answer.body, answer.charset, place.source)
            record["url"] = answer.url or record.get("url")
            record["meta"]["fetched"] = answer.date or None
            yield Found(number, record, raw)
        except Unusable as error:
            yield Found(number, error, raw[: 64 << 10])


def _po(data: bytes, place: Place) -> Iterator[Found]:
    source = place.source
    first, second = source.sides[:2] if source.sides else ("en", "")
    found = _PO_CHARSET.search(data[: 16 << 10])
    declared = source.encoding or (found[1].decode() if found else "")
    try:
        decoded = encodings.decode(data, declared)
        units = bitext.read_po(decoded.text, first, second)
    except Unusable as error:
        yield Found(place.first_line, error, data)
        return
    yield from _bitext(units, place, decoded.meta(), whole=True)


def _tmx(data: bytes, place: Place) -> Iterator[Found]:
    units: list[bitext.Unit] = []
    for unit in bitext.read_tmx(data, place.first_line):
        if isinstance(unit, bitext.Unit):
            units.append(unit)
        else:
            yield Found(unit[0], Unusable("broken translation unit", unit[1]))
    if units:
        yield from _bitext(units, place, {})
    elif place.first_line == 1 and b"<tmx" not in data[:4096]:
        yield Found(place.first_line, Unusable("not a TMX file", "no <tmx> element"), data)


def _table(data: bytes, place: Place, delimiter: str) -> Iterator[Found]:
    source = place.source
    units: list[bitext.Unit] = []
    try:
        decoded = encodings.decode(place.header + data, source.encoding)
        first_line = place.first_line - place.header.count(b"\n")
        rows = bitext.rows(decoded.text, first_line, delimiter)
        _, header = next(rows, (0, []))
        header = [cell.strip() for cell in header]
        field = source.text
        sides = None
        if source.sides or (field not in header and "{" not in field):
            sides = bitext.sides(header, source.sides)
            if sides is None:
                raise Unusable("no text", f"no column {field!r} in {', '.join(header)[:200]}")
        for number, cells in rows:
            if len(cells) != len(header):
                problem = Unusable("wrong number of cells", f"{len(cells)}, not {len(header)}")
                yield Found(number, problem, delimiter.join(cells))
            elif sides is None:
                named = dict(zip(header, cells, strict=True))
                yield Found(number, named, delimiter.join(cells))
            else:
                texts = {language: cells[column] for column, language in sides.items()}
                units.append(bitext.Unit(texts, number))
    except Unusable as error:
        yield Found(place.first_line, error, data)
        return
    except csv.Error as error:
        yield Found(place.first_line, Unusable("broken CSV", str(error)), data)
    if units:
        yield from _bitext(units, place, decoded.meta())


def _bitext(
    units: list[bitext.Unit], place: Place, meta: Mapping[str, str], whole: bool = False
) -> Iterator[Found]:
    """Groups units to documents; what no document can be made of is one record."""
    source = place.source
    sides = tuple(bitext.tag(side) for side in source.sides) or bitext.languages(units)
    number = 1 if source.unit == "unit" else source.units or max(1, len(units))
    for start in range(0, len(units), number):
        group = units[start : start + number]
        composed = bitext.compose(group, sides)
        if composed is None:
            doubt = "fuzzy or " if any(unit.doubt for unit in group) else ""
            problem = Unusable("no translation", f"{doubt}empty in {' or '.join(sides)}")
            yield Found(group[0].line, problem, "\n".join(group[0].texts.values()))
            continue
        text, counted = composed
        record: dict[str, Any] = {"text": text, "lang": "mul", "meta": {**meta, **counted}}
        if whole and number >= len(units):
            record["id"] = place.name
        yield Found(group[0].line, record, text)
    if not units:
        yield Found(place.first_line, Unusable("no text", "no translation unit"))


_READERS: Mapping[str, Callable[[bytes, Place], Iterator[Found]]] = {
    "jsonl": _json_lines, "text": _text, "html": _html, "markdown": _markdown, "warc": _warc,
    "akoma": _akoma, "po": _po, "tmx": _tmx,
    "csv": lambda data, place: _table(data, place, ","),
    "tsv": lambda data, place: _table(data, place, "\t"),
}  # fmt: skip
