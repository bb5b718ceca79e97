"""Transcripts in Akoma Ntoso's XML, as SayIt publishes them (`.an.xml`).

Akoma Ntoso 1.0, OASIS 2018 (LegalDocML), section 5.4 "debate": a body of sections with headings, in
which speeches (by whom is an attribute) and narrative stand in order. Names of elements are taken
without their namespace, since SayIt writes none.
"""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator
from typing import Any

import regex

from twjax.corpus.document import Unusable

# Turns of someone, and what the transcript says itself.
_TURNS = ("speech", "question", "answer")
_ASIDES = ("narrative", "scene", "summary", "other")
_HEADINGS = ("heading", "subheading", "docTitle")
_BLOCKS = ("p", "li", "tocItem", "block")
_DECLARATION = regex.compile(r"\A\ufeff?\s*<\?xml[^>]*\?>")
_HAN = regex.compile(r"\p{Han}")
_SPACE = regex.compile(r"\s+")
_GAPS = regex.compile(r"\n{3,}")


def transcript(xml: str) -> dict[str, Any]:
    """Returns the record of a transcript: its text and what its head says.

    A paragraph is a line; the speaker's name and a colon stand before the first one of each speech.
    Sections are apart by a blank line. `meta` has the title and the speakers in the order of their
    first turn. Raises `Unusable` for broken XML, and for XML that is no debate.
    """
    try:
        root = ElementTree.fromstring(_DECLARATION.sub("", xml))
    except (ElementTree.ParseError, ValueError) as error:
        raise Unusable("broken XML", str(error)) from None
    for element in root.iter():
        if isinstance(element.tag, str):
            element.tag = element.tag.rpartition("}")[2]
    body = root.find(".//debateBody")
    if root.tag != "akomaNtoso" or body is None:
        raise Unusable("not a transcript", f"<{root.tag}> without <debateBody>")
    names = {
        person.get("eId") or person.get("id") or "": _tidy(person.get("showAs") or "")
        for tag in ("TLCPerson", "TLCRole", "TLCOrganization")
        for person in root.iter(tag)
    }
    speakers: dict[str, None] = {}
    lines: list[str] = []
    for who, line in _lines(body, names):
        if who:
            speakers[who] = None
            line = f"{who}{'：' if _HAN.search(who + line) else ': '}{line}"
        lines.append(line)
    title = _tidy("".join(heading.itertext()) if (heading := _first(root)) is not None else "")
    date = root.find(".//FRBRWork/FRBRdate")
    return {
        "text": _GAPS.sub("\n\n", "\n".join(lines)).strip(),
        "created": date.get("date") if date is not None else None,
        "meta": {"title": title or None, "speakers": "; ".join(speakers) or None},
    }


def _first(root: ElementTree.Element) -> ElementTree.Element | None:
    return next((e for tag in ("docTitle", "heading") for e in root.iter(tag)), None)


def _lines(element: ElementTree.Element, names: dict[str, str]) -> Iterator[tuple[str | None, str]]:
    """Yields paragraphs, with who speaks before the first one of a speech; "" ends a section."""
    for child in element:
        if child.tag in _TURNS:
            named = child.find("from")
            by = (child.get("by") or "").removeprefix("#")
            who = _tidy("".join(named.itertext())) if named is not None else names.get(by) or by
            for place, line in enumerate(_paragraphs(child)):
                yield (None if place else who.rstrip("：: ") or None), line
        elif child.tag in _ASIDES:
            yield from ((None, line) for line in _paragraphs(child))
        elif child.tag in (*_HEADINGS, *_BLOCKS, "num"):
            yield None, _tidy("".join(child.itertext()))
        elif isinstance(child.tag, str):
            yield from _lines(child, names)
            yield None, ""


def _paragraphs(turn: ElementTree.Element) -> list[str]:
    """Returns the paragraphs of a turn; one that has none is itself the paragraph."""
    blocks = [block for tag in _BLOCKS for block in turn.iter(tag)]
    if not blocks:
        named = [child for child in turn if child.tag == "from"]
        for child in named:
            child.text, child.tail = "", child.tail
        return [line] if (line := _tidy("".join(turn.itertext()))) else []
    order = {id(element): place for place, element in enumerate(turn.iter())}
    blocks.sort(key=lambda block: order[id(block)])
    # A list inside a paragraph is told once, by its items' paragraph.
    inner = {id(e) for block in blocks for e in block.iter() if e is not block}
    outer = [block for block in blocks if id(block) not in inner]
    return [line for block in outer if (line := _tidy("".join(block.itertext())))]


def _tidy(text: str) -> str:
    return _SPACE.sub(" ", text).strip()
