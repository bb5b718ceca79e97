"""Parallel text: PO, TMX, CSV and TSV files, and records with `pairs`, as documents.

A document's text has one side under the other, and a blank line between two units:

    Save the file?
    要儲存檔案嗎？

    Cancel
    取消

`meta["languages"]` has the sides' languages in that order, `meta["units"]` how many units there
are; `lang` is "mul". Units with an empty side are left out and counted in `meta["untranslated"]`;
fuzzy and obsolete entries of PO files, too (`meta["fuzzy"]`).
"""

from __future__ import annotations

import csv
import dataclasses
import io
import re
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator, Mapping, Sequence

from twjax.corpus.document import Unusable

_TAG = re.compile(r"[A-Za-z]{2,3}(?:[-_][A-Za-z0-9]{2,8})*\Z")
_UNIT = re.compile(rb"<tu[\s>].*?</tu\s*>", re.S)
_XML_LANG = "{http://www.w3.org/XML/1998/namespace}lang"
_PO_STRING = re.compile(r'(msgctxt|msgid_plural|msgid|msgstr(?:\[\d+\])?)?\s*"(.*)"\s*\Z')
_PO_ESCAPE = re.compile(r"\\(?:([abfnrtv\\\"'])|([0-7]{1,3})|x([0-9A-Fa-f]{1,2}))")
_PO_PLAIN = {"n": "\n", "t": "\t", "r": "\r", "a": "\a", "b": "\b", "f": "\f", "v": "\v"}


@dataclasses.dataclass(frozen=True, slots=True)
class Unit:
    """One unit: its texts by language, and the line where it begins; `doubt` is "fuzzy" or ""."""

    texts: dict[str, str]
    line: int
    doubt: str = ""


def tag(name: str) -> str:
    """Returns a BCP-47 tag for how files name a language: `zh_tw` → `zh-TW`."""
    first, *rest = name.strip().replace("_", "-").split("-")
    rest = [r.upper() if len(r) == 2 else r.title() if len(r) == 4 else r for r in rest]
    return "-".join([first.lower(), *rest])


def compose(units: Sequence[Unit], languages: Sequence[str]) -> tuple[str, dict[str, str]] | None:
    """Returns the text and the meta of a document of units; None if no unit is complete."""
    missing = fuzzy = 0
    blocks = []
    for unit in units:
        sides = [unit.texts.get(language, "").strip() for language in languages]
        if unit.doubt:
            fuzzy += 1
        elif all(sides):
            blocks.append("\n".join(sides))
        else:
            missing += 1
    if not blocks:
        return None
    meta = {"languages": " ".join(languages), "units": str(len(blocks))}
    meta |= {"untranslated": str(missing)} if missing else {}
    meta |= {"fuzzy": str(fuzzy)} if fuzzy else {}
    return "\n\n".join(blocks), meta


def languages(units: Sequence[Unit]) -> tuple[str, ...]:
    """Returns the languages of units, in the order in which they come first."""
    return tuple(dict.fromkeys(language for unit in units for language in unit.texts))


def from_pairs(pairs: object) -> list[Unit]:
    """Reads the field `pairs` of a record: a list of objects of texts by language.

    Keys that are no language tag ("key", "no", …), and values that are no string, are left out.
    """
    if not isinstance(pairs, list) or not all(isinstance(pair, Mapping) for pair in pairs):
        raise Unusable("pairs are no list of objects", type(pairs).__name__)
    return [
        Unit(
            {
                tag(key): value for key, value in pair.items()
                if isinstance(value, str) and _TAG.match(key) and key not in ("key", "no", "id")
            },
            number,
        )
        for number, pair in enumerate(pairs, start=1)
    ]  # fmt: skip


def read_po(text: str, source: str, target: str) -> list[Unit]:
    """Reads a gettext PO file; the header's Language names the target if `target` is empty.

    Plural forms give a unit with the last form. A context is no text and is left out.
    """
    units: list[Unit] = []
    entry: dict[str, str] = {}
    field, flags, begin = "", "", 0
    target = tag(target) if target else ""

    def finish() -> None:
        nonlocal entry, flags, target
        key = entry.get("msgid", "")
        forms = [entry[name] for name in sorted(entry) if name.startswith("msgstr")]
        if "msgid" in entry and not key:
            found = re.search(r"^Language:[ \t]*(\S+)", forms[0] if forms else "", re.M)
            target = target or (tag(found[1]) if found else "und")
        elif key and forms:
            original = entry.get("msgid_plural", key)
            texts = {tag(source): original, target or "und": forms[-1]}
            units.append(Unit(texts, begin, "fuzzy" if "fuzzy" in flags else ""))
        entry, flags = {}, ""

    for number, line in enumerate(text.splitlines(), start=1):
        line = line.strip()
        if line.startswith("#"):
            if entry.get("msgid") is not None and any(n.startswith("msgstr") for n in entry):
                finish()
            if line.startswith("#,"):
                flags += line
            continue
        found = _PO_STRING.match(line)
        if not found:
            if not line:
                finish()
                continue
            raise Unusable("broken PO file", f"line {number}: {line[:100]}")
        name, value = found[1], _PO_ESCAPE.sub(_unescape, found[2])
        if name:
            if name in ("msgid", "msgctxt") and any(n.startswith("msgstr") for n in entry):
                finish()
            begin = number if not entry else begin
            field = name
            entry[field] = ""
        elif not entry:
            raise Unusable("broken PO file", f"line {number}: a string of no entry")
        entry[field] += value
    finish()
    return units


def _unescape(found: re.Match[str]) -> str:
    if found[1]:
        return _PO_PLAIN.get(found[1], found[1])
    return chr(int(found[2], 8) if found[2] else int(found[3], 16))


def read_tmx(data: bytes, first_line: int) -> Iterator[Unit | tuple[int, str]]:
    """Yields the units of a run of a TMX 1.4 file, or (line, problem) for one that is broken.

    Each unit is read on its own: one that is broken costs only itself, and no entity that the
    file defines is expanded.
    """
    for found in _UNIT.finditer(data):
        line = first_line + data.count(b"\n", 0, found.start())
        try:
            unit = ElementTree.fromstring(found.group())
        except (ElementTree.ParseError, ValueError, LookupError) as error:
            yield line, str(error)
            continue
        texts = {}
        for side in unit.iter("tuv"):
            segment = side.find("seg")
            name = side.get(_XML_LANG) or side.get("lang") or "und"
            if segment is not None:
                texts[tag(name)] = "".join(segment.itertext())
        yield Unit(texts, line)


def rows(text: str, first_line: int, delimiter: str) -> Iterator[tuple[int, list[str]]]:
    """Yields (line, cells) of CSV (RFC 4180), or of TSV, which has no quotes; no blank lines.

    Raises `csv.Error` for what can't be read.
    """
    if delimiter == "\t":
        for number, line in enumerate(text.split("\n"), start=first_line):
            if line.strip():
                yield number, line.rstrip("\r").split("\t")
        return
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)
    number = first_line
    for cells in reader:
        if cells:
            yield number, cells
        number = first_line + reader.line_num


def sides(header: Sequence[str], wanted: Sequence[str]) -> dict[int, str] | None:
    """Returns {column: language} of a table's sides: the wanted ones, else all language tags.

    None if the table has none. Raises `Unusable` for a wanted column that isn't there.
    """
    if wanted:
        missing = [name for name in wanted if name not in header]
        if missing:
            raise Unusable("no such column", f"{', '.join(missing)}; there are {', '.join(header)}")
        return {header.index(name): tag(name) for name in wanted}
    found = {i: tag(name) for i, name in enumerate(header) if _TAG.match(name.strip())}
    known = {i: name for i, name in found.items() if name.split("-")[0] in _KNOWN}
    return known if len(known) > 1 else None


# Header cells such as "id", "no" or "url" look like tags as well.
_LANGUAGES = "zh en ja ko fr de es it pt ru vi th ms yue nan hak cmn lzh"
_KNOWN = frozenset(_LANGUAGES.split())
